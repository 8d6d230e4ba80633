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
import warnings
from collections.abc import Callable
from itertools import combinations
from types import FunctionType

from ..base import config
from ..base import dtype as dt
from ..base.errors import user_frame
from ..base.grad_mode import mode
from ..graph import tape
from ..graph.node import View
from ..graph.tape import LONGEST, state
from . import derivative
from .bounds import require
from .derivative import saving
from .layout import Meta, core
from .rewriting import Text, Untold, place_of

_PLAIN = frozenset((type(None), type(Ellipsis), str, dt.dtype, View, Meta))
_NUMBERS = frozenset((bool, int, float))
_INTEGERS = frozenset((int,))
PATIENCE = 3        # calls of one kind before one is noted
VAIN = 8            # kinds of calls that come to nothing, after which no other is looked at
MOST = 5_000        # kept for one function


class Recollections:
    """What is known of one function. `spellers`: types of its arguments, names -> a function that gives the key of a call; `found`:
    key -> how often it was seen, or what records it again, or None if nothing does. `worth`: False where nothing is found, or nothing
    of at least `fewest` nodes: less are made as soon as they are found."""

    __slots__ = ("spellers", "found", "fewest", "worth", "looks")

    def __init__(self, fewest: int = 0):
        self.spellers: dict = {}
        self.found: dict = {}
        self.fewest, self.worth, self.looks = fewest, True, 0

    def speller(self, types: tuple, arguments: tuple) -> Callable:
        """A function (names, *arguments) -> (key, tensors, their nodes) for arguments of these types (and names), or None where a call is
        told by more than layouts."""
        found = self.spellers[types] = _speller(arguments)
        return found

    def due(self, key: tuple) -> bool:
        """Whether it is time to look at a call that has no function in its place yet."""
        found = self.found
        if len(found) > MOST:
            found.clear()
        seen = found.get(key, 0)
        if seen is None:
            return False
        found[key] = seen + 1
        return seen >= PATIENCE

    def keep(self, key: tuple, again: FunctionType | None, nodes: int) -> None:
        """Note what was found."""
        self.looks += 1
        if again is not None and nodes >= self.fewest:
            self.looks = -MOST
        elif self.looks > (1 if self.fewest else VAIN):
            self.worth = False
            self.found.clear()
            return
        self.found[key] = again


class Onlooker:
    """Told by the engine (`tape.state.watch`) what a function does besides recording. `drawn`, `required`: what `Text` is told."""

    def __init__(self):
        self.refused, self.drawing = False, False
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

    def draws(self, generator):
        if generator is not core.default_generator:
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


def recalled(function):
    """Decorates a function of tensors that records operations on its arguments and does nothing else."""
    known = Recollections()

    @functools.wraps(function)
    def call(*args, **given):
        if given:
            return recall(known, function, (*args, *given.values()), tuple(given)) if known.worth else function(*args, **given)
        return recall(known, function, args) if known.worth else function(*args)
    return call


def warn(text: str) -> None:
    """A warning at the user's line, for each call: what warns is not recorded again."""
    if state.watch is not None:
        state.watch.refuse("it warns")
    frame = user_frame()
    warnings.warn_explicit(text, UserWarning, frame.f_code.co_filename, frame.f_lineno,
                           registry=frame.f_globals.setdefault("__warningregistry__", {}))


def recall(known: Recollections, function, arguments: tuple, names: tuple = ()):
    """function(*arguments), recorded again where what it records is known; `names`: of the last arguments, if they have any."""
    if state.urgent or state.watch is not None or mode.autocast is not None or config.eager or saving:
        return _called(function, arguments, names)
    types = (*map(type, arguments), *names) if names else tuple(map(type, arguments))
    try:
        spell = known.spellers[types]
    except KeyError:
        spell = known.speller(types, arguments)
    spelled = spell(names, *arguments)
    if spelled is None or state.urgent:         # memory shared with NumPy: computed at once
        return _called(function, arguments, names)
    key, tensors, nodes = spelled
    again = known.found.get(key)
    if type(again) is FunctionType:
        result = again(tensors, nodes)
        if len(tape.nodes) > LONGEST:
            tape.settle()
        return result
    if not known.due(key):
        return _called(function, arguments, names)
    result, again, count = observe(lambda: _called(function, arguments, names), tensors, nodes)
    known.keep(key, again, count)
    return result


