"""Object code on disk, shared by all processes of a user.

One file per entry, named by the digest of what it was made from. A file is written under another name and then renamed, so a
reader finds all of it or nothing; its first bytes are a checksum of the rest, so a damaged one counts as missing. Entries not
read for longest go when the directory grows over its bound. A directory that cannot be written (or read) is no error:
there is nothing kept then.
"""

from __future__ import annotations

import os
import time

from ..base import config

try:
    from _blake2 import blake2b  # where hashlib has it from, which loads OpenSSL as well
except ImportError:
    from hashlib import blake2b

CHECKSUM_SIZE = 16
GROUPS = 256        # directories of entries, by the first two digits; digests fill them evenly, so each can be kept small by itself
OFTEN = 8           # writes for one look at a group: a full cache has a hundred thousand files, which take a second to list
DAY = 86400.0


def checksum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=CHECKSUM_SIZE).digest()


class DiskCache:
    """Entries of bytes in `directory`, at most about `limit` bytes in all."""

    def __init__(self, directory: str, limit: int = 512 << 20, suffix: str = ".o"):
        self.directory, self.limit, self.suffix = directory, limit, suffix
        self._writes = 0

    def path(self, digest: str) -> str:
        return os.path.join(self.directory, digest[:2], digest[2:] + self.suffix)

    def read(self, digest: str) -> bytes | None:
        """The entry, or None if there is none that is whole."""
        path = self.path(digest)
        try:
            with open(path, "rb") as file:
                content = file.read()
                age = time.time() - os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        payload = content[CHECKSUM_SIZE:]
        if content[:CHECKSUM_SIZE] != checksum(payload):
            self.remove(digest)
            return None
        if age > DAY:  # the time of last use, to a day
            try:
                os.utime(path)
            except OSError:
                pass
        return payload

    def write(self, digest: str, payload: bytes) -> None:
        path = self.path(digest)
        temporary = f"{path}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(checksum(payload))
                file.write(payload)
            os.replace(temporary, path)
        except OSError:
            try:
                os.unlink(temporary)
            except OSError:
                pass
            return
        if self._writes % OFTEN == 0:
            self.trim(os.path.dirname(path))
        self._writes += 1

    def remove(self, digest: str) -> None:
        try:
            os.unlink(self.path(digest))
        except OSError:
            pass

    def trim(self, group: str | None = None) -> None:
        """Remove the entries not used for longest until the rest fits, and what broken-off writes have left; of one group its share of
        the bound."""
        entries, total, now = [], 0, time.time()
        limit = self.limit if group is None else self.limit // GROUPS
        for path, status in self._files() if group is None else self._files_of(group):
            if not path.endswith(self.suffix) and now - status.st_mtime < 3600:
                continue
            age = 0.0 if not path.endswith(self.suffix) else status.st_mtime
            entries.append((age, status.st_size, path))
            total += status.st_size
        for age, size, path in sorted(entries):
            if total <= limit and age:
                break
            try:
                os.unlink(path)
            except OSError:
                pass
            total -= size

    def clear(self) -> None:
        for path, _ in self._files():
            try:
                os.unlink(path)
            except OSError:
                pass

    def _files(self):
        try:
            groups = [entry.path for entry in os.scandir(self.directory) if entry.is_dir() and len(entry.name) == 2]
        except OSError:
            return
        for group in groups:
            yield from self._files_of(group)

    def _files_of(self, group: str):
        try:
            with os.scandir(group) as files:
                for entry in files:
                    yield entry.path, entry.stat()
        except OSError:
            return


def default_directory() -> str:
    return os.path.join(config.cache_directory(), "objects")
