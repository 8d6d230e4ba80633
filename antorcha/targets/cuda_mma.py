"""Matrix products of 16-bit floats on a GPU's tensor cores, with sums in float32.

As in `cuda_contract.py` a block computes a tile of C, slice by slice along k. A slice holds 16-bit numbers; eight warps share the tile,
and each multiplies fragments of 16 x 16 by 16 x 8 (the instruction mma.m16n8k16). An operand's slice lies in shared memory as the
operand does in memory, along k or along its rows, and `ldmatrix` turns it where that is needed.

Where an operand is plain memory with everything at multiples of 8 elements, 16 bytes are read at once: `entry` chooses that
function by the arguments. Otherwise each element is computed by the program's expression.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..base import dtype as dt
from ..loops import ir
from ..loops.ir import Contraction, Op
from .cuda_contract import Tile, TileEmitter, runs_along
from .llvm import evaluate
from .ptx import THREADS, WARP

HALVES = {dt.float16: "f16", dt.bfloat16: "bf16"}
FIRST = 80              # the architecture from which on there is mma.m16n8k16
DEPTH = 32              # of a slice along k
VECTOR = 8              # elements of 16 bytes
PADDING = 8             # elements that spread the lines of a slice over banks
ACROSS = (2, 4)         # warps along m and n
QUARTER = "{ i32, i32, i32, i32 }"
SUMS = "{ float, float, float, float }"


def half_of(c: Contraction) -> dt.dtype | None:
    """The 16-bit dtype of both operands of a contraction, if they have one and are summed in float32."""
    kinds = {operand.args[0].dtype if operand.kind == "cast" else None for operand in (c.a, c.b)}
    kind = kinds.pop()
    return kind if not kinds and kind in HALVES and c.dtype is dt.float32 else None


@dataclass(frozen=True)
class MmaTile(Tile):
    """`wide`: operands are read 16 bytes at a time."""

    wide: bool = False


def tiles_of(c: Contraction) -> tuple[MmaTile, ...]:
    tiles = tuple(MmaTile(name, size, DEPTH) for name, size in (("kernel", 128), ("small", 64)))
    if any(steps_of(operand) is None for operand in (c.a, c.b)):
        return tiles
    return tiles + tuple(MmaTile(f"{t.name}_wide", t.size, DEPTH, True) for t in tiles)


# -- operands that are plain memory -----------------------------------------------------------------------------

def steps_of(operand: Op) -> tuple[int, dict[str, Op], list[Op]] | None:
    """(slot, the step of each index, other terms of the offset) of an operand that is a load cast; None if it is something else."""
    load = operand.args[0]
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


def is_wide(c: Contraction, words) -> bool:
    """Whether each 16 bytes that a thread reads lie together and at a multiple of 16."""
    for operand, rows in ((c.a, c.m), (c.b, c.n)):
        found = steps_of(operand)
        if found is None:
            return False
        slot, steps, rest = found
        along = (c.k if runs_along(operand, rows, c.k) == "k" else rows)[-1]
        if along[0] not in steps or evaluate(steps[along[0]], words) != 1 or evaluate(along[1], words) % VECTOR or words[slot] % 16:
            return False
        others = [s for name, s in steps.items() if name != along[0]] + rest
        if any(evaluate(s, words) % VECTOR for s in others):
            return False
    return True


# -- the kernel -------------------------------------------------------------------------------------------------

class MmaEmitter(TileEmitter):
    """Writes the kernel of one tile size."""

    def __init__(self, program: ir.Program, tile: MmaTile, metadata: list[str]):
        super().__init__(program, tile, metadata)
        self.half = half_of(self.c)
        self.own_m, self.own_n = tile.size // ACROSS[0] // 16, tile.size // ACROSS[1] // 8      # fragments of a warp
        self.layouts = [runs_along(operand, rows, self.c.k) for operand, rows in ((self.c.a, self.c.m), (self.c.b, self.c.n))]
        self.b_at = self._slice(self.layouts[0])

    def pitch(self, layout: str) -> int:
        """Elements from line to line of a slice."""
        return (DEPTH if layout == "k" else self.tile.size) + PADDING

    def _slice(self, layout: str) -> int:
        return self.pitch(layout) * (self.tile.size if layout == "k" else DEPTH)

    @property
    def shared_bytes(self) -> int:
        return 2 * sum(map(self._slice, self.layouts))

    def position(self) -> None:
        e = self.e
        self.lane = e.i64("and", self.thread, WARP - 1)
        warp = e.i64("lshr", self.thread, 5)
        self.warp_m, self.warp_n = e.i64("udiv", warp, ACROSS[1]), e.i64("urem", warp, ACROSS[1])
        self.sums = [self.place("0.0") for _ in range(self.own_m * self.own_n * 4)]

    def sides(self) -> list:
        return [MmaSide(self, self.c.a, self.c.m, self.m, self.first_m, 0, self.layouts[0]),
                MmaSide(self, self.c.b, self.c.n, self.n, self.first_n, self.b_at, self.layouts[1])]

    def slice(self) -> None:
        """Multiply what lies in shared memory."""
        e = self.e
        low, middle, high = e.i64("and", self.lane, 7), e.i64("lshr", self.lane, 3), e.i64("lshr", self.lane, 4)
        middle = e.i64("and", middle, 1)
        first_m = e.i64("mul", self.warp_m, self.own_m * 16)
        first_n = e.i64("mul", self.warp_n, self.own_n * 8)
        # Lane l names a line of the (l / 8)-th of four matrices of 8 x 8: of A in the order (row, k) 00 10 01 11, of B 00 01 10 11.
        a_lines = self._lines(0, self.layouts[0], first_m, low, middle, high)
        b_lines = self._lines(self.b_at, self.layouts[1], first_n, low, high, middle)
        for k in range(0, DEPTH, 16):
            a = [self._matrices(a_lines, self.layouts[0], 16 * i, k) for i in range(self.own_m)]
            b = [self._matrices(b_lines, self.layouts[1], 16 * j, k) for j in range(self.own_n // 2)]
            for i in range(self.own_m):
                for j in range(self.own_n):
                    self._multiply(a[i], b[j // 2][2 * (j % 2):2 * (j % 2) + 2], self.sums[4 * (i * self.own_n + j):][:4])

    def _lines(self, start: int, layout: str, first: str, low: str, row_half: str, k_half: str) -> str:
        """The element of shared memory that a lane names for the matrices at row `first` and k = 0."""
        e = self.e
        row = e.i64("add", first, e.i64("mul", row_half, 8))
        k = e.i64("mul", k_half, 8)
        row, k = (e.i64("add", row, low), k) if layout == "k" else (row, e.i64("add", k, low))
        line, place = (row, k) if layout == "k" else (k, row)
        return e.i64("add", e.i64("add", e.i64("mul", line, self.pitch(layout)), place), start)

    def _matrices(self, lines: str, layout: str, row: int, k: int) -> list[str]:
        """Four matrices of 8 x 8, one register each: those at (row, k) of a slice."""
        e = self.e
        ahead = row * self.pitch(layout) + k if layout == "k" else k * self.pitch(layout) + row
        line = self.shared(e.i64("add", lines, ahead), "i16")
        address = e.set(f"ptrtoint ptr addrspace(3) {line} to i32")
        turn = "" if layout == "k" else ".trans"
        got = e.set(f'call {QUARTER} asm sideeffect "ldmatrix.sync.aligned.m8n8.x4{turn}.shared.b16 {{$0, $1, $2, $3}}, [$4];", '
                    f'"=r,=r,=r,=r,r,~{{memory}}"(i32 {address}) #2')
        return [e.set(f"extractvalue {QUARTER} {got}, {i}") for i in range(4)]

    def _multiply(self, a: list[str], b: list[str], sums: list[str]) -> None:
        e, name = self.e, HALVES[self.half]
        old = [e.set(f"load float, ptr {s}") for s in sums]
        operands = ", ".join([*(f"i32 {x}" for x in (*a, *b)), *(f"float {x}" for x in old)])
        got = e.set(f'call {SUMS} asm "mma.sync.aligned.m16n8k16.row.col.f32.{name}.{name}.f32 '
                    '{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};", '
                    f'"=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"({operands}) #2')
        for i, s in enumerate(sums):
            e.line(f"store float {e.set(f'extractvalue {SUMS} {got}, {i}')}, ptr {s}")

    # -- the epilogue: one row of fragments of every warp at a time

    @property
    def chunks(self) -> int:
        return self.own_m

    @property
    def lines(self) -> int:
        return 16 * ACROSS[0]

    def put(self, chunk: int) -> None:
        e = self.e
        row = e.i64("add", e.i64("mul", self.warp_m, 16), e.i64("lshr", self.lane, 2))
        column = e.i64("add", e.i64("mul", self.warp_n, 8 * self.own_n), e.i64("mul", e.i64("and", self.lane, 3), 2))
        corner = e.i64("add", e.i64("mul", row, self.tile.size), column)
        for j in range(self.own_n):
            for i in range(4):
                ahead = 8 * j + i % 2 + 8 * self.tile.size * (i // 2)
                v = e.set(f"load float, ptr {self.sums[4 * (chunk * self.own_n + j) + i]}")
                e.line(f"store float {v}, ptr addrspace(3) {self.shared(e.i64('add', corner, ahead))}, align 4")

    def row_of(self, line: str, chunk: str) -> str:
        e = self.e
        warp, within = e.i64("udiv", line, 16), e.i64("urem", line, 16)
        first = e.i64("add", e.i64("mul", warp, 16 * self.own_m), e.i64("mul", chunk, 16))
        return e.i64("add", first, within)


class MmaSide:
    """How the threads bring an operand's slice to shared memory: vectors of 8 elements along memory, kept in registers first."""

    def __init__(self, owner: MmaEmitter, operand: Op, rows: tuple, extent: str, first: str, start: int, layout: str):
        self.owner, self.operand, self.rows, self.layout = owner, operand.args[0], rows, layout
        e, tile = owner.e, owner.tile
        across = (DEPTH if layout == "k" else tile.size) // VECTOR      # vectors of a line
        self.vectors = []
        for j in range(tile.size * DEPTH // VECTOR // THREADS):
            number = e.i64("add", owner.thread, j * THREADS)
            line, place = e.i64("udiv", number, across), e.i64("mul", e.i64("urem", number, across), VECTOR)
            row, k = (line, place) if layout == "k" else (place, line)
            at = e.i64("add", e.i64("add", e.i64("mul", line, owner.pitch(layout)), place), start)
            row = e.i64("add", first, row)
            places = []
            for i in range(1 if layout == "k" or tile.wide else VECTOR):
                inside = owner.at_most(e.i64("add", row, i), extent if not (tile.wide and layout == "rows") else
                                       e.i64("sub", extent, VECTOR - 1))
                owner.locate(rows, inside)
                places.append({name: e.indices[name] for name, _ in rows})
            waiting = [e.fresh() for _ in range(VECTOR // 2)]
            e.allocas += [f"  {w} = alloca i32" for w in waiting]
            self.vectors.append((places, k, waiting, at))

    def read(self, k: str) -> None:
        """This thread's vectors of the slice at k; 0 beyond the end."""
        e = self.owner.e
        for places, deep, waiting, _ in self.vectors:
            here = e.i64("add", k, deep)
            words = self._wide(places[0], here) if self.owner.tile.wide else self._narrow(places, here)
            for w, v in zip(waiting, words):
                e.line(f"store i32 {v}, ptr {w}")

    def _element(self, place: dict, k: str, beyond: int):
        """Evaluate something for the element at `place` and k: (expression's context, whether k is inside)."""
        owner, e = self.owner, self.owner.e
        inside = e.set(f"icmp slt i64 {k}, {owner.k}")
        e.indices.update(place)
        last = e.i64("sub", owner.k, beyond)
        owner.locate(owner.c.k, e.call("llvm.smin.i64", "i64", ("i64", k), ("i64", last)))
        return inside

    def _wide(self, place: dict, k: str) -> list[str]:
        e = self.owner.e
        outer, e.memo = e.memo, dict(e.memo)
        inside = self._element(place, k, VECTOR if self.layout == "k" else 1)
        address = e.address(self.operand.attr, self.operand.args[0])
        e.memo = outer
        got = e.set(f"load <4 x i32>, ptr {address}, align 16")
        words = [e.set(f"extractelement <4 x i32> {got}, i32 {i}") for i in range(4)]
        return [e.set(f"select i1 {inside}, i32 {w}, i32 0") for w in words]

    def _narrow(self, places: list[dict], k: str) -> list[str]:
        e, halves = self.owner.e, []
        for i in range(VECTOR):
            outer, e.memo = e.memo, dict(e.memo)
            along = self.layout == "k"
            inside = self._element(places[0 if along else i], e.i64("add", k, i) if along else k, 1)
            v = e.expression(self.operand)
            e.memo = outer
            halves.append(e.set(f"zext i16 {e.set(f'select i1 {inside}, i16 {v}, i16 0')} to i32"))
        return [e.set(f"or i32 {low}, {e.set(f'shl i32 {high}, 16')}") for low, high in zip(halves[::2], halves[1::2])]

    def leave(self) -> None:
        """What was read, into shared memory."""
        owner, e = self.owner, self.owner.e
        for _, _, waiting, at in self.vectors:
            vector = "undef"
            for i, w in enumerate(waiting):
                word = e.set(f"load i32, ptr {w}")
                vector = e.set(f"insertelement <4 x i32> {vector}, i32 {word}, i32 {i}")
            e.line(f"store <4 x i32> {vector}, ptr addrspace(3) {owner.shared(at, 'i16')}, align 16")
