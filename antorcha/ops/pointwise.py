"""Operators of elements: one declaration each.

`scalar` is what is computed for one element, `grad` the cotangent of each input, `rule` how dtypes go through (see `record.py`).
"""

from __future__ import annotations

import math

import numpy as np

from ..base import dtype as dt
from ..loops import complex as cx
from ..loops import ir
from ..loops import math as lm
from .casts import FULL_ON_GPU, WIDEST_ON_GPU
from .extern import elementwise, host_op
from .layout import NUMBERS, converted, fitting
from .parts import conj_, real_
from .recall import warn_once
from .record import check_tensor, computable, continuous, core, floating, no_bool, number, operator, pointwise, result_dtype
from .samples import binary, unary

Tensor = "Tensor"


# -- arithmetic -------------------------------------------------------------------------------------------------

def _add(a, b): return (a | b) if a.dtype is dt.bool_ else a + b
def _mul(a, b): return (a & b) if a.dtype is dt.bool_ else a * b


@pointwise(_add, name="add", public=False, samples=binary(), grad=dict(input=lambda g: g, other=lambda g: g), complex=True)
def add_(input: Tensor, other: Tensor): ...


def _difference_casts(args):
    if any([(a._meta.dtype is dt.bool_) if isinstance(a, core.Tensor) else type(a) is bool for a in args]):
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, use "
                           "the `~` or `logical_not()` operator instead, or `^` for where two differ.")
    d = result_dtype(args)
    computable("sub", d)
    return (d, d), d


@pointwise(
    lambda a, b: a - b,
    name="sub",
    title=lambda input: "SubBackward0" if isinstance(input, core.Tensor) else "RsubBackward1",
    public=False,
    selects=_difference_casts,
    samples=binary(),
    grad=dict(input=lambda g: g, other=lambda g: -g),
    complex=True,
)
def sub_(input: Tensor, other: Tensor): ...


def _axpy(a, b, alpha):
    return ir.fma(b, alpha, a) if isinstance(a, ir.Op) and a.dtype.kind == "f" else _add(a, _mul(b, alpha))


@pointwise(_axpy, name="axpy", title="Add", public=False, samples=binary(-9, 9, 0.7), complex=True,
           grad=dict(input=lambda g: g, other=lambda g, alpha: g * alpha, alpha=lambda g, other: g * other))
def axpy_(input: Tensor, other: Tensor, alpha): ...


_plus, _minus = add_.record.raw, sub_.record.raw      # their calls alone, without `out=`


@operator(inplace=True, numbers_first=True, samples=lambda t: [t(...), t(...), dict(alpha=2)])
def add(input: Tensor, other: Tensor, *, alpha=1) -> Tensor:
    """Elementwise `input + alpha * other`, broadcast."""
    return _plus(input, other) if alpha == 1 else axpy_(input, other, alpha)


@operator(inplace=True, numbers_first=True, samples=lambda t: [t(...), t(...), dict(alpha=2)])
def sub(input: Tensor, other: Tensor, *, alpha=1) -> Tensor:
    """Elementwise `input - alpha * other`, broadcast."""
    return _minus(input, other) if alpha == 1 else axpy_(input, other, -alpha)


@operator(method=False, samples=lambda t: [t(...), t(...), dict(alpha=2)])
def rsub(input: Tensor, other: Tensor, *, alpha=1) -> Tensor:
    """Elementwise `other - alpha * input`."""
    check_tensor("rsub", "input", input)
    return sub_(other, input) if alpha == 1 else axpy_(other, input, -alpha)


@pointwise(_mul, exact_numbers=(0, 1), samples=binary(), complex=True,
           grad=dict(input=lambda g, other: mul(g, other), other=lambda g, input: mul(g, input)))
