"""Gamma numbers by the method of Marsaglia and Tsang (2000), as a loop program of our own.

Each attempt makes x from the next normal number, y = 1 + c x, v = y**3, and accepts d v with the next uniform number u if y is positive
and log(u) < x**2 / 2 + d (1 - v + log v). How many numbers one gamma number takes is up to chance, so the program goes from attempt to
attempt, and carries along what it works on: the number it makes, the place in the uniforms, the second normal number of a pair.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..base import dtype as dt
from ..loops import ir
from ..loops import math as lm

F, I = dt.float64, dt.int64
USED = 4        # uniforms that one attempt takes at most
COUNTERS = ("number", "place", "begun", "paired", "accepted")
FLOATS = ("boost", "second", "x")


def _now(name: str) -> ir.Op:
    """What a variable holds where this is evaluated."""
    return ir.value(name, I if name in COUNTERS else F)


def _advance(name: str, by: int = 1) -> ir.Op:
    return ir.update(name, _now(name) + by)


def _set(name: str, value) -> ir.Op:
    return ir.update(name, value if isinstance(value, ir.Op) else ir.integer(value) if name in COUNTERS else ir.const(value, F))


def _begin(uniform, inverse) -> list[ir.Op]:
    """A concentration below 1 takes a number of the concentration plus 1, times a power of a uniform number."""
    fresh = _now("begun").eq(0)
    return [ir.when(fresh, _set("boost", 1.0)),
            ir.when(fresh & (inverse > 0.0), _set("boost", lm.exp(inverse * lm.log(1.0 - uniform(_now("place"))))), _advance("place")),
            _set("begun", 1)]


def _normal(uniform) -> list[ir.Op]:
    """The next normal number, two from each pair of uniforms (Box and Muller 1958)."""
    angle, u = uniform(_now("place")) * (2.0 * math.pi), uniform(_now("place") + 1)
    radius = ir.sqrt(lm.log1p(-u) * -2.0)
    return [ir.when(_now("paired").ne(0), _set("x", _now("second"))),
            ir.when(_now("paired").eq(0), _set("x", radius * lm.cos(angle)), _set("second", radius * lm.sin(angle)),
                    _advance("place", 2)),
            _set("paired", 1 - _now("paired"))]


def _attempt(uniform, out: int, d) -> list[ir.Op]:
    """Accept or not: mostly by the first test alone, which is quick."""
    x = _now("x")
    y = x / ir.sqrt(d * 9.0) + 1.0
    v, square = y * y * y, x * x
    u = 1.0 - uniform(_now("place"))
    certain = u < 1.0 - square * square * 0.0331
    accepted = lm.log(u) < square * 0.5 + d * (1.0 - v + lm.log(v))
    return [ir.when(y > 0.0,
                    _set("accepted", certain.cast(I)), _advance("place"),
                    ir.when(_now("accepted").eq(0), _set("accepted", accepted.cast(I))),
                    ir.when(_now("accepted").ne(0), ir.store(out, _now("number"), _now("boost") * d * v), _advance("number"),
                            _set("begun", 0)))]


def program() -> ir.Program:
    """A given number of attempts; it idles when all numbers are made."""
    p = ir.Program()
    words, inverses, ds = p.slot("in", dt.uint32, "words"), p.slot("in", F, "inverse"), p.slot("in", F, "d")
    out, attempts, count = p.slot("out", F, "out"), p.slot("extent", I, "attempts"), p.slot("extent", I, "count")
    counters, floats = p.slot("inout", I, "counters"), p.slot("inout", F, "floats")
    kept = [(name, slot, ir.integer(i)) for slot, names in ((counters, COUNTERS), (floats, FLOATS)) for i, name in enumerate(names)]

    def uniform(i):
        """53 bits of two words, the first of which is the high half."""
        high, low = (ir.load(words, i * 2 + half, dt.uint32).cast(I) for half in (0, 1))
        return (((high & (2 ** 21 - 1)) << 32) | low).cast(F) * 2.0 ** -53

    inverse, d = (ir.load(slot, _now("number"), F) for slot in (inverses, ds))
    body = ir.when(_now("number") < ir.arg(count), *_begin(uniform, inverse), *_normal(uniform), *_attempt(uniform, out, d))
    p.body = [ir.loop("once", "parallel", ir.integer(1),
                      *[ir.accumulator(name, "set", ir.load(slot, i, _now(name).dtype)) for name, slot, i in kept],
                      ir.loop("attempt", "serial", ir.arg(attempts), body),
                      *[ir.store(slot, i, _now(name)) for name, slot, i in kept])]
    return p


@functools.cache
def _kernel():
    from ..targets.kernel import Function

    return Function(program())


def _parameters(concentration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1 / concentration where it is below 1, else 0; d), rounded to the dtype of the concentrations on the way as PyTorch does."""
    kind = concentration.dtype.type
    small = concentration < 1
    third = kind(np.float32(1) / np.float32(3))
    with np.errstate(divide="ignore"):
        inverse = np.where(small, kind(1) / concentration, kind(0))
    d = np.where(small, concentration + kind(1), concentration) - third
    return inverse.astype(np.float64), d.astype(np.float64)


def gamma(generator, concentration: np.ndarray) -> np.ndarray:
    """A gamma number of rate 1 for each concentration, float64."""
    bad = ~(concentration > 0)
    inverse, d = _parameters(np.where(bad, concentration.dtype.type(1), concentration))
    n = concentration.size
    out, counters, floats = np.empty(n), np.zeros(len(COUNTERS), np.int64), np.zeros(len(FLOATS))
    if generator._next_normal is not None:
        counters[COUNTERS.index("paired")], floats[FLOATS.index("second")] = 1, generator._next_normal
    while counters[0] < n:
        attempts = int((n - counters[0]) * 1.05) + 16
        before = generator._words.saved()
        words = generator.words(2 * USED * attempts)
        counters[1] = 0
        arguments = np.array([words.ctypes.data, inverse.ctypes.data, d.ctypes.data, out.ctypes.data, attempts, n, counters.ctypes.data,
                              floats.ctypes.data], np.int64)
        _kernel()(arguments.ctypes.data, 100 * attempts)
        generator._words.restore(before)
        generator.words(2 * int(counters[1]))
    generator._next_normal = float(floats[FLOATS.index("second")]) if counters[COUNTERS.index("paired")] else None
    return np.where(bad, np.where(concentration == 0, 0.0, np.nan), out)
