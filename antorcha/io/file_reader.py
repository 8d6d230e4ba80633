"""torch.PyTorchFileReader: the records of a checkpoint file one by one, for libraries that load parts of it."""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from .archive import ArchiveReader
from .host import adopt


class PyTorchFileReader:
    """Reads `file`, a path or a seekable binary file. RuntimeError (`ArchiveError`) where it is not a whole checkpoint."""

    def __init__(self, file):
        self._opened = None if hasattr(file, "read") else open(file, "rb")
        self._archive = ArchiveReader(self._opened or file)

    def has_record(self, name: str) -> bool:
        return self._archive.has(name)

    def get_all_records(self) -> list[str]:
        return self._archive.names()

    def get_record(self, name: str) -> bytes:
        return self._archive.read(name)

    def get_storage_from_record(self, name: str, numel: int, dtype):
        """A tensor of the first `numel` elements of a record; of bytes where `dtype` is a storage class."""
        d = dtype if isinstance(dtype, dt.dtype) else dt.uint8
        data = self._archive.array(name)
        if numel * d.itemsize > data.size:
            raise RuntimeError(f"PyTorchFileReader: expected {numel * d.itemsize} bytes in record {name!r}; received {data.size}")
        bytes_ = adopt(np.ascontiguousarray(data[:numel * d.itemsize]))
        return bytes_ if d is dt.uint8 else bytes_.view(d)

    def __del__(self):
        if self._opened is not None:
            self._opened.close()
