"""What operators know of tensors: layouts, and how numbers, dtypes and shapes go together.

The tensor class lies in a layer above; what operators need of that layer is found in `core`, once it is defined.
"""

from __future__ import annotations

import functools
import numbers
from types import SimpleNamespace

import numpy as np

from ..base import dtype as dt
from ..base.symbol import Symbol
from ..graph.node import view as make_view

# What the layer above provides: Tensor (the class), make(node, meta) and alias(tensor, view) -> tensor, GradNode (the class)
core = SimpleNamespace(Tensor=None, make=None, alias=None, GradNode=object)


class Meta:
    """What a tensor is, apart from its value: an index map, a dtype and a device. Interned: compare with `is`."""

    __slots__ = ("view", "dtype", "device", "alone")

    def __init__(self, view, dtype, device):
        self.view, self.dtype, self.device = view, dtype, device
        self.alone = (self,)


_metas: dict[tuple, Meta] = {}


def meta(view, dtype, device=None) -> Meta:
    key = (view, dtype, device)
    found = _metas.get(key)
    if found is None:
        if len(_metas) > 100_000:
            _metas.clear()
        found = _metas[key] = Meta(view, dtype, device)
    return found


def told(x):
    """What the value of an argument does not say, for keys: 2, 2.0 and, of 1, True are equal. True for integers, tuples of them and None,
    False for truth values, else the type or what is told of a tuple's elements."""
    kind = type(x)
    if kind is tuple:
        return INTEGERS.issuperset(map(type, x)) or tuple(map(told, x))
    return kind is int or x is None or kind is not bool and kind


INTEGERS = frozenset((int,))


# -- numbers and dtypes -----------------------------------------------------------------------------------------

NUMBERS = {bool: dt.bool_, int: dt.int64, float: None, Symbol: None}     # None: the default dtype


def number(x):
    """`x` as a Python number (a complex one as a tensor: kernels take real numbers as arguments), or None where it is none."""
    if type(x) in NUMBERS:
        return x
    if isinstance(x, (complex, np.complexfloating)):
        return core.tensor(x)
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, numbers.Number):
        return float(x) if isinstance(x, numbers.Real) and not isinstance(x, numbers.Integral) else int(x)
    return None


_C_NAMES = {"int32": "int", "bool": "bool", "float32": "float", "float64": "double", "float16": "c10::Half", "bfloat16": "c10::BFloat16",
            "complex32": "c10::complex<c10::Half>", "complex64": "c10::complex<float>", "complex128": "c10::complex<double>"}


@functools.cache
def _limits(d: dt.dtype) -> tuple:
    """The least and the largest number of a dtype; below 0, one without a sign takes what wraps around to it."""
    real = d.to_real()
    if real.kind == "f":
        most = np.finfo(real.numpy).max.item() if real.numpy is not None else float.fromhex("0x1.fep127")
        return -most, most
    limits = np.iinfo(real.numpy)
    return -limits.max if real.kind == "u" else limits.min, limits.max


def fitting(value, d: dt.dtype):
    """A number as an element of dtype `d` that it is written to. RuntimeError where it lies beyond what `d` has room for (infinities
    and NaN are numbers of all floats), OverflowError for an int of more than 64 bits."""
    value = value.item() if isinstance(value, np.generic) else value
    kind = type(value)
    if kind is int and not -1 << 63 <= value < 1 << 64:
        raise OverflowError(f"expected an int of at most 64 bits; received {value}. Write it as a float. (int too big to convert)")
    if kind not in (int, float, complex) or d.kind == "b" or d.opaque:
        return value
    least, most = _limits(d)
    if kind is complex:
        inside = (not value.imag or d.kind == "c") and all([least <= x <= most or x - x != 0 for x in (value.real, value.imag)])
    else:
        inside = least <= value <= most or value - value != 0 and d.kind in "fc"
    if not inside:
        raise RuntimeError(f"value cannot be converted to type {_C_NAMES.get(d.name, d.name + '_t')} without overflow: expected "
                           f"{'numbers' if d.kind == 'c' else 'real numbers'} from {least} to {most}; received {value}")
    return int(value) if d.kind in "iu" and kind is float else value.real if kind is complex and d.kind != "c" else value


def converted(value, d: dt.dtype):
    """`fitting`, of a number that becomes a tensor first: beyond the largest 16-bit float is infinity, as in PyTorch."""
    return d.round(value) if type(value) is float and d.compute is not d else fitting(value, d)


def result_dtype(inputs) -> dt.dtype:
    """PyTorch's promotion: dimensioned tensors before 0-dim tensors before numbers, each only where its category is higher."""
    groups = [None, None, None]
    for x in inputs:
        if isinstance(x, core.Tensor):
            place, d = (0 if x._meta.view.shape else 1), x._meta.dtype
        else:
            place = 2
            d = NUMBERS[type(x)] or dt.default()
        groups[place] = d if groups[place] is None else dt.promote(groups[place], d)
    best = None
    for d in groups:
        if d is None:
            continue
        if best is None:
            best = d
        elif dt.CATEGORY[d.kind] > dt.CATEGORY[best.kind]:
            best = dt.promote(best, d)
    assert best is not None, "expected at least one input"
    return best


def broadcast_shapes(what: str, *shapes) -> tuple:
    if len(shapes) == 2 and shapes[0] == shapes[1]:
        return shapes[0]
    rank = max(len(s) for s in shapes)
    out = [1] * rank
    for s in shapes:
        for i, n in enumerate(s, rank - len(s)):
            if n != 1:
                if out[i] not in (1, n):
                    a, b = (list(x) for x in shapes[:2])
                    raise RuntimeError(
                        f"{what}: The size of tensor a ({out[i]}) must match the size of tensor b ({n}) at non-singleton "
                        f"dimension {i}; received shapes {' and '.join(str(list(x)) for x in shapes)}. "
                        "Dimensions are matched from the last; make them equal or 1 (unsqueeze, reshape).")
                out[i] = n
    return tuple(out)


def broadcast_view(v, shape: tuple):
    """The index map `v` read with a larger shape: stride 0 along dimensions it lacks or has once."""
    if v.shape == shape:
        return v
    key = ("broadcast", shape)
    found = v.memo.get(key)
    if found is None:
        skip = len(shape) - len(v.shape)
        strides = (0,) * skip + tuple(0 if n == 1 and m != 1 else t for n, t, m in zip(v.shape, v.strides, shape[skip:]))
        found = v.memo[key] = make_view(shape, strides, v.offset)
    return found
