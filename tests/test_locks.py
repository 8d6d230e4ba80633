"""Locks that an interrupt does not leave locked."""

import signal
import sys
import threading
import time

import pytest

from antorcha.base.locks import Lock


class Interrupt(BaseException):
    pass


def free(lock: Lock) -> bool:
    """Whether another thread can have it."""
    got = []
    thread = threading.Thread(target=lambda: got.append(lock.attempt(lambda: None)))
    thread.start()
    thread.join()
    return got[0]


def interrupted_after(calls: int, function) -> bool:
    """Call `function` with an interrupt behind that many functions in C; whether there were as many."""
    left = calls

    def event(frame, kind, argument):
        nonlocal left
        if kind == "c_return":
            left -= 1
            if left == 0:
                sys.setprofile(None)
                raise Interrupt

    sys.setprofile(event)
    try:
        function()
    except Interrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def within(lock: Lock) -> None:
    with lock:
        with lock:
            pass


@pytest.mark.parametrize("use", [within, lambda lock: lock.attempt(lambda: None), lambda lock: lock.attempt(lambda: within(lock), 0.1)],
                         ids=["with", "attempt", "attempt and with"])
def test_an_interrupt_behind_any_step_leaves_a_lock_free(use):
    lock, calls = Lock(), 1
    while interrupted_after(calls, lambda: use(lock)):
        assert not lock.held(), f"held after an interrupt behind step {calls}"
        assert free(lock)
        calls += 1
    assert calls > 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers")
def test_signals_leave_a_lock_free():
    lock = Lock()

    def alarm(*_):
        raise Interrupt

    before, stop = signal.signal(signal.SIGALRM, alarm), time.monotonic() + 1
    try:
        while time.monotonic() < stop:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                while True:
                    within(lock)
            except Interrupt:
                pass
            assert not lock.held()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_lock_that_another_thread_holds():
    lock, taken, done = Lock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(20)
    ran = []
    assert not lock.attempt(lambda: ran.append(1)) and not lock.attempt(lambda: ran.append(2), 0.01) and not lock.held()
    done.set()
    assert lock.attempt(lambda: ran.append(3), 20) and ran == [3]
    thread.join()


def test_what_an_attempt_raises_leaves_the_lock_free():
    lock = Lock()
    with pytest.raises(ZeroDivisionError):
        lock.attempt(lambda: 1 / 0)
    assert not lock.held()
    with lock:
        assert lock.held()
    assert not lock.held()
