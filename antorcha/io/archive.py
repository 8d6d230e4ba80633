"""The container of a checkpoint: a zip file of stored (never compressed) records, as PyTorch lays it out.

Every record lies at a multiple of 64 bytes, so that a storage can be mapped straight into memory. The layout is that of
the zip specification (PKWARE APPNOTE.TXT, 4.3) with its 64-bit extension for files beyond 4 GiB.

`ArchiveWriter` only ever appends, so that it can write to a pipe or a compressor; checksums are known beforehand because
a record is in memory. `ArchiveReader` checks whatever it is told by the file against the file.
"""

from __future__ import annotations

import mmap
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import numpy as np

ALIGNMENT = 64

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ELSEWHERE = 0xFFFFFFFF  # in place of a size or an offset: it stands in the 64-bit extension
_LIMIT = _ELSEWHERE  # as all do from here on
_UTF8 = 0x800  # general purpose flag: the name is UTF-8
_DATE, _TIME = 33, 0  # 1980-01-01 00:00: equal content gives equal files


class ArchiveError(pickle.UnpicklingError, RuntimeError):
    """The file is no checkpoint, or a damaged one: an error of either class in PyTorch, by what it is damaged in."""


def _short(value: int) -> int:
    return value if value < _LIMIT else _ELSEWHERE


class _Entry(NamedTuple):
    name: bytes
    crc: int
    size: int
    offset: int


class ArchiveWriter:
    """Writes records through `write`, which takes bytes-like objects in order and never seeks."""

    def __init__(self, write: Callable, root: str, checksums: bool = True):
        self._write, self._root, self._checksums = write, root, checksums
        self._position = 0
        self._entries: list[_Entry] = []

    def _put(self, data) -> None:
        self._write(data)
        self._position += len(data)

    def record(self, name: str, data) -> None:
        """Append a record: `data` is bytes or a contiguous one-dimensional uint8 view of a storage."""
        data = memoryview(data)
        encoded = f"{self._root}/{name}".encode()
        crc = zlib.crc32(data) if self._checksums else 0
        entry = _Entry(encoded, crc, data.nbytes, self._position)
        extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.size) if entry.size >= _LIMIT else b""
        extra += self._padding(self._position + _LOCAL.size + len(encoded) + len(extra))
        size = _short(entry.size)
        version = 45 if entry.size >= _LIMIT else 20
        self._put(_LOCAL.pack(b"PK\x03\x04", version, _UTF8, 0, _TIME, _DATE, crc, size, size, len(encoded), len(extra)))
        self._put(encoded)
        self._put(extra)
        self._put(data)
        self._entries.append(entry)

    @staticmethod
    def _padding(position: int) -> bytes:
        """An extra field ("FB", which readers skip) after which the data is aligned."""
        fill = -(position + 4) % ALIGNMENT
        return b"FB" + struct.pack("<H", fill) + b"\0" * fill

    def close(self) -> None:
        """Write the table of contents."""
        start = self._position
        for entry in self._entries:
            self._central(entry)
        size, count = self._position - start, len(self._entries)
        if start >= _LIMIT or count >= 0xFFFF:
            end64 = self._position
            self._put(_END64.pack(b"PK\x06\x06", _END64.size - 12, 45, 45, 0, 0, count, count, size, start))
            self._put(_LOCATOR64.pack(b"PK\x06\x07", 0, end64, 1))
        self._put(_END.pack(b"PK\x05\x06", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), size, _short(start), 0))

    def _central(self, entry: _Entry) -> None:
        wide = [value for value in (entry.size, entry.size, entry.offset) if value >= _LIMIT]
        extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        size, offset = _short(entry.size), _short(entry.offset)
        version = 45 if wide else 20
        self._put(_CENTRAL.pack(b"PK\x01\x02", version, version, _UTF8, 0, _TIME, _DATE, entry.crc, size, size,
                                len(entry.name), len(extra), 0, 0, 0, 0, offset))
        self._put(entry.name)
        self._put(extra)


