"""Growing a chain (chain.py): which nodes around a contraction can be computed by its rows.

    Dependence   who reads a node, and what it depends on, for the whole recording
    Cutting      how a form is cut into rows; once for each form, since the layers of a network repeat theirs
    Search       grows one chain: adds what its members read, and what reads them

A value of N*s elements has N rows: flat, row r is [r*s, (r+1)*s). On a GPU rows may come in groups (the queries of one head), whose
products then have one operand for all rows of a group (its keys).
"""

from __future__ import annotations

import heapq

from ..loops import index
from ..loops.size import likely
from ..loops.view import View, ordered, view
from .group import size
from .node import Form, Node

LONG = 256      # elements of a sum that is not worth computing anew


class Dependence:
    """Of the nodes of a recording that are needed, by number: `sources` those that a node reads, `readers` those that read it, `before`
    all that it depends on, as the bits of a number."""

    def __init__(self, fusion):
        self.sources: list[list[int]] = fusion.sources
        self.readers: list[list[int]] = [[] for _ in self.sources]
        self.before: list[int] = []
        for i, sources in enumerate(self.sources):
            found = 0
            for s in sources:
                self.readers[s].append(i)
                found |= self.before[s] | 1 << s
            self.before.append(found)
        self.cuttings: dict[tuple, Cutting] = {}

    def cutting(self, rows: int, groups: int) -> Cutting:
        return self.cuttings.setdefault((rows, groups), Cutting(rows, groups))


class Rows:
    """How a node reads and gives rows: `shape` its own with the rows in front (`wall` dimensions, the first `lead` of which are
    groups), per input a view over the domain that its elements are read in (None for numbers). `sums`: it adds up over the rows, or
    over those of each group (`grouped`)."""

    __slots__ = ("lead", "wall", "views", "walls", "sums", "grouped", "dims", "reduced", "shape")

    def __init__(self, shape: tuple, lead: int, wall: int, views: list[View | None], walls: list[int]):
        self.shape, self.lead, self.wall, self.views, self.walls = shape, lead, wall, views, walls
        self.sums = self.grouped = False
        self.dims: tuple = ()
        self.reduced = 0


@likely(lambda arguments, of: (tuple(map(of, arguments[0])), of(arguments[1])))
def rows_in_front(shape: tuple, rows: int) -> tuple[tuple, int] | None:
    """The shape with its first dimensions cut so that `wall` of them make `rows`; None if they cannot be."""
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


