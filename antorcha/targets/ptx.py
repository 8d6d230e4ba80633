"""Loop programs for NVIDIA GPUs: the scalar code of `llvm.py` with a mapping of loops to threads, as PTX.

A kernel's parameters are its words, one of 8 bytes for each slot. How loops are laid out:

    parallel   blockIdx.x and threadIdx.y: a block takes blockDim.y iterations ("rows"), blockDim.x threads ("lanes", a power of two)
               work on each
    vector     lane l takes elements l, l + lanes ...; blockIdx.y further divides vector loops that reduce nothing
    serial     in order, by every lane: statements around vector loops are carried out by all lanes alike, stores by the first

An accumulator that a vector loop updates is kept per lane and combined at the end of the outermost loop within its scope, by
shuffles within a warp and through shared memory between warps. How many lanes a row gets depends on sizes alone, so the same
program gives the same bits every time (but for scatters, which are atomic).
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass

from ..base import config
from ..base import dtype as dt
from ..base.locks import Lock
from ..loops import ir
from ..loops.ir import walk
from ..runtime import jit
from .cuda_schedule import LANES, Schedule, is_old, schedule
from .formula import evaluate
from .llvm import Emitter, literal, llvm_type

TRIPLE = 'target triple = "nvptx64-nvidia-cuda"\n'
WARP = 32
THREADS = 256           # of a block, where nothing asks for more
MOST_THREADS = 512      # of a block that works on one row; its code may then take 128 registers
UNROLL = 4              # elements a lane has in flight,
FEWER = 2               # where each has more than
ACCESSES = 6            # loads and stores: their addresses lie in registers
SUMMED = 8              # of a column that a lane adds up
SIMPLE = 96             # nodes of a vector loop's body that is worth unrolling
FILLED = 1 << 17        # threads that keep a large GPU busy
GRID_Y = 65_535
FEW_WORDS, MOST_WORDS = 512, 4_095      # 4 KiB of parameters everywhere, 32 KiB from PTX 8.1 on
ARCHITECTURES = (70, 75, 80, 86, 89, 90)    # code for one of them runs on all later GPUs


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched: blocks (x, y) of threads (x, y), each with `shared` bytes beyond what its code declares."""

    grid: tuple[int, int]
    block: tuple[int, int]
    shared: int = 0


