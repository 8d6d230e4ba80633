"""Chains: parts of a recording that are computed block by block, so that what lies between their operators stays in cache.

All values of a chain have the same N rows: flat, row r of a value of N*s elements is [r*s, (r+1)*s). A node may belong to a
chain if its own rows need nothing of the chain but the same rows: softmax over attention scores with N = batch * heads,
a multilayer perceptron with N = examples. Sums over the rows (the gradient of a weight) may belong to it too: each block
adds to a partial result.

    find        which nodes make chains, by what it saves and costs
    Chain.body  the same operators for one block of rows: a small graph of its own, fused and lowered like any other

Every node of a chain depends on the chain's other nodes directly or not at all (never through one outside of it), so the
chain is computed at once: after all that it reads, before all that reads it.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from ..loops import index
from ..loops.view import View, dense, view
from .group import size
from .node import Node, Static, leaf

SMALL = 2 << 20         # bytes: what is smaller stays in cache anyway
BLOCK_BYTES = 320 << 10  # what the values of one block may take: most of a second-level cache
ONE_ROW_BYTES = 1 << 20  # the same, where a block is one row
MOST_ROWS = 2048        # rows of a block
CHUNKS = 64             # most partial results
REACH = 600             # how far from its other members a member is looked for
NS_PER_BYTE = 0.1       # of memory traffic
NS_PER_PACKED = 0.4     # of packing an element of an operand that all blocks share
NS_PER_CALL = 400.0     # of calling one kernel for one block


class Buffer:
    """What stands in a body for memory outside of it."""

    exported = True


OUTSIDE = Buffer()


class Plus:
    """The operator that adds a block's sum to those of the blocks before."""

    name, family, uses_index, complex = "add", "pointwise", False, None

    @staticmethod
    def scalar(a, b):
        return a + b


PLUS = Plus()


class Window:
    """Memory outside of the chain as one block sees it: `steps` are (divisor, modulus, elements): the block numbered b begins
    `sum((b // divisor) % modulus * elements)` further on. `chunked`: elements from one chunk of blocks to the next."""

    def __init__(self, source: Node, steps: tuple, chunked: int = 0):
        self.source, self.steps, self.chunked = source, steps, chunked


class Body(NamedTuple):
    """The graph of one block: its nodes, which of them are results, the Window of each leaf and result by its id, and for
    each node the index of the recorded node that it is a block of."""

    nodes: list
    live: list
    windows: dict
    origin: dict


class Rows:
    """How one node reads and gives rows: `domain` its shape with the rows in front (`wall` dimensions), per input a view over the
    domain that its elements are read in (None for numbers). `sums`: it adds up over the rows."""

    __slots__ = ("node", "wall", "views", "walls", "sums", "dims", "reduced", "shape")

    def __init__(self, node: Node):
        self.node, self.sums, self.dims, self.reduced = node, False, (), 0
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


