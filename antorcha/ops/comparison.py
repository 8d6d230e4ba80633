"""Comparison, logic, bits and rounding of elements."""

from __future__ import annotations

import builtins
import math

from ..base import dtype as dt
from ..loops import complex as cx
from ..loops import ir
from .record import bitwise, comparison, continuous, logical, no_bool, operator, pointwise
from .samples import unary

Tensor = "Tensor"


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


# -- rounding ---------------------------------------------------------------------------------------------------

def _rounding(kind):
    return lambda x: ir.unary(kind, x) if x.dtype.kind == "f" else x


@pointwise(_rounding("floor"), rule=no_bool, grad=dict(input=lambda g: g * 0), samples=unary(-9, 9))
def floor(input: Tensor) -> Tensor:
    """The largest integer not above every element."""


@pointwise(_rounding("ceil"), rule=no_bool, grad=dict(input=lambda g: g * 0), samples=unary(-9, 9))
def ceil(input: Tensor) -> Tensor:
    """The smallest integer not below every element."""


@pointwise(_rounding("trunc"), rule=no_bool, grad=dict(input=lambda g: g * 0), samples=unary(-9, 9))
def trunc(input: Tensor) -> Tensor:
    """Every element without its fraction."""


@pointwise(_rounding("round"), name="round", public=False, rule=no_bool, grad=dict(input=lambda g: g * 0))
def round_(input: Tensor): ...


@operator(inplace=True, title=lambda input, decimals=0: f"RoundBackward{int(decimals != 0)}", samples=unary(-9, 9))
def round(input: Tensor, *, decimals=0) -> Tensor:
    """The nearest integer (or decimal), halves to even."""
    if decimals == 0:
        return round_(input)
    scale = 10.0 ** builtins.abs(decimals)
    return round_(input * scale) / scale if decimals > 0 else round_(input / scale) * scale


@pointwise(lambda x: x - ir.trunc(x), rule=continuous, grad=dict(input=lambda g: g), samples=unary(-9, 9))
def frac(input: Tensor) -> Tensor:
    """The fraction of every element, with its sign."""
