"""Operators on a batch, told by what they are on one lane of it.

While a function is mapped (`vmap`), its tensors have the shapes of one example. Behind such a tensor lies a node that stands for
one lane: in place of its inputs it has `Lanes(level, node, step)`, which says where the values of all lanes are. An operation on
it is recorded as always, for one lane; then `rewrite` replaces the recorded node by one for all lanes, and that is a matter of
the node's family alone: a leading dimension is put before the index maps, and what has no lanes is read with stride 0 along it.

    pointwise, gather, scan       one more dimension
    reduction                     one more kept dimension
    scatter                       one more dimension of the region, into lanes that lie one after the other
    contraction                   the lanes join the rows of the left operand where the right one has none, else the batch
    extern                        the library's routine is called for each lane
    any other                     recorded for each lane, the results put side by side

So composites, views, in-place writes and backward passes, being made of nodes, need no rules. A level within a level rewrites
what the inner one has made.
"""

from __future__ import annotations

import itertools
import threading
import weakref

import numpy as np

from ..core.autograd import _count as next_number
from ..core.storage import Storage
from ..core.tensor import Tensor, tensor_on
from ..graph import tape
from ..graph.node import Form, Lanes, Node, Static, dense, form
from ..graph.node import view as make_view
from ..graph.placement import device_of
from ..ops import pointwise as pw
from ..ops.contraction import _collapse as collapse
from ..ops.factory import full_of
from ..ops.joining import stack
from ..ops.record import Record, by_lane, meta
from ..ops.view import SCATTER
from ..utils._pytree import tree_flatten, tree_unflatten

IDENTITY = pw.identity.record
_order = itertools.count(1).__next__
_levels: list[Level] = []  # those whose function runs now, the innermost last


class Level:
    """One application of `vmap`: `size` lanes. A context: inside it, what is recorded is rewritten. It is entered again for the
    backward pass."""

    def __init__(self, size: int, randomness: str = "error"):
        self.size, self.randomness = size, randomness
        self.order = 0
        self.spans: list = []  # the numbers of derivatives recorded inside: (first, last)
        self.inside = weakref.WeakSet()  # values recorded inside that are the same for all lanes
        self.outside = weakref.WeakSet()  # storages from outside that have been written inside
        self.urgent = False  # reads memory that the outside can change

    def __enter__(self):
        tape.wait_for_mapper()
        tape.mapping.__enter__()
        if not _levels:
            with tape.computing:
                tape.state.mapper, tape.state.rewriter, tape.state.urgent = threading.get_ident(), rewriter, rewriter
                rewriter.mark()
        _levels.append(self)
        self.order = _order()
        self._start = next_number()
        return self

    def __exit__(self, *error):
        self.spans.append((self._start, next_number()))
        try:
            rewriter.rewrite()
        finally:
            _levels.remove(self)
            if not _levels:
                tape.state.rewriter, tape.state.urgent, rewriter.last = None, False, None
            tape.mapping.release()
        if self.urgent and not error[0]:
            tape.flush()

    def made(self, number: int) -> bool:
        """Whether the derivative of this number was recorded inside."""
        return any(a < number < b for a, b in self.spans) or self in _levels and number > self._start


class Rewriter:
    """What `tape` calls while there are levels."""

    def mark(self) -> None:
        """All nodes recorded so far are as they should be."""
        self.last = tape.nodes[-1] if tape.nodes else None

    def rewrite(self) -> None:
        """Replace the nodes recorded since by nodes for all lanes."""
        nodes, fresh = tape.nodes, []
        while nodes and nodes[-1] is not self.last:
            fresh.append(nodes.pop())
        try:
            while fresh:
                node = fresh.pop()
                if not place(node):
                    for level in _levels:
                        level.inside.add(node)
        finally:
            self.mark()
            tape.state.urgent = self

    def draws(self, rng):
        """The generator to draw from within the levels."""
        from .randomness import draws

        return draws(rng)

    def whole(self, t: Tensor) -> Tensor:
        """`t` of all examples, those of the outermost level along the first dimension."""
        for level in depth(t):
            t = leave(level, t)
        return t

    def each_lane(self, function, args: tuple, kwargs: dict):
        """The results of `function` called for each example where its arguments are of one, or its numbers are to be
        different."""
        from .randomness import lane_by_lane

        leaves, spec = tree_flatten((args, kwargs))
        mapped = [x for t in leaves if isinstance(t, Tensor) for x in depth(t)] or [
            x for x in _levels if x.randomness == "different"
        ]
        if not mapped:
            return function(*args, **kwargs)
        level = max(mapped, key=lambda x: x.order)
        found = []
        for b in lane_by_lane(level, kwargs.get("generator")):
            one = [leave(level, t)[b] if isinstance(t, Tensor) and level in depth(t) else t for t in leaves]
            lane_args, lane_kwargs = tree_unflatten(one, spec)
            outputs, out_spec = tree_flatten(by_lane(function)(*lane_args, **lane_kwargs))
            found.append(outputs)
        return tree_unflatten([enter(level, stack(parts), 0) for parts in zip(*found)], out_spec)

    def check_write(self, t: Tensor, result: Tensor) -> None:
        """RuntimeError where a value with lanes is written into memory that has one for all of them, and was not made inside."""
        target, mapped, reached = raw_node(t), depth(result), depth(t)
        for level in _levels:
            if level not in reached and target not in level.inside:
                level.outside.add(t.storage)
        level = next((x for x in mapped if x not in reached and t.storage in x.outside), None)
        if level is None:
            return
        raise RuntimeError(
            "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor `other` in extra_args "
            "that has more elements than `self`: expected self to be mapped over; received one value of shape "
            f"{list(t.shape)} for all {level.size} examples. output with shape {list(t.shape)} doesn't match the broadcast "
            f"shape {[level.size, *result.shape]}. Use the form without the trailing underscore, or pass the tensor with an "
            "in_dim."
        )


