"""Small things that several modules need."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat


def _ntuple(n: int, name: str = "parse"):
    def parse(x) -> tuple:
        return tuple(x) if isinstance(x, Iterable) else tuple(repeat(x, n))

    parse.__name__ = name
    return parse


_single = _ntuple(1, "_single")
_pair = _ntuple(2, "_pair")
_triple = _ntuple(3, "_triple")
_quadruple = _ntuple(4, "_quadruple")


def _reverse_repeat_tuple(t: tuple, n: int) -> tuple:
    """`t` from its end, each element `n` times: per-dimension paddings in the order `pad` wants them."""
    return tuple(x for x in reversed(t) for _ in range(n))


def described(module, *names: str) -> str:
    """`a=1, b=2` for the attributes named: the usual `extra_repr`."""
    return ", ".join(f"{name}={getattr(module, name)}" for name in names)
