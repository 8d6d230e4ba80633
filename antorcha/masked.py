"""torch.masked: reductions, running sums and normalisations of the elements that a mask lets through.

`mask` is a bool tensor that broadcasts to the input; where it is False the operation's neutral element stands in. A slice without any
element gives the neutral element, or NaN where the operation has none.
"""

from __future__ import annotations

import math

from .base import dtype as dt
from .core.tensor import Tensor
from .ops import norms, reduction, scan, sorting
from .ops import pointwise as pw
from .ops.parts import conj_

_plain = {name: vars(module)[name] for module, names in (
    (reduction, ("sum", "prod", "amax", "amin", "argmax", "argmin", "softmax", "log_softmax", "logsumexp", "mean")),
    (scan, ("cumsum", "cumprod"))) for name in names}


def _product(input, dims: tuple, keepdim: bool):
    """The product over several dimensions, one after the other from the last: the derivative of each is one of a product of many."""
    for d in sorted((d % input.dim() for d in dims), reverse=True):
        input = reduction.prod(input, d, keepdim)
    return input


_plain["prod"] = _product


def _least(d: dt.dtype):
    if d.kind == "f":
        return -math.inf
    return -(1 << (8 * d.itemsize - 1)) if d.kind == "i" else 0


def _greatest(d: dt.dtype):
    if d.kind == "f":
        return math.inf
    return (1 << (8 * d.itemsize - (d.kind == "i"))) - 1 if d.kind in "iu" else 1


def _filled(input, mask, value):
    """`input` with `value` where the mask is False."""
    if mask is None:
        return input
    if mask.dim() > input.dim():
        raise IndexError(
            f"_input_mask expected broadcastable mask (got mask dimensionality higher than of the input): {mask.dim()} > {input.dim()}"
        )
    return pw.where(mask.to(dt.bool_), input, value).to(input.dtype)


def _all_dims(input, dim):
    return tuple(range(input.dim())) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)


def _summed_dtype(d):
    return dt.int64 if d.kind in "biu" else d


def _reduction(name, neutral, dtype_of=lambda d: d):
    """A reduction over some or all dimensions, with the neutral element `neutral(dtype)`."""
    def function(input: Tensor, dim=None, *, keepdim=False, dtype=None, mask=None):
        d = dtype or dtype_of(input.dtype)
        filled = _filled(input.to(d), mask, neutral(d))
        if not input.dim():
            return _plain[name](filled.reshape(1), (0,), False).to(d)
        return _plain[name](filled, _all_dims(input, dim), bool(keepdim)).to(d)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`torch.{name}` over `dim` (all unless given) of the elements where the mask is True."
    return function


sum, prod = _reduction("sum", lambda d: 0, _summed_dtype), _reduction("prod", lambda d: 1, _summed_dtype)
amax, amin = _reduction("amax", _least), _reduction("amin", _greatest)


def _position(name, neutral):
    def function(input: Tensor, dim=None, *, keepdim=False, dtype=None, mask=None):
        d = dtype or input.dtype
        return _plain[name](_filled(input.to(d), mask, neutral(d)), dim, bool(keepdim)).to(d)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`torch.{name}` of the elements where the mask is True."
    return function


argmax, argmin = _position("argmax", _least), _position("argmin", _greatest)


def _along(name, neutral, sign=1):
    """An operation along one dimension that keeps the shape."""
    def function(input: Tensor, dim, *, dtype=None, mask=None):
        d = dtype or input.dtype
        x = _filled(input.to(d), mask, neutral(d))
        return _plain[name.replace("min", "max")](x if sign > 0 else -x, dim, dtype=d)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`torch.{name}` along `dim` of the elements where the mask is True."
    return function


cumsum, cumprod = _along("cumsum", lambda d: 0), _along("cumprod", lambda d: 1)
softmax, log_softmax, softmin = _along("softmax", _least), _along("log_softmax", _least), _along("softmin", _greatest, sign=-1)


def logsumexp(input: Tensor, dim=None, *, keepdim=False, dtype=None, mask=None):
    """`torch.logsumexp` over `dim` (all unless given) of the elements where the mask is True."""
    d = dtype or input.dtype
    neutral = _least(d) if d.kind != "c" else -math.inf
    return _plain["logsumexp"](_filled(input.to(d), mask, neutral), _all_dims(input, dim), bool(keepdim)).to(d)


