"""Plans for recordings that differ in their sizes alone.

A `Family` is what they have in common: all of their key but shapes, strides and offsets. When a third member is met its plan is made with
sizes that note what is computed and decided of them (`loops.size`). What comes of it, a `Variant`, gives the plan of any other member for
which the same would be decided, by computing the numbers in it anew: no grouping, no lowering. Sizes that have always been the same are
taken for constants, and those that have always been equal for one; a recording that proves it wrong makes another variant.
"""

from __future__ import annotations

from array import array
from contextlib import contextmanager
from sys import maxsize
from threading import get_ident
from typing import NamedTuple
from zlib import crc32

import numpy as np

from ..base import config
from ..loops import size as size_module
from ..loops import template
from ..loops import view as views
from ..loops.chain import ChainProgram
from ..loops.plan import Extern, Plan
from ..loops.size import Coincidence, Size, Trace
from ..loops.view import View, view
from ..loops.writer import Call
from ..targets.chain import ChainKernel
from . import node as node_module
from .block import BlockForm
from .group import size
from .mould import Mould
from .node import Form, Node, Static, form, leaf_form

TRACED = 2          # samples of which a plan is traced at most, where sizes happen to be equal
SEEN = 3            # members met before plans are traced, which takes twice as long as making one
TRIES = 6           # variants made for nothing before every fourth recording alone is tried; each plan that comes of one earns a try
VARIANTS = 32       # kept of a family
FAMILIES = 1024     # kept, by name


class Made(NamedTuple):
    """What a plan is made of: the arguments of `Plan`."""

    steps: list
    leaves: int
    results: dict
    forms: dict
    temporaries: dict
    number_at: dict
    donated: dict


# -- what forms have in common -----------------------------------------------------------------------------------

class Kind:
    """What stands for forms that differ in their sizes alone, compared by identity. `code`: a number that is the same in all processes, of
    most kinds another."""

    __slots__ = ("code",)

    def __init__(self, without: tuple):
        op, dtype, *rest = without
        static = rest[-1]
        self.code = 0 if type(static) is not Static else crc32(
            repr((op.name, op.family, str(dtype), *rest[:-1], static._replace(params=tuple([name for name, _ in static.params])))).encode())


_patterns: dict[tuple, Kind] = {}       # what tells a form without its sizes -> what stands for it
_EVERY_PLACE = range(maxsize)           # what takes items from it takes their places


def pattern(f: Form | BlockForm) -> tuple:
    """(what stands for a form without its sizes, its sizes as bytes: those of a block are its nodes', in order)."""
    found = f.pattern
    if found is None:
        without, sizes = _of_block(f) if type(f) is BlockForm else _of_node(f)
        if len(_patterns) > 20_000:
            _patterns.clear()
        kind = _patterns.get(without)
        if kind is None:
            kind = _patterns[without] = Kind(without)
        found = f.pattern = kind, sizes
    return found


def _of_block(f: BlockForm) -> tuple:
    parts = [pattern(own) for own, _, _ in f.sites]
    sites = [(alike, late, take(_EVERY_PLACE)) for (alike, _), (_, late, take) in zip(parts, f.sites)]
    return (*sites, tuple(f.seen)), b"".join([sizes for _, sizes in parts])


def _of_node(f: Form) -> tuple:
    static = f.static
    ranks = tuple(None if v is None else len(v.shape) for v in f.views)
    region = None if static.region is None else len(static.region.shape)
    whole = f.numel == size(f.shape)        # not of an extern, whose results are other nodes
    if static.picks or static.region is not None:
        static = static._replace(picks=len(static.picks), region=region)
    numbers = [*f.shape] if whole else [*f.shape, f.numel]
    for v in (*f.views, f.static.region):
        if v is not None:
            numbers += (*v.shape, *v.strides, v.offset)
    for pick in f.static.picks:
        numbers += pick
    return (f.op, f.dtype, len(f.shape), whole, ranks, static), array("q", numbers).tobytes()


