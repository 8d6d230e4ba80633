"""Further arithmetic of elements: neighbours and parts of floats, sums of logarithms, divisors, angles, replacements."""

from __future__ import annotations

import math

import numpy as np

from ..base import dtype as dt
from ..loops import complex as cx
from ..loops import ir
from ..loops import math as lm
from . import pointwise as pw
from .comparison import isfinite
from .extern import elementwise, host_op
from .layout import fitting
from .parts import complex_, imag_, real_
from .record import check_number, check_tensor, comparison, core, floating, number, operator, pointwise, same, widened
from .samples import binary, unary

Tensor = "Tensor"
BOTH = ("input", "other")


def floats_only(d):
    if d.kind != "f":
        raise NotImplementedError(f"expected a floating point tensor; received {d}. Convert it first: input.float()")
    return d, d


def integers_only(d):
    if d.kind not in "iu":
        raise NotImplementedError(f"expected an integer tensor; received {d}")
    return d, d


# -- parts of floats --------------------------------------------------------------------------------------------

@pointwise(lm.copysign, rule=floating, tensors=("input",), samples=binary(),
           grad=dict(input=lambda g, input, result: pw.where(input == 0, 0.0, g * (result / input)), other=lambda g: g * 0))
def copysign(input: Tensor, other: Tensor) -> Tensor:
    """The magnitude of `input` with the sign of `other`."""


def _signbit(x):
    if x.dtype.kind == "f":
        return x.bitcast({dt.float32: dt.int32, dt.float64: dt.int64}[x.dtype]) < 0
    return x < 0 if x.dtype.kind == "i" else ir.const(False, dt.bool_)


@pointwise(_signbit, rule=comparison, inplace=False, samples=unary(-9, 9))
def signbit(input: Tensor) -> Tensor:
    """Where the sign bit is set: negative numbers, and negative zero."""


@pointwise(lm.nextafter, name="nextafter", public=False, rule=floats_only,
           grad=dict(input=lambda g, input, other: pw.where(input == other, 0.0, g), other=lambda g: g * 0))
def nextafter_(input: Tensor, other: Tensor, step): ...


@operator(inplace=True, samples=binary())
def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The next number of the dtype after `input` in the direction of `other`."""
    check_tensor("nextafter", "input", input)
    check_tensor("nextafter", "other", other)
    return nextafter_(input, other, 1 << 16 if input._meta.dtype is dt.bfloat16 else 1)


def _int32_result(d): return floats_only(d)[0], dt.int32


@pointwise(lambda x: lm.frexp(x)[0], name="mantissa", public=False, rule=floats_only,
           grad=dict(input=lambda g, input: g / pw.exp2(exponent_(input).to(g.dtype))))
def mantissa_(input: Tensor): ...


@pointwise(lambda x: lm.frexp(x)[1], name="exponent", public=False, rule=_int32_result)
def exponent_(input: Tensor): ...


@operator(samples=unary(-9, 9))
def frexp(input: Tensor):
    """(mantissa, exponent) with input = mantissa * 2**exponent and 1/2 <= |mantissa| < 1; the exponent is an int32."""
    from .reduction import frexp_t
    return frexp_t(mantissa_(input), exponent_(input))


@operator(inplace=True, grad=dict(input=lambda g, other: g * pw.pow(2.0, other), other=lambda g, result: g * result * math.log(2.0)),
          samples=lambda t: [t(...), t(..., low=-3, high=3)])
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """input * 2**other."""
    check_tensor("ldexp", "input", input)
    check_tensor("ldexp", "other", other)
    return pw.mul(input, pw.pow(2.0, other))


@pointwise(
    lambda x: ir.absolute(x).eq(math.inf) & (x > 0) if x.dtype.kind == "f" else ir.const(False, dt.bool_), rule=comparison, inplace=False
)
def isposinf(input: Tensor) -> Tensor:
    """Where the element is positive infinity."""


@pointwise(
    lambda x: ir.absolute(x).eq(math.inf) & (x < 0) if x.dtype.kind == "f" else ir.const(False, dt.bool_), rule=comparison, inplace=False
)
def isneginf(input: Tensor) -> Tensor:
    """Where the element is negative infinity."""


@pointwise(lambda x: ir.const(True, dt.bool_), rule=comparison, inplace=False, complex=lambda z: z.im.eq(0.0), out=False)
def isreal(input: Tensor) -> Tensor:
    """Where the imaginary part is zero."""


# -- sums of logarithms -----------------------------------------------------------------------------------------

def _log_sum(grow, shrink):
    """log(e^a + e^b) for the base of `grow`: the larger, and what the smaller adds."""
    def function(a, b):
        top = ir.maximum(a, b)
        same_infinity = a.eq(b) & ir.absolute(a).eq(math.inf)
        return ir.select(same_infinity, a, top + lm.log1p(grow(-ir.absolute(a - b))) * shrink)
    return function


def _complex_log_sum(a, b):
    larger = a.re >= b.re
    top, low = ir.select(larger, a, b), ir.select(larger, b, a)
    same_infinity = a.eq(b) & ir.absolute(a.re).eq(math.inf)
    return ir.select(same_infinity, a, top + cx.log(cx.exp(low - top) + 1.0))


def _float_or_complex(d):
    return (d, d) if d.kind == "c" else floats_only(d)


@pointwise(
    lambda a, b: _complex_log_sum(a, b) if isinstance(a, ir.Pair) else _log_sum(lm.exp, 1.0)(a, b),
    rule=_float_or_complex,
    tensors=BOTH,
    complex=True,
    samples=binary(),
    inplace=False,
    grad=dict(input=lambda g, input, other: g / (1 + pw.exp(other - input)), other=lambda g, input, other: g / (1 + pw.exp(input - other))),
)
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)), without overflow."""


