"""What the pool computes in the background, and waiting for it.

Kernel calls may be left to the pool's own thread (`pool.submit`). Until they have finished, memory that they read or write must be
neither given back nor looked at: `_kept` holds what they need, `awaited` the buffers whose contents are not there yet. What else refers
to a buffer decides whether its memory may be taken over, so it is counted how often it is referred to here (`references`).
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import chain

awaited: set = set()        # buffers; one set for good
_held: dict[int, int] = {}  # id of a buffer -> how many references to it there are in here; counted when somebody asks
_kept: list = []
_wait: list[Callable[[], bool]] = []
lock = threading.RLock()


def begin(wait: Callable[[], bool], owner, buffers: list, missing: list) -> None:
    """A job is about to be submitted; `wait` waits for it a little and returns whether it is done. `owner` holds its arguments, `buffers`
    are all that it reads and writes."""
    _wait.append(wait)
    _kept.append((owner, buffers, [*map(id, missing)]))
    awaited.update(missing)


def finish() -> None:
    """Wait for the job, if there is one, and let go what was kept for it. An interrupt ends the waiting, not the job."""
    if _wait:
        with lock:
            if _wait:
                while not _wait[0]():
                    pass
                _clear()


def _clear() -> None:
    awaited.clear()
    _wait.clear()
    _kept.clear()
    _held.clear()


def references(buffers: list) -> tuple[int, ...]:
    """How often each buffer is referred to, but for here. Nobody may begin a job meanwhile."""
    if not _kept:
        return tuple(map(sys.getrefcount, buffers))
    with lock:
        counts = tuple(map(sys.getrefcount, buffers))   # first: what ends meanwhile only makes them too large
        if _kept and not _held:
            _, used, missing = _kept[0]
            _held.update(Counter(chain(map(id, used), missing)))
        return tuple([n - _held.get(id(b), 0) for n, b in zip(counts, buffers)]) if _held else counts


def leave() -> None:
    """The process is about to end. What an interrupt ends is not waited for: its memory is kept until the system takes everything."""
    if getattr(sys, "last_type", None) is not KeyboardInterrupt:
        finish()
    elif _wait:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_kept))


def forget() -> None:
    """In a process that has been forked: its parent has waited already."""
    global lock
    lock = threading.RLock()
    _clear()
