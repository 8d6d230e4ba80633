"""Rows that read ahead: the last loop over a row does the first stage of the next.

The first loop over a row waits for its elements to arrive, and the others compute with what is in cache while memory waits. Where rows
are long and many, the first stage of the next row, a maximum or a sum of what is loaded, goes into the last loop over this one: memory
and arithmetic overlap. What a row begins with is held in variables that the row before has set.
"""

from __future__ import annotations

from ..base import dtype as dt
from . import ir
from .blocks import SHORT
from .size import greatest, least
from .writer import identity

ROWS = 4, 64        # least and most rows of a parallel iteration
FAR = 1 << 20       # elements that do not wait in a cache near by


def look_ahead(loops, count: int, columns: int) -> Ahead | None:
    """The form for `count` rows of `columns` elements, or None where it is of no use or cannot be taken."""
    w = loops.w
    if loops.lowering.fusion.gpu or count * columns < FAR or columns < SHORT or count < ROWS[0] * ROWS[1]:
        return None
    first = [r for r in loops.inner_reductions if r[2].stage == 0]
    stores = [s[0].stage for s in loops.stores if not (w.invariant(s[0]) and not any(s[3].strides[loops.wall:]))]
    last_loop = max([r[2].stage for r in loops.inner_reductions] + stores, default=0)
    if not first or not last_loop or 0 in stores or not all(_steps_on(loops, r) for r in first):
        return None
    if any(not (r[1] == "total" and loops.of_rows(r)) for r in loops.crossing):
        return None
    return Ahead(loops, first, last_loop, greatest(ROWS[0], least(ROWS[1], count // ROWS[1])))


def _steps_on(loops, r) -> bool:
    """Whether a reduction may be computed for the next row: nothing it reads is looked up or checked."""
    if loops.fusion.nodes[r[0]].op.combine.startswith("arg"):
        return False
    stack = [r[2]]
    while stack:
        e = stack.pop()
        if e.kind == "gather":
            return False
        stack.extend(e.args)
    return True


class Ahead:
    """`reductions`: those of the first stage. `last_loop`: the stage in which they are done for the next row. `rows`: of a parallel
    iteration."""

    def __init__(self, loops, reductions: list, last_loop: int, rows: int):
        self.loops, self.w, self.reductions, self.last_loop, self.rows = loops, loops.w, reductions, last_loop, rows
        self.next_row: list[ir.Op] = []

    def _of(self, i: int) -> tuple:
        n = self.loops.fusion.nodes[i]
        return n.op.combine, n.static.casts[0]

    def first_stage(self, coords: list, name: str, body: list) -> list:
        """Updates for a loop over the row at `coords`, of accumulators declared in `body`."""
        w, loops = self.w, self.loops
        outside = w.coords, w.variables, w.ops, w.stage
        reads = dict(w.read_at)     # of this row: results may take the memory of what is read
        w.coords, w.variables, w.ops, w.stage = coords + w.coords[loops.wall:], {}, {}, 0
        loops.hoist([e for _, _, e in self.reductions], body)
        updates: list = []
        for i, _, e in self.reductions:
            combine, d = self._of(i)
            body.append(ir.accumulator(f"{name}{i}", combine, identity(combine, d)))
            updates.append(ir.update(f"{name}{i}", w.expression(e).cast(d)))
        w.coords, w.variables, w.ops, w.stage = outside
        w.read_at |= reads
        return updates

    def begin(self, place: list, outside: list) -> None:
        """The first stage of the first row; its results are held in variables that each row sets for the next."""
        updates = self.first_stage(place, "first", outside)
        outside += self.loops.nest(updates, "vector")
        for i, _, _ in self.reductions:
            value = ir.value(f"first{i}", self._of(i)[1])
            self.w.results[i] = self.w.variable(("ahead", i), "a", value, outside).attr

    def turn(self, place: list, rows: list, more: ir.Op, body: list) -> list:
        """Name the next row, if there are more, or this one again. Returns the statements that go on to it."""
        w = self.w
        following: list = []
        carry = ir.const(True, dt.bool_)
        for k in range(len(place) - 1, -1, -1):
            stepped = ir.select(carry, place[k] + ir.integer(1), place[k]) if following else place[k] + ir.integer(1)
            carry = stepped.eq(rows[k])
            following.append(ir.select(carry, ir.integer(0), stepped) if k else stepped)
        self.next_row = [w.variable(("next", k), "n", ir.select(more, f, place[k]), body) for k, f in enumerate(following[::-1])]
        step = [ir.update(c.attr, n) for c, n in zip(place, self.next_row)]
        return step + [ir.update(w.results[i], ir.value(f"next{i}", self._of(i)[1])) for i, _, _ in self.reductions]
