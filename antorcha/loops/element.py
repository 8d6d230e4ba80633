"""What a kernel computes, element by element: a small graph over (node, index map), before any loop is written.

An Element is a node read through a View of the kernel's domain: loaded, computed, or the result of a reduction in the same
kernel. The loops are chosen afterwards, when all the views are known (`lower.py`).
"""

from __future__ import annotations

from . import index
from .view import View, same

ELEMENTWISE = ("pointwise", "gather")


class Element:
    """kind: "load" "calc" "gather" "result" (of a row reduction) "sum" (of a contraction) "number" "coordinate".

    `stage`: how many loops over the row must have ended before it can be computed. `member`: the index of the node if it is
    computed at its own place in this kernel, else -1.
    """

    __slots__ = ("kind", "node", "view", "args", "stage", "member", "buffer", "number")

    def __init__(self, kind: str, node, view: View | None, args: tuple = (), stage: int = 0, member: int = -1, buffer=None, number=None):
        self.kind, self.node, self.view, self.args = kind, node, view, args
        self.stage, self.member, self.buffer, self.number = stage, member, buffer, number


class Elements:
    """Builds the elements of one group. `buffer_of(node)` names the memory of a leaf or of a stored node."""

    def __init__(self, fusion, group, buffer_of):
        self.fusion, self.group, self.buffer_of = fusion, group, buffer_of
        self.memo: dict = {}
        self.equal: dict = {}       # operator, place and arguments -> the element: what is recorded twice is computed once

    def get(self, n, v: View) -> Element:
        if n.buffer is None:
            n = self.fusion.nodes[n.index]
        key = (id(n), v)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self._make(n, v)
        return found

    def source(self, n, j: int, v: View) -> Element:
        """Input j of node n, when n stands at v."""
        s, w = n.inputs[j], n.views[j]
        if w is not None:
            return self.get(s, index.compose(v, w))
        return self.number(n, j)

    def number(self, n, j: int) -> Element:
        key = (id(n), j, "number")
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = Element("number", n, None, number=(n.index, j))
        return found

    def _make(self, n, v: View) -> Element:
        if n.buffer is not None:
            return Element("load", n, v, buffer=self.buffer_of(n))
        i = n.index
        g = self.group
        place = self.fusion.place[i]
        member = -1
        if place is g and same(g.at.get(i), v):
            if i in g.reductions:
                source = self.get(n.inputs[0], g.reductions[i][1])
                return Element("result", n, v, (source,), source.stage + 1, i)
            if i == g.root:
                return Element("sum", n, v, (), 0, i)
            member = i
        elif place is not None and place is not g and self.fusion.stored[i] and place.number < g.number:
            return Element("load", n, v, buffer=self.buffer_of(n))
        return self._computed(n, v, member)

    def _computed(self, n, v: View, member: int) -> Element:
        family = n.op.family
        if family not in ELEMENTWISE:
            raise AssertionError(f"fusion: {n.op.name} is read by group {self.group.number} where it is not computed")
        if family == "gather":
            s = n.inputs[0]
            place = index.compose(v, n.views[0])
            picks = tuple(self.source(n, j, v) for j in range(1, len(n.inputs)))
            stage = max((p.stage for p in picks), default=0)
            return Element("gather", n, place, picks, stage, member, self.buffer_of(s))
        args = tuple([self.source(n, j, v) for j in range(len(n.inputs))])
        if n.op.uses_index:
            args += (Element("coordinate", n, index.compose(v, index.last_coordinate(n.shape))),)
        key = (n.op, n.static.casts, n.dtype, v, tuple([id(a) for a in args]))
        found = self.equal.get(key)
        if found is None:
            found = self.equal[key] = Element("calc", n, v, args, max([a.stage for a in args], default=0), member)
        elif found.member < 0:
            found.member = member
        return found


def views_of(roots) -> list[View]:
    """The index maps of all memory accesses and coordinates below some elements, each once."""
    found: dict[View, None] = {}
    stack, seen = list(roots), set()
    while stack:
        e = stack.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        if e.view is not None and e.kind != "calc":
            found[e.view] = None
        stack.extend(e.args)
    return list(found)
