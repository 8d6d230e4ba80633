"""The loops around the register tile of a product: one module of LLVM IR per dtype, for all products of it.

The module has one exported function

    void multiply(ptr args, ptr scratch, i64 m0, i64 m1, i64 n0, i64 n1, i64 k, i64 kc, ptr from_a, ptr fill_a, i1 along_k_a,
                  ptr from_b, ptr fill_b, i1 along_k_b, i64 stripe, i1 keep, i1 packed, ptr touch, ptr finish, ptr slack)

which computes rows [m0, m1) and columns [n0, n1) of one product; B is packed `stripe` rows at a time. `keep` says that other rows of
these columns may follow, `packed` that the last call was for other rows of them. `slack` says for each pair of `WITHIN` how far the index
of the first may be above that of the second: beyond, terms and results are not needed and left out, tile by tile; then, how far beyond the
diagonal results are asked for at all (`loops.ir.computed`). What differs between products it calls by address:

    void fill(ptr from, ptr batch, i64 row, i64 rows, i64 k, i64 count, ptr out)
        writes rows [row, row + rows) x [k, k + count) of an operand as out[k][panel] or, where the operand is contiguous along
        k, as out[row][stride]. Slivers of A stay so; panels of B are transposed here. `from` are the program's arguments
    void touch(ptr args, ptr batch, i64 m, i64 rows, i64 n, ptr lines)
        lists where in memory `finish` will write and read: {count, addresses}, SPAN bytes each
    void finish(ptr args, ptr batch, i64 m, i64 rows, i64 n, i64 columns, ptr tile, i1 ahead)
        stores a tile of finished sums, tile[row][nr]. `ahead`: fetches what it will write and read for the tile beside it

An operand that is a matrix in memory needs no `fill` (null): `from` says where it lies, {address of its first element, elements from
one row (or place along k) to the next}. Where few panels or slivers would read what is packed of it, the micro-kernel reads it where it
lies, but for edges: it may not read beyond them. Few rows are multiplied by a B that lies along k vector by vector, without transposing it.

What comes next is packed piece by piece between micro-kernels, which fetch the piece while they compute: the next group of slivers of A,
and of B the next block of k. So each has two places that take turns. Packed all at once, memory would set the pace for a tenth of a
product whose k is long, as that of a weight's gradient is.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

from ..loops.ir import PITCH
from ..runtime import cpu
from ..runtime.compiler import AS_WRITTEN
from .microkernel import (
    DOTS,
    FMA,
    LIES,
    PACKED,
    SLICES,
    SPAN,
    STAGE,
    STRIPE,
    TILES,
    Function,
    Shape,
    micro_kernel,
    micro_name,
    multiplication,
    origin,
)
from .packing import ALL, ahead, ahead_of_b, clear, counted, pack, pack_a, pack_b, rows_along_k, side, transposes
from .slices import packing as packing_of_slices

ROWS = 4             # rows of A, along k, that are packed together ahead of their turn
FEW_PANELS = 2       # most panels that read an A in memory where it lies, a few bytes of each line at a time
FEW_SLIVERS = 5      # and a B in memory if there are no more slivers
SHORT = 64           # k up to which a micro-kernel takes too little time to fetch what `finish` needs: that is done a tile ahead
WITHIN = ("k", "m"), ("m", "k"), ("k", "n"), ("n", "k"), ("n", "m"), ("m", "n")      # see `loops.ir.Contraction`
FAR = 1 << 40        # slack where all is needed
PAGE = 4096          # bytes after which addresses fall into the same set of a first level cache


def module(s: Shape, draft: bool = False) -> str:
    """The IR of `multiply` and all that it calls. In a draft everything is packed, and edges take the whole tile's micro-kernels."""
    variants = [(s.mr, s.vectors, along_k, PACKED) for along_k in s.layouts]
    variants += [(rows, vectors, along_k, LIES) for along_k in s.layouts for vectors in s.widths for rows in s.row_variants]
    if draft:
        s = replace(s, unroll=1)
        variants = [(s.mr, s.vectors, along_k, PACKED) for _, _, along_k, _ in variants]
    variants += [(rows, s.vectors, True, DOTS) for rows in s.dot_heights]
    parts = [*micro_kernels(s, variants), *(packing_of_slices(s) if s.instruction == SLICES else packing(s)), ahead(s), ahead_of_b(s)]
    return AS_WRITTEN + "\n".join([*parts, multiply(s, draft), *declarations(s)])


