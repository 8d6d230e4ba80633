"""How loads move through memory from one iteration of a loop to the next."""

from __future__ import annotations

from ..loops.ir import Op, walk


def coefficient(offset: Op, name: str) -> int | None:
    """By how much `offset` grows with index `name`: a literal, or None where it is none or not constant."""
    if offset.kind == "index":
        return int(offset.attr == name)
    if offset.kind in ("const", "arg", "value"):
        return 0
    parts = [coefficient(a, name) for a in offset.args]
    if all(p == 0 for p in parts):
        return 0
    if None in parts:
        return None
    if offset.kind == "add":
        return parts[0] + parts[1]
    if offset.kind == "sub":
        return parts[0] - parts[1]
    if offset.kind == "mul":
        for one, other in ((0, 1), (1, 0)):
            if offset.args[other].kind == "const":
                return parts[one] * offset.args[other].attr
    return None


def loads(op: Op):
    """The loads of an expression, each once."""
    return (o for o in walk(op) if o.kind == "load")
