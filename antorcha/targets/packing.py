"""Packing the operands of a product: panels of B and slivers of A as the micro-kernels read them (`multiply.py` tells what a `fill` is)."""

from __future__ import annotations

from dataclasses import replace

from .microkernel import ENTRIES, SPAN, STAGE, STRIPE, Function, Shape, load_vector, mask_of, origin, prefetch, splat, store_vector

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


def side(s: Shape, width: int) -> str:
    """The `fill` of an operand in memory, contiguous along its rows: out[k][width]. The lines `count` places further along k are fetched.

    Writes whole vectors: beyond the end of a row of `out`, which the next one overwrites. Pairs along k are made of two rows, the last
    one with zeros where there is no second.
    """
    f = Function(f"define internal void @side_{width}{FILL}")
    source, stride = origin(f, s, "%k", "%row")
    ahead, e = f.let(f"mul nsw i64 %count, {stride}"), s.operand.llvm

    def copy_rows(k: str, count: int, masks: list[str]) -> None:
        row, out = f.pointer(source, e, f.let(f"mul nsw i64 {k}, {stride}")), f.pointer("%out", f"[{width} x {e}]", k)
        for v, mask in enumerate(masks):
            places = [f.pointer(row, e, str(v * s.lanes))]
            places += [f.pointer(places[0], e, stride)] * (count - 1)
            for at in places:
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


def _clear_rest(f: Function, s: Shape, out: str, width: str) -> None:
    """Where k ends within a step of the micro-kernels, the elements of that step become zero before they are packed."""
    if s.step > 1:
        rest = f.let(f"and i64 %count, {s.step - 1}")
        with f.when(f.let(f"icmp ne i64 {rest}, 0")):
            first = f.let(f"mul nsw i64 {f.let(f'sub nsw i64 %count, {rest}')}, {width}")
            f.line(f"call void @clear(ptr {f.pointer(out, s.operand.llvm, first)}, i64 {f.let(f'mul nsw i64 {width}, {s.step}')})")


def pack(s: Shape) -> str:
    """Packs panels side by side, panel[k][width] each, `step` elements from one to the next.

    Columns that do not exist become zero, so that no arithmetic is done on chance bits; so does what is missing of the last step of k.
    """
    f = Function("define internal void @pack(ptr %fill, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, ptr %out, "
                 "i64 %width, i64 %step, i64 %stripe) noinline")
    if s.step > 1:
        with f.loop("%row", "%stop", carry=["0"]) as row:
            row.step = "%width"
            row.next = [f.let(f"add nsw i64 {row.carried[0]}, %step")]
            _clear_rest(f, s, f.pointer("%out", s.operand.llvm, row.carried[0]), "%width")
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
            panel = f.pointer("%out", s.operand.llvm, row.carried[0])
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
    if False in s.layouts:
        f.line(f"call void @pack(ptr {_or_own(f, f'side_{s.mr}')}, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, "
               f"ptr %out, i64 {s.mr}, i64 {s.sliver}, i64 {STRIPE})")
    else:
        _turn_slivers(f, s)
    f.line("ret void")
    f.label("straight")
    rows = f.let("sub nsw i64 %stop, %row")
    if s.terms > 1:
        with f.loop("0", rows) as row:
            _clear_rest(f, s, f.pointer("%out", f"[{s.a_stride} x {s.operand.llvm}]", row.index), "1")
    f.line(f"call void {_or_own(f, 'rows_along_k')}(ptr %from, ptr %scratch, i64 %row, i64 {rows}, i64 %k, i64 %count, ptr %out)")
    return f.text()


def _turn_slivers(f: Function, s: Shape) -> None:
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
            out = f.pointer("%out", element, row.carried[0], at.index)
            f.line(f"call void @turn(ptr {stage}, i64 {s.mr * s.terms}, i64 {f.let(f'mul nsw i64 {steps}, {s.step // s.terms}')}, "
                   f"i64 {s.mr * s.terms}, ptr {out})")


def pack_b(s: Shape) -> str:
    """Packs the panels of columns [row, stop) of B, b[k][panel] each, `kc` rows apart."""
    f = Function("define internal void @pack_b(ptr %fill, i1 %along_k, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, "
                 "ptr %out, i64 %kc, i64 %stripe) noinline")
    step = f.let(f"mul nsw i64 %kc, {s.panel}")
    stage = f.pointer("%scratch", "i8", str(s.stage_at))
    own = f.let("icmp eq ptr %fill, null")
    f.line("br i1 %along_k, label %transposed, label %side")
    f.label("side")
    f.line(f"call void @pack(ptr {_or_own(f, f'side_{s.panel}')}, ptr %from, ptr %scratch, i64 %row, i64 %stop, i64 %k, i64 %count, "
           f"ptr %out, i64 {s.panel}, i64 {step}, i64 %stripe)")
    f.line("ret void")
    f.label("transposed")
    with f.loop("%row", "%stop", carry=["0"]) as row:
        row.step = str(s.panel)
        row.next = [f.let(f"add nsw i64 {row.carried[0]}, {step}")]
        rows = f.least(f.let(f"sub nsw i64 %stop, {row.index}"), str(s.panel))
        panel = f.pointer("%out", s.operand.llvm, row.carried[0])
        with f.when(own):
            source, stride = origin(f, s, row.index, "%k")
            f.line(f"call void @transpose(ptr {source}, i64 {stride}, i64 {rows}, i64 %count, ptr {panel})")
        with f.loop(f.let(f"select i1 {own}, i64 %count, i64 0"), "%count") as at:
            at.step = str(STAGE)
            length = f.least(f.let(f"sub nsw i64 %count, {at.index}"), str(STAGE))
            k = f.let(f"add nsw i64 %k, {at.index}")
            f.line(f"call void %fill(ptr %from, ptr %scratch, i64 {row.index}, i64 {rows}, i64 {k}, i64 {length}, ptr {stage})")
            out = f.pointer(panel, f"[{s.panel} x {s.operand.llvm}]", at.index)
            f.line(f"call void @transpose(ptr {stage}, i64 {s.stage_stride}, i64 {rows}, i64 {length}, ptr {out})")
    return f.text()


def ahead(s: Shape) -> str:
    """Lists places [outer, outer + outers) x [inner, inner + inners) of an operand in memory: as many as the steps of k allow."""
    f = Function("define internal void @ahead(ptr noalias readonly %from, i64 %outer, i64 %outers, i64 %inner, i64 %inners, "
                 "i64 %k, ptr noalias %lines) noinline")
    source, stride = origin(f, s, "%outer", "%inner")
    nbytes = f.let(f"mul nsw i64 %inners, {s.operand.bytes}")
    count = f.let("load i64, ptr %lines")
    with f.loop("0", "%outers", carry=[count]) as o:
        row = f.pointer(source, s.operand.llvm, f.let(f"mul nsw i64 {o.index}, {stride}"))
        with f.loop("0", nbytes, carry=[o.carried[0]]) as at:
            at.step = str(SPAN)
            more = f.let(f"add nsw i64 {at.carried[0]}, 1")
            at.next = [f.least(more, str(ENTRIES))]
            f.line(f"store ptr {f.pointer(row, 'i8', at.index)}, ptr {f.pointer('%lines', 'ptr', at.next[0])}")
        o.next = [at.carried[0]]
    most = f.let(f"call i64 @llvm.smax.i64(i64 {count}, i64 {f.let(f'sdiv i64 %k, {s.pace}')})")
    f.line(f"store i64 {f.least(o.carried[0], most)}, ptr %lines")
    return f.text()
