"""The graph of one block of a chain (graph/chain.py), and the memory outside of it."""

from __future__ import annotations

from typing import NamedTuple


class Buffer:
    """What stands in a body for memory outside of it."""

    exported = True


OUTSIDE = Buffer()


class Window:
    """Memory outside of the chain as one block sees it: `steps` are (divisor, modulus, elements): the block numbered b begins
    `sum((b // divisor) % modulus * elements)` further on, the one numbered 0 at element `start`. `chunked`: elements from one chunk of
    blocks to the next. `tile`: elements from one tile of a block to the next."""

    def __init__(self, source, steps: tuple, chunked: int = 0, tile: int = 0, start: int = 0):
        self.source, self.steps, self.chunked, self.tile, self.start = source, steps, chunked, tile, start

    def tiled(self, step: int) -> Window:
        """The same memory, gone through tile by tile."""
        return Window(self.source, self.steps, self.chunked, step)


class Held(NamedTuple):
    """Memory of a block that lives from stage to stage (graph/tiles.py): a row (`which` is "value"), or the sum so far of a row, of which
    there are two, one before and one after a tile: "begin", "old", "new" and, after the last tile, "end". `number`: the node's in the
    body."""

    number: int
    which: str = "value"


class Body(NamedTuple):
    """The graph of one block: its nodes, which of them are results, the Window (or Held) of each leaf and result by its id, and for
    each node the index of the recorded node that it is a block of (None for a recurrence, whose steps are not recorded). `alias`: node ->
    the scatter that writes into its memory. `into`: result -> where its elements lie in its window, if not one after the other."""

    nodes: list
    live: list
    windows: dict
    origin: dict | None = None
    alias: dict = {}
    into: dict = {}


class Stage(NamedTuple):
    """Part of what is computed for a block. `bodies`: its graph; of a stage that is repeated for each tile that of a whole one, if there
    are `tiles` of them, and that of a shorter last one, if there is such. `looks`: for each of these a graph that tells (in memory that is
    held, a flag for each row) whether the tile adds anything; none if it always does."""

    bodies: list
    tiles: int | None = None
    looks: list = []
