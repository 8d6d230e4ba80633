"""Steps of an optimiser, recorded again.

A rule is written for one parameter in tensor operators, half a dozen of them, and a model has hundreds of parameters. So what a rule
records for one or several is noted once (`ops.recall` does so for operators): the nodes, the tensors it writes to, and how the numbers
among their inputs follow from the count of steps and the learning rate (`Symbol`). For parameters and gradients of the same layouts, a
function that was written for these compares what else there is to know and records just that, as one entry. What the rule depends on
besides, the options of the group, is the key; a rule that looks at values, or changes the state in another way, is called as ever.
"""

from __future__ import annotations

import re
from types import FunctionType

from ..base import config
from ..base import dtype as dt
from ..base.grad_mode import mode
from ..base.symbol import Symbol
from ..graph import tape
from ..graph.block import taker
from ..graph.node import Node
from ..ops.derivative import written
from ..ops.layout import core
from ..ops.recall import MOST, VAIN, Memory, Onlooker
from ..ops.rewriting import Text, Untold

_options: dict = {}     # names in a group -> what takes the options from it
_known: dict = {}       # a rule and the options of a group -> Steps
CHANGING = {"params", "param_names", "lr", "initial_lr"}      # of a group; the rest says by its value what a rule does
TOGETHER = 16           # parameters whose steps are recorded as one


class Formulas(Onlooker):
    """Notes what is computed from the count of steps and the learning rate."""

    def __init__(self):
        super().__init__()
        self.formulas: list[str] = []
        self.demands: list[tuple[int, str]] = []        # (after how many formulas, what must be true)
        self.counted = 0
        self.first: dict[str, str] = {}                 # name -> that of the first number that is the same

    def demand(self, text: str) -> None:
        self.demands.append((len(self.formulas), text))

    def step(self, state: dict) -> float:
        self.counted += 1
        value = Symbol(state["step"] + 1.0, "step + 1.0", self)
        state["step"] = float.__pos__(value)
        return value

    def told(self) -> str:
        """The formulas and demands as lines, each once."""
        lines, at, first, known = ["def compute(step, lr):"], 0, self.first, {}
        for count, text in [*self.demands, (len(self.formulas), None)]:
            for line in self.formulas[at:count]:
                name, formula = self._renamed(line).split(" = ", 1)
                first[name] = known.setdefault(formula, name)
                lines += [f"{name} = {formula}"] if first[name] == name else []
            at = count
            if text is not None and (line := f"if not ({self._renamed(text)}): return None") not in lines:
                lines.append(line)
        return "\n    ".join(lines)

    def _renamed(self, text: str) -> str:
        return re.sub(r"\bv\d+\b", lambda m: self.first.get(m[0], m[0]), text)


class Numbers:
    """(step, lr) -> the numbers of a rule; None where it would have gone another way."""

    __slots__ = ("compute", "last", "found")

    def __init__(self, compute: FunctionType):
        self.compute, self.last, self.found = compute, None, None

    def __call__(self, step: float, lr: float) -> list | None:
        if self.last != (step, lr):     # the same for all parameters of a group
            self.last, self.found = (step, lr), self.compute(step, lr)
        return self.found


class Steps:
    """What is known of a rule with certain options: functions (parameters, states, learning rate) that make a step of so many parameters
    and tell whether they did, by the layouts of these and of their gradients."""

    def __init__(self):
        self.memory = Memory()
        self.numbers: dict[str, Numbers] = {}
        self.vain: dict[tuple, int] = {}        # how often what is known was of no use

    def make(self, optimizer, parameters: list, group: dict) -> None:
        """A step of parameters whose gradients are not sparse."""
        for k in range(0, len(parameters), TOGETHER):
            self._several(optimizer, parameters[k:k + TOGETHER], group)

    def _several(self, optimizer, parameters: list, group: dict) -> None:
        count, memory = len(parameters), self.memory
        key = tuple([x._meta for p in parameters for x in (p, p._grad)])
        again = memory.found.setdefault(count, {}).get(key)
        if again is not None:
            if again(parameters, optimizer.state, group["lr"]):
                return
            self.vain[key] = self.vain.get(key, 0) + 1
        found = memory.worth and self.vain.get(key, 0) < VAIN and _Found.of(optimizer.state, parameters)
        if found and memory.due(count, key):
            memory.keep(count, key, *self._observed(optimizer, found, group))
        elif count > 1:
            for p in parameters:
                self._several(optimizer, [p], group)
        else:
            optimizer.each(parameters, group)

    def _observed(self, optimizer, found: _Found, group: dict) -> tuple[FunctionType | None, int]:
        """Make a step of some parameters, and tell what the rule did if that is all that it did, and how many nodes that are."""
        before, versions = len(tape.nodes), [t.storage.version for t in found.tensors]
        watch = tape.state.watch = Formulas()
        try:
            optimizer.each(found.parameters, {**group, "lr": Symbol(group["lr"], "lr", watch)})
        finally:
            tape.state.watch = None
        states = [optimizer.state.get(p, {}) for p in found.parameters]
        for state in states:
            state.update({name: float.__pos__(v) for name, v in state.items() if type(v) is Symbol})
        counts = watch.counted > 0
        if watch.refused or watch.drawn or not all([_unchanged(*pair, counts) for pair in zip(found.states, states)]):
            return None, 0
        with tape.computing:        # a node that another thread computes is no longer what was recorded
            recorded: list[Node] = tape.nodes[before:]
            formulas = watch.told()
            names = {id(x): watch.first[x.name] for n in recorded for x in n.inputs if type(x) is Symbol}
            different = list(dict.fromkeys(names.values()))
            formulas += f"\n    return [{', '.join(different)}]"
            numbers = self.numbers.setdefault(formulas, Numbers(written(formulas, {})))
            try:
                text = _Text(found, {k: f"m{different.index(name)}" for k, name in names.items()}, counts, numbers)
                text.record(recorded)
                text.written(versions)
                return text.function("True"), len(text.recorded)
            except Untold:
                return None, 0


