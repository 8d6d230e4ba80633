"""What was measured, and how times are told."""

from __future__ import annotations

import contextlib
import math
import statistics
from dataclasses import dataclass, field
from typing import Any

UNITS = (("ns", 1e-9, "nanosecond"), ("us", 1e-6, "microsecond"), ("ms", 1e-3, "millisecond"), ("s", 1.0, "second"))
ENOUGH = 4              # measurements from which quartiles say something
DIGITS_AT_MOST = 4
WIDE = 0.1              # a spread of the middle half, as a part of the median, that is worth a word
VERY_WIDE = 0.25


@dataclass(frozen=True)
class TaskSpec:
    """What is measured: a statement, what goes before it, and how it is called in tables."""

    stmt: str
    setup: str
    global_setup: str = ""
    label: str | None = None
    sub_label: str | None = None
    description: str | None = None
    env: str | None = None
    num_threads: int = 1

    @property
    def title(self) -> str:
        """The label, or the statement."""
        words = self.label if self.label is not None else self.stmt.replace("\n", "; ")
        return words + (f": {self.sub_label}" if self.sub_label else "")


@dataclass
class Measurement:
    """The times of several runs of a statement, `number_per_run` times each; all that is told is a time of one, in seconds."""

    number_per_run: int
    raw_times: list[float]
    task_spec: TaskSpec
    metadata: dict[Any, Any] | None = None
    times: list[float] = field(init=False)

    def __post_init__(self):
        self.times = sorted(t / self.number_per_run for t in self.raw_times)

    mean = property(lambda self: statistics.fmean(self.times))
    median = property(lambda self: statistics.median(self.times))
    title = property(lambda self: self.task_spec.title)
    stmt = property(lambda self: self.task_spec.stmt)
    setup = property(lambda self: self.task_spec.setup)
    label = property(lambda self: self.task_spec.label)
    sub_label = property(lambda self: self.task_spec.sub_label)
    description = property(lambda self: self.task_spec.description)
    num_threads = property(lambda self: self.task_spec.num_threads)
    env = property(lambda self: self.task_spec.env or "Unspecified env")
    as_row_name = property(lambda self: self.sub_label or self.stmt or "[Unknown]")
    has_warnings = property(lambda self: bool(self._warning()))
    meets_confidence = property(lambda self: not self._warning())

    def _quartiles(self) -> tuple[float, float]:
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return low, high

    @property
    def iqr(self) -> float:
        """The width of the middle half of the times."""
        if len(self.times) < 2:
            return 0.0
        low, high = self._quartiles()
        return high - low

    @property
    def significant_figures(self) -> int:
        """How many digits the spread of the times leaves."""
        if len(self.times) < ENOUGH or not self.iqr:
            return DIGITS_AT_MOST
        error = 1.58 * self.iqr / math.sqrt(len(self.times))        # of the median: McGill, Tukey and Larsen, 1978
        return max(1, min(DIGITS_AT_MOST, 1 + int(math.floor(math.log10(self.median)) - math.floor(math.log10(error)))))

    def _warning(self) -> str:
        if len(self.times) < ENOUGH or self.median <= 0:
            return ""
        spread = self.iqr / self.median
        if spread < WIDE:
            return ""
        return f"WARNING: the middle half of the times spans {spread:.1%} of the median" + (
            "; this is not a sound measurement." if spread > VERY_WIDE else ".")

    @staticmethod
    def merge(measurements) -> list[Measurement]:
        """Measurements of the same task as one."""
        groups: dict[TaskSpec, list[Measurement]] = {}
        for m in measurements:
            groups.setdefault(m.task_spec, []).append(m)
        merged = []
        for spec, group in groups.items():
            one = group[0].number_per_run if len({m.number_per_run for m in group}) == 1 else None
            times = [t for m in group for t in (m.raw_times if one else m.times)]
            merged.append(Measurement(one or 1, times, spec))
        return merged

    def __repr__(self) -> str:
        unit, scale = select_unit(self.median)
        figure = lambda t: f"{trim_sigfig(t / scale, self.significant_figures):.{DIGITS_AT_MOST}g} {unit}"
        lines = [f"<{type(self).__module__}.Measurement object at {id(self):#x}>", self.title]
        lines += [self.description] if self.description and self.description != self.label else []
        lines += [f"setup: {self.setup}"] if self.setup and self.setup != "pass" else []
        count = len(self.times)
        lines.append(f"  {'Median: ' if count > 1 else ''}{figure(self.median)}")
        if count >= ENOUGH:
            low, high = self._quartiles()
            lines.append(f"  IQR:    {figure(self.iqr)} ({figure(low)} to {figure(high)})")
        plural = lambda n, word: f"{n} {word}{'s' if n != 1 else ''}"
        lines.append(f"  {plural(count, 'measurement')}, {plural(self.number_per_run, 'run')} "
                     f"{'per measurement' if count > 1 else ''}, {plural(self.num_threads, 'thread')}")
        return "\n".join(lines + ([self._warning()] if self._warning() else []))


def select_unit(t: float) -> tuple[str, float]:
    """The name and size of the unit in which a time of `t` seconds reads well."""
    name, size, _ = next((u for u in reversed(UNITS) if t >= u[1]), UNITS[0])
    return name, size


def unit_to_english(u: str) -> str:
    """"microsecond" for "us"."""
    return next(word for name, _, word in UNITS if name == u)


def trim_sigfig(x: float, n: int) -> float:
    """`x` rounded to `n` digits."""
    return float(f"{x:.{n}g}")


def ordered_unique(elements) -> list:
    """Each element once, in the order of the first occurrences."""
    return list(dict.fromkeys(elements))


@contextlib.contextmanager
def set_torch_threads(n: int):
    """Inside, `n` threads compute."""
    from ... import get_num_threads, set_num_threads

    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)
