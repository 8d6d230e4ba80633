"""Operators of elements: one declaration each.

`scalar` is what is computed for one element, `grad` the cotangent of each input, `rule` how dtypes go through (see `record.py`).
"""

from __future__ import annotations

import builtins
import math

from ..base import dtype as dt
from ..loops import complex as cx
from ..loops import ir
from ..loops import math as lm
from .record import bitwise, check_tensor, comparison, core, floating, logical, no_bool, number, operator, pointwise, result_dtype
from .samples import binary, unary

Tensor = "Tensor"
SQRT_2, SQRT_PI = math.sqrt(2.0), math.sqrt(math.pi)
SQRT_2_PI = math.sqrt(2.0 / math.pi)


# -- arithmetic -------------------------------------------------------------------------------------------------

def _add(a, b): return (a | b) if a.dtype is dt.bool_ else a + b
def _mul(a, b): return (a & b) if a.dtype is dt.bool_ else a * b


@pointwise(_add, name="add", public=False, samples=binary(), grad=dict(input=lambda g: g, other=lambda g: g), complex=True)
def add_(input: Tensor, other: Tensor): ...


@pointwise(
    lambda a, b: a - b,
    name="sub",
    public=False,
    rule=no_bool,
    samples=binary(),
    grad=dict(input=lambda g: g, other=lambda g: -g),
    complex=True,
)
def sub_(input: Tensor, other: Tensor): ...


_plus, _minus = add_.record.raw, sub_.record.raw      # their calls alone, without `out=`


@operator(inplace=True)
def add(input: Tensor, other: Tensor, *, alpha=1) -> Tensor:
    """Elementwise `input + alpha * other`, broadcast."""
    return _plus(input, other) if alpha == 1 else _plus(input, mul(other, alpha))


@operator(inplace=True)
def sub(input: Tensor, other: Tensor, *, alpha=1) -> Tensor:
    """Elementwise `input - alpha * other`, broadcast."""
    return _minus(input, other) if alpha == 1 else _minus(input, mul(other, alpha))


@operator()
def rsub(input: Tensor, other: Tensor, *, alpha=1) -> Tensor:
    """Elementwise `other - alpha * input`."""
    check_tensor("rsub", "input", input)
    return sub_(other, input if alpha == 1 else mul(input, alpha))


