"""Elementary functions written with the primitives of the loop program, for float32 and float64.

All are free of branches (a choice is a `select`), so that LLVM turns them into vector code. Polynomials are Taylor expansions
where the argument was reduced far enough, else near-minimax fits computed with 40 digits. Where float32 would lose digits the
work is done in float64. float32 results are within 2 ulp of the exact ones over the whole range (but for lgamma and digamma, which
are so relative to 1 near their zeros); float64 results mostly, see `tests/test_math_accuracy.py`. Sources: W. J. Cody and W. Waite,
"Software Manual for the Elementary Functions" (1980) for the reductions; M. Giles, "Approximating the erfinv function" (2010).
"""

from __future__ import annotations

import math

from ..base import dtype as dt
from .ir import Op, absolute, const, floor, fma, ldexp, maximum, minimum, rem, round_even, select, sqrt

INF, NAN = math.inf, math.nan

# erf(x) / x in x**2 on [0, 1]
_ERF_SMALL = (5.957176147748911e-11, -1.1372848856791674e-09, 1.4659775274047436e-08, -1.6350312701054695e-07, 1.6461000484121368e-06,
              -1.4925595266831182e-05, 0.0001205533111164271, -0.000854832698083379, 0.0052239776248180145, -0.026866170645076792,
              0.11283791670954879, -0.3761263890318375, 1.1283791670955126)
# -log(erfc(x)) / x - 1 on [0, 3.93], weighted by what an error there does to erf(x)
_ERFC_LOG_32 = (-9.256452109935428e-06, 0.00011764354810303144, -0.0006328464058035283, 0.0016670459909850631, -0.00016041407608532294,
                -0.019153055262965034, 0.1027778286693866, 0.6366193821019781, 0.1283791716082333)
# (exp(x) - 1 - x) / x**2 on [-log(2) / 2, log(2) / 2]
_EXPM1_32 = (0.0013882237580797908, 0.008366580515067036, 0.041667207267500304, 0.16666543202166806, 0.49999998119062655)
# -log(erfc(x)) - x**2 in x - 1.75 on [1, 2.5], in x - 4.5 on [2.5, 6.5], and less log(x), in 1 / x on [6.5, 28]
_ERFC_LOG_A = (-4.753577564408917e-10, -2.1388734139098666e-09, 2.3277038136332004e-08, -1.137150854207207e-07,
               4.0184226780745874e-07, -8.90599907125567e-07, -8.274994233367849e-07, 2.3741403400647493e-05,
               -0.00017452306690897307, 0.000964098656039142, -0.00462493049875452, 0.02053884038127406, -0.09005983350326527,
               0.4596109008134209, 1.2553635254332227)
_ERFC_LOG_B = (9.38652852451467e-16, -5.8049125506858525e-15, 1.419233597716306e-14, -3.8814952797063486e-14,
               3.0046210028171336e-15, 2.6975796729979532e-12, -3.617043401606539e-11, 3.4803919253349346e-10,
               -2.933112975860606e-09, 2.2884110816015613e-08, -1.6948763384136487e-07, 1.2102896814128356e-06,
               -8.432034576377743e-06, 5.798295027296975e-05, -0.000399433841218711, 0.002825260853478119, -0.021637110340678476,
               0.212401275286159, 2.099768303435941)
_ERFC_LOG_C = (-22.836857944731317, 107.17516255854075, -124.08326493877611, 59.4880721270655, -6.258415670169223,
               -4.686623489501751, -0.0812750605964229, 1.547623398793935, -0.0003254529508918896, -0.624986941787923,
               -3.7316854872860554e-07, 0.5000000071796066, -8.323232736021136e-11, 0.5723649429251387)
# (1 - Phi(x) - x phi(x)) exp(x**2 / 2) on [0, 7], weighted likewise; Phi is the normal distribution, phi its density
_GELU_SLOPE_32 = (-3.1545559883034816e-07, 7.707173578594819e-06, -8.475868648029008e-05, 0.0005636015208356079,
                  -0.0025899647048222628, 0.009003663530636268, -0.025471665067600704, 0.06192387458478993, -0.13280578889312167,
                  0.2499725805671635, -0.7978828841037533, 0.4999999830666053)
