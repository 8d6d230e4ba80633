"""Matrix products on a GPU's tensor cores, with sums in float32: of 16-bit floats, and of float32 rounded to 19 bits (TF32).

As in `cuda_contract.py` a block computes a tile of C, slice by slice along k. Eight warps share the tile, and each multiplies
fragments: 16 x 16 by 16 x 8 of 16-bit numbers (the instruction mma.m16n8k16), 16 x 8 by 8 x 8 of rounded ones (m16n8k8). An operand's
slice lies in shared memory as the operand does in memory, along k or along its rows.

Where an operand is plain memory with everything at multiples of 16 bytes, as many are copied at once, some slices ahead: `entry` chooses
that function by the arguments. Otherwise each element is computed by the program's expression.
"""

from __future__ import annotations

from ..base import dtype as dt
from ..loops import ir
from ..loops.ir import Contraction, Op
from .cuda_contract import STAGES, Tile, TileEmitter, loaded, runs_along, steps_of
from .ptx import THREADS, WARP, PtxEmitter

HALVES = {dt.float16: "f16", dt.bfloat16: "bf16"}
FIRST = 80              # the architecture from which on there are these instructions
DEPTH = 32              # of a slice of 16-bit numbers along k
WARPS = THREADS // WARP
QUARTER = "{ i32, i32, i32, i32 }"
SUMS = "{ float, float, float, float }"


def half_of(c: Contraction) -> dt.dtype | None:
    """The 16-bit dtype of both operands of a contraction, if they have one and are summed in float32."""
    kinds = {operand.args[0].dtype if operand.kind == "cast" else None for operand in (c.a, c.b)}
    kind = kinds.pop()
    return kind if not kinds and kind in HALVES and c.dtype is dt.float32 else None


# -- kernels ----------------------------------------------------------------------------------------------------

