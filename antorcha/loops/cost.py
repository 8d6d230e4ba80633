"""What an element of an operator costs, in simple arithmetic instructions."""

from __future__ import annotations

from . import ir

SLOW = {"div": 4, "sqrt": 4, "rem": 8, "floordiv": 10}
_costs: dict = {}


def cost_of(n) -> int:
    """Instructions for one element of a pointwise or gather node."""
    if n.op.family == "gather":
        return 3
    key = (n.op, n.static.casts, n.dtype)
    found = _costs.get(key)
    if found is None:
        args = [ir.arg(k, d.compute) for k, d in enumerate(n.static.casts)]
        if n.op.uses_index:
            args.append(ir.index("i"))
        from .writer import element_of

        found = _costs[key] = count(element_of(n.op, args))
    return found


def count(e: ir.Op) -> int:
    """Instructions of an expression, common parts once."""
    return sum(SLOW.get(o.kind, 1) for o in ir.walk(e) if o.args)


