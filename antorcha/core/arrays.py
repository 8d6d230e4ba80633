"""Tensors made from numbers, nested sequences and arrays."""

from __future__ import annotations

import ctypes
import functools
from array import array as packed

import numpy as np

from ..base import dtype as dt
from ..graph.node import View, dense
from ..graph.node import view as make_view
from ..ops import placement
from ..ops.layout import meta
from ..ops.recall import warn, warn_once
from ..runtime.buffer import Buffer
from .storage import BorrowedStorage, Storage, of_buffer
from .tensor import Tensor, host, tensor_on

LITTLE = 1 << 12        # bytes
FEW = 64                # numbers
_NUMBERS, _SEQUENCES = frozenset((bool, int, float)), frozenset((list, tuple))


def adopt(array: np.ndarray, shape: tuple | None = None) -> Tensor:
    """A tensor of the elements of an array, of its shape or another: on its memory, which nobody else will touch, or on memory of its own
    where they are few (`LITTLE`) and to copy them takes less time than to keep the array."""
    d, nbytes = dt.of(array.dtype), array.nbytes
    if 0 < nbytes <= LITTLE:
        buffer = Buffer.allocate(nbytes)
        ctypes.memmove(buffer.address, array.tobytes(), nbytes)
        storage = of_buffer(buffer, array.size, d)
    else:
        storage = storage_on(np.ascontiguousarray(array), array.size, d)
    return tensor_on(storage, meta(dense(array.shape if shape is None else tuple(shape)), d, "cpu"))


