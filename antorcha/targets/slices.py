"""Products of float32 on AMX, which multiplies 16-bit floats: an element is the sum of three of these, and products of slices are added up.

An element x is sliced without loss: its first slice is x with the lower 16 bits cut off, the second what is left, rounded to the 8 bits of
a bfloat16, the third the rest, which has no more than 8. Of the nine products of slices of two elements six are added
(`microkernel.ORDER`), the small ones first; the other three are at most 2^-22 of the product together, mostly less than 2^-25, and zero
wherever the product of two elements is a float32. AMX multiplies slices exactly and adds them in float32. So a sum is as near as one of
float32 products, and mostly nearer, since it is added up in parts. After Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial
Intelligence Datatype For Higher-Precision Computations" (IEEE ARITH 2019). Slices below the smallest normal number count as zero: elements
below 2^-102 lose their last bits.

Packed, an operand is in bands of 16 rows (of A) or columns (of B). For each 32 places along k a band has three tiles, one of each slice: 16
lines of 64 bytes, a tile register each. A line of A is a row, one of B has 16 columns; each 32-bit word of it holds two elements that are
16 places along k apart. Which two are neighbours does not matter as long as they are the same ones in A and B; these need no shuffles.

Infinite elements cannot be sliced, and slices of large ones may have infinite products where others are finite. Either makes some sum NaN,
which the micro-kernel looks for: then the tile is computed once more, from whole elements.
"""

from __future__ import annotations

from .microkernel import STAGE, TILE, Function, Shape, load_vector, mask_of, origin, splat, spread, store_vector
from .packing import clear, counted, transposed

LINES = STAGE // 4 * 3      # elements from one row to the next of what is staged: not a power of two
LARGE = 127 + 63 << 7       # the bfloat16 2^63: the product of two smaller numbers is finite


def packing(s: Shape) -> list[str]:
    """What packs operands of a product in slices."""
    return [clear(s), edge(s), turn(s), cut(s), pack_bands(s), pack_side(s, "a"), pack_side(s, "b"), unsliced(s)]


def _words(s: Shape) -> str:
    return f"<{s.lanes} x i32>"


def _integer(f: Function, s: Shape, x: str) -> str:
    return f.let(f"bitcast {s.type} {x} to {_words(s)}")


def _float(f: Function, s: Shape, x: str) -> str:
    return f.let(f"bitcast {_words(s)} {x} to {s.type}")


def _high(f: Function, s: Shape, x: str) -> str:
    """Words without their lower halves."""
    return f.let(f"and {_words(s)} {x}, {splat(_words(s), 'i32 -65536')}")


def cut(s: Shape) -> str:
    """Slices 16 lines of 2 x 16 elements, `step` from one to the next, the second 16 `apart` from the first, into three tiles."""
    f = Function("define internal void @cut(ptr noalias readonly captures(none) %source, i64 %step, i64 %apart, "
                 "ptr noalias captures(none) %tiles)")
    words = _words(s)
    with f.loop("0", str(TILE)) as line:
        start = f.pointer("%source", s.llvm, f.let(f"mul nsw i64 {line.index}, %step"))
        both = [load_vector(f, s, at) for at in (start, f.pointer(start, s.llvm, "%apart"))]
        for number in range(3):
            parts = []
            for i, x in enumerate(both):
                bits = _integer(f, s, x)
                if number == 1:
                    bits = f.let(f"add {words} {bits}, {splat(words, 'i32 32768')}")
                high = bits if number == 2 else _high(f, s, bits)
                parts.append(high)
                if number < 2:
                    both[i] = f.let(f"fsub {s.type} {x}, {_float(f, s, high)}")
            low = f.let(f"lshr {words} {parts[0]}, {splat(words, 'i32 16')}")
            pairs = f.let(f"or {words} {low}, {_high(f, s, parts[1])}")
            at = f.pointer("%tiles", f"[{TILE} x {words}]", str(number))
            f.line(f"store {words} {pairs}, ptr {f.pointer(at, words, line.index)}, align 4")
    return f.text()


