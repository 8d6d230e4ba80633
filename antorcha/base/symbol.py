"""Numbers that change from one run of a recorded step to the next: the count of an optimiser's steps, its learning rate."""

from __future__ import annotations

import math
import operator

_plain = float.__pos__      # the exact float


class Symbol(float):
    """A float that notes what is computed from it.

    `name` is a variable of the formulas in `watch.formulas`, lines of Python that compute the same numbers anew. What cannot be
    noted (a conversion to another type) makes the step one that cannot be replayed.
    """

    __slots__ = ("name", "watch")

    def __new__(cls, value: float, formula: str, watch):
        self = super().__new__(cls, value)
        self.watch, self.name = watch, f"v{len(watch.formulas)}"
        watch.formulas.append(f"{self.name} = {formula}")
        return self

    def _refuse(self, how: str):
        self.watch.refuse(f"a number that changes with every step is {how}")

    def __reduce__(self):
        return float, (_plain(self),)


def _operand(watch, x):
    """(the exact number, its text), or None for what is no number."""
    if type(x) is Symbol:
        return _plain(x), x.name
    if type(x) in (int, float, bool):
        if not math.isfinite(x):
            watch.refuse("a number that changes with every step meets one that is not finite")
        return x, f"({x!r})"
    return None


def _arithmetic(sign: str, function, reflected: bool):
    def compute(self, other):
        found = _operand(self.watch, other)
        if found is None:
            return NotImplemented
        mine = _plain(self), self.name
        (a, left), (b, right) = (found, mine) if reflected else (mine, found)
        value = function(a, b)
        if type(value) is not float:
            self._refuse(f"the operand of {sign} with a result of type {type(value).__name__}")
            return value
        return Symbol(value, f"{left} {sign} {right}", self.watch)
    return compute


def _comparison(sign: str, function):
    def compare(self, other):
        found = _operand(self.watch, other)
        if found is None:
            return NotImplemented
        value = function(_plain(self), found[0])
        self.watch.demand(f"({self.name} {sign} {found[1]}) is {value}")
        return value
    return compare


def _converted(name: str, how: str):
    plain = getattr(float, name)

    def convert(self, *args):
        self._refuse(how)
        return plain(self, *args)
    return convert


def _truth(self) -> bool:
    value = bool(_plain(self))
    self.watch.demand(f"bool({self.name}) is {value}")
    return value


for _name, _sign, _function in (("add", "+", operator.add), ("sub", "-", operator.sub), ("mul", "*", operator.mul),
                                ("truediv", "/", operator.truediv), ("floordiv", "//", operator.floordiv), ("mod", "%", operator.mod),
                                ("pow", "**", operator.pow)):
    setattr(Symbol, f"__{_name}__", _arithmetic(_sign, _function, False))
    setattr(Symbol, f"__r{_name}__", _arithmetic(_sign, _function, True))
for _name, _sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="), ("ne", "!=")):
    setattr(Symbol, f"__{_name}__", _comparison(_sign, getattr(operator, _name)))
for _name, _how in (("__float__", "converted to a float"), ("__int__", "converted to an int"), ("__round__", "rounded"),
                    ("__trunc__", "rounded"), ("__floor__", "rounded"), ("__ceil__", "rounded"), ("__hash__", "hashed"),
                    ("__repr__", "printed"), ("__str__", "printed"), ("__format__", "printed"), ("__divmod__", "divided"),
                    ("__rdivmod__", "divided"), ("is_integer", "inspected"), ("as_integer_ratio", "inspected"), ("hex", "inspected")):
    setattr(Symbol, _name, _converted(_name, _how))
Symbol.__bool__ = _truth
Symbol.__neg__ = lambda self: Symbol(-_plain(self), f"-{self.name}", self.watch)
Symbol.__pos__ = lambda self: self
Symbol.__abs__ = lambda self: Symbol(abs(_plain(self)), f"abs({self.name})", self.watch)
