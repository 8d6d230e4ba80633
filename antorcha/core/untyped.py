"""Storages as PyTorch's API shows them: the bytes behind one or several tensors, and those bytes as numbers of one dtype.

Whoever asks for bytes gets the memory itself: the cell keeps its address from then on (see `storage.py`).
"""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from ..base.device import device as Device
from ..graph.node import view as make_view
from ..ops.record import meta
from ..runtime.void import Void
from .arrays import adopt
from .storage import Storage, of_buffer
from .tensor import Tensor, from_storage, tensor_on


def reread(cell: Storage, dtype: dt.dtype) -> Storage:
    """A cell on the same memory, holding elements of another dtype."""
    if cell.dtype is dtype:
        return cell
    cell.share()
    return of_buffer(cell.buffer(), cell.numel * cell.dtype.itemsize // dtype.itemsize, dtype)


def reinterpret(t: Tensor, dtype: dt.dtype) -> Tensor:
    """The bytes of `t` read as another dtype: the last dimension grows or shrinks with the size of an element."""
    m, old, new = t._meta, t._meta.dtype.itemsize, dtype.itemsize
    v, shape, strides, offset = m.view, list(m.view.shape), list(m.view.strides), m.view.offset
    if old != new:
        if not shape:
            raise RuntimeError(f"self.dim() cannot be 0 to view {m.dtype} as {dtype} (different element sizes)")
        if strides[-1] != 1:
            raise RuntimeError(f"self.stride(-1) must be 1 to view {m.dtype} as {dtype} (different element sizes), but got {strides[-1]}")
        if any(n * old % new for n in (shape[-1], offset, *strides[:-1])):
            raise RuntimeError(
                f"view: expected the last dimension, strides and offset of {m.dtype} to be multiples of {new // old} to be read as "
                f"{dtype}; received shape {shape}, strides {strides}, offset {offset}"
            )
        shape[-1] = shape[-1] * old // new
        strides[:-1] = [s * old // new for s in strides[:-1]]
        offset = offset * old // new
    if dtype is m.dtype:
        return t
    return tensor_on(reread(t.storage, dtype), meta(make_view(tuple(shape), tuple(strides), offset), dtype, m.device) if v.numel else
                     meta(make_view(tuple(shape), tuple(strides), 0), dtype, m.device))


class _Elements:
    """What both kinds of storages can do, by `_array()`, their memory as an array of numbers."""

    is_cuda = is_sparse = is_sparse_csr = is_hpu = False
    device = property(lambda self: Device(self.cell.buffer().device))

    def _array(self) -> np.ndarray:
        raise NotImplementedError

    def _written(self) -> np.ndarray:
        """The memory, to be written to."""
        self.cell.share()
        self.cell.version += 1
        return self._array()

    def __getitem__(self, key):
        found = self._array()[key]
        return self._like(found) if isinstance(key, slice) else found.item()

    def __setitem__(self, key, value) -> None:
        self._written()[key] = value

    def __iter__(self):
        return iter(self.tolist())

    def tolist(self) -> list:
        return self._array().tolist()

    def fill_(self, value):
        self._written()[:] = value
        return self

    def copy_(self, source, non_blocking=None):
        self._written()[:] = source._array()
        return self

    def clone(self):
        return self._like(self._array().copy())

    __copy__ = clone

    def __deepcopy__(self, memo):
        return memo.setdefault(id(self), self.clone())

    def data_ptr(self) -> int:
        if type(self.cell.buffer()) is Void:
            return 0
        self.cell.share()
        return self.cell.buffer().address

    def cpu(self):
        return self

    def to(self, *, device, non_blocking=False):
        if str(device).split(":")[0] != "cpu":
            raise RuntimeError(f"storage: only device 'cpu' is available; received '{device}'")
        return self

    def get_device(self) -> int:
        return -1

    def is_shared(self) -> bool:
        return False

    def is_pinned(self, device=None) -> bool:
        return False

    def share_memory_(self):
        return self

    pin_memory = share_memory_

    def resizable(self) -> bool:
        return True

    @property
    def _cdata(self) -> int:
        return id(self.cell)

    def __eq__(self, other) -> bool:
        return isinstance(other, _Elements) and other.cell is self.cell

    def __hash__(self) -> int:
        return hash(id(self.cell))

    def __repr__(self) -> str:
        lines = "\n".join(f" {x}" for x in self.tolist())
        of = f"dtype={self.dtype}, " if isinstance(self, TypedStorage) else ""
        return f"{lines}\n[torch.storage.{type(self).__name__}({of}device=cpu) of size {len(self)}]"


class UntypedStorage(_Elements):
    """Bytes. `UntypedStorage(n)` makes n zeros, `UntypedStorage([1, 2])` those bytes; `Tensor.untyped_storage` the bytes of a tensor."""

    def __init__(self, *args, device=None):
        data = args[0] if args else 0
        array = np.zeros(data, np.uint8) if isinstance(data, int) else np.array(data, np.uint8)
        self.cell = adopt(array).storage

    @classmethod
    def of(cls, cell: Storage) -> UntypedStorage:
        self = object.__new__(cls)
        self.cell = cell
        return self

    def _like(self, array):
        return UntypedStorage.of(adopt(np.ascontiguousarray(array)).storage)

    def _array(self) -> np.ndarray:
        return self.cell.buffer().array("uint8", self.nbytes())

    def nbytes(self) -> int:
        return self.cell.numel * self.cell.dtype.itemsize

    size = __len__ = nbytes

    def element_size(self) -> int:
        return 1

    def untyped(self):
        return self

    def resize_(self, size: int):
        self.cell.resize(size // self.cell.dtype.itemsize)
        return self

    def type(self, dtype=None, non_blocking=False):
        return "torch.storage.UntypedStorage" if dtype is None else self

    @classmethod
    def from_buffer(cls, buffer, *args, **kwargs):
        return cls.of(adopt(np.frombuffer(buffer, np.uint8).copy()).storage)

    @classmethod
    def from_file(cls, filename, shared=False, nbytes=0):
        """The first `nbytes` bytes of a file, read into memory."""
        return cls.of(adopt(np.fromfile(filename, np.uint8, nbytes or -1)).storage)

    def _typed(self, dtype):
        return TypedStorage(wrap_storage=UntypedStorage.of(adopt(self._array().astype(dtype.numpy)).storage), dtype=dtype)


_CONVERSIONS = {"double": dt.float64, "float": dt.float32, "half": dt.float16, "long": dt.int64, "int": dt.int32, "short": dt.int16,
                "char": dt.int8, "byte": dt.uint8, "bool": dt.bool_, "complex_double": dt.complex128, "complex_float": dt.complex64}
for _name, _dtype in _CONVERSIONS.items():
    setattr(UntypedStorage, _name, lambda self, d=_dtype: self._typed(d))


class TypedStorage(_Elements):
    """Numbers of one dtype in a storage's bytes. `TypedStorage(n, dtype=d)`, `TypedStorage([1, 2], dtype=d)`,
    `TypedStorage(wrap_storage=untyped, dtype=d)`."""

    def __init__(self, *args, wrap_storage=None, dtype=None, device=None, _internal=False):
        self.dtype = dtype or dt.default()
        if wrap_storage is None:
            data = args[0] if args else 0
            array = np.zeros(data, self.dtype.memory) if isinstance(data, int) else np.array(data, self.dtype.memory)
            wrap_storage = UntypedStorage.of(adopt(array).storage)
        self._untyped_storage = wrap_storage

    cell = property(lambda self: self._untyped_storage.cell)

    def _like(self, array):
        return TypedStorage(wrap_storage=UntypedStorage.of(adopt(np.ascontiguousarray(array)).storage), dtype=self.dtype)

    def _array(self) -> np.ndarray:
        return self.cell.buffer().array(self.dtype.memory, len(self))

    def tolist(self) -> list:
        array = self._array()
        return (array if self.dtype.numpy is not None else dt.decode(array)).tolist()

    def __len__(self) -> int:
        return self._untyped_storage.nbytes() // self.dtype.itemsize

    size = __len__

    def nbytes(self) -> int:
        return self._untyped_storage.nbytes()

    def element_size(self) -> int:
        return self.dtype.itemsize

    def untyped(self) -> UntypedStorage:
        return self._untyped_storage

    _untyped = untyped

    def resize_(self, size: int):
        self._untyped_storage.resize_(size * self.dtype.itemsize)
        return self

    def type(self, dtype=None, non_blocking=False):
        from .legacy import type_name
        return f"torch.{type_name(self.dtype)[:-6]}Storage" if dtype is None else self

    def tensor(self) -> Tensor:
        """The numbers as a vector on this memory."""
        return from_storage(reread(self.cell, self.dtype), self.dtype, (len(self),), (1,), 0)