class PtxEmitter(Emitter):
    """Writes the body of one kernel."""

    def __init__(self, program: ir.Program, plan: Schedule | None = None):
        super().__init__(program)
        self.plan = plan
        self.lane_wise = False              # inside a vector loop: each lane on an element of its own
        self.partials: dict[str, str] = {}  # accumulator -> address of this lane's part, while it is being updated
        self.dirty: set[int] = set()        # exchanged slots that were written since the last barrier
        self.shared_words = 0
        self.thread: str | None = None      # tid.x, where it has been read already

    def restart(self, program: ir.Program, plan: Schedule | None) -> None:
        """Go on with the statements of another program, in the same function."""
        self.program, self.plan, self.lane_wise = program, plan, False
        self.indices, self.accumulators, self.values, self.slots = {}, {}, {}, {}
        self.memo, self.partials, self.dirty = {}, {}, set()

    # -- slots and special registers ----------------------------------------------------------------------------

    def signature(self, name: str = "kernel") -> str:
        return f"ptx_kernel void @{name}({', '.join(f'{self._parameter(s)} %s{i}' for i, s in enumerate(self.program.slots))})"

    @staticmethod
    def _parameter(slot: ir.Slot) -> str:
        return "ptr" if slot.role in ir.BUFFER_ROLES else "double" if slot.dtype.kind == "f" else "i64"

    def load_slots(self, *_) -> None:
        for i, slot in enumerate(self.program.slots):
            t = llvm_type(slot.dtype)
            if slot.role in ir.BUFFER_ROLES or t in ("i64", "double"):
                self.slots[i] = f"%s{i}"
            else:
                self.slots[i] = self.set(f"fptrunc double %s{i} to {t}" if slot.dtype.kind == "f" else f"trunc i64 %s{i} to {t}")

    def register(self, name: str) -> str:
        """A special register, such as tid.x."""
        return self.call(f"llvm.nvvm.read.ptx.sreg.{name}", "i32")

    def wide(self, v: str) -> str:
        return self.set(f"zext i32 {v} to i64")

    def i64(self, kind: str, a, b) -> str:
        """An arithmetic instruction on indices."""
        return self.set(f"{kind} i64 {a}, {b}")

    # -- control ------------------------------------------------------------------------------------------------

    @contextmanager
    def only_if(self, condition: str):
        yes, end = self.new_label("then"), self.new_label("end")
        self.line(f"br i1 {condition}, label %{yes}, label %{end}")
        self.label(yes)
        yield
        self.line(f"br label %{end}")
        self.label(end)

    @contextmanager
    def while_true(self, condition):
        """A loop as long as what `condition()` emits holds."""
        head, into, end = self.new_label("while"), self.new_label("body"), self.new_label("end")
        self.line(f"br label %{head}")
        self.label(head)
        self.line(f"br i1 {condition()}, label %{into}, label %{end}")
        self.label(into)
        yield
        self.line(f"br label %{head}")
        self.label(end)

    @contextmanager
    def steps(self, start: str, stop: str, step: str, ahead: str | None = None, unroll: int = 0):
        """for (i64 i = start; i + ahead < stop; i += step); yields i, which afterwards holds its last value."""
        head, into, end = self.new_label("loop"), self.new_label("body"), self.new_label("end")
        i, after, before = self.fresh(), self.fresh(), self.block
        self.line(f"br label %{head}")
        self.label(head)
        self.line(f"{i} = phi i64 [{start}, %{before}], [{after}, %{into}.latch]")
        reach = self.set(f"add i64 {i}, {ahead}") if ahead else i
        self.line(f"br i1 {self.set(f'icmp slt i64 {reach}, {stop}')}, label %{into}, label %{end}")
        self.label(into)
        yield i
        self.line(f"br label %{into}.latch")
        self.label(f"{into}.latch")
        self.line(f"{after} = add nsw i64 {i}, {step}")
        self.line(f"br label %{head}{self._unrolled(unroll)}")
        self.label(end)

    def _unrolled(self, count: int) -> str:
        if not count:
            return ""
        number = len(self.metadata)
        self.metadata += [f"distinct !{{!{number}, !{number + 1}}}", f'!{{!"llvm.loop.unroll.count", i32 {count}}}']
        return f", !llvm.loop !{number}"

    # -- statements ---------------------------------------------------------------------------------------------

    def statement(self, s: ir.Op) -> None:
        if not self.lane_wise and self.dirty and any(o.kind == "load" and o.attr in self.dirty for o in walk(s)):
            self.barrier()
        super().statement(s)

    def _loop(self, s: ir.Op) -> None:
        name, kind = s.attr
        if self.lane_wise:
            pure = not any(o.kind in ("store", "atomic") for o in walk(s))
            with self.steps("0", self.expression(s.args[0]), "1", unroll=(UNROLL if nested(s) else SUMMED) if pure else 0) as i:
                self.indices[name] = i
                self.statements(s.args[1:])
            return
        opened = self._open(s)
        if kind in LANES:
            self._vector(s)
        else:
            self._uniform(s)
        if opened:
            self._close(opened)

    def _uniform(self, s: ir.Op) -> None:
        """A serial loop around vector loops: all lanes go through it together."""
        written = {o.attr for o in walk(s) if o.kind == "store"} & self.plan.exchanged
        with self.steps("0", self.expression(s.args[0]), "1") as i:
            self.indices[s.attr[0]] = i
            if written and any(o.kind == "load" and o.attr in written for o in walk(s)):
                self.barrier()
            self.statements(s.args[1:])
        self.dirty |= written

    def _vector(self, s: ir.Op) -> None:
        stop, i = self.expression(s.args[0]), self.first
        self.lane_wise = True
        if straight(s):
            count = UNROLL if sum(o.kind in ("load", "store") for o in walk(s)) <= ACCESSES else FEWER
            ahead = self.set(f"mul i64 {self.step}, {count - 1}")
            stride = self.set(f"mul i64 {self.step}, {count}")
            with self.steps(i, stop, stride, ahead) as i:
                self.together(s, i, count, self.step)
        with self.steps(i, stop, self.step) as i:
            self.indices[s.attr[0]] = i
            self.statements(s.args[1:])
        self.lane_wise = False
        self.dirty |= {o.attr for o in walk(s) if o.kind == "store"} & self.plan.exchanged

    def together(self, s: ir.Op, i: str, count: int, step: str) -> None:
        """The body for several elements from `i` on: everything is read and computed before anything is written."""
        outer, known, writes = self.memo, dict(self.accumulators), []
        for u in range(count):
            self.memo, self.member = dict(outer), u
            self.indices[s.attr[0]] = i
            for b in s.args[1:]:
                if b.kind == "store":
                    aligned = self.alignment(b, b.args[1].dtype.itemsize)
                    writes.append((b, self.address(b.attr, b.args[0]), self.expression(b.args[1]), aligned))
                elif b.kind == "update":
                    writes.append((b, None, self.expression(b.args[0]), 0))
                else:
                    self.statement(b)
            if u + 1 < count:
                i = self.set(f"add nsw i64 {i}, {step}")
        body = {id(b): k for k, b in enumerate(s.args[1:])}
        writes.sort(key=lambda w: body[id(w[0])])       # what one statement writes side by side
        for b, address, v, aligned in writes:
            if address is None:
                self.add(b.attr, v)
            else:
                self.store_at(address, v, b.args[1].dtype, aligned)
        self.memo, self.accumulators = outer, known

    def _store(self, s: ir.Op) -> None:
        if self.lane_wise:
            super()._store(s)
            return
        address, v = self.address(s.attr, s.args[0]), self.expression(s.args[1])
        with self.only_if(self.is_first):
            self.store_at(address, v, s.args[1].dtype)
        if s.attr in self.plan.exchanged:
            self.dirty.add(s.attr)

    def _atomic(self, s: ir.Op) -> None:
        slot, instruction = s.attr
        address, v = self.address(slot, s.args[0]), self.expression(s.args[1])
        text = f"atomicrmw {instruction} ptr {address}, {llvm_type(s.args[1].dtype)} {v} monotonic"
        if self.lane_wise:
            self.set(text)
            return
        with self.only_if(self.is_first):
            self.set(text)

    def _update(self, s: ir.Op) -> None:
        self.add(s.attr, self.expression(s.args[0]))

    def add(self, name: str, v: str) -> None:
        """Combine a value into an accumulator, or into this lane's part of it."""
        address, combine, d = self.accumulators[name]
        if self.lane_wise:
            address = self.partials.get(name, address)
        t = llvm_type(d)
        if combine != "set":
            v = self.combine(combine, d, self.set(f"load {t}, ptr {address}"), v)
        self.line(f"store {t} {v}, ptr {address}")

    # -- values that several lanes make together ----------------------------------------------------------------

    def _open(self, s: ir.Op) -> list[str]:
        """Give each accumulator that the vector loops in `s` update a part for every lane."""
        updated = dict.fromkeys(o.attr for o in walk(s) if o.kind == "update")
        names = [n for n in updated if n in self.accumulators and n not in self.partials and self.accumulators[n][1] != "set"]
        for n in names:
            _, combine, d = self.accumulators[n]
            self.partials[n] = self.variable(llvm_type(d), identity(combine, d))
        return names

    def _close(self, names: list[str]) -> None:
        """Combine the parts of all lanes, in the same order in every lane, and then with what the accumulator holds."""
        parts = [(*self.accumulators[n], self.partials.pop(n)) for n in names]
        for _, combine, d, part in parts:
            self._fold(part, combine, d, self.set(f"load {llvm_type(d)}, ptr {part}"), self.narrower)
        with self.only_if(self.many_warps):
            self._across_warps(parts)
        for address, combine, d, part in parts:
            t = llvm_type(d)
            total = self.combine(combine, d, self.set(f"load {t}, ptr {address}"), self.set(f"load {t}, ptr {part}"))
            self.line(f"store {t} {total}, ptr {address}")

    def _fold(self, part: str, combine: str, d: dt.dtype, v: str, wanted: list[str] | None = None) -> None:
        """A butterfly over the lanes of a warp; `wanted` says which of the steps 16, 8, 4, 2, 1 apply (None: all)."""
        t = llvm_type(d)
        for k, step in enumerate((16, 8, 4, 2, 1)):
            merged = self.combine(combine, d, v, self._shuffled(v, d, step))
            v = self.set(f"select i1 {wanted[k]}, {t} {merged}, {t} {v}") if wanted else merged
        self.line(f"store {t} {v}, ptr {part}")

    def _shuffled(self, v: str, d: dt.dtype, step: int) -> str:
        """The value that lane (own lane xor step) holds."""
        t, bits = llvm_type(d), 1 if d is dt.bool_ else 8 * d.itemsize
        whole = self.set(f"bitcast {t} {v} to i{bits}") if d.kind == "f" else v

        def exchange(word: str) -> str:
            return self.call("llvm.nvvm.shfl.sync.bfly.i32", "i32", ("i32", self.members), ("i32", word), ("i32", str(step)), ("i32", "31"))

        if bits < 32:
            got = self.set(f"trunc i32 {exchange(self.set(f'zext i{bits} {whole} to i32'))} to i{bits}")
        elif bits == 32:
            got = exchange(whole)
        else:
            low = exchange(self.set(f"trunc i64 {whole} to i32"))
            high = exchange(self.set(f"trunc i64 {self.set(f'lshr i64 {whole}, 32')} to i32"))
            got = self.set(f"or i64 {self.wide(low)}, {self.set(f'shl i64 {self.wide(high)}, 32')}")
        return self.set(f"bitcast i{bits} {got} to {t}") if d.kind == "f" else got

    def _across_warps(self, parts: list) -> None:
        self.shared_words = max(self.shared_words, WARP * len(parts))
        own, theirs = [], []
        for k in range(len(parts)):
            for place, index in ((own, self.warp), (theirs, self.of_warp)):
                at = self.set(f"add i64 {index}, {WARP * k}")
                place.append(self.set(f"getelementptr inbounds i64, ptr addrspace(3) @shared, i64 {at}"))
        with self.only_if(self.leads_warp):
            for (_, _, d, part), at in zip(parts, own):
                v = self.set(f"load {llvm_type(d)}, ptr {part}")
                if d is dt.bool_:
                    v = self.set(f"zext i1 {v} to i8")
                self.line(f"store {'i8' if d is dt.bool_ else llvm_type(d)} {v}, ptr addrspace(3) {at}, align 8")
        self.call_void("llvm.nvvm.barrier0")
        for (_, combine, d, part), at in zip(parts, theirs):
            v = self.set(f"load {'i8' if d is dt.bool_ else llvm_type(d)}, ptr addrspace(3) {at}, align 8")
            if d is dt.bool_:
                v = self.set(f"icmp ne i8 {v}, 0")
            t = llvm_type(d)
            v = self.set(f"select i1 {self.has_warp}, {t} {v}, {t} {identity(combine, d)}")
            self._fold(part, combine, d, v)     # all lanes of all warps need the total
        self.call_void("llvm.nvvm.barrier0")

    def call_void(self, name: str, *args: tuple) -> None:
        self.intrinsics.add(f"declare void @{name}({', '.join(t for t, _ in args)})")
        self.line(f"call void @{name}({', '.join(f'{t} {v}' for t, v in args)})")

    def barrier(self) -> None:
        """All lanes of a row see what each of them wrote."""
        one, many, end = self.new_label("warp"), self.new_label("block"), self.new_label("end")
        self.line(f"br i1 {self.many_warps}, label %{many}, label %{one}")
        self.label(many)
        self.call_void("llvm.nvvm.barrier0")
        self.line(f"br label %{end}")
        self.label(one)
        self.call_void("llvm.nvvm.bar.warp.sync", ("i32", self.members))
        self.line(f"br label %{end}")
        self.label(end)
        self.dirty.clear()

    # -- the kernel ---------------------------------------------------------------------------------------------

    def prologue(self) -> str:
        """Who this thread is; returns its parallel iteration."""
        lane, lanes = self.register("tid.x"), self.register("ntid.x")
        row, rows = self.register("tid.y"), self.register("ntid.y")
        part, parts = self.register("ctaid.y"), self.register("nctaid.y")
        first = self.set(f"add i32 {self.set(f'mul i32 {part}, {lanes}')}, {lane}")
        self.share(first, self.set(f"mul i32 {parts}, {lanes}"), lane, lanes, row)
        block = self.wide(self.register("ctaid.x"))
        return self.set(f"add i64 {self.set(f'mul i64 {block}, {self.wide(rows)}')}, {self.wide(row)}")

    def share(self, first: str, step: str, lane: str, lanes: str, row: str) -> None:
        """This thread takes the elements `first`, `first + step` ... of vector loops; it is lane `lane` of `lanes` of the block's `row`."""
        self.first, self.step = self.wide(first), self.wide(step)
        self.is_first = self.set(f"icmp eq i64 {self.first}, 0")
        if self.plan.reduces or self.plan.exchanged:
            self._teams(lane, lanes, row)

    def _teams(self, lane: str, lanes: str, row: str) -> None:
        """Which lanes of the warp, and which warps of the block, work on this thread's row."""
        thread = self.set(f"add i32 {self.set(f'mul i32 {row}, {lanes}')}, {lane}")
        in_warp = self.set(f"and i32 {thread}, {WARP - 1}")
        self.many_warps = self.set(f"icmp ugt i32 {lanes}, {WARP}")
        whole = self.set(f"icmp uge i32 {lanes}, {WARP}")
        count = self.set(f"select i1 {whole}, i32 0, i32 {lanes}")
        few = self.set(f"sub i32 {self.set(f'shl i32 1, {count}')}, 1")
        start = self.set(f"and i32 {in_warp}, {self.set(f'sub i32 0, {lanes}')}")
        first = self.set(f"select i1 {whole}, i32 0, i32 {start}")
        self.members = self.set(f"select i1 {whole}, i32 -1, i32 {self.set(f'shl i32 {few}, {first}')}")
        self.narrower = [self.set(f"icmp ugt i32 {lanes}, {step}") for step in (16, 8, 4, 2, 1)]
        warps = self.set(f"lshr i32 {lanes}, 5")
        self.warp = self.wide(self.set(f"lshr i32 {lane}, 5"))
        self.leads_warp = self.set(f"icmp eq i32 {in_warp}, 0")
        self.has_warp = self.set(f"icmp ult i32 {in_warp}, {warps}")
        self.of_warp = self.wide(self.set(f"select i1 {self.has_warp}, i32 {in_warp}, i32 0"))

    def kernel(self) -> str:
        self.load_slots()
        top = self.plan.top
        p = self.prologue()
        self.lane_wise = not self.plan.widths       # no vector loops: a thread takes an iteration whole
        with self.only_if(self.set(f"icmp slt i64 {p}, {self.expression(top.args[0])}")):
            self.indices[top.attr[0]] = p
            self.statements(top.args[1:])
        self.line("ret void")
        return self.function(self.signature(), "#1")

    # -- arithmetic that differs from the processor's -----------------------------------------------------------

    def ldexp(self, op: ir.Op, a: str, n: str) -> str:
        return self.expression(ir.scaled(*op.args))

    def float_binary(self, k: str, d: dt.dtype, a: str, b: str, flags: str = "") -> str:
        return self._remainder(d, a, b) if k == "rem" else super().float_binary(k, d, a, b, flags)

    def _remainder(self, d: dt.dtype, x: str, y: str) -> str:
        """The exact remainder of a division that truncates, with the sign of x. As in long division, multiples q * t of t = y * 2**(20 n)
        are taken away, q below 2**21: what is left is exact each time (LLVM's own expansion divides once, and is not)."""
        t, infinity = llvm_type(d), literal(float("inf"), d)
        left, b = (self.call(f"llvm.fabs.{d.code}", t, (t, v)) for v in (x, y))
        valid = self.set(f"and i1 {self.set(f'fcmp ogt {t} {b}, 0.0')}, {self.set(f'fcmp olt {t} {left}, {infinity}')}")
        rest, scaled = self.variable(t, left), self.variable(t, b)
        with self.only_if(valid):
            with self.while_true(lambda: self.set(f"fcmp oge {t} {self.set(f'load {t}, ptr {rest}')}, {b}")):
                left = self.set(f"load {t}, ptr {rest}")
                self.line(f"store {t} {b}, ptr {scaled}")

                def larger() -> str:
                    return self.set(f"fmul {t} {self.set(f'load {t}, ptr {scaled}')}, {literal(2.0 ** 20, d)}")

                with self.while_true(lambda: self.set(f"fcmp ole {t} {larger()}, {left}")):
                    self.line(f"store {t} {larger()}, ptr {scaled}")
                step = self.set(f"load {t}, ptr {scaled}")
                q = self.call(f"llvm.trunc.{d.code}", t, (t, self.set(f"fdiv {t} {left}, {step}")))
                less = self.call(f"llvm.fma.{d.code}", t, (t, self.set(f"fneg {t} {q}")), (t, step), (t, left))
                more = self.set(f"fadd {t} {less}, {step}")
                negative = self.set(f"fcmp olt {t} {less}, 0.0")
                self.line(f"store {t} {self.set(f'select i1 {negative}, {t} {more}, {t} {less}')}, ptr {rest}")
        found = self.call(f"llvm.copysign.{d.code}", t, (t, self.set(f"load {t}, ptr {rest}")), (t, x))
        return self.set(f"select i1 {valid}, {t} {found}, {t} {literal(float('nan'), d)}")

    def _narrow_bfloat(self, a: str) -> str:
        return self.set(f"bitcast bfloat {self.set(f'fptrunc float {a} to bfloat')} to i16")

    def _widen_half(self, a: str) -> str:
        return self.set(f"fpext half {self.set(f'bitcast i16 {a} to half')} to float")

    def _narrow_half(self, a: str) -> str:
        return self.set(f"bitcast half {self.set(f'fptrunc float {a} to half')} to i16")


