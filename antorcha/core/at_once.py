"""Small writes to memory, done when they are called.

A program that fills a tensor piece by piece (`x[i, j] = 1.0`, sequences of many lengths in one batch, a replay buffer) writes to other
places each time, and each write that is recorded is one more node of a recording like no other. Where the value is in memory and nobody
else refers to it, writing there takes less time than recording. A constant such as `zeros(n)` is put in memory for that.
"""

from __future__ import annotations

import ctypes
import math
import operator
from sys import getrefcount

import numpy as np

from ..base import config
from ..base import dtype as dt
from ..base.grad_mode import mode
from ..graph import tape
from ..graph.node import is_row_major, leaf
from ..loops.view import reach
from ..ops.factory import EMPTY, FULL
from ..ops.layout import fitting
from ..runtime import flight
from ..runtime.buffer import Buffer, memory
from .arrays import adopt
from .storage import Storage
from .tensor import NUMBERS, Tensor

MOST = 1 << 16          # bytes written
CHOSEN = 1 << 20        # bytes that some are chosen from
CONSTANT = 1 << 20      # most bytes of a constant that is put in memory
COMMON = 65504          # the largest number that all the floats have


def fill(t, value) -> bool:
    """Write a number to all elements of `t`; False where that is to be recorded."""
    m = t._meta
    d, v = m.dtype, m.view
    address = _writable(t, v) if _fits(value, d) else None
    if address is None:
        return False
    if v.numel == 1:
        NUMBERS[d].from_address(address + v.offset * d.itemsize).value = value
    elif not value and _in_rows(v) and (type(value) is not float or math.copysign(1.0, value) > 0):
        ctypes.memset(address + v.offset * d.itemsize, 0, v.numel * d.itemsize)
    elif -COMMON <= value <= COMMON:
        _array(address, v, d)[...] = value
    else:
        with np.errstate(over="ignore"):
            _array(address, v, d)[...] = value
    _written(t)
    return True


def put(t, places: tuple, value) -> bool:
    """Write a number to the element of `t` at these places, integers, one for each dimension; False where that is to be recorded, or is
    wrong."""
    m = t._meta
    d, v = m.dtype, m.view
    at = v.offset
    for k, n, step in zip(places, v.shape, v.strides):
        if not -n <= k < n:
            return False
        at += (k if k >= 0 else k + n) * step
    address = _writable(t, v) if d in NUMBERS and _fits(value, d) else None
    if address is None:
        return False
    NUMBERS[d].from_address(address + at * d.itemsize).value = value
    _written(t)
    return True


def _fits(value, d) -> bool:
    """Whether a number of this type is written at once to elements of that dtype. RuntimeError for one that they have no room for."""
    kind = type(value)
    if kind is bool:
        return d is dt.bool_
    if not (kind is float and d.kind == "f" or kind is int and (d.kind == "f" or d is dt.int64 and -1 << 63 <= value < 1 << 63)):
        return False
    if not -COMMON <= value <= COMMON:
        fitting(value, d)
    return True


def copy(t, source) -> bool:
    """Write the elements of a tensor of the same shape and dtype to `t`; False where that is to be recorded."""
    m, r = t._meta, source._meta
    v, w = m.view, r.view
    if r.dtype is not m.dtype or w.shape != v.shape or mode.grad and (t._rg or source._rg) or t.storage is source.storage:
        return False
    origin = _readable(source)
    if origin is None:
        return False
    address = _writable(t, v)
    if address is None:
        return False
    size = m.dtype.itemsize
    if _in_rows(v) and _in_rows(w):
        ctypes.memmove(address + v.offset * size, origin.address + w.offset * size, v.numel * size)
    else:
        _array(address, v, m.dtype)[...] = _array(origin.address, w, r.dtype)
    _written(t)
    return True


def put_in_rows(t, parts: list, first: list) -> bool:
    """Write each of some tensors to its row of `t`, which is row-major, from the place on that `first` says. False where that is to be
    recorded, or one of them does not lie in memory in one piece."""
    m = t._meta
    size, whole = m.dtype.itemsize, m.view
    pieces = []
    for part in parts:
        v, origin = part._meta.view, _readable(part)
        if origin is None or not _in_rows(v) or part.storage is t.storage or part._meta.dtype is not m.dtype or mode.grad and part._rg:
            return False
        pieces.append((origin.address + v.offset * size, v.numel * size))
    address = _writable(t, whole, CONSTANT)
    if address is None:
        return False
    row, place = whole.strides[0] * size, whole.strides[1] * size
    address += whole.offset * size
    for k, ((origin, nbytes), start) in enumerate(zip(pieces, first)):
        ctypes.memmove(address + k * row + start * place, origin, nbytes)
    _written(t)
    return True


