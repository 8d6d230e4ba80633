"""Pieces of lowering: blocks of a domain, coarser index maps, and the program that adds up partial results."""

from __future__ import annotations

from . import index, ir
from .element import Elements
from .size import greatest, least, sure
from .view import View
from .writer import Call, Writer, combined, decode, identity

BLOCK = 8192        # elements of a parallel iteration
COLUMNS = 2048      # columns of a parallel iteration: their sums take a quarter of a first level cache
SHORT = 512         # rows of fewer elements are computed several in turn; partial results are added up so many columns at a time
ROUNDS = 32         # in which partial results are halved in number, of 2**32 at most
NARROW = 128        # loops of fewer elements are marked "short" or "whole"
LANES = 16          # 32-bit numbers in the widest vectors


def volume(extents) -> int:
    n = 1
    for e in extents:
        n *= e
    return n


def vector(extent: int) -> str:
    """The kind of a loop over so many independent elements."""
    if extent >= NARROW:
        return "vector"
    return "whole" if sure(extent % LANES, 0) else "short"


def rows_in_turn(rows: tuple, columns: int) -> int:
    """How many rows a parallel iteration computes: several where they are short and finding their coordinates takes divisions."""
    if len(rows) < 2 or columns >= SHORT:
        return 1
    return greatest(2, least(BLOCK // 4 // columns, volume(rows) // 16))


def odometer(place: list[ir.Op], extents: list[ir.Op]) -> list[ir.Op]:
    """Statements that step the coordinates of a row, all of them variables, to the next row."""
    if not place:
        return []
    steps = [ir.update(place[-1].attr, place[-1] + ir.integer(1))]
    for d in range(len(place) - 1, 0, -1):
        over = place[d].eq(extents[d])
        steps += [ir.update(place[d - 1].attr, ir.select(over, place[d - 1] + ir.integer(1), place[d - 1])),
                  ir.update(place[d].attr, ir.select(over, ir.integer(0), place[d]))]
    return steps


def coarsen(domain: tuple, views: list[View], walls: tuple) -> dict[View, View]:
    """Each view over the fewest dimensions that keep all of them affine."""
    groups = index.merge(domain, views, walls)
    return {v: index.coarse(v, groups) for v in views}


def rewrite(elements: Elements, table: dict) -> None:
    """Put the coarsened views in the place of the elements' own."""
    for e in elements.memo.values():
        if e.view is not None:
            e.view = table.get(e.view, e.view)
        for a in e.args:
            if a.kind == "coordinate":
                a.view = table.get(a.view, a.view)


class Blocks:
    """Parallel iterations over a domain without reductions: blocks of the one dimension, or rows of the last."""

    def __init__(self, w: Writer, domain: tuple, block: int | None = None):
        block = block or BLOCK
        self.w, self.domain = w, domain
        p, i = ir.index("p"), ir.index("i")
        self.place: list[ir.Op] = []        # where rows are computed in turn: the variables of their coordinates
        w.wall = 0
        if not domain:
            self.count, self.inner = ir.integer(1), None
            self.tiles = 1
        elif len(domain) == 1:
            n = domain[0]
            extent = w.extent(0, n)
            if n <= block:
                self.count, self.inner = ir.integer(1), extent
                self.tiles = 1
                w.coords = [i]
            else:
                size = ir.integer(block)
                self.count = (extent + ir.integer(block - 1)) / size
                self.inner = ir.minimum(extent - p * size, size)
                self.tiles = -(-n // block)
                w.coords = [p * size + i]
        else:
            extents = [w.extent(d, n) for d, n in enumerate(domain)]
            self.rows, self.inner = extents[:-1], extents[-1]
            self.count, self.tiles = product(self.rows), volume(domain[:-1])
            w.coords = decode(p, self.rows) + [i]
            w.wall = len(domain) - 1
            turns = rows_in_turn(domain[:-1], domain[-1])
            if turns > 1:
                self.turns = w.extent("turns", turns)
                self.place = [ir.value(w.name("c"), ir.integer(0).dtype) for _ in self.rows]
                w.coords = [*self.place, i]
                self.tiles = -(-self.tiles // turns)

    def inside(self, body: list, masked: bool = True) -> list:
        if self.inner is None:
            return body
        kind = vector(self.domain[-1])
        return [ir.loop("i", kind if masked or kind != "short" else "whole", self.inner, *body)]

    def around(self, body: list) -> ir.Op:
        if not self.place:
            return ir.loop("p", "parallel", self.count, *body)
        first = ir.index("p") * self.turns
        start = [ir.accumulator(c.attr, "set", value) for c, value in zip(self.place, decode(first, self.rows))]
        turns = ir.loop("r", "serial", ir.minimum(self.count - first, self.turns), *body, *odometer(self.place, self.rows))
        return ir.loop("p", "parallel", (self.count + self.turns - ir.integer(1)) / self.turns, *start, turns)


def product(factors: list) -> ir.Op:
    total = ir.integer(1)
    for f in factors:
        total = total * f
    return total


def finish(lowering, group, n, buffer, count: int, columns: int, outer: int) -> Call:
    """The program that combines `outer x count x columns` partial results into node n's `outer x columns`."""
    w = lowering.writer()
    d = n.static.casts[0]
    out = lowering.buffer_of(n)
    extent = w.extent("count", count)
    p, c, i = ir.index("p"), ir.index("c"), ir.index("i")
    width = w.extent("columns", columns) if columns > 1 else ir.integer(1)
    if columns == 1 or lowering.fusion.gpu:       # a GPU has lanes for every column
        slot = w.memory(buffer, d)
        place = p * extent + c if columns == 1 else (p / width * extent + c) * width + ir.rem(p, width)
        body = [ir.accumulator("a", n.op.combine, identity(n.op.combine, d)),
                ir.loop("c", "vector", extent, ir.update("a", ir.load(slot, place, d))),
                ir.store(w.memory(out, n.dtype, 0, True), p, ir.value("a", d).cast(n.dtype))]
        return w.finish([ir.loop("p", "parallel", width * w.extent("outer", outer), *body)], group)
    w.inout.add(buffer)
    slot = w.memory(buffer, d, 0, True)
    size = ir.integer(SHORT)
    blocks = (width + ir.integer(SHORT - 1)) / size
    o, b = (p / blocks, ir.rem(p, blocks)) if outer > 1 else (ir.integer(0), p)
    here = b * size + i
    inner = ir.minimum(width - b * size, size)
    body = []
    left = w.variable("left", "n", extent, body)        # of the partial results: the second half is added to the first, again and again
    half = (left + ir.integer(1)) / ir.integer(2)
    first, second = ((o * extent + k) * width + here for k in (c, c + half))
    add = ir.store(slot, first, combined(n.op.combine, ir.load(slot, first, d), ir.load(slot, second, d)))
    body += [ir.loop("r", "serial", w.extent("rounds", ROUNDS),
                     ir.loop("c", "serial", left - half, ir.loop("i", "vector", inner, add)), ir.update(left.attr, half)),
             ir.loop("j", "vector", inner, _copy(w, slot, out, n, d, o, b, size, extent, width))]
    return w.finish([ir.loop("p", "parallel", blocks * w.extent("outer", outer), *body)], group)


def _copy(w, slot, out, n, d, o, b, size, extent, width) -> ir.Op:
    j = b * size + ir.index("j")
    return ir.store(w.memory(out, n.dtype, 0, True), o * width + j, ir.load(slot, o * extent * width + j, d).cast(n.dtype))
