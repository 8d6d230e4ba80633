"""The part of matrix multiplication that is the same for every product of one dtype: the register tile, and the sizes of
blocks that suit it.

The scheme is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 34(3), 2008), in the
form Van Zee and van de Geijn gave it in "BLIS" (ACM TOMS 41(3), 2015): a block of B is packed into panels `nr` columns
wide and stays in the second level cache; slivers of A, `mr` rows high, are packed into the first level cache; for each pair of
sliver and panel a *micro-kernel* adds kc outer products to an mr x nr tile of C held in registers.

A micro-kernel is written for each height and width of a tile's edges, for either order in which A lies, and for operands that are packed
or read where they lie. `packing.py` writes what packs them, `multiply.py` the loops around all this; `windows.py` is about an A that is
read where it lies through a list, as in Dukhan, "The Indirect Convolution Algorithm" (arXiv:1907.02129).

Two 16-bit floats that follow each other along k are multiplied and added by one instruction where there is one: a packed operand then has
them side by side, as if they were one element (`Shape.terms`). With tile registers the same holds for 16 such pairs in 16 rows.

Memory is far: what comes next is fetched while a micro-kernel computes, some lines every few steps of its loop, as a list says. More at
a time would keep the processor from reading its operands.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..base import dtype as dt
from ..runtime import cpu

HEIGHTS = 4, 8, 11   # rows of the micro-kernels for edges
BASE = 5             # rows of A that are addressed from one register, by multiples of the step that address modes have, and 3
ROWS_AHEAD = 8       # rows of B that are fetched from the second level cache before their turn, and of an A that lies so
TWICE = 8            # rows of A whose elements each multiplication reads from memory: see `micro_kernel`
STAGE = 64           # columns (k) of B staged before they are transposed into a panel
STRIPE = 8           # rows (k) packed of all panels in turn: whole lines of memory are read while they are in cache
GROUP = 4            # slivers of A packed together where they lie side by side in memory,
ALONE = 9            # and where there is no second group beside them
TILE = 16            # rows of a tile register, each of 64 bytes
FETCHED = 4          # entries of the list of what is fetched for each step with tile registers
APART = 8            # instructions between two of tile registers: two in one cycle take far longer on a core that two threads share
BATCH_WORDS = 16     # i64 words at the start of scratch: the batch indices
SPAN = 2 * cpu.LINE      # bytes of an entry in the list of what is fetched
ENTRIES = 511        # most of that list


PACKED, LIES, LISTED, DOTS = "", "_lies", "_listed", "_dots"     # how a micro-kernel finds its operands
FMA, PAIRS, TILES = "fma", "dpbf16ps", "tdpbf16ps"      # what multiplies: vectors of one dtype, AVX512-BF16, AMX
SLICES = "tdpbf16ps of slices"      # AMX as well, float32 in three slices: see `slices.py`
ORDER = (2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0)      # which slices of A and B are multiplied: each time one of the two stays


@dataclass(frozen=True)
class Vector:
    """A vector register of elements in memory or of sums."""

    llvm: str        # the type of an element
    bytes: int
    lanes: int

    @property
    def type(self) -> str:
        return f"<{self.lanes} x {self.llvm}>"

    @property
    def suffix(self) -> str:
        """How the names of LLVM's functions end."""
        return f"v{self.lanes}{'i' if self.llvm[0] == 'i' else 'f'}{8 * self.bytes}"


