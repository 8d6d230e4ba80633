"""Matrix products: a `Contraction` as the driver of one kernel.

The arithmetic is done by the loops of `multiply.py`, one module for all products of a dtype. A contraction's own
module holds what is special to it, and compiles quickly:

    kernel      its tiles [begin, end), by way of `drive.py`
    place       where the operands of one product of the batch lie
    fill_a/b    evaluates the operands' expressions, whatever they are, while they are packed; matrices in memory need none
    finish      the epilogue: stores what is made of a finished register tile
    touch       lists what the epilogue is about to write and read

The fills and the epilogue are the same double loop, `_sweep`, over a range of one flattened group of indices and a range of another, the
inner one along memory so that LLVM turns it into vector instructions. Sizes are run-time arguments; the division into tiles
depends on them alone (never on the number of threads), so the same product gives the same bits on any machine of one kind.
"""

from __future__ import annotations

import ctypes
import functools

from ..loops.ir import Contraction, Op, Program
from ..runtime import cpu, jit, pool
from . import drive, llvm, matvec, multiply, slices, windows
from .blocking import (
    WORK,
    counted_rows,
    has_windows,
    in_memory,
    in_runs,
    is_turned,
    prepared,
    scratch,
    shape_of,
    tile_count,
    together,
)
from .formula import Formula
from .kernel import Kernel, even
from .llvm import Emitter
from .matvec import is_matvec
from .microkernel import SLICES, SPAN, STAGE, STRIPE, Function, Shape, load_vector, prefetch, store_vector
from .nest import (
    Body,
    along_k,
    compact_loop,
    contiguous,
    odometer,
    product,
    split,
    stores,
    vector_loop,
)
from .offsets import coefficient, loads
from .packing import transposed

LONG = 1 << 32        # multiplications that a single thread does in one go, some tenth of a second
AT_ONCE = 4           # runs of an operand that are copied together
DRAFT = 1 << 23       # most multiplications that the loops' draft does at first
DRAFT_DOTS = 1 << 18  # most of one by a vector, and most elements that a product's own loops go through
TOUCHED = 8           # most arrays of which the epilogue's lines are fetched beforehand


# -- the kernel -------------------------------------------------------------------------------------------------