def mul(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise product, broadcast."""


@pointwise(lambda a, b: a / b, name="true_divide", title="Div", public=False, rule=floating, exact_numbers=(1,),
           samples=binary(),
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


@pointwise(_floor_divide, rule=no_bool, exact_numbers=(1,), divides=True,
           samples=lambda t: [t.fixed(..., low=-9, high=9), t.fixed(..., low=-3, high=3)])
def floor_divide(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise quotient rounded down."""


@pointwise(_trunc_divide, name="trunc_divide", title="DivBackward2", public=False, rule=no_bool, divides=True,
           grad=dict(input=lambda g: g * 0, other=lambda g: g * 0))
def trunc_divide_(input: Tensor, other: Tensor): ...


@pointwise(_floor_divide, name="floor_quotient", title="DivBackward2", public=False, rule=no_bool, exact_numbers=(1,), divides=True,
           grad=dict(input=lambda g: g * 0, other=lambda g: g * 0))
def floor_quotient_(input: Tensor, other: Tensor): ...


@operator(inplace=True, samples=(
    binary(), lambda t: [t(..., low=-9, high=9), t(..., low=-3, high=3), dict(rounding_mode="trunc")]))
def div(input: Tensor, other: Tensor, *, rounding_mode=None) -> Tensor:
    """Elementwise quotient; of integers too it is a float, unless `rounding_mode` is "trunc" or "floor"."""
    if rounding_mode is None:
        return div_(input, other)
    if rounding_mode == "trunc":
        d = result_dtype((input, other))    # of 16-bit floats the quotient is rounded first, as any other
        return trunc_divide_(input, other) if d.compute is d else div_(input, other).trunc()
    if rounding_mode == "floor":
        return floor_quotient_(input, other)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


def _remainder(a, b):
    if a.dtype.kind == "f":
        return lm.remainder(a, b)
    r = ir.rem(a, b)
    return r if a.dtype.kind == "u" else ir.select(r.ne(0) & ((r < 0) ^ (b < 0)), r + b, r)


@pointwise(_remainder, rule=no_bool, divides=True, title=lambda other: f"RemainderBackward{int(isinstance(other, core.Tensor))}",
           grad=dict(input=lambda g: g, other=lambda g, input, other: -g * floor_divide(input, other)), samples=binary())
def remainder(input: Tensor, other: Tensor) -> Tensor:
    """Elementwise modulus with the sign of the divisor."""


@pointwise(lambda a, b: lm.fmod(a, b) if a.dtype.kind == "f" else ir.rem(a, b), rule=no_bool, tensors=("input",), divides=True,
           title=lambda other: f"FmodBackward{int(isinstance(other, core.Tensor))}",
           grad=dict(input=lambda g: g, other=lambda g, input, other: -g * trunc_divide_(input, other)), samples=binary())
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
    if x._meta.dtype.kind != "c":
        return g * 0
    size = where(x == 0, 1.0, abs(x))
    direction = x / size
    return where(x == 0, 0.0, (g - direction * (g * conj_(direction)).real) / size)


# -- powers -----------------------------------------------------------------------------------------------------

@pointwise(lambda x: x, name="clone", public=False, moves=True, grad=dict(input=lambda g: g), complex=True)
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


_POW_GRAD = dict(input=lambda g, input, exponent: _pow_grad(g, input, exponent),
                 exponent=lambda g, input, exponent, result: g * where((input == 0) & (_real(exponent) >= 0), 0.0, result * _log_of(input)))


def _pow_title(input, exponent):
    return "PowBackward2" if not isinstance(input, core.Tensor) else f"PowBackward{int(isinstance(exponent, core.Tensor))}"


@pointwise(lambda x, n: lm.pow(x, n) if x.dtype.kind == "f" else _int_power(x, n), name="pow", title=_pow_title, public=False, rule=no_bool,
           grad=_POW_GRAD)
def power_(input: Tensor, exponent: Tensor): ...


def _complex_power(z, w):
    """exp(w log z), 1 for w = 0. An exponent magnifies how the logarithm is rounded, so that this is the C library's, of which PyTorch
    makes its powers; the product is written in parts because NumPy's of complex numbers rounds once where the library's rounds twice."""
    with np.errstate(all="ignore"):
        log, product = np.log(z), np.empty_like(z)
        product.real, product.imag = w.real * log.real - w.imag * log.imag, w.real * log.imag + w.imag * log.real
        return (np.where(w == 0, np.ones_like(z), np.exp(product)),)


COMPLEX_POW = host_op("pow", _complex_power)


@operator(name="complex_pow", title=_pow_title, public=False, grad=_POW_GRAD)
def complex_power_(input: Tensor, exponent: Tensor):
    for name, x in (("input", input), ("exponent", exponent)):
        if type(x) not in NUMBERS:
            check_tensor("pow", name, x)
    d = result_dtype((input, exponent))
    z, w = (x.to(d.compute) if isinstance(x, core.Tensor) else core.full((), x, d.compute) for x in (input, exponent))
    return elementwise(COMPLEX_POW, z, w, d.compute).to(d)


def _real(x):
    return real_(x) if isinstance(x, core.Tensor) and x._meta.dtype.kind == "c" else x


def _log_of(base):
    if isinstance(base, core.Tensor):
        return log(base)
    return math.log(base) if base > 0 else math.nan if base else -math.inf


def _pow_grad(g, input, exponent):
    if not isinstance(exponent, core.Tensor):
        return g * 0 if exponent == 0 else g * (exponent * pow(input, exponent - 1))
    return where(exponent == 0, 0.0, g * (exponent * pow(input, exponent - 1)))


@operator(autocast="parts", inplace=True, samples=unary(-9, 9))
def square(input: Tensor) -> Tensor:
    """The square of every element."""
    return pow(input, 2)


@operator(autocast=FULL_ON_GPU, inplace=True, samples=(binary(0.3, 3), unary(-9, 9, 3)))
def pow(input: Tensor, exponent: Tensor) -> Tensor:
    """Elementwise power. Common constant exponents are computed with multiplications and square roots."""
    if not isinstance(input, core.Tensor):
        input = number(input)
    if not isinstance(exponent, core.Tensor):
        exponent = number(exponent) if number(exponent) is not None else exponent
    if isinstance(input, core.Tensor) and not isinstance(exponent, core.Tensor):
        d = input._meta.dtype
        if isinstance(exponent, int) and exponent < 0 and d.kind in "iu":
            raise RuntimeError("Integers to negative integer powers are not allowed. Convert the input first: input.float().")
        body = _BODIES.get(exponent) if d.kind in "fc" or exponent in (1, 2, 3) else None
        if body is not None:
            return _power_as(input, exponent, body, d is dt.bfloat16)   # each product is rounded, as PyTorch's are in this dtype
    if not any(isinstance(x, core.Tensor) and x._meta.dtype.kind == "c" for x in (input, exponent)):
        return power_(input, exponent)
    return complex_power_(input, exponent)


_BODIES = {1: identity, 2: lambda x: x * x, 3: lambda x: x * x * x, 0.5: lambda x: x.sqrt(),
           -1: lambda x: 1 / x, -2: lambda x: 1 / (x * x), -0.5: lambda x: 1 / x.sqrt()}


def _power_as(input, exponent, body, in_steps: bool):
    """`body(input)`, with the derivative and the name of a power."""
    kept = _powers.get((exponent, in_steps))
    if kept is None:

        @operator(
            name=f"pow_{exponent:g}".replace(".", "_").replace("-", "minus_") + "_in_steps" * in_steps,
            title="Pow",
            public=False,
            wide=not in_steps and "forward",
            grad=dict(input=lambda g, input, exponent: _pow_grad(g, input, exponent)),
        )
        def constant_power(input: Tensor, exponent):
            out = body(input)
            wanted = result_dtype((input, exponent))
            return out if out._meta.dtype is wanted else out.to(wanted)
        kept = _powers[exponent, in_steps] = constant_power
    return kept(input, exponent)


_powers: dict = {}


# -- exponentials and logarithms --------------------------------------------------------------------------------

@pointwise(lm.exp, autocast=FULL_ON_GPU, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, result: g * result), complex=cx.exp)
def exp(input: Tensor) -> Tensor:
    """e to the power of every element."""


