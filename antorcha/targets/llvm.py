"""Loop programs as LLVM IR: scalar code with the claims that let LLVM vectorise it, compiled once per program text."""

from __future__ import annotations

import struct

import numpy as np

from ..base import dtype as dt
from ..loops import ir
from ..runtime import compiler, cpu
from . import crossing, pairs

_TYPES = {
    "i1": "i1",
    "u8": "i8",
    "i8": "i8",
    "i16": "i16",
    "u16": "i16",
    "i32": "i32",
    "u32": "i32",
    "i64": "i64",
    "u64": "i64",
    "f16": "i16",
    "bf16": "i16",
    **dict.fromkeys([d.code for d in vars(dt).values() if isinstance(d, dt.dtype) and d.opaque], "i8"),
    "f32": "float",
    "f64": "double",
    "c32": "i32",
    "c64": "i64",
    "c128": "i128",
}  # complex and 16-bit floats are kept, not computed


def _converts_half() -> bool:
    """Whether the processor converts between float16 and float32."""
    return not cpu.features().isdisjoint({"f16c", "neon"})


def llvm_type(d: dt.dtype) -> str:
    """The type of a value in a register."""
    return _TYPES[d.code]


def memory_type(d: dt.dtype) -> str:
    """The type of an element in memory: a bool is a byte."""
    return "i8" if d is dt.bool_ else _TYPES[d.code]


def literal(value, d: dt.dtype) -> str:
    """A constant as LLVM writes it; floats by their bits, as a double."""
    if d.kind == "b":
        return "true" if value else "false"
    if d.kind in "iu":
        return str(int(value))
    if d is dt.float16:
        return str(int(np.float16(value).view(np.uint16)))
    if d is dt.bfloat16:
        return str(int(dt.encode(np.float32(value))))
    if d is dt.float32:
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return "0x" + struct.pack(">d", value).hex().upper()


