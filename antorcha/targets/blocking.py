"""How a matrix product is cut into tiles, which operand is A, and how the operands lie in memory."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from ..base import dtype as dt
from ..loops import ir
from ..loops.ir import Contraction, Op, floordiv, maximum, minimum
from ..runtime import cpu
from . import microkernel, multiply, windows
from .formula import evaluate
from .matvec import MatrixVector, is_matvec
from .microkernel import Shape
from .nest import along_k, ceildiv, contiguous, product, stores
from .offsets import coefficient

STRIP = 18            # slivers of A (mr rows each) in a strip, where there are many
WORK = 1 << 20        # multiply-adds that are worth a tile of their own
TILES = 8             # wanted if there is work for them, so that threads have equal shares
SHORTEST = 9          # slivers of a strip that is short only to make more tiles
SHORTER = 4           # the same, where the next strip finds B packed, and with tile registers: their slivers are higher, and B less to pack
NARROWEST = 4         # panels (nr columns each) of a block that is narrow only to make more tiles
NARROWER = 2          # the same, where there would be one tile
FEWEST = 128          # rows and columns of a product in slices, twice the places along k,
LEAST = 1 << 22       # and multiply-adds
NOTE = 64             # bytes at the beginning of scratch memory: which columns of B are packed there (`pool`), and the rest of the line


# -- how a product is cut into tiles ----------------------------------------------------------------------------

@dataclass
class Blocking:
    """Extents and the sizes of tiles, as int64 expressions of the program's arguments.

    A tile is a strip of rows x a block of columns of one product; its number counts strips first, then blocks, then the batch.
    Strips are whole slivers of A and blocks whole panels of B, shared out evenly. The rows of `windows` are counted with gaps.
    """

    batch: Op
    m: Op
    n: Op
    k: Op
    depth: Op       # k is summed in blocks of this many
    slivers: Op
    strips: Op
    panels: Op
    blocks: Op
    kept: Op        # whether a block of columns of B, packed, stays for the next strip

    @property
    def tiles(self) -> Op:
        return self.batch * self.blocks * self.strips


def blocking(c: Contraction) -> Blocking:
    return cut(shape_of(c), *(product(dims) for dims in (c.batch, counted_rows(c), c.n, c.k)))


def cut(s: Shape, batch: Op, m: Op, n: Op, k: Op) -> Blocking:
    """How `batch` products of m x k by k x n are cut into tiles."""
    slivers, panels = ceildiv(m, s.mr), ceildiv(n, s.nr)
    sliced = s.instruction == microkernel.SLICES
    larger = 2 if sliced else 1     # slices take longer to pack, and half as long to multiply
    wanted = minimum(maximum(floordiv(m * n * k, larger * WORK), 1), TILES // larger)
    widest = ir.integer(s.nc)
    if s.ahead:     # there are two blocks of k at a time
        widest = ir.select(k < s.kc + 1, widest, ir.integer(s.nc // 2 // s.nr * s.nr))
    if sliced:      # A is packed for each block of columns
        widest = ir.select(k < s.kc // 2 + 1, ir.integer(2 * s.nc), widest)
    blocks = ceildiv(n, widest)
    kept = ceildiv(k, s.kc) * minimum(panels, floordiv(widest, s.nr)) < s.nc // s.nr + 1
    shortest = ir.select(kept, ir.integer(SHORTER), ir.integer(SHORTER if s.tiles else SHORTEST))
    strips = ceildiv(slivers, STRIP)
    if sliced:      # where B is packed for each strip: the division by which least is
        many, wide = _doubled(wanted, batch, m, n, strips, blocks, slivers, panels)
        strips, blocks = ir.select(kept, strips, many), ir.select(kept, blocks, wide)
    strips = maximum(strips, _most(wanted, batch * blocks, floordiv(slivers, shortest)))
    strips = ir.select(strips < 2, strips, _round_up(strips, 2))
    one = batch * strips * blocks < 2
    narrowest = ir.select(one, ir.integer(NARROWER), ir.integer(larger * NARROWEST))
    wanted = ir.select(one, minimum(wanted, TILES // larger ** 2), wanted)
    blocks = maximum(blocks, _most(wanted, batch * strips, floordiv(panels, narrowest)))
    depth = _round_up(maximum(ceildiv(k, maximum(ceildiv(k, s.kc), 1)), 1), max(s.operand.lanes, s.step))
    return Blocking(batch, m, n, k, depth, slivers, strips, panels, blocks, kept)


def _doubled(wanted: Op, batch: Op, m: Op, n: Op, strips: Op, blocks: Op, slivers: Op, panels: Op) -> tuple[Op, Op]:
    """Twice as many strips or blocks until there are tiles enough: A is packed for each block, B for each strip."""
    one = ir.integer(1)
    for _ in range(2):      # slices want half of TILES
        times = ir.select(batch * strips * blocks < wanted, ir.integer(2), one)
        higher = ir.select(strips * (2 * SHORTER) < slivers + 1, times, one)
        wider = ir.select(blocks * (4 * NARROWEST) < panels + 1, times, one)
        higher = ir.select(n * strips < m * blocks + 1, higher, ir.select(wider < 2, higher, one))
        strips, blocks = strips * higher, blocks * ir.select(higher < 2, wider, one)
    return strips, blocks


def _most(wanted: Op, present: Op, bound: Op) -> Op:
    """Into how many parts each of the tiles present is cut to have as many as wanted, but at most `bound`."""
    return minimum(ceildiv(wanted, maximum(present, 1)), bound)


@functools.lru_cache(maxsize=256)
def tile_count(c: Contraction) -> Op:
    return MatrixVector(c).tiles if is_matvec(c) else blocking(c).tiles


def together(c: Contraction) -> Op:
    """How many neighbouring tiles one call should do at least: two strips, unless what is packed of B is still there for another call."""
    if is_matvec(c):
        return ir.integer(1)
    b = blocking(c)
    return ir.select(b.kept, ir.integer(1), minimum(b.strips, 2))


def tiles(c: Contraction, words: list[int]) -> int:
    """How many tiles the kernel of `c` has for these arguments."""
    return evaluate(tile_count(prepared(c)), words)


def scratch(c: Contraction, words: list[int]) -> int:
    """Bytes of scratch each thread needs."""
    if is_matvec(c):
        return MatrixVector(c).scratch
    s = shape_of(c)
    return NOTE + s.scratch(-(-evaluate(product(c.k), words) // s.kc))


def beyond(dtype: dt.dtype, operand: dt.dtype, alone: bool) -> int:
    """How far above the diagonal the tiles of products read an operand of which only what is below is taken: rows of a tile and the rest
    of a step along k; of two such operands (not `alone`) one has the columns."""
    s = microkernel.shape(dtype, operand)
    return (s.mr if alone else max(s.mr, s.nr)) + s.step - 2


def shape_of(c: Contraction) -> Shape:
    return microkernel.shape(c.dtype, c.a.dtype, c.sliced)


def _round_up(a: Op, unit: int) -> Op:
    return ceildiv(a, unit) * unit if unit > 1 else a


# -- how operands lie in memory ---------------------------------------------------------------------------------

def prepared(c: Contraction) -> Contraction:
    """`c` as its kernel computes it."""
    return oriented(unwidened(c))


def unwidened(c: Contraction) -> Contraction:
    """`c` with narrow operands where the processor multiplies them."""
    kinds = {operand.args[0].dtype if operand.kind == "cast" else None for operand in (c.a, c.b)}
    if len(kinds) == 1 and None not in kinds and c.dtype is dt.float32 and not is_matvec(c):
        if microkernel.instruction(*kinds) != microkernel.FMA:
            return replace(c, a=c.a.args[0], b=c.b.args[0])
    return c


def oriented(c: Contraction) -> Contraction:
    """`c`, or its transpose where that stores along n: vectors lie along n. A vector's product has its indices in m; windows are A,
    whatever is stored, and so is what the sizes have made the rows of register tiles."""
    if not c.n:
        return c
    rows = c.windows or c.rows
    if c.m and (rows == "m" or not rows and not is_turned(c)):
        return c
    other = {"m": "n", "n": "m", "k": "k"}
    within = tuple((other[x], other[y]) for x, y in c.within)       # and columns that nobody asks for would be rows: they are computed
    return Contraction(c.batch, c.n, c.m, c.k, c.b, c.a, c.body, c.dtype, "m" if c.windows else "", "m" if c.rows else "", within,
                       sliced=c.sliced)


def fitted(c: Contraction, m: int, n: int, k: int) -> Contraction:
    """`c` with what its sizes decide: what multiplies, and which group has the rows of register tiles."""
    sides = ir.triangular(c.within)     # one alone has the rows of tiles: they are fewer than the columns
    c = replace(c, sliced=worth_slicing(c, m, n, k))
    return replace(c, rows=sides.pop() if len(sides) == 1 else "" if c.sliced else narrow(c, m, n))


def narrow(c: Contraction, m: int, n: int) -> str:
    """Which group should be the rows of register tiles for these sizes, against the order in which results are stored: "m", "n" or "".

    A tile's rows are vectors. Of a group of few places they would be mostly empty, and a tile holds fewer of them than of rows; the other
    group fills them, if its operand lies along it. So it is with the gradient of a weight that has few inputs.

    The operand of many places is best the one that is read where it lies, for packing it takes as long as multiplying it by few. Along k
    that is A: so a layer's weight is not packed for a small batch."""
    turned = is_turned(c)
    rows, columns = (c.n, c.m) if turned else (c.m, c.n)
    along_rows, along_columns, few, many = (c.b, c.a, m, n) if turned else (c.a, c.b, n, m)
    other = "m" if turned else "n"
    s = shape_of(c)
    if c.windows:
        return ""
    if in_memory(along_rows, rows, c.k) and not along_k(along_rows, rows, c.k):
        if 3 * _vectors(s, few) * many > 4 * _vectors(s, many) * few:
            return other
    few, many = many, few
    if in_memory(along_columns, columns, c.k) and along_k(along_columns, columns, c.k):
        if few <= multiply.FEW_PANELS * s.nr and few < many and 2 * few > s.lanes * _vectors(s, few):
            return other
    return ""


