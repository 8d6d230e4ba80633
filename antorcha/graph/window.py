"""Reads of the same shape at other places of one value: batch after batch of a data set, `x[i:i + n]`.

Where a view begins is structure, so each batch would be another recording, with a plan of its own. A form that was met with more than
a few beginnings reads a leaf that begins where its view does: such a window lies in the memory of the whole value, and recordings
that look through it at other places are equal.
"""

from __future__ import annotations

from ..loops.view import reach
from ..runtime import flight
from ..runtime.buffer import Buffer
from .node import Form, Node, form, leaf, view

FEW = 4         # beginnings that are left as they are: queries, keys and values, the gates of a recurrent cell
_places: dict = {}      # a form without the beginnings of its views -> those that were met


def moves(f: Form) -> bool:
    """Whether forms that differ in where their views begin were met more than a few times."""
    places = f.places
    if places is None:
        places = f.places = _met(f)
    return places is not STILL and len(places) > FEW


STILL: set = set()     # of forms whose views all begin at the beginning


def _met(f: Form) -> set:
    starts = tuple([v.offset if v is not None else 0 for v in f.views])
    if not any(starts):
        return STILL
    key = (f.op, f.static, f.shape, f.dtype, tuple([v and (v.shape, v.strides) for v in f.views]))
    if len(_places) > 20_000:
        _places.clear()
    places = _places.setdefault(key, set())
    places.add(starts)
    return places


def framed(nodes: list[Node]) -> bool:
    """Let the nodes whose forms move read through windows. Whether there are any."""
    found = [n for n in nodes if n.form.places is not STILL and moves(n.form)]
    windows: dict = {}
    for n in found:
        frame(n, windows)
    return bool(found)


def frame(n: Node, windows: dict) -> None:
    """Let a node whose form `moves` read what is in memory through windows; `windows`: those of this recording."""
    f = n.form
    if f.framed is None:
        f.framed = _framed(f, _parts(f))
    whole, parts = f.framed
    inputs, seen = list(n.inputs), []
    for p in parts:
        j, start, count = p
        s = inputs[j]
        if s.buffer is not None and s.buffer.device == "cpu":
            key = (s, start, count)
            inputs[j] = windows.get(key) or windows.setdefault(key, part(*key))
            seen.append(p)
    n.inputs, n.form = tuple(inputs), whole if len(seen) == len(parts) else _framed(f, seen)[0]


def _parts(f: Form) -> list[tuple[int, int, int]]:
    """What a form reads from a later beginning on: (number of the input, first element, elements)."""
    return [(j, v.offset, reach(v)) for j, v in enumerate(f.views)
            if v is not None and v.offset > 0 and v.numel and min(v.strides, default=0) >= 0]


def _framed(f: Form, parts: list) -> tuple[Form, list]:
    """The form that reads these parts as leaves of their own; and they."""
    views = list(f.views)
    for j, _, _ in parts:
        views[j] = view(views[j].shape, views[j].strides)
    return form(f.op, tuple(views), f.static, f.shape, f.numel, f.dtype), parts


def part(whole: Node, start: int, count: int) -> Node:
    """`count` elements of a value in memory as a leaf of its own."""
    size = whole.dtype.itemsize
    buffer = Buffer.within(whole.buffer, start * size, count * size)
    if whole.buffer.address in flight.awaited:
        flight.awaited.add(buffer.address)
    return leaf(buffer, count, whole.dtype)