def turn(s: Shape) -> str:
    """Two squares of elements, `step` from one row to the next, the second `apart` from the first, each transposed."""
    f = Function("define internal void @turn(ptr noalias readonly captures(none) %source, i64 %step, i64 %apart, "
                 "ptr noalias captures(none) %out)")
    with f.loop("0", "2") as square:
        start = f.pointer("%source", s.llvm, f.let(f"mul nsw i64 {square.index}, %apart"))
        rows = [load_vector(f, s, f.pointer(start, s.llvm, f.let(f"mul nsw i64 %step, {r}"))) for r in range(TILE)]
        out = f.pointer("%out", f"[{TILE} x {s.type}]", square.index)
        for r, row in enumerate(transposed(f, s.type, rows)):
            store_vector(f, s, row, f.pointer(out, s.type, str(r)))
    return f.text()


def edge(s: Shape) -> str:
    """Copies rows of up to 32 elements of a matrix in memory to rows of the stage."""
    f = Function("define internal void @edge(ptr noalias readonly captures(none) %source, i64 %step, i64 %rows, i64 %count, "
                 "ptr noalias captures(none) %stage) noinline")
    masks = [mask_of(f, s, f.let(f"sub nsw i64 %count, {first}")) for first in (0, s.lanes)]
    with f.loop("0", "%rows") as row:
        start = f.pointer("%source", s.llvm, f.let(f"mul nsw i64 {row.index}, %step"))
        out = f.pointer("%stage", f"[{LINES} x {s.llvm}]", row.index)
        for first, mask in zip((0, s.lanes), masks):
            store_vector(f, s, load_vector(f, s, f.pointer(start, s.llvm, str(first)), mask), f.pointer(out, s.llvm, str(first)))
    return f.text()


def pack_bands(s: Shape) -> str:
    """Packs shares [first, last), 32 places along k of a band each, of the bands of rows [row, stop); `band` elements from one band
    to the next. `lines`: whether a line of a tile is what lies along k. What goes beyond the rows or k becomes zero."""
    f = Function("define internal void @pack_bands(ptr %fill, i1 %along_k, i1 %lines, ptr %from, ptr %scratch, i64 %row, i64 %stop, "
                 "i64 %k, i64 %count, ptr %out, i64 %band, i64 %first, i64 %last) noinline")
    f.lines.insert(2, f"  %squares = alloca [2 x [{TILE} x {s.type}]], align 64")
    stage = f.pointer("%scratch", "i8", str(s.stage_at))
    own = f.let("icmp eq ptr %fill, null")
    straight = f.let("icmp eq i1 %along_k, %lines")
    bands, steps = counted(f, f.let("sub nsw i64 %stop, %row"), str(TILE)), counted(f, "%count", str(s.step))
    inner = f.let(f"select i1 %along_k, i64 {steps}, i64 {bands}")
    with f.loop("%first", f.least("%last", f.let(f"mul nsw i64 {bands}, {steps}"))) as work:
        slow, fast = f.let(f"sdiv i64 {work.index}, {inner}"), f.let(f"srem i64 {work.index}, {inner}")
        band, step = (f.let(f"select i1 %along_k, i64 {x}, i64 {y}") for x, y in ((slow, fast), (fast, slow)))
        row = f.let(f"add nsw i64 %row, {f.let(f'mul nsw i64 {band}, {TILE}')}")
        at = f.let(f"mul nsw i64 {step}, {s.step}")
        k = f.let(f"add nsw i64 %k, {at}")
        rows = f.least(f.let(f"sub nsw i64 %stop, {row}"), str(TILE))
        places = f.least(f.let(f"sub nsw i64 %count, {at}"), str(s.step))
        whole = f.let(f"icmp eq i64 {f.let(f'mul nsw i64 {rows}, {places}')}, {TILE * s.step}")
        direct = f.let(f"and i1 {own}, {whole}")
        with f.when(f.let(f"xor i1 {whole}, true")):
            f.line(f"call void @clear(ptr {stage}, i64 {s.step * LINES})")
        outer, inside = (f.let(f"select i1 %along_k, i64 {x}, i64 {y}") for x, y in ((row, k), (k, row)))
        # A product's own `fill` reads its arguments from where a matrix in memory has its place.
        place = f.let(f"select i1 {own}, ptr %from, ptr %nowhere")
        source, stride = origin(f, s, outer, inside, place)
        with f.when(f.let(f"xor i1 {own}, true")):
            f.line(f"call void %fill(ptr %from, ptr %scratch, i64 {row}, i64 {rows}, i64 {k}, i64 {places}, ptr {stage})")
        with f.when(f.let(f"and i1 {own}, {f.let(f'xor i1 {whole}, true')}")):
            lines, length = (f.let(f"select i1 %along_k, i64 {x}, i64 {y}") for x, y in ((rows, places), (places, rows)))
            f.line(f"call void @edge(ptr {source}, i64 {stride}, i64 {lines}, i64 {length}, ptr {stage})")
        source = f.let(f"select i1 {direct}, ptr {source}, ptr {stage}")
        stride = f.let(f"select i1 {direct}, i64 {stride}, i64 {LINES}")
        apart = f.let(f"select i1 %along_k, i64 {s.lanes}, i64 {f.let(f'mul nsw i64 {stride}, {s.lanes}')}")
        with f.when(f.let(f"xor i1 {straight}, true")):
            f.line(f"call void @turn(ptr {source}, i64 {stride}, i64 {apart}, ptr %squares)")
        source = f.let(f"select i1 {straight}, ptr {source}, ptr %squares")
        stride = f.let(f"select i1 {straight}, i64 {stride}, i64 {s.lanes}")
        apart = f.let(f"select i1 {straight}, i64 {apart}, i64 {TILE * s.lanes}")
        out = f.pointer("%out", s.llvm, f.let(f"mul nsw i64 {band}, %band"), f.let(f"mul nsw i64 {at}, {s.packed(TILE)}"))
        f.line(f"call void @cut(ptr {source}, i64 {stride}, i64 {apart}, ptr {out})")
    f.lines.insert(2, "  %nowhere = alloca [2 x i64], align 8")
    return f.text()


