"""The affine index map over a flat value: what a tensor's shape, strides and offset say."""

from __future__ import annotations

from typing import Any

from .size import likely


class View:
    """An affine index map over a flat value: element (i, j, ..) is at offset + i*strides[0] + j*strides[1] + ..

    Views are interned (`view(...)`): equal maps are one object, so they compare and hash by identity.
    """

    __slots__ = ("shape", "strides", "offset", "numel", "dense", "memo")

    def __init__(self, shape: tuple, strides: tuple, offset: int):
        self.shape, self.strides, self.offset = shape, strides, offset
        n = 1
        for s in shape:
            n *= s
        self.numel = n
        self.dense = _in_order(shape, strides, offset) is not None      # reads the first `numel` elements in order
        self.memo: dict[Any, Any] = {}

    def __repr__(self) -> str:
        if self.dense:
            return f"{list(self.shape)}"
        return f"{list(self.shape)} strides {list(self.strides)}" + (f" offset {self.offset}" if self.offset else "")


def row_major(shape: tuple) -> tuple:
    strides, step = [], 1
    for s in reversed(shape):
        strides.append(step)
        step *= s or 1
    return tuple(reversed(strides))


def is_row_major(shape: tuple, strides: tuple) -> bool:
    step = 1
    for s, t in zip(reversed(shape), reversed(strides)):
        if t != step and s != 1:
            return False
        step *= s
    return True


@likely(lambda arguments, of: (*[tuple(map(of, numbers)) for numbers in arguments[:2]], of(arguments[2])))
def _in_order(shape: tuple, strides: tuple, offset: int) -> bool | None:
    """True where an index map counts from 0; what is made for one that does not is right for one that does."""
    return True if offset == 0 and (0 in shape or is_row_major(shape, strides)) else None


_views: dict[tuple, View] = {}
_dense: dict[tuple, View] = {}      # by their shapes


def view(shape: tuple, strides: tuple, offset: int = 0) -> View:
    """The one View with these numbers."""
    key = (shape, strides, offset)
    found = _views.get(key)
    if found is None:
        if len(_views) > 100_000:
            _views.clear()
            _dense.clear()
        found = _views[key] = View(shape, strides, offset)
    return found


def dense(shape: tuple) -> View:
    found = _dense.get(shape)
    if found is None:
        found = _dense[shape] = view(shape, row_major(shape))
    return found


def ordered(v: View, dims) -> View:
    """The map over some of the dimensions of `v`, in the order of `dims`; the others at their first index."""
    return view(tuple(v.shape[d] for d in dims), tuple(v.strides[d] for d in dims), v.offset)


def reach(v: View) -> int:
    """How many elements lie from that of index 0 to the last one that is further on, both included."""
    return 1 + sum((n - 1) * t for n, t in zip(v.shape, v.strides) if t > 0)


def same(a: View | None, b: View) -> bool:
    """Whether two maps are equal (they may be two objects if the table of views was emptied between)."""
    return a is b or a is not None and a.strides == b.strides and a.offset == b.offset and a.shape == b.shape