@pointwise(lm.exp2, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, result: g * result * math.log(2.0)), complex=cx.exp2)
def exp2(input: Tensor) -> Tensor:
    """2 to the power of every element."""


@pointwise(lm.expm1, autocast=FULL_ON_GPU, rule=floating, samples=unary(-9, 9),
           grad=dict(input=lambda g, result: g * (result + 1)), complex=cx.expm1)
def expm1(input: Tensor) -> Tensor:
    """exp(x) - 1, precise near 0."""


@pointwise(lm.log, autocast=FULL_ON_GPU, rule=floating, samples=unary(0.1, 9), grad=dict(input=lambda g, input: g / input), complex=cx.log)
def log(input: Tensor) -> Tensor:
    """The natural logarithm of every element."""


@pointwise(lm.log2, autocast=FULL_ON_GPU, rule=floating, samples=unary(0.1, 9),
           grad=dict(input=lambda g, input: g / (input * math.log(2.0))), complex=cx.log2)
def log2(input: Tensor) -> Tensor:
    """The logarithm to base 2 of every element."""


@pointwise(lm.log10, autocast=FULL_ON_GPU, rule=floating, samples=unary(0.1, 9),
           grad=dict(input=lambda g, input: g / (input * math.log(10.0))), complex=cx.log10)
