"""What a function of tensors records, recorded again.

Operators that are several nodes, layers and derivatives are written with other operators: each of these checks its arguments, decides
about shapes and dtypes, makes a tensor and its derivative, only to come to what it came to the last time. So when such a function is
called again and again with inputs of the same layouts, what it records is noted (`observe`), and from then on a function that makes just
that takes its place (`rewriting`).

This is for functions that record operations on their arguments and do nothing else but draw random masks and write to arguments. What
a function is seen to do besides (to ask for a value, to warn, to use a tensor that is not among its arguments) makes it one that is
called as ever.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from functools import partial
from itertools import combinations
from threading import get_ident

from ..base import config
from ..base import dtype as dt
from ..base.errors import user_frame
from ..base.formats import Size
from ..base.grad_mode import casting, mode, without_grad
from ..base.symbol import Symbol
from ..graph import tape
from ..graph.node import View
from ..graph.tape import LONGEST, state
from . import derivative
from .bounds import require
from .casts import concerned, policies, recast
from .derivative import place_of, saving
from .layout import Meta, core
from .public import mistyped, postponed
from .rewriting import Text, Untold

_PLAIN = frozenset((type(None), type(Ellipsis), str, dt.dtype, View, Meta))
_NUMBERS = frozenset((bool, int, float))
_INTEGERS = frozenset((int,))
PATIENCE = 3        # calls of one kind before one is noted
TRUST = 4           # kinds that are noted at their first call for each that had patience and came again: the layers of a network meet
                    # every new length of a sequence, a function of ever other sizes meets none twice
VAIN = 8            # kinds of calls that come to nothing, after which no other is looked at
MOST = 5_000        # kept for one function
FEW = 4             # in a tuple or list, that are told by their types


class Memory:
    """What is known of calls of several kinds. `found`: kind -> the key of a call -> what records it again; `seen`: (kind, key) -> how
    often such a call was met, or None if nothing records it. `trusted`: how many may be noted at their first call. `worth`: False where
    nothing is found, or nothing of at least `fewest` nodes: less are made as soon as they are found."""

    def __init__(self, fewest: int = 0):
        self.found: dict = {}
        self.seen: dict = {}
        self.fewest, self.worth, self.looks, self.trusted = fewest, True, 0, 0

    def due(self, kind: tuple, key: tuple) -> bool:
        """Whether it is time to look at a call that has no function in its place yet."""
        if len(self.seen) > MOST:
            self.seen.clear()
            for known in self.found.values():
                known.clear()
        seen = self.seen.get((kind, key), 0)
        if seen is None:
            return False
        self.seen[kind, key] = seen + 1
        if seen < PATIENCE and self.trusted:
            self.trusted -= 1
            return True
        return seen >= PATIENCE

    def keep(self, kind: tuple, key: tuple, again, nodes: int) -> None:
        """Note what was found."""
        seen = self.seen.get((kind, key), 0)
        early = seen is not None and seen <= PATIENCE       # None: another thread was quicker
        if early and again is None:
            self.trusted = 0        # what it does at its first call alone is no reason to give it up
            return
        self.looks += 1
        if again is not None and nodes >= self.fewest:
            self.looks = -MOST
        elif self.looks > (1 if self.fewest else VAIN):
            self.worth = False
            return
        if again is None:
            self.seen[kind, key] = None
        else:
            self.found.setdefault(kind, {})[key] = again
            self.trusted += 0 if early else TRUST


class Recollections(dict):
    """Calls of `function` by the types of their arguments (and the names of the last of them): types -> a function of the arguments, which
    records again what `function` records, wherever that is known. `before`, `after`: types that go without saying. `check`: raises an
    error for wrong types."""

    __slots__ = ("function", "memory", "before", "after", "check")

    def __init__(self, function: Callable, fewest: int = 0, before: tuple = (), after: tuple = (), check: Callable | None = None):
        super().__init__()
        self.function, self.memory, self.before, self.after, self.check = function, Memory(fewest), before, after, check

    def __missing__(self, kind: tuple) -> Callable:
        if self.check is not None:
            self.check(kind)
        names = tuple([x for x in kind if type(x) is str])
        types = (*self.before, *kind[:len(kind) - len(names)], *self.after)
        plain = partial(_named, self.function, names) if names else self.function
        self[kind] = self._written(types, kind, plain)
        sequences = [k for k, x in enumerate(types) if x is tuple or x is list]
        if self.memory.worth and len(sequences) == 1:
            (at,) = sequences
            before, after = types[:at], types[at + 1:]
            spread = Recollections(partial(_gathered, plain, at, len(after), types[at]), self.memory.fewest, before, after)
            self[kind] = derivative.written(_spreading(len(types), at), {"whole": self[kind], "spread": spread})
        integers = tuple([k for k, x in enumerate(types) if x is tuple or x is Size])
        if integers:
            self[kind] = self._written(types, kind, plain, integers, self[kind])
        return self[kind]

    def _written(self, types: tuple, kind: tuple, plain: Callable, integers: tuple = (), otherwise: Callable | None = None) -> Callable:
        """A function of arguments of these types; if it is not of integers alone that tuples at these places are, it calls `otherwise`."""
        text = _calling(types, integers) if self.memory.worth else None
        if text is None:
            return otherwise or plain
        space = {"plain": plain, "look": partial(self._look, kind, plain), "found": self.memory.found.setdefault(kind, {}),
                 "integers": _INTEGERS.issuperset, "otherwise": otherwise}
        return derivative.written(text, spelling_space() | space)

    def _look(self, kind: tuple, plain: Callable, key: tuple, tensors, nodes, *arguments):
        """A call with no function in its place yet."""
        if state.profiled or not self.memory.due(kind, key):
            return plain(*arguments)
        result, again, count = observe(partial(plain, *arguments), tensors, nodes)
        self.memory.keep(kind, key, again, count)
        if not self.memory.worth:
            self.clear()
        return result


def _named(function: Callable, names: tuple, *arguments):
    """function(*arguments), the last of which have names."""
    n = len(arguments) - len(names)
    return function(*arguments[:n], **dict(zip(names, arguments[n:])))


def _gathered(function: Callable, at: int, after: int, kind: type, *arguments):
    """The function of arguments of which one, a tuple or list, was spread among the others."""
    end = len(arguments) - after
    return function(*arguments[:at], kind(arguments[at:end]), *arguments[end:])


class Onlooker:
    """Told by the engine (`tape.state.watch`) what a function does besides recording. `drawn`, `required`: what `Text` is told.
    `copies`: of memory shared with NumPy, the copy that has been made for the call."""

    def __init__(self, copies: dict | None = None):
        self.refused, self.drawing, self.thread = False, False, get_ident()
        self.copies = copies or {}
        self.drawn: list = []
        self.required: list = []        # (node, range of indices)

    def refuse(self, *reason) -> None:
        self.refused = True

    looked = flushed = refuse

    def drew(self) -> None:
        self.refused |= not self.drawing

    def requires(self, node, wanted) -> None:
        self.required.append((node, wanted))

    def made(self, node) -> None:
        pass        # a leaf that is used is no input, and found by that

    def copy_of(self, storage):
        return self.copies.get(storage) if get_ident() == self.thread else None

    def draws(self, generator):
        if generator is not core.default_generator or get_ident() != self.thread:
            self.refused = True
            return generator
        return _Draws(self, generator)

    def group(self, group: dict) -> dict:
        return group        # of an optimiser, in another thread

    def step(self, state: dict) -> float:
        state["step"] += 1
        return state["step"]


class _Draws:
    """The default generator, whose masks are noted."""

    def __init__(self, onlooker: Onlooker, generator):
        self._onlooker, self._generator = onlooker, generator

    def __getattr__(self, name):
        self._onlooker.refused = True
        return getattr(self._generator, name)

    def below_leaf(self, *arguments):
        self._onlooker.drawing = True
        node = self._generator.below_leaf(*arguments)
        self._onlooker.drawing = False
        self._onlooker.drawn.append((arguments, node))
        return node


def recalled(function=None, *, autocast: str | dict | None = None):
    """Decorates a function of tensors that records operations on its arguments and does nothing else. `autocast`: see casts.py."""
    if function is None:
        return partial(recalled, autocast=autocast)
    space = {"_calls": Recollections(function), "casting": casting, "recast": recast, "concerned": concerned,
             "_policies": policies(autocast), "_blamed": partial(_blamed, function)}
    call = space["_call"] = functools.wraps(function)(postponed(function.__name__, space, partial(_passing_on, function)))
    return call


def _passing_on(function) -> tuple[str, None, None]:
    """The text of a function that finds in `_calls` what to call. What it is given besides the arguments it needs takes longer to pass on
    than these."""
    declared = inspect.unwrap(function)
    code = declared.__code__
    required = code.co_varnames[:code.co_argcount - len(declared.__defaults__ or ())]
    names, types = ("".join([f"{text.format(name)}, " for name in required]) for text in ("{}", "type({})"))
    return (f"def {function.__name__}({names}*_more, **_given):\n"
            f"    try:\n"
            f"        if casting and concerned(_policies): return recast(_call, _policies, {names}*_more, **_given)\n"
            f"        if _more or _given:\n"
            f"            _more += *_given.values(),\n"
            f"            return _calls[({types}*map(type, _more), *_given)]({names}*_more)\n"
            f"        return _calls[{types}]({names})\n"
            f"    except (AttributeError, RuntimeError) as error: _blamed(error, ({names}*_more), _given); raise\n"), None, None


def _blamed(function, error: Exception, values: tuple, given: dict) -> None:
    """Let an error about the type or the device of an argument speak of a call of this function, the last of whose arguments were given by
    name: see `mistyped`."""
    count = len(values) - len(given)
    if any(a is not b for a, b in zip(values[count:], given.values())):
        count = len(values)
    declared = inspect.unwrap(function).__code__.co_varnames
    mistyped(function.__name__, (*declared[:count], *given), (*values[:count], *given.values()), error)


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """A warning at the user's line, for each call: what warns is not recorded again."""
    if state.watch is not None:
        state.watch.refuse("it warns")
    frame = user_frame()
    warnings.warn_explicit(text, category, frame.f_code.co_filename, frame.f_lineno,
                           registry=frame.f_globals.setdefault("__warningregistry__", {}))


