"""Activations."""

from __future__ import annotations

from ...base import dtype as dt
from ...ops import random
from ...ops.activation import celu, elu, hardsigmoid, hardswish, hardtanh, leaky_relu, mish, prelu, relu, relu6, selu, silu, threshold  # noqa: F401
from ...ops.derivative import titled
from ...ops.public import postponed
from ...ops.recall import recalled, warn
from ...ops.record import check_tensor, core
from ...ops.reduction import log_softmax as _log_softmax
from ...ops.reduction import softmax as _softmax


def _last_dim(name: str, dim, input) -> int:
    if dim is not None:
        return dim
    warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.")
    return 0 if input.dim() in (0, 1, 3) else 1


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) / sum(exp(x)) along `dim`."""
    return _softmax(input, _last_dim("softmax", dim, input), dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """log(softmax(x)) along `dim`."""
    return _log_softmax(input, _last_dim("log_softmax", dim, input), dtype)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """softmax(-x)."""
    return _softmax(-input, _last_dim("softmin", dim, input), dtype)


def _inplace_option(function, offered: int | None = None):
    """`function` with a last option `inplace`, after the first parameters, as many as are `offered`, or all."""
    declared, name = function.__wrapped__, function.__name__

    def definition():
        first, *rest = declared.__code__.co_varnames[:declared.__code__.co_argcount][:offered]
        own, defaults = "".join([f", {x}" for x in rest]), declared.__defaults__ or ()
        skipped = declared.__code__.co_argcount - len(rest) - 1
        return (f"def {name}({first}{own}, inplace=False):\n"
                f"    if inplace: return in_place({first}, function, ({own[2:]}{',' if rest else ''}), {{}})\n"
                f"    return function({first}{own})\n"), (*defaults[:len(defaults) - skipped], False), None

    activation = postponed(name, {"function": function, "in_place": core.inplace}, definition)
    activation.__module__, activation.__doc__ = __name__, function.__doc__
    return activation


def _inplace_form(function):
    name = function.__name__ + "_"

    def activation_(input, *args, **kwargs):
        return core.inplace(input, function, args, kwargs, name)

    activation_.__name__ = activation_.__qualname__ = name
    activation_.__doc__ = f"In-place version of {function.__name__}."
    return activation_


relu_, elu_, selu_, celu_, leaky_relu_, hardtanh_, threshold_ = (
    _inplace_form(f) for f in (relu, elu, selu, celu, leaky_relu, hardtanh, threshold))
relu, relu6, selu, celu, leaky_relu, silu, mish, hardtanh, hardswish, hardsigmoid, threshold = (
    _inplace_option(f) for f in (relu, relu6, selu, celu, leaky_relu, silu, mish, hardtanh, hardswish, hardsigmoid, threshold))
elu = _inplace_option(elu, 2)


@titled("RreluWithNoise")
def rrelu(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    """x where positive, else x times a number drawn from [lower, upper); their mean if not `training`. Xu et al., 2015."""
    check_tensor("rrelu", "input", input, 1)
    if lower > upper:
        raise RuntimeError(f"rrelu: lower bound should be less than or equal to the upper bound; received {lower} and {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace=inplace)
    # One number is drawn for each element that is not positive, in their order.
    places = (input.detach().reshape(-1) <= 0).nonzero().squeeze(1)
    drawn = random.uniform_(core.full((places.shape[0],), 0.0, dt.float64), lower, upper)
    slopes = core.full((input.numel(),), 1.0, input.dtype).index_copy(0, places, drawn.to(input.dtype)).reshape(input.shape)
    return core.inplace(input, lambda x: x * slopes, ()) if inplace else input * slopes


def rrelu_(input, lower=1 / 8, upper=1 / 3, training=False):
    """In-place version of rrelu."""
    return rrelu(input, lower, upper, training, True)


@recalled
def tanhshrink(input):
    """x - tanh(x)."""
    return input - input.tanh()


@recalled
def softsign(input):
    """x / (1 + |x|)."""
    return input / (1 + input.abs())


@recalled
@titled("Glu")
def glu(input, dim=-1):
    """The first half times the sigmoid of the second."""
    if input.shape[dim] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {input.shape[dim]}")
    a, b = input.chunk(2, dim)
    return a * b.sigmoid()


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """A sample of the Gumbel-softmax distribution (Jang et al., 2016)."""
    check_tensor("gumbel_softmax", "logits", logits, 1)
    if eps != 1e-10:
        warn("`eps` parameter is deprecated and has no effect.")
    noise = -random.exponential_(core.full(tuple(logits.shape), 0, logits.dtype)).log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    picked = core.full(tuple(logits.shape), 0, logits.dtype).scatter(dim, soft.max(dim, True)[1], value=1.0)
    return picked - soft.detach() + soft