def storage_on(array: np.ndarray, numel: int, dtype) -> Storage:
    """A storage on the memory of an array that nobody else will touch."""
    buffer = Buffer.from_array(array)
    buffer.exported = False
    return of_buffer(buffer, numel, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor sharing the array's memory: writing to one is seen by the other."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    try:
        d = dt.of(array.dtype)
    except KeyError:
        raise TypeError(
            f"can't convert np.ndarray of type {array.dtype}. The only supported types are: float64, float32, float16, complex64, "
            "complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool."
        ) from None
    if not array.flags.writeable:
        warn_once("from_numpy: the given NumPy array is not writable, and tensors do not know that: do not write to the tensor. Copy the "
                  "array first if you will: array.copy()")
    if array.flags.c_contiguous and array.size:
        return _on_memory(array, array.size, d, dense(array.shape))
    if any(s < 0 for s in array.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not currently "
                         "supported. (You can probably work around this by making a copy of your array with array.copy().)")
    strides = tuple(s // d.itemsize for s in array.strides)
    span = 1 + sum((n - 1) * s for n, s in zip(array.shape, strides)) if array.size else 0
    flat = np.lib.stride_tricks.as_strided(array, (span,), (d.itemsize,)) if span else array.reshape(-1)
    return _on_memory(flat, span, d, make_view(tuple(array.shape), strides))


def _on_memory(array: np.ndarray, numel: int, d, v: View) -> Tensor:
    storage = of_buffer(Buffer.from_array(array), numel, d)
    storage.__class__ = BorrowedStorage
    return tensor_on(storage, meta(v, d, "cpu"))


def _array_of(data, dtype) -> np.ndarray:
    """Nested sequences of numbers, arrays and tensors as one array."""
    if isinstance(data, np.ndarray):
        return data
    if isinstance(data, Tensor):
        return host(data)
    plain = type(data) in _NUMBERS or type(data) in _SEQUENCES and len(data) > 0 and _is_plain(data)
    array = _array_of_numbers(data) if plain else None
    if array is not None:
        return array if array.dtype.kind != "f" or dtype is not None else array.astype(dt.default().numpy)
    if isinstance(data, (list, tuple)) and any([isinstance(x, (Tensor, list, tuple, np.ndarray)) for x in data]):
        parts = [_array_of(x, dtype) for x in data]
        for p in parts[1:]:
            if p.shape != parts[0].shape:
                raise ValueError(f"expected sequence of length {parts[0].shape[0] if parts[0].ndim else 0} at dim 1 "
                                 f"(got {p.shape[0] if p.ndim else 0})")
        kind = functools.reduce(dt.promote, (dt.of(p.dtype) for p in parts))
        return np.stack(parts).astype(kind.numpy)
    if not isinstance(data, (list, tuple, range, int, float, bool, complex, np.generic)) and not hasattr(data, "__array__"):
        if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (str, bytes, dict)):
            return _array_of(list(data), dtype)
        kind = type(data).__name__
        raise TypeError(f"new(): invalid data type '{kind}'") if isinstance(data, str) else RuntimeError(f"Could not infer dtype of {kind}")
    array = np.array(data)
    kinds = _kinds(data) if isinstance(data, (list, tuple)) else ()
    if any([issubclass(kind, np.generic) for kind in kinds]):
        found = functools.reduce(dt.promote, map(_dtype_of, kinds))
        return array.astype(found.numpy)
    if array.dtype.kind == "u" and dtype is not dt.uint64 and not hasattr(data, "__array__"):
        array = array.astype(object)        # NumPy's dtype for integers beyond int64
    if array.dtype.kind in "OUSV":
        if array.size == 0:
            return array.astype(np.float32)
        array = _large_numbers(np.array(data, dtype=object), dtype)
    if array.size == 0 and not isinstance(data, np.generic) and not hasattr(data, "dtype"):
        return array.astype(dt.default().numpy)
    if dtype is not None and array.dtype.kind in "fc":
        return array        # rounded once, to the dtype that is wanted
    if array.dtype.kind == "f" and not isinstance(data, np.generic):
        return array.astype(dt.default().numpy)
    if array.dtype.kind == "c" and not isinstance(data, np.generic):
        return array.astype(dt.default().to_complex().numpy)
    return array


def _kinds(data) -> set[type]:
    """The types of what is in a sequence, and in the sequences in it; none where one of them is no number."""
    found: set[type] = set()
    for x in data:
        found |= _kinds(x) if isinstance(x, (list, tuple)) else {type(x)}
    return found if all([issubclass(kind, (int, float, complex, np.number, np.bool_)) for kind in found]) else set()


def _dtype_of(kind: type) -> dt.dtype:
    """What a number counts for beside others in a sequence: one of NumPy's has a dtype of its own."""
    if issubclass(kind, np.generic):
        return dt.of(np.dtype(kind))
    return dt.bool_ if kind is bool else dt.int64 if issubclass(kind, int) else \
        dt.default() if issubclass(kind, float) else dt.default().to_complex()


def _large_numbers(entries: np.ndarray, dtype) -> np.ndarray:
    """Python's numbers, among them integers beyond 64 bits, as floats, if any is one or `dtype` is of floats. ValueError if not;
    of what is no number, an error that names it."""
    values = entries.ravel().tolist()
    for x in values:
        if isinstance(x, str):
            raise ValueError(f"tensor(): expected numbers; received {type(x).__name__} {x!r} (too many dimensions 'str'). "
                             "Give each word a number first.")
        if not isinstance(x, (int, float, complex, np.number)):
            raise RuntimeError(f"tensor(): expected numbers; received {type(x).__name__}. Could not infer dtype of {type(x).__name__}")
    if all([isinstance(x, int) for x in values]) and (dtype is None or not dtype.continuous):
        raise ValueError(f"tensor(): expected integers from {-2**63} to {2**63 - 1}; received {max(values, key=abs)}. "
                         "Give a dtype of floats for larger ones. (Overflow when unpacking long long)")
    return entries.astype(np.complex128 if any([isinstance(x, complex) for x in values]) else np.float64)


def _array_of_numbers(data) -> np.ndarray | None:
    """A Python number, or lists of such, as an array; None where one is too large for int64 or the lists are not of one length."""
    try:
        array = np.array(data)
    except (ValueError, OverflowError):
        return None
    return array if array.dtype.char in "?ld" else None


def _is_plain(data) -> bool:
    """Whether there are Python numbers in a sequence, or sequences of them, and nothing else."""
    kinds = set(map(type, data))
    return kinds <= _NUMBERS or kinds <= _SEQUENCES and all(map(_is_plain, data))


def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False) -> Tensor:
    """A new tensor with a copy of `data`: numbers, nested sequences of them, arrays."""
    dtype = dt.asked("tensor", dtype)
    device = placement.device_name(data.device if device is None and isinstance(data, Tensor) else device)
    if isinstance(data, Tensor):
        warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
             "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).")
        out = data.detach().clone().to(dtype or data.dtype)
    elif (out := _of_numbers(data, dtype)) is None:
        array = _array_of(data, dtype)
        try:
            own = dt.of(array.dtype)
        except KeyError:
            raise TypeError(f"can't convert np.ndarray of type {array.dtype}") from None
        if dtype is not None and dtype.kind in "iu" and dtype is not own and not hasattr(data, "__array__"):
            _check_range(array, dtype)
        if dtype is None or dtype is own or dtype.numpy is None:
            out = adopt(array if array.nbytes <= LITTLE else np.array(array, order="C"))
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                out = adopt(np.array(array, dtype=dtype.numpy, order="C"))
        if dtype is not None and out.dtype is not dtype:
            out = out.to(dtype)
    out = placement.place(out, device)
    if pin_memory:
        out = out.pin_memory()
    return out.requires_grad_() if requires_grad else out


