"""Blocks of a chain whose rows are too long for shared memory, gone through tile by tile along their longest dimension (attention's keys).

A value of a block is one of

    column    it has the long dimension: scores, probabilities. Of it there is one tile at a time.
    row       it has not: queries, statistics. Some are sums of columns over the long dimension, and known once all tiles are done.

So a block is computed in stages: rows; all tiles, adding up sums; rows made of these sums; all tiles again, with columns computed anew;
and so on. A column that needs the sum of columns belongs to a later pass through the tiles, with two exceptions that bring softmax into
one pass (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022):

    exp(x - m), where m is the largest x, is computed with the largest so far; what has been added up is multiplied by
    exp(m before - m now) whenever that grows
    a factor that is the same for the whole row is left to the finished sum

A tile that a mask hides whole adds nothing: its scores are -inf, so their exponentials and all that is proportional to them are 0. Where
what hides scores is in memory (`Check`), a tile begins with a look at that, and what adds nothing is not computed.

`Tiling` finds out which values are of which kind and makes the small graphs of all stages. `Refused`: a block that cannot be tiled.
"""

from __future__ import annotations

from typing import NamedTuple

from ..base import dtype as dt
from ..loops import ir, math
from ..loops.body import OUTSIDE, Body, Held, Stage
from ..loops.view import View, dense, ordered, row_major, view
from .group import size
from .node import Node, Static, leaf

FLOOR = -3.0e38     # less than any score, and finite: exp(-inf - FLOOR) is 0, not NaN


class Refused(Exception):
    """Why a block cannot be computed in tiles."""


class Early(NamedTuple):
    """How a column is known but for factors while the largest element `largest` of the row is still being looked for: in pass `at`; it
    must be multiplied or divided by `factors` ((kind, row) ...). `carrier`: the input that is such a column (-1: the column is the
    exponential itself); `left`: all that the node does is one of the factors."""

    at: int
    largest: int
    factors: tuple = ()
    carrier: int = -1
    left: bool = False


class Check(NamedTuple):
    """That the pointwise node `number` is `value` (-inf or 0) wherever its input `column` is 0 times something, or whatever that input is:
    to be seen from its other inputs, which are memory and numbers."""

    number: int
    column: int
    value: float


class Gone(NamedTuple):
    """A column that is `value` in a tile in which all `checks` hold everywhere."""

    value: float
    checks: frozenset = frozenset()


class _Operator:
    """An operator of the stages' own."""

    uses_index, complex = False, None

    def __init__(self, name: str, scalar, family: str = "pointwise", combine: str = ""):
        self.name, self.scalar, self.family, self.combine = name, scalar, family, combine


SAME = _Operator("same", lambda a: a)
COMBINED = {"sum": _Operator("add", lambda a, b: a + b), "max": _Operator("maximum", ir.maximum), "min": _Operator("minimum", ir.minimum)}
RESCALED = _Operator("rescaled", lambda a, factor, b: a * factor + b)
FACTORS = {"mul": _Operator("mul", lambda a, b: a * b), "div": _Operator("div", lambda a, b: a / b)}
OR = _Operator("logical_or", lambda a, b: a | b)
ANY = _Operator("any", None, "reduction", "any")
_starts: dict = {}
_looks: dict = {}


def _start(combine: str, d) -> _Operator:
    """The operator that gives what a sum begins with."""
    number = {"sum": 0.0, "max": FLOOR, "min": -FLOOR}[combine]
    return _starts.setdefault((number, d), _Operator("start", lambda: ir.const(number, d)))


def _look(op, column: int, value: float) -> _Operator:
    """The operator that tells whether another is not `value` for 0 as its input `column`."""
    def scalar(*given):
        given = list(given)
        given[column] = ir.const(0.0, given[column].dtype)
        e = op.scalar(*given)
        return e.ne(ir.const(value, e.dtype))

    return _looks.setdefault((op, column, value), _Operator("look", scalar))


# -- scalar code ------------------------------------------------------------------------------------------------

def _contains(e: ir.Op, probe: ir.Op) -> bool:
    return e is probe or any(_contains(a, probe) for a in e.args)