def pack_side(s: Shape, side: str) -> str:
    """Bands of the rows [row, stop) of A, or of those columns of B; then they are `kc` places along k long."""
    of_a = side == "a"
    begin, length = ("i64 %begin, ", "") if of_a else ("", "i64 %kc, i64 %stripe, ")
    f = Function(f"define internal void @pack_{side}(ptr %fill, i1 %along_k, ptr %from, ptr %scratch, {begin}i64 %row, i64 %stop, i64 %k, "
                 f"i64 %count, ptr %out, {length}i64 %first, i64 %last) noinline")
    band = str(s.along_a * s.a_stride) if of_a else f.let(f"mul nsw i64 %kc, {s.packed(TILE)}")
    f.line(f"call void @pack_bands(ptr %fill, i1 %along_k, i1 {str(of_a).lower()}, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, "
           f"i64 %count, ptr %out, i64 {band}, i64 %first, i64 %last)")
    return f.text()


def unsliced(s: Shape) -> str:
    """Computes a tile of sums once more if there are large elements in these bands: `out = (add ? c : 0) + sum over k of A B`."""
    f = Function("define internal void @unsliced(ptr %a, i64 %step_a, ptr %b, i64 %step_b, i64 %k, ptr %c, i1 %add, ptr %out, "
                 "i64 %rows, i64 %vectors) noinline cold")
    tiles, words = f"[{3 * TILE} x {_words(s)}]", _words(s)
    steps = counted(f, "%k", str(s.step))
    halves = f"<{2 * s.lanes} x i16>"
    large = "false"
    for operand, step, bands in (("%a", "%step_a", "%rows"), ("%b", "%step_b", "%vectors")):
        with f.loop("0", bands, carry=[large], kind="i1") as band:
            start = f.pointer(operand, s.llvm, f.let(f"mul nsw i64 {band.index}, {step}"))
            with f.loop("0", steps, carry=[band.carried[0]], kind="i1") as at:
                first = f.pointer(start, tiles, at.index)
                with f.loop("0", str(TILE), carry=[at.carried[0]], kind="i1") as line:
                    both = f.let(f"load {halves}, ptr {f.pointer(first, words, line.index)}, align 4")
                    size = f.let(f"and {halves} {both}, {splat(halves, 'i16 32767')}")
                    above = f.let(f"icmp uge {halves} {size}, {splat(halves, f'i16 {LARGE}')}")
                    number = f.let(f"icmp ule {halves} {size}, {splat(halves, f'i16 {255 << 7}')}")
                    found = f.let(f"and <{2 * s.lanes} x i1> {above}, {number}")
                    found = f.let(f"bitcast <{2 * s.lanes} x i1> {found} to i{2 * s.lanes}")
                    line.next = [f.let(f"or i1 {line.carried[0]}, {f.let(f'icmp ne i{2 * s.lanes} {found}, 0')}")]
                at.next = [line.carried[0]]
            band.next = [at.carried[0]]
        large = band.carried[0]
    f.line(f"br i1 {large}, label %again, label %done")
    f.label("done")
    f.line("ret void")
    f.label("again")

    def element(band: str, half: str, line: str, lane: str = "") -> str:
        """The vector of elements in a line of a band's tiles, or that in one lane of it, everywhere."""
        parts = []
        for number in range(3):
            place = f.pointer(f.pointer(band, f"[{TILE} x {words}]", str(number)), words, line)
            if lane:
                bits = spread(f, s.lanes, "i32", f.let(f"load i32, ptr {f.pointer(place, 'i32', lane)}"))
            else:
                bits = f.let(f"load {words}, ptr {place}, align 4")
            low = f.let(f"shl {words} {bits}, {splat(words, 'i32 16')}")
            parts.append(_float(f, s, f.let(f"select i1 {half}, {words} {_high(f, s, bits)}, {words} {low}")))
        rest = f.let(f"fadd {s.type} {parts[1]}, {parts[2]}")
        size = f.let(f"call {s.type} @llvm.fabs.{s.suffix}({s.type} {parts[0]})")
        infinite = f.let(f"fcmp oeq {s.type} {size}, {splat(s.type, 'float 0x7FF0000000000000')}")
        return f.let(f"select <{s.lanes} x i1> {infinite}, {s.type} {parts[0]}, {s.type} {f.let(f'fadd {s.type} {parts[0]}, {rest}')}")

    with f.loop("0", f.let(f"mul nsw i64 %rows, {TILE}")) as r, f.loop("0", "%vectors") as v:
        place = f.let(f"add nsw i64 {f.let(f'mul nsw i64 {r.index}, {s.nr}')}, {f.let(f'mul nsw i64 {v.index}, {s.lanes}')}")
        before = load_vector(f, s, f.pointer("%c", s.llvm, place))
        before = f.let(f"select i1 %add, {s.type} {before}, {s.type} zeroinitializer")
        of_a = f.pointer("%a", s.llvm, f.let(f"mul nsw i64 {f.let(f'sdiv i64 {r.index}, {TILE}')}, %step_a"))
        of_b = f.pointer("%b", s.llvm, f.let(f"mul nsw i64 {v.index}, %step_b"))
        row = f.let(f"srem i64 {r.index}, {TILE}")
        with f.loop("0", "%k", carry=[before], kind=s.type) as k:
            step, place_k = f.let(f"sdiv i64 {k.index}, {s.step}"), f.let(f"srem i64 {k.index}, {s.step}")
            half, pair = f.let(f"icmp sge i64 {place_k}, {TILE}"), f.let(f"srem i64 {place_k}, {TILE}")
            x = element(f.pointer(of_a, tiles, step), half, row, pair)
            y = element(f.pointer(of_b, tiles, step), half, pair)
            k.next = [f.let(f"call {s.type} @llvm.fmuladd.{s.suffix}({s.type} {x}, {s.type} {y}, {s.type} {k.carried[0]})")]
        store_vector(f, s, k.carried[0], f.pointer("%out", s.llvm, place))
    return f.text()
