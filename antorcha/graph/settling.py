"""Values that are made where their reader would put them.

A scatter that writes a value over part of another, and a copy with dimensions exchanged, do nothing but move elements: the heads of
attention are put side by side, and the gradients of queries, keys and values in that of their joint projection. What makes such a value,
a product or a chain, stores it there at once; the value has no memory of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from ..loops import index
from ..loops.scatter import distinct
from ..loops.view import View, dense
from .group import LONG_SUM, Group, size
from .node import Node
from .tiles import scalar_code


class Place(NamedTuple):
    """Where a value goes: into the memory of the node of that number, a scatter or a copy, at `view`, which has the value's shape. `moves`:
    the numbers of the nodes that would have taken it there, that one last. `others`: in place of its other readers, those of the copy."""

    target: int
    view: View
    moves: tuple
    others: dict


def place_of(fusion, i: int, group: Group) -> Place | None:
    """Where a group may leave recorded node i, that it computes and that nobody asks for; None if nowhere but in memory of its own."""
    if not _made_in_one(fusion.recorded[i]) or fusion.live[i]:
        return None
    v: View | None = dense(fusion.recorded[i].shape)
    found, moves = None, ()
    others = {} if _read_once(fusion, i) else _others(fusion, i)
    while others or _read_once(fusion, i):
        (i,) = [k for k in fusion.read_by[i] if moves or k not in others]
        m = fusion.recorded[i]
        moves += (i,)
        if m.op.family == "scatter":
            return _written(fusion, m, v, moves, group) or found
        v = index.inverse(v, m.views[0]) if _copies(m) and fusion.place[i] is None and i not in fusion.in_chains else None
        if v is None:
            break
        found = Place(i, v, moves, others)
        if others:
            break
    return found


def _others(fusion, i: int) -> dict[int, Node]:
    """If one reader of node i is a copy of it: the others as nodes that read the copy. Empty if there is none, or not all of them can."""
    copies = [k for k in fusion.read_by[i] if _copies(fusion.recorded[k])]
    if len(copies) != 1:
        return {}
    copy = fusion.recorded[copies[0]]
    found: dict[int, Node] = {}
    for k in fusion.read_by[i]:
        n = fusion.nodes[k]
        if k == copy.index or k in found:
            continue
        reads = [isinstance(s, Node) and s.buffer is None and s.index == i for s in n.inputs]
        views = tuple([index.inverse(v, copy.views[0]) if mine else v for v, mine in zip(n.views, reads)])
        if k < copy.index or k in fusion.in_chains or n.op.family == "scatter" or any(mine and not v for v, mine in zip(views, reads)):
            return {}
        inputs = tuple([copy if mine else s for s, mine in zip(n.inputs, reads)])
        found[k] = m = Node.of(n.op, inputs, views, n.static, n.shape, n.numel, n.dtype)
        m.index, m.where = k, n.where
    return found


def last_move(fusion, i: int) -> int:
    """The node at the end of a value's moves, if there are any: scatters are looked at in order."""
    while _read_once(fusion, i):
        (i,) = fusion.read_by[i]
    return i


def _read_once(fusion, i: int) -> bool:
    return len(fusion.read_by[i]) == 1 and fusion.uses[i] == 1 and not fusion.live[i]


def _made_in_one(n: Node) -> bool:
    """Whether a value's elements are stored as they are made, not added up from parts in memory."""
    if n.op.family == "pointwise":
        return True
    if n.op.family != "contraction":
        return False
    nb, nm, nn, _ = n.static.dims
    sides = [size(v.shape[nb:nb + own]) for v, own in zip(n.views, (nm, nn))]
    return min(sides) > 1 and 1 < size(n.views[0].shape[nb + nm:]) < LONG_SUM


def _copies(n: Node) -> bool:
    """Whether a node has the elements of its input, each once."""
    if n.op.family != "pointwise" or n.op.uses_index or len(n.inputs) != 1 or not isinstance(n.inputs[0], Node):
        return False
    s, v = n.inputs[0], n.views[0]
    if s.dtype is not n.dtype or not index.bijective(v, s.numel):
        return False
    code = scalar_code(n)
    return code is not None and code[0] is code[1][0]


def _written(fusion, n: Node, v: View, moves: tuple, group: Group) -> Place | None:
    """Where scatter n puts what stands at `v` in the value that it writes."""
    if n.static.combine != "set" or len(n.inputs) != 2 or not isinstance(n.inputs[1], Node) or n.inputs[1].dtype is not n.dtype:
        return None
    w, region = n.views[1], n.static.region
    x = v if w.dense else index.inverse(v, w) if index.bijective(w, n.inputs[1].numel) else None
    at = x and index.compose(x, region)
    region = index.squeeze(region)
    each_once = w.numel == n.inputs[1].numel and len(distinct(region)) == len(region.shape)
    return Place(moves[-1], at, moves, {}) if at is not None and each_once and _is_free(fusion, n, region, group) else None


def _is_free(fusion, n: Node, region: View, group: Group) -> bool:
    """Whether a group may write to a region of what scatter n writes over: nobody else needs that, it is there before the group, or nothing
    is but what other scatters write elsewhere."""
    while True:
        base = n.inputs[0]
        if not isinstance(base, Node) or base.buffer is not None or base.dtype is not n.dtype or base.numel != n.numel:
            return False
        if base.op.unread:
            return True
        b = base.index
        g = fusion.place[b]
        if fusion.uses[b] != 1 or fusion.live[b]:
            return False
        if g is not None and g.number < group.number:
            return True
        n = fusion.recorded[b]
        if n.op.family != "scatter" or len(n.inputs) != 2 or not apart(index.squeeze(n.static.region), region):
            return False


def apart(v: View, w: View) -> bool:
    """Whether two views, known to have the same strides, have no element in common. False where that is not seen."""
    if v.strides != w.strides:
        return False
    if w.offset < v.offset:
        v, w = w, v
    rest, reach, beside = w.offset - v.offset, 0, False
    steps = []
    for d in sorted(range(len(v.strides)), key=lambda d: -v.strides[d]):
        if v.strides[d] < 1:
            return False
        step, rest = divmod(rest, v.strides[d])
        steps.append((d, step))
    for d, step in reversed(steps):     # w begins `step` places further on along each dimension
        if v.strides[d] <= reach:
            return False
        reach += (max(v.shape[d], step + w.shape[d]) - 1) * v.strides[d]
        beside = beside or step >= v.shape[d]
    return beside or rest > 0
