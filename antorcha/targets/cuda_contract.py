"""Matrix products on a GPU with nothing but its floating point units: tiles of the result in registers.

A block computes a tile of C. Step by step along k, its threads read a slice of A and of B through whatever expressions the program
has for them into shared memory (the next slice is on its way while one is used), and each adds up a few rows x columns in
registers. At the end the tile goes through shared memory to the epilogue, which thus writes whole lines.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..base import dtype as dt
from ..loops import ir
from ..loops.ir import Contraction, Op
from .cuda_schedule import walk
from .llvm import evaluate, literal, llvm_type
from .ptx import ARCHITECTURES, THREADS, Kernel, Launch, PtxEmitter, module

SIDE = 16               # threads along each side of a tile
QUAD = 4                # elements that are read from shared memory at once


@dataclass(frozen=True)
class Tile:
    """A block's part of C: size x size, by SIDE x SIDE threads; k is taken `depth` at a time."""

    name: str
    size: int
    depth: int

    @property
    def own(self) -> int:
        """Rows, and columns, of a thread."""
        return self.size // SIDE

    @property
    def pitch(self) -> int:
        """Elements from one k to the next in shared memory; the padding spreads columns over banks."""
        return self.size + QUAD


LARGE, SMALL = Tile("kernel", 128, 16), Tile("small", 64, 16)
ENOUGH = 128            # large tiles that keep a GPU busy


def tiles_of(dtype: dt.dtype) -> tuple[Tile, ...]:
    return (LARGE, SMALL) if dtype is dt.float32 else (Tile("kernel", 64, 16),)


def flattened(dims: tuple) -> Op:
    total = ir.integer(1)
    for _, extent in dims:
        total = total * extent
    return total


def runs_along(operand: Op, rows: tuple, k: tuple) -> str:
    """Along which of its indices an operand lies in memory: "k" or "rows"."""
    for o in walk(operand):
        if o.kind == "load":
            terms, stack = [], [o.args[0]]
            while stack:
                term = stack.pop()
                if term.kind == "add":
                    stack.extend(term.args)
                else:
                    terms.append(term)
            if any(t.kind == "index" and t.attr == rows[-1][0] for t in terms):
                return "rows"
    return "k"


