"""Integer expressions of a kernel's run-time arguments, computed on the host before it is launched."""

from __future__ import annotations

import operator

from ..loops import ir


class Formula:
    """An integer expression of run-time arguments as a list of steps; what it shares with itself is computed once. Raises KeyError where
    there is more in it than arguments and arithmetic."""

    def __init__(self, op: ir.Op):
        self.constants: list[int] = []
        self.slots: list[int] = []
        self.steps: list[tuple] = []        # (function, operand, operand); operands are (kind, number) until all are known
        place: dict[int, tuple] = {}
        result = self._place(op, place)
        first = {"constant": 0, "slot": len(self.constants), "step": len(self.constants) + len(self.slots)}
        self.steps = [(f, first[a[0]] + a[1], first[b[0]] + b[1]) for f, a, b in self.steps]
        self.result = first[result[0]] + result[1]

    def _place(self, op: ir.Op, place: dict) -> tuple:
        found = place.get(id(op))
        if found is None:
            if op.kind == "const":
                self.constants.append(op.attr)
                found = "constant", len(self.constants) - 1
            elif op.kind == "arg":
                self.slots.append(op.attr)
                found = "slot", len(self.slots) - 1
            elif op.kind == "select":
                condition, a, b = [self._place(x, place) for x in op.args]
                found = self._step(_picked, condition, self._step(_pair, a, b))
            else:
                function = _INTEGER[op.kind]
                found = self._step(function, *[self._place(x, place) for x in op.args])
            place[id(op)] = found
        return found

    def _step(self, function, a: tuple, b: tuple) -> tuple:
        self.steps.append((function, a, b))
        return "step", len(self.steps) - 1

    def __call__(self, words) -> int:
        known = [*self.constants, *[words[k] for k in self.slots]]
        add = known.append
        for function, a, b in self.steps:
            add(function(known[a], known[b]))
        return known[self.result]


def evaluate(op: ir.Op, words) -> int:
    """An integer expression for these arguments."""
    return Formula(op)(words)


def _pair(a, b) -> tuple:
    return a, b


def _picked(condition, pair: tuple):
    return pair[0] if condition else pair[1]


_INTEGER = {
    "lt": operator.lt, "le": operator.le, "eq": operator.eq, "and": operator.and_, "add": operator.add, "sub": operator.sub,
    "mul": operator.mul, "min": min, "max": max, "floordiv": lambda a, b: a // b if b else 0, "div": lambda a, b: a // b if b else 0,
    "rem": lambda a, b: a % b if b else 0,
}
