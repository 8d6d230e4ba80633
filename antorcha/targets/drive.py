"""The tiles of a product, gone through: one module of LLVM IR for all products of a shape, since all are cut alike.

    void drive(ptr args, i64 begin, i64 end, ptr scratch)

does tiles [begin, end): which rows, columns and product of the batch each is. `args` are words: the `SIZES`, and the addresses of the
`PARTS` of one product, as `multiply.py` tells of them; fill_a and fill_b are null for operands in memory. Of these

    void place(ptr args, ptr batch, i64 number, ptr from_a, ptr from_b)

writes the indices of a product of the batch, and where its operands lie.
"""

from __future__ import annotations

from collections.abc import Callable

from ..base import dtype as dt
from ..loops import ir
from ..runtime import cpu
from . import llvm, multiply
from .blocking import NOTE, cut
from .llvm import Emitter
from .microkernel import Function, Shape
from .nest import Body, divide

SIZES = "batch", "m", "n", "k", "stripe", "along_a", "along_b"
PARTS = "args", "place", "multiply", "fill_a", "fill_b", "touch", "finish", "slack"


def module(s: Shape) -> str:
    """Neighbouring strips of one block of columns are done in one go, which packs B once for all of them; a note at the beginning of
    scratch memory tells the next call what is packed."""
    program = ir.Program()
    sizes = {name: ir.arg(program.slot("extent", dt.int64, name)) for name in SIZES}
    parts = {name: program.slot("in", dt.int64, name) for name in PARTS}
    emitter = llvm.new_emitter(program)
    f = Body("define void @drive(ptr noalias readonly %args, i64 %begin, i64 %end, ptr noalias %scratch)", emitter)
    b = cut(s, *(sizes[name] for name in ("batch", "m", "n", "k")))
    m, n, k, depth, slivers, strips, panels, blocks, stripe = (
        emitter.expression(e) for e in (b.m, b.n, b.k, b.depth, b.slivers, b.strips, b.panels, b.blocks, sizes["stripe"]))
    along_a, along_b = (f.let(f"icmp ne i64 {emitter.expression(sizes[name])}, 0") for name in ("along_a", "along_b"))
    args, place, loops, fill_a, fill_b, touch, finish, slack = (emitter.slots[parts[name]] for name in PARTS)
    emitter.allocas += [f"  %from_{side} = alloca [2 x i64]" for side in "ab"]
    lies_a, lies_b = (f.let(f"icmp eq ptr {fill}, null") for fill in (fill_a, fill_b))
    from_a, from_b = (f.let(f"select i1 {lies}, ptr %from_{side}, ptr {args}") for side, lies in (("a", lies_a), ("b", lies_b)))
    as_panel = f.let(f"and i1 {lies_b}, {f.let(f'xor i1 {along_b}, true')}")

    def edge(number: str, units: str, parts: str, unit: int, end: str) -> str:
        """Where part `number` begins of so many units shared out evenly."""
        first = f.let(f"sdiv i64 {f.let(f'mul nsw i64 {number}, {units}')}, {parts}")
        return f.least(f.let(f"mul nsw i64 {first}, {unit}"), end)

    longest = f.let(f"sdiv i64 {f.let(f'add nsw i64 {slivers}, {strips}')}, {strips}")
    most = f.let(f"sdiv i64 {s.mc // s.mr}, {longest}")
    restore = _without_denormals(f, emitter)
    scratch = f.pointer("%scratch", "i8", str(NOTE))
    with f.loop("%begin", "%end") as tile, f.scope():
        column, strip = divide(f, tile.index, strips)
        batch, block = divide(f, column, blocks)
        f.line(f"call void {place}(ptr {args}, ptr {scratch}, i64 {batch}, ptr %from_a, ptr %from_b)")
        left = f.least(f.let(f"sub nsw i64 %end, {tile.index}"), f.let(f"sub nsw i64 {strips}, {strip}"))
        tile.step = f.least(left, most)
        m0 = edge(strip, slivers, strips, s.mr, m)
        m1 = edge(f.let(f"add nsw i64 {strip}, {tile.step}"), slivers, strips, s.mr, m)
        n0 = edge(block, panels, blocks, s.nr, n)
        n1 = edge(f.let(f"add nsw i64 {block}, 1"), panels, blocks, s.nr, n)
        keep = f.let(f"icmp slt i64 {tile.step}, {strips}")
        note = f.let(f"add nsw i64 {column}, 1")
        packed = f.let(f"icmp eq i64 {f.let('load i64, ptr %scratch')}, {note}")
        # Strips differ by a sliver: one may read B where it lies, and the next one not.
        note = f.let(f"select i1 {f.let(f'and i1 {as_panel}, {multiply.leaves_b(f, s, m0, m1)}')}, i64 0, i64 {note}")
        f.line(f"store i64 {note}, ptr %scratch")
        f.line(f"call void {loops}(ptr {args}, ptr {scratch}, i64 {m0}, i64 {m1}, i64 {n0}, i64 {n1}, i64 {k}, i64 {depth}, "
               f"ptr {from_a}, ptr {fill_a}, i1 {along_a}, ptr {from_b}, ptr {fill_b}, i1 {along_b}, i64 {stripe}, "
               f"i1 {keep}, i1 {packed}, ptr {touch}, ptr {finish}, ptr {slack})")
    restore()
    return llvm.module([f.text()], [emitter])


def _without_denormals(f: Function, emitter: Emitter) -> Callable[[], None]:
    """Let numbers below the smallest normal one count as zero from here on, until what is returned is called. Processors multiply them
    by microcode, a hundred times slower; the derivative of a softmax of large scores is full of them."""
    machine = cpu.processor().machine
    if machine == "x86_64":     # denormals are zero (bit 6), flush to zero (bit 15)
        save, load = "declare void @llvm.x86.sse.stmxcsr(ptr)", "declare void @llvm.x86.sse.ldmxcsr(ptr)"
        emitter.intrinsics.update((save, load))
        before, during = f.let("alloca i32"), f.let("alloca i32")
        f.line(f"call void @llvm.x86.sse.stmxcsr(ptr {before})")
        control = f.let(f"load i32, ptr {before}")
        flushing = f.let(f"or i32 {control}, {1 << 6 | 1 << 15}")
        f.line(f"store i32 {flushing}, ptr {during}")
        f.line(f"call void @llvm.x86.sse.ldmxcsr(ptr {during})")
        return lambda: f.line(f"call void @llvm.x86.sse.ldmxcsr(ptr {before})")
    if machine == "aarch64":    # flush to zero, inputs too (bit 24)
        emitter.intrinsics.update(("declare i64 @llvm.aarch64.get.fpcr()", "declare void @llvm.aarch64.set.fpcr(i64)"))
        control = f.let("call i64 @llvm.aarch64.get.fpcr()")
        flushing = f.let(f"or i64 {control}, {1 << 24}")
        f.line(f"call void @llvm.aarch64.set.fpcr(i64 {flushing})")
        return lambda: f.line(f"call void @llvm.aarch64.set.fpcr(i64 {control})")
    return lambda: None
