"""How a tensor becomes a pickle and a pickle a tensor.

The functions carry PyTorch's names (`torch._utils._rebuild_tensor_v2`, ...): a checkpoint names them. Their arguments
come from a file, so each is checked against the storage before a tensor exists.
"""

from __future__ import annotations

from collections import OrderedDict
from math import prod
from pickle import UnpicklingError

import numpy as np

from ..base import dtype as dtypes
from ..base import formats
from ..base.dtype import dtype as DType
from ..core.tensor import Tensor, from_storage
from ..ops.placement import device_name, place
from . import host


class StorageRef:
    """A storage on its way to or from a file: elements of `dtype` in `cell` (see core/storage.py)."""

    __slots__ = ("cell", "dtype", "location")

    def __init__(self, cell, dtype: DType, location: str = "cpu"):
        self.cell, self.dtype, self.location = cell, dtype, location

    @property
    def numel(self) -> int:
        return self.cell.numel * self.cell.dtype.itemsize // self.dtype.itemsize

    @property
    def data(self) -> np.ndarray:
        return host.memory(self.cell)

    @property
    def device(self) -> str:
        return self.location

    def on(self, device: str) -> StorageRef:
        """The storage on a device ("cpu", "cuda:0"): itself, if it is there."""
        have = self.cell.buffer().device
        if have == device:
            self.location = device
            return self
        flat = from_storage(self.cell, self.cell.dtype, (self.cell.numel,), (1,), 0)
        return StorageRef(place(flat, device).storage, self.dtype, device)

    def cpu(self) -> StorageRef:
        return self.on("cpu")

    def cuda(self, device: int | None = None) -> StorageRef:
        return self.on(device_name("cuda" if device is None else device))

    def nbytes(self) -> int:
        return self.cell.numel * self.cell.dtype.itemsize

    def __reduce__(self):
        return _storage_from_bytes, (self.data.tobytes(), self.dtype)


def _storage_from_bytes(data: bytes, dtype: DType) -> StorageRef:
    dtype = dtypes.INTEGERS.get(dtype, dtype)
    return StorageRef(host.storage(np.frombuffer(bytearray(data), np.uint8), dtype), dtype)


# Tensor -> arguments

_COMPRESSED = {formats.sparse_csr: ("crow_indices", "col_indices"), formats.sparse_csc: ("ccol_indices", "row_indices")}
_INTERNAL = {"storage", "_meta", *vars(Tensor)}  # attributes that are the tensor itself; others are the user's


def tensor_arguments(tensor: Tensor) -> tuple:
    """What `_rebuild_tensor_v2` needs to make this tensor again."""
    stored = StorageRef(tensor.storage, tensor.dtype, str(tensor.device))
    return (stored, tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()),
            bool(tensor.requires_grad), OrderedDict())


def reduce_tensor(tensor: Tensor) -> tuple:
    """`(function, arguments)` for the pickle of a tensor, a parameter or an instance of a subclass.

    Hooks and the graph behind the tensor are not kept; a tensor that requires grad comes back as a leaf.
    """
    from ..nn.parameter import Parameter

    if tensor.is_quantized:
        return _reduce_quantized(tensor)
    if tensor.is_sparse:
        return _reduce_sparse(tensor)
    state = {key: value for key, value in tensor.__dict__.items() if key not in _INTERNAL}
    kind = type(tensor)
    if kind is Parameter:
        plain = from_storage(tensor.storage, tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset())
        rebuild = (_rebuild_parameter_with_state, (state,)) if state else (_rebuild_parameter, ())
        return rebuild[0], (plain, bool(tensor.requires_grad), OrderedDict(), *rebuild[1])
    from .names import STORAGE_OF

    rebuild, arguments = _rebuild_tensor_v2, tensor_arguments(tensor)
    if tensor.dtype not in STORAGE_OF:      # PyTorch has no storage class for it: the dtype is told beside the bytes
        rebuild, arguments = _rebuild_tensor_v3, (*arguments, tensor.dtype)
    if kind is Tensor and not state:
        return rebuild, arguments
    return _rebuild_from_type_v2, (rebuild, kind, arguments, state)


def _reduce_quantized(tensor) -> tuple:
    integers = tensor._integers
    stored = StorageRef(integers.storage, tensor.dtype, str(tensor.device))
    grid = (tensor.qscheme(), tensor._scale, tensor._zero) + (() if tensor._axis is None else (tensor._axis,))
    where = integers.storage_offset(), tuple(integers.shape), tuple(integers.stride())
    return _rebuild_qtensor, (stored, *where, grid, False, OrderedDict())


def _reduce_sparse(tensor) -> tuple:
    shape = tuple(tensor.shape)
    if tensor.layout is formats.sparse_coo:
        return _rebuild_sparse_tensor, (tensor.layout, (tensor._indices(), tensor._values(), shape, tensor.is_coalesced()))
    starts, others = _COMPRESSED[tensor.layout]
    return _rebuild_sparse_tensor, (tensor.layout, (getattr(tensor, starts)(), getattr(tensor, others)(), tensor._values(), shape))


# arguments -> Tensor


