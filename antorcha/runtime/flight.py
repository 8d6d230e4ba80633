"""What the pool computes in the background, and waiting for it.

Kernel calls may be left to the pool's own thread (`pool.submit`). Until they have finished, memory that they read or write must be
neither given back nor looked at: `kept` holds what they need, `awaited` the buffers whose contents are not there yet.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

awaited: set = set()        # buffers; one set for good
_kept: list = []
_wait: list[Callable[[], bool]] = []
lock = threading.RLock()


def begin(wait: Callable[[], bool], kept, buffers) -> None:
    """A job is about to be submitted; `wait` waits for it a little and returns whether it is done."""
    _wait.append(wait)
    _kept.append(kept)
    awaited.update(buffers)


def finish() -> None:
    """Wait for the job, if there is one, and let go what was kept for it. An interrupt ends the waiting, not the job."""
    if _wait:
        with lock:
            if _wait:
                while not _wait[0]():
                    pass
                awaited.clear()
                _wait.clear()
                _kept.clear()


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
    awaited.clear()
    _wait.clear()
    _kept.clear()
