"""Lowering once for equal groups: the layers of a network repeat the same kernels, and so do the plans of a program.

What lowering reads of a group is its `Shape`: the nodes it reaches before something loaded from memory, each with its form, place and
index map. Groups of one shape have the same calls but for the names of nodes and buffers, which a shape numbers in the order in
which it meets them, and for where in a buffer they begin: the steps of a recurrent network differ in nothing else. A template is the
calls in these numbers.
"""

from __future__ import annotations

from .view import View, view
from .writer import Call

_templates: dict[tuple, Template] = {}


def clear() -> None:
    """Forget all templates."""
    _templates.clear()


class Shape:
    """`key`: equal for groups with the same calls. `nodes` and `buffers` say what the numbers stand for in this group, `starts` from which
    element on it goes about a buffer (by number; the others have none)."""

    def __init__(self, lowering, group):
        self.lowering, self.group = lowering, group
        fusion = lowering.fusion
        self.nodes: list = [fusion.nodes[i] for i in group.members]
        self.buffers: dict = {}
        offsets: list[tuple[int, int]] = []         # (buffer, at which element it is read or written), without those in `whole`
        whole: set[int] = set()                     # buffers that are written from their beginning on
        described = self._described(offsets, whole)
        number = {i: k for k, i in enumerate(group.members)}
        reductions = tuple([(number[i], how) for i, how in group.reductions.items()])
        self.starts: dict[int, int] = {}
        for b, offset in offsets:
            self.starts.setdefault(b, 0 if b in whole else offset)
        self.key = (fusion.gpu, group.kind, group.domain, group.inner, group.outer, group.rows, group.beyond, len(number),
                    number.get(group.root), reductions, tuple(described), tuple([offset - self.starts[b] for b, offset in offsets]))

    def _described(self, offsets: list, whole: set) -> list[tuple]:
        """What is to be known of each of the nodes, which grow by those that are read. Done for each node of a recording: everything is
        written out."""
        fusion, group, buffers, found = self.lowering.fusion, self.group, self.buffers, self.nodes
        nodes, place, stored, at, last = fusion.nodes, fusion.place, fusion.stored, group.at, group.number
        buffer_of, in_place = self.lowering.buffer_of, self.lowering.in_place
        number = {n: k for k, n in enumerate(found)}
        loaded = [False] * len(found)               # whether it is read from memory
        described: list[tuple] = []
        for n in found:
            f = n.form
            if loaded[len(described)]:
                described.append((f.dtype, buffers.setdefault(buffer_of(n), len(buffers))))
                continue
            i = n.index
            buffer, over, again = None, i in in_place, False
            if stored[i]:
                buffer = buffers.setdefault(buffer_of(n), len(buffers))
                if not over:
                    whole.add(buffer)
            inputs: list = []
            for s, v in zip(n.inputs, f.views):
                if v is None:
                    inputs.append(None)
                    continue
                if s.buffer is None:
                    s = nodes[s.index]              # it may have been replaced
                k = number.get(s)
                if k is None:
                    k = number[s] = len(found)
                    found.append(s)
                    g = None if s.buffer is not None else place[s.index]
                    loaded.append(s.buffer is not None or g is not None and g is not group and bool(stored[s.index]) and g.number < last)
                if loaded[k] and not (over and not inputs):     # the old value of a scatter in place is there already
                    offsets.append((buffers.setdefault(buffer_of(s), len(buffers)), v.offset))
                    again = again or type(v.offset) is not int or v.offset != 0
                inputs.append(k)
            if over:
                offsets.append((buffer, f.static.region.offset))
            if again or over:
                f = self._at_the_beginning(n, [k is not None and loaded[k] and not (over and j == 0) for j, k in enumerate(inputs)], over)
            described.append((f, buffer, place[i] is group, stored[i], at.get(i), fusion.into.get(i), over, *inputs))
        return described

    @staticmethod
    def _at_the_beginning(n, loaded: list[bool], over: bool):
        """The form of a node but for where what it loads, and what it writes over, begins."""
        f, static = n.form, n.form.static
        if over:
            static = static._replace(region=view(static.region.shape, static.region.strides))
        views = tuple([view(v.shape, v.strides) if there else v for v, there in zip(f.views, loaded)])
        return f.reading(views, static)


