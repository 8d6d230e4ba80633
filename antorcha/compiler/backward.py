"""The derivative of a replayed function whose result is differentiated outside.

While a function is recorded, its derivative is recorded as always: a graph of `GradNode`s. A replay does not make these again; its
results have one node for all, `Replayed`. What the graph was is kept as a `History`, in numbers instead of tensors. When a cotangent
arrives for the first time, the graph is built from the history around stand-ins without a value and run backwards once; what that
recorded is a `Piece` (`Pass`), to be recorded again whenever cotangents of the same kind arrive. Where that is not the same
(a derivative of the derivative is wanted, a tensor that was kept has been written to, the settings are others), the graph is built
around the tensors of now and run: it does, and complains about, what it always would.
"""

from __future__ import annotations

from ..base import config
from ..base import dtype as dt
from ..base.grad_mode import mode
from ..core import autograd
from ..core.autograd import RELEASED, TWICE, GradNode, SpecialNode, place_of
from ..core.storage import Storage
from ..core.tensor import Tensor
from ..core.writing import CopySlices, Overwritten
from ..graph import tape
from ..graph.node import Node, View, leaf
from ..graph.piece import closed
from ..ops.record import Meta, core
from .code import Unprovable, version_of
from .observe import Watch
from .state import ATOMS, environment

ATTEMPTS = 4        # vain ones to record a backward pass
PASSES = 8          # kept, for cotangents of different kinds
PLAIN = {*ATOMS, View, Meta}      # what a derivative may keep besides tensors
_new = object.__new__


class Site:
    """One `GradNode` of the graph. `edges`: None, ("input", number) or (site, number of its output); `kept`: see `History._spec`;
    `counted`: the storages whose versions each kept value is compared with, None where it has none; `more`: other attributes."""

    def __init__(self, node: GradNode):
        self.cls, self.outputs, self.derivative = type(node), node.outputs, getattr(node, "derivative", None)
        self.more = [(name, getattr(node, name)) for name in type(node).__slots__]
        self.edges, self.kept, self.counted = (), (), ()


