"""Packing the operands of a product: panels of B and slivers of A as the micro-kernels read them (`multiply.py` tells what a `fill` is)."""

from __future__ import annotations

from dataclasses import replace

from .microkernel import ENTRIES, SPAN, STAGE, STRIPE, Function, Shape, load_vector, mask_of, origin, prefetch, splat, spread, store_vector

AT_ONCE = 8           # entries listed together
ALL = 1 << 40         # pieces, however many there are
FILL = "(ptr noalias readonly %from, ptr noalias readonly %scratch, i64 %row, i64 %rows, i64 %k, i64 %count, ptr noalias %out) noinline"


def rows_along_k(s: Shape) -> str:
    """The `fill` of A in memory, contiguous along k: out[row][a_stride]."""
    f = Function("define internal void @rows_along_k" + FILL)
    source, stride = origin(f, s, "%row", "%k")
    e = s.operand
    whole = f.let(f"and i64 %count, {-e.lanes}")
    left = f.let(f"sub nsw i64 %count, {whole}")
    with f.loop("0", "%rows") as r:
        row = f.pointer(source, e.llvm, f.let(f"mul nsw i64 {r.index}, {stride}"))
        out = f.pointer("%out", f"[{s.a_stride} x {e.llvm}]", r.index)
        with f.loop("0", whole) as k:
            k.step = str(e.lanes)
            store_vector(f, e, load_vector(f, e, f.pointer(row, e.llvm, k.index)), f.pointer(out, e.llvm, k.index))
        with f.when(f.let(f"icmp sgt i64 {left}, 0")):
            store_vector(f, e, load_vector(f, e, f.pointer(row, e.llvm, whole), mask_of(f, e, left)), f.pointer(out, e.llvm, whole))
    return f.text()


def side(s: Shape, width: int, fetches: bool) -> str:
    """The `fill` of an operand in memory, contiguous along its rows: out[k][width]. If it `fetches`, the lines `count` places further along
    k; else its own have been fetched before.

    Writes whole vectors: beyond the end of a row of `out`, which the next one overwrites. Pairs along k are made of two rows, the last
    one with zeros where there is no second.
    """
    f = Function(f"define internal void @side_{width}{'' if fetches else '_fetched'}{FILL}")
    source, stride = origin(f, s, "%k", "%row")
    ahead, e = f.let(f"mul nsw i64 %count, {stride}"), s.operand.llvm

    def copy_rows(k: str, count: int, masks: list[str]) -> None:
        row, out = f.pointer(source, e, f.let(f"mul nsw i64 {k}, {stride}")), f.pointer("%out", f"[{width} x {e}]", k)
        for v, mask in enumerate(masks):
            places = [f.pointer(row, e, str(v * s.lanes))]
            places += [f.pointer(places[0], e, stride)] * (count - 1)
            for at in places if fetches else ():
                prefetch(f, f.pointer(at, e, ahead))
            values = load_vector(f, s, places[0], mask) if s.terms == 1 else _paired(f, s, places, mask)
            store_vector(f, s, values, f.pointer(out, s.llvm, str(v * s.lanes)))

    def copy(masks: list[str]) -> None:
        whole = f.let(f"and i64 %count, {-s.terms}")
        with f.loop("0", whole) as k:
            k.step = str(s.terms)
            copy_rows(k.index, s.terms, masks)
        if s.terms > 1:
            with f.when(f.let(f"icmp slt i64 {whole}, %count")):
                copy_rows(whole, 1, masks)

    starts = range(0, width, s.lanes)
    full = f.let(f"icmp eq i64 %rows, {width}")
    with f.when(full):
        copy([f"<{', '.join(f'i1 {int(v + i < width)}' for i in range(s.lanes))}>" if width - v < s.lanes else "" for v in starts])
    with f.when(f.let(f"xor i1 {full}, true")):
        copy([mask_of(f, s, f.let(f"sub nsw i64 %rows, {v}")) for v in starts])
    return f.text()


def _paired(f: Function, s: Shape, places: list[str], mask: str) -> str:
    """A vector of pairs: the elements at an address, each with the one at a second address, or with zero if there is none."""
    half, whole = replace(s.operand, lanes=s.lanes), f"<{s.lanes} x i32>"
    pairs, *second = (f.let(f"zext {half.type} {load_vector(f, half, at, mask)} to {whole}") for at in places)
    for high in second:
        high = f.let(f"shl {whole} {high}, {splat(whole, f'i32 {8 * half.bytes}')}")
        pairs = f.let(f"or {whole} {pairs}, {high}")
    return f.let(f"bitcast {whole} {pairs} to {s.type}")


