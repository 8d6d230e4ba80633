"""Reverse-mode differentiation over the recorded operations.

Each differentiable result carries a `GradNode`: its operator's derivative, what it kept for it, and edges to the nodes of the
inputs. `backward` visits nodes in reverse order of their creation (a heap on `seq`), which is a topological order; since derivatives
are written with tensor operators, the backward pass is recorded like everything else and can itself be differentiated
(`create_graph`).
"""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from functools import partial
from operator import attrgetter

from ..base import config
from ..base import dtype as dt
from ..base.formats import preserve_format
from ..base.garbage import uncollected
from ..base.grad_mode import mode, set_autocast, set_grad, without_grad
from ..graph import tape
from ..graph.node import Node, dense
from ..ops import derivative
from ..ops.derivative import RESULT, place_of, saving
from ..ops.recall import Recollections, warn_once
from ..ops.record import core, rounded, widened
from ..ops.strides import fills, of_copy
from . import repeated
from .modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled  # noqa: F401 (the engine's vocabulary)
from .storage import Storage

_count = itertools.count().__next__
_made = attrgetter("seq")


# -- nodes ------------------------------------------------------------------------------------------------------

WIDE = (True, "derivative")      # of records whose derivatives of 16-bit floats are computed in float32
RELEASED = object()     # in place of what a node kept


TWICE = ("Trying to backward through the graph a second time: what the first backward pass kept has been freed. "
         "Pass retain_graph=True to the first backward() or autograd.grad() if it is needed twice.")


def _stale(node, shape, version: int, expected: int) -> RuntimeError:
    return RuntimeError(
        f"one of the variables needed for gradient computation has been modified by an inplace operation: a tensor of shape {list(shape)} "
        f"kept by {node.name()} is at version {version}; expected version {expected}. Use the form of the operation without the trailing "
        "underscore, or clone() the tensor first.")


class Packed:
    """What a pack hook made of a tensor that is kept.

    `place`: the history to give to what the unpack hook makes of it: the place of the tensor's cotangent, or the output number of a
    result of the node itself.
    """

    __slots__ = ("value", "unpack", "place")

    def __init__(self, tensor, hooks: tuple, result: int | None = None):
        pack, self.unpack = hooks
        self.place = result if result is not None else place_of(edge_of(tensor)) if tensor._rg else None
        with no_grad():
            self.value = pack(tensor)

    def open(self, node):
        t = self.unpack(self.value)
        if not isinstance(t, Tensor):
            raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                            f"{type(t).__name__}")
        if self.place is None:
            return t
        of, nr = (node, self.place) if type(self.place) is int else self.place
        if t._rg:
            own, number = place_of(edge_of(t))
            if own is of and number == nr:
                return t
        t = core.alias(t, t._meta)
        if isinstance(of, Tensor):
            t._rg, t._grad_fn, t._nr = True, accumulator(of), 0
        elif mode.grad and t._meta.dtype.kind in "fc":
            t._rg, t._grad_fn, t._nr = True, of, nr
        return t


def _pack(node, out) -> None:
    """Hand what a new node keeps to the hooks."""
    hooks, kept = saving[-1], list(node.kept)
    outputs = out if isinstance(out, tuple) else (out,)
    for i, (kind, number) in enumerate(node.derivative.keeps):
        v = kept[i]
        if kind is RESULT:
            several = [Packed(core.alias(t, t._meta), hooks, nr) for nr, t in enumerate(outputs)]
            kept[i] = tuple(several) if type(v) is tuple else several[max(number, 0)]
        elif isinstance(v, Tensor):
            kept[i] = Packed(v, hooks)
        elif type(v) is tuple and v and isinstance(v[0], Tensor):
            kept[i] = tuple([Packed(t, hooks) for t in v])
    node.kept, node.versions = tuple(kept), [None] * len(kept)


