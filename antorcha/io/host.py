"""Tensor values in host memory, for code that moves bytes: files, pickles, the data loader.

`Tensor.numpy` shares memory with the outside, so the engine from then on executes whatever touches the tensor at once.
Here nobody outside learns an address: `peek` reads a value and `adopt` hands memory over to the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..base import dtype as dtypes
from ..base.dtype import dtype as DType
from ..core import storage as cells
from ..core.tensor import Tensor, from_storage
from ..runtime.buffer import Buffer


def memory(cell: cells.Storage) -> np.ndarray:
    """The bytes of a storage, computed if pending: a view to be read at once and not kept."""
    nbytes = cell.numel * cell.dtype.itemsize
    if not nbytes:
        return np.empty(0, np.uint8)
    buffer = cell.buffer()
    return np.asarray(buffer)[:nbytes] if buffer.device == "cpu" else buffer.array(np.uint8, nbytes)


def peek(tensor: Tensor) -> np.ndarray:
    """The tensor's value as a read-only view of its memory, to be used at once and not kept."""
    cell, kind = tensor.storage, tensor.dtype.numpy
    if kind is None:
        raise TypeError(f"expected a dtype that NumPy has; received {tensor.dtype}. Convert first: tensor.float()")
    strides = [stride * kind.itemsize for stride in tensor.stride()]
    view = np.ndarray(tuple(tensor.shape), kind, memory(cell), tensor.storage_offset() * kind.itemsize, strides)
    view.flags.writeable = False
    return view


def stack(tensors: Sequence[Tensor], out: np.ndarray) -> None:
    """Copy tensors of one shape and dtype into the rows of `out`, which is C-contiguous.

    Samples are mostly rows of one large tensor: its memory is looked up once.
    """
    kind, cell, flat = out.dtype, None, out
    strides, numel = contiguous_strides(out.shape[1:]), prod(out.shape[1:])
    rows = []
    for tensor in tensors:
        view = tensor._meta.view
        if view.strides != strides:
            np.stack([peek(tensor) for tensor in tensors], out=out)
            return
        if tensor.storage is not cell:
            cell = tensor.storage
            flat = memory(cell).view(kind)
        rows.append(flat[view.offset : view.offset + numel])
    np.concatenate(rows, out=out.reshape(-1))


def storage(data: np.ndarray, dtype: DType) -> cells.Storage:
    """A storage on the memory of `data` (one-dimensional, contiguous), which the caller gives away."""
    buffer = Buffer.from_array(data)
    buffer.exported = False  # the address is known to nobody else
    return cells.of_buffer(buffer, data.nbytes // dtype.itemsize, dtype)


def adopt(array: np.ndarray) -> Tensor:
    """A tensor on the memory of a C-contiguous array, which the caller gives away."""
    kind = dtypes.of(array.dtype)
    return from_storage(storage(array.reshape(-1), kind), kind, array.shape, contiguous_strides(array.shape), 0)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(prod(max(size, 1) for size in shape[axis + 1 :]) for axis in range(len(shape)))
