"""A graph of derivatives in numbers instead of nodes.

What a function of tensors records is recorded again without its derivatives being made one by one: its results have one node for all.
What the graph was is kept as a `History`, which builds it around other tensors wherever it is wanted: to be run backwards once, so that
what that records is known, to be differentiated itself, or to be looked at.

`Folded` is the derivative of a function that is written out (`ops.rewriting`); `compiler.backward` has that of a replayed one.
"""

from __future__ import annotations

from ..base import dtype as dt
from ..base.grad_mode import mode
from ..graph.node import View, dense
from ..ops.derivative import ARGUMENT, RESULT, VALUE, place_of
from ..ops.layout import Meta, meta
from ..ops.recall import Recollections
from ..ops.record import core
from ..ops.rewriting import Untold
from . import autograd
from .autograd import RELEASED, TWICE, GradNode, SpecialNode, layout_of
from .storage import Storage

PLAIN = {type(None), bool, int, float, str, slice, dt.dtype, View, Meta}      # what a derivative may keep besides tensors
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
    kept. Untold, with the reason, where not all of the graph can be told.
    """

    plain: set = PLAIN
    known: tuple = ()       # classes of nodes without a record that `Site` tells whole

    def __init__(self, roots: list, inputs: dict, slots: dict[int, int], first: int):
        self.inputs, self.slots, self.first = inputs, slots, first
        self.storages: list[Storage] = []
        self._of_storage: dict[int, int] = {}
        self.tensors: list[int] = []
        self.reached: dict = {}         # what an input is known by -> its number among the edges
        self.sites: list[Site] = []
        self.number: dict = {}
        nodes: list[GradNode] = []      # in the order of their making: each after those that its edges lead to
        for place in roots:
            if place in inputs:
                raise Untold("its result has the history of a tensor that it found")
            self._visit(place[0], nodes)
        nodes.sort(key=lambda node: node.seq)
        self._arrivals(nodes)
        for node in nodes:
            self._describe(node)
        self.roots = [(self.number[node], nr) for node, nr in roots]
        self.outputs = tuple([node.outputs[nr] for node, nr in roots])

    def close(self, order: list[int]) -> None:
        """Let the tensors go. Storage k will be the `order[k]`-th of those that the graph is built around."""
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
            if isinstance(node, autograd.Tensor):
                raise Untold("its result is differentiated with respect to a tensor that it makes")
            if node.record is None and type(node) not in self.known:
                raise Untold(f"its result is to be differentiated outside, by a derivative that is not known ({node.name()})")
            if node.extras is not None:
                raise Untold("its result is to be differentiated outside, with hooks within")
            if node.kept is RELEASED or node.seq < self.first:
                raise Untold("its result is to be differentiated further, through a history that was there before")
            stack.append((node, True))
            kept = [t for v in node.kept for t in (v if type(v) in (tuple, list) else (v,)) if isinstance(t, autograd.Tensor)]
            edges = [*node.edges, *[autograd.edge_of(t) for t in kept if t._rg and id(t) not in self.slots]]
            stack.extend([(place[0], False) for e in edges if e is not None and (place := place_of(e)) not in self.inputs])

    def _arrivals(self, nodes: list[GradNode]) -> None:
        """The inputs, in the order in which the last of their cotangents would arrive."""
        for node in reversed(nodes):
            for place in [place_of(e) for e in node.edges if e is not None]:
                if place in self.inputs:
                    self.reached.pop(place, None)
                    self.reached[place] = None
        self.reached = {place: k for k, place in enumerate(self.reached)}
        self.input_metas = [layout_of(place) for place in self.reached]

    def _input(self, place: tuple, node: GradNode | None, i: int) -> int:
        """The number of an input: of the i-th edge of a node, or of a tensor that a node keeps."""
        return self.reached[place]

    def _describe(self, node: GradNode) -> None:
        site = Site(node)
        site.edges = tuple([None if e is None else self._edge(place_of(e), node, i) for i, e in enumerate(node.edges)])
        kept, counted = [], []
        for i, v in enumerate(node.kept):
            storages: list[int] = []
            kept.append(self._spec(v, storages))
            version = node.versions[i] if node.versions else None
            if version is not None and version != sum([self.storages[k].version for k in storages]):
                raise Untold("a tensor that its derivative needs is written to afterwards")
            counted.append(None if version is None else storages)
        site.kept, site.counted = tuple(kept), tuple(counted)
        self.number[node] = len(self.sites)
        self.sites.append(site)

    def _edge(self, place: tuple, node: GradNode | None = None, i: int = 0) -> tuple:
        if place in self.inputs:
            return "input", self._input(place, node, i)
        if place[0] not in self.number:
            raise Untold("its derivative keeps a tensor with a history of its own")
        return self.number[place[0]], place[1]

    def _spec(self, v, storages: list[int]):
        """What is kept, as ("tensor", slot or None, meta, storage, edge of its history), ("storage", number), ("several", type, items) or
        ("value", it)."""
        if isinstance(v, Storage):
            return "storage", self._storage(v, storages)
        if isinstance(v, autograd.Tensor):
            if v.is_sparse:
                raise Untold("its derivative needs a sparse tensor")
            slot = self.slots.get(id(v))
            if slot is not None and slot not in self.tensors:
                self.tensors.append(slot)
            at = None if slot is None else self.tensors.index(slot)
            edge = self._edge(place_of(autograd.edge_of(v))) if slot is None and v._rg else None
            return "tensor", at, v._meta, self._storage(v.storage, storages), edge
        if type(v) in (tuple, list):
            return "several", type(v), [self._spec(x, storages) for x in v]
        if type(v) not in self.plain:
            raise Untold(f"its derivative needs a {type(v).__name__}")
        return "value", v

    def _storage(self, s: Storage, storages: list[int]) -> int:
        if type(s) is not Storage:
            raise Untold("its derivative needs a tensor in memory that NumPy shares")
        k = self._of_storage.get(id(s))
        if k is None:
            k = self._of_storage[id(s)] = len(self.storages)
            self.storages.append(s)
        storages.append(k)
        return k

    # -- the graph again ----------------------------------------------------------------------------------------

    def ends(self, edges) -> list[Input]:
        """What the graph can be built to lead to: behind each input is one of the `edges`."""
        return [_input(m, e) for m, e in zip(self.input_metas, edges)]

    def built(self, ends: list, storages: list[Storage], versions: list[int], tensors) -> list[GradNode]:
        """The nodes around the storages and tensors of a call, each after those that its edges lead to; at the inputs they lead to the
        places `ends`. Without `tensors`, those that were kept are made of the storages."""
        storages, versions = [storages[k] for k in self.order], [versions[k] for k in self.order]
        nodes: list[GradNode] = []

        def place(edge):
            return ends[edge[1]] if edge[0] == "input" else (nodes[edge[0]], edge[1])

        for site in self.sites:
            node = _new(site.cls)
            SpecialNode.__init__(node)
            for name, value in site.more:
                setattr(node, name, value)
            node.derivative, node.outputs = site.derivative, site.outputs
            node.edges = tuple([None if e is None else _edge(place(e)) for e in site.edges])
            node.kept = tuple([_kept(spec, storages, tensors, place) for spec in site.kept])
            if any(c is not None for c in site.counted):
                node.versions = tuple([None if c is None else sum([versions[k] for k in c]) for c in site.counted])
            nodes.append(node)
        return nodes

    def run(self, nodes: list[GradNode], inputs: list[Input], grads: list, create_graph: bool) -> list:
        """The cotangents of the inputs, None where none arrive."""
        given = [((nodes[k], nr), g) for (k, nr), g in zip(self.roots, grads) if g is not None]
        found: dict = {(node, 0): [] for node in inputs}
        autograd.run([root for root, _ in given], [g for _, g in given], True, create_graph, found, False, frozenset(inputs))
        return [next((g for g in found[node, 0] if g is not None), None) for node in inputs]


def _kept(spec: tuple, storages: list, tensors, place):
    """What is kept, from what `History._spec` says of it. (A function within `built` would refer to itself, and keep all this alive.)"""
    kind, *rest = spec
    if kind == "storage":
        return storages[rest[0]]
    if kind == "several":
        return rest[0]([_kept(x, storages, tensors, place) for x in rest[1]])
    if kind == "value":
        return rest[0]
    slot, m, storage, edge = rest
    if slot is not None and tensors is not None:
        return tensors[slot]
    t = core.tensor_on(storages[storage], m)
    if edge is not None:
        t._rg, (t._grad_fn, t._nr) = True, place(edge)
    return t


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


# -- of what is written out --------------------------------------------------------------------------------------

class Folded(History):
    """In place of a `Derivative`: those of a function whose results are all the node `root`'s, which becomes one of this derivative.
    `found`: the tensors of the call.

    A node keeps tensors that the function found, storages that can be reached from `outside`, and the values of others; `keeps` says
    which is which. It has an edge for each that led outside, so that cotangents are added up in the same order.
    """

    names = ()

    def __init__(self, root: GradNode, inputs: dict, found: list, first: int, outside: set[int]):
        slots = {id(t): k for k, t in reversed([*enumerate(found)])}
        super().__init__([(root, nr) for nr in range(len(root.outputs))], inputs, slots, first)
        tensors = [found[slot] for slot in self.tensors]
        at = {id(t.storage): k for k, t in reversed([*enumerate(tensors)])}
        others = [s for s in self.storages if id(s) not in at]
        shared, inner = [[s for s in others if (id(s) in outside) is seen] for seen in (True, False)]
        storages = [*[t.storage for t in tensors], *shared, *inner]
        self.keeps = tuple([(kind, -1) for kind, own in ((ARGUMENT, tensors), (RESULT, shared), (VALUE, inner)) for _ in own])
        self.metas = [meta(dense((s.numel,)), s.dtype, self.outputs[0].device) for s in storages]
        self.calls = Recollections(self.formulas, 2)
        root.derivative, root.edges = self, tuple(map(_edge, self.places))
        root.kept = (*tensors, *shared, *[s.node for s in inner])
        root.versions = tuple([None if kind is VALUE else s.version for (kind, _), s in zip(self.keeps, storages)])
        at.update({id(s): k for k, s in enumerate(storages) if k >= len(tensors)})
        self.close([at[id(s)] for s in self.storages])
        self.places = None

    def _arrivals(self, nodes: list[GradNode]) -> None:
        visited, self.places, self.told = {nodes[-1]}, [], []
        for node in reversed(nodes):
            if node not in visited:
                continue
            self.told += [node.derivative, node.outputs]
            for i, e in enumerate(node.edges):
                place = (None, 0) if e is None else place_of(e)
                visited.add(place[0])
                if place in self.inputs:
                    self.reached[node, i] = len(self.places)
                    self.reached.setdefault(place, len(self.places))
                    self.places.append(place)
        self.input_metas = [layout_of(place) for place in self.places]

    def _input(self, place: tuple, node: GradNode | None, i: int) -> int:
        number = self.reached.get((node, i), self.reached.get(place))
        if number is None:
            raise Untold("a derivative of its derivative leads elsewhere")
        return number

    def parts(self, node: GradNode) -> list:
        """The derivatives that a node of this one stands for, and their outputs, in the order in which a pass visits them."""
        return self.told

    def compute(self, node: GradNode, g) -> list:
        """As `Derivative.compute`: by recording again what this recorded the last time, where nothing was written to."""
        if node.kept is RELEASED:
            raise RuntimeError(TWICE)
        kept, versions, n = node.kept, node.versions, len(self.tensors)
        unchanged = not mode.grad and autograd._cotangents is autograd.cotangents_plain
        arguments = [g, *kept]
        for k, (kind, _) in enumerate(self.keeps):
            v = kept[k]
            if kind is VALUE:
                arguments[k + 1] = core.tensor_on(Storage.of(v), self.metas[k])
            elif kind is RESULT:
                arguments[k + 1] = core.tensor_on(v, self.metas[k])
                unchanged = unchanged and v.version == versions[k]
            else:
                unchanged = unchanged and v.storage.version == versions[k]
        if not unchanged:
            ends = self.ends(node.edges)
            nodes = self.built([(end, 0) for end in ends], *self._storages(node), kept[:n])
            return self.run(nodes, ends, g if type(g) is tuple else (g,), mode.grad)
        arguments += map(layout_of, node.edges)
        return self.calls[tuple(map(type, arguments))](*arguments)

    def formulas(self, g, *arguments) -> list:
        """The cotangents of the inputs, from the results', what is kept as tensors, and the layouts of the inputs."""
        kept = arguments[:len(self.keeps)]
        storages, ends = [t.storage for t in kept], self.ends([None] * len(self.input_metas))
        nodes = self.built([(end, 0) for end in ends], storages, [s.version for s in storages], kept)
        return self.run(nodes, ends, g if type(g) is tuple else (g,), False)

    def unfold(self, node: GradNode) -> None:
        """Let a node of this derivative be the last of the function's own, before which come the others."""
        gone = node.kept is RELEASED
        if gone:
            n = len(self.keeps)
            nodes = self.built([place_of(e) for e in node.edges], [None] * n, [0] * n, None)
        else:
            nodes = self.built([place_of(e) for e in node.edges], *self._storages(node), node.kept)
        for k, one in enumerate(nodes):
            one.seq = node.seq - 1 + (k + 1) / len(nodes)
            if gone:
                one.release()
        last = nodes[-1]
        node.derivative, node.edges, node.kept, node.versions = last.derivative, last.edges, last.kept, last.versions

    def _storages(self, node: GradNode) -> tuple[list, list]:
        """(the storages of what a node keeps, the versions that they had)."""
        kept: tuple = node.kept
        storages = [v.storage if kind is ARGUMENT else Storage.of(v) if kind is VALUE else v for (kind, _), v in zip(self.keeps, kept)]
        return storages, [v or 0 for v in node.versions]
