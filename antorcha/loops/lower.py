"""From a group of nodes to loop programs.

A group of loops becomes one of four forms:

    blocks     everything in one dimension, or no reductions: blocks of elements, or rows of the last dimension, in parallel
    rows       row reductions: rows in parallel; in each row one vector loop per stage, reductions between them
    beside     reductions of few elements, such as a window's: those of neighbouring rows side by side in a vector
    columns    sums over rows: chunks of rows and blocks of columns in parallel, the partial sums in memory

Sums across rows leave one partial result for each parallel iteration; a second, small program adds them up. All sizes
that decide this splitting come from the extents, never from the number of threads.
"""

from __future__ import annotations

from itertools import product as product_of

from ..base import dtype as dt
from . import index, ir
from .ahead import FAR, Ahead, look_ahead
from .blocks import BLOCK, COLUMNS, NARROW, Blocks, finish, odometer, product, rewrite, rows_in_turn, vector, volume
from .cost import cost_of
from .element import Elements, views_of
from .jam import jam, together
from .plan import rounded
from .size import few_of_many, greatest, least, settled
from .template import lowered
from .tiled import Tiles, across
from .view import View, dense, same, view
from .writer import INT, INTERLEAVED, MANY, Call, Writer, combined, decode, identity

CHUNKS = 256        # most partial sums
PARTIAL = 1 << 18   # partial sums of all columns together, on a GPU
FEWEST = 16         # rows of a partial sum of columns: writing it and reading it again should cost little beside them
LONG = 1 << 15      # elements of a row that does not wait in the second level cache
EXPENSIVE = 12      # instructions above which a value needed in a later stage is kept in memory
WINDOW = 64         # elements of a row that are written one by one,
WRITTEN = 512       # and all that is written so
LEAST_BESIDE = 4    # rows beside one another


class Lowering:
    """Lowers the groups of one fusion. `parts`: sizes in bytes of the buffers for partial results."""

    def __init__(self, fusion, buffer_of):
        self.fusion, self.buffer_of = fusion, buffer_of
        self.parts: list[int] = []
        self.checks: list = []
        self.in_place: set = set()      # scatters that write into the memory of the old value

    def part(self, nbytes: int):
        self.parts.append(nbytes)
        return ("part", len(self.parts) - 1)

    def lower(self, group) -> list[Call]:
        write = getattr(self, "_" + group.kind)
        return write(group) if group.kind in ("extern", "chain", "recurrence") else lowered(self, group, write)

    def writer(self) -> Writer:
        return Writer(self.checks)

    def stores(self, group, elements: Elements) -> list:
        """(element, buffer, dtype, view) of what the group's elementwise members leave in memory."""
        found = []
        nodes, stored = self.fusion.nodes, self.fusion.stored
        for i in group.members:
            if stored[i] and i in group.at:
                n, at = nodes[i], group.at[i]
                into = self.fusion.into.get(i)
                found.append((elements.get(n, at), self.buffer_of(n), n.dtype, at if into is None else index.compose(at, into)))
        return found

    # -- loops --------------------------------------------------------------------------------------------------

    def _loops(self, group) -> list[Call]:
        return Loops(self, group).write()

    _columns = _loops

    def _fill(self, group) -> list[Call]:
        n = self.fusion.nodes[group.root]
        value = ir.const(0, n.dtype)
        if n.op.family == "reduction":
            value = identity(n.op.combine, n.static.casts[0]).cast(n.dtype)
        w = self.writer()
        loops = Blocks(w, index.domain_of((n.numel,)))
        store = w.put(self.buffer_of(n), n.dtype, dense(loops.domain), value)
        return [w.finish([loops.around(loops.inside([store]))], group)]

    # -- scatter ------------------------------------------------------------------------------------------------

    def _scatter(self, group) -> list[Call]:
        from .scatter import scatter

        return scatter(self, group)

    def _scan(self, group) -> list[Call]:
        from .scatter import scan

        return scan(self, group)

    def _extern(self, group) -> list[Call]:
        return []

    def _chain(self, group) -> list[Call]:
        from .chain import chain

        return chain(self, group)

    def _recurrence(self, group) -> list[Call]:
        from .chain import recurrence

        return recurrence(self, group)

    def _contraction(self, group) -> list[Call]:
        from .contract import contraction

        return contraction(self, group)