@pointwise(
    _log_sum(lm.exp2, 1 / math.log(2)),
    rule=floats_only,
    tensors=BOTH,
    samples=binary(),
    inplace=False,
    grad=dict(
        input=lambda g, input, other: g / (1 + pw.exp2(other - input)), other=lambda g, input, other: g / (1 + pw.exp2(input - other))
    ),
)
def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """log2(2**input + 2**other), without overflow."""


# -- lengths, steps, divisors -----------------------------------------------------------------------------------

@pointwise(lambda a, b: cx.magnitude(ir.Pair(a, b)), rule=floats_only, tensors=BOTH, samples=binary(),
           grad=dict(input=lambda g, input, result: g * input / result, other=lambda g, other, result: g * other / result))
def hypot(input: Tensor, other: Tensor) -> Tensor:
    """sqrt(input**2 + other**2), without overflow of the squares."""


@pointwise(lambda x, v: ir.select(x.eq(0), v, (x > 0).cast(x.dtype)), name="heaviside", public=False)
def heaviside_(input: Tensor, values: Tensor): ...


@operator(inplace=True, samples=lambda t: [t.fixed(..., low=-1), t.fixed(...)])
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """The step function: 0 below 0, 1 above, `values` at 0."""
    check_tensor("heaviside", "input", input)
    check_tensor("heaviside", "values", values)
    if input.dtype is not values.dtype:
        raise RuntimeError(
            f"heaviside: expected input and values of one dtype; received {input.dtype} and {values.dtype}. Convert one of them. "
            "(heaviside is not yet implemented for tensors with different dtypes)"
        )
    return heaviside_(input, values)


GCD, LCM = host_op("gcd", lambda a, b: (np.gcd(a, b),)), host_op("lcm", lambda a, b: (np.lcm(a, b),))


def _of_integers(op, input, other):
    d = integers_only(dt.promote(input.dtype, other.dtype))[0]
    return elementwise(op, input.to(d), other.to(d), d)


@operator(inplace=True, samples=lambda t: [t.integers(...), t.integers(...)])
def gcd(input: Tensor, other: Tensor) -> Tensor:
    """The greatest common divisor of integers, never negative."""
    check_tensor("gcd", "input", input)
    check_tensor("gcd", "other", other)
    return _of_integers(GCD, input, other)


@operator(inplace=True, samples=lambda t: [t.integers(...), t.integers(...)])
def lcm(input: Tensor, other: Tensor) -> Tensor:
    """The least common multiple of integers, never negative."""
    check_tensor("lcm", "input", input)
    check_tensor("lcm", "other", other)
    return _of_integers(LCM, input, other)


@operator(inplace="exact", out="exact", samples=binary(0.3, 3))
def float_power(input: Tensor, exponent: Tensor) -> Tensor:
    """`pow`, computed and returned in float64 (of complex numbers in complex128)."""
    pair = [x if isinstance(x, core.Tensor) else number(x) for x in (input, exponent)]
    if not any(isinstance(x, core.Tensor) for x in pair):
        raise TypeError("float_power(): expected a Tensor among input and exponent; received two numbers")
    wide = dt.complex128 if any(isinstance(x, core.Tensor) and x._meta.dtype.kind == "c" for x in pair) else dt.float64
    a, b = (x.to(wide) if isinstance(x, core.Tensor) else x for x in pair)
    return pw.pow(a, b)