class History:
    """The graph of derivatives from `roots`, the places (node, output) of the results, to `inputs`, those of the tensors that the
    function found: place -> number. Nodes older than `first` are not its own.

    `storages`: those that the graph keeps, in order; `slots`: id of a tensor that the function found -> number, of which `tensors` are
    kept.
    """

    def __init__(self, roots: list, inputs: dict, slots: dict[int, int], first: int):
        self.inputs, self.slots, self.first = inputs, slots, first
        self.storages: list[Storage] = []
        self._of_storage: dict[int, int] = {}
        self.tensors: list[int] = []
        self.reached: dict = {}         # place of an input -> its number among the edges
        self.sites: list[Site] = []
        self.number: dict = {}
        nodes: list[GradNode] = []      # each after those that its edges lead to
        for place in roots:
            if place in inputs:
                raise Unprovable("its result has the history of a tensor that it found")
            self._visit(place[0], nodes)
        self._arrivals(nodes)
        for node in nodes:
            self._describe(node)
        self.roots = [self._edge((node, nr)) for node, nr in roots]
        self.input_metas = [autograd.layout_of(place) for place in self.reached]
        self.outputs = tuple([node.outputs[nr] for node, nr in roots])
        self.everything = self.visited(range(len(roots)))
        self.passes: dict = {}
        self.failures = 0

    def close(self, order: list[int]) -> None:
        """Let the tensors go. Storage k will be the `order[k]`-th of those of a replay."""
        self.order = order
        self.inputs = self.slots = self.number = self.storages = self._of_storage = self.reached = None

    # -- what the graph is --------------------------------------------------------------------------------------

    def _visit(self, root: GradNode, nodes: list[GradNode]) -> None:
        stack, seen = [(root, False)], set(nodes)
        while stack:
            node, done = stack.pop()
            if node in seen:
                continue
            if done:
                seen.add(node)
                nodes.append(node)
                continue
            if isinstance(node, Tensor):
                raise Unprovable("its result is differentiated with respect to a tensor that it makes")
            if node.record is None and type(node) not in (CopySlices, Overwritten):
                raise Unprovable(f"its result is to be differentiated outside, by a derivative that is not known ({node.name()})")
            if node.extras is not None:
                raise Unprovable("its result is to be differentiated outside, with hooks within")
            if node.kept is RELEASED or node.seq < self.first:
                raise Unprovable("its result is to be differentiated further, through a history that was there before")
            stack.append((node, True))
            kept = [t for v in node.kept for t in (v if type(v) in (tuple, list) else (v,)) if isinstance(t, Tensor)]
            edges = [*node.edges, *[autograd.edge_of(t) for t in kept if t._rg and id(t) not in self.slots]]
            stack.extend([(place[0], False) for e in edges if e is not None and (place := place_of(e)) not in self.inputs])

    def _arrivals(self, nodes: list[GradNode]) -> None:
        """The inputs, in the order in which the last of their cotangents would arrive."""
        for node in sorted(nodes, key=lambda n: -n.seq):
            for place in [place_of(e) for e in node.edges if e is not None]:
                if place in self.inputs:
                    self.reached.pop(place, None)
                    self.reached[place] = None
        self.reached = {place: k for k, place in enumerate(self.reached)}

    def _describe(self, node: GradNode) -> None:
        site = Site(node)
        site.edges = tuple([None if e is None else self._edge(place_of(e)) for e in node.edges])
        kept, counted = [], []
        for i, v in enumerate(node.kept):
            storages: list[int] = []
            kept.append(self._spec(v, storages))
            version = node.versions[i] if node.versions else None
            if version is not None and version != sum([self.storages[k].version for k in storages]):
                raise Unprovable("a tensor that its derivative needs is written to afterwards")
            counted.append(None if version is None else storages)
        site.kept, site.counted = tuple(kept), tuple(counted)
        self.number[node] = len(self.sites)
        self.sites.append(site)

    def _edge(self, place: tuple) -> tuple:
        if place in self.inputs:
            return "input", self.reached[place]
        if place[0] not in self.number:
            raise Unprovable("its derivative keeps a tensor with a history of its own")
        return self.number[place[0]], place[1]

    def _spec(self, v, storages: list[int]):
        """What is kept, as ("tensor", slot or None, meta, storage, edge of its history), ("storage", number), ("several", type, items) or
        ("value", it)."""
        if isinstance(v, Storage):
            return "storage", self._storage(v, storages)
        if isinstance(v, Tensor):
            if v.is_sparse:
                raise Unprovable("its derivative needs a sparse tensor")
            slot = self.slots.get(id(v))
            if slot is not None and slot not in self.tensors:
                self.tensors.append(slot)
            at = None if slot is None else self.tensors.index(slot)
            edge = self._edge(place_of(autograd.edge_of(v))) if slot is None and v._rg else None
            return "tensor", at, v._meta, self._storage(v.storage, storages), edge
        if type(v) in (tuple, list):
            return "several", type(v), [self._spec(x, storages) for x in v]
        if type(v) not in PLAIN:
            raise Unprovable(f"its derivative needs a {type(v).__name__}")
        return "value", v

    def _storage(self, s: Storage, storages: list[int]) -> int:
        if type(s) is not Storage:
            raise Unprovable("its derivative needs a tensor in memory that NumPy shares")
        k = self._of_storage.get(id(s))
        if k is None:
            k = self._of_storage[id(s)] = len(self.storages)
            self.storages.append(s)
        storages.append(k)
        return k

    def visited(self, roots) -> frozenset:
        """The sites a backward pass from some of the roots comes by that keep something."""
        stack, seen = [self.roots[r][0] for r in roots], set()
        while stack:
            k = stack.pop()
            if k != "input" and k not in seen:
                seen.add(k)
                stack.extend([e[0] for e in self.sites[k].edges if e is not None])
        return frozenset([k for k in seen if any(c is not None for c in self.sites[k].counted)])

    # -- the graph again ----------------------------------------------------------------------------------------

    def built(self, edges, storages: list[Storage], versions: list[int], tensors) -> tuple[list, list[Input]]:
        """The graph around the storages and tensors of a replay, as (roots, inputs); behind each input is one of the `edges`."""
        storages, versions = [storages[k] for k in self.order], [versions[k] for k in self.order]
        inputs = [_input(m, e) for m, e in zip(self.input_metas, edges)]
        nodes: list[GradNode] = []

        def place(edge):
            return (inputs[edge[1]], 0) if edge[0] == "input" else (nodes[edge[0]], edge[1])

        def kept(spec):
            kind, *rest = spec
            if kind == "storage":
                return storages[rest[0]]
            if kind == "several":
                return rest[0]([kept(x) for x in rest[1]])
            if kind == "value":
                return rest[0]
            slot, m, storage, edge = rest
            if slot is not None and tensors is not None:
                return tensors[slot]
            t = core.tensor_on(storages[storage], m)
            if edge is not None:
                t._rg, (t._grad_fn, t._nr) = True, place(edge)
            return t

        for site in self.sites:
            node = _new(site.cls)
            SpecialNode.__init__(node)
            for name, value in site.more:
                setattr(node, name, value)
            node.derivative, node.outputs = site.derivative, site.outputs
            node.edges = tuple([None if e is None else _edge(place(e)) for e in site.edges])
            node.kept = tuple([kept(spec) for spec in site.kept])
            if any(c is not None for c in site.counted):
                node.versions = tuple([None if c is None else sum([versions[k] for k in c]) for c in site.counted])
            nodes.append(node)
        return [place(r) for r in self.roots], inputs

    def run(self, roots: list, inputs: list, grads: list, create_graph: bool) -> list:
        """The cotangents of the inputs, None where none arrive."""
        given = [(root, g) for root, g in zip(roots, grads) if g is not None]
        found: dict = {(node, 0): [] for node in inputs}
        autograd.run([root for root, _ in given], [g for _, g in given], True, create_graph, found, False, frozenset(inputs))
        return [next((g for g in found[node, 0] if g is not None), None) for node in inputs]

    def pass_for(self, grads: list, sizes: list[int]) -> Pass | None:
        """The recorded backward pass for such cotangents; None where there cannot be one."""
        if config.eager or tape.state.vmap is not None or tape.state.watch is not None \
                or autograd._cotangents is not autograd.cotangents_plain:
            return None
        key = (tuple([g if g is None else (g._meta, g.storage.numel) for g in grads]), environment(), version_of(Tensor).value)
        found = self.passes.get(key)
        if found is None and self.failures < ATTEMPTS:
            try:
                found = Pass(self, grads, sizes)
            except Exception:       # whatever it is, it comes again, and to the point, where the graph is run
                self.failures += 1
            else:
                if len(self.passes) >= PASSES:
                    self.passes.clear()
                self.passes[key] = found
        return found