class Saved:
    """A tensor kept by a user's own operator, with the version it had."""

    __slots__ = ("tensor", "version", "edge")

    def __init__(self, tensor, of=None):
        # A result is kept without its grad_fn, which would make a cycle; `unpack` gives it back.
        self.edge = of
        if saving:
            self.tensor = Packed(tensor if of is None else core.alias(tensor, tensor._meta), saving[-1], of)
            return
        self.tensor = tensor if of is None else core.alias(tensor, tensor._meta)
        self.version = tensor.storage.version

    def unpack(self, node):
        t = self.tensor
        if type(t) is Packed:
            return t.open(node)
        if t.storage.version != self.version:
            raise _stale(node, t.shape, t.storage.version, self.version)
        if self.edge is not None and mode.grad:
            t = core.alias(t, t._meta)
            t._rg, t._grad_fn, t._nr = True, node, self.edge
        return t


class Extras:
    """What few nodes have: hooks, tensors that retain their gradient, the user's metadata, the `AccumulateGrad`s among the next nodes."""

    __slots__ = ("before", "after", "tensors", "retains", "metadata", "ends")

    def __init__(self):
        self.before, self.after = OrderedDict(), OrderedDict()
        self.tensors: dict = {}     # output number -> hooks on that cotangent
        self.retains: dict = {}     # output number -> weak reference to the tensor
        self.metadata: dict = {}
        self.ends: tuple = ()


Tensor: type = type(None)   # the class, once `bind` has told it


def bind(tensor_class) -> None:
    """Called once by the module that defines the tensor."""
    global Tensor
    Tensor = tensor_class
    derivative.names.update(
        Tensor=Tensor, count=_count, edge_of=edge_of, hooked=hooked, several=_several, saving=saving, pack=_pack,
        kept_results=_kept_results, kept_argument=_kept_argument, bare=object.__new__, Node=Node, Storage=Storage, pending=tape.nodes,
        settle=tape.settle, state=tape.state, config=config, LONGEST=tape.LONGEST, extend=_extend, layout=layout_of, fitting=_fitting,
        reduce_to=reduce_to, this_thread=mode, without_grad=without_grad, released=RELEASED, Recollections=Recollections,
        plain=frozenset((type(None), int, float, bool, str, dt.dtype)))


