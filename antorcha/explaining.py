"""`explain`: what was recorded, how it was cut into kernels and why, their loop programs, native code and times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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

    def report(self, code: bool = False) -> str:
        """The text that `explain` prints; with `code`, the native code too."""
        if not self.runs:
            return "Nothing was computed: every value was in memory already."
        shown: dict[str, str] = {}
        parts = []
        for number, run in enumerate(self.runs.values(), 1):
            parts += _describe(f"{number}", run, code, shown)
        total = sum(sum(run.times) for run in self.runs.values())
        kernels = sum(len(run.times) for run in self.runs.values())
        parts.append(f"{len(self.runs)} recordings, {kernels} kernels ({len(shown)} distinct loop programs), "
                     f"{total / 1e6:.3f} ms in kernels")
        return "\n".join(parts)


def _describe(number: str, run: Run, code: bool, shown: dict[str, str]) -> list[str]:
    times = "once" if run.count == 1 else f"{run.count} times"
    lines = [f"=== recording {number}, run {times}", "", run.graph, ""]
    for k, (kernel, total) in enumerate(zip(run.plan.kernels(), run.times), 1):
        label = f"{number}.{k}"
        operators = ", ".join(f"%{index} {name}" + (" (stored)" if stored else "") for index, name, _, _, stored in kernel["nodes"])
        lines.append(f"--- kernel {label}: {kernel['kind']}, {kernel['tiles']} tiles, {total / run.count / 1e3:.1f} us: {operators}")
        lines.append(f"    cut here: {kernel['reason'] or 'it begins the recording, or shares no loop with an earlier kernel'}")
        program = kernel["program"]
        if program is None:
            continue
        text = program.text()
        if text in shown:
            lines.append(f"    the loop program of kernel {shown[text]}")
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
        tape.flush()
    print(recorder.report(code))
