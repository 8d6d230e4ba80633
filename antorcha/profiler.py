"""torch.profiler: times of the kernels, through the engine's own measurement (`antorcha.explain`)."""

from __future__ import annotations

import contextlib
import enum
import json
import time
from collections import defaultdict


class ProfilerActivity(enum.Enum):
    """What is measured."""
    CPU = 0
    XPU = 1
    CUDA = 2
    MTIA = 3
    HPU = 4
    PrivateUse1 = 5


class ProfilerAction(enum.Enum):
    """What a step of a schedule does."""
    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def schedule(*, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0):
    """For each step number an action: `wait` steps nothing, `warmup`, then `active` recorded, again and again (`repeat` times)."""
    def action(step: int) -> ProfilerAction:
        step -= skip_first
        cycle = wait + warmup + active
        if step < 0 or repeat and step // cycle >= repeat:
            return ProfilerAction.NONE
        place = step % cycle
        if place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD_AND_SAVE if place == cycle - 1 else ProfilerAction.RECORD
    return action


class _Event:
    """One name's total."""

    def __init__(self, key: str):
        self.key = self.name = key
        self.count, self.cpu_time_total = 0, 0.0        # microseconds

    @property
    def self_cpu_time_total(self) -> float:
        return self.cpu_time_total

    @property
    def cpu_time(self) -> float:
        return self.cpu_time_total / max(1, self.count)


class EventList(list):
    """Totals by name; prints as a table."""

    def table(self, sort_by=None, row_limit: int = 100, **ignored) -> str:
        """The rows, the longest first."""
        rows = sorted(self, key=lambda e: -e.cpu_time_total)[:row_limit if row_limit > 0 else None]
        width = max([len(e.key) for e in rows], default=4)
        lines = [f"{'Name':{width}}  {'CPU total':>12}  {'CPU time avg':>12}  {'# of Calls':>10}"]
        lines += [f"{e.key:{width}}  {e.cpu_time_total:10.1f}us  {e.cpu_time:10.1f}us  {e.count:10d}" for e in rows]
        total = sum(e.cpu_time_total for e in self if e.key == "antorcha::compute")
        return "\n".join([*lines, f"Self CPU time total: {total / 1e3:.3f}ms"])

    def __str__(self) -> str:
        return self.table()


class profile:
    """A context that measures how long computing what was recorded takes, and each `record_function` within."""

    def __init__(self, *, activities=None, schedule=None, on_trace_ready=None, record_shapes=False, profile_memory=False, with_stack=False,
                 with_flops=False, with_modules=False, experimental_config=None, execution_trace_observer=None, acc_events=False,
                 use_cuda=None, custom_trace_id_callback=None):
        self.schedule, self.on_trace_ready, self.step_num = schedule, on_trace_ready, 0
        self.spans: list = []       # (name, begin, end) in seconds

    def start(self) -> None:
        """Begin to measure."""
        from .graph import tape

        tape.flush()
        _running.append(self)
        tape.watchers.append(self._computed)

    def _computed(self, begin: float, end: float) -> None:
        self.spans.append(("antorcha::compute", begin, end))

    def stop(self) -> None:
        """Compute what is pending and end."""
        from .graph import tape

        tape.flush()
        tape.watchers.remove(self._computed)
        _running.remove(self)
        if self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()

    def step(self) -> None:
        """The next step of the schedule begins."""
        self.step_num += 1

    def key_averages(self, group_by_input_shape=False, group_by_stack_n=0, **ignored) -> EventList:
        """Totals by name."""
        found: dict = defaultdict(lambda: None)
        for name, begin, end in self.spans:
            event = found[name] = found[name] or _Event(name)
            event.count += 1
            event.cpu_time_total += (end - begin) * 1e6
        return EventList(found.values())

    def events(self) -> EventList:
        """As `key_averages`."""
        return self.key_averages()

    def export_chrome_trace(self, path: str) -> None:
        """Write the spans in the format of chrome://tracing."""
        events = [{"name": n, "ph": "X", "ts": b * 1e6, "dur": (e - b) * 1e6, "pid": 0, "tid": 0} for n, b, e in self.spans]
        with open(path, "w") as f:
            json.dump({"traceEvents": events}, f)


_running: list = []


class record_function(contextlib.ContextDecorator):
    """A context whose duration a running profile keeps under `name`."""

    def __init__(self, name: str, args=None):
        self.name = name

    def __enter__(self):
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *error):
        for p in _running:
            p.spans.append((self.name, self._begin, time.perf_counter()))
        return False


def tensorboard_trace_handler(dir_name: str, worker_name=None, use_gzip: bool = False):
    """For `on_trace_ready`: write a trace into the folder."""
    import os

    def handle(p):
        os.makedirs(dir_name, exist_ok=True)
        p.export_chrome_trace(os.path.join(dir_name, f"{worker_name or 'antorcha'}.{time.time_ns()}.pt.trace.json"))
    return handle


def kineto_available() -> bool:
    """False: profiles are taken by the engine itself."""
    return False
