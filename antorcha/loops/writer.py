"""Writing one loop program: slots with their arguments, offsets, and elements as expressions."""

from __future__ import annotations

from dataclasses import replace

from ..base import dtype as dt
from . import index, ir
from .element import Element
from .size import few_of_many, now, settled, sure
from .view import View

INT = dt.int64
Buffer = tuple  # ("node", i), ("leaf", i) or ("part", i): memory named before there are addresses


class Call:
    """A program and where its arguments come from, one for each slot:

    ("ptr", buffer, byte offset)   ("int", n)   ("num", (node index, input), dtype)   ("status", check number)
    """

    def __init__(self, program: ir.Program, args: list, group):
        self.program, self.args, self.group = program, args, group
        self.writes: set = set()
        self.reads: set = set()
        self.read_at: dict = {}     # as in Writer
        self.written_at: dict = {}
        self.checks: list = []
        self.kernel = None

    def parts(self) -> tuple:
        """The calls of which this one is made."""
        return (self,)

    def stored(self) -> set:
        """The buffers that it writes and does not read."""
        return self.writes - self.reads

    def stream(self, buffers: set) -> None:
        """Store past the caches what goes to these."""
        slots = [replace(slot, role="stream") if slot.role == "out" and arg[1] in buffers else slot
                 for slot, arg in zip(self.program.slots, self.args)]
        self.program = replace(self.program, slots=slots, kernel=None)

    def words(self) -> list[int]:
        """The integers among its arguments, 0 for what else there is."""
        return [now(arg[1]) if arg[0] == "int" else 0 for arg in self.args]

    def assemble(self) -> None:
        """Called when the kernels are there."""

INTERLEAVED = 4     # steps between elements up to which they are loaded or stored as whole vectors, and picked out of these
MANY = 1 << 14      # elements that make a value large


