"""Contractions: how one product is cut into tiles, and the code that differs from product to product.

`microkernel.py` holds what all products of a dtype share and compiles it once. For a program, three functions are written here: `fill_a`
and `fill_b` read the operands through their index maps while packing (transposes, casts, prologues included), `finish` stores a tile
of finished sums through the epilogue. `kernel` walks over tiles: the cut depends on sizes alone, never on the number of threads.
"""

from __future__ import annotations

from ..base import dtype as dt
from ..loops import ir
from ..runtime import jit
from . import llvm, microkernel

TILES = 8           # enough to share among a few threads
SMALL = 1 << 18     # multiply-adds below which a product is not cut


def coefficient(e: ir.Op, name: str):
    """By how much an integer expression grows with index `name`: an int, "run-time" or None where it is not affine in it."""
    if e.kind == "index":
        return 1 if e.attr == name else 0
    if e.kind in ("const", "arg"):
        return 0
    if e.kind in ("add", "sub"):
        a, b = (coefficient(x, name) for x in e.args)
        if a == 0 and e.kind == "add":
            return b
        if b == 0:
            return a
        return a + b if isinstance(a, int) and isinstance(b, int) and e.kind == "add" else None
    if e.kind == "mul":
        a, b = (coefficient(x, name) for x in e.args)
        if a == 0 and b == 0:
            return 0
        if a == 0 or b == 0:
            moving, factor = (b, e.args[0]) if a == 0 else (a, e.args[1])
            if moving is None:
                return None
            return moving * factor.attr if factor.kind == "const" and isinstance(moving, int) else "run-time"
    return 0 if all(coefficient(x, name) == 0 for x in e.args) else None


def _loads(e: ir.Op, found: dict) -> dict:
    if id(e) not in found:
        found[id(e)] = e
        for a in e.args:
            _loads(a, found)
    return found


def contiguous_along(e: ir.Op, name: str) -> bool:
    """Whether the loads of an operand step by one element with index `name`."""
    steps = [coefficient(x.args[0], name) for x in _loads(e, {}).values() if x.kind == "load"]
    return 1 in steps and all(s in (0, 1) for s in steps)


def _product(dims) -> ir.Op:
    n = ir.integer(1)
    for _, extent in dims:
        n = n * extent
    return n


def _ceil(a: ir.Op, b) -> ir.Op:
    b = b if isinstance(b, ir.Op) else ir.integer(b)
    return ir.floordiv(a + b - 1, b)