@pointwise(_mul, samples=binary(), grad=dict(input=lambda g, other: mul(g, other), other=lambda g, input: mul(g, input)), complex=True)
def mul(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise product, broadcast."""


@pointwise(lambda a, b: a / b, name="true_divide", title="Div", public=False, rule=floating, samples=binary(away_from_zero=True),
           grad=dict(input=lambda g, other: g / other, other=lambda g, input, other: -g * ((input / other) / other)), complex=True)
def div_(input: Tensor, other: Tensor): ...


def _floor_divide(a, b):
    if a.dtype.kind == "f":
        q = (a - lm.remainder(a, b)) / b
        nearest = ir.floor(q)
        exact = ir.select((q - nearest) > 0.5, nearest + 1.0, nearest)
        return ir.select(b.eq(0.0), a / b, exact)
    return ir.floordiv(a, b)


def _trunc_divide(a, b):
    return ir.trunc(a / b) if a.dtype.kind == "f" else a / b


@pointwise(_floor_divide, rule=no_bool)
def floor_divide(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise quotient rounded down."""


@pointwise(_trunc_divide, name="trunc_divide", title="Div", public=False, rule=no_bool,
           grad=dict(input=lambda g: g * 0, other=lambda g: g * 0))
def trunc_divide_(input: Tensor, other: Tensor): ...


@pointwise(_floor_divide, name="floor_quotient", title="Div", public=False, rule=no_bool,
           grad=dict(input=lambda g: g * 0, other=lambda g: g * 0))
def floor_quotient_(input: Tensor, other: Tensor): ...


@operator(inplace=True)
def div(input: Tensor, other: Tensor, *, rounding_mode=None) -> Tensor:
    """Elementwise quotient; of integers too it is a float, unless `rounding_mode` is "trunc" or "floor"."""
    if rounding_mode is None:
        return div_(input, other)
    if rounding_mode == "trunc":
        return trunc_divide_(input, other)
    if rounding_mode == "floor":
        return floor_quotient_(input, other)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


def _remainder(a, b):
    if a.dtype.kind == "f":
        return lm.remainder(a, b)
    r = ir.rem(a, b)
    return r if a.dtype.kind == "u" else ir.select(r.ne(0) & ((r < 0) ^ (b < 0)), r + b, r)


@pointwise(_remainder, rule=no_bool, grad=dict(input=lambda g: g, other=lambda g, input, other: -g * floor_divide(input, other)))
def remainder(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise modulus with the sign of the divisor."""


@pointwise(lambda a, b: lm.fmod(a, b) if a.dtype.kind == "f" else ir.rem(a, b), rule=no_bool, tensors=("input",),
           grad=dict(input=lambda g: g, other=lambda g, input, other: -g * trunc_divide_(input, other)))
def fmod(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise modulus with the sign of the dividend."""


@pointwise(lambda x: -x, rule=no_bool, samples=unary(-9, 9), grad=dict(input=lambda g: -g), complex=True)
def neg(input: Tensor) -> Tensor:
    """The negative of every element."""


def _real_result(d): return d, d.to_real()


@pointwise(lambda x: ir.absolute(x) if x.dtype.kind in "fi" else x, rule=_real_result, samples=unary(-9, 9), complex=cx.magnitude,
           holomorphic=False, grad=dict(input=lambda g, input: g * sgn(input)))
def abs(input: Tensor) -> Tensor:
    """The absolute value of every element."""


def _sign(x):
    if x.dtype is dt.bool_:
        return x
    zero = ir.const(0, x.dtype)
    one = ir.const(1, x.dtype)
    below = zero if x.dtype.kind == "u" else ir.select(x < zero, -one, zero)
    return ir.select(x > zero, one, below)


@pointwise(_sign, samples=unary(-9, 9), grad=dict(input=lambda g: g * 0))
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 for every element; 0 for NaN."""


@pointwise(_sign, complex=cx.sgn, holomorphic=False, inplace=True, samples=unary(-9, 9),
           grad=dict(input=lambda g, input: _sgn_grad(g, input)))
def sgn(input: Tensor) -> Tensor:
    """x / |x|, 0 for 0; of real numbers the sign."""


def _sgn_grad(g, x):
    """The part of g across x, over |x|."""
    if x.meta.dtype.kind != "c":
        return g * 0
    size = where(x == 0, 1.0, abs(x))
    direction = x / size
    return where(x == 0, 0.0, (g - direction * (g * conj_(direction)).real) / size)


# -- complex numbers --------------------------------------------------------------------------------------------

def _parts(d): return d, d.to_real()


@pointwise(lambda x: x, name="real_part", title="Real", public=False, rule=_parts, complex=lambda z: z.re, holomorphic=False,
           grad=dict(input=lambda g: g))
def real_(input: Tensor): ...


@pointwise(lambda x: x - x, name="imaginary_part", title="Imag", public=False, rule=_parts, complex=lambda z: z.im, holomorphic=False,
           grad=dict(input=lambda g: complex_(g * 0, g)))
def imag_(input: Tensor): ...


def _joined(d): return d, d.to_complex()


@pointwise(ir.Pair, name="complex", title="Complex", public=False, rule=_joined, holomorphic=False,
           grad=dict(real=lambda g: real_(g), imag=lambda g: imag_(g)))
def complex_(real: Tensor, imag: Tensor): ...


@pointwise(
    lambda x: x, name="conj_physical", public=False, complex=lambda z: z.conj(), holomorphic=False, grad=dict(input=lambda g: conj_(g))
)
def conj_physical_(input: Tensor): ...


def conj_(x):
    """The conjugate; a real tensor is its own."""
    return conj_physical_(x) if x.meta.dtype.kind == "c" else x


@pointwise(
    lambda x: (
        ir.select(x < 0.0, ir.const(math.pi, x.dtype), ir.select(x.ne(x), x, ir.const(0.0, x.dtype)))
        if x.dtype.kind == "f"
        else ir.select(x < 0, ir.const(math.pi, dt.float32), ir.const(0.0, dt.float32))
    ),
    name="angle",
    rule=lambda d: _angle_rule(d),
    complex=cx.angle,
    holomorphic=False,
    grad=dict(input=lambda g, input: _angle_grad(g, input)),
)
def angle(input: Tensor) -> Tensor:
    """The argument of every element, in radians, in (-pi, pi]; of negative real numbers pi."""


def _angle_rule(d):
    return (d, d.to_real()) if d.kind in "fc" else (dt.default(), dt.default())


def _angle_grad(g, x):
    if x.meta.dtype.kind != "c":
        return g * 0
    square = (x * conj_(x)).real
    scale = where(square == 0, 0.0, g / where(square == 0, 1.0, square))
    return complex_(-imag_(x) * scale, real_(x) * scale)


@operator(out="exact")
def complex(real: Tensor, imag: Tensor) -> Tensor:
    """The complex tensor with these parts, of one float dtype."""
    if real.meta.dtype is not imag.meta.dtype:
        raise RuntimeError(f"Expected object of scalar type {real.meta.dtype} but got scalar type {imag.meta.dtype} for second argument")
    if real.meta.dtype not in (dt.float16, dt.float32, dt.float64):
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {real.meta.dtype} and {imag.meta.dtype}")
    return complex_(real, imag)


@operator()
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """The complex tensor with these magnitudes and arguments."""
    check_tensor("polar", "abs", abs)
    check_tensor("polar", "angle", angle)
    return complex(abs * cos(angle), abs * sin(angle))


@operator()
def conj(input: Tensor) -> Tensor:
    """The complex conjugate."""
    return conj_(input)


@operator(inplace=True)
def conj_physical(input: Tensor) -> Tensor:
    """The complex conjugate."""
    return conj_(input)


@operator()
def resolve_conj(input: Tensor) -> Tensor:
    """The input: conjugates are computed, never marked."""
    return input


@operator()
def resolve_neg(input: Tensor) -> Tensor:
    """The input: negatives are computed, never marked."""
    return input


@operator(method=False)
def real(input: Tensor) -> Tensor:
    """The real part."""
    return real_(input) if input.meta.dtype.kind == "c" else input


@operator(method=False)
def imag(input: Tensor) -> Tensor:
    """The imaginary part, of a complex tensor."""
    if input.meta.dtype.kind != "c":
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return imag_(input)


@operator()
def view_as_real(input: Tensor) -> Tensor:
    """(..., 2): real and imaginary parts. A copy here, not a view."""
    if input.meta.dtype.kind != "c":
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return core.stack([real_(input), imag_(input)], -1)


@operator()
def view_as_complex(input: Tensor) -> Tensor:
    """From (..., 2), real and imaginary parts. A copy here, not a view."""
    if not input.meta.dtype.is_floating_point:
        raise RuntimeError(
            f"view_as_complex is only supported for floating point tensors, but got a tensor of scalar type: {input.meta.dtype}"
        )
    if not input.dim() or input.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    return complex_(input.select(-1, 0), input.select(-1, 1))


@pointwise(lambda x: x, name="clone", public=False, grad=dict(input=lambda g: g), complex=True)
def identity(input: Tensor): ...


def _int_power(x, n):
    """Integer power by squaring over the bits of the (run-time) exponent."""
    result, base = ir.const(1, x.dtype), x
    for bit in range(6):
        odd = ((n >> bit) & 1).ne(0)
        result = ir.select(odd, result * base, result)
        base = base * base
    if x.dtype.kind == "i":
        one = ir.const(1, x.dtype)
        inverse = ir.select(x.eq(1), one, ir.select(x.eq(-1), ir.select((n & 1).ne(0), -one, one), ir.const(0, x.dtype)))
        result = ir.select(n < 0, inverse, result)
    return result


@pointwise(lambda x, n: lm.pow(x, n) if x.dtype.kind == "f" else _int_power(x, n), name="pow", public=False, rule=no_bool,
           grad=dict(input=lambda g, input, exponent: _pow_grad(g, input, exponent),
                     exponent=lambda g, input, exponent, result: g * where((exponent == 0) | ((input == 0) & (_real(exponent) >= 0)), 0.0,
                                                                           result * _log_of(input))), complex=cx.power)
def power_(input: Tensor, exponent: Tensor): ...


def _real(x):
    return real_(x) if isinstance(x, core.Tensor) and x.meta.dtype.kind == "c" else x


def _log_of(base):
    if isinstance(base, core.Tensor):
        return log(base)
    return math.log(base) if base > 0 else math.nan if base else -math.inf


def _pow_grad(g, input, exponent):
    if not isinstance(exponent, core.Tensor):
        return g * 0 if exponent == 0 else g * (exponent * pow(input, exponent - 1))
    return where(exponent == 0, 0.0, g * (exponent * power_(input, exponent - 1)))


@operator(inplace=True)
def square(input: Tensor) -> Tensor:
    """The square of every element."""
    return pow(input, 2)


@operator(inplace=True)
def pow(input: Tensor, exponent: Tensor) -> Tensor:
    """Elementwise power. Common constant exponents are computed with multiplications and square roots."""
    if not isinstance(input, core.Tensor):
        return power_(number(input), exponent)
    if not isinstance(exponent, core.Tensor):
        exponent = number(exponent) if number(exponent) is not None else exponent
        if isinstance(exponent, int) and exponent < 0 and input.meta.dtype.kind in "iu":
            raise RuntimeError("Integers to negative integer powers are not allowed. Convert the input first: input.float().")
        if exponent == 2:
            return _power_as(input, exponent, lambda x: x * x)
        if exponent == 3:
            return _power_as(input, exponent, lambda x: x * x * x)
        if exponent == 0.5 and input.meta.dtype.kind == "f":
            return _power_as(input, exponent, lambda x: x.sqrt())
    return power_(input, exponent)


def _power_as(input, exponent, body):
    """`body(input)`, with the derivative and the name of a power."""
    kept = _powers.get(exponent)
    if kept is None:

        @operator(
            name=f"pow_{exponent}".replace(".", "_"),
            title="Pow",
            public=False,
            wide=True,
            grad=dict(input=lambda g, input, exponent: _pow_grad(g, input, exponent)),
        )
        def constant_power(input: Tensor, exponent):
            out = body(input)
            wanted = result_dtype((input, exponent))
            return out if out.meta.dtype is wanted else out.to(wanted)
        kept = _powers[exponent] = constant_power
    return kept(input, exponent)


_powers: dict = {}


# -- exponentials and logarithms --------------------------------------------------------------------------------

@pointwise(lm.exp, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, result: g * result), complex=cx.exp)
def exp(input: Tensor) -> Tensor:
    """e to the power of every element."""


@pointwise(lm.exp2, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, result: g * result * math.log(2.0)), complex=cx.exp2)
def exp2(input: Tensor) -> Tensor:
    """2 to the power of every element."""


@pointwise(lm.expm1, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, result: g * (result + 1)), complex=cx.expm1)
def expm1(input: Tensor) -> Tensor:
    """exp(x) - 1, precise near 0."""


@pointwise(lm.log, rule=floating, samples=unary(0.1, 9), grad=dict(input=lambda g, input: g / input), complex=cx.log)
def log(input: Tensor) -> Tensor:
    """The natural logarithm of every element."""


@pointwise(lm.log2, rule=floating, samples=unary(0.1, 9), grad=dict(input=lambda g, input: g / (input * math.log(2.0))), complex=cx.log2)
def log2(input: Tensor) -> Tensor:
    """The logarithm to base 2 of every element."""


@pointwise(lm.log10, rule=floating, samples=unary(0.1, 9), grad=dict(input=lambda g, input: g / (input * math.log(10.0))), complex=cx.log10)
def log10(input: Tensor) -> Tensor:
    """The logarithm to base 10 of every element."""


@pointwise(lm.log1p, rule=floating, samples=unary(-0.9, 9), grad=dict(input=lambda g, input: g / (input + 1)), complex=cx.log1p)
def log1p(input: Tensor) -> Tensor:
    """log(1 + x), precise near 0."""


@pointwise(lambda x: ir.sqrt(x), rule=floating, samples=unary(0.1, 9), grad=dict(input=lambda g, result: g / (2 * result)), complex=cx.sqrt)
def sqrt(input: Tensor) -> Tensor:
    """The square root of every element."""


@pointwise(lm.rsqrt, rule=floating, samples=unary(0.1, 9), grad=dict(input=lambda g, result: -0.5 * g * result.pow(3)), complex=cx.rsqrt)
def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(x) for every element."""


@pointwise(lambda x: 1.0 / x, rule=floating, samples=unary(0.5, 9), grad=dict(input=lambda g, result: -g * result * result), complex=True)
def reciprocal(input: Tensor) -> Tensor:
    """1 / x for every element."""


# -- trigonometry -----------------------------------------------------------------------------------------------

@pointwise(lm.sin, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, input: g * cos(input)), complex=cx.sin)
def sin(input: Tensor) -> Tensor:
    """Sine of every element, in radians."""


@pointwise(lm.cos, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, input: -g * sin(input)), complex=cx.cos)
def cos(input: Tensor) -> Tensor:
    """Cosine of every element, in radians."""


