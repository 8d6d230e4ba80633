"""PyTorch's older names: tensor types with a dtype in their name, such as FloatTensor, and storages likewise."""

from __future__ import annotations

from ..base import dtype as dt
from ..base.formats import Size
from ..ops import factory, placement
from .arrays import tensor
from .tensor import Tensor
from .untyped import TypedStorage, UntypedStorage, reread

_KINDS = {
    "Float": dt.float32,
    "Double": dt.float64,
    "Half": dt.float16,
    "BFloat16": dt.bfloat16,
    "Byte": dt.uint8,
    "Char": dt.int8,
    "Short": dt.int16,
    "Int": dt.int32,
    "Long": dt.int64,
    "Bool": dt.bool_,
    "ComplexFloat": dt.complex64,
    "ComplexDouble": dt.complex128,
}
_NAMES = {d: f"{kind}Tensor" for kind, d in _KINDS.items()}


def type_name(d: dt.dtype) -> str:
    """`FloatTensor` for float32."""
    return _NAMES[d]


def constructed(d: dt.dtype, args: tuple, device=None) -> Tensor:
    """A tensor as the old constructors make it: of sizes uninitialised, of a sequence or an array its values, of a storage its elements."""
    placement.device_name(device)
    if not args:
        return factory.empty(0, dtype=d)
    first = args[0]
    if isinstance(first, Size) or all(isinstance(a, int) for a in args):
        return factory.empty(tuple(first) if isinstance(first, Size) else args, dtype=d)
    if isinstance(first, (UntypedStorage, TypedStorage)):
        return TypedStorage(wrap_storage=UntypedStorage.of(first.cell), dtype=d).tensor()
    if isinstance(first, Tensor):
        if first.dtype is not d:
            raise TypeError(f"expected a tensor of dtype {d}; received {first.dtype}. Convert it first: x.to({d})")
        return first.detach()
    return tensor(first, dtype=d)


class TensorType(type):
    """The class of FloatTensor and the others: called, they make a tensor; every tensor of the dtype is an instance."""

    device = "cpu"

    def __call__(cls, *args, device=None):
        made = constructed(cls.dtype, args, device)
        return made if cls.device == "cpu" else made.to(cls.device)

    def __instancecheck__(cls, x) -> bool:
        return isinstance(x, Tensor) and x.dtype is cls.dtype and x.device.type == cls.device


class StorageType(type):
    """Likewise of FloatStorage and the others."""

    def __call__(cls, *args, **kwargs):
        return TypedStorage(*args, dtype=cls.dtype, **{k: v for k, v in kwargs.items() if k == "wrap_storage"})

    def __instancecheck__(cls, x) -> bool:
        return isinstance(x, TypedStorage) and x.dtype is cls.dtype


def on_gpu(name: str):
    """torch.cuda.FloatTensor and the others; None for another name."""
    kind = next((k for k in _KINDS if name in (f"{k}Tensor", f"{k}Storage")), None)
    if kind is None:
        return None
    if name.endswith("Storage"):
        return globals()[name]
    return TensorType(name, (), {"dtype": _KINDS[kind], "device": "cuda", "__module__": "torch.cuda"})


for _kind, _dtype in _KINDS.items():
    for _suffix, _meta in (("Tensor", TensorType), ("Storage", StorageType)):
        globals()[_kind + _suffix] = _meta(_kind + _suffix, (), {"dtype": _dtype, "__module__": "torch"})

Storage = globals()["FloatStorage"]

__all__ = [kind + suffix for kind in _KINDS for suffix in ("Tensor", "Storage")] + ["Storage", "constructed", "reread", "type_name"]
