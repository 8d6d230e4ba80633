"""Growing a chain (chain.py): which nodes around a contraction can be computed by its rows.

A value of N*s elements has N rows: flat, row r is [r*s, (r+1)*s). On a GPU rows may come in groups (the queries of one head), whose
products then have one operand for all rows of a group (its keys).
"""

from __future__ import annotations

import heapq

from ..loops import index
from ..loops.view import View, ordered, view
from .group import size
from .node import Node

LONG = 256      # elements of a sum that is not worth computing anew


class Rows:
    """How one node reads and gives rows: `domain` its shape with the rows in front (`wall` dimensions, the first `lead` of which are
    groups), per input a view over the domain that its elements are read in (None for numbers). `sums`: it adds up over the rows, or
    over those of each group (`grouped`)."""

    __slots__ = ("node", "lead", "wall", "views", "walls", "sums", "grouped", "dims", "reduced", "shape")

    def __init__(self, node: Node):
        self.node, self.sums, self.grouped, self.dims, self.reduced, self.lead = node, False, False, (), 0, 0
        self.views: list[View | None] = []
        self.walls: list[int] = []
        self.wall = 0
        self.shape: tuple = ()


def rows_in_front(shape: tuple, rows: int) -> tuple[tuple, int] | None:
    """The shape with its first dimensions cut so that `wall` of them make `rows`."""
    n, wall = 1, 0
    for d, s in enumerate(shape):
        if n == rows:
            break
        if rows % (n * s) == 0:
            n *= s
            wall = d + 1
            continue
        cut = rows // n
        if rows % n or s % cut:
            return None
        return shape[:d] + (cut, s // cut) + shape[d + 1:], d + 1
    return (shape, wall) if n == rows else None


def regular(v: View, wall: int, lead: int = 0) -> int | None:
    """The stride of a row if the dimensions from `lead` to `wall` are one, otherwise None."""
    stride = None
    for d in range(wall - 1, lead - 1, -1):
        if v.shape[d] == 1:
            continue
        if stride is None:
            stride, extent = v.strides[d], v.shape[d]
        elif v.strides[d] == stride * extent:
            extent *= v.shape[d]
        else:
            return None
    return 0 if stride is None else stride


def aligned(v: View, wall: int, per_row: int) -> bool:
    """Whether row r of the domain reads row r of the value alone."""
    if regular(v, wall) != per_row:
        return False
    low = v.offset + sum((n - 1) * t for n, t in zip(v.shape[wall:], v.strides[wall:]) if t < 0)
    high = v.offset + sum((n - 1) * t for n, t in zip(v.shape[wall:], v.strides[wall:]) if t > 0)
    return 0 <= low and high < per_row


def cut(v: View, shape: tuple) -> View | None:
    return index.split(index.squeeze(v), tuple(n for n in shape if n != 1)) if v.shape != shape else v


class Search:
    """Grows a chain of `rows` rows, in `groups` groups, around a contraction. `taken`: the chains that nodes belong to already; `limits`:
    those of the device. `again`: nodes of earlier chains that this one computes anew."""

    def __init__(self, fusion, rows: int, groups: int, taken: dict, limits):
        self.fusion, self.rows, self.groups, self.taken, self.limits = fusion, rows, groups, taken, limits
        self.nodes, self.sources = fusion.recorded, fusion.sources
        self.members: dict[int, Rows] = {}
        self.again: dict[int, Rows] = {}

    # -- whether a node has rows ---------------------------------------------------------------------------------

    def rows_of(self, n: Node) -> Rows | None:
        """How n would be computed row by row, reading members by their rows; None if it cannot."""
        family = n.op.family
        if not n.numel or n.index in self.taken or any(v is not None and not v.numel for v in n.views):
            return None
        if family == "pointwise":
            return self._pointwise(n)
        if family == "reduction":
            return self._reduction(n) or self._crossing_reduction(n)
        if family == "contraction":
            return self._contraction(n) or self._crossing_contraction(n)
        return None

    def _front(self, shape: tuple) -> tuple[tuple, int, int] | None:
        """(the shape with dimensions cut where groups and rows end, dimensions of groups, dimensions of rows)."""
        groups = rows_in_front(shape, self.groups)
        found = rows_in_front(groups[0], self.rows) if groups else None
        return (found[0], groups[1], found[1]) if found else None

    def _inner(self, n: Node) -> bool:
        if n.buffer is not None:
            return False
        return n.index in self.again or n.index in self.members and not self.members[n.index].sums

    def _reads(self, s: Node, v: View, wall: int) -> bool:
        """Whether rows can be read so: the same rows of a member, or memory outside in regular steps."""
        if self._inner(s):
            return s.numel % self.rows == 0 and aligned(v, wall, s.numel // self.rows)
        return True

    def _pointwise(self, n: Node) -> Rows | None:
        found = self._front(index.domain_of(n.shape))
        if found is None:
            return None
        shape, lead, wall = found
        if n.op.uses_index and (wall == len(shape) or shape[-1] != n.shape[-1]):
            return None
        r = Rows(n)
        r.shape, r.lead, r.wall = shape, lead, wall
        for s, v in zip(n.inputs, n.views):
            if not isinstance(s, Node):
                r.views.append(None)
                r.walls.append(0)
                continue
            v = cut(v, shape)
            if v is None or not self._reads(s, v, wall):
                return None
            r.views.append(v)
            r.walls.append(wall)
        return r

    def _reduction(self, n: Node) -> Rows | None:
        v = n.views[0]
        kept = len(v.shape) - n.static.reduced
        found = self._front(index.domain_of(v.shape[:kept]))
        if found is None:
            return None
        shape, lead, wall = found
        drop = index.domain_of(v.shape[kept:])
        v = cut(v, shape + drop)
        if v is None or not self._reads(n.inputs[0], v, wall):
            return None
        r = Rows(n)
        r.shape, r.lead, r.wall, r.views, r.walls, r.reduced = shape, lead, wall, [v], [wall], len(drop)
        return r

    def _crossing_reduction(self, n: Node) -> Rows | None:
        """A sum over all rows of a member."""
        s, v = n.inputs[0], n.views[0]
        if n.op.combine != "sum" or not self._inner(s) or not n.static.casts[0].is_floating_point:
            return None
        per_row = s.numel // self.rows
        kept = len(v.shape) - n.static.reduced
        keep = index.squeeze(view(v.shape[:kept], v.strides[:kept], v.offset))
        drop = index.squeeze(view(v.shape[kept:], v.strides[kept:], 0))
        if keep.numel * drop.numel != s.numel:
            return None
        order = sorted(range(len(drop.shape)), key=lambda d: -drop.strides[d])
        drop = ordered(drop, order)
        found = self._front(drop.shape)
        if found is None:
            return None
        shape, lead, wall = found
        drop = cut(drop, shape)
        whole = view(drop.shape[:wall] + keep.shape + drop.shape[wall:], drop.strides[:wall] + keep.strides + drop.strides[wall:],
                     keep.offset)
        if not aligned(whole, wall, per_row):
            return None
        r = Rows(n)
        r.sums, r.lead, r.wall, r.shape, r.views, r.walls = True, lead, wall, keep.shape, [whole], [wall]
        r.reduced = len(drop.shape) - wall
        return r

    def _contraction(self, n: Node) -> Rows | None:
        nb, nm, nn, nk = n.static.dims
        a, b = n.views
        found = self._front(a.shape[:nb + nm])
        if found is None:
            return None
        shape, lead, wall = found
        cuts = len(shape) - nb - nm                 # a dimension may have been cut in two
        products = size(a.shape[:nb])
        in_batch = nb > 0 and products % self.rows == 0
        batch = nb + cuts if in_batch else nb
        if not in_batch and nb:
            if products != self.groups or self.groups == 1:
                return None                         # rows of several products: the second operand is not theirs alone
            lead, wall = max(lead, nb), max(wall, nb)       # dimensions of size 1 may follow
        va = cut(a, shape + a.shape[nb + nm:])
        vb = cut(b, shape[:batch] + b.shape[nb:])
        if va is None or vb is None or len(va.shape) != len(shape) + nk or len(vb.shape) != batch + nn + nk:
            return None
        if not self._reads(n.inputs[0], va, wall):
            return None
        if in_batch and not self._reads(n.inputs[1], vb, wall) or not in_batch and self._inner(n.inputs[1]):
            return None
        r = Rows(n)
        r.shape, r.lead, r.wall, r.views = shape + b.shape[nb:nb + nn], lead, wall, [va, vb]
        r.walls = [wall, wall if in_batch else nb]
        r.dims = (batch, len(shape) - batch, nn, nk)
        return r

    def _crossing_contraction(self, n: Node) -> Rows | None:
        """A product summed over the rows (the gradient of a weight), or one for each group (that of keys and values)."""
        nb, nm, nn, nk = n.static.dims
        a, b = n.views
        batch = a.shape[:nb]
        if nb and (self.groups == 1 or size(batch) != self.groups) or not n.dtype.is_floating_point:
            return None
        found = self._front(batch + a.shape[nb + nm:])
        if found is None or not any(self._inner(s) for s in n.inputs):
            return None
        shape, lead, wall = found
        if wall <= nb and nb:
            return None
        r = Rows(n)
        for s, v, rest in ((n.inputs[0], a, a.shape[nb:nb + nm]), (n.inputs[1], b, b.shape[nb:nb + nn])):
            v = cut(v, batch + rest + shape[nb:])
            if v is None or len(v.shape) != len(rest) + len(shape):
                return None
            w = nb + len(rest)
            order = [*range(nb), *range(w, w + wall - nb), *range(nb, w), *range(w + wall - nb, len(v.shape))]
            v = ordered(v, order)
            if not self._reads(s, v, wall):
                return None
            r.views.append(v)
            r.walls.append(wall)
        r.sums, r.grouped, r.lead, r.wall = True, nb > 0, max(lead, nb), wall
        r.shape = a.shape[nb:nb + nm] + b.shape[nb:nb + nn]
        r.dims = (0, nm, nn, len(shape) - wall)
        return r

    # -- growing -------------------------------------------------------------------------------------------------

    def grow(self, seed: int, readers: list[list[int]]) -> bool:
        """Everything around the seed that can be computed by its rows. False if not even the seed can."""
        first = self.rows_of(self.nodes[seed])
        if first is None or first.sums:
            return False
        self.members[seed] = first
        for _ in range(3):
            before = len(self.members)
            self._backward(readers)
            self._forward(readers)
            if len(self.members) == before:
                break
        return True

    def _backward(self, readers: list[list[int]]) -> None:
        """Add what members read, if it reaches members through members alone."""
        wanted: set[int] = set()
        above: set[int] = set()     # outside, and members depend on it
        for i in range(max(self.members), max(min(self.members) - self.limits.reach, 0) - 1, -1):
            inside = i in self.members
            if not inside and i not in above and i not in wanted:
                continue
            if not inside and i in wanted and i in self.taken and self._anew(i, above, readers):
                above.update(self.sources[i])
                continue
            if not inside and (i in above or not self._joins_before(i, above, readers[i])):
                inside = False
                above.add(i)
            elif not inside:
                inside = True
            (wanted if inside else above).update(self.sources[i])
        for chain in {self.taken[i] for i in self.again if i in self.taken}:
            for i in chain.outputs:     # what was made of values computed anew
                if i not in self.again and all(s in self.again for s in self.sources[i]):
                    self._anew(i, above, readers)

    def _joins_before(self, i: int, above: set, readers: list[int]) -> bool:
        """Make i, which members read, a member if it may be one."""
        n = self.nodes[i]
        if any(c in above for c in readers) or not any(isinstance(s, Node) for s in n.inputs):
            return False
        r = self.rows_of(n)
        if r is None or r.sums:
            return False
        self.members[i] = r
        if all(self._still(c) for c in readers if c in self.members):
            return True
        del self.members[i]
        return False

    def _anew(self, i: int, above: set, readers: list[list[int]]) -> bool:
        """Compute a large value of an earlier chain of the same rows anew, if it would be stored for this chain alone and takes but
        short sums (attention's probabilities, from queries and keys)."""
        chain, n = self.taken[i], self.nodes[i]
        if not self.limits.grouped or (chain.rows, chain.groups) != (self.rows, self.groups) or self.fusion.live[i]:
            return False
        if n.numel * n.dtype.itemsize < self.limits.small:
            return False
        needed, stack = {}, [i]
        while stack:
            j = stack.pop()
            if j in needed or j not in chain.how and j not in chain.again:
                continue
            m = self.nodes[j]
            needed[j] = r = chain.how.get(j) or chain.again[j]
            if r.sums or m.op.family == "contraction" and size(m.views[0].shape[-m.static.dims[3]:]) > LONG:
                return False
            stack.extend(self.sources[j])
        before = self.again, dict(self.members)
        self.again = {**self.again, **needed}
        if all(c in chain.how or (self._still(c) if c in self.members else c not in above and self._joins_beside(c)) for c in readers[i]):
            return True
        self.again, self.members = before
        return False

    def _joins_beside(self, c: int) -> bool:
        """Make c a member if what it reads besides the chain's values depends on none of them."""
        first = min(self.members)
        stack = [s for s in self.sources[c] if s not in self.members and s not in self.again]
        while stack:
            s = stack.pop()
            if s in self.members:
                return False
            stack += [t for t in self.sources[s] if t >= first]
        r = self.rows_of(self.nodes[c])
        if r is not None:
            self.members[c] = r
        return r is not None

    def _still(self, c: int) -> bool:
        """Whether member c can still be computed by its rows, now that something it reads is a member."""
        r = self.rows_of(self.nodes[c])
        if r is None or r.sums != self.members[c].sums:
            return False
        self.members[c] = r
        return True

    def _forward(self, readers: list[list[int]]) -> None:
        """Add what reads members and nothing that depends on the chain from outside."""
        members, sources = self.members, self.sources
        tainted: set[int] = set()
        end = max(members) + self.limits.reach
        waiting = sorted({c for i in members for c in readers[i] if c not in members})
        seen = set(waiting)
        hopeful = {i for i in waiting if i < end}       # those that read members; the others only carry the taint
        while hopeful:
            i = heapq.heappop(waiting)
            hopeful.discard(i)
            bad = any([s in tainted or s in members and members[s].sums for s in sources[i]])
            r = None if bad else self.rows_of(self.nodes[i])
            if r is None:
                tainted.add(i)
            else:
                members[i] = r
                hopeful.update([c for c in readers[i] if c < end and c not in members])
            for c in readers[i]:
                if c not in seen and c not in members:
                    seen.add(c)
                    heapq.heappush(waiting, c)
