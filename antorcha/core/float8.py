"""Tensors of 8-bit floats: bytes that are moved like other elements, and computed with only as other dtypes."""

from __future__ import annotations

from ..base import dtype as dt
from ..base import float8
from ..ops import numeric, sorting
from ..ops import pointwise as pw
from ..ops.record import core, operator, pointwise

Tensor = "Tensor"


def _retyped(d: dt.dtype, source: dt.dtype):
    @pointwise(lambda x: x, selects=lambda args: ((dt.uint8,), d), name=f"{source.name}_as_{d.name}", public=False)
    def retype(input: Tensor): ...
    return retype


_ops: dict = {}


def _retype(x, d: dt.dtype):
    """The same bytes: codes as uint8, or the other way round."""
    key = (d, x._meta.dtype)
    if key not in _ops:
        _ops[key] = _retyped(*key)
    return _ops[key](x)


@operator(name="recode", title="ToCopy", public=False, grad=dict(input=lambda g: g))
def recode(input: Tensor, to):
    """The elements converted to or from an 8-bit float: to the nearest number, halfway to the even code."""
    d = input._meta.dtype
    if d.opaque:
        decoded = core.from_numpy(float8.values(d))[_retype(input, dt.uint8).to(dt.int64)]
        return decoded if to is dt.float32 else core.cast(decoded, to)
    f, x = float8.format_of(to), core.cast(input, dt.float32)
    codes = sorting.searchsorted(core.from_numpy(float8.boundaries(to)), x.abs().contiguous())
    if f.signed:
        negative = numeric.signbit(x) if f.negative_zero else numeric.signbit(x) & (codes != 0)
        codes = pw.where(negative, codes | 0x80, codes)
    if not f.signed:
        codes = pw.where(x.abs() == float("inf"), f.nan, codes)
    codes = pw.where(x.isnan(), f.nan, codes)
    return _retype(core.cast(codes, dt.uint8), to)


core.recode = recode