@pointwise(lm.tan, rule=floating, samples=unary(-1, 1), grad=dict(input=lambda g, result: g * (1 + result * result)), complex=cx.tan)
def tan(input: Tensor) -> Tensor:
    """Tangent of every element, in radians."""


@pointwise(
    lm.asin, rule=floating, samples=unary(-0.9, 0.9), grad=dict(input=lambda g, input: g * rsqrt(1 - input * input)), complex=cx.asin
)
def asin(input: Tensor) -> Tensor:
    """Arcsine of every element."""


@pointwise(
    lm.acos, rule=floating, samples=unary(-0.9, 0.9), grad=dict(input=lambda g, input: -g * rsqrt(1 - input * input)), complex=cx.acos
)
def acos(input: Tensor) -> Tensor:
    """Arccosine of every element."""


@pointwise(lm.atan, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, input: g / (input * input + 1)), complex=cx.atan)
def atan(input: Tensor) -> Tensor:
    """Arctangent of every element."""


@pointwise(lm.atan2, rule=floating, tensors=("input", "other"), samples=binary(away_from_zero=True),
           grad=dict(input=lambda g, input, other: g * other / (input * input + other * other),
                     other=lambda g, input, other: -g * input / (input * input + other * other)))
def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input), in radians."""


@pointwise(lm.sinh, rule=floating, samples=unary(-5, 5), grad=dict(input=lambda g, input: g * cosh(input)), complex=cx.sinh)
def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine of every element."""


