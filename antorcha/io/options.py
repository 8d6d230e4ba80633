"""Defaults of `load` and `save`, and what says where a storage is: the lesser names of torch.serialization."""

from __future__ import annotations

import contextlib
import enum
import mmap
from typing import Any

from ..base.device import device as Device
from ..core import legacy


class LoadEndianness(enum.Enum):
    """The order of bytes that files without a record of it are taken to have."""

    NATIVE = 1
    LITTLE = 2
    BIG = 3


class SourceChangeWarning(Warning):
    """The source of a class is another one than when it was saved. Sources are not saved here."""


class StorageType:
    """A storage's type by its name in a file, FloatStorage say: its dtype."""

    def __init__(self, name: str):
        self.dtype = getattr(legacy, name).dtype

    def __str__(self) -> str:
        return f"StorageType(dtype={self.dtype})"


_endianness: LoadEndianness | None = None
_mmap_flags: int | None = getattr(mmap, "MAP_PRIVATE", None)


def get_default_load_endianness() -> LoadEndianness | None:
    """What `set_default_load_endianness` chose; None is little-endian."""
    return _endianness


def set_default_load_endianness(endianness: LoadEndianness | None) -> None:
    """Choose the order of bytes of files without a record of it. BIG raises: every file of PyTorch's since 2.1 has a record."""
    global _endianness
    if not isinstance(endianness, LoadEndianness) and endianness is not None:
        raise TypeError("Invalid argument type in function set_default_load_endianness")
    if endianness is LoadEndianness.BIG:
        raise NotImplementedError("set_default_load_endianness: files with the most significant byte first cannot be read.")
    _endianness = endianness


def get_default_mmap_options() -> int | None:
    """The flags with which `load(mmap=True)` maps files: private, so that a file is never written to."""
    return _mmap_flags


@contextlib.contextmanager
def set_default_mmap_options(flags: int):
    """A context with other flags. mmap.MAP_SHARED raises: a file that is loaded is never written to here."""
    global _mmap_flags
    if flags != getattr(mmap, "MAP_PRIVATE", None):
        raise ValueError("set_default_mmap_options: expected mmap.MAP_PRIVATE; files that are loaded are not written to. "
                         "torch.from_file(shared=True) maps a file that is.")
    before, _mmap_flags = _mmap_flags, flags
    try:
        yield
    finally:
        _mmap_flags = before


packages: list[tuple] = []      # (priority, tagger, deserializer) of `register_package`, the first to be asked first


def register_package(priority: int, tagger, deserializer) -> None:
    """Have `location_tag` ask `tagger(storage)`, and `default_restore_location` `deserializer(storage, location)`; those of a low
    `priority` are asked first, and who does not know answers None."""
    packages.append((priority, tagger, deserializer))
    packages.sort(key=lambda entry: entry[0])


def location_tag(storage: Any) -> str:
    """Where a storage is, as a file says it: "cpu", "cuda:0"."""
    for _, tagger, _ in packages:
        if (found := tagger(storage)):
            return found
    return str(getattr(storage, "device", "cpu"))


def default_restore_location(storage: Any, location: str):
    """The storage, moved to the place that a file names. RuntimeError for a device that is not there."""
    for _, _, deserializer in packages:
        if (found := deserializer(storage, location)) is not None:
            return found
    kind = Device(location).type
    if kind == "cuda":
        validate_cuda_device(location)
    elif kind not in ("cpu", "meta"):
        raise RuntimeError(f"don't know how to restore data location of {type(storage).__name__} (tagged with {location})")
    return storage.to(device=location) if kind == "cuda" else storage


def validate_cuda_device(location: str) -> int:
    """The number of the GPU that a location names. RuntimeError if it is not there."""
    from .. import cuda

    index = Device(location).index or 0
    if not cuda.is_available():
        raise RuntimeError("Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. "
                           "Load it on the CPU: torch.load(..., map_location=torch.device('cpu'))")
    if index >= cuda.device_count():
        raise RuntimeError(f"Attempting to deserialize object on CUDA device {index} but torch.cuda.device_count() is "
                           f"{cuda.device_count()}. Use torch.load with map_location.")
    return index


def validate_hpu_device(location: str) -> int:
    """RuntimeError: there are no such devices."""
    raise RuntimeError("Attempting to deserialize object on a HPU device, and antorcha has none. Use torch.load with map_location='cpu'.")


def normalize_storage_type(storage_type):
    """FloatStorage and the others; torch.cuda's are the same ones."""
    return getattr(legacy, storage_type.__name__)


def storage_to_tensor_type(storage):
    """FloatTensor for a FloatStorage, and so on."""
    return getattr(legacy, legacy.type_name(storage.dtype))


def check_module_version_greater_or_equal(module, req_version_tuple: tuple, error_if_malformed: bool = True) -> bool:
    """Whether the version of a module, numbers with dots, is at least the one given as a tuple."""
    try:
        found = tuple(type(wanted)(part) for wanted, part in zip(req_version_tuple, module.__version__.split(".")))
    except Exception as error:
        if error_if_malformed:
            raise RuntimeError(f"'{module.__name__}' module version string is malformed '{module.__version__}' and cannot be compared "
                               f"with tuple {req_version_tuple}") from error
        return True
    return found >= req_version_tuple


class skip_data:
    """A context in which `save` writes files with room for the values of tensors and not the values; to be filled in later."""

    active = False

    def __init__(self, materialize_fake_tensors: bool = False):
        self.materialize_fake_tensors = materialize_fake_tensors

    def __enter__(self) -> None:
        self._before, skip_data.active = skip_data.active, True

    def __exit__(self, *error) -> None:
        skip_data.active = self._before


__all__ = [
    "LoadEndianness", "SourceChangeWarning", "StorageType", "check_module_version_greater_or_equal", "default_restore_location",
    "get_default_load_endianness", "get_default_mmap_options", "location_tag", "normalize_storage_type", "register_package",
    "set_default_load_endianness", "set_default_mmap_options", "skip_data", "storage_to_tensor_type", "validate_cuda_device",
    "validate_hpu_device",
]
