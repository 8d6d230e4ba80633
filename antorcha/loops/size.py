"""Sizes that note what is asked of them.

A plan for a recording is made by ordinary arithmetic and comparisons of sizes. If these are `Size`s in place of ints, a `Trace` writes
down, in order, what is computed of them and what every comparison gave. That is a function of the sizes: for others it either computes
what making the plan for them would have computed, or finds the first comparison with another outcome and gives None.

Nothing can be decided unnoticed: a Size is no int, so whatever needs one (a range, an index, a constant of a program) asks for
`__index__` or `__int__`, which notes that the value must be the same.

But for two things. That two sizes, or one and a constant, are not equal: what is made for unequal ones is right where they happen to be
equal, too, so it is not noted. Whether they only happen to be equal is told by the values that they had before: then nothing is traced
(`Coincidence`), since what is made for equal sizes is right for those alone. And that a function of `likely` finds nothing, as it would for
almost all sizes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%", "truediv": "/", "and": "&", "or": "|", "xor": "^",
              "lshift": "<<", "rshift": ">>", "pow": "**"}
COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
NUMBERS = (int, float)
PURPOSE = (0, 1)    # what a size is compared with on purpose, as it is not with other constants


class Coincidence(Exception):
    """Two sizes are equal, or one and a constant are, that were not before."""


tracing: Trace | None = None        # whose sizes there are
apart = False       # whether those that only happen to be equal are told apart, as keys of a table


def likely(numbers):
    """A decorator of functions that give None where what is asked for is not possible, which is right for any sizes: of sizes they give
    something only where it was possible before, too, and that it is not is not noted. `numbers(arguments, of)`: the arguments with each
    number x in them replaced by of(x)."""
    def decorate(function):
        @functools.wraps(function)
        def guarded(*arguments):
            global tracing
            trace = tracing
            if trace is not None and not trace.exact:
                tracing = None      # numbers are asked
                try:
                    if function(*numbers(arguments, now)) is None or function(*numbers(arguments, _before)) is None:
                        return None
                except (ArithmeticError, TypeError):        # of a size that nobody would have asked for before
                    return None
                finally:
                    tracing = trace
            return function(*arguments)
        return guarded
    return decorate


def now(x):
    """The value that a size has now, which is not noted: nothing may be decided by it that a plan is made of."""
    return x.value if type(x) is Size else x


def _before(x):
    return x.other if type(x) is Size else x


def sure(n, value: int) -> bool:
    """Whether a number is `value`, where what is made for others is right for that, too: of a size only where it was so before, and that it
    is not is not noted."""
    return (settled(n) or n.value == n.other == value) and n == value


def settled(n) -> bool:
    """Whether a number is no size that varies: it may be a constant of a program."""
    return type(n) is not Size or n.trace.exact


def few_of_many(few, most: int, many, fewest: int) -> bool:
    """Whether few <= most and many >= fewest, which is noted as one."""
    sizes = [x for x in (few, many) if type(x) is Size]
    found = now(few) <= most and now(many) >= fewest
    if not sizes:
        return found
    return sizes[0].trace.decide(f"{_named(few)} <= {most} and {_named(many)} >= {fewest}", found, *sizes)


def _named(x) -> str:
    return x.name if type(x) is Size else repr(x)


def larger(a, b) -> bool:
    """Whether a > b, where a plan is right whatever is answered and hardly slower: of sizes as they are now, which is not noted."""
    return a > b if settled(a) and settled(b) else now(a) > now(b)


def least(a, b):
    """The smaller of two numbers; of sizes it is computed, not decided, which one that is."""
    return _chosen("min", min, a, b)


def greatest(a, b):
    """The larger one, likewise."""
    return _chosen("max", max, a, b)


def _chosen(name: str, choose: Callable, a, b):
    sizes = [x for x in (a, b) if type(x) is Size]
    if not sizes or a is b:
        return choose(a, b)
    names = [_named(x) for x in (a, b)]

    def apply(*values):
        given = iter(values)
        return choose(*[next(given) if type(x) is Size else x for x in (a, b)])

    return sizes[0].trace.let(f"{name}({', '.join(names)})", apply, *sizes)


class Size:
    """A number with the name under which a trace knows it, and the `other` value that it had before. Equal expressions are one object."""

    __slots__ = ("value", "other", "name", "trace")

    def __init__(self, trace: Trace, name: str, value, other):
        self.trace, self.name, self.value, self.other = trace, name, value, other

    def __hash__(self) -> int:
        return hash(self.value)     # as of an int: what it is found equal to is noted by `__eq__`

    def __repr__(self) -> str:
        return f"~{self.value}"

    def __bool__(self) -> bool:
        return self.trace.decide(f"{self.name} != 0", self.value != 0, self)

    def _fixed(self):
        self.trace.decide(f"{self.name} == {self.value!r}", True, self)
        return self.value

    def __index__(self) -> int:
        return operator.index(self._fixed())

    def __int__(self) -> int:
        return int(self._fixed())

    def __float__(self) -> float:
        return float(self._fixed())

    def __neg__(self):
        return self.trace.let(f"-{self.name}", operator.neg, self)

    def __abs__(self):
        return self.trace.let(f"abs({self.name})", abs, self)

    def __divmod__(self, other):
        return self // other, self % other

    def __rdivmod__(self, other):
        return other // self, other % self


def _arithmetic(name: str, sign: str) -> None:
    apply = getattr(operator, name if name not in ("and", "or") else name + "_")

    def forward(self, other):
        if type(other) is Size:
            return self.trace.let(f"{self.name} {sign} {other.name}", apply, self, other)
        if not isinstance(other, NUMBERS):
            return NotImplemented
        if other == 1 and sign in ("*", "//") or other == 0 and sign in ("+", "-"):
            return self
        return self.trace.let(f"{self.name} {sign} ({other!r})", lambda x: apply(x, other), self)

    def backward(self, other):
        if not isinstance(other, NUMBERS):
            return NotImplemented
        if sign in ("+", "*"):
            return forward(self, other)
        return self.trace.let(f"({other!r}) {sign} {self.name}", lambda x: apply(other, x), self)

    setattr(Size, f"__{name}__", forward)
    setattr(Size, f"__r{name}__", backward)


def _comparison(name: str, sign: str) -> None:
    apply = getattr(operator, name)

    def compare(self, other):
        if type(other) is Size:
            if self is other:
                return sign in ("<=", ">=", "==")
            if sign in ("==", "!=") and not self.trace.exact:
                if self.value != other.value or apart and self.other != other.other:
                    return sign == "!="
                if self.other != other.other:
                    raise Coincidence(f"{self.name} and {other.name} are {self.value}")
            return self.trace.decide(f"{self.name} {sign} {other.name}", apply(self.value, other.value), self, other)
        if not isinstance(other, NUMBERS):
            return NotImplemented
        if sign in ("==", "!=") and not self.trace.exact and self.value == other != self.other:
            if apart:
                return sign == "!="
            if other not in PURPOSE:
                raise Coincidence(f"{self.name} is {other}")
        if sign in ("==", "!=") and not self.trace.exact and self.value != other and other not in PURPOSE:
            return sign == "!="
        return self.trace.decide(f"{self.name} {sign} {other!r}", apply(self.value, other), self)

    setattr(Size, f"__{name}__", compare)


for _name, _sign in ARITHMETIC.items():
    _arithmetic(_name, _sign)
for _name, _sign in COMPARISONS.items():
    _comparison(_name, _sign)


class Trace:
    """What was computed and decided of sizes with some `values`, as a program in the order in which it happened. `others`: values that
    they had before; without any, it is noted of all sizes whether they are equal."""

    def __init__(self, values: list[int], others: list[int] | None = None):
        self.exact = others is None
        self.sizes = [Size(self, f"s{k}", value, others and others[k]) for k, value in enumerate(values)]
        self.known: dict[str, Size] = {}
        self.decided: dict[str, bool] = {}
        self.lines: list[tuple] = []        # (what is defined or None, line, what it uses)

    def let(self, expression: str, apply: Callable, *uses: Size) -> Size:
        """The size that an expression stands for: something applied to others."""
        found = self.known.get(expression)
        if found is None:
            value = apply(*[s.value for s in uses])
            try:
                other = apply(*[s.other for s in uses])
            except (ArithmeticError, TypeError, ValueError):    # it would not have been asked for
                other = None
            found = self.known[expression] = Size(self, f"e{len(self.known)}", value, other)
            self.lines.append((found.name, f"{found.name} = {expression}", [s.name for s in uses]))
        return found

    def decide(self, condition: str, outcome: bool, *uses: Size) -> bool:
        """Note the outcome of a comparison; give it back."""
        if condition not in self.decided:
            self.decided[condition] = outcome
            self.lines.append((None, f"if {'not ' if outcome else ''}({condition}): return None", [s.name for s in uses]))
        return outcome

    def function(self, results: list):
        """(sizes) -> the results' values for them, or None where something would have been decided otherwise."""
        given = [s.name if type(s) is Size else repr(s) for s in results]
        needed = set(given)
        kept = []
        for name, line, uses in reversed(self.lines):
            if name is None or name in needed:
                needed.update(uses)
                kept.append(f" {line}")
        names = "".join(f"{s.name}, " for s in self.sizes)
        text = "\n".join([f"def resized({names}):", *reversed(kept), f" return ({''.join(f'{name}, ' for name in given)})"])
        space: dict = {}
        exec(compile(text, "<sizes of a plan>", "exec"), space)
        for noted in (self.known, self.decided, self.lines):
            noted.clear()       # a plan keeps its sizes, and they the trace
        return space["resized"]