@pointwise(lm.cosh, rule=floating, samples=unary(-5, 5), grad=dict(input=lambda g, input: g * sinh(input)), complex=cx.cosh)
def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine of every element."""


@pointwise(
    lm.tanh, rule=floating, samples=unary(-5, 5), grad=dict(input=lambda g, result: g * (1 - result * result)), complex=cx.tanh, wide=True
)
def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent of every element."""


@pointwise(lm.asinh, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, input: g * rsqrt(input * input + 1)), complex=cx.asinh)
def asinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine of every element."""


@pointwise(
    lm.acosh,
    rule=floating,
    samples=unary(1.5, 9),
    grad=dict(input=lambda g, input: g * (rsqrt(input - 1) * rsqrt(input + 1))),
    complex=cx.acosh,
)
def acosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine of every element."""


@pointwise(lm.atanh, rule=floating, samples=unary(-0.9, 0.9), grad=dict(input=lambda g, input: g / (1 - input * input)), complex=cx.atanh)
def atanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent of every element."""


# -- error function and its kin ---------------------------------------------------------------------------------

@pointwise(lm.erf, rule=floating, samples=unary(-3, 3), grad=dict(input=lambda g, input: g * (exp(-input * input) * (2 / SQRT_PI))))
def erf(input: Tensor) -> Tensor:
    """The error function."""


@pointwise(lm.erfc, rule=floating, samples=unary(-3, 3), grad=dict(input=lambda g, input: g * (exp(-input * input) * (-2 / SQRT_PI))))
def erfc(input: Tensor) -> Tensor:
    """1 - erf(x), precise for large x."""


@pointwise(
    lm.erfinv, rule=floating, samples=unary(-0.9, 0.9), grad=dict(input=lambda g, result: g * (exp(result * result) * (SQRT_PI / 2)))
)
def erfinv(input: Tensor) -> Tensor:
    """The inverse of the error function."""


@pointwise(lm.lgamma, rule=floating, grad=dict(input=lambda g, input: g * digamma(input)))
def lgamma(input: Tensor) -> Tensor:
    """The logarithm of the absolute value of the gamma function."""


@pointwise(lm.trigamma, public=False, rule=floating, samples=unary(0.5, 9), grad=dict(input=lambda g, input: _trigamma_grad(g, input)))
def trigamma(input: Tensor): ...


def _trigamma_grad(g, input):
    from .special import polygamma
    return g * polygamma(2, input)


@pointwise(lm.digamma, rule=floating, samples=unary(0.5, 9), grad=dict(input=lambda g, input: g * trigamma(input)))
def digamma(input: Tensor) -> Tensor:
    """The derivative of lgamma."""


@pointwise(
    lm.sigmoid,
    rule=floating,
    samples=unary(-9, 9),
    grad=dict(input=lambda g, result: g * ((1 - result) * result)),
    complex=cx.sigmoid,
    wide=True,
)
def sigmoid(input: Tensor) -> Tensor:
    """The logistic function 1 / (1 + exp(-x))."""


# -- rounding ---------------------------------------------------------------------------------------------------

def _rounding(kind):
    return lambda x: ir.unary(kind, x) if x.dtype.kind == "f" else x


@pointwise(_rounding("floor"), rule=no_bool, grad=dict(input=lambda g: g * 0))
def floor(input: Tensor) -> Tensor:
    """The largest integer not above every element."""


@pointwise(_rounding("ceil"), rule=no_bool, grad=dict(input=lambda g: g * 0))
def ceil(input: Tensor) -> Tensor:
    """The smallest integer not below every element."""


@pointwise(_rounding("trunc"), rule=no_bool, grad=dict(input=lambda g: g * 0))
def trunc(input: Tensor) -> Tensor:
    """Every element without its fraction."""


@pointwise(_rounding("round"), name="round", public=False, rule=no_bool, grad=dict(input=lambda g: g * 0))
def round_(input: Tensor): ...


@operator(inplace=True)
def round(input: Tensor, *, decimals=0) -> Tensor:
    """The nearest integer (or decimal), halves to even."""
    if decimals == 0:
        return round_(input)
    scale = 10.0 ** builtins.abs(decimals)
    return round_(input * scale) / scale if decimals > 0 else round_(input / scale) * scale


@pointwise(lambda x: x - ir.trunc(x) if x.dtype.kind == "f" else x - x, rule=no_bool, grad=dict(input=lambda g: g))
def frac(input: Tensor) -> Tensor:
    """The fraction of every element, with its sign."""


# -- comparison and logic ---------------------------------------------------------------------------------------

@pointwise(lambda a, b: a.eq(b), rule=comparison, tensors=("input",), complex=True)
def eq(input: Tensor, other: Tensor) -> Tensor:
    """Where the elements are equal."""


@pointwise(lambda a, b: a.ne(b), rule=comparison, tensors=("input",), complex=True)
def ne(input: Tensor, other: Tensor) -> Tensor:
    """Where the elements differ."""


@pointwise(lambda a, b: a < b, rule=comparison, tensors=("input",))
def lt(input: Tensor, other: Tensor) -> Tensor:
    """Where input is less than other."""


@pointwise(lambda a, b: a <= b, rule=comparison, tensors=("input",))
def le(input: Tensor, other: Tensor) -> Tensor:
    """Where input is at most other."""


@pointwise(lambda a, b: a > b, rule=comparison, tensors=("input",))
def gt(input: Tensor, other: Tensor) -> Tensor:
    """Where input is greater than other."""


@pointwise(lambda a, b: a >= b, rule=comparison, tensors=("input",))
def ge(input: Tensor, other: Tensor) -> Tensor:
    """Where input is at least other."""


def _truth(x): return x.ne(0) if isinstance(x, ir.Pair) else x.cast(dt.bool_)


@pointwise(lambda a, b: _truth(a) & _truth(b), rule=logical, tensors=("input", "other"), complex=True)
def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Where both are true (nonzero)."""


