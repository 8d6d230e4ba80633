"""What a function of tensors records, recorded again.

Operators that are several nodes, and derivatives, are written with other operators: each of these checks its arguments, decides about
shapes and dtypes and makes a tensor, only to come to the nodes it came to the last time. So the second time that such a function is
called with inputs of the same layouts, the nodes it records are noted (`_observe`), and from then on they are recorded as one piece.

This is for functions that record operations on their arguments and do nothing else. What a function is seen to do besides (to ask for
a value, to draw random numbers, to write to an argument, to use a tensor that is not among them) makes it one that is called as ever.
"""

from __future__ import annotations

from ..base import config
from ..base import dtype as dt
from ..base.errors import user_position
from ..base.grad_mode import mode
from ..graph import tape
from ..graph.node import Node, View
from ..graph.piece import Piece, closed
from ..graph.tape import LONGEST, state
from .record import Meta, core

SEEN, NEVER = "seen", "never"       # called once; not to be noted
MADE, INPUT, VIEW, INNER, NOTHING = range(5)     # what a result is: see `Recollection`
_PLAIN = frozenset((type(None), str, dt.dtype, View, Meta))
_NUMBERS = frozenset((bool, int, float))
MOST = 5_000        # kept for one function
FEWEST = 4          # nodes


class Recollections(dict):
    """What is known of one function: layouts of inputs -> a Recollection, or why there is none. `worth`: False where it is found to
    record so few nodes that they are made as soon as they are found."""

    __slots__ = ("worth", "looks")

    def __init__(self):
        super().__init__()
        self.worth, self.looks = True, 0

    def keep(self, key: tuple, found) -> None:
        """Note what was found, a Recollection or another thing with a `piece`, or None."""
        self.looks += 1
        if found is not None and len(found.piece) >= FEWEST:
            self.looks = -MOST
        elif self.looks > 1:
            self.worth = False
            self.clear()
            return
        self[key] = NEVER if found is None else found


class Onlooker:
    """Told by the engine (`tape.state.watch`) what a function does besides recording."""

    def __init__(self):
        self.refused = False

    def refuse(self, *reason) -> None:
        self.refused = True

    looked = flushed = drew = refuse

    def made(self, node) -> None:
        pass        # a leaf that is used is no input, and found by that

    def draws(self, generator):
        self.refused = True
        return generator

    def group(self, group: dict) -> dict:
        return group        # of an optimiser, in another thread

    def step(self, state: dict) -> float:
        state["step"] += 1
        return state["step"]


class Recollection:
    """A piece of the graph, and the tensors made of it. `results`: (MADE, place in the piece's table, layout, -), (INPUT, which input),
    (VIEW, of which input, layout), (INNER, place, layout, layout of the tensor it is a view of) or (NOTHING,); `container`: the class
    of what holds them, None for a single tensor."""

    __slots__ = ("piece", "numbers", "results", "container", "placed")

    def __init__(self, piece: Piece, numbers: list, results: list, container):
        self.piece, self.numbers, self.results, self.container = piece, numbers, results, container
        self.placed = [piece.first + k for k, (_, where) in enumerate(piece.forms) if where is not None]

    def again(self, tensors: list, nodes: list):
        """Record it for other inputs, whose values are in `nodes`."""
        table = self.piece.record(nodes, self.numbers)
        if self.placed:
            position = user_position()
            for k in self.placed:
                table[k].where = position
        out = []
        for kind, k, m, base in self.results:
            if kind == MADE:
                out.append(core.wrap(table[k], m))
            elif kind == INPUT:
                out.append(tensors[k])
            elif kind == VIEW:
                out.append(core.view_of(tensors[k], m))
            else:
                out.append(None if kind == NOTHING else core.view_of(core.wrap(table[k], base), m))
        table = None
        nodes.clear()       # references are counted where values are computed
        if state.urgent or config.eager or len(tape.nodes) > LONGEST:
            tape.settle()
        if self.container is None:
            return out[0]
        return out if self.container is list else tuple.__new__(self.container, out)


