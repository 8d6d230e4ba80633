"""Products of a matrix and a vector: contractions without rows, or without columns.

Each element of the matrix is needed once, so it is read where it lies and in the order in which it lies, and nothing is packed: the
bound is the speed of memory. There are two forms, after the index along which the matrix is contiguous:

    dots        along k (as the weight of a linear layer is): ROWS dot products at a time, vectors along k. Their rows are a quarter of
                the block apart, so that each reads on where it ended: the processor foresees few streams of memory, and short ones late
    columns     along its rows: sums of a block of rows stay in the first level cache, STEPS multiples of vectors along the rows are
                added to them at a time

In both the sums of a block are left in scratch memory, and the epilogue is done for the whole block, in vectors.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from ..loops.ir import Contraction, Op, Program, floordiv, maximum, minimum
from ..runtime import cpu
from . import llvm
from .llvm import Emitter
from .nest import Body, along_k, ceildiv, compact_loop, contiguous, divide, offsets, product, single, split, vector_loop

ROWS = 4              # dot products at a time: streams of memory, and sums independent of each other
STEPS = 8             # vectors added at a time to the sums
BLOCK = 1024          # most rows of a tile: their sums take an eighth of a first level cache
SHORTEST = 64         # rows of a tile that is short only to make more tiles
WORK = 1 << 16        # elements of the matrix that are worth a tile of their own
TILES = 8             # wanted if there is work for them


def is_matvec(c: Contraction) -> bool:
    return single(c.m) or single(c.n)


class MatrixVector:
    """A contraction whose `rows` are those of `matrix`, each multiplied by one `vector`."""

    def __init__(self, c: Contraction):
        self.c = c
        self.rows, self.matrix, self.vector, self.none = (c.m, c.a, c.b, c.n) if single(c.n) else (c.n, c.b, c.a, c.m)
        self.dots = single(self.rows) or along_k(self.matrix, self.rows, self.c.k) or not contiguous(offsets(self.matrix), self.rows)
        self.count = product(self.rows)
        batch, unit = product(c.batch), cpu.vector_bytes() // c.dtype.itemsize
        self.units = ceildiv(self.count, unit)      # whole vectors of rows are shared out evenly
        self.unit = unit
        wanted = minimum(maximum(floordiv(batch * self.count * product(c.k), WORK), 1), TILES)
        more = minimum(ceildiv(wanted, maximum(batch, 1)), floordiv(self.units * unit, SHORTEST))
        self.blocks = maximum(ceildiv(self.units, BLOCK // unit), more)

    @property
    def tiles(self) -> Op:
        return product(self.c.batch) * self.blocks

    @property
    def scratch(self) -> int:
        return BLOCK * self.c.dtype.itemsize


def emit(program: Program, c: Contraction) -> str:
    """The IR of the kernel."""
    return _Writer(program, MatrixVector(c)).kernel()


class _Writer:
    """Writes the kernel: for each tile, the sums, then the epilogue."""

    def __init__(self, program: Program, p: MatrixVector):
        self.p, self.c = p, p.c
        self.emitter = llvm.new_emitter(program)
        self.f = Body(f"define {llvm.SIGNATURE}", self.emitter)
        self.type = llvm.llvm_type(self.c.dtype)

    def kernel(self) -> str:
        f, emitter, p = self.f, self.emitter, self.p
        count, units, blocks = (emitter.expression(e) for e in (p.count, p.units, p.blocks))
        batch_extents, self.row_extents = ([emitter.expression(e) for _, e in dims] for dims in (self.c.batch, p.rows))
        self._set(p.none, ["0"] * len(p.none))
        with f.loop("%begin", "%end") as tile, f.scope():
            batch, block = divide(f, tile.index, blocks)
            self._set(self.c.batch, split(f, batch, batch_extents))
            self.first, stop = (self._edge(number, units, blocks, count) for number in (block, f.let(f"add nsw i64 {block}, 1")))
            self.length = f.let(f"sub nsw i64 {stop}, {self.first}")
            if p.dots:
                share = f.let(f"udiv i64 {self.length}, {ROWS}")
                self._dots("0", share, [f.let(f"mul nuw nsw i64 {share}, {r}") for r in range(ROWS)])
                self._dots(f.let(f"mul nuw nsw i64 {share}, {ROWS}"), self.length, ["0"])
            else:
                self._columns()
            self._sweep(self._finish)
        emitter.fence()
        return llvm.module([f.text()], [emitter])

    def _edge(self, number: str, units: str, parts: str, end: str) -> str:
        """The row at which part `number` begins."""
        f = self.f
        first = f.let(f"sdiv i64 {f.let(f'mul nsw i64 {number}, {units}')}, {parts}")
        return f.least(f.let(f"mul nsw i64 {first}, {self.p.unit}"), end)

    def _set(self, dims: tuple, indices: list[str]) -> None:
        self.emitter.indices.update(zip((name for name, _ in dims), indices))

    def _fused(self, total: str, a: str, b: str) -> str:
        name = f"llvm.fmuladd.f{8 * self.c.dtype.itemsize}"
        return self.emitter.call(name, self.type, *((self.type, v) for v in (a, b, total)), flags="reassoc ")

    # -- dots ---------------------------------------------------------------------------------------------------

    def _dots(self, start: str, stop: str, apart: list[str]) -> None:
        """The sums of rows [start, stop) of the tile and of those that follow each of them so far apart, side by side."""
        f, emitter, p = self.f, self.emitter, self.p
        sums = [f"%sum_{len(apart)}_{r}" for r in range(len(apart))]
        emitter.allocas += [f"  {address} = alloca {self.type}" for address in sums]
        with f.loop(start, stop, metadata=compact_loop(emitter)) as at, f.scope():
            rows = [f.let(f"add nsw i64 {at.index}, {distance}") for distance in apart]
            places = []
            for row, address in zip(rows, sums):
                f.line(f"store {self.type} 0.0, ptr {address}")
                places.append(split(f, f.let(f"add nsw i64 {self.first}, {row}"), self.row_extents))
            with self._outer_k() as (name, extent), vectors(f, emitter, extent) as i:
                emitter.indices[name] = i.index
                vector = emitter.expression(p.vector)
                for address, place in zip(sums, places):
                    with f.scope():
                        self._set(p.rows, place)
                        total = f.let(f"load {self.type}, ptr {address}")
                        f.line(f"store {self.type} {self._fused(total, vector, emitter.expression(p.matrix))}, ptr {address}")
            for row, address in zip(rows, sums):
                out = f.pointer("%scratch", self.type, row)
                f.line(f"store {self.type} {f.let(f'load {self.type}, ptr {address}')}, ptr {out}")

    @contextmanager
    def _outer_k(self):
        """Loops over all indices of k but the innermost; gives its name and extent."""
        f, emitter = self.f, self.emitter
        extents = [emitter.expression(extent) for _, extent in self.c.k] or ["1"]
        with ExitStack() as stack:
            for (name, _), extent in zip(self.c.k[:-1], extents):
                emitter.indices[name] = stack.enter_context(f.loop("0", extent, metadata=compact_loop(emitter))).index
                stack.enter_context(f.scope())
            yield self.c.k[-1][0] if self.c.k else "", extents[-1]

    # -- columns ------------------------------------------------------------------------------------------------

    def _columns(self) -> None:
        f, emitter = self.f, self.emitter
        with vectors(f, emitter, self.length) as i:
            f.line(f"store {self.type} 0.0, ptr {f.pointer('%scratch', self.type, i.index)}{emitter._access()}")
        with self._outer_k() as (name, extent):
            whole = f.let(f"and i64 {extent}, {-STEPS}")
            for start, stop, steps in (("0", whole, STEPS), (whole, extent, 1)):
                with f.loop(start, stop, metadata=compact_loop(emitter)) as k, f.scope():
                    k.step = str(steps)
                    self._add(name, [f.let(f"add nsw i64 {k.index}, {step}") for step in range(steps)])

    def _add(self, name: str, steps: list[str]) -> None:
        """Adds the products of these places along k to the sums."""
        f, emitter, p = self.f, self.emitter, self.p
        factors = []
        for step in steps:
            emitter.indices[name] = step
            with f.scope():
                factors.append(emitter.expression(p.vector))

        def element(at: str) -> None:
            total = f.let(f"load {self.type}, ptr {at}{emitter._access()}")
            for step, factor in zip(steps, factors):
                emitter.indices[name] = step
                with f.scope():
                    total = self._fused(total, factor, emitter.expression(p.matrix))
            f.line(f"store {self.type} {total}, ptr {at}{emitter._access()}")

        self._sweep(element)

    # -- both ---------------------------------------------------------------------------------------------------

    def _finish(self, at: str) -> None:
        self.emitter.values["acc"] = self.f.let(f"load {self.type}, ptr {at}{self.emitter._access()}")
        for statement in self.c.body:
            self.emitter.statement(statement)

    def _sweep(self, element) -> None:
        """`element(address of its sum)` for each row of the tile, in vectors along the last index of the rows."""
        f, emitter, rows = self.f, self.emitter, self.p.rows
        if len(rows) <= 1:
            with vectors(f, emitter, self.length) as i:
                self._set(rows, [f.let(f"add nsw i64 {self.first}, {i.index}")])
                element(f.pointer("%scratch", self.type, i.index))
            return
        with f.loop("0", self.length, metadata=compact_loop(emitter)) as run, f.scope():
            indices = split(f, f.let(f"add nsw i64 {self.first}, {run.index}"), self.row_extents)
            run.step = f.least(f.let(f"sub nsw i64 {self.length}, {run.index}"),
                               f.let(f"sub nsw i64 {self.row_extents[-1]}, {indices[-1]}"))
            with vectors(f, emitter, run.step) as i:
                self._set(rows, [*indices[:-1], f.let(f"add nsw i64 {indices[-1]}, {i.index}")])
                element(f.pointer("%scratch", self.type, run.index, i.index))


@contextmanager
def vectors(f: Body, emitter: Emitter, stop: str):
    """`for i in range(stop)` whose iterations are independent but for sums, in vectors."""
    group = emitter.meta("distinct !{}")
    with f.loop("0", stop, metadata=vector_loop(emitter, group)) as i, f.scope():
        emitter.groups.append(group)
        yield i
        emitter.groups.pop()
