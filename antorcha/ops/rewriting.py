"""What was recorded, written out as a Python function that records it again.

A function of tensors leaves nodes, tensors around them and their derivatives (`GradNode`). `Text` writes one line for each of these,
with nothing left to decide: forms, layouts and numbers are constants, and what is not made anew is read from the arguments. Recordings
that differ in constants alone have the same text, which is compiled once.
"""

from __future__ import annotations

import functools
from types import FunctionType

from ..base import dtype as dt
from ..base.errors import user_position
from ..base.grad_mode import mode
from ..graph import tape
from ..graph.block import FEWEST, Block, BlockForm
from ..graph.node import Node, View
from . import derivative
from .bounds import require
from .derivative import place_of
from .layout import Meta, core

_FIXED = frozenset((type(None), bool, int, float, str, dt.dtype, View, Meta, slice))


class Untold(Exception):
    """What was recorded depends on something that the arguments do not tell."""


@functools.cache
def _space() -> dict:
    """The globals of all functions written here."""
    return {"new": object.__new__, "Node": Node, "Block": Block, "Storage": core.Storage, "Tensor": core.Tensor, "pending": tape.nodes,
            "state": tape.state, "core": core, "count": derivative.names["count"], "hooked": derivative.names["hooked"],
            "view_of": core.view_of, "user_position": user_position, "require": require, "tuple_of": tuple.__new__}


@functools.cache
def _compiled(source: str):
    from ..runtime.functions import code_of

    return next(c for c in code_of(source, __file__).co_consts if hasattr(c, "co_code"))


def _is_fixed(x) -> bool:
    return type(x) in _FIXED or isinstance(x, (tuple, list)) and all(map(_is_fixed, x))


def _copied(x):
    """`x` with lists of its own, which nobody else changes."""
    if type(x) is list:
        return [_copied(y) for y in x]
    return tuple([_copied(y) for y in x]) if type(x) is tuple and any([type(y) in (list, tuple) for y in x]) else x