class Writer:
    """The program being written over a domain. `coords` holds the index expression of each dimension."""

    def __init__(self, checks: list):
        self.program = ir.Program()
        self.args: list = []
        self.slots: dict = {}
        self.checks = checks                # of the whole plan: (node, which index)
        self.own_checks: list = []
        self.coords: list[ir.Op] = []
        self.wall = 0                       # dimensions before it are fixed within a row
        self.ops: dict = {}                 # element -> expression, in the scope being written
        self.variables: dict = {}           # element or view -> name of a variable of the row
        self.names = 0
        self.reload: dict = {}              # member -> (stage it is stored in, buffer, dtype, view)
        self.stage = 0
        self.pending: list[ir.Op] = []      # checks that go before the statement being written
        self.results: dict = {}             # member -> name of its accumulator
        self.inout: set = set()
        self.rows: dict = {}                # buffer of one row in scratch memory -> its slot
        self.reads: set = set()
        self.writes: set = set()
        self.read_at: dict = {}             # buffer -> (its one index map, the store before which it is last read) or None
        self.written_at: dict = {}          # buffer -> (index map, the first store to it)
        self.order = 0

    # -- slots --------------------------------------------------------------------------------------------------

    def _slot(self, key, role: str, dtype, arg) -> int:
        found = self.slots.get(key)
        if found is None:
            found = self.slots[key] = self.program.slot(role, dtype)
            self.args.append(arg)
        return found

    def memory(self, buffer: Buffer, dtype, offset: int = 0, write: bool = False) -> int:
        """The slot of a buffer from an element on."""
        if buffer in self.rows:
            return self.rows[buffer]
        (self.writes if write else self.reads).add(buffer)
        if buffer in self.inout:
            role = "inout"
        else:
            role = "out" if write else "in"
        return self._slot((buffer, offset, role), role, dtype, ("ptr", buffer, offset * dtype.itemsize))

    def row(self, dtype, begin: int, size: ir.Op) -> Buffer:
        """A buffer of `size` elements in the thread's scratch memory, `begin` bytes from where that begins."""
        buffer = ("row", len(self.rows))
        self.rows[buffer] = self.program.slot("scratch", dtype, size=size)
        self.args.append(("int", begin))
        return buffer

    def extent(self, key, n: int) -> ir.Op:
        if sure(n, 1):
            return ir.integer(1)
        return ir.arg(self._slot(("extent", key), "extent", INT, ("int", n)))

    def stride(self, v: View, d: int) -> ir.Op:
        n = v.strides[d]
        if settled(n):
            constant = -1 <= n <= INTERLEAVED
        else:       # one that varies is worth a program of its own in large values only
            constant = any([sure(n, k) for k in (0, 1, -1)]) or few_of_many(n, INTERLEAVED, v.numel, MANY)
        if constant:
            return ir.integer(n)
        return ir.arg(self._slot(("stride", v.strides, d), "stride", INT, ("int", n)))

    def name(self, letter: str) -> str:
        self.names += 1
        return f"{letter}{self.names}"

    # -- expressions --------------------------------------------------------------------------------------------

    def offset(self, v: View, first: int = 0, last: int | None = None) -> ir.Op:
        """Where v reads at the current coordinates, without v.offset (which is in the address)."""
        total = ir.integer(0)
        for d in range(first, len(v.strides) if last is None else last):
            if v.strides[d]:
                total = total + self.coords[d] * self.stride(v, d)
        return total

    def load(self, buffer: Buffer, dtype, v: View) -> ir.Op:
        if buffer in self.rows:
            pass
        elif buffer not in self.read_at or self.read_at[buffer] is not None and self.read_at[buffer][0] is v:
            self.read_at[buffer] = (v, self.order)
        else:
            self.read_at[buffer] = None
        return ir.load(self.memory(buffer, dtype, v.offset), self.offset(v), dtype)

    def put(self, buffer: Buffer, dtype, v: View, value: ir.Op) -> ir.Op:
        if buffer not in self.rows:
            self.written_at.setdefault(buffer, (v, self.order))
        self.order += 1
        return ir.store(self.memory(buffer, dtype, v.offset, True), self.offset(v), value.cast(dtype))

    def invariant(self, e: Element) -> bool:
        """Whether an element is the same everywhere in a row."""
        if e.view is not None and any(e.view.strides[self.wall:]):
            return False
        return e.kind != "gather" or all(self.invariant(a) for a in e.args)

    def expression(self, e: Element) -> ir.Op:
        found = self.ops.get(e)
        if found is None:
            found = self.ops[e] = self._expression(e)
        return found

    def _expression(self, e: Element) -> ir.Op:
        n = e.node
        kind = e.kind
        if e in self.variables:
            return ir.value(self.variables[e], n.dtype)
        if kind == "calc":
            stored = self.reload.get(e.member)
            if stored is not None and stored[0] < self.stage:
                return self.load(*stored[1:])
            casts = n.static.casts
            args = []
            for j, a in enumerate(e.args):
                args.append(self.number(a, casts[j]) if a.kind == "number" else
                            self.expression(a).cast(casts[j]).cast(casts[j].compute) if j < len(casts) else self.expression(a))
            return element_of(n.op, args).cast(n.dtype)
        if kind == "load":
            return self.load(e.buffer, n.dtype, e.view)
        if kind == "result":
            d = INT if n.op.combine.startswith("arg") else n.static.casts[0]
            return ir.value(self.results[e.member], d).cast(n.dtype)
        if kind == "sum":
            return ir.value("acc", n.static.casts[0]).cast(n.dtype)
        if kind == "coordinate":
            return self.offset(e.view) + self._constant(e.view)
        if kind == "gather":
            self.read_at[e.buffer] = None
            name = self.variables.get(("picked", e))
            picked = ir.value(name, INT) if name else self.picked(n, e.args)
            return ir.load(self.memory(e.buffer, n.dtype, e.view.offset), self.offset(e.view) + picked, n.dtype)
        raise AssertionError(kind)

    def _constant(self, v: View) -> ir.Op:
        if v.offset in (0, 1):
            return ir.integer(v.offset)
        return ir.arg(self._slot(("offset", v), "stride", INT, ("int", v.offset)))

    def number(self, e: Element, dtype) -> ir.Op:
        held = dtype.compute.to_real()
        value = ir.arg(self._slot((e.number, held), "scalar", held, ("num", e.number, held)), held)
        return value.cast(dtype.compute)

    def picked(self, n, picks) -> ir.Op:
        """The part of an offset that comes from indices; each is checked, and kept within its size, unless it cannot be outside."""
        total = ir.integer(0)
        for j, (e, (size, stride)) in enumerate(zip(picks, n.static.picks)):
            if e.kind == "number":
                i = self.number(e, INT)
            else:
                i = self.expression(e).cast(INT)
            if n.op.late_error is not None:
                extent = ir.arg(self._slot(("pick", n.index, j), "extent", INT, ("int", size)))
                i = ir.select(i < 0, i + extent, i)
                self.pending.append(ir.check(self._check(n, j, size), i, extent))
                i = ir.maximum(ir.minimum(i, extent - ir.integer(1)), ir.integer(0))
            total = total + i * ir.arg(self._slot(("step", n.index, j), "stride", INT, ("int", stride)))
        return total

    def _check(self, n, j: int, size: int) -> int:
        key = ("check", n.index, j)
        if key not in self.slots:
            self.own_checks.append((n, j, size))
            self.checks.append((n.index, j, size))
            self.slots[key] = self.program.slot("inout", INT)
            self.args.append(("status", len(self.checks) - 1))
        return self.slots[key]

    def flush(self, body: list) -> None:
        body += self.pending
        self.pending.clear()

    def variable(self, key, letter: str, value: ir.Op, body: list) -> ir.Op:
        """Give a value of the row a name."""
        name = self.name(letter)
        self.flush(body)
        body.append(ir.accumulator(name, "set", value))
        self.variables[key] = name
        return ir.value(name, value.dtype)

    def finish(self, statements: list, group) -> Call:
        self.program.body = statements
        call = Call(self.program, self.args, group)
        call.reads, call.writes, call.checks = self.reads, self.writes, self.own_checks
        call.read_at, call.written_at = self.read_at, self.written_at
        return call