@pointwise(lambda a, b: _truth(a) | _truth(b), rule=logical, tensors=("input", "other"), complex=True)
def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Where one is true (nonzero)."""


@pointwise(lambda a, b: _truth(a) ^ _truth(b), rule=logical, tensors=("input", "other"), complex=True)
def logical_xor(input: Tensor, other: Tensor) -> Tensor:
    """Where exactly one is true (nonzero)."""


@pointwise(lambda a: ~_truth(a), rule=logical, complex=True)
def logical_not(input: Tensor) -> Tensor:
    """Where the element is zero."""


@pointwise(lambda a, b: a & b, rule=bitwise)
def bitwise_and(input: Tensor, other: Tensor) -> Tensor:
    """Bitwise and of integers; logical and of bools."""


@pointwise(lambda a, b: a | b, rule=bitwise)
def bitwise_or(input: Tensor, other: Tensor) -> Tensor:
    """Bitwise or of integers; logical or of bools."""


@pointwise(lambda a, b: a ^ b, rule=bitwise)
def bitwise_xor(input: Tensor, other: Tensor) -> Tensor:
    """Bitwise exclusive or of integers; logical of bools."""


@pointwise(lambda a: ~a, rule=bitwise)
def bitwise_not(input: Tensor) -> Tensor:
    """Bitwise complement of integers; logical not of bools."""


@pointwise(lambda a, b: a << b, rule=bitwise)
def bitwise_left_shift(input: Tensor, other: Tensor) -> Tensor:
    """input * 2**other, on integers."""


@pointwise(lambda a, b: a >> b, rule=bitwise)
def bitwise_right_shift(input: Tensor, other: Tensor) -> Tensor:
    """input / 2**other rounded down, on integers."""


@pointwise(
    lambda x: x.ne(x) if x.dtype.kind == "f" else ir.const(False, dt.bool_),
    rule=comparison,
    inplace=False,
    complex=cx.is_any(lambda x: x.ne(x)),
)
def isnan(input: Tensor) -> Tensor:
    """Where the element is NaN."""


def _isinf(x):
    return ir.absolute(x).eq(math.inf) if x.dtype.kind == "f" else ir.const(False, dt.bool_)


@pointwise(_isinf, rule=comparison, inplace=False, complex=cx.is_any(_isinf))
def isinf(input: Tensor) -> Tensor:
    """Where the element is infinite."""


@pointwise(
    lambda x: ir.absolute(x) < math.inf if x.dtype.kind == "f" else ir.const(True, dt.bool_),
    rule=comparison,
    inplace=False,
    complex=cx.is_all(lambda x: ir.absolute(x) < math.inf),
)
def isfinite(input: Tensor) -> Tensor:
    """Where the element is neither infinite nor NaN."""


# -- choice -----------------------------------------------------------------------------------------------------

def _where_casts(args):
    condition = args[0]
    if not isinstance(condition, core.Tensor) or condition.meta.dtype not in (dt.bool_, dt.uint8):
        raise RuntimeError(f"expected condition to be a boolean tensor; received {getattr(condition, 'dtype', type(condition).__name__)}")
    d = result_dtype(args[1:])
    return (dt.bool_, d, d), d


@pointwise(
    ir.select,
    name="where",
    public=False,
    selects=_where_casts,
    inplace=False,
    grad=dict(input=lambda g, condition: where(condition, g, 0.0), other=lambda g, condition: where(condition, 0.0, g)),
    complex=True,
)
def where_(condition: Tensor, input: Tensor, other: Tensor): ...


@operator(method=False)
def where(condition: Tensor, input: Tensor = None, other: Tensor = None) -> Tensor:
    """`input` where the condition holds, else `other`; with the condition alone, the indices where it holds."""
    if input is None:
        return condition.nonzero(as_tuple=True)
    return where_(condition, input, other)


def _minmax_grad(pick):
    """Half of the cotangent goes to each of two equal elements."""
    return lambda g, input, other: where(pick(input, other), g, where(input == other, g / 2, 0.0))


@pointwise(lambda a, b: ir.maximum(a, b) if a.dtype.kind != "b" else a | b, samples=binary(), inplace=False, tensors=("input", "other"),
           grad=dict(input=_minmax_grad(lambda a, b: a > b), other=_minmax_grad(lambda a, b: b > a)))
def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger element of two; NaN where one is NaN."""