def packing(s: Shape) -> list[str]:
    """What packs operands."""
    sides = [side(s, width, fetches) for width in sorted({s.mr, s.panel}) for fetches in (True, False)]
    return [*transposes(s), rows_along_k(s), *sides, clear(s), pack(s), pack_a(s), pack_b(s)]


def micro_kernels(s: Shape, variants: list[tuple]) -> list[str]:
    """Micro-kernels, and the table of their addresses."""
    addresses = ", ".join(f"ptr @{micro_name(*variant)}" for variant in variants)
    table = f"@micro_kernels = internal constant [{len(variants)} x ptr] [{addresses}]"
    return [*(micro_kernel(s, *variant) for variant in dict.fromkeys(variants)), table]


def declarations(s: Shape) -> list[str]:
    vectors = [s] if s.terms == 1 else [s.operand, replace(s.operand, lanes=s.lanes)]
    return [*multiplication(s),
            *(f"declare {v.type} @llvm.masked.load.{v.suffix}.p0(ptr, i32, <{v.lanes} x i1>, {v.type})" for v in vectors),
            "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
            "declare i64 @llvm.smin.i64(i64, i64)", "declare i64 @llvm.smax.i64(i64, i64)", ""]


def multiply(s: Shape, draft: bool = False) -> str:
    """The loops around the micro-kernel; see the top of the file. In a draft, no operand is read where it lies but along k."""
    f = product_of_tiles("multiply")
    if s.tiles:
        f.line("call void @llvm.x86.ldtilecfg(ptr @tile_registers)")
    all_a, all_b, c, lines = (f.pointer("%scratch", "i8", str(at)) for at in (s.a_at, s.b_at, s.c_at, s.lines_at))
    element = s.operand.llvm
    blocked = f.let("icmp sgt i64 %k, %kc")
    empty = f.let("icmp slt i64 %k, 1")
    k_stop = f.let(f"select i1 {empty}, i64 1, i64 %k")    # without k there is still a block, which stores zeros
    columns = f.let("sub nsw i64 %n1, %n0")
    across = f.let(f"sdiv i64 {f.let(f'add nsw i64 {columns}, {s.nr - 1}')}, {s.nr}")
    group = f.let(f"select i1 %along_k_a, i64 {s.mr}, i64 {s.group}")
    size = f.let(f"mul nsw i64 {f.let('sub nsw i64 %m1, %m0')}, %k")
    far = f.let(f"icmp sgt i64 {size}, {s.nearest}")
    fetches = f.let(f"and i1 {f.let('icmp eq ptr %fill_a, null')}, {far}")
    straight = "%along_k_a" if False in s.layouts else "true"
    step_a = f.let(f"select i1 {straight}, i64 {s.along_a * s.a_stride}, i64 {s.mr}")
    short = f.let(f"icmp sle i64 %k, {SHORT}")
    a_lies, b_lies = ("false", "false") if draft else (_a_where_it_lies(f, s, across, size), _b_where_it_lies(f, s))
    lies = f.let(f"or i1 {a_lies}, {b_lies}")
    dots = _multiplies_along_k(f, s)
    n_packed = _first_packed(f, b_lies, "%n0", "%n1", s.nr, [vectors * s.lanes for vectors in s.widths])
    n_whole = f.let(f"sub nsw i64 %n1, {f.let(f'srem i64 {columns}, {s.nr}')}")
    n_packed = f.let(f"select i1 {dots}, i64 {n_whole}, i64 {n_packed}")
    slack = {pair: f.let(f"load i64, ptr {f.pointer('%slack', 'i64', str(i))}") for i, pair in enumerate(WITHIN)}
    beyond = f.let(f"load i64, ptr {f.pointer('%slack', 'i64', str(len(WITHIN)))}")
    panel_size, to_next, missing = where_b_is_packed(f, s, across, k_stop)
    step_b = f.let(f"mul nsw i64 %kc, {s.packed(s.panel)}") if s.panel < s.nr else str(s.nr)      # to the tile's next panel, or along k
    left_out = f.let(f"sdiv i64 {f.let(f'sub nsw i64 {n_packed}, %n0')}, {s.nr}")
    left_out = f.let(f"mul nsw i64 {left_out}, {panel_size}")
    # How much is packed of what comes next, and at which of two places the group of slivers is.
    f.lines[2:2] = [f"  %{name} = alloca i64" for name in ("ahead_a", "ahead_b", "turn")]
    f.line("store i64 0, ptr %turn")
    in_memory_b = f.let("icmp eq ptr %fill_b, null")
    stripe = f.let(f"select i1 %along_k_b, i64 {STAGE}, i64 %stripe")
    pieces = f.let(f"mul nsw i64 {counted(f, '%kc', stripe)}, {s.nr // s.panel}")
    share_b = counted(f, pieces, counted(f, f.let("sub nsw i64 %m1, %m0"), str(s.mr)))
    with blocks_of_k(f, s, k_stop, all_b, to_next) as (start, depth, b, b_after, last, further):
        def pack_panels(at: str, count: str, out: str, first: str | int, end: str | int) -> None:
            f.line(f"call void @pack_b(ptr %fill_b, i1 %along_k_b, ptr %from_b, ptr %scratch, i64 {n_packed}, i64 %n1, i64 {at}, "
                   f"i64 {count}, ptr {f.pointer(out, element, left_out)}, i64 %kc, i64 %stripe, i64 {first}, i64 {end})")

        def needed_of_a(stop: str, start: str, depth: str) -> str:
            """How many places of a block of k some row before `stop` takes."""
            needed = f.let(f"add nsw i64 {f.let(f'sub nsw i64 {stop}, {start}')}, {slack[WITHIN[0]]}")
            return _between(f, "0", f.let(f"and i64 {f.let(f'add nsw i64 {needed}, {s.step - 1}')}, {-s.step}"), depth)

        def pack_slivers(m: tuple[str, str], k: str, count: str, out: str, first: str, end: str) -> None:
            """Packs of the rows `m` what lies from `first` to `end`: rows, or places along k where rows are side by side."""
            f.line(f"call void @pack_a(ptr %fill_a, i1 %along_k_a, ptr %from_a, ptr %scratch, i64 {m[0]}, "
                   f"i64 {_first_packed(f, a_lies, *m, s.mr, s.row_variants)}, i64 {m[1]}, i64 {k}, i64 {count}, ptr {out}, "
                   f"i64 {first}, i64 {end})")

        with f.when(f.let(f"and i1 {missing}, {f.let(f'xor i1 {further}, true')}")):
            pack_panels(start, depth, b, 0, ALL)
        after = f.let(f"add nsw i64 {start}, {depth}")
        depth_after = f.least(f.let(f"sub nsw i64 %k, {after}"), "%kc")
        packs_ahead = f.let(f"and i1 {missing}, {f.let(f'xor i1 {last}, true')}")
        f.line("store i64 0, ptr %ahead_b")
        with f.when(f.let(f"xor i1 {further}, true")):
            first_stop = f.least("%m1", f.let(f"add nsw i64 %m0, {group}"))
            pack_slivers(("%m0", first_stop), start, needed_of_a(first_stop, start, depth), all_a, "0", str(ALL))
        with f.loop("%m0", "%m1", carry=["0"]) as g:
            g.step = group
            stop = f.least("%m1", f.let(f"add nsw i64 {g.index}, {group}"))
            m_packed = _first_packed(f, a_lies, g.index, stop, s.mr, s.row_variants)
            turn = f.let("load i64, ptr %turn")
            other = f.let(f"xor i64 {turn}, {int(s.ahead)}")
            f.line(f"store i64 {other}, ptr %turn")
            a, a_after = (f.pointer(all_a, f"[{s.group // s.mr * s.sliver} x {element}]", place) for place in (turn, other))
            # The next group, of this block of k or of the one after: it is packed, or only fetched, while this one is multiplied.
            goes_on = f.let(f"icmp slt i64 {stop}, %m1")
            m_after, k_after = (f.let(f"select i1 {goes_on}, i64 {x}, i64 {y}") for x, y in ((stop, "%m0"), (start, after)))
            m_after = m_after, f.least("%m1", f.let(f"add nsw i64 {m_after}, {group}"))
            follows = f.let(f"or i1 {goes_on}, {f.let(f'xor i1 {last}, true')}")
            coming = f.let(f"select i1 {follows}, i64 {f.let(f'sub nsw i64 {m_after[1]}, {m_after[0]}')}, i64 0")
            left = needed_of_a(m_after[1], k_after, f.least(f.let(f"sub nsw i64 %k, {k_after}"), "%kc"))
            outers = f.let(f"select i1 %along_k_a, i64 {coming}, i64 {f.let(f'select i1 {follows}, i64 {left}, i64 0')}")
            rows = f.let(f"sub nsw i64 {stop}, {g.index}")
            part = counted(f, outers, f.let(f"mul nsw i64 {counted(f, rows, str(s.mr))}, {across}"))
            unit = f.let(f"select i1 %along_k_a, i64 {ROWS}, i64 {STRIPE}")
            part = f.let(f"mul nsw i64 {counted(f, part, unit)}, {unit}")
            part = f.let(f"select i1 {short}, i64 {outers}, i64 {part}")
            f.line("store i64 0, ptr %ahead_a")
            with f.loop(g.index, stop, carry=["0", g.carried[0]]) as i:
                i.step = str(s.mr)
                number, first_tile = i.carried
                i.next = [f.let(f"add nsw i64 {number}, 1"), f.let(f"add nsw i64 {first_tile}, {across}")]
                height = f.least(f.let(f"sub nsw i64 {stop}, {i.index}"), str(s.mr))
                outer_a, inner_a = (f.let(f"select i1 %along_k_a, i64 {one}, i64 {other}")
                                    for one, other in ((i.index, start), (start, i.index)))
                sliver, sliver_step = _operand(f, f.let(f"icmp slt i64 {i.index}, {m_packed}"), origin(f, s, outer_a, inner_a, "%from_a"),
                                  (f.pointer(a, f"[{s.sliver} x {element}]", number), step_a))
                asked = f.let(f"add nsw i64 {f.let(f'add nsw i64 {i.index}, {height}')}, {f.let(f'add nsw i64 {beyond}, {PITCH - 1}')}")
                asked = f.let(f"sub nsw i64 {f.let(f'and i64 {asked}, {-PITCH}')}, %n0")
                asked = f.let(f"sdiv i64 {f.let(f'add nsw i64 {asked}, {s.nr - 1}')}, {s.nr}")
                with f.loop("0", f.least(across, asked)) as j:
                    n = f.let(f"add nsw i64 %n0, {f.let(f'mul nsw i64 {j.index}, {s.nr}')}")
                    width = f.least(f.let(f"sub nsw i64 %n1, {n}"), str(s.nr))
                    in_place = f.let(f"icmp slt i64 {n}, {n_packed}")
                    dotted = f.let(f"and i1 {dots}, {in_place}")
                    outer_b, inner_b = (f.let(f"select i1 {dots}, i64 {one}, i64 {other}") for one, other in ((n, start), (start, n)))
                    panel, panel_step = _operand(f, in_place, origin(f, s, outer_b, inner_b, "%from_b"),
                                     (f.pointer(b, element, f.let(f"mul nsw i64 {j.index}, {panel_size}")), step_b))
                    kept = f.let(f"select i1 {blocked}, i64 {f.let(f'add nsw i64 {first_tile}, {j.index}')}, i64 0")
                    tile = f.pointer(c, f"[{s.mr * s.nr} x {s.llvm}]", kept)    # partial sums are kept between blocks of k
                    f.line(f"store i64 1, ptr {lines}")
                    f.line(f"store ptr {tile}, ptr {f.pointer(lines, 'ptr', '1')}")
                    known = f.let(f"and i1 {short}, {f.let(f'icmp sgt i64 {j.index}, 0')}")
                    with f.when(f.let(f"and i1 {last}, {f.let(f'xor i1 {known}, true')}")):
                        f.line(f"call void %touch(ptr %args, ptr %scratch, i64 {i.index}, i64 {height}, i64 {n}, ptr {lines})")
                    with f.when(blocked):
                        list_tile(f, s, tile, lines)
                    begun = f.let("load i64, ptr %ahead_a")
                    share = f.least(part, f.let(f"sub nsw i64 {outers}, {begun}"))
                    to_pack = f.let(f"icmp sgt i64 {share}, 0")
                    with f.when(f.let(f"and i1 {fetches}, {to_pack}")):
                        outer, inner, inners = (f.let(f"select i1 %along_k_a, i64 {one}, i64 {other}") for one, other in (
                            (m_after[0], k_after), (k_after, m_after[0]), (left, coming)))
                        outer = f.let(f"add nsw i64 {outer}, {begun}")
                        f.line(f"call void @ahead(ptr %from_a, i64 {outer}, i64 {share}, i64 {inner}, i64 {inners}, i64 {depth}, "
                               f"ptr {lines})")
                    if s.ahead:
                        pieces = f.let("load i64, ptr %ahead_b")
                        more = f.let(f"add nsw i64 {pieces}, {share_b}")
                        with f.when(f.let(f"and i1 {packs_ahead}, {in_memory_b}")):
                            f.line(f"call void @ahead_of_b(i1 %along_k_b, ptr %from_b, i64 {n_packed}, i64 %n1, i64 {after}, "
                                   f"i64 {depth_after}, i64 {stripe}, i64 {pieces}, i64 {more}, i64 {depth}, ptr {lines})")
                    chosen = _chosen(f, s, height, width, lies, dotted)
                    begin, count = _needed(f, s, slack, (i.index, height), (n, width), start, depth)
                    begin_a = f.let(f"mul nsw i64 {begin}, {f.let(f'select i1 {straight}, i64 {s.along_a}, i64 {sliver_step}')}")
                    along_b = str(s.packed(s.panel)) if s.tiles else f.let(f"select i1 {dotted}, i64 1, i64 {panel_step}")
                    begin_b = f.let(f"mul nsw i64 {begin}, {along_b}")
                    f.line(f"call void {chosen}(ptr {f.pointer(sliver, element, begin_a)}, i64 {sliver_step}, ptr "
                           f"{f.pointer(panel, element, begin_b)}, i64 {panel_step}, i64 {count}, ptr {tile}, i1 {further}, ptr {lines})")
                    with f.when(last):
                        beside = f.let(f"icmp slt i64 {f.let(f'add nsw i64 {n}, {s.nr}')}, %n1")
                        f.line(f"call void %finish(ptr %args, ptr %scratch, i64 {i.index}, i64 {height}, i64 {n}, i64 {width}, ptr {tile}, "
                               f"i1 {f.let(f'and i1 {short}, {beside}')})")
                    ended = f.let(f"add nsw i64 {begun}, {share}")
                    f.line(f"store i64 {ended}, ptr %ahead_a")
                    if s.ahead:
                        with f.when(to_pack):
                            pack_slivers(m_after, k_after, left, a_after, begun, ended)
                        with f.when(packs_ahead):
                            pack_panels(after, depth_after, b_after, pieces, more)
                            f.line(f"store i64 {more}, ptr %ahead_b")
            with f.when(follows):
                pack_slivers(m_after, k_after, left, a_after, f.let("load i64, ptr %ahead_a") if s.ahead else "0", str(ALL))
            g.next = [i.carried[1]]
        with f.when(packs_ahead):
            pack_panels(after, depth_after, b_after, f.let("load i64, ptr %ahead_b"), ALL)
    if s.tiles:
        f.line("call void @llvm.x86.tilerelease()")
    return f.text()


