"""Plans of few operations that run again and again: functions written for them tell their recordings and run them.

A program that asks for a number after every few operations waits longer for its plan to be found than for its kernels. `flush.identify`
makes a key of all there is to know of a recording, which is looked up. A function written for one recording compares the next with it
and stops at the first thing that differs: what is read, forms of leaves, and all counts of references, which tell the values that somebody
can still ask for.
"""

from __future__ import annotations

from sys import getrefcount
from types import FunctionType

from ..base import config
from ..loops.plan import Plan, arena, integer
from ..runtime import flight
from ..runtime.buffer import Buffer
from ..runtime.functions import code_of
from . import block, tape, window, wiring
from .block import Block, Unfolding
from .node import Node

LONGEST = 48        # entries of a recording that is compared this way
PATIENCE = 6        # how often a plan is found by its key before a function is written for it
SEVERAL = 4         # functions for recordings of the same forms, and for one plan
ROOM = 1_000        # functions

_known: dict[tuple, list[Brief]] = {}       # the configuration and forms -> those that it may be, the latest first
_count = [0]
_met: list[tuple | None] = [None]           # what a recording seems to be that is being looked up, and its counts of references


class Brief:
    """`run(entries, wanted, counts)`: whether it is this recording of which this node is asked for; it has been computed then. With no
    `counts`, all but the counts of references is compared, and these are given back: how many of them are the interpreter's own is seen
    where the key says that it was this recording."""

    __slots__ = ("plan", "run", "counts")

    def __init__(self, plan: Plan, run: FunctionType):
        self.plan, self.run, self.counts = plan, run, None


def clear() -> None:
    _known.clear()
    _count[0] = 0


def again(nodes: list, wanted) -> Plan | None:
    """The plan of a recording that a function was written for; it has been run."""
    _met[0] = None
    if len(nodes) > LONGEST or type(wanted) is not Node or tape.state.watch is not None:
        return None
    several = _known.get((config.target, config.fuse, config.float32_matmul, *map(wiring.form_of, nodes)))
    if several is None and _known and block.spread(nodes) | window.framed(nodes):
        several = _known.get((config.target, config.fuse, config.float32_matmul, *map(wiring.form_of, nodes)))
    if several is None:
        return None
    for k, one in enumerate(several):
        if told := one.run(nodes, wanted, one.counts):
            if one.counts is None:
                _met[0] = one, told
                return None
            if k:
                several.insert(0, several.pop(k))
            return one.plan
    return None


def found(plan: Plan, nodes: list, made: list[Node], key: tuple, leaves: list[Node], places, wanted: int | None) -> None:
    """A plan was found by the key of a recording, and is about to be run. `places`: the numbers in the plan of the nodes that are made,
    `wanted`: which of those is asked for."""
    met, _met[0] = _met[0], None
    if met is not None:
        one, counts = met
        if one.plan is plan:    # what was written to be compared says the same as the key
            one.counts = counts
        return
    plan.found += 1
    if plan.found % PATIENCE or plan.found > SEVERAL * PATIENCE or wanted is None or len(nodes) > LONGEST \
            or len({*map(wiring.buffer_of, leaves)}) < len(leaves):
        return
    if _count[0] >= ROOM:
        clear()
    forms = tuple(map(wiring.form_of, nodes))
    several = _known.setdefault((*key[:3], *forms), [])
    several.insert(0, Brief(plan, _Text(plan, nodes, made, key, places, wanted).function()))
    _count[0] += 1
    del several[SEVERAL:]