def recall(known: Recollections, function, arguments: tuple):
    """function(*arguments), recorded again where what it records is known."""
    if state.urgent or state.watch is not None or mode.autocast is not None or config.eager:
        return function(*arguments)
    tensors: list = []
    nodes: list = []
    key: list = []
    if not _spell(arguments, tensors, nodes, key) or state.urgent:      # memory shared with NumPy: computed at once
        return function(*arguments)
    if len({*nodes}) < len(nodes):
        key.append(tuple(map(nodes.index, nodes)))
    key = (dt._default, core.default_device, *key)
    found = known.get(key)
    if type(found) is Recollection:
        return found.again(tensors, nodes)
    if found is None:
        if len(known) > MOST:
            known.clear()
        known[key] = SEEN
    if found is not SEEN:
        return function(*arguments)
    result, found = _observe(function, arguments, tensors, nodes)
    known.keep(key, found)
    return result


def _spell(arguments, tensors: list, nodes: list, key: list) -> bool:
    """Add to the tensors among the arguments, to their nodes, and to all that the arguments say by themselves. Whether that is all."""
    tensor = core.Tensor
    for x in arguments:
        kind = type(x)
        if kind is tensor or isinstance(x, tensor) and not x.is_sparse:
            node = x.storage.node
            tensors.append(x)
            nodes.append(node)
            key += (x.meta, node.form.numel)
        elif kind in _PLAIN:
            key.append(x)
        elif kind in _NUMBERS:      # 1, 1.0 and True are equal, and so are 0.0 and -0.0
            key += (kind, x if x else str(x))
        elif kind is tuple or kind is list:
            key.append(len(x))
            if not _spell(x, tensors, nodes, key):
                return False
        else:
            return False
    return True


def _observe(function, arguments, tensors: list, nodes: list) -> tuple:
    """(function(*arguments), a Recollection of it or None)."""
    before, onlooker = len(tape.nodes), Onlooker()
    versions = [t.storage.version for t in tensors]
    state.watch = onlooker
    try:
        result = function(*arguments)
    finally:
        state.watch = None
    several = isinstance(result, (tuple, list))
    results = list(result) if several else [result]
    if onlooker.refused or [t.storage.version for t in tensors] != versions or any(t.storage.node is not n for t, n in zip(tensors, nodes)):
        return result, None
    found = _recollected(tape.nodes[before:], tensors, nodes, results)
    return result, found and Recollection(*found, type(result) if several else None)


def _recollected(recorded: list[Node], tensors: list, nodes: list, results: list) -> tuple | None:
    """(the piece, its numbers, the results as `Recollection` has them); None where it is not told by that. All that was recorded is kept,
    needed or not: plans are found by it."""
    made: set = set()
    for t in results:
        if t is None or any(t is x for x in tensors):
            continue
        if type(t) is not core.Tensor or t._rg:
            return None
        s = t.storage
        if not any(s is x.storage for x in tensors):
            if type(s) is not core.Storage or s.version or s.node in made:
                return None
            made.add(s.node)
    found = closed(recorded, nodes)
    if found is None:
        return None
    piece, numbers, place = found
    results = [_result(t, tensors, place) for t in results]
    return None if None in results else (piece, numbers, results)


def _result(t, tensors: list, place: dict) -> tuple | None:
    """A result as `Recollection` has it; None where its value is from elsewhere."""
    if t is None:
        return NOTHING, 0, None, None
    for k, x in enumerate(tensors):
        if t is x:
            return INPUT, k, None, None
        if t.storage is x.storage:
            return VIEW, k, t.meta, None
    k = place.get(t.storage.node)
    if k is None:
        return None
    return (MADE, k, t.meta, None) if t._base is None else (INNER, k, t.meta, t._base.meta)