rewriter = Rewriter()


def levels() -> list[Level]:
    """Those whose function runs now, the innermost last."""
    return _levels


def raw_node(t: Tensor) -> Node:
    """The node of a tensor, without asking for it to be computed at once."""
    return Storage.node.__get__(t.storage)


def place(node: Node) -> bool:
    """Record `node`, for all lanes where it reads values with lanes; whether it does."""
    level = None
    for s in node.inputs:
        if type(s) is Node and type(s.inputs) is Lanes and (level is None or s.inputs.level.order > level.order):
            level = s.inputs.level
    if level is None:
        tape.record(node)
        return False
    whole = batched(node, level)
    place(whole)
    node.inputs = Lanes(level, whole, node.form.numel)
    return True


# -- one lane in, all lanes out -----------------------------------------------------------------------------------

_forms: dict = {}  # (form of a lane, number of lanes, steps of the inputs) -> form of all lanes


def batched(node: Node, level: Level) -> Node:
    """The node that computes `node` for all lanes of `level`; what it needs besides is recorded before."""
    inputs, steps = [], []
    for s in node.inputs:
        here = type(s) is Node and type(s.inputs) is Lanes and s.inputs.level is level
        inputs.append(s.inputs.node if here else s)
        steps.append(s.inputs.step if here else None)
    own = node.form
    family = own.op.family
    rule = _RULES.get(family)
    if rule is None:
        return _each_lane(node, level.size, inputs, steps)
    if family == "scatter":
        inputs[0] = _side_by_side(inputs[0], steps[0], own.numel, level.size)
        steps[0] = own.numel
    elif family == "contraction" and steps[0] is None and own.static.dims[0] == own.static.dims[2] == 0:
        own = _turned(own)  # a matrix for all lanes times a vector of each: rows times the matrix
        inputs.reverse()
        steps.reverse()
    key = (own, level.size, tuple(steps))
    whole = _forms.get(key)
    if whole is None:
        if len(_forms) > 20_000:
            _forms.clear()
        whole = _forms[key] = rule(own, level.size, steps)
    out = Node()  # without the constructor, which would look the form up again
    out.form, out.inputs, out.buffer, out.where = whole, tuple(inputs), None, node.where
    return out


def _ahead(v, size: int, step):
    """The index map with the lanes as its first dimension."""
    return v and make_view((size, *v.shape), (step or 0, *v.strides), v.offset)


def _more(f: Form, size: int, **changes) -> Form:
    given = dict(op=f.op, views=f.views, static=f.static, shape=(size, *f.shape), numel=size * f.numel, dtype=f.dtype)
    return form(**{**given, **changes})


def _leading(f: Form, size: int, steps) -> Form:
    return _more(f, size, views=tuple([_ahead(v, size, s) for v, s in zip(f.views, steps)]))


def _scatter(f: Form, size: int, steps) -> Form:
    views = (dense((size * f.numel,)), *[_ahead(v, size, s) for v, s in zip(f.views[1:], steps[1:])])
    return _more(f, size, views=views, static=f.static._replace(region=_ahead(f.static.region, size, f.numel)))


def _turned(f: Form) -> Form:
    """A contraction whose right operand has no columns, with the operands exchanged."""
    nb, nm, nn, nk = f.static.dims
    return form(f.op, f.views[::-1], f.static._replace(dims=(nb, nn, nm, nk)), f.shape, f.numel, f.dtype)


def _contraction(f: Form, size: int, steps) -> Form:
    (left, right), (nb, nm, nn, nk) = f.views, f.static.dims
    if not nb and steps[1] is None:
        left, nm = _ahead(left, size, steps[0]), nm + 1
    elif not nb and not nm and steps[0] is None:
        right, nn = _ahead(right, size, steps[1]), nn + 1
    else:
        left, right, nb = _ahead(left, size, steps[0]), _ahead(right, size, steps[1]), nb + 1
    left, right, dims = collapse(left, right, nb, nm, nn, nk)
    b, m, n, _ = dims
    return _more(
        f, size, views=(left, right), static=f.static._replace(dims=dims), shape=left.shape[: b + m] + right.shape[b : b + n]
    )


