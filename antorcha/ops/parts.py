"""The parts of complex numbers, and their conjugates."""

from __future__ import annotations

from ..loops import ir
from .record import pointwise

Tensor = "Tensor"


def _parts(d): return d, d.to_real()


@pointwise(lambda x: x, name="real_part", title="Real", public=False, rule=_parts, complex=lambda z: z.re, holomorphic=False,
           grad=dict(input=lambda g: g))
def real_(input: Tensor): ...


@pointwise(lambda x: x - x, name="imaginary_part", title="Imag", public=False, rule=_parts, complex=lambda z: z.im, holomorphic=False,
           grad=dict(input=lambda g: complex_(g * 0, g)))
def imag_(input: Tensor): ...


def _picked(z, which):
    return ir.select(which.re.eq(1.0), -z.im, ir.select(which.re.eq(2.0), z.im, z.re))


@pointwise(lambda x, which: x, name="part", title="Part", public=False, rule=_parts, complex=_picked, holomorphic=False)
def part_(input: Tensor, which: Tensor):
    """The real part, minus the imaginary one, the imaginary and the real part where `which` is 0, 1, 2, 3."""


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
    return conj_physical_(x) if x._meta.dtype.kind == "c" else x
