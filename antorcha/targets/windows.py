"""Products whose A lies in runs along its rows, as the windows of a convolution do: A is read where it lies, nothing is packed of it.

A sliver is made of neighbouring rows of one run: its rows lie side by side in memory, and each k lies at the same distance from the first
for all slivers. So there are two lists: of the distances of k, and of the slivers. Runs need not be whole slivers long: the last
sliver of a run is as high as one of the micro-kernels and begins early enough to end with the run, so that nothing is read beyond
it. Rows that the sliver before has computed already are skipped.

Rows are counted with gaps here: `mr` for each sliver. The list of slivers says which rows of the product they are.
"""

from __future__ import annotations

from ..loops import ir
from ..loops.ir import Op, floordiv
from ..runtime.compiler import AS_WRITTEN
from .microkernel import LISTED, Function, Shape
from .multiply import blocks_of_k, declarations, list_tile, micro_kernels, product_of_tiles, rank, where_b_is_packed
from .nest import Body, ceildiv, compact_loop, odometer, split
from .packing import ALL, clear, pack, pack_b, side, transposes

BESIDES = 2     # cycles a micro-kernel takes for each k besides those for its rows
PACKING = 12    # cycles it takes to pack a k of a sliver
NEXT = 8        # bytes before the distances: the address of the next sliver
WORDS = 5       # of an entry in the list of slivers: address, first row, how many, how many before it are skipped, which height


def slivers(s: Shape, run: Op) -> Op:
    """How many slivers a run has: all of one height, and one more for the rest."""
    return ceildiv(run, _fastest(s, run)[0])


def pay(s: Shape, run: Op, panels: Op) -> Op:
    """Whether slivers of runs take less time than packed ones, which are all of `mr` rows. A micro-kernel takes a cycle for each of
    its rows, and some `BESIDES`; packing takes its time once for all panels."""
    time = _fastest(s, run)[1]
    packed = run * (panels * (s.mr + BESIDES) + PACKING)
    return ir.select(run < s.row_variants[0], ir.integer(0), ir.select(packed < time * panels * s.mr, ir.integer(0), ir.integer(1)))


def _fastest(s: Shape, run: Op) -> tuple[Op, Op]:
    """(the height of slivers that takes least time: 16 rows are eight and eight, not fourteen and two; that time)."""
    lowest = s.row_variants[0]
    height, least = ir.integer(lowest), _time(s, run, lowest)
    for higher in s.row_variants[1:]:
        time = _time(s, run, higher)
        other = [ir.select(least < time, a, b) for a, b in ((height, ir.integer(higher)), (least, time))]
        height, least = (ir.select(run < higher, a, b) for a, b in zip((height, least), other))
    return height, least


def _time(s: Shape, run: Op, height: int) -> Op:
    """Cycles for each k and panel of slivers of this height, and one for the rest that is as low as it may be."""
    count = floordiv(run, height)
    rest = run - count * height
    last = ir.integer(height + BESIDES)
    for lower in reversed([h for h in s.row_variants if h < height]):
        last = ir.select(rest < lower + 1, ir.integer(lower + BESIDES), last)
    return count * (height + BESIDES) + ir.select(rest < 1, ir.integer(0), last)


def module(s: Shape) -> str:
    """The IR of `multiply_windows`, which does what `multiply` does (see there) for such an A. `fill_a` makes the lists."""
    variants = [(rows, vectors, False, LISTED) for vectors in s.widths for rows in s.row_variants]
    packing = [*transposes(s), side(s, s.nr, True), side(s, s.nr, False), clear(s), pack(s), pack_b(s)]
    return AS_WRITTEN + "\n".join([*micro_kernels(s, variants), *packing, multiply(s), *declarations(s)])