# exp(x) on [-log(2) / 2, log(2) / 2]
_EXP_32 = (0.0013950631438554364, 0.008368969931003584, 0.04166620370141658, 0.16666518169345057, 0.5000000095836448, 1.0, 1.0)
ROUNDING = 1.5 * 2 ** 23    # to add it to a float32 rounds that to an integer
# atan(x) / x in x**2 on [0, tan(pi/8)**2]
_ATAN = (0.015113188421315578, -0.033387254662610874, 0.044994761370224005, -0.052173064890151256, 0.05876833051768914,
         -0.06666205161654902, 0.0769228109318707, -0.09090908058726949, 0.11111111085313444, -0.14285714285329562, 0.19999999999997012,
         -0.33333333333333326, 1.0)


def polynomial(x: Op, coefficients) -> Op:
    """Horner's scheme, highest power first."""
    p = const(coefficients[0], x.dtype)
    for c in coefficients[1:]:
        p = fma(p, x, c)
    return p


def halved_polynomial(x: Op, coefficients) -> Op:
    """The same by its even and odd part, powers of x**2 (Knuth, "The Art of Computer Programming" 2, 4.6.4): one multiplication more, but
    half as long to wait for where each step needs the one before."""
    square = x * x
    *rest, last = (polynomial(square, coefficients[start::2]) for start in ((len(coefficients) - 2) % 2, (len(coefficients) - 1) % 2))
    return fma(x, rest[0], last)


def _wide(function):
    """A float32 function computed in float64."""
    def narrow(*xs: Op) -> Op:
        d = xs[0].dtype
        return function(*(x.cast(dt.float64) for x in xs)).cast(d)
    narrow.__name__, narrow.__doc__ = function.__name__, function.__doc__
    return narrow


class _Format:
    """The layout of a floating point type."""

    def __init__(self, integer, mantissa, bias, tiny):
        self.integer, self.mantissa, self.bias, self.tiny = integer, mantissa, bias, tiny


