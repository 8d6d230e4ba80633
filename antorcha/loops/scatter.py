"""Scatters and scans as loop programs.

A scatter runs in parallel over the dimensions of its region that no index moves (their elements are distinct) and
in order over the others, so colliding updates are combined in the same order always, and the last "set" wins.
"""

from __future__ import annotations

from ..base import dtype as dt
from . import index, ir
from .blocks import Blocks, coarsen, product, rewrite, vector
from .element import Elements, views_of
from .view import View, dense, ordered, row_major, view
from .writer import INT, Call, Writer, combined, decode, identity

COLUMNS = 64
PLANE = 1 << 14     # elements that stay in cache between being copied and being updated
PLANES = 16         # enough to keep threads busy


def scatter(lowering, group) -> list[Call]:
    n = lowering.fusion.nodes[group.root]
    if not n.static.region.numel:
        return [] if group.root in lowering.in_place else [copy(lowering, group, n)]
    update = Updates(lowering, group, n)
    if group.root in lowering.in_place or _unread(n):
        return [update.write()]
    plane = update.plane()
    return [update.write(plane)] if plane else [copy(lowering, group, n), update.write()]


def _unread(n) -> bool:
    """Whether the old value is nothing, which this scatter and others write over."""
    return n.views[0] is not None and n.inputs[0].buffer is None and n.inputs[0].op.unread


def copy(lowering, group, n) -> Call:
    """The old value, whole."""
    domain = index.domain_of((n.numel,))
    elements = Elements(lowering.fusion, group, lowering.buffer_of)
    v = dense(domain)
    element = _old(elements, n, v)
    table = coarsen(domain, list(dict.fromkeys([*views_of([element]), v])), ())
    rewrite(elements, table)
    w = lowering.writer()
    loops = Blocks(w, table[v].shape)
    value = _written(w, n, element)
    body: list = []
    w.flush(body)
    body.append(w.put(lowering.buffer_of(n), n.dtype, table[v], value))
    return w.finish([loops.around(loops.inside(body))], group)


class Updates:
    """The region of a scatter, ordered so that dimensions along which no two updates meet come first: they are parallel."""

    def __init__(self, lowering, group, n):
        self.lowering, self.group, self.n = lowering, group, n
        self.region = region = index.squeeze(n.static.region)
        domain = region.shape
        self.elements = elements = Elements(lowering.fusion, group, lowering.buffer_of)

        def input_at(j):
            if n.views[j] is None:
                return elements.number(n, j)
            return elements.get(n.inputs[j], index.squeeze(n.views[j]))

        self.value, self.picks = input_at(1), [input_at(j) for j in range(2, len(n.inputs))]
        apart = range(len(domain)) if n.static.combine == "set" else distinct(region)
        free = [d for d in range(len(domain)) if (region.strides[d] if self.picks else d in apart)]
        order = free + [d for d in range(len(domain)) if d not in free]
        views = list(dict.fromkeys([*views_of([self.value, *self.picks]), region]))
        permuted = {v: ordered(v, order) for v in views}
        wall = len(free)
        groups = index.merge(tuple(domain[d] for d in order), list(permuted.values()), (wall,))
        table = {v: index.coarse(p, groups) for v, p in permuted.items()}
        rewrite(elements, table)
        self.at = table[region]
        self.parallel = sum(1 for g in groups if g[0] < wall)
        self.w = lowering.writer()
        self.buffer = lowering.buffer_of(n)
        self.w.inout.add(self.buffer)

    def plane(self) -> int:
        """Elements of the old value that one step along the first dimension updates alone, or 0: they may be copied just before."""
        n, at = self.n, self.at
        if self.lowering.fusion.gpu or not self.parallel or at.shape[0] < PLANES:
            return 0
        plane = at.strides[0]
        if not 0 < plane <= PLANE or plane * at.shape[0] != n.numel or any(t < 0 for t in at.strides):
            return 0
        last = at.offset + sum((size - 1) * t for size, t in zip(at.shape[1:], at.strides[1:]))
        last += sum((size - 1) * t for size, t in n.static.picks)
        return plane if last < plane else 0

    def write(self, plane: int = 0) -> Call:
        w, extents, parallel = self.w, self.at.shape, self.parallel
        if parallel == len(extents) and not plane:
            loops = Blocks(w, extents)
            return w.finish([loops.around(loops.inside(self.body()))], self.group)
        sizes = [w.extent(d, s) for d, s in enumerate(extents)]
        p = ir.index("p")
        if plane:
            w.coords = [p] + [ir.index(f"s{d}") for d in range(1, len(extents))]
            body = self.body()
            for d in range(len(extents) - 1, 0, -1):
                inner = vector(extents[d]) if d == len(extents) - 1 == parallel - 1 else "serial"
                body = [ir.loop(f"s{d}", inner, sizes[d], *body)]
            return w.finish([ir.loop("p", "parallel", sizes[0], *self.copied(plane), *body)], self.group)
        names = [ir.index(f"s{d}") for d in range(parallel, len(extents))]
        blocked = parallel and self.at.strides[parallel - 1] == 1
        outer = sizes[:parallel - 1] if blocked else sizes[:parallel]
        count = product(outer)
        if blocked:
            blocks = (sizes[parallel - 1] + ir.integer(COLUMNS - 1)) / ir.integer(COLUMNS)
            count = count * blocks
            body = self.block(decode(p / blocks, outer), ir.rem(p, blocks) * ir.integer(COLUMNS), sizes[parallel - 1], names)
        else:
            w.coords = decode(p, outer) + names
            body = self.body()
        for d in range(len(extents) - 1, parallel - 1, -1):
            body = [ir.loop(f"s{d}", "serial", sizes[d], *body)]
        return w.finish([ir.loop("p", "parallel", count, *body)], self.group)

    def block(self, place: list, first: ir.Op, width: ir.Op, names: list) -> list:
        """Neighbours in memory at once; what all of them go by is looked up before."""
        w, i = self.w, ir.index("i")
        w.coords = place + [first + i] + names
        before: list = []
        if self.picks and all(e.kind == "number" or e.kind == "load" and not e.view.strides[self.parallel - 1] for e in self.picks):
            w.variable("picked", "v", w.picked(self.n, self.picks), before)
        return [*before, ir.loop("i", "vector", ir.minimum(width - first, ir.integer(COLUMNS)), *self.body())]

    def copied(self, plane: int) -> list:
        """The plane p of the old value."""
        w, n, coords = self.w, self.n, self.w.coords
        w.coords, w.ops = [ir.index("p"), ir.index("i")], {}
        v = dense((self.at.shape[0], plane))
        value = _written(w, n, _old(self.elements, n, v))
        body: list = []
        w.flush(body)
        body.append(w.put(self.buffer, n.dtype, v, value))
        w.coords = coords
        return [ir.loop("i", vector(plane), w.extent("plane", plane), *body)]

    def body(self) -> list:
        """One element of the updates."""
        w, n, d = self.w, self.n, self.n.dtype
        offset = w.offset(self.at)
        if self.picks:
            offset = offset + (ir.value(w.variables["picked"], INT) if "picked" in w.variables else w.picked(n, self.picks))
        v = _written(w, n, self.value).cast(d)
        body: list = []
        w.flush(body)
        slot = w.memory(self.buffer, d, self.at.offset, True)
        if n.static.combine != "set":
            v = combined(n.static.combine, ir.load(slot, offset, d), v)
        return body + [ir.store(slot, offset, v)]


