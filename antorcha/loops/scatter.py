"""Scatters and scans as loop programs.

A scatter runs in parallel over the dimensions of its region that no index moves (their elements are distinct) and
in order over the others, so colliding updates are combined in the same order always, and the last "set" wins.
"""

from __future__ import annotations

from ..base import dtype as dt
from . import index, ir
from .blocks import Blocks, coarsen, product, rewrite
from .element import Elements, views_of
from .view import View, dense, row_major, view
from .writer import INT, Call, Writer, combined, decode, identity

COLUMNS = 64


def scatter(lowering, group) -> list[Call]:
    n = lowering.fusion.nodes[group.root]
    calls = []
    if group.root not in lowering.in_place:
        calls.append(copy(lowering, group, n))
    if n.static.region.numel:
        calls.append(updates(lowering, group, n))
    return calls


def copy(lowering, group, n) -> Call:
    """The old value, whole."""
    base = n.inputs[0]
    domain = index.domain_of((n.numel,))
    elements = Elements(lowering.fusion, group, lowering.buffer_of)
    v = dense(domain)
    element = elements.source(n, 0, v) if n.views[0] is None else elements.get(base, v)
    table = coarsen(domain, list(dict.fromkeys([*views_of([element]), v])), ())
    rewrite(elements, table)
    w = lowering.writer()
    loops = Blocks(w, table[v].shape)
    value = w.number(element, n.dtype).cast(n.dtype) if element.kind == "number" else w.expression(element)
    body: list = []
    w.flush(body)
    body.append(w.put(lowering.buffer_of(n), n.dtype, table[v], value))
    return w.finish([loops.around(loops.inside(body))], group)


def updates(lowering, group, n) -> Call:
    region = index.squeeze(n.static.region)
    domain = region.shape
    elements = Elements(lowering.fusion, group, lowering.buffer_of)

    def input_at(j):
        if n.views[j] is None:
            return elements.number(n, j)
        return elements.get(n.inputs[j], index.squeeze(n.views[j]))

    value, picks = input_at(1), [input_at(j) for j in range(2, len(n.inputs))]
    indexed = bool(picks)
    # dimensions along which no two updates meet come first: they are parallel
    apart = range(len(domain)) if n.static.combine == "set" else distinct(region)
    free = [d for d in range(len(domain)) if (region.strides[d] if indexed else d in apart)]
    order = free + [d for d in range(len(domain)) if d not in free]
    views = list(dict.fromkeys([*views_of([value, *picks]), region]))
    permuted = {v: view(tuple(domain[d] for d in order), tuple(v.strides[d] for d in order), v.offset) for v in views}
    wall = len(free)
    domain = tuple(domain[d] for d in order)
    groups = index.merge(domain, list(permuted.values()), (wall,))
    table = {v: index.coarse(p, groups) for v, p in permuted.items()}
    rewrite(elements, table)
    at = table[region]
    extents = at.shape
    parallel = sum(1 for g in groups if g[0] < wall)
    w = lowering.writer()
    buffer = lowering.buffer_of(n)
    w.inout.add(buffer)
    if parallel == len(extents):
        loops = Blocks(w, extents)
        body = update(w, n, buffer, at, value, picks)
        return w.finish([loops.around(loops.inside(body))], group)
    sizes = [w.extent(d, s) for d, s in enumerate(extents)]
    names = [ir.index(f"s{d}") for d in range(parallel, len(extents))]
    p, i = ir.index("p"), ir.index("i")
    blocked = parallel and at.strides[parallel - 1] == 1
    outer = sizes[:parallel - 1] if blocked else sizes[:parallel]
    count = product(outer)
    if blocked:
        width = sizes[parallel - 1]
        blocks = (width + ir.integer(COLUMNS - 1)) / ir.integer(COLUMNS)
        count = count * blocks
        block = ir.rem(p, blocks) * ir.integer(COLUMNS)
        w.coords = decode(p / blocks, outer) + [block + i] + names
        before: list = []
        if picks and all(e.kind == "number" or e.kind == "load" and not e.view.strides[parallel - 1] for e in picks):
            w.variable("picked", "v", w.picked(n, picks), before)
        body = update(w, n, buffer, at, value, picks)
        body = [*before, ir.loop("i", "vector", ir.minimum(width - block, ir.integer(COLUMNS)), *body)]
    else:
        w.coords = decode(p, outer) + names
        body = update(w, n, buffer, at, value, picks)
    for d in range(len(extents) - 1, parallel - 1, -1):
        body = [ir.loop(f"s{d}", "serial", sizes[d], *body)]
    return w.finish([ir.loop("p", "parallel", count, *body)], group)


def distinct(v: View) -> set[int]:
    """Dimensions along which no two elements of a view are the same: their steps are longer than all that lies within."""
    found, reach = set(), 0
    for t, size, d in sorted((abs(t), -size, d) for d, (t, size) in enumerate(zip(v.strides, v.shape))):
        if t > reach or size == -1:
            found.add(d)
            reach += t * (-size - 1)
    return found


def update(w: Writer, n, buffer, at: View, value, picks) -> list:
    """One element of the updates."""
    d = n.dtype
    offset = w.offset(at)
    if picks:
        offset = offset + (ir.value(w.variables["picked"], INT) if "picked" in w.variables else w.picked(n, picks))
    v = (w.number(value, d) if value.kind == "number" else w.expression(value)).cast(d)
    body: list = []
    w.flush(body)
    slot = w.memory(buffer, d, at.offset, True)
    if n.static.combine != "set":
        v = combined(n.static.combine, ir.load(slot, offset, d), v)
    return body + [ir.store(slot, offset, v)]


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