_FORMATS = {dt.float32: _Format(dt.int32, 23, 127, 2.0 ** -126), dt.float64: _Format(dt.int64, 52, 1023, 2.0 ** -1022)}
_LN2 = {dt.float32: (0.693359375, -2.12194440e-4), dt.float64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
_INVERSE_FACTORIALS = [1.0 / math.factorial(k) for k in range(16)]


def _power_of_two(n: Op, d) -> Op:
    """2**n for an integer n within the range of normal numbers."""
    f = _FORMATS[d]
    return ((n + f.bias) << f.mantissa).bitcast(d)


def _scale(y: Op, n: Op) -> Op:
    """y * 2**n in two steps, so that neither overflows before its time."""
    half = n >> 1
    return y * _power_of_two(half, y.dtype) * _power_of_two(n - half, y.dtype)


def _exp_parts(x: Op):
    """x = n log 2 + r: (n as integer, r)."""
    d = x.dtype
    hi, lo = _LN2[d]
    n = round_even(x * math.log2(math.e))
    r = fma(n, -lo, fma(n, -hi, x))
    return n.cast(_FORMATS[d].integer), r


def exp(x: Op) -> Op:
    if x.dtype is dt.float32:
        return _exp32(x)
    x = minimum(maximum(x, -746.0), 710.0)
    n, r = _exp_parts(x)
    y = polynomial(r, [_INVERSE_FACTORIALS[k] for k in range(13, -1, -1)])
    return _scale(select(x < -745.1332191019412, const(0.0, x.dtype), y), n)     # 0 times a number: no underflow, see below


def _exp32(x: Op) -> Op:
    """exp in float32. Where it is 0 (masked scores) what is scaled is cleared before: processors take a hundred times as long for a
    product that underflows."""
    x = minimum(x, 89.0)        # whose exponential is infinite already; NaN stays what it is
    p, n, _ = _exp32_parts(x)
    return ldexp(select(x < -103.97208, const(0.0, x.dtype), p), n)


def _exp32_parts(x: Op) -> tuple[Op, Op, Op]:
    """(exp(r), n, n as an int32) of x = n log 2 + r."""
    high, low = _LN2[dt.float32]
    n, whole = _powers_within(x)
    r = fma(n, -low, fma(n, -high, x))
    return polynomial(r, _EXP_32), n, whole


def _powers_within(x: Op) -> tuple[Op, Op]:
    """n = x / log 2 rounded to an integer, as a float32 and as an int32. A large number is added and subtracted to round; its lowest
    bits are n then."""
    large = const(ROUNDING, dt.float32)
    shifted = fma(x, const(math.log2(math.e), dt.float32), large)
    return shifted - ROUNDING, shifted.bitcast(dt.int32) - large.bitcast(dt.int32)


def exp2(x: Op) -> Op:
    if x.dtype is dt.float32:
        return exp2(x.cast(dt.float64)).cast(dt.float32)
    x = minimum(maximum(x, -1080.0), 1030.0)
    n = round_even(x)
    p = polynomial((x - n) * math.log(2.0), [_INVERSE_FACTORIALS[k] for k in range(13, -1, -1)])
    return _scale(p, n.cast(dt.int64))


def expm1(x: Op) -> Op:
    return _with_sign_of(_expm1(x), x)


def _expm1(x: Op) -> Op:
    """All but the sign of 0."""
    d = x.dtype
    low, high, degree = (-20.0, 89.0, 7) if d is dt.float32 else (-40.0, 710.0, 13)
    n, r = _exp_parts(minimum(maximum(x, low), high))
    p = r * r * polynomial(r, [_INVERSE_FACTORIALS[k] for k in range(degree + 1, 1, -1)]) + r
    s = _power_of_two(n - 1, d)     # half of 2**n: exp(88.8) still has 2**128 as a factor
    y = fma(p, s, s - 0.5)
    return select(n.eq(0), p, y + y)


def _log_parts(x: Op):
    """x = 2**e * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): (e, f), both floats."""
    d, f = x.dtype, _FORMATS[x.dtype]
    small = x < f.tiny
    lift = f.mantissa + 2
    bits = select(small, x * 2.0 ** lift, x).bitcast(f.integer)
    root = const(math.sqrt(0.5), d).bitcast(f.integer)
    e = (bits - root) >> f.mantissa
    m = (bits - (e << f.mantissa)).bitcast(d)
    e = e.cast(d) - select(small, const(lift, d), const(0, d))
    return e, m - 1.0


def _log1p_series(f: Op):
    """log(1 + f) = f - (h - s * (h + R)) with h = f**2 / 2, s = f / (2 + f): (h, s, R)."""
    terms = 5 if f.dtype is dt.float32 else 11
    s = f / (f + 2.0)
    z = s * s
    series = z * polynomial(z, [2.0 / (2 * k + 1) for k in range(terms, 0, -1)])
    return f * f * 0.5, s, series


def log(x: Op) -> Op:
    hi, lo = _LN2[x.dtype]
    e, f = _log_parts(x)
    h, s, r = _log1p_series(f)
    y = fma(e, hi, f - (h - (fma(s, h + r, e * lo))))
    return _log_edges(x, y)


def _log_edges(x: Op, y: Op) -> Op:
    y = select(x.eq(INF), x, y)
    y = select(x.eq(0.0), const(-INF, x.dtype), y)
    return select((x < 0.0) | x.ne(x), const(NAN, x.dtype), y)


def _log_to(base: float):
    def function(x: Op) -> Op:
        e, f = _log_parts(x)
        h, s, r = _log1p_series(f)
        y = fma(e, math.log(2.0) / math.log(base), (f - (h - s * (h + r))) * (1.0 / math.log(base)))
        return _log_edges(x, y)
    return function


log2, log10 = _wide(_log_to(2.0)), _wide(_log_to(10.0))


def log1p(x: Op) -> Op:
    u = x + 1.0
    y = log(u) - ((u - 1.0) - x) / u
    return select(u.eq(0.0) | u.eq(INF), log(u), select(absolute(x) < 2.0 ** -60, x, y))


def rsqrt(x: Op) -> Op:
    return 1.0 / sqrt(x)


def sigmoid(x: Op) -> Op:
    e = exp(-absolute(x))
    total = e + 1.0
    lost = e - (total - 1.0)        # what rounding took from the sum
    y = select(x < 0.0, e, const(1.0, x.dtype)) / total
    return fma(-y, lost / total, y)


def _with_sign_of(y: Op, x: Op) -> Op:
    f = _FORMATS[x.dtype]
    top = const(-(1 << (8 * x.dtype.itemsize - 1)), f.integer)
    return (y.bitcast(f.integer) | (x.bitcast(f.integer) & top)).bitcast(x.dtype)


def copysign(x: Op, like: Op) -> Op:
    return _with_sign_of(absolute(x), like)


def nextafter(x: Op, to: Op, step: Op) -> Op:
    """The neighbour of x towards `to`, `step` units in the last place of this format away (more than 1 for a narrower one kept in it)."""
    f = _FORMATS[x.dtype]
    step = step.cast(f.integer)
    grows = ~((x > 0.0) ^ (x < to))
    moved = (x.bitcast(f.integer) + select(grows, step, -step)).bitcast(x.dtype)
    found = select(x.eq(0.0), _with_sign_of(step.bitcast(x.dtype), to), moved)
    return select(x.eq(to), to, select(x.ne(x) | to.ne(to), x + to, found))


def frexp(x: Op) -> tuple[Op, Op]:
    """(m, e) with x = m 2**e and 1/2 <= |m| < 1; of 0, infinities and NaN (x, 0)."""
    f = _FORMATS[x.dtype]
    small = absolute(x) < f.tiny
    bits = select(small, x * 2.0 ** 64, x).bitcast(f.integer)
    field = const(2 * f.bias + 1, f.integer)
    e = ((bits >> f.mantissa) & field) - (f.bias - 1) - select(small, const(64, f.integer), const(0, f.integer))
    m = ((bits & ~(field << f.mantissa)) | (const(f.bias - 1, f.integer) << f.mantissa)).bitcast(x.dtype)
    special = x.eq(0.0) | ~(absolute(x) < math.inf)
    return select(special, x, m), select(special, const(0, f.integer), e)


_TANH_SMALL = (6404582 / 10854718875, -929569 / 638512875, 21844 / 6081075, -1382 / 155925, 62 / 2835, -17 / 315, 2 / 15, -1 / 3)


def tanh(x: Op) -> Op:
    a = absolute(x)
    t = _expm1(minimum(a + a, 44.0))
    y = t / (t + 2.0)
    if x.dtype is dt.float32:
        z = x * x
        y = select(a < 0.5, fma(a * z, polynomial(z, _TANH_SMALL), a), y)
    return select(x.ne(x), x, _with_sign_of(y, x))


def sinh(x: Op) -> Op:
    return _sinh(x)


@_wide
def _sinh(x: Op) -> Op:
    t = _expm1(minimum(absolute(x), 709.0))
    y = (t + t / (t + 1.0)) * 0.5
    h = exp(absolute(x) * 0.5)
    return _with_sign_of(select(absolute(x) > 700.0, h * 0.5 * h, y), x)


@_wide
def cosh(x: Op) -> Op:
    h = exp(absolute(x) * 0.5)
    e = exp(minimum(absolute(x), 709.0))
    return select(absolute(x) > 700.0, h * 0.5 * h, e * 0.5 + 0.5 / e)


@_wide
def asinh(x: Op) -> Op:
    a = absolute(x)
    z = a * a
    y = select(a > 1e8, log(a) + math.log(2.0), log1p(a + z / (sqrt(z + 1.0) + 1.0)))
    return _with_sign_of(y, x)


@_wide
def acosh(x: Op) -> Op:
    t = select(x < 1.0, const(NAN, x.dtype), x - 1.0)
    return select(x > 1e8, log(x) + math.log(2.0), log1p(t + sqrt(t * (t + 2.0))))


@_wide
def atanh(x: Op) -> Op:
    a = absolute(x)
    return _with_sign_of(log1p((a + a) / (1.0 - a)) * 0.5, x)


# -- trigonometry -----------------------------------------------------------------------------------------------

_HALF_PI = (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(9)]
_COSINE = [(-1) ** k / math.factorial(2 * k) for k in range(9)]

# 2 / pi in digits of 27 bits
_TWO_OVER_PI = (0x517CC1B, 0x3939105, 0x253F84E, 0x57D1F53, 0x26EE06D, 0x58A5664, 0x7887208)


def _quadrant(x: Op):
    """x = n pi/2 + r with |r| <= pi/4: (n mod 4 as int64, sine of r, cosine of r).

    For float32 the whole range; for float64 full precision up to 1e9, values of no meaning within [-1, 1] far above.
    """
    if x.dtype is dt.float32:
        n, r = _reduced_single(x.cast(dt.float64))
        terms = 7
    else:
        n = round_even(x * (2.0 / math.pi))
        r = fma(n, -_HALF_PI[2], fma(n, -_HALF_PI[1], fma(n, -_HALF_PI[0], x)))
        r = maximum(minimum(r, 0.8), -0.8)
        terms = 8
    z = r * r
    sine = fma(r * z, polynomial(z, _SINE[terms - 1:0:-1]), r)
    cosine = polynomial(z, _COSINE[terms::-1])
    return n.cast(dt.int64) & 3, sine, cosine


def _reduced_single(x: Op):
    """(n mod 4, r) for a float64 that came from a float32, after M. Payne and R. Hanek, "Radian Reduction for Trigonometric
    Functions" (SIGNUM Newsletter, 1983): a product of x (24 bits) with a digit of 2 / pi is exact, those that are multiples of 4 are
    left out, and four digits after them are enough."""
    size = absolute(x)
    beyond = [2.0 ** (27 * k + 52) <= size for k in range(3)]
    terms = []
    for j in range(4):
        digit = const(_TWO_OVER_PI[j] * 2.0 ** (-27 * (j + 1)), x.dtype)
        for k in range(3):
            digit = select(beyond[k], const(_TWO_OVER_PI[j + k + 1] * 2.0 ** (-27 * (j + k + 2)), x.dtype), digit)
        terms.append(x * digit)
    first, second = (fma(round_even(t * 0.25), -4.0, t) for t in terms[:2])
    n = round_even(first + second)
    r = (((first - n) + second) + terms[2]) + terms[3]
    return n, r * (math.pi / 2)


def _trigonometric(function):
    """A function of the quadrant and of sine and cosine within it, of any finite x."""
    def whole(x: Op) -> Op:
        y = select(absolute(x) < INF, function(*_quadrant(x)).cast(x.dtype), const(NAN, x.dtype))
        return y if function.__name__ == "cos" else select(x.eq(0.0), x, y)     # keeps the sign of 0
    whole.__name__ = function.__name__
    return whole


@_trigonometric
def sin(q: Op, s: Op, c: Op) -> Op:
    y = select((q & 1).eq(0), s, c)
    return select((q & 2).eq(0), y, -y)


@_trigonometric
def cos(q: Op, s: Op, c: Op) -> Op:
    y = select((q & 1).eq(0), c, s)
    return select(((q + 1) & 2).eq(0), y, -y)


@_trigonometric
def tan(q: Op, s: Op, c: Op) -> Op:
    odd = (q & 1).ne(0)
    return select(odd, -c, s) / select(odd, s, c)


def _atan(x: Op) -> Op:
    a = absolute(x)
    big = a > 2.414213562373095
    middle = a > 0.4142135623730951
    z = select(big, -1.0 / a, select(middle, (a - 1.0) / (a + 1.0), a))
    base = select(big, const(math.pi / 2, x.dtype), select(middle, const(math.pi / 4, x.dtype), const(0.0, x.dtype)))
    return _with_sign_of(base + z * polynomial(z * z, _ATAN), x)


atan = _wide(_atan)


@_wide
def asin(x: Op) -> Op:
    return _atan(x / sqrt((1.0 - x) * (x + 1.0)))


@_wide
def acos(x: Op) -> Op:
    y = _atan(sqrt((1.0 - x) / (x + 1.0)))
    return y + y


@_wide
def atan2(y: Op, x: Op) -> Op:
    ay, ax = absolute(y), absolute(x)
    both = ay.eq(INF) & ax.eq(INF)
    q = select(both, const(1.0, x.dtype), select(ay.eq(0.0) & ax.eq(0.0), const(0.0, x.dtype), ay / ax))
    r = _atan(q)
    negative = (x < 0.0) | (x.eq(0.0) & ((1.0 / x) < 0.0))
    return _with_sign_of(select(negative, math.pi - r, r), y)


# -- error function ---------------------------------------------------------------------------------------------

def erf(x: Op) -> Op:
    if x.dtype is dt.float32:
        return _with_sign_of(_erf32(minimum(absolute(x), 3.93)), x)
    a = absolute(x)
    *rest, first = _ERF_SMALL
    small = fma(x, polynomial(x * x, (*rest, first - 1.0)), x)
    tail = 1.0 - _erfc_tail(maximum(minimum(a, 6.4), 1.0))
    return select(x.ne(x), x, select(a < 1.0, small, _with_sign_of(tail, x)))


def _erf32(a: Op) -> Op:
    """erf(a) = 1 - exp(log(erfc(a))) for a in [0, 3.93], from where on it rounds to 1; or NaN. With log(erfc(a)) = n log 2 + r it is
    1 - 2**n - 2**n (exp(r) - 1), which loses no digits: of a small number n = 0."""
    y = fma(-a, halved_polynomial(a, _ERFC_LOG_32), -a)
    n, whole = _powers_within(y)
    r = fma(n, const(-math.log(2.0), a.dtype), y)
    scale = _power_of_two(whole, a.dtype)
    p = fma(r * r, halved_polynomial(r, _EXPM1_32), r)
    return fma(-scale, p, 1.0 - scale)


def gelu_slope(x: Op) -> Op:
    """Phi(x) + x phi(x), the derivative of x Phi(x), of which the error is relative to 1."""
    if x.dtype is not dt.float32:
        return (erf(x * math.sqrt(0.5)) + 1.0) * 0.5 + x * exp(x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))
    a = minimum(absolute(x), 13.0)
    p, _, n = _exp32_parts(a * a * -0.5)
    half = fma(-(p.bitcast(dt.int32) + (n << 23)).bitcast(x.dtype), halved_polynomial(a, _GELU_SLOPE_32), 0.5)
    return _with_sign_of(half, x) + 0.5


