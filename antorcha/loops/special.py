"""Special functions in the primitives of the loop program: Bessel and Airy functions, the normal distribution.

Near the origin and towards infinity each is a Chebyshev expansion (`expansions.py`) of what is left when its logarithm,
exponential or oscillation is taken out: C. W. Clenshaw, "Chebyshev Series for Mathematical Functions" (1962); Abramowitz and
Stegun, "Handbook of Mathematical Functions" (1964), 9.2, 9.6 and 10.4. All work is done in float64. Oscillating functions are
exact to about 1e-15 of their amplitude, the others to about 1e-15 of their value.
"""

from __future__ import annotations

import math

from . import expansions as table
from .ir import Op, absolute, const, fma, maximum, minimum, select, sqrt
from .math import INF, NAN, _wide, copysign, cos, erfc, erfcx, exp, log, log1p, sin

SQRT_2 = math.sqrt(2.0)


def chebyshev(t: Op, coefficients) -> Op:
    """The expansion by Clenshaw's recurrence."""
    twice, b, after = t + t, const(coefficients[-1], t.dtype), const(0.0, t.dtype)
    for c in coefficients[-2:0:-1]:
        b, after = fma(twice, b, c - after), b
    return fma(t, b, coefficients[0] - after)


def _or_nan(x: Op, y: Op) -> Op:
    return select(x.ne(x), x, y)


# -- modified Bessel functions ----------------------------------------------------------------------------------

def _scaled(a: Op, near, far) -> tuple[Op, Op]:
    """exp(-a) I(a), up to a factor on [0, 8], and above."""
    large = maximum(a, 8.0)
    return chebyshev(minimum(a, 8.0) * 0.25 - 1.0, near), chebyshev(16.0 / large - 1.0, far) / sqrt(large)


def _i0e(x: Op) -> Op:
    a = absolute(x)
    near, far = _scaled(a, table.I0E_NEAR, table.I0E_FAR)
    return _or_nan(x, select(a < 8.0, near, far))


def _i1e(x: Op) -> Op:
    a = absolute(x)
    near, far = _scaled(a, table.I1E_NEAR, table.I1E_FAR)
    return _or_nan(x, copysign(select(a < 8.0, near * a, far), x))


def _grown(scaled):
    """exp(|x|) times a scaled function, in two steps so that it does not overflow before its time."""
    def function(x: Op) -> Op:
        a = absolute(x)
        half = exp(a * 0.5)
        return select(a.eq(INF), copysign(a, x) if scaled is _i1e else a, scaled(x) * half * half)
    return function


_i0, _i1 = _grown(_i0e), _grown(_i1e)
i0, i0e, i1, i1e = (_wide(f) for f in (_i0, _i0e, _i1, _i1e))


def _k(x: Op, order: int, scaled: bool) -> Op:
    small, large = minimum(x, 2.0), maximum(x, 2.0)
    regular = chebyshev(small * small * 0.5 - 1.0, (table.K0_NEAR, table.K1_NEAR)[order])
    logarithm = log(small * 0.5)
    if order == 0:
        near = regular - logarithm * _i0(small)
    else:
        near = select(small.eq(0.0), INF, regular / small + logarithm * _i1(small))
    far = chebyshev(4.0 / large - 1.0, (table.K0E_FAR, table.K1E_FAR)[order]) / sqrt(large)
    near, far = (near * exp(small), far) if scaled else (near, far * exp(-large))
    return _or_nan(x, select(x < 0.0, const(NAN, x.dtype), select(x > 2.0, far, near)))


def _of_order(function, order: int, *more):
    return _wide(lambda x: function(x, order, *more))


k0, k1, k0e, k1e = (_of_order(_k, order, scaled) for scaled in (False, True) for order in (0, 1))


# -- Bessel functions -------------------------------------------------------------------------------------------

def _oscillation(x: Op, order: int) -> tuple[Op, Op]:
    """(J, Y) from 8 on: Hankel's expansion, with cos and sin of x - pi/4 (order 0) or x - 3 pi/4 (order 1) by those of x."""
    u = 128.0 / (x * x) - 1.0
    p, q = chebyshev(u, (table.P0, table.P1)[order]), chebyshev(u, (table.Q0, table.Q1)[order]) * 8.0 / x
    s, c = sin(x), cos(x)
    cosine, sine = (c + s, s - c) if order == 0 else (s - c, -s - c)
    amplitude = 1.0 / sqrt(x * math.pi)
    return (p * cosine - q * sine) * amplitude, (p * sine + q * cosine) * amplitude


