"""Timer: how long a statement takes, everything that it records computed."""

from __future__ import annotations

import enum
import time
import timeit
from typing import NamedTuple

from ...unavailable import unavailable_class
from .measurement import Measurement, TaskSpec, set_torch_threads

_CALLGRIND = "instructions are counted by Valgrind, which cannot follow code that is generated while it runs. Use Timer.blocked_autorange."
CallgrindStats = unavailable_class("torch.utils.benchmark.CallgrindStats", _CALLGRIND)
FunctionCounts = unavailable_class("torch.utils.benchmark.FunctionCounts", _CALLGRIND)
CopyIfCallgrind = unavailable_class("torch.utils.benchmark.CopyIfCallgrind", _CALLGRIND)


class FunctionCount(NamedTuple):
    """Instructions of a function."""

    count: int
    function: str


class Language(enum.Enum):
    """What a statement is written in. C++ cannot be compiled here."""

    PYTHON = 0
    CPP = 1


def timer() -> float:
    """The time in seconds when everything recorded so far is computed."""
    from ... import cuda
    from ...graph import tape

    tape.flush()
    if cuda.is_initialized():
        cuda.synchronize()
    return time.perf_counter()


class Timer:
    """Measures a statement, as the standard library's timeit does; a run is over when what it recorded is computed.

    stmt, setup: Python. globals: the names that they know. label, sub_label, description, env: for tables (`Compare`). num_threads: how
    many compute.
    """

    def __init__(self, stmt="pass", setup="pass", global_setup="", timer=timer, globals=None, label=None, sub_label=None,
                 description=None, env=None, num_threads=1, language=Language.PYTHON):
        if language not in (Language.PYTHON, "py", "python"):
            raise ValueError(f"Timer: expected a statement in Python; received language {language!r}")
        if global_setup:
            raise ValueError("Timer: global_setup is for C++, which cannot be compiled here; use setup")
        names = {} if globals is None else dict(globals)
        if not callable(stmt):
            import antorcha

            names.setdefault("torch", antorcha)
        self._timer = timeit.Timer(stmt, setup, timer, names)
        words = stmt if isinstance(stmt, str) else getattr(stmt, "__name__", repr(stmt))
        self._task_spec = TaskSpec(words, setup if isinstance(setup, str) else "", "", label, sub_label, description, env, num_threads)

    def _measurement(self, number: int, times: list[float]) -> Measurement:
        return Measurement(number, times, self._task_spec)

    def timeit(self, number: int = 1000000) -> Measurement:
        """Run `number` times, after a few that do not count."""
        with set_torch_threads(self._task_spec.num_threads):
            self._timer.timeit(max(number // 100, 2))
            return self._measurement(number, [self._timer.timeit(number)])

    def repeat(self, repeat: int = -1, number: int = -1) -> None:
        """Missing, as in PyTorch: use `blocked_autorange`."""
        raise NotImplementedError("See `Timer.blocked_autorange.`")

    def autorange(self, callback=None) -> None:
        """Missing, as in PyTorch: use `blocked_autorange`."""
        raise NotImplementedError("See `Timer.blocked_autorange.`")

    def _block(self, least: float) -> int:
        """How many runs last at least so long, found by running ever more."""
        number = 1
        while self._timer.timeit(number) < least and number < 1 << 30:
            number *= 10
        return number

    def _fill(self, number: int, seconds: float, enough) -> list[float]:
        times: list[float] = []
        while sum(times) < seconds and not enough(times):
            times.append(self._timer.timeit(number))
        return times

    def blocked_autorange(self, callback=None, min_run_time: float = 0.2) -> Measurement:
        """Blocks of runs, each long enough that reading the clock does not matter, for `min_run_time` seconds."""
        with set_torch_threads(self._task_spec.num_threads):
            number = self._block(min_run_time / 1000)
            times = self._fill(number, min_run_time, lambda times: False)
        if callback is not None:
            for t in times:
                callback(number, t)
        return self._measurement(number, times)

    def adaptive_autorange(self, threshold: float = 0.1, *, min_run_time: float = 0.01, max_run_time: float = 10.0, callback=None):
        """Blocks of runs until the middle half of their times spans less than `threshold` of the median, or `max_run_time` is over."""
        with set_torch_threads(self._task_spec.num_threads):
            number = self._block(min_run_time / 10)

            def steady(times: list[float]) -> bool:
                m = self._measurement(number, times) if len(times) > 3 else None
                return m is not None and sum(times) >= min_run_time and m.iqr < threshold * m.median

            times = self._fill(number, max_run_time, steady)
        if callback is not None:
            for t in times:
                callback(number, t)
        return self._measurement(number, times)

    def collect_callgrind(self, *args, **kwargs):
        """Missing: see the error."""
        raise NotImplementedError(f"Timer.collect_callgrind: {_CALLGRIND}")