@pointwise(lambda a, b: ir.minimum(a, b) if a.dtype.kind != "b" else a & b, samples=binary(), inplace=False, tensors=("input", "other"),
           grad=dict(input=_minmax_grad(lambda a, b: a < b), other=_minmax_grad(lambda a, b: b < a)))
def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller element of two; NaN where one is NaN."""


@pointwise(lambda a, b: ir.select(a.ne(a), b, ir.select(b.ne(b), a, ir.maximum(a, b))), inplace=False, tensors=("input", "other"),
           grad=dict(input=lambda g, input, other: where((input >= other) | other.isnan(), g, 0.0),
                     other=lambda g, input, other: where((input >= other) | other.isnan(), 0.0, g)))
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger element of two; where one is NaN, the other."""


@pointwise(lambda a, b: ir.select(a.ne(a), b, ir.select(b.ne(b), a, ir.minimum(a, b))), inplace=False, tensors=("input", "other"),
           grad=dict(input=lambda g, input, other: where((input <= other) | other.isnan(), g, 0.0),
                     other=lambda g, input, other: where((input <= other) | other.isnan(), 0.0, g)))
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller element of two; where one is NaN, the other."""


@pointwise(lambda x, low: ir.maximum(x, low) if x.dtype.kind != "b" else x | low, tensors=("input",), samples=unary(-9, 9, extra=(1.5,)),
           grad=dict(input=lambda g, input, min: where(input >= min, g, 0.0), min=lambda g, input, min: where(input < min, g, 0.0)))
def clamp_min(input: Tensor, min: Tensor) -> Tensor:
    """Every element, but at least `min`."""


@pointwise(lambda x, high: ir.minimum(x, high) if x.dtype.kind != "b" else x & high, tensors=("input",), samples=unary(-9, 9, extra=(1.5,)),
           grad=dict(input=lambda g, input, max: where(input <= max, g, 0.0), max=lambda g, input, max: where(input > max, g, 0.0)))
def clamp_max(input: Tensor, max: Tensor) -> Tensor:
    """Every element, but at most `max`."""


@pointwise(lambda x, low, high: ir.minimum(ir.maximum(x, low), high), name="clamp", public=False, rule=no_bool,
           grad=dict(input=lambda g, input, min, max: where((input >= min) & (input <= max), g, 0.0),
                     min=lambda g, input, min, max: where((input < min) & (min < max), g, 0.0),
                     max=lambda g, input, min, max: where((input > max) | (max < min), g, 0.0)))
def clamp_(input: Tensor, min: Tensor, max: Tensor): ...


@operator(inplace=True)
def clamp(input: Tensor, min: Tensor = None, max: Tensor = None) -> Tensor:
    """Every element, but at least `min` and at most `max` (numbers or tensors)."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if max is None:
        return clamp_min(input, min)
    return clamp_max(input, max) if min is None else clamp_(input, min, max)


