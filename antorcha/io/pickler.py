"""Writing the pickle of a checkpoint, with PyTorch's names for what is ours."""

# mypy: ignore-errors
# The pickler in Python, which is subclassed here, has no type stub.

from __future__ import annotations

import copyreg
import io
import pickle
from functools import lru_cache
from types import FunctionType
from typing import Any

from ..base.device import device as Device
from ..base.dtype import dtype as DType
from ..base.formats import layout
from ..core.tensor import Tensor
from ..nn.parameter import Parameter
from . import names
from .rebuild import StorageRef, reduce_tensor

_SCALARS = {int, float, bool, type(None), str}


class _Global:
    """A name to be written as it stands."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


class CheckpointPickler(pickle._Pickler):  # the one in C cannot write a name other than the object's own
    """Pickles an object; the storages it meets are left out and collected in `storages`, key by key."""

    def __init__(self, file, protocol: int):
        super().__init__(file, protocol)
        self.storages: list[StorageRef] = []
        self._keys: dict[int, str] = {}
        self._globals: dict[tuple[str, str], _Global] = {}

    # the hooks of pickle._Pickler

    def persistent_id(self, obj: Any):
        if type(obj) is not StorageRef:
            return None
        key = self._keys.get(id(obj.cell))
        if key is None:
            key = self._keys[id(obj.cell)] = str(len(self.storages))
            self.storages.append(obj)
        elif self.storages[int(key)].dtype is not obj.dtype:
            raise RuntimeError(
                f"save: expected tensors on the same memory to have one dtype; received {self.storages[int(key)].dtype} "
                f"and {obj.dtype}. Clone one of them")
        if obj.dtype in names.STORAGE_OF:
            return ("storage", self._name("torch", names.STORAGE_OF[obj.dtype]), key, obj.location, obj.numel)
        return ("storage", self._name("torch.storage", "UntypedStorage"), key, obj.location, obj.numel * obj.dtype.itemsize)

    def reducer_override(self, obj: Any):
        kind = type(obj)
        if kind in _SCALARS or kind is tuple or kind is dict:
            return NotImplemented
        if isinstance(obj, Tensor):
            if kind.__reduce_ex__ not in (Tensor.__reduce_ex__, Parameter.__reduce_ex__):
                return NotImplemented
            return reduce_tensor(obj)
        if isinstance(obj, DType):
            return obj.name  # a string: the name of a global
        if kind is layout:
            return names.get_layout, (repr(obj),)
        if isinstance(obj, Device):
            return Device, ((obj.type,) if obj.index is None else (obj.type, obj.index))
        if kind is names.fixed()["torch.Size"]:
            return kind, (tuple(obj),)
        return NotImplemented

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if type(obj) is _Global:
            known = (obj.module, obj.name)
        else:
            known = names.torch_name(obj)
        if known is None:
            super().save_global(obj, name)
        else:
            self._write_name(obj, *known)

    def save_list(self, obj: list) -> None:
        """A long list of numbers and strings is pickled in C and its opcodes copied."""
        if len(obj) < 256 or not _SCALARS.issuperset(map(type, obj)):
            super().save_list(obj)
            return
        self.write(_opcodes(obj))
        self.memoize(obj)

    dispatch = {**pickle._Pickler.dispatch, list: save_list, FunctionType: save_global, _Global: save_global}

    def _name(self, module: str, name: str) -> _Global:
        return self._globals.setdefault((module, name), _Global(module, name))

    def _write_name(self, obj: Any, module: str, name: str) -> None:
        if self.proto >= 4:
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(obj)


@lru_cache
def picklers(module) -> type[CheckpointPickler]:
    """The class that writes checkpoints with the `Pickler` of a module such as cloudpickle: that one is asked how to reduce what is not
    ours, and its table of reductions counts."""
    if module is pickle:
        return CheckpointPickler
    theirs = module.Pickler

    class Pickler(CheckpointPickler):
        def __init__(self, file, protocol: int):
            super().__init__(file, protocol)
            self._theirs = theirs(io.BytesIO(), protocol)
            self.dispatch_table = getattr(self._theirs, "dispatch_table", copyreg.dispatch_table)

        def reducer_override(self, obj: Any):
            reduced = super().reducer_override(obj)
            if reduced is not NotImplemented or names.torch_name(obj) is not None and isinstance(obj, (type, FunctionType)):
                return reduced
            ask = getattr(self._theirs, "reducer_override", None)
            return NotImplemented if ask is None else ask(obj)

    return Pickler


def _opcodes(plain: list) -> bytes:
    """The pickle of a list of scalars without header and memo, fit to stand inside another."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=2)
    pickler.fast = True
    pickler.dump(plain)
    return file.getvalue()[2:-1]
