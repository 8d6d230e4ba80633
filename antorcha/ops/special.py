"""Special functions: Bessel and Airy functions, error functions and the normal distribution, gamma functions, orthogonal polynomials."""

from __future__ import annotations

import math

from ..loops import ir
from ..loops import math as lm
from ..loops import special as ls
from . import incomplete
from . import pointwise as pw
from .casts import FULL_ON_GPU
from .extern import elementwise, host_op
from .record import broadcast_shapes, core, everywhere, floating, operator, pointwise, result_dtype
from .samples import binary, unary

Tensor = "Tensor"
ROOT_2_PI, SQRT_PI = math.sqrt(2 / math.pi), math.sqrt(math.pi)


def real_floats(d):
    """As `floating`, without complex numbers."""
    if d.kind == "c":
        raise NotImplementedError(f"expected real numbers; received {d}")
    return floating(d)


def special(scalar, grad, samples):
    """A function of the namespace torch.special, of one or two real numbers."""
    return lambda function: pointwise(scalar, grad=grad, samples=samples, rule=real_floats, inplace=False, namespace="special",
                                      name="special_" + function.__name__)(function)


def _ratio(x, y):
    """y / x, and at 0 the limit 1/2 of I1(x) / x and J1(x) / x."""
    zero = x == 0
    return pw.where(zero, 0.5, y / pw.where(zero, 1.0, x))


def _divided(y, x):
    """y / x, 0 at 0."""
    zero = x == 0
    return pw.where(zero, 0.0, y / pw.where(zero, 1.0, x))


# -- modified Bessel functions ----------------------------------------------------------------------------------

@pointwise(ls.i0, rule=real_floats, samples=unary(-9, 9), grad=dict(input=lambda g, input: g * i1(input)))
def i0(input: Tensor) -> Tensor:
    """The modified Bessel function of the first kind, of order 0."""


@special(ls.i0e, dict(input=lambda g, input, result: g * (i1e(input) - pw.sgn(input) * result)), unary(-9, 9))
def i0e(input: Tensor) -> Tensor:
    """exp(-|x|) I0(x)."""


@special(ls.i1, dict(input=lambda g, input, result: g * (i0(input) - _ratio(input, result))), unary(-9, 9))
def i1(input: Tensor) -> Tensor:
    """The modified Bessel function of the first kind, of order 1."""


@special(ls.i1e, dict(input=lambda g, input, result: g * (i0e(input) - pw.sgn(input) * result - _ratio(input, result))),
         unary(-9, 9))
def i1e(input: Tensor) -> Tensor:
    """exp(-|x|) I1(x)."""


@special(ls.i0, dict(input=lambda g, input: g * i1(input)), unary(-9, 9))
def modified_bessel_i0(input: Tensor) -> Tensor:
    """I0, as torch.special.i0."""


@special(ls.i1, dict(input=lambda g, input, result: g * (i0(input) - _ratio(input, result))), unary(-9, 9))
def modified_bessel_i1(input: Tensor) -> Tensor:
    """I1, as torch.special.i1."""


@special(ls.k0, dict(input=lambda g, input: -g * modified_bessel_k1(input)), unary(0.5, 9))
def modified_bessel_k0(input: Tensor) -> Tensor:
    """The modified Bessel function of the second kind, of order 0, for positive x."""


@special(ls.k1, dict(input=lambda g, input, result: -g * (modified_bessel_k0(input) + result / input)), unary(0.5, 9))
def modified_bessel_k1(input: Tensor) -> Tensor:
    """The modified Bessel function of the second kind, of order 1, for positive x."""


@special(ls.k0e, dict(x=lambda g, x, result: g * (result - scaled_modified_bessel_k1(x))), unary(0.5, 9))
def scaled_modified_bessel_k0(x: Tensor) -> Tensor:
    """exp(x) K0(x)."""


@special(ls.k1e, dict(x=lambda g, x, result: g * (result - result / x - scaled_modified_bessel_k0(x))), unary(0.5, 9))
def scaled_modified_bessel_k1(x: Tensor) -> Tensor:
    """exp(x) K1(x)."""


# -- Bessel and Airy functions ----------------------------------------------------------------------------------

@special(ls.j0, dict(input=lambda g, input: -g * bessel_j1(input)), unary(-20, 20))
def bessel_j0(input: Tensor) -> Tensor:
    """The Bessel function of the first kind, of order 0."""