class _Text:
    """The lines of a function for one recording and its plan."""

    def __init__(self, plan: Plan, nodes: list, made: list[Node], key: tuple, places, wanted: int):
        *_, self.sources, forms, _, _, exported = key
        self.lines: list[str] = []
        self.constants: list = []
        self.same: list[str] = []
        self.numbers: list[str] = []
        self.leaves: set[int] = set()           # those that have names
        self._entries(nodes)
        self.same.append(f"wanted is n{wanted}")
        self.same += [f"l{k}.form is {self.constant(f)}" for k, f in enumerate(forms)]
        if len(forms) > 1:
            self.same.append(f"len({{{', '.join([f'l{k}' for k in range(len(forms))])}}}) == {len(forms)}")
        self.lines += [f"if not ({' and '.join(self.same)}): return False", *[f"b{k} = l{k}.buffer" for k in range(len(forms))]]
        counted = [f"n{i}, " for i in range(len(made))] + [f"{x}{k}, " for x in "lb" for k in range(len(forms))]
        self.lines += [f"now = tuple(map(getrefcount, ({''.join(counted)})))", "if counts is not None and now != counts: return False"]
        self.lines += [f"if {' or '.join([f'b{k}.exported is not {x}' for k, x in enumerate(exported)])}: return False"] if exported else []
        self.lines.append("if counts is None: return now")
        self._run(plan, places, made is not nodes, plan.waited_for(places[wanted]))

    def constant(self, x) -> str:
        self.constants.append(x)
        return f"c{len(self.constants) - 1}"

    def _entries(self, nodes: list) -> None:
        """What entries made, and what they read."""
        entries, made, sources = [], 0, iter(self.sources)
        for k, entry in enumerate(nodes):
            own = entry.made if type(entry) is Block else (entry,)
            names = "".join([f"n{made + i}, " for i in range(len(own))])
            made += len(own)
            name = f"e{k}" if type(entry) is Block else f"n{made - 1}"
            entries.append(name + ", ")
            if type(entry) is Block:
                self.lines.append(f"{names} = {name}.made" if names else "")
                own_numbers = [f"v{k}_{j}" for j in range(len(entry.numbers))]
                self.lines.append(f"{', '.join(own_numbers)}, = {name}.numbers" if own_numbers else "")
                self.numbers += own_numbers
            pattern = "".join([self._read(next(sources), f"{k}_{j}") + ", " for j in range(len(entry.inputs))])
            self.lines.append(f"{pattern} = {name}.inputs" if pattern else "")
        self.lines.insert(0, f"{''.join(entries)} = entries")

    def _read(self, source: int | None, place: str) -> str:
        if source is None:
            self.numbers.append(f"x{place}")
            return f"x{place}"
        if source >= 0:
            self.same.append(f"x{place} is n{source}")
            return f"x{place}"
        if ~source not in self.leaves:
            self.leaves.add(~source)
            return f"l{~source}"
        self.same.append(f"x{place} is l{~source}")
        return f"x{place}"

    def _run(self, plan: Plan, places, folded: bool, now: int) -> None:
        if folded:
            self.lines.append("entries, recorded = Unfolding(), entries; entries.recorded = recorded")
        self.lines += [f"given = [{', '.join([f'n{places.index(i)}' for i, _ in plan.results])}]", "finish()"]
        buffers = []
        for k, (i, nbytes) in enumerate(plan.results):
            leaf = plan.donated.get(i)
            buffers.append(f"r{k}" if leaf is None else f"b{leaf}")
            if leaf is None:
                self.lines.append(f"r{k} = allocate({self.constant(nbytes)})")
        addresses = [*[f"b{k}.address" for k in range(plan.leaves)], *[f"{b}.address" for b in buffers],
                     f"arena({self.constant(plan.arena_bytes)}).address" if plan.arena_bytes else "0", self.constant(plan.status_address)]
        self.lines += [f"at = [{', '.join(addresses)}]", f"p, words, floats = {self.constant((plan, plan.word, plan.float_word))}",
                       "if p.bound != at: p.bind_addresses(at)", "p.told = None"]
        for number, places_of in zip(self.numbers, plan.numbers):
            self.lines += [f"floats[{at}] = {number}" if kind == "f" else f"words[{at}] = integer({number}, {kind == 'b'})"
                           for at, kind in places_of]
        self.lines.append(f"p.launch(entries, given, [{', '.join(buffers)}], {now})")

    def function(self) -> FunctionType:
        names = "".join([f"c{k}, " for k in range(len(self.constants))])
        lines = ["def run(entries, wanted, counts, constants):", f"{names} = constants", *filter(None, self.lines), "return True"]
        code = next(c for c in code_of("\n    ".join(lines), __file__).co_consts if hasattr(c, "co_code"))
        return FunctionType(code, _SPACE, "run", (tuple(self.constants),))


_SPACE = {"finish": flight.finish, "getrefcount": getrefcount, "allocate": Buffer.allocate, "arena": arena, "integer": integer,
          "Unfolding": Unfolding}
