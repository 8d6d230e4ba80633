"""Random numbers within `vmap`: refused, the same for all examples, or different ones for each."""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from ..core.arrays import adopt
from ..core.generator import default_generator
from ..core.tensor import Tensor
from ..graph.node import Lanes, Node, Static
from . import lanes


class LaneNumbers(np.ndarray):
    """Numbers for all lanes: the dimensions of `mapped` (levels, the outermost first), then the numbers of one lane in one
    dimension."""

    mapped: tuple = ()

    def __array_finalize__(self, source) -> None:
        self.mapped = getattr(source, "mapped", ())

    def tensor(self, shape: tuple):
        """The tensor of `shape` that stands for one lane."""
        sizes = tuple(level.size for level in self.mapped)
        t = adopt(np.ascontiguousarray(np.asarray(self)).reshape(sizes + tuple(shape)))
        for level in self.mapped:
            t = lanes.enter(level, t, 0)
        return t


class LaneTensor:
    """As `LaneNumbers`, for a tensor drawn on a GPU."""

    def __init__(self, drawn, mapped: tuple):
        self.drawn, self.mapped = drawn, mapped

    def tensor(self, shape: tuple):
        t = self.drawn.reshape(tuple(level.size for level in self.mapped) + tuple(shape))
        for level in self.mapped:
            t = lanes.enter(level, t, 0)
        return t


class LaneDraws:
    """A generator that draws for all lanes of `mapped` what it is asked for one, as if the lanes were dimensions of the
    result."""

    def __init__(self, rng, mapped: tuple):
        self._rng, self._mapped, self._count = rng, mapped, 1
        for level in mapped:
            self._count *= level.size

    def _split(self, numbers) -> LaneNumbers | LaneTensor:
        if isinstance(numbers, Tensor):
            return LaneTensor(numbers, self._mapped)
        out = np.asarray(numbers).reshape(tuple(level.size for level in self._mapped) + (-1,)).view(LaneNumbers)
        out.mapped = self._mapped
        return out

    def __getattr__(self, name: str):
        draw = getattr(self._rng, name)
        if name == "device":
            return draw
        return lambda n, *args, **kwargs: self._split(draw(self._count * n, *args, **kwargs))

    def permutation(self, n: int):
        return self._split(np.stack([self._rng.permutation(n) for _ in range(self._count)]))

    def below_leaf(self, n: int, threshold: int) -> Node:
        """A node of n comparisons that stands for one lane."""
        node, step = self._rng.below_leaf(self._count * n, threshold), self._count * n
        for level in self._mapped:
            step //= level.size
            lane = Node.of(lanes.IDENTITY, (), (), Static(), (step,), step, dt.bool_)
            lane.inputs = Lanes(level, node, step)
            node = lane
        return node


def draws(rng):
    """What to draw from in place of the generator `rng`. RuntimeError where the innermost function, or one outside, may not be
    random."""
    mapped = []
    for level in reversed(lanes.levels()):
        if level.randomness == "error":
            raise RuntimeError(
                "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
                "randomness flags on vmap or perform the randomness operation out of vmap"
            )
        if level.randomness == "different":
            mapped.insert(0, level)
    return LaneDraws(rng, tuple(mapped)) if mapped else rng


def lane_by_lane(level: lanes.Level, generator=None):
    """The numbers of the lanes, one after another, for a loop that draws for each: different numbers or the same."""
    rng = default_generator if generator is None else generator
    before, state = level.randomness, rng.get_state()
    try:
        for b in range(level.size):
            if before == "same":
                rng.set_state(state)
            level.randomness = "error" if before == "error" else "same"
            yield b
    finally:
        level.randomness = before
