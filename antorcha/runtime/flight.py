"""What the pool computes in the background, and waiting for it.

Kernel calls may be left to the pool's own thread (`pool.submit`). Until they have finished, memory that they read or write must be
neither given back nor looked at: `kept` holds what they need, `awaited` the buffers whose contents are not there yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

awaited: set = set()        # buffers; one set for good
_kept: list = []
_wait: list[Callable[[], None]] = []
lock = threading.RLock()


def begin(wait: Callable[[], None], kept, buffers) -> None:
    """A job has been submitted; `wait` returns when it is done."""
    _wait.append(wait)
    _kept.append(kept)
    awaited.update(buffers)


def finish() -> None:
    """Wait for the job, if there is one, and let go what was kept for it."""
    if _wait:
        with lock:
            if _wait:
                _wait[0]()
                awaited.clear()
                _wait.clear()
                _kept.clear()


def forget() -> None:
    """In a process that has been forked: its parent has waited already."""
    global lock
    lock = threading.RLock()
    awaited.clear()
    _wait.clear()
    _kept.clear()