def _unchanged(before: dict, after: dict, counts: bool) -> bool:
    """Whether a rule did nothing to a state but count the step."""
    return before.keys() == after.keys() and all([after[name] == v + 1.0 if counts and name == "step" else after[name] is v
                                                  for name, v in before.items()])


class _Found:
    """Parameters, their states, and all tensors of these: each parameter, its gradient and what is in its state."""

    def __init__(self, states: dict, parameters: list):
        self.parameters, self.states = parameters, [dict(states.get(p, ())) for p in parameters]
        self.tensors = [t for p, state in zip(parameters, self.states)
                        for t in (p, p._grad, *[v for v in state.values() if isinstance(v, core.Tensor)])]
        self.nodes = [t.storage.node for t in self.tensors]

    @classmethod
    def of(cls, states: dict, parameters: list) -> _Found | None:
        """None where the tensors are not of different values on one device, or the steps not of one number."""
        found = cls(states, parameters)
        steps = {(type(s), s) for s in [state["step"] for state in found.states if "step" in state]}
        alike = len(steps) < 2 and all([kind is float for kind, _ in steps]) and len({t._meta.device for t in found.tensors}) == 1
        return found if alike and len({*found.nodes}) == len(found.nodes) and not tape.state.urgent else None


class _Text(Text):
    """Writes a function (parameters, states, lr) that records again, where all is as it was, what a rule recorded."""

    def __init__(self, found: _Found, names: dict, counts: bool, numbers: Numbers):
        super().__init__(found.tensors, found.nodes, numbers=names)
        self.parameters = ["parameters", "states", "lr"]
        self.same: list[str] = []
        heads, fetched, tensors = "", [], iter(range(len(found.tensors)))
        for i, state in enumerate(found.states):
            p, g = next(tensors), next(tensors)
            heads += f"t{p}, "
            fetched.append(f"a{i} = states.get(t{p}); t{g} = t{p}._grad")
            self.same.append(f"len(a{i}) == {len(state)}" if state else f"not a{i}")
            for name, v in state.items():
                if isinstance(v, core.Tensor):
                    fetched.append(f"t{next(tensors)} = a{i}[{name!r}]")
                elif name == "step" and counts:
                    fetched.append(f"u{i} = a{i}['step']")
                    self.same += [f"type(u{i}) is float", *[f"u{i} == u0"][:i]]
                elif type(v) in (bool, int, float, str, type(None)):
                    self.same += [f"type(a{i}[{name!r}]) is {self.constant(type(v))}", f"a{i}[{name!r}] == {v!r}"]
                else:
                    raise Untold
        for k, (t, n) in enumerate(zip(found.tensors, found.nodes)):
            fetched.append(f"z{k} = t{k}.storage; n{k} = z{k}.node")
            self.same += [f"t{k}._meta is {self.constant(t._meta)}", f"type(t{k}) is {self.constant(type(t))}",
                          f"n{k}.form.numel == {n.form.numel}"]
        written = [f"z{k}, " for k, (_, s, _, node) in enumerate(self.arguments) if s.node is not node]
        read = [f"z{k}, " for k in range(len(self.arguments)) if f"z{k}, " not in written]
        if written:     # and nothing else is
            cells = f"{{{''.join(written)}}}"
            self.same += [f"len({cells}) == {len(written)}", f"{cells}.isdisjoint(({''.join(read)}))"]
        self.lines = [f"{heads} = parameters", "try:", *["    " + line for line in fetched],
                      "except (KeyError, TypeError, AttributeError): return False",
                      f"if not ({' and '.join(self.same)}) or state.urgent: return False",
                      f"numbers = {self.constant(numbers)}({'u0' if counts else '0.0'}, lr)",
                      "if numbers is None: return False"]
        if names:
            self.lines.append(f"{''.join([m + ', ' for m in dict.fromkeys(names.values())])} = numbers")
        if counts:
            steps = "".join([f"a{i}['step'] = " for i in range(len(found.parameters))])
            self.lines.append(f"{steps}u0 + 1.0")


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
    key = (rule, names, dt._default, core.default_device, tuple(map(type, options)), options)
    try:
        found = _known.get(key)
    except TypeError:       # an option that is a tensor, or a list
        return None
    if found is None:
        if len(_known) > MOST:
            _known.clear()
        found = _known[key] = Steps()
    return found if found.memory.worth else None