def _counted(input, dim, keepdim, mask):
    """How many elements the mask lets through."""
    ones = input.new_ones(input.shape, dtype=dt.int64)
    return sum(ones, dim, keepdim=keepdim, mask=mask)


def mean(input: Tensor, dim=None, *, keepdim=False, dtype=None, mask=None):
    """The mean over `dim` (all unless given) of the elements where the mask is True; NaN where there is none."""
    d = dtype or input.dtype
    if mask is None:
        return _plain["mean"](input, _all_dims(input, dim), bool(keepdim), dtype=d)
    return sum(input, dim, keepdim=keepdim, dtype=d, mask=mask) / _counted(input, dim, keepdim, mask)


def median(input: Tensor, dim=-1, *, keepdim=False, dtype=None, mask=None):
    """The lower median along `dim` of the elements where the mask is True; NaN where there is none."""
    d = dtype or input.dtype
    if d.kind != "f":
        raise ValueError(f"masked.median expects a floating point tensor; received {d}. Convert it first: input.float()")
    find = sorting.median if mask is None else sorting.nanmedian
    return find(_filled(input.to(d), mask, math.nan), dim, keepdim)[0]


def norm(input: Tensor, ord=2.0, dim=None, *, keepdim=False, dtype=None, mask=None):
    """The vector norm over `dim` (all unless given) of the elements where the mask is True."""
    d = dtype or input.dtype
    neutral = math.inf if ord is not None and float(ord) < 0 else 0
    filled = _filled(input.to(d), mask, neutral)
    return norms.vector_norm(filled, 2.0 if ord is None else float(ord), _all_dims(input, dim), bool(keepdim))


def normalize(input: Tensor, ord, dim, *, eps=1e-12, dtype=None, mask=None):
    """The elements where the mask is True over their norm along `dim` (at least `eps`), 0 elsewhere."""
    d = dtype or input.dtype
    size = norm(input, ord, dim, keepdim=True, dtype=d, mask=mask)
    return _filled(input.to(d), mask, 0) / pw.clamp_min(size, eps)


def var(input: Tensor, dim=None, unbiased=None, *, correction=None, keepdim=False, dtype=None, mask=None):
    """The variance over `dim` (all unless given) of the elements where the mask is True, by their number less `correction` (1)."""
    return _variance(input, dim, unbiased, correction, keepdim, dtype, mask, False)


def std(input: Tensor, dim=None, unbiased=None, *, correction=None, keepdim=False, dtype=None, mask=None):
    """The square root of `var`."""
    return _variance(input, dim, unbiased, correction, keepdim, dtype, mask, True)


def _variance(input, dim, unbiased, correction, keepdim, dtype, mask, root):
    if unbiased is not None and correction is not None:
        raise RuntimeError("Only one of unbiased and correction may be given")
    less = correction if correction is not None else 1 if unbiased is None else int(bool(unbiased))
    d = dtype or (input.dtype if input.dtype.kind in "fc" else dt.float32)
    x = input.to(d)
    centre = sum(x, dim, keepdim=True, mask=mask) / _counted(x, dim, True, mask)
    gap = x - centre
    total = sum(gap * conj_(gap), dim, keepdim=keepdim, mask=mask)
    found = total / pw.clamp_min(_counted(x, dim, keepdim, mask) - less, 0)
    return (pw.sqrt(found) if root else found).to(d)


def logaddexp(input: Tensor, other: Tensor, *, dtype=None, input_mask=None, other_mask=None):
    """log(exp(input) + exp(other)) of the elements where their masks are True."""
    d = dtype or input.dtype
    from .ops.numeric import logaddexp as add
    return add(_filled(input.to(d), input_mask, -math.inf), _filled(other.to(d), other_mask, -math.inf))


__all__ = [
    "sum",
    "prod",
    "amax",
    "amin",
    "argmax",
    "argmin",
    "cumsum",
    "cumprod",
    "softmax",
    "log_softmax",
    "softmin",
    "logsumexp",
    "mean",
    "median",
    "norm",
    "normalize",
    "var",
    "std",
    "logaddexp",
]