def transposes(s: Shape) -> list[str]:
    """Panels of B, and where micro-kernels read A along k alone, slivers of it whose rows were side by side."""
    return [transpose(s, "transpose", s.panel)] + [transpose(s, "turn", s.a_stride // s.terms)] * (False not in s.layouts)


def transpose(s: Shape, name: str, pitch: int) -> str:
    """`panel[k][pitch] = source[row][k]` for k < count and row < rows, in squares of lanes x lanes; `stride` elements from row to row.
    Where elements are packed in pairs, these change places.

    Writes whole squares: up to lanes - 1 places along k beyond the panel's end, which whoever packs next overwrites, and some row again
    where there are no more.
    """
    f = Function(f"define internal void @{name}(ptr noalias readonly captures(none) %source, i64 %stride, i64 %rows, i64 %count, "
                 "ptr noalias captures(none) %panel) noinline")
    e = s.operand
    final = f.let("sub nsw i64 %rows, 1")
    with f.loop("0", "%rows") as column:
        column.step = str(s.lanes)
        present = [f.least(f.let(f"add nsw i64 {column.index}, {r}"), final) for r in range(s.lanes)]
        starts = [f.pointer("%source", e.llvm, f.let(f"mul nsw i64 {r}, %stride")) for r in present]
        with f.loop("0", "%count") as k:        # one square, its last masked: what shuffles vectors takes long to compile
            k.step = str(e.lanes)
            at = f.pointer("%panel", f"[{pitch} x {e.llvm}]", k.index)
            at = f.pointer(at, s.llvm, column.index)
            mask = mask_of(f, e, f.let(f"sub nsw i64 %count, {k.index}"))
            rows = [load_vector(f, e, f.pointer(start, e.llvm, k.index), mask) for start in starts]
            if s.terms > 1:
                rows = [f.let(f"bitcast {e.type} {row} to {s.type}") for row in rows]
            for i, row in enumerate(transposed(f, s.type, rows)):
                store_vector(f, s, row, f.pointer(at, s.llvm, str(i * pitch)))
    return f.text()


def transposed(f: Function, vector: str, rows: list[str]) -> list[str]:
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
    f, e = Function("define internal void @clear(ptr noalias %out, i64 %count)"), s.operand
    with f.loop("0", "%count") as i:
        i.step = str(e.lanes)
        f.line(f"store {e.type} zeroinitializer, ptr {f.pointer('%out', e.llvm, i.index)}, align {e.bytes}")
    return f.text()


def _clear_rest(f: Function, s: Shape, out: str, width: str, at: str = "0", length: str = "%count") -> None:
    """Where k ends within a step of the micro-kernels that begins in [at, at + length), the elements of that step become zero before they
    are packed."""
    whole = f.let(f"and i64 %count, {-s.step}")
    end = f.let(f"add nsw i64 {at}, {length}")
    begun = f.let(f"and i1 {f.let(f'icmp sle i64 {at}, {whole}')}, {f.let(f'icmp slt i64 {whole}, {end}')}")
    with f.when(begun):
        first = f.let(f"mul nsw i64 {whole}, {width}")
        f.line(f"call void @clear(ptr {f.pointer(out, s.operand.llvm, first)}, i64 {f.let(f'mul nsw i64 {width}, {s.step}')})")


def pack(s: Shape) -> str:
    """Packs pieces [first, last) of panels side by side, panel[k][width] each, `step` elements from one to the next. A piece is `stripe`
    places along k of a panel; pieces of all panels come in turn.

    Columns that do not exist become zero, so that no arithmetic is done on chance bits; so does what is missing of the last step of k.
    """
    f = Function("define internal void @pack(ptr %fill, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, ptr %out, "
                 "i64 %width, i64 %step, i64 %stripe, i64 %first, i64 %last) noinline")
    panels = counted(f, f.let("sub nsw i64 %stop, %row"), "%width")
    pieces = f.let(f"mul nsw i64 {panels}, {counted(f, '%count', '%stripe')}")
    with f.loop("%first", f.least("%last", pieces)) as piece:
        at = f.let(f"mul nsw i64 {f.let(f'sdiv i64 {piece.index}, {panels}')}, %stripe")
        panel = f.let(f"srem i64 {piece.index}, {panels}")
        row = f.let(f"add nsw i64 %row, {f.let(f'mul nsw i64 {panel}, %width')}")
        rows = f.least(f.let(f"sub nsw i64 %stop, {row}"), "%width")
        start = f.pointer("%out", s.operand.llvm, f.let(f"mul nsw i64 {panel}, %step"))
        length = f.least(f.let(f"sub nsw i64 %count, {at}"), "%stripe")
        out = f.pointer(start, s.operand.llvm, f.let(f"mul nsw i64 {at}, %width"))
        if s.step > 1:
            _clear_rest(f, s, start, "%width", at, length)
        with f.when(f.let(f"icmp slt i64 {rows}, %width")):
            f.line(f"call void @clear(ptr {out}, i64 {f.let(f'mul nsw i64 {length}, %width')})")
        k = f.let(f"add nsw i64 %k, {at}")
        f.line(f"call void %fill(ptr %from, ptr %scratch, i64 {row}, i64 {rows}, i64 {k}, i64 {length}, ptr {out})")
    return f.text()


def counted(f: Function, size: str, unit: str) -> str:
    """How many units cover a size."""
    more = f.let(f"add nsw i64 {size}, {f.let(f'sub nsw i64 {unit}, 1')}")
    return f.let(f"sdiv i64 {more}, {unit}")


def _or_own(f: Function, own: str) -> str:
    """A product's `fill`, or ours for operands in memory."""
    return f.let(f"select i1 {f.let('icmp eq ptr %fill, null')}, ptr @{own}, ptr %fill")


def _copying(f: Function, width: int, size: str, whole: str) -> str:
    """A product's `fill`, or ours for operands in memory whose rows are side by side: what is not packed as a `whole` has been fetched."""
    own = f.let(f"select i1 {f.let(f'icmp slt i64 {size}, {whole}')}, ptr @side_{width}_fetched, ptr @side_{width}")
    return f.let(f"select i1 {f.let('icmp eq ptr %fill, null')}, ptr {own}, ptr %fill")


def pack_a(s: Shape) -> str:
    """Packs slivers of A, a[k][mr] or a[row][a_stride] each, from row `row`: what lies in [first, last) of the places along k or, where A
    lies so, of the rows from `begin` on, which are at the beginning of `out`. Rows that do not exist are not cleared: nobody looks at
    their sums."""
    f = Function("define internal void @pack_a(ptr %fill, i1 %along_k, ptr %from, ptr %scratch, i64 %begin, i64 %row, i64 %stop, i64 %k, "
                 "i64 %count, ptr %out, i64 %first, i64 %last) noinline")
    f.line("br i1 %along_k, label %straight, label %side")
    f.label("side")
    number = f.let(f"sdiv i64 {f.let('sub nsw i64 %row, %begin')}, {s.mr}")
    start = f.pointer("%out", f"[{s.sliver} x {s.operand.llvm}]", number)
    if s.ahead:
        k, places = f.let("add nsw i64 %k, %first"), f.let(f"sub nsw i64 {f.least('%last', '%count')}, %first")
        start = f.pointer(start, f"[{s.mr} x {s.operand.llvm}]", "%first")
        stripe = f.let(f"select i1 {f.let(f'icmp slt i64 {places}, %count')}, i64 {STAGE}, i64 {STRIPE}")
        fill = _copying(f, s.mr, places, "%count")
        f.line(f"call void @pack(ptr {fill}, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 {k}, i64 {places}, ptr {start}, "
               f"i64 {s.mr}, i64 {s.sliver}, i64 {stripe}, i64 0, i64 {ALL})")
    else:
        _turn_slivers(f, s, start)
    f.line("ret void")
    f.label("straight")
    row = f.let(f"call i64 @llvm.smax.i64(i64 %row, i64 {f.let('add nsw i64 %begin, %first')})")
    stop = f.least("%stop", f.let("add nsw i64 %begin, %last"))
    rows = f.let(f"sub nsw i64 {stop}, {row}")
    start = f.pointer("%out", f"[{s.a_stride} x {s.operand.llvm}]", f.let(f"sub nsw i64 {row}, %begin"))
    if s.terms > 1:
        with f.loop("0", rows) as each:
            _clear_rest(f, s, f.pointer(start, f"[{s.a_stride} x {s.operand.llvm}]", each.index), "1")
    with f.when(f.let(f"icmp sgt i64 {rows}, 0")):
        f.line(f"call void {_or_own(f, 'rows_along_k')}(ptr %from, ptr %scratch, i64 {row}, i64 {rows}, i64 %k, i64 %count, ptr {start})")
    return f.text()


def _turn_slivers(f: Function, s: Shape, first: str) -> None:
    """Packs slivers whose rows are side by side as out[row][a_stride], by way of out[k][mr] in a stage: all of them for each stage, so that
    memory is read in long runs."""
    element, stage = s.operand.llvm, f.pointer("%scratch", "i8", str(s.stage_at))
    fill = _or_own(f, f"side_{s.mr}")
    with f.loop("0", "%count") as at:
        at.step = str(STAGE)
        length = f.least(f.let(f"sub nsw i64 %count, {at.index}"), str(STAGE))
        k = f.let(f"add nsw i64 %k, {at.index}")
        with f.loop("%row", "%stop", carry=["0"]) as row:
            row.step = str(s.mr)
            row.next = [f.let(f"add nsw i64 {row.carried[0]}, {s.sliver}")]
            rows = f.least(f.let(f"sub nsw i64 %stop, {row.index}"), str(s.mr))
            with f.when(f.let(f"icmp slt i64 {f.let(f'mul nsw i64 {length}, {rows}')}, {STAGE * s.mr}")):
                f.line(f"call void @clear(ptr {stage}, i64 {STAGE * s.mr})")
            f.line(f"call void {fill}(ptr %from, ptr %scratch, i64 {row.index}, i64 {rows}, i64 {k}, i64 {length}, ptr {stage})")
            steps = f.let(f"sdiv i64 {f.let(f'add nsw i64 {length}, {s.step - 1}')}, {s.step}")
            out = f.pointer(first, element, row.carried[0], at.index)
            f.line(f"call void @turn(ptr {stage}, i64 {s.mr * s.terms}, i64 {f.let(f'mul nsw i64 {steps}, {s.step // s.terms}')}, "
                   f"i64 {s.mr * s.terms}, ptr {out})")


def pack_b(s: Shape) -> str:
    """Packs pieces [first, last) of the panels of columns [row, stop) of B, b[k][panel] each, `kc` rows apart."""
    f = Function("define internal void @pack_b(ptr %fill, i1 %along_k, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, "
                 "ptr %out, i64 %kc, i64 %stripe, i64 %first, i64 %last) noinline")
    step = f.let(f"mul nsw i64 %kc, {s.panel}")
    stage = f.pointer("%scratch", "i8", str(s.stage_at))
    own = f.let("icmp eq ptr %fill, null")
    f.line("br i1 %along_k, label %transposed, label %side")
    f.label("side")
    copy = _copying(f, s.panel, f.let("sub nsw i64 %last, %first"), str(ALL))
    f.line(f"call void @pack(ptr {copy}, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, ptr %out, "
           f"i64 {s.panel}, i64 {step}, i64 %stripe, i64 %first, i64 %last)")
    f.line("ret void")
    f.label("transposed")
    stages = counted(f, "%count", str(STAGE))
    pieces = f.let(f"mul nsw i64 {stages}, {counted(f, f.let('sub nsw i64 %stop, %row'), str(s.panel))}")
    with f.loop("%first", f.least("%last", pieces)) as piece:
        panel = f.let(f"sdiv i64 {piece.index}, {stages}")
        at = f.let(f"mul nsw i64 {f.let(f'srem i64 {piece.index}, {stages}')}, {STAGE}")
        length = f.least(f.let(f"sub nsw i64 %count, {at}"), str(STAGE))
        k = f.let(f"add nsw i64 %k, {at}")
        row = f.let(f"add nsw i64 %row, {f.let(f'mul nsw i64 {panel}, {s.panel}')}")
        rows = f.least(f.let(f"sub nsw i64 %stop, {row}"), str(s.panel))
        out = f.pointer("%out", s.operand.llvm, f.let(f"mul nsw i64 {panel}, {step}"), f.let(f"mul nsw i64 {at}, {s.panel}"))
        with f.when(own):
            source, stride = origin(f, s, row, k)
            f.line(f"call void @transpose(ptr {source}, i64 {stride}, i64 {rows}, i64 {length}, ptr {out})")
        with f.when(f.let(f"xor i1 {own}, true")):
            f.line(f"call void %fill(ptr %from, ptr %scratch, i64 {row}, i64 {rows}, i64 {k}, i64 {length}, ptr {stage})")
            f.line(f"call void @transpose(ptr {stage}, i64 {s.stage_stride}, i64 {rows}, i64 {length}, ptr {out})")
    return f.text()


def ahead(s: Shape) -> str:
    """Lists places [outer, outer + outers) x [inner, inner + inners) of an operand in memory: as many as the steps of k allow."""
    f = Function("define internal void @ahead(ptr noalias readonly %from, i64 %outer, i64 %outers, i64 %inner, i64 %inners, "
                 "i64 %k, ptr noalias %lines) noinline")
    source, stride = origin(f, s, "%outer", "%inner")
    stride, nbytes = (f.let(f"mul nsw i64 {size}, {s.operand.bytes}") for size in (stride, "%inners"))
    count = f.let("load i64, ptr %lines")
    kind = f"<{AT_ONCE} x i64>"
    steps = f.let(f"mul {kind} {spread(f, AT_ONCE, 'i64', stride)}, <{', '.join(f'i64 {i}' for i in range(AT_ONCE))}>")
    with f.loop("0", "%outers", carry=[count]) as o:
        o.step = str(AT_ONCE)
        rows = f.pointer(source, "i8", f.let(f"mul nsw i64 {o.index}, {stride}"))
        present = f.least(f.let(f"sub nsw i64 %outers, {o.index}"), str(AT_ONCE))
        with f.loop("0", nbytes, carry=[o.carried[0]]) as at:
            at.step = str(SPAN)
            place = f.least(at.carried[0], str(ENTRIES - AT_ONCE))
            places = f.let(f"getelementptr i8, ptr {f.pointer(rows, 'i8', at.index)}, {kind} {steps}")
            f.line(f"store <{AT_ONCE} x ptr> {places}, ptr {f.pointer('%lines', 'ptr', place, '1')}, align 8")
            at.next = [f.let(f"add nsw i64 {place}, {present}")]
        o.next = [at.carried[0]]
    most = f.let(f"call i64 @llvm.smax.i64(i64 {count}, i64 {f.let(f'sdiv i64 %k, {s.pace}')})")
    f.line(f"store i64 {f.least(o.carried[0], most)}, ptr %lines")
    return f.text()


def ahead_of_b(s: Shape) -> str:
    """Lists what `pack_b` reads of B, which lies in memory, for pieces [first, last): those that lie beside each other together."""
    f = Function("define internal void @ahead_of_b(i1 %along_k, ptr %from, i64 %row, i64 %stop, i64 %k, i64 %count, i64 %stripe, "
                 "i64 %first, i64 %last, i64 %depth, ptr %lines) noinline")
    panels, stripes = counted(f, f.let("sub nsw i64 %stop, %row"), str(s.panel)), counted(f, "%count", "%stripe")
    beside = f.let(f"select i1 %along_k, i64 {stripes}, i64 {panels}")
    end = f.least("%last", f.let(f"mul nsw i64 {panels}, {stripes}"))
    with f.loop("%first", end) as piece:
        one, other = f.let(f"sdiv i64 {piece.index}, {beside}"), f.let(f"srem i64 {piece.index}, {beside}")
        piece.step = f.least(f.let(f"sub nsw i64 {end}, {piece.index}"), f.let(f"sub nsw i64 {beside}, {other}"))
        sides = []
        across_k = f.let("xor i1 %along_k, true")
        for along, unit, size in (("%along_k", "%stripe", "%count"), (across_k, str(s.panel), f.let("sub nsw i64 %stop, %row"))):
            start = f.let(f"mul nsw i64 {f.let(f'select i1 {along}, i64 {other}, i64 {one}')}, {unit}")
            length = f.let(f"mul nsw i64 {f.let(f'select i1 {along}, i64 {piece.step}, i64 1')}, {unit}")
            sides.append((start, f.least(length, f.let(f"sub nsw i64 {size}, {start}"))))
        (at, length), (row, rows) = sides
        k, row = f.let(f"add nsw i64 %k, {at}"), f.let(f"add nsw i64 %row, {row}")
        places = (f.let(f"select i1 %along_k, i64 {x}, i64 {y}") for x, y in ((row, k), (rows, length), (k, row), (length, rows)))
        f.line(f"call void @ahead(ptr %from, {', '.join(f'i64 {x}' for x in places)}, i64 %depth, ptr %lines)")
    return f.text()
