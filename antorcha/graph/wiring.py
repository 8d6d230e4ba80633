"""What the nodes of a recording read: the number of a node, of a leaf, or none for a Python number.

To tell that of each input takes longest of all that is told of a recording. A recording with the forms of an earlier one mostly reads the
same, and that need only be compared.
"""

from __future__ import annotations

from itertools import chain
from operator import attrgetter

from .block import taker
from .node import Lanes, Node

MOST = 1 << 20      # inputs of all recordings that are kept
FEW = 8             # recordings of equal forms that are kept, the latest first

form_of, _inputs_of, buffer_of = map(attrgetter, ("form", "inputs", "buffer"))
_known: dict[tuple, list] = {}      # forms -> Wirings
_size = 0


class Wiring:
    """`sources` of a recording: for each input the number of a node, ~ the number of a leaf, or None for a number. The others take things
    out of a list of inputs, or of nodes and leaves, `read`."""

    __slots__ = ("forms", "sources", "nodes", "leaves", "numbers", "read")

    def __init__(self, forms: tuple, sources: list, made: int):
        self.forms, self.sources = forms, tuple(sources)
        first: dict = {}
        for i, k in enumerate(sources):
            first.setdefault(k, i)
        self.nodes = taker([i for i, k in enumerate(sources) if k is not None])
        self.numbers = taker([i for i, k in enumerate(sources) if k is None])
        self.leaves = taker([i for k, i in first.items() if k is not None and k < 0])
        self.read = taker([k if k >= 0 else made + ~k for k in sources if k is not None])


def clear() -> None:
    global _size
    _known.clear()
    _size = 0


def known(nodes: list, made: list[Node]) -> tuple | None:
    """(forms, sources, leaves, their buffers, numbers) of a recording like an earlier one."""
    forms = tuple(map(form_of, nodes))
    several = _known.get(forms)
    if several is None:
        return None
    inputs = list(chain.from_iterable(map(_inputs_of, nodes)))
    for w in several:
        leaves = w.leaves(inputs)
        if w.read([*made, *leaves]) == w.nodes(inputs) and (len(leaves) < 2 or len({*leaves}) == len(leaves)):
            buffers = list(map(buffer_of, leaves))
            if None not in buffers:
                return w.forms, w.sources, list(leaves), buffers, w.numbers(inputs)
    return None


def traced(nodes: list, made: list[Node]) -> tuple:
    """As `known`, of any recording. An error where a value is read that is lost."""
    global _size
    inputs = [s for n in nodes for s in n.inputs]
    at = dict(zip(made, range(len(made))))
    leaves: list = []
    sources: list = []
    for s in inputs:
        if type(s) is not Node:
            sources.append(None)
            continue
        k = at.get(s)
        if k is None:
            if s.buffer is None:
                _lost(s)
            k = at[s] = ~len(leaves)
            leaves.append(s)
        sources.append(k)
    _size += len(inputs)
    if _size > MOST:
        clear()
    forms, buffers, numbers = tuple(map(form_of, nodes)), list(map(buffer_of, leaves)), [s for s in inputs if type(s) is not Node]
    several = _known.get(forms)
    if several is None:     # what comes once may never come again
        _known[forms] = []
        return forms, tuple(sources), leaves, buffers, numbers
    w = Wiring(forms, sources, len(made))
    several.insert(0, w)
    del several[FEW:]
    return w.forms, w.sources, leaves, buffers, numbers


def _lost(node: Node):
    """Raise the error of a value that is needed and is not to be computed."""
    if type(node.inputs) is Lanes:
        raise RuntimeError("vmap: a tensor made for one lane of a batch was used after vmap had returned. Return it "
                           "from the mapped function instead.")
    raise RuntimeError(f"{node.op.name}: this value was lost when an earlier error interrupted its computation. Compute it again.")
