"""What a GPU does in another order: loop programs rewritten before their code is emitted.

`scheduled` gives a program whose parallel loop leaves more to do at once:

    interchange   serial r: vector i: s[i] = s[i] + x[r, i]     becomes     vector i: acc = s[i]; serial r: acc += x[r, i]; s[i] = acc
                  so that partial sums of columns stay in registers
    scatter       parallel p: serial s: a[index[s], p] = ...    becomes     parallel (s, p): atomically
                  (colliding updates then come in any order, as they do in PyTorch on CUDA)
    argument      serial i: if x[i] is better: best, where = x[i], i
                  becomes     vector i: best = max(best, x[i]); vector i: where = min(where, i if x[i] is best)

A statement of kind "atomic" (attr=(slot, instruction), args=(offset, value)) exists only here and in the emitter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..base import dtype as dt
from ..loops import ir
from ..loops.ir import Op, walk

LANES = ("vector", "short", "whole")     # loops whose iterations are independent: the lanes of a row share them
ORDER_FREE = {"add": "sum", "mul": "prod", "min": "min", "max": "max", "or": "any", "and": "all"}
FLOAT_ATOMS = {"add": "fadd"}
INTEGER_ATOMS = {"add": "add", "min": "min", "max": "max"}


@dataclass
class Schedule:
    """A rewritten program, and what its launch must know."""

    top: Op
    widths: list = field(default_factory=list)      # extents of its vector loops, where every index is 0
    reduces: bool = False                           # some accumulator is combined across the lanes of a row
    exchanged: set = field(default_factory=set)     # slots through which lanes read what other lanes wrote

    @property
    def splits(self) -> bool:
        """Whether several blocks may share the vector loops of one parallel iteration."""
        return bool(self.widths) and not self.reduces and not self.exchanged


def schedule(program: ir.Program) -> Schedule:
    top = _interchanged(_searched(_scattered(program, program.body[0])))
    s = Schedule(top)
    for loop in outer_vectors(top):
        s.widths.append(at_origin(loop.args[0]))
    for _, accumulators in _updates(top):
        s.reduces = s.reduces or bool(accumulators)
    s.exchanged = _exchanged(top)
    return s


# -- reading programs -------------------------------------------------------------------------------------------

def body_of(s: Op) -> tuple:
    return s.args[1:] if s.kind in ("loop", "when") else ()


def outer_vectors(s: Op):
    """The vector loops that no vector loop surrounds."""
    for inner in body_of(s):
        if inner.kind == "loop" and inner.attr[1] in LANES:
            yield inner
        else:
            yield from outer_vectors(inner)


def depends(op: Op, names: set[str]) -> bool:
    """Whether an index or a variable of these names is read."""
    return any(o.kind in ("index", "value") and o.attr in names for o in walk(op))


def at_origin(e: Op) -> Op:
    """An extent where every index is 0."""
    if e.kind == "index":
        return ir.integer(0)
    return Op(e.kind, e.dtype, tuple(at_origin(a) for a in e.args), e.attr) if e.args else e


def substitute(op: Op, place: dict[str, Op], memo: dict) -> Op:
    """An expression or a statement with indices replaced. Shared nodes stay shared."""
    found = memo.get(id(op))
    if found is None:
        if op.kind == "index":
            result = place.get(op.attr, op)
        else:
            result = Op(op.kind, op.dtype, tuple(substitute(a, place, memo) for a in op.args), op.attr) if op.args else op
        found = memo[id(op)] = (op, result)
    return found[1]


def _updates(top: Op):
    """(vector loop, names of the accumulators declared around it that it adds to)."""
    for loop in outer_vectors(top):
        declared = {o.attr[0] for o in walk(loop) if o.kind == "accumulator"}
        yield loop, {o.attr for o in walk(loop) if o.kind == "update"} - declared


def text(op: Op) -> str:
    return ir.Printer().expression(op)


def _exchanged(top: Op) -> set[int]:
    """Slots that are read and written, unless each element is touched by one lane only: always at the same place in a vector loop."""
    accesses: dict[int, list] = {}

    def visit(s: Op, vector: str | None) -> None:
        if s.kind == "loop" and s.attr[1] in LANES and vector is None:
            vector = s.attr[0]
        for a in s.args:
            if a.dtype is None:
                visit(a, vector)
                continue
            for o in walk(a):
                if o.kind == "load":
                    accesses.setdefault(o.attr, []).append((vector, text(o.args[0]), False))
        if s.kind == "store":
            accesses.setdefault(s.attr, []).append((vector, text(s.args[0]), True))

    visit(top, None)
    found = set()
    for slot, uses in accesses.items():
        if any(w for *_, w in uses) and not all(w for *_, w in uses):
            if len({use[:2] for use in uses}) > 1 or uses[0][0] is None:
                found.add(slot)
    return found


# -- arguments of the largest or least ----------------------------------------------------------------------------

NOWHERE = 2 ** 63 - 1


def _searched(s: Op) -> Op:
    """Serial searches for the best element as two vector loops: which it is, and where it first is."""
    if s.kind not in ("loop", "when"):
        return s
    body, out = [_searched(b) for b in s.args[1:]], []
    while body:
        found = _search(body)
        if found:
            out += found
            del body[:3]
        else:
            out.append(body.pop(0))
    return Op(s.kind, None, (s.args[0], *out), s.attr)


def _search(body: list) -> list | None:
    """The statements that replace the first three of `body` (best and where declared, a nest of serial loops), if they are a search."""
    if [b.kind for b in body[:3]] != ["accumulator", "accumulator", "loop"]:
        return None
    best, where = (b.attr[0] for b in body[:2])
    nest, inner = [], body[2]
    while inner.kind == "loop" and inner.attr[1] == "serial":
        nest.append(inner)
        if len(inner.args) != 2 or inner.args[1].kind != "loop":
            break
        inner = inner.args[1]
    if not nest or len(nest[-1].args) < 4:
        return None
    *checks, flag, placed, kept = nest[-1].args[1:]
    if any(c.kind != "check" for c in checks) or (flag.kind, placed.kind, kept.kind) != ("accumulator", "update", "update") or \
            (placed.attr, kept.attr) != (where, best) or placed.args[0].kind != "select" or kept.args[0].kind != "select":
        return None
    position, value = placed.args[0].args[1], kept.args[0].args[1]
    combine = _sense(flag.args[0], best)
    if combine is None or depends(position, {best, where}) or depends(value, {best, where}):
        return None
    now = ir.value(best, value.dtype)
    first = value.eq(now)
    if value.dtype.kind == "f":
        first = first | (value.ne(value) & now.ne(now))
    look = ir.update(where, ir.select(first, position, ir.integer(NOWHERE)))
    start = _least(value.dtype) if combine in ("max", "any") else _greatest(value.dtype)
    return [ir.accumulator(best, combine, start), _nested(nest, [*checks, ir.update(best, value)]),
            ir.accumulator(where, "min", ir.integer(NOWHERE)), _nested(nest, [look])]


def _nested(nest: list[Op], body: list[Op]) -> Op:
    loop = ir.loop(nest[-1].attr[0], "vector", nest[-1].args[0], *body)
    for outer in nest[-2::-1]:
        loop = ir.loop(*outer.attr, outer.args[0], loop)
    return loop


def _sense(better: Op, best: str) -> str | None:
    """Whether a search is for the largest or the least."""
    for o in walk(better):
        if o.kind == "lt":
            return "max" if o.args[0].kind == "value" and o.args[0].attr == best else "min"
        if o.kind == "and" and o.args[1].kind == "not":
            return "any" if o.args[1].args[0].kind == "value" else "all"
    return None


def _least(d: dt.dtype) -> Op:
    if d.kind == "f":
        return ir.const(float("-inf"), d)
    return ir.const(False if d.kind == "b" else 0 if d.kind == "u" else -2 ** (8 * d.itemsize - 1), d)


def _greatest(d: dt.dtype) -> Op:
    if d.kind == "f":
        return ir.const(float("inf"), d)
    return ir.const(True if d.kind == "b" else 2 ** (8 * d.itemsize - (d.kind == "i")) - 1, d)


# -- partial sums in registers ----------------------------------------------------------------------------------

def _interchanged(s: Op) -> Op:
    if s.kind not in ("loop", "when"):
        return s
    s = Op(s.kind, None, (s.args[0], *map(_interchanged, s.args[1:])), s.attr)
    if s.kind == "loop" and s.attr[1] == "serial":
        return _turned(s) or s
    return s


def _turned(s: Op) -> Op | None:
    """A serial loop around one nest of vector loops that updates memory, inside out; None if it is something else."""
    *before, nest = s.args[1:]
    if any(b.kind != "accumulator" or b.attr[1] != "set" for b in before):
        return None
    varying = {s.attr[0], *(b.attr[0] for b in before)}
    loops = []
    while nest.kind == "loop":
        loops.append(nest)
        if depends(nest.args[0], varying):
            return None
        if nest.attr[1] in LANES or len(nest.args) != 2:
            break
        nest = nest.args[1]
    if not loops or loops[-1].attr[1] not in LANES:
        return None
    body = loops[-1].args[1:]
    if any(b.kind not in ("store", "update", "check") for b in body) or any(b.kind == "update" and b.attr in varying for b in body):
        return None
    loads = [o.attr for b in body for o in walk(b) if o.kind == "load"]
    stores = [b.attr for b in body if b.kind == "store"]
    first, inner, last = [], [], []
    for k, b in enumerate(body):
        kind = _combining(b)
        if kind is None or depends(b.args[0], varying):
            if b.kind == "store" and b.attr in loads:
                return None
            inner.append(b)
            continue
        if stores.count(b.attr) > 1 or loads.count(b.attr) > 1:
            return None
        old, term = _split(b)
        name = f"{s.attr[0]}_{k}"
        first.append(ir.accumulator(name, ORDER_FREE[kind], old))
        inner.append(ir.update(name, term))
        last.append(ir.store(b.attr, b.args[0], ir.value(name, term.dtype)))
    if not first:
        return None
    turned = ir.loop(*loops[-1].attr, loops[-1].args[0], *first, ir.loop(*s.attr, s.args[0], *before, *inner), *last)
    for outer in loops[-2::-1]:
        turned = ir.loop(*outer.attr, outer.args[0], turned)
    return turned


def _combining(s: Op) -> str | None:
    """How a store combines a value with the element it replaces, if it does so in one instruction."""
    if s.kind != "store" or s.args[1].kind not in ORDER_FREE or s.args[1].dtype.kind == "c":
        return None
    return s.args[1].kind if any(is_old(a, s) for a in s.args[1].args) else None


def is_old(a: Op, s: Op) -> bool:
    """Whether an expression is the element that a store replaces."""
    return a.kind == "load" and a.attr == s.attr and (a.args[0] is s.args[0] or text(a.args[0]) == text(s.args[0]))


def _split(s: Op) -> tuple[Op, Op]:
    """(the element as it was, what is combined with it)."""
    a, b = s.args[1].args
    return (a, b) if is_old(a, s) else (b, a)


# -- scatters ---------------------------------------------------------------------------------------------------

def _scattered(program: ir.Program, top: Op) -> Op:
    """Serial loops that fill a parallel iteration alone join it where their iterations may come in any order."""
    serial, body = [], top.args[1:]
    while len(body) == 1 and body[0].kind == "loop" and body[0].attr[1] == "serial":
        serial.append(body[0])
        body = body[0].args[1:]
    if not serial or any(_reads_index(s.args[0]) for s in serial):
        return top
    stores = [o for b in body for o in walk(b) if o.kind == "store"]
    kept = [o for b in body for o in walk(b) if o.kind in ("update", "loop", "when") and not (o.kind == "loop" and o.attr[1] in LANES)]
    if kept or len(stores) != 1:
        return top
    atomic = _atomic(program, stores[0])
    if atomic is None:
        return top
    slot = stores[0].attr
    if any(o.kind == "load" and o.attr == slot for b in body for o in walk(_replaced(b, stores[0], atomic))):
        return top
    p, many = ir.index(top.attr[0]), top.args[0]
    rest, count = p / many, many
    place: dict[str, Op] = {}
    for s in reversed(serial):
        place[s.attr[0]] = ir.rem(rest, s.args[0])
        rest, count = rest / s.args[0], count * s.args[0]
    place[top.attr[0]] = ir.rem(p, many)
    memo: dict = {}
    return ir.loop(*top.attr, count, *(substitute(_replaced(b, stores[0], atomic), place, memo) for b in body))


def _reads_index(e: Op) -> bool:
    return any(o.kind in ("index", "load", "value") for o in walk(e))


def _replaced(s: Op, old: Op, new: Op) -> Op:
    """A statement with one statement in it exchanged for another."""
    if s is old:
        return new
    if s.kind not in ("loop", "when"):
        return s
    return Op(s.kind, None, (s.args[0], *(_replaced(b, old, new) for b in s.args[1:])), s.attr)


def _atomic(program: ir.Program, s: Op) -> Op | None:
    """A store as one that may collide: itself, if the last one wins; an atomic instruction, if it combines and the GPU has one."""
    if not any(o.kind == "load" and o.attr == s.attr for o in walk(s.args[1])):
        return s
    kind, d = _combining(s), program.slots[s.attr].dtype
    if d in (dt.float32, dt.float64):
        instruction = FLOAT_ATOMS.get(kind)
    elif d.kind in "iu" and d.itemsize >= 4:
        instruction = INTEGER_ATOMS.get(kind)
        if d.kind == "u" and kind in ("min", "max"):
            instruction = "u" + kind
    else:
        instruction = None
    return None if instruction is None else Op("atomic", None, (s.args[0], _split(s)[1]), (s.attr, instruction))
