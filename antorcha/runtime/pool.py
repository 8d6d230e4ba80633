"""The thread pool: runs a list of kernel calls, each split over native threads.

The pool's own loops are LLVM IR (`pool_ir.py`), compiled through `jit` as kernels are. A whole plan is one native call
without the interpreter lock:

    steps: int64 [n, 4], one row per kernel call: function, arguments, tiles, grain

A step's tiles are cut into chunks of `grain`, shared out among the caller and the workers; who is ready first takes over
chunks of the others. The next step begins when all chunks are done. A step of one chunk runs on the caller at once. Workers
that find nothing to do look out for `SPIN_NS`, then sleep.

`launch` leaves the last calls to the last worker, which stands for the caller; there is one such job at a time, and whoever
needs the pool waits for it (`flight`), taking part.

Ctrl-C is looked for while a launch runs on the main thread (`pool_ir`): `safe` tells up to which step it may be given up.

A thread's scratch memory keeps what a kernel writes there from one chunk of a step to its next: the first word is zero before the first.

No result may depend on which thread computes a chunk. Workers know nothing of Python: signals stay with the main thread,
and a process may end, or fork (the child starts its own workers when it needs them), whenever no call runs.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys

import numpy as np

from ..base.locks import Lock
from . import cpu, flight, jit
from .memory import allocator, map_pages, size_class
from .pool_ir import (
    CONDITION,
    MAX_THREADS,
    MUTEX,
    RECORD_SIZE,
    RECORDS,
    SCRATCH,
    SHUTDOWN,
    SPIN,
    STATE_SIZE,
    THREADS,
    make_ir,
)

SPIN_NS = 200_000           # longer than Python takes between two kernel calls of a small step: waking a thread costs tens of microseconds
PATIENCE_NS = 20_000_000    # how long to wait for a job before Python may handle a signal

_RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
_LAUNCH = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Pool:
    """`threads - 1` workers and the memory they share with the caller."""

    def __init__(self, threads: int, scratch_bytes: int = 0):
        self.threads = min(threads, MAX_THREADS)
        self.scratch_bytes = 0
        self._scratch: list[tuple[int, int]] = []
        text = make_ir()
        code = jit.load_module(text, lambda: text)
        self.run, self.launch = _RUN(code["run"]), _LAUNCH(code["launch"])
        self.state = map_pages(STATE_SIZE)  # for the life of the process: a worker may look at it last of all
        self._put(THREADS, self.threads)
        self._put(SPIN, SPIN_NS)
        self._workers: list[int] = []
        self._code = code
        self.reserve_scratch(scratch_bytes)
        if self.threads > 1:
            self._start(code["worker"])
            self._finish = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)(code["finish"])

    def _put(self, offset: int, value: int) -> None:
        ctypes.c_int64.from_address(self.state + offset).value = value

    def _start(self, entry: int) -> None:
        """Start the workers, with all signals but those of a fault of their own blocked."""
        self._libc = libc = ctypes.CDLL(None)
        for name, offset in (("pthread_mutex_init", MUTEX), ("pthread_cond_init", CONDITION)):
            getattr(libc, name)(ctypes.c_void_p(self.state + offset), None)
        libc.pthread_create.argtypes = [ctypes.c_void_p] * 4
        for i in range(1, self.threads):
            thread = self._create(entry, i)
            if thread is None:
                self._put(THREADS, i)  # the system allows no more threads: work with those there are
                self.threads = i
                break
            self._workers.append(thread)

    def _create(self, entry: int, number: int) -> int | None:
        """A thread that runs `entry`; None where the system allows no more."""
        record = self.state + RECORDS + number * RECORD_SIZE
        ctypes.c_int64.from_address(record).value = self.state
        ctypes.c_int64.from_address(record + 8).value = number
        thread = ctypes.c_uint64()
        faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
        outer = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
        try:
            return None if self._libc.pthread_create(ctypes.addressof(thread), None, entry, record) else thread.value
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, outer)

    def finish(self) -> bool:
        """Help with the job for a while. Returns whether there is none any more."""
        return bool(self._finish(self.state, PATIENCE_NS))

    def reserve_scratch(self, nbytes: int) -> None:
        """Give every thread at least `nbytes` of scratch memory. Not while a call runs."""
        if nbytes <= self.scratch_bytes:
            return
        self._release_scratch()
        self.scratch_bytes = 0          # until there is more: an error or an interrupt may come between
        capacity = size_class(nbytes)
        for i in range(self.threads):
            address = allocator.take(capacity)
            self._scratch.append((address, capacity))
            self._put(SCRATCH + 8 * i, address)
        self.scratch_bytes = capacity

    def _release_scratch(self) -> None:
        for address, capacity in self._scratch:
            allocator.give(address, capacity)
        self._scratch.clear()

    def close(self) -> None:
        """End the workers and wait for them."""
        if self._workers:
            lock = ctypes.c_void_p(self.state + MUTEX)
            self._libc.pthread_mutex_lock(lock)
            self._put(SHUTDOWN, 1)
            self._libc.pthread_cond_broadcast(ctypes.c_void_p(self.state + CONDITION))
            self._libc.pthread_mutex_unlock(lock)
            for thread in self._workers:
                self._libc.pthread_join(ctypes.c_uint64(thread), None)
            self._workers.clear()
        self._release_scratch()


# -- the pool of this process -----------------------------------------------------------------------------------

# Re-entrant: a signal handler or finaliser may compute something just before or after the native call.
_lock = Lock()
_pool: Pool | None = None
_threads: int | None = None
_scratch_bytes = 0


def _start() -> Pool:
    global _pool
    if _pool is None:
        _pool = Pool(get_num_threads(), _scratch_bytes)
    return _pool


def run(steps: np.ndarray, count: int | None = None) -> None:
    """Run the rows of `steps` (int64 [n, 4], contiguous: function, arguments, tiles, grain) in order; the first `count` of
    them if given. Returns when all are done."""
    with _lock:
        flight.finish()
        pool = _pool or _start()
        pool.run(pool.state, steps.__array_interface__["data"][0], len(steps) if count is None else count, None)


def record(steps: np.ndarray, checked: int, status: np.ndarray) -> np.ndarray:
    """What `launch` goes by: rows of `steps`, of which those from number `checked` on may only begin if all of `status` is zero. Its word
    PROGRESS tells how many are done, from which a launch goes on: Python may raise an interrupt after a native call as well as before
    it."""
    return np.array([steps.ctypes.data, len(steps), checked, status.ctypes.data, len(status), 0], np.int64)


def launch(address: int, now: int, safe: int, job: tuple | None) -> None:
    """Run the steps of the record at an address up to the one of number `now`, and leave the rest to the background, if there is any: `job`
    says what it needs (`flight.begin`). An interrupt ends it early: within a step before number `safe`, which is then to be done anew, or
    after a later one; not if `safe` is -1."""
    with _lock:
        flight.finish()
        pool = _pool or _start()
        if job is None or pool.threads < 2:
            pool.launch(pool.state, address, now, safe)
            return
        with flight.lock:       # nobody looks whether there is a job while it is half there
            flight.begin(pool.finish, *job)     # first: an interrupt may come between
            pool.launch(pool.state, address, now, safe)


def run_timed(steps: np.ndarray) -> np.ndarray:
    """As `run`; returns each step's wall time in nanoseconds (int64 [n])."""
    times = np.zeros(len(steps), np.int64)
    with _lock:
        flight.finish()
        pool = _pool or _start()
        pool.run(pool.state, steps.ctypes.data, len(steps), times.ctypes.data)
    return times


