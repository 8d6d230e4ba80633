"""torch.profiler: times of the kernels, through the engine's own measurement (`antorcha.explain`)."""

from __future__ import annotations

import contextlib
import enum
import json
import time

from .explaining import Observer
from .unavailable import unavailable_class


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


class DeviceType(enum.Enum):
    """Where an event took place."""
    CPU = 0
    CUDA = 1


class FunctionEvent:
    """One span: its name, begin and duration in microseconds, and what kind it is: "kernel", "compute" (a whole recording) or "user"."""

    def __init__(self, name: str, begin: float, end: float, kind: str):
        self.key = self.name = name
        self.kind, self.count, self.device_type = kind, 1, DeviceType.CPU
        self.start_us, self.cpu_time_total = begin * 1e6, (end - begin) * 1e6

    @property
    def self_cpu_time_total(self) -> float:
        """Kernels lie within recordings, recordings within the program's own spans: kernels and the rest of recordings add up."""
        return self.cpu_time_total

    @property
    def cpu_time(self) -> float:
        """Microseconds of one occurrence."""
        return self.cpu_time_total / max(1, self.count)

    def __repr__(self) -> str:
        return f"<FunctionEvent {self.name}: {self.cpu_time_total:.1f}us, {self.count} calls>"


class EventList(list):
    """Events, or their totals by name; prints as a table."""

    def table(self, sort_by=None, row_limit: int = 100, **ignored) -> str:
        """The rows, the longest first; those called most often with sort_by="count"."""
        rows = sorted(self, key=lambda e: -(e.count if sort_by == "count" else e.cpu_time_total))[:row_limit if row_limit > 0 else None]
        width = max([len(e.key) for e in rows], default=4)
        lines = [f"{'Name':{width}}  {'CPU total':>12}  {'CPU time avg':>12}  {'# of Calls':>10}"]
        lines += [f"{e.key:{width}}  {e.cpu_time_total:10.1f}us  {e.cpu_time:10.1f}us  {e.count:10d}" for e in rows]
        return "\n".join([*lines, f"Self CPU time total: {self.self_cpu_time_total / 1e3:.3f}ms"])

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds in which recordings were computed."""
        return sum(e.cpu_time_total for e in self if e.kind == "compute")

    def key_averages(self, group_by_input_shapes=False, group_by_stack_n=0, **ignored) -> EventList:
        """Totals by name."""
        found: dict[str, FunctionEvent] = {}
        for e in self:
            if e.name not in found:
                found[e.name] = FunctionEvent(e.name, e.start_us / 1e6, (e.start_us + e.cpu_time_total) / 1e6, e.kind)
                continue
            total = found[e.name]
            total.count += e.count
            total.cpu_time_total += e.cpu_time_total
        return EventList(found.values())

    def total_average(self) -> FunctionEvent:
        """All as one."""
        total = FunctionEvent("Total", 0.0, 0.0, "compute")
        total.count = sum(e.count for e in self)
        total.cpu_time_total = sum(e.cpu_time_total for e in self)
        return total

    def export_chrome_trace(self, path: str, metadata: dict | None = None) -> None:
        """Write the spans in the format of chrome://tracing."""
        events = [{"name": e.name, "cat": e.kind, "ph": "X", "ts": e.start_us, "dur": e.cpu_time_total, "pid": 0, "tid": TRACKS[e.kind]}
                  for e in self]
        with open(path, "w") as f:
            json.dump({"traceEvents": events, **(metadata or {})}, f)

    def __str__(self) -> str:
        return self.table()


TRACKS = {"user": 0, "compute": 1, "kernel": 2}
NO_STACKS = "{}: stacks are not kept: kernels are made of operators of many lines. torch.explain shows what they are made of."


class _Kernels(Observer):
    """Times each kernel of what is computed."""

    def __init__(self, spans: list):
        self.spans = spans

    def _observe(self, nodes: list, timed: bool = True, device: str = "cpu", wanted=None, beside: bool = False) -> None:
        begin = time.perf_counter()
        self._flush(nodes, True, device)
        for kernel in self._execution.last().kernels():
            end = begin + (kernel["time"] or 0) / 1e9
            names = [node[1] for node in kernel["nodes"]]
            self.spans.append(("kernel: " + ", ".join(names), begin, end, "kernel"))
            begin = end


