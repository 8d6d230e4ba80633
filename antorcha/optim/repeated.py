"""Steps of an optimiser, recorded again.

A rule is written for one parameter in tensor operators, half a dozen of them, and a model has hundreds of parameters. So what a rule
records is noted once (`ops.recall` does so for operators): the nodes, the tensors it writes to, and how the numbers among their inputs
follow from the count of steps and the learning rate (`Symbol`). For parameters of the same layout, and in the steps to come, just
that is recorded. What else the rule depends on, the options of the group and the layouts, is the key; a rule that looks at
values, or changes the state in another way, is called as ever.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType

from ..base import config
from ..base.grad_mode import mode
from ..base.symbol import Symbol
from ..graph import tape
from ..graph.block import taker
from ..graph.node import Node
from ..ops.derivative import written
from ..ops.recall import MOST, Memory, Onlooker, spelling, spelling_space
from ..ops.rewriting import Text, Untold

_options: dict = {}     # names in a group -> what takes the options from it
_known: dict = {}       # a rule and the options of a group -> Steps
CHANGING = {"params", "param_names", "lr", "initial_lr"}      # of a group; the rest says by its value what a rule does


class Formulas(Onlooker):
    """Notes what is computed from the count of steps and the learning rate."""

    def __init__(self):
        super().__init__()
        self.formulas: list[str] = []
        self.demands: list[tuple[int, str]] = []        # (after how many formulas, what must be true)
        self.counted = 0

    def demand(self, text: str) -> None:
        self.demands.append((len(self.formulas), text))

    def step(self, state: dict) -> float:
        self.counted += 1
        value = Symbol(state["step"] + 1.0, "step + 1.0", self)
        state["step"] = float.__pos__(value)
        return value

    def function(self, names: list[str]) -> FunctionType:
        """(step, lr) -> the numbers of these names; None where the rule would have gone another way."""
        lines, at = ["def compute(step, lr):"], 0
        for count, text in [*self.demands, (len(self.formulas), None)]:
            lines += self.formulas[at:count]
            at = count
            if text is not None:
                lines.append(f"if not ({text}): return None")
        return written("\n    ".join([*lines, f"return [{', '.join(names)}]"]), {})


class Step:
    """What a rule records for one parameter: `record(*tensors, *nodes, numbers)`, with `compute(step, lr)` for the numbers."""

    __slots__ = ("record", "compute", "counts", "last", "numbers")

    def __init__(self, record, compute, counts: bool):
        self.record, self.compute, self.counts = record, compute, counts
        self.last = self.numbers = None

    def count(self, state: dict, lr: float) -> list | None:
        """Count a step of a parameter: its numbers, or None where they lead another way."""
        at = (state["step"] if self.counts else 0.0, lr)
        if self.last != at:     # the same for all parameters of a group
            self.last, self.numbers = at, self.compute(*at)
        if self.counts and self.numbers is not None:
            state["step"] = at[0] + 1.0
        return self.numbers


class Steps(dict):
    """What is known of a rule with certain options: the types of a parameter, of its gradient and of what is in its state, and the names
    there -> a function (optimizer, parameter, gradient, state, group) that makes a step, by recording again what is known wherever it
    is."""

    def __init__(self):
        super().__init__()
        self.memory = Memory()

    def __missing__(self, kind: tuple) -> FunctionType:
        size = len(kind) // 2 - 1
        tensor = kind[1]
        names = [name for name, x in zip(kind[2 + size:], kind[2:]) if x is tensor]
        spelled = spelling((*kind[:2], *[tensor] * len(names)))
        text = _plain if spelled is None else _stepping(names, *spelled)
        space = {"recording": tape.state, "found": self.memory.found.setdefault(kind, {}), "look": partial(self._look, kind)}
        self[kind] = found = written(text, spelling_space() | space)
        return found

    def _look(self, kind: tuple, optimizer, p, g, state: dict, group: dict, key: tuple, tensors, nodes) -> None:
        """A step that is not known."""
        if type(state.get("step", 0.0)) is float and self.memory.due(kind, key):
            self.memory.keep(kind, key, *_observed(optimizer, p, g, state, group, tensors, nodes))
        else:
            optimizer.rule(p, g, state, group)


_plain = "def step(optimizer, p, g, state, group): optimizer.rule(p, g, state, group)\n"


def _stepping(names: list[str], lines: list[str], tensors: str, nodes: str) -> str:
    """The text of a step of a parameter, `a0`, along its gradient, `a1`, with the tensors of some names in its state (see `spelling`)."""
    lines = [*[f"a{k} = state[{name!r}]" for k, name in enumerate(names, 2)],
             *lines,
             "if recording.urgent: return optimizer.rule(a0, a1, state, group)",    # memory shared with NumPy: computed at once
             "known = found.get(key)",
             f"if known is None: return look(optimizer, a0, a1, state, group, key, ({tensors}), ({nodes}))",
             "numbers = known.count(state, group['lr'])",
             "if numbers is None: return optimizer.rule(a0, a1, state, group)",
             f"known.record({tensors}, {nodes}, numbers)"]
    return "def step(optimizer, a0, a1, state, group):\n    " + "\n    ".join(lines) + "\n"


def known_steps(optimizer, group: dict) -> Steps | None:
    """What is known of the rule with the options of a group of parameters; None where steps are not to be recorded again."""
    rule = type(optimizer).rule
    if type(group.get("lr")) is not float or rule.__module__.rpartition(".")[0] != __package__ or mode.grad or mode.autocast is not None \
            or config.eager or tape.state.urgent or tape.state.watch is not None:
        return None
    names = tuple(group)
    take = _options.get(names)
    if take is None:
        take = _options[names] = taker([name for name in names if name not in CHANGING])
    options = take(group)
    key = (rule, names, tuple(map(type, options)), options)
    try:
        found = _known.get(key)
    except TypeError:       # an option that is a tensor, or a list
        return None
    if found is None:
        if len(_known) > MOST:
            _known.clear()
        found = _known[key] = Steps()
    return found if found.memory.worth else None


def _observed(optimizer, p, g, state: dict, group: dict, tensors, nodes) -> tuple[Step | None, int]:
    """Make a step of a parameter, and tell what the rule did if that is all that it did, and how many nodes that are."""
    before, known, versions = len(tape.nodes), dict(state), [t.storage.version for t in tensors]
    watch = tape.state.watch = Formulas()
    try:
        optimizer.rule(p, g, state, {**group, "lr": Symbol(group["lr"], "lr", watch)})
    finally:
        tape.state.watch = None
    for name, v in state.items():
        if type(v) is Symbol:
            state[name] = float.__pos__(v)
    if watch.refused or watch.drawn or watch.counted > 1 or state.keys() != known.keys() \
            or any(state[name] is not v for name, v in known.items() if name != "step" or not watch.counted):
        return None, 0
    with tape.computing:        # a node that another thread computes is no longer what was recorded
        recorded: list[Node] = tape.nodes[before:]
        symbols = {id(x): x for n in recorded for x in n.inputs if type(x) is Symbol}
        text = Text(tensors, nodes, numbers={k: f"m{i}" for i, k in enumerate(symbols)})
        if symbols:
            text.lines.append(f"{''.join(m + ', ' for m in text.numbers.values())} = numbers")
        try:
            text.record(recorded)
            text.written(versions)
            again = text.function("None", "numbers")
        except Untold:
            return None, 0
        return Step(again, watch.function([x.name for x in symbols.values()]), bool(watch.counted)), len(text.recorded)