def resized(f: Form, numbers) -> Form:
    """The form with other sizes, taken from an iterator in the order of `pattern`."""
    def several(count: int) -> tuple:
        return tuple([next(numbers) for _ in range(count)])

    def viewed(v: View | None) -> View | None:
        return None if v is None else view(several(len(v.shape)), several(len(v.shape)), next(numbers))

    shape = several(len(f.shape))
    numel = size(shape) if f.numel == size(f.shape) else next(numbers)
    seen = tuple([viewed(v) for v in f.views])
    region = viewed(f.static.region)
    static = f.static._replace(region=region, picks=tuple([several(len(pick)) for pick in f.static.picks]))
    return form(f.op, seen, static, shape, numel, f.dtype)


class _Private:
    """A table that the thread which makes it has to itself while there are sizes; the others go on using the one it stands for."""

    def __init__(self, shared: dict):
        self.shared, self.own, self.thread = shared, {}, get_ident()

    def _table(self) -> dict:
        return self.own if size_module.tracing is not None and get_ident() == self.thread else self.shared

    def get(self, key, default=None):
        table = self._table()
        size_module.apart = True
        try:
            return table.get(key, default)
        finally:
            size_module.apart = False

    def __setitem__(self, key, value) -> None:
        table = self._table()
        size_module.apart = True
        try:
            table[key] = value
        finally:
            size_module.apart = False

    def __len__(self) -> int:
        return len(self._table())

    def clear(self) -> None:
        self._table().clear()


@contextmanager
def _private_tables(trace: Trace):
    """Index maps, forms and templates made meanwhile are of `Size`s, and nobody else's."""
    tables = (views, "_views"), (views, "_dense"), (node_module, "_forms"), (node_module, "_leaf_forms"), (template, "_templates")
    before = [getattr(module, name) for module, name in tables]
    try:
        for (module, name), table in zip(tables, before):
            setattr(module, name, _Private(table))
        size_module.tracing = trace
        yield
    finally:
        size_module.tracing = None
        for (module, name), table in zip(tables, before):
            setattr(module, name, table)


# -- families ----------------------------------------------------------------------------------------------------

class Family:
    """The recordings of one structure. `make(nodes, leaves)` gives what a plan is Made of."""

    def __init__(self):
        self.samples: list[np.ndarray] = []
        self.variants: list[Variant] = []
        self.missed = self.traced = self.served = 0     # recordings without a variant, variants made, plans that came of them

    def plan(self, sizes: np.ndarray) -> Plan | None:
        """The plan for these sizes, if a variant can tell."""
        for k, variant in enumerate(self.variants):
            numbers = variant.numbers(sizes)
            if numbers is not None:
                self.served += 1
                self.variants.insert(0, self.variants.pop(k))
                return variant.plan(numbers)
        return None

    def trace(self, sizes: np.ndarray, nodes: list[Node], leaves: list[Node], make) -> Plan | None:
        """The plan for these sizes, with a variant made of it; None if too few members were met, or these say too little of others."""
        self.samples = [*self.samples[-SEEN:], sizes]
        self.missed += 1
        if len(self.samples) < SEEN or self.traced >= TRIES + self.served and self.missed % 4:
            return None
        samples = np.stack(self.samples)
        for now in range(-1, -TRACED - 1, -1):      # sizes that happen to be equal here need not have been in one before
            try:
                variant = Variant(samples, now, nodes, leaves, make)
                break
            except Coincidence:
                pass
        else:
            return None
        self.traced += 1
        self.variants = [variant, *self.variants[:VARIANTS - 1]]
        numbers = variant.numbers(sizes)
        return None if numbers is None else variant.plan(numbers)


_families: dict = {}


class Member(NamedTuple):
    """A recording as one of its family. `name`: all that tells it apart but its sizes."""

    name: tuple
    sizes: np.ndarray

    @property
    def family(self) -> Family | None:
        return _families.get(self.name)

    def join(self, family: Family) -> None:
        """Let recordings of this name be of that family: perhaps with blocks, whose sizes are those of their nodes."""
        if len(_families) >= FAMILIES:
            del _families[next(iter(_families))]
        _families[self.name] = family