class Emitter:
    """Writes the body of one function for statements of a program."""

    def __init__(self, program: ir.Program):
        self.program = program
        self.streams = cpu.streams() and any(slot.role == "stream" for slot in program.slots)
        self.flushes = False                          # whether numbers below the smallest normal one may count as zero
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.indices: dict[str, str] = {}
        self.accumulators: dict[str, tuple] = {}      # name -> (address, combine, dtype)
        self.values: dict[str, str] = {}              # value(name) given directly (contractions)
        self.slots: dict[int, str] = {}
        self.memo: dict[int, str] = {}
        self.keep: list = []                          # keeps memoised nodes alive: ids must not be reused
        self.metadata: list[str] = []
        self.intrinsics: set[str] = set()
        self.groups: list[str] = []
        self.noted: dict[int, str] = {}               # slot of a check -> the variable that holds its code within the innermost loop
        self.number = 0
        self.block = "entry"
        self.branches = False                         # whether a statement is under a condition

    # -- text ---------------------------------------------------------------------------------------------------

    def fresh(self) -> str:
        self.number += 1
        return f"%v{self.number}"

    def variable(self, t: str, value: str) -> str:
        """The address of a variable that begins with a value."""
        address = self.fresh()
        self.allocas.append(f"  {address} = alloca {t}")
        self.line(f"store {t} {value}, ptr {address}")
        return address

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def set(self, text: str) -> str:
        name = self.fresh()
        self.line(f"{name} = {text}")
        return name

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def fence(self) -> None:
        """At the end of a kernel: other threads are to see all that was stored."""
        if self.streams:
            self.intrinsics.add("declare void @llvm.x86.sse.sfence()")
            self.line("call void @llvm.x86.sse.sfence()")

    def new_label(self, stem: str) -> str:
        self.number += 1
        return f"{stem}{self.number}"

    def meta(self, text: str) -> str:
        self.metadata.append(text)
        return f"!{len(self.metadata) - 1}"

    def call(self, name: str, result: str, *args: tuple, flags: str = "") -> str:
        types = ", ".join(t for t, _ in args)
        self.intrinsics.add(f"declare {result} @{name}({types})")
        return self.set(f"call {flags}{result} @{name}({', '.join(f'{t} {v}' for t, v in args)})")

    # -- slots --------------------------------------------------------------------------------------------------

    def load_slots(self, args: str = "%args", scratch: str = "%scratch") -> None:
        """All run-time arguments into registers, at the function's entry."""
        for i, slot in enumerate(self.program.slots):
            p = self.set(f"getelementptr inbounds i64, ptr {args}, i64 {i}")
            if slot.role == "scratch":
                offset = self.set(f"load i64, ptr {p}, !invariant.load !0")
                self.slots[i] = self.set(f"getelementptr inbounds i8, ptr {scratch}, i64 {offset}")
            elif slot.role in ir.BUFFER_ROLES:
                self.slots[i] = self.set(f"load ptr, ptr {p}, !invariant.load !0")
            elif slot.dtype.kind == "f":
                wide = self.set(f"load double, ptr {p}, !invariant.load !0")
                self.slots[i] = wide if slot.dtype is dt.float64 else self.set(f"fptrunc double {wide} to {llvm_type(slot.dtype)}")
            else:
                wide = self.set(f"load i64, ptr {p}, !invariant.load !0")
                t = llvm_type(slot.dtype)
                self.slots[i] = wide if t == "i64" else self.set(f"trunc i64 {wide} to {t}")

    # -- expressions --------------------------------------------------------------------------------------------

    def expression(self, op: ir.Op) -> str:
        """Emit what computes `op` (once in a scope); its operand text."""
        k = op.kind
        if k == "const":
            return literal(op.attr, op.dtype)
        if k == "arg":
            return self.slots[op.attr]
        if k == "index":
            return self.indices[op.attr]
        if k == "value":
            if op.attr in self.values:
                return self.values[op.attr]
            address, _, d = self.accumulators[op.attr]
            return self.set(f"load {llvm_type(d)}, ptr {address}")
        memo = self.memo
        for o in ir.operands_first(op, memo):
            memo[id(o)] = self._expression(o)
            self.keep.append(o)
        return memo[id(op)]

    def _expression(self, op: ir.Op) -> str:
        k, d = op.kind, op.dtype
        if k == "load":
            return self.load(op)
        args = [self.expression(a) for a in op.args]
        source = op.args[0].dtype
        t = llvm_type(source)
        if k in ir.COMPARE:
            return self.compare(k, source, *args)
        if k == "select":
            t = llvm_type(d)
            return self.set(f"select i1 {args[0]}, {t} {args[1]}, {t} {args[2]}")
        if k == "cast":
            return self.cast(args[0], source, d)
        if k == "bitcast":
            return self.set(f"bitcast {t} {args[0]} to {llvm_type(d)}")
        if k in ("complex", "real", "imag"):
            return self._complex(k, d, source, args)
        if k == "fma":
            return self.call(f"llvm.fma.{d.code}", t, *((t, a) for a in args))
        if k == "ldexp":
            return self.ldexp(op, *args)
        if len(args) == 1:
            return self.unary(k, d, args[0])
        return self.float_binary(k, d, *args) if d.kind == "f" else self.integer_binary(k, d, *args)

    def address(self, slot: int, offset: ir.Op) -> str:
        t = memory_type(self.program.slots[slot].dtype)
        return self.set(f"getelementptr inbounds {t}, ptr {self.slots[slot]}, i64 {self.expression(offset)}")

    def alignment(self, op: ir.Op, itemsize: int) -> int:
        """Of what number of bytes the address of a load or a store is a multiple."""
        return min(itemsize, 8)

    def _access(self) -> str:
        return f", !llvm.access.group {self.groups[-1]}" if self.groups and self.groups[-1] else ""

    def load(self, op: ir.Op) -> str:
        p = self.address(op.attr, op.args[0])
        v = self.set(f"load {memory_type(op.dtype)}, ptr {p}, align {self.alignment(op, op.dtype.itemsize)}{self._access()}")
        return self.set(f"icmp ne i8 {v}, 0") if op.dtype is dt.bool_ else v

    def _complex(self, k: str, d: dt.dtype, source: dt.dtype, args: list[str]) -> str:
        """A complex number is the integer of its bits, the real part low."""
        if k == "complex":
            part, whole, half = 8 * source.itemsize, llvm_type(d), llvm_type(source)
            low, high = (self.set(f"zext i{part} {self.set(f'bitcast {half} {a} to i{part}')} to {whole}") for a in args)
            return self.set(f"or {whole} {low}, {self.set(f'shl {whole} {high}, {part}')}")
        part, whole, a = 8 * d.itemsize, llvm_type(source), args[0]
        a = self.set(f"lshr {whole} {a}, {part}") if k == "imag" else a
        return self.set(f"bitcast i{part} {self.set(f'trunc {whole} {a} to i{part}')} to {llvm_type(d)}")

    def store_at(self, p: str, v: str, d: dt.dtype, aligned: int = 0) -> None:
        if d is dt.bool_:
            v = self.set(f"zext i1 {v} to i8")
        self.line(f"store {memory_type(d)} {v}, ptr {p}, align {aligned or min(d.itemsize, 8)}{self._access()}")

    def compare(self, k: str, d: dt.dtype, a: str, b: str) -> str:
        if d.kind == "f":
            return self.set(f"fcmp {dict(lt='olt', le='ole', eq='oeq', ne='une')[k]} {llvm_type(d)} {a}, {b}")
        sign = "" if k in ("eq", "ne") else "s" if d.kind == "i" else "u"
        return self.set(f"icmp {sign}{k} {llvm_type(d)} {a}, {b}")

    def unary(self, k: str, d: dt.dtype, a: str) -> str:
        t = llvm_type(d)
        if k == "not":
            return self.set(f"xor {t} {a}, {'true' if d is dt.bool_ else '-1'}")
        if d.kind == "f":
            if k == "neg":
                return self.set(f"fneg {t} {a}")
            name = {"abs": "fabs", "round": "roundeven"}.get(k, k)
            return self.call(f"llvm.{name}.{d.code}", t, (t, a))
        if k == "neg":
            return self.set(f"sub {t} 0, {a}")
        if k == "abs":
            return a if d.kind != "i" else self.set(f"call {t} @llvm.abs.{t}({t} {a}, i1 false)") if self._declare_abs(t) else a
        return a

    def _declare_abs(self, t: str) -> bool:
        self.intrinsics.add(f"declare {t} @llvm.abs.{t}({t}, i1)")
        return True

    def ldexp(self, op: ir.Op, a: str, n: str) -> str:
        if "avx512f" in cpu.features():
            return self.call("llvm.ldexp.f32.i32", "float", ("float", a), ("i32", self.cast(n, dt.float32, dt.int32)))
        return self.expression(ir.scaled(*op.args))

    def float_binary(self, k: str, d: dt.dtype, a: str, b: str, flags: str = "") -> str:
        t = llvm_type(d)
        if k in ("min", "max"):
            return self.call(f"llvm.{k}imum.{d.code}", t, (t, a), (t, b), flags="nsz ")     # NaN wins; of 0 and -0, either
        if k == "floordiv":
            return self.call(f"llvm.floor.{d.code}", t, (t, self.set(f"fdiv {t} {a}, {b}")))
        return self.set(f"f{k} {flags}{t} {a}, {b}")

    def integer_binary(self, k: str, d: dt.dtype, a: str, b: str) -> str:
        t = llvm_type(d)
        if k in ("add", "sub", "mul", "and", "or", "xor"):
            if d is dt.bool_:
                k = {"add": "or", "mul": "and", "sub": "xor"}.get(k, k)
            return self.set(f"{k} {t} {a}, {b}")
        sign = "s" if d.kind == "i" else "u"
        if k in ("min", "max"):
            if d is dt.bool_:
                return self.set(f"{'and' if k == 'min' else 'or'} i1 {a}, {b}")
            return self.call(f"llvm.{sign}{k}.{t}", t, (t, a), (t, b))
        if k in ("shl", "shr"):
            return self._shift(k, d, t, a, b)
        return self._divide(k, d, t, sign, a, b)

    def _shift(self, k: str, d: dt.dtype, t: str, a: str, b: str) -> str:
        """Shifts by the width or more give what an endless shift gives."""
        width = 8 * d.itemsize
        instruction = "shl" if k == "shl" else ("ashr" if d.kind == "i" else "lshr")
        if b.lstrip("-").isdigit():
            return self.set(f"{instruction} {t} {a}, {b}")
        far = self.set(f"icmp ugt {t} {b}, {width - 1}")
        near = self.set(f"select i1 {far}, {t} {width - 1}, {t} {b}")
        shifted = self.set(f"{instruction} {t} {a}, {near}")
        if instruction == "ashr":
            return shifted
        return self.set(f"select i1 {far}, {t} 0, {t} {shifted}")

    def _divide(self, k: str, d: dt.dtype, t: str, sign: str, a: str, b: str) -> str:
        """Division that never traps: by zero it gives 0, and the least integer by -1 wraps."""
        constant = b.isdigit() and b != "0"
        safe, zero = b, None
        if not constant:
            zero = self.set(f"icmp eq {t} {b}, 0")
            bad = zero
            if sign == "s":
                bad = self.set(f"or i1 {zero}, {self.set(f'icmp eq {t} {b}, -1')}")
            safe = self.set(f"select i1 {bad}, {t} 1, {t} {b}")
        q = self.set(f"{sign}div {t} {a}, {safe}")
        r = self.set(f"{sign}rem {t} {a}, {safe}")
        if k == "floordiv" and sign == "s":
            other = self.set(f"icmp slt i{8 * d.itemsize} {self.set(f'xor {t} {r}, {safe}')}, 0")
            uneven = self.set(f"icmp ne {t} {r}, 0")
            step = self.set(f"sext i1 {self.set(f'and i1 {other}, {uneven}')} to {t}")
            q = self.set(f"add {t} {q}, {step}")
        out = r if k == "rem" else q
        if not constant:
            if sign == "s" and k != "rem":
                out = self.set(f"select i1 {self.set(f'icmp eq {t} {b}, -1')}, {t} {self.set(f'sub {t} 0, {a}')}, {t} {out}")
            out = self.set(f"select i1 {zero}, {t} 0, {t} {out}")
        return out

    def cast(self, a: str, source: dt.dtype, to: dt.dtype) -> str:
        s, t = llvm_type(source), llvm_type(to)
        if source.opaque or to.opaque:      # bytes as they are
            return a
        if source.compute is not source:
            wide = self._widen_bfloat(a) if source is dt.bfloat16 else self._widen_half(a)
            return wide if to is dt.float32 else self.cast(wide, dt.float32, to)
        if to.compute is not to:
            a = a if source is dt.float32 else self.cast(a, source, dt.float32)
            return self._narrow_bfloat(a) if to is dt.bfloat16 else self._narrow_half(a)
        if to is dt.bool_:
            return self.set(f"fcmp une {s} {a}, 0.0") if source.kind == "f" else self.set(f"icmp ne {s} {a}, 0")
        if source.kind == "f" and to.kind == "f":
            return self.set(f"{'fpext' if to.itemsize > source.itemsize else 'fptrunc'} {s} {a} to {t}")
        if source.kind == "f":
            # What does not fit is some number (freeze), not LLVM's poison. Small types: through int32, as C compilers for x86 do.
            wide = t if to.itemsize >= 4 else "i32"
            whole = self.set(f"freeze {wide} {self.set(f'fptosi {s} {a} to {wide}')}")
            return whole if wide == t else self.set(f"trunc i32 {whole} to {t}")
        if to.kind == "f":
            return self.set(f"{'sitofp' if source.kind == 'i' else 'uitofp'} {s} {a} to {t}")
        if source.itemsize < to.itemsize or source is dt.bool_:
            return self.set(f"{'sext' if source.kind == 'i' else 'zext'} {s} {a} to {t}")
        return a if s == t else self.set(f"trunc {s} {a} to {t}")

    # 16-bit floats, as integers of their bits. To nearest even; a NaN stays one.

    def _widen_bfloat(self, a: str) -> str:
        return self.set(f"bitcast i32 {self.set(f'shl i32 {self._extended(a)}, 16')} to float")

    def _extended(self, a: str) -> str:
        return self.set(f"zext i16 {a} to i32")

    def _narrow_bfloat(self, a: str) -> str:
        if self.flushes and "avx512bf16" in cpu.features():     # whose instruction takes them for zero
            return self.set(f"bitcast bfloat {self.set(f'fptrunc float {a} to bfloat')} to i16")
        bits = self.set(f"bitcast float {a} to i32")
        odd = self.set(f"and i32 {self.set(f'lshr i32 {bits}, 16')}, 1")
        up = self.set(f"add i32 {self.set(f'add i32 {bits}, 32767')}, {odd}")
        rounded = self.set(f"trunc i32 {self.set(f'lshr i32 {up}, 16')} to i16")
        return self.set(f"select i1 {self.set(f'fcmp uno float {a}, {a}')}, i16 {0x7FC0}, i16 {rounded}")

    def _widen_half(self, a: str) -> str:
        if _converts_half():
            return self.set(f"fpext half {self.set(f'bitcast i16 {a} to half')} to float")
        wide = self._extended(a)
        magnitude = self.set(f"shl i32 {self.set(f'and i32 {wide}, 32767')}, 13")
        scaled = self.set(f"fmul float {self.set(f'bitcast i32 {magnitude} to float')}, {literal(2.0 ** 112, dt.float32)}")
        top = self.set(f"icmp uge i32 {magnitude}, {0x7C00 << 13}")     # infinity or NaN
        special = self.set(f"or i32 {magnitude}, {0x7F800000}")
        bits = self.set(f"select i1 {top}, i32 {special}, i32 {self.set(f'bitcast float {scaled} to i32')}")
        sign = self.set(f"shl i32 {self.set(f'and i32 {wide}, 32768')}, 16")
        return self.set(f"bitcast i32 {self.set(f'or i32 {bits}, {sign}')} to float")

    def _narrow_half(self, a: str) -> str:
        if _converts_half():
            return self.set(f"bitcast half {self.set(f'fptrunc float {a} to half')} to i16")
        bits = self.set(f"bitcast float {a} to i32")
        magnitude = self.set(f"and i32 {bits}, {0x7FFFFFFF}")
        # normal: the exponent moved, the mantissa rounded; subnormal: the adder of floats rounds
        odd = self.set(f"and i32 {self.set(f'lshr i32 {magnitude}, 13')}, 1")
        moved = self.set(f"add i32 {self.set(f'add i32 {magnitude}, {0xFFF - (112 << 23)}')}, {odd}")
        normal = self.set(f"lshr i32 {moved}, 13")
        shifted = self.set(f"fadd float {self.set(f'bitcast i32 {magnitude} to float')}, {literal(0.5, dt.float32)}")
        subnormal = self.set(f"sub i32 {self.set(f'bitcast float {shifted} to i32')}, {126 << 23}")
        small = self.set(f"icmp ult i32 {magnitude}, {113 << 23}")
        found = self.set(f"select i1 {small}, i32 {subnormal}, i32 {normal}")
        large = self.set(f"icmp uge i32 {magnitude}, {0x477FF000}")     # 65520 and above round to infinity
        nan = self.set(f"icmp ugt i32 {magnitude}, {0x7F800000}")
        special = self.set(f"select i1 {nan}, i32 {0x7E00}, i32 {0x7C00}")
        found = self.set(f"select i1 {large}, i32 {special}, i32 {found}")
        sign = self.set(f"and i32 {self.set(f'lshr i32 {bits}, 16')}, 32768")
        return self.set(f"trunc i32 {self.set(f'or i32 {found}, {sign}')} to i16")

    # -- statements ---------------------------------------------------------------------------------------------

    def statements(self, body) -> None:
        """Statements in a scope of their own: what they computed is forgotten after it."""
        outer, self.memo = self.memo, dict(self.memo)
        known = dict(self.accumulators)
        for s in body:
            self.statement(s)
        self.memo, self.accumulators = outer, known

    def statement(self, s: ir.Op) -> None:
        getattr(self, f"_{s.kind}")(s)

    def _store(self, s: ir.Op) -> None:
        v, d = self.expression(s.args[1]), s.args[1].dtype
        streams = self.streams and self.program.slots[s.attr].role == "stream"
        self.store_at(self.address(s.attr, s.args[0]), v, d, compiler.streamed(d.itemsize) if streams else 0)

    def _accumulator(self, s: ir.Op) -> None:
        name, combine = s.attr
        d = s.args[0].dtype
        address = self.fresh()
        self.allocas.append(f"  {address} = alloca {llvm_type(d)}")
        self.line(f"store {llvm_type(d)} {self.expression(s.args[0])}, ptr {address}")
        self.accumulators[name] = (address, combine, d)

    def _update(self, s: ir.Op) -> None:
        address, combine, d = self.accumulators[s.attr]
        t = llvm_type(d)
        v = self.expression(s.args[0])
        if combine != "set":
            old = self.set(f"load {t}, ptr {address}")
            v = self.combine(combine, d, old, v)
        self.line(f"store {t} {v}, ptr {address}")

    def combine(self, combine: str, d: dt.dtype, old: str, v: str) -> str:
        kind = {"sum": "add", "prod": "mul", "any": "or", "all": "and"}.get(combine, combine)
        if d.kind == "f":
            return self.float_binary(kind, d, old, v, "reassoc " if combine in ("sum", "prod") else "")
        return self.integer_binary(kind, d, old, v)

    def _when(self, s: ir.Op) -> None:
        self.branches = True
        yes, end = self.new_label("then"), self.new_label("end")
        self.line(f"br i1 {self.expression(s.args[0])}, label %{yes}, label %{end}")
        self.label(yes)
        self.statements(s.args[1:])
        self.line(f"br label %{end}")
        self.label(end)

    def _check(self, s: ir.Op) -> None:
        """In the innermost loop the code of one that is outside is held until it ends: a loop with a branch is no loop of vectors."""
        i, size = (self.expression(a) for a in s.args)
        bad = self.set(f"icmp uge i64 {i}, {size}")
        code = self.set(f"select i1 {self.set(f'icmp sge i64 {i}, 0')}, i64 {self.set(f'add i64 {i}, 1')}, i64 {i}")
        noted = self.noted.get(s.attr)
        if noted is None:
            self._note(s.attr, bad, code)
            return
        found = self.set(f"select i1 {bad}, i64 {code}, i64 0")
        self.intrinsics.add("declare i64 @llvm.umax.i64(i64, i64)")
        held = self.set(f"load i64, ptr {noted}")
        self.line(f"store i64 {self.set(f'call i64 @llvm.umax.i64(i64 {held}, i64 {found})')}, ptr {noted}")

    def _note(self, slot: int, bad: str, code: str) -> None:
        """Write a code to a slot, where it is bad."""
        self.branches = True
        yes, end = self.new_label("bad"), self.new_label("good")
        self.line(f"br i1 {bad}, label %{yes}, label %{end}, !prof !1")
        self.label(yes)
        self.line(f"store atomic i64 {code}, ptr {self.slots[slot]} monotonic, align 8")
        self.line(f"br label %{end}")
        self.label(end)

    def _loop(self, s: ir.Op) -> None:
        name, kind = s.attr
        if crossing.found(self.program, s):
            crossing.copy(self, s)
        elif pairs.found(s):
            pairs.write(self, s)
        else:
            self.loop(name, kind, "0", self.expression(s.args[0]), lambda: self.statements(s.args[1:]), s)

    def loop(self, name: str, kind: str, start: str, stop: str, body, s: ir.Op | None = None) -> None:
        """for (i64 name = start; name < stop; name++) body()"""
        inner = kind in ("vector", "short", "whole") and s is not None and not _contains_loop(s)
        head, into, end = self.new_label("loop"), self.new_label("body"), self.new_label("end")
        i, after = self.fresh(), self.fresh()
        if inner:
            self.noted = {c.attr: self.variable("i64", "0") for c in s.args[1:] if c.kind == "check"}
        before = self.block
        self.line(f"br label %{head}")
        self.label(head)
        self.line(f"{i} = phi i64 [{start}, %{before}], [{after}, %{into}.latch]")
        self.line(f"br i1 {self.set(f'icmp slt i64 {i}, {stop}')}, label %{into}, label %{end}")
        self.label(into)
        self.indices[name] = i
        group = self.meta("distinct !{}") if inner else None
        self.groups.append(group)
        body()
        self.groups.pop()
        self.line(f"br label %{into}.latch")
        self.label(f"{into}.latch")
        self.line(f"{after} = add nuw nsw i64 {i}, 1")
        self.line(f"br label %{head}{self._hint(kind, inner, group)}")
        self.label(end)
        noted, self.noted = (self.noted, {}) if inner else ({}, self.noted)
        for slot, address in noted.items():
            code = self.set(f"load i64, ptr {address}")
            self._note(slot, self.set(f"icmp ne i64 {code}, 0"), code)

    def _hint(self, kind: str, inner: bool, group: str | None) -> str:
        if kind == "rest":      # rarely carried out, and shortly: any other code only takes longer to compile
            return compact_loop(self, self.meta('!{!"llvm.loop.vectorize.enable", i1 false}'))
        if not inner:
            return ""
        parallel = self.meta(f'!{{!"llvm.loop.parallel_accesses", {group}}}')
        hints = [parallel]
        if kind == "short" and cpu.vector_bytes() == 64:    # masked instructions
            hints.append(self.meta('!{!"llvm.loop.vectorize.predicate.enable", i1 true}'))
        if kind == "whole":     # several vectors at a time would leave some to a loop over single elements
            hints.append(self.meta('!{!"llvm.loop.interleave.count", i32 1}'))
        number = len(self.metadata)
        self.metadata.append(f"distinct !{{{', '.join([f'!{number}', *hints])}}}")
        return f", !llvm.loop !{number}"

    # -- the module ---------------------------------------------------------------------------------------------

    def function(self, signature: str, attributes: str = "#0") -> str:
        """The finished text of the function whose body was emitted."""
        entry = self.lines
        return "\n".join([f"define {signature} {attributes} {{", "entry:", *self.allocas, *entry, "}"])


