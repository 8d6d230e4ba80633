"""Matrix products on a GPU with nothing but its floating point units: tiles of the result in registers.

A block computes a tile of C. Step by step along k, its threads read a slice of A and of B through whatever expressions the program
has for them into shared memory (the next slice is on its way while one is used), and each adds up a few rows x columns in
registers. At the end the tile goes through shared memory to the epilogue, which thus writes whole lines.

From compute capability 8.0 on operands that are plain memory are copied to shared memory without going through registers (cp.async), some
slices ahead of the one that is used.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..base import config
from ..base import dtype as dt
from ..loops import ir
from ..loops.ir import Contraction, Op, walk
from .formula import evaluate
from .llvm import literal, llvm_type
from .ptx import ARCHITECTURES, THREADS, Kernel, Launch, PtxEmitter, module, start

SIDE = 16               # threads along each side of a tile
QUAD = 4                # elements that are read from shared memory at once


@dataclass(frozen=True)
class Tile:
    """A block's part of C: rows x columns, by SIDE x SIDE threads or by eight warps; k is taken `depth` at a time. `wide`: operands
    are read 16 bytes at a time. `stages`: slices in shared memory; where there is more than one, the later ones are being copied."""

    name: str
    rows: int
    columns: int
    depth: int
    wide: bool = False
    stages: int = 1


COPIES = 80             # the architecture from which on memory is copied to shared memory asynchronously
STAGES = 3
ENOUGH = 128            # large tiles that keep a GPU busy


def tiles_of(c: Contraction, architecture: int) -> tuple[Tile, ...]:
    """For products on floating point units. Large tiles are copied in short slices: a thread has few addresses to keep in registers."""
    copied = architecture >= COPIES and c.dtype.kind == "f" and all(o.kind == "load" and steps_of(o) for o in (c.a, c.b))
    small = Tile("small", 64, 64, 16, stages=STAGES if copied else 1)
    large = Tile("kernel", 128, 128, 8, stages=STAGES + 1) if copied else Tile("kernel", 128, 128, 16)
    return (large, small) if c.dtype is dt.float32 else (replace(small, name="kernel"),)


def fitting(m: int, n: int) -> tuple[int, int]:
    """Rows and columns of a tile for a product of m x n that one block computes alone."""
    rows = 16 if m <= 16 else 32 if m <= 32 else 64
    return rows, 64 if n <= 64 and rows > 16 else 128


def pitch(size: int) -> int:
    """Elements from one k to the next in shared memory; the padding spreads columns over banks."""
    return size + QUAD


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


# -- operands that are plain memory -----------------------------------------------------------------------------

def loaded(operand: Op) -> Op:
    """What an operand reads before it is cast."""
    return operand.args[0] if operand.kind == "cast" else operand


def steps_of(operand: Op) -> tuple[int, dict[str, Op], list[Op]] | None:
    """(slot, the step of each index, other terms of the offset) of an operand that is a load; None if it is something else."""
    load = loaded(operand)
    if load.kind != "load":
        return None
    steps: dict[str, Op] = {}
    rest, stack = [], [load.args[0]]
    while stack:
        term = stack.pop()
        if term.kind == "add":
            stack.extend(term.args)
        elif term.kind == "index":
            steps[term.attr] = ir.integer(1)
        elif term.kind == "mul" and term.args[0].kind == "index" and term.args[1].kind in ("arg", "const"):
            steps[term.args[0].attr] = term.args[1]
        elif term.kind in ("arg", "const"):
            rest.append(term)
        else:
            return None
    return load.attr, steps, rest


def is_wide(c: Contraction, words, vector: int, aligned) -> bool:
    """Whether each `vector` elements that a thread reads lie together and at a multiple of 16 bytes. `aligned(slot)`: whether a
    slot's address is one."""
    for operand, rows in ((c.a, c.m), (c.b, c.n)):
        found = steps_of(operand)
        if found is None or loaded(operand).dtype.itemsize * vector != 16 or loaded(operand).dtype.kind != "f":
            return False
        slot, steps, rest = found
        along = (c.k if runs_along(operand, rows, c.k) == "k" else rows)[-1]
        if along[0] not in steps or evaluate(steps[along[0]], words) != 1 or evaluate(along[1], words) % vector or not aligned(slot):
            return False
        others = [s for name, s in steps.items() if name != along[0]] + rest
        if any(evaluate(s, words) % vector for s in others):
            return False
    return True


# -- kernels ---------------------------------------------------------------------------------------------------