class Template:
    """The calls of a shape. `parts`: bytes of the buffers for partial results that they use; `checks` as in Lowering."""

    def __init__(self, shape: Shape, calls: list[Call], parts: list[int], checks: list, first_part: int, first_check: int):
        node = {n.index: k for k, n in enumerate(shape.nodes) if n.buffer is None}
        buffer = dict(shape.buffers)
        buffer.update({("part", first_part + k): ("part", k) for k in range(len(parts))})
        self.starts = shape.starts
        self.parts, self.checks = parts, [(node[i], j, size) for i, j, size in checks]
        self.calls = [_Pattern(c, buffer, node, first_check) for c in calls]

    def fill(self, lowering, shape: Shape) -> list[Call]:
        """The calls for a group of this shape."""
        node = {k: n.index for k, n in enumerate(shape.nodes) if n.buffer is None}
        buffer = dict(enumerate(shape.buffers))
        buffer.update({("part", k): lowering.part(nbytes) for k, nbytes in enumerate(self.parts)})
        first_check = len(lowering.checks)
        lowering.checks += [(node[k], j, size) for k, j, size in self.checks]
        moves = {b: start - self.starts[b] for b, start in shape.starts.items()}
        return [c.call(shape, buffer, node, first_check, moves) for c in self.calls]


class _Pattern:
    """A call in a shape's numbers: which of its arguments have names in them, and the rest."""

    def __init__(self, call: Call, buffer: dict, node: dict, first_check: int):
        self.program, self.args = call.program, call.args
        named = [(at, a) for at, a in enumerate(call.args) if a[0] != "int"]
        self.pointers = [(at, buffer[a[1]], a[2], call.program.slots[at].dtype.itemsize) for at, a in named if a[0] == "ptr"]
        self.numbers = [(at, node[a[1][0]], a[1][1], a[2]) for at, a in named if a[0] == "num"]
        self.status = [(at, a[1] - first_check) for at, a in named if a[0] == "status"]
        self.reads, self.writes = [buffer[b] for b in call.reads], [buffer[b] for b in call.writes]
        self.read_at = [(buffer[b], at) for b, at in call.read_at.items()]
        self.written_at = [(buffer[b], at) for b, at in call.written_at.items()]
        self.checks = [(node[n.index], j, size) for n, j, size in call.checks]

    def call(self, shape: Shape, buffer: dict, node: dict, first_check: int, moves: dict) -> Call:
        """The call under the names of a group; `first_check` is added to the numbers of its checks, `moves` says by how many elements it
        goes about a buffer further on."""
        args = self.args.copy()
        for at, b, offset, itemsize in self.pointers:
            args[at] = ("ptr", buffer[b], offset + moves[b] * itemsize if b in moves else offset)
        for at, n, j, dtype in self.numbers:
            args[at] = ("num", (node[n], j), dtype)
        for at, check in self.status:
            args[at] = ("status", check + first_check)
        call = Call(self.program, args, shape.group)
        call.reads, call.writes = {buffer[b] for b in self.reads}, {buffer[b] for b in self.writes}
        call.read_at = {buffer[b]: at and (moved(at[0], moves.get(b, 0)), at[1]) for b, at in self.read_at}
        call.written_at = {buffer[b]: (moved(at[0], moves.get(b, 0)), at[1]) for b, at in self.written_at}
        call.checks = [(shape.nodes[k], j, size) for k, j, size in self.checks]
        return call


def moved(v: View, by: int) -> View:
    """The index map `by` elements further on."""
    return v if by == 0 else view(v.shape, v.strides, v.offset + by)


def lowered(lowering, group, write) -> list[Call]:
    """The calls of a group: those of an equal one under its own names, or `write(group)`."""
    shape = Shape(lowering, group)
    template = _templates.get(shape.key)
    if template is not None:
        return template.fill(lowering, shape)
    part, check = len(lowering.parts), len(lowering.checks)
    calls = write(group)
    if len(_templates) > 4096:
        _templates.clear()
    _templates[shape.key] = Template(shape, calls, lowering.parts[part:], lowering.checks[check:], part, check)
    return calls