def _contains_loop(s: ir.Op) -> bool:
    return any(a.kind == "loop" or (a.kind == "when" and _contains_loop(a)) for a in s.args[1:] if a.dtype is None)


ATTRIBUTES = 'nounwind "no-trapping-math"="true"'


def module(functions: list[str], emitters: list[Emitter], attributes: str = ATTRIBUTES) -> str:
    declarations = sorted(set().union(*(e.intrinsics for e in emitters)))
    metadata = [f"!{i} = {text}" for i, text in enumerate(emitters[0].metadata)]
    passes = "" if any(e.branches for e in emitters) else compiler.STRAIGHT
    if any(e.streams for e in emitters):
        attributes = f"{attributes} {compiler.STREAMED}"
    return passes + "\n".join([*functions, *declarations, f"attributes #0 = {{ {attributes} }}", *metadata]) + "\n"


def compact_loop(emitter: Emitter, *hints: str) -> str:
    """Keeps LLVM from unrolling a loop, which costs time to compile and gains nothing here."""
    rolled = emitter.meta('!{!"llvm.loop.unroll.runtime.disable"}')
    members = ", ".join([f"!{len(emitter.metadata)}", *hints, rolled])
    return f", !llvm.loop {emitter.meta(f'distinct !{{{members}}}')}"


def new_emitter(program: ir.Program) -> Emitter:
    e = Emitter(program)
    e.meta("!{}")
    e.meta('!{!"branch_weights", i32 1, i32 2000}')
    return e


SIGNATURE = "void @kernel(ptr noalias nocapture readonly %args, i64 %begin, i64 %end, ptr noalias %scratch)"


def emit(program: ir.Program) -> str:
    """The module of a program whose body is one parallel loop."""
    e = new_emitter(program)
    e.load_slots()
    top = program.body[0]
    e.loop(top.attr[0], "parallel", "%begin", "%end", lambda: e.statements(top.args[1:]))
    e.fence()
    e.line("ret void")
    return module([e.function(SIGNATURE)], [e], f"{ATTRIBUTES} {compiler.FETCHES}")
