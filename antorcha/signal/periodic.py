"""The window functions of the torch namespace: periodic unless asked otherwise, of any floating point dtype."""

from __future__ import annotations

from .. import get_default_dtype
from .windows import BLACKMAN, cosines, kaiser_shape, sampled, triangle


def _window(name, shape, window_length, periodic, dtype, requires_grad):
    dtype = get_default_dtype() if dtype is None else dtype
    if dtype.kind != "f":
        raise RuntimeError(f"{name} expects floating point dtypes, got: {dtype}")
    if window_length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={window_length}")
    return sampled(shape, window_length, not periodic, dtype, requires_grad)


def bartlett_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """A triangle, 0 at both ends."""
    return _window("bartlett_window", triangle, window_length, periodic, dtype, requires_grad)


def blackman_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """0.42 - 0.5 cos(x) + 0.08 cos(2 x)."""
    return _window("blackman_window", cosines(BLACKMAN), window_length, periodic, dtype, requires_grad)


def hamming_window(window_length, periodic=True, alpha=0.54, beta=0.46, *, dtype=None, layout=None, device=None, pin_memory=False,
                   requires_grad=False):
    """alpha - beta cos(x)."""
    return _window("hamming_window", cosines((alpha, beta)), window_length, periodic, dtype, requires_grad)


def hann_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """(1 - cos(x)) / 2."""
    return _window("hann_window", cosines((0.5, 0.5)), window_length, periodic, dtype, requires_grad)


def kaiser_window(window_length, periodic=True, beta=12.0, *, dtype=None, layout=None, device=None, pin_memory=False,
                  requires_grad=False):
    """I0(beta sqrt(1 - x^2)) / I0(beta). Kaiser, 1974."""
    return _window("kaiser_window", kaiser_shape(beta), window_length, periodic, dtype, requires_grad)