def nested(s: ir.Op) -> bool:
    return any(b.kind == "loop" for b in s.args[1:])


def straight(s: ir.Op) -> bool:
    """Whether a vector loop's body is short, without branches, and reads of what it writes only the element that it replaces."""
    body = s.args[1:]
    if any(b.kind not in ("store", "update", "check") for b in body):
        return False
    nodes = [o for b in body for o in walk(b)]
    stores = [b for b in body if b.kind == "store"]
    return len(nodes) <= SIMPLE and all(is_old(o, b) for o in nodes if o.kind == "load" for b in stores if b.attr == o.attr)


def identity(combine: str, d: dt.dtype) -> str:
    """What combining leaves unchanged."""
    if combine in ("any", "all"):
        return "true" if combine == "all" else "false"
    if combine in ("sum", "prod"):
        return literal(combine == "prod", d)
    least = combine == "max"
    if d.kind == "f":
        return literal(float("-inf" if least else "inf"), d)
    if d.kind == "b":
        return "false" if least else "true"
    bits = 8 * d.itemsize
    low, high = (0, 2 ** bits - 1) if d.kind == "u" else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)
    return literal(low if least else high, d)


def module(functions: list[str], emitters: list[Emitter], shared: int | None) -> str:
    """`shared`: 8-byte words of shared memory; None: as many as the launch says."""
    declarations = sorted(set().union(*(e.intrinsics for e in emitters)))
    metadata = [f"!{i} = {text}" for i, text in enumerate(emitters[0].metadata)]
    memory = [f"@shared = internal addrspace(3) global [{shared} x i64] undef, align 16"] if shared else []
    if shared is None:
        memory = ["@shared = external addrspace(3) global [0 x i64], align 16"]
    return TRIPLE + "\n".join([*memory, *functions, *declarations, "attributes #0 = { nounwind }", *metadata]) + "\n"


