"""Which nodes are computed together: the tensor graph, grouped into kernels.

Nodes are visited in recording order. An elementwise node (pointwise, gather) is deferred until another demands its value
(`placing`). All other families are placed at once, in a new group or in an existing one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..loops import index
from ..loops import size as size_module
from ..loops.blocks import LANES
from ..loops.view import View, dense, ordered, view
from ..loops.writer import INTERLEAVED
from .chain import Chain, schedule
from .group import PRODUCT, SUM, Attempt, Group, row_view, size, sum_chunks, wall_of
from .node import Node, Static
from .placing import CHEAP, INFINITE, MEMBERS, NOTHING, SMALL, Placing
from .settling import Place, last_move, place_of

DEFERRED = 48       # longest chain of deferred nodes
WIDEST = 16         # stored values that a deferred node may be made of; kernels of longer sums would differ with their length
ONE_ROW = 16_384    # elements up to which a whole reduction is done by one thread, and its result used in the same kernel
CROSSING = ("sum", "prod", "max", "min", "any", "all")


class Fusion(Placing):
    """The grouping of a tape, after `run`."""

    def run(self) -> Fusion:
        for unit in schedule(self, self.chains) if self.chains else self.recorded:
            if type(unit) is Chain:
                self._chain(unit)
            elif unit.index in self.moved:
                self._complete(unit)
            elif self.needed[unit.index]:
                n = self.nodes[unit.index]      # it may have been replaced
                getattr(self, "_" + n.form.op.family)(n.index, n)
        results = [n for n, live in zip(self.recorded, self.live) if live and n.numel]
        for scalars in (False, True):       # single numbers last: what they are made of is not yet computed beside them
            for n in results:
                if (not n.shape) is scalars:
                    self.materialise(n.index)
        for g in self.groups:
            g.members.sort()
        return self

    def bodies(self) -> Iterator[tuple]:
        """The fusions of the bodies of chains: (fusion, body, chain)."""
        for g in self.groups:
            if g.kind == "chain":
                for stages, _ in g.bodies:
                    for _, *pairs in stages:
                        yield from ((f, body, g.chain) for f, body in (*pairs[0], *pairs[1]))

    def _settle(self, values: list[int], g: Group, may_store: Callable) -> dict[int, Place]:
        """Let values of a group be stored where their readers would put them, if the group can: `may_store(value, index map)`.
        Gives those values, and where they are."""
        found: dict[int, Place] = {}
        for i in sorted(values, key=lambda i: last_move(self, i)) if self.fuse and not self.gpu else ():
            place = place_of(self, i, g)
            if place is None or not may_store(i, place.view):
                continue
            found[i] = place
            self.into[i] = place.view
            for k in place.moves:
                self.moved[k], self.place[k] = i, g
            g.moves += place.moves
            for k, n in place.others.items():
                times = n.inputs.count(self.recorded[place.target])
                self.nodes[k] = n
                self.uses[i] -= times
                self.uses[place.target] += times
            self.stored[i] = self.stored[place.target] = 1
        return found

    def _complete(self, n: Node) -> None:
        """What a scatter would have written is there; what it would have written over may come later."""
        base = n.inputs[0]
        if n.op.family == "scatter" and not base.op.unread:
            self.materialise(base.index)
            self.place[n.index] = max(self.place[base.index], self.place[n.index], key=lambda g: g.number)

    # -- families -----------------------------------------------------------------------------------------------

    def _pointwise(self, i: int, n: Node) -> None:
        if not n.numel:
            return
        if not self.fuse:
            if n.inputs and any(isinstance(s, Node) for s in n.inputs):
                self.materialise(i)
            return
        longest, loads = 0, NOTHING
        for s in n.inputs:
            if type(s) is not Node:
                continue
            if s.buffer is not None:
                loads |= {s}
            else:
                j = s.index
                g = self.place[j]
                if g is None:
                    longest = max(longest, self.chain[j])
                    loads = loads | self.loads[j] if loads else self.loads[j]
                elif g.kind == "contraction" and self.uses[j] == 1 and not self.live[j] and n.op.family == "pointwise" \
                        and self.join(g, i):
                    return
                else:
                    loads |= {s}
        self.chain[i], self.loads[i] = longest + 1, loads
        if longest >= DEFERRED or len(loads) >= WIDEST:
            self.materialise(i)

    _gather = _pointwise

    def _reduction(self, i: int, n: Node) -> None:
        if not n.numel:
            return
        source, v = n.inputs[0], n.views[0]
        if not v.numel:
            return self._fill(i, n)
        kept = len(v.shape) - n.static.reduced
        keep = index.squeeze(view(v.shape[:kept], v.strides[:kept], v.offset))
        drop = index.squeeze(view(v.shape[kept:], v.strides[kept:], 0))
        crossing = n.op.combine in CROSSING
        reason = ""
        if self.fuse:
            for g in self.candidates(source):
                if g.kind == "loops" and g.outer == 1:
                    attempt = self._join_reduction(g, i, source, keep, drop, crossing)
                    if attempt is None:
                        return
                    reason = attempt
        self._new_reduction(i, source, keep, drop, crossing).reason = reason

    def _join_reduction(self, g: Group, i: int, source: Node, keep: View, drop: View, crossing: bool) -> str | None:
        """None if the reduction was made part of g, otherwise the reason why not."""
        if len(g.members) > MEMBERS:
            return "the kernel is full"
        kept, reduced = keep.numel, drop.numel
        if kept * reduced == g.numel:
            if kept == 1 and g.inner != reduced:
                forms = ["total"] if crossing else []
            else:
                column = crossing and kept > 1
                forms = (["row"] if g.inner in (None, reduced) and not (column and _across(keep, drop)) else []) + \
                        (["column"] if g.inner in (None, kept) and column else [])
        elif kept == 1 and g.inner and reduced * g.inner == g.numel and crossing:
            if not any(s.index in g.reductions for s in self._behind(self.nodes[i])):
                return "it takes nothing from the kernel's rows"     # on its own, its result is there before they are computed
            forms = ["total"]
        else:
            return "it runs over other dimensions"
        reason = "its rows are not those of the kernel"
        for form in forms:
            first, last = (drop, keep) if form == "column" else (keep, drop)
            v = view(first.shape + last.shape, first.strides + last.strides, keep.offset)
            inner = g.inner if form == "total" else last.numel
            if form == "row" and g.inner is None and not self._may_have_rows(g):
                continue
            domain = index.refine(g.domain, v.shape if kept * reduced == g.numel else v.shape + (g.inner,))
            domain = domain and index.refine(domain, (g.numel // inner, inner)) if inner and inner > 1 else domain
            if domain is None:
                continue
            rows_only = kept * reduced != g.numel
            if rows_only:
                wall = wall_of(domain, g.inner)
                v = index.split(v, domain[:wall])
                v = v and view(domain, v.strides + (0,) * (len(domain) - wall), v.offset)
            else:
                v = index.split(v, domain)
            if v is None:
                continue
            attempt = self._attempt(g, domain, inner, source, v)
            if isinstance(attempt, str):
                reason = attempt
                continue
            if form == "column" and _reads_across(attempt):
                reason = "it reads a matrix across the kernel's rows"
                continue
            self._commit(attempt, g)
            self._reduces(g, i, form, v)
            return None
        return reason

    def _may_have_rows(self, g: Group) -> bool:
        return not any(form == "column" for form, _ in g.reductions.values())

    def _new_reduction(self, i: int, source: Node, keep: View, drop: View, crossing: bool) -> Group:
        kept, reduced = keep.numel, drop.numel
        outer = 1
        if kept == 1:
            form = "total" if crossing and reduced > ONE_ROW else "row"
        else:
            smallest = min((abs(t) for t in drop.strides if t), default=0)
            trailing = len(keep.shape)
            while trailing and abs(keep.strides[trailing - 1]) < smallest and keep.strides[trailing - 1]:
                trailing -= 1
            columns = size(keep.shape[trailing:])
            # Columns that would not fill a vector are summed one after the other, each quickly picked out of memory; a GPU needs more rows.
            narrow = columns < LANES and smallest <= INTERLEAVED and not self.gpu
            form = "column" if crossing and columns > 1 and not narrow else "row"
            if form == "column":
                outer = kept // columns
        if form == "column":
            cut = trailing
            v = view(keep.shape[:cut] + drop.shape + keep.shape[cut:], keep.strides[:cut] + drop.strides + keep.strides[cut:], keep.offset)
            inner: int | None = columns
        else:
            v = view(keep.shape + drop.shape, keep.strides + drop.strides, keep.offset)
            inner = reduced if form == "row" else None
        g = self._new_group(v.shape, inner, source, v)
        g.outer = outer
        if outer > 1:
            g.kind = "columns"
        self._reduces(g, i, form, index.split(v, g.domain))
        return g

    def _reduces(self, g: Group, i: int, form: str, v: View) -> None:
        g.reductions[i] = (form, v)
        g.members.append(i)
        self.place[i] = g
        if form == "row":
            g.at[i] = row_view(g.domain, wall_of(g.domain, g.inner))

    def _scan(self, i: int, n: Node) -> None:
        if n.numel:
            v = n.views[0]
            kept = index.squeeze(view(v.shape[:-1], v.strides[:-1], v.offset))
            v = view(kept.shape + v.shape[-1:], kept.strides + v.strides[-1:], v.offset)
            source = n.inputs[0]
            self._rooted("scan", i, n, v.shape, ((source, v),), dense(v.shape))

    def _contraction(self, i: int, n: Node) -> None:
        if not n.numel:
            return
        nb, nm, nn, nk = n.static.dims
        a, b = n.views
        if not a.numel:
            return self._fill(i, n)
        if size(a.shape[nb + nm:]) == 1 and self.fuse:
            return self._outer_product(i, n)
        if self.fuse and n.dtype.kind == "f" and 1 in (size(a.shape[nb:nb + nm]), size(b.shape[nb:nb + nn])):
            return self._vector_product(i, n)
        for source, v in zip(n.inputs, n.views):
            if self.gpu and isinstance(source, Node) and source.buffer is None:     # it reads operands several times
                self.materialise(source.index)
            self._operand(source, v)
        chunks = sum_chunks(n)
        if chunks > 1 and self.fuse:
            return self._split_sum(i, n, chunks)
        shape = a.shape[:nb + nm] + b.shape[nb:nb + nn]
        g = self._rooted("contraction", i, n, index.domain_of(shape), (), None)
        g.at[i] = dense(g.domain)

    def _outer_product(self, i: int, n: Node) -> None:
        """Sums of one product are a pointwise product."""
        nb, nm, nn, _ = n.static.dims
        a, b = n.views
        shape = a.shape[:nb + nm] + b.shape[nb:nb + nn]
        va = view(shape, a.strides[:nb + nm] + (0,) * nn, a.offset)
        vb = view(shape, b.strides[:nb] + (0,) * nm + b.strides[nb:nb + nn], b.offset)
        product = Node.of(PRODUCT, n.inputs, (va, vb), Static(casts=n.static.casts), shape, n.numel, n.dtype)
        product.index = i
        self.nodes[i] = product
        self._pointwise(i, product)

    def _vector_product(self, i: int, n: Node) -> None:
        """A matrix by a vector reads each element once: a reduction of products, like any other, in the order in which the matrix lies."""
        nb, nm, nn, nk = n.static.dims
        a, b = n.views
        kept = a.shape[:nb + nm] + b.shape[nb:nb + nn]
        shape = kept + a.shape[nb + nm:]
        va = view(shape, a.strides[:nb + nm] + (0,) * nn + a.strides[nb + nm:], a.offset)
        vb = view(shape, b.strides[:nb] + (0,) * nm + b.strides[nb:], b.offset)
        order = list(range(len(shape)))
        rows, k = order[nb:len(kept)], order[len(kept):]
        matrix = max(a, b, key=lambda v: v.numel)
        keep, drop = (view(matrix.shape[at], matrix.strides[at]) for at in (slice(nb, -nk), slice(-nk, None)))
        if _across(keep, drop):
            order = [*order[:nb], *k, *rows]
        va, vb, shape = ordered(va, order), ordered(vb, order), tuple(shape[d] for d in order)
        product = self._added(Node.of(PRODUCT, n.inputs, (va, vb), Static(casts=n.static.casts), shape, size(shape), n.static.casts[0]))
        self._pointwise(product.index, product)
        self._replace_by_sum(i, n, product, ordered(dense(shape), [order.index(d) for d in range(len(shape))]), nk)

    def _added(self, node: Node) -> Node:
        """One more node, which is not in the recording; read once."""
        node.index = len(self.nodes)
        self.nodes.append(node)
        self.live.append(False)
        self.place.append(None)
        self.uses.append(1)
        self.chain.append(0)
        self.taps.append(None)
        self.most.append(None)
        self.loads.append(NOTHING)
        self.stored.append(0)
        return node

    def _replace_by_sum(self, i: int, n: Node, part: Node, v: View, reduced: int) -> None:
        whole = Node.of(SUM, (part,), (v,), Static(casts=(part.dtype,), reduced=reduced), n.shape, n.numel, n.dtype)
        whole.index = i
        self.nodes[i] = whole
        self._reduction(i, whole)

    def _split_sum(self, i: int, n: Node, chunks: int) -> None:
        """A long sum with a small result: chunks of the sum side by side, as one more batch dimension, then their sum."""
        nb, nm, nn, _ = n.static.dims
        a, b = n.views
        k = a.shape[-1] // chunks

        def chunked(v: View) -> View:
            t = v.strides[-1]
            return view(v.shape[:nb] + (chunks,) + v.shape[nb:-1] + (k,), v.strides[:nb] + (k * t,) + v.strides[nb:-1] + (t,), v.offset)

        shape = a.shape[:nb] + (chunks,) + a.shape[nb:nb + nm] + b.shape[nb:nb + nn]
        cast = n.static.casts[0]
        part = Node.of(n.op, n.inputs, (chunked(a), chunked(b)), n.static._replace(dims=(nb + 1, nm, nn, 1), within=()), shape,
                    size(shape), cast)
        p = self._added(part).index
        self.stored[p] = 1
        g = self._rooted("contraction", p, part, index.domain_of(shape), (), None)
        g.at[p] = dense(g.domain)
        v = dense(shape)
        order = [d for d in range(len(shape)) if d != nb] + [nb]
        turned = view(tuple(shape[d] for d in order), tuple(v.strides[d] for d in order))
        self._replace_by_sum(i, n, part, turned, 1)

    def _operand(self, source: Node, v: View) -> None:
        """Decide whether an operand is computed while it is packed or stored before."""
        if source.buffer is not None or self.place[source.index] is not None and self.stored[source.index]:
            return
        i = source.index
        source = self.nodes[i]
        if self.fuse and source.op.family == "pointwise" and self.place[i] is None:
            attempt = Attempt(None, INFINITE, v.shape, None, {}, False, members=False)
            if self.read(attempt, source, index.squeeze(v)) and attempt.loads <= 2 and attempt.cost <= CHEAP:
                self._demand(attempt)
                return
        self.materialise(i)

    def _scatter(self, i: int, n: Node) -> None:
        if not n.numel:
            return
        base, region = n.inputs[0], n.static.region
        s = n.inputs[1]
        g = self.place[s.index] if isinstance(s, Node) and s.buffer is None else None
        if g is not None and g.kind == "contraction" and s.index in g.at:
            if self._settle([s.index], g, lambda i, v: index.compose(g.at[i], v) is not None):
                return self._complete(n)
        if isinstance(base, Node):
            self._base(base)
        reads = []
        if region.numel:
            n = self._cut_like_updates(i, n)
            domain = index.domain_of(n.static.region.shape)
            for s, v in list(zip(n.inputs, n.views))[1:]:
                if isinstance(s, Node):
                    reads.append((s, index.squeeze(v)))
        else:
            domain = (0,)
        self._rooted("scatter", i, n, domain, tuple(reads), None)

    def _cut_like_updates(self, i: int, n: Node) -> Node:
        """A scatter with the dimensions of its region cut as those of what is written are, which can then be read there rather than stored:
        heads of attention, put side by side again."""
        s, v = n.inputs[1], n.views[1]
        if not isinstance(s, Node) or s.buffer is not None or self.place[s.index] is not None or s.numel != v.numel or not v.dense:
            return n
        region = index.squeeze(n.static.region)
        domain = index.refine(region.shape, index.domain_of(s.shape))
        if domain is None or domain == region.shape:
            return n
        views = (n.views[0], *(v and index.split(index.squeeze(v), domain) for v in n.views[1:]))
        cut = Node.of(n.op, n.inputs, views, n.static._replace(region=index.split(region, domain)), n.shape, n.numel, n.dtype)
        cut.index, cut.where = i, n.where
        self.nodes[i] = cut
        return cut

    def _base(self, base: Node) -> None:
        """The old value of a scatter: computed while it is copied if it is a constant, otherwise from memory."""
        if base.buffer is None and (self.nodes[base.index].op.family != "pointwise" or self.place[base.index] is not None or
                                    any(isinstance(s, Node) for s in base.inputs)):
            self.materialise(base.index)

    def _extern(self, i: int, n: Node) -> None:
        for s in n.inputs:
            if isinstance(s, Node) and s.buffer is None and s.numel:
                self.materialise(s.index)
        g = self._rooted("extern", i, n, (), (), None)
        self.stored[i] = 0
        g.reason = "computed by NumPy"

    def _recurrence(self, i: int, n: Node) -> None:
        for s in n.inputs:
            if s.buffer is None:
                self.materialise(s.index)
        g = self._rooted("recurrence", i, n, (), (), None)
        self.stored[i] = 0
        steps = dict(n.static.params)["steps"]
        g.reason = "its steps follow one another" if steps.states else "its parts are computed one by one"
        given: list = [None] * len(steps.outputs)
        for k in range(i + 1, len(self.recorded)):
            out = self.recorded[k]
            if out.op.family != "output" or out.inputs[0].index != i:
                break
            position = out.static.position
            if self.needed[k] or position < steps.states:       # a step reads the state that the one before has left
                self.needed[k] = 1
                given[position] = out
        body = steps.body(n, given)
        key = self.fuse, *body.live
        known = steps.fusions.get(key) if size_module.tracing is None else None     # layers of one kind have the same steps
        if known is None:
            fusion = Fusion(body.nodes, body.live, self.fuse, into=body.into).run()
            known = fusion, in_place(fusion)
            if size_module.tracing is None:
                steps.fusions[key] = known
        fusion, alias = known
        g.bodies = [([(None, [(fusion, body._replace(alias=alias))], [])], {})]
        g.begins = steps.begins(n, given)
        g.chain = steps.order(n)

    def _output(self, i: int, n: Node) -> None:
        g = self.place[n.inputs[0].index]
        g.members.append(i)
        self.place[i] = g
        self.stored[i] = 1

    def _chain(self, chain: Chain) -> None:
        """A group that runs block by block: what it reads is stored before, what it sums is added up after."""
        for i in (*chain.members, *chain.again):
            for s in self.recorded[i].inputs:
                if isinstance(s, Node) and s.buffer is None and s.index not in chain.how and s.index not in chain.again:
                    self.materialise(s.index)
        g = Group(len(self.groups), "chain", (chain.rows,))
        g.reason = "its values are needed block by block"
        self.groups.append(g)
        g.members += chain.members
        for i in chain.members:
            self.place[i] = g
        for i in chain.outputs:
            self.stored[i] = 1
        places = self._settle(chain.outputs, g, chain.may_store)
        partial = {}
        for i in chain.sums:
            n = self.recorded[i]
            d = n.static.casts[0]
            chunks = () if chain.how[i].grouped else (chain.chunks,)
            partial[i] = p = self._added(Node.of(n.op, (), (), Static(casts=(d,)), chunks + n.shape, size(chunks) * n.numel, d))
            self.place[p.index] = g
            self.stored[p.index] = 1
        g.bodies = []
        for rows in dict.fromkeys((chain.block, chain.group_rows % chain.block or chain.block)):
            stages, held = chain.stages(chain.body(rows, partial, places))
            made = [(s.tiles, *([(Fusion(b.nodes, b.live, gpu=self.gpu, into=b.into).run(), b) for b in bodies]
                                for bodies in (s.bodies, s.looks))) for s in stages]
            g.bodies.append((made, held))
        g.chain = chain
        for i, p in partial.items():
            n = self.recorded[i]
            grouped = chain.how[i].grouped
            self._replace_by_sum(i, n, p, view(n.shape + (1 if grouped else chain.chunks,), chain.partial_strides(i) + (n.numel,)), 1)

    def _fill(self, i: int, n: Node) -> None:
        """A reduction of nothing: a constant."""
        g = Group(len(self.groups), "fill", index.domain_of((n.numel,)))
        g.root = i
        g.reason = "reduces nothing"
        self._add(g, i)

    def _rooted(self, kind: str, i: int, n: Node, domain: tuple, reads: tuple, at: View | None) -> Group:
        """A new group around a node that is not made of elements."""
        for source, v in reads:
            attempt = Attempt(None, INFINITE, domain, None, {}, True, members=False)
            self.read(attempt, source, v)
            self._demand(attempt)
        g = Group(len(self.groups), kind, domain)
        g.root = i
        if at is not None:
            g.at[i] = at
        self._add(g, i)
        return g

    def _add(self, g: Group, i: int) -> None:
        self.groups.append(g)
        g.members.append(i)
        self.place[i] = g


def in_place(fusion: Fusion) -> dict[int, int]:
    """node -> the one in whose memory it is: the scatter that is its only reader, and may write there instead of into a copy, or what would
    have moved it (settling.py)."""
    alias: dict[int, int] = {}
    scatters = [g.root for g in fusion.groups if g.kind == "scatter"]
    for k, i in fusion.moved.items():
        alias[i] = k        # the last of its moves stays
        if fusion.nodes[k].op.family == "scatter":
            scatters.append(k)
    for k in scatters:
        n = fusion.nodes[k]
        base = n.inputs[0]
        if type(base) is Node and base.buffer is None and n.dtype is base.dtype and n.numel == base.numel:
            b = base.index
            if fusion.uses[b] == 1 and not fusion.live[b] and fusion.stored[b] and fusion.place[b] is not None:
                alias[b] = k
    return alias


def _across(keep: View, drop: View) -> bool:
    """Whether neighbours in memory are kept apart rather than reduced."""
    return min((abs(t) for t in keep.strides if t), default=0) < min((abs(t) for t in drop.strides if t), default=0)


def _reads_across(t: Attempt) -> bool:
    """Whether a large value in memory would be read with long steps along the rows, of each line of memory one element a time."""
    for source, v in t.seen:
        if source in t.loaded:
            steps = [abs(step) for extent, step in zip(v.shape, v.strides) if extent > 1 and step]
            if len(steps) > 1 and v.strides[-1] and abs(v.strides[-1]) > min(steps) and v.numel > SMALL:
                return True
    return False