class Text:
    """The lines of a function of `tensors` and `nodes`, their values and perhaps more; `numbers`: what the numbers among the inputs of
    nodes are called, by their id, where they are no constants. `first`: derivatives with a lower `seq` were there before."""

    def __init__(self, tensors, nodes, edges=(), first: int = 0, numbers: dict | None = None):
        self.lines: list[str] = []
        self.constants: list = []
        self.names: dict[int, str] = {}         # id of a constant -> its name
        self.sure: dict[Node, str] = {}         # indices -> the name of whether they are known to be within their dimension
        self.numbers, self.first = numbers or {}, first
        self.arguments = [(t, t.storage, t._meta, n) for t, n in zip(tensors, nodes)]
        self.parameters = [*[f"t{k}" for k in range(len(tensors))], *[f"n{k}" for k in range(len(nodes))]]
        every = list(reversed(list(enumerate(tensors))))
        self.values = {nodes[k]: f"n{k}" for k in reversed(range(len(nodes)))}
        self.storages = {id(t.storage): (f"t{k}.storage", True) for k, t in every}
        self.tensors = {id(t): f"t{k}" for k, t in every}
        self.inputs = {edges[k]: k for k, _ in every if edges and edges[k] is not None}     # place -> the tensor it belongs to
        self.at = {id(t.storage): f"t{k}" for k, t in every}
        self.derivatives: dict = {}
        self.edges: set = set()
        self.made: list = []        # objects whose ids are used
        self.recorded: list[Node] = []      # what is recorded again, once all is noted
        self.outside: dict[Node, str] = {}
        self.begin = 0
        self.asked: set[Node] = set()       # whose values are used

    def constant(self, x) -> str:
        if x is None or x is True or x is False or x == () and type(x) is tuple:
            return repr(x)
        name = self.names.get(id(x))
        if name is None:
            name = self.names[id(x)] = f"c{len(self.constants)}"
            self.constants.append(x)
        return name

    def require(self, required: list) -> None:
        """Ask again for what was required of the arguments: (value, range)."""
        for node, wanted in required:
            if node in self.values:
                sure = self.sure[node] = f"i{len(self.sure)}"
                self.lines.append(f"{sure} = require({self.values[node]}, {self.constant(wanted)})")

    # -- values -------------------------------------------------------------------------------------------------

    def draw(self, drawn: list) -> None:
        """Draw random numbers as they were: (arguments of `below_leaf` of the default generator, the leaf)."""
        for k, (arguments, node) in enumerate(drawn):
            self.values[node] = f"d{k}"
            self.lines.append(f"d{k} = core.default_generator.below_leaf(*{self.constant(arguments)})")

    def record(self, recorded: list) -> None:
        """Record nodes; which and how is known when all is noted that uses them (`_entries`)."""
        self.values.update({n: f"x{k}" for k, n in enumerate(recorded)})
        self.recorded, self.begin = recorded, len(self.lines)

    def _entries(self) -> list[str]:
        """The lines that add to what is pending: nodes, or a block, of which only those are made that are used. What nothing was made of
        is left out, and with it what other threads recorded meanwhile."""
        own, needed = set(self.recorded), set(self.asked)
        for n in reversed(self.recorded):
            if n in needed:
                needed.update([s for s in n.inputs if type(s) is Node])
        recorded = self.recorded = [n for n in self.recorded if n in needed or type(n) is Node and n.form.op.family == "output"
                                    and n.inputs[0] in needed]      # all that one node gives stay together
        self.outside = {s: self.value(s) for n in recorded for s in n.inputs if type(s) is Node and s not in own}
        lines = []
        late = [n for n in recorded if n.where is not None]     # they may fail when they are computed
        if late:
            indices = [s for n in late for s in n.inputs[len(n.inputs) - len(n.static.picks):] or (None,)]
            sure = [self.sure[s] for s in dict.fromkeys(indices)] if self.sure.keys() >= set(indices) else []
            lines.append(f"where = None if {' and '.join(sure)} else user_position()" if sure else "where = user_position()")
        seen = [n for n in recorded if n in self.asked]
        if self.outside and len(recorded) - len(seen) >= FEWEST:
            form = BlockForm(recorded, list(self.outside), seen)
            names = [self.values[n] for n in seen]
            lines += [self._node(n) for n in seen]
            numbers = [s for n in recorded for s in n.inputs if type(s) is not Node]
            varying = any([id(s) in self.numbers for s in numbers])
            told = f"({''.join([self._read(s) + ', ' for s in numbers])})" if varying else self.constant(tuple(numbers))
            lines += ["b = Block(); b.inputs = " + "".join([f"{name}.inputs = " for name in names])
                      + f"({''.join([r + ', ' for r in self.outside.values()])}); b.numbers = {told}",
                      f"b.form = {self.constant(form)}; b.made = ({''.join([name + ', ' for name in names])})",
                      f"b.where = {'where' if late else None}; pending.append(b); state.hidden += {form.hidden}"]
        elif recorded:
            for n in recorded:
                lines.append(f"{self._node(n)}; {self.values[n]}.inputs = ({''.join([self._read(s) + ', ' for s in n.inputs])})")
            made = ", ".join([self.values[n] for n in recorded])
            lines.append(f"pending.extend(({made}))" if len(recorded) > 1 else f"pending.append({made})")
        return lines

    def _node(self, n: Node) -> str:
        name = self.values[n]
        where = f"{name}.where = None" if n.where is None else f"None; {name}.where = where"
        return f"{name} = Node(); {name}.form = {self.constant(n.form)}; {name}.buffer = {where}"

    def _read(self, source) -> str:
        if type(source) is Node:
            return self.values[source]
        return self.numbers.get(id(source)) or self.constant(source)

    def value(self, node) -> str:
        if node not in self.values:
            raise Untold
        self.asked.add(node)
        return self.values[node]

    def written(self, versions: list[int]) -> None:
        """Give the arguments that were written to their new values; `versions`: what they had before."""
        done: dict = {}
        for k, ((t, s, m, node), version) in enumerate(zip(self.arguments, versions)):
            if t.storage is not s or t._meta is not m:
                raise Untold
            if s.version == version and (s.shared or s.node is node) or s in done:
                continue
            if t._rg and mode.grad or type(s) is not core.Storage:
                raise Untold
            done[s] = name = f"w{k}"
            self.lines.append(f"{name} = t{k}.storage; {name}.version += {s.version - version}")
        if done:
            new = [(name, self.value(s.node)) for s, name in done.items()]
            self.lines += ["if state.kept is None: " + "; ".join([f"{name}.node = {x}" for name, x in new]),
                           "else: " + "; ".join([f"{name}.write({x})" for name, x in new])]

    # -- tensors ------------------------------------------------------------------------------------------------

    def storage(self, s) -> tuple[str, bool]:
        """(its name, whether it was there before)."""
        found = self.storages.get(id(s))
        if found is None:
            if type(s) is not core.Storage:
                raise Untold
            name = f"s{len(self.made)}"
            self.lines.append(f"{name} = Storage(); {name}.node = {self.value(s.node)}; {name}.version = {s.version}")
            found = self.storages[id(s)] = name, False
            self.made.append(s)
        return found

    def tensor(self, t, outside: bool = False) -> str:
        """The name of a tensor, made first if it is none of the arguments; `outside`: it is seen by the caller, so if it is a view, it
        has to be known as one."""
        found = self.tensors.get(id(t))
        if found is not None:
            return found
        if type(t) is not core.Tensor or t._untracked or t._rg and t._grad_fn is None:
            raise Untold
        if outside and t._base is not None:
            base = self.at.get(id(t.storage)) or self.tensor(t._base, True)
            name = f"r{len(self.made)}"
            self.lines.append(f"{name} = view_of({base}, {self.constant(t._meta)})")
        else:
            storage, _ = self.storage(t.storage)
            name = f"r{len(self.made)}"
            self.lines.append(f"{name} = new(Tensor); {name}.storage = {storage}; {name}._meta = {self.constant(t._meta)}")
            if not t._rg:
                self.lines.append(f"{name}._rg = False; {name}._grad_fn = None; {name}._nr = 0")
        self.tensors[id(t)] = name
        self.made.append(t)
        if t._rg:
            if t._grad_fn not in self.derivatives:
                raise Untold
            self.lines.append(f"{name}._rg = True; {name}._grad_fn = {self.derivatives[t._grad_fn]}; {name}._nr = {t._nr}")
        return name

    # -- derivatives --------------------------------------------------------------------------------------------

    def differentiate(self, results: list) -> None:
        """Make the derivatives that the results lead to."""
        found: set = set()
        stack = [(t._grad_fn, t._nr) for r in results for t in (r, r._base) if t is not None and t._rg and id(t) not in self.tensors]
        roots = {node for node, nr in stack if (node, nr) not in self.inputs}
        while stack:
            place = stack.pop()
            node = place[0]
            if place in self.inputs or node in found:
                continue
            if not isinstance(node, core.GradNode) or node.record is None:
                raise Untold
            if node.seq < self.first or node.extras is not None or type(node.versions) is not tuple:
                raise Untold
            found.add(node)
            stack.extend([place_of(e) for e in node.edges if e is not None])
            stack.extend([(t._grad_fn, t._nr) for v in node.kept for t in (v if type(v) in (tuple, list) else (v,))
                          if isinstance(t, core.Tensor) and t._rg and id(t) not in self.tensors])
        if len(found) > 1 and len(roots) == 1 and self._folded(*roots, results):
            found = roots
        for k, node in enumerate(sorted(found, key=lambda n: n.seq)):
            self._derivative(f"g{k}", node)

    def _folded(self, root, results: list) -> bool:
        """Let one node stand for all that it leads to; False where that cannot be."""
        tensors = [t for t, *_ in self.arguments]
        try:
            core.Folded(root, self.inputs, tensors, self.first, {id(t.storage) for t in (*tensors, *results)})
        except Untold:
            return False
        return True

    def _derivative(self, name: str, node) -> None:
        edges = "".join([("None" if e is None else self._edge(place_of(e))) + ", " for e in node.edges])
        kept, versions = [], []
        for i, v in enumerate(node.kept):
            kept.append(self._kept(v) + ", ")
            version = node.versions[i] if node.versions else None
            versions.append(self._version(v, version) + ", ")
        self.lines.append(
            f"{name} = {self.constant(type(node))}(); {name}.seq = count(); {name}.edges = ({edges}); {name}.extras = None; "
            f"{name}.outputs = {self.constant(node.outputs)}; {name}.derivative = {self.constant(node.derivative)}; "
            f"{name}.kept = ({''.join(kept)}); {name}.versions = ({''.join(versions) if node.versions else ''})")
        self.derivatives[node] = name

    def _edge(self, place: tuple) -> str:
        k = self.inputs.get(place)
        if k is None:
            if place[0] not in self.derivatives:
                raise Untold
            node = self.derivatives[place[0]]
            return f"({node}, {place[1]})" if place[1] else node
        if k not in self.edges:
            self.edges.add(k)
            self.lines += derivative.edge_lines(f"e{k}", f"t{k}")
        return f"e{k}"

    def _kept(self, v) -> str:
        if isinstance(v, core.Tensor):
            return self.tensor(v)
        if isinstance(v, core.Storage):
            return self.storage(v)[0]
        if type(v) is Node:
            return self.value(v)
        if _is_fixed(v):
            return self.constant(_copied(v))
        if type(v) is not tuple:
            raise Untold
        return f"({''.join([self._kept(x) + ', ' for x in v])})"

    def _version(self, v, version: int | None) -> str:
        """The versions, added up, of storages that are kept."""
        if version is None:
            return "None"
        storages = [x.storage if isinstance(x, core.Tensor) else x for x in (v if type(v) is tuple else (v,))]
        if version != sum([s.version for s in storages]):
            raise Untold
        return " + ".join([f"{name}.version" if before else str(s.version) for s in storages for name, before in [self.storage(s)]])

    # -- the whole ----------------------------------------------------------------------------------------------

    def function(self, result: str, *more: str) -> FunctionType:
        """A function of the tensors, their nodes, and more, that gives `result`."""
        self.lines[self.begin:self.begin] = self._entries()
        lines = [f"def again({', '.join([*self.parameters, *more, 'constants'])}):"]
        if self.constants:
            lines.append(f"{''.join(f'c{k}, ' for k in range(len(self.constants)))} = constants")
        source = "\n    ".join([*lines, *self.lines, f"return {result}"])
        return FunctionType(_compiled(source), _space(), "again", (tuple(self.constants),))
