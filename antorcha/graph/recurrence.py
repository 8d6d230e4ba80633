"""Recurrences: a small graph carried out step after step, as one node of a recording.

Recorded one by one, the steps of a recurrent network are as many nodes as its sequence is long, and every length is another recording. As
one node they are the graph of a single step (`Steps`) and the memory that it goes through (`windows`): that graph is grouped and lowered
once, and a plan for one length is that for all.

Step t reads the t-th part of each value of the kind "each", the whole of those of the kind "all", and the states that the step before has
left. Of each state there is one value more than steps; the first (going back, the last) is the one to begin with. What a step does with
its rows is independent of the others, so `parts` of these may be computed in parallel. A single step without a state is that alone: parts
that are computed one by one, with what is between in the memory of a thread. What is a part of each value, `Part` says.
"""

from __future__ import annotations

from typing import NamedTuple

from ..loops.body import Body, Window
from ..loops.view import View, dense, view
from .node import Node

SPARE = 32, 16, 8   # fewest rows of a part: the more it has, the less often weights are read, but one part alone is computed by one thread
PARTS = 64          # most parts


class Part(NamedTuple):
    """How a value is divided: part p begins at element `sum(p // divisor % modulus * elements)`, over the (divisor, modulus, elements) of
    `steps`, and has its elements where `view` says from there on."""

    steps: tuple
    view: View

    def number(self, p: int) -> View:
        start = sum([p // divisor % modulus * elements for divisor, modulus, elements in self.steps])
        return view(self.view.shape, self.view.strides, start)


def rows_of(shape: tuple, parts: int) -> Part:
    """So many parts of equal numbers of rows."""
    part = dense((shape[0] // parts, *shape[1:]))
    return Part(((1, parts, part.numel),), part)


class Steps:
    """What is done in a step. `nodes`: its graph, for the rows of one part; `inputs`: a leaf in it for each input of the node, of which the
    first `each` are read in parts and the next ones are the states to begin with; `outputs`: the new states, and what else is kept of
    each step, of these `shapes` for all parts. `rows`: of a part. `back`: the last step comes first. `divided`: of a single step the
    `Part` of each input that is read in parts, then of each output. `fusions`: the groups, by whether nodes are fused and which results
    are needed."""

    def __init__(self, nodes: list[Node], inputs: list[Node], outputs: list[Node], shapes: tuple, rows: int, each: int, states: int,
                 parts: int, back: bool, divided: tuple = ()):
        self.nodes, self.inputs, self.outputs, self.shapes, self.rows = nodes, inputs, outputs, shapes, rows
        self.each, self.states, self.parts, self.back, self.divided = each, states, parts, back, divided
        self.fusions: dict = {}

    def body(self, n: Node, given: list[Node | None]) -> Body:
        """The graph of a step of a recorded node. `given`: the node of each output, None for one that is not needed."""
        times, back = n.views[0].shape[0], self.back
        live = {id(inner): out for inner, out in zip(self.outputs, given) if out is not None}

        def window(source: Node, inner: Node, start, apart: bool) -> Window:
            """Memory that begins at an element; `apart`: each step has its own part of it."""
            whole = inner.numel * self.parts        # of one step
            steps = ((1, times, -whole if back else whole),) if apart else ()
            if self.parts > 1:
                steps += ((times, self.parts, inner.numel),)
            return Window(source, steps, start=start + ((times - 1) * whole if apart and back else 0))

        windows: dict = {}
        for k, (inner, source, v) in enumerate(zip(self.inputs, n.inputs, n.views)):
            if k < len(self.divided) and k < self.each:
                windows[id(inner)] = Window(source, self.divided[k].steps, start=v.offset)
            elif k < self.each:
                windows[id(inner)] = window(source, inner, v.offset, True)
            elif k < self.each + self.states:
                out = given[k - self.each]
                windows[id(inner)] = window(out, inner, inner.numel * self.parts if back else 0, True)
            else:
                windows[id(inner)] = Window(source, (), start=v.offset)
        into: dict = {}
        for k, inner in enumerate(self.outputs):
            if id(inner) in live and self.divided:
                part = self.divided[self.each + k]
                windows[id(inner)] = Window(live[id(inner)], part.steps)
                if not part.view.dense:
                    into[inner.index] = part.view
            elif id(inner) in live:
                after = k < self.states and not back
                windows[id(inner)] = window(live[id(inner)], inner, inner.numel * self.parts if after else 0, True)
        return Body(self.nodes, [id(inner) in live for inner in self.nodes], windows, into=into)


    def begins(self, n: Node, given: list) -> list[tuple]:
        """Which values the states begin with: as `Group.begins`."""
        states = range(self.each, self.each + self.states)
        end = n.views[0].shape[0] if self.back else 0
        return [(n.inputs[k], n.views[k], given[k - self.each], end * n.views[k].numel) for k in states]

    def order(self, n: Node) -> Order:
        """How often the graph is run."""
        times = n.views[0].shape[0]
        return Order(times * self.rows * self.parts, self.rows, times, self.parts)


class Order(NamedTuple):
    """How often a body is run, as a chain says it: `blocks` of `block` rows, those of a chunk one after the other."""

    rows: int
    block: int
    per_chunk: int
    chunks: int
    room = None
    again = ()

    @property
    def blocks(self) -> int:
        return self.per_chunk * self.chunks

    def release(self) -> None:
        """It holds nothing of the recording."""


def parts_of(rows: int) -> int:
    """Into how many parts so many rows are divided."""
    return next((p for fewest in SPARE for p in range(min(PARTS, rows // fewest), 1, -1) if rows % p == 0), 1)