_CODES = {dt.float32: "f", dt.float64: "d", dt.int64: "q"}


def _of_numbers(data, dtype) -> Tensor | None:
    """A tensor of a number, or of a few that are floats throughout or integers, without an array in between; None for anything else."""
    kind = type(data)
    if kind in _SEQUENCES:
        kinds = set(map(type, data))
        if len(kinds) != 1 or len(data) > FEW:
            return None
        (kind,), count, shape = kinds, len(data), (len(data),)
    else:
        data, count, shape = (data,), 1, ()
    if kind is float and (d := dtype or dt.default()) in _FLOATS or kind is int and dtype in _INTEGERS:
        d = d if kind is float else dt.int64
        try:
            values = packed(_CODES[d], data)
        except OverflowError:
            return None
        buffer = Buffer.allocate(count * d.itemsize)
        ctypes.memmove(buffer.address, values.buffer_info()[0], count * d.itemsize)
        return tensor_on(of_buffer(buffer, count, d), meta(dense(shape), d, "cpu"))
    return None


_FLOATS, _INTEGERS = frozenset((dt.float32, dt.float64)), frozenset((None, dt.int64))


def _check_range(array: np.ndarray, d) -> None:
    """RuntimeError for numbers that an integer dtype has no room for. Those below 0 may wrap around in one without a sign."""
    if array.dtype.kind not in "iuf" or not array.size:
        return
    least, most = array.min(), array.max()
    limits = np.iinfo(d.numpy)
    if not (-limits.max if d.kind == "u" else limits.min) <= least <= most <= limits.max:
        raise RuntimeError(f"value cannot be converted to type {d.name} without overflow: expected numbers from {limits.min} to "
                           f"{limits.max}; received {least if least < limits.min else most}")


def as_tensor(data, dtype=None, device=None) -> Tensor:
    """`data` as a tensor, sharing its memory where it can."""
    dtype = dt.asked("as_tensor", dtype)
    if isinstance(data, Tensor):
        return data.to(device or data.device, dtype)
    if isinstance(data, np.ndarray):
        return from_numpy(data).to(placement.device_name(device), dtype)
    return tensor(data, dtype=dtype, device=device)


def from_dlpack(x) -> Tensor:
    """A tensor on the memory of any object with `__dlpack__`."""
    return from_numpy(np.from_dlpack(x))
