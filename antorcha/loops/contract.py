"""A contraction group as a loop program: operands read while packing, the epilogue on the finished sum."""

from __future__ import annotations

import math

from ..base import dtype as dt
from ..targets.blocking import fitted
from . import index, ir
from .element import Elements, views_of
from .view import View, view
from .writer import Call, decode


def contraction(lowering, group) -> list[Call]:
    fusion = lowering.fusion
    n = fusion.nodes[group.root]
    nb, nm, nn, nk = n.static.dims
    va, vb = n.views
    shape = {"b": va.shape[:nb], "m": va.shape[nb:nb + nm], "n": vb.shape[nb:nb + nn], "k": va.shape[nb + nm:]}

    # One domain for all: b, m, n as the group has refined them, then k.
    dims: list[tuple[str, int]] = []
    rest = list(group.domain)
    for label in "bmn":
        total = 1
        for s in shape[label]:
            total *= s
        while total > 1:
            dims.append((label, rest[0]))
            total //= rest.pop(0)
    dims += [("k", s) for s in shape["k"] if s != 1]
    domain = tuple(s for _, s in dims)
    columns = {label: [d for d, (has, _) in enumerate(dims) if has == label] for label in "bmnk"}

    elements = Elements(fusion, group, lowering.buffer_of)
    own = [d for label in "bmn" for d in columns[label]]
    stores = lowering.stores(group, elements)
    if fusion.stored[group.root]:
        root = elements.get(n, group.at[group.root])
        if all(s[0] is not root for s in stores):
            stores.append((root, lowering.buffer_of(n), n.dtype, group.at[group.root]))

    # Operands keep elements of their own: their domains differ from that of the result.
    sides = []
    for j, (v, labels) in enumerate(((va, "bmk"), (vb, "bnk"))):
        mine = [d for label in labels for d in columns[label]]
        small = index.split(index.squeeze(v), tuple(domain[d] for d in mine))
        source = n.inputs[j]
        operand = Elements(fusion, group, lowering.buffer_of)
        element = operand.get(source, small) if v is not None else operand.number(n, j)
        sides.append((operand, element, mine))

    spread = {}     # (whose, view) -> the view over all dimensions
    for whose, roots, mine in ((0, [sides[0][1]], sides[0][2]), (1, [sides[1][1]], sides[1][2]), (2, [s[0] for s in stores], own)):
        for v in views_of(roots):
            spread[whose, v] = _spread(v, mine, domain)
    at = [_spread(s[3], own, domain) for s in stores]
    walls = tuple(c[0] for c in columns.values() if c)
    groups = index.merge(domain, list(spread.values()) + at, walls)
    coarse = {v: index.coarse(v, groups) for v in list(spread.values()) + at}
    for whose, elems in enumerate((sides[0][0], sides[1][0], elements)):
        for e in _all(elems):
            if e.view is not None and (whose, e.view) in spread:
                e.view = coarse[spread[whose, e.view]]

    w = lowering.writer()
    letters: dict[str, list] = {label: [] for label in "bmnk"}
    for g in groups:
        label = dims[g[0]][0]
        size = 1
        for d in g:
            size *= domain[d]
        name = f"{label}{len(letters[label])}"
        letters[label].append((name, w.extent(name, size)))
        w.coords.append(ir.index(name))
    for label in "mnk":     # a target may count on one loop of each
        if not letters[label]:
            letters[label].append((f"{label}0", ir.integer(1)))
    w.wall = 0
    dtype = n.static.casts[0]
    operands = []
    for (_, element, _), cast in zip(sides, n.static.casts):
        w.ops = {}
        operands.append(w.expression(element).cast(dtype) if element.kind != "number" else w.number(element, cast))
    w.ops = {}
    body: list = []
    for (element, buffer, d, _), v in zip(stores, at):
        value = w.expression(element)
        w.flush(body)
        body.append(w.put(buffer, d, coarse[v], value))
    if not tiled(dtype):
        return [w.finish([plain(letters, operands, body, dtype)], group)]
    sizes = [math.prod(domain[d] for d in g) for g in groups]
    last = {dims[g[0]][0]: i for i, g in enumerate(groups)}
    windows = [label for label, (_, element, _) in zip("mn", sides)
               if all(_windows(v, sizes, last, label) for v in views_of([element]))]
    within = tuple(pair for pair in n.static.within if all(len(letters[label]) == 1 for label in pair))
    c = ir.Contraction(*(tuple(letters[label]) for label in "bmnk"), *operands, tuple(body), dtype, windows[0] if len(windows) == 1 else "",
                       within=within, beyond=group.beyond)
    if not lowering.fusion.gpu:
        c = fitted(c, *(math.prod(shape[label]) for label in "mnk"))
    return [w.finish([ir.contract(c)], group)]


def _windows(v: View, sizes: list[int], last: dict, label: str) -> bool:
    """Whether places of an operand overlap along its own dims and along k, and those along its own lie in longer runs."""
    if label not in last or "k" not in last:
        return False
    mine, k = last[label], last["k"]
    return v.strides[mine] == 1 and 0 < v.strides[k] < sizes[mine] and sizes[mine] > sizes[k]


def tiled(dtype) -> bool:
    """Whether the targets have a micro-kernel for this dtype."""
    return dtype.kind == "f"


def plain(letters: dict, operands: list, body: list, dtype) -> ir.Op:
    """One sum per parallel iteration: for integers."""
    outer = letters["b"] + letters["m"] + letters["n"]
    count = ir.integer(1)
    for _, extent in outer:
        count = count * extent
    place = dict(zip((name for name, _ in outer), decode(ir.index("p"), [extent for _, extent in outer])))
    a, b = (substitute(e, place, {}) for e in operands)
    statements = [ir.update("acc", (a & b) if dtype is dt.bool_ else a * b)]
    kind = "vector"
    for name, extent in reversed(letters["k"]):
        statements = [ir.loop(name, kind, extent, *statements)]
        kind = "serial"
    memo: dict = {}
    after = [ir.Op(s.kind, None, tuple(substitute(x, place, memo) for x in s.args), s.attr) for s in body]
    return ir.loop("p", "parallel", count, ir.accumulator("acc", "sum", ir.const(0, dtype)), *statements, *after)


def substitute(e: ir.Op, place: dict, memo: dict) -> ir.Op:
    """An expression with some indices replaced."""
    found = memo.get(id(e))
    if found is None:
        if e.kind == "index":
            found = place.get(e.attr, e)
        elif e.args:
            found = ir.Op(e.kind, e.dtype, tuple(substitute(a, place, memo) for a in e.args), e.attr)
        else:
            found = e
        memo[id(e)] = found
    return found


def _spread(v: View, mine: list, domain: tuple) -> View:
    strides = [0] * len(domain)
    for d, t in zip(mine, v.strides):
        strides[d] = t
    return view(domain, tuple(strides), v.offset)


def _all(elements: Elements):
    for e in elements.memo.values():
        yield e
        for a in e.args:
            if a.kind == "coordinate":
                yield a
