"""Initialisation of parameters, with PyTorch's draws from the generator."""

from __future__ import annotations

import functools
import math
import warnings

from ..core.autograd import no_grad
from ..ops.factory import empty_like
from ..ops.pointwise import where
from ..ops.random import randperm
from ..ops.recall import warn


def calculate_gain(nonlinearity, param=None):
    """The recommended gain of a nonlinearity."""
    gains = {"linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
             "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    return gains[nonlinearity]


def _fans(tensor):
    if tensor.dim() < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


_calculate_fan_in_and_fan_out = _fans


@no_grad()
def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Uniform in [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Normal with the given mean and standard deviation."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Normal, cut at [a, b], by rejection: normal draws are drawn again while they lie outside; where fewer than three in ten lie
    inside, uniform draws are accepted with the probability of their density against its peak (von Neumann, "Various techniques used
    in connection with random digits", 1951). Each round draws for all elements, needed or not."""
    def density(x):
        return ((x - mean) / std).square() * -0.5

    if tensor.is_meta:
        return tensor
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be incorrect.",
                      stacklevel=3)
    low, high = (0.5 + 0.5 * math.erf((x - mean) / std / math.sqrt(2.0)) for x in (a, b))
    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    lower, upper = (tensor.new_tensor(x, device="cpu").item() for x in (a, b))
    drawn, wrong = tensor, None
    while wrong is None or wrong.any():
        fresh = empty_like(tensor)
        if high - low > 0.3:
            fresh.normal_(mean, std, generator=generator)
            refused = (fresh < lower) | (fresh > upper)
        else:
            fresh.uniform_(a, b, generator=generator)
            refused = empty_like(tensor).uniform_(generator=generator).log() > density(fresh) - peak
        drawn = fresh if wrong is None else where(wrong, fresh, drawn)
        wrong = refused if wrong is None else wrong & refused
    return tensor.copy_(drawn)


@no_grad()
def constant_(tensor, val):
    """One value everywhere."""
    return tensor.fill_(val)


def ones_(tensor):
    """1 everywhere."""
    return constant_(tensor, 1.0)


def zeros_(tensor):
    """0 everywhere."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor):
    """The identity matrix."""
    from ..ops.factory import eye
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return tensor.copy_(eye(*tensor.shape))


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Uniform with variance 2 gain**2 / (fan in + fan out). Glorot and Bengio, 2010."""
    a = gain * math.sqrt(2.0 / sum(_fans(tensor))) * math.sqrt(3.0)
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Normal with variance 2 gain**2 / (fan in + fan out)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator)


def _fan(tensor, mode):
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return _fans(tensor)[mode == "fan_out"]


def _is_empty(tensor) -> bool:
    if 0 in tensor.shape:
        warn("Initializing zero-element tensors is a no-op")
    return 0 in tensor.shape


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Uniform with variance gain**2 / fan. He et al., 2015."""
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Normal with variance gain**2 / fan."""
    if _is_empty(tensor):
        return tensor
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


@no_grad()
def orthogonal_(tensor, gain=1, generator=None):
    """A random orthogonal matrix (of the flattened trailing dimensions). Saxe et al., 2013."""
    from ..linalg import qr
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    flat = tensor.new_empty((rows, columns)).normal_(0, 1, generator=generator)
    q, r = qr(flat.t().contiguous() if rows < columns else flat)
    q = q * r.diagonal().sign()
    return tensor.copy_((q.t() if rows < columns else q).reshape(tensor.shape)).mul_(gain)


@no_grad()
def dirac_(tensor, groups=1):
    """Weights of a convolution that passes on as many channels as it can, in each of the `groups`."""
    shape = tensor.shape
    if len(shape) not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    outputs = shape[0] // groups
    tensor.zero_()
    for g in range(groups):
        for d in range(min(outputs, shape[1])):
            place = (g * outputs + d, d, *(n // 2 for n in shape[2:]))
            tensor[place] = 1
    return tensor


@no_grad()
def sparse_(tensor, sparsity, std=0.01, generator=None):
    """A normal matrix with a share `sparsity` of each column zero. Martens, 2010."""
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    for column in range(columns):
        tensor[randperm(rows, generator=generator)[:zeros], column] = 0
    return tensor


def _without_underscore(function):
    """`function` by its old name, which did not tell that the tensor is changed."""
    name = function.__name__

    @functools.wraps(function)
    def old(*args, **kwargs):
        warn(f"`nn.init.{name[:-1]}` is now deprecated in favor of `nn.init.{name}`.", FutureWarning)
        return function(*args, **kwargs)
    old.__name__ = old.__qualname__ = name[:-1]
    return old


uniform, normal, constant, eye, dirac, xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal, orthogonal, sparse = map(
    _without_underscore, (uniform_, normal_, constant_, eye_, dirac_, xavier_uniform_, xavier_normal_, kaiming_uniform_, kaiming_normal_,
                          orthogonal_, sparse_))
_calculate_fan_in_and_fan_out, _calculate_correct_fan = _fans, _fan
