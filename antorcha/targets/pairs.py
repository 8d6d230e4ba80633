"""Sums of bfloat16 that lie side by side, two of which are one load.

Widened as 32 bits that hold two numbers, the low one takes a shift and the high one a mask, and a vector of them fills a register. One by
one each vector of half the bytes is spread over a register before it is shifted, which takes half as much again in a sum of products.
"""

from __future__ import annotations

from ..base import dtype as dt
from ..loops import ir
from .offsets import coefficient, loads

LARGEST = 24        # nodes of a body: in a larger one widening counts for little, and two of them take long to compile


def found(loop: ir.Op) -> bool:
    """Whether a loop does nothing but add up what it computes of bfloat16 numbers side by side, and of what stays the same."""
    name, kind = loop.attr
    updates = loop.args[1:]
    if kind != "vector" or any(s.kind != "update" for s in updates) or len(_nodes(updates)) > LARGEST:
        return False
    moving = [load for load in _loads(updates) if coefficient(load.args[0], name) != 0]
    return bool(moving) and all(load.dtype is dt.bfloat16 and coefficient(load.args[0], name) == 1 for load in moving)


def write(emitter, loop: ir.Op) -> None:
    """Writes the loop over pairs, and what follows the last one."""
    (name, kind), stop, updates = loop.attr, emitter.expression(loop.args[0]), loop.args[1:]

    def pair() -> None:
        number = emitter.indices[name]
        even = emitter.indices[name] = emitter.set(f"shl nuw nsw i64 {number}, 1")
        outer, emitter.memo = emitter.memo, dict(emitter.memo)
        moving = [load for load in _loads(updates) if coefficient(load.args[0], name) == 1]
        both = [emitter.set(f"load i32, ptr {emitter.address(load.attr, load.args[0])}, align 2{emitter._access()}") for load in moving]
        for index, words in ((even, both), (emitter.set(f"or disjoint i64 {even}, 1"), [emitter.set(f"lshr i32 {w}, 16") for w in both])):
            emitter.indices[name] = index
            emitter.memo = {**outer, **{id(load): emitter.set(f"trunc i32 {word} to i16") for load, word in zip(moving, words)}}
            emitter.statements(updates)
        emitter.memo = outer

    emitter.loop(name, kind, "0", emitter.set(f"lshr i64 {stop}, 1"), pair, loop)
    emitter.loop(name, "rest", emitter.set(f"and i64 {stop}, -2"), stop, lambda: emitter.statements(updates))


def _nodes(updates) -> dict:
    return {id(op): op for s in updates for op in ir.walk(s)}


def _loads(updates) -> list[ir.Op]:
    return list({id(load): load for s in updates for load in loads(s)}.values())