@special(ls.j1, dict(input=lambda g, input, result: g * (bessel_j0(input) - _ratio(input, result))), unary(-20, 20))
def bessel_j1(input: Tensor) -> Tensor:
    """The Bessel function of the first kind, of order 1."""


@special(ls.y0, dict(input=lambda g, input: -g * bessel_y1(input)), unary(0.5, 20))
def bessel_y0(input: Tensor) -> Tensor:
    """The Bessel function of the second kind, of order 0, for positive x."""


@special(ls.y1, dict(input=lambda g, input, result: g * (bessel_y0(input) - result / input)), unary(0.5, 20))
def bessel_y1(input: Tensor) -> Tensor:
    """The Bessel function of the second kind, of order 1, for positive x."""


@special(ls.spherical_j0, dict(x=lambda g, x, result: g * _divided(pw.cos(x) - result, x)), unary(-9, 9))
def spherical_bessel_j0(x: Tensor) -> Tensor:
    """sin(x) / x, 1 at 0."""


def _no_derivative(name, by):
    raise NotImplementedError(f"{name}: the derivative by '{by}' is not implemented.")


@special(ls.airy_ai, dict(x=lambda g: _no_derivative("airy_ai", "x")), lambda t: [t.fixed(..., low=-9, high=5)])
def airy_ai(x: Tensor) -> Tensor:
    """The Airy function Ai."""


# -- entropy and logarithms -------------------------------------------------------------------------------------

def _entr(x):
    y = ir.select(x > 0.0, -x * lm.log(x), ir.select(x.eq(0.0), 0.0, ir.const(-math.inf, x.dtype)))
    return ir.select(x.ne(x), x, y)


@special(_entr, dict(input=lambda g, input: -g * (1 + pw.log(input))), unary(0.1, 9))
def entr(input: Tensor) -> Tensor:
    """-x log(x), 0 at 0, -inf below."""


def _times_log(logarithm):
    def scalar(x, y):
        return ir.select(y.ne(y), y, ir.select(x.eq(0.0), x * 0.0, x * logarithm(y)))
    return scalar


@pointwise(_times_log(lm.log), rule=real_floats, samples=binary(0.1, 9),
           grad=dict(input=lambda g, input, other: g * _log_factor(pw.log, input, other, 0),
                     other=lambda g, input, other: g * input / other))
def xlogy(input: Tensor, other: Tensor) -> Tensor:
    """x log(y), 0 where x is 0."""


@special(_times_log(lm.log1p), dict(input=lambda g, input, other: g * _log_factor(pw.log1p, input, other, -1),
                                    other=lambda g, input, other: g * input / (other + 1)), binary(0.1, 9))
def xlog1py(input: Tensor, other: Tensor) -> Tensor:
    """x log(1 + y), 0 where x is 0."""


def _log_factor(logarithm, x, y, lowest):
    """The derivative of x log(y) by x, 0 where x is and the logarithm is infinite or undefined."""
    y = y if isinstance(y, core.Tensor) else core.full((), y, x._meta.dtype)
    return pw.where((x == 0) & (y <= lowest), 0.0, logarithm(y))


# -- error functions and the normal distribution ----------------------------------------------------------------

@pointwise(lm.erf, rule=floating, samples=unary(-3, 3), grad=dict(input=lambda g, input: g * (pw.exp(-input * input) * (2 / SQRT_PI))))
def erf(input: Tensor) -> Tensor:
    """The error function."""


@pointwise(lm.erfc, rule=floating, samples=unary(-3, 3), grad=dict(input=lambda g, input: g * (pw.exp(-input * input) * (-2 / SQRT_PI))))
def erfc(input: Tensor) -> Tensor:
    """1 - erf(x), precise for large x."""


@pointwise(
    lm.erfinv, autocast=FULL_ON_GPU, rule=floating, samples=unary(-0.9, 0.9),
    grad=dict(input=lambda g, result: g * (pw.exp(result * result) * (SQRT_PI / 2)))
)
def erfinv(input: Tensor) -> Tensor:
    """The inverse of the error function."""


@special(lm.erfcx, dict(input=lambda g, input, result: g * (2 * input * result - 2 / math.sqrt(math.pi))), unary(-3, 9))
def erfcx(input: Tensor) -> Tensor:
    """exp(x^2) erfc(x)."""


@special(ls.ndtr, dict(input=lambda g, input: g * (pw.exp(input * input * -0.5) / math.sqrt(2 * math.pi))), unary(-5, 5))
def ndtr(input: Tensor) -> Tensor:
    """The distribution function of the standard normal distribution."""