def _edge(place: tuple):
    return place[0] if place[1] == 0 else place


class Input(SpecialNode):
    """Where a history ends: passes on the cotangent of a tensor that the function found."""

    __slots__ = ()

    def backward(self, grads):
        return grads


def _input(m, edge) -> Input:
    node = Input()
    node.outputs, node.edges = (m,), (edge,)
    return node


# -- a recorded backward pass -----------------------------------------------------------------------------------

class Tracing(Watch):
    """While a backward pass runs on stand-ins there is no value to be asked for."""

    def refuse(self, reason: str) -> None:
        raise Unprovable(reason)

    flushed = looked = drew = lambda self: self.refuse("its derivative needs a value")
    draws = lambda self, generator: self.refuse("its derivative draws random numbers")


_ELSEWHERE = "its derivative needs a value that cannot be found again"


class Pass:
    """What a backward pass records, from the cotangents and the values that are kept."""

    def __init__(self, history: History, grads: list, sizes: list[tuple]):
        self.visited = history.visited([k for k, g in enumerate(grads) if g is not None])
        kept = [Storage.of(_stand_in(*size)) for size in sizes]
        arriving = [None if g is None else _stand_in(g.storage.numel, g.storage.dtype) for g in grads]
        cotangents = [None if n is None else core.tensor_on(Storage.of(n), g._meta) for n, g in zip(arriving, grads)]
        leaf_of = {s.node: k for k, s in enumerate([*[c.storage for c in cotangents if c is not None], *kept])}
        results: list = []
        watch = Tracing()
        with tape.computing:        # no other thread computes what is without a value
            before = len(tape.nodes)
            tape.state.watch = watch
            try:
                roots, inputs = history.built([None] * len(history.input_metas), kept, [0] * len(kept), None)
                results = history.run(roots, inputs, cotangents, False)
            finally:
                tape.state.watch = None
                nodes = _taken(before, set(leaf_of), results)
        self.constants = []
        for node in watch.made_leaves:
            leaf_of[node] = len(leaf_of)
            self.constants.append(node)
        self._describe(nodes, leaf_of, results)

    def _describe(self, nodes: list[Node], leaf_of: dict, results: list) -> None:
        found = closed(nodes, list(leaf_of))
        if found is None:
            raise Unprovable(_ELSEWHERE)
        self.piece, self.numbers, place = found
        self.results: list = []         # for each input None, or (number of its storage, its meta)
        self.values: list[int] = []     # the storages' values
        storages: dict[int, int] = {}
        for g in results:
            if g is None:
                self.results.append(None)
                continue
            if type(g) is not Tensor or type(g.storage) is not Storage:
                raise Unprovable("a gradient is not a plain tensor")
            if id(g.storage) not in storages:
                if g.storage.node not in place:
                    raise Unprovable(_ELSEWHERE)
                storages[id(g.storage)] = len(self.values)
                self.values.append(place[g.storage.node])
            self.results.append((storages[id(g.storage)], g._meta))

    def record(self, grads: list, kept: list[Node]) -> list:
        leaves = [*[g.storage.node for g in grads if g is not None], *kept, *self.constants]
        table = self.piece.record(leaves, self.numbers)
        storages = [Storage.of(table[k]) for k in self.values]
        tensor_on = core.tensor_on
        result = [None if r is None else tensor_on(storages[r[0]], r[1]) for r in self.results]
        tape.settle()
        return result