def element_of(op, args: list) -> ir.Op:
    """An operator's scalar code for these arguments; of complex numbers it sees the parts."""
    if all(a.dtype.kind != "c" for a in args):
        value = op.scalar(*args)
    else:
        scalar = op.scalar if op.complex in (True, None) else op.complex
        value = scalar(*[ir.pair(a) if a.dtype.kind == "c" else a for a in args])
    return value.pack() if isinstance(value, ir.Pair) else value


def decode(flat: ir.Op, extents: list[ir.Op]) -> list[ir.Op]:
    """The coordinates of a row-major position."""
    if not extents:
        return []
    found = []
    for e in reversed(extents[1:]):
        found.append(ir.rem(flat, e))
        flat = flat / e
    found.append(flat)
    return found[::-1]


def identity(combine: str, d: dt.dtype) -> ir.Op:
    """What combining leaves unchanged."""
    if combine in ("any", "all"):
        return ir.const(combine == "all", dt.bool_)
    if combine in ("sum", "prod"):
        return ir.const(combine == "prod", d)
    least = combine == "max"
    if d.kind == "f":
        return ir.const(float("-inf") if least else float("inf"), d)
    if d.kind == "b":
        return ir.const(not least, d)
    bits = 8 * d.itemsize
    low, high = (0, 2 ** bits - 1) if d.kind == "u" else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)
    return ir.const(low if least else high, d)


def combined(combine: str, a: ir.Op, b: ir.Op) -> ir.Op:
    kind = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and"}[combine]
    if a.dtype is dt.bool_:
        kind = {"add": "or", "mul": "and", "max": "or", "min": "and"}.get(kind, kind)
    if a.dtype.kind == "c":
        a, b = ir.pair(a), ir.pair(b)
        return (a + b if kind == "add" else a * b).pack()
    wide = a.dtype.compute
    return ir.binary(kind, a.cast(wide), b.cast(wide)).cast(a.dtype)


__all__ = ["Call", "Writer", "combined", "decode", "element_of", "identity", "index"]