# -- angles -----------------------------------------------------------------------------------------------------

@operator(title="Deg2Rad", inplace=True, samples=unary(-9, 9))
def deg2rad(input: Tensor) -> Tensor:
    """Degrees in radians."""
    return _not_complex("deg2rad", input) * (math.pi / 180)


@operator(title="Rad2Deg", inplace=True, samples=unary(-9, 9))
def rad2deg(input: Tensor) -> Tensor:
    """Radians in degrees."""
    return _not_complex("rad2deg", input) * (180 / math.pi)


def _not_complex(name, x):
    if x._meta.dtype.kind == "c":
        raise RuntimeError(f"{name} is not supported for complex tensors.")
    return x


def _sinc_grad(g, x):
    """g times (pi x cos(pi x) - sin(pi x)) / (pi x^2), 0 at 0."""
    angle, below = x * math.pi, x * x * math.pi
    zero = below == 0
    return pw.where(zero, 0.0, g * ((angle * pw.cos(angle) - pw.sin(angle)) / pw.where(zero, 1.0, below)))


def _sinc(x):
    """sin(pi x) / (pi x), of 16-bit floats rounded once."""
    angle = pw.where(x == 0, 1.0, widened(x) * math.pi)
    return pw.where(x == 0, 1.0, pw.sin(angle) / angle)


@operator(inplace=True, grad=dict(input=lambda g, input: _sinc_grad(g, input)), samples=unary(-3, 3))
def sinc(input: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0."""
    return core.cast(_sinc(input), floating(input._meta.dtype)[0])


@operator(samples=unary(-9, 9))
def positive(input: Tensor) -> Tensor:
    """The input itself."""
    if input._meta.dtype is dt.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


@operator(name="fill", out=False, method=False, grad=dict(input=lambda g: g * 0, value=lambda g: g), samples=lambda t: [t(...), t()])
def fill(input: Tensor, value: Tensor):
    """A tensor like `input` with all elements of one value."""
    if isinstance(value, core.Tensor) and value.dim():
        raise RuntimeError(f"fill only supports 0-dimension value tensor but got tensor with {value.dim()} dimensions.")
    m = input._meta
    value = value.detach() if isinstance(value, core.Tensor) else check_number("fill", "value", fitting(value, m.dtype), 2)
    return core.full(m.view.shape, value, m.dtype, m.device)


# -- replacements -----------------------------------------------------------------------------------------------

def _inside(g, input, eps):
    """The cotangent of a logit: only where the input was not clamped, NaN outside of [0, 1]."""
    low, high = (0.0, 1.0) if eps is None else (eps, 1.0 - eps)
    return pw.where((input >= low) & (input <= high), g / (input * (1 - input)), math.nan if eps is None else 0.0)


@operator(inplace=True, grad=dict(input=lambda g, input, eps: _inside(g, input, eps)), samples=unary(0.1, 0.9))
def logit(input: Tensor, eps=None) -> Tensor:
    """log(x / (1 - x)), x clamped to [eps, 1 - eps] first if `eps` is given."""
    input = _not_complex("logit", input if input._meta.dtype.continuous else core.cast(input, dt.default()))
    x = input if eps is None else pw.clamp(input, float(eps), 1.0 - float(eps))
    return pw.log(x / (1 - x))


@pointwise(lambda x, nan, high, low: ir.select(x.ne(x), nan, ir.select(x.eq(math.inf), high, ir.select(x.eq(-math.inf), low, x))),
           name="nan_to_num", public=False, rule=same, grad=dict(input=lambda g, input: pw.where(isfinite(input), g, 0.0)))
def replaced_(input: Tensor, nan, posinf, neginf): ...


def largest(d: dt.dtype) -> float:
    """The largest finite number of a floating point dtype."""
    return float(np.finfo(d.numpy).max) if d.numpy is not None else float.fromhex("0x1.fep127")


@operator(inplace=True, samples=lambda t: [t(...).log().masked_fill(t.flags(...), float("nan")), 0.5])
def nan_to_num(input: Tensor, nan=None, posinf=None, neginf=None) -> Tensor:
    """NaN and the infinities replaced: by 0 and the extreme numbers of the dtype, unless given."""
    d = input._meta.dtype
    if d.kind == "c":
        return complex_(*(nan_to_num(part(input), nan, posinf, neginf) for part in (real_, imag_)))
    if d.kind != "f":
        return input.clone()
    top = largest(d)
    return replaced_(
        input, 0.0 if nan is None else float(nan), top if posinf is None else float(posinf), -top if neginf is None else float(neginf)
    )