# -- fused forms ------------------------------------------------------------------------------------------------

def _lerp(a, b, w):
    size = ir.absolute(w) if not isinstance(w, ir.Pair) else cx.magnitude(w)
    return ir.select(size < 0.5, a + w * (b - a), b - (b - a) * (1.0 - w))


@pointwise(_lerp, rule=floating, complex=True, tensors=("input", "end"),
           grad=dict(input=lambda g, weight: g * (1 - weight), end=lambda g, weight: g * weight,
                     weight=lambda g, input, end: g * (end - input)))
def lerp(input: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """input + weight * (end - input)."""


@pointwise(lambda x, a, b, v: x + v * (a * b), name="addcmul", public=False,
           grad=dict(input=lambda g: g, tensor1=lambda g, tensor2, value: g * (tensor2 * value),
                     tensor2=lambda g, tensor1, value: g * (tensor1 * value)), complex=True)
def addcmul_(input: Tensor, tensor1: Tensor, tensor2: Tensor, value): ...


@operator(inplace=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value=1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    return addcmul_(input, tensor1, tensor2, value)


@pointwise(lambda x, a, b, v: x + v * (a / b), name="addcdiv", public=False, rule=floating,
           grad=dict(input=lambda g: g, tensor1=lambda g, tensor2, value: g * (value / tensor2),
                     tensor2=lambda g, tensor1, tensor2, value: -g * (value * tensor1 / (tensor2 * tensor2))), complex=True)
def addcdiv_(input: Tensor, tensor1: Tensor, tensor2: Tensor, value): ...


@operator(inplace=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value=1) -> Tensor:
    """input + value * tensor1 / tensor2."""
    return addcdiv_(input, tensor1, tensor2, value)


# -- activations ------------------------------------------------------------------------------------------------

@pointwise(lambda x: ir.select(x <= 0, ir.const(0, x.dtype), x), rule=no_bool, samples=unary(-9, 9),
           grad=dict(input=lambda g, result: where(result > 0, g, 0.0)))
def relu(input: Tensor) -> Tensor:
    """max(x, 0)."""


@pointwise(lambda x, s: ir.select(x > 0, x, x * s), rule=floating, samples=unary(-9, 9),
           grad=dict(input=lambda g, input, negative_slope: where(input > 0, g, g * negative_slope)))
def leaky_relu(input: Tensor, negative_slope=0.01) -> Tensor:
    """x where positive, else negative_slope * x."""


def _elu(x, alpha, scale, input_scale):
    return ir.select(x <= 0.0, alpha * scale * lm.expm1(x * input_scale), x * scale)


@pointwise(_elu, rule=floating, samples=unary(-9, 9),
           grad=dict(input=lambda g, input, alpha, scale, input_scale:
                     where(input <= 0, g * (input_scale * alpha * scale) * exp(input * input_scale), g * scale)), wide=True)
def elu(input: Tensor, alpha=1.0, scale=1.0, input_scale=1.0) -> Tensor:
    """x where positive, else alpha * (exp(x) - 1). Clevert et al., 2015."""


@operator(inplace=True)
def selu(input: Tensor) -> Tensor:
    """Scaled exponential linear unit. Klambauer et al., 2017."""
    return elu(input, 1.6732632423543772, 1.0507009873554805)


@operator(inplace=True)
def celu(input: Tensor, alpha=1.0) -> Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)). Barron, 2017."""
    return elu(input, alpha, 1.0, 1.0 / alpha)


@pointwise(lambda x: x * 0.5 * (1.0 + lm.erf(x * (1.0 / SQRT_2))), name="gelu", public=False, rule=floating, samples=unary(-5, 5),
           grad=dict(input=lambda g, input: gelu_backward(g, input)), wide=True)
def gelu_erf(input: Tensor): ...


@operator(public=False)
def gelu_backward(g: Tensor, input: Tensor):
    cdf = 0.5 * (1 + erf(input * (1 / SQRT_2)))
    density = exp(input * input * -0.5) * (1 / math.sqrt(2 * math.pi))
    return g * (cdf + input * density)


@pointwise(lambda x: x * 0.5 * (1.0 + lm.tanh(x * (1.0 + x * x * 0.044715) * SQRT_2_PI)), name="gelu_tanh", title="Gelu", public=False,
           wide=True,
           rule=floating, samples=unary(-5, 5), grad=dict(input=lambda g, input: _gelu_tanh_grad(g, input)))
def gelu_tanh(input: Tensor): ...


def _gelu_tanh_grad(g, input):
    squared = input * input
    slope = tanh(input * (1.0 + squared * 0.044715) * SQRT_2_PI)
    return g * (0.5 * (1 + slope) + input * (1 - slope * slope) * (1.0 + squared * 0.134145) * (0.5 * SQRT_2_PI))


@operator()
def gelu(input: Tensor, *, approximate="none") -> Tensor:
    """x * Phi(x) with the normal distribution function, or its approximation by tanh. Hendrycks and Gimpel, 2016."""
    if approximate == "none":
        return gelu_erf(input)
    if approximate != "tanh":
        raise RuntimeError(f"gelu: expected approximate to be 'none' or 'tanh'; received {approximate!r}")
    return gelu_tanh(input)


@pointwise(lambda x: x * lm.sigmoid(x), rule=floating, samples=unary(-9, 9), complex=lambda z: z * cx.sigmoid(z),
           grad=dict(input=lambda g, input: g * (sigmoid(input) * (1 + input * (1 - sigmoid(input))))), wide=True)
def silu(input: Tensor) -> Tensor:
    """x * sigmoid(x)."""


def _softplus(x, beta, threshold):
    z = x * beta
    return ir.select(z > threshold, x, lm.log1p(lm.exp(z)) / beta)


@pointwise(_softplus, rule=floating, samples=unary(-9, 9),
           grad=dict(input=lambda g, input, beta, threshold: where(input * beta > threshold, g, g * sigmoid(input * beta))), wide=True)
def softplus(input: Tensor, beta=1.0, threshold=20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself above the threshold."""


