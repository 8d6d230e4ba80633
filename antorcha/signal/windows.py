"""Window functions: F. J. Harris, "On the Use of Windows for Harmonic Analysis with the Discrete Fourier Transform" (1978).

`sym=True`: symmetric, for filters. `sym=False`: the first M of a symmetric window of M + 1, one period, for spectra.
"""

from __future__ import annotations

import math

from .. import arange, empty, float32, float64, get_default_dtype, ones, special

__all__ = ["bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming", "hann",
           "kaiser", "nuttall"]


def sampled(shape, M, sym, d, requires_grad=False):
    """shape(k, steps) at k = 0 .. M - 1, the window being `steps` wide; computed in float64."""
    if M == 0:
        return empty((0,), dtype=d, requires_grad=requires_grad)
    k, steps = arange(M, dtype=float64), M - 1 if sym or M == 1 else M
    window = shape(k, steps) if steps else ones(1, dtype=float64)
    return window.to(d).requires_grad_(requires_grad)


def _window(name, shape, M, sym, dtype, layout, requires_grad):
    dtype = get_default_dtype() if dtype is None else dtype
    if not isinstance(M, int):
        raise TypeError(f"{name}(): argument 'M' must be int, not {type(M).__name__}")
    if M < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if layout is not None and str(layout) != "torch.strided":
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    if dtype not in (float32, float64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {dtype}")
    return sampled(shape, M, sym, dtype, requires_grad)


def cosines(coefficients):
    """The sum of (-1)^i a_i cos(2 pi i k / steps)."""
    def shape(k, steps):
        return sum((-1) ** i * a * (k * (2 * math.pi * i / steps)).cos() for i, a in enumerate(coefficients))
    return shape


def triangle(k, steps):
    return 1 - (k * (2 / steps) - 1).abs()


def kaiser_shape(beta):
    """I0(beta sqrt(1 - x^2)) / I0(beta), x from -1 to 1."""
    def shape(k, steps):
        x = k * (2 / steps) - 1
        return special.i0(beta * (1 - x * x).clamp(min=0).sqrt()) / special.i0(ones((), dtype=float64) * beta)
    return shape


BLACKMAN, NUTTALL = (0.42, 0.5, 0.08), (0.3635819, 0.4891775, 0.1365995, 0.0106411)


def bartlett(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """A triangle, 0 at both ends."""
    return _window("bartlett", triangle, M, sym, dtype, layout, requires_grad)


def blackman(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """0.42 - 0.5 cos(x) + 0.08 cos(2 x)."""
    return _window("blackman", cosines(BLACKMAN), M, sym, dtype, layout, requires_grad)


def cosine(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Half a period of the sine, between its zeros."""
    return _window("cosine", lambda k, steps: ((k + 0.5) * (math.pi / (steps + 1))).sin(), M, sym, dtype, layout, requires_grad)


def exponential(M, *, center=None, tau=1.0, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """exp(-|k - center| / tau)."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    def shape(k, steps):
        return (-(k - (steps / 2 if center is None else center)).abs() / tau).exp()
    return _window("exponential", shape, M, sym, dtype, layout, requires_grad)


def gaussian(M, *, std=1.0, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """exp(-((k - center) / std)^2 / 2)."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    return _window("gaussian", lambda k, steps: (((k - steps / 2) / std) ** 2 * -0.5).exp(), M, sym, dtype, layout, requires_grad)


def general_cosine(M, *, a, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """a_0 - a_1 cos(x) + a_2 cos(2 x) - .."""
    if not hasattr(a, "__iter__"):
        raise TypeError("Coefficients must be a list/tuple")
    a = list(a)
    if not a:
        raise ValueError("Coefficients cannot be empty")
    return _window("general_cosine", cosines(a), M, sym, dtype, layout, requires_grad)


def general_hamming(M, *, alpha=0.54, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """alpha - (1 - alpha) cos(x)."""
    return _window("general_hamming", cosines((alpha, 1 - alpha)), M, sym, dtype, layout, requires_grad)


def hamming(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """0.54 - 0.46 cos(x)."""
    return _window("hamming", cosines((0.54, 0.46)), M, sym, dtype, layout, requires_grad)


def hann(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """(1 - cos(x)) / 2."""
    return _window("hann", cosines((0.5, 0.5)), M, sym, dtype, layout, requires_grad)


def kaiser(M, *, beta=12.0, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """I0(beta sqrt(1 - x^2)) / I0(beta): the larger `beta`, the lower the side lobes and the wider the main one. Kaiser, 1974."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _window("kaiser", kaiser_shape(beta), M, sym, dtype, layout, requires_grad)


def nuttall(M, *, sym=True, dtype=None, layout=None, device=None, requires_grad=False):
    """Four cosines with the lowest side lobes."""
    return _window("nuttall", cosines(NUTTALL), M, sym, dtype, layout, requires_grad)