def product_of_tiles(name: str) -> Function:
    """A function with the parameters of `multiply`."""
    return Function(f"define void @{name}(ptr %args, ptr %scratch, i64 %m0, i64 %m1, i64 %n0, i64 %n1, i64 %k, i64 %kc, ptr %from_a, "
                    "ptr %fill_a, i1 %along_k_a, ptr %from_b, ptr %fill_b, i1 %along_k_b, i64 %stripe, i1 %keep, i1 %packed, ptr %touch, "
                    "ptr %finish, ptr %slack)")


@contextmanager
def blocks_of_k(f: Function, s: Shape, k_stop: str, all_b: str, to_next: str):
    """The loop over blocks of k: (where the block begins, how long it is, where B is packed for it, and for the next one, whether it is the
    last, whether there was one before)."""
    beside = to_next if s.ahead else f.let(f"select i1 %keeps, i64 {to_next}, i64 0")
    with f.loop("0", k_stop, carry=["0", beside]) as p:
        p.step = "%kc"
        here, there = p.carried
        p.next = [there, f.let(f"select i1 %keeps, i64 {f.let(f'add nsw i64 {there}, {to_next}')}, i64 {here}")]
        b, b_after = (f.pointer(all_b, s.operand.llvm, offset) for offset in p.carried)
        left = f.let(f"sub nsw i64 %k, {p.index}")
        depth = f.least(left, "%kc")
        last = f.let(f"icmp sle i64 {left}, %kc")
        yield p.index, depth, b, b_after, last, f.let(f"icmp sgt i64 {p.index}, 0")