class MmaEmitter(TileEmitter):
    """What both kinds of products share. `itemsize`: bytes of a number in shared memory, `word` its type there; 16 bytes are `vector`
    numbers; lines of a slice that runs along its rows are `padding` numbers longer."""

    itemsize, word, vector, padding, depth = 2, "i16", 8, 8, DEPTH

    def __init__(self, program: ir.Program, tile: Tile, emitter: PtxEmitter | None = None):
        super().__init__(program, tile, emitter)
        self.across = (1, WARPS) if tile.rows == 16 else (2, WARPS // 2)        # warps along m and n
        self.own_m, self.own_n = tile.rows // self.across[0] // 16, tile.columns // self.across[1] // 8     # fragments of a warp
        self.layouts = [runs_along(operand, rows, self.c.k) for operand, rows in ((self.c.a, self.c.m), (self.c.b, self.c.n))]
        self.b_at = self._slice(self.layouts[0], tile.rows)

    @classmethod
    def tiles_of(cls, c: Contraction) -> tuple[Tile, ...]:
        tiles = tuple(Tile(name, size, size, cls.depth) for name, size in (("kernel", 128), ("small", 64)))
        if any(steps_of(operand) is None for operand in (c.a, c.b)):
            return tiles
        return tiles + tuple(Tile(f"{t.name}_wide", t.rows, t.columns, t.depth, True, STAGES) for t in tiles)

    def pitch(self, layout: str, size: int) -> int:
        """Numbers from line to line of a slice of `size` rows; the padding spreads lines over banks."""
        return self.depth + self.vector if layout == "k" else size + self.padding

    def _slice(self, layout: str, size: int) -> int:
        return self.pitch(layout, size) * (size if layout == "k" else self.depth)

    @property
    def numbers(self) -> int:
        return self.b_at + self._slice(self.layouts[1], self.tile.columns)

    @property
    def shared_bytes(self) -> int:
        return max(self.tile.stages * self.numbers * self.itemsize, 4 * self.lines * self.tile.columns)

    def position(self) -> None:
        e = self.e
        self.lane = e.i64("and", self.thread, WARP - 1)
        warp = e.i64("lshr", self.thread, 5)
        self.warp_m, self.warp_n = e.i64("udiv", warp, self.across[1]), e.i64("urem", warp, self.across[1])
        self.sums = [self.place("0.0") for _ in range(self.own_m * self.own_n * 4)]

    def sides(self) -> list:
        kind = MmaSide if self.tile.stages == 1 else CopiedMmaSide
        return [kind(self, self.c.a, self.c.m, self.m, self.first_m, 0, self.layouts[0], self.tile.rows),
                kind(self, self.c.b, self.c.n, self.n, self.first_n, self.b_at, self.layouts[1], self.tile.columns)]

    def multiply_fragments(self, a: list[str], b: list[str], sums: list[str], instruction: str) -> None:
        """sums += a b."""
        e, names = self.e, [f"${i}" for i in range(4 + len(a) + len(b) + 4)]
        old = [e.set(f"load float, ptr {s}") for s in sums]
        operands = ", ".join([*(f"i32 {x}" for x in (*a, *b)), *(f"float {x}" for x in old)])
        groups = (names[:4], names[4:4 + len(a)], names[4 + len(a):-4], names[-4:])
        text = ", ".join("{" + ", ".join(group) + "}" for group in groups)
        got = e.set(f'call {SUMS} asm "mma.sync.aligned.{instruction} {text};", "=f,=f,=f,=f,{"r," * len(a + b)}f,f,f,f"({operands}) #2')
        for i, s in enumerate(sums):
            e.line(f"store float {e.set(f'extractvalue {SUMS} {got}, {i}')}, ptr {s}")

    # -- the epilogue: one row of fragments of every warp at a time

    @property
    def chunks(self) -> int:
        return self.own_m

    @property
    def lines(self) -> int:
        return 16 * self.across[0]

    def put(self, chunk: int) -> None:
        e, columns = self.e, self.tile.columns
        row = e.i64("add", e.i64("mul", self.warp_m, 16), e.i64("lshr", self.lane, 2))
        column = e.i64("add", e.i64("mul", self.warp_n, 8 * self.own_n), e.i64("mul", e.i64("and", self.lane, 3), 2))
        corner = e.i64("add", e.i64("mul", row, columns), column)
        for j in range(self.own_n):
            for i in range(4):
                ahead = 8 * j + i % 2 + 8 * columns * (i // 2)
                v = e.set(f"load float, ptr {self.sums[4 * (chunk * self.own_n + j) + i]}")
                e.line(f"store float {v}, ptr addrspace(3) {self.shared(e.i64('add', corner, ahead))}, align 4")

    def row_of(self, line: str, chunk: str) -> str:
        e = self.e
        warp, within = e.i64("udiv", line, 16), e.i64("urem", line, 16)
        first = e.i64("add", e.i64("mul", warp, 16 * self.own_m), e.i64("mul", chunk, 16))
        return e.i64("add", first, within)


class HalfEmitter(MmaEmitter):
    """Products of 16-bit numbers. `ldmatrix` brings fragments to registers, and turns them where a slice runs along its rows."""

    def __init__(self, program: ir.Program, tile: Tile, emitter: PtxEmitter | None = None):
        super().__init__(program, tile, emitter)
        self.half = half_of(self.c)
        self.instruction = "m16n8k16.row.col.f32.{0}.{0}.f32".format(HALVES[self.half])

    def slice(self) -> None:
        """Multiply what lies in shared memory."""
        e = self.e
        low, middle, high = e.i64("and", self.lane, 7), e.i64("lshr", self.lane, 3), e.i64("lshr", self.lane, 4)
        middle = e.i64("and", middle, 1)
        first_m = e.i64("mul", self.warp_m, self.own_m * 16)
        first_n = e.i64("mul", self.warp_n, self.own_n * 8)
        pitches = [self.pitch(layout, size) for layout, size in zip(self.layouts, (self.tile.rows, self.tile.columns))]
        # Lane l names a line of the (l / 8)-th of four matrices of 8 x 8: of A in the order (row, k) 00 10 01 11, of B 00 01 10 11.
        a_lines = self._lines(0, self.layouts[0], pitches[0], first_m, low, middle, high)
        b_lines = self._lines(self.b_at, self.layouts[1], pitches[1], first_n, low, high, middle)
        for k in range(0, DEPTH, 16):
            a = [self._matrices(a_lines, self.layouts[0], pitches[0], 16 * i, k) for i in range(self.own_m)]
            b = [self._matrices(b_lines, self.layouts[1], pitches[1], 16 * j, k) for j in range(self.own_n // 2)]
            for i in range(self.own_m):
                for j in range(self.own_n):
                    self.multiply_fragments(a[i], b[j // 2][2 * (j % 2):2 * (j % 2) + 2], self.sums[4 * (i * self.own_n + j):][:4],
                                            self.instruction)

    def _lines(self, start: int, layout: str, pitch: int, first: str, low: str, row_half: str, k_half: str) -> str:
        """The element of shared memory that a lane names for the matrices at row `first` and k = 0."""
        e = self.e
        row = e.i64("add", first, e.i64("mul", row_half, 8))
        k = e.i64("mul", k_half, 8)
        row, k = (e.i64("add", row, low), k) if layout == "k" else (row, e.i64("add", k, low))
        line, place = (row, k) if layout == "k" else (k, row)
        return e.i64("add", e.i64("add", e.i64("add", e.i64("mul", line, pitch), place), start), self.stage)

    def _matrices(self, lines: str, layout: str, pitch: int, row: int, k: int) -> list[str]:
        """Four matrices of 8 x 8, one register each: those at (row, k) of a slice."""
        e = self.e
        ahead = row * pitch + k if layout == "k" else k * pitch + row
        line = self.shared(e.i64("add", lines, ahead), "i16")
        address = e.set(f"ptrtoint ptr addrspace(3) {line} to i32")
        turn = "" if layout == "k" else ".trans"
        got = e.set(f'call {QUARTER} asm sideeffect "ldmatrix.sync.aligned.m8n8.x4{turn}.shared.b16 {{$0, $1, $2, $3}}, [$4];", '
                    f'"=r,=r,=r,=r,r,~{{memory}}"(i32 {address}) #2')
        return [e.set(f"extractvalue {QUARTER} {got}, {i}") for i in range(4)]

    def number(self, v: str) -> str:
        """A number of the operands' dtype as it lies in shared memory, in the low bits of a word."""
        return self.e.set(f"zext i16 {v} to i32")

    def words_of(self, numbers: list[str]) -> list[str]:
        """Numbers as words of shared memory."""
        e = self.e
        return [e.set(f"or i32 {low}, {e.set(f'shl i32 {high}, 16')}") for low, high in zip(numbers[::2], numbers[1::2])]


class RoundedEmitter(MmaEmitter):
    """Products of float32, whose operands are rounded to 10 bits after the point on their way from shared memory."""

    itemsize, word, vector, padding, depth = 4, "i32", 4, 8, 16
    instruction = "m16n8k8.row.col.f32.tf32.tf32.f32"

    def slice(self) -> None:
        """Multiply what lies in shared memory: lane l holds rows l / 4 and l / 4 + 8 of a fragment of A, k = l % 4 and l % 4 + 4; of B
        column l / 4."""
        e = self.e
        row, k = e.i64("lshr", self.lane, 2), e.i64("and", self.lane, 3)
        own = (e.i64("add", e.i64("mul", self.warp_m, self.own_m * 16), row), e.i64("add", e.i64("mul", self.warp_n, self.own_n * 8), row))
        pitches = [self.pitch(layout, size) for layout, size in zip(self.layouts, (self.tile.rows, self.tile.columns))]
        corners = []
        for r, start, layout, pitch in zip(own, (0, self.b_at), self.layouts, pitches):
            line, place = (r, k) if layout == "k" else (k, r)
            corners.append(e.i64("add", e.i64("add", e.i64("add", e.i64("mul", line, pitch), place), start), self.stage))

        def fragment(side: int, row: int, k: int) -> str:
            ahead = row * pitches[side] + k if self.layouts[side] == "k" else k * pitches[side] + row
            v = e.set(f"load float, ptr addrspace(3) {self.shared(e.i64('add', corners[side], ahead), 'float')}, align 4")
            return e.set(f'call i32 asm "cvt.rna.tf32.f32 $0, $1;", "=r,f"(float {v})')

        for k in range(0, self.depth, 8):
            a = [[fragment(0, 16 * i + r, k + d) for d in (0, 4) for r in (0, 8)] for i in range(self.own_m)]
            b = [[fragment(1, 8 * j, k + d) for d in (0, 4)] for j in range(self.own_n)]
            for i in range(self.own_m):
                for j in range(self.own_n):
                    self.multiply_fragments(a[i], b[j], self.sums[4 * (i * self.own_n + j):][:4], self.instruction)

    def number(self, v: str) -> str:
        return self.e.set(f"bitcast float {v} to i32")

    def words_of(self, numbers: list[str]) -> list[str]:
        return numbers


class MmaSide:
    """How the threads bring an operand's slice to shared memory: 16 bytes at a time along memory, kept in registers first."""

    def __init__(self, owner: MmaEmitter, operand: Op, rows: tuple, extent: str, first: str, start: int, layout: str, size: int):
        self.owner, self.rows, self.layout = owner, rows, layout
        self.operand = loaded(operand) if owner.tile.wide or owner.itemsize == 2 else operand
        e, tile, vector = owner.e, owner.tile, owner.vector
        across = (tile.depth if layout == "k" else size) // vector      # vectors of a line
        count = size * tile.depth // vector
        self.some = e.set(f"icmp ult i64 {owner.thread}, {count}") if count < THREADS else None     # which threads have one
        self.vectors = []
        for j in range(-(-count // THREADS)):
            number = e.i64("add", owner.thread, j * THREADS)
            line, place = e.i64("udiv", number, across), e.i64("mul", e.i64("urem", number, across), vector)
            row, k = (line, place) if layout == "k" else (place, line)
            at = e.i64("add", e.i64("add", e.i64("mul", line, owner.pitch(layout, size)), place), start)
            row = e.i64("add", first, row)
            places = []
            for i in range(1 if layout == "k" or tile.wide else vector):
                inside = owner.at_most(e.i64("add", row, i), extent if not (tile.wide and layout == "rows") else
                                       e.i64("sub", extent, vector - 1))
                owner.locate(rows, inside)
                places.append({name: e.indices[name] for name, _ in rows})
            self.vectors.append((places, k, at))
        self.begin()

    def begin(self) -> None:
        e = self.owner.e
        self.waiting = [[e.fresh() for _ in range(4)] for _ in self.vectors]
        e.allocas += [f"  {w} = alloca i32" for words in self.waiting for w in words]

    def read(self, k: str) -> None:
        """This thread's vectors of the slice at k; 0 beyond the end."""
        e = self.owner.e
        for (places, deep, _), waiting in zip(self.vectors, self.waiting):
            here = e.i64("add", k, deep)
            words = self._wide(places[0], here) if self.owner.tile.wide else self._narrow(places, here)
            for w, v in zip(waiting, words):
                e.line(f"store i32 {v}, ptr {w}")

    def _element(self, place: dict, k: str, beyond: int):
        """Set the indices for the element at `place` and k, or for the last one; returns whether k is inside."""
        owner, e = self.owner, self.owner.e
        inside = e.set(f"icmp slt i64 {k}, {owner.k}")
        e.indices.update(place)
        last = e.i64("sub", owner.k, beyond)
        owner.locate(owner.c.k, e.call("llvm.smin.i64", "i64", ("i64", k), ("i64", last)))
        return inside

    def address(self, place: dict, k: str) -> tuple[str, str]:
        """Where 16 bytes lie; whether they are inside."""
        e = self.owner.e
        outer, e.memo = e.memo, dict(e.memo)
        inside = self._element(place, k, self.owner.vector if self.layout == "k" else 1)
        address = e.address(self.operand.attr, self.operand.args[0])
        e.memo = outer
        return address, inside

    def _wide(self, place: dict, k: str) -> list[str]:
        e = self.owner.e
        address, inside = self.address(place, k)
        got = e.set(f"load <4 x i32>, ptr {address}, align 16")
        words = [e.set(f"extractelement <4 x i32> {got}, i32 {i}") for i in range(4)]
        return [e.set(f"select i1 {inside}, i32 {w}, i32 0") for w in words]

    def _narrow(self, places: list[dict], k: str) -> list[str]:
        e, numbers = self.owner.e, []
        for i in range(self.owner.vector):
            outer, e.memo = e.memo, dict(e.memo)
            along = self.layout == "k"
            inside = self._element(places[0 if along else i], e.i64("add", k, i) if along else k, 1)
            v = self.owner.number(e.expression(self.operand))
            e.memo = outer
            numbers.append(e.set(f"select i1 {inside}, i32 {v}, i32 0"))
        return self.owner.words_of(numbers)

    def leave(self) -> None:
        """What was read, into shared memory."""
        if self.some is None:
            self._leave()
            return
        with self.owner.e.only_if(self.some):
            self._leave()

    def _leave(self) -> None:
        owner, e = self.owner, self.owner.e
        for (_, _, at), waiting in zip(self.vectors, self.waiting):
            vector = "undef"
            for i, w in enumerate(waiting):
                word = e.set(f"load i32, ptr {w}")
                vector = e.set(f"insertelement <4 x i32> {vector}, i32 {word}, i32 {i}")
            e.line(f"store <4 x i32> {vector}, ptr addrspace(3) {owner.shared(at, owner.word)}, align 16")


class CopiedMmaSide(MmaSide):
    """An operand that is plain memory, 16 bytes at a time, without going through registers."""

    def begin(self) -> None:
        pass

    def copy(self, k: str, stage: str) -> None:
        """As `CopiedSide.copy`."""
        owner, e = self.owner, self.owner.e
        for places, deep, at in self.vectors:
            address, inside = self.address(places[0], e.i64("add", k, deep))
            owner.copy(owner.shared(e.i64("add", at, stage), owner.word), address, inside, 16)