def chosen(t, mask):
    """The elements (or rows) of `t` where a mask holds, whose number nobody knows before; None where that is to be recorded."""
    m, k = t._meta, mask._meta
    v, shape, state = m.view, k.view.shape, tape.state
    if mode.grad and t._rg or m.dtype not in NUMBERS or not 0 < v.numel * m.dtype.itemsize <= CHOSEN or v.strides and min(v.strides) < 0 \
            or not shape or shape != v.shape[:len(shape)] or not (v.dense or shape == v.shape) \
            or config.eager or state.watch is not None or state.rewriter is not None or k.device not in (None, "cpu"):
        return None
    mask.storage.buffer()
    origin, flags = _readable(t), _readable(mask)
    if origin is None or flags is None:
        return None
    return adopt(_array(origin.address, v, m.dtype)[_array(flags.address, k.view, k.dtype)])


SIGNS: dict = {}        # what makes a sum, difference, product or quotient -> the same of Python numbers


def change(t, function, other) -> bool:
    """Add a number to the one element of `t`, or whatever else `function` does; False where that is to be recorded. For a float32, that is
    computed in float64 and rounded: the result is the same (Figueroa, "When is double rounding innocuous?", 1995)."""
    sign, m = SIGNS.get(function), t._meta
    v, d = m.view, m.dtype
    if sign is None or v.numel != 1 or d not in (dt.float32, dt.int64, dt.float64) or d is dt.int64 and sign is operator.truediv:
        return False
    cell = NUMBERS[d]
    if type(other) is Tensor:
        m = other._meta
        origin = _readable(other) if m.dtype is d and m.view.shape in ((), v.shape) else None
        if origin is None:
            return False
        other = cell.from_address(origin.address + m.view.offset * d.itemsize).value
    elif type(other) is int and -COMMON <= other <= COMMON or type(other) is float and d.kind == "f":
        other = cell(other).value
    else:
        return False
    address = _writable(t, v)
    if address is None:
        return False
    at = cell.from_address(address + v.offset * d.itemsize)
    try:
        at.value = sign(at.value, other)        # an integer's lower 64 bits
    except ZeroDivisionError:
        return False
    _written(t)
    return True


def _in_rows(v) -> bool:
    return len(v.shape) < 2 and (not v.strides or v.strides[0] == 1) or is_row_major(v.shape, v.strides)


def _array(address: int, v, d) -> np.ndarray:
    address += v.offset * d.itemsize
    if is_row_major(v.shape, v.strides):
        return memory(address, v.numel, d.memory).reshape(v.shape)
    return memory(address, reach(v), d.memory, v)


def present(t) -> bool:
    """Whether the value of `t` is in memory."""
    return _readable(t) is not None


def _readable(t) -> Buffer | None:
    """The memory that `t` lies in, if its value is there."""
    storage = t.storage
    if t._meta.device not in (None, "cpu") or tape.state.rewriter is not None or tape.state.watch is not None:
        return None
    buffer = storage.buffer() if storage.shared else storage.node.buffer
    return None if buffer is None or buffer.address in flight.awaited else buffer


def _alone() -> int:
    x = object()
    return next(map(getrefcount, (x,)))


ALONE = _alone()        # what an object counts that a variable alone refers to, and a tuple: of a call's argument versions of Python differ


def _writable(t, v, most: int = MOST) -> int | None:
    """The address of the memory that `t` lies in, if writing `most` bytes through `v`, or less, is seen by nobody but those who share its
    storage."""
    m, storage, state = t._meta, t.storage, tape.state
    if not 0 < v.numel * m.dtype.itemsize <= most or m.dtype not in NUMBERS or v.strides and min(v.strides) < 0 or config.eager \
            or m.device not in (None, "cpu") or state.watch is not None or state.rewriter is not None or state.kept is not None:
        return None
    if storage.shared:
        flight.finish()
        return storage.buffer().address
    if type(storage) is not Storage:
        return None
    node = storage.node
    buffer = node.buffer
    if buffer is None:
        form = node.form
        if form.op not in (FULL, EMPTY) or form.numel * m.dtype.itemsize > CONSTANT or type(node.inputs[0]) not in (int, float, bool):
            return None
        storage.node = _constant(node)
        buffer = storage.node.buffer
    elif max(map(getrefcount, (node, buffer))) > ALONE + 1:     # its own, and the storage's or the node's
        return None
    return None if buffer.device != "cpu" or flight.uses(buffer.address) else buffer.address


def _constant(node):
    """The value of a node that is one number everywhere, in memory."""
    form = node.form
    buffer = Buffer.allocate(form.numel * form.dtype.itemsize)
    with np.errstate(over="ignore"):
        memory(buffer.address, form.numel, form.dtype.memory)[:] = node.inputs[0]
    return leaf(buffer, form.numel, form.dtype)


def _written(t) -> None:
    if not t._untracked:
        t.storage.version += 1