_told: set[str] = set()


def warn_once(text: str, category: type[Warning] = UserWarning) -> None:
    """A warning at the user's line, the first time that there is reason for it."""
    if text not in _told:
        _told.add(text)
        warn(text, category)


def deprecated(name: str, instead: str) -> None:
    """Tell once that a function will go."""
    warn_once(f"{name} is deprecated and will be removed in a future release of PyTorch. Use {instead} instead.")


# -- what a call is told by ---------------------------------------------------------------------------------------

def spelling(types: tuple, integers: tuple = ()) -> tuple | None:
    """How a call with arguments a0, a1, .. of these types is told from others: (lines that make its `key`, what its tensors are, and their
    nodes), or None where it is told by more than layouts. Memory shared with NumPy is urgent once its node was asked for. `integers`:
    where tuples are of integers alone, which say all by their values."""
    lines, tensors, sequences, key = [], [], [], []
    for k, kind in enumerate(types):
        a = f"a{k}"
        if issubclass(kind, core.Tensor) and kind.is_sparse is not True:
            tensors.append(k)
            lines.append(f"n{k} = {a}.storage.node")
            key.append(f"{a}._meta, n{k}.form.numel, {a}._rg")
        elif kind in _PLAIN or k in integers:
            key.append(a)
        elif kind in _NUMBERS:      # 0.0 and -0.0 are equal
            key.append(f"{a} or str({a})")
        elif kind is tuple or kind is list:
            sequences.append(k)
            key.append(f"k{k}")
        else:
            return None
    own, values = (", ".join([f"{c}{k}" for k in tensors]) for c in "an")
    pairs, alike = list(combinations(tensors, 2)), f"shared([{own}], [{values}])"
    if sequences:
        lines += [f"tensors = [{own}]", f"nodes = [{values}]"]
        for k in sequences:
            lines += [f"k{k} = sequence(a{k}, tensors, nodes)", f"if k{k} is None: return {{unknown}}"]
        own, values, twice, alike = "*tensors", "*nodes", "len({*nodes}) < len(nodes)", "shared(tensors, nodes)"
    elif len(tensors) < 5:      # what `shared` tells, without a call
        twice = " or ".join(f"n{i} is n{j}" for i, j in pairs)
        told = [f"n{i} is n{j}, a{i}.storage is a{j}.storage, (a{i}._grad_fn or a{i}) is (a{j}._grad_fn or a{j}), " for i, j in pairs]
        alike = f"({''.join(told)}{', '.join([f'a{k}._nr' for k in tensors])})"
    else:
        twice = f"len({{{values}}}) < {len(tensors)}"
    lines.append(f"key = (dt._default, core.default_device, not without_grad or this_thread.grad, {', '.join(key)})")
    if twice:
        lines.append(f"if {twice}: key += {alike}")
    return lines, own, values