class Cut:
    """The tiles of a product, as expressions of its extents."""

    def __init__(self, c: ir.Contraction, s: microkernel.Shape):
        self.m, self.n, self.k, self.b = (_product(x) for x in (c.m, c.n, c.k, c.batch))
        one = ir.integer(1)
        work = self.b * self.m * self.n * self.k
        large = work > SMALL
        rows = ir.maximum(_ceil(self.m, 4 * s.mr), one)
        columns = ir.maximum(_ceil(self.n, s.nc), one)
        # Few rows: several threads share the columns instead.
        shared = ir.minimum(_ceil(ir.integer(TILES // 2), ir.maximum(self.b, one)), ir.maximum(_ceil(self.n, 2 * s.nr), one))
        columns = ir.select(large & (rows <= 1), ir.maximum(columns, shared), columns)
        self.nb = ir.maximum(_ceil(_ceil(self.n, columns), s.nr), one) * s.nr
        wanted = ir.minimum(_ceil(ir.integer(TILES), ir.maximum(self.b * columns, one)), rows)
        least = ir.maximum(_ceil(self.m, s.mc), one)
        parts = ir.select(large, ir.maximum(least, wanted), least)
        self.mb = ir.maximum(_ceil(_ceil(self.m, parts), s.mr), one) * s.mr
        self.across, self.down = _ceil(self.n, self.nb), _ceil(self.m, self.mb)
        self.tiles = self.b * self.down * self.across
        self.work = work


def _decode(e: llvm.Emitter, dims, flat: str) -> None:
    """Indices of nested loops from a position in the flattened range."""
    for i, (name, extent) in enumerate(reversed(dims)):
        if i == len(dims) - 1:
            e.indices[name] = flat
            return
        n = e.expression(extent)
        e.indices[name] = e.set(f"urem i64 {flat}, {n}")
        flat = e.set(f"udiv i64 {flat}, {n}")


def _batch(e: llvm.Emitter, c: ir.Contraction, words: str) -> None:
    for i, (name, _) in enumerate(c.batch):
        e.indices[name] = e.set(f"load i64, ptr {e.set(f'getelementptr i64, ptr {words}, i64 {i}')}")


class Builder:
    """Writes the module of one contraction."""

    def __init__(self, program: ir.Program):
        self.program, self.c = program, program.body[0].attr
        self.s = microkernel.shape(self.c.dtype)
        self.cut = Cut(self.c, self.s)
        self.first = llvm.new_emitter(program)
        self.emitters = [self.first]

    def emitter(self) -> llvm.Emitter:
        e = llvm.Emitter(self.program)
        e.metadata = self.first.metadata
        self.emitters.append(e)
        return e

    def staged(self, operand: ir.Op) -> bool:
        return contiguous_along(operand, self.c.k[-1][0])

    def fill(self, label: str) -> str:
        """`out[k][width]`, or where the operand lies along k, `out[row][k]`, which the packing transposes."""
        c, s, e = self.c, self.s, self.emitter()
        operand, dims, width = (c.a, c.m, s.mr) if label == "a" else (c.b, c.n, s.nr)
        staged = self.staged(operand)
        e.load_slots("%args", "%scratch")
        _batch(e, c, "%batch")

        def element(row: str, k: str) -> None:
            outer, e.memo = e.memo, dict(e.memo)
            flat_row = e.set(f"add nsw i64 %row, {row}")
            _decode(e, dims, flat_row)
            _decode(e, c.k, e.set(f"add nsw i64 %k, {k}"))
            v = e.expression(operand)
            at = (e.set(f"add nsw i64 {e.set(f'mul nsw i64 {row}, {s.stage_stride}')}, {k}") if staged
                  else e.set(f"add nsw i64 {e.set(f'mul nsw i64 {k}, {width}')}, {row}"))
            e.store_at(e.set(f"getelementptr inbounds {s.llvm}, ptr %out, i64 {at}"), v, c.dtype)
            e.memo = outer

        inner = ir.loop("", "vector", ir.integer(0))    # stands for a loop without loops in it
        if staged:
            e.loop("r", "serial", "0", "%rows", lambda: e.loop(
                "kk", "vector", "0", "%count", lambda: element(e.indices["r"], e.indices["kk"]), inner))
        else:
            e.loop("kk", "serial", "0", "%count", lambda: e.loop(
                "r", "vector", "0", "%rows", lambda: element(e.indices["r"], e.indices["kk"]), inner))
        e.line("ret void")
        return e.function(f"internal void @fill_{label}(ptr noalias readonly %args, ptr noalias readonly %batch, i64 %row, i64 %rows, "
                          "i64 %k, i64 %count, ptr noalias %out)").replace("%scratch", "%batch")

    def finish(self) -> str:
        c, s, e = self.c, self.s, self.emitter()
        e.load_slots("%args", "%batch")
        _batch(e, c, "%batch")

        def element() -> None:
            outer, e.memo = e.memo, dict(e.memo)
            r, col = e.indices["r"], e.indices["col"]
            _decode(e, c.n, e.set(f"add nsw i64 %n, {col}"))
            at = e.set(f"add nsw i64 {e.set(f'mul nsw i64 {r}, {s.nr}')}, {col}")
            p = e.set(f"getelementptr inbounds {s.llvm}, ptr %tile, i64 {at}")
            e.values["acc"] = e.set(f"load {s.llvm}, ptr {p}, align {s.bytes}{e._access()}")
            e.statements(c.body)
            e.memo = outer

        def row() -> None:
            _decode(e, c.m, e.set(f"add nsw i64 %m, {e.indices['r']}"))
            e.loop("col", "vector", "0", "%columns", element, ir.loop("", "vector", ir.integer(0)))

        e.loop("r", "serial", "0", "%rows", row)
        e.line("ret void")
        return e.function("internal void @finish(ptr noalias readonly %args, ptr noalias readonly %batch, i64 %m, i64 %rows, i64 %n, "
                          "i64 %columns, ptr noalias %tile)")

    def kernel(self) -> str:
        c, s, e, cut = self.c, self.s, self.first, self.cut
        e.load_slots()
        mb, nb, across, down, m, n, k = (e.expression(x) for x in (cut.mb, cut.nb, cut.across, cut.down, cut.m, cut.n, cut.k))
        symbol = multiply_symbol(c.dtype)

        def tile() -> None:
            t = e.indices["t"]
            ni = e.set(f"urem i64 {t}, {across}")
            rest = e.set(f"udiv i64 {t}, {across}")
            mi = e.set(f"urem i64 {rest}, {down}")
            _decode(e, c.batch, e.set(f"udiv i64 {rest}, {down}"))
            for i, (name, _) in enumerate(c.batch):
                e.line(f"store i64 {e.indices[name]}, ptr {e.set(f'getelementptr i64, ptr %scratch, i64 {i}')}")
            bounds = []
            for i, size, total in ((mi, mb, m), (ni, nb, n)):
                low = e.set(f"mul nsw i64 {i}, {size}")
                high = e.call("llvm.smin.i64", "i64", ("i64", e.set(f"add nsw i64 {low}, {size}")), ("i64", total))
                bounds += [low, high]
            a, b = ("true" if self.staged(x) else "false" for x in (c.a, c.b))
            e.line(f"call void @{symbol}(ptr %args, ptr %scratch, i64 {bounds[0]}, i64 {bounds[1]}, i64 {bounds[2]}, i64 {bounds[3]}, "
                   f"i64 {k}, i64 {s.kc}, ptr @fill_a, i1 {a}, ptr @fill_b, i1 {b}, ptr @finish)")

        e.loop("t", "parallel", "%begin", "%end", tile)
        e.line("ret void")
        signature = llvm.SIGNATURE.replace("noalias nocapture readonly ", "").replace("ptr noalias", "ptr")
        return e.function(signature)

    def module(self) -> str:
        functions = [self.kernel(), self.fill("a"), self.fill("b"), self.finish()]
        symbol = multiply_symbol(self.c.dtype)
        functions.append(f"declare void @{symbol}(ptr, ptr, i64, i64, i64, i64, i64, i64, ptr, i1, ptr, i1, ptr)")
        return llvm.module(functions, self.emitters)


def multiply_symbol(d: dt.dtype) -> str:
    return f"antorcha_multiply_{d.code}"


def _provide(d: dt.dtype) -> None:
    """Make the shared loops of a dtype known to the loader."""
    symbol = multiply_symbol(d)
    if symbol not in jit.provided:
        s = microkernel.shape(d)
        key = f"multiply {s}"
        jit.provided[symbol] = jit.load_module(key, lambda: microkernel.module(s).replace("@multiply(", f"@{symbol}("))[symbol]


class ContractionKernel(llvm.Kernel):
    """A compiled contraction."""

    def __init__(self, program: ir.Program, text: str):
        self.program, self.text = program, text
        c = program.body[0].attr
        self.s = microkernel.shape(c.dtype)
        self.cut = Cut(c, self.s)
        _provide(c.dtype)
        self.address = jit.load(text, self.ir)

    def ir(self) -> str:
        return Builder(self.program).module()

    def tiles(self, words) -> int:
        return llvm.evaluate(self.cut.tiles, words)

    def grain(self, words) -> int:
        tiles, work = self.tiles(words), llvm.evaluate(self.cut.work, words)
        if work <= SMALL:
            return max(tiles, 1)
        return max(1, tiles // 16)

    def scratch(self, words) -> int:
        return self.s.scratch(-(-llvm.evaluate(self.cut.k, words) // self.s.kc))


def build(program: ir.Program, text: str) -> ContractionKernel:
    return ContractionKernel(program, text)