def _erfc_tail(a: Op) -> Op:
    """erfc on [1, 28], float64."""
    square = a * a
    rest = fma(a, a, -square)
    return exp(-square) * (1.0 - rest) * _erfcx_tail(a)


def _erfcx_tail(a: Op) -> Op:
    """exp(a**2) erfc(a) from 1 on, float64."""
    near = select(a < 2.5, polynomial(minimum(a, 2.5) - 1.75, _ERFC_LOG_A), polynomial(minimum(a, 6.5) - 4.5, _ERFC_LOG_B))
    inverse = 1.0 / a
    far = polynomial(inverse, _ERFC_LOG_C)
    return exp(-select(a < 6.5, near, far)) * select(a < 6.5, const(1.0, a.dtype), inverse)


@_wide
def erfc(x: Op) -> Op:
    a = absolute(x)
    tail = _erfc_tail(minimum(maximum(a, 1.0), 28.0))
    small = 1.0 - x * polynomial(x * x, _ERF_SMALL)
    return select(x.ne(x), x, select(a < 1.0, small, select(x < 0.0, 2.0 - tail, tail)))


@_wide
def erfcx(x: Op) -> Op:
    a = absolute(x)
    tail = _erfcx_tail(maximum(a, 1.0))
    square = x * x
    grown = exp(square) * (1.0 + fma(x, x, -square))
    small = grown * (1.0 - x * polynomial(square, _ERF_SMALL))
    below = select(square < 800.0, 2.0 * grown - tail, const(INF, x.dtype))
    return select(x.ne(x), x, select(a < 1.0, small, select(x < 0.0, below, tail)))


