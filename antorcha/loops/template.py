"""Lowering once for equal groups: the layers of a network repeat the same kernels, and so do the plans of a program.

What lowering reads of a group is its `Shape`: the nodes it reaches before something loaded from memory, each with its form, place and
index map. Groups of one shape have the same calls but for the names of nodes and buffers, which a shape numbers in the order in
which it meets them. A template is the calls in these numbers.
"""

from __future__ import annotations

from .writer import Call

_templates: dict[tuple, Template] = {}


def clear() -> None:
    """Forget all templates."""
    _templates.clear()


class Shape:
    """`key`: equal for groups with the same calls. `nodes` and `buffers` say what the numbers stand for in this group."""

    def __init__(self, lowering, group):
        self.lowering, self.group = lowering, group
        self.nodes: list = []
        self.buffers: dict = {}
        self._numbers: dict[int, int] = {}
        nodes = lowering.fusion.nodes
        members = tuple([self._number(nodes[i]) for i in group.members])
        root = self._number(nodes[group.root]) if group.root >= 0 else -1
        reductions = tuple([(self._number(nodes[i]), how) for i, how in group.reductions.items()])
        described = []
        for n in self.nodes:    # which grows by what is read
            described.append(self._describe(n))
        self.key = (lowering.fusion.plain, group.kind, group.domain, group.inner, group.outer, members, root, reductions, tuple(described))

    def _number(self, n) -> int:
        if n.buffer is None:
            n = self.lowering.fusion.nodes[n.index]     # it may have been replaced
        found = self._numbers.get(id(n))
        if found is None:
            found = self._numbers[id(n)] = len(self.nodes)
            self.nodes.append(n)
        return found

    def _describe(self, n) -> tuple:
        buffer = self.buffers.setdefault(self.lowering.buffer_of(n), len(self.buffers))
        if n.buffer is not None:
            return n.dtype, buffer
        group, fusion, i = self.group, self.lowering.fusion, n.index
        place = fusion.place[i]
        if place is not None and place is not group and fusion.stored[i] and place.number < group.number:
            return n.dtype, buffer
        inputs = [self._number(s) if v is not None else None for s, v in zip(n.inputs, n.views)]
        return n.form, buffer, place is group, fusion.stored[i], group.at.get(i), i in self.lowering.in_place, tuple(inputs)


class Template:
    """The calls of a shape. `parts`: bytes of the buffers for partial results that they use; `checks` as in Lowering."""

    def __init__(self, shape: Shape, calls: list[Call], parts: list[int], checks: list, first_part: int, first_check: int):
        node = {n.index: k for k, n in enumerate(shape.nodes) if n.buffer is None}
        buffer = dict(shape.buffers)
        buffer.update({("part", first_part + k): ("part", k) for k in range(len(parts))})
        self.parts, self.checks = parts, [(node[i], j, size) for i, j, size in checks]
        self.calls = [_Pattern(c, buffer, node, first_check) for c in calls]

    def fill(self, lowering, shape: Shape) -> list[Call]:
        """The calls for a group of this shape."""
        node = {k: n.index for k, n in enumerate(shape.nodes) if n.buffer is None}
        buffer = dict(enumerate(shape.buffers))
        buffer.update({("part", k): lowering.part(nbytes) for k, nbytes in enumerate(self.parts)})
        first_check = len(lowering.checks)
        lowering.checks += [(node[k], j, size) for k, j, size in self.checks]
        return [c.call(shape, buffer, node, first_check) for c in self.calls]


class _Pattern:
    """A call in a shape's numbers: which of its arguments have names in them, and the rest."""

    def __init__(self, call: Call, buffer: dict, node: dict, first_check: int):
        self.program, self.args = call.program, call.args
        named = [(at, a) for at, a in enumerate(call.args) if a[0] != "int"]
        self.pointers = [(at, buffer[a[1]], a[2]) for at, a in named if a[0] == "ptr"]
        self.numbers = [(at, node[a[1][0]], a[1][1], a[2]) for at, a in named if a[0] == "num"]
        self.status = [(at, a[1] - first_check) for at, a in named if a[0] == "status"]
        self.reads, self.writes = [buffer[b] for b in call.reads], [buffer[b] for b in call.writes]
        self.read_at = [(buffer[b], at) for b, at in call.read_at.items()]
        self.written_at = [(buffer[b], at) for b, at in call.written_at.items()]
        self.checks = [(node[n.index], j, size) for n, j, size in call.checks]

    def call(self, shape: Shape, buffer: dict, node: dict, first_check: int) -> Call:
        """The call under the names of a group; `first_check` is added to the numbers of its checks."""
        args = self.args.copy()
        for at, b, offset in self.pointers:
            args[at] = ("ptr", buffer[b], offset)
        for at, n, j, dtype in self.numbers:
            args[at] = ("num", (node[n], j), dtype)
        for at, check in self.status:
            args[at] = ("status", check + first_check)
        call = Call(self.program, args, shape.group)
        call.reads, call.writes = {buffer[b] for b in self.reads}, {buffer[b] for b in self.writes}
        call.read_at = {buffer[b]: at for b, at in self.read_at}
        call.written_at = {buffer[b]: at for b, at in self.written_at}
        call.checks = [(shape.nodes[k], j, size) for k, j, size in self.checks]
        return call


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
