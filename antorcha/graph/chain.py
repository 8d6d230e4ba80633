"""Chains: parts of a recording that are computed block by block, so that what lies between their operators stays in cache.

All values of a chain have the same N rows: flat, row r of a value of N*s elements is [r*s, (r+1)*s). A node may belong to a
chain if its own rows need nothing of the chain but the same rows: softmax over attention scores with N = batch * heads,
a multilayer perceptron with N = examples. Sums over the rows (the gradient of a weight) may belong to it too: each block
adds to a partial result.

    Search      which nodes can be computed by the same rows (rows.py)
    find        which of these make chains, by what it saves and costs
    Chain.body  the same operators for one block of rows: a small graph of its own, fused and lowered like any other
    stages      on a GPU, where rows are too long for shared memory, the graphs of their tiles (tiles.py)

Every node of a chain depends on the chain's other nodes directly or not at all (never through one outside of it), so the
chain is computed at once: after all that it reads, before all that reads it.
"""

from __future__ import annotations

from typing import NamedTuple

from ..loops.body import OUTSIDE, Body, Stage, Window
from ..loops.view import View, dense, ordered, row_major, view
from .group import size
from .node import Node, Static, leaf
from .rows import Dependence, Search, cut, regular
from .tiles import Refused, Tiling

SMALL = 2 << 20         # bytes: what is smaller stays in cache anyway
BLOCK_BYTES = 320 << 10  # what the values of one block may take: most of a second-level cache
ONE_ROW_BYTES = 4 << 20  # the same, where a block is one row; some of its values take over the memory of others
MOST_ROWS = 2048        # rows of a block
CHUNKS = 64             # most partial results
NS_PER_BYTE = 0.1       # of memory traffic
NS_PER_PACKED = 0.4     # of packing an element of an operand that all blocks share
NS_PER_CALL = 400.0     # of calling one kernel for one block


class Limits(NamedTuple):
    """What decides about chains on a device: the constants above, the least rows and the granule of a block, shared memory of a block of
    threads in bytes (None: no GPU), whether a block's rows may be those of one product among several (the queries of one head), with
    values of an earlier chain computed anew rather than stored."""

    small: int
    block_bytes: int
    one_row_bytes: int
    least: int
    granule: int
    most: int
    chunks: int
    ns_per_byte: float
    ns_per_packed: float
    ns_per_call: float
    ns_per_shared: float = NS_PER_PACKED    # of packing an element of an operand that only the blocks of a group share
    room: int | None = None
    reach: int = 600        # nodes from a chain's other members within which a member is looked for

    @property
    def grouped(self) -> bool:
        return self.room is not None


# On a GPU: times are those of all blocks together. What products need of shared memory is not for values.
# Members may be far: attention's derivative computes anew what the forward pass of its layer has computed.
GPU = Limits(SMALL, 0, 0, 32, 16, 128, 256, 0.0005, 0.001, 1.0, 0.0002, 0, 100_000)
FOR_PRODUCTS = 32 << 10
ROOMY = 8               # times the shared memory that a block's values may take at the least number of rows: they stay in cache
TILE, TILE_ROWS = 64, 64        # of rows that are too long for shared memory: elements of a tile, rows of a block


def limits(device: str) -> Limits:
    if device == "cpu":
        return Limits(SMALL, BLOCK_BYTES, ONE_ROW_BYTES, 96, 32, MOST_ROWS, CHUNKS, NS_PER_BYTE, NS_PER_PACKED, NS_PER_CALL)
    from ..runtime import cuda

    room = cuda.named(device).properties.shared_memory
    fast = max(0, room - FOR_PRODUCTS)
    return GPU._replace(room=room, block_bytes=fast, one_row_bytes=fast)


class Plus:
    """The operator that adds a block's sum to those of the blocks before."""

    name, family, uses_index, complex = "add", "pointwise", False, None

    @staticmethod
    def scalar(a, b):
        return a + b


PLUS = Plus()