def where_b_is_packed(f: Function, s: Shape, across: str, k_stop: str) -> tuple[str, str, str]:
    """Elements of a panel of B, and from one block of k to the next; whether B must be packed."""
    panel_size = f.let(f"mul nsw i64 %kc, {s.packed(s.nr)}")
    block_size = f.let(f"mul nsw i64 {across}, {panel_size}")
    whole = f.let(f"mul nsw i64 {counted(f, k_stop, '%kc')}, {block_size}")
    fits = f.let(f"icmp sle i64 {whole}, {s.packed(s.nc * s.kc)}")
    f.line(f"%keeps = and i1 %keep, {fits}")       # else blocks of k take turns in two places, or in one
    return panel_size, block_size, f.let(f"xor i1 {f.let(f'and i1 %packed, {fits}')}, true")


def _a_where_it_lies(f: Function, s: Shape, across: str, size: str) -> str:
    """Whether A is read where it lies: few panels read it, or its rows are side by side and a sliver's fill most of a line of memory; and
    what is read does not fall into the same sets of the cache. Several places along k that are taken at once must all be there. Tile
    registers take whole lines, from the second level cache as well."""
    if s.instruction == SLICES:
        return "false"
    in_memory = f.let("icmp eq ptr %fill_a, null")
    if s.terms > 1:
        whole = f.let(f"icmp eq i64 {f.let(f'and i64 %k, {s.step - 1}')}, 0")
        in_memory = f.let(f"and i1 {f.let(f'and i1 {in_memory}, {whole}')}, %along_k_a")
        if s.instruction == TILES:
            return in_memory
    few = f.let(f"icmp sle i64 {across}, {FEW_PANELS}")
    _, stride = origin(f, s, "0", "0", "%from_a")
    crowded = f.let(f"icmp eq i64 {f.let(f'and i64 {stride}, {PAGE // 2 // s.operand.bytes - 1}')}, 0")
    if s.mr * s.bytes > cpu.LINE // 2:
        few, unfit = f.let(f"or i1 {few}, {f.let('xor i1 %along_k_a, true')}"), crowded
    else:
        large = f.let(f"icmp sgt i64 {size}, {s.near // 4}")        # columns are read some bytes of a line at a time
        unfit = f.let(f"select i1 %along_k_a, i1 {crowded}, i1 {large}")
    return f.let(f"and i1 {f.let(f'and i1 {in_memory}, {few}')}, {f.let(f'xor i1 {unfit}, true')}")


