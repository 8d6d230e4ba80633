"""What L-BFGS computes with whole vectors, by loop programs of our own: a call for each direction, however many vectors are kept.

Dot products are summed in the order in which PyTorch's library (MKL) sums them on processors with vectors of 64 bytes, whatever the
processor here: the method magnifies the last bit of each, twenty times a step.
"""

from __future__ import annotations

import functools

import numpy as np

from ..base import dtype as dt
from ..loops import ir

_BYTES = 64     # of a vector of the processors on which PyTorch's order of summation is taken
_SHORT = 2048    # bytes of a vector whose sum is taken in the order of one of its loops


def _dot_into(sums: int, x, y, n: ir.Op, d: dt.dtype) -> list[ir.Op]:
    """Statements that leave sum x(i) y(i), i < n, in the first of the elements at slot `sums`: four vectors of sums take four vectors
    of products at a time; of what remains the first two take two, and the first one the rest. `x(i)`: an element, anew at each call."""
    lanes = _BYTES // d.itemsize
    i = ir.index("i")

    def at(k):
        return ir.load(sums, k, d)

    def taken(start, count):
        return ir.loop("i", "vector", count, ir.store(sums, i, ir.fma(x(start + i), y(start + i), at(i))))

    block = 4 * lanes
    start = n / ir.integer(block) * block
    found = [ir.loop("i", "vector", ir.integer(block), ir.store(sums, i, ir.const(0, d))),
             ir.loop("block", "serial", n / ir.integer(block), taken(ir.index("block") * block, ir.integer(block)))]
    for width in (2 * lanes, lanes, 1):
        count = (n - start) / ir.integer(width) * width
        found.append(taken(start, count))
        start = start + count
    four = at(i) + at(i + lanes) + (at(i + 2 * lanes) + at(i + 3 * lanes))
    found.append(ir.loop("i", "vector", ir.integer(lanes), ir.store(sums, i, four)))
    for width in (8, 4)[lanes == 8:]:
        found.append(ir.loop("i", "vector", ir.integer(width), ir.store(sums, i, at(i) + at(i + width))))
    zero, one, two, three = (at(ir.integer(k)) for k in range(4))
    last = (zero + one) + (two + three) if d is dt.float32 else (zero + two) + (one + three)
    return [*found, ir.store(sums, ir.integer(0), last)]


def dot_program(d: dt.dtype) -> ir.Program:
    """The dot product of two vectors, in the first element of `sums`."""
    p = ir.Program()
    x, y = (p.slot("in", d, name) for name in "xy")
    sums = p.slot("inout", d, "sums")
    n = ir.arg(p.slot("extent", dt.int64, "n"))
    p.body = [ir.loop("once", "parallel", ir.integer(1),
                      *_dot_into(sums, lambda i: ir.load(x, i, d), lambda i: ir.load(y, i, d), n, d))]
    return p


def direction_program(d: dt.dtype) -> ir.Program:
    """q becomes the inverse Hessian times q: the two loops of Nocedal and Wright's algorithm 7.4, over `count` of the `room` rows of two
    matrices, from the row `first` on and around."""
    p = ir.Program()
    q, changes, steps, factors, weights, sums = (
        p.slot("inout" if name in ("q", "weights", "sums") else "in", d, name)
        for name in ("q", "changes", "steps", "factors", "weights", "sums"))
    n, room, first, count = (ir.arg(p.slot("extent", dt.int64, name)) for name in ("n", "room", "first", "count"))
    scale = ir.arg(p.slot("scalar", d, "scale"), d)
    i, k = ir.index("i"), ir.index("k")

    def row_of(which):
        return ir.rem(first + which, room)

    def weight(matrix, row):
        """Leave the factor of a row times the row by q as the first of the sums."""
        return [*_dot_into(sums, lambda i: ir.load(matrix, row * n + i, d), lambda i: ir.load(q, i, d), n, d),
                ir.store(sums, ir.integer(0), ir.load(sums, ir.integer(0), d) * ir.load(factors, row, d))]

    def added(matrix, row, by):
        return ir.loop("i", "vector", n, ir.store(q, i, ir.fma(by, ir.load(matrix, row * n + i, d), ir.load(q, i, d))))

    back, forth = row_of(count - 1 - k), row_of(k)
    p.body = [ir.loop(
        "once", "parallel", ir.integer(1),
        ir.loop("k", "serial", count,
                *weight(steps, back),
                ir.store(weights, count - 1 - k, ir.load(sums, ir.integer(0), d)),
                added(changes, back, -ir.load(sums, ir.integer(0), d))),
        ir.loop("i", "vector", n, ir.store(q, i, ir.load(q, i, d) * scale)),
        ir.loop("k", "serial", count,
                *weight(changes, forth),
                added(steps, forth, ir.load(weights, k, d) - ir.load(sums, ir.integer(0), d))))]
    return p