def proportional(e: ir.Op, probe: ir.Op) -> bool:
    """Whether an expression is `probe` times something without it."""
    if e is probe:
        return True
    if e.kind in ("cast", "neg"):
        return e.dtype.kind == "f" and proportional(e.args[0], probe)
    if e.kind == "mul":
        a, b = e.args
        return proportional(a, probe) and not _contains(b, probe) or proportional(b, probe) and not _contains(a, probe)
    if e.kind == "div":
        return proportional(e.args[0], probe) and not _contains(e.args[1], probe)
    if e.kind in ("add", "sub"):
        return all(proportional(a, probe) for a in e.args)
    if e.kind == "select":
        return not _contains(e.args[0], probe) and all(a.kind == "const" and a.attr == 0 or proportional(a, probe) for a in e.args[1:])
    return False


def scalar_code(n: Node) -> tuple[ir.Op, list[ir.Op]] | None:
    """(the scalar code of a pointwise node, what stands for its inputs)."""
    probes = [ir.arg(k, d.compute) for k, d in enumerate(n.static.casts)]
    if any(p.dtype.kind == "c" for p in probes):
        return None
    e = n.op.scalar(*probes)
    return (e, probes) if isinstance(e, ir.Op) else None


def _hides(e: ir.Op, probe: ir.Op) -> bool:
    """Whether an expression may be a number in place of `probe`, or that and a number."""
    return e.kind == "select" and not _contains(e.args[0], probe) and sum(a is probe for a in e.args[1:]) == 1 or \
        e.kind == "add" and sum(a is probe for a in e.args) == 1


def _of_rows(v: View, shape: tuple) -> bool:
    """Whether a view reads a row's value of `shape` from everywhere in a longer row."""
    k = len(shape)
    return v.shape[:k] == shape and v.strides == row_major(shape) + (0,) * (len(v.shape) - k) and not v.offset


