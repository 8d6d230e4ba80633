"""Vector loops in which a lane takes 16 bytes at a time.

A warp that reads 4 bytes to a lane needs many instructions in flight to keep memory busy, one that reads 16 bytes a few. A loop whose
elements lie side by side is therefore gone through in groups: lane l takes the elements [w l, w l + w), then those one round of all lanes
further on; what is left at the end goes one by one. The emitter writes the elements of a group one after the other and says how they are
aligned; LLVM makes one access of them.

That needs addresses at multiples of 16 bytes, which the arguments tell (`WideKernel.fits`): a kernel has two codes, and a plan takes one.
"""

from __future__ import annotations

from ..loops import ir
from ..loops.ir import Op, walk
from .cuda_schedule import Schedule, depends, outer_vectors, text
from .ptx import ARCHITECTURES, Kernel, PtxEmitter, extent_of, module, start, straight

BYTES = 16              # of one access
MOST = 8                # elements of a group
WORTH = 8               # groups of a row that are worth it


class Access:
    """A load or a store whose place is `index` plus `rest`, terms in which the loop's index does not occur."""

    def __init__(self, slot: int, itemsize: int, rest: list[Op]):
        self.slot, self.itemsize, self.rest = slot, itemsize, rest


def accesses(program: ir.Program, loop: Op) -> dict[int, Access]:
    """The accesses of a loop that go from element to element, by the identity of their nodes."""
    found = {}
    for body in loop.args[1:]:
        for o in walk(body):
            if o.kind in ("load", "store"):
                rest = _beside(o.args[0], loop.attr[0])
                if rest is not None:
                    found[id(o)] = Access(o.attr, program.slots[o.attr].dtype.itemsize, rest)
    return found


def _beside(offset: Op, index: str) -> list[Op] | None:
    """The terms of an offset beside the index; None where it occurs otherwise than once, alone."""
    rest, alone, stack = [], 0, [offset]
    while stack:
        term = stack.pop()
        if term.kind == "add":
            stack.extend(term.args)
        elif term.kind == "index" and term.attr == index:
            alone += 1
        elif depends(term, {index}):
            return None
        else:
            rest.append(term)
    return rest if alone == 1 else None


def divisor(e: Op, words, memo: dict) -> int:
    """A power of two, `BYTES` at most, of which an integer expression is a multiple whatever its indices are."""
    found = memo.get(id(e))
    if found is None:
        if e.kind in ("const", "arg"):
            n = int(e.attr if e.kind == "const" else words[e.attr])
            found = n & -n if n else BYTES
        elif e.kind in ("add", "sub"):
            found = min(divisor(a, words, memo) for a in e.args)
        elif e.kind == "mul":
            found = divisor(e.args[0], words, memo) * divisor(e.args[1], words, memo)
        else:
            found = 1
        found = memo[id(e)] = min(BYTES, found)
    return found


def separate(plan: Schedule, wide) -> bool:
    """Whether it does not matter which lane takes which elements: what one loop leaves in memory others read behind a barrier, or in the
    same groups, and a loop that is gone through again has the same extent. `wide`: the loops with groups, by their identity."""
    touched: dict[int, dict[int, str]] = {}
    written = set()
    for loop in outer_vectors(plan.top):
        if depends(loop.args[0], {o.attr[0] for o in walk(plan.top) if o.kind == "loop" and o is not plan.top}):
            return False
        for o in walk(loop):
            if o.kind in ("load", "store"):
                touched.setdefault(o.attr, {})[id(loop)] = text(loop.args[0])
                written.update({o.attr} if o.kind == "store" else ())

    def alike(loops: dict[int, str]) -> bool:
        return len(loops) == 1 or len(set(loops.values())) == 1 and all(loop in wide for loop in loops)

    return all(slot in plan.exchanged or alike(touched[slot]) for slot in written)


class WideEmitter(PtxEmitter):
    """Writes a kernel whose loops `wide` (identity -> accesses) are gone through in groups of `width` elements."""

    def __init__(self, program: ir.Program, plan: Schedule, wide: dict[int, dict[int, Access]], width: int):
        super().__init__(program, plan)
        self.eached, self.width = wide, width
        self.side: dict[int, Access] = {}       # of the loop that is being written
        self.member = 0                         # of the element in its group

    def _vector(self, s: Op) -> None:
        if id(s) not in self.eached:
            super()._vector(s)
            return
        stop, w = self.expression(s.args[0]), str(self.width)
        self.lane_wise = True
        first, step = self.i64("mul", self.first, w), self.i64("mul", self.step, w)
        writes = any(o.kind == "store" for o in s.args[1:])
        with self.steps(first, stop, step, str(self.width - 1), unroll=0 if writes else 2) as i:
            self.side = self.eached[id(s)]
            self.together(s, i, self.width, "1")
            self.side = {}
        left = self.i64("add", self.i64("and", stop, f"-{w}"), self.first)
        with self.steps(left, stop, self.step) as i:
            self.indices[s.attr[0]] = i
            self.statements(s.args[1:])
        self.lane_wise = False
        self.dirty |= {o.attr for o in walk(s) if o.kind == "store"} & self.plan.exchanged

    def alignment(self, op: Op, itemsize: int) -> int:
        if id(op) not in self.side:
            return super().alignment(op, itemsize)
        ahead = self.member * itemsize
        return min(BYTES, self.width * itemsize, ahead & -ahead if ahead else BYTES)


class WideKernel(Kernel):
    """The same program in groups, for arguments that it `fits`."""

    def __init__(self, kernel: Kernel):
        super().__init__(kernel.program, kernel.key)
        self.key = f"wide {kernel.key}"
        loops = {id(s): accesses(self.program, s) for s in outer_vectors(self.plan.top) if straight(s)}
        self.loops = {key: found for key, found in loops.items() if found}
        if not separate(self.plan, self.loops):
            self.loops = {}
        self.touched = [a for found in self.loops.values() for a in found.values()]
        least = min((a.itemsize for a in self.touched), default=BYTES)
        self.each = min(MOST, BYTES // least)

    def fits(self, words) -> bool:
        """Whether rows are long enough, and every group lies at a multiple of its size."""
        if self.each < 2 or max(extent_of(e, words) for e in self.plan.widths) < WORTH * self.each:
            return False
        memo: dict = {}
        for a in self.touched:
            nbytes = min(BYTES, self.each * a.itemsize)
            if words[a.slot] % nbytes or any(divisor(term, words, memo) * a.itemsize % nbytes for term in a.rest):
                return False
        return True

    def ir(self, architecture: int = ARCHITECTURES[-1]) -> str:
        e = start(WideEmitter(self.program, self.plan, self.loops, self.each))
        return module([e.kernel()], [e], e.shared_words) + self.attributes()
