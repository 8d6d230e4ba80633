"""Python functions that are written as text while the program runs: their code, compiled once for all processes of a user.

Compiling such a text takes half a millisecond, reading its code from disk a tenth of that, and a first step of training needs a
hundred of them and more. What is new is put on disk when the process ends.
"""

from __future__ import annotations

import atexit
import functools
import marshal
import os
import sys
from types import CodeType

from ..base import config
from .cache import DiskCache, blake2b

_new: dict[str, bytes] = {}     # by digest, what is not on disk yet


@functools.cache
def _disk(directory: str) -> DiskCache:
    return DiskCache(os.path.join(directory, "functions"), limit=64 << 20, suffix=".code")


@functools.cache
def code_of(source: str, file: str) -> CodeType:
    """The code of a text; `file` is where errors say that it stands."""
    digest = blake2b("\0".join((sys.version, str(sys.flags.optimize), file, source)).encode(), digest_size=20).hexdigest()
    kept = _disk(config.cache_directory()).read(digest)
    if kept is not None:
        return marshal.loads(kept)
    code = compile(source, file, "exec")
    _new[digest] = marshal.dumps(code)
    return code


@atexit.register
def keep() -> None:
    """Put on disk what is not there yet."""
    disk = _disk(config.cache_directory())
    while _new:
        disk.write(*_new.popitem())