def _calling(types: tuple, integers: tuple = ()) -> str | None:
    """The text of a function of arguments of these types: see `Recollections`."""
    spelled = spelling(types, integers)
    if spelled is None:
        return None
    lines, tensors, nodes = spelled
    arguments = ", ".join([f"a{k}" for k in range(len(types))])
    lines = ["if state.watch is not None or casting and this_thread.autocast is not None or config.eager or saving: return {unknown}",
             *lines,
             "if state.urgent: return {unknown}",
             "again = found.get(key)",
             f"if again is None: return look(key, [{tensors}], [{nodes}], {arguments})",
             f"result = again({', '.join(filter(None, (tensors, nodes)))})",
             "if len(pending) + state.hidden > LONGEST: settle()",
             "return result"]
    if integers:
        lines.insert(0, f"if not ({' and '.join([f'integers(map(type, a{k}))' for k in integers])}): return otherwise({arguments})")
    return f"def call({arguments}):\n    " + "\n    ".join(lines).replace("{unknown}", f"plain({arguments})") + "\n"


def _spreading(count: int, at: int) -> str:
    """The text of a function of `count` arguments that spreads a tuple or list among the others, so that what is in there is told by
    types that are known, too: a call with two tensors in a list takes as long as one with two tensors."""
    arguments = [f"a{k}" for k in range(count)]
    alone = ", ".join(arguments)
    arguments[at] = f"*a{at}"
    return (f"def call({alone}):\n"
            f"    if len(a{at}) > FEW: return whole({alone})\n"
            f"    return spread[tuple(map(type, a{at}))]({', '.join(arguments)})\n").replace("FEW", str(FEW))