class GradNode:
    """The derivative of one recorded operation. `record` and `terms` are set on the subclass made for each operator.

    `edges`: for each input cotangent where it goes, or None: to the leaf itself, or to a node (as (node, output number) where that is
    not 0).
    `outputs`: the metas of the results. `kept`: what `derivative.keeps` says; `versions`: of the tensors among it. Long graphs are many
    objects to the garbage collector, so a node refers to few. (`versions` is a list where hooks were given what is kept.)
    """

    __slots__ = ("seq", "edges", "outputs", "derivative", "kept", "versions", "extras", "__weakref__")
    record = terms = None

    def unpack(self, i: int):
        """The i-th thing kept, as its derivative wants it."""
        v = self.kept[i]
        version = self.versions[i] if self.versions else None
        if version is None:
            if type(v) is Packed:
                return v.open(self)
            return tuple([x.open(self) for x in v]) if type(v) is tuple and v and type(v[0]) is Packed else v
        if self.derivative.keeps[i][0] is RESULT:
            if type(v) is not tuple:
                return self._result(v, max(self.derivative.keeps[i][1], 0), version, v.version)
            now = sum(s.version for s in v)
            return tuple([self._result(s, nr, version, now) for nr, s in enumerate(v)])
        if type(v) is tuple:
            self._check(v[0].storage, v[0]._meta, version, sum(t.storage.version for t in v))
        elif v.storage.version != version:
            raise _stale(self, v.shape, v.storage.version, version)
        return v

    def _check(self, storage, meta, version: int, now: int) -> None:
        if now != version:
            raise _stale(self, meta.view.shape, now, version)

    def _result(self, storage, nr: int, version: int, now: int):
        meta = self.outputs[nr]
        self._check(storage, meta, version, now)
        t = core.tensor_on(storage, meta)
        if mode.grad and meta.dtype.kind in "fc":
            t._rg, t._grad_fn, t._nr = True, self, nr
        return t

    def name(self) -> str:
        return type(self).__name__

    @property
    def next_functions(self):
        if self.record is not None:
            self.derivative.unfold(self)
        shown = tuple([(None, 0) if e is None else (accumulator(e), 0) if isinstance(e, Tensor) else place_of(e) for e in self.edges])
        if any([isinstance(e, Tensor) for e in self.edges]):
            self.hooks().ends = shown       # an AccumulateGrad lives as long as the graph then
        return shown

    def backward(self, grads: list) -> list:
        """The cotangents of the inputs, one for each edge."""
        if len(grads) == 1:
            return self.derivative.compute(self, grads[0])
        partial = self.record.partial
        return self.derivative.compute(self, tuple([x if x is not None or partial else core.zeros(m) for x, m in zip(grads, self.outputs)]))

    def compute(self, g) -> list:
        """As `Derivative.compute`: of complex numbers, of 16-bit floats, where hooks have what was kept, or where that was let go."""
        if self.kept is RELEASED:
            raise RuntimeError(TWICE)
        turned = self.record.holomorphic and self.outputs[0].dtype.kind == "c"
        if turned:      # g conj(f'), from a formula for g f' (Kreutz-Delgado, "The Complex Gradient Operator and the CR-Calculus", 2009)
            g = conjugate(g)
        if self.kept and (d := self.outputs[0].dtype).compute is not d and self.record.wide in WIDE:
            with tape.whole():
                found = self._cotangents(g, True)
        else:
            found = self._cotangents(g, False)
        found = [conjugate(x) for x in found] if turned else found
        return _fitting(found, [layout_of(e) for e in self.edges])

    def _cotangents(self, g, wide: bool) -> list:
        """`wide`: computed in the dtype of sums, and rounded once."""
        if wide:
            g = widened(g)
        found: list = []
        together: dict = {}     # what functions gave that make several cotangents
        for function, needs, part in self.derivative.steps:
            result = together.get(function)
            if result is None:
                kept = [self.unpack(i) for i in needs]
                result = function(g, *(map(widened, kept) if wide else kept))
            if part is not None:
                together[function] = result
                result = result[part]
            if wide and isinstance(result, Tensor):
                result = core.cast(result, self.outputs[0].dtype)
            _extend(found, result)
        return found

    def release(self) -> None:
        # PyTorch makes tensors of the numbers that binary operators are given, and saves these like others.
        if self.versions or self.kept and self.record.family == "pointwise" and len(self.record.names) == 2:
            self.kept = RELEASED

    def hooks(self) -> Extras:
        if self.extras is None:
            self.extras = Extras()
        return self.extras

    @property
    def metadata(self) -> dict:
        return self.hooks().metadata

    def register_hook(self, hook):
        return _handle(self.hooks().after, hook)

    def register_prehook(self, hook):
        return _handle(self.hooks().before, hook)

    def __getattr__(self, name):
        if name.startswith("_saved_") and self.record is not None:
            self.derivative.unfold(self)
        if name.startswith("_saved_") and self.record is not None and name[7:] in self.derivative.names:
            if self.kept is RELEASED:
                raise RuntimeError("Trying to backward through the graph a second time: the saved tensors have been freed.")
            return self.unpack(self.derivative.names.index(name[7:]))
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {hex(id(self))}>"


class SpecialNode(GradNode):
    """A node of which there is no record: its class says what it does."""

    __slots__ = ()

    def __init__(self):
        self.seq = _count()
        self.edges = self.outputs = self.kept = self.versions = ()
        self.extras = None


def _several(node: GradNode, outputs: tuple) -> None:
    """Make several tensors the results of a node."""
    node.outputs = tuple([t._meta for t in outputs])
    for i, t in enumerate(outputs):
        if t._meta.dtype.continuous:
            t._rg, t._grad_fn, t._nr = True, node, i


def _kept_results(outputs: tuple) -> tuple:
    """(what is kept of several results, their versions)."""
    storages = tuple([t.storage for t in outputs])
    return storages, sum([s.version for s in storages])