_ERFINV_CENTRE = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
                  0.246640727, 1.50140941)
_ERFINV_TAIL = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047, 1.00167406,
                2.83297682)
# beyond float32's values, in sqrt(w) - 5
_ERFINV_FAR = (5.072263808e-06, -2.219040024e-05, 7.568235452e-05, -0.000213378262, -0.0001386768816, 1.010300199, 4.849906401)


@_wide
def erfinv(x: Op) -> Op:
    a = absolute(x)
    w = -log((1.0 - a) * (a + 1.0))
    root = sqrt(w)
    tail = select(w < 16.0, polynomial(root - 3.0, _ERFINV_TAIL), polynomial(root - 5.0, _ERFINV_FAR))
    guess = select(w < 5.0, polynomial(w - 2.5, _ERFINV_CENTRE), tail) * a
    for _ in range(2):      # Halley's iteration; on erfc in the tail, where erf has lost its digits
        error = select(a < 0.5, erf(guess) - a, (1.0 - a) - erfc(guess))
        step = error / (exp(-(guess * guess)) * (2.0 / math.sqrt(math.pi)))
        guess = guess - step / fma(guess, step, 1.0)
    y = select(a.eq(1.0), const(INF, x.dtype), select(a > 1.0, const(NAN, x.dtype), guess))
    return select(x.ne(x), x, _with_sign_of(y, x))