def member(key: tuple, entries: list, leaves: list[Node]) -> Member:
    """`key`: what tells recordings apart besides their forms."""
    patterns = [e.form.pattern or pattern(e.form) for e in (*entries, *leaves)]
    return Member((*key, tuple([p[0] for p in patterns])), np.frombuffer(b"".join([p[1] for p in patterns]), np.int64))


def clear() -> None:
    _families.clear()


class Variant:
    """The plan of the sample numbered `now`, as a function of the sizes."""

    def __init__(self, samples: np.ndarray, now: int, nodes: list[Node], leaves: list[Node], make):
        samples = np.concatenate([np.delete(samples, now, 0), samples[[now]]])
        varies = (samples != samples[-1]).any(0)
        self.fixed_at, self.varying_at = np.flatnonzero(~varies), np.flatnonzero(varies)
        self.fixed = samples[-1, self.fixed_at]
        _, first, self.which = np.unique(samples[:, self.varying_at], axis=1, return_index=True, return_inverse=True)
        self.which = self.which.reshape(-1)
        self.symbol_at = self.varying_at[first]
        trace = Trace(samples[-1, self.symbol_at].tolist(), samples[-2, self.symbol_at].tolist())
        numbers = np.array(samples[-1].tolist(), object)
        for k, at in zip(self.which.tolist(), self.varying_at.tolist()):
            numbers[at] = trace.sizes[k]
        with _private_tables(trace):
            self._keep(make(*_copied(nodes, leaves, iter(numbers.tolist()))), trace)

    def numbers(self, sizes: np.ndarray) -> tuple | None:
        """All that varies in the plan for these sizes; None where something would have been decided otherwise."""
        symbols = sizes[self.symbol_at]
        if not ((sizes[self.fixed_at] == self.fixed).all() and (sizes[self.varying_at] == symbols[self.which]).all()):
            return None
        return self.compute(*symbols.tolist())

    def plan(self, numbers: tuple) -> Plan:
        if self.mould is not None and self.mould.plan.target == config.target:
            return self.mould.cast(numbers)
        plan = Plan(*self.made(numbers))
        if plan.target != "interp":
            self.mould = Mould(plan, self.steps, self.results, self.forms, self.temporaries, lambda numbers: self.made(numbers).steps)
        return plan

    def _keep(self, made: Made, trace: Trace) -> None:
        """What is made with each number in it replaced by its place among the results of `compute`."""
        place = _Places()
        self.steps = [_Extern(step, place) if isinstance(step, Extern) else _Call(step, place) for step in made.steps]
        self.rest = made._replace(steps=[], results={}, forms={}, temporaries={})
        self.results = [(i, place(n)) for i, n in made.results.items()]
        self.forms = [(i, f.dtype, place(f.numel)) for i, f in made.forms.items()]
        self.temporaries = [(b, first, last, place(n)) for b, (first, last, n) in made.temporaries.items()]
        self.compute = trace.function(place.numbers)
        self.mould = None       # once a plan was made

    def made(self, values: tuple) -> Made:
        return self.rest._replace(
            steps=[step.fill(values) for step in self.steps],
            results={i: values[k] for i, k in self.results},
            forms={i: leaf_form(values[k], dtype) for i, dtype, k in self.forms},
            temporaries={b: (first, last, values[k]) for b, first, last, k in self.temporaries})


def _copied(nodes: list[Node], leaves: list[Node], numbers) -> tuple[list[Node], list[Node]]:
    """A recording with other sizes."""
    copies: dict[Node, Node] = {}
    for n in nodes:
        copies[n] = Node.__new__(Node)
    for n in leaves:
        copies[n] = Node.__new__(Node)
    for n, copy in copies.items():
        copy.form = resized(n.form, numbers)
        copy.inputs = tuple([copies[s] if type(s) is Node else s for s in n.inputs])
        copy.buffer, copy.where = n.buffer, n.where
    return [copies[n] for n in nodes], [copies[n] for n in leaves]


