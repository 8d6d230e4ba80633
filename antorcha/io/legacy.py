"""Reading checkpoints from before PyTorch 1.6, which are no zip archives.

Such a file is five pickles one after the other (a magic number, the protocol, a description of the system, the object, the
keys of its storages) and then, for each key, the number of elements (8 bytes) and the elements.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from . import host, names, restricted
from .archive import ArchiveError
from .rebuild import StorageRef

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def load(file, restore: Callable, weights_only: bool, options: dict) -> Any:
    """The object in a legacy file; raises as `serialization.load` does."""
    data = file.read()
    if not data:
        raise EOFError("load: expected a checkpoint; received an empty file")
    if data[:1] != b"\x80" and data[257:262] == b"ustar":
        raise RuntimeError("load: expected a zip file or the format of PyTorch 0.1.10 to 1.5; received the older tar format. "
                           "Load and save it with PyTorch first")
    return _Reader(data, restore, weights_only, options).load()


class _Reader:
    def __init__(self, data: bytes, restore: Callable, weights_only: bool, options: dict):
        self._data, self._restore = data, restore
        self._weights_only, self._options = weights_only, options
        self._position = 0
        self._storages: dict[str, StorageRef] = {}
        self._arrays: dict[str, np.ndarray] = {}

    def load(self) -> Any:
        try:
            magic = self._pickle(plain=True)
        except pickle.UnpicklingError as error:
            raise ArchiveError("load: expected a checkpoint of PyTorch or antorcha; received a file of another kind") from error
        if magic != MAGIC:
            raise ArchiveError("load: expected a checkpoint of PyTorch or antorcha; received a pickle that is none")
        protocol, system = self._pickle(plain=True), self._pickle(plain=True)
        if protocol != PROTOCOL or not isinstance(system, dict):
            raise ArchiveError(f"load: expected protocol {PROTOCOL}; received {protocol!r}: the file is damaged")
        if system.get("little_endian", True) != (sys.byteorder == "little"):
            raise RuntimeError(f"load: expected a {sys.byteorder}-endian file; received one of the other byte order")
        obj = self._pickle()
        self._fill(self._pickle(plain=True))
        return obj

    def _pickle(self, plain: bool = False) -> Any:
        """The next pickle; those that frame the object are plain data in every mode."""
        if plain or self._weights_only:
            reader = restricted.reader(self._data, self._storage, self._position)
            value = reader.load()
            self._position = reader.position
            return value
        file = io.BytesIO(self._data)
        file.seek(self._position)
        from .serialization import TrustingUnpickler

        value = TrustingUnpickler(file, self._storage, self._options).load()
        self._position = file.tell()
        return value

    def _storage(self, pid: Any) -> StorageRef:
        """Storages follow the pickle: memory for one is set aside here and filled later."""
        kind, key, location, numel = self._parts(pid)
        if key not in self._storages:
            nbytes = numel * kind.dtype.itemsize
            if nbytes > len(self._data):
                raise ArchiveError(f"load: storage `{key}` claims {nbytes} bytes in a file of {len(self._data)}: "
                                   "the file is damaged")
            array = self._arrays[key] = np.zeros(nbytes, np.uint8)
            self._storages[key] = self._restore(StorageRef(host.storage(array, kind.dtype), kind.dtype, location), location)
        return self._storages[key]

    @staticmethod
    def _parts(pid: Any) -> tuple[names.StorageType, str, str, int]:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage":
            _, kind, key, location, numel, *view = pid
            if (isinstance(kind, names.StorageType) and isinstance(key, str) and isinstance(location, str)
                    and type(numel) is int and 0 <= numel < 2**60 and view in ([], [None])):
                return kind, key, location, numel
        raise pickle.UnpicklingError(f"load: expected the name of a storage; received {pid!r}: the file is damaged or too old")

    def _fill(self, keys: Any) -> None:
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(self._arrays):
            raise ArchiveError("load: the list of storages does not match the object: the file is damaged")
        for key in keys:
            array, itemsize = self._arrays[key], self._storages[key].dtype.itemsize
            numel = int.from_bytes(self._data[self._position : self._position + 8], "little", signed=True)
            start = self._position + 8
            end = start + array.nbytes
            if numel * itemsize != array.nbytes or end > len(self._data):
                raise ArchiveError(f"load: expected {array.nbytes} bytes of storage `{key}`; the file is cut short or damaged")
            array[:] = np.frombuffer(self._data, np.uint8, array.nbytes, start)
            self._position = end
