"""The derivative of a replayed function whose result is differentiated outside.

While a function is recorded, its derivative is recorded as always: a graph of `GradNode`s. A replay does not make these again; its
results have one node for all, `Replayed`. What the graph was is kept as a `History` (`core.history`). When a cotangent
arrives for the first time, the graph is built from the history around stand-ins without a value and run backwards once; what that
recorded is a `Piece` (`Pass`), to be recorded again whenever cotangents of the same kind arrive. Where that is not the same
(a derivative of the derivative is wanted, a tensor that was kept has been written to, the settings are others), the graph is built
around the tensors of now and run: it does, and complains about, what it always would.
"""

from __future__ import annotations

from ..base import config
from ..base import dtype as dt
from ..base.grad_mode import mode
from ..core import autograd, history
from ..core.autograd import RELEASED, TWICE, SpecialNode
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


class History(history.History):
    """With the backward passes that were recorded. `everything`: the sites that keep something."""

    plain = {*ATOMS, View, Meta}
    known = (CopySlices, Overwritten)

    def __init__(self, roots: list, inputs: dict, slots: dict[int, int], first: int):
        super().__init__(roots, inputs, slots, first)
        self.everything = self.visited(range(len(roots)))
        self.passes: dict = {}
        self.failures = 0

    def visited(self, roots) -> frozenset:
        """The sites a backward pass from some of the roots comes by that keep something."""
        stack, seen = [self.roots[r][0] for r in roots], set()
        while stack:
            k = stack.pop()
            if k != "input" and k not in seen:
                seen.add(k)
                stack.extend([e[0] for e in self.sites[k].edges if e is not None])
        return frozenset([k for k in seen if any(c is not None for c in self.sites[k].counted)])

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
                ends = history.ends([None] * len(history.input_metas))
                results = history.run(history.built([(end, 0) for end in ends], kept, [0] * len(kept), None), ends, cotangents, False)
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
        ends = history.ends(self.edges)
        return history.run(history.built([(end, 0) for end in ends], storages, versions, self.tensors), ends, grads, mode.grad)

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
