"""Transpositions: tiles of two dimensions, where something lies in memory along the one and something else along the other.

What lies across the rows that a tile is written in is first copied to a place in cache, turned on the way (through registers, where a
target can), and read from there along those rows. So every line of memory is touched once, however the rows lie: those of a matrix a power
of two wide share so few sets of a cache that lines would be lost before they are read through. The copy's rows are a line longer for the
same reason. A tile is large, for memory is faster the longer the runs in which it is read and, above all, written.
"""

from __future__ import annotations

from . import ir
from .blocks import product, rewrite
from .view import View, ordered
from .writer import Call, decode

LEAST = 16          # least extent of a dimension that is cut into tiles
SHAPE = 256, 256        # rows and columns of a tile: a copy of float32 takes a small part of a second level cache
DEVICE_SHAPE = 16, 32   # on a GPU, which copies nothing
ALIGNED = 64            # bytes


def across(domain: tuple, views: list[View]) -> int | None:
    """The dimension along which something is contiguous that is read with long steps along the last."""
    last = len(domain) - 1
    for v in views:
        t = v.strides
        if _lies_across(v, last) and domain[last] >= LEAST and domain[t.index(1)] >= LEAST:
            return t.index(1)
    return None


def copies(fusion) -> bool:
    """Whether a thread has memory of its own to copy to."""
    return not fusion.gpu


def _lies_across(v: View, last: int) -> bool:
    return abs(v.strides[last]) > 1 and 1 in v.strides[:last]


class Tiles:
    """Writes a group of loops without reductions (`Loops`) in tiles: `rows` of them along dimension `across`, columns along the last."""

    def __init__(self, loops, across: int):
        self.loops, self.w, self.across, self.last = loops, loops.w, across, len(loops.domain) - 1
        self.copies = copies(loops.lowering.fusion)
        if self.copies and any(s[3].strides[across] == 1 for s in loops.stores):
            self._exchange()
        self.rows, self.columns = SHAPE if self.copies else DEVICE_SHAPE

    def _exchange(self) -> None:
        """Results are to lie along the last dimension."""
        loops, order = self.loops, list(range(self.last + 1))
        order[self.across], order[self.last] = self.last, self.across
        table = {v: ordered(v, order) for v in dict.fromkeys(loops.table.values())}
        rewrite(loops.elements, table)
        loops.stores = [(e, b, d, table[v]) for e, b, d, v in loops.stores]
        loops.domain, loops.extents = (tuple(values[d] for d in order) for values in (loops.domain, loops.extents))

    def write(self) -> list[Call]:
        loops, w, last, extents = self.loops, self.w, self.last, self.loops.extents
        p, r, i = ir.index("p"), ir.index("r"), ir.index("i")
        rows, columns = ir.integer(self.rows), ir.integer(self.columns)
        outer = [d for d in range(last) if d != self.across]
        blocks = [(extents[self.across] + (rows - ir.integer(1))) / rows, (extents[last] + (columns - ir.integer(1))) / columns]
        counts = [extents[d] for d in outer] + blocks
        outside: list = []
        place = loops.bound(decode(p, counts), outside)
        first, start = place[-2] * rows, place[-1] * columns
        w.coords = [ir.integer(0)] * (last + 1)
        for d, c in zip(outer, place):
            w.coords[d] = c
        w.coords[self.across], w.coords[last] = first + r, start + i
        w.wall = last
        height, width = ir.minimum(extents[self.across] - first, rows), ir.minimum(extents[last] - start, columns)
        copied = self._copy(height, width, outside) if self.copies else {}
        body: list = []
        w.ops = {}
        loops.hoist([s[0] for s in loops.stores], body)
        w.ops.update(copied)
        inner: list = []
        loops.store(loops.stores, inner)
        body.append(ir.loop("i", "whole", width, *inner))
        outside.append(ir.loop("r", "serial", height, *body))
        return [w.finish([ir.loop("p", "parallel", product(counts), *outside)], loops.group)]

    def _copy(self, height: ir.Op, width: ir.Op, body: list) -> dict:
        """Copies of what lies across: element -> where it is read."""
        w, found, nbytes = self.w, {}, 0
        for e in self._lying_across():
            pitch = self.columns + max(1, ALIGNED // e.node.dtype.itemsize)
            size = self.rows * pitch
            slot = w.program.slot("scratch", e.node.dtype, size=ir.integer(size))
            w.args.append(("int", nbytes))
            nbytes += -(-size * e.node.dtype.itemsize // ALIGNED) * ALIGNED
            place = ir.index("r") * ir.integer(pitch) + ir.index("i")
            run = ir.loop("r", "whole", height, ir.store(slot, place, w.expression(e)))
            body.append(ir.loop("i", "serial", width, run))
            found[e] = ir.load(slot, place, e.node.dtype)
        return found

    def _lying_across(self) -> list:
        """The elements loaded from memory that lies along the tile's rows."""
        stack, seen, found = [s[0] for s in self.loops.stores], set(), []
        while stack:
            e = stack.pop()
            if id(e) not in seen:
                seen.add(id(e))
                stack.extend(e.args)
                if e.kind == "load" and e.view.strides[self.across] == 1 and abs(e.view.strides[self.last]) > 1:
                    found.append(e)
        return found