def _old(elements: Elements, n, v: View):
    """What a scatter leaves as it was, at `v`."""
    return elements.source(n, 0, v) if n.views[0] is None else elements.get(n.inputs[0], v)


def _written(w: Writer, n, element) -> ir.Op:
    return w.number(element, n.dtype).cast(n.dtype) if element.kind == "number" else w.expression(element)


def distinct(v: View) -> set[int]:
    """Dimensions along which no two elements of a view are the same: their steps are longer than all that lies within."""
    found, reach = set(), 0
    for t, size, d in sorted((abs(t), -size, d) for d, (t, size) in enumerate(zip(v.strides, v.shape))):
        if t > reach or size == -1:
            found.add(d)
            reach += t * (-size - 1)
    return found


def scan(lowering, group) -> list[Call]:
    """A running reduction along the last dimension, for all others in parallel."""
    n = lowering.fusion.nodes[group.root]
    v = n.views[0]
    kept = index.squeeze(view(v.shape[:-1], v.strides[:-1], v.offset))
    last = v.shape[-1]
    domain = kept.shape + (last,)
    source = view(domain, kept.strides + v.strides[-1:], v.offset)
    elements = Elements(lowering.fusion, group, lowering.buffer_of)
    element = elements.get(n.inputs[0], source)
    out = view(domain, row_major(domain) if last > 1 else row_major(kept.shape) + (0,))
    views = list(dict.fromkeys([*views_of([element]), out]))
    groups = index.merge(domain, views, (len(kept.shape),))
    table = {x: index.coarse(x, groups) for x in views}
    rewrite(elements, table)
    w = lowering.writer()
    sizes = [w.extent(k, s) for k, s in enumerate(table[out].shape)]
    w.coords = decode(ir.index("p"), sizes[:-1]) + [ir.index("s")]
    d = n.static.casts[0]
    value = w.expression(element).cast(d)
    body: list = []
    w.flush(body)
    start, body, result = step(n.op.combine, value, d, body)
    body.append(w.put(lowering.buffer_of(n), n.dtype, table[out], result))
    return [w.finish([ir.loop("p", "parallel", product(sizes[:-1]), *start, ir.loop("s", "serial", sizes[-1], *body))], group)]


def step(combine: str, value: ir.Op, d, body: list):
    """(declarations, statements of a step, the running result)."""
    a = ir.value("a", d)
    if combine.startswith("arg"):
        w, s = ir.value("w", INT), ir.index("s")
        better = ~(value < a) if combine == "argmax" else ~(a < value)
        if d.kind == "f":
            better = better & (a.eq(a) | value.ne(value))
        better = better | s.eq(ir.integer(0))
        flag = ir.value("f", dt.bool_)
        start = [ir.accumulator("a", "set", ir.const(0, d)), ir.accumulator("w", "set", ir.integer(0))]
        body = body + [ir.accumulator("f", "set", better), ir.update("w", ir.select(flag, s, w)),
                       ir.update("a", ir.select(flag, value, a))]
        return start, body, w
    if combine == "logsumexp":
        from . import math

        start = [ir.accumulator("a", "set", ir.const(float("-inf"), d))]
        top = ir.maximum(a, value)
        safe = ir.select(ir.absolute(top).eq(float("inf")), ir.const(0.0, d), top)
        new = safe + math.log(math.exp(a - safe) + math.exp(value - safe))
    else:
        start = [ir.accumulator("a", "set", identity(combine, d))]
        new = combined(combine, a, value)
    return start, body + [ir.update("a", new)], a