class profile:
    """A context that measures each kernel ("kernel: " and the operators that it was fused from), each recording that is computed
    ("antorcha::compute") and each `record_function` within.

    schedule: which steps are measured, as told by `step` (all, if not given). on_trace_ready: called with the profile where a part of the
    schedule ends. with_stack, record_shapes, profile_memory and with_flops are accepted and change nothing.
    """

    def __init__(self, *, activities=None, schedule=None, on_trace_ready=None, record_shapes=False, profile_memory=False, with_stack=False,
                 with_flops=False, with_modules=False, experimental_config=None, execution_trace_observer=None, acc_events=False,
                 use_cuda=None, custom_trace_id_callback=None):
        self.schedule, self.on_trace_ready, self.step_num = schedule, on_trace_ready, 0
        self.spans: list = []       # (name, begin, end, kind) in seconds
        self.metadata: dict = {}
        self.custom_trace_id_callback, self._trace_id = custom_trace_id_callback, ""
        self._kernels: _Kernels | None = None
        self._action = ProfilerAction.NONE

    # -- measuring ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        from .graph import tape

        if self._kernels is None:
            self.spans = []
            self._trace_id = (self.custom_trace_id_callback or _random_id)()
            self._kernels = _Kernels(self.spans)
            self._kernels.__enter__()
            tape.watchers.append(self._computed)
            _running.append(self)

    def _end(self) -> None:
        from .graph import tape

        if self._kernels is not None:
            kernels, self._kernels = self._kernels, None
            kernels.__exit__(None)
            tape.watchers.remove(self._computed)
            _running.remove(self)

    def _computed(self, begin: float, end: float) -> None:
        self.spans.append(("antorcha::compute", begin, end, "compute"))

    def _enter(self, action: ProfilerAction) -> None:
        """Go over to what a step of the schedule does."""
        if self._action is ProfilerAction.RECORD_AND_SAVE:
            self._save()
        self._action = action
        if action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE):
            self._begin()
        else:
            self._end()

    def _save(self) -> None:
        self._end()
        if self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def start(self) -> None:
        """Begin with the first step."""
        self._began = time.perf_counter()
        self._enter(ProfilerAction.RECORD if self.schedule is None else self.schedule(0))

    prepare_trace = start_trace = start

    def step(self) -> None:
        """The next step of the schedule begins."""
        now = time.perf_counter()
        self.spans.append((f"ProfilerStep#{self.step_num}", self._began, now, "user"))
        self._began = now
        self.step_num += 1
        self._enter(ProfilerAction.RECORD if self.schedule is None else self.schedule(self.step_num))

    def stop(self) -> None:
        """Compute what is pending and end."""
        if self._kernels is not None:
            self._save()
        self._action = ProfilerAction.NONE

    stop_trace = stop

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()

    def toggle_collection_dynamic(self, enable: bool, activities=None) -> None:
        """Stop measuring for a while, or go on."""
        if enable and self._kernels is None:
            before = self.spans
            self._begin()
            self.spans[:0] = before
        elif not enable:
            self._end()

    # -- results ------------------------------------------------------------------------------------------------

    def events(self) -> EventList:
        """All spans."""
        return EventList(FunctionEvent(*span) for span in self.spans)

    function_events = property(events)

    def key_averages(self, group_by_input_shape=False, group_by_stack_n=0, **ignored) -> EventList:
        """Totals by name."""
        return self.events().key_averages()

    def total_average(self) -> FunctionEvent:
        """All as one."""
        return self.events().total_average()

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds in which recordings were computed."""
        return self.events().self_cpu_time_total

    def table(self, sort_by=None, row_limit: int = 100, **ignored) -> str:
        """The totals as text."""
        return self.key_averages().table(sort_by, row_limit)

    def export_chrome_trace(self, path: str) -> None:
        """Write the spans in the format of chrome://tracing."""
        self.events().export_chrome_trace(path, self.metadata)

    def export_stacks(self, path: str, metric: str = "self_cpu_time_total") -> None:
        """Missing: see the error."""
        raise NotImplementedError(NO_STACKS.format("export_stacks"))

    def export_memory_timeline(self, path: str, device: str | None = None) -> None:
        """Missing: the memory of a plan is laid out before it runs, so there is no timeline of allocations."""
        raise NotImplementedError("export_memory_timeline: the memory of a recording is laid out at once, before it is computed; there is "
                                  "no timeline of allocations. torch.explain shows the recording.")

    def add_metadata(self, key: str, value: str) -> None:
        """Write `value` into the trace."""
        self.metadata[key] = value

    def add_metadata_json(self, key: str, value: str) -> None:
        """Write a value given as JSON into the trace."""
        self.metadata[key] = json.loads(value)

    preset_metadata_json = add_metadata_json

    def get_trace_id(self) -> str:
        """The identifier of the trace."""
        return self._trace_id

    def set_custom_trace_id_callback(self, callback) -> None:
        """Have `callback()` give the identifiers of traces that begin from now on."""
        self.custom_trace_id_callback = callback

    def create_trace_id(self) -> str:
        """A new identifier."""
        return (self.custom_trace_id_callback or _random_id)()

    @property
    def default_trace_id(self) -> str:
        """An identifier drawn at random."""
        return _random_id()

    def config(self, create_trace_id: bool = False) -> dict:
        """What is measured, as a dict."""
        return {"trace_id": self.create_trace_id() if create_trace_id else self._trace_id, "activities": supported_activities()}


def _random_id() -> str:
    import uuid

    return uuid.uuid4().hex.upper()


def supported_activities() -> set[ProfilerActivity]:
    """What can be measured: the kernels of all devices, from the side of the CPU."""
    return {ProfilerActivity.CPU}


ExecutionTraceObserver = unavailable_class("torch.profiler.ExecutionTraceObserver",
                                           "recordings are shown by torch.explain, which also tells how they were computed.")


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
            p.spans.append((self.name, self._begin, time.perf_counter(), "user"))
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