def _kept_argument(x) -> tuple:
    """(what is kept of an argument, the versions of the tensors in it or None)."""
    if isinstance(x, Tensor):
        return x, x.storage.version
    if type(x) in (list, tuple) and x and isinstance(x[0], Tensor):
        return tuple(x), sum([t.storage.version for t in x])
    return x, None


def _extend(found: list, result) -> None:
    """Add what one term gives: a cotangent, or those of a list of tensors."""
    if result is None or isinstance(result, Tensor):
        found.append(result)
    else:
        found.extend(result)


def layout_of(edge):
    """The meta of the tensor whose cotangent takes an edge."""
    if edge is None:
        return None
    node, nr = place_of(edge)
    return node._meta if isinstance(node, Tensor) else node.outputs[nr]


def _fitting(found: list, layouts) -> list:
    """Cotangents that fit the inputs they are for."""
    for i, (r, m) in enumerate(zip(found, layouts)):
        if r is not None and m is not None and r._meta is not m:
            found[i] = reduce_to(r, m)
    return found


def conjugate(x):
    """The conjugates of one or several tensors."""
    if isinstance(x, Tensor):
        return core.conj(x)
    return None if x is None else type(x)([conjugate(t) for t in x])


class Handle:
    """What `register_*hook` returns: `remove()` takes the hook away; also a context manager."""

    _ids = itertools.count()

    def __init__(self, hooks):
        self._hooks = weakref.ref(hooks)
        self.id = next(Handle._ids)

    def remove(self) -> None:
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


def _handle(hooks, hook) -> Handle:
    handle = Handle(hooks)
    hooks[handle.id] = hook
    return handle


class AccumulateGrad(SpecialNode):
    """Stands for a leaf, `variable`, where the graph is looked at. Its hooks are called when a gradient arrives at the leaf, to which it
    passes on what comes to itself."""

    __slots__ = ("variable",)
    seq = -1                # the last
    next_functions = kept = versions = ()

    def __init__(self, variable):
        self.variable, self.edges, self.outputs, self.extras = variable, (variable,), variable._meta.alone, None

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def backward(self, grads):
        return grads


def accumulator(leaf) -> AccumulateGrad:
    """The one AccumulateGrad of a leaf; it lives as long as somebody refers to it."""
    node = leaf._accumulator and leaf._accumulator()
    if node is None:
        node = AccumulateGrad(leaf)
        leaf._accumulator = weakref.ref(node)
    return node


def hooked(leaf) -> bool:
    """Whether the AccumulateGrad of a leaf has hooks."""
    node = leaf._accumulator and leaf._accumulator()
    return node is not None and node.extras is not None


def accumulate(leaf, g, keep_graph: bool) -> None:
    """The end of a path: add what arrives to the leaf's `.grad`."""
    if leaf._hooks:
        for hook in list(leaf._hooks.values()):
            new = hook(g)
            g = g if new is None else new
    extras = accumulator(leaf).extras if hooked(leaf) else None
    if extras is not None:
        for hook in list(extras.before.values()):
            new = hook((g,))
            g = g if new is None else new[0] if isinstance(new, tuple) else new
    if leaf._grad is None:
        leaf._grad = g if keep_graph else owned(g, leaf)
    elif keep_graph or g.is_sparse or leaf._grad.is_sparse:
        leaf._grad = g + leaf._grad if g.is_sparse else leaf._grad + g
    else:
        with no_grad():
            leaf._grad.add_(g)
    if extras is not None:
        for hook in list(extras.after.values()):
            hook((), (g,))
    if leaf._post_hooks:
        for hook in list(leaf._post_hooks.values()):
            hook(leaf)


def owned(g, leaf=None):
    """`g` in a storage of its own, so that writing to it changes nothing else, with the strides of `leaf` where these leave no gaps."""
    if g.is_sparse:
        return g.detach()
    v = g._meta.view
    if leaf is not None and v is not leaf._meta.view and not leaf.is_sparse:
        wanted = of_copy("grad", leaf._meta.view, preserve_format) if fills(leaf._meta.view) else dense(v.shape)
        if any([s != t for s, t, n in zip(v.strides, wanted.strides, v.shape) if n != 1]):
            return core.laid_out(g.detach(), wanted)
    if v.dense and v.numel == g.storage.numel:
        return core.tensor_on(g.storage.copy(), g._meta)
    return g.detach().clone()


