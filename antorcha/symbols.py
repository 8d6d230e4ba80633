"""Sizes as symbols: PyTorch's compiler traces with them. Sizes are plain numbers here, so there is no instance of these classes, and the
functions on them compute with numbers."""

from __future__ import annotations

import math


class SymInt:
    """An integer that is a symbol."""


class SymFloat:
    """A float that is a symbol."""


class SymBool:
    """A truth value that is a symbol."""


def sym_int(a) -> int:
    """`a` cut to an integer."""
    return int(a)


def sym_float(a) -> float:
    """`a` as a float."""
    return float(a)


def sym_not(a) -> bool:
    """Whether `a` is false."""
    return not a


def sym_max(a, b):
    """The larger of two numbers; a float if one is."""
    return type(a + b)(max(a, b))


def sym_min(a, b):
    """The smaller of two numbers; a float if one is."""
    return type(a + b)(min(a, b))


def sym_sqrt(a) -> float:
    """The square root."""
    return math.sqrt(a)


def sym_ite(b, t, f):
    """`t` if `b`, else `f`."""
    return t if b else f


def sym_sum(args):
    """The sum of numbers."""
    return sum(args)


def sym_fresh_size(expr):
    """The size itself: there are no symbols."""
    return expr


def sym_constrain_range(size, *, min=None, max=None) -> None:
    """ValueError unless min <= size <= max."""
    if min is not None and size < min or max is not None and size > max:
        raise ValueError(f"sym_constrain_range: expected a value between {min} and {max}; received {size}")


def sym_constrain_range_for_size(size, *, min=None, max=None) -> None:
    """ValueError unless the size is at least 0 and within the limits."""
    sym_constrain_range(size, min=0 if min is None else min, max=max)


__all__ = ["sym_fresh_size", "sym_constrain_range", "sym_constrain_range_for_size",
           "SymInt", "SymFloat", "SymBool", "sym_int", "sym_float", "sym_not", "sym_max", "sym_min", "sym_sqrt", "sym_ite", "sym_sum"]