def _extern(f: Form, size: int, steps) -> Form:
    views = tuple([v if s is None else _ahead(v, size, s) for v, s in zip(f.views, steps)])
    return _more(
        f, size, op=_for_each_lane(f.op, size, tuple([s is not None for s in steps])), views=views, shape=f.shape, numel=f.numel
    )


def _for_each_lane(op: Record, size: int, mapped: tuple) -> Record:
    """The operator that calls `op`'s routine for each lane."""
    known = op.__dict__.setdefault("lanes", {})
    found = known.get((size, mapped))
    if found is None:

        def host(*arrays, **params):
            calls = [op.host(*[a[b] if m else a for a, m in zip(arrays, mapped)], **params) for b in range(size)]
            calls = [c if isinstance(c, tuple) else (c,) for c in calls]
            return tuple(np.stack([np.asarray(x) for x in parts]) for parts in zip(*calls))

        found = known[size, mapped] = Record(op.name, "extern", host=host)
    return found


_RULES = {
    "pointwise": _leading,
    "gather": _leading,
    "scan": _leading,
    "reduction": _leading,
    "scatter": _scatter,
    "contraction": _contraction,
    "extern": _extern,
    "output": lambda f, size, steps: _more(f, size),
}


def _side_by_side(node: Node, step, numel: int, size: int) -> Node:
    """A node with the values of all lanes one after the other."""
    if step == numel:
        return node
    f = node.form
    if step is None and node.buffer is None and f.op.family == "pointwise" and not f.op.uses_index and not any(f.views):
        out = Node.of(f.op, node.inputs, f.views, f.static, (size, *f.shape), size * numel, f.dtype)  # a constant: fill more of it
    else:
        lanes = make_view((size, numel), (step or 0, 1))
        out = Node.of(IDENTITY, (node,), (lanes,), Static(casts=(f.dtype,)), (size, numel), size * numel, f.dtype)
    place(out)
    return out


def _each_lane(node: Node, size: int, inputs, steps) -> Node:
    """The operation recorded for each lane, and the results put side by side."""
    f = node.form
    out = raw_node(full_of((size, f.numel), 0, f.dtype, device_of(node, {})))
    for b in range(size):
        views = tuple([v if s is None else make_view(v.shape, v.strides, v.offset + b * s) for v, s in zip(f.views, steps)])
        lane = Node.of(f.op, tuple(inputs), views, f.static, f.shape, f.numel, f.dtype)
        lane.where = node.where
        place(lane)
        static = Static(casts=(f.dtype, f.dtype), combine="set", region=make_view((f.numel,), (1,), b * f.numel))
        put = Node.of(
            SCATTER,
            (out, lane),
            (dense((size * f.numel,)), dense((f.numel,))),
            static,
            (size * f.numel,),
            size * f.numel,
            f.dtype,
        )
        if b < size - 1:
            place(put)
        out = put
    return out


# -- tensors into lanes and out -----------------------------------------------------------------------------------


def enter(level: Level, x: Tensor, dim: int) -> Tensor:
    """The tensor that stands for x[.., lane, ..] along `dim`, sharing memory, without history."""
    v, m = x._meta.view, x._meta
    step = v.strides[dim]
    keep = [i for i in range(len(v.shape)) if i != dim]
    numel = max(x.storage.numel - (level.size - 1) * step, 0)
    if x.storage.shared:
        level.urgent = True
    lane = Node.of(IDENTITY, (), (), Static(), (numel,), numel, m.dtype)
    lane.inputs = Lanes(level, x.storage.node, step)
    view = make_view(tuple(v.shape[i] for i in keep), tuple(v.strides[i] for i in keep), v.offset)
    return tensor_on(Storage.of(lane), meta(view, m.dtype, m.device))


def leave(level: Level, t: Tensor) -> Tensor:
    """All lanes of `t`, along a first dimension, without history."""
    node, m, v = raw_node(t), t._meta, t._meta.view
    above: list = []  # levels entered later hold this one's lanes within theirs
    while type(node.inputs) is Lanes and node.inputs.level is not level:
        above.append(node.inputs)
        node = node.inputs.node
    if type(node.inputs) is not Lanes:
        return tensor_on(t.storage, meta(_ahead(v, level.size, 0), m.dtype, m.device))
    if above:
        raise RuntimeError(
            "vmap: expected the levels to be left in the reverse order of their entering; a tensor of an inner level has "
            "escaped its function."
        )
    return tensor_on(Storage.of(node.inputs.node), meta(_ahead(v, level.size, node.inputs.step), m.dtype, m.device))


def depth(t: Tensor) -> list[Level]:
    """The levels that `t` has lanes in, the innermost first."""
    found: list[Level] = []
    node = raw_node(t)
    while type(node.inputs) is Lanes:
        found.append(node.inputs.level)
        node = node.inputs.node
    return found


__all__ = ["Level", "depth", "enter", "leave", "levels"]