# -- powers and remainders --------------------------------------------------------------------------------------

@_wide
def pow(x: Op, y: Op) -> Op:
    d = x.dtype
    a = absolute(x)
    e, f = _log_parts(a)
    _, s, r = _log1p_series(f)
    # log2(a) = 2 s + s r in two parts, so that a large exponent does not magnify its rounding
    t = f + 2.0
    s_low = (fma(-s, t, f) - s * (f - (t - 2.0))) / t
    rest = fma(s, r, s_low + s_low)
    head = (s + s) + rest
    tail = ((s + s) - head) + rest
    inv = 1.4426950408889634
    inv_low = 2.0355273740931033e-17
    p = head * inv
    p_low = fma(head, inv, -p) + fma(head, inv_low, tail * inv)
    total = e + p
    total_low = (p - (total - e)) + p_low
    z = y * total
    z_low = fma(y, total, -z) + y * total_low
    z_high = minimum(maximum(z, -1080.0), 1030.0)
    n = round_even(z_high)
    frac = (z_high - n) + select(absolute(z) < 1080.0, z_low, const(0.0, d))
    m = _scale(polynomial(frac * math.log(2.0), [_INVERSE_FACTORIALS[k] for k in range(13, -1, -1)]), n.cast(dt.int64))
    m = select(a.eq(0.0), select(y < 0.0, const(INF, d), const(0.0, d)), m)
    m = select(a.eq(INF), select(y < 0.0, const(0.0, d), const(INF, d)), m)
    grows = (a > 1.0).eq(y > 0.0)
    m = select(absolute(y).eq(INF), select(grows, const(INF, d), const(0.0, d)), m)
    whole = floor(y).eq(y)
    odd = whole & floor(y * 0.5).ne(y * 0.5)
    negative = (x < 0.0) | (x.eq(0.0) & ((1.0 / x) < 0.0))
    m = select(negative & odd, -m, m)
    m = select((x < 0.0) & ~whole & (a < INF), const(NAN, d), m)
    m = select(x.ne(x) | y.ne(y), const(NAN, d), m)
    return select(y.eq(0.0) | x.eq(1.0) | (x.eq(-1.0) & absolute(y).eq(INF)), const(1.0, d), m)