def _logsigmoid(x):
    return ir.minimum(x, ir.const(0.0, x.dtype)) - lm.log1p(lm.exp(-ir.absolute(x)))


@pointwise(_logsigmoid, rule=floating, samples=unary(-9, 9), method=False, inplace=False, name="log_sigmoid",
           grad=dict(input=lambda g, input: g * sigmoid(-input)), wide=True)
def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x)))."""


@operator(wide=True)
def mish(input: Tensor) -> Tensor:
    """x * tanh(softplus(x)). Misra, 2019."""
    return input * tanh(softplus(input))


@operator()
def hardtanh(input: Tensor, min_val=-1.0, max_val=1.0) -> Tensor:
    """Every element, but within [min_val, max_val]; of integers these are cut to integers."""
    if min_val > max_val:
        raise ValueError(f"min_val cannot be greater than max_val; received {min_val} and {max_val}")
    if input.meta.dtype.kind in "iu":
        min_val, max_val = int(min_val), int(max_val)
    if input.meta.dtype.kind == "u" and min_val < 0:
        raise RuntimeError(f"Cannot do hardtanh on an unsigned type with negative limits; received min_val = {min_val}")
    return _hardtanh(input, min_val, max_val)


@pointwise(lambda x, low, high: ir.minimum(ir.maximum(x, low), high), name="hardtanh", public=False, rule=no_bool,
           grad=dict(input=lambda g, input, min_val, max_val: where((input > min_val) & (input < max_val), g, 0.0)))
def _hardtanh(input: Tensor, min_val, max_val): ...


@operator()
def relu6(input: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return _hardtanh(input, 0, 6)


@pointwise(lambda x: ir.minimum(ir.maximum(x + 3.0, ir.const(0.0, x.dtype)), ir.const(6.0, x.dtype)) / 6.0, rule=floating,
           grad=dict(input=lambda g, input: where((input > -3) & (input < 3), g / 6, 0.0)), wide=True)
def hardsigmoid(input: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""


@pointwise(lambda x: x * ir.minimum(ir.maximum(x + 3.0, ir.const(0.0, x.dtype)), ir.const(6.0, x.dtype)) / 6.0, rule=floating,
           grad=dict(input=lambda g, input: where(input <= -3, 0.0, where(input < 3, g * (input / 3 + 0.5), g))), wide=True)
def hardswish(input: Tensor) -> Tensor:
    """x * min(max(x + 3, 0), 6) / 6. Howard et al., 2019."""


@pointwise(lambda x, l: ir.select((x > l) | (x < -l), x, ir.const(0.0, x.dtype)), rule=floating,
           grad=dict(input=lambda g, input, lambd: where((input > lambd) | (input < -lambd), g, 0.0)))
def hardshrink(input: Tensor, lambd=0.5) -> Tensor:
    """x outside [-lambd, lambd], else 0."""


@pointwise(lambda x, l: ir.select(x > l, x - l, ir.select(x < -l, x + l, ir.const(0.0, x.dtype))), rule=floating, name="softshrink",
           public=False, grad=dict(input=lambda g, input, lambd: where((input > lambd) | (input < -lambd), g, 0.0)))
def softshrink_(input: Tensor, lambd): ...


@operator()
def softshrink(input: Tensor, lambd=0.5) -> Tensor:
    """x moved towards 0 by lambd >= 0, 0 within [-lambd, lambd]."""
    if lambd < 0:
        raise RuntimeError(f"softshrink: expected lambda at least 0 (lambda must be in range [0, inf) for the input dtype); found {lambd}")
    return softshrink_(input, lambd)


@pointwise(lambda x, t, v: ir.select(x > t, x, v), rule=no_bool,
           grad=dict(input=lambda g, input, threshold: where(input > threshold, g, 0.0)))
def threshold(input: Tensor, threshold, value) -> Tensor:
    """x above the threshold, else value."""


# -- conversion -------------------------------------------------------------------------------------------------

_casts: dict = {}


def cast(input, to: dt.dtype):
    """The elements converted to another dtype."""
    convert = _casts.get(to)
    if convert is None:
        def selects(args, to=to):
            return (to,), to

        @pointwise(
            lambda x: x, selects=selects, name=f"to_{to.name}", title="ToCopy", public=False, complex=True, grad=dict(input=lambda g: g)
        )
        def convert(input: Tensor): ...
        _casts[to] = convert
    return convert(input)
