"""torch.cuda.nvtx: marks for NVIDIA's tools, made by its library libnvToolsExt."""

from __future__ import annotations

import contextlib
import ctypes
import functools

__all__ = ["mark", "range", "range_end", "range_pop", "range_push", "range_start"]


@functools.lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnvToolsExt.so.1")
    except OSError:
        raise RuntimeError("NVTX functions not installed: libnvToolsExt.so.1 is not found. Use torch.profiler.record_function.") from None
    library.nvtxRangeStartA.restype = ctypes.c_uint64
    return library


def range_push(msg: str) -> int:
    """Begin a range within those that were begun; its depth, from 0."""
    return _library().nvtxRangePushA(str(msg).encode())


def range_pop() -> int:
    """End the range begun last; its depth."""
    return _library().nvtxRangePop()


def range_start(msg: str) -> int:
    """Begin a range that may end in any order, and give its number."""
    return _library().nvtxRangeStartA(str(msg).encode())


def range_end(range_id: int) -> None:
    """End a range by its number."""
    _library().nvtxRangeEnd(ctypes.c_uint64(range_id))


def mark(msg: str) -> None:
    """A moment."""
    _library().nvtxMarkA(str(msg).encode())


@contextlib.contextmanager
def range(msg: str, *args, **kwargs):
    """A context or decorator: a range with the message msg.format(*args, **kwargs)."""
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
