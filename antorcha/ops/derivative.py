"""Derivatives as they are declared beside an operator, made ready to be recorded.

`grad=` maps the name of an argument to a function of the cotangent `g` and of what it names: other arguments, `result`, or
`x_shape` and `x_view`, the shape and the index map of argument `x`. `Terms` reads that once. Which terms apply to a call is told by
the arguments that require grad; for each such set there is one `Derivative`, which says what to keep and what to compute.
"""

from __future__ import annotations

ARGUMENT, RESULT, SHAPE, VIEW = "argument", "result", "shape", "view"


class Term:
    """The derivative by the argument at `position`: function(g, *needs)."""

    __slots__ = ("position", "function", "needs", "bit")

    def __init__(self, position: int, function, needs: tuple, bit: int):
        self.position, self.function, self.needs, self.bit = position, function, needs, bit


class Derivative:
    """Several terms. `keeps`: (kind, position of the argument) of what a call keeps; `names`: what a term calls each;
    `steps`: (function, places in `keeps` of what it needs)."""

    __slots__ = ("keeps", "names", "steps")

    def __init__(self, terms: list[Term], keep_of):
        self.names = tuple(dict.fromkeys(n for term in terms for n in term.needs))
        self.keeps = tuple(keep_of(n) for n in self.names)
        self.steps = tuple((term.function, tuple(self.names.index(n) for n in term.needs)) for term in terms)


class Terms(dict):
    """All terms of an operator; maps a set of them, as the sum of their bits, to its Derivative."""

    def __init__(self, operator: str, parameters: tuple, source: dict):
        super().__init__()
        self.operator, self.parameters = operator, parameters
        self.terms = []
        for name, function in source.items():
            code = function.__code__
            needs = code.co_varnames[1:code.co_argcount]
            for n in (name, *needs):
                self.keep_of(n)
            self.terms.append(Term(parameters.index(name), function, needs, 1 << len(self.terms)))
        self.inputs = tuple((term.position, term.bit) for term in self.terms)

    def keep_of(self, name: str) -> tuple:
        if name in self.parameters:
            return ARGUMENT, self.parameters.index(name)
        if name == "result":
            return RESULT, -1
        argument, _, part = name.rpartition("_")
        if argument in self.parameters and part in (SHAPE, VIEW):
            return (SHAPE if part == SHAPE else VIEW), self.parameters.index(argument)
        raise TypeError(f"{self.operator}: a derivative names {name!r}; expected one of {list(self.parameters)} or 'result'")

    def __missing__(self, bits: int) -> Derivative:
        found = self[bits] = Derivative([t for t in self.terms if t.bit & bits], self.keep_of)
        return found
