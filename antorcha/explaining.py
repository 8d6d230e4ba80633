"""`explain`: what was recorded, how it was cut into kernels and why, their loop programs, native code and times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SLOWEST = 10    # kernels that the summary lists
NAMED = 6       # operators of a kernel that it names


@dataclass
class Run:
    """A plan, the graph it was made from, and how often and how long it ran."""

    graph: str
    plan: Any
    count: int = 0
    times: list[float] = field(default_factory=list)  # of each kernel, in nanoseconds, over all runs


class Observer:
    """A context within which `_observe` gets what is computed in place of `graph.flush.flush`, and hands it on to that (`self._flush`)."""

    def __enter__(self):
        from .graph import flush as execution
        from .graph import tape

        tape.flush()  # what was recorded before is not ours to observe
        self._execution, self._flush = execution, execution.flush
        execution.flush = self._observe
        return self

    def __exit__(self, *error: object) -> None:
        from .graph import tape

        try:
            if error[0] is None:
                tape.flush()
        finally:
            self._execution.flush = self._flush


class Recorder(Observer):
    """Between `with Recorder() as recorder:` and its end, everything computed is timed kernel by kernel."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}

    def _observe(self, nodes: list, timed: bool = True, device: str = "cpu", wanted=None, beside: bool = False) -> None:
        from .graph.block import unfold
        from .graph.node import format_graph

        unfold(nodes)
        graph = format_graph(nodes)
        self._flush(nodes, True, device)
        plan = self._execution.last()
        run = self.runs.setdefault(id(plan), Run(graph, plan))  # the run keeps the plan alive, and so its id
        kernels = plan.kernels()
        run.times = [a + (k["time"] or 0) for a, k in zip(run.times or [0.0] * len(kernels), kernels)]
        run.count += 1

    def kernels(self) -> list[dict]:
        """What was computed, kernel by kernel, as plans describe it; once, however often it ran."""
        return [kernel for run in self.runs.values() for kernel in run.plan.kernels()]

    def report(self, code: bool = False) -> str:
        """The text that `explain` prints; with `code`, the native code too."""
        if not self.runs:
            return "Nothing was computed: every value was in memory already."
        shown: dict[str, str] = {}
        parts = []
        for number, run in enumerate(self.runs.values(), 1):
            parts += _describe(f"{number}", run, code, shown)
        return "\n".join([*parts, *self._summary(len(shown))])

    def _summary(self, programs: int) -> list[str]:
        """Where the time went, and of what there was how much."""
        found = [(time, f"{number}.{k}", kernel, run.count) for number, run in enumerate(self.runs.values(), 1)
                 for k, (kernel, time) in enumerate(zip(run.plan.kernels(), run.times), 1)]
        total = sum([time for time, *_ in found])
        slowest = sorted(found, key=lambda entry: -entry[0])[:SLOWEST]
        lines = [f"=== the slowest of {_counted(len(found), 'kernel')}", ""]
        for time, label, kernel, times in slowest:
            names = [name for _, name, *_ in kernel["nodes"] if name != "output"]
            operators = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
            lines.append(f"{label:>8} {time / 1e6:10.3f} ms {100 * time / max(total, 1):4.0f} %  {kernel['kind']}: {operators}"
                         + (f", run {times} times" if times > 1 else ""))
        return [*lines, "", f"{_counted(len(self.runs), 'recording')}, {_counted(len(found), 'kernel')} "
                            f"({_counted(programs, 'distinct loop program')}), {total / 1e6:.3f} ms in kernels"]


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _describe(number: str, run: Run, code: bool, shown: dict[str, str]) -> list[str]:
    times = "once" if run.count == 1 else f"{run.count} times"
    lines = [f"=== recording {number}, run {times}", "", run.graph, ""]
    for k, (kernel, total) in enumerate(zip(run.plan.kernels(), run.times), 1):
        label = f"{number}.{k}"
        operators = ", ".join(f"%{index} {name}" + (" (stored)" if stored else "") for index, name, _, _, stored in kernel["nodes"])
        lines.append(f"--- kernel {label}: {kernel['kind']}, {_counted(kernel['tiles'], 'tile')}, {total / run.count / 1e3:.1f} us: "
                     f"{operators}")
        lines.append(f"    cut here: {kernel['reason'] or 'it begins the recording, or shares no loop with an earlier kernel'}")
        program = kernel["program"]
        if program is None:
            continue
        text = program.text()
        if text in shown:
            lines += [f"    the loop program of kernel {shown[text]}", ""]
        else:
            shown[text] = label
            lines += ["", *("    " + line for line in text.splitlines()), ""]
            if code and kernel["kernel"] is not None:
                lines += ["    " + line for line in kernel["kernel"].assembly().splitlines()]
    return [*lines, ""]


def explain(tensor: Any, code: bool = False) -> None:
    """Compute `tensor` and print how: the recorded graph, its kernels with the reason of each cut, their loop programs and
    times; with `code=True` the native code too. A tensor that was computed before has no recording left to explain."""
    from .graph import tape

    pending = list(tape.nodes)
    tape.nodes.clear()
    recorder = Recorder()
    with recorder:
        tape.nodes[:0] = pending
        pending.clear()     # references are counted
        tape.flush()
    print(recorder.report(code))