def _called(function, arguments: tuple, names: tuple):
    if not names:
        return function(*arguments)
    n = len(arguments) - len(names)
    return function(*arguments[:n], **dict(zip(names, arguments[n:])))


# -- what a call is told by ---------------------------------------------------------------------------------------

def _speller(arguments: tuple) -> Callable:
    """See `Recollections.speller`."""
    lines, tensors, sequences, key = [], [], [], []
    for k, x in enumerate(arguments):
        kind, a = type(x), f"a{k}"
        if isinstance(x, core.Tensor) and not x.is_sparse:
            tensors.append(k)
            lines.append(f"n{k} = {a}.storage.node")
            key.append(f"{a}._meta, n{k}.form.numel, {a}._rg")
        elif kind in _PLAIN:
            key.append(a)
        elif kind in _NUMBERS:      # 0.0 and -0.0 are equal
            key.append(f"{a} or str({a})")
        elif kind is tuple or kind is list:
            sequences.append(k)
            key.append(f"k{k}")
        else:
            return _unspeakable
    own, values = ("".join(f"{c}{k}, " for k in tensors) for c in "an")
    if sequences:
        lines += [f"tensors = [{own}]", f"nodes = [{values}]"]
        for k in sequences:
            lines += [f"k{k} = sequence(a{k}, tensors, nodes)", f"if k{k} is None: return None"]
        own, values, twice = "tensors", "nodes", "len({*nodes}) < len(nodes)"
    else:
        own, values = f"({own})", f"({values})"
        twice = " or ".join(f"n{i} is n{j}" for i, j in combinations(tensors, 2))
    lines.append(f"key = (dt._default, core.default_device, mode.grad, names, {', '.join(key)})")
    if twice:
        lines.append(f"if {twice}: key += shared({own}, {values})")
    lines.append(f"return key, {own}, {values}")
    return derivative.written(
        f"def spell(names, {', '.join(f'a{k}' for k in range(len(arguments)))}):\n    " + "\n    ".join(lines) + "\n", _SPACE)


def _unspeakable(*arguments) -> None:
    """A call is told by an argument of which nothing is known."""


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
    storages = [t.storage for t in tensors]
    histories = [t._grad_fn or t for t in tensors]
    return (*map(nodes.index, nodes), *map(storages.index, storages), *map(list(map(id, histories)).index, map(id, histories)),
            *[t._nr for t in tensors])


_SPACE = {"dt": dt, "core": core, "mode": mode, "sequence": sequence, "shared": _shared}


# -- what a call records ----------------------------------------------------------------------------------------

def observe(call, tensors, nodes) -> tuple:
    """(call(), a function that records the same for other tensors or None, how many nodes that are)."""
    before, onlooker, first = len(tape.nodes), Onlooker(), derivative.names["count"]()
    versions = [t.storage.version for t in tensors]
    edges = [place_of(derivative.names["edge_of"](t)) if t._rg else None for t in tensors]
    state.watch = onlooker
    try:
        result = call()
    finally:
        state.watch = None
    recorded = tape.nodes[before:]
    for node, wanted in onlooker.required:
        if node.buffer is None and node in nodes:
            require(node, wanted)       # it could not be computed meanwhile
        elif node.buffer is None:
            state.unsure = True
    if onlooker.refused:
        return result, None, 0
    text = Text(tensors, nodes, edges, first)
    try:
        text.require(onlooker.required)
        text.draw(onlooker.drawn)
        text.record(recorded)
        text.written(versions)
        return result, text.function(_results(text, result)), len(recorded)
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