def sequence(items, tensors: list, nodes: list) -> tuple | None:
    """All that a tuple or list says; tensors in it are added to those of the call. None where that is not all."""
    if _INTEGERS.issuperset(map(type, items)):
        return tuple(items)
    key: list = []
    for x in items:
        kind = type(x)
        if kind is core.Tensor or isinstance(x, core.Tensor) and not x.is_sparse:
            node = x.storage.node
            tensors.append(x)
            nodes.append(node)
            key += (x._meta, node.form.numel, x._rg)
        elif kind in _PLAIN:
            key.append(x)
        elif kind in _NUMBERS:      # 1, 1.0 and True are equal, too
            key += (kind, x or str(x))
        elif kind is tuple or kind is list or kind is slice:
            inner = sequence(x if kind is not slice else (x.start, x.stop, x.step), tensors, nodes)
            if inner is None:
                return None
            key += (kind, inner)
        else:
            return None
    return tuple(key)


def _shared(tensors, nodes) -> tuple:
    """Which of several tensors have the same value, the same memory and the same history."""
    storages, histories = [t.storage for t in tensors], [id(t._grad_fn or t) for t in tensors]
    return (*map(nodes.index, nodes), *map(storages.index, storages), *map(histories.index, histories), *[t._nr for t in tensors])


@functools.cache
def spelling_space() -> dict:
    """The globals of what is written with `spelling`."""
    return {"dt": dt, "core": core, "this_thread": mode, "without_grad": without_grad, "casting": casting, "config": config,
            "saving": saving, "state": state, "pending": tape.nodes, "settle": tape.settle, "LONGEST": LONGEST, "sequence": sequence,
            "shared": _shared}


# -- what a call records ----------------------------------------------------------------------------------------

def observe(call, tensors, nodes, numbers: list | None = None) -> tuple:
    """(call(), a function that records the same for other tensors or None, how many nodes that are). `numbers`: the formulas of numbers
    that may be others, too (`base.symbol`), from what is then a third argument."""
    copies = {t.storage: n for t, n in zip(tensors, nodes) if t.storage.shared}
    distinct = len(copies) == sum([t.storage.shared for t in tensors])
    before, onlooker, first = len(tape.nodes), Onlooker(copies if distinct else None), derivative.names["count"]()
    versions = [t.storage.version for t in tensors]
    edges = [place_of(derivative.names["edge_of"](t)) if t._rg else None for t in tensors]
    state.watch = onlooker
    try:
        result = call()
    finally:
        state.watch = None
    for node, wanted in onlooker.required:
        if node.buffer is None and node in nodes:
            require(node, wanted)       # it could not be computed meanwhile
        elif node.buffer is None:
            state.unsure = True
    if onlooker.refused:
        return result, None, 0
    with tape.computing:        # a node that another thread computes is no longer what was recorded
        recorded = tape.nodes[before:]
        symbols = {id(x): x.name for n in recorded for x in n.inputs if type(x) is Symbol} if numbers else None
        text = Text(tensors, nodes, edges, first, symbols)
        text.lines += numbers or []
        try:
            text.require(onlooker.required)
            text.draw(onlooker.drawn)
            text.record(recorded)
            text.written(versions)
            again = text.function(_results(text, result), *(() if numbers is None else ("numbers",)))
            return result, again, len(text.recorded)
        except Untold:
            return result, None, 0


def _results(text: Text, result) -> str:
    """The results, made last: an expression."""
    several = isinstance(result, (tuple, list))
    results = list(result) if several else [result]
    if not all([t is None or isinstance(t, core.Tensor) for t in results]):
        raise Untold
    text.differentiate([t for t in results if t is not None])
    names = ["None" if t is None else text.tensor(t, True) for t in results]
    if not several:
        return names[0]
    if type(result) is list:
        return f"[{', '.join(names)}]"
    whole = f"({''.join(n + ', ' for n in names)})"
    return whole if type(result) is tuple else f"tuple_of({text.constant(type(result))}, {whole})"
