"""Sample inputs, declared beside an operator: the generic tests run every operator on them.

    samples=lambda t: [t(3, 4), 1, t.integers(2, 3, below=4)]

is a sample: the arguments, of which a dict at the end holds those given by name. A tuple of such functions are several samples. They are
called by the tests, never at import. What `t` makes are the inputs by which derivatives are taken; what the sample does with them is part
of the function that is differentiated (`t(4, 4).tril()`: only the triangle counts).

A shape that begins with `...` says that any leading dimensions do, also none of any size, and that those of several inputs are broadcast:
`t(...)` is an input of an operator of elements, `t(..., 3, 3)` is a batch of matrices. An operator without samples has those that its
signature tells (`default`).
"""

from __future__ import annotations

from itertools import cycle

import numpy as np

from .layout import core
from .record import Record, bitwise

# What `...` stands for, in the inputs one after the other: (where nothing follows it, where dimensions follow).
LEADING = {
    "whole": ([(3, 4)], [(2,)]),
    "empty": ([(0, 4)], [(0,)]),
    "broadcast": ([(3, 1), (4,), (2, 1, 1)], [(2, 1), (3,), ()]),
}


class Inputs:
    """The `t` of a sample: makes its tensors, always the same ones. `made` are these in order; those of `given` are taken instead.
    `tensor` makes one of an array."""

    def __init__(self, leading: str = "whole", given=(), tensor=None):
        self.made: list = []
        self.open: list[int] = []       # places of those that any leading dimensions do for, ...
        self.own: list[int] = []        # ... and how many dimensions they have besides
        self.floats: list[int] = []     # places of those that derivatives are taken by
        self._alone, self._before = map(cycle, LEADING[leading])
        self._given = list(given)
        self._tensor = tensor or core.from_numpy
        self._rng = np.random.default_rng(7)

    def _make(self, shape: tuple, draw):
        if shape and shape[0] is ...:
            self.open.append(len(self.made))
            self.own.append(len(shape) - 1)
            shape = next(self._before if shape[1:] else self._alone) + shape[1:]
        place, array = len(self.made), draw(shape)
        self.made.append(self._given[place] if self._given else self._tensor(np.array(array)))
        return self.made[-1]

    def _uniform(self, shape: tuple, low: float, high: float) -> np.ndarray:
        x = self._rng.uniform(low, high, shape)
        return np.where(np.abs(x) < 0.3, x + np.copysign(0.3, x), x) if low < 0 else x      # many functions have a corner at 0

    def __call__(self, *shape, low=0.15, high=0.85):
        """Floats from `low` to `high`; none near 0 if those may be negative."""
        self.floats.append(len(self.made))
        return self.fixed(*shape, low=low, high=high)

    def fixed(self, *shape, low=0.15, high=0.85):
        """Floats by which no derivative is taken."""
        return self._make(shape, lambda s: self._uniform(s, low, high))

    def complex(self, *shape, low=-0.85, high=0.85):
        """Complex numbers with such parts."""
        self.floats.append(len(self.made))
        return self._make(shape, lambda s: self._uniform(s, low, high) + 1j * self._uniform(s, low, high))

    def integers(self, *shape, low=0, below=6):
        return self._make(shape, lambda s: self._rng.integers(low, below, s))

    def flags(self, *shape):
        """Truth values."""
        return self._make(shape, lambda s: self._rng.random(s) < 0.5)

    def of(self, values):
        """A tensor of these values."""
        return self._tensor(np.array(values))

    def eye(self, n: int):
        return self._tensor(np.eye(n))

    def regular(self, *shape):
        """Square matrices far from singular ones: `t.regular(..., 3)` are of 3 rows."""
        return self(*shape, shape[-1]) + 2 * self.eye(shape[-1])

    def positive(self, *shape):
        """Symmetric, positive definite matrices."""
        x = self.regular(*shape)
        return (x + x.mT) / 2


def unary(low: float = 0.15, high: float = 0.85, *more):
    """The sample of an operator of elements with one input, and the arguments `more`."""
    return lambda t: [t(..., low=low, high=high), *more]


def binary(low: float = -9, high: float = 9, *more):
    return lambda t: [t(..., low=low, high=high), t(..., low=low, high=high), *more]


def default(record: Record):
    """The sample that a signature tells, where all parameters without a default are declared to be tensors, or are a dimension; else None.
    An operator of elements takes any shapes (and integers where it computes with bits)."""
    wanted = [p for p in record.signature.parameters.values() if p.default is p.empty]
    kinds = ["dim" if p.name == "dim" else str(p.annotation).strip("'") for p in wanted if p.kind is not p.VAR_POSITIONAL]
    if kinds[:1] != ["Tensor"] or not {*kinds} <= {"Tensor", "dim"} or len(kinds) < len(wanted):
        return None
    if record.family == "pointwise":
        return lambda t: [t.integers(...) if record.rule is bitwise else t(...) for _ in kinds]
    return lambda t: [t(3, 4) if kind == "Tensor" else 0 for kind in kinds]


def samples_of(record: Record) -> tuple:
    """The samples of a record; none if it declares none and its signature does not tell them."""
    found = record.samples if record.samples is not None else default(record)
    return found if type(found) is tuple else () if found is None else (found,)