def log10(input: Tensor) -> Tensor:
    """The logarithm to base 10 of every element."""


@pointwise(lm.log1p, autocast=FULL_ON_GPU, rule=floating, title="Log1P", samples=unary(-0.9, 9),
           grad=dict(input=lambda g, input: g / (input + 1)), complex=cx.log1p)
def log1p(input: Tensor) -> Tensor:
    """log(1 + x), precise near 0."""


@pointwise(lambda x: ir.sqrt(x), rule=floating, samples=unary(0.1, 9), grad=dict(input=lambda g, result: g / (2 * result)), complex=cx.sqrt)
def sqrt(input: Tensor) -> Tensor:
    """The square root of every element."""


@pointwise(lm.rsqrt, autocast=FULL_ON_GPU, rule=floating, samples=unary(0.1, 9),
           grad=dict(input=lambda g, result: -0.5 * g * result.pow(3)), complex=cx.rsqrt)
def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(x) for every element."""


@pointwise(lambda x: 1.0 / x, autocast=FULL_ON_GPU, rule=floating, samples=unary(0.5, 9),
           grad=dict(input=lambda g, result: -g * result * result), complex=True)
def reciprocal(input: Tensor) -> Tensor:
    """1 / x for every element."""


@pointwise(
    lm.sigmoid,
    rule=floating,
    samples=unary(-9, 9),
    grad=dict(input=lambda g, result: sigmoid_backward(g, result)),
    complex=cx.sigmoid,
    wide=True,
)
def sigmoid(input: Tensor) -> Tensor:
    """The logistic function 1 / (1 + exp(-x))."""


@pointwise(lambda g, y: g * ((1.0 - y) * y), public=False, inplace=False, rule=floating, samples=binary(-1, 1), complex=True,
           grad=dict(input=lambda g, output: sigmoid_backward(g, output),
                     output=lambda g, input, output: g * input * (1 - 2 * output)))
def sigmoid_backward(input: Tensor, output: Tensor):
    """A cotangent of sigmoid's result times the derivative."""


# -- trigonometry -----------------------------------------------------------------------------------------------

@pointwise(lm.sin, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, input: g * cos(input)), complex=cx.sin)
def sin(input: Tensor) -> Tensor:
    """Sine of every element, in radians."""


@pointwise(lm.cos, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, input: -g * sin(input)), complex=cx.cos)
def cos(input: Tensor) -> Tensor:
    """Cosine of every element, in radians."""


@pointwise(lm.tan, autocast=FULL_ON_GPU, rule=floating, samples=unary(-1, 1),
           grad=dict(input=lambda g, result: g * (1 + result * result)), complex=cx.tan)
def tan(input: Tensor) -> Tensor:
    """Tangent of every element, in radians."""


@pointwise(
    lm.asin, autocast=FULL_ON_GPU, rule=floating, samples=unary(-0.9, 0.9),
    grad=dict(input=lambda g, input: g * rsqrt(1 - input * input)), complex=cx.asin
)
def asin(input: Tensor) -> Tensor:
    """Arcsine of every element."""


@pointwise(
    lm.acos, autocast=FULL_ON_GPU, rule=floating, samples=unary(-0.9, 0.9),
    grad=dict(input=lambda g, input: -g * rsqrt(1 - input * input)), complex=cx.acos
)
def acos(input: Tensor) -> Tensor:
    """Arccosine of every element."""


@pointwise(lm.atan, rule=floating, samples=unary(-9, 9), grad=dict(input=lambda g, input: g / (input * input + 1)), complex=cx.atan)
def atan(input: Tensor) -> Tensor:
    """Arctangent of every element."""


@pointwise(lm.atan2, autocast=WIDEST_ON_GPU, rule=floating, tensors=("input", "other"), samples=binary(),
           grad=dict(input=lambda g, input, other: g * other * reciprocal(input * input + other * other),
                     other=lambda g, input, other: -g * input * reciprocal(input * input + other * other)))
def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input), in radians."""


@pointwise(lm.sinh, autocast=FULL_ON_GPU, rule=floating, samples=unary(-5, 5),
           grad=dict(input=lambda g, input: g * cosh(input)), complex=cx.sinh)
def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine of every element."""