class Loops:
    """Writes the programs of one group of loops."""

    def __init__(self, lowering: Lowering, group):
        self.lowering, self.group = lowering, group
        self.fusion = lowering.fusion
        nodes = self.fusion.nodes
        self.elements = e = Elements(self.fusion, group, lowering.buffer_of)
        self.w = lowering.writer()
        self.stores = lowering.stores(group, e)
        # (node index, form, element of the input)
        self.reductions = [(i, form, e.get(nodes[i].inputs[0], v)) for i, (form, v) in group.reductions.items()]
        self.crossing = [r for r in self.reductions if r[1] != "row"]
        self.inner_reductions = [r for r in self.reductions if r[1] == "row"]
        self.finishing: list[Call] = []
        self.ahead: Ahead | None = None

    def write(self) -> list[Call]:
        group, w = self.group, self.w
        wall = self._wall()
        outer = self._outer_dims()
        at_views = [s[3] for s in self.stores]
        column = None
        if any(f == "column" for _, f, _ in self.crossing):
            column = view(group.domain, (0,) * wall + dense(group.domain[wall:]).strides)
        roots = [s[0] for s in self.stores] + [r[2] for r in self.reductions]
        views = list(dict.fromkeys(views_of(roots) + at_views + ([column] if column else [])))
        walls = (outer, wall) if wall is not None else ()
        groups = index.merge(group.domain, views, tuple(x for x in walls if x))
        table = {v: index.coarse(v, groups) for v in views}
        rewrite(self.elements, table)
        self.stores = [(e, b, d, table[v]) for e, b, d, v in self.stores]
        self.table, self.merged = table, groups
        self.column = table[column] if column else None
        self.domain = tuple(volume(group.domain[d] for d in g) for g in groups)
        if wall is not None:
            self.wall = sum(1 for g in groups if g[0] < wall)
            self.outer = sum(1 for g in groups if g[0] < outer)
        else:
            self.wall = max(len(self.domain) - 1, 0)
            self.outer = 0
        self.extents = [w.extent(d, n) for d, n in enumerate(self.domain)]
        w.wall = self.wall
        self._plan_stages()
        if group.kind == "columns" or column and not self.inner_reductions:
            return self._columns()
        if len(self.domain) <= 1 and not self.inner_reductions and not column:
            return self._flat()
        if self._short() or self._interleaved():
            return self._beside()
        step = across(self.domain, [self.table[v] for v in views]) if not self.reductions else None
        return self._rows() if step is None else Tiles(self, step).write()

    def _wall(self) -> int | None:
        g = self.group
        if g.inner is None:
            return None
        n, wall = 1, len(g.domain)
        while n < g.inner:
            wall -= 1
            n *= g.domain[wall]
        return wall

    def _outer_dims(self) -> int:
        n = d = 0
        if self.group.outer > 1:
            n = 1
            while n < self.group.outer:
                n *= self.group.domain[d]
                d += 1
        return d

    # -- stages -------------------------------------------------------------------------------------------------

    def _plan_stages(self) -> None:
        """Members that are stored before they are needed again are read back."""
        w = self.w
        for e, buffer, dtype, v in self.stores:
            if e.kind in ("calc", "gather") and e.member >= 0:
                w.reload[e.member] = (e.stage, buffer, dtype, v)
        last = max([s[0].stage for s in self.stores] + [r[2].stage for r in self.reductions], default=0)
        self.last = last
        if last:
            if not self.lowering.fusion.gpu:      # to a GPU memory is dearer than arithmetic
                self._keep_expensive()
            for stage, buffer, *_ in w.reload.values():
                if stage < last and buffer not in w.rows:
                    w.inout.add(buffer)

    def _keep_expensive(self) -> None:
        """What is dear to compute and needed again in a later stage waits in the memory of a result that is written after its last use; of
        many elements a row at a time does so in scratch memory, so that the result is only written."""
        places = [s for s in self.stores if s[0].kind == "calc" and not self.w.invariant(s[0])]
        in_rows, nbytes = self._waits_in_rows(), 0
        final = {s[0].stage: s for s in self.stores}     # the last store of a stage: what the stage reads is read before
        stack = [(e, e.stage) for e in [s[0] for s in self.stores] + [r[2] for r in self.reductions]]
        needed: dict = {}       # element -> the last stage that computes it, for what is computed from it too
        while stack and places:
            e, stage = stack.pop()
            if needed.get(e, -1) < stage:
                needed[e] = stage
                computed = e.stage - 1 if e.kind == "result" else e.stage if e.member in self.w.reload else stage
                stack.extend([(a, computed) for a in e.args])
        for a, used in needed.items():
            if used == a.stage or a.kind != "calc" or a.member < 0 or self.w.invariant(a) or cost_of(a.node) < EXPENSIVE:
                continue
            for s in places:
                late = s[0].stage > used or s[0].stage == used and final[used] is s
                if late and a.member not in self.w.reload and s[2] is a.node.dtype and same(s[3], self._coarse_at(a)):
                    place = s[1:]
                    if in_rows:
                        place = self._in_row(s[2], nbytes)
                        nbytes += rounded(volume(self.domain[self.wall:]) * s[2].itemsize)
                    else:
                        places.remove(s)
                    self.stores.insert(0, (a, *place))
                    self.w.reload[a.member] = (a.stage, *place)
                    break

    def _waits_in_rows(self) -> bool:
        """Whether there are so many elements that results may go past the caches, and rows that stay there."""
        columns = volume(self.domain[self.wall:])
        count = volume(self.domain[:self.wall]) * columns
        return not count < FAR and not columns < NARROW and columns < LONG      # narrow ones may be jammed

    def _in_row(self, dtype, begin: int) -> tuple:
        """(buffer, dtype, index map) of a row in scratch memory."""
        d, wall = self.domain, self.wall
        buffer = self.w.row(dtype, begin, product(self.extents[wall:]))
        return buffer, dtype, view(d, (0,) * wall + dense(d[wall:]).strides)

    def _coarse_at(self, e) -> View:
        at = self.group.at[e.member]
        return self.table.get(at) or index.coarse(at, self.merged)

    def _row_body(self, body: list, parts: dict) -> None:
        """All stages of one row. `parts`: crossing reduction -> how to update it."""
        w = self.w
        row_values = (
            [s for s in self.stores if w.invariant(s[0]) and not any(s[3].strides[self.wall :])] if self.wall < len(self.domain) else []
        )
        in_row = [s for s in self.stores if s not in row_values]
        whole = [r for r in self.crossing if self.wall < len(self.domain) and r[1] == "total" and self.of_rows(r)]
        for stage in range(self.last + 1):
            w.stage = stage
            w.ops = {}
            reductions = [r for r in self.inner_reductions if r[2].stage == stage]
            crossing = [r for r in self.crossing if r[2].stage == stage and r not in whole]
            stores = [s for s in in_row if s[0].stage == stage]
            if self.ahead:
                reductions = [r for r in reductions if r not in self.ahead.reductions]
            self.hoist([s[0] for s in stores] + [r[2] for r in reductions + crossing], body)
            self._stage(reductions, crossing, stores, body, parts)
            w.ops = {}
            for r in [r for r in whole if r[2].stage == stage]:
                value = w.expression(r[2])
                w.flush(body)
                body.append(self._update(r, value, parts))
            for e, buffer, dtype, v in row_values:
                if e.stage == stage and e.kind != "result" or e.kind == "result" and e.stage == stage + 1:
                    w.stage = e.stage
                    self.store([(e, buffer, dtype, v)], body)
                    w.stage = stage

    def of_rows(self, r) -> bool:
        """Whether a total adds one value per row rather than per element."""
        v = self.group.reductions[r[0]][1]
        wall = self._wall()
        return wall is not None and wall < len(v.strides) and not any(v.strides[wall:]) and \
            self.fusion.nodes[r[0]].views[0].numel != self.group.numel

    def hoist(self, roots: list, body: list) -> None:
        """Name the values of the row that a loop over the row is about to use."""
        w = self.w
        if self.wall >= len(self.domain):
            return
        stack, seen = list(roots), set()
        found, picked = [], []
        while stack:
            e = stack.pop()
            if id(e) in seen or e.kind == "number":
                continue
            seen.add(id(e))
            if w.invariant(e) and e not in w.variables:
                if e.kind in ("calc", "load", "gather", "result"):
                    found.append(e)
                continue
            if e.kind == "gather" and ("picked", e) not in w.variables and all(w.invariant(a) for a in e.args):
                picked.append(e)
            if e.member in w.reload and w.reload[e.member][0] < w.stage:
                continue
            stack.extend(e.args)
        for e in found:
            w.variable(e, "v", w.expression(e), body)
        for e in picked:
            w.variable(("picked", e), "v", w.picked(e.node, e.args), body)
        w.ops = {}

    def _stage(self, reductions, crossing, stores, body: list, parts: dict) -> None:
        """One vector loop over the row: accumulate, store."""
        w, nodes = self.w, self.fusion.nodes
        if not (reductions or crossing or stores):
            return
        plain = [r for r in reductions if not nodes[r[0]].op.combine.startswith("arg")]
        arg = [r for r in reductions if r not in plain]
        inner: list = []
        for i, _, e in plain:
            n = nodes[i]
            acc = w.name("a")
            w.results[i] = acc
            body.append(ir.accumulator(acc, n.op.combine, identity(n.op.combine, n.static.casts[0])))
            value = w.expression(e).cast(n.static.casts[0])
            w.flush(inner)
            inner.append(ir.update(acc, value))
        for r in crossing:
            value = w.expression(r[2])
            w.flush(inner)
            inner.append(self._update(r, value, parts))
        if self.ahead and w.stage == self.ahead.last_loop:
            inner += self.ahead.first_stage(self.ahead.next_row, "next", body)
        self.store(stores, inner)
        if inner:
            body += self.nest(inner, "vector")
        for i, _, e in arg:
            w.ops = {}
            self._argument(i, e, body)

    def store(self, stores: list, body: list) -> None:
        """Compute these results at the present coordinates and store them."""
        w = self.w
        for e, buffer, dtype, v in stores:
            value = w.expression(e)
            w.flush(body)
            body.append(w.put(buffer, dtype, v, value))

    def nest(self, statements: list, kind: str) -> list:
        """Loops over the dimensions of the row."""
        for d in range(len(self.domain) - 1, self.wall - 1, -1):
            name = self.w.coords[d].attr
            inner = kind if kind != "vector" or not self.wall else vector(self.domain[d])     # one row alone: the same code for all lengths
            extent = self.extents[d]
            if self.group.beyond is not None:       # rows end after any vector
                extent, inner = ir.minimum(extent, self._computed()), "whole"
            statements = [ir.loop(name, inner if d == len(self.domain) - 1 else "serial", extent, *statements)]
        return statements

    def _computed(self) -> ir.Op:
        """The columns of a row that are computed where the rest is not asked for (graph/unread.py)."""
        row, rows, d = self.w.coords[self.wall - 1], self.domain[self.wall - 1], self.wall - 1
        while rows < self.group.rows:
            d -= 1
            row, rows = row + self.w.coords[d] * self.w.extent(("rows", d), rows), rows * self.domain[d]
        if rows != self.group.rows:
            row = ir.rem(row, self.w.extent("rows", self.group.rows))
        return ir.computed(row, self.group.beyond)

    def _argument(self, i: int, e, body: list) -> None:
        """argmax or argmin: the first of equal values wins, and NaN before all. Of what lies in memory, and so is the same when it is read
        again, first the value is found and then where it stands, both in vectors; of the rest, and on a GPU, both in one serial loop."""
        w = self.w
        n = self.fusion.nodes[i]
        d = n.static.casts[0]
        best, where = w.name("a"), w.name("a")
        w.results[i] = where
        value = w.expression(e).cast(d)
        position = ir.integer(0)
        for k in range(self.wall, len(self.domain)):
            position = position * self.extents[k] + w.coords[k]
        inner: list = []
        w.flush(inner)
        now = ir.value(best, d)
        if e.kind == "load" and d is d.compute and d is not dt.bool_ and not self.fusion.gpu:
            combine, beyond = n.op.combine[3:], ir.integer((1 << 63) - 1)
            there = value.eq(now) | (value.ne(value) & now.ne(now)) if d.kind == "f" else value.eq(now)
            body.append(ir.accumulator(best, combine, identity(combine, d)))
            body += self.nest([ir.update(best, value)], "vector")
            body.append(ir.accumulator(where, "min", beyond))
            body += self.nest([ir.update(where, ir.select(there, position, beyond))], "vector")
            return
        better = _better(n.op.combine, value, now) | ir.value(where, INT).eq(ir.integer(-1))
        flag = w.name("a")      # both updates go by the old values
        inner += [ir.accumulator(flag, "set", better),
                  ir.update(where, ir.select(ir.value(flag, dt.bool_), position, ir.value(where, INT))),
                  ir.update(best, ir.select(ir.value(flag, dt.bool_), value, now))]
        body += [ir.accumulator(best, "set", ir.const(0, d)), ir.accumulator(where, "set", ir.integer(-1))]
        body += self.nest(inner, "serial")

    def _update(self, r, value: ir.Op, parts: dict) -> ir.Op:
        i, form, _ = r
        n = self.fusion.nodes[i]
        d = n.static.casts[0]
        if form == "total":
            return ir.update(parts[i][1], value.cast(d))
        slot, offset = parts[i][1]
        return ir.store(slot, offset, combined(n.op.combine, ir.load(slot, offset, d), value.cast(d)))

    # -- forms --------------------------------------------------------------------------------------------------

    def _flat(self) -> list[Call]:
        w = self.w
        loops = Blocks(w, self.domain)
        w.wall = 0
        self.wall, self.extents = 0, [loops.inner] if self.domain else []
        parts = self._partials(loops.tiles, 1)
        w.wall = self.wall
        if self.domain:
            self.wall = 0
        coords, w.coords = w.coords, w.coords
        body: list = [self._declare(i, p) for i, p in parts.items()]
        self._flat_body(body, parts, coords)
        for i, p in parts.items():
            body.append(self._leave(i, p, ir.index("p") if loops.tiles > 1 else ir.integer(0)))
        return [w.finish([loops.around(body)], self.group)] + self.finishing

    def _flat_body(self, body: list, parts: dict, coords: list) -> None:
        w = self.w
        roots = [s[0] for s in self.stores] + [r[2] for r in self.reductions]
        if self.domain:
            self.hoist(roots, body)
        inner: list = []
        for r in self.crossing:
            value = w.expression(r[2])
            w.flush(inner)
            inner.append(self._update(r, value, parts))
        self.store(self.stores, inner)
        body += [ir.loop("i", "vector", self.extents[0], *inner)] if self.domain else inner

    def _declare(self, i: int, part) -> ir.Op:
        n = self.fusion.nodes[i]
        return ir.accumulator(part[1], n.op.combine, identity(n.op.combine, n.static.casts[0]))

    def _leave(self, i: int, part, position: ir.Op) -> ir.Op:
        """Store an accumulator as the partial result of this parallel iteration."""
        n = self.fusion.nodes[i]
        buffer, acc, d = part
        return ir.store(self.w.memory(buffer, d, 0, True), position, ir.value(acc, n.static.casts[0]).cast(d))

    def _partials(self, count: int, columns: int) -> dict:
        """For each total: (where its partial results go, its accumulator, their dtype)."""
        parts = {}
        for i, form, _ in self.crossing:
            if form != "total":
                continue
            parts[i] = (*self._partial_buffer(i, count, 1, 1), )
            buffer, d = parts[i]
            parts[i] = (buffer, self.w.name("a"), d)
        return parts

    def _partial_buffer(self, i: int, count: int, columns: int, outer: int):
        """(buffer, dtype) for `outer x count x columns` partial results of a reduction; the result's own if count is 1."""
        n = self.fusion.nodes[i]
        acc = n.static.casts[0]
        if count == 1 and (acc is n.dtype or columns == 1):
            return self.lowering.buffer_of(n), n.dtype
        buffer = self.lowering.part(count * columns * outer * acc.itemsize)
        self.finishing.append(finish(self.lowering, self.group, n, buffer, count, columns, outer))
        return buffer, acc

    def _rows(self) -> list[Call]:
        """Rows in parallel; if something is summed across rows, or rows are read ahead, chunks of rows."""
        w, wall = self.w, self.wall
        rows = self.extents[:wall]
        inner_names = [ir.index(f"i{d}") for d in range(wall, len(self.domain))]
        count = volume(self.domain[:wall])
        columns = volume(self.domain[wall:])
        body: list = []
        turns = 1 if self.lowering.fusion.gpu else rows_in_turn(self.domain[:wall], columns)     # a GPU has threads for all
        self.ahead = look_ahead(self, count, columns) if self.group.beyond is None else None
        if not self.crossing and turns == 1 and not self.ahead:
            w.coords = self.bound(decode(ir.index("p"), rows), body) + inner_names
            self._row_body(body, {})
            return [w.finish([ir.loop("p", "parallel", product(rows), *body)], self.group)]
        chunk = greatest(greatest(1, BLOCK // columns), -(-count // CHUNKS)) if self.crossing else turns
        if self.ahead:
            chunk = greatest(self.ahead.rows, chunk)
        chunks = -(-count // chunk)
        parts = self._partials(chunks, 1)
        size = w.extent("chunk", chunk)
        p = ir.index("p")
        outside: list = [self._declare(i, part) for i, part in parts.items()]
        for i, form, _ in self.crossing:
            if form == "column":
                n = self.fusion.nodes[i]
                buffer, d = self._partial_buffer(i, chunks, columns, 1)
                w.inout.add(buffer)
                slot = w.memory(buffer, d, 0, True)
                base = p * w.extent("columns", columns) if chunks > 1 else ir.integer(0)
                w.coords = [ir.integer(0)] * wall + inner_names
                offset = base + w.offset(self.column, wall)
                parts[i] = (buffer, (slot, offset), d)
                outside += self.nest([ir.store(slot, offset, identity(n.op.combine, d))], "vector")
        total = product(rows)
        inner_body: list = []
        place = [w.variable(("coordinate", k), "c", c, outside) for k, c in enumerate(decode(p * size, rows))]
        w.coords = place + inner_names
        here = ir.minimum(total - p * size, size)
        if self.ahead:
            self.ahead.begin(place, outside)
            step = self.ahead.turn(place, rows, ir.index("r") + ir.integer(1) < here, inner_body)
        self._row_body(inner_body, parts)
        if self.ahead:
            outside.append(ir.loop("r", "serial", here, *inner_body, *step))
        else:
            narrow = columns < NARROW and any(form == "column" for _, form, _ in self.crossing)
            outside += jam(here, inner_body, place, rows) if narrow and together(self.fusion, chunk) else \
                [ir.loop("r", "serial", here, *inner_body, *odometer(place, rows))]
        for i, part in parts.items():
            if isinstance(part[1], str):
                outside.append(self._leave(i, part, p if chunks > 1 else ir.integer(0)))
        chunked = (total + (size - ir.integer(1))) / size if chunks > 1 else ir.integer(1)
        return [w.finish([ir.loop("p", "parallel", chunked, *outside)], self.group)] + self.finishing

    def _short(self) -> bool:
        """Whether rows are so short that each element is written by itself, and neighbouring rows lie beside one another in memory."""
        wall = self.wall
        if not self.inner_reductions or self.crossing or not wall or self.lowering.fusion.gpu or self.group.beyond is not None:
            return False
        if any(e.stage != 1 or any(v.strides[wall:]) for e, _, _, v in self.stores):
            return False
        if any(e.stage for _, _, e in self.inner_reductions):
            return False
        steps = [v.strides[wall - 1] for v in views_of([r[2] for r in self.inner_reductions])]
        if not any(steps) or not all(0 <= t <= INTERLEAVED for t in steps):
            return False        # before anything is asked of sizes that may vary
        columns, beside = volume(self.domain[wall:]), self.domain[wall - 1]
        return columns <= WINDOW and beside >= LEAST_BESIDE and columns * len(self.elements.memo) <= WRITTEN

    def _interleaved(self) -> bool:
        """Whether what is stored alternates between few rows, as where images' channels come last: vectors of each are interleaved."""
        if self.reductions or len(self.domain) < 2 or self.lowering.fusion.gpu or self.group.beyond is not None:
            return False
        few, many = self.domain[-1], self.domain[-2]
        fits = few <= INTERLEAVED if settled(few) else few_of_many(few, INTERLEAVED, self.group.numel, MANY)
        return fits and many >= LEAST_BESIDE and all(v.strides[-2:] == (few, 1) for *_, v in self.stores)

    def _beside(self) -> list[Call]:
        """Rows of few elements: like a group of one dimension less, in which each result is an expression of all elements of its row."""
        w, wall, nodes = self.w, self.wall, self.fusion.nodes
        loops = Blocks(w, self.domain[:wall])
        place, body, inner = w.coords, [], []
        places = [[ir.integer(k) for k in at] for at in product_of(*[range(n) for n in self.domain[wall:]])]
        w.coords = [*place, *places[0]]
        self.hoist([s[0] for s in self.stores] + [r[2] for r in self.inner_reductions], body)
        for i, _, e in self.inner_reductions:
            n, total, where = nodes[i], None, ir.integer(0)
            for number, at in enumerate(places):
                w.coords, w.ops = [*place, *at], {}
                value = w.expression(e).cast(n.static.casts[0])
                if total is None:
                    total = value
                elif n.op.combine.startswith("arg"):
                    better = _better(n.op.combine, value, total)
                    total, where = ir.select(better, value, total), ir.select(better, ir.integer(number), where)
                else:
                    total = combined(n.op.combine, total, value)
            found = where if n.op.combine.startswith("arg") else total
            w.results[i] = w.variable(("result", i), "a", found, inner).attr
        w.stage = self.last
        for at in places if not self.inner_reductions else places[:1]:
            w.coords, w.ops = [*place, *at], {}
            self.store(self.stores, inner)
        body += loops.inside(inner, masked=bool(self.inner_reductions))     # masks would keep stores from being interleaved
        return [w.finish([loops.around(body)], self.group)]

    def bound(self, coords: list, body: list) -> list:
        """Name the coordinates that are computed."""
        return [c if c.kind in ("index", "const") else self.w.variable(("coordinate", k), "c", c, body)
                for k, c in enumerate(coords)]

    def _columns(self) -> list[Call]:
        """Sums over rows for each column: parallel over outer dimensions, chunks of rows and blocks of columns."""
        w, wall, out = self.w, self.wall, self.outer
        outer, rows = volume(self.domain[:out]), volume(self.domain[out:wall])
        columns = volume(self.domain[wall:])
        blocked = columns > COLUMNS
        width = greatest(1, COLUMNS * self.domain[wall] // columns) if blocked else 1      # places along the first dimension of the columns
        blocks = -(-self.domain[wall] // width) if blocked else 1
        if self.lowering.fusion.gpu:      # enough sums for all threads of a GPU
            chunk = greatest(32, outer * rows * columns // PARTIAL)
        else:
            fewest = 512 if outer * blocks >= 8 else greatest(FEWEST, least(BLOCK // columns, 512))
            chunk = greatest(fewest, -(-rows // CHUNKS))
        chunks = -(-rows // chunk)
        size = w.extent("chunk", chunk)
        p = ir.index("p")
        total_rows = product(self.extents[out:wall])
        body: list = []
        step = w.extent("width", width) if blocked and len(self.domain) > wall + 1 else ir.integer(COLUMNS)
        block_count = (self.extents[wall] + (step - ir.integer(1))) / step if blocked else ir.integer(1)
        chunk_count = (total_rows + (size - ir.integer(1))) / size if chunks > 1 else ir.integer(1)
        count = block_count * chunk_count * product(self.extents[:out])
        rest = p
        block = ir.rem(rest, block_count) if blocked else ir.integer(0)
        rest = rest / block_count if blocked else rest
        part = ir.rem(rest, chunk_count) if chunks > 1 else ir.integer(0)
        rest = rest / chunk_count if chunks > 1 else rest
        block, part, rest = self.bound([block, part, rest], body)
        names = [ir.index(f"i{d}") for d in range(wall, len(self.domain))]
        outer_coords = decode(rest, self.extents[:out])
        column_coords = list(names)
        if blocked:
            base = block * step
            column_coords = [base + names[0], *names[1:]]
            self.extents = [*self.extents[:wall], ir.minimum(self.extents[wall] - base, step), *self.extents[wall + 1:]]
        parts = self._partials(outer * blocks * chunks, 1)
        body += [self._declare(i, q) for i, q in parts.items()]
        w.coords = [ir.integer(0)] * wall + column_coords
        self.names = names
        for i, form, _ in self.crossing:
            if form == "column":
                n = self.fusion.nodes[i]
                buffer, d = self._partial_buffer(i, chunks, columns, outer)
                w.inout.add(buffer)
                slot = w.memory(buffer, d, 0, True)
                start = (rest * chunk_count + part) * w.extent("columns", columns) if outer * chunks > 1 else ir.integer(0)
                offset = start + w.offset(self.column, wall)
                parts[i] = (buffer, (slot, offset), d)
                body += self._column_nest([ir.store(slot, offset, identity(n.op.combine, d))])
        inner: list = []
        rows_of = self.extents[out:wall]
        here = ir.minimum(total_rows - part * size, size)
        if together(self.fusion, chunk):
            place = [w.variable(("coordinate", k), "c", c, body) for k, c in enumerate(decode(part * size, rows_of))]
            w.coords = outer_coords + place + column_coords
            self._columns_body(inner, parts)
            body += jam(here, inner, place, rows_of)
        else:
            row = decode(part * size + ir.index("r"), rows_of)
            w.coords = outer_coords + self.bound(row, inner) + column_coords
            self._columns_body(inner, parts)
            body.append(ir.loop("r", "serial", here, *inner))
        for i, q in parts.items():
            if isinstance(q[1], str):
                body.append(self._leave(i, q, p if outer * blocks * chunks > 1 else ir.integer(0)))
        return [w.finish([ir.loop("p", "parallel", count, *body)], self.group)] + self.finishing

    def _column_nest(self, statements: list) -> list:
        for d in range(len(self.domain) - 1, self.wall - 1, -1):
            name = f"i{d}"
            statements = [ir.loop(name, vector(self.domain[d]) if d == len(self.domain) - 1 else "serial", self.extents[d], *statements)]
        return statements

    def _columns_body(self, body: list, parts: dict) -> None:
        w = self.w
        w.ops = {}
        self.hoist([s[0] for s in self.stores] + [r[2] for r in self.reductions], body)
        whole = [r for r in self.crossing if r[1] == "total" and self.of_rows(r)]
        inner: list = []
        for r in self.crossing:
            value = w.expression(r[2])
            into = body if r in whole else inner
            w.flush(into)
            into.append(self._update(r, value, parts))
        self.store(self.stores, inner)
        body += self._column_nest(inner) if inner else []


def _better(combine: str, value: ir.Op, now: ir.Op) -> ir.Op:
    """Whether a value comes before the one that argmax or argmin has found; NaN does, before all but another."""
    if value.dtype is dt.bool_:
        return value & ~now if combine == "argmax" else now & ~value
    better = now < value if combine == "argmax" else value < now
    return better | (value.ne(value) & now.eq(now)) if value.dtype.kind == "f" else better
