"""Where a node's value comes from when another node reads it.

An elementwise node is *deferred*: nothing happens until some other node demands its value. It is then read in one of these ways:

    load       from memory; the node must be placed in an earlier group, which then stores it
    member     computed in the same group at the same place of the domain (and kept there for others who read it)
    inline     computed again for every element read, through the composed index maps, if that is cheap

Groups are numbered in the order of their making and run in that order: a node may join any group not earlier than the
groups it reads. Every refusal leaves a reason, which `explain` shows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from ..loops import index
from ..loops.cost import cost_of
from ..loops.size import larger
from ..loops.view import View, dense, same, view
from .casts import folded
from .chain import Chain
from .group import Attempt, Group, Refine, row_view, wall_of
from .node import Form, Node
from .triangle import narrowed

CHEAP = 4           # operations an element may cost and still be computed again rather than loaded
TAPS = 4            # a value is not computed anew for each of its readers where it is made of so many large ones
REPEATED = 2        # longest chain of deferred nodes computed several times for each element
SMALL = 4096        # elements of a value that may be, however long the chain
AGAIN = 1 << 15     # computations of them that a new kernel saves by having even a small value in memory
POSTPONED = 8       # most groups that one is moved behind
MEMBERS = 96        # most nodes in a group
INFINITE = 1 << 60
NOTHING: frozenset = frozenset()
DEFERS = ("pointwise", "gather")


def _made_of(n: Node) -> list[int]:
    """The nodes that a node's elements are computed from. What has several results takes all its inputs, whatever their size."""
    if n.form.op.family in ("extern", "recurrence", "output"):
        return [s.index for s in n.inputs if type(s) is Node and s.buffer is None]
    if not n.form.numel:
        return []
    return [s.index for s, v in zip(n.inputs, n.form.views) if type(s) is Node and s.buffer is None and v.numel]


