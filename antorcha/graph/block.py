"""Blocks: what a function of tensors records again (`ops.rewriting`) as one entry of the recording.

Of a layer's, a derivative's or an optimiser's nodes few can be asked for. Those are made at once, and the others not before a plan has to
be made: a recording whose blocks are known is told by their forms, and what is between them costs nothing.
"""

from __future__ import annotations

from operator import itemgetter

from . import window
from .node import Node

FEWEST = 1      # nodes that are not made at once, for which a block is worth it


class BlockForm:
    """All of a block but its inputs and the nodes that are made at once, `seen`: their places among all nodes. `apart`: the forms of nodes
    that do not begin to read the block's inputs at their beginning (`graph.window`). `pattern`: kept for `family.pattern`."""

    __slots__ = ("sites", "seen", "apart", "pattern")
    places = window.STILL

    def __init__(self, recorded: list[Node], outside: list[Node], seen: list[Node]):
        at: dict = {s: k for k, s in enumerate(outside)}
        number = len(outside)
        first = number + sum([type(s) is not Node for n in recorded for s in n.inputs])
        self.sites, self.seen, self.apart, self.pattern = [], [recorded.index(n) for n in seen], [], None
        for k, n in enumerate(recorded):
            reads = []
            for s, v in zip(n.inputs, n.views):
                if type(s) is not Node:
                    reads.append(number)
                    number += 1
                    continue
                reads.append(at[s])
                if at[s] < len(outside) and v is not None and v.offset and n.form not in self.apart:
                    self.apart.append(n.form)
            at[n] = first + k
            self.sites.append((n.form, n.where is not None, taker(reads)))

    @property
    def hidden(self) -> int:
        """How many nodes are not made at once."""
        return len(self.sites) - len(self.seen)


class Block:
    """In place of several nodes. `inputs`: the nodes that they read from outside, in the order in which they do; `numbers`: all theirs;
    `made`: the nodes that something else may read, whose `inputs` are those of the block until they are the node's own (`unfolded`)."""

    form: BlockForm
    inputs: tuple
    numbers: tuple
    made: tuple
    where: object
    __slots__ = ("form", "inputs", "numbers", "made", "where")     # no `__init__`: see `Node`

    buffer = None

    def unfolded(self) -> list[Node]:
        """All nodes, in order."""
        made = dict(zip(self.form.seen, self.made))
        table = [*self.inputs, *self.numbers]
        first = len(table)
        for k, (form, late, take) in enumerate(self.form.sites):
            n = made.get(k)
            if n is None:
                n = Node()
                n.form, n.buffer, n.where = form, None, self.where if late else None
            if n.buffer is None:
                n.inputs = take(table)
            table.append(n)
        return table[first:]


def taker(at: list[int]):
    """A function from a list to the tuple of its items at these places."""
    if len(at) > 1:
        return itemgetter(*at)
    if at:
        k = at[0]
        return lambda table: (table[k],)
    return lambda table: ()


def unfold(nodes: list) -> None:
    """Put its nodes in place of each block of a recording, to whose end others may be adding."""
    for k in reversed([k for k, n in enumerate(nodes) if type(n) is Block]):
        nodes[k:k + 1] = nodes[k].unfolded()


def seen(nodes: list) -> list[Node]:
    """The nodes of a recording that are made. Blocks whose nodes may have to read through windows are unfolded first."""
    spread(nodes)
    made: list[Node] = []
    for n in nodes:
        if type(n) is Block:
            made += n.made
        else:
            made.append(n)
    return made


def spread(nodes: list) -> bool:
    """Unfold the blocks whose nodes may have to read through windows. Whether there are any."""
    apart = [k for k, n in enumerate(nodes) if type(n) is Block and n.form.apart and any(map(window.moves, n.form.apart))]
    for k in reversed(apart):
        nodes[k:k + 1] = nodes[k].unfolded()
    return bool(apart)


def numbers(nodes: list) -> list:
    """The numbers that the nodes of a recording read."""
    found: list = []
    for n in nodes:
        if type(n) is Block:
            found += n.numbers
        else:
            found += [s for s in n.inputs if type(s) is not Node]
    return found


def places(nodes: list) -> list[int]:
    """Where those stand among all nodes."""
    found, first = [], 0
    for n in nodes:
        if type(n) is Block:
            found += [first + k for k in n.form.seen]
            first += len(n.form.sites)
        else:
            found.append(first)
            first += 1
    return found


class Folded:
    """A plan of a recording with blocks. `places`: see there."""

    def __init__(self, plan, places: list[int]):
        self.plan, self.places = plan, places
        at = {i: k for k, i in enumerate(places)}
        self.results = [i for i, _ in plan.results]
        self.taken = taker([at[i] for i in self.results])

    def nodes(self, recorded: list, made: list[Node]) -> dict[int, Node]:
        """The nodes by their number: those that get a value, and any other once it is looked up."""
        found = Unfolding(zip(self.results, self.taken(made)))
        found.recorded = recorded
        return found


class Unfolding(dict):
    """Nodes of `recorded`, a recording with blocks, by their number."""

    __slots__ = ("recorded",)

    def __missing__(self, i: int) -> Node:
        unfold(self.recorded)
        return self.recorded[i]