def worth_slicing(c: Contraction, m: int, n: int, k: int) -> bool:
    """Whether a float32 product of these sizes is multiplied in slices: AMX takes a third to two thirds of the time of vectors for it, but
    splitting operands takes longer than packing them, and each must be read often enough."""
    if c.dtype is not dt.float32 or c.windows or c.within or c.beyond is not None or "amxbf16" not in cpu.features():
        return False
    if shape_of(unwidened(c)).tiles or not (m >= FEWEST and n >= FEWEST and k >= FEWEST // 2 and m * n * k >= LEAST):
        return False
    return cpu.has_tiles()


def _vectors(s: Shape, n: int) -> int:
    return -(-n // s.lanes)


def is_turned(c: Contraction) -> bool:
    """Whether what is stored lies along m rather than along n."""
    places = [s.args[0] for s in stores(c.body)]
    return contiguous(places, c.m) > contiguous(places, c.n)


def has_windows(c: Contraction) -> Op | None:
    """Whether A is read where it lies by the loops of `windows.py`, a condition on the sizes; None if it never is."""
    if c.windows != "m" or is_matvec(c) or not in_runs(c.a, c.m, c.dtype):
        return None
    s = shape_of(c)
    return ir.integer(0) < windows.pay(s, c.m[-1][1], ceildiv(product(c.n), s.nr))


def counted_rows(c: Contraction) -> tuple:
    """The dims of the rows as tiles count them."""
    when = has_windows(c)
    if when is None:
        return c.m
    (name, run), s = c.m[-1], shape_of(c)
    return *c.m[:-1], (name, ir.select(when, windows.slivers(s, run) * s.mr, run))


def in_memory(operand: Op, rows: tuple, k: tuple) -> bool:
    """Whether an operand is a matrix in memory, contiguous along its rows or along k."""
    return (operand.kind == "load" and len(rows) == len(k) == 1 and _is_linear(operand.args[0])
            and 1 in (coefficient(operand.args[0], dims[0][0]) for dims in (rows, k)))


def in_runs(operand: Op, dims: tuple, dtype: dt.dtype) -> bool:
    """Whether an operand is a plain load that lies in runs along the last of several dims, at places that are a sum of a part for
    these and one for the others: the windows of a convolution."""
    return (operand.kind == "load" and operand.dtype is dtype and len(dims) > 1 and _is_linear(operand.args[0])
            and coefficient(operand.args[0], dims[-1][0]) == 1 and cpu.vector_bytes() >= 32)    # processors with masked loads


def _is_linear(offset: Op) -> bool:
    if offset.kind == "mul":
        return any(a.kind in ("const", "arg") for a in offset.args) and all(map(_is_linear, offset.args))
    return offset.kind in ("index", "const", "arg") or offset.kind in ("add", "sub") and all(map(_is_linear, offset.args))
