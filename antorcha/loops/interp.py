"""Loop programs run by NumPy: slow, short, and the oracle for the targets that compile.

Parallel and vector loops become axes of arrays and serial loops Python loops. An expression at some place is an array with
one axis for each parallel or vector loop around it (outermost first; fewer where it does not vary). A loop whose extent
varies from one outer iteration to another runs to the largest, under a mask.

As in compiled code, an expression node is evaluated once in a scope, where it is first needed.
"""

from __future__ import annotations

import struct

import numpy as np

from ..base import dtype as dt
from . import ir

ELEMENTS = 1 << 20      # parallel iterations are taken in blocks of about this many elements


def run(program: ir.Program, words: list[int]) -> None:
    """Execute a program on the memory its arguments point to. `words`: one integer a slot, as a compiled kernel gets them."""
    with np.errstate(all="ignore"):
        top = program.body[0]
        if top.kind == "contract":
            Machine(program, words).contract(top.attr)
            return
        machine = Machine(program, words)
        count = int(machine.expression(top.args[0]))
        if any(s.role == "scratch" for s in program.slots):
            step = 1
        else:
            step = max(1, ELEMENTS // max(machine.volume(top, count), 1))
        for start in range(0, count, step):
            Machine(program, words).axis(top.attr[0], start, min(start + step, count), None, top.args[1:])


class Machine:
    """The state of one run: indices, accumulators, what is already computed, and which lanes are active."""

    def __init__(self, program: ir.Program, words: list[int]):
        self.program, self.words = program, words
        self.shape: tuple[int, ...] = ()
        self.mask = None                            # array of bool, or None: all lanes are active
        self.indices: dict[str, np.ndarray] = {}
        self.accumulators: dict[str, list] = {}     # name -> [value, combine, axes around its declaration]
        self.memo: dict[int, tuple] = {}            # id -> (node, value)
        self.scratch: dict[int, np.ndarray] = {}

    def volume(self, loop: ir.Op, count: int) -> int:
        """About how many elements one iteration of the parallel loop spans."""
        if not count:
            return 1
        self.indices[loop.attr[0]] = np.arange(count)
        sizes = [1]

        def visit(s: ir.Op, outer: int) -> None:
            for inner in s.args[1:]:
                if inner.kind == "loop":
                    try:
                        n = int(np.max(self.expression(inner.args[0])))
                    except KeyError:                # depends on something known only inside
                        n = 64
                    n = outer if inner.attr[1] == "serial" else outer * n
                    sizes.append(n)
                    visit(inner, n)
                elif inner.kind == "when":
                    visit(inner, outer)

        visit(loop, 1)
        return max(sizes)

    # -- statements -------------------------------------------------------------------------------------------------

    def statements(self, body) -> None:
        memo, known = dict(self.memo), dict(self.accumulators)
        for s in body:
            getattr(self, "_" + s.kind)(s)
        self.memo, self.accumulators = memo, known

    def _loop(self, s: ir.Op) -> None:
        name, kind = s.attr
        extent = self.expression(s.args[0])
        most = int(np.max(extent, initial=0))
        varies = np.ndim(extent) > 0 and int(np.min(extent, initial=most)) != most
        if kind != "serial":
            self.axis(name, 0, most, extent if varies else None, s.args[1:])
            return
        mask = self.mask
        for i in range(most):
            self.indices[name] = np.int64(i)
            if varies:
                self.mask = _and(mask, i < extent)
            self.statements(s.args[1:])
        self.mask = mask

    def axis(self, name: str, start: int, stop: int, extent, body) -> None:
        """Statements for all values of an index at once."""
        if stop <= start:
            return
        shape, mask = self.shape, self.mask
        self.indices[name] = i = np.arange(start, stop).reshape((1,) * len(shape) + (-1,))
        self.shape = (*shape, stop - start)
        self.mask = self._lift(mask)
        if extent is not None:
            self.mask = _and(self.mask, i < self._lift(extent))
        self.statements(body)
        self.shape, self.mask = shape, mask

    def _when(self, s: ir.Op) -> None:
        mask = self.mask
        self.mask = _and(mask, self.expression(s.args[0]))
        if np.any(self.mask):
            self.statements(s.args[1:])
        self.mask = mask

    def _accumulator(self, s: ir.Op) -> None:
        name, combine = s.attr
        self.accumulators[name] = [self.expression(s.args[0]), combine, len(self.shape)]

    def _update(self, s: ir.Op) -> None:
        entry = self.accumulators[s.attr]
        old, combine, depth = entry
        v = self.expression(s.args[0])
        if combine == "set":
            new = v
        else:
            ufunc, identity = _combine(combine, v.dtype)
            if depth < len(self.shape):
                v = np.broadcast_to(v, self.shape)
                if self.mask is not None:
                    v = np.where(self.mask, v, identity)
                axes = tuple(range(depth, len(self.shape)))
                entry[0] = ufunc(old, ufunc.reduce(v, axis=axes, dtype=v.dtype, initial=identity))
                return
            new = ufunc(old, v)
        entry[0] = new if self.mask is None else np.where(self.mask, new, self._lift(old))

    def _store(self, s: ir.Op) -> None:
        offset, v = self.expression(s.args[0]), self.expression(s.args[1])
        if self.mask is None:
            offset, v = np.broadcast_arrays(offset, v)
        else:
            offset, v, mask = np.broadcast_arrays(offset, v, self.mask)
            offset, v = offset[mask], v[mask]
        if offset.size:
            memory, first = self._memory(s.attr, offset)
            d = self.program.slots[s.attr].dtype
            memory[offset - first] = dt.encode(v) if d.numpy is None and not d.opaque else v

    def _check(self, s: ir.Op) -> None:
        i, size = self.expression(s.args[0]), self.expression(s.args[1])
        bad = _and(self.mask, (i < 0) | (i >= size))
        if np.any(bad):
            i, bad = np.broadcast_arrays(i, bad)
            first = i[bad].flat[0]
            memory, _ = self._memory(s.attr, np.int64(0))
            memory[0] = first + 1 if first >= 0 else first

    # -- contractions -----------------------------------------------------------------------------------------------

    def contract(self, c: ir.Contraction) -> None:
        """One product after another, each a matrix product of NumPy."""
        batch, m, n, k = ([(name, int(self.expression(extent))) for name, extent in dims] for dims in (c.batch, c.m, c.n, c.k))
        for position in np.ndindex(*(size for _, size in batch)):
            for (name, _), i in zip(batch, position):
                self.indices[name] = np.int64(i)
            self.memo = {}
            total = np.matmul(self._matrix(c.a, m, k, "m", c.within), self._matrix(c.b, n, k, "n", c.within).T)
            self.memo = {}
            shape = self._axes(m + n)
            if total.size:
                self.accumulators["acc"] = [total.reshape(shape), "sum", len(shape)]
                self.statements(c.body)
            self.shape = ()

    def _axes(self, dims) -> tuple:
        self.shape = tuple(size for _, size in dims)
        for d, (name, size) in enumerate(dims):
            self.indices[name] = np.arange(size).reshape([-1 if e == d else 1 for e in range(len(dims))])
        return self.shape

    def _matrix(self, operand: ir.Op, rows, k, label: str, within: tuple) -> np.ndarray:
        """An operand, zero where terms are left out: memory may hold anything there."""
        shape = self._axes(rows + k)
        sizes = [int(np.prod(shape[:len(rows)], dtype=np.int64)), int(np.prod(shape[len(rows):], dtype=np.int64))]
        if 0 in sizes:
            return np.zeros(sizes, _held(operand.dtype))
        found = np.broadcast_to(self.expression(operand), shape).reshape(sizes)
        for pair, hidden in ((("k", label), np.triu(np.ones(sizes, bool), 1)), ((label, "k"), np.tril(np.ones(sizes, bool), -1))):
            if pair in within:
                found = np.where(hidden, found.dtype.type(0), found)
        return found

    # -- memory -----------------------------------------------------------------------------------------------------

    def _memory(self, slot: int, offset) -> tuple[np.ndarray, int]:
        """The elements of a buffer that some offsets span: (array, offset of its first element)."""
        d = self.program.slots[slot].dtype
        kind = np.dtype(np.uint8) if d is dt.bool_ else d.memory
        first, last = int(np.min(offset)), int(np.max(offset))
        if self.program.slots[slot].role == "scratch":
            known = self.scratch.get(slot)
            if known is None or len(known) <= last:
                grown = np.zeros(2 * last + 64, kind)
                if known is not None:
                    grown[:len(known)] = known
                known = self.scratch[slot] = grown
            return known, 0
        return np.asarray(_Foreign(self.words[slot] + first * kind.itemsize, kind, last - first + 1)), first

    def _load(self, op: ir.Op):
        offset = self.expression(op.args[0])
        if self.mask is not None:
            offset, mask = np.broadcast_arrays(offset, self.mask)
            active = offset[mask]
            if not active.size:
                return np.zeros((), _held(op.dtype))
            offset = np.where(mask, offset, active.flat[0])
        memory, first = self._memory(op.attr, offset)
        v = memory[offset - first]
        if op.dtype.numpy is None and not op.dtype.opaque:
            return dt.decode(v)
        return v != 0 if op.dtype is dt.bool_ else v

    # -- expressions ------------------------------------------------------------------------------------------------

    def _lift(self, v):
        """A value of an outer scope with axes for the loops of this one."""
        n = np.ndim(v)
        return v if n == 0 or n == len(self.shape) else np.reshape(v, np.shape(v) + (1,) * (len(self.shape) - n))

    def expression(self, op: ir.Op):
        k = op.kind
        if k == "const":
            return np.asarray(op.attr).astype(_held(op.dtype))[()]
        if k == "arg":
            return _scalar(self.words[op.attr], op.dtype)
        if k == "index":
            return self._lift(self.indices[op.attr])
        if k == "value":
            return self._lift(self.accumulators[op.attr][0])
        for o in ir.operands_first(op, self.memo):
            v = self._load(o) if o.kind == "load" else _OPERATIONS[o.kind](o, *[self.expression(a) for a in o.args])
            self.memo[id(o)] = (o, v)
        return self._lift(self.memo[id(op)][1])


def _held(d: dt.dtype) -> np.dtype:
    """The NumPy dtype of values that are being computed: bfloat16 as the float32 of equal value."""
    return d.numpy if d.numpy is not None else d.memory if d.opaque else np.dtype(d.compute.numpy)


class _Foreign:
    """Memory at an address, for NumPy."""

    def __init__(self, address: int, kind: np.dtype, count: int):
        self.__array_interface__ = dict(data=(address, False), shape=(count,), typestr=kind.str, version=3)


def _and(a, b):
    return b if a is None else a & b


def _scalar(word: int, d: dt.dtype):
    if d.kind == "f":
        return np.float64(struct.unpack("d", struct.pack("q", word))[0]).astype(d.numpy)
    return np.int64(word).astype(d.numpy)


def _combine(combine: str, kind: np.dtype):
    """(ufunc, identity) of an accumulator."""
    if kind == np.bool_:
        union = combine in ("sum", "max", "any")
        return (np.logical_or, np.bool_(False)) if union else (np.logical_and, np.bool_(True))
    if combine in ("sum", "prod"):
        return (np.add, kind.type(0)) if combine == "sum" else (np.multiply, kind.type(1))
    if kind.kind == "f":
        low, high = -np.inf, np.inf
    else:
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return (np.maximum, kind.type(low)) if combine == "max" else (np.minimum, kind.type(high))


# -- operations: (node, *values) -> value -----------------------------------------------------------------------------

def _divide(op, a, b):
    if op.dtype.kind == "f":
        return a / b
    return np.where(b == 0, op.dtype.numpy.type(0), _truncated(a, b))


def _truncated(a, b):
    floored = a // b
    return np.where((np.fmod(a, b) != 0) & ((a < 0) != (b < 0)), floored + a.dtype.type(1), floored)


def _floordiv(op, a, b):
    return np.floor(a / b) if op.dtype.kind == "f" else a // b      # NumPy, too, gives 0 for a division by 0


def _shift(op, a, b):
    width = 8 * op.dtype.itemsize
    far = (b < 0) | (b >= width)
    near = np.where(far, b.dtype.type(width - 1), b)
    if op.kind == "shr":
        shifted = a >> near
        return shifted if op.dtype.kind == "i" else np.where(far, a.dtype.type(0), shifted)
    return np.where(far, a.dtype.type(0), a << near)


def _fma(op, a, b, c):
    """a * b + c, rounded once (float64: but for rare ties)."""
    if op.dtype is dt.float32:
        return (a.astype(np.float64) * b + c).astype(np.float32)
    p = a * b
    a_high, b_high = _upper_half(a), _upper_half(b)
    a_low, b_low = a - a_high, b - b_high
    p_error = ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low
    s = p + c
    t = s - p
    s_error = (p - (s - t)) + (c - t)
    exact = s + (s_error + p_error)
    return np.where(np.isfinite(exact), exact, s)


def _upper_half(a):
    """The upper 26 bits of a float64 (T. J. Dekker, "A Floating-Point Technique for Extending the Available Precision", 1971)."""
    t = a * 134217729.0
    return t - (t - a)


def _negative(op, a):
    return a if op.dtype is dt.bool_ else -a


def _cast(op, a):
    to, source = op.dtype, op.args[0].dtype
    if to.opaque or source.opaque:
        return a
    if to is dt.bool_:
        return a != 0
    if to is dt.bfloat16:
        return dt.decode(dt.encode(np.asarray(a).astype(np.float32)))[()]
    if to is dt.float16:
        a = np.asarray(a).astype(np.float32)
    if source.kind == "f" and to.kind in "iu" and to.itemsize < 4:      # as compiled code does: through int32
        return a.astype(np.int32).astype(to.numpy)
    return a.astype(_held(to))


def _bitcast(op, a):
    return np.asarray(a).view(op.dtype.numpy)[()]


def _arithmetic(ufunc, of_bool):
    return lambda op, a, b: (of_bool if op.dtype is dt.bool_ else ufunc)(a, b)


_OPERATIONS = {
    "add": _arithmetic(np.add, np.logical_or),
    "sub": _arithmetic(np.subtract, np.logical_xor),
    "mul": _arithmetic(np.multiply, np.logical_and),
    "min": _arithmetic(np.minimum, np.logical_and),
    "max": _arithmetic(np.maximum, np.logical_or),
    "div": _divide,
    "rem": lambda op, a, b: np.fmod(a, b),
    "floordiv": _floordiv,
    "fma": _fma,
    "ldexp": lambda op, a, n: np.ldexp(a, n.astype(np.int32)),
    "neg": _negative,
    "abs": lambda op, a: np.abs(a),
    "sqrt": lambda op, a: np.sqrt(a),
    "floor": lambda op, a: np.floor(a) if op.dtype.kind == "f" else a,
    "ceil": lambda op, a: np.ceil(a) if op.dtype.kind == "f" else a,
    "trunc": lambda op, a: np.trunc(a) if op.dtype.kind == "f" else a,
    "round": lambda op, a: np.rint(a) if op.dtype.kind == "f" else a,
    "lt": lambda op, a, b: a < b,
    "le": lambda op, a, b: a <= b,
    "eq": lambda op, a, b: a == b,
    "ne": lambda op, a, b: a != b,
    "and": lambda op, a, b: a & b,
    "or": lambda op, a, b: a | b,
    "xor": lambda op, a, b: a ^ b,
    "not": lambda op, a: ~a,
    "shl": _shift,
    "shr": _shift,
    "select": lambda op, condition, a, b: np.where(condition, a, b),
    "cast": _cast,
    "bitcast": _bitcast,
    "complex": lambda op, re, im: _joined(op, re, im),
    "real": lambda op, a: np.asarray(a.real, op.dtype.numpy)[()],
    "imag": lambda op, a: np.asarray(a.imag, op.dtype.numpy)[()],
}


def _joined(op, re, im):
    out = np.empty(np.broadcast_shapes(np.shape(re), np.shape(im)), _held(op.dtype))
    out.real, out.imag = re, im
    return out[()]