def find(fusion, device: str = "cpu") -> list:
    """The chains of a recording that has been grouped once without any."""
    recorded, needed, bounds = fusion.recorded, fusion.needed, limits(device)
    seeds = [n.index for n in recorded if needed[n.index] and n.op.family == "contraction" and n.numel and _is_large(n, bounds.small)]
    if not seeds:
        return []
    known = Dependence(fusion)
    chains: list[Chain] = []
    taken: dict[int, Chain] = {}
    useless: dict[tuple, set[int]] = {}     # by the number of rows and groups: members of chains that gain nothing
    for seed in seeds:
        found = []
        for rows in candidates(recorded[seed], bounds.grouped) if seed not in taken else ():
            if seed in useless.setdefault(rows, set()):
                continue
            search = Search(fusion, known, *rows, taken, bounds)
            if search.grow(seed):
                chain = Chain(fusion, search, known.readers)
                if chain.gain > 0:
                    wider = Chain(fusion, search, known.readers) if search.widen() else chain
                    found.append(wider if wider.gain > 0 else chain)
                else:
                    useless[rows].update(chain.members)
        for chain in sorted(found, key=lambda c: -c.gain):
            if not waits_for_itself(chain, chains, taken, known.sources):
                chains.append(chain)
                taken.update(dict.fromkeys(chain.members, chain))
                break
    for chain in chains:
        chain.settle(fusion, known.readers, taken)
    return chains


def _is_large(n: Node, nbytes: int) -> bool:
    """Whether a node or a computed value that it reads takes so many bytes. Each is asked by itself: which of them is the largest would
    be decided anew for other sizes."""
    values = [n, *(s for s in n.inputs if isinstance(s, Node) and s.buffer is None)]
    return any(s.numel * s.dtype.itemsize >= nbytes for s in values)


def waits_for_itself(chain: Chain, chains: list, taken: dict, sources: list[list[int]]) -> bool:
    """Whether something that a chain reads depends on it, by way of other chains. `taken`: the chains that nodes belong to."""
    first = chain.members[0]
    for other in sorted(chains, key=lambda c: -c.members[-1]):      # they lead from nodes before the first of the chain to later ones
        if other.members[-1] > first:
            first = min(first, other.members[0])
    seen: set = {chain}
    stack = [s for s in chain.reads(sources) if s not in chain.how]
    while stack:
        s = stack.pop()
        if s in chain.how:
            return True
        unit = taken.get(s, s)
        if s >= first and unit not in seen:
            seen.add(unit)
            stack += sources[s] if unit is s else [r for r in unit.reads(sources) if r not in unit.how]
    return False


def schedule(fusion, chains: list) -> list:
    """The recording in an order in which each chain is one unit: nodes and chains."""
    recorded, sources = fusion.recorded, fusion.sources
    unit: list = list(range(len(recorded)))     # of each node: its number or its chain
    for c in chains:
        for i in c.members:
            unit[i] = c
    reads = {c: list(dict.fromkeys(unit[s] for s in c.reads(sources) if unit[s] is not c)) for c in chains}
    order: list = []
    done: set = set()
    for i, needed in enumerate(fusion.needed[:len(recorded)]):
        stack = [unit[i]] if needed else []
        while stack:
            u = stack[-1]
            missing = () if u in done else [v for v in (map(unit.__getitem__, sources[u]) if type(u) is int else reads[u]) if v not in done]
            if missing:
                stack += missing
                continue
            stack.pop()
            if u not in done:
                done.add(u)
                order.append(u if type(u) is Chain else recorded[u])
    return order


def candidates(n: Node, grouped: bool = False) -> list[tuple[int, int]]:
    """Numbers of rows, and of groups of them, that a chain around a contraction may have."""
    nb, nm, _, _ = n.static.dims
    shape = n.views[0].shape[:nb] if nb else n.views[0].shape[:nm]
    found, rows = [], 1
    for s in shape:
        rows *= s
        if s > 1 and rows > 3:
            found.append((rows, 1))
    products, own = size(n.views[0].shape[:nb]), size(n.views[0].shape[nb:nb + nm])
    if grouped and products > 1 and own > 1:
        found.append((products * own, products))
    return found