class Tiling:
    """How a block (a `Body`) is computed in tiles of `width` of its dimension of `keys` elements."""

    def __init__(self, body, keys: int, width: int):
        self.body, self.nodes, self.keys, self.width = body, body.nodes, keys, width
        totals = [n for n, out in zip(body.nodes, body.live) if out and body.windows[id(n)].chunked]
        self.totals = {n.index for n in totals}                 # sums over the rows, added to those of other blocks
        self.crossing = {n.inputs[0].index for n in totals}     # sums over the rows of this block
        count = len(body.nodes)
        self.place: list[int | None] = [None] * count           # the long dimension of a column's shape
        self.row = bytearray(count)
        self.at = [0] * count           # of a column: the pass in which it is known; of a row: how many passes come before
        self.early: list[Early | None] = [None] * count
        self.summed: dict[int, Early | None] = {}               # rows that are sums of columns -> the columns' early form if it serves
        self.gone: list[Gone | None] = [None] * count
        self.order: dict[int, tuple] = {}                       # sums over the rows -> their dimensions, the long one first
        for n in body.nodes:
            self._classify(n)
        self.needed = self._needed()
        self.held: dict[tuple, int] = {}                        # (Held.number, whether it is a sum so far) -> bytes
        self.stages = self._stages()

    # -- kinds --------------------------------------------------------------------------------------------------

    def _long(self, shape: tuple) -> int | None:
        found = [d for d, n in enumerate(shape) if n == self.keys]
        if len(found) > 1:
            raise Refused("two dimensions are of one length")
        return found[0] if found else None

    def _classify(self, n: Node) -> None:
        i = n.index
        place = self.place[i] = self._long(n.shape)
        views = [(s, v) for s, v in zip(n.inputs, n.views) if isinstance(s, Node)]
        columns = [v for s, v in views if self._checked(s, v)]
        if n.op.uses_index or n.op.family not in ("pointwise", "reduction", "contraction"):
            raise Refused(f"{n.op.name} needs to know where in the row it is")
        self.at[i] = before = max((self.at[s.index] for s, _ in views if s.buffer is None), default=0)
        self.row[i] = place is None and i not in self.crossing and i not in self.totals
        if place is not None and self.body.live[i] and i not in self.totals:
            raise Refused(f"{n.op.name} is wanted whole")
        ends = n.static.dims[3] if n.op.family == "contraction" else n.static.reduced if n.op.family == "reduction" else 0
        if place is not None and ends and any(self._long(v.shape[-ends:]) is not None for _, v in views):
            raise Refused("two dimensions are of one length")
        if not self.row[i]:
            if place is not None and n.op.family == "pointwise" and i not in self.totals:
                self.early[i] = self._early(n)
                self.gone[i] = self._gone(n)
            elif i in self.crossing and place is not None:
                self._put_first(n)
        elif columns:
            if n.op.family == "pointwise" or n.op.family == "reduction" and n.op.combine not in COMBINED or n.dtype.kind != "f":
                raise Refused(f"{n.op.name} picks from a column")
            early = self.summed[i] = self._early_sum(n)
            self.at[i] = (before if early is None else early.at) + 1

    def _checked(self, s: Node, v: View) -> bool:
        """Whether a view reads a column. Refused if it does so in another way than along the long dimension."""
        d = self._long(v.shape)
        if s.buffer is not None:
            return d is not None
        place = self.place[s.index]
        if place is None:
            if d is not None and v.strides[d]:
                raise Refused("a row is read along the long dimension")
            return False
        if d is None or v.strides[d] != size(s.shape[place + 1:]):
            raise Refused("part of a column is read")
        self._narrowed(v, s.shape, place, self.width)
        return True

    def _narrowed(self, v: View, shape: tuple, place: int, width: int) -> View:
        """The view that reads of a tile what `v` reads of the column (of `shape`, long in dimension `place`)."""
        inner = size(shape[place + 1:])
        whole = inner * self.keys
        strides = []
        for n, t in zip(v.shape, v.strides):
            if abs(t) >= whole and t % whole or inner < abs(t) < whole or (abs(t) == inner and n not in (self.keys, 1)):
                raise Refused("dimensions are read together")
            strides.append(t // whole * inner * width if abs(t) >= whole else t)
        if v.offset % whole >= inner:
            raise Refused("part of a column is read")
        return view(self._cut(v.shape, width), tuple(strides), v.offset // whole * inner * width + v.offset % whole)

    def _cut(self, shape: tuple, width: int) -> tuple:
        return tuple(width if n == self.keys else n for n in shape)

    # -- what masks hide ----------------------------------------------------------------------------------------

    def _gone(self, n: Node) -> Gone | None:
        """When a pointwise column is 0 or -inf in a whole tile."""
        code = scalar_code(n)
        if code is None or n.dtype.kind != "f":
            return None
        e, probes = code
        inner = [j for j, s in enumerate(n.inputs) if isinstance(s, Node) and s.buffer is None and self.place[s.index] is not None]
        known = {j: self.gone[n.inputs[j].index] for j in inner if n.views[j].dense and n.inputs[j].shape == n.shape}
        for j, gone in known.items():
            if gone is not None and gone.value == 0 and proportional(e, probes[j]):
                return gone
            if gone is not None and gone.value < 0 and e.kind == "sub" and e.args[0] is probes[j]:     # what is taken away is finite
                return gone
            if gone is not None and gone.value < 0 and n.op.scalar is math.exp:
                return gone._replace(value=0.0)
        if len(inner) != 1 or any(s.buffer is None for k, s in enumerate(n.inputs) if k not in inner and isinstance(s, Node)):
            return None
        (j,) = inner
        if not any(isinstance(s, Node) for k, s in enumerate(n.inputs) if k != j) or not _hides(e, probes[j]):
            return None
        before = known.get(j)
        if before is not None and before.value == 0:
            return Gone(0.0, before.checks | {Check(n.index, j, 0.0)})
        return Gone(float("-inf"), frozenset([Check(n.index, j, float("-inf"))]))

    def checks(self, sums: list[int], totals: list[int]) -> list[Check]:
        """What must hold in a tile that adds nothing to any sum; none if that cannot be told."""
        found: set[Check] = set()
        for i in (*sums, *(self.nodes[i].inputs[0].index for i in totals)):
            n = self.nodes[i]
            largest = n.op.family == "reduction" and n.op.combine == "max"
            if n.op.family == "reduction" and n.op.combine not in ("max", "sum"):
                return []
            given = [self.gone[s.index] for s in n.inputs if isinstance(s, Node) and s.buffer is None]
            gone = next((g for g in given if g is not None and (g.value < 0 if largest else g.value == 0)), None)
            if gone is None:
                return []
            found |= gone.checks
        return sorted(found)

    # -- columns known but for factors ----------------------------------------------------------------------------

    def _early(self, n: Node) -> Early | None:
        return self._exponential(n) or self._carried(n)

    def _exponential(self, n: Node) -> Early | None:
        """exp(x - the largest x)."""
        if n.op.scalar is not math.exp or not isinstance(n.inputs[0], Node) or n.inputs[0].buffer is not None:
            return None
        d = n.inputs[0]
        code = scalar_code(d) if d.op.family == "pointwise" and len(d.inputs) == 2 else None
        if code is None or code[0].kind != "sub" or code[0].args != tuple(code[1]) or not (n.views[0].dense and d.views[0].dense):
            return None
        x, m = d.inputs
        if not all(isinstance(s, Node) and s.buffer is None for s in (x, m)) or m.index not in self.summed:
            return None
        if not _of_rows(d.views[1], m.shape) or m.op.family != "reduction" or m.op.combine != "max" or m.inputs[0] is not x:
            return None
        if self.at[m.index] != self.at[x.index] + 1:
            return None
        return Early(self.at[x.index], m.index)

    def _carried(self, n: Node) -> Early | None:
        """A column times what is known, or times rows that are not yet."""
        code = scalar_code(n)
        for j, (s, v) in enumerate(zip(n.inputs, n.views) if code else ()):
            early = self.early[s.index] if isinstance(s, Node) and s.buffer is None else None
            if early is None or not v.dense or s.shape != n.shape or not proportional(code[0], code[1][j]):
                continue
            others = [k for k, o in enumerate(n.inputs) if k != j and isinstance(o, Node) and o.buffer is None]
            late = [k for k in others if self.at[n.inputs[k].index] > early.at]
            if not late:
                return early._replace(carrier=j, left=False)
            k, e = late[0], code[0]
            other = n.inputs[k]
            ends = (code[1][j], code[1][k])
            if len(late) == 1 and self.row[other.index] and _of_rows(n.views[k], other.shape) and \
                    (e.args == ends and e.kind in FACTORS or e.args == ends[::-1] and e.kind == "mul"):
                return early._replace(factors=(*early.factors, (e.kind, other.index)), carrier=j, left=True)
        return None

    def _early_sum(self, n: Node) -> Early | None:
        """The early form of a column that is summed, if it comes sooner than the column and its factors fit the sum."""
        if n.op.family == "reduction" and n.op.combine != "sum":
            return None
        known = [(self.early[s.index] if isinstance(s, Node) and s.buffer is None else None) for s in n.inputs]
        carriers = [j for j, e in enumerate(known) if e is not None]
        if len(carriers) != 1:
            return None
        early = known[carriers[0]]._replace(carrier=carriers[0], left=False)
        others = [s for j, s in enumerate(n.inputs) if j != early.carrier and isinstance(s, Node) and s.buffer is None]
        shapes = [self.nodes[early.largest].shape, *(self.nodes[f].shape for _, f in early.factors)]
        if self.at[n.inputs[early.carrier].index] <= early.at or any(self.at[s.index] > early.at for s in others) or \
                any(n.shape[:len(shape)] != shape for shape in shapes):
            return None
        return early

    def _put_first(self, n: Node) -> None:
        """The order of dimensions in which a sum over the rows has the long one first: its tiles then follow each other in memory."""
        place = self.place[n.index]
        if n.op.family == "contraction":
            nb, nm, nn, _ = n.static.dims
            if nb:
                raise Refused("a sum over the rows has a batch")
            sides = [list(range(nm)), list(range(nm, nm + nn))]
            if place >= nm:
                sides.reverse()
            sides[0].remove(place)
            self.order[n.index] = (place, *sides[0], *sides[1])
        else:
            self.order[n.index] = (place, *(d for d in range(len(n.shape)) if d != place))

    def _needed(self) -> bytearray:
        needed = bytearray(self.body.live)
        for n in reversed(self.nodes):
            if needed[n.index]:
                for s in n.inputs:
                    if isinstance(s, Node) and s.buffer is None:
                        needed[s.index] = 1
        return needed

    # -- stages -------------------------------------------------------------------------------------------------

    def _stages(self) -> list[Stage]:
        sums = {i: self.at[i] - 1 for i in self.summed if self.needed[i]}
        totals = {i: self.at[i] for i in self.totals if self._of_tiles(i)}
        passes = 1 + max([*sums.values(), *totals.values()], default=-1)
        if not passes:
            raise Refused("nothing is summed along the long dimension")
        tiles, rest = divmod(self.keys, self.width)
        wanted: set[int] = set()        # rows that later stages read
        stages: list[Stage] = []
        for p in range(passes, -1, -1):
            mine = [i for i, at in sums.items() if at == p]
            if p < passes:
                widths = [self.width] * (tiles > 0) + [rest] * (rest > 0)
                whole = [i for i, at in totals.items() if at == p]
                made = [_Builder(self, p, w, wanted).tile(mine, whole) for w in widths]
                checks = self.checks(mine, whole)
                looks = [_Builder(self, p, w, wanted).look(checks) for w in widths] if checks else []
                stages.append(Stage(made, tiles, looks))
            out = [i for i, live in enumerate(self.body.live) if live and self.at[i] == p and i not in totals]
            stages.append(Stage([_Builder(self, p, 0, wanted).rows(out, sorted(i for i in wanted if self.at[i] == p), mine)]))
        return [s for s in stages[::-1] if s.bodies[0].nodes]

    def _of_tiles(self, i: int) -> bool:
        """Whether a sum over the rows is one of columns."""
        n = self.nodes[i].inputs[0]
        return any(self._long(v.shape) is not None for v in n.views if v is not None)


class _Builder:
    """Makes the graph of one stage: of a tile of `width` in pass `p`, or (`width` 0) of the rows before it. `wanted`: rows that are read
    from memory, which this adds to."""

    def __init__(self, tiling: Tiling, p: int, width: int, wanted: set):
        self.t, self.p, self.width, self.wanted = tiling, p, width, wanted
        self.nodes: list[Node] = []
        self.live: list[bool] = []
        self.windows: dict = {}
        self.origin: dict[int, int] = {}
        self.made: dict = {}
        self.leaves: dict = {}
        self.running: dict[int, Node] = {}      # largest elements so far

    def done(self) -> Body:
        return Body(self.nodes, self.live, self.windows, self.origin)

    def add(self, op, inputs: tuple, views: tuple, static: Static, shape: tuple, dtype, old: Node | None = None) -> Node:
        n = Node.of(op, inputs, views, static, shape, size(shape), dtype)
        n.index = len(self.nodes)
        self.nodes.append(n)
        self.live.append(False)
        if old is not None:
            self.origin[n.index], n.where = self.t.body.origin[old.index], old.where
        return n

    def keep(self, n: Node, window) -> None:
        """Leave a node's value in memory."""
        if self.live[n.index]:      # somewhere else already
            n = self.add(SAME, (n,), (dense(n.shape),), Static(casts=(n.dtype,)), n.shape, n.dtype)
        self.live[n.index] = True
        self.windows[id(n)] = window

    def outside(self, key, numel: int, dtype, window) -> Node:
        """Memory that was there before."""
        if key not in self.leaves:
            self.leaves[key] = n = leaf(OUTSIDE, numel, dtype)
            self.windows[id(n)] = window
        return self.leaves[key]

    def state(self, n: Node, which: str) -> Node:
        """The sum so far of a row."""
        return self.outside((n.index, which), n.numel, n.static.casts[0], Held(n.index, which))

    # -- rows ---------------------------------------------------------------------------------------------------

    def rows(self, out: list[int], kept: list[int], begun: list[int]) -> Body:
        t = self.t
        for i in out:
            n = t.nodes[i]
            self.keep(self.total(n, 0) if i in t.totals else self.row(n), t.body.windows[id(n)])
        for i in kept:
            n = t.nodes[i]
            t.held[i, False] = n.numel * n.dtype.itemsize
            self.keep(self.row(n), Held(i))
        for i in begun:
            n = t.nodes[i]
            d = n.static.casts[0]
            t.held[i, True] = n.numel * d.itemsize
            start = _start(n.op.combine if n.op.family == "reduction" else "sum", d)
            self.keep(self.add(start, (), (), Static(), n.shape, d), Held(i, "begin"))
        return self.done()

    def row(self, n: Node) -> Node:
        """A row: from memory, if another stage has made it."""
        t = self.t
        if t.at[n.index] < self.p or self.width:
            self.wanted.add(n.index)
            return self.outside((n.index, "value"), n.numel, n.dtype, Held(n.index))
        found = self.made.get(n.index)
        if found is None:
            found = self.made[n.index] = self.finished(n) if n.index in t.summed else self.copied(n)
        return found

    def finished(self, n: Node) -> Node:
        """A sum, now that all tiles are done, with the factors that were left to it."""
        d = n.static.casts[0]
        value, early = self.state(n, "end"), self.t.summed[n.index]
        factors = early.factors if early else ()
        for k, (kind, f) in enumerate(factors):
            row = self.row(self.t.nodes[f])
            spread = self._spread(self.t.nodes[f].shape, n.shape)
            last = n.dtype if k + 1 == len(factors) else d
            value = self.add(FACTORS[kind], (value, row), (dense(n.shape), spread), Static(casts=(d, d)), n.shape, last)
        return value if factors else self.add(SAME, (value,), (dense(n.shape),), Static(casts=(d,)), n.shape, n.dtype)

    @staticmethod
    def _spread(rows: tuple, shape: tuple) -> View:
        return view(shape, row_major(rows) + (0,) * (len(shape) - len(rows)))

    # -- tiles --------------------------------------------------------------------------------------------------

    def tile(self, sums: list[int], totals: list[int]) -> Body:
        t = self.t
        largest = {e.largest for e in (t.summed[i] for i in sums) if e is not None}
        for i in sorted(largest) + [i for i in sums if i not in largest]:
            self.added(t.nodes[i])
        for i in totals:
            n = t.nodes[i]
            self.keep(self.total(n, self.width), t.body.windows[id(n)].tiled(self._step(n)))
        return self.done()

    def look(self, checks: list[Check]) -> Body:
        """For every row of the block, whether something in this tile is not hidden."""
        t, found = self.t, None
        for number, column, value in checks:
            n = t.nodes[number]
            pairs = [self.read(s, v) for j, (s, v) in enumerate(zip(n.inputs, n.views)) if j != column]
            unread = next(pair for pair in pairs if isinstance(pair[0], Node))
            pairs.insert(column, unread)
            shape = t._cut(n.shape, self.width)
            new = self.add(_look(n.op, column, value), tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), n.static, shape, dt.bool_, n)
            both = (dense(shape),) * 2
            found = new if found is None else self.add(OR, (found, new), both, Static(casts=(dt.bool_,) * 2), shape, dt.bool_)
        shape = found.shape
        seen = self.add(ANY, (found,), (dense(shape),), Static(casts=(dt.bool_,), reduced=len(shape) - 1), shape[:1], dt.bool_)
        held = Held(len(t.nodes) + self.p)
        t.held[held.number, False] = seen.numel
        self.keep(seen, held)
        return self.done()

    def _step(self, n: Node) -> int:
        """Elements from one tile of a sum over the rows to the next."""
        return self.t.width * n.numel // self.t.keys if self.t.place[n.index] is not None else 0

    def added(self, n: Node) -> None:
        """A sum along the long dimension goes on by a tile."""
        if n.index in self.running:
            return
        t, early, d = self.t, self.t.summed[n.index], n.static.casts[0]
        inputs, views = [], []
        for j, (s, v) in enumerate(zip(n.inputs, n.views)):
            value, v = self.read(s, v, early is not None and j == early.carrier)
            inputs.append(value)
            views.append(v)
        part = self.add(n.op, tuple(inputs), tuple(views), n.static, n.shape, d, n)
        whole, old = dense(n.shape), self.state(n, "old")
        if early is None:
            combine = n.op.combine if n.op.family == "reduction" else "sum"
            new = self.add(COMBINED[combine], (old, part), (whole, whole), Static(casts=(d, d)), n.shape, d)
        else:
            factor = self.rescaling(early.largest)
            spread = self._spread(t.nodes[early.largest].shape, n.shape)
            new = self.add(RESCALED, (old, factor, part), (whole, spread, whole), Static(casts=(d, d, d)), n.shape, d)
        self.keep(new, Held(n.index, "new"))
        self.running[n.index] = new

    def rescaling(self, i: int) -> Node:
        """exp(the largest element before - the largest now)."""
        found = self.made.get(("rescaling", i))
        if found is None:
            m = self.t.nodes[i]
            exp = next(n for n in self.t.nodes if (e := self.t.early[n.index]) is not None and e.largest == i and e.carrier < 0)
            minus, whole = exp.inputs[0], dense(m.shape)
            lower = self.add(minus.op, (self.state(m, "old"), self.running[i]), (whole, whole), minus.static, m.shape, minus.dtype)
            found = self.made["rescaling", i] = self.add(exp.op, (lower,), (whole,), exp.static, m.shape, exp.dtype)
        return found

    def column(self, n: Node, early: bool) -> Node:
        """A tile of a column; `early`: with what is known of the row so far, but for the factors that are left to sums."""
        found = self.made.get((n.index, early))
        if found is None:
            found = self.made[n.index, early] = self._early(n, self.t.early[n.index]) if early else self.copied(n)
        return found

    def _early(self, n: Node, e: Early) -> Node:
        if e.carrier < 0:
            minus = n.inputs[0]
            m = self.t.nodes[e.largest]
            x, v = self.read(minus.inputs[0], minus.views[0])
            self.added(m)
            shape = self.t._cut(minus.shape, self.width)
            lower = self.add(minus.op, (x, self.running[e.largest]), (v, self._spread(m.shape, shape)), minus.static, shape, minus.dtype)
            return self.add(n.op, (lower,), (dense(shape),), n.static, shape, n.dtype)
        if not e.left:
            return self.copied(n, e.carrier)
        value = self.column(n.inputs[e.carrier], True)
        if value.dtype is n.dtype:
            return value
        return self.add(SAME, (value,), (dense(value.shape),), Static(casts=(n.static.casts[e.carrier],)), value.shape, n.dtype)

    def copied(self, n: Node, carrier: int = -1) -> Node:
        """A node for a tile, or for rows. `carrier`: the input that is read in its early form."""
        pairs = [self.read(s, v, j == carrier) for j, (s, v) in enumerate(zip(n.inputs, n.views))]
        shape = self.t._cut(n.shape, self.width) if self.t.place[n.index] is not None else n.shape
        return self.add(n.op, tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), n.static, shape, n.dtype, n)

    def read(self, s, v: View, early: bool = False) -> tuple:
        """An input and its view, in this stage."""
        t = self.t
        if not isinstance(s, Node):
            return s, v
        d = t._long(v.shape)
        cut = view(t._cut(v.shape, self.width), v.strides, v.offset) if d is not None else v
        if s.buffer is not None:
            window = t.body.windows[id(s)]
            step = v.strides[d] * t.width if d is not None else 0
            return self.outside((id(s), step), s.numel, s.dtype, window.tiled(step)), cut
        if t.row[s.index]:
            return self.row(s), cut
        place = t.place[s.index]
        return self.column(s, early), t._narrowed(v, s.shape, place, self.width)

    def total(self, n: Node, width: int) -> Node:
        """A sum over the rows, added to those of the blocks before."""
        t, old = self.t, n.inputs[0]
        order = t.order.get(old.index)
        part = self.copied(old)
        if order is not None:
            part = self._reordered(part, old, order)
        held, window = n.inputs[1], t.body.windows[id(n)]
        held = self.outside((id(held), "total"), held.numel, held.dtype, window.tiled(self._step(n)))
        whole = dense(part.shape)
        return self.add(n.op, (part, held), (whole, whole), n.static, part.shape, n.dtype, n)

    def _reordered(self, part: Node, old: Node, order: tuple) -> Node:
        """A sum over the rows with its long dimension first."""
        shape = tuple(part.shape[d] for d in order)
        if old.op.family == "contraction":
            _, nm, nn, nk = old.static.dims
            sides, dims = list(zip(part.inputs, part.views)), (nm, nn)
            ranges = [list(range(nm)), list(range(nm, nm + nn))]
            if order[0] >= nm:
                sides, dims, ranges = sides[::-1], dims[::-1], ranges[::-1]
            placed = [[d - r[0] for d in order if d in r] for r in ranges if r] if all(ranges) else [[d for d in order], []]
            views = tuple(ordered(v, p + list(range(len(p), len(v.shape)))) for (_, v), p in zip(sides, placed))
            static = old.static._replace(dims=(0, *dims, nk))
            new = Node.of(old.op, tuple(s for s, _ in sides), views, static, shape, part.numel, part.dtype)
        else:
            kept = len(shape)
            v = ordered(part.views[0], [*order, *range(kept, len(part.views[0].shape))])
            new = Node.of(old.op, part.inputs, (v,), old.static, shape, part.numel, part.dtype)
        new.index, new.where = part.index, part.where
        self.nodes[part.index] = new
        return new