def edge_of(t):
    """Where the cotangent of `t` goes: to itself if it is a leaf, else to a node, or (node, number of its output) where that is not the
    first."""
    node = t._grad_fn
    return t if node is None else (node, t._nr) if t._nr else node


def reduce_to(g, m):
    """A cotangent summed over broadcast dimensions and cast, so that it fits an input that is `m`."""
    if g is None:
        return None
    shape = m.view.shape
    have = g._meta.view.shape
    if have != shape:
        lead = len(have) - len(shape)
        dims = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and have[i + lead] != 1)
        g = g.sum(dims, True) if dims else g
        if lead:
            g = g.reshape(shape)
    return rounded(g, m.dtype)


# -- the backward pass ------------------------------------------------------------------------------------------

_at_the_end: list = []  # called when the outermost backward pass that runs now ends


def when_done(callback) -> None:
    """Call `callback()` at the end of the backward pass that runs now."""
    _at_the_end.append(callback)


passes: list = []       # (roots, the nodes visited or None for all) of the backward passes that run now, the innermost last


@uncollected
def run(roots: list, cotangents: list, retain_graph: bool, create_graph: bool, captures: dict | None = None,
        accumulate: bool = True, final=frozenset(), walked: tuple | None = None) -> None:
    """Propagate `cotangents` from the `roots` (edges).

    `captures`: {(node, output number): [receives the cotangent]}; with accumulate=False only what leads there is visited.
    Nothing is propagated beyond the nodes in `final`. `walked`: what `_order` found.
    """
    needed = None if accumulate else _leading_to(roots, captures, final)
    order, waiting = walked or _order(roots, needed, final)
    arrived: dict = {}      # edge -> the cotangent that goes there
    for place, g in zip(roots, cotangents):
        if needed is None or place[0] in needed:
            _add(arrived, place if place[1] else place[0], g)
    retain = retain_graph or create_graph
    recorded, accumulated, casts = mode.grad, mode.accumulates, mode.autocast
    set_grad(create_graph)
    mode.accumulates = accumulate
    if casts is not None:
        set_autocast(None)      # derivatives are in the dtypes of what was computed
    unsure = tape.state.unsure
    if not passes:
        _at_the_end.clear()     # of a pass that failed
    passes.append((roots, needed))
    captures = captures or {}
    plain = needed is None and not captures and not final and _cotangents is cotangents_plain
    try:
        for leaf in [leaf for leaf, left in waiting.items() if not left]:
            _arrive(leaf, arrived, captures, accumulate, create_graph)
        for node in order:
            if plain and node.extras is None and node.record is not None and len(node.outputs) == 1:
                g = arrived.pop(node, None)
                result = () if g is None else node.derivative.compute(node, g)
            else:
                result = _visit(node, arrived, captures, needed, final)
                if result is None:
                    continue
            if not retain:
                node.release()
            for e, g in zip(node.edges, result or itertools.repeat(None)):
                if e is None or needed is not None and place_of(e)[0] not in needed:
                    continue
                if g is not None:
                    if e in arrived:
                        _add(arrived, e, g)
                    else:
                        arrived[e] = g
                if e in waiting:
                    waiting[e] = left = waiting[e] - 1
                    if not left:
                        _arrive(e, arrived, captures, accumulate, create_graph)
    finally:
        set_grad(recorded)
        mode.accumulates = accumulated
        if casts is not None:
            set_autocast(casts)
        tape.state.unsure = unsure      # derivatives use the indices that were used before
        passes.pop()
    while _at_the_end and not passes:
        _at_the_end.pop(0)()