def fmod(a: Op, b: Op) -> Op:
    return rem(a, b)


def remainder(a: Op, b: Op) -> Op:
    r = rem(a, b)
    return select(r.ne(0.0) & (r < 0.0).ne(b < 0.0), r + b, r)


# -- gamma ------------------------------------------------------------------------------------------------------

_STIRLING = (-2.95506535947712418e-02, 6.41025641025641026e-03, -1.91752691752691753e-03, 8.41750841750841751e-04,
             -5.95238095238095238e-04, 7.93650793650793651e-04, -2.77777777777777778e-03, 8.33333333333333333e-02)


def _lgamma_positive(x: Op) -> Op:
    """Stirling's series after the argument was raised above 8."""
    product = const(1.0, x.dtype)
    for _ in range(8):
        below = x < 8.0
        product = select(below, product * x, product)
        x = select(below, x + 1.0, x)
    z = 1.0 / x
    series = z * polynomial(z * z, _STIRLING)
    return (x - 0.5) * log(x) - x + 0.9189385332046727418 + series - log(product)


@_wide
def lgamma(x: Op) -> Op:
    a = absolute(x)
    y = _lgamma_positive(maximum(a, 1e-300))
    fraction = a - floor(a)
    s = sin(minimum(fraction, 1.0 - fraction) * math.pi)
    reflected = math.log(math.pi) - log(s * a) - y
    y = select(x < 0.0, select(fraction.eq(0.0), const(INF, x.dtype), reflected), y)
    return select(x.ne(x), x, select(a.eq(INF) | x.eq(0.0), const(INF, x.dtype), y))


