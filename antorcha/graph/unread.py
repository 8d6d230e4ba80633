"""What is not even computed above a diagonal: nobody reads it.

Products leave out what is zero there (`triangle.narrowed`), and so do sums and maxima of rows in loops that end at the diagonal. Where only
such read a value, the group that computes it leaves it out, too: of the scores of causal attention and of their exponentials, half. The
memory is there and holds anything.

A product reads tiles, a row of loops is vectors: `needed` says how far beyond the diagonal a row goes.
"""

from __future__ import annotations

import math as numbers

from ..loops.body import Window
from ..loops.ir import PITCH, triangular
from ..targets.blocking import beyond
from .node import Node
from .triangle import same_places

LEAST = 4 * PITCH       # rows and columns of a matrix of which it is worthwhile


def leave_out(fusion) -> None:
    """Set `Group.beyond` of groups of a fusion, and of the bodies of its chains, that may leave out what nobody reads."""
    if fusion.known:
        Unread(fusion).settle()


class Unread:
    """`unread`: the recorded nodes that nobody reads above the diagonal (but for what `beyond` says) if the `narrow` groups do not. Both
    begin with all that may be so, and lose what turns out not to be. A chain's nodes are those of its bodies."""

    def __init__(self, fusion):
        self.fusion, self.recorded = fusion, fusion.recorded
        self.parts = [(fusion, None, None), *fusion.bodies()]       # each with its body and chain
        self.beyond = 0
        self.unread = {n.index for n in self.recorded if n.op.family in ("pointwise", "contraction") and len(n.shape) > 1
                       and min(n.shape[-2:]) >= LEAST and not fusion.live[n.index] and n.index not in fusion.into}
        self.narrow = {g: part for part in self.parts for g in part[0].groups if self._may_be_narrow(g, part)}

    def settle(self) -> None:
        before = None
        while self.narrow and before != (len(self.unread), len(self.narrow)):
            before = len(self.unread), len(self.narrow)
            for part in self.parts:
                for n in part[0].nodes:
                    self._reads(n, part)
            self.narrow = {g: part for g, part in self.narrow.items() if self._writes_unread(g, part)}
        for g in self.narrow:
            g.beyond = self.beyond

    def _reads(self, n: Node, part: tuple) -> None:
        """Take from `unread` what a node of a part reads above the diagonal."""
        f, i = part[0], n.index
        if i < len(f.recorded) and (not f.needed[i] or f.place[i] is not None and f.place[i].kind == "chain"):
            return
        m = self._recorded(n, part)
        for j, s in enumerate(n.inputs):
            i = self._source(s, part) if isinstance(s, Node) else None
            if i in self.unread and not (m is not None and self._spares(n, m, j, f)):
                self.unread.discard(i)

    def _recorded(self, n: Node, part: tuple) -> Node | None:
        """The recorded node that one of a part computes; None if it is another's work, or not that of whole matrices."""
        f, body, chain = part
        i = n.index
        if n.buffer is not None or i >= len(f.recorded):
            return None
        if chain is not None:
            i = body.origin[i]
            how = chain.how.get(i) or chain.again[i]
            domain = how.views[0].shape if n.op.family == "reduction" else how.shape
            if how.sums or len(domain) - how.wall < 2 <= len(self.recorded[i].shape):
                return None
        m = self.recorded[i]
        return m if m.op is n.op else None

    def _source(self, s: Node, part: tuple) -> int | None:
        """The number of a recorded node that one of a part reads."""
        f, body, _ = part
        if body is not None:
            if s.buffer is None:
                return body.origin.get(s.index)
            window = body.windows.get(id(s))
            s = window.source if isinstance(window, Window) else s
        return s.index if s.buffer is None and s.index < len(self.recorded) else None

    def _spares(self, n: Node, m: Node, j: int, f) -> bool:
        """Whether a node, recorded as m, reads nothing above the diagonal of its input j."""
        s, v = m.inputs[j], m.views[j]
        if n.op.family == "contraction":
            sides = triangular(n.static.within)
            if n.dtype.kind != "f" or n.static.within != m.static.within or "mn"[j] not in sides:
                return False
            self.beyond = max(self.beyond, beyond(n.static.casts[j], s.dtype, len(sides) == 1))
            return True
        if n.op.family == "pointwise":
            return m.index in self.unread and same_places(s, v)
        return n.op.family == "reduction" and f.place[n.index] in self.narrow

    # -- groups -------------------------------------------------------------------------------------------------

    def _may_be_narrow(self, g, part: tuple) -> bool:
        nodes = part[0].nodes
        if g.kind == "contraction":
            return ("n", "m") in nodes[g.root].static.within
        return g.kind == "loops" and bool(g.reductions and g.inner) and all(
            form == "row" and self._adds_nothing(nodes[i], part) for i, (form, _) in g.reductions.items())

    def _adds_nothing(self, n: Node, part: tuple) -> bool:
        """Whether a sum or maximum of rows takes nothing from above the diagonal of an unread matrix."""
        m = self._recorded(n, part)
        if m is None or m.static.reduced != 1 or n.static.reduced != 1:
            return False
        s, identity = m.inputs[0], {"sum": 0.0, "max": -numbers.inf}.get(m.op.combine)
        return (isinstance(s, Node) and s.buffer is None and s.index in self.unread and same_places(s, m.views[0])
                and identity is not None and self.fusion.known.get(s.index) == identity)

    def _writes_unread(self, g, part: tuple) -> bool:
        """Whether all that a group leaves in memory, but for one value of each row, is unread, of matrices of the same size."""
        f = part[0]
        if not all(self._adds_nothing(f.nodes[i], part) for i in g.reductions):
            return False
        shapes = {f.nodes[i].views[0].shape[-2:] for i in g.reductions}
        for n in (f.nodes[i] for i in g.members if f.stored[i]):
            if g.kind == "contraction" or n.numel * g.inner != g.numel:
                m = self._recorded(n, part)
                if m is None or m.index not in self.unread or n.numel != g.numel or not (n.index in g.at and g.at[n.index].dense):
                    return False
                shapes.add(n.shape[-2:])
        if len(shapes) != 1:
            return False
        rows, columns = shapes.pop()
        g.rows = rows
        if g.kind == "contraction":
            root = f.nodes[g.root]
            nb, nm, nn, _ = root.static.dims
            return (root.views[0].shape[nb:nb + nm], root.views[1].shape[nb:nb + nn]) == ((rows,), (columns,))
        return g.inner == g.domain[-1] == columns
