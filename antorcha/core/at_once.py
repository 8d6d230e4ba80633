"""Small writes to memory, done when they are called.

A program that fills a tensor piece by piece (`x[i, j] = 1.0`, sequences of many lengths in one batch, a replay buffer) writes to other
places each time, and each write that is recorded is one more node of a recording like no other. Where the value is in memory and nobody
else refers to it, writing there takes less time than recording. A constant such as `zeros(n)` is put in memory for that.
"""

from __future__ import annotations

import ctypes

import numpy as np

from ..base import config
from ..base import dtype as dt
from ..base.grad_mode import mode
from ..graph import tape
from ..graph.node import held, is_row_major, leaf
from ..loops.view import reach
from ..ops.factory import EMPTY, FULL
from ..ops.layout import fitting
from ..runtime import flight
from ..runtime.buffer import Buffer, memory
from .storage import Storage
from .tensor import NUMBERS

MOST = 1 << 16          # bytes written
CONSTANT = 1 << 20      # most bytes of a constant that is put in memory
COMMON = 65504          # the largest number that all the floats have


def fill(t, value) -> bool:
    """Write a number to all elements of `t`; False where that is to be recorded."""
    m = t._meta
    d, kind = m.dtype, type(value)
    if not (kind is float and d.kind == "f" or kind is int and (d.kind == "f" or d is dt.int64 and -1 << 63 <= value < 1 << 63)
            or kind is bool and d is dt.bool_):
        return False
    if kind is not bool and not -COMMON <= value <= COMMON:
        fitting(value, d)
    address = _writable(t)
    if address is None:
        return False
    v = m.view
    if v.numel == 1:
        NUMBERS[d].from_address(address + v.offset * d.itemsize).value = value
    else:
        with np.errstate(over="ignore"):
            _array(address, v, d)[...] = value
    _written(t)
    return True


def copy(t, source) -> bool:
    """Write the elements of a tensor of the same shape and dtype to `t`; False where that is to be recorded."""
    m, r = t._meta, source._meta
    if r.dtype is not m.dtype or r.view.shape != m.view.shape or mode.grad and (t._rg or source._rg) or t.storage is source.storage:
        return False
    origin = _readable(source)
    if origin is None:
        return False
    address = _writable(t)
    if address is None:
        return False
    size = m.dtype.itemsize
    if is_row_major(m.view.shape, m.view.strides) and is_row_major(r.view.shape, r.view.strides):
        ctypes.memmove(address + m.view.offset * size, origin.address + r.view.offset * size, m.view.numel * size)
    else:
        _array(address, m.view, m.dtype)[...] = _array(origin.address, r.view, r.dtype)
    _written(t)
    return True


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


def _writable(t) -> int | None:
    """The address of the memory that `t` lies in, if writing there is seen by nobody but those who share its storage."""
    m, storage, state = t._meta, t.storage, tape.state
    v = m.view
    if not 0 < v.numel * m.dtype.itemsize <= MOST or m.dtype not in NUMBERS or v.strides and min(v.strides) < 0 or config.eager \
            or m.device not in (None, "cpu") or state.watch is not None or state.rewriter is not None or state.kept is not None:
        return None
    if storage.shared:
        flight.finish()
        return storage.buffer().address
    if type(storage) is not Storage:
        return None
    if storage.node.buffer is None:
        node = storage.node
        form = node.form
        if form.op not in (FULL, EMPTY) or form.numel * m.dtype.itemsize > CONSTANT or type(node.inputs[0]) not in (int, float, bool):
            return None
        storage.node = _constant(node)
    elif held([storage.node], [1])[0] or held([storage.node.buffer], [1])[0]:
        return None
    buffer = storage.node.buffer
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