class ContractionKernel(Kernel):
    """The compiled kernel of a program whose body is a contraction."""

    def __init__(self, program: Program, text: str):
        super().__init__(program, text)
        self.contraction = prepared(program.body[0].attr)
        if not is_matvec(self.contraction):
            self.key = f"{text}{shape_of(self.contraction)}"

    def modules(self, draft: bool = False) -> list[jit.Module]:
        (own,) = super().modules(draft)
        c = self.contraction
        if is_matvec(c):
            return [own]
        shared = {"multiply": _loops(shape_of(c), draft), "drive": _tiles(shape_of(c), draft)}
        if has_windows(c) is not None:
            shared["multiply_windows"] = _window_loops(shape_of(c), draft)

        def linked(library: dict[str, int]) -> None:
            if shape_of(c).tiles:
                cpu.use_tiles()
            for name, module in shared.items():
                ctypes.c_void_p.from_address(library[name]).value = jit.link(module)[name]

        return [*shared.values(), own._replace(linked=linked)]

    def ir(self) -> str:
        return emit(self.program, prepared(self.program.body[0].attr))      # for the processor that code is written for now

    @functools.cached_property
    def tiles(self) -> Formula:
        return Formula(tile_count(self.contraction))

    @functools.cached_property
    def work(self) -> Formula:
        c = self.contraction
        return Formula(product(c.batch + c.m + c.n + c.k))

    @functools.cached_property
    def elements(self) -> Formula:
        """Elements that are stored, or packed by loops of this product's own."""
        c, total = self.contraction, product(self.contraction.batch + self.contraction.m + self.contraction.n)
        for operand, rows in ((c.a, c.m), (c.b, c.n)):
            if not in_memory(operand, rows, c.k):
                total = total + product(c.batch + rows + c.k)
        return Formula(total)

    def is_long(self, words) -> bool:
        return self.work(words) > (DRAFT_DOTS if is_matvec(self.contraction) else DRAFT) or self.elements(words) > DRAFT_DOTS

    @functools.cached_property
    def together(self) -> Formula:
        """How many tiles one call should do at least."""
        return Formula(together(self.contraction))

    def grain(self, words) -> int:
        """Neighbouring tiles share packed panels: as many at a time as leave each thread a few turns, and an interrupt its chance."""
        tiles, c, threads = self.tiles(words), self.contraction, pool.get_num_threads()
        work = self.work(words)
        if threads == 1:
            return max(1, tiles if work <= LONG else int(tiles * LONG / work))
        alone = work <= (matvec.WORK if is_matvec(c) else WORK)
        if alone:
            return max(1, tiles)
        least = self.together(words)
        turns = 4 if least == 1 else 2
        return even(tiles, max(tiles // (turns * threads), min(least, tiles // threads)))

    def scratch(self, words) -> int:
        return scratch(self.contraction, words)


def _loops(s: Shape, draft: bool) -> jit.Module:
    """The loops shared by all products of a shape."""
    return jit.Module(f"microkernel {s}", lambda: multiply.module(s), (lambda: multiply.module(s, True)) if draft else None)


def _tiles(s: Shape, draft: bool) -> jit.Module:
    """What goes through the tiles, likewise."""
    return jit.Module(f"tiles {s}", lambda: drive.module(s), (lambda: drive.module(s)) if draft else None)


def _window_loops(s: Shape, draft: bool) -> jit.Module:
    """The same for those that have windows."""
    return jit.Module(f"windows {s}", lambda: windows.module(s), (lambda: windows.module(s)) if draft else None)


def emit(program: Program, c: Contraction) -> str:
    """The IR of the kernel of a program whose body is the contraction `c`."""
    if is_matvec(c):
        return matvec.emit(program, c)
    s = shape_of(c)
    writer = _Writer(program, c, s)
    functions = []
    if not in_memory(c.a, c.m, c.k):
        functions += [writer.fill(f"fill_a_{int(way)}", c.a, c.m, *_staged(s, way, s.kc, s.a_stride, s.mr), way)
                      for way in _ways(c.a, c.m, c)]
    if not in_memory(c.b, c.n, c.k):
        functions += [writer.fill(f"fill_b_{int(way)}", c.b, c.n, *_staged(s, way, STAGE, s.stage_stride, s.panel), way)
                      for way in _ways(c.b, c.n, c)]
    functions += ["@drive = global ptr null", "@multiply = global ptr null"]     # set once loaded: these are modules of their own
    slack = [0 if pair in c.within else multiply.FAR for pair in multiply.WITHIN] + [multiply.FAR if c.beyond is None else c.beyond]
    functions += [f"@slack = internal constant [{len(slack)} x i64] [{', '.join(f'i64 {n}' for n in slack)}]"]
    if has_windows(c) is not None:
        functions += [writer.lists(), "@multiply_windows = global ptr null"]
    functions += [writer.touch(), writer.finish(), writer.place(), writer.kernel()]
    return llvm.module(functions, writer.emitters, f'{llvm.ATTRIBUTES} "no-builtins"')      # short copies are no calls of memcpy


def _staged(s: Shape, along_k: bool, places: int, stride: int, width: int) -> tuple[int, int]:
    """How long the rows mostly are that a `fill` writes, and the elements from one to the next."""
    if s.instruction == SLICES:
        return (s.step if along_k else s.panel), slices.LINES
    return (places, stride) if along_k else (width, width)


def _ways(operand: Op, rows: tuple, c: Contraction) -> tuple:
    """Whether an operand is packed along k: one or, if it lies in runs along both, either; the longer runs are known when the sizes are."""
    if in_runs(operand, rows, c.dtype) and in_runs(operand, c.k, c.dtype):
        return False, True
    return (along_k(operand, rows, c.k),)


class _Writer:
    """Writes the functions of one contraction."""

    def __init__(self, program: Program, c: Contraction, s: Shape):
        self.program, self.c, self.s = program, c, s
        self.turned = is_turned(c)
        self.outer, self.inner = (c.n, c.m) if self.turned else (c.m, c.n)      # of the epilogue's loops
        self.emitters: list[Emitter] = []

    def _function(self, head: str) -> tuple[Body, Emitter]:
        emitter = llvm.new_emitter(self.program)
        emitter.flushes = True      # see `_without_denormals`
        if self.emitters:
            emitter.metadata = self.emitters[0].metadata
        self.emitters.append(emitter)
        return Body(head, emitter), emitter

    def _of_batch(self, head: str) -> tuple[Body, Emitter]:
        f, emitter = self._function(head)
        for i, (name, _) in enumerate(self.c.batch):
            emitter.indices[name] = f.let(f"load i64, ptr {f.pointer('%batch', 'i64', str(i))}")
        return f, emitter

    def fill(self, name: str, operand: Op, rows: tuple, full: int, stride: int, along_k: bool) -> str:
        """Writes an operand's elements as out[k][stride], or `along_k` as out[row][stride]; mostly `full` of each."""
        f, emitter = self._of_batch(
            f"define internal void @{name}(ptr noalias readonly %args, ptr noalias readonly %batch, i64 %row, i64 %rows, i64 %k, "
            "i64 %count, ptr noalias %out)")

        def element(outer: str, inner: str) -> None:
            one = self.s.operand.llvm
            at = f.pointer(f.pointer("%out", f"[{stride} x {one}]", outer), one, inner)
            f.line(f"store {one} {emitter.expression(operand)}, ptr {at}{emitter._access()}")

        def half_of_pair(outer: str, inner: str) -> None:
            """The first of two that follow each other along k, or the second beside it."""
            odd = f.let(f"trunc i64 {f.let(f'and i64 {outer}, 1')} to i32")
            at = f.pointer(f.pointer("%out", f"[{stride} x i32]", f.let(f"lshr i64 {outer}, 1")), "i32", inner)
            before = f.let(f"and i32 {f.let(f'load i32, ptr {at}{emitter._access()}')}, {f.let(f'sub i32 0, {odd}')}")
            value = f.let(f"zext {self.s.operand.llvm} {emitter.expression(operand)} to i32")
            value = f.let(f"shl i32 {value}, {f.let(f'mul i32 {odd}, {8 * self.s.operand.bytes}')}")
            f.line(f"store i32 {f.let(f'or i32 {before}, {value}')}, ptr {at}{emitter._access()}")

        by_k, by_row = (self.c.k, "%k", "%count"), (rows, "%row", "%rows")
        outer, inner = (by_row, by_k) if along_k else (by_k, by_row)
        if in_runs(operand, inner[0], self.c.dtype):
            self._copy_runs(f, emitter, operand, outer, inner, full, stride)
        else:
            self._sweep(f, emitter, outer, inner, full, element if along_k or self.s.terms == 1 else half_of_pair)
        return f.text()

    def _copy_runs(self, f: Function, emitter, operand: Op, outer: tuple, inner: tuple, full: int, stride: int) -> None:
        """`_sweep` for an operand `in_runs`: the pieces of the inner range that lie in memory in one are listed once. Then they are copied
        for every outer index, some at a time, each as one vector of which a mask says how much is there."""
        offset, lanes, element = operand.args[0], self.s.lanes, self.s.llvm
        tables = {name: f"%{name}" for name in ("places", "columns", "masks")}
        emitter.allocas += [f"  {table} = alloca [{full + AT_ONCE} x i64], align 64" for table in tables.values()]

        def at(dims: tuple, indices: list[str]) -> str:
            emitter.indices.update(zip((name for name, _ in dims), indices))
            return emitter.expression(offset)

        def entry(table: str, number: str) -> str:
            return f.pointer(tables[table], "i64", number)

        emitter.indices.update((name, "0") for name, _ in outer[0])
        runs = self._list_runs(f, emitter, inner, at, entry)
        emitter.indices.update((name, "0") for name, _ in inner[0])
        with f.scope():
            origin = at((), [])
        dims, first, count = outer
        extent = self._extents(f, emitter, dims)
        start = split(f, first, extent)
        vector, mask, suffix = f"<{lanes} x {element}>", f"<{lanes} x i1>", f"v{lanes}f{8 * self.s.bytes}.p0"
        emitter.intrinsics |= {f"declare {vector} @llvm.masked.load.{suffix}(ptr, i32, {mask}, {vector})",
                               f"declare void @llvm.masked.store.{suffix}({vector}, ptr, i32, {mask})"}
        with f.loop("0", runs, metadata=compact_loop(emitter)) as group:
            group.step = str(AT_ONCE)
            entries = []
            for i in range(AT_ONCE):
                number = f.let(f"add nsw i64 {group.index}, {i}")
                place, column, bits = (f.let(f"load i64, ptr {entry(table, number)}") for table in tables)
                entries.append((place, column, f.let(f"bitcast i{lanes} {f.let(f'trunc i64 {bits} to i{lanes}')} to {mask}")))
            with f.loop("0", count, carry=start, metadata=compact_loop(emitter)) as o, f.scope():
                o.next = odometer(f, o.carried, extent)
                source = f.pointer(emitter.slots[operand.attr], element, f.let(f"sub nsw i64 {at(dims, o.carried)}, {origin}"))
                row = f.pointer("%out", f"[{stride} x {element}]", o.index)
                for place, column, present in entries:
                    values = f.let(f"call {vector} @llvm.masked.load.{suffix}(ptr {f.pointer(source, element, place)}, "
                                   f"i32 {self.s.bytes}, {mask} {present}, {vector} zeroinitializer)")
                    f.line(f"call void @llvm.masked.store.{suffix}({vector} {values}, "
                           f"ptr {f.pointer(row, element, column)}, i32 {self.s.bytes}, {mask} {present})")

    def _list_runs(self, f: Function, emitter, inner: tuple, at, entry) -> str:
        """Lists the runs of a range, at most a vector long: where each is, its column, and the mask of its length. What lies right after
        the run before joins it. Gives their number; after them stand empty ones, to fill a group."""
        dims, first, count = inner
        lanes, extent = self.s.lanes, self._extents(f, emitter, dims)
        with f.loop("0", count, carry=[*split(f, first, extent), "-1", "0", "0", "0"], metadata=compact_loop(emitter)) as run, f.scope():
            *indices, number, place, column, length = run.carried
            piece = f.least(f.let(f"sub nsw i64 {count}, {run.index}"), f.let(f"sub nsw i64 {extent[-1]}, {indices[-1]}"))
            run.step = f.least(piece, str(lanes))
            here, longer = at(dims, indices), f.let(f"add nsw i64 {length}, {run.step}")
            follows = f.let(f"icmp eq i64 {here}, {f.let(f'add nsw i64 {place}, {length}')}")
            joins = f.let(f"and i1 {follows}, {f.let(f'icmp sle i64 {longer}, {lanes}')}")
            joins = f.let(f"and i1 {joins}, {f.let(f'icmp sge i64 {number}, 0')}")
            another = f.let(f"add nsw i64 {number}, 1")
            number, place, column, length = last = [
                f.let(f"select i1 {joins}, i64 {before}, i64 {new}")
                for before, new in ((number, another), (place, here), (column, run.index), (longer, run.step))]
            run.next = [*odometer(f, indices, extent, run.step), *last]
            bits = f.let(f"sub i64 {f.let(f'shl i64 1, {length}')}, 1")
            for table, value in (("places", place), ("columns", column), ("masks", bits)):
                f.line(f"store i64 {value}, ptr {entry(table, number)}")
        number, place, column, _ = run.carried[-4:]
        runs = f.let(f"add nsw i64 {number}, 1")
        for i in range(AT_ONCE - 1):
            for table, value in (("places", place), ("columns", column), ("masks", "0")):
                f.line(f"store i64 {value}, ptr {entry(table, f.let(f'add nsw i64 {runs}, {i}'))}")
        return runs

    def lists(self) -> str:
        """What stands in for `fill_a` where A has windows."""
        f, emitter = self._of_batch(
            "define internal void @list_a(ptr noalias readonly %args, ptr noalias readonly %batch, i64 %row, i64 %rows, i64 %k, "
            "i64 %count, ptr noalias %out)")
        c = self.c
        windows.make_lists(f, emitter, self.s, emitter.slots[c.a.attr], c.a.args[0], c.m, counted_rows(c), c.k)
        return f.text()

    def touch(self) -> str:
        """Lists the lines that the epilogue of a register tile writes or reads: they are fetched while its sum is computed."""
        f, emitter = self._of_batch(
            "define internal void @touch(ptr noalias readonly %args, ptr noalias readonly %batch, i64 %m, i64 %rows, i64 %n, "
            "ptr noalias %lines)")
        outer, inner, along = self.outer, self.inner, self._touched()
        if not along:
            return f.text()
        starts, rows, length = ("%n", "%m"), "%rows", self.s.nr
        if self.turned:
            starts, rows, length = ("%m", "%n"), str(self.s.nr), self.s.mr
        for (name, _), operand in zip(inner, split(f, starts[0], self._extents(f, emitter, inner))):
            emitter.indices[name] = operand
        extent = self._extents(f, emitter, outer)
        count = f.let("load i64, ptr %lines")
        few = emitter.meta('!{!"llvm.loop.vectorize.enable", i1 false}')       # rows: vectors of addresses take long to compile
        with f.loop("0", rows, carry=[*split(f, starts[1], extent), count], metadata=compact_loop(emitter, few)) as row, f.scope():
            *indices, count = row.carried
            for (name, _), operand in zip(outer, indices):
                emitter.indices[name] = operand
            entry, number = f.pointer("%lines", "ptr", count), 0
            for slot, offset in along:
                start = emitter.address(slot, offset)
                size = length * self.program.slots[slot].dtype.itemsize
                for at in range(0, size, SPAN):
                    number += 1
                    f.line(f"store ptr {f.pointer(start, 'i8', str(at))}, ptr {f.pointer(entry, 'ptr', str(number))}")
            row.next = [*odometer(f, indices, extent), f.let(f"add nsw i64 {count}, {number}")]
        f.line(f"store i64 {row.carried[-1]}, ptr %lines")
        return f.text()

    def _touched(self) -> list[tuple]:
        """What the epilogue writes, but for what streams, or reads along its inner loop: (slot, offset)."""
        found = [(s.attr, s.args[0]) for s in stores(self.c.body)
                 if not (cpu.streams() and self.program.slots[s.attr].role == "stream")]
        found += [(load.attr, load.args[0]) for s in stores(self.c.body) for load in loads(s.args[1])]
        unique = {(slot, id(offset)): (slot, offset) for slot, offset in found}.values()
        return [x for x in unique if contiguous([x[1]], self.inner) and coefficient(x[1], self.outer[-1][0]) != 0][:TOUCHED]

    def finish(self) -> str:
        """The epilogue of a register tile. Rows of the tile beside it are fetched one at a time, while this one's are computed."""
        f, emitter = self._of_batch(
            "define internal void @finish(ptr noalias readonly %args, ptr noalias readonly %batch, i64 %m, i64 %rows, i64 %n, "
            "i64 %columns, ptr noalias readonly %tile, i1 %ahead)")
        along = self._touched() if len(self.c.n) == 1 and not self.turned else []
        tile, stride = ("%turned", self._turn(f, emitter)) if self.turned else ("%tile", self.s.nr)

        def fetch() -> None:
            with f.when("%ahead"), f.scope():
                emitter.indices[self.c.n[0][0]] = "%n"
                for slot, offset in along:
                    start, size = emitter.address(slot, offset), self.s.nr * self.program.slots[slot].dtype.itemsize
                    for at in range(size, 2 * size, cpu.LINE):
                        prefetch(f, f.pointer(start, "i8", str(at)))

        def element(outer: str, inner: str) -> None:
            at = f.pointer(f.pointer(tile, f"[{stride} x {self.s.llvm}]", outer), self.s.llvm, inner)
            emitter.values["acc"] = f.let(f"load {self.s.llvm}, ptr {at}{emitter._access()}")
            for statement in self.c.body:
                emitter.statement(statement)

        if along:
            emitter.intrinsics.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        rows, columns = (self.c.m, "%m", "%rows"), (self.c.n, "%n", "%columns")
        if self.turned:
            self._sweep(f, emitter, columns, rows, self.s.mr, element)
        else:
            self._sweep(f, emitter, rows, columns, self.s.nr, element, fetch if along else None)
        return f.text()

    def _turn(self, f: Function, emitter) -> int:
        """Transposes the tile; gives the elements from one column of it to the next."""
        s = self.s
        height = -(-s.mr // s.lanes) * s.lanes
        emitter.allocas.append(f"  %turned = alloca [{s.nr * height} x {s.llvm}], align 64")
        last = f.let("sub nsw i64 %rows, 1")
        rows = [f.pointer("%tile", f"[{s.nr} x {s.llvm}]", f.least(last, str(r))) for r in range(height)]
        for column in range(0, s.nr, s.lanes):
            with f.when(f.let(f"icmp sgt i64 %columns, {column}")):
                for first in range(0, height, s.lanes):
                    square = [load_vector(f, s, f.pointer(row, s.llvm, str(column))) for row in rows[first:first + s.lanes]]
                    for i, vector in enumerate(transposed(f, f"<{s.lanes} x {s.llvm}>", square)):
                        store_vector(f, s, vector, f.pointer("%turned", s.llvm, str((column + i) * height + first)))
        return height

    def _sweep(self, f: Function, emitter, outer: tuple, inner: tuple, full: int, element, row=None) -> None:
        """`for o in range(count): for i in range(count'): element(o, i)` with the groups' indices set, in vectors along i.

        `outer` and `inner` are (dims, first flat index, count). Where the inner group has several dims, the range is cut where
        the last one starts anew. A piece of `full` elements gets a loop of fixed length. `row()` is done before each of the outer range.
        """
        dims, first, count = inner

        def piece(indices: list[str], start: str, length: str) -> None:
            whole = f.let(f"icmp eq i64 {length}, {full}")
            for condition, n in ((whole, str(full)), (f.let(f"xor i1 {whole}, true"), length)):
                with f.when(condition), f.scope():
                    self._rectangle(f, emitter, outer, dims, indices, start, n, element, row)

        if len(dims) <= 1:
            piece([first] if dims else [], "0", count)
            return
        extent = self._extents(f, emitter, dims)
        with f.loop("0", count) as at:
            indices = split(f, f.let(f"add nsw i64 {first}, {at.index}"), extent)
            left = f.let(f"sub nsw i64 {count}, {at.index}")
            length = f.least(left, f.let(f"sub nsw i64 {extent[-1]}, {indices[-1]}"))
            piece(indices, at.index, length)
            at.step = length

    def _rectangle(self, f: Function, emitter, outer: tuple, inner_dims: tuple, indices: list[str], start: str, length: str,
                   element, row) -> None:
        dims, first, count = outer
        extent = self._extents(f, emitter, dims)
        with f.loop("0", count, carry=split(f, first, extent), metadata=compact_loop(emitter)) as o:
            o.next = odometer(f, o.carried, extent)
            for (name, _), operand in zip(dims, o.carried):
                emitter.indices[name] = operand
            for (name, _), operand in zip(inner_dims, indices):
                emitter.indices[name] = operand
            if row:
                row()
            group = emitter.meta("distinct !{}")
            at_once = self.s.vectors if length.isdigit() else 1
            lanes = self.s.lanes if self.s.terms > 1 else 0     # LLVM takes rounding to bfloat16 for dear, and narrow vectors for better
            with f.loop("0", length, metadata=vector_loop(emitter, group, at_once, lanes)) as i, f.scope():
                emitter.groups.append(group)
                if inner_dims:
                    emitter.indices[inner_dims[-1][0]] = f.let(f"add nsw i64 {indices[-1]}, {i.index}")
                element(o.index, i.index if start == "0" else f.let(f"add nsw i64 {start}, {i.index}"))
                emitter.groups.pop()

    def _extents(self, f: Function, emitter, dims: tuple) -> list[str]:
        return [emitter.expression(extent) for _, extent in dims] if len(dims) > 1 else [""] * len(dims)

    def _packing(self, f: Function, emitter, side: str, operand: Op, rows: tuple) -> tuple[str, str]:
        """Whether an operand is packed along k, and by what."""
        ways = _ways(operand, rows, self.c)
        if in_memory(operand, rows, self.c.k):
            return str(int(ways[0])), "null"
        if len(ways) == 1:
            return str(int(ways[0])), f"@fill_{side}_{int(ways[0])}"
        along = f.let(f"icmp sgt i64 {emitter.expression(self.c.k[-1][1])}, {emitter.expression(rows[-1][1])}")
        return along, f.let(f"select i1 {along}, ptr @fill_{side}_1, ptr @fill_{side}_0")

    def kernel(self) -> str:
        """Gives `drive` what it asks for."""
        f, emitter = self._function(f"define {llvm.SIGNATURE}")
        c = self.c
        sizes = [emitter.expression(product(dims)) for dims in (c.batch, counted_rows(c), c.n, c.k)]
        loops = f.let("load ptr, ptr @multiply")
        along_a, fill_a = self._packing(f, emitter, "a", c.a, c.m)
        along_b, fill_b = self._packing(f, emitter, "b", c.b, c.n)
        when = has_windows(c)
        if when is not None:
            listed = emitter.expression(when)
            fill_a = f.let(f"select i1 {listed}, ptr @list_a, ptr {fill_a}")
            loops = f.let(f"select i1 {listed}, ptr {f.let('load ptr, ptr @multiply_windows')}, ptr {loops}")
        stripe = STAGE if in_runs(c.b, c.n, c.dtype) else STRIPE
        sizes += [str(stripe), *(f.let(f"zext i1 {along} to i64") for along in (along_a, along_b))]
        parts = "%args", "@place", loops, fill_a, fill_b, "@touch", "@finish", "@slack"
        words = [f"i64 {size}" for size in sizes] + [f"ptr {part}" for part in parts]
        emitter.allocas.append(f"  %words = alloca [{len(words)} x i64]")
        for i, word in enumerate(words):
            f.line(f"store {word}, ptr {f.pointer('%words', 'i64', str(i))}")
        f.line(f"call void {f.let('load ptr, ptr @drive')}(ptr %words, i64 %begin, i64 %end, ptr %scratch)")
        emitter.fence()
        return f.text()

    def place(self) -> str:
        """The indices of a product of the batch, and where operands in memory have its matrices."""
        f, emitter = self._function("define internal void @place(ptr noalias readonly %args, ptr noalias %batch, i64 %number, "
                                    "ptr noalias %from_a, ptr noalias %from_b)")
        c = self.c
        for i, index in enumerate(split(f, "%number", self._extents(f, emitter, c.batch))):
            f.line(f"store i64 {index}, ptr {f.pointer('%batch', 'i64', str(i))}")
            emitter.indices[c.batch[i][0]] = index
        for place, operand, rows in (("%from_a", c.a, c.m), ("%from_b", c.b, c.n)):
            if in_memory(operand, rows, c.k):
                self._matrix(f, emitter, place, operand, rows)
        return f.text()

    def _matrix(self, f: Function, emitter, place: str, operand: Op, rows: tuple) -> None:
        """Writes where an operand `in_memory` has the product's matrix, for the loops around the micro-kernel."""
        (row, _), (k, _) = rows[0], self.c.k[0]
        along = along_k(operand, rows, self.c.k)
        offsets = []
        for outer in ("0", "1"):
            emitter.indices.update({row: outer if along else "0", k: "0" if along else outer})
            with f.scope():
                offsets.append(emitter.expression(operand.args[0]))
        f.line(f"store ptr {f.pointer(emitter.slots[operand.attr], self.s.operand.llvm, offsets[0])}, ptr {place}")
        f.line(f"store i64 {f.let(f'sub nsw i64 {offsets[1]}, {offsets[0]}')}, ptr {f.pointer(place, 'i64', '1')}")