class ArchiveReader:
    """Reads the records of an archive in `file`, a seekable binary file.

    Raises `ArchiveError` for anything that does not fit: a missing or truncated record, sizes that disagree,
    a checksum that is wrong. `mapping` (from `map`) makes `array` return views of the mapped file.
    """

    def __init__(self, file: BinaryIO, checksums: bool = True):
        self._file, self._checksums = file, checksums
        self._mapping: np.ndarray | None = None
        try:
            self._end = file.seek(0, 2)
            directory = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, struct.error, ValueError, OverflowError, NotImplementedError, OSError) as error:
            raise ArchiveError(
                f"load: expected a whole zip archive; received a file that is cut short or damaged ({error})") from error
        if not directory:
            raise ArchiveError("load: expected a checkpoint; received an empty zip archive")
        self._root = self._common_root(directory)
        self._entries = {info.filename[len(self._root):]: info for info in directory}

    @staticmethod
    def _common_root(directory: list[zipfile.ZipInfo]) -> str:
        pickles = [info.filename for info in directory if info.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ArchiveError("load: expected a checkpoint, which has one record `*/data.pkl`; "
                               f"received a zip archive with {len(pickles)} of them")
        return pickles[0][: -len("data.pkl")]

    def names(self) -> list[str]:
        return list(self._entries)

    def has(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        return self._info(name).file_size

    def read(self, name: str) -> bytes:
        return self.array(name).tobytes()

    def array(self, name: str) -> np.ndarray:
        """The record's bytes as an own, writable uint8 array (a view of the mapped file after `map`)."""
        info = self._info(name)
        start = self._data_offset(info)
        if self._mapping is not None:
            return self._mapping[start : start + info.file_size]
        data = np.empty(info.file_size, np.uint8)
        self._file.seek(start)
        filled = self._fill(data.data)
        if filled != info.file_size:
            raise ArchiveError(f"load: expected {info.file_size} bytes in record `{name}`; received {filled}")
        if self._checksums and info.CRC and zlib.crc32(data.data) != info.CRC:
            raise ArchiveError(f"load: the checksum of record `{name}` is wrong: the file is damaged")
        return data

    def map(self) -> None:
        """Map the file into memory privately: writes to tensors never reach the file."""
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._mapping = np.frombuffer(mapped, np.uint8)

    def _info(self, name: str) -> zipfile.ZipInfo:
        info = self._entries.get(name)
        if info is None:
            raise ArchiveError(f"load: the record `{name}` is missing: the file is damaged or no checkpoint")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ArchiveError(f"load: expected record `{name}` stored as it is; received it compressed. "
                               "Repack the archive with `zip -0`")
        if info.header_offset < 0:      # the table of contents claims more than there is
            raise ArchiveError(f"load: the header of record `{name}` is damaged")
        if not 0 <= info.file_size <= self._end:
            raise ArchiveError(f"load: record `{name}` claims {info.file_size} bytes in a file of {self._end}: "
                               "the file is damaged")
        return info

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL.size)
        if len(header) != _LOCAL.size or header[:4] != b"PK\x03\x04":
            raise ArchiveError(f"load: the header of record `{info.filename}` is damaged")
        name_length, extra_length = _LOCAL.unpack(header)[-2:]
        start = info.header_offset + _LOCAL.size + name_length + extra_length
        if start + info.file_size > self._end:
            raise ArchiveError(f"load: record `{info.filename}` reaches beyond the end of the file: it is cut short or damaged")
        return start

    def _fill(self, view: memoryview) -> int:
        filled = 0
        readinto = getattr(self._file, "readinto", None)
        while filled < len(view):
            if readinto is not None:
                n = readinto(view[filled:])
            else:
                chunk = self._file.read(len(view) - filled)
                n = len(chunk)
                view[filled : filled + n] = chunk
            if not n:
                break
            filled += n
        return filled