def _rebuild_tensor(stored: StorageRef, offset: int, size, stride) -> Tensor:
    """A tensor on a storage.

    Raises `pickle.UnpicklingError` if a shape, stride or offset is none, or leads outside the storage.
    """
    if not isinstance(stored, StorageRef):
        raise UnpicklingError(f"load: expected a storage to build a tensor on; received {type(stored).__name__}")
    shape, strides = _sizes("size", size), _sizes("stride", stride)
    (offset,) = _sizes("storage_offset", (offset,))
    if len(shape) != len(strides):
        raise UnpicklingError(f"load: expected one stride for each of {len(shape)} dimensions; received {len(strides)}")
    if prod(shape) >= 2**63:
        raise UnpicklingError(f"load: a tensor of shape {shape} has more elements than can be counted")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
    if 0 not in shape and last >= stored.numel:
        raise UnpicklingError(
            f"load: expected a view inside a storage of {stored.numel} elements; received shape {shape}, "
            f"stride {strides}, offset {offset}, which reaches element {last}: the file is damaged")
    return from_storage(stored.cell, stored.dtype, shape, strides, offset)


def _sizes(name: str, values) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not all(type(v) is int and 0 <= v < 2**63 for v in values):
        raise UnpicklingError(f"load: expected non-negative integers for {name}; received {values!r}: the file is damaged")
    return tuple(values)


def _rebuild_tensor_v2(stored, offset, size, stride, requires_grad, backward_hooks, metadata=None) -> Tensor:
    if metadata:
        raise UnpicklingError(f"load: expected a plain tensor; received one with the metadata {metadata!r}, "
                              "which antorcha does not have yet. Save tensor.resolve_conj().resolve_neg()")
    tensor = _rebuild_tensor(stored, offset, size, stride)
    return _with_grad(tensor, requires_grad)


def _rebuild_tensor_v3(stored, offset, size, stride, requires_grad, backward_hooks, dtype, metadata=None) -> Tensor:
    if not isinstance(dtype, DType) or not isinstance(stored, StorageRef):
        raise UnpicklingError("load: expected a storage and a dtype to build a tensor on")
    return _rebuild_tensor_v2(StorageRef(stored.cell, dtype), offset, size, stride, requires_grad, backward_hooks, metadata)


def _rebuild_parameter(data, requires_grad, backward_hooks) -> Tensor:
    from ..nn.parameter import Parameter

    if not isinstance(data, Tensor):
        raise UnpicklingError(f"load: expected a tensor to make a parameter of; received {type(data).__name__}")
    return Parameter(data, bool(requires_grad))


def _rebuild_parameter_with_state(data, requires_grad, backward_hooks, state) -> Tensor:
    return set_state(_rebuild_parameter(data, requires_grad, backward_hooks), state)


def _rebuild_from_type_v2(function, kind, arguments, state) -> Tensor:
    if function not in (_rebuild_tensor, _rebuild_tensor_v2, _rebuild_tensor_v3, _rebuild_parameter):
        raise UnpicklingError(f"load: expected a function that builds a tensor; received {function!r}")
    if not isinstance(kind, type) or not issubclass(kind, Tensor):
        raise UnpicklingError(f"load: expected a subclass of Tensor; received {kind!r}")
    tensor = function(*arguments)
    if type(tensor) is not kind:
        tensor = tensor.as_subclass(kind)
    return set_state(tensor, state)


def _rebuild_qtensor(stored, offset, size, stride, grid, requires_grad, backward_hooks) -> Tensor:
    from ..core.quantized import QuantizedTensor

    quantized = {integers: q for q, integers in dtypes.INTEGERS.items()}
    if not isinstance(stored, StorageRef) or stored.dtype not in quantized or not isinstance(grid, tuple) or not grid \
            or not isinstance(grid[0], formats.qscheme) or len(grid) != (3 if grid[0] is formats.per_tensor_affine else 4):
        raise UnpicklingError("load: expected a storage of a quantized dtype and a grid (scheme, scale, zero point) to build a tensor on")
    return QuantizedTensor(_rebuild_tensor(stored, offset, size, stride), grid[1], grid[2], quantized[stored.dtype], *grid[3:])


def _rebuild_sparse_tensor(layout, data) -> Tensor:
    from ..core import sparse

    if layout is formats.sparse_coo and len(data) in (3, 4):
        return sparse.sparse_coo_tensor(*data[:3], is_coalesced=data[3] if len(data) == 4 else None)
    if layout in _COMPRESSED and len(data) == 4:
        return sparse.sparse_compressed_tensor(*data, layout=layout)
    raise UnpicklingError(f"load: expected a sparse layout and its tensors; received {layout}")


def _with_grad(tensor: Tensor, requires_grad) -> Tensor:
    if requires_grad:
        tensor.requires_grad_(True)
    return tensor


def set_state(instance, state):
    """Set attributes as `object.__setstate__` would: from a dict, or a pair (dict, dict of slots)."""
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    for values in (attributes, slots):
        if values is None:
            continue
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise UnpicklingError(f"load: expected a dict of attributes; received {type(values).__name__}")
    if attributes:
        instance.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        setattr(instance, name, value)
    return instance