def _stand_in(numel: int, dtype: dt.dtype) -> Node:
    """A leaf without a value."""
    return leaf(None, numel, dtype)


def _taken(before: int, stand_ins: set, results) -> list[Node]:
    """The nodes that were recorded on stand-ins or lead to the results, taken off the recording; others may be another thread's."""
    new = tape.nodes[before:]
    ours = {g.storage.node for g in results if g is not None}
    for n in reversed(new):
        if n in ours:
            ours.update([s for s in n.inputs if type(s) is Node])
    for n in new:
        if any(s in stand_ins for s in n.inputs if type(s) is Node):
            stand_ins.add(n)
    taken = [n for n in new if n in ours or n in stand_ins]
    if taken:
        gone = set(taken)
        tape.nodes[:] = [n for n in tape.nodes if n not in gone]
    return taken


# -- the node of a replay's results -----------------------------------------------------------------------------

class Replayed(SpecialNode):
    """The derivative of a replayed call: of all its results by all tensors it found.

    What is kept: `storages` that can be reached from outside, with the versions they had (`counted`), and `private` values. `tensors` are
    those that were there before, in the storages `homes`. `gone`: the sites of the history that a backward pass has released.
    """

    __slots__ = ("history", "tensors", "homes", "storages", "counted", "private", "gone", "last")

    def name(self) -> str:
        return "CompiledFunctionBackward"

    def backward(self, grads):
        history, gone = self.history, self.gone
        if self.kept is RELEASED:
            raise RuntimeError(TWICE)
        unchanged = not mode.grad
        for s, version in zip(self.storages, self.counted):
            if s.version != version or type(s) is not Storage:
                unchanged = False
        for t, s in zip(self.tensors, self.homes):
            if t.storage is not s:
                unchanged = False
        found = None
        if unchanged and all([g is None or type(g) is Tensor and type(g.storage) is Storage for g in grads]):
            kept = [*[s.node for s in self.storages], *self.private]
            found = history.pass_for(grads, [(n.form.numel, n.form.dtype) for n in kept])
        self.last = found.visited if found is not None else history.visited([k for k, g in enumerate(grads) if g is not None])
        if gone and not gone.isdisjoint(self.last):
            raise RuntimeError(TWICE)
        if found is not None:
            return found.record(grads, kept)
        storages = [*self.storages, *map(Storage.of, self.private)]
        versions = [*self.counted, *[0] * len(self.private)]
        roots, inputs = history.built(self.edges, storages, versions, self.tensors)
        return history.run(roots, inputs, grads, mode.grad)

    def release(self) -> None:
        """Let go what the parts of the history kept that a backward pass has come by."""
        self.gone |= self.last
        if self.gone and len(self.gone) == len(self.history.everything):
            self.kept = RELEASED
            self.tensors = self.homes = self.storages = self.private = ()


def differentiable(history: History, edges: tuple, tensors: tuple, homes: tuple, storages: tuple, private: tuple) -> Replayed:
    """The node of the results of a replay."""
    node = Replayed()
    node.history, node.outputs, node.edges, node.tensors, node.homes = history, history.outputs, edges, tensors, homes
    node.storages, node.counted, node.private, node.gone = storages, [s.version for s in storages], private, frozenset()
    return node