def regular(v: View, wall: int) -> int | None:
    """The stride of a row if the first `wall` dimensions are one, otherwise None."""
    stride = None
    for d in range(wall - 1, -1, -1):
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
    """Grows a chain of `rows` rows around a contraction."""

    def __init__(self, fusion, rows: int, taken: set):
        self.fusion, self.rows, self.taken = fusion, rows, taken
        self.nodes, self.sources = fusion.recorded, fusion.sources
        self.members: dict[int, Rows] = {}

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

    def _inner(self, n: Node) -> bool:
        return n.buffer is None and n.index in self.members and not self.members[n.index].sums

    def _reads(self, s: Node, v: View, wall: int) -> bool:
        """Whether rows can be read so: the same rows of a member, or memory outside in regular steps."""
        if self._inner(s):
            return s.numel % self.rows == 0 and aligned(v, wall, s.numel // self.rows)
        return True

    def _pointwise(self, n: Node) -> Rows | None:
        found = rows_in_front(index.domain_of(n.shape), self.rows)
        if found is None:
            return None
        shape, wall = found
        if n.op.uses_index and (wall == len(shape) or shape[-1] != n.shape[-1]):
            return None
        r = Rows(n)
        r.shape, r.wall = shape, wall
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
        found = rows_in_front(index.domain_of(v.shape[:kept]), self.rows)
        if found is None:
            return None
        shape, wall = found
        drop = index.domain_of(v.shape[kept:])
        v = cut(v, shape + drop)
        if v is None or not self._reads(n.inputs[0], v, wall):
            return None
        r = Rows(n)
        r.shape, r.wall, r.views, r.walls, r.reduced = shape, wall, [v], [wall], len(drop)
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
        drop = view(tuple(drop.shape[d] for d in order), tuple(drop.strides[d] for d in order), 0)
        found = rows_in_front(drop.shape, self.rows)
        if found is None:
            return None
        shape, wall = found
        drop = cut(drop, shape)
        whole = view(drop.shape[:wall] + keep.shape + drop.shape[wall:], drop.strides[:wall] + keep.strides + drop.strides[wall:],
                     keep.offset)
        if not aligned(whole, wall, per_row):
            return None
        r = Rows(n)
        r.sums, r.wall, r.shape, r.views, r.walls = True, wall, keep.shape, [whole], [wall]
        r.reduced = len(drop.shape) - wall
        return r

    def _contraction(self, n: Node) -> Rows | None:
        nb, nm, nn, nk = n.static.dims
        a, b = n.views
        lead = a.shape[:nb + nm]
        found = rows_in_front(lead, self.rows)
        if found is None:
            return None
        shape, wall = found
        cuts = len(shape) - len(lead)               # one dimension may have been cut in two
        in_batch = wall - cuts < nb or wall == nb and not cuts
        batch = nb + cuts if in_batch else nb
        if not in_batch and nb:
            return None                             # rows of several products: the second operand is not theirs alone
        va = cut(a, shape + a.shape[nb + nm:])
        vb = cut(b, shape[:batch] + b.shape[nb:])
        if va is None or vb is None or len(va.shape) != len(shape) + nk or len(vb.shape) != batch + nn + nk:
            return None
        if not self._reads(n.inputs[0], va, wall):
            return None
        if in_batch and not self._reads(n.inputs[1], vb, wall) or not in_batch and self._inner(n.inputs[1]):
            return None
        r = Rows(n)
        r.shape, r.wall, r.views, r.walls = shape + b.shape[nb:nb + nn], wall, [va, vb], [wall, wall if in_batch else 0]
        r.dims = (batch, len(shape) - batch, nn, nk)
        return r

    def _crossing_contraction(self, n: Node) -> Rows | None:
        """A product summed over the rows: the gradient of a weight."""
        nb, nm, nn, nk = n.static.dims
        a, b = n.views
        if nb or not n.dtype.is_floating_point:
            return None
        k = a.shape[nm:]
        found = rows_in_front(k, self.rows)
        if found is None or not any(self._inner(s) for s in n.inputs):
            return None
        shape, wall = found
        r = Rows(n)
        for s, v, rest in ((n.inputs[0], a, a.shape[:nm]), (n.inputs[1], b, b.shape[:nn])):
            v = cut(v, rest + shape)
            if v is None or len(v.shape) != len(rest) + len(shape):
                return None
            w = len(rest)
            order = [*range(w, w + wall), *range(w), *range(w + wall, len(v.shape))]
            v = view(tuple(v.shape[d] for d in order), tuple(v.strides[d] for d in order), v.offset)
            if not self._reads(s, v, wall):
                return None
            r.views.append(v)
            r.walls.append(wall)
        r.sums, r.wall, r.shape = True, wall, a.shape[:nm] + b.shape[:nn]
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
        for i in range(max(self.members), max(min(self.members) - REACH, 0) - 1, -1):
            inside = i in self.members
            if not inside and i not in above and i not in wanted:
                continue
            if not inside and (i in above or not self._joins_before(i, above, readers[i])):
                inside = False
                above.add(i)
            elif not inside:
                inside = True
            (wanted if inside else above).update(self.sources[i])

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
        end = max(members) + REACH
        waiting = sorted({c for i in members for c in readers[i] if c not in members})
        seen = set(waiting)
        while waiting:
            i = heapq.heappop(waiting)
            if i >= end:
                break
            bad = any([s in tainted or s in members and members[s].sums for s in sources[i]])
            r = None if bad else self.rows_of(self.nodes[i])
            if r is None:
                tainted.add(i)
            else:
                members[i] = r
            for c in readers[i]:
                if c not in seen and c not in members:
                    seen.add(c)
                    heapq.heappush(waiting, c)


def find(fusion) -> list:
    """The chains of a recording that has been grouped once without any."""
    recorded, needed = fusion.recorded, fusion.needed
    seeds = [n.index for n in recorded if needed[n.index] and n.op.family == "contraction" and n.numel and _largest(n) >= SMALL]
    if not seeds:
        return []
    readers: list[list[int]] = [[] for _ in recorded]
    for n in recorded:
        if needed[n.index]:
            for s in fusion.sources[n.index]:
                readers[s].append(n.index)
    chains: list[Chain] = []
    taken: set[int] = set()
    useless: dict[int, set[int]] = {}       # by the number of rows: members of chains that gain nothing
    for seed in seeds:
        found = []
        for rows in candidates(recorded[seed]) if seed not in taken else ():
            if seed in useless.setdefault(rows, set()):
                continue
            search = Search(fusion, rows, taken)
            if search.grow(seed, readers):
                chain = Chain(fusion, search, readers)
                if chain.gain > 0:
                    found.append(chain)
                else:
                    useless[rows].update(chain.members)
        for chain in sorted(found, key=lambda c: -c.gain):
            if schedule(fusion, [*chains, chain]) is not None:
                chains.append(chain)
                taken.update(chain.members)
                break
    return chains


def _largest(n: Node) -> int:
    return max(n.numel * n.dtype.itemsize, *(s.numel * s.dtype.itemsize for s in n.inputs if isinstance(s, Node) and s.buffer is None), 0)


def schedule(fusion, chains: list) -> list | None:
    """The recording in an order in which each chain is one unit: nodes and chains. None if chains depend on each other."""
    recorded, needed, sources = fusion.recorded, fusion.needed, fusion.sources
    unit = {i: c for c in chains for i in c.members}
    order: list = []
    state: dict = {}        # of a node or chain: 1 while what it depends on is being ordered, 2 afterwards
    for n in recorded:
        stack = [unit.get(n.index, n)] if needed[n.index] else []
        while stack:
            u = stack[-1]
            now = state.get(id(u), 0)
            if now:
                stack.pop()
                if now == 1:
                    state[id(u)] = 2
                    order.append(u)
                continue
            state[id(u)] = 1
            for s in sources[u.index] if isinstance(u, Node) else [s for i in u.members for s in sources[i]]:
                v = unit.get(s, recorded[s])
                if v is u:
                    continue
                if state.get(id(v)) == 1:
                    return None
                if id(v) not in state:
                    stack.append(v)
    return order


def candidates(n: Node) -> list[int]:
    """Numbers of rows that a chain around a contraction may have."""
    nb, nm, _, _ = n.static.dims
    shape = n.views[0].shape[:nb] if nb else n.views[0].shape[:nm]
    found, rows = [], 1
    for s in shape:
        rows *= s
        if s > 1 and rows > 3:
            found.append(rows)
    return found


class Chain:
    """Nodes computed block by block. `members`: their indices in the recording. `rows`, `block`: rows in all, rows of a block.

    `outputs`: members that are read outside (or can still be asked for). `sums`: members that add up over the rows.
    """

    def __init__(self, fusion, search: Search, readers: list[list[int]]):
        self.rows = search.rows
        self.recorded = fusion.recorded
        self.how = dict(sorted(search.members.items()))
        self.members = list(self.how)
        inside = self.how
        self.sums = [i for i in self.members if inside[i].sums]
        self.outputs = [i for i in self.members if not inside[i].sums and
                        (fusion.live[i] or any(c not in inside for c in readers[i]))]
        self._weigh(fusion)

    def _weigh(self, fusion) -> None:
        """The rows of a block, and nanoseconds gained by not going through memory."""
        self.gain, self.block = -1.0, 1
        kept = set(self.outputs)
        saved = footprint = 0
        for i in self.members:
            n = self.recorded[i]
            if not self.how[i].sums and fusion.stored[i]:
                nbytes = n.numel * n.dtype.itemsize
                saved += nbytes if i in kept else 2 * nbytes
                footprint += nbytes / self.rows
        one = self._one_row()
        shared = packed = partial = calls = 0
        for i in self.members:
            r, n = self.how[i], self.recorded[i]
            if r.sums:
                partial += n.numel * r.node.static.casts[0].itemsize
            if n.op.family == "contraction":
                calls += 1
                if not r.sums and not r.walls[1]:
                    packed += r.views[1].numel
                    shared += 1
        if not saved or not calls:
            return
        if one and (shared or self.sums):
            return
        if one:
            self.block = 1
            if footprint > ONE_ROW_BYTES:
                return
        else:
            fits = int(BLOCK_BYTES / max(footprint, 1))
            if fits < 96:
                return
            self.block = min(self.rows, MOST_ROWS, fits // 32 * 32)
        blocks = -(-self.rows // self.block)
        if blocks < 2:
            return
        lost = blocks * (packed * NS_PER_PACKED + (calls + 2) * NS_PER_CALL)
        if partial > BLOCK_BYTES // 4:
            lost += blocks * partial * NS_PER_BYTE
        self.gain = saved * NS_PER_BYTE - lost

    def _one_row(self) -> bool:
        """Whether a block must be one row: something outside is not read in even steps from row to row."""
        for r in self.how.values():
            for v, wall in zip(r.views, r.walls):
                if v is not None and regular(v, wall) is None:
                    return True
        return False

    def release(self) -> None:
        """Forget the recording: its leaves hold memory."""
        self.recorded, self.how, self.outputs, self.sums = [], {}, [], bool(self.sums)

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block)

    @property
    def per_chunk(self) -> int:
        """Blocks of one parallel iteration: those that share a partial result, or some that make it long enough."""
        return -(-self.blocks // CHUNKS) if self.sums else 1

    @property
    def chunks(self) -> int:
        return -(-self.blocks // self.per_chunk)

    def body(self, rows: int, partial: dict) -> Body:
        """The graph of a block of `rows` rows. `partial`: member that sums -> the node that holds the partial results."""
        made: dict[int, Node] = {}
        leaves: dict = {}
        windows: dict = {}
        nodes: list[Node] = []
        live: list[bool] = []
        origin: dict[int, int] = {}
        one = self.block == 1

        def add(n: Node, out: bool, i: int) -> Node:
            n.index = len(nodes)
            origin[n.index] = i
            nodes.append(n)
            live.append(out)
            return n

        def restrict(v: View, wall: int) -> View:
            if not wall:
                return v
            if one:
                return view(v.shape[wall:], v.strides[wall:], v.offset)
            return view((rows,) + v.shape[wall:], (regular(v, wall),) + v.strides[wall:], v.offset)

        def outside(s: Node, v: View, wall: int) -> Node:
            if s.buffer is None:
                s = self.recorded[s.index]
            steps = self._steps(v, wall)
            key = (id(s), steps)
            if key not in leaves:
                leaves[key] = n = leaf(OUTSIDE, s.numel, s.dtype)
                windows[id(n)] = Window(s, steps)
            return leaves[key]

        for i in self.members:
            r = self.how[i]
            n = r.node
            inputs, views = [], []
            for s, v, wall in zip(n.inputs, r.views, r.walls):
                if v is None:
                    inputs.append(s)
                    views.append(None)
                    continue
                inner = s.buffer is None and s.index in made
                inputs.append(made[s.index] if inner else outside(s, v, wall))
                views.append(restrict(v, wall))
            lead = () if one else (rows,)
            static = n.static
            if n.op.family == "contraction":
                nb, nm, nn, nk = r.dims
                if r.sums:
                    views = [self._rows_last(v, one, a) for v, a in zip(views, (nm, nn))]
                    dims = (0, nm, nn, nk + (not one))
                elif r.walls[1]:
                    dims = (nb - r.wall + len(lead), nm, nn, nk)
                else:
                    dims = (0, nm - r.wall + len(lead), nn, nk)
                static = static._replace(dims=dims)
            elif n.op.family == "reduction":
                if r.sums and not one:
                    v = views[0]
                    kept = len(r.shape)
                    views = [view(v.shape[1:1 + kept] + v.shape[:1] + v.shape[1 + kept:],
                                  v.strides[1:1 + kept] + v.strides[:1] + v.strides[1 + kept:], v.offset)]
                static = static._replace(reduced=r.reduced + (r.sums and not one))
            shape = r.shape if r.sums else lead + r.shape[r.wall:]
            dtype = static.casts[0] if r.sums else n.dtype
            new = add(Node(n.op, tuple(inputs), tuple(views), static, shape, size(shape), dtype), i in self.outputs, i)
            new.where = n.where
            made[i] = new
            if i in self.outputs:
                windows[id(new)] = Window(self.recorded[i], ((1, self.blocks, self.block * (n.numel // self.rows)),))
            if r.sums:
                held = leaf(OUTSIDE, new.numel, dtype)
                total = add(Node(PLUS, (new, held), (dense(shape), dense(shape)), Static(casts=(dtype, dtype)), shape, new.numel, dtype),
                            True, i)
                windows[id(held)] = windows[id(total)] = Window(partial[i], (), new.numel)
        return Body(nodes, live, windows, origin)

    def _rows_last(self, v: View, one: bool, kept: int) -> View:
        """An operand with its rows behind the kept dimensions, where the dimensions that are summed stand."""
        if one:
            return v
        order = [*range(1, 1 + kept), 0, *range(1 + kept, len(v.shape))]
        return view(tuple(v.shape[d] for d in order), tuple(v.strides[d] for d in order), v.offset)

    def _steps(self, v: View, wall: int) -> tuple:
        """How far apart the blocks begin, one entry for each dimension of the rows."""
        if not wall:
            return ()
        if self.block > 1:
            stride = regular(v, wall)
            return ((1, self.blocks, stride * self.block),) if stride else ()
        steps, divisor = [], 1
        for d in range(wall - 1, -1, -1):
            if v.strides[d]:
                steps.append((divisor, v.shape[d], v.strides[d]))
            divisor *= v.shape[d]
        return tuple(steps)


__all__ = ["Chain", "find", "schedule"]
