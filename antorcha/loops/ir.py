"""The loop program: *how* a kernel computes. One node class, one printer, one verifier.

A `Program` is a list of statements over numbered slots. Every slot is a run-time argument: a buffer's
address, an extent, a stride or a scalar. Sizes are therefore never part of a program: its text
(`Program.text()`) is its identity, and equal texts share one compiled kernel.

Nodes (`Op`) are of two sorts. Expressions have a dtype and no effect:

    const          attr=value                         a literal
    arg            attr=slot                          a run-time scalar, extent or stride
    index          attr=name                          the variable of an enclosing loop (int64)
    load           attr=slot, args=(offset,)          one element of a buffer; offset counts elements
    value          attr=name                          what an accumulator holds (0-based, see below)
    add sub mul div rem floordiv min max              arithmetic; min and max propagate NaN
    fma            args=(a, b, c)                     a*b + c, rounded once
    ldexp          args=(a, n)                        a * 2**n, rounded once: float32 in [1/2, 2), and an integer in
                                                      [-200, 200], a float32 as well; or 0 or NaN, and any number
    neg abs sqrt floor ceil trunc round               round: to even
    lt le eq ne                                       dtype bool
    and or xor not shl shr                            on integers and bool; shr is arithmetic for signed
    select         args=(condition, a, b)
    cast           to op.dtype, as C does (float to int truncates; to bool: != 0)
    bitcast        same size, other dtype
    complex        args=(real part, imaginary part): a complex number, which is only moved. `real` and `imag` take it apart again;
                   all arithmetic is on the parts (`Pair`)

A node is evaluated once in a scope (the body of a loop or `when`), where it is first needed: a load that must see what was stored
since is a node of its own. Division of integers by 0 gives 0; shifts by the width or more leave nothing (or the sign).

Everything else of mathematics (exp, erf, sin ...) is written with these in `loops/math.py`, so a target needs no
library. Integer div and rem truncate as C does; floordiv floors.

Statements have dtype None:

    loop           attr=(name, kind), args=(extent, *body)
                   kind: "parallel"  outermost only; iterations are independent, split over threads
                         "vector"    iterations are independent but for accumulators, whose order is free
                         "short"     the same, and few: the rest that fills no vector is worth a masked one
                         "whole"     the same, and few, but they fill vectors: there is hardly ever a rest
                         "serial"    in order
    accumulator    attr=(name, combine), args=(initial,)   declared before the loop that updates it
                   combine: "sum" "prod" "max" "min" "any" "all" | "set" (a plain variable, serial loops only)
    update         attr=name, args=(value,)                combines value into the accumulator
    store          attr=slot, args=(offset, value)
    when           args=(condition, *body)
    check          attr=slot, args=(index, size)           index must be in [0, size): else the kernel writes
                                                           index+1 (or index if negative) to the int64 status buffer `slot`
    contract       attr=Contraction; a whole matrix product, see there

An accumulator's value is read with `value(name)` after the loop has ended (or, for "set", at any time).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..base import dtype as dt

ARITHMETIC = {"add", "sub", "mul", "div", "rem", "floordiv", "min", "max"}
UNARY = {"neg", "abs", "sqrt", "floor", "ceil", "trunc", "round", "not"}
COMPARE = {"lt", "le", "eq", "ne"}
BITWISE = {"and", "or", "xor", "shl", "shr"}
EXPRESSIONS = ARITHMETIC | UNARY | COMPARE | BITWISE | {"fma", "ldexp", "complex", "real", "imag"}
ATOMS = ("const", "arg", "index", "value")
STATEMENTS = {"loop", "accumulator", "update", "store", "when", "check", "contract"}


class Op:
    """One node of a loop program. Immutable; Python operators build expressions."""

    __slots__ = ("kind", "dtype", "args", "attr")

    def __init__(self, kind: str, dtype: dt.dtype | None, args: tuple = (), attr=None):
        self.kind, self.dtype, self.args, self.attr = kind, dtype, args, attr

    def _binary(self, kind: str, other, swap: bool = False) -> Op:
        other = other if isinstance(other, Op) else const(other, self.dtype)
        a, b = (other, self) if swap else (self, other)
        return binary(kind, a, b)

    def __add__(self, other): return self._binary("add", other)
    def __radd__(self, other): return self._binary("add", other, True)
    def __sub__(self, other): return self._binary("sub", other)
    def __rsub__(self, other): return self._binary("sub", other, True)
    def __mul__(self, other): return self._binary("mul", other)
    def __rmul__(self, other): return self._binary("mul", other, True)
    def __truediv__(self, other): return self._binary("div", other)
    def __rtruediv__(self, other): return self._binary("div", other, True)
    def __and__(self, other): return self._binary("and", other)
    def __or__(self, other): return self._binary("or", other)
    def __xor__(self, other): return self._binary("xor", other)
    def __lshift__(self, other): return self._binary("shl", other)
    def __rshift__(self, other): return self._binary("shr", other)
    def __lt__(self, other): return self._binary("lt", other)
    def __le__(self, other): return self._binary("le", other)
    def __gt__(self, other): return self._binary("lt", other, True)
    def __ge__(self, other): return self._binary("le", other, True)
    def __neg__(self): return unary("neg", self)
    def __invert__(self): return unary("not", self)
    def eq(self, other): return self._binary("eq", other)
    def ne(self, other): return self._binary("ne", other)

    def cast(self, to: dt.dtype) -> Op:
        if to is self.dtype:
            return self
        if to.kind == "c" or self.dtype.kind == "c":
            return _cast_complex(self, to)
        return Op("cast", to, (self,))

    def bitcast(self, to: dt.dtype) -> Op:
        return self if to is self.dtype else Op("bitcast", to, (self,))

    def __repr__(self) -> str:
        return Printer().expression(self) if self.dtype is not None else f"<{self.kind}>"


def operands_first(root: Op, known):
    """The compound nodes of an expression whose id is not in `known`, each after its operands. Every node that is handed out must be in
    `known` when the next is asked for."""
    stack = [root]
    while stack:
        op = stack[-1]
        if id(op) in known:
            stack.pop()
            continue
        missing = [a for a in op.args if id(a) not in known and a.kind not in ATOMS]
        if missing:
            stack.extend(missing[::-1])
        else:
            stack.pop()
            yield op


def walk(op: Op):
    """A node and all below it, each once: what an expression shares is on very many paths."""
    seen, stack = set(), [op]
    while stack:
        op = stack.pop()
        if id(op) not in seen:
            seen.add(id(op))
            yield op
            stack.extend(op.args[::-1])


# -- constructors -----------------------------------------------------------------------------------------------

def const(value, dtype: dt.dtype) -> Op:
    if dtype.kind == "c":
        value = complex(value)
        return Pair(const(value.real, dtype.to_real()), const(value.imag, dtype.to_real())).pack()
    if dtype.kind == "f":
        value = float(value)
    elif dtype.kind == "b":
        value = bool(value)
    else:
        value = int(value)
    return Op("const", dtype, (), value)


def integer(value: int) -> Op:
    return Op("const", dt.int64, (), int(value))


def arg(slot: int, dtype: dt.dtype = dt.int64) -> Op:
    return Op("arg", dtype, (), slot)


def index(name: str) -> Op:
    return Op("index", dt.int64, (), name)


def load(slot: int, offset: Op, dtype: dt.dtype) -> Op:
    return Op("load", dtype, (offset,), slot)


def value(name: str, dtype: dt.dtype) -> Op:
    return Op("value", dtype, (), name)


class Pair:
    """A complex number while it is computed: its parts, and arithmetic on them."""

    __slots__ = ("re", "im")

    def __init__(self, re: Op, im: Op):
        self.re, self.im = re, im

    @property
    def dtype(self) -> dt.dtype:
        return self.re.dtype.to_complex()

    def pack(self) -> Op:
        return Op("complex", self.dtype, (self.re, self.im))

    def _other(self, other) -> Pair:
        if isinstance(other, Pair):
            return other
        if isinstance(other, Op):
            return Pair(other.cast(self.re.dtype), const(0, self.re.dtype))
        other = complex(other)
        return Pair(const(other.real, self.re.dtype), const(other.imag, self.re.dtype))

    def __add__(self, other):
        o = self._other(other)
        return Pair(self.re + o.re, self.im + o.im)

    def __sub__(self, other):
        o = self._other(other)
        return Pair(self.re - o.re, self.im - o.im)

    def __rsub__(self, other): return self._other(other) - self
    def __neg__(self): return Pair(-self.re, -self.im)
    def conj(self): return Pair(self.re, -self.im)

    def __mul__(self, other):
        if not isinstance(other, (Pair, complex)):
            return Pair(self.re * other, self.im * other)
        o = self._other(other)
        return Pair(self.re * o.re - self.im * o.im, self.re * o.im + self.im * o.re)

    def __truediv__(self, other):
        """Divisor and dividend are scaled by the divisor's larger part first, so that its square does not overflow."""
        if not isinstance(other, (Pair, complex)):
            return Pair(self.re / other, self.im / other)
        o = self._other(other)
        scale = 1.0 / maximum(absolute(o.re), absolute(o.im))
        c, d = o.re * scale, o.im * scale
        norm = scale / (c * c + d * d)
        return Pair((self.re * c + self.im * d) * norm, (self.im * c - self.re * d) * norm)

    def __rtruediv__(self, other): return self._other(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def eq(self, other):
        o = self._other(other)
        return self.re.eq(o.re) & self.im.eq(o.im)

    def ne(self, other): return ~self.eq(other)


def pair(e: Op) -> Pair:
    """The parts of a complex expression."""
    if e.kind == "complex":
        return Pair(*e.args)
    d = e.dtype.to_real()
    return Pair(Op("real", d, (e,)), Op("imag", d, (e,)))


def _cast_complex(e: Op, to: dt.dtype) -> Op:
    if e.dtype.kind != "c":
        return Pair(e.cast(to.to_real()), const(0, to.to_real())).pack()
    p = pair(e)
    if to.kind == "c":
        return Pair(p.re.cast(to.to_real()), p.im.cast(to.to_real())).pack()
    if to.kind == "b":
        wide = p.re.dtype.compute
        return p.re.cast(wide).ne(0) | p.im.cast(wide).ne(0)
    return p.re.cast(to)


def unary(kind: str, a: Op) -> Op:
    return Op(kind, a.dtype, (a,))


def binary(kind: str, a: Op, b: Op) -> Op:
    """An operator of two expressions of one dtype. Integer index arithmetic with 0 and 1 is folded."""
    if a.dtype is not b.dtype:
        raise TypeError(f"loop program: {kind} of {a.dtype} and {b.dtype}; cast one of them first")
    if a.dtype is dt.int64 and (a.kind == "const" or b.kind == "const"):
        folded = _fold_integer(kind, a, b)
        if folded is not None:
            return folded
    return Op(kind, dt.bool_ if kind in COMPARE else a.dtype, (a, b))


def _fold_integer(kind: str, a: Op, b: Op) -> Op | None:
    x = a.attr if a.kind == "const" else None
    y = b.attr if b.kind == "const" else None
    if kind == "add":
        if x is not None and y is not None: return integer(x + y)
        if x == 0: return b
        if y == 0: return a
    elif kind == "mul":
        if x is not None and y is not None: return integer(x * y)
        if x == 1: return b
        if y == 1: return a
        if x == 0 or y == 0: return integer(0)
    elif kind == "sub" and y == 0:
        return a
    return None


def minimum(a: Op, b) -> Op: return a._binary("min", b)
def maximum(a: Op, b) -> Op: return a._binary("max", b)
def floordiv(a: Op, b) -> Op: return a._binary("floordiv", b)
def rem(a: Op, b) -> Op: return a._binary("rem", b)
def sqrt(a: Op) -> Op: return unary("sqrt", a)
def absolute(a: Op) -> Op: return unary("abs", a)
def floor(a: Op) -> Op: return unary("floor", a)
def ceil(a: Op) -> Op: return unary("ceil", a)
def trunc(a: Op) -> Op: return unary("trunc", a)
def round_even(a: Op) -> Op: return unary("round", a)


def fma(a: Op, b, c) -> Op:
    b = b if isinstance(b, Op) else const(b, a.dtype)
    c = c if isinstance(c, Op) else const(c, a.dtype)
    return Op("fma", a.dtype, (a, b, c))


def ldexp(a: Op, n: Op) -> Op:
    return Op("ldexp", a.dtype, (a, n))


def scaled(a: Op, n: Op) -> Op:
    """What `ldexp` is where there is no instruction for it: two factors, so that neither leaves the range before its time."""
    n = maximum(n, -200.0).cast(dt.int32)
    half = n >> 1
    first, second = (((k + 127) << 23).bitcast(a.dtype) for k in (half, n - half))
    return a * first * second


def select(condition: Op, a, b):
    if isinstance(a, Pair) or isinstance(b, Pair):
        a, b = (a, a._other(b)) if isinstance(a, Pair) else (b._other(a), b)
        return Pair(select(condition, a.re, b.re), select(condition, a.im, b.im))
    if not isinstance(a, Op):
        a = const(a, b.dtype)
    if not isinstance(b, Op):
        b = const(b, a.dtype)
    if a.dtype is not b.dtype:
        raise TypeError(f"loop program: select between {a.dtype} and {b.dtype}; cast one of them first")
    return Op("select", a.dtype, (condition, a, b))


def loop(name: str, kind: str, extent: Op, *body: Op) -> Op:
    return Op("loop", None, (extent, *body), (name, kind))


def accumulator(name: str, combine: str, initial: Op) -> Op:
    return Op("accumulator", None, (initial,), (name, combine))


def update(name: str, v: Op) -> Op:
    return Op("update", None, (v,), name)


def store(slot: int, offset: Op, v: Op) -> Op:
    return Op("store", None, (offset, v), slot)


def when(condition: Op, *body: Op) -> Op:
    return Op("when", None, (condition, *body))


def check(slot: int, i: Op, size: Op) -> Op:
    return Op("check", None, (i, size), slot)


@dataclass(frozen=True)
class Contraction:
    """C[b, m, n] = sum over k of A[b, m, k] * B[b, n, k], each of b, m, n, k one or several loops deep.

    `batch`, `m`, `n`, `k`: tuples of (index name, extent expression), outermost first.
    `a`, `b`: expressions for the operands' elements in terms of `index` of batch, m, k (a) and batch, n, k (b): loads through any
    index map, casts and pointwise prologues included. They are evaluated while packing.
    `body`: the epilogue: statements for one (batch, m, n), which read the finished sum as `value("acc")`.
    `dtype`: of the sum.
    `windows`: "m" or "n" if places along this group and along k are the same elements of A or B, as with the windows of a convolution, and
    lie in longer runs along it; "" if there is no such group.
    `rows`: "m" or "n" if a target that computes tiles of C should have its rows, rather than its vectors, along this group.
    `within`: pairs of groups, each of one loop. Where the index of the first is above that of the second, terms are zero if one of the two
    is k; if not, the epilogue takes nothing from the sum but that it is finite. A target may leave out what is there; terms it must where
    `computed` does not reach, since memory holds anything there.
    `beyond`: None, or results in columns (n) from `computed(row, beyond)` on are not asked for: a target may leave them out.
    `sliced`: whether a target may multiply the operands as sums of three 16-bit floats (targets/slices.py).
    """

    batch: tuple
    m: tuple
    n: tuple
    k: tuple
    a: Op
    b: Op
    body: tuple
    dtype: dt.dtype
    windows: str = ""
    rows: str = ""
    within: tuple = ()
    beyond: int | None = None
    sliced: bool = False


PITCH = 16      # columns after which a row may end: the longest vector


def computed(row: Op, beyond: int) -> Op:
    """The columns of a row of a matrix that is computed as far as its diagonal and `beyond`: their number, whole pitches."""
    return (row + integer(beyond + PITCH)) / integer(PITCH) * integer(PITCH)


def triangular(within: tuple) -> set:
    """The groups, of "m" and "n", whose operand is zero where their index is above or below that along k."""
    return {label for pair in within if "k" in pair for label in pair if label != "k"}


def contract(c: Contraction) -> Op:
    return Op("contract", None, (), c)


@dataclass
class Slot:
    """A run-time argument. role: "in", "out", "inout" (buffers, with their dtype), "stream" (out, best stored past the
    caches), "scratch" (a per-thread buffer of `size` elements, an expression of arguments), "extent", "stride" or "scalar" (one number of
    `dtype`)."""

    role: str
    dtype: dt.dtype
    name: str = ""
    size: Op | None = None


@dataclass
class Program:
    """Statements over slots. The first statement level holds one "parallel" loop or one contract. `kernel`: once it is built."""

    slots: list[Slot] = field(default_factory=list)
    body: list[Op] = field(default_factory=list)
    kernel: Any = field(default=None, compare=False, repr=False)

    def slot(self, role: str, dtype: dt.dtype, name: str = "", size: Op | None = None) -> int:
        self.slots.append(Slot(role, dtype, name, size))
        return len(self.slots) - 1

    def text(self) -> str:
        return Printer().program(self)


BUFFER_ROLES = ("in", "out", "inout", "stream", "scratch")


# -- printer ----------------------------------------------------------------------------------------------------

class Printer:
    """Prints a program, each distinct expression once and numbered in order: the text is canonical."""

    def __init__(self):
        self.names: dict = {}       # structure -> name, of this scope
        self.known: dict = {}       # id of a node -> name, of this scope
        self.writes: dict = {}      # slot or accumulator -> how often it was written: what is read anew has a name of its own
        self.count = 0
        self.lines: list[str] = []
        self.depth = 0

    def expression(self, op: Op) -> str:
        """An expression on one line, for messages."""
        if op.kind in ATOMS:
            return self._atom(op)
        args = ", ".join(self.expression(a) for a in op.args)
        if op.kind == "load":
            return f"load ${op.attr}[{args}]:{op.dtype.code}"
        suffix = f":{op.dtype.code}" if op.kind in ("cast", "bitcast") else ""
        return f"{op.kind}({args}){suffix}"

    def _atom(self, op: Op) -> str:
        if op.kind == "const":
            return f"{op.attr!r}:{op.dtype.code}" if op.dtype is not dt.int64 else repr(op.attr)
        if op.kind == "arg":
            return f"${op.attr}" if op.dtype is dt.int64 else f"${op.attr}:{op.dtype.code}"
        return op.attr if op.kind == "index" else f"@{op.attr}"

    def program(self, p: Program) -> str:
        head = [f"${i} = {s.role} {s.dtype.code}" + (f" [{self.expression(s.size)}]" if s.size is not None else "")
                for i, s in enumerate(p.slots)]
        for s in p.body:
            self.statement(s)
        return "\n".join(head + self.lines) + "\n"

    def _emit(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def _name(self, op: Op) -> str:
        """A short form, emitting a line for each compound expression not seen in this scope."""
        if op.kind in ATOMS:
            return self._atom(op)
        known = self.known
        for o in operands_first(op, known):
            known[id(o)] = self._define(o)
        return known[id(op)]

    def _define(self, op: Op) -> str:
        args = tuple([self._atom(a) if a.kind in ATOMS else self.known[id(a)] for a in op.args])
        writes = self.writes.get(op.attr, 0) if op.kind == "load" else 0
        if self.writes:
            writes = (writes, *[self.writes.get(a.attr, 0) for a in op.args if a.kind == "value"])
        key = (op.kind, op.dtype, op.attr, args, writes)
        found = self.names.get(key)
        if found is None:
            found = self.names[key] = f"%{self.count}"
            self.count += 1
            what = f"load ${op.attr}[{args[0]}]" if op.kind == "load" else f"{op.kind} {', '.join(args)}"
            self._emit(f"{found} = {what} : {op.dtype.code}")
        return found

    def _scope(self, body) -> None:
        outer, self.names, self.known = (self.names, self.known), dict(self.names), dict(self.known)
        self.depth += 1
        body()
        self.depth -= 1
        self.names, self.known = outer

    def _body(self, body) -> None:
        def print_all() -> None:
            for s in body:
                self.statement(s)
        self._scope(print_all)

    def _wrote(self, s: Op) -> None:
        """Note what a statement writes; of a loop, what any of its iterations does."""
        if s.kind in ("store", "update"):
            self.writes[s.attr] = self.writes.get(s.attr, 0) + 1
        elif s.kind in ("loop", "when"):
            for inner in s.args[1:]:
                self._wrote(inner)

    def statement(self, s: Op) -> None:
        k = s.kind
        if k == "loop":
            self._emit(f"{s.attr[1]} {s.attr[0]} < {self._name(s.args[0])}:")
            self._wrote(s)
            self._body(s.args[1:])
        elif k == "when":
            self._emit(f"when {self._name(s.args[0])}:")
            self._body(s.args[1:])
        elif k == "accumulator":
            self._emit(f"@{s.attr[0]} = {s.attr[1]} from {self._name(s.args[0])} : {s.args[0].dtype.code}")
        elif k == "update":
            self._emit(f"@{s.attr} <- {self._name(s.args[0])}")
            self._wrote(s)
        elif k == "store":
            self._emit(f"store ${s.attr}[{self._name(s.args[0])}] = {self._name(s.args[1])}")
            self._wrote(s)
        elif k == "check":
            self._emit(f"check 0 <= {self._name(s.args[0])} < {self._name(s.args[1])} else ${s.attr}")
        elif k == "contract":
            self._contract(s.attr)
        else:
            raise ValueError(f"loop program: unknown statement {k!r}")

    def _contract(self, c: Contraction) -> None:
        dims = " ".join(f"{label}({', '.join(f'{n} < {self._name(e)}' for n, e in getattr(c, label))})"
                        for label in ("batch", "m", "n", "k"))
        windows = f" windows({c.windows})" if c.windows else ""
        rows = f" rows({c.rows})" if c.rows else ""
        within = "".join(f" within({x} <= {y})" for x, y in c.within)
        beyond = f" beyond({c.beyond})" if c.beyond is not None else ""
        sliced = " sliced" if c.sliced else ""
        self._emit(f"contract {dims} : {c.dtype.code}{windows}{rows}{within}{beyond}{sliced}")
        self._scope(lambda: self._emit(f"a = {self._name(c.a)}"))
        self._scope(lambda: self._emit(f"b = {self._name(c.b)}"))
        self._body(c.body)


# -- verifier ---------------------------------------------------------------------------------------------------

def verify(p: Program) -> None:
    """Raise AssertionError where a program breaks a rule of this file."""
    tops = [s for s in p.body if s.kind == "loop" and s.attr[1] == "parallel" or s.kind == "contract"]
    assert len(tops) == 1 and len(p.body) == 1, "a program is one parallel loop or one contract"
    for s in p.body:
        _verify_statement(p, s, set(), {}, True)


def _verify_expression(p: Program, e: Op, indices: set, accs: dict) -> None:
    for part in walk(e):
        _verify_node(p, part, indices, accs)


def _verify_node(p: Program, e: Op, indices: set, accs: dict) -> None:
    assert e.dtype is not None and e.kind not in STATEMENTS, f"{e.kind} is no expression"
    if e.kind == "index":
        assert e.attr in indices, f"index {e.attr} is not that of an enclosing loop"
    elif e.kind == "value":
        assert e.attr in accs, f"accumulator {e.attr} is not declared here"
    elif e.kind == "arg":
        assert p.slots[e.attr].role not in BUFFER_ROLES, f"slot {e.attr} is a buffer"
        assert p.slots[e.attr].dtype is e.dtype, f"slot {e.attr} is {p.slots[e.attr].dtype}, read as {e.dtype}"
    elif e.kind == "load":
        slot = p.slots[e.attr]
        assert slot.role in BUFFER_ROLES and slot.dtype is e.dtype, f"load of {e.dtype} from slot {e.attr}, {slot}"
        assert e.args[0].dtype is dt.int64, "an offset is int64"
    elif e.kind == "select":
        assert e.args[0].dtype is dt.bool_, "select needs a bool condition"
        assert e.args[1].dtype is e.args[2].dtype is e.dtype, "select is between values of its dtype"
    elif e.kind == "ldexp":
        assert e.args[0].dtype is e.args[1].dtype is e.dtype is dt.float32, "ldexp is of float32"
    elif e.kind == "bitcast":
        assert e.args[0].dtype.itemsize == e.dtype.itemsize, "bitcast keeps the size"
    elif e.kind != "cast":
        assert e.kind == "const" or e.kind in EXPRESSIONS, f"unknown expression {e.kind!r}"
        assert all(a.dtype is e.args[0].dtype for a in e.args), f"{e.kind} of mixed dtypes"


def _verify_statement(p: Program, s: Op, indices: set, accs: dict, top: bool = False) -> None:
    if s.kind == "contract":
        assert top, "contract stands alone"
        c = s.attr
        names = {label: {n for n, _ in getattr(c, label)} for label in ("batch", "m", "n", "k")}
        _verify_expression(p, c.a, names["batch"] | names["m"] | names["k"], {})
        _verify_expression(p, c.b, names["batch"] | names["n"] | names["k"], {})
        assert c.a.dtype is c.dtype and c.b.dtype is c.dtype, "operands are cast to the sum's dtype"
        for inner in c.body:
            _verify_statement(p, inner, names["batch"] | names["m"] | names["n"], {"acc": "sum"})
        return
    assert s.kind in STATEMENTS and s.dtype is None, f"{s.kind} is no statement"
    if s.kind == "loop":
        name, kind = s.attr
        assert kind in ("parallel", "vector", "short", "whole", "serial"), kind
        assert (kind == "parallel") == top, "the parallel loop is the outermost"
        assert name not in indices, f"index {name} is used twice"
        _verify_expression(p, s.args[0], indices, accs)
        inner = dict(accs)
        for b in s.args[1:]:
            _verify_statement(p, b, indices | {name}, inner)
        return
    if s.kind == "when":
        inner = dict(accs)
        _verify_expression(p, s.args[0], indices, accs)
        for b in s.args[1:]:
            _verify_statement(p, b, indices, inner)
        return
    for a in s.args:
        _verify_expression(p, a, indices, accs)
    if s.kind == "accumulator":
        accs[s.attr[0]] = s.attr[1]
    elif s.kind == "update":
        assert s.attr in accs, f"accumulator {s.attr} is not declared here"
    elif s.kind == "store":
        assert p.slots[s.attr].role in ("out", "inout", "stream", "scratch"), f"slot {s.attr} is not writable"
        assert p.slots[s.attr].dtype is s.args[1].dtype, f"store of {s.args[1].dtype} into {p.slots[s.attr]}"
