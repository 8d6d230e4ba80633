"""`save` and `load`: PyTorch's checkpoint files, read and written without PyTorch.

A checkpoint is a zip archive (archive.py) with one pickle, `data.pkl`, and one record of raw bytes per storage. `load`
builds nothing but tensors and plain containers unless told otherwise (unpickler.py, names.py), and returns all or raises.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import secrets
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from . import host, legacy, names, restricted
from .archive import ArchiveError, ArchiveReader, ArchiveWriter
from .location import restorer
from .options import (  # noqa: F401 (part of torch.serialization)
    LoadEndianness,
    SourceChangeWarning,
    StorageType,
    check_module_version_greater_or_equal,
    default_restore_location,
    get_default_load_endianness,
    get_default_mmap_options,
    location_tag,
    normalize_storage_type,
    register_package,
    set_default_load_endianness,
    set_default_mmap_options,
    skip_data,
    storage_to_tensor_type,
    validate_cuda_device,
    validate_hpu_device,
)
from .pickler import picklers
from .rebuild import StorageRef
from .restricted import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals

__all__ = [
    "add_safe_globals", "clear_safe_globals", "get_crc32_options", "get_safe_globals", "get_unsafe_globals_in_checkpoint",
    "load", "safe_globals", "save", "set_crc32_options",
]

DEFAULT_PROTOCOL = 2
_FORMAT_VERSION = b"1"
_ARCHIVE_VERSION = b"3\n"

MAP_LOCATION: TypeAlias = Callable[[Any, str], Any] | str | dict[str, str] | None      # what `map_location` may be

_options = threading.local()


def get_crc32_options() -> bool:
    """Whether `save` computes the checksum of each record."""
    return getattr(_options, "checksums", True)


def set_crc32_options(compute_crc32: bool) -> None:
    """Turn the checksums of `save` off (a little faster; damage then goes unnoticed) or on."""
    _options.checksums = bool(compute_crc32)


# save


def save(obj: Any, f, pickle_module=pickle, pickle_protocol: int = DEFAULT_PROTOCOL,
         _use_new_zipfile_serialization: bool = True) -> None:
    """Save an object of tensors, containers and other picklable values in PyTorch's zip format.

    `f` is a path or a writable binary file object. At a path the file appears whole or not at all: it is written beside
    its place, flushed to the disk and renamed, so an interrupted save leaves a file that was there as it was.
    Tensors on one storage stay so, and a storage is saved whole; hooks and graphs are not saved.
    `pickle_module`: whose `Pickler` says how classes and functions are pickled (cloudpickle also takes those of a script).
    """
    if not _use_new_zipfile_serialization:
        raise NotImplementedError("save: expected the zip format; the format from before PyTorch 1.6 can be read, not written")
    if not 2 <= pickle_protocol <= pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"save: expected pickle_protocol from 2 to {pickle.HIGHEST_PROTOCOL}; received {pickle_protocol}")
    stream = io.BytesIO()
    pickler = picklers(pickle_module)(stream, pickle_protocol)
    pickler.dump(obj)  # all that can fail about the object fails before a byte is written
    if isinstance(f, (str, os.PathLike)):
        path = os.path.realpath(os.fspath(f))
        with _replacing(path) as file:
            _write(file.write, Path(path).stem, stream.getbuffer(), pickler.storages)
    elif hasattr(f, "write"):
        _write(f.write, "archive", stream.getbuffer(), pickler.storages)
        getattr(f, "flush", lambda: None)()
    else:
        raise AttributeError(f"save: expected a path or a file object with a method `write`; received {type(f).__name__}")


def _write(write: Callable, root: str, data, storages: list[StorageRef]) -> None:
    archive = ArchiveWriter(write, root, get_crc32_options())
    archive.record("data.pkl", data)
    archive.record(".format_version", _FORMAT_VERSION)
    archive.record(".storage_alignment", b"64")
    archive.record("byteorder", sys.byteorder.encode())
    for key, stored in enumerate(storages):
        archive.record(f"data/{key}", bytes(memoryview(stored.data).nbytes) if skip_data.active else stored.data)
    archive.record("version", _ARCHIVE_VERSION)
    archive.close()


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when all has been written, and vanishes otherwise."""
    if os.path.exists(path) and not os.path.isfile(path):
        if os.path.isdir(path):
            raise IsADirectoryError(f"save: expected the path of a file; received the directory {path}")
        with open(path, "wb") as file:  # a device or a pipe has no content to protect
            yield file
        return
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {folder} does not exist. Create it first: os.makedirs({folder!r}, exist_ok=True)")
    beside = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            os.chmod(beside, os.stat(path).st_mode & 0o7777)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Make the new name itself outlive a power failure, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# load