@functools.cache
def _kernel(program, d: dt.dtype):
    from ..targets.kernel import Function

    return Function(program(d))


def _run(program, x: np.ndarray, *arguments) -> None:
    """Run a program of one parallel iteration, of the dtype of its first argument `x`, on arrays and numbers; scalars are floats."""
    words = np.empty(len(arguments) + 1, np.int64)
    for i, a in enumerate((x, *arguments)):
        if isinstance(a, float):
            words.view(np.float64)[i] = a
        else:
            words[i] = a.__array_interface__["data"][0] if isinstance(a, np.ndarray) else a
    _kernel(program, dt.float64 if x.itemsize == 8 else dt.float32)(words.__array_interface__["data"][0], 64 * x.size)


def dot(x: np.ndarray, y: np.ndarray) -> np.floating:
    """The dot product of two vectors of float32 or float64, each of whose terms is added without rounding the product first."""
    sums = np.empty(4 * _BYTES // x.itemsize, x.dtype)
    _run(dot_program, x, y, sums, x.size)
    return sums[0]


def short_sum(x: np.ndarray) -> np.floating:
    """The sum of a vector; of a short one in the order of PyTorch's loops: vectors of 32 bytes in four sums, then the rest."""
    if x.nbytes > _SHORT:
        return x.sum()
    lanes = 32 // x.itemsize if x.size >= 32 // x.itemsize else 1
    whole = x.size // lanes
    rows = x[:whole * lanes].reshape(whole, lanes)
    by_four = whole // 4 * 4
    sums = np.zeros((4, lanes), x.dtype)
    for i in range(0, by_four, 4):
        sums += rows[i:i + 4]
    for row in rows[by_four:]:
        sums[0] += row
    first, *others = sums[0] + sums[1] + sums[2] + sums[3]
    rest = x.dtype.type(0)
    for value in x[whole * lanes:]:
        rest += value
    return sum(others, rest + first)


class History:
    """The last steps of a descent and what each changed of the gradient, at most `most` vectors of `n` elements each.

    `changes`, `steps`, `factors`: lists of arrays, the oldest first. `scale` times the identity is what there is of an inverse Hessian
    without them. `weights`: those of the last direction.
    """

    def __init__(self, most: int, n: int, dtype: np.dtype):
        self.room, self.first, self.count = most, 0, 0
        self.changes, self.steps = np.empty((most, n), dtype), np.empty((most, n), dtype)
        self.factors, self.weights = np.empty(most, dtype), np.empty(most, dtype)
        self.sums = np.empty(4 * _BYTES // dtype.itemsize, dtype)

    def add(self, change: np.ndarray, step: np.ndarray, factor) -> None:
        """Put a pair of vectors, and 1 / their dot product, in the place of the oldest if there are as many as may be."""
        row = (self.first + self.count) % self.room
        if self.count == self.room:
            self.first = (self.first + 1) % self.room
        else:
            self.count += 1
        self.changes[row], self.steps[row], self.factors[row] = change, step, factor

    def direction(self, gradient: np.ndarray, scale) -> np.ndarray:
        """Minus the inverse Hessian, `scale` times the identity before all steps, by the gradient."""
        q = -gradient
        _run(direction_program, q, self.changes, self.steps, self.factors, self.weights, self.sums,
             q.size, self.room, self.first, self.count, float(scale))
        return q