class TileEmitter:
    """Writes what computes tiles of one size: a kernel of its own, or a part of one (`emitter`)."""

    def __init__(self, program: ir.Program, tile: Tile, emitter: PtxEmitter | None = None):
        self.c: Contraction = program.body[0].attr
        self.tile, self.e = tile, emitter or PtxEmitter(program)
        self.d = self.c.dtype
        self.t = llvm_type(self.d)
        self.own_m, self.own_n = tile.rows // SIDE, tile.columns // SIDE        # sums of a thread
        self.b_at = tile.depth * pitch(tile.rows)       # of the slice of B in shared memory, in numbers
        self.stage = "0"        # where the slices begin that are used

    @property
    def numbers(self) -> int:
        """Numbers of both slices."""
        return self.tile.depth * (pitch(self.tile.rows) + pitch(self.tile.columns))

    @property
    def shared_bytes(self) -> int:
        return self.tile.stages * self.numbers * self.d.itemsize

    def function(self) -> str:
        """A kernel of which each block computes one tile."""
        e = self.e
        e.load_slots()
        self.begin()
        self.compute(e.wide(e.register("ctaid.x")))
        e.line("ret void")
        return e.function(e.signature(self.tile.name), "#1")

    def all_tiles(self) -> None:
        """All tiles, one after the other, by one block."""
        e = self.e
        self.begin()
        batch, m, n = e.expression(flattened(self.c.batch)), self._tiles(self.m, self.tile.rows), self._tiles(self.n, self.tile.columns)
        with e.steps("0", e.i64("mul", batch, e.i64("mul", m, n)), "1") as number:
            outer, e.memo = e.memo, dict(e.memo)
            self.compute(number)
            e.memo = outer

    def begin(self) -> None:
        e, c = self.e, self.c
        self.thread = e.wide(e.thread or e.register("tid.x"))
        self.m, self.n, self.k = (e.expression(flattened(dims)) for dims in (c.m, c.n, c.k))

    def compute(self, number: str) -> None:
        """One tile by its number."""
        e, tile = self.e, self.tile
        self.position()
        rest, column = self._divided(number, self._tiles(self.n, tile.columns))
        batch, row = self._divided(rest, self._tiles(self.m, tile.rows))
        self.first_m = e.i64("mul", row, tile.rows)
        self.first_n = e.i64("mul", column, tile.columns)
        self.locate(self.c.batch, batch)
        with e.only_if(e.set(f"icmp sgt i64 {self.k}, 0")):
            self.sum()
        self.finish()

    def position(self) -> None:
        """Which part of the tile is this thread's; its sums, 0."""
        e = self.e
        self.tx = e.set(f"and i64 {self.thread}, {SIDE - 1}")
        self.ty = e.set(f"lshr i64 {self.thread}, {SIDE.bit_length() - 1}")
        self.sums = [self.place(literal(0, self.d)) for _ in range(self.own_m * self.own_n)]

    # -- small parts --------------------------------------------------------------------------------------------

    def _tiles(self, extent: str, size: int) -> str:
        return self.e.i64("sdiv", self.e.i64("add", extent, size - 1), size)

    def _divided(self, v: str, by: str) -> tuple[str, str]:
        """(quotient, remainder), of numbers that fit 32 bits."""
        e = self.e
        v, by = (e.set(f"trunc i64 {x} to i32") for x in (v, by))
        return e.wide(e.set(f"udiv i32 {v}, {by}")), e.wide(e.set(f"urem i32 {v}, {by}"))

    def place(self, value: str) -> str:
        """A variable of the sum's type."""
        return self.e.variable(self.t, value)

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

    def copy(self, to: str, address: str, inside: str, nbytes: int) -> None:
        """Begin to copy what lies at an address to shared memory; zeros where it is not `inside`."""
        e = self.e
        place, source = e.set(f"ptrtoint ptr addrspace(3) {to} to i32"), e.set(f"ptrtoint ptr {address} to i64")
        count = e.set(f"select i1 {inside}, i32 {nbytes}, i32 0")
        cached = "cg" if nbytes == 16 else "ca"
        e.line(f'call void asm sideeffect "cp.async.{cached}.shared.global [$0], [$1], {nbytes}, $2;", "r,l,r,~{{memory}}"'
               f"(i32 {place}, i64 {source}, i32 {count})")

    # -- the sum ------------------------------------------------------------------------------------------------

    def sum(self) -> None:
        e, tile = self.e, self.tile
        sides = self.sides()
        if tile.stages > 1:
            self._sum_of_copies(sides)
            return
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

    def _sum_of_copies(self, sides: list) -> None:
        """Slices take their turns in `stages` places. A barrier says both that a slice is there and that all are done with the one before
        it, whose place is then filled anew."""
        e, depth, stages = self.e, self.tile.depth, self.tile.stages

        def copy(k: str, stage: str) -> None:
            for side in sides:
                side.copy(k, stage)
            e.line('call void asm sideeffect "cp.async.commit_group;", "~{memory}"()')

        def wait(for_all_but: int) -> None:
            e.line(f'call void asm sideeffect "cp.async.wait_group {for_all_but};", "~{{memory}}"()')
            e.call_void("llvm.nvvm.barrier0")

        for number in range(stages - 1):
            copy(str(number * depth), str(number * self.numbers))
        with e.steps("0", self.k, str(depth)) as k:
            wait(stages - 2)
            number = e.i64("udiv", k, depth)
            free = e.i64("urem", e.i64("add", number, stages - 1), stages)
            copy(e.i64("add", k, (stages - 1) * depth), e.i64("mul", free, self.numbers))
            self.stage = e.i64("mul", e.i64("urem", number, stages), self.numbers)
            self.slice()
        wait(0)

    def sides(self) -> list:
        kind = Side if self.tile.stages == 1 else CopiedSide
        return [kind(self, self.c.a, self.c.m, self.m, self.first_m, 0, self.tile.rows),
                kind(self, self.c.b, self.c.n, self.n, self.first_n, self.b_at, self.tile.columns)]

    def slice(self) -> None:
        """Multiply what lies in shared memory."""
        with self.e.steps("0", str(self.tile.depth), "1", unroll=2) as deep:
            self.multiply(deep)

    def multiply(self, deep: str) -> None:
        """One rank-1 update of the thread's sums."""
        e, tile = self.e, self.tile
        a = self.vector(e.i64("mul", deep, pitch(tile.rows)), self.ty, 0, self.own_m)
        b = self.vector(e.i64("mul", deep, pitch(tile.columns)), self.tx, self.b_at, self.own_n)
        for i in range(self.own_m):
            for j in range(self.own_n):
                at = self.sums[i * self.own_n + j]
                old = e.set(f"load {self.t}, ptr {at}")
                new = e.call(f"llvm.fma.{self.d.code}", self.t, (self.t, a[i]), (self.t, b[j]), (self.t, old))
                e.line(f"store {self.t} {new}, ptr {at}")

    def vector(self, row: str, which: str, start: int, own: int) -> list[str]:
        """The `own` elements of thread `which` in one k of a slice: quads (or what there is), SIDE quads apart."""
        e, found, quad = self.e, [], min(QUAD, own)
        first = e.i64("add", e.i64("add", row, self.stage), e.i64("mul", which, quad))
        for q in range(own // quad):
            at = self.shared(e.i64("add", first, start + q * quad * SIDE))
            if quad == 1:
                found.append(e.set(f"load {self.t}, ptr addrspace(3) {at}, align {self.d.itemsize}"))
                continue
            got = e.set(f"load <{quad} x {self.t}>, ptr addrspace(3) {at}, align {min(16, quad * self.d.itemsize)}")
            found += [e.set(f"extractelement <{quad} x {self.t}> {got}, i32 {i}") for i in range(quad)]
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
            with e.steps(self.thread, str(self.lines * self.tile.columns), str(THREADS)) as at:
                self._element(at, chunk)
            e.call_void("llvm.nvvm.barrier0")

    @property
    def rows(self) -> int:
        """Rows of a thread that fit into shared memory at a time."""
        fitting = self.shared_bytes // (SIDE * self.tile.columns * self.d.itemsize)
        return 1 << (max(1, min(self.own_m, fitting)).bit_length() - 1)

    @property
    def chunks(self) -> int:
        return self.own_m // self.rows

    @property
    def lines(self) -> int:
        """Rows of the tile in a chunk."""
        return self.rows * SIDE

    def put(self, chunk: int) -> None:
        """This thread's sums of a chunk into shared memory."""
        e, own, rows, columns, quad = self.e, self.own_n, self.rows, self.tile.columns, min(QUAD, self.own_n)
        corner = e.i64("add", e.i64("mul", self.ty, rows * columns), e.i64("mul", self.tx, quad))
        for k, i in enumerate(range(chunk * rows, (chunk + 1) * rows)):
            for j in range(own):
                column = (j // quad) * quad * SIDE + j % quad
                at = self.shared(e.i64("add", corner, k * columns + column))
                v = e.set(f"load {self.t}, ptr {self.sums[i * own + j]}")
                e.line(f"store {self.t} {v}, ptr addrspace(3) {at}, align {self.d.itemsize}")

    def row_of(self, line: str, chunk: str) -> str:
        """Which row of the tile a line of a chunk is."""
        e, rows, quad = self.e, self.rows, min(QUAD, self.own_m)
        thread, k = e.i64("udiv", line, rows), e.i64("urem", line, rows)
        i = e.i64("add", e.i64("mul", chunk, rows), k)
        first = e.i64("mul", e.i64("udiv", i, quad), quad * SIDE)
        within = e.i64("add", e.i64("mul", thread, quad), e.i64("urem", i, quad))
        return e.i64("add", first, within)

    def _element(self, at: str, chunk: str) -> None:
        """The epilogue for one element, `at` in the chunk that lies in shared memory."""
        e, tile = self.e, self.tile
        line, column = e.i64("udiv", at, tile.columns), e.i64("urem", at, tile.columns)
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
            e.lane_wise = False
            e.memo = outer


class Side:
    """How the threads of a block bring one operand's slice to shared memory: along memory, and each its elements in registers first."""

    def __init__(self, owner: TileEmitter, operand: Op, rows: tuple, extent: str, first: str, start: int, size: int):
        self.owner, self.operand, self.rows, self.start = owner, operand, rows, start
        e, tile = owner.e, owner.tile
        along = runs_along(operand, rows, owner.c.k)
        self.fast, self.slow = (tile.depth, size) if along == "k" else (size, tile.depth)
        fast = e.set(f"urem i64 {owner.thread}, {self.fast}")
        slow = e.set(f"udiv i64 {owner.thread}, {self.fast}")
        steps = [e.set(f"add i64 {slow}, {j * (THREADS // self.fast)}") for j in range(size * tile.depth // THREADS)]
        pairs = [(s, fast) if along == "k" else (fast, s) for s in steps]      # (row, k) within the slice
        self.indices, self.deep, self.offsets = [], [], []
        for row, k in pairs:
            owner.locate(rows, owner.at_most(e.set(f"add i64 {first}, {row}"), extent))
            self.indices.append({name: e.indices[name] for name, _ in rows})
            self.deep.append(k)
            self.offsets.append(e.i64("add", e.i64("add", e.i64("mul", k, pitch(size)), row), start))
        self.begin()

    def begin(self) -> None:
        self.waiting = [self.owner.place(literal(0, self.owner.d)) for _ in self.deep]

    def read(self, k: str) -> None:
        """This thread's elements of the slice at k; 0 beyond the end."""
        owner, e = self.owner, self.owner.e
        for indices, deep, waiting in zip(self.indices, self.deep, self.waiting):
            with self.element(indices, k, deep) as inside:
                v = e.expression(self.operand)
            e.line(f"store {owner.t} {e.set(f'select i1 {inside}, {owner.t} {v}, {owner.t} {literal(0, owner.d)}')}, ptr {waiting}")

    @contextmanager
    def element(self, indices: dict, k: str, deep: str):
        """With all indices those of an element, or of the last one; yields whether it is inside."""
        owner, e = self.owner, self.owner.e
        here = e.set(f"add i64 {k}, {deep}")
        inside = e.set(f"icmp slt i64 {here}, {owner.k}")
        outer, e.memo = e.memo, dict(e.memo)
        e.indices.update(indices)
        owner.locate(owner.c.k, owner.at_most(here, owner.k))
        yield inside
        e.memo = outer

    def leave(self) -> None:
        """What was read, into shared memory."""
        owner, e = self.owner, self.owner.e
        for waiting, offset in zip(self.waiting, self.offsets):
            v = e.set(f"load {owner.t}, ptr {waiting}")
            e.line(f"store {owner.t} {v}, ptr addrspace(3) {owner.shared(offset)}, align {owner.d.itemsize}")


class CopiedSide(Side):
    """An operand that is plain memory, element by element, without going through registers."""

    def begin(self) -> None:
        pass

    def copy(self, k: str, stage: str) -> None:
        """Begin to copy this thread's elements of the slice at k to a place in shared memory; 0 beyond the end."""
        owner, e = self.owner, self.owner.e
        for indices, deep, offset in zip(self.indices, self.deep, self.offsets):
            with self.element(indices, k, deep) as inside:
                address = e.address(self.operand.attr, self.operand.args[0])
            owner.copy(owner.shared(e.i64("add", offset, stage)), address, inside, owner.d.itemsize)


class ContractionKernel(Kernel):
    """A program whose body is one contraction: a function for each size of tile."""

    def __init__(self, program: ir.Program, text: str):
        super().__init__(program, text)
        self.shared: dict[tuple, int] = {}      # bytes that a tile needs on an architecture
        self.rounded = config.float32_matmul != "highest" and self.contraction.dtype is dt.float32
        if self.rounded:
            self.key += "tf32"

    @property
    def contraction(self) -> Contraction:
        return self.program.body[0].attr

    def fitted(self, words) -> Kernel:
        return self         # `entry` chooses

    def emitter(self, tile: Tile, architecture: int, emitter: PtxEmitter | None = None) -> TileEmitter:
        """What writes a tile for an architecture."""
        return self._kind(architecture)(self.program, tile, emitter)

    def _kind(self, architecture: int) -> type[TileEmitter]:
        from . import cuda_mma

        if architecture >= cuda_mma.FIRST:
            if self.halves:
                return cuda_mma.HalfEmitter
            if self.rounded:
                return cuda_mma.RoundedEmitter
        return TileEmitter

    def ir(self, architecture: int = ARCHITECTURES[-1]) -> str:
        emitters = [self.emitter(tile, architecture) for tile in self.tiles(architecture)]
        start(emitters[0].e)
        for emitter in emitters:
            emitter.e.metadata = emitters[0].e.metadata     # one list for all functions of the module
        functions = [emitter.function() for emitter in emitters]
        return module(functions, [emitter.e for emitter in emitters], None) + attributes(2)

    @functools.cached_property
    def halves(self) -> dt.dtype | None:
        """The 16-bit dtype of the operands, if tensor cores can multiply them."""
        from .cuda_mma import half_of

        return half_of(self.contraction)

    def tiles(self, architecture: int) -> tuple[Tile, ...]:
        kind = self._kind(architecture)
        return tiles_of(self.contraction, architecture) if kind is TileEmitter else kind.tiles_of(self.contraction)

    def block_tile(self, words, aligned) -> Tile:
        """The tile with which one block computes the whole product; `aligned(slot)`: whether an address is always a multiple of 16."""
        from .cuda_mma import DEPTH

        _, m, n = self._sizes(words)
        vector = 8 if self.halves else 4
        wide = bool(self.halves or self.rounded) and is_wide(self.contraction, words, vector, aligned)
        return Tile("part", *fitting(m, n), DEPTH if self.halves else 16, wide)

    def _sizes(self, words) -> tuple[int, int, int]:
        batch, m, n = (evaluate(flattened(getattr(self.contraction, label)), words) for label in ("batch", "m", "n"))
        return batch, m, n

    def _tile(self, words, architecture: int) -> Tile:
        batch, m, n = self._sizes(words)
        tiles = self.tiles(architecture)
        if any(t.wide for t in tiles):
            wide = is_wide(self.contraction, words, 8 if self.halves else 4, lambda slot: words[slot] % 16 == 0)
            tiles = [t for t in tiles if t.wide is wide]
        return next((tile for tile in tiles if batch * -(-m // tile.rows) * -(-n // tile.columns) >= ENOUGH), tiles[-1])

    def entry(self, words, architecture: int = ARCHITECTURES[-1]) -> str:
        return self._tile(words, architecture).name

    def launch(self, words, architecture: int = ARCHITECTURES[-1]) -> Launch | None:
        batch, m, n = self._sizes(words)
        tile = self._tile(words, architecture)
        blocks = batch * -(-m // tile.rows) * -(-n // tile.columns)
        return Launch((blocks, 1), (THREADS, 1), self._shared(tile, architecture)) if blocks > 0 else None

    def _shared(self, tile: Tile, architecture: int) -> int:
        found = self.shared.get((tile, architecture))
        if found is None:
            found = self.shared[tile, architecture] = self.emitter(tile, architecture).shared_bytes
        return found


def attributes(blocks: int) -> str:
    """Attributes #1 of a kernel of THREADS threads, `blocks` of which share a multiprocessor, and #2 of instructions of whole warps."""
    return (f'attributes #1 = {{ nounwind "nvvm.maxntid"="{THREADS}" "nvvm.minctasm"="{blocks}" }}\n'
            'attributes #2 = { nounwind convergent }\n')
