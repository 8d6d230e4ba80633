"""Several rows at a time: unroll and jam.

A loop over a short row is over before the processor is busy: its sums wait for each other, and what is added up over the rows is read from
memory and written back for each of them. So `AT_ONCE` rows are computed together: each statement of a row's body is written for all of
them, their loops become one, and a sum over the rows takes in all of them between one load and one store, as their own sum: what is
rounded to the digits of the whole is one addition in `AT_ONCE`.
"""

from __future__ import annotations

from . import ir
from .blocks import odometer

AT_ONCE = 4
LARGEST = 64        # nodes of a body: a larger one keeps the processor busy by itself, and takes long to compile


def together(fusion, rows: int) -> bool:
    """Whether several of so many rows are computed together; a GPU has threads for them."""
    return rows >= AT_ONCE and not fusion.gpu


def jam(here: ir.Op, body: list, place: list[ir.Op], rows: list[ir.Op]) -> list:
    """Loops over `here` rows in turn. `body`: what is computed for the row at the coordinates `place`, all of them variables, `rows` their
    extents. No row may read what another one writes but the sums over the rows."""
    if len({id(op) for op in _nodes(body)}) > LARGEST:
        return [ir.loop("r", "serial", here, *body, *odometer(place, rows))]
    declared = {name for s in body for name in _declared(s)}
    names = [{}, *({name: f"{name}_{k}" for name in (*declared, *(c.attr for c in place))} for k in range(1, AT_ONCE))]
    places = [[ir.value(n.get(c.attr, c.attr), c.dtype) for c in place] for n in names]
    begin: list = []
    for before, after in zip(places, places[1:]):
        begin += [ir.accumulator(b.attr, "set", a) for a, b in zip(before, after)] + odometer(after, rows)
    end = [ir.update(c.attr, last) for c, last in zip(place, places[-1])] + odometer(place, rows)
    several = _interleaved([_renamed(body, n) if n else body for n in names])
    count = here / ir.integer(AT_ONCE)
    return [ir.loop("r", "serial", count, *begin, *several, *end),
            ir.loop("rest", "serial", here - count * ir.integer(AT_ONCE), *body, *odometer(place, rows))]


def _nodes(statements):
    for s in statements:
        for a in s.args:
            yield from ir.walk(a) if a.dtype is not None else _nodes([a])


def _declared(s: ir.Op):
    if s.kind == "accumulator":
        yield s.attr[0]
    for a in s.args:
        if a.dtype is None:
            yield from _declared(a)


def _renamed(body: list, names: dict) -> list:
    """Statements with other variables."""
    memo: dict = {}
    return [_with(s, names, memo) for s in body]


def _with(op: ir.Op, names: dict, memo: dict) -> ir.Op:
    """A statement or expression with other variables; itself where it has none of these."""
    found = memo.get(id(op))
    if found is None:
        attr = op.attr
        if op.kind == "accumulator":
            attr = (names.get(attr[0], attr[0]), attr[1])
        elif op.kind in ("value", "update"):
            attr = names.get(attr, attr)
        args = tuple(_with(a, names, memo) for a in op.args)
        same = attr == op.attr and all(a is b for a, b in zip(args, op.args))
        found = memo[id(op)] = op if same else ir.Op(op.kind, op.dtype, args, attr)
    return found


def _interleaved(bodies: list[list]) -> list:
    """The bodies statement by statement: first statements, then second ones. Loops become one."""
    found: list = []
    for copies in zip(*bodies):
        first = copies[0]
        if first.kind == "loop" and all(s.args[0] is first.args[0] for s in copies):
            found.append(ir.loop(*first.attr, first.args[0], *_interleaved([list(s.args[1:]) for s in copies])))
        elif first.kind == "store" and all(s.args[0] is first.args[0] for s in copies):
            found.append(_sum(copies))
        else:
            found += copies
    return found


def _sum(copies: tuple) -> ir.Op:
    """Stores to one place of what is there with something added, as one."""
    slot, place = copies[0].attr, copies[0].args[0]
    total = copies[0].args[1]
    if all(_adds(s, slot, place) for s in copies):
        terms = [s.args[1].args[1] for s in copies]
        while len(terms) > 1:
            terms = [ir.Op(total.kind, total.dtype, pair, total.attr) for pair in zip(terms[::2], terms[1::2])]
        return ir.store(slot, place, ir.Op(total.kind, total.dtype, (total.args[0], *terms), total.attr))
    for s in copies[1:]:
        total = _put(s.args[1], slot, place, total, {})
    return ir.store(slot, place, total)


def _adds(store: ir.Op, slot: int, place: ir.Op) -> bool:
    """Whether it stores the sum (the product, the largest) of what is there and of something that does not ask what is there."""
    op = store.args[1]
    return op.kind in ("add", "mul", "min", "max") and _is_there(op.args[0], slot, place) and not any(
        _is_there(a, slot, place) for a in ir.walk(op.args[1]))


def _is_there(op: ir.Op, slot: int, place: ir.Op) -> bool:
    return op.kind == "load" and op.attr == slot and op.args[0] is place


def _put(op: ir.Op, slot: int, place: ir.Op, now: ir.Op, memo: dict) -> ir.Op:
    """An expression in which what is loaded from a place is `now`."""
    if _is_there(op, slot, place):
        return now
    found = memo.get(id(op))
    if found is None:
        args = tuple(_put(a, slot, place, now, memo) for a in op.args)
        same = all(a is b for a, b in zip(args, op.args))
        found = memo[id(op)] = op if same else ir.Op(op.kind, op.dtype, args, op.attr)
    return found