@special(ls.log_ndtr, dict(input=lambda g, input: g * (ROOT_2_PI / erfcx(input * -math.sqrt(0.5)))), unary(-9, 5))
def log_ndtr(input: Tensor) -> Tensor:
    """The logarithm of `ndtr`, exact where that vanishes."""


@special(ls.ndtri, dict(input=lambda g, result: g * (math.sqrt(2 * math.pi) * pw.exp(result * result * 0.5))), unary(0.05, 0.95))
def ndtri(input: Tensor) -> Tensor:
    """The quantiles of the standard normal distribution: the inverse of `ndtr`."""


# -- gamma functions --------------------------------------------------------------------------------------------

@pointwise(lm.lgamma, rule=floating, grad=dict(input=lambda g, input: g * digamma(input)), samples=unary(0.5, 9))
def lgamma(input: Tensor) -> Tensor:
    """The logarithm of the absolute value of the gamma function."""


@pointwise(lm.trigamma, public=False, rule=floating, samples=unary(0.5, 9), grad=dict(input=lambda g, input: g * polygamma(2, input)))
def trigamma(input: Tensor): ...


@pointwise(lm.digamma, rule=floating, samples=unary(0.5, 9), grad=dict(input=lambda g, input: g * trigamma(input)))
def digamma(input: Tensor) -> Tensor:
    """The derivative of lgamma."""


def _promoted(what, *inputs, numbers=True):
    """The inputs, of which one (or, unless `numbers`, all) is a tensor, as tensors of their common floating point dtype."""
    tensors = [isinstance(x, core.Tensor) for x in inputs]
    if not (any(tensors) if numbers else all(tensors)):
        raise TypeError(f"{what}(): argument '{('input', 'other')[tensors.index(False)]}' must be Tensor, not "
                        f"{type(inputs[tensors.index(False)]).__name__}")
    d = result_dtype(inputs)
    if d.kind == "c" or not numbers and d.kind != "f":
        raise NotImplementedError(f"\"{what}\" not implemented for {d}: expected real floating point tensors")
    d = floating(d)[0]
    return [x.to(d) if isinstance(x, core.Tensor) else core.full((), x, d) for x in inputs], d


GAMMAINC, ZETA = host_op("gammainc", incomplete.gammainc), host_op("zeta", incomplete.zeta)


@operator(name="igamma", public=False, grad=dict(input=lambda g, upper: _no_derivative("igamma", "input"),
                                                 other=lambda g, input, other, upper: _gammainc_grad(g, input, other, upper)))
def gammainc_(input: Tensor, other: Tensor, upper):
    return elementwise(GAMMAINC, input, other, input._meta.dtype, upper=upper)


def _gammainc_grad(g, a, x, upper):
    density = pw.exp((a - 1) * pw.log(x) - x - lgamma(a))
    return -g * density if upper else g * density


@operator(inplace=True, samples=lambda t: [t.fixed(..., low=0.5, high=5), t(..., low=0.5, high=5)])
def igamma(input: Tensor, other: Tensor) -> Tensor:
    """The regularised lower incomplete gamma function: integral of t^(a - 1) exp(-t) / Gamma(a) from 0 to x; a = input, x =
    other."""
    return gammainc_(*_promoted("igamma", input, other, numbers=False)[0], False)


@operator(inplace=True, samples=lambda t: [t.fixed(..., low=0.5, high=5), t(..., low=0.5, high=5)])
def igammac(input: Tensor, other: Tensor) -> Tensor:
    """The regularised upper incomplete gamma function, 1 - igamma."""
    return gammainc_(*_promoted("igammac", input, other, numbers=False)[0], True)


@operator(name="mvlgamma", public=False, grad=dict(input=lambda g, input, p: g * digamma(_half_steps(input, p)).sum(-1)))
def mvlgamma_(input: Tensor, p):
    return lgamma(_half_steps(input, p)).sum(-1) + p * (p - 1) / 4 * math.log(math.pi)


def _half_steps(x, p):
    """x - j / 2 for j < p, along a new last dimension."""
    return x.unsqueeze(-1) + core.arange(0, p, 1).to(x._meta.dtype) * -0.5


