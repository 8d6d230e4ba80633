"""What products may leave out above a diagonal.

The attention of a decoder hides from each query the keys that come after it: above the diagonal of the last two dimensions, its scores
are -inf, their exponentials zero, and so are derivatives. This is found in what is recorded: a comparison of places with places, and
what scalar code makes of the constant it picks. A product reads such zeros (`Static.within` of "k" and another group), or nobody asks for
what it gives there.

Other factors are taken to be finite, as they are where attention is computed in blocks: an infinite key does not reach earlier queries.
"""

from __future__ import annotations

import math as numbers

from ..loops import ir, math
from ..loops.view import View
from .node import Node
from .tiles import proportional, scalar_code

FINITE = ("add", "sub", "mul", "neg", "cast", "fma", "const", "arg")      # kinds whose value is finite if their operands' are


def narrowed(nodes: list[Node], live: list[bool]) -> tuple[list[Node], dict]:
    """(the nodes, with contractions in which something may be left out replaced by ones that say so; what is known of those above the
    diagonal, by number)."""
    known: dict[int, float | bool] = {}     # pointwise nodes that have one value wherever the column is above the row
    if any(n.op.family == "pointwise" and n.op.uses_index for n in nodes):
        for n in nodes:
            if n.op.family == "pointwise" and len(n.shape) > 1 and not n.op.uses_index:
                value = _value(n, known)
                if value is not None:
                    known[n.index] = value
    if not known:
        return list(nodes), known
    asked = _asked(nodes, live, known)
    return [_narrowed(n, known, asked) if n.op.family == "contraction" else n for n in nodes], known


def _computed(s) -> bool:
    return isinstance(s, Node) and s.buffer is None


def same_places(s: Node, v: View) -> bool:
    """Whether a view has the last two dimensions of a value as its own."""
    return _places(s, v) == (0, 1)


def _places(s: Node, v: View) -> tuple | None:
    """Which of a value's last two dimensions the last two of a view are: (0, 1) or (1, 0); None where it reads others."""
    if len(s.shape) < 2 or len(v.shape) < 2:
        return None
    rows, columns = s.shape[-2:]
    whole = rows * columns
    if rows < 2 or columns < 2 or v.offset % whole or any(t % whole for t in v.strides[:-2]):
        return None
    if v.shape[-2:] == (rows, columns) and v.strides[-2:] == (columns, 1):
        return 0, 1
    return (1, 0) if v.shape[-2:] == (columns, rows) and v.strides[-2:] == (1, columns) else None


def _value(n: Node, known: dict) -> float | bool | None:
    """What a pointwise node is above the diagonal, if it is one number there."""
    given = {j: known[s.index] for j, (s, v) in enumerate(zip(n.inputs, n.views))
             if _computed(s) and s.index in known and same_places(s, v)}
    if not given:
        return False if n.dtype.kind == "b" and _compares_places(n) else None
    code = scalar_code(n)
    if code is None:
        return None
    e, probes = code
    for j, value in given.items():
        if value is False:
            if e.kind == "select" and e.args[0] is probes[j] and e.args[2].kind == "const" and e.args[2].attr in (0, -numbers.inf):
                return e.args[2].attr
        elif value == 0:
            if proportional(e, probes[j]):
                return 0.0
        elif n.op.scalar is math.exp:
            return 0.0
        elif e.kind == "sub" and e.args[0] is probes[j]:
            return value
    return None


def _compares_places(n: Node) -> bool:
    """Whether a node is false above the diagonal because it compares the column with the row."""
    if len(n.inputs) != 2 or not all(_computed(s) and _counts(s) for s in n.inputs):
        return False
    e, probes = scalar_code(n)
    if e.kind not in ("le", "lt") or e.args != tuple(probes):
        return False
    lead = (0,) * (len(n.shape) - 2)
    return [v.strides for v in n.views] == [(*lead, 0, 1), (*lead, 1, 0)] and not any(v.offset for v in n.views)


def _counts(n: Node) -> bool:
    """Whether a node is 0, 1, 2, ..."""
    if n.op.family != "pointwise" or not n.op.uses_index or n.inputs or len(n.shape) != 1:
        return False
    place = ir.index("place")
    return n.op.scalar(place) is place


def _asked(nodes: list[Node], live: list[bool], known: dict) -> bytearray:
    """Whether anything depends on what a node is above the diagonal, but that it is finite."""
    asked = bytearray(live)
    for n in reversed(nodes):
        alone = n.op.family == "pointwise" and not n.op.uses_index and (n.index in known or not asked[n.index])
        code = scalar_code(n) if alone else None
        for j, (s, v) in enumerate(zip(n.inputs, n.views)):
            if _computed(s) and not (code is not None and same_places(s, v) and _keeps_finite(n, j, *code, known)):
                asked[s.index] = 1
    return asked


def _keeps_finite(n: Node, j: int, e: ir.Op, probes: list, known: dict) -> bool:
    """Whether a pointwise node that has a known value, or that nobody asks for, has it or is finite whatever its input `j` is."""
    if e.kind == "select" and e.args[1] is probes[j] and e.args[0] in probes:
        mask = n.inputs[probes.index(e.args[0])]
        return n.index in known and _computed(mask) and known.get(mask.index) is False
    return all(op.kind in FINITE for op in ir.walk(e))


def _narrowed(n: Node, known: dict, asked: bytearray) -> Node:
    nb, *counts, nk = n.static.dims
    within = []
    for s, v, label, own in zip(n.inputs, n.views, "mn", counts):
        if own == nk == 1 and _computed(s) and known.get(s.index) == 0 and known[s.index] is not False:
            places = _places(s, v)
            if places is not None:
                within.append(("k", label) if places == (0, 1) else (label, "k"))
    if counts == [1, 1] and min(n.shape[-2:], default=0) > 1 and not asked[n.index]:
        within.append(("n", "m"))
    if not within:
        return n
    found = Node.of(n.op, n.inputs, n.views, n.static._replace(within=tuple(within)), n.shape, n.numel, n.dtype)
    found.index, found.where = n.index, n.where
    return found
