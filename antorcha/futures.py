"""torch.futures: values that are told later."""

from __future__ import annotations

import threading

from .base.locks import Lock


class Future:
    """A value or an exception that another thread may set, once."""

    def __init__(self, *, devices=None):
        self._done = threading.Event()
        self._lock = Lock()
        self._value, self._error = None, None
        self._callbacks: list = []

    def __class_getitem__(cls, item):
        return cls

    def done(self) -> bool:
        """Whether there is a value or an exception."""
        return self._done.is_set()

    def wait(self):
        """The value, once it is there; an exception that was set is raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def value(self):
        """The value; RuntimeError where there is none yet."""
        if not self.done():
            raise RuntimeError("Future.value: the future is not completed. Call wait() first.")
        return self.wait()

    def then(self, callback) -> Future:
        """A Future of callback(self), which is called when this one is done."""
        after: Future = Future()

        def run(future):
            try:
                after.set_result(callback(future))
            except Exception as error:
                after.set_exception(error)
        self.add_done_callback(run)
        return after

    def add_done_callback(self, callback) -> None:
        """Call callback(self) when this one is done; at once if it is."""
        with self._lock:
            if not self.done():
                self._callbacks.append(callback)
                return
        callback(self)

    def set_result(self, result) -> None:
        """Set the value."""
        self._finish(result, None)

    def set_exception(self, result: BaseException) -> None:
        """Set an exception, which `wait` raises."""
        if not isinstance(result, BaseException):
            raise AssertionError(f"{result} is of type {type(result)}, not an Exception.")
        self._finish(None, result)

    def _finish(self, value, error) -> None:
        with self._lock:
            if self.done():
                raise RuntimeError("Future can only be marked completed once; its result is set already")
            self._value, self._error = value, error
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


def collect_all(futures: list[Future]) -> Future:
    """A Future of the list of these, done when all of them are."""
    together: Future = Future()
    left = [len(futures)]
    lock = Lock()

    def count(_):
        with lock:
            left[0] -= 1
            last = left[0] == 0
        if last:
            together.set_result(futures)
    if not futures:
        together.set_result(futures)
    for future in futures:
        future.add_done_callback(count)
    return together


def wait_all(futures: list[Future]) -> list:
    """The values of all, once they are there."""
    return [future.wait() for future in collect_all(futures).wait()]