@operator(inplace=True, samples=unary(2, 5, 3))
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the gamma function of p dimensions: sum over j < p of lgamma(x - j / 2), and p (p - 1) / 4 log(pi)."""
    if p < 1:
        raise RuntimeError(f"p has to be greater than or equal to 1; received {p}")
    return mvlgamma_(_promoted("mvlgamma", input)[0][0], p)


@operator(name="zeta", public=False, grad=dict(input=lambda g: _no_derivative("zeta", "input"),
                                               other=lambda g, input, other: -g * input * zeta_(input + 1, other)))
def zeta_(input: Tensor, other: Tensor):
    return elementwise(ZETA, input, other, input._meta.dtype, narrow=input._meta.dtype.itemsize < 4)


@operator(name="special_zeta", namespace="special", samples=lambda t: [t.fixed(..., low=1.5, high=5), t(..., low=0.5, high=5)])
def zeta(input: Tensor, other: Tensor) -> Tensor:
    """Hurwitz' zeta function: the sum over k >= 0 of (k + q)^-s; s = input > 1, q = other."""
    return zeta_(*_promoted("zeta", input, other)[0])


@operator(method=False, samples=lambda t: [1, t(..., low=0.5, high=9)])
def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, n >= 0."""
    if n < 0:
        raise RuntimeError(f"polygamma(n, x) does not support negative n; received {n}")
    if n < 2:
        return trigamma(input) if n else digamma(input)
    (x,), d = _promoted("polygamma", input)
    return zeta_(core.full((), n + 1.0, d), x) * (math.factorial(n) * (-1) ** (n + 1))


# -- orthogonal polynomials -------------------------------------------------------------------------------------

def _polynomial(name: str, text: str, first, step, shift=None) -> None:
    """p_0 = 1, p_1 = first(x), p_(k+1) = step(k, x, p_k, p_(k-1)); of degree n, a number or one for each element; 0 for n < 0."""

    def function(x: Tensor, n: Tensor) -> Tensor:
        (x, degree), d = _promoted(name, x, n)
        shape = broadcast_shapes(name, tuple(x.shape), tuple(degree.shape))
        highest = int(n) if not isinstance(n, core.Tensor) else int(everywhere(n).max()) if n.numel() else -1
        x = shift(x) if shift else x
        one = core.full(shape, 1, d)
        before, now = one, (first(x) + 0 * one if highest > 0 else one)
        if not isinstance(n, core.Tensor):
            for k in range(1, highest):
                before, now = now, step(k, x, now, before)
            return now if highest >= 0 else 0 * one
        degree = degree.trunc()
        result = pw.where(degree == 0, one, 0.0)
        for k in range(1, highest + 1):
            result = pw.where(degree == k, now, result)
            if k < highest:
                before, now = now, step(k, x, now, before)
        return result

    function.__doc__ = text
    operator(name=f"special_{name}", namespace="special", samples=lambda t: [t.fixed(...), t.integers(...)])(function)


def _less(a, b, c): return pw.axpy_(-c, b, a)       # a * b - c, rounded once, as in PyTorch: each step magnifies what is lost
def _twice(k, x, p, q): return _less(x + x, p, q)
def _shifted(x): return x + x - 1


for kind, first, described in (("t", lambda x: x, "first"), ("u", lambda x: x + x, "second"), ("v", lambda x: x + x - 1, "third"),
                               ("w", lambda x: x + x + 1, "fourth")):
    _polynomial(f"chebyshev_polynomial_{kind}", f"The Chebyshev polynomial of the {described} kind, of degree n.", first, _twice)
    _polynomial(f"shifted_chebyshev_polynomial_{kind}", f"The Chebyshev polynomial of the {described} kind, of 2 x - 1.", first,
                _twice, _shifted)

_polynomial("hermite_polynomial_h", "The Hermite polynomial of degree n, orthogonal with the weight exp(-x^2).",
            lambda x: x + x, lambda k, x, p, q: _less(x + x, p, 2 * k * q))
_polynomial("hermite_polynomial_he", "The Hermite polynomial of degree n, orthogonal with the weight exp(-x^2 / 2).",
            lambda x: x, lambda k, x, p, q: _less(x, p, k * q))
_polynomial("laguerre_polynomial_l", "The Laguerre polynomial of degree n.",
            lambda x: 1 - x, lambda k, x, p, q: ((2 * k + (1 - x)) * p - k * q) / (k + 1))
_polynomial("legendre_polynomial_p", "The Legendre polynomial of degree n.",
            lambda x: x, lambda k, x, p, q: ((2 * k + 1) * x * p - k * q) / (k + 1))