class _Places:
    """Gives each number its place among all that a plan holds."""

    def __init__(self):
        self.numbers: list = []
        self.known: dict = {}

    def __call__(self, n) -> int:
        key = id(n) if type(n) is Size else n
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = len(self.numbers)
            self.numbers.append(n)
        return found

    def several(self, numbers) -> tuple:
        return tuple([self(n) for n in numbers])


class _Call:
    """A call whose numbers vary."""

    def __init__(self, call: Call, place: _Places):
        self.call, self.group = call, _Described(call.group, place)
        self.args = [("int", 0) if arg[0] == "int" else arg for arg in call.args]
        self.integers = [(at, place(arg[1])) for at, arg in enumerate(call.args) if arg[0] == "int"]
        self.pointers = [(at, arg[1], place(arg[2])) for at, arg in enumerate(call.args) if arg[0] == "ptr" and type(arg[2]) is Size]
        self.checks = [(i, j, place(size)) for i, j, size in call.checks]
        self.chain = place.several(call.program.sizes) if isinstance(call.program, ChainProgram) else None
        self.launch = place.several((call.kernel.chunks, call.kernel.bytes)) if isinstance(call.kernel, ChainKernel) else None
        self.varies = self.launch is not None or any(arg[0] == "int" and type(arg[1]) is Size for arg in call.args)

    def kernel(self, values: tuple, program=None):
        """The kernel for these numbers; of a chain with a `program` of that size, if it is to be described."""
        return ChainKernel(program or self.call.program, *[values[k] for k in self.launch]) if self.launch else self.call.kernel

    def fill(self, values: tuple) -> Call:
        args = self.args.copy()
        for at, k in self.integers:
            args[at] = ("int", values[k])
        for at, buffer, k in self.pointers:
            args[at] = ("ptr", buffer, values[k])
        call = Call(self.call.program, args, self.group.sized(values))
        call.writes, call.fails = self.call.writes, self.call.fails
        call.checks = [(i, j, values[k]) for i, j, k in self.checks]
        if self.chain:
            call.program = ChainProgram(call.program.call, tuple([values[k] for k in self.chain]))
        call.kernel = self.kernel(values, call.program)
        return call


class _Extern:
    """A step done by NumPy whose numbers vary."""

    args = integers = pointers = checks = ()

    def __init__(self, step: Extern, place: _Places):
        self.step, self.group = step, _Described(step.group, place)
        self.inputs = [(b, v and (place.several(v.shape), place.several(v.strides), place(v.offset)), dtype, number)
                       for b, v, dtype, number in step.inputs]
        self.outputs = [(b, place(numel), dtype) for b, numel, dtype in step.outputs]

    def fill(self, values: tuple) -> Extern:
        def viewed(v):
            return v and view(tuple([values[k] for k in v[0]]), tuple([values[k] for k in v[1]]), values[v[2]])

        inputs = [(b, viewed(v), dtype, number) for b, v, dtype, number in self.inputs]
        outputs = [(b, values[k], dtype) for b, k, dtype in self.outputs]
        return Extern(self.step.host, self.step.params, inputs, outputs, self.group.sized(values), self.step.name)


class _Described:
    """What `explain` tells of a group: see `Group`."""

    def __init__(self, group, place: _Places):
        self.kind, self.reason, self.root, self.chain = group.kind, group.reason, group.root, group.chain
        self.about = [(i, name, place.several(shape), dtype, stored) for i, name, shape, dtype, stored in group.nodes]
        self.values: tuple = ()

    def sized(self, values: tuple) -> _Described:
        found = object.__new__(_Described)
        found.__dict__.update(self.__dict__, values=values)
        return found

    @property
    def nodes(self) -> list:
        return [(i, name, tuple([self.values[k] for k in shape]), dtype, stored) for i, name, shape, dtype, stored in self.about]