def _visit(node, arrived: dict, captures: dict, needed, final) -> list | None:
    """What goes along the edges of a node, with all that may be wanted of it; None where nothing goes on."""
    grads = [arrived.pop((node, nr) if nr else node, None) for nr in range(len(node.outputs))]
    if node.extras is not None:
        _tensor_hooks(node.extras, grads)
    if captures:
        _capture(captures, node, grads)
    if node in final or needed is not None and not any(e is not None and place_of(e)[0] in needed for e in node.edges):
        return None
    return _cotangents(node, grads)


def _arrive(leaf, arrived: dict, captures: dict, adds: bool, create_graph: bool) -> None:
    """All cotangents of a leaf are there."""
    g = arrived.pop(leaf, None)
    if captures:
        _capture(captures, leaf, [g])
    if adds and g is not None:
        accumulate(leaf, g, create_graph)


def _cotangents(node, grads: list) -> list:
    """Of the node's inputs; its hooks are run."""
    extras = node.extras
    if extras is not None:
        for hook in list(extras.before.values()):
            new = hook(tuple(grads))
            grads = grads if new is None else list(new)
    result = node.backward(grads) if any([g is not None for g in grads]) else [None] * len(node.edges)
    if extras is not None:
        for hook in list(extras.after.values()):
            new = hook(tuple(result), tuple(grads))
            result = result if new is None else (list(new) if isinstance(new, tuple) else [new])
    return list(result)


cotangents_plain = _cotangents      # `_cotangents` is replaced where anomalies are looked for


def _add(arrived: dict, edge, g) -> None:
    there = arrived.get(edge)
    arrived[edge] = g if there is None else g + there if g.is_sparse else there + g


def _capture(captures: dict, node, grads: list) -> None:
    for nr, g in enumerate(grads):
        slot = captures.get((node, nr))
        if slot is not None:
            slot.append(g)


def _tensor_hooks(extras: Extras, grads: list) -> None:
    for nr, hooks in extras.tensors.items():
        for hook in list(hooks.values()):
            if grads[nr] is not None:
                new = hook(grads[nr])
                grads[nr] = grads[nr] if new is None else new
    for nr, reference in extras.retains.items():
        t = reference()
        if t is not None and grads[nr] is not None:
            t._grad = grads[nr] if t._grad is None else t._grad + grads[nr]


def _successors(node) -> list:
    return [] if isinstance(node, Tensor) else [e[0] if type(e) is tuple else e for e in node.edges if e is not None]


def _order(roots, needed, final) -> tuple[list, dict]:
    """(the nodes to visit, the latest first: each before those its edges lead to; leaf -> how many edges lead to it, which is visited
    as soon as all cotangents have arrived)."""
    waiting = {leaf: 0 for leaf, _ in roots if isinstance(leaf, Tensor)}
    seen = {node for node, _ in roots if node not in waiting}
    stack = list(seen)
    for node in stack:
        if needed is not None and node not in needed or node in final:
            continue
        for after in node.edges:
            if isinstance(after, Tensor):
                waiting[after] = waiting.get(after, 0) + 1
            elif after is not None:
                if type(after) is tuple:
                    after = after[0]
                if after not in seen and (needed is None or after in needed):
                    seen.add(after)
                    stack.append(after)
    order = [n for n in stack if needed is None or n in needed]
    order.sort(key=_made, reverse=True)
    return order, waiting


