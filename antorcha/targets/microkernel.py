"""The part of matrix multiplication that is the same for every product of one dtype: the loops around a register tile.

The scheme is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 34(3), 2008), in the
form Van Zee and van de Geijn gave it in "BLIS" (ACM TOMS 41(3), 2015): a block of B is packed into panels `nr` columns
wide and stays in the second level cache; slivers of A, `mr` rows high, are packed into the first level cache; for each pair of
sliver and panel a *micro-kernel* adds kc outer products to an mr x nr tile of C held in registers.

Here one module of LLVM IR per dtype is written, with one exported function

    void multiply(ptr args, ptr scratch, i64 m0, i64 m1, i64 n0, i64 n1, i64 k, i64 kc, ptr from_a, ptr fill_a, i1 along_k_a,
                  ptr from_b, ptr fill_b, i1 along_k_b, i64 stripe, ptr touch, ptr finish)

which computes rows [m0, m1) and columns [n0, n1) of one product; B is packed `stripe` rows at a time. What differs between
products it calls by address:

    void fill(ptr from, ptr batch, i64 row, i64 rows, i64 k, i64 count, ptr out)
        writes rows [row, row + rows) x [k, k + count) of an operand as out[k][panel] or, where the operand is contiguous along
        k, as out[row][stride]. Slivers of A stay so; panels of B are transposed here. `from` are the program's arguments
    void touch(ptr args, ptr batch, i64 m, i64 rows, i64 n, ptr lines)
        lists where in memory `finish` will write and read: {count, addresses}, SPAN bytes each
    void finish(ptr args, ptr batch, i64 m, i64 rows, i64 n, i64 columns, ptr tile)
        stores a tile of finished sums, tile[row][nr]

An operand that is a matrix in memory needs no `fill` (null): `from` says where it lies, {address of its first element, elements from
one row (or place along k) to the next}.

Memory is far: what comes next is fetched while a micro-kernel computes, some lines every few steps of its loop, as a list says. More at
a time would keep the processor from reading its operands.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

from ..base import dtype as dt
from ..runtime import cpu

STAGE = 64           # columns (k) of B staged before they are transposed into a panel
STRIPE = 8           # rows (k) packed of all panels in turn: whole lines of memory are read while they are in cache
GROUP = 9            # slivers of A packed together where they lie side by side in memory
BATCH_WORDS = 16     # i64 words at the start of scratch: the batch indices
LINE = 64            # bytes of a cache line
SPAN = 2 * LINE      # bytes of an entry in the list of what is fetched
ENTRIES = 511        # most of that list


@dataclass(frozen=True)
class Shape:
    """Sizes of the scheme for one dtype on this CPU, in elements."""

    llvm: str        # the element type
    bytes: int
    lanes: int       # per vector register
    mr: int          # rows of the register tile
    vectors: int     # registers per row of it
    kc: int          # most k of a packed block
    nc: int          # most columns of a packed block of B
    mc: int          # most rows of one call of `multiply`
    unroll: int      # steps of k at a time, and for each entry of the list of what is fetched

    @property
    def nr(self) -> int:
        return self.vectors * self.lanes

    @property
    def stage_stride(self) -> int:
        return STAGE + self.lanes    # not a power of two: rows fall into different cache sets

    @property
    def near(self) -> int:
        """Elements of an operand that is likely to be in the second level cache."""
        return cpu.cache_sizes()[1] // 2 // self.bytes

    @property
    def row_variants(self) -> list[int]:
        """Heights of the micro-kernels: an edge of few rows takes a low one."""
        return sorted({self.mr, min(8, self.mr), min(4, self.mr)})

    @property
    def widths(self) -> list[int]:
        """Their widths, in vectors."""
        return sorted({1, self.vectors})

    @property
    def a_stride(self) -> int:
        return self.kc + self.lanes

    @property
    def sliver(self) -> int:
        """Elements a packed sliver of A takes, in either order."""
        return self.mr * self.a_stride

    @property
    def group(self) -> int:
        return GROUP * self.mr

    # The layout of scratch, in bytes.
    @property
    def stage_at(self) -> int:
        return 8 * BATCH_WORDS

    @property
    def lines_at(self) -> int:
        return _aligned(self.stage_at + self.nr * self.stage_stride * self.bytes)

    @property
    def a_at(self) -> int:
        return self.lines_at + 8 * (ENTRIES + 1)

    @property
    def b_at(self) -> int:
        return _aligned(self.a_at + (GROUP * self.sliver + self.lanes) * self.bytes)

    @property
    def c_at(self) -> int:
        return _aligned(self.b_at + self.nr * (self.nc // self.nr * self.kc + self.lanes) * self.bytes)

    def scratch(self, blocks: int) -> int:
        """Bytes a thread needs, for k in so many blocks."""
        tiles = 1 if blocks <= 1 else (self.mc // self.mr + 1) * (self.nc // self.nr)
        return self.c_at + tiles * self.mr * self.nr * self.bytes


def _aligned(offset: int) -> int:
    return (offset + 63) // 64 * 64


def shape(dtype: dt.dtype) -> Shape:
    """The register tile and cache blocks for a float dtype on the CPU at hand.

    The tile fills the registers but those for one row of B and one broadcast element of A: 14 x 2 of 32 (AVX-512), 6 x 2 of 16
    (AVX2), 8 x 3 of 32 (NEON), 4 x 2 of 16 without fused multiply-add.
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
    # A sliver of A nearly fills the first level, a block of B three quarters of the second: the fewer the blocks of k, the less often
    # partial sums, which fit into neither, are read and written.
    kc = min(512, max(64, first * 7 // 8 // (mr * dtype.itemsize) // 64 * 64))
    nc = max(4, min(1024, second * 3 // 4 // (kc * dtype.itemsize)) // nr) * nr
    return Shape({4: "float", 8: "double"}[dtype.itemsize], dtype.itemsize, lanes, mr, vectors, kc, nc, 72 * mr, unroll)


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
    def loop(self, start: str, stop: str, carry: list[str] = (), metadata: str = ""):
        """`for index in range(start, stop, step)` in i64; `carry` are initial values of further i64 variables."""
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
            self.lines[at + i] = f"  {name} = phi i64 [ {first}, %{before} ], [ {later}, %{self.block} ]"
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


# -- the module -------------------------------------------------------------------------------------------------

def module(s: Shape) -> str:
    """The IR of everything in this file for one dtype."""
    variants = [(rows, vectors, along_k) for along_k in (False, True) for vectors in s.widths for rows in s.row_variants]
    parts = [micro_kernel(s, *variant) for variant in variants]
    addresses = ", ".join(f"ptr @{_micro_name(*variant)}" for variant in variants)
    parts += [f"@micro_kernels = internal constant [{len(variants)} x ptr] [{addresses}]"]
    parts += [transpose(s), rows_along_k(s), *(side(s, width) for width in sorted({s.mr, s.nr}))]
    parts += [clear(s), pack(s), pack_a(s), pack_b(s), ahead(s), multiply(s)]
    vector = f"<{s.lanes} x {s.llvm}>"
    suffix = f"v{s.lanes}f{8 * s.bytes}"
    parts += [f"declare {vector} @llvm.fmuladd.{suffix}({vector}, {vector}, {vector})",
              f"declare {vector} @llvm.masked.load.{suffix}.p0(ptr, i32, <{s.lanes} x i1>, {vector})",
              "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
              "declare i64 @llvm.smin.i64(i64, i64)", "declare i64 @llvm.smax.i64(i64, i64)", ""]
    return "\n".join(parts)


def micro_kernel(s: Shape, rows: int, vectors: int, along_k: bool) -> str:
    """`tile[rows][nr] (+)= sum over k of A b[k][nr]`, the tile in registers, its first `vectors` vectors of a row.

    A lies as a[k][mr] or, `along_k`, as a[row][a_stride]. Meanwhile the listed lines are fetched, an entry each `unroll` steps.
    """
    f = Function(f"define internal void @{_micro_name(rows, vectors, along_k)}(ptr noalias readonly captures(none) %a, "
                 "ptr noalias readonly captures(none) %b, i64 %k, ptr noalias captures(none) %c, i1 %add, "
                 "ptr noalias readonly captures(none) %lines) noinline")
    vector = f"<{s.lanes} x {s.llvm}>"
    places = [(r, v) for r in range(rows) for v in range(vectors)]
    tile = {(r, v): f.pointer("%c", s.llvm, str(r * s.nr + v * s.lanes)) for r, v in places}
    unroll = s.unroll if (rows, vectors) == (s.mr, s.vectors) else 1      # edges are compiled in less time, and as fast
    whole = f.let(f"and i64 %k, {-unroll}")
    entries = f.pointer("%lines", "ptr", "1")
    final = f.let(f"sub nsw i64 {f.let('load i64, ptr %lines')}, 1")
    with f.loop(f.let(f"sdiv i64 %k, {unroll}"), final) as rest:      # more than there are steps for
        _fetch(f, f.pointer(entries, "ptr", rest.index))

    def steps(name: str, start: str, stop: str, count: int, sums: dict, before: str) -> dict:
        """A loop over k, `count` places at a time; the sums after it."""
        f.line(f"br label %{name}")
        f.label(name)
        inner = {p: f"%{name}_{p[0]}_{p[1]}" for p in places}
        last = {p: f"%{name}_{p[0]}_{p[1]}_next" for p in places}
        for p in places:
            f.line(f"{inner[p]} = phi {vector} [ {sums[p]}, %{before} ], [ {last[p]}, %{name}_body ]")
        f.line(f"%{name}_i = phi i64 [ {start}, %{before} ], [ %{name}_next, %{name}_body ]")
        f.line(f"%{name}_inside = icmp slt i64 %{name}_i, {stop}")
        f.line(f"br i1 %{name}_inside, label %{name}_body, label %{name}_done")
        f.label(f"{name}_body")
        row_a = f.pointer("%a", s.llvm if along_k else f"[{s.mr} x {s.llvm}]", f"%{name}_i")
        row_b = f.pointer("%b", f"[{s.nr} x {s.llvm}]", f"%{name}_i")
        if name == "many":
            entry = f.least(f.let(f"sdiv exact i64 %{name}_i, {count}"), final)
            _fetch(f, f.pointer(entries, "ptr", entry))
        now = inner
        for step in range(count):
            now = _outer_product(f, s, (rows, vectors, along_k), (row_a, row_b), step, now, last if step == count - 1 else None)
        f.line(f"%{name}_next = add nsw i64 %{name}_i, {count}")
        f.line(f"br label %{name}")
        f.label(f"{name}_done")
        return inner

    sums = steps("many", "0", whole, unroll, dict.fromkeys(places, "zeroinitializer"), f.block)
    sums = steps("one", whole, "%k", 1, sums, "many_done")
    f.line("br i1 %add, label %partial, label %store")
    f.label("partial")
    total = {}
    for p in places:
        before = f.let(f"load {vector}, ptr {tile[p]}, align {s.lanes * s.bytes}")
        total[p] = f.let(f"fadd {vector} {before}, {sums[p]}")
    f.line("br label %store")
    f.label("store")
    values = {p: f.let(f"phi {vector} [ {sums[p]}, %one_done ], [ {total[p]}, %partial ]") for p in places}
    for p in places:
        f.line(f"store {vector} {values[p]}, ptr {tile[p]}, align {s.lanes * s.bytes}")
    return f.text()


def _outer_product(f: Function, s: Shape, form: tuple, operands: tuple, step: int, sums: dict, names: dict | None) -> dict:
    """Adds the outer product of a column of A and a row of B, `step` places on, to the sums; gives the new ones."""
    (rows, vectors, along_k), (a, b) = form, operands
    vector, found, columns = f"<{s.lanes} x {s.llvm}>", {}, []
    for v in range(vectors):
        at = f.pointer(b, s.llvm, str(step * s.nr + v * s.lanes))
        columns.append(f.let(f"load {vector}, ptr {at}, align {s.lanes * s.bytes}"))
        _prefetch(f, f.pointer(at, s.llvm, str(8 * s.nr)))    # eight rows of B come from the second level cache
    for r in range(rows):
        one = f.let(f"load {s.llvm}, ptr {f.pointer(a, s.llvm, str(r * s.a_stride + step if along_k else step * s.mr + r))}")
        put = f.let(f"insertelement {vector} poison, {s.llvm} {one}, i64 0")
        all_ = f.let(f"shufflevector {vector} {put}, {vector} poison, <{s.lanes} x i32> zeroinitializer")
        for v in range(vectors):
            name = names[r, v] if names else f.fresh("sum")
            f.line(f"{name} = call {vector} @llvm.fmuladd.v{s.lanes}f{8 * s.bytes}({vector} {all_}, {vector} {columns[v]}, "
                   f"{vector} {sums[r, v]})")
            found[r, v] = name
    return found


def _fetch(f: Function, entry: str) -> None:
    """Fetches what an entry of the list names."""
    start = f.let(f"load ptr, ptr {entry}")
    for at in range(0, SPAN, LINE):
        _prefetch(f, f.pointer(start, "i8", str(at)))


def _prefetch(f: Function, address: str) -> None:
    f.line(f"call void @llvm.prefetch.p0(ptr {address}, i32 0, i32 3, i32 1)")


def _micro_name(rows: int, vectors: int, along_k: bool) -> str:
    return f"micro_{rows}_{vectors}" + "_along_k" * along_k


def _mask(f: Function, s: Shape, count: str) -> str:
    """Of a vector, the first `count` lanes."""
    lanes, kind = s.lanes, f"<{s.lanes} x i64>"
    put = f.let(f"insertelement {kind} poison, i64 {count}, i64 0")
    all_ = f.let(f"shufflevector {kind} {put}, {kind} poison, <{lanes} x i32> zeroinitializer")
    return f.let(f"icmp slt {kind} <{', '.join(f'i64 {i}' for i in range(lanes))}>, {all_}")


def _load(f: Function, s: Shape, at: str, mask: str = "") -> str:
    """A vector at any address; with a mask, lanes that are not there are zero."""
    vector = f"<{s.lanes} x {s.llvm}>"
    if not mask:
        return f.let(f"load {vector}, ptr {at}, align {s.bytes}")
    return f.let(f"call {vector} @llvm.masked.load.v{s.lanes}f{8 * s.bytes}.p0(ptr {at}, i32 {s.bytes}, <{s.lanes} x i1> {mask}, "
                 f"{vector} zeroinitializer)")


def _store(f: Function, s: Shape, value: str, at: str) -> None:
    f.line(f"store <{s.lanes} x {s.llvm}> {value}, ptr {at}, align {s.bytes}")


def _origin(f: Function, s: Shape, outer: str, inner: str) -> tuple[str, str]:
    """Where an operand in memory has place (outer, inner), and its stride along the outer index."""
    stride = f.let(f"load i64, ptr {f.pointer('%from', 'i64', '1')}")
    return f.pointer(f.let("load ptr, ptr %from"), s.llvm, f.let(f"mul nsw i64 {outer}, {stride}"), inner), stride


FILL = "(ptr noalias readonly %from, ptr noalias readonly %scratch, i64 %row, i64 %rows, i64 %k, i64 %count, ptr noalias %out) noinline"


def rows_along_k(s: Shape) -> str:
    """The `fill` of A in memory, contiguous along k: out[row][a_stride]."""
    f = Function("define internal void @rows_along_k" + FILL)
    source, stride = _origin(f, s, "%row", "%k")
    whole = f.let(f"and i64 %count, {-s.lanes}")
    left = f.let(f"sub nsw i64 %count, {whole}")
    with f.loop("0", "%rows") as r:
        row = f.pointer(source, s.llvm, f.let(f"mul nsw i64 {r.index}, {stride}"))
        out = f.pointer("%out", f"[{s.a_stride} x {s.llvm}]", r.index)
        with f.loop("0", whole) as k:
            k.step = str(s.lanes)
            _store(f, s, _load(f, s, f.pointer(row, s.llvm, k.index)), f.pointer(out, s.llvm, k.index))
        with f.when(f.let(f"icmp sgt i64 {left}, 0")):
            _store(f, s, _load(f, s, f.pointer(row, s.llvm, whole), _mask(f, s, left)), f.pointer(out, s.llvm, whole))
    return f.text()


def side(s: Shape, width: int) -> str:
    """The `fill` of an operand in memory, contiguous along its rows: out[k][width]. The lines `count` places further along k are fetched.

    Writes whole vectors: beyond the end of a row of `out`, which the next one overwrites.
    """
    f = Function(f"define internal void @side_{width}{FILL}")
    source, stride = _origin(f, s, "%k", "%row")
    ahead = f.let(f"mul nsw i64 %count, {stride}")

    def copy(masks: list[str]) -> None:
        with f.loop("0", "%count") as k:
            row = f.pointer(source, s.llvm, f.let(f"mul nsw i64 {k.index}, {stride}"))
            out = f.pointer("%out", f"[{width} x {s.llvm}]", k.index)
            for v, mask in enumerate(masks):
                at = f.pointer(row, s.llvm, str(v * s.lanes))
                _prefetch(f, f.pointer(at, s.llvm, ahead))
                _store(f, s, _load(f, s, at, mask), f.pointer(out, s.llvm, str(v * s.lanes)))

    starts = range(0, width, s.lanes)
    full = f.let(f"icmp eq i64 %rows, {width}")
    with f.when(full):
        copy([f"<{', '.join(f'i1 {int(v + i < width)}' for i in range(s.lanes))}>" if width - v < s.lanes else "" for v in starts])
    with f.when(f.let(f"xor i1 {full}, true")):
        copy([_mask(f, s, f.let(f"sub nsw i64 %rows, {v}")) for v in starts])
    return f.text()


def transpose(s: Shape) -> str:
    """`panel[k][nr] = source[row][k]` for k < count and row < rows, in squares of lanes x lanes; `stride` elements from row to row.

    Writes whole squares: up to lanes - 1 places along k beyond the panel's end, which whoever packs next overwrites, and some row again
    where there are no more.
    """
    f = Function("define internal void @transpose(ptr noalias readonly captures(none) %source, i64 %stride, i64 %rows, i64 %count, "
                 "ptr noalias captures(none) %panel) noinline")
    whole = f.let(f"and i64 %count, {-s.lanes}")
    left = f.let(f"sub nsw i64 %count, {whole}")
    final = f.let("sub nsw i64 %rows, 1")

    def square(k: str, mask: str = "") -> None:
        at = f.pointer("%panel", f"[{s.nr} x {s.llvm}]", k)
        at = f.pointer(at, s.llvm, column.index)
        rows = [_load(f, s, f.pointer(start, s.llvm, k), mask) for start in starts]
        for i, row in enumerate(_transposed(f, f"<{s.lanes} x {s.llvm}>", rows)):
            _store(f, s, row, f.pointer(at, s.llvm, str(i * s.nr)))

    with f.loop("0", "%rows") as column:
        column.step = str(s.lanes)
        present = [f.least(f.let(f"add nsw i64 {column.index}, {r}"), final) for r in range(s.lanes)]
        starts = [f.pointer("%source", s.llvm, f.let(f"mul nsw i64 {r}, %stride")) for r in present]
        with f.loop("0", whole) as k:
            k.step = str(s.lanes)
            square(k.index)
        with f.when(f.let(f"icmp sgt i64 {left}, 0")):
            square(whole, _mask(f, s, left))
    return f.text()


def _transposed(f: Function, vector: str, rows: list[str]) -> list[str]:
    """Transposes a square of vectors by exchanging off-diagonal blocks of half, a quarter, ... of its size (Eklundh 1972)."""
    lanes = len(rows)
    distance = lanes // 2
    while distance:
        low = [j if not j & distance else lanes + j - distance for j in range(lanes)]
        high = [j + distance if not j & distance else lanes + j for j in range(lanes)]
        for i in range(lanes):
            if not i & distance:
                a, b = rows[i], rows[i + distance]
                for at, mask in ((i, low), (i + distance, high)):
                    mask = ", ".join(f"i32 {j}" for j in mask)
                    rows[at] = f.let(f"shufflevector {vector} {a}, {vector} {b}, <{lanes} x i32> <{mask}>")
        distance //= 2
    return rows


def clear(s: Shape) -> str:
    """`out[0:count] = 0`, in whole vectors."""
    f = Function("define internal void @clear(ptr noalias %out, i64 %count)")
    with f.loop("0", "%count") as i:
        i.step = str(s.lanes)
        f.line(f"store <{s.lanes} x {s.llvm}> zeroinitializer, ptr {f.pointer('%out', s.llvm, i.index)}, align {s.bytes}")
    return f.text()


def pack(s: Shape) -> str:
    """Packs panels side by side, panel[k][width] each, `step` elements from one to the next.

    Columns that do not exist become zero, so that no arithmetic is done on chance bits.
    """
    f = Function("define internal void @pack(ptr %fill, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, ptr %out, "
                 "i64 %width, i64 %step, i64 %stripe) noinline")
    with f.loop("0", "%count") as at:
        at.step = "%stripe"
        length = f.least(f.let(f"sub nsw i64 %count, {at.index}"), "%stripe")
        size = f.let(f"mul nsw i64 {length}, %width")
        offset = f.let(f"mul nsw i64 {at.index}, %width")
        k = f.let(f"add nsw i64 %k, {at.index}")
        with f.loop("%row", "%stop", carry=[offset]) as row:
            row.step = "%width"
            row.next = [f.let(f"add nsw i64 {row.carried[0]}, %step")]
            rows = f.least(f.let(f"sub nsw i64 %stop, {row.index}"), "%width")
            panel = f.pointer("%out", s.llvm, row.carried[0])
            with f.when(f.let(f"icmp slt i64 {rows}, %width")):
                f.line(f"call void @clear(ptr {panel}, i64 {size})")
            f.line(f"call void %fill(ptr %from, ptr %scratch, i64 {row.index}, i64 {rows}, i64 {k}, i64 {length}, ptr {panel})")
    return f.text()


def _or_own(f: Function, own: str) -> str:
    """A product's `fill`, or ours for operands in memory."""
    return f.let(f"select i1 {f.let('icmp eq ptr %fill, null')}, ptr @{own}, ptr %fill")


def pack_a(s: Shape) -> str:
    """Packs slivers of A, a[k][mr] or a[row][a_stride] each. Rows that do not exist are not cleared: nobody looks at their sums."""
    f = Function("define internal void @pack_a(ptr %fill, i1 %along_k, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, "
                 "ptr %out) noinline")
    f.line("br i1 %along_k, label %straight, label %side")
    f.label("side")
    f.line(f"call void @pack(ptr {_or_own(f, f'side_{s.mr}')}, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, ptr %out, "
           f"i64 {s.mr}, i64 {s.sliver}, i64 {STRIPE})")
    f.line("ret void")
    f.label("straight")
    rows = f.let("sub nsw i64 %stop, %row")
    f.line(f"call void {_or_own(f, 'rows_along_k')}(ptr %from, ptr %scratch, i64 %row, i64 {rows}, i64 %k, i64 %count, ptr %out)")
    return f.text()


def pack_b(s: Shape) -> str:
    """Packs the panels of columns [row, stop) of B, b[k][nr] each, `kc` rows apart."""
    f = Function("define internal void @pack_b(ptr %fill, i1 %along_k, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, "
                 "ptr %out, i64 %kc, i64 %stripe) noinline")
    step = f.let(f"mul nsw i64 %kc, {s.nr}")
    stage = f.pointer("%scratch", "i8", str(s.stage_at))
    own = f.let("icmp eq ptr %fill, null")
    f.line("br i1 %along_k, label %transposed, label %side")
    f.label("side")
    f.line(f"call void @pack(ptr {_or_own(f, f'side_{s.nr}')}, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, ptr %out, "
           f"i64 {s.nr}, i64 {step}, i64 %stripe)")
    f.line("ret void")
    f.label("transposed")
    with f.loop("%row", "%stop", carry=["0"]) as row:
        row.step = str(s.nr)
        row.next = [f.let(f"add nsw i64 {row.carried[0]}, {step}")]
        rows = f.least(f.let(f"sub nsw i64 %stop, {row.index}"), str(s.nr))
        panel = f.pointer("%out", s.llvm, row.carried[0])
        with f.when(own):
            source, stride = _origin(f, s, row.index, "%k")
            f.line(f"call void @transpose(ptr {source}, i64 {stride}, i64 {rows}, i64 %count, ptr {panel})")
        with f.loop(f.let(f"select i1 {own}, i64 %count, i64 0"), "%count") as at:
            at.step = str(STAGE)
            length = f.least(f.let(f"sub nsw i64 %count, {at.index}"), str(STAGE))
            k = f.let(f"add nsw i64 %k, {at.index}")
            f.line(f"call void %fill(ptr %from, ptr %scratch, i64 {row.index}, i64 {rows}, i64 {k}, i64 {length}, ptr {stage})")
            out = f.pointer(panel, f"[{s.nr} x {s.llvm}]", at.index)
            f.line(f"call void @transpose(ptr {stage}, i64 {s.stage_stride}, i64 {rows}, i64 {length}, ptr {out})")
    return f.text()


def ahead(s: Shape) -> str:
    """Lists places [outer, outer + outers) x [inner, inner + inners) of an operand in memory: as many as the steps of k allow."""
    f = Function("define internal void @ahead(ptr noalias readonly %from, i64 %outer, i64 %outers, i64 %inner, i64 %inners, "
                 "i64 %k, ptr noalias %lines) noinline")
    source, stride = _origin(f, s, "%outer", "%inner")
    nbytes = f.let(f"mul nsw i64 %inners, {s.bytes}")
    count = f.let("load i64, ptr %lines")
    with f.loop("0", "%outers", carry=[count]) as o:
        row = f.pointer(source, s.llvm, f.let(f"mul nsw i64 {o.index}, {stride}"))
        with f.loop("0", nbytes, carry=[o.carried[0]]) as at:
            at.step = str(SPAN)
            more = f.let(f"add nsw i64 {at.carried[0]}, 1")
            at.next = [f.least(more, str(ENTRIES))]
            f.line(f"store ptr {f.pointer(row, 'i8', at.index)}, ptr {f.pointer('%lines', 'ptr', at.next[0])}")
        o.next = [at.carried[0]]
    most = f.let(f"call i64 @llvm.smax.i64(i64 {count}, i64 {f.let(f'sdiv i64 %k, {s.unroll}')})")
    f.line(f"store i64 {f.least(o.carried[0], most)}, ptr %lines")
    return f.text()


def multiply(s: Shape) -> str:
    """The loops around the micro-kernel; see the top of the file."""
    f = Function("define void @multiply(ptr %args, ptr %scratch, i64 %m0, i64 %m1, i64 %n0, i64 %n1, i64 %k, i64 %kc, ptr %from_a, "
                 "ptr %fill_a, i1 %along_k_a, ptr %from_b, ptr %fill_b, i1 %along_k_b, i64 %stripe, ptr %touch, ptr %finish)")
    a, b, c, lines = (f.pointer("%scratch", "i8", str(at)) for at in (s.a_at, s.b_at, s.c_at, s.lines_at))
    blocked = f.let("icmp sgt i64 %k, %kc")
    empty = f.let("icmp slt i64 %k, 1")
    k_stop = f.let(f"select i1 {empty}, i64 1, i64 %k")    # without k there is still a block, which stores zeros
    columns = f.let("sub nsw i64 %n1, %n0")
    across = f.let(f"sdiv i64 {f.let(f'add nsw i64 {columns}, {s.nr - 1}')}, {s.nr}")
    group = f.let(f"select i1 %along_k_a, i64 {s.mr}, i64 {s.group}")
    size = f.let(f"mul nsw i64 {f.let('sub nsw i64 %m1, %m0')}, %k")
    far = f.let(f"icmp sgt i64 {size}, {s.near}")
    fetches = f.let(f"and i1 {f.let('icmp eq ptr %fill_a, null')}, {far}")
    with f.loop("0", k_stop) as p:
        p.step = "%kc"
        left = f.let(f"sub nsw i64 %k, {p.index}")
        depth = f.least(left, "%kc")
        last = f.let(f"icmp sle i64 {left}, %kc")
        further = f.let(f"icmp sgt i64 {p.index}, 0")
        f.line(f"call void @pack_b(ptr %fill_b, i1 %along_k_b, ptr %from_b, ptr %scratch, i64 %n0, i64 %n1, i64 {p.index}, i64 {depth}, "
               f"ptr {b}, i64 %kc, i64 %stripe)")
        with f.loop("%m0", "%m1", carry=["0"]) as g:
            g.step = group
            stop = f.least("%m1", f.let(f"add nsw i64 {g.index}, {group}"))
            f.line(f"call void @pack_a(ptr %fill_a, i1 %along_k_a, ptr %from_a, ptr %scratch, i64 {g.index}, i64 {stop}, i64 {p.index}, "
                   f"i64 {depth}, ptr {a})")
            further_on = f.least("%m1", f.let(f"add nsw i64 {stop}, {group}"))
            coming = f.let(f"sub nsw i64 {further_on}, {stop}")      # rows of the next group
            fetched = f.let(f"and i1 {fetches}, {f.let(f'icmp sgt i64 {coming}, 0')}")
            outer, outers, inner, inners = (
                f.let(f"select i1 %along_k_a, i64 {one}, i64 {other}")
                for one, other in ((stop, p.index), (coming, depth), (p.index, stop), (depth, coming)))
            rows = f.let(f"sub nsw i64 {stop}, {g.index}")
            high = f.let(f"sdiv i64 {f.let(f'add nsw i64 {rows}, {s.mr - 1}')}, {s.mr}")
            parts = f.let(f"mul nsw i64 {high}, {across}")
            most = f.let(f"add nsw i64 {outers}, {parts}")
            part = f.let(f"sdiv i64 {f.let(f'add nsw i64 {most}, -1')}, {parts}")
            with f.loop(g.index, stop, carry=["0", g.carried[0]]) as i:
                i.step = str(s.mr)
                number, first_tile = i.carried
                i.next = [f.let(f"add nsw i64 {number}, 1"), f.let(f"add nsw i64 {first_tile}, {across}")]
                height = f.least(f.let(f"sub nsw i64 {stop}, {i.index}"), str(s.mr))
                sliver = f.pointer(a, f"[{s.sliver} x {s.llvm}]", number)
                done = f.let(f"mul nsw i64 {number}, {across}")
                with f.loop("0", across) as j:
                    n = f.let(f"add nsw i64 %n0, {f.let(f'mul nsw i64 {j.index}, {s.nr}')}")
                    width = f.least(f.let(f"sub nsw i64 %n1, {n}"), str(s.nr))
                    panel = f.pointer(b, f"[{s.nr} x {s.llvm}]", f.let(f"mul nsw i64 {j.index}, %kc"))
                    kept = f.let(f"select i1 {blocked}, i64 {f.let(f'add nsw i64 {first_tile}, {j.index}')}, i64 0")
                    tile = f.pointer(c, f"[{s.mr * s.nr} x {s.llvm}]", kept)    # partial sums are kept between blocks of k
                    f.line(f"store i64 1, ptr {lines}")
                    f.line(f"store ptr {tile}, ptr {f.pointer(lines, 'ptr', '1')}")
                    with f.when(last):
                        f.line(f"call void %touch(ptr %args, ptr %scratch, i64 {i.index}, i64 {height}, i64 {n}, ptr {lines})")
                    with f.when(blocked):
                        _list_tile(f, s, tile, lines)
                    with f.when(fetched):
                        first = f.let(f"mul nsw i64 {f.let(f'add nsw i64 {done}, {j.index}')}, {part}")
                        share = f.least(part, f.let(f"sub nsw i64 {outers}, {first}"))
                        f.line(f"call void @ahead(ptr %from_a, i64 {f.let(f'add nsw i64 {outer}, {first}')}, i64 {share}, i64 {inner}, "
                               f"i64 {inners}, i64 {depth}, ptr {lines})")
                    micro_kernel = _chosen(f, s, height, width)
                    f.line(f"call void {micro_kernel}(ptr {sliver}, ptr {panel}, i64 {depth}, ptr {tile}, i1 {further}, ptr {lines})")
                    with f.when(last):
                        f.line(f"call void %finish(ptr %args, ptr %scratch, i64 {i.index}, i64 {height}, i64 {n}, i64 {width}, ptr {tile})")
            g.next = [i.carried[1]]
    return f.text()


def _list_tile(f: Function, s: Shape, tile: str, lines: str) -> None:
    """Lists the lines of a tile of partial sums."""
    count = f.let(f"load i64, ptr {lines}")
    entry = f.pointer(lines, "ptr", count)
    starts = range(0, s.mr * s.nr * s.bytes, SPAN)
    for i, at in enumerate(starts, 1):
        f.line(f"store ptr {f.pointer(tile, 'i8', str(at))}, ptr {f.pointer(entry, 'ptr', str(i))}")
    f.line(f"store i64 {f.let(f'add nsw i64 {count}, {len(starts)}')}, ptr {lines}")


def _chosen(f: Function, s: Shape, height: str, width: str) -> str:
    """Address of the lowest and narrowest micro-kernel that covers height x width."""
    number = f.let("zext i1 %along_k_a to i64")
    for value, unit, sizes in ((width, s.lanes, s.widths), (height, 1, s.row_variants)):
        number = f.let(f"mul nsw i64 {number}, {len(sizes)}")
        for size in sizes[:-1]:
            larger = f.let(f"icmp sgt i64 {value}, {size * unit}")
            number = f.let(f"add nsw i64 {number}, {f.let(f'zext i1 {larger} to i64')}")
    return f.let(f"load ptr, ptr {f.pointer('@micro_kernels', 'ptr', number)}")