class Cutting:
    """How forms are cut into `rows` rows, in `groups` groups."""

    def __init__(self, rows: int, groups: int):
        self.rows, self.groups = rows, groups
        self.known: dict[tuple, Rows | None] = {}

    def of(self, form: Form, inner: tuple) -> Rows | None:
        """How a node of this form would be computed row by row; None if it cannot. `inner`: for each input how many elements it has if it
        is computed by the same rows, otherwise 0."""
        key = (form, inner)
        if key not in self.known:
            self.known[key] = self._cut(form, inner)
        return self.known[key]

    def _cut(self, form: Form, inner: tuple) -> Rows | None:
        family = form.op.family
        if not form.numel or any(v is not None and not v.numel for v in form.views):
            return None
        if family == "pointwise":
            return self._pointwise(form, inner)
        if family == "reduction":
            return self._reduction(form, inner) or self._crossing_reduction(form, inner)
        if family == "contraction":
            return self._contraction(form, inner) or self._crossing_contraction(form, inner)
        return None

    def _front(self, shape: tuple) -> tuple[tuple, int, int] | None:
        """(the shape with dimensions cut where groups and rows end, dimensions of groups, dimensions of rows)."""
        groups = rows_in_front(shape, self.groups)
        found = rows_in_front(groups[0], self.rows) if groups else None
        return (found[0], groups[1], found[1]) if found else None

    def _reads(self, numel: int, v: View, wall: int) -> bool:
        """Whether rows can be read so: the same rows of a value that has `numel` elements by rows, or memory outside in regular steps."""
        return not numel or numel % self.rows == 0 and aligned(v, wall, numel // self.rows)

    def _pointwise(self, form: Form, inner: tuple) -> Rows | None:
        found = self._front(index.domain_of(form.shape))
        if found is None:
            return None
        shape, lead, wall = found
        if form.op.uses_index and (wall == len(shape) or shape[-1] != form.shape[-1]):
            return None
        views: list[View | None] = []
        for numel, v in zip(inner, form.views):
            if v is not None:
                v = cut(v, shape)
                if v is None or not self._reads(numel, v, wall):
                    return None
            views.append(v)
        return Rows(shape, lead, wall, views, [0 if v is None else wall for v in views])

    def _reduction(self, form: Form, inner: tuple) -> Rows | None:
        v = form.views[0]
        kept = len(v.shape) - form.static.reduced
        found = self._front(index.domain_of(v.shape[:kept]))
        if found is None:
            return None
        shape, lead, wall = found
        drop = index.domain_of(v.shape[kept:])
        v = cut(v, shape + drop)
        if v is None or not self._reads(inner[0], v, wall):
            return None
        r = Rows(shape, lead, wall, [v], [wall])
        r.reduced = len(drop)
        return r

    def _crossing_reduction(self, form: Form, inner: tuple) -> Rows | None:
        """A sum over all rows of a member."""
        numel, v = inner[0], form.views[0]
        if form.op.combine != "sum" or not numel or not form.static.casts[0].is_floating_point:
            return None
        kept = len(v.shape) - form.static.reduced
        keep = index.squeeze(view(v.shape[:kept], v.strides[:kept], v.offset))
        drop = index.squeeze(view(v.shape[kept:], v.strides[kept:], 0))
        if keep.numel * drop.numel != numel:
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
        if not aligned(whole, wall, numel // self.rows):
            return None
        r = Rows(keep.shape, lead, wall, [whole], [wall])
        r.sums, r.reduced = True, len(drop.shape) - wall
        return r

    def _contraction(self, form: Form, inner: tuple) -> Rows | None:
        nb, nm, nn, nk = form.static.dims
        a, b = form.views
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
        if not self._reads(inner[0], va, wall):
            return None
        if in_batch and not self._reads(inner[1], vb, wall) or not in_batch and inner[1]:
            return None
        r = Rows(shape + b.shape[nb:nb + nn], lead, wall, [va, vb], [wall, wall if in_batch else nb])
        r.dims = (batch, len(shape) - batch, nn, nk)
        return r

    def _crossing_contraction(self, form: Form, inner: tuple) -> Rows | None:
        """A product summed over the rows (the gradient of a weight), or one for each group (that of keys and values)."""
        nb, nm, nn, nk = form.static.dims
        a, b = form.views
        batch = a.shape[:nb]
        if nb and (self.groups == 1 or size(batch) != self.groups) or not form.dtype.is_floating_point:
            return None
        found = self._front(batch + a.shape[nb + nm:])
        if found is None or not any(inner):
            return None
        shape, lead, wall = found
        if wall <= nb and nb:
            return None
        views: list[View | None] = []
        for numel, v, rest in ((inner[0], a, a.shape[nb:nb + nm]), (inner[1], b, b.shape[nb:nb + nn])):
            v = cut(v, batch + rest + shape[nb:])
            if v is None or len(v.shape) != len(rest) + len(shape):
                return None
            w = nb + len(rest)
            order = [*range(nb), *range(w, w + wall - nb), *range(nb, w), *range(w + wall - nb, len(v.shape))]
            v = ordered(v, order)
            if not self._reads(numel, v, wall):
                return None
            views.append(v)
        r = Rows(a.shape[nb:nb + nm] + b.shape[nb:nb + nn], max(lead, nb), wall, views, [wall, wall])
        r.sums, r.grouped = True, nb > 0
        r.dims = (0, nm, nn, len(shape) - wall)
        return r


class Search:
    """Grows a chain of `rows` rows, in `groups` groups, around a contraction. `taken`: the chains that nodes belong to already; `limits`:
    those of the device. `again`: nodes of earlier chains that this one computes anew."""

    def __init__(self, fusion, known: Dependence, rows: int, groups: int, taken: dict, limits):
        self.fusion, self.rows, self.groups, self.taken, self.limits = fusion, rows, groups, taken, limits
        self.nodes, self.sources, self.readers, self.before = fusion.recorded, known.sources, known.readers, known.before
        self.cutting = known.cutting(rows, groups)
        self.members: dict[int, Rows] = {}
        self.again: dict[int, Rows] = {}
        self.beside: set[int] = set()       # members that others have only what they read in common with
        self.inside = self.needed = 0       # the members, and all that they depend on, as bits

    def rows_of(self, i: int) -> Rows | None:
        """How node i would be computed row by row, reading members by their rows; None if it cannot."""
        if i in self.taken:
            return None
        n = self.nodes[i]
        return self.cutting.of(n.form, tuple([s.form.numel if type(s) is Node and self._inner(s) else 0 for s in n.inputs]))

    def _inner(self, s: Node) -> bool:
        if s.buffer is not None:
            return False
        return s.index in self.again or s.index in self.members and not self.members[s.index].sums

    def grow(self, seed: int) -> bool:
        """Everything around the seed that can be computed by its rows. False if not even the seed can."""
        first = self.rows_of(seed)
        if first is None or first.sums:
            return False
        self._add(seed, first)
        for _ in range(3):
            before = len(self.members)
            self._backward()
            self._forward()
            if len(self.members) == before:
                break
        return True

    def _add(self, i: int, r: Rows) -> None:
        self.members[i] = r
        self.inside |= 1 << i
        self.needed |= self.before[i]

    def _above(self, i: int) -> bool:
        """Whether a node outside is one that members depend on."""
        return bool((self.needed & ~self.inside) >> i & 1)

    def _backward(self) -> None:
        """Add what members read, if it reaches members through members alone."""
        lowest = min(self.members) - self.limits.reach
        waiting = [-i for i in self.members]
        heapq.heapify(waiting)
        seen = set(self.members)
        while waiting and -waiting[0] >= lowest:
            i = -heapq.heappop(waiting)
            if i not in self.members and (i in self.taken and self._anew(i) or not self._joins_before(i)):
                continue
            for s in self.sources[i]:
                if s not in seen:
                    seen.add(s)
                    heapq.heappush(waiting, -s)
        for chain in dict.fromkeys(self.taken[i] for i in self.again if i in self.taken):
            for i in chain.outputs:     # what was made of values computed anew
                if i not in self.again and all(s in self.again for s in self.sources[i]):
                    self._anew(i)

    def _joins_before(self, i: int) -> bool:
        """Make i, which members read, a member if it may be one."""
        readers = self.readers[i]
        if any(map(self._above, readers)) or not any(type(s) is Node for s in self.nodes[i].inputs):
            return False
        r = self.rows_of(i)
        if r is None or r.sums:
            return False
        self.members[i] = r
        if all(self._still(c) for c in readers if c in self.members):
            self._add(i, r)
            return True
        del self.members[i]
        return False

    def _anew(self, i: int) -> bool:
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
        before = self.again, dict(self.members), self.inside, self.needed
        self.again = {**self.again, **needed}
        if all(c in chain.how or (self._still(c) if c in self.members else not self._above(c) and self._joins_beside(c))
               for c in self.readers[i]):
            return True
        self.again, self.members, self.inside, self.needed = before
        return False

    def _joins_beside(self, c: int) -> bool:
        """Make c a member if what it reads besides the chain's values depends on none of them."""
        if any(self.before[s] & self.inside for s in self.sources[c] if s not in self.members and s not in self.again):
            return False
        r = self.rows_of(c)
        if r is not None:
            self._add(c, r)
        return r is not None

    def _still(self, c: int) -> bool:
        """Whether member c can still be computed by its rows, now that something it reads is a member."""
        r = self.rows_of(c)
        if r is None or r.sums != self.members[c].sums:
            return False
        self.members[c] = r
        return True

    def _forward(self) -> None:
        """Add what reads members and nothing that depends on the chain from outside."""
        members, readers = self.members, self.readers
        end = max(members) + self.limits.reach
        waiting = sorted({c for i in members for c in readers[i] if c < end and c not in members})
        seen = set(waiting)
        while waiting:
            i = heapq.heappop(waiting)
            r = self.rows_of(i) if all(map(self._can_be_read, self.sources[i])) else None
            if r is None:
                continue
            self._add(i, r)
            for c in readers[i]:
                if c < end and c not in seen and c not in members:
                    seen.add(c)
                    heapq.heappush(waiting, c)

    def widen(self) -> bool:
        """Add products that depend on no member, but read a large value from outside that a member reads: a block has it in cache for both.
        Whether there are any. On a GPU what a block reads is not kept."""
        if self.limits.grouped:
            return False
        for i, r in list(self.members.items()):
            for s in self._large(i, r):
                for c in self.readers[s]:
                    if (c in self.members or self._above(c) or self.nodes[c].op.family != "contraction"
                            or abs(c - i) > self.limits.reach or any(self.before[x] & self.inside for x in (c, *self.sources[c]))):
                        continue
                    found = self.rows_of(c)
                    if found is not None and not found.sums and set(found.walls) == {found.wall} and s in self._large(c, found):
                        self._add(c, found)
                        self.beside.add(c)
        return bool(self.beside)

    def _large(self, i: int, r: Rows) -> list[int]:
        """The large values from outside that node i reads row by row."""
        return [s.index for s, wall in zip(self.nodes[i].inputs, r.walls)
                if type(s) is Node and s.buffer is None and s.index not in self.members and wall == r.wall
                and s.numel * s.dtype.itemsize >= self.limits.small]

    def _can_be_read(self, s: int) -> bool:
        """Whether what reads s may be a member: s is one, and no sum, or does not depend on any."""
        return not self.members[s].sums if s in self.members else not self.before[s] & self.inside