def start(e: PtxEmitter) -> PtxEmitter:
    """The metadata that all code refers to."""
    e.meta("!{}")
    e.meta('!{!"branch_weights", i32 1, i32 2000}')
    return e


# -- kernels ----------------------------------------------------------------------------------------------------

class Kernel:
    """A program whose body is one parallel loop. `key` determines its code."""

    def __init__(self, program: ir.Program, text: str):
        if len(program.slots) > MOST_WORDS:
            raise NotImplementedError(f"cuda: expected a kernel of at most {MOST_WORDS} arguments; received {len(program.slots)}. "
                                      "Compute fewer tensors at once.")
        self.program, self.key = program, text

    each = 1                # elements side by side that a lane takes

    @property
    def most_threads(self) -> int:
        """Of a block that works on one row: what computes in float64 needs twice the registers."""
        return THREADS if any(slot.dtype is dt.float64 for slot in self.program.slots) else MOST_THREADS

    @functools.cached_property
    def plan(self) -> Schedule:
        return schedule(self.program)

    @functools.cached_property
    def wide(self) -> Kernel:
        """The same program, 16 bytes to a lane (cuda_wide.py)."""
        from .cuda_wide import WideKernel

        return WideKernel(self)

    def fitted(self, words) -> Kernel:
        """This kernel, or the faster one that these arguments allow. Of addresses the offsets from a buffer's beginning must be right."""
        return self.wide if self.plan.widths and self.wide.fits(words) else self

    def ir(self, architecture: int = ARCHITECTURES[-1]) -> str:
        e = start(PtxEmitter(self.program, self.plan))
        return module([e.kernel()], [e], e.shared_words) + self.attributes()

    def attributes(self) -> str:
        """Attributes #1, of the kernel: how many threads a block may have, which decides how many registers each may."""
        threads = self.most_threads if self.plan.widths and not self.plan.splits else THREADS
        return f'attributes #1 = {{ nounwind "nvvm.maxntid"="{threads}" }}\n'

    def ptx(self, architecture: int = ARCHITECTURES[-1]) -> str:
        """The kernel's code for GPUs from compute capability `architecture` (80 for 8.0) on."""
        return assemble(self.key, lambda: self.ir(architecture), architecture, len(self.program.slots) > FEW_WORDS)

    assembly = ptx

    def entry(self, words, architecture: int = ARCHITECTURES[-1]) -> str:
        """The name of the function that serves these arguments."""
        return "kernel"

    def launch(self, words, architecture: int = ARCHITECTURES[-1]) -> Launch | None:
        """How to launch it for these arguments; None if there is nothing to do. Of addresses in `words` only the offsets from
        a buffer's beginning need be right."""
        count = evaluate(self.plan.top.args[0], words)
        if count <= 0:
            return None
        if not self.plan.widths:
            rows = min(THREADS // 2, max(WARP, _power(count // 1024)))
            return Launch((-(-count // rows), 1), (1, rows))
        width = max(1, *(extent_of(e, words) for e in self.plan.widths))
        return self._split(count, width, self.each) if self.plan.splits else self._rows(count, width, self.each, self.most_threads)

    @staticmethod
    def _split(count: int, width: int, each: int = 1) -> Launch:
        lanes = min(THREADS, _power(-(-width // each)))
        rows = min(THREADS // lanes, _power(count))
        return Launch((-(-count // rows), min(GRID_Y, -(-width // (lanes * max(each, UNROLL))))), (lanes, rows))

    @staticmethod
    def _rows(count: int, width: int, each: int = 1, most: int = MOST_THREADS) -> Launch:
        """A warp for a row of up to a thousand elements or so; more for longer ones, and where there are few rows."""
        lanes = max(min(WARP, _power(-(-width // each))), min(THREADS, _power(width // 16)))
        while lanes < min(most, _power(width) // 2) and count * lanes < FILLED:
            lanes *= 2
        rows = min(max(1, THREADS // 2 // lanes), _power(count)) if lanes <= WARP else 1
        return Launch((-(-count // rows), 1), (lanes, rows))


def _power(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def extent_of(e: ir.Op, words) -> int:
    """An extent as far as the arguments tell it."""
    if e.kind == "min":
        return min(extent_of(a, words) for a in e.args)
    try:
        return evaluate(e, words)
    except KeyError:        # depends on something that only the kernel knows
        return 1024


_kernels: dict[tuple[str, str], Kernel] = {}


def build_all(programs: list[ir.Program]) -> list[Kernel]:
    """The kernels of programs; equal texts share one. They are compiled when they are first loaded."""
    found = []
    for program in programs:
        text = program.text()
        key = text, config.float32_matmul
        kernel = _kernels.get(key)
        if kernel is None:
            kernel = _kernels[key] = _kernel(program, text)
        found.append(kernel)
    return found


def _kernel(program: ir.Program, text: str) -> Kernel:
    if program.body[0].kind == "contract":
        from .cuda_contract import ContractionKernel
        return ContractionKernel(program, text)
    return Kernel(program, text)


# -- LLVM -------------------------------------------------------------------------------------------------------

_lock = Lock()


@functools.cache
def _machine(architecture: int, long: bool):
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    return llvm, target.create_target_machine(cpu=f"sm_{architecture}", features="+ptx81" if long else "", opt=3)


def compiled(text: str, architecture: int, long: bool = False) -> str:
    """PTX of a module. `long`: its kernels have more than 4 KiB of parameters."""
    with _lock:
        llvm, machine = _machine(architecture, long)
        with llvm.create_context() as context, llvm.parse_assembly(text, context) as code:
            code.verify()
            options = llvm.create_pipeline_tuning_options(speed_level=3)
            options.loop_vectorization = options.slp_vectorization = False
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(code, builder)
            return machine.emit_assembly(code)


def assemble(key: str, make_ir, architecture: int, long: bool) -> str:
    """PTX of the module that `key` determines, compiled once and kept on disk."""
    disk, digest = jit.disk_cache(), jit.disk_name(f"ptx {architecture} {key}")
    kept = disk.read(digest)
    if kept is not None:
        return kept.decode()
    text = compiled(make_ir(), architecture, long)
    disk.write(digest, text.encode())
    return text


def architecture_for(capability: tuple[int, int]) -> int:
    """The newest architecture that a GPU of this compute capability runs."""
    number = 10 * capability[0] + capability[1]
    fitting = [a for a in ARCHITECTURES if a <= number]
    if not fitting:
        raise RuntimeError(f"cuda: expected a GPU of compute capability {ARCHITECTURES[0] / 10} or later; "
                           f"received one of {capability[0]}.{capability[1]}. Use device='cpu'.")
    return fitting[-1]