def _j_near(a: Op, order: int) -> Op:
    t = a * a * 0.03125 - 1.0
    return chebyshev(t, table.J0_NEAR) if order == 0 else a * chebyshev(t, table.J1_NEAR)


def _j(x: Op, order: int) -> Op:
    a = absolute(x)
    far = select(a.eq(INF), const(0.0, x.dtype), _oscillation(maximum(a, 8.0), order)[0])
    y = select(a < 8.0, _j_near(minimum(a, 8.0), order), far)
    return _or_nan(x, y if order == 0 else select(x < 0.0, -y, y))


def _y(x: Op, order: int) -> Op:
    small = minimum(x, 8.0)
    t = small * small * 0.03125 - 1.0
    singular = log(small * 0.5) * _j_near(small, order)
    if order == 0:
        near = fma(singular, 2.0 / math.pi, chebyshev(t, table.Y0_NEAR))
    else:
        near = select(small.eq(0.0), -INF, (singular - 1.0 / small) * (2.0 / math.pi) + small * chebyshev(t, table.Y1_NEAR))
    far = select(x.eq(INF), const(0.0, x.dtype), _oscillation(maximum(x, 8.0), order)[1])
    return _or_nan(x, select(x < 0.0, const(NAN, x.dtype), select(x > 8.0, far, near)))


j0, j1 = (_of_order(_j, order) for order in (0, 1))
y0, y1 = (_of_order(_y, order) for order in (0, 1))


@_wide
def spherical_j0(x: Op) -> Op:
    y = sin(x) / select(x.eq(0.0), 1.0, x)
    return select(x.eq(0.0), const(1.0, x.dtype), select(absolute(x).eq(INF), const(0.0, x.dtype), y))


# -- the Airy function ------------------------------------------------------------------------------------------

def _phase(x: Op) -> Op:
    return x * sqrt(x) * (2.0 / 3.0)


Z2, Z6 = 2.0 ** 1.5 * 2.0 / 3.0, 6.0 ** 1.5 * 2.0 / 3.0


@_wide
def airy_ai(x: Op) -> Op:
    middle = chebyshev((minimum(maximum(x, -6.0), 2.0) + 2.0) * 0.25, table.AIRY_MIDDLE)
    large = maximum(x, 2.0)
    z = _phase(large)
    right = exp(-z) * chebyshev(2.0 * Z2 / z - 1.0, table.AIRY_RIGHT) / (sqrt(sqrt(large)) * (2.0 * math.sqrt(math.pi)))
    large = maximum(-x, 6.0)
    z = _phase(large)
    ratio = Z6 / z
    u = 2.0 * ratio * ratio - 1.0
    s, c = sin(z), cos(z)
    left = chebyshev(u, table.AIRY_P) * (c + s) + ratio * chebyshev(u, table.AIRY_Q) * (s - c)
    left = left / (sqrt(sqrt(large)) * math.sqrt(2.0 * math.pi))
    return _or_nan(x, select(x > 2.0, right, select(x < -6.0, left, middle)))


# -- the normal distribution ------------------------------------------------------------------------------------

@_wide
def ndtr(x: Op) -> Op:
    return erfc(x * (-1.0 / SQRT_2)) * 0.5


@_wide
def log_ndtr(x: Op) -> Op:
    below = log(erfcx(x * (-1.0 / SQRT_2)) * 0.5) - x * x * 0.5
    above = log1p(erfc(maximum(x, -1.0) * (1.0 / SQRT_2)) * -0.5)
    return _or_nan(x, select(x.eq(-INF), x, select(x < -1.0, below, above)))


@_wide
def ndtri(p: Op) -> Op:
    tail = minimum(p, 1.0 - p)
    w = sqrt(-2.0 * log(minimum(tail, math.exp(-2.0))))
    u = 1.0 / w
    near = chebyshev((maximum(u, 0.125) - 0.125) * (16.0 / 3.0) - 1.0, table.QUANTILE_NEAR)
    far = chebyshev((minimum(u, 0.125) - 0.015625) * (128.0 / 7.0) - 1.0, table.QUANTILE_FAR)
    low = (select(w < 8.0, near, far) + log(w)) * u - w
    outer = select(tail.eq(0.0), const(-INF, p.dtype), low)
    centred = 2.0 * p - 1.0
    inner = centred * chebyshev(centred * centred * (2.0 / (1.0 - 2.0 * math.exp(-2.0)) ** 2) - 1.0, table.QUANTILE_CENTRE)
    y = select(tail < math.exp(-2.0), select(p > 0.5, -outer, outer), inner)
    return select((p < 0.0) | (p > 1.0) | p.ne(p), const(NAN, p.dtype), y)