def _b_where_it_lies(f: Function, s: Shape) -> str:
    """Whether B is read where it lies: it lies as a panel does, and few slivers read it."""
    in_memory = f.let("icmp eq ptr %fill_b, null")
    as_panel = f.let("xor i1 %along_k_b, true")
    return f.let(f"and i1 {f.let(f'and i1 {in_memory}, {as_panel}')}, {leaves_b(f, s, '%m0', '%m1')}")


def leaves_b(f: Function, s: Shape, m0: str, m1: str) -> str:
    """Whether a B in memory that lies as a panel does is left there for these rows."""
    return "false" if s.instruction != FMA else f.let(f"icmp sle i64 {f.let(f'sub nsw i64 {m1}, {m0}')}, {FEW_SLIVERS * s.mr}")


def _multiplies_along_k(f: Function, s: Shape) -> str:
    """Whether both operands are multiplied along k where they lie: where transposing B would take as long as multiplying it by few rows."""
    if not s.dot_heights:
        return "false"
    few = f.let(f"icmp sle i64 {f.let('sub nsw i64 %m1, %m0')}, {s.dot_heights[-1]}")
    along = f.let("and i1 %along_k_a, %along_k_b")
    return f.let(f"and i1 {f.let(f'and i1 {few}, {along}')}, {f.let('icmp eq ptr %fill_b, null')}")


