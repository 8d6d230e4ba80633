"""Activations."""

from __future__ import annotations

from ...ops import random
from ...ops.pointwise import celu, elu, hardsigmoid, hardswish, hardtanh, leaky_relu, mish, relu, relu6, selu, silu, threshold, where
from ...ops.record import core
from ...ops.reduction import log_softmax as _log_softmax, softmax as _softmax


def _last_dim(dim, rank: int) -> int:
    return (0 if rank in (0, 1, 3) else 1) if dim is None else dim


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) / sum(exp(x)) along `dim`."""
    return _softmax(input, _last_dim(dim, input.dim()), dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """log(softmax(x)) along `dim`."""
    return _log_softmax(input, _last_dim(dim, input.dim()), dtype)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """softmax(-x)."""
    return softmax(-input, dim, dtype=dtype)


def _inplace_option(function):
    def activation(input, *args, inplace=False, **kwargs):
        if not inplace:
            return function(input, *args, **kwargs)
        return core.inplace(input, function, args, kwargs)
    activation.__name__ = activation.__qualname__ = function.__name__
    activation.__doc__ = function.__doc__
    return activation


relu, relu6, elu, selu, celu, leaky_relu, silu, mish, hardtanh, hardswish, hardsigmoid, threshold = (
    _inplace_option(f) for f in (relu, relu6, elu, selu, celu, leaky_relu, silu, mish, hardtanh, hardswish, hardsigmoid, threshold))


def tanhshrink(input):
    """x - tanh(x)."""
    return input - input.tanh()


def softsign(input):
    """x / (1 + |x|)."""
    return input / (1 + input.abs())


def prelu(input, weight):
    """x where positive, else weight * x; one weight, or one for each channel."""
    if weight.numel() > 1:
        weight = weight.reshape((1, -1) + (1,) * (input.dim() - 2))
    return where(input > 0, input, input * weight)


def glu(input, dim=-1):
    """The first half times the sigmoid of the second."""
    if input.shape[dim] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {input.shape[dim]}")
    a, b = input.chunk(2, dim)
    return a * b.sigmoid()


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """A sample of the Gumbel-softmax distribution (Jang et al., 2016)."""
    noise = -random.exponential_(core.full(tuple(logits.shape), 0, logits.dtype)).log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    picked = core.full(tuple(logits.shape), 0, logits.dtype).scatter(dim, soft.max(dim, True)[1], value=1.0)
    return picked - soft.detach() + soft