@pointwise(lm.cosh, autocast=FULL_ON_GPU, rule=floating, samples=unary(-5, 5),
           grad=dict(input=lambda g, input: g * sinh(input)), complex=cx.cosh)
def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine of every element."""


@pointwise(
    lm.tanh, rule=floating, samples=unary(-5, 5), grad=dict(input=lambda g, result: tanh_backward(g, result)), complex=cx.tanh, wide=True
)
def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent of every element."""


@pointwise(lambda g, y: g * (1.0 - y * y), public=False, inplace=False, rule=floating, samples=binary(-1, 1), complex=True,
           grad=dict(input=lambda g, output: tanh_backward(g, output),
                     output=lambda g, input, output: -2 * (g * input * output)))
def tanh_backward(input: Tensor, output: Tensor):
    """A cotangent of tanh's result times the derivative."""


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


# -- choice -----------------------------------------------------------------------------------------------------

def _where_casts(args):
    condition = args[0]
    if not isinstance(condition, core.Tensor) or condition._meta.dtype not in (dt.bool_, dt.uint8):
        raise RuntimeError(f"expected condition to be a boolean tensor; received {getattr(condition, 'dtype', type(condition).__name__)}")
    if condition._meta.dtype is dt.uint8:
        warn_once("where: conditions of dtype uint8 are deprecated. Use a boolean condition: condition.bool()")
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


def _shown_casts(args):
    (condition, d, _), result = _where_casts((args[1], args[0], args[0]))
    return (d, condition), result


@pointwise(lambda x, condition: ir.select(condition, x, ir.const(-math.inf, x.dtype)), title="Where", public=False, inplace=False,
           selects=_shown_casts, grad=dict(input=lambda g, condition: where(condition, g, 0.0)),
           samples=lambda t: [t.fixed(...), t.flags(...)])
def shown(input: Tensor, condition: Tensor):
    """`input` where the condition holds, else -inf: the number belongs to the operator, so plans may count on it (graph/triangle.py)."""


@operator(method=False, samples=lambda t: [t.flags(...), t(...), t(...)])
def where(condition: Tensor, input: Tensor = None, other: Tensor = None) -> Tensor:
    """`input` where the condition holds, else `other`; with the condition alone, the indices where it holds."""
    if input is None:
        return condition.nonzero(as_tuple=True)
    return where_(condition, _beside(other, input, converted), _beside(input, other, converted))


def _beside(input, x, fitting):
    """A number as an element of the result of it and the tensor `input`."""
    return fitting(x, result_dtype((input, x))) if type(x) in NUMBERS and isinstance(input, core.Tensor) else x


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
                     other=lambda g, input, other: where((input >= other) | other.isnan(), 0.0, g)), samples=binary())
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger element of two; where one is NaN, the other."""


@pointwise(lambda a, b: ir.select(a.ne(a), b, ir.select(b.ne(b), a, ir.minimum(a, b))), inplace=False, tensors=("input", "other"),
           grad=dict(input=lambda g, input, other: where((input <= other) | other.isnan(), g, 0.0),
                     other=lambda g, input, other: where((input <= other) | other.isnan(), 0.0, g)), samples=binary())
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller element of two; where one is NaN, the other."""


@pointwise(lambda x, low: ir.maximum(x, low) if x.dtype.kind != "b" else x | low, tensors=("input",), samples=unary(-9, 9, 1.5),
           grad=dict(input=lambda g, input, min: where(input >= min, g, 0.0), min=lambda g, input, min: where(input < min, g, 0.0)))
def clamp_min(input: Tensor, min: Tensor) -> Tensor:
    """Every element, but at least `min`."""


@pointwise(lambda x, high: ir.minimum(x, high) if x.dtype.kind != "b" else x & high, tensors=("input",), samples=unary(-9, 9, 1.5),
           grad=dict(input=lambda g, input, max: where(input <= max, g, 0.0), max=lambda g, input, max: where(input > max, g, 0.0)))
def clamp_max(input: Tensor, max: Tensor) -> Tensor:
    """Every element, but at most `max`."""


@pointwise(lambda x, low, high: ir.minimum(ir.maximum(x, low), high), name="clamp", public=False, rule=no_bool,
           grad=dict(input=lambda g, input, min, max: where((input >= min) & (input <= max), g, 0.0),
                     min=lambda g, input, min, max: where((input < min) & (min < max), g, 0.0),
                     max=lambda g, input, min, max: where((input > max) | (max < min), g, 0.0)))