def _first_packed(f: Function, lies: str, begin: str, end: str, unit: int, sizes: list[int]) -> str:
    """The first of the rows [begin, end) that is packed: where an operand is read where it `lies`, those of an edge for which there is no
    micro-kernel of its own size."""
    left = f.let(f"srem i64 {f.let(f'sub nsw i64 {end}, {begin}')}, {unit}")
    covered = "false"
    for size in sizes:
        covered = f.let(f"or i1 {covered}, {f.let(f'icmp eq i64 {left}, {size}')}")
    edge = f.let(f"select i1 {covered}, i64 0, i64 {left}")
    return f.let(f"select i1 {lies}, i64 {f.let(f'sub nsw i64 {end}, {edge}')}, i64 {begin}")


def _operand(f: Function, lies: str, matrix: tuple[str, str], packed: tuple[str, str]) -> tuple[str, str]:
    """An operand's address and step for a micro-kernel."""
    return f.let(f"select i1 {lies}, ptr {matrix[0]}, ptr {packed[0]}"), f.let(f"select i1 {lies}, i64 {matrix[1]}, i64 {packed[1]}")


def _needed(f: Function, s: Shape, slack: dict, rows: tuple[str, str], columns: tuple[str, str], start: str, depth: str) -> tuple[str, str]:
    """Which of the places [start, start + depth) along k some tile of (first, how many) rows and columns takes: the first, counted from
    `start`, and how many."""
    (m, height), (n, width) = rows, columns
    m_end, n_end = f.let(f"add nsw i64 {m}, {height}"), f.let(f"add nsw i64 {n}, {width}")
    end = f.least(*(f.let(f"add nsw i64 {edge}, {slack[pair]}") for edge, pair in ((m_end, ("k", "m")), (n_end, ("k", "n")))))
    first = [f.let(f"sub nsw i64 {edge}, {slack[pair]}") for edge, pair in ((m, ("m", "k")), (n, ("n", "k")))]
    begin = f.let(f"call i64 @llvm.smax.i64(i64 {first[0]}, i64 {first[1]})")
    stops = [f.let(f"add nsw i64 {edge}, {slack[pair]}") for edge, pair in ((m_end, ("n", "m")), (n_end, ("m", "n")))]
    used = [f.let(f"icmp slt i64 {edge}, {stop}") for edge, stop in zip((n, m), stops)]
    end = f.let(f"select i1 {f.let(f'and i1 {used[0]}, {used[1]}')}, i64 {end}, i64 0")
    begin = f.let(f"call i64 @llvm.smax.i64(i64 {f.let(f'sub nsw i64 {begin}, {start}')}, i64 0)")
    begin = f.least(f.let(f"and i64 {begin}, {-s.step}"), depth)      # none, where all of k is before it
    return begin, f.let(f"sub nsw i64 {_between(f, begin, f.let(f'sub nsw i64 {end}, {start}'), depth)}, {begin}")