def multiply(s: Shape) -> str:
    f = product_of_tiles("multiply_windows")
    lists, all_b, c, lines = (f.pointer("%scratch", "i8", str(at)) for at in (s.a_at + NEXT, s.b_at, s.c_at, s.lines_at))
    distances = f.let(f"ptrtoint ptr {lists} to i64")
    blocked = f.let("icmp sgt i64 %k, %kc")
    k_stop = f.let(f"select i1 {f.let('icmp slt i64 %k, 1')}, i64 1, i64 %k")
    columns, rows = f.let("sub nsw i64 %n1, %n0"), f.let("sub nsw i64 %m1, %m0")
    across = f.let(f"sdiv i64 {f.let(f'add nsw i64 {columns}, {s.nr - 1}')}, {s.nr}")
    count = f.let(f"sdiv i64 {rows}, {s.mr}")
    panel_size, to_next, missing = where_b_is_packed(f, s, across, k_stop)
    with blocks_of_k(f, s, k_stop, all_b, to_next) as (start, depth, b, _, last, further):
        with f.when(missing):
            f.line(f"call void @pack_b(ptr %fill_b, i1 %along_k_b, ptr %from_b, ptr %scratch, i64 %n0, i64 %n1, i64 {start}, "
                   f"i64 {depth}, ptr {b}, i64 %kc, i64 %stripe, i64 0, i64 {ALL})")
        f.line(f"call void %fill_a(ptr %from_a, ptr %scratch, i64 %m0, i64 {rows}, i64 {start}, i64 {depth}, ptr {lists})")
        with f.loop("0", count, carry=["0"]) as i:
            i.next = [f.let(f"add nsw i64 {i.carried[0]}, {across}")]
            address, m, height, skipped, kind = (f.let(f"load i64, ptr {f.pointer(_entry(f, s, lists, i.index), 'i64', str(word))}")
                                                 for word in range(WORDS))
            sliver = f.let(f"inttoptr i64 {address} to ptr")
            following = f.least(f.let(f"add nsw i64 {i.index}, 1"), f.let(f"sub nsw i64 {count}, 1"))
            following = f.let(f"load i64, ptr {_entry(f, s, lists, following)}")
            f.line(f"store i64 {following}, ptr {f.pointer(lists, 'i8', str(-NEXT))}")
            with f.loop("0", across) as j:
                n = f.let(f"add nsw i64 %n0, {f.let(f'mul nsw i64 {j.index}, {s.nr}')}")
                width = f.least(f.let(f"sub nsw i64 %n1, {n}"), str(s.nr))
                panel = f.pointer(b, s.llvm, f.let(f"mul nsw i64 {j.index}, {panel_size}"))
                kept = f.let(f"select i1 {blocked}, i64 {f.let(f'add nsw i64 {i.carried[0]}, {j.index}')}, i64 0")
                tile = f.pointer(c, f"[{s.mr * s.nr} x {s.llvm}]", kept)
                f.line(f"store i64 1, ptr {lines}")
                f.line(f"store ptr {tile}, ptr {f.pointer(lines, 'ptr', '1')}")
                with f.when(last):
                    f.line(f"call void %touch(ptr %args, ptr %scratch, i64 {m}, i64 {height}, i64 {n}, ptr {lines})")
                with f.when(blocked):
                    list_tile(f, s, tile, lines)
                first = f.let(f"mul nsw i64 {rank(f, width, s.lanes, s.widths)}, {len(s.row_variants)}")
                micro_kernel = f.let(f"load ptr, ptr {f.pointer('@micro_kernels', 'ptr', first, kind)}")
                f.line(f"call void {micro_kernel}(ptr {sliver}, i64 {distances}, ptr {panel}, i64 {s.nr}, i64 {depth}, ptr {tile}, "
                       f"i1 {further}, ptr {lines})")
                with f.when(last):
                    new = f.pointer(tile, f"[{s.nr} x {s.llvm}]", skipped)
                    f.line(f"call void %finish(ptr %args, ptr %scratch, i64 {m}, i64 {height}, i64 {n}, i64 {width}, ptr {new}, i1 false)")
    return f.text()


def _entry(f: Function, s: Shape, lists: str, number: str) -> str:
    return f.pointer(lists, "i8", str(8 * s.kc), f.let(f"mul nsw i64 {number}, {8 * WORDS}"))


def make_lists(f: Body, emitter, s: Shape, slot: str, offset: Op, rows: tuple, gapped: tuple, k: tuple) -> None:
    """Writes the body of a `fill_a`: the distances of places [k, k + count), then the slivers of rows [row, row + rows), counted with gaps.

    `rows` are the dims of the rows, `gapped` the same as they are counted, `slot` where A is and `offset` its place in it."""
    def at(indices: list[str], dims: tuple, others: tuple) -> str:
        emitter.indices.update(zip((name for name, _ in dims), indices))
        emitter.indices.update((name, "0") for name, _ in others)
        return emitter.expression(offset)

    def extents(dims: tuple) -> list[str]:
        return [emitter.expression(extent) for _, extent in dims]

    with f.scope():
        origin = at([], (), rows + k)
    sizes, gaps, steps = extents(rows), extents(gapped), extents(k)
    run = sizes[-1]
    highest = emitter.expression(_fastest(s, rows[-1][1])[0])
    with f.loop("0", "%count", carry=split(f, "%k", steps), metadata=compact_loop(emitter)) as o, f.scope():
        o.next = odometer(f, o.carried, steps)
        distance = f.let(f"mul nsw i64 {f.let(f'sub nsw i64 {at(o.carried, k, rows)}, {origin}')}, {s.bytes}")
        f.line(f"store i64 {distance}, ptr {f.pointer('%out', 'i64', o.index)}")
    number = f.let(f"sdiv exact i64 %rows, {s.mr}")
    with f.loop("0", number, carry=split(f, "%row", gaps), metadata=compact_loop(emitter)) as o, f.scope():
        o.next = odometer(f, o.carried, gaps, str(s.mr))
        *outer, gap = o.carried
        first = f.let(f"mul nsw i64 {f.let(f'sdiv exact i64 {gap}, {s.mr}')}, {highest}")
        height = f.least(f.let(f"sub nsw i64 {run}, {first}"), highest)
        kind = rank(f, height, 1, s.row_variants)
        covered = _picked(f, kind, s.row_variants)
        start = f.least(first, f.let(f"sub nsw i64 {run}, {covered}"))
        flat = "0"
        for index, size in zip([*outer, first], sizes):
            flat = f.let(f"add nsw i64 {f.let(f'mul nsw i64 {flat}, {size}')}, {index}") if flat != "0" else index
        address = f.let(f"ptrtoint ptr {f.pointer(slot, s.llvm, at([*outer, start], rows, k))} to i64")
        entry = _entry(f, s, "%out", o.index)
        for word, value in enumerate((address, flat, height, f.let(f"sub nsw i64 {first}, {start}"), kind)):
            f.line(f"store i64 {value}, ptr {f.pointer(entry, 'i64', str(word))}")


def _picked(f: Function, number: str, values: list[int]) -> str:
    """One of the values, by its number."""
    found = str(values[0])
    for i, value in enumerate(values[1:], 1):
        found = f.let(f"select i1 {f.let(f'icmp sge i64 {number}, {i}')}, i64 {value}, i64 {found}")
    return found