def _leading_to(roots, captures, final) -> set:
    """The nodes from which a captured one can be reached."""
    targets = {node for node, _ in captures}
    order, seen, stack = [], set(), [(n, False) for n, _ in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        stack.append((node, True))
        if node not in final:
            stack.extend([(after, False) for after in _successors(node) if after not in seen])
    needed = set()
    for node in order:
        if node in targets or node not in final and any(after in needed for after in _successors(node)):
            needed.add(node)
    return needed


def _start(tensors, grads):
    tensors = (tensors,) if isinstance(tensors, core.Tensor) else tuple(tensors)
    grads = (None,) * len(tensors) if grads is None else ((grads,) if isinstance(grads, core.Tensor) else tuple(grads))
    if len(grads) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(grads)} gradients")
    roots, cotangents = [], []
    for t, g in zip(tensors, grads):
        if not t.requires_grad:
            raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn: nothing it was computed from "
                               "requires grad. Set requires_grad=True on what is to be differentiated, outside no_grad().")
        if g is None:
            if t.numel() != 1:
                raise RuntimeError(f"grad can be implicitly created only for scalar outputs; received one of shape {list(t.shape)}. "
                                   "Reduce it first (loss.mean()), or pass gradient=.")
            if t.dtype.is_complex:
                raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {t.dtype}. "
                                   "Make it real (loss.abs(), loss.real), or pass gradient=.")
            g = core.ones(t._meta)
        elif g.shape != t.shape:
            raise RuntimeError(f"Mismatch in shape: gradient has shape {list(g.shape)}; expected that of the tensor, {list(t.shape)}.")
        elif core.apart(g, t):
            if g.dim():
                raise RuntimeError(f"invalid gradient at index {len(roots)} - expected device {t.device} but got {g.device}. "
                                   f"Move it: gradient.to('{t.device}')")
            g = g.to(t.device)
        if t.is_sparse:
            t, g = t._values(), t.at_places(g)
        roots.append(place_of(edge_of(t)))
        cotangents.append(g)
    return roots, cotangents


def _place(t):
    """Where the cotangent of `t` arrives: of a sparse tensor, that of its values."""
    return place_of(edge_of(t._values() if t.is_sparse else t))


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None) -> None:
    """Add the gradients of `tensors` to the `.grad` of the leaves (or of `inputs` alone)."""
    tape.begin_backward()
    if create_graph:
        warn_once("backward() with create_graph=True makes a cycle of references between a parameter and its gradient, which keeps memory. "
                  "Use autograd.grad, or reset the gradients to None after use.")
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        if type(tensors) is Tensor and grad_tensors is None and tensors._grad_fn is not None and not (create_graph or passes) \
                and _cotangents is cotangents_plain:
            repeated.run(tensors, retain, partial(_order, [(tensors._grad_fn, tensors._nr)], None, ()),
                         lambda *walked: run(*_start(tensors, None), retain, False, walked=walked))
        else:
            run(*_start(tensors, grad_tensors), retain, create_graph)
        return
    roots, cotangents = _start(tensors, grad_tensors)
    inputs = (inputs,) if isinstance(inputs, core.Tensor) else tuple(inputs)
    if not inputs:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    found: dict = {_place(t): [] for t in inputs}
    run(roots, cotangents, retain, create_graph, found, accumulate=False)
    for t in inputs:
        for g in found[_place(t)]:
            if g is not None:
                t = t._values() if t.is_sparse else t
                t._grad = (g if create_graph else owned(g)) if t._grad is None else t._grad + g


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True, allow_unused=None,
         is_grads_batched=False, materialize_grads=False):
    """The gradients of the sum of `outputs` with respect to `inputs`, a tuple of tensors."""
    inputs = (inputs,) if isinstance(inputs, core.Tensor) else tuple(inputs)
    if not inputs:
        raise RuntimeError("grad: expected at least one tensor to differentiate by; received none. (grad requires non-empty inputs.)")
    roots, cotangents = _start(outputs, grad_outputs)
    for t in inputs:
        if not t.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    found: dict = {_place(t): [] for t in inputs}
    retain = create_graph if retain_graph is None else retain_graph
    run(roots, cotangents, retain, create_graph, found, accumulate=False)
    out = []
    for i, t in enumerate(inputs):
        g = next((x for x in found[_place(t)] if x is not None), None)
        if g is None:
            if materialize_grads:
                g = core.zeros(t._meta)
            elif not allow_unused:
                raise RuntimeError(f"The differentiated Tensor at index {i} appears to not have been used in the graph. Set "
                                   "allow_unused=True if this is the desired behavior.")
        elif not create_graph:
            g = g.detach()
        out.append(t._like(g) if t.is_sparse and g is not None and not g.is_sparse else g)
    return tuple(out)