def _between(f: Function, least: str, value: str, most: str) -> str:
    return f.let(f"call i64 @llvm.smax.i64(i64 {least}, i64 {f.least(value, most)})")


def list_tile(f: Function, s: Shape, tile: str, lines: str) -> None:
    """Lists the lines of a tile of partial sums."""
    count = f.let(f"load i64, ptr {lines}")
    entry = f.pointer(lines, "ptr", count)
    starts = range(0, s.mr * s.nr * s.bytes, SPAN)
    for i, at in enumerate(starts, 1):
        f.line(f"store ptr {f.pointer(tile, 'i8', str(at))}, ptr {f.pointer(entry, 'ptr', str(i))}")
    f.line(f"store i64 {f.let(f'add nsw i64 {count}, {len(starts)}')}, ptr {lines}")


def rank(f: Function, value: str, unit: int, sizes: list[int]) -> str:
    """The number of the first of the sizes, `unit` each, that covers a value."""
    number = "0"
    for size in sizes[:-1]:
        larger = f.let(f"icmp sgt i64 {value}, {size * unit}")
        number = f.let(f"add nsw i64 {number}, {f.let(f'zext i1 {larger} to i64')}")
    return number


def _chosen(f: Function, s: Shape, height: str, width: str, lies: str, dots: str) -> str:
    """Address of the lowest and narrowest micro-kernel that covers height x width; those of edges do for packed operands, too."""
    along = f.let("zext i1 %along_k_a to i64") if len(s.layouts) > 1 else "0"
    row, column = rank(f, height, 1, s.row_variants), rank(f, width, s.lanes, s.widths)
    number = f.let(f"add nsw i64 {f.let(f'mul nsw i64 {along}, {len(s.widths)}')}, {column}")      # the order of `module`
    number = f.let(f"add nsw i64 {f.let(f'mul nsw i64 {number}, {len(s.row_variants)}')}, {row}")
    size = f.let(f"add nsw i64 {f.let(f'mul nsw i64 {column}, {len(s.row_variants)}')}, {row}")
    whole = f.let(f"icmp eq i64 {size}, {len(s.widths) * len(s.row_variants) - 1}")
    packed = f.let(f"and i1 {whole}, {f.let(f'xor i1 {lies}, true')}")
    number = f.let(f"select i1 {packed}, i64 {along}, i64 {f.let(f'add nsw i64 {number}, {len(s.layouts)}')}")
    if s.dot_heights:
        first = len(s.layouts) * (1 + len(s.widths) * len(s.row_variants))
        along_k = f.let(f"add nsw i64 {rank(f, height, 1, s.dot_heights)}, {first}")
        number = f.let(f"select i1 {dots}, i64 {along_k}, i64 {number}")
    return f.let(f"load ptr, ptr {f.pointer('@micro_kernels', 'ptr', number)}")