def clamp_(input: Tensor, min: Tensor, max: Tensor): ...


@operator(inplace=True, title=lambda input, min=None, max=None:
          f"ClampBackward{int(not (isinstance(min, core.Tensor) or isinstance(max, core.Tensor)))}",
          samples=(unary(0.15, 0.85, 0.3, 0.6), lambda t: [t(...), t(...), t(...) + 0.3]))
def clamp(input: Tensor, min: Tensor = None, max: Tensor = None) -> Tensor:
    """Every element, but at least `min` and at most `max` (numbers or tensors)."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    min, max = _beside(input, min, fitting), _beside(input, max, fitting)
    if max is None:
        return clamp_min(input, min)
    return clamp_max(input, max) if min is None else clamp_(input, min, max)


# -- fused forms ------------------------------------------------------------------------------------------------

def _lerp(a, b, w):
    if isinstance(w, ir.Pair):
        return ir.select(cx.magnitude(w) < 0.5, a + w * (b - a), b - (b - a) * (1.0 - w))
    return ir.select(ir.absolute(w) < 0.5, ir.fma(w, b - a, a), ir.fma(b - a, w - 1.0, b))


def _lerp_casts(args):
    d = args[0]._meta.dtype
    for name, x in zip(("end", "weight"), args[1:]):
        if not isinstance(x, (int, float, complex)) and x._meta.dtype is not d:
            raise RuntimeError(f"expected dtype {d} for `{name}` but got dtype {x._meta.dtype}. Convert it: {name}.to(input.dtype)")
    return (d, d, d), continuous(d)[1]


@pointwise(_lerp, selects=_lerp_casts, complex=True, tensors=("input", "end"),
           title=lambda weight: f"LerpBackward{int(isinstance(weight, core.Tensor))}",
           grad=dict(input=lambda g, weight: g * (1 - weight), end=lambda g, weight: g * weight,
                     weight=lambda g, input, end: g * (end - input)))
def lerp(input: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """input + weight * (end - input)."""


@pointwise(lambda x, a, b, v: x + v * (a * b), name="addcmul", public=False,
           grad=dict(input=lambda g: g, tensor1=lambda g, tensor2, value: g * (tensor2 * value),
                     tensor2=lambda g, tensor1, value: g * (tensor1 * value)), complex=True)
def addcmul_(input: Tensor, tensor1: Tensor, tensor2: Tensor, value): ...


@operator(autocast=WIDEST_ON_GPU, inplace=True, numbers_first=True, samples=lambda t: [t(...), t(...), t(...), dict(value=2)])
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value=1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    return addcmul_(input, tensor1, tensor2, value)


@pointwise(lambda x, a, b, v: x + v * (a / b), name="addcdiv", public=False, rule=floating,
           grad=dict(input=lambda g: g, tensor1=lambda g, tensor2, value: g * div_(value, tensor2),
                     tensor2=lambda g, tensor1, tensor2, value: -g * (value * tensor1 / (tensor2 * tensor2))), complex=True)
def addcdiv_(input: Tensor, tensor1: Tensor, tensor2: Tensor, value): ...


@operator(autocast=WIDEST_ON_GPU, inplace=True, numbers_first=True, samples=lambda t: [t(...), t(...), t(...), dict(value=2)])
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value=1) -> Tensor:
    """input + value * tensor1 / tensor2."""
    if result_dtype((tensor1, tensor2)).kind not in "fc":
        raise RuntimeError("addcdiv: expected tensor1 or tensor2 of floats; received integers. Convert one: tensor1.float(). (Integer "
                           "division with addcdiv is no longer supported)")
    return addcdiv_(input, tensor1, tensor2, value)


# -- conversion -------------------------------------------------------------------------------------------------

_casts: dict = {}


def cast(input, to: dt.dtype):
    """The elements converted to another dtype."""
    if to.opaque or input._meta.dtype.opaque:
        return core.recode(input, to)
    convert = _casts.get(to)
    if convert is None:
        def selects(args, to=to):
            return (to,), to

        @pointwise(
            lambda x: x, selects=selects, name=f"to_{to.name}", title="ToCopy", public=False, moves=True, complex=True,
            grad=dict(input=lambda g: g)
        )
        def convert(input: Tensor): ...
        _casts[to] = convert
    return convert(input)
