"""Complex numbers: from their parts, magnitudes and angles, and back."""

from __future__ import annotations

import math

from ..base import dtype as dt
from ..loops import complex as cx
from ..loops import ir
from .casts import FULL_ON_CPU
from .parts import complex_, conj_, imag_, real_
from .pointwise import cos, sin, where
from .record import check_tensor, core, operator, pointwise

Tensor = "Tensor"


@pointwise(
    lambda x: (
        ir.select(x < 0.0, ir.const(math.pi, x.dtype), ir.select(x.ne(x), x, ir.const(0.0, x.dtype)))
        if x.dtype.kind == "f"
        else ir.select(x < 0, ir.const(math.pi, dt.float32), ir.const(0.0, dt.float32))
    ),
    name="angle",
    rule=lambda d: _angle_rule(d),
    inplace=False,
    complex=cx.angle,
    holomorphic=False,
    grad=dict(input=lambda g, input: _angle_grad(g, input)),
    samples=lambda t: [t.complex(...)],
)
def angle(input: Tensor) -> Tensor:
    """The argument of every element, in radians, in (-pi, pi]; of negative real numbers pi."""


def _angle_rule(d):
    return (d, d.to_real()) if d.kind in "fc" else (dt.default(), dt.default())


def _angle_grad(g, x):
    if x._meta.dtype.kind != "c":
        return g * 0
    square = (x * conj_(x)).real
    scale = where(square == 0, 0.0, g / where(square == 0, 1.0, square))
    return complex_(-imag_(x) * scale, real_(x) * scale)


@operator(out="exact", method=False, samples=lambda t: [t(...), t(...)])
def complex(real: Tensor, imag: Tensor) -> Tensor:
    """The complex tensor with these parts, of one float dtype."""
    _check_parts(real._meta.dtype, imag._meta.dtype)
    return complex_(real, imag)


def _check_parts(first, second) -> None:
    if not {first, second} <= {dt.float16, dt.float32, dt.float64}:
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {first} and {second}")
    if first is not second:
        raise RuntimeError(f"Expected object of scalar type {first} but got scalar type {second} for second argument")


@operator(autocast=FULL_ON_CPU, title="Polar", method=False, samples=lambda t: [t(...), t(..., low=-3, high=3)])
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """The complex tensor with these magnitudes and arguments."""
    check_tensor("polar", "abs", abs)
    check_tensor("polar", "angle", angle)
    _check_parts(abs._meta.dtype, angle._meta.dtype)
    return complex(abs * cos(angle), abs * sin(angle))


@operator(samples=lambda t: [t.complex(...)])
def conj(input: Tensor) -> Tensor:
    """The complex conjugate."""
    return conj_(input)


@operator(inplace=True, onto_repeated=True, samples=lambda t: [t.complex(...)])
def conj_physical(input: Tensor) -> Tensor:
    """The complex conjugate."""
    return conj_(input)


@operator(samples=lambda t: [t.complex(...)])
def resolve_conj(input: Tensor) -> Tensor:
    """The input: conjugates are computed, never marked."""
    check_tensor("resolve_conj", "input", input, 1)
    return input


@operator(samples=lambda t: [t.complex(...)])
def resolve_neg(input: Tensor) -> Tensor:
    """The input: negatives are computed, never marked."""
    check_tensor("resolve_neg", "input", input, 1)
    return input


@operator(method=False, samples=lambda t: [t.complex(...)])
def real(input: Tensor) -> Tensor:
    """The real part."""
    return real_(input) if input._meta.dtype.kind == "c" else input


@operator(method=False, samples=lambda t: [t.complex(...)])
def imag(input: Tensor) -> Tensor:
    """The imaginary part, of a complex tensor."""
    if input._meta.dtype.kind != "c":
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return imag_(input)


@operator(method=False, samples=lambda t: [t.complex(...)])
def view_as_real(input: Tensor) -> Tensor:
    """(..., 2): real and imaginary parts. A copy here, not a view."""
    if input._meta.dtype.kind != "c":
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return core.stack([real_(input), imag_(input)], -1)


@operator(autocast=FULL_ON_CPU, method=False, samples=lambda t: [t(..., 2)])
def view_as_complex(input: Tensor) -> Tensor:
    """From (..., 2), real and imaginary parts. A copy here, not a view."""
    if not input._meta.dtype.is_floating_point:
        raise RuntimeError(
            f"view_as_complex is only supported for floating point tensors, but got a tensor of scalar type: {input._meta.dtype}"
        )
    if not input.dim() or input.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    return complex_(input.select(-1, 0), input.select(-1, 1))