@dataclass(frozen=True)
class Shape(Vector):
    """Sizes of the scheme for one dtype of sums and one of operands on this CPU, in elements; the vector is of sums."""

    mr: int          # rows of the register tile
    vectors: int     # registers per row of it
    kc: int          # most k of a packed block
    nc: int          # most columns of a packed block of B
    mc: int          # most rows of one call of `multiply`
    unroll: int      # steps of k at a time, and for each entry of the list of what is fetched
    instruction: str = FMA      # what multiplies

    @property
    def terms(self) -> int:
        """Elements of an operand, neighbours along k, that are multiplied and added in one lane."""
        return 2 if self.instruction in (PAIRS, TILES) else 1

    @property
    def tiles(self) -> bool:
        """Whether sums are in tile registers."""
        return self.instruction in (TILES, SLICES)

    def packed(self, elements: int) -> int:
        """As many elements as so many take when they are packed: slices take half as much again."""
        return elements * 3 // 2 if self.instruction == SLICES else elements

    @property
    def operand(self) -> Vector:
        """The vector of an operand's elements."""
        return Vector(self.llvm, self.bytes, self.lanes) if self.terms == 1 else Vector("i16", 2, 2 * self.lanes)

    @property
    def step(self) -> int:
        """Places along k that a micro-kernel adds at once: packed operands end in zeros at a multiple of it."""
        return 2 * TILE if self.tiles else self.terms

    @property
    def pace(self) -> int:
        """Places along k for each entry of the list of what is fetched."""
        return self.step // FETCHED if self.tiles else self.terms * self.unroll

    @property
    def ahead(self) -> bool:
        """Whether what comes next is packed while micro-kernels compute. With tile registers these are over before it is fetched."""
        return not self.tiles

    @property
    def layouts(self) -> list[bool]:
        """Whether a sliver of A that a micro-kernel reads lies along k, or may also have its rows side by side."""
        return [True] if self.tiles else [False, True]

    @property
    def nr(self) -> int:
        return self.vectors * self.lanes

    @property
    def panel(self) -> int:
        """Columns of a packed panel of B: a tile's, or those of one register of it, whose rows then lie in one."""
        return self.lanes if self.tiles else self.nr

    @property
    def stage_stride(self) -> int:
        return STAGE + self.operand.lanes    # not a power of two: rows fall into different cache sets

    @property
    def near(self) -> int:
        """Elements of an operand that is likely to be in the second level cache."""
        return cpu.cache_sizes()[1] // 2 // self.operand.bytes

    @property
    def nearest(self) -> int:
        """Elements of an operand that may be in the cache it is read from: the first level's, with tile registers the second's."""
        return self.near // 2 if self.tiles else cpu.cache_sizes()[0] // self.operand.bytes

    @property
    def row_variants(self) -> list[int]:
        """Heights of the micro-kernels: an edge of few rows takes a low one."""
        if self.tiles:
            return list(range(TILE, self.mr + 1, TILE))
        return sorted({min(rows, self.mr) for rows in HEIGHTS} | {self.mr})

    @property
    def dot_heights(self) -> list[int]:
        """Heights of the micro-kernels that multiply along k: one vector holds a sum of each of their rows and of some columns."""
        return [rows for rows in self.row_variants if self.instruction == FMA and self.lanes % rows == 0 and rows < self.lanes]

    @property
    def widths(self) -> list[int]:
        """Their widths, in vectors."""
        return sorted({1, self.vectors})

    @property
    def a_stride(self) -> int:
        return self.kc + max(self.operand.lanes, self.step)

    @property
    def along_a(self) -> int:
        """Elements of a packed sliver of A that lies along k from one place to the next: in slices, of 16 rows together."""
        return self.packed(TILE) if self.instruction == SLICES else 1

    @property
    def sliver(self) -> int:
        """Elements a packed sliver of A takes, in either order."""
        return self.packed(self.mr * self.a_stride)

    @property
    def group(self) -> int:
        return (ALONE if self.instruction == TILES else GROUP) * self.mr

    # The layout of scratch, in bytes.
    @property
    def stage_at(self) -> int:
        return 8 * BATCH_WORDS

    @property
    def lines_at(self) -> int:
        return _aligned(self.stage_at + self.nr * self.stage_stride * self.operand.bytes)

    @property
    def a_at(self) -> int:
        return self.lines_at + 8 * (ENTRIES + 1)

    @property
    def b_at(self) -> int:
        return _aligned(self.a_at + ((1 + self.ahead) * self.group // self.mr * self.sliver + self.operand.lanes) * self.operand.bytes)

    @property
    def c_at(self) -> int:
        return _aligned(self.b_at + (self.packed(self.nc * self.kc) + self.nr * self.operand.lanes) * self.operand.bytes)

    def scratch(self, blocks: int) -> int:
        """Bytes a thread needs, for k in so many blocks."""
        tiles = 1 if blocks <= 1 else (self.mc // self.mr + 1) * (self.nc // self.nr)
        return self.c_at + tiles * self.mr * self.nr * self.bytes


def _aligned(offset: int) -> int:
    return (offset + 63) // 64 * 64


def shape(dtype: dt.dtype, operand: dt.dtype | None = None, sliced: bool = False) -> Shape:
    """The register tile and cache blocks for sums of a float dtype, and operands of the same or of a narrower one, on the CPU at hand.

    The tile fills the registers but those for one row of B and one broadcast element of A: 14 x 2 of 32 (AVX-512), 6 x 2 of 16
    (AVX2), 8 x 3 of 32 (NEON), 4 x 2 of 16 without fused multiply-add. Of AMX's eight tile registers, 2 x 2 are sums; float32 operands are
    multiplied by them if they are `sliced`.
    """
    features, width = cpu.features(), cpu.vector_bytes()
    if width == 64:
        mr, vectors, unroll = 14, 2, 4
    elif "neon" in features or cpu.machine() == "aarch64":
        mr, vectors, unroll = 8, 3, 1       # no register is left for what a further step loads
    elif "fma" in features:
        mr, vectors, unroll = 6, 2, 4
    else:
        mr, vectors, unroll = 4, 2, 4
    lanes = width // dtype.itemsize
    nr = vectors * lanes
    first, second, _ = cpu.cache_sizes()
    chosen = SLICES if sliced and cpu.has_tiles() else instruction(operand or dtype)
    if chosen in (TILES, SLICES):
        # Operands come from the second level as quickly as they are multiplied.
        kc, nbytes, room = (1024, 2, second // 2) if chosen == TILES else (512, 6, second * 3 // 4)
        nc = max(4, room // (kc * nbytes) // nr) * nr
        return Shape("float", 4, lanes, 2 * TILE, vectors, kc, nc, 36 * 2 * TILE, 1, chosen)
    # A block of B takes three quarters of the second level, a sliver of A about half of the first (a power of two places, up to five
    # eighths), which panels of B pass through and where the next slivers are packed: the fewer the blocks of k, the less often partial
    # sums are read and written, which fit into neither.
    kc = min(512, max(64, 1 << (first * 5 // 8 // (mr * dtype.itemsize)).bit_length() - 1))
    nc = max(4, min(1024, second * 3 // 4 // (kc * dtype.itemsize)) // nr) * nr
    s = Shape({4: "float", 8: "double"}[dtype.itemsize], dtype.itemsize, lanes, mr, vectors, kc, nc, 72 * mr, unroll, chosen)
    return replace(s, kc=kc * s.terms)


def instruction(operand: dt.dtype) -> str:
    """What multiplies operands of a dtype on the CPU at hand; a 16-bit one is widened if that is FMA. Processors with tile registers take
    twice as long for the products of pairs as for those of widened operands."""
    if operand is not dt.bfloat16 or cpu.vector_bytes() < 64:
        return FMA
    if "amxbf16" in cpu.features():
        return TILES if cpu.has_tiles() else FMA
    return PAIRS if "avx512bf16" in cpu.features() else FMA


# -- writing functions ------------------------------------------------------------------------------------------

class Loop:
    """A loop being written: its index, its step, and values carried from one iteration to the next."""

    def __init__(self, index: str, carried: list[str]):
        self.index, self.carried, self.step = index, carried, "1"
        self.next = list(carried)


class Function:
    """The text of one LLVM function, written top to bottom."""

    def __init__(self, head: str):
        self.lines = [head + " {", "entry:"]
        self.block = "entry"
        self.count = 0

    def fresh(self, stem: str = "v") -> str:
        self.count += 1
        return f"%{stem}.{self.count}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def let(self, text: str) -> str:
        name = self.fresh()
        self.line(f"{name} = {text}")
        return name

    def label(self, name: str) -> None:
        self.lines.append(name + ":")
        self.block = name

    def pointer(self, base: str, llvm_type: str, *terms: str) -> str:
        for term in terms:
            base = self.let(f"getelementptr {llvm_type}, ptr {base}, i64 {term}")
        return base

    def least(self, a: str, b: str) -> str:
        return self.let(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    @contextmanager
    def loop(self, start: str, stop: str, carry: list[str] = (), metadata: str = "", kind: str = "i64"):
        """`for index in range(start, stop, step)` in i64; `carry` are initial values of further variables of a kind."""
        head, body, leave = (self.fresh(stem)[1:] for stem in ("head", "body", "leave"))
        before = self.block
        loop = Loop(self.fresh("i"), [self.fresh("c") for _ in carry])
        self.line(f"br label %{head}")
        self.label(head)
        at = len(self.lines)
        self.lines += [""] * (1 + len(carry))
        inside = self.let(f"icmp slt i64 {loop.index}, {stop}")
        self.line(f"br i1 {inside}, label %{body}, label %{leave}")
        self.label(body)
        yield loop
        following = self.let(f"add nsw i64 {loop.index}, {loop.step}")
        phis = [(loop.index, start, following), *zip(loop.carried, carry, loop.next)]
        for i, (name, first, later) in enumerate(phis):
            self.lines[at + i] = f"  {name} = phi {kind if i else 'i64'} [ {first}, %{before} ], [ {later}, %{self.block} ]"
        self.line(f"br label %{head}{metadata}")
        self.label(leave)

    @contextmanager
    def when(self, condition: str):
        inside, after = self.fresh("then")[1:], self.fresh("after")[1:]
        self.line(f"br i1 {condition}, label %{inside}, label %{after}")
        self.label(inside)
        yield
        self.line(f"br label %{after}")
        self.label(after)

    def text(self, allocas: list[str] = ()) -> str:
        return "\n".join([*self.lines[:2], *allocas, *self.lines[2:], "  ret void", "}", ""])


def micro_kernel(s: Shape, rows: int, vectors: int, along_k: bool, way: str) -> str:
    """`tile[rows][nr] (+)= sum over k of A B`, the tile in registers, its first `vectors` vectors of a row.

    A lies as a[k][step_a] or, `along_k`, as a[row][step_a], B as b[k][step_b]; the steps are those of packed operands unless one of them
    `LIES` elsewhere. A `LISTED` A has its rows side by side, step_a is the address of a list of how many bytes from %a those of each k are;
    right before it stands where the next such A is, of which the lines are fetched into the second level cache. For `DOTS`, B lies as
    b[column][step_b]. Meanwhile what is listed in %lines is fetched, an entry each `unroll` steps.

    AVX-512 spreads an element over a vector while it multiplies, so that an instruction less is decoded, but then each multiplication reads
    it: where a neighbour takes half of a core's decoding, a product is a twentieth faster if so many rows are read `TWICE` as leave room
    for other reads. LLVM would read them once; it is not told that the second address is the same.
    """
    lies, listed = way == LIES, way == LISTED
    f = Function(f"define internal void @{micro_name(rows, vectors, along_k, way)}(ptr noalias readonly captures(none) %a, i64 %step_a, "
                 "ptr noalias readonly captures(none) %b, i64 %step_b, i64 %k, ptr noalias captures(none) %c, i1 %add, "
                 "ptr noalias readonly captures(none) %lines) noinline")
    if s.tiles:
        _add_tiles(f, s, rows // TILE, vectors)
        return f.text()
    if way == DOTS:
        _add_dots(f, s, rows)
        return f.text()
    vector = f"<{s.lanes} x {s.llvm}>"
    k = "%k" if s.terms == 1 else f.let(f"sdiv i64 {f.let(f'add nsw i64 %k, {s.terms - 1}')}, {s.terms}")      # pairs
    places = [(r, v) for r in range(rows) for v in range(vectors)]
    tile = {(r, v): f.pointer("%c", s.llvm, str(r * s.nr + v * s.lanes)) for r, v in places}
    unroll = s.unroll if (rows, vectors) == (s.mr, s.vectors) else 1      # edges are compiled in less time, and as fast
    whole = f.let(f"and i64 {k}, {-unroll}")
    entries = f.pointer("%lines", "ptr", "1")
    final = f.let(f"sub nsw i64 {f.let('load i64, ptr %lines')}, 1")
    with f.loop(f.let(f"sdiv i64 {k}, {unroll}"), final) as rest:      # more than there are steps for
        _fetch(f, f.pointer(entries, "ptr", rest.index))
    base = BASE if along_k and lies else rows      # rows that are addressed from one register
    if lies:
        size_a = s.operand.bytes if along_k else s.bytes
        bytes_a, bytes_b = (f.let(f"mul nsw i64 {step}, {size}") for step, size in (("%step_a", size_a), ("%step_b", s.bytes)))
    else:
        bytes_a, bytes_b = 8 if listed else s.a_stride * s.operand.bytes if along_k else s.mr * s.bytes, s.nr * s.bytes
    wide = s.lanes * s.bytes == cpu.LINE and s.instruction == FMA
    stepped = wide and lies and not along_k and unroll > 1      # addresses with an index do not fit into such a multiplication
    twice = TWICE if stepped or wide and way == PACKED else 0
    places_a = base if along_k else 1 if stepped else unroll
    multiples_a, multiples_b = _multiples(f, bytes_a, places_a), _multiples(f, bytes_b, unroll)
    if listed:
        distances = f.let("inttoptr i64 %step_a to ptr")
        following = f.let(f"load ptr, ptr {f.pointer(distances, 'i8', '-8')}")
    starts = [distances if listed else "%a"]
    starts += [_apart(f, "ptr", f.pointer("%a", "i8", _times(f, bytes_a, r))) for r in range(base, rows, base)]
    if twice:
        starts.append(_apart(f, "ptr", "%a"))
    starts += ["%b", f.pointer("%b", "i8", _times(f, bytes_b, ROWS_AHEAD))]
    if lies:
        starts[-1] = _apart(f, "ptr", starts[-1])

    later_a = _apart(f, "i64", _times(f, bytes_a, ROWS_AHEAD)) if lies and not along_k else ""

    def steps(name: str, start: str, stop: str, count: int, sums: dict, operands: list[str], before: str) -> tuple[dict, list[str]]:
        """A loop over k, `count` places at a time; the sums, and where the operands go on, after it."""
        on_a, on_b = str(count * s.bytes) if along_k else _times(f, bytes_a, count), _times(f, bytes_b, count)
        apart = along_k and lies and len(operands) > 3 and name == "many"
        onwards = [_apart(f, "i64", on_a) if apart else on_a for _ in operands[:-2]] + [on_b, on_b]
        f.line(f"br label %{name}")
        f.label(name)
        inner = {p: f"%{name}_{p[0]}_{p[1]}" for p in places}
        last = {p: f"%{name}_{p[0]}_{p[1]}_next" for p in places}
        for p in places:
            f.line(f"{inner[p]} = phi {vector} [ {sums[p]}, %{before} ], [ {last[p]}, %{name}_body ]")
        at = [f"%{name}_at_{i}" for i in range(len(operands))]
        for pointer, first in zip(at, operands):
            f.line(f"{pointer} = phi ptr [ {first}, %{before} ], [ {pointer}_next, %{name}_body ]")
        f.line(f"%{name}_i = phi i64 [ {start}, %{before} ], [ %{name}_next, %{name}_body ]")
        f.line(f"%{name}_inside = icmp slt i64 %{name}_i, {stop}")
        f.line(f"br i1 %{name}_inside, label %{name}_body, label %{name}_done")
        f.label(f"{name}_body")
        if name == "many":
            entry = f.least(f.let(f"sdiv exact i64 %{name}_i, {count}"), final)
            _fetch(f, f.pointer(entries, "ptr", entry))
        *columns, row, later = at
        now = inner
        for step in range(count):
            b = f.pointer(row, "i8", multiples_b[step])
            if along_k:
                a = [f.pointer(columns[r // base], "i8", multiples_a[r % base], str(step * s.bytes)) for r in range(rows)]
            else:
                if stepped and step:
                    columns = [_hidden(f, f.pointer(c, "i8", bytes_a)) for c in columns]
                column = f.pointer(columns[0], "i8", multiples_a[0 if stepped else step])
                if listed:
                    distance = f.let(f"load i64, ptr {column}")
                    prefetch(f, f.pointer(following, "i8", distance), 2)
                    column = f.pointer("%a", "i8", distance)
                if lies:
                    prefetch(f, f.pointer(column, "i8", later_a))
                a = [f.pointer(column, "i8", str(r * s.bytes)) for r in range(rows)]
            for v in range(vectors):
                prefetch(f, f.pointer(later, "i8", multiples_b[step], str(v * s.lanes * s.bytes)))
            again = [f.pointer(columns[-1], "i8", multiples_a[r], str(step * s.bytes)) if along_k else
                     f.pointer(columns[-1], "i8", multiples_a[0 if stepped else step], str(r * s.bytes)) for r in range(twice)]
            now = _outer_product(f, s, vectors, a, again, b, now, last if step == count - 1 else None)
        if stepped:
            onwards[:-2] = [bytes_a] * len(columns)
        for pointer, reached, on in zip(at, [*(columns if stepped else at[:-2]), *at[-2:]], onwards):
            f.line(f"{pointer}_next = getelementptr i8, ptr {reached}, i64 {on}")
        f.line(f"%{name}_next = add nsw i64 %{name}_i, {count}")
        f.line(f"br label %{name}")
        f.label(f"{name}_done")
        return inner, at

    sums, operands = steps("many", "0", whole, unroll, dict.fromkeys(places, "zeroinitializer"), starts, f.block)
    if unroll > 1:
        sums, _ = steps("one", whole, k, 1, sums, operands, "many_done")
    done = f.block
    f.line("br i1 %add, label %partial, label %store")
    f.label("partial")
    total = {}
    for p in places:
        before = f.let(f"load {vector}, ptr {tile[p]}, align {s.lanes * s.bytes}")
        total[p] = f.let(f"fadd {vector} {before}, {sums[p]}")
    f.line("br label %store")
    f.label("store")
    values = {p: f.let(f"phi {vector} [ {sums[p]}, %{done} ], [ {total[p]}, %partial ]") for p in places}
    for p in places:
        f.line(f"store {vector} {values[p]}, ptr {tile[p]}, align {s.lanes * s.bytes}")
    return f.text()


def _add_tiles(f: Function, s: Shape, rows: int, vectors: int) -> None:
    """The body of a micro-kernel whose sums are in so many rows and columns of tile registers. Behind them in number come those
    for A, and those for B, each column of which is a panel of its own, %step_b after the one before. B is not kept in the first level
    cache, so that A is. Between the instructions of tile registers stand others that do nothing; they cost nothing."""
    lanes_b, stride = s.lanes * s.bytes, s.nr * s.bytes
    step_a, beside = (f.let(f"mul nsw i64 {step}, {s.operand.bytes}") for step in ("%step_a", "%step_b"))
    below = step_a if s.instruction == SLICES else f.let(f"mul nsw i64 {step_a}, {TILE}")
    places = [(r, v, r * vectors + v) for r in range(rows) for v in range(vectors)]
    for_a, for_b = len(places), len(places) + rows

    def instruct(name: str, *operands: str) -> None:
        f.line(f"call void @llvm.x86.{name}({', '.join(operands)})")
        f.line(f'call void asm sideeffect ".rept {APART}\\0Anop\\0A.endr", ""()')

    def move(name: str, register: int, at: str, step: str | int) -> None:
        instruct(name, f"i8 {register}", f"ptr {at}", f"i64 {step}")

    def load_a(a: str, lines: str | int) -> None:
        for r in range(rows):
            move("tileloadd64", for_a + r, f.pointer(a, "i8", below) if r else a, lines)

    def load_b(b: str) -> None:
        for v in range(vectors):
            move("tileloaddt164", for_b + v, f.pointer(b, "i8", beside) if v else b, lanes_b)

    def multiply() -> None:
        for r, v, p in places:
            instruct("tdpbf16ps", f"i8 {p}", f"i8 {for_a + r}", f"i8 {for_b + v}")

    def step(i: Loop) -> None:
        if s.instruction == TILES:
            load_a(f.pointer("%a", "i8", f.let(f"mul nsw i64 {i.index}, {s.step * s.operand.bytes}")), step_a)
            load_b(f.pointer("%b", "i8", f.let(f"mul nsw i64 {i.index}, {TILE * lanes_b}")))
            multiply()
            return
        a, b = (f.pointer(operand, f"[{3 * TILE * lanes_b} x i8]", i.index) for operand in ("%a", "%b"))
        before: tuple = None, None
        for a_slice, b_slice in ORDER:
            if a_slice != before[0]:
                load_a(f.pointer(a, "i8", str(a_slice * TILE * lanes_b)), lanes_b)
            if b_slice != before[1]:
                load_b(f.pointer(b, "i8", str(b_slice * TILE * lanes_b)))
            multiply()
            before = a_slice, b_slice

    steps = f.let(f"sdiv i64 {f.let(f'add nsw i64 %k, {s.step - 1}')}, {s.step}")
    entries, count = f.pointer("%lines", "ptr", "1"), f.let("load i64, ptr %lines")
    fetching = f.least(steps, f.let(f"sdiv i64 {count}, {FETCHED}"))
    with f.loop(f.let(f"mul nsw i64 {fetching}, {FETCHED}"), count) as rest:
        _fetch(f, f.pointer(entries, "ptr", rest.index))
    tile = {p: str(r * TILE * stride + v * lanes_b) for r, v, p in places}
    with f.when("%add"):
        for p, at in tile.items():
            move("tileloadd64", p, f.pointer("%c", "i8", at), stride)
    with f.when(f.let("xor i1 %add, true")):
        for p in tile:
            f.line(f"call void @llvm.x86.tilezero(i8 {p})")
    with f.loop("0", fetching) as i:
        first = f.pointer(entries, f"[{FETCHED} x ptr]", i.index)
        for entry in range(FETCHED):
            _fetch(f, f.pointer(first, "ptr", str(entry)))
        step(i)
    with f.loop(fetching, steps) as i:
        step(i)
    out = "%c"
    if s.instruction == SLICES:
        f.lines.insert(2, f"  %new = alloca [{s.mr * s.nr} x {s.llvm}], align 64")
        out = f.let("select i1 %add, ptr %new, ptr %c")
    for p, at in tile.items():
        move("tilestored64", p, f.pointer(out, "i8", at), stride)
    if s.instruction == SLICES:
        _check_slices(f, s, rows, vectors, out)


def _check_slices(f: Function, s: Shape, rows: int, vectors: int, out: str) -> None:
    """Where a new sum is no number, an infinite element may have been sliced, or one so large that some product of slices was: the sums are
    computed again from whole elements. What was there is overwritten after that."""
    row = f"[{s.nr} x {s.llvm}]"
    with f.loop("0", str(rows * TILE), carry=["0"], kind=f"i{s.lanes}") as r:
        values = [load_vector(f, s, f.pointer(f.pointer(out, row, r.index), s.llvm, str(v * s.lanes))) for v in range(vectors)]
        nan = f.let(f"bitcast <{s.lanes} x i1> {f.let(f'fcmp uno {s.type} {values[0]}, {values[-1]}')} to i{s.lanes}")
        r.next = [f.let(f"or i{s.lanes} {r.carried[0]}, {nan}")]
    with f.when(f.let(f"icmp ne i{s.lanes} {r.carried[0]}, 0")):
        f.line(f"call void @unsliced(ptr %a, i64 %step_a, ptr %b, i64 %step_b, i64 %k, ptr %c, i1 %add, ptr {out}, "
               f"i64 {rows}, i64 {vectors})")
    with f.when("%add"), f.loop("0", str(rows * TILE)) as r:
        for v in range(vectors):
            start = [f.pointer(f.pointer(x, row, r.index), s.llvm, str(v * s.lanes)) for x in (out, "%c")]
            store_vector(f, s, load_vector(f, s, start[0]), start[1])


def _add_dots(f: Function, s: Shape, rows: int) -> None:
    """The body of a micro-kernel whose operands both lie along k, vectors of which it multiplies: few rows would not be worth the
    transposition of B. Of some columns at a time; those after them are fetched."""
    columns = s.lanes // rows
    whole = f.let(f"and i64 %k, {-s.lanes}")
    mask = mask_of(f, s, f.let(f"sub nsw i64 %k, {whole}"))
    with f.loop("1", f.let("load i64, ptr %lines")) as entry:
        _fetch(f, f.pointer("%lines", "ptr", entry.index))
    of_a = [f.pointer("%a", s.llvm, _times(f, "%step_a", r)) for r in range(rows)]
    with f.loop("0", str(s.nr)) as column:
        column.step = str(columns)
        of_b = [f.pointer("%b", s.llvm, f.let(f"mul nsw i64 {f.let(f'add nsw i64 {column.index}, {i}')}, %step_b")) for i in range(columns)]
        beyond = _times(f, "%step_b", columns)

        def products(k: str, sums: list[str], mask: str = "") -> list[str]:
            a, b = ([load_vector(f, s, f.pointer(at, s.llvm, k), mask) for at in operand] for operand in (of_a, of_b))
            pairs = [(x, y) for x in a for y in b]
            return [f.let(f"call {s.type} @llvm.fmuladd.{s.suffix}({s.type} {x}, {s.type} {y}, {s.type} {before})")
                    for (x, y), before in zip(pairs, sums)]

        with f.loop("0", whole, carry=["zeroinitializer"] * s.lanes, kind=s.type) as k:
            k.step = str(s.lanes)
            for at in of_b:
                prefetch(f, f.pointer(at, s.llvm, beyond, k.index))
            k.next = products(k.index, k.carried)
        sums = products(whole, k.carried, mask)
        distance = s.lanes // 2
        while distance:     # lane i becomes the sum of the i-th vector
            first = [j + (s.lanes - distance if j & distance else 0) for j in range(s.lanes)]
            chosen = [", ".join(f"i32 {j + further}" for j in first) for further in (0, distance)]
            halves = [[f.let(f"shufflevector {s.type} {x}, {s.type} {y}, <{s.lanes} x i32> <{lanes}>") for lanes in chosen]
                      for x, y in zip(sums, sums[distance:])]
            sums = [f.let(f"fadd {s.type} {x}, {y}") for x, y in halves]
            distance //= 2
        part = f"<{columns} x {s.llvm}>"
        for r in range(rows):
            at = f.pointer("%c", s.llvm, str(r * s.nr), column.index)
            mine = ", ".join(f"i32 {r * columns + i}" for i in range(columns))
            new = f.let(f"shufflevector {s.type} {sums[0]}, {s.type} poison, <{columns} x i32> <{mine}>")
            before = f.let(f"select i1 %add, {part} {f.let(f'load {part}, ptr {at}, align {s.bytes}')}, {part} zeroinitializer")
            f.line(f"store {part} {f.let(f'fadd {part} {before}, {new}')}, ptr {at}, align {s.bytes}")


def _pairs(s: Shape) -> str:
    return f"<{s.operand.lanes} x bfloat>"


def multiplication(s: Shape) -> list[str]:
    """What a module says about the instructions of its micro-kernels."""
    fma = f"declare {s.type} @llvm.fmuladd.{s.suffix}({s.type}, {s.type}, {s.type})"
    if s.instruction == FMA:
        return [fma]
    if s.instruction == PAIRS:
        return [f"declare {s.type} @llvm.x86.avx512bf16.dpbf16ps.512({s.type}, {_pairs(s)}, {_pairs(s)})"]
    palette = [1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[TILE] * 8, *[0] * 8]      # eight registers, each of 16 rows of 64 bytes
    return [f"@tile_registers = internal constant [64 x i8] [{', '.join(f'i8 {n}' for n in palette)}], align 64",
            "declare void @llvm.x86.ldtilecfg(ptr)", "declare void @llvm.x86.tilerelease()", "declare void @llvm.x86.tilezero(i8)",
            *(f"declare void @llvm.x86.{name}(i8, ptr, i64)" for name in ("tileloadd64", "tileloaddt164", "tilestored64")),
            "declare void @llvm.x86.tdpbf16ps(i8, i8, i8)",
            *([fma, f"declare {s.type} @llvm.fabs.{s.suffix}({s.type})"] if s.instruction == SLICES else [])]


def _times(f: Function, step: str | int, count: int) -> str:
    return f.let(f"mul nsw i64 {step}, {count}") if isinstance(step, str) else str(step * count)


def _multiples(f: Function, step: str | int, count: int) -> list[str]:
    """0, 1, 2, ... times a step: if it is a run-time value, those that address modes do not have as values of their own."""
    found = [_times(f, step, i) for i in range(count)]
    return [_apart(f, "i64", value) if isinstance(step, str) and i not in (0, 1, 2, 4) else value for i, value in enumerate(found)]


def _apart(f: Function, kind: str, value: str) -> str:
    """A value of which LLVM is not told where it comes from: it would make addresses of each other, which takes more registers."""
    place = f.fresh("place")
    f.lines.insert(2, f"  {place} = alloca {kind}")
    f.line(f"store volatile {kind} {value}, ptr {place}")
    return f.let(f"load volatile {kind}, ptr {place}")


def _hidden(f: Function, pointer: str) -> str:
    """A pointer of which LLVM is not told where it comes from."""
    return f.let(f'call ptr asm "", "=r,0"(ptr {pointer})')


def _outer_product(f: Function, s: Shape, vectors: int, a: list[str], again: list[str], b: str, sums: dict, names: dict | None) -> dict:
    """Adds the outer product of a column of A, whose elements are at the addresses `a`, and a row of B to the sums; gives the new ones."""
    vector, found = f"<{s.lanes} x {s.llvm}>", {}
    columns = [load_vector(f, s, f.pointer(b, s.llvm, str(v * s.lanes))) for v in range(vectors)]
    def everywhere(at: str) -> str:
        return spread(f, s.lanes, s.llvm, f.let(f"load {s.llvm}, ptr {at}"))

    for r, at in enumerate(a):
        all_ = everywhere(at)
        for v in range(vectors):
            if v and r < len(again):
                all_ = everywhere(again[r])
            name = names[r, v] if names else f.fresh("sum")
            if s.instruction == FMA:
                f.line(f"{name} = call {vector} @llvm.fmuladd.{s.suffix}({vector} {all_}, {vector} {columns[v]}, {vector} {sums[r, v]})")
            else:
                pairs = [f"{_pairs(s)} {f.let(f'bitcast {vector} {x} to {_pairs(s)}')}" for x in (all_, columns[v])]
                f.line(f"{name} = call {vector} @llvm.x86.avx512bf16.dpbf16ps.512({vector} {sums[r, v]}, {', '.join(pairs)})")
            found[r, v] = name
    return found


def _fetch(f: Function, entry: str) -> None:
    """Fetches what an entry of the list names."""
    start = f.let(f"load ptr, ptr {entry}")
    for at in range(0, SPAN, cpu.LINE):
        prefetch(f, f.pointer(start, "i8", str(at)))


def prefetch(f: Function, address: str, locality: int = 3) -> None:
    """Asks for a line of memory: into the first level cache, or with locality 2 into the second."""
    f.line(f"call void @llvm.prefetch.p0(ptr {address}, i32 0, i32 {locality}, i32 1)")


def micro_name(rows: int, vectors: int, along_k: bool, way: str) -> str:
    return f"micro_{rows}_{vectors}" + "_along_k" * along_k + way


def mask_of(f: Function, v: Vector, count: str) -> str:
    """Of a vector, the first `count` lanes."""
    return f.let(f"icmp slt <{v.lanes} x i64> <{', '.join(f'i64 {i}' for i in range(v.lanes))}>, {spread(f, v.lanes, 'i64', count)}")


def spread(f: Function, lanes: int, element: str, value: str) -> str:
    """A vector with a value in all of its lanes."""
    vector = f"<{lanes} x {element}>"
    put = f.let(f"insertelement {vector} poison, {element} {value}, i64 0")
    return f.let(f"shufflevector {vector} {put}, {vector} poison, <{lanes} x i32> zeroinitializer")


def splat(vector: str, element: str) -> str:
    """A constant vector of equal elements."""
    return f"<{', '.join([element] * int(vector[1:].split()[0]))}>"


def load_vector(f: Function, v: Vector, at: str, mask: str = "") -> str:
    """A vector at any address; with a mask, lanes that are not there are zero."""
    if not mask:
        return f.let(f"load {v.type}, ptr {at}, align {v.bytes}")
    return f.let(f"call {v.type} @llvm.masked.load.{v.suffix}.p0(ptr {at}, i32 {v.bytes}, <{v.lanes} x i1> {mask}, "
                 f"{v.type} zeroinitializer)")


def store_vector(f: Function, v: Vector, value: str, at: str) -> None:
    f.line(f"store {v.type} {value}, ptr {at}, align {v.bytes}")


def origin(f: Function, s: Shape, outer: str, inner: str, matrix: str = "%from") -> tuple[str, str]:
    """Where an operand in memory has place (outer, inner), and its stride along the outer index."""
    stride = f.let(f"load i64, ptr {f.pointer(matrix, 'i64', '1')}")
    return f.pointer(f.let(f"load ptr, ptr {matrix}"), s.operand.llvm, f.let(f"mul nsw i64 {outer}, {stride}"), inner), stride
