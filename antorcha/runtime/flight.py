"""What the pool computes in the background, and waiting for it.

Kernel calls may be left to the pool's own thread (`pool.launch`). Until they have finished, memory that they read or write must be neither
handed out again nor looked at. References to buffers decide whose memory may be taken over, so none are held here: what of theirs is let
go meanwhile is put `aside` and given back when the job is done. `awaited` are the addresses whose contents are not there yet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from ..base.locks import Lock
from .memory import allocator


class Job:
    """`wait()` waits for it a little and returns whether it is done; `owner` holds its arguments; it uses memory at `addresses`."""

    __slots__ = ("wait", "owner", "addresses", "used")

    def __init__(self, wait: Callable[[], bool], owner, addresses: list[int]):
        self.wait, self.owner, self.addresses = wait, owner, addresses
        self.used: frozenset | None = None      # the addresses, once somebody asks


awaited: set[int] = set()   # one set for good
jobs: list[Job] = []        # one at most
aside: list = []            # of buffers that are gone: (address, size class), or whatever keeps the memory
lock = Lock()


def begin(wait: Callable[[], bool], owner, addresses: list[int], missing: Iterable[int]) -> None:
    """A `Job` is about to be submitted; the addresses `missing` have no contents yet."""
    jobs.append(Job(wait, owner, addresses))
    awaited.update(missing)


def finish() -> None:
    """Wait for the job, if there is one, and let go what was kept for it. An interrupt ends the waiting, not the job."""
    if jobs:
        with lock:
            if jobs:
                while not jobs[0].wait():
                    pass
                _clear()


def _clear() -> None:
    awaited.clear()
    jobs.clear()
    while aside:
        kept = aside.pop()
        if type(kept) is tuple:
            allocator.give(*kept)


def uses(address: int, jobs=jobs) -> bool:
    """Whether the job reads or writes this memory."""
    for job in jobs:
        if job.used is None:
            job.used = frozenset(job.addresses)
        return address in job.used
    return False


def leave() -> None:
    """The process is about to end. What an interrupt ends is not waited for: its memory is kept until the system takes everything."""
    if getattr(sys, "last_type", None) is not KeyboardInterrupt:
        finish()
    elif jobs:
        import ctypes

        for kept in (jobs, aside):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


def forget() -> None:
    """In a process that has been forked: its parent has waited already."""
    global lock
    lock = Lock()
    _clear()
