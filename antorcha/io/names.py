"""PyTorch's names in pickles and what they stand for here, both ways.

A checkpoint says `torch._utils _rebuild_tensor_v2`; here that function has another home. `resolve` finds the object for
a name, `torch_name` the name for an object, so that files go either way.
"""

from __future__ import annotations

import importlib
from functools import lru_cache

from ..base import dtype as dtypes
from ..base import formats
from ..base.dtype import dtype as DType
from . import rebuild

PACKAGE = "antorcha"

STORAGES: dict[str, DType] = {
    "FloatStorage": dtypes.float32, "DoubleStorage": dtypes.float64, "HalfStorage": dtypes.float16,
    "BFloat16Storage": dtypes.bfloat16, "LongStorage": dtypes.int64, "IntStorage": dtypes.int32,
    "ShortStorage": dtypes.int16, "CharStorage": dtypes.int8, "ByteStorage": dtypes.uint8, "BoolStorage": dtypes.bool_,
    "ComplexFloatStorage": dtypes.complex64, "ComplexDoubleStorage": dtypes.complex128,
}
STORAGE_OF = {dtype: name for name, dtype in STORAGES.items()}
# Of quantized tensors the integers are loaded.
_QUANTIZED = {"QInt8Storage": dtypes.qint8, "QUInt8Storage": dtypes.quint8, "QInt32Storage": dtypes.qint32}
STORAGE_OF |= {dtype: name for name, dtype in _QUANTIZED.items()}
STORAGES |= {name: dtypes.INTEGERS[dtype] for name, dtype in _QUANTIZED.items()}

REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_parameter_with_state",
           "_rebuild_qtensor", "_rebuild_sparse_tensor")

# Names that moved between Python 2 and 3, which protocol 2 writes.
PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "Queue": "queue"}


class StorageType:
    """The name of a storage class in a pickle, `torch.FloatStorage`. Not callable."""

    __slots__ = ("dtype", "name")

    def __init__(self, name: str, dtype: DType):
        self.name, self.dtype = name, dtype

    def __repr__(self) -> str:
        return f"StorageType({self.name})"


class Missing(AttributeError):
    """A name of PyTorch's that is not here."""


@lru_cache(1)
def fixed() -> dict[str, object]:
    """The names that need no search: all that files of tensors contain, and the default allow-list's torch part."""
    from ..nn.parameter import Parameter

    package = importlib.import_module(PACKAGE)
    table: dict[str, object] = {f"torch._utils.{name}": getattr(rebuild, name) for name in REBUILD}
    table["torch._tensor._rebuild_from_type_v2"] = rebuild._rebuild_from_type_v2
    table["torch.serialization._get_layout"] = get_layout
    table |= {f"torch.{name}": StorageType(f"torch.{name}", dtype) for name, dtype in STORAGES.items()}
    untyped = StorageType("torch.storage.UntypedStorage", dtypes.uint8)
    table["torch.storage.UntypedStorage"] = table["torch.UntypedStorage"] = untyped
    table |= {f"torch.{d.name}": d for d in vars(dtypes).values() if isinstance(d, DType)}
    table |= {f"torch.{x.name}": x for x in vars(formats).values() if isinstance(x, formats.qscheme)}
    table |= {"torch.Tensor": package.Tensor, "torch.Size": package.Size, "torch.device": package.device}
    table["torch.nn.parameter.Parameter"] = Parameter
    return table


@lru_cache(1)
def _fixed_names() -> dict[int, tuple[str, str]]:
    names = {id(obj): tuple(name.rsplit(".", 1)) for name, obj in fixed().items()}
    names[id(rebuild._storage_from_bytes)] = (rebuild.__name__, "_storage_from_bytes")
    return names  # type: ignore[return-value]


def get_layout(name: str):
    """The layout with this name, `torch.strided`."""
    return getattr(importlib.import_module(PACKAGE), name.removeprefix("torch."))


def resolve(module: str, name: str):
    """The object of this package for PyTorch's `module.name`; raises `Missing` if there is none.

    A class is looked for in the module of the same path and then in the packages around it, so that
    `torch.nn.modules.linear.Linear` is found as `antorcha.nn.Linear`.
    """
    found = fixed().get(f"{module}.{name}")
    if found is not None:
        return found
    path = [PACKAGE, *module.split(".")[1:]]
    while path:
        try:
            home = importlib.import_module(".".join(path))
            for part in name.split("."):
                home = getattr(home, part)
            return home
        except (ImportError, AttributeError):
            path.pop()
    raise Missing(f"load: expected only names that antorcha has; received `{module}.{name}`, which is missing here")


def torch_name(obj) -> tuple[str, str] | None:
    """PyTorch's (module, name) for an object of this package; None for any other object."""
    known = _fixed_names().get(id(obj))
    if known is not None:
        return known
    module, name = getattr(obj, "__module__", None) or "", getattr(obj, "__qualname__", "")
    if module.split(".")[0] != PACKAGE:
        return None
    path = module.split(".")
    for depth in range(1, len(path)):  # the outermost package that shows it is its public home
        home = importlib.import_module(".".join(path[:depth]))
        if getattr(home, name, None) is obj:
            path = path[:depth]
            break
    return ".".join(["torch", *path[1:]]), name
