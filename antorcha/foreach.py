"""torch._foreach_*: an operator applied to each tensor of a list. All of them are recorded before one is computed, so a list is one
kernel or few anyway."""

from __future__ import annotations

import functools

from .core import surface
from .core.tensor import Tensor

UNARY = ("abs acos asin atan ceil clone cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg reciprocal round rsqrt "
         "sigmoid sign sin sinh sqrt tan tanh trunc zero").split()
BINARY = "add sub mul div pow maximum minimum clamp_max clamp_min copy".split()
TERNARY = "addcmul addcdiv lerp".split()


def _spread(x, n: int) -> list:
    """An argument for each of n tensors: a list gives one each, anything else is the same for all."""
    if isinstance(x, (list, tuple)):
        if len(x) != n:
            raise RuntimeError(f"_foreach: Tensor lists must have the same number of tensors, got {n} and {len(x)}")
        return list(x)
    if isinstance(x, Tensor) and x.dim() == 1 and x.numel() == n and n != 1:
        return list(x)
    return [x] * n


def _each(function, name: str):
    """`function` of each tensor of a first list; those with a trailing underscore return nothing."""
    def call(self, *args, **kwargs):
        rows = [_spread(a, len(self)) for a in args]
        named = {k: _spread(v, len(self)) for k, v in kwargs.items()}
        out = [function(x, *(r[i] for r in rows), **{k: v[i] for k, v in named.items()}) for i, x in enumerate(self)]
        return None if name.endswith("_") else out
    call.__name__ = call.__qualname__ = f"_foreach_{name}"
    call.__doc__ = f"`{name}` of each tensor of a list; other arguments may be lists, too."
    return call


def _with_value(name: str):
    """addcmul and addcdiv take their factor as a last argument; lerp takes a weight."""
    def function(x, a, b, value=1):
        return getattr(x, name)(a, b) if name.startswith("lerp") else getattr(x, name)(a, b, value=value)
    return function


def _norm(x, ord=2, dtype=None):
    from .linalg import vector_norm
    return vector_norm(x, ord, dtype=dtype)


def _copied(x, source, non_blocking=False):
    return x.clone().copy_(source)


@functools.lru_cache(None)
def find(name: str):
    """torch._foreach_<name>; None where there is none."""
    plain = name.removesuffix("_")
    if plain == "norm" and name == plain:
        return _each(_norm, name)
    if plain == "max" and name == plain:
        return _each(lambda x: x.max(), name)
    if name == "copy":
        return _each(_copied, name)
    if plain in TERNARY:
        return _each(_with_value(name), name)
    if plain in UNARY or plain in BINARY:
        function = getattr(Tensor, name, None) or surface.torch_functions().get(name)
        if name == "zero":
            function = lambda x: x.clone().zero_()
        if function is None and name.endswith("_"):     # no operator of its own writes in place
            pure = surface.torch_functions()[plain]
            function = lambda x, *args: x.copy_(pure(x, *args))
        return _each(function, name)
    return None