def load(f, map_location=None, pickle_module=None, *, weights_only: bool | None = None, mmap: bool | None = None,
         **pickle_load_args: Any) -> Any:
    """Load what `save`, here or in PyTorch, has written to the path or seekable binary file `f`.

    `map_location` (a device, a dict, or a function of storage and location) says where saved devices lie now.
    With `weights_only=True`, the default, nothing in the file is executed: tensors, containers, numbers and what
    `add_safe_globals` lists are built, and any other content raises `pickle.UnpicklingError`, naming it.
    `weights_only=False` runs the pickle as Python does, which lets the file execute anything: for files you trust.
    With `mmap=True` (paths alone) storages are mapped and read when touched; the file is never written.

    Raises `RuntimeError` (`ArchiveError`) or `pickle.UnpicklingError` for a damaged file; nothing is half-loaded.
    """
    if weights_only is None:
        weights_only = pickle_module is None
    if pickle_module is not None and (weights_only or pickle_module is not pickle):
        raise RuntimeError("load: expected no pickle_module with weights_only=True, and only `pickle` otherwise; "
                           f"received {pickle_module!r}")
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, map_location, weights_only, bool(mmap), pickle_load_args)
    if mmap:
        raise ValueError(f"load: expected a path with mmap=True; received {type(f).__name__}")
    if not all(hasattr(f, name) for name in ("read", "seek", "tell")):
        raise AttributeError("load: expected a path or a file object with `read`, `seek` and `tell`; "
                             f"received {type(f).__name__}. Read it first: io.BytesIO(f.read())")
    return _load(f, map_location, weights_only, False, pickle_load_args)


def _load(file, map_location, weights_only: bool, mapped: bool, options: dict) -> Any:
    start = file.tell()
    signature = file.read(4)
    file.seek(start)
    if signature != b"PK\x03\x04":
        if mapped:
            raise RuntimeError("load: expected the zip format with mmap=True; received an older one. Save it again with save()")
        return legacy.load(file, restorer(map_location), weights_only, options)
    if start:
        file = io.BytesIO(file.read())
    archive = ArchiveReader(file, get_crc32_options())
    _check_archive(archive)
    if mapped:
        archive.map()
    storages = _Storages(archive, restorer(map_location))
    data = archive.read("data.pkl")
    if weights_only:
        return restricted.load(data, storages.load)
    unpickler = TrustingUnpickler(io.BytesIO(data), storages.load, options)
    try:
        return unpickler.load()
    except (EOFError, IndexError, KeyError, ValueError, TypeError, struct.error, OverflowError, MemoryError) as error:
        raise pickle.UnpicklingError(f"load: the pickle is damaged ({type(error).__name__}: {error})") from error


def _check_archive(archive: ArchiveReader) -> None:
    if archive.has("constants.pkl"):
        raise RuntimeError("load: expected a file of torch.save; received a TorchScript archive, which antorcha does not run. "
                           "In PyTorch: torch.save(torch.jit.load(path).state_dict(), new_path)")
    if archive.has("byteorder") and archive.read("byteorder") != sys.byteorder.encode():
        raise RuntimeError(f"load: expected a {sys.byteorder}-endian file; received one marked {archive.read('byteorder')!r}")


class _Storages:
    """The storages of one archive, read when the pickle first names them."""

    def __init__(self, archive: ArchiveReader, restore: Callable):
        self._archive, self._restore = archive, restore
        self._loaded: dict[str, StorageRef] = {}

    def load(self, pid: Any) -> StorageRef:
        kind, key, location, numel = self._parts(pid)
        stored = self._loaded.get(key)
        if stored is None:
            stored = self._loaded[key] = self._restore(self._read(kind, key, numel, location), location)
        if stored.numel != numel or stored.dtype is not kind.dtype:
            raise pickle.UnpicklingError(
                f"load: storage `{key}` stands in the file as {numel} of {kind.dtype} and as {stored.numel} of {stored.dtype}: "
                "the file is damaged")
        return stored

    def _read(self, kind: names.StorageType, key: str, numel: int, location: str) -> StorageRef:
        record, nbytes = f"data/{key}", numel * kind.dtype.itemsize
        if self._archive.size(record) != nbytes:
            raise ArchiveError(f"load: expected {nbytes} bytes in record `{record}` ({numel} of {kind.dtype}); "
                               f"received {self._archive.size(record)}: the file is damaged")
        data = self._archive.array(record)
        if kind.dtype.kind == "b" and np.any(data > 1):
            raise ArchiveError(f"load: record `{record}` of torch.bool holds bytes other than 0 and 1: the file is damaged")
        return StorageRef(host.storage(data, kind.dtype), kind.dtype, location)

    @staticmethod
    def _parts(pid: Any) -> tuple[names.StorageType, str, str, int]:
        if isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage":
            _, kind, key, location, numel = pid
            if (isinstance(kind, names.StorageType) and isinstance(key, str) and isinstance(location, str)
                    and type(numel) is int and 0 <= numel < 2**60):
                return kind, key, location, numel
        raise pickle.UnpicklingError(f"load: expected the name of a storage; received {pid!r}: the file is damaged")


class TrustingUnpickler(pickle.Unpickler):
    """Python's own unpickler, with PyTorch's names turned into ours."""

    def __init__(self, file, persistent_load: Callable, options: dict):
        super().__init__(file, **options)
        self.persistent_load = persistent_load  # type: ignore[method-assign]

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "torch":
            return names.resolve(module, name)
        return super().find_class(module, name)


def get_unsafe_globals_in_checkpoint(f) -> list[str]:
    """The names in a checkpoint that `weights_only=True` refuses, found without executing anything."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(f, "rb")) if isinstance(f, (str, os.PathLike)) else f
        data = ArchiveReader(file, get_crc32_options()).read("data.pkl")
    return restricted.unsafe_globals(data)
