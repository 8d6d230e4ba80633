"""Writing loops over groups of indices, and telling how a contraction's operands lie in memory: shared by the forms of a product."""

from __future__ import annotations

from contextlib import contextmanager

from ..loops.ir import Op, floordiv, integer
from .llvm import Emitter, compact_loop
from .microkernel import Function
from .offsets import coefficient, loads

# -- sizes ------------------------------------------------------------------------------------------------------

def product(dims: tuple) -> Op:
    """How many places a group of indices has."""
    total = integer(1)
    for _, extent in dims:
        total = total * extent
    return total


def ceildiv(a: Op, b) -> Op:
    b = b if isinstance(b, Op) else integer(b)
    return floordiv(a + b - 1, b)


def single(dims: tuple) -> bool:
    """Whether a group of indices is known to have one place, whatever the sizes."""
    return all(extent.kind == "const" and extent.attr == 1 for _, extent in dims)


# -- how operands lie in memory ---------------------------------------------------------------------------------

def offsets(operand: Op) -> list[Op]:
    return [load.args[0] for load in loads(operand)]


def stores(body: tuple):
    for s in body:
        if s.kind == "store":
            yield s
        yield from stores(s.args if s.kind in ("when", "loop") else ())


def contiguous(offsets, dims: tuple) -> int:
    """How many of the offsets grow by one element along the innermost of `dims`."""
    return sum(coefficient(o, dims[-1][0]) == 1 for o in offsets) if dims else 0


def along_k(operand: Op, rows: tuple, k: tuple) -> bool:
    """Whether an operand is read along k rather than along its rows."""
    found = offsets(operand)
    return contiguous(found, k) > contiguous(found, rows)


# -- functions and their loops -----------------------------------------------------------------------------------

class Body(Function):
    """A function some of whose lines an emitter writes."""

    def __init__(self, head: str, emitter: Emitter):
        super().__init__(head + " #0")
        self.emitter = emitter
        emitter.lines = self.lines
        emitter.intrinsics.add("declare i64 @llvm.smin.i64(i64, i64)")
        emitter.load_slots()

    @property
    def block(self) -> str:
        return self.emitter.block if hasattr(self, "emitter") else "entry"

    @block.setter
    def block(self, name: str) -> None:
        if hasattr(self, "emitter"):
            self.emitter.block = name

    @contextmanager
    def scope(self):
        """What is computed inside is forgotten after."""
        outer, self.emitter.memo = self.emitter.memo, dict(self.emitter.memo)
        yield
        self.emitter.memo = outer

    def text(self, allocas: list[str] = ()) -> str:
        return super().text(self.emitter.allocas)


def vector_loop(emitter: Emitter, group: str, at_once: int = 1, lanes: int = 0) -> str:
    """Says that a loop's iterations are independent, and asks for vectors, so many at once, of so many elements (0: as LLVM sees fit)."""
    parallel = emitter.meta(f'!{{!"llvm.loop.parallel_accesses", {group}}}')
    enable = emitter.meta('!{!"llvm.loop.vectorize.enable", i1 true}')
    count = emitter.meta(f'!{{!"llvm.loop.interleave.count", i32 {at_once}}}')
    masked = emitter.meta('!{!"llvm.loop.vectorize.predicate.enable", i1 true}')
    whole = emitter.meta('!{!"llvm.loop.unroll.disable"}')      # a loop of fixed length would be unrolled before it is looked at
    width = [emitter.meta(f'!{{!"llvm.loop.vectorize.width", i32 {lanes}}}')] if lanes else []
    return compact_loop(emitter, parallel, enable, count, masked, whole, *width)


def divide(f: Function, a: str, b: str) -> tuple[str, str]:
    return f.let(f"udiv i64 {a}, {b}"), f.let(f"urem i64 {a}, {b}")


def split(f: Function, flat: str, extents: list[str]) -> list[str]:
    """The indices of a flat index, outermost first."""
    found: list[str] = []
    for extent in reversed(extents[1:]):
        flat, index = divide(f, flat, extent)
        found.append(index)
    return [flat, *reversed(found)] if extents else []


def odometer(f: Function, indices: list[str], extents: list[str], step: str = "1") -> list[str]:
    """The indices of the next flat index, or of the one `step` further on, where that is not beyond the end of the last extent."""
    found: list[str] = []
    carry = step
    for index, extent in zip(reversed(indices[1:]), reversed(extents[1:])):
        raised = f.let(f"add nsw i64 {index}, {carry}")
        over = f.let(f"icmp eq i64 {raised}, {extent}")
        found.append(f.let(f"select i1 {over}, i64 0, i64 {raised}"))
        carry = f.let(f"zext i1 {over} to i64")
    if indices:
        found.append(f.let(f"add nsw i64 {indices[0]}, {carry}"))
    return found[::-1]
