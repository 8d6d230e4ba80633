"""A lock that an interrupt does not leave locked."""

from __future__ import annotations

from _thread import RLock
from collections.abc import Callable


class Lock(RLock):
    """A re-entrant lock, for `with`.

    From Python 3.14 on KeyboardInterrupt may be raised when `with` has taken a lock and before the block begins that would release it;
    nobody gets it any more then, and the next thread waits for ever. Here that moment lies within `__enter__`, which gives the lock back.
    What releases it must stay one step, as it is in the class in C: a method in Python may be interrupted before it does anything.
    """

    def __enter__(self, blocking: bool = True, timeout: float = -1) -> bool:
        try:
            return self.acquire(blocking, timeout)
        except BaseException:
            if self._is_owned():
                self.release()
            raise

    def held(self) -> bool:
        """Whether this thread has it."""
        return self._is_owned()

    def attempt(self, action: Callable[[], None], timeout: float = 0.0) -> bool:
        """Do `action` with the lock, if that is free within so many seconds; whether it was. For a thread that does not hold it."""
        try:
            taken = self.acquire(timeout=timeout)
            if taken:
                action()
            return taken
        finally:
            try:
                self.release()
            except RuntimeError:
                pass        # it was not free, or there was an interrupt before it was taken