class TileEmitter:
    """Writes the kernel of one tile size."""

    def __init__(self, program: ir.Program, tile: Tile, metadata: list[str]):
        self.c: Contraction = program.body[0].attr
        self.tile, self.e = tile, PtxEmitter(program)
        self.e.metadata = metadata      # one list for all functions of the module
        self.d = self.c.dtype
        self.t = llvm_type(self.d)
        self.a_at, self.b_at = 0, tile.depth * tile.pitch       # of the slices in shared memory, in elements

    @property
    def shared_bytes(self) -> int:
        return 2 * self.tile.depth * self.tile.pitch * self.d.itemsize

    def function(self) -> str:
        e, c, tile = self.e, self.c, self.tile
        e.load_slots()
        self.thread = e.wide(e.register("tid.x"))
        self.position()
        self.m, self.n, self.k = (e.expression(flattened(dims)) for dims in (c.m, c.n, c.k))
        block = e.wide(e.register("ctaid.x"))
        rest, column = self._divided(block, self._tiles(self.n))
        batch, row = self._divided(rest, self._tiles(self.m))
        self.first_m = e.set(f"mul i64 {row}, {tile.size}")
        self.first_n = e.set(f"mul i64 {column}, {tile.size}")
        self.locate(c.batch, batch)
        with e.only_if(e.set(f"icmp sgt i64 {self.k}, 0")):
            self.sum()
        self.finish()
        e.line("ret void")
        return e.function(e.signature(tile.name), "#1")

    def position(self) -> None:
        """Which part of the tile is this thread's; its sums, 0."""
        e = self.e
        self.tx = e.set(f"and i64 {self.thread}, {SIDE - 1}")
        self.ty = e.set(f"lshr i64 {self.thread}, {SIDE.bit_length() - 1}")
        self.sums = [self.place(literal(0, self.d)) for _ in range(self.tile.own ** 2)]

    # -- small parts --------------------------------------------------------------------------------------------

    def _tiles(self, extent: str) -> str:
        e = self.e
        return e.set(f"sdiv i64 {e.set(f'add i64 {extent}, {self.tile.size - 1}')}, {self.tile.size}")

    def _divided(self, v: str, by: str) -> tuple[str, str]:
        """(quotient, remainder), of numbers that fit 32 bits."""
        e = self.e
        v, by = (e.set(f"trunc i64 {x} to i32") for x in (v, by))
        return e.wide(e.set(f"udiv i32 {v}, {by}")), e.wide(e.set(f"urem i32 {v}, {by}"))

    def place(self, value: str) -> str:
        """A variable."""
        address = self.e.fresh()
        self.e.allocas.append(f"  {address} = alloca {self.t}")
        self.e.line(f"store {self.t} {value}, ptr {address}")
        return address

    def locate(self, dims: tuple, flat: str) -> None:
        """Set the indices of flattened dimensions."""
        e = self.e
        for name, extent in reversed(dims[1:]):
            flat, e.indices[name] = self._divided(flat, e.expression(extent))
        if dims:
            e.indices[dims[0][0]] = flat

    def at_most(self, v: str, extent: str) -> str:
        """min(v, extent - 1): what lies beyond the edge reads the last element."""
        e = self.e
        return e.call("llvm.smin.i64", "i64", ("i64", v), ("i64", e.set(f"sub i64 {extent}, 1")))

    def shared(self, offset: str, size: str | None = None) -> str:
        return self.e.set(f"getelementptr inbounds {size or self.t}, ptr addrspace(3) @shared, i64 {offset}")

    # -- the sum ------------------------------------------------------------------------------------------------

    def sum(self) -> None:
        e, tile = self.e, self.tile
        sides = self.sides()
        for side in sides:
            side.read("0")
        with e.steps("0", self.k, str(tile.depth)) as k:
            for side in sides:
                side.leave()
            e.call_void("llvm.nvvm.barrier0")
            ahead = e.set(f"add i64 {k}, {tile.depth}")
            with e.only_if(e.set(f"icmp slt i64 {ahead}, {self.k}")):
                for side in sides:
                    side.read(ahead)
            self.slice()
            e.call_void("llvm.nvvm.barrier0")

    def sides(self) -> list:
        return [Side(self, self.c.a, self.c.m, self.m, self.first_m, self.a_at),
                Side(self, self.c.b, self.c.n, self.n, self.first_n, self.b_at)]

    def slice(self) -> None:
        """Multiply what lies in shared memory."""
        with self.e.steps("0", str(self.tile.depth), "1", unroll=2) as deep:
            self.multiply(deep)

    def multiply(self, deep: str) -> None:
        """One rank-1 update of the thread's sums."""
        e, own = self.e, self.tile.own
        row = e.set(f"mul i64 {deep}, {self.tile.pitch}")
        a, b = self.vector(row, self.ty, self.a_at), self.vector(row, self.tx, self.b_at)
        for i in range(own):
            for j in range(own):
                at = self.sums[i * own + j]
                old = e.set(f"load {self.t}, ptr {at}")
                new = e.call(f"llvm.fma.{self.d.code}", self.t, (self.t, a[i]), (self.t, b[j]), (self.t, old))
                e.line(f"store {self.t} {new}, ptr {at}")

    def vector(self, row: str, which: str, start: int) -> list[str]:
        """The elements of thread `which` in one k of a slice: quads, SIDE quads apart."""
        e, found = self.e, []
        first = e.set(f"add i64 {row}, {e.set(f'mul i64 {which}, {QUAD}')}")
        for q in range(self.tile.own // QUAD):
            at = self.shared(e.set(f"add i64 {first}, {start + q * QUAD * SIDE}"))
            quad = e.set(f"load <{QUAD} x {self.t}>, ptr addrspace(3) {at}, align 16")
            found += [e.set(f"extractelement <{QUAD} x {self.t}> {quad}, i32 {i}") for i in range(QUAD)]
        return found

    # -- the epilogue -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The tile through shared memory, as many rows at a time as fit, to the program's epilogue."""
        e = self.e
        with e.steps("0", str(self.chunks), "1") as chunk:
            for c in range(self.chunks):
                with e.only_if(e.set(f"icmp eq i64 {chunk}, {c}")):
                    self.put(c)
            e.call_void("llvm.nvvm.barrier0")
            with e.steps(self.thread, str(self.lines * self.tile.size), str(THREADS)) as at:
                self._element(at, chunk)
            e.call_void("llvm.nvvm.barrier0")

    @property
    def rows(self) -> int:
        """Rows of a thread that fit into shared memory at a time."""
        fitting = self.shared_bytes // (SIDE * self.tile.size * self.d.itemsize)
        return 1 << (min(self.tile.own, fitting).bit_length() - 1)

    @property
    def chunks(self) -> int:
        return self.tile.own // self.rows

    @property
    def lines(self) -> int:
        """Rows of the tile in a chunk."""
        return self.rows * SIDE

    def put(self, chunk: int) -> None:
        """This thread's sums of a chunk into shared memory."""
        e, own, rows = self.e, self.tile.own, self.rows
        mine = e.set(f"mul i64 {self.ty}, {rows * self.tile.size}")
        corner = e.set(f"add i64 {mine}, {e.set(f'mul i64 {self.tx}, {QUAD}')}")
        for k, i in enumerate(range(chunk * rows, (chunk + 1) * rows)):
            for j in range(own):
                column = (j // QUAD) * QUAD * SIDE + j % QUAD
                at = self.shared(e.set(f"add i64 {corner}, {k * self.tile.size + column}"))
                v = e.set(f"load {self.t}, ptr {self.sums[i * own + j]}")
                e.line(f"store {self.t} {v}, ptr addrspace(3) {at}, align {self.d.itemsize}")

    def row_of(self, line: str, chunk: str) -> str:
        """Which row of the tile a line of a chunk is."""
        e, rows = self.e, self.rows
        thread, k = e.set(f"udiv i64 {line}, {rows}"), e.set(f"urem i64 {line}, {rows}")
        i = e.set(f"add i64 {e.set(f'mul i64 {chunk}, {rows}')}, {k}")
        quad = e.set(f"mul i64 {e.set(f'udiv i64 {i}, {QUAD}')}, {QUAD * SIDE}")
        within = e.set(f"add i64 {e.set(f'mul i64 {thread}, {QUAD}')}, {e.set(f'urem i64 {i}, {QUAD}')}")
        return e.set(f"add i64 {quad}, {within}")

    def _element(self, at: str, chunk: str) -> None:
        """The epilogue for one element, `at` in the chunk that lies in shared memory."""
        e, tile = self.e, self.tile
        line, column = e.set(f"udiv i64 {at}, {tile.size}"), e.set(f"urem i64 {at}, {tile.size}")
        m = e.set(f"add i64 {self.first_m}, {self.row_of(line, chunk)}")
        n = e.set(f"add i64 {self.first_n}, {column}")
        inside = e.set(f"and i1 {e.set(f'icmp slt i64 {m}, {self.m}')}, {e.set(f'icmp slt i64 {n}, {self.n}')}")
        with e.only_if(inside):
            e.values["acc"] = e.set(f"load {self.t}, ptr addrspace(3) {self.shared(at)}, align {self.d.itemsize}")
            outer, e.memo = e.memo, dict(e.memo)
            self.locate(self.c.m, m)
            self.locate(self.c.n, n)
            e.lane_wise = True
            e.statements(self.c.body)
            e.memo = outer


class Side:
    """How the threads of a block bring one operand's slice to shared memory: along memory, and each its elements in registers first."""

    def __init__(self, owner: TileEmitter, operand: Op, rows: tuple, extent: str, first: str, start: int):
        self.owner, self.operand, self.rows, self.start = owner, operand, rows, start
        e, tile = owner.e, owner.tile
        along = runs_along(operand, rows, owner.c.k)
        self.fast, self.slow = (tile.depth, tile.size) if along == "k" else (tile.size, tile.depth)
        fast = e.set(f"urem i64 {owner.thread}, {self.fast}")
        slow = e.set(f"udiv i64 {owner.thread}, {self.fast}")
        steps = [e.set(f"add i64 {slow}, {j * (THREADS // self.fast)}") for j in range(tile.size * tile.depth // THREADS)]
        pairs = [(s, fast) if along == "k" else (fast, s) for s in steps]      # (row, k) within the slice
        self.indices, self.deep, self.waiting, self.offsets = [], [], [], []
        for row, k in pairs:
            owner.locate(rows, owner.at_most(e.set(f"add i64 {first}, {row}"), extent))
            self.indices.append({name: e.indices[name] for name, _ in rows})
            self.deep.append(k)
            self.waiting.append(owner.place(literal(0, owner.d)))
            self.offsets.append(e.set(f"add i64 {e.set(f'mul i64 {k}, {tile.pitch}')}, {row}"))

    def read(self, k: str) -> None:
        """This thread's elements of the slice at k; 0 beyond the end."""
        owner, e = self.owner, self.owner.e
        for indices, deep, waiting in zip(self.indices, self.deep, self.waiting):
            here = e.set(f"add i64 {k}, {deep}")
            outer, e.memo = e.memo, dict(e.memo)
            e.indices.update(indices)
            owner.locate(owner.c.k, owner.at_most(here, owner.k))
            v = e.expression(self.operand)
            e.memo = outer
            inside = e.set(f"icmp slt i64 {here}, {owner.k}")
            e.line(f"store {owner.t} {e.set(f'select i1 {inside}, {owner.t} {v}, {owner.t} {literal(0, owner.d)}')}, ptr {waiting}")

    def leave(self) -> None:
        """What was read, into shared memory."""
        owner, e = self.owner, self.owner.e
        for waiting, offset in zip(self.waiting, self.offsets):
            at = owner.shared(e.set(f"add i64 {offset}, {self.start}"))
            v = e.set(f"load {owner.t}, ptr {waiting}")
            e.line(f"store {owner.t} {v}, ptr addrspace(3) {at}, align {owner.d.itemsize}")


class ContractionKernel(Kernel):
    """A program whose body is one contraction: a function for each size of tile."""

    @property
    def contraction(self) -> Contraction:
        return self.program.body[0].attr

    def ir(self, architecture: int = ARCHITECTURES[-1]) -> str:
        from .cuda_mma import FIRST, MmaEmitter

        metadata: list[str] = []
        kind = MmaEmitter if self.halves and architecture >= FIRST else TileEmitter
        emitters = [kind(self.program, tile, metadata) for tile in self.tiles(architecture)]
        emitters[0].e.meta("!{}")
        emitters[0].e.meta('!{!"branch_weights", i32 1, i32 2000}')
        functions = [emitter.function() for emitter in emitters]
        text = module(functions, [emitter.e for emitter in emitters], max(e.shared_bytes for e in emitters) // 8)
        return (text + f'attributes #1 = {{ nounwind "nvvm.maxntid"="{THREADS}" "nvvm.minctasm"="2" }}\n'
                'attributes #2 = { nounwind convergent }\n')

    @functools.cached_property
    def halves(self) -> dt.dtype | None:
        """The 16-bit dtype of the operands, if tensor cores can multiply them."""
        from .cuda_mma import half_of

        return half_of(self.contraction)

    def tiles(self, architecture: int) -> tuple[Tile, ...]:
        from . import cuda_mma

        if self.halves and architecture >= cuda_mma.FIRST:
            return cuda_mma.tiles_of(self.contraction)
        return tiles_of(self.contraction.dtype)

    def _sizes(self, words) -> tuple[int, int, int]:
        batch, m, n = (evaluate(flattened(getattr(self.contraction, label)), words) for label in ("batch", "m", "n"))
        return batch, m, n

    def _tile(self, words, architecture: int) -> Tile:
        from .cuda_mma import is_wide

        batch, m, n = self._sizes(words)
        tiles = self.tiles(architecture)
        if any(getattr(t, "wide", False) for t in tiles):
            wide = is_wide(self.contraction, words)
            tiles = [t for t in tiles if t.wide is wide]
        return next((tile for tile in tiles if batch * -(-m // tile.size) * -(-n // tile.size) >= ENOUGH), tiles[-1])

    def entry(self, words, architecture: int = ARCHITECTURES[-1]) -> str:
        return self._tile(words, architecture).name

    def launch(self, words, architecture: int = ARCHITECTURES[-1]) -> Launch | None:
        batch, m, n = self._sizes(words)
        tile = self._tile(words, architecture)
        blocks = batch * -(-m // tile.size) * -(-n // tile.size)
        return Launch((blocks, 1), (THREADS, 1)) if blocks > 0 else None