def get_num_threads() -> int:
    """Threads that compute, the caller's included."""
    global _threads
    if _threads is None:
        _threads = 1 if sys.platform == "win32" else cpu.default_threads()
    return _threads


def set_num_threads(threads: int) -> None:
    """Compute with this many threads from the next call on.

    Raises RuntimeError if `threads` is not positive.
    """
    global _pool, _threads
    if threads < 1:
        raise RuntimeError(f"set_num_threads: expected a positive number of threads; received {threads}.")
    with _lock:
        flight.finish()
        if threads != get_num_threads():
            _threads = 1 if sys.platform == "win32" else threads
            if _pool is not None:
                _pool.close()
                _pool = None


def reserve_scratch(nbytes: int) -> None:
    """Make sure that every thread has `nbytes` of scratch memory (aligned to 64 bytes, contents undefined)."""
    global _scratch_bytes
    if nbytes > _scratch_bytes:
        with _lock:
            flight.finish()
            wanted, _scratch_bytes = max(_scratch_bytes, nbytes), 0     # should this fail, there is none
            if _pool is not None:
                _pool.reserve_scratch(wanted)
            _scratch_bytes = wanted


def _after_fork() -> None:
    """In the child: the workers are not there, and another thread of the parent may have held the lock."""
    global _lock, _pool
    _lock, _pool = Lock(), None
    flight.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=flight.finish, after_in_child=_after_fork)
atexit.register(flight.leave)