class Placing:
    """The groups of a tape as they grow: `groups`, `place` (node -> group or None), `stored`."""

    def __init__(self, nodes: list[Node], live: list[bool], fuse: bool = True, chains: list[Chain] = (), gpu: bool = False,
                 into: dict[int, View] | None = None):
        self.live, self.fuse, self.chains, self.gpu = list(live), fuse, chains, gpu
        self.nodes, self.known = ([folded(n) for n in nodes], {}) if gpu else narrowed(nodes, live)
        self.recorded = list(self.nodes)
        count = len(nodes)
        self.groups: list[Group] = []
        self.place: list[Group | None] = [None] * count
        self.taps: list = [None] * count        # as far as they were asked for (`taps_of`)
        self.most: list = [None] * count        # likewise, how many these can be
        self.loads: list = [NOTHING] * count
        self.stored = bytearray(count)
        self.uses = [0] * count
        self.chain = [0] * count
        self.readers: dict[Node, Group] = {}    # the last group of loops that loads it
        self.into: dict[int, View] = into or {}     # value -> where its elements lie in memory that is not its own (settling.py)
        self.moved: dict[int, int] = {}     # scatters and copies that leave nothing to be done -> the value that is there
        self.needed = self._needed()

    def _needed(self) -> bytearray:
        needed = bytearray(self.live)
        uses = self.uses
        for i in range(len(self.nodes) - 1, -1, -1):
            if needed[i]:
                for j in _made_of(self.nodes[i]):
                    needed[j] = 1
                    uses[j] += 1
        return needed

    @functools.cached_property
    def sources(self) -> list[list[int]]:
        """For each node that is needed the nodes it reads."""
        return [_made_of(n) if needed else [] for n, needed in zip(self.recorded, self.needed)]

    @functools.cached_property
    def in_chains(self) -> set[int]:
        """The nodes that belong to a chain."""
        return {i for c in self.chains for i in c.members}

    @functools.cached_property
    def read_by(self) -> list[list[int]]:
        """For each node those that read it."""
        found: list[list[int]] = [[] for _ in self.recorded]
        for i, sources in enumerate(self.sources):
            for s in sources:
                found[s].append(i)
        return found

    # -- placing elementwise nodes ------------------------------------------------------------------------------

    def materialise(self, i: int) -> None:
        """See to it that node i is in memory after the groups made so far."""
        n = self.nodes[i]
        if not n.numel:
            return
        if self.place[i] is None:
            reason = ""
            if self.fuse:
                for g in self.candidates(n):
                    if self.join(g, i):
                        self.stored[i] = 1
                        return
                    reason = self.refusal
                if any(self.join(g, i) for g in self.postponed(n)):
                    self.stored[i] = 1
                    return
            domain = index.domain_of(n.shape)
            self._new_group(domain, None, n, dense(domain)).reason = reason
        self.stored[i] = 1

    def postponed(self, n: Node) -> Iterator[Group]:
        """Groups of loops that n reads, each moved behind all that n reads if nothing until there reads it."""
        read = {self.place[s.index].number for s in self._behind(n) if self.place[s.index] is not None}
        latest = max(read, default=0)
        for g in [self.groups[k] for k in sorted(read, reverse=True) if latest - POSTPONED <= k < latest]:
            between = self.groups[g.number + 1:latest + 1]
            if g.kind == "loops" and not any(self._depends(h, g) for h in between):
                self.groups[g.number:latest + 1] = [*between, g]
                for number in range(latest - len(between), latest + 1):
                    self.groups[number].number = number
                yield g

    def _behind(self, *nodes: Node) -> list[Node]:
        """The computed nodes that some are made of, down to those in memory."""
        stack, found = list(nodes), {}
        while stack:
            for s in stack.pop().inputs:
                if type(s) is Node and s.buffer is None and s.index not in found:
                    found[s.index] = s = self.nodes[s.index]
                    if not self.stored[s.index]:
                        stack.append(s)
        return list(found.values())

    def _depends(self, h: Group, g: Group) -> bool:
        """Whether group h reads, or writes over, what g leaves in memory."""
        nodes = [self.nodes[i] for i in (*h.members, *h.moves)]
        return any(self.place[s.index] is g and self.stored[s.index] for s in self._behind(*nodes))

    def candidates(self, n: Node) -> list[Group]:
        """Groups that a node might join: the latest that it reads from, and later ones that load the same values."""
        if n.buffer is not None:
            g = self.readers.get(n)
            return [g] if g else []
        latest, others = -1, {}
        place, readers = self.place, self.readers
        stack, seen = [n], set()
        while stack:
            m = stack.pop()
            if m.buffer is None:
                g = place[m.index]
                if g is None:
                    new = [s for s in m.inputs if type(s) is Node and s not in seen]
                    seen.update(new)
                    stack += new
                elif g.number > latest:
                    latest = g.number
            g = readers.get(m)
            if g is not None:
                others[g.number] = g
        found = [self.groups[latest]] if latest >= 0 else []
        found += [others[k] for k in sorted(others, reverse=True)[:4] if k > latest]
        return [g for g in found if g.kind in ("loops", "contraction")]

    def join(self, g: Group, i: int) -> bool:
        """Make elementwise node i a member of g, if it may be one."""
        n = self.nodes[i]
        self.refusal = ""
        if len(g.members) > MEMBERS:
            self.refusal = "the kernel is full"
            return False
        shape = index.domain_of(n.shape)
        views: list[tuple[tuple, View]] = []
        if n.numel == g.numel:
            domain = index.refine(g.domain, shape)
            if domain is not None:
                views.append((domain, dense(domain)))
            views += self._permuted(g, n)
        if g.inner and g.kind == "loops" and n.numel * g.inner == g.numel and g.inner > 1:
            wall = wall_of(g.domain, g.inner)
            domain = index.refine(g.domain[:wall], shape)
            if domain is not None:
                domain += g.domain[wall:]
                views.append((domain, row_view(domain, wall_of(domain, g.inner))))
        if not views:
            self.refusal = f"{list(n.shape)} is not laid out like {list(g.domain)}"
        for domain, v in views:
            attempt = self._attempt(g, domain, g.inner, n, v)
            if not isinstance(attempt, str):
                self._commit(attempt, g)
                return True
            self.refusal = attempt
        return False

    def _permuted(self, g: Group, n: Node) -> list[tuple[tuple, View]]:
        """Where n would stand if it reads a member of g with dimensions exchanged (a transposing store)."""
        for s, w in zip(n.inputs, n.views):
            if isinstance(s, Node) and s.buffer is None and self.place[s.index] is g and s.numel == n.numel:
                v = g.at.get(s.index)
                if v is None or w.dense or not index.bijective(w, n.numel):
                    continue
                cuts = sorted(((t, m) for m, t in zip(w.shape, w.strides) if m != 1), reverse=True)
                domain = index.refine(g.domain, tuple(m for _, m in cuts)) if v.dense else g.domain
                at = domain and index.inverse(index.split(v, domain), w)
                if at is not None:
                    return [(domain, at)]
        return []

    def _attempt(self, g: Group, domain: tuple, inner: int | None, n: Node, v: View) -> Attempt | str:
        """Try to read n at v in g. Returns what would have to be done, or the reason why it cannot."""
        while True:
            at = g.at if domain == g.domain else {k: index.split(w, domain) for k, w in g.at.items()}
            attempt = Attempt(g, g.number, domain, inner, at, False)
            try:
                return attempt if self.read(attempt, n, v) else attempt.reason or "it reads elements that another row computes"
            except Refine as r:
                domain = r.args[0]
                split = index.split(v, domain)
                if split is None:
                    return "the shapes do not divide each other"
                v = split

    def _new_group(self, domain: tuple, inner: int | None, n: Node, v: View) -> Group:
        """A group of loops that reads n at v: n and what it is made of become members."""
        while True:
            attempt = Attempt(None, INFINITE, domain, inner, {}, True)
            try:
                self.read(attempt, n, v)
                break
            except Refine as r:
                domain = r.args[0]
                v = index.split(v, domain)
        g = Group(len(self.groups), "loops", domain, inner)
        self.groups.append(g)
        self._commit(attempt, g)
        return g

    def _commit(self, attempt: Attempt, g: Group) -> None:
        g.domain, g.inner, g.at = attempt.domain, attempt.inner, attempt.at
        if g.reductions and any(v.shape != g.domain for _, v in g.reductions.values()):
            g.reductions = {i: (form, index.split(v, g.domain)) for i, (form, v) in g.reductions.items()}
        for i, v in attempt.members.items():
            if self.place[i] is None:
                self.place[i] = g
                g.at[i] = v
                g.members.append(i)
            elif self.place[i] is not g:
                self.stored[i] = 1
        self._demand(attempt)
        self.readers.update(dict.fromkeys(attempt.loaded, g))

    def _demand(self, attempt: Attempt) -> None:
        for i in attempt.demands:
            self.stored[i] = 1

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, t: Attempt, n: Node, v: View) -> bool:
        """Whether the attempt's kernel can have n's elements at v. `v` has the shape of the domain."""
        if n.buffer is None:
            n = self.nodes[n.index]     # it may have been replaced
        key = n, v
        known = t.seen.get(key)
        if known is not None:
            return known
        t.seen[key] = True
        if n.buffer is not None:
            t.loaded.add(n)
            t.loads += 1
            return True
        t.seen[key] = ok = self._read(t, n, v)
        return ok

    def _read(self, t: Attempt, n: Node, v: View) -> bool:
        f, i = n.form, n.index
        if not f.numel:
            return True
        g = self.place[i]
        if g is None:
            if t.takes_members:
                if v.dense and v.numel == f.numel and len(f.shape) > 1 and f.shape != t.domain:
                    self._check_split(t, f)
                if self._member_view(t, f, v) and same(t.members.setdefault(i, v), v) and self._sources(t, n, v):
                    return True
                t.members.pop(i, None)
            if self.fuse and self._affordable(t, n, v) and self._sources(t, n, v):
                return True
            if not self.fuse and not any(isinstance(s, Node) for s in n.inputs) and self._sources(t, n, v):
                return True
            if t.fresh:
                self.materialise(i)
                return self._load(t, n)
            t.reason = t.reason or f"{f.op.name} must be in memory first"
            return False
        elementwise = f.op.family in DEFERS
        if g is t.group:
            if same(t.at.get(i), v):
                return True
            if i in g.reductions and g.reductions[i][0] != "row":
                t.reason = f"{f.op.name} is known when all rows are done"
                return False
            t.reason = f"it reads {f.op.name} at other places than they are computed at"
            return elementwise and self._affordable(t, n, v) and self._sources(t, n, v)
        if g.number < t.number:
            if elementwise and not self.stored[i] and self._recomputed(t, n) and self._sources(t, n, v):
                return True
            return self._load(t, n)
        return elementwise and self._affordable(t, n, v) and self._sources(t, n, v)

    def _load(self, t: Attempt, n: Node) -> bool:
        t.demands.append(n.index)
        t.loaded.add(n)
        t.loads += 1
        return True

    def _check_split(self, t: Attempt, f: Form) -> None:
        domain = index.refine(t.domain, index.domain_of(f.shape))
        if domain is not None and domain != t.domain:
            raise Refine(domain)

    def _member_view(self, t: Attempt, f: Form, v: View) -> bool:
        """Whether each element of a node belongs to one place of the domain, or to one row."""
        if index.bijective(v, f.numel):
            return True
        if t.wall is None or any(v.strides[t.wall:]):
            return False
        rows = view(v.shape[:t.wall], v.strides[:t.wall], v.offset)
        return index.bijective(rows, f.numel)

    def _affordable(self, t: Attempt, n: Node, v: View) -> bool:
        if t.epilogue and n.op.family == "gather":
            return False
        c = cost_of(n)
        t.cost += c
        if self.chain[n.index] > REPEATED and self._repeats(t, n, v):
            return False
        if (self.uses[n.index] > 1 or not t.takes_members) and self.most_taps(n) >= TAPS and len(self.taps_of(n)) >= TAPS:
            return False
        return c <= CHEAP or self.uses[n.index] == 1 and v.numel <= n.numel and t.takes_members

    def most_taps(self, n: Node) -> int:
        """A bound on how many `taps_of` are: of few it need not be decided which are large, as it would be anew for other sizes."""
        def most(n: Node) -> int:
            inputs = [s for s, v in zip(n.inputs, n.views) if v is not None]
            return min(TAPS, sum([s.buffer is None and self.most[s.index] or 1 for s in inputs]))

        return self._deferred(n, self.most, most, 0)

    def taps_of(self, n: Node) -> frozenset:
        """The large values in memory that an element of n is made of: (node, how it is read)."""
        return self._deferred(n, self.taps, self._taps, NOTHING)

    def _deferred(self, n: Node, table: list, compute, nothing):
        """What is computed of a node where it is computed of those that it is made of, which may be computed where it is read; else
        nothing."""
        waiting = [n]
        while waiting:
            n = waiting[-1]
            deferred = n.op.family in DEFERS
            unknown = deferred and [s for s in n.inputs if type(s) is Node and s.buffer is None and table[s.index] is None]
            if unknown:
                waiting += unknown
            else:
                table[waiting.pop().index] = compute(n) if deferred else nothing
        return table[n.index]

    def _taps(self, n: Node) -> frozenset:
        found, f = NOTHING, n.form
        for s, v in zip(n.inputs, f.views):
            if v is not None and len(found) < TAPS and larger((numel := s.form.numel) * 8, f.numel):
                own = s.buffer is None and self.taps[s.index] or (s,)
                own = own if v.dense and v.numel == numel else [(tap, v) for tap in own]
                found = found.union(own) if found or type(own) is not frozenset else own
        return found

    def _repeats(self, t: Attempt, n: Node, v: View) -> bool:
        """Whether a large value would be computed more than once for each of its elements, or a small one very often."""
        if t.wall is not None and not any(v.strides[t.wall:]):
            v = view(v.shape[:t.wall], v.strides[:t.wall], v.offset)    # once for each row
        if v.numel > n.numel > SMALL:
            return True
        return t.fresh and v.numel - n.numel > AGAIN and v.strides[-1] != 0

    def _recomputed(self, t: Attempt, n: Node) -> bool:
        """Whether a node of an earlier group is computed again from at most one stored value, rather than stored itself."""
        if n.op.family != "pointwise" or cost_of(n) > 2 or self.live[n.index]:
            return False
        large = 0
        for s in n.inputs:
            if isinstance(s, Node):
                if s.buffer is None and (self.place[s.index] is None or not self.stored[s.index]
                                         or self.place[s.index].number >= t.number):
                    return False
                large += s.numel * 8 > n.numel
        return large <= 1

    def _sources(self, t: Attempt, n: Node, v: View) -> bool:
        f = n.form
        op = f.op
        if op.family == "gather":
            if t.epilogue:
                t.reason = "gathers are not done in an epilogue"
                return False
            return self._gather_sources(t, n, v)
        if op.uses_index and index.compose(v, index.last_coordinate(f.shape)) is None:
            return False
        for s, w in zip(n.inputs, f.views):
            if w is not None:
                x = v if w.dense else index.compose(v, w)
                if x is None:
                    t.reason = f"{op.name} reads across dimensions"
                    return False
                if not self.read(t, s, x):
                    return False
        return True

    def _gather_sources(self, t: Attempt, n: Node, v: View) -> bool:
        if any(index.compose(v, w) is None for w in n.views if w is not None):
            return False
        source = n.inputs[0]
        if source.buffer is None:
            g = self.place[source.index]
            if g is None and t.fresh:
                self.materialise(source.index)
            elif g is None or g is t.group or g.number >= t.number:
                t.reason = f"what {n.op.name} picks from must be in memory first"
                return False
            self._load(t, source)
        return all(self.read(t, s, index.compose(v, w)) for s, w in zip(n.inputs[1:], n.views[1:]) if isinstance(s, Node))