_DIGAMMA = (-1.0 / 12, 691.0 / 32760, -1.0 / 132, 1.0 / 240, -1.0 / 252, 1.0 / 120, -1.0 / 12)


def _digamma_positive(x: Op) -> Op:
    total = const(0.0, x.dtype)
    for _ in range(10):
        below = x < 10.0
        total = select(below, total - 1.0 / x, total)
        x = select(below, x + 1.0, x)
    z = 1.0 / (x * x)
    return total + log(x) - 0.5 / x + z * polynomial(z, _DIGAMMA)


@_wide
def digamma(x: Op) -> Op:
    y = _digamma_positive(select(x < 0.0, 1.0 - x, x))
    fraction = x - round_even(x)
    reflected = y - math.pi / tan(fraction * math.pi)
    y = select(x < 0.0, select(fraction.eq(0.0), const(NAN, x.dtype), reflected), y)
    return select(x.eq(0.0), _with_sign_of(const(INF, x.dtype), -x), y)


_TRIGAMMA = (7.0 / 6, -691.0 / 2730, 5.0 / 66, -1.0 / 30, 1.0 / 42, -1.0 / 30, 1.0 / 6)


def trigamma(x: Op) -> Op:
    """The derivative of digamma; from 10 on the asymptotic series, below 1/2 by reflection. There pi x is rounded to the dtype of x, as in
    PyTorch."""
    return _trigamma(x, x * math.pi)


@_wide
def _trigamma(x: Op, angle: Op) -> Op:
    reflected = x < 0.5
    y = select(reflected, 1.0 - x, x)
    total = const(0.0, x.dtype)
    for _ in range(10):
        below = y < 10.0
        total = select(below, total + 1.0 / (y * y), total)
        y = select(below, y + 1.0, y)
    z = 1.0 / (y * y)
    total = total + (1.0 + z * polynomial(z, _TRIGAMMA)) / y + 0.5 * z
    s = sin(angle)
    return select(reflected, math.pi * math.pi / (s * s) - total, total)
