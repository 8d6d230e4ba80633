"""Copies between loops that run across each other: what is read along the one and written along the other goes through registers.

A square of vectors is read, turned by shuffles, and written. Each shuffle is one instruction on x86-64 and ARM: elements are interleaved
within lanes of 16 bytes, log2(elements of a lane) times, then lanes change places.
"""

from __future__ import annotations

from ..base import dtype as dt
from ..loops import ir
from ..runtime import cpu
from .offsets import coefficient

LANE = 16       # bytes
MOST = 16       # elements of a vector: as many vectors fit into the registers of a processor that has vectors of so many


def found(program: ir.Program, outer: ir.Op) -> bool:
    """Whether a loop does nothing but copy to scratch memory what lies along a loop in it to where it lies along itself."""
    if outer.attr[1] != "serial" or len(outer.args) != 2 or outer.args[1].kind != "loop" or len(outer.args[1].args) != 2:
        return False
    inner = outer.args[1]
    extent, store = inner.args
    if store.kind != "store" or store.args[1].kind != "load" or program.slots[store.attr].role != "scratch":
        return False
    (to, load), (name, inner_name) = store.args, (outer.attr[0], inner.attr[0])
    return load.attr != store.attr and coefficient(extent, name) == 0 and \
        coefficient(to, name) == 1 and coefficient(load.args[0], inner_name) == 1


def side(d: dt.dtype) -> int:
    """How many elements a square has along a side; 1 of those that fill a lane, which are copied one by one."""
    return min(MOST, cpu.vector_bytes() // d.itemsize) if d.itemsize < LANE else 1


def turned(emitter, rows: list[str], element: str, nbytes: int) -> list[str]:
    """The columns of a square: as many vectors as each has elements."""
    count = len(rows)
    lane = min(LANE // nbytes, count)
    half = lane // 2

    def shuffled(a: str, b: str, picks: list[int]) -> str:
        vector, mask = f"<{count} x {element}>", ", ".join(f"i32 {p}" for p in picks)
        return emitter.set(f"shufflevector {vector} {a}, {vector} {b}, <{count} x i32> <{mask}>")

    # of each lane the lower or the upper halves of two rows, element beside element
    zips = [[base + part + k + row * count for base in range(0, count, lane) for k in range(half) for row in (0, 1)] for part in (0, half)]
    for _ in range(lane.bit_length() - 1):
        rows = [shuffled(rows[first + k], rows[first + k + half], picks)
                for first in range(0, count, lane) for k in range(half) for picks in zips]
    moved = lane
    while moved < count:        # what is `moved` elements to the right of the diagonal changes places with what is as many rows below
        upper = [count + j - moved if j & moved else j for j in range(count)]
        lower = [count + j if j & moved else j + moved for j in range(count)]
        rows = [shuffled(rows[i & ~moved], rows[i | moved], lower if i & moved else upper) for i in range(count)]
        moved *= 2
    return rows


def copy(emitter, outer: ir.Op) -> None:
    """Emit such a loop: squares, then what is left at the sides, element by element."""
    inner = outer.args[1]
    store = inner.args[1]
    load = store.args[1]
    nbytes, count = load.dtype.itemsize, side(load.dtype)
    element, align = f"i{8 * nbytes}", f"align {min(nbytes, 8)}"
    names = outer.attr[0], inner.attr[0]
    stops = [emitter.expression(s.args[0]) for s in (outer, inner)]
    blocks = [emitter.set(f"sdiv i64 {stop}, {count}") for stop in stops]
    whole = [emitter.set(f"mul nsw i64 {b}, {count}") for b in blocks]

    def address(op: ir.Op, name: str, k: int) -> str:
        """That of a load or a store, k iterations of one loop further on."""
        start, memo = emitter.indices[name], emitter.memo
        emitter.indices[name], emitter.memo = emitter.set(f"add nsw i64 {start}, {k}"), dict(memo)
        place = emitter.address(op.attr, op.args[0])
        emitter.indices[name], emitter.memo = start, memo
        return place

    def square() -> None:
        for name in names:
            emitter.indices[name] = emitter.set(f"mul nsw i64 {emitter.indices[name]}, {count}")
        vector = f"<{count} x {element}>"
        rows = [emitter.set(f"load {vector}, ptr {address(load, names[0], k)}, {align}") for k in range(count)]
        for k in range(count, 2 * count):       # those that come after these: of so many rows at once the processor foresees nothing
            emitter.line(f"call void @llvm.prefetch.p0(ptr {address(load, names[0], k)}, i32 0, i32 2, i32 1)")
        for k, column in enumerate(turned(emitter, rows, element, nbytes)):
            emitter.line(f"store {vector} {column}, ptr {address(store, names[1], k)}, {align}")

    def nest(kind: str, first: tuple, second: tuple, body) -> None:
        emitter.loop(names[0], kind, *first, lambda: emitter.loop(names[1], kind, *second, body))

    emitter.intrinsics.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    nest("serial", ("0", blocks[0]), ("0", blocks[1]), square)
    nest("rest", ("0", whole[0]), (whole[1], stops[1]), lambda: emitter.statements([store]))
    nest("rest", (whole[0], stops[0]), ("0", stops[1]), lambda: emitter.statements([store]))
