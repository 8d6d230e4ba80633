"""Steps of an optimiser, recorded again.

A rule is written for one parameter in tensor operators, half a dozen of them, and a model has hundreds of parameters. So what a rule
records is noted once (`ops.recall` does so for operators): the nodes, the tensors it writes to, and how the numbers among their inputs
follow from the count of steps and the learning rate (`Symbol`). For parameters of the same layout, and in the steps to come, just
that is recorded. What else the rule depends on, the options of the group and the layouts, is the key; a rule that looks at
values, or changes the state in another way, is called as ever.
"""

from __future__ import annotations

from types import FunctionType

from ..base import config
from ..base.grad_mode import mode
from ..base.symbol import Symbol
from ..graph import tape
from ..graph.node import Node
from ..ops.derivative import written
from ..ops.recall import MOST, Memory, Onlooker, spelling, spelling_space
from ..ops.rewriting import Text, Untold

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
    """What a rule records for one parameter: `record(tensors, nodes, numbers)`, with `compute(step, lr)` for the numbers."""

    __slots__ = ("record", "compute", "counts", "last", "numbers")

    def __init__(self, record, compute, counts: bool):
        self.record, self.compute, self.counts = record, compute, counts
        self.last = self.numbers = None

    def again(self, tensors, nodes, state: dict, lr: float) -> bool:
        """Record it; False where the numbers lead another way."""
        at = (state["step"] if self.counts else 0.0, lr)
        if self.last != at:     # the same for all parameters of a group
            self.last, self.numbers = at, self.compute(*at)
        if self.numbers is None:
            return False
        self.record(*tensors, *nodes, self.numbers)
        if self.counts:
            state["step"] = at[0] + 1.0
        return True


class Steps(Memory):
    """What is known of a rule with certain options: layouts -> a Step. `spellers`: types of the tensors, names in the state -> a function
    (tensors) -> (key, tensors, nodes)."""

    def __init__(self):
        super().__init__()
        self.spellers: dict = {}

    def speller(self, kind: tuple) -> FunctionType:
        types = tuple([x for x in kind if type(x) is not str])
        spelled = spelling(types)
        if spelled is None:
            lines = ["return None"]
        else:
            lines, tensors, nodes = spelled
            lines.append(f"return key, ({tensors}), ({nodes})")
        arguments = ", ".join([f"a{k}" for k in range(len(types))])
        self.found[kind] = {}
        found = self.spellers[kind] = written(f"def spell({arguments}):\n    " + "\n    ".join(lines), spelling_space())
        return found


def known_steps(optimizer, group: dict) -> Steps | None:
    """What is known of the rule with the options of a group of parameters; None where steps are not to be recorded again."""
    rule = type(optimizer).rule
    if type(group.get("lr")) is not float or rule.__module__.rpartition(".")[0] != __package__ or mode.grad or mode.autocast is not None \
            or config.eager or tape.state.urgent or tape.state.watch is not None:
        return None
    options = [v for name, v in group.items() if name not in CHANGING]
    key = (rule, *group, *map(type, options), *options)
    try:
        found = _known.get(key)
    except TypeError:       # an option that is a tensor, or a list
        return None
    if found is None:
        if len(_known) > MOST:
            _known.clear()
        found = _known[key] = Steps()
    return found if found.worth else None


def step(optimizer, known: Steps, p, g, state: dict, group: dict) -> None:
    """One step of a parameter. `known`: the steps known for the options of its group."""
    tensor = type(g)
    arguments = (p, g, *[v for v in state.values() if type(v) is tensor])
    kind = (*map(type, arguments), *state)
    spelled = (known.spellers.get(kind) or known.speller(kind))(*arguments)
    if spelled is not None and not tape.state.urgent:       # memory shared with NumPy: computed at once
        key, tensors, nodes = spelled
        found = known.found[kind].get(key)
        if found is not None:
            if found.again(tensors, nodes, state, group["lr"]):
                return
        elif type(state.get("step", 0.0)) is float and known.due(kind, key):
            known.keep(kind, key, *_observed(optimizer, p, g, state, group, tensors, nodes))
            return
    optimizer.rule(p, g, state, group)


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
    recorded: list[Node] = tape.nodes[before:]
    symbols = {id(x): x for n in recorded for x in n.inputs if type(x) is Symbol}
    text = Text(tensors, nodes, numbers={k: f"m{i}" for i, k in enumerate(symbols)})
    if symbols:
        text.lines.append(f"{''.join(m + ', ' for m in text.numbers.values())} = numbers")
    try:
        text.record(recorded)
        text.written(versions)
    except Untold:
        return None, 0
    return Step(text.function("None", "numbers"), watch.function([x.name for x in symbols.values()]),
                bool(watch.counted)), len(recorded)
