"""Sample inputs declared beside an operator; the generic tests run every operator on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Samples:
    """`arity` tensors with elements in [low, high], then the numbers of `extra`."""

    low: float
    high: float
    arity: int = 1
    extra: tuple = ()
    away_from_zero: bool = False


def unary(low: float, high: float, extra: tuple = ()) -> Samples:
    return Samples(low, high, 1, extra)


def binary(low: float = -9, high: float = 9, away_from_zero: bool = False) -> Samples:
    return Samples(low, high, 2, (), away_from_zero)