class Chain:
    """Nodes computed block by block. `members`: their indices in the recording. `rows`, `block`: rows in all, rows of a block.

    `outputs`: members that are read outside (or can still be asked for). `sums`: members that add up over the rows.
    """

    def __init__(self, fusion, search: Search, readers: list[list[int]]):
        self.rows, self.groups, self.limits, self.room = search.rows, search.groups, search.limits, search.limits.room
        self.recorded = fusion.recorded
        self.how = dict(sorted(search.members.items()))
        self.again, self.beside = search.again, search.beside
        self.members = list(self.how)
        inside = self.how
        self.sums = [i for i in self.members if inside[i].sums]
        self.outputs = [i for i in self.members if not inside[i].sums and
                        (fusion.live[i] or any(c not in inside for c in readers[i]))]
        self._weigh(fusion)

    def settle(self, fusion, readers: list[list[int]], taken: dict) -> None:
        """Now that all chains are known: what no later chain reads, but computes anew, is not stored."""
        def reads(c: int, i: int) -> bool:
            return c not in self.how and not (c in taken and i in taken[c].again)

        self.outputs = [i for i in self.members if not self.how[i].sums and (fusion.live[i] or any(reads(c, i) for c in readers[i]))]
        if self.long and self._tiling(self.body(self.block, {i: self.recorded[i] for i in self.sums}, {})) is None:
            self.long = 0

    def _tiling(self, body: Body) -> Tiling | None:
        try:
            tiling = Tiling(body, self.long, TILE)
        except Refused:
            return None
        for i, order in tiling.order.items():
            n, r = self.recorded[body.origin[i]], self.how[body.origin[i]]
            if n.shape[len(n.shape) - len(order):] != r.shape:
                return None
            self.orders[body.origin[i]] = order
        return tiling

    def stages(self, body: Body) -> tuple[list[Stage], dict]:
        """(what is computed for a block, in order; bytes that live from one stage to the next, as in `Tiling.held`)."""
        tiling = self._tiling(body) if self.long else None
        return (tiling.stages, tiling.held) if tiling else ([Stage([body])], {})

    def partial_strides(self, i: int) -> tuple:
        """How the partial results of a sum over the rows lie in memory."""
        n, order = self.recorded[i], self.orders.get(i)
        if order is None:
            return row_major(n.shape)
        lead = len(n.shape) - len(order)
        strides, step = [0] * len(order), 1
        for d in reversed(order):
            strides[d] = step
            step *= n.shape[lead + d]
        return row_major(n.shape)[:lead] + tuple(strides)

    def reads(self, sources: list[list[int]]) -> list[int]:
        """The nodes that members read, without those computed anew."""
        return [s for i in (*self.members, *self.again) for s in sources[i] if s not in self.again]

    def _weigh(self, fusion) -> None:
        """The rows of a block, and nanoseconds gained by not going through memory."""
        self.gain, self.block = -1.0, 1
        self.long, self.orders = 0, {}      # elements of rows that are computed in tiles; as in `Tiling`
        kept = set(self.outputs)
        read = {s for i in self.members for s in fusion.sources[i]}
        saved = held = 0        # bytes that need not move; bytes that lie between
        for i in self.members:
            n = self.recorded[i]
            if not self.how[i].sums and fusion.stored[i]:
                nbytes = n.numel * n.dtype.itemsize
                saved += 2 * nbytes if i not in kept else nbytes if i in read or self.room is None else 0
                held += nbytes
        for i in self.again:
            n = self.recorded[i]
            if fusion.stored[i]:
                saved += n.numel * n.dtype.itemsize
                held += n.numel * n.dtype.itemsize
        one = self._one_row()
        shared = packed = partial = calls = 0
        bounds = self.limits
        for i in self.members:
            r, n = self.how[i], self.recorded[i]
            if r.sums:
                partial += n.numel * n.static.casts[0].itemsize // (self.groups if r.grouped else 1)
            if n.op.family == "contraction":
                calls += 1
                if not r.sums and r.walls[1] != r.wall:
                    b = r.views[1].numel
                    packed += b / self.groups * bounds.ns_per_shared if r.walls[1] else b * bounds.ns_per_packed
                    shared += 1
        if not saved or not calls:
            return
        if one and (shared or self.sums or self.groups > 1):
            return
        if one:
            self.block = 1
            if held > bounds.one_row_bytes * self.rows:
                return
        else:
            fits = bounds.block_bytes * self.rows // max(held, self.rows)
            if fits < bounds.least and self.groups > 1:
                self.long = max((n for r in self.how.values() if not r.sums for n in r.shape[r.wall:]), default=0)
                if held * bounds.least < ROOMY * self.room * self.rows or self.long > TILE:
                    fits = self._rows_of_tiles(fusion) if self.long > TILE else bounds.least
            if fits < bounds.least:
                return
            self.block = min(self.group_rows, bounds.most, fits // bounds.granule * bounds.granule)
        if self.blocks < 2:
            return
        lost = self.blocks * (packed + (calls + 2) * bounds.ns_per_call)
        if partial > bounds.block_bytes // 4:
            lost += self.blocks * partial * bounds.ns_per_byte
        self.gain = saved * bounds.ns_per_byte - lost

    def _rows_of_tiles(self, fusion) -> int:
        """The rows of a block that is computed in tiles. About half of its values are needed at one time, sums so far twice."""
        nbytes = 0
        for i, r in self.how.items():
            n = self.recorded[i]
            if fusion.stored[i] and not r.sums:
                long = self.long in r.shape[r.wall:]
                nbytes += n.numel * n.dtype.itemsize / self.rows * (TILE / self.long if long else 3)
        return TILE_ROWS if nbytes / 2 * TILE_ROWS <= self.limits.block_bytes else self.limits.least

    def _one_row(self) -> bool:
        """Whether a block must be one row: something outside is not read in even steps from row to row."""
        for r in (*self.how.values(), *self.again.values()):
            for v, wall in zip(r.views, r.walls):
                if v is not None and regular(v, wall, r.lead) is None:
                    return True
        return False

    def release(self) -> None:
        """Forget the recording: its leaves hold memory."""
        self.recorded, self.how, self.again, self.outputs, self.sums = [], {}, {}, [], bool(self.sums)

    @property
    def group_rows(self) -> int:
        """Rows of a group: blocks do not reach from one into the next."""
        return self.rows // self.groups

    @property
    def period(self) -> int:
        """Blocks of a group, the last of which may be shorter."""
        return -(-self.group_rows // self.block)

    @property
    def blocks(self) -> int:
        return self.groups * self.period

    @property
    def per_chunk(self) -> int:
        """Blocks of one parallel iteration: those that share a partial result, or some that make it long enough."""
        if self.groups > 1:
            return self.period if self.sums else 1
        return -(-self.blocks // self.limits.chunks) if self.sums else 1

    @property
    def chunks(self) -> int:
        return -(-self.blocks // self.per_chunk)

    def may_store(self, i: int, v: View) -> bool:
        """Whether the blocks of an output can be left at `v` in other memory."""
        r = self.how[i]
        v = cut(v, r.shape)
        return v is not None and len(v.shape) == len(r.shape) and (self.block == 1 or regular(v, r.wall, r.lead) is not None)

    def body(self, rows: int, partial: dict, places: dict) -> Body:
        """The graph of a block of `rows` rows. `partial`: member that sums -> the node that holds the partial results. `places`: output ->
        where it is left, if not in memory of its own (settling.py)."""
        made: dict[int, Node] = {}
        leaves: dict = {}
        windows: dict = {}
        nodes: list[Node] = []
        live: list[bool] = []
        origin: dict[int, int] = {}
        into: dict[int, View] = {}
        one = self.block == 1

        def add(n: Node, out: bool, i: int) -> Node:
            n.index = len(nodes)
            origin[n.index] = i
            nodes.append(n)
            live.append(out)
            return n

        def restrict(v: View, wall: int, lead: int) -> View:
            if one or wall <= lead:
                return view(v.shape[wall:], v.strides[wall:], v.offset)
            return view((rows,) + v.shape[wall:], (regular(v, wall, lead),) + v.strides[wall:], v.offset)

        def outside(s: Node, v: View, wall: int, lead: int) -> Node:
            if s.buffer is None:
                s = self.recorded[s.index]
            steps = self._steps(v, wall, lead)
            key = (id(s), steps)
            if key not in leaves:
                leaves[key] = n = leaf(OUTSIDE, s.numel, s.dtype)
                windows[id(n)] = Window(s, steps)
            return leaves[key]

        for i, r in sorted({**self.again, **self.how}.items(), key=lambda item: (item[0] in self.beside, item[0])):
            n = self.recorded[i]
            inputs, views = [], []
            for s, v, wall in zip(n.inputs, r.views, r.walls):
                if v is None:
                    inputs.append(s)
                    views.append(None)
                    continue
                inner = s.buffer is None and s.index in made
                inputs.append(made[s.index] if inner else outside(s, v, wall, r.lead))
                views.append(restrict(v, wall, r.lead))
            lead = () if one else (rows,)
            static = n.static
            if n.op.family == "contraction":
                nb, nm, nn, nk = r.dims
                if r.sums:
                    views = [self._rows_last(v, one, a) for v, a in zip(views, (nm, nn))]
                    dims = (0, nm, nn, nk + (not one))
                elif r.walls[1] == r.wall:
                    dims = (nb - r.wall + len(lead), nm, nn, nk)
                else:
                    dims = (0, nb + nm - r.wall + len(lead), nn, nk)
                static = static._replace(dims=dims, within=static.within if dims[1:] == n.static.dims[1:] else ())
            elif n.op.family == "reduction":
                if r.sums and not one:
                    v = views[0]
                    kept = len(r.shape)
                    views = [view(v.shape[1:1 + kept] + v.shape[:1] + v.shape[1 + kept:],
                                  v.strides[1:1 + kept] + v.strides[:1] + v.strides[1 + kept:], v.offset)]
                static = static._replace(reduced=r.reduced + (r.sums and not one))
            shape = r.shape if r.sums else lead + r.shape[r.wall:]
            dtype = static.casts[0] if r.sums else n.dtype
            new = add(Node.of(n.op, tuple(inputs), tuple(views), static, shape, size(shape), dtype), i in self.outputs, i)
            new.where = n.where
            made[i] = new
            if i in places:
                v = cut(places[i].view, r.shape)
                into[new.index] = restrict(view(v.shape, v.strides), r.wall, r.lead)
                windows[id(new)] = Window(self.recorded[places[i].target], self._steps(v, r.wall, r.lead), start=v.offset)
            elif i in self.outputs:
                per_row = n.numel // self.rows
                steps = ((1, self.period, self.block * per_row),)
                if self.groups > 1:
                    steps += ((self.period, self.groups, self.group_rows * per_row),)
                windows[id(new)] = Window(self.recorded[i], steps)
            if r.sums:
                held = leaf(OUTSIDE, new.numel, dtype)
                total = add(Node.of(PLUS, (new, held), (dense(shape), dense(shape)), Static(casts=(dtype, dtype)), shape, new.numel, dtype),
                            True, i)
                windows[id(held)] = windows[id(total)] = Window(partial[i], (), new.numel)
        return Body(nodes, live, windows, origin, into=into)

    def _rows_last(self, v: View, one: bool, kept: int) -> View:
        """An operand with its rows behind the kept dimensions, where the dimensions that are summed stand."""
        if one:
            return v
        order = [*range(1, 1 + kept), 0, *range(1 + kept, len(v.shape))]
        return ordered(v, order)

    def _steps(self, v: View, wall: int, lead: int) -> tuple:
        """How far apart the blocks begin, one entry for each dimension of the rows, or of the groups and one for the rows of a group."""
        steps, divisor = [], 1
        if self.block > 1:
            stride = regular(v, wall, lead) if wall > lead else 0
            steps = [(1, self.period, stride * self.block)] if stride else []
            wall, divisor = min(wall, lead), self.period
        for d in range(wall - 1, -1, -1):
            if v.strides[d]:
                steps.append((divisor, v.shape[d], v.strides[d]))
            divisor *= v.shape[d]
        return tuple(steps)


__all__ = ["Chain", "find", "schedule"]
