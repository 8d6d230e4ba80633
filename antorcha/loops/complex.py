"""Elementary functions of complex numbers, by those of their parts.

Formulas: Abramowitz and Stegun, "Handbook of Mathematical Functions", chapters 3 and 4; Kahan, "Branch Cuts for Complex Elementary
Functions", 1987. Branch cuts are C99's.
"""

from __future__ import annotations

import math

from . import ir
from . import math as lm
from .ir import Pair, absolute, maximum, minimum, select


def magnitude(z: Pair):
    """|z|, without overflow of the squares."""
    a, b = absolute(z.re), absolute(z.im)
    large, small = maximum(a, b), minimum(a, b)
    ratio = small / select(large.eq(0.0), 1.0, large)
    infinite = a.eq(math.inf) | b.eq(math.inf)
    return select(infinite, ir.const(math.inf, a.dtype), large * ir.sqrt(ratio * ratio + 1.0))


def angle(z: Pair):
    """The argument, in (-pi, pi]."""
    return lm.atan2(z.im, z.re)


def sgn(z: Pair) -> Pair:
    """z / |z|, 0 for 0."""
    r = magnitude(z)
    safe = select(r.eq(0.0), 1.0, r)
    return Pair(select(r.eq(0.0), 0.0, z.re / safe), select(r.eq(0.0), 0.0, z.im / safe))


def exp(z: Pair) -> Pair:
    r = lm.exp(z.re)
    return Pair(r * lm.cos(z.im), select(z.im.eq(0.0), z.im, r * lm.sin(z.im)))


def log(z: Pair) -> Pair:
    return Pair(lm.log(magnitude(z)), angle(z))


def log2(z: Pair) -> Pair: return log(z) * (1 / math.log(2))
def log10(z: Pair) -> Pair: return log(z) * (1 / math.log(10))
def log1p(z: Pair) -> Pair: return log(z + 1.0)
def exp2(z: Pair) -> Pair: return exp(z * math.log(2))


def expm1(z: Pair) -> Pair:
    half = lm.sin(z.im * 0.5)
    grown = lm.expm1(z.re)
    return Pair(grown * lm.cos(z.im) - 2.0 * half * half, (grown + 1.0) * lm.sin(z.im))


def sqrt(z: Pair) -> Pair:
    """With a real part that is not negative."""
    r = magnitude(z)
    t = ir.sqrt((absolute(z.re) + r) * 0.5)
    safe = select(t.eq(0.0), 1.0, t)
    other = absolute(z.im) / (2.0 * safe)
    negative = z.re < 0.0
    im = select(negative, t, other)
    return Pair(select(negative, other, t), select(z.im < 0.0, -im, im))


def rsqrt(z: Pair) -> Pair: return 1.0 / sqrt(z)


def sinh(z: Pair) -> Pair: return Pair(lm.sinh(z.re) * lm.cos(z.im), lm.cosh(z.re) * lm.sin(z.im))
def cosh(z: Pair) -> Pair: return Pair(lm.cosh(z.re) * lm.cos(z.im), lm.sinh(z.re) * lm.sin(z.im))


def tanh(z: Pair) -> Pair:
    """sinh 2x + i sin 2y over cosh 2x + cos 2y; large x give +-1."""
    x = minimum(maximum(z.re, -20.0), 20.0)
    s, c = lm.sin(z.im), lm.cos(z.im)
    h = lm.sinh(x)
    below = h * h + c * c
    return Pair(h * lm.cosh(x) / below, s * c / below)


def _turned(function):
    """f(z) = -i g(i z)."""
    def turned(z: Pair) -> Pair:
        w = function(Pair(-z.im, z.re))
        return Pair(w.im, -w.re)
    return turned


sin, tan = _turned(sinh), _turned(tanh)


def cos(z: Pair) -> Pair: return cosh(Pair(-z.im, z.re))


def asinh(z: Pair) -> Pair:
    """log(z + sqrt(z^2 + 1)), by Kahan's products of roots, which keep the branch cuts."""
    a, b = sqrt(Pair(1.0 + z.im, -z.re)), sqrt(Pair(1.0 - z.im, z.re))
    # asin(iz) = atan2 of the parts of iz and sqrt(1 - iz) sqrt(1 + iz)
    re = lm.asinh((a.conj() * b).im * -1.0)
    return Pair(_signed(absolute(re), z.re), lm.atan2(z.im, (a * b).re))


def _signed(value, like):
    return select(like < 0.0, -value, value)


asin, atan = _turned(asinh), None


def acos(z: Pair) -> Pair:
    w = asin(z)
    return Pair(math.pi / 2 - w.re, -w.im)


def acosh(z: Pair) -> Pair:
    """2 log(sqrt((z + 1) / 2) + sqrt((z - 1) / 2))."""
    a, b = sqrt(z + 1.0), sqrt(z - 1.0)
    return Pair(lm.asinh((a.conj() * b).re), 2.0 * lm.atan2(b.im, a.re))


def atanh(z: Pair) -> Pair:
    """(log1p(z) - log1p(-z)) / 2, by its parts; the logarithm is taken of numbers above 1 only."""
    x, y = absolute(z.re), z.im
    re = lm.log1p(4.0 * x / ((1.0 - x) * (1.0 - x) + y * y)) * 0.25
    im = lm.atan2(2.0 * y, (1.0 - x) * (1.0 + x) - y * y) * 0.5
    return Pair(_signed(re, z.re), im)


atan = _turned(atanh)


def sigmoid(z: Pair) -> Pair: return 1.0 / (1.0 + exp(-z))


def is_any(test):
    """A test of numbers that holds for a complex one if it does for either part."""
    return lambda z: test(z.re) | test(z.im)


def is_all(test):
    return lambda z: test(z.re) & test(z.im)
