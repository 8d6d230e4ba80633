"""Are indices within their dimensions? Asked when an operation is recorded, wherever the indices are known then.

Kernels note an index out of its dimension when they come to it, which may be after a whole step has been recorded: what depends on it is
lost, updated parameters too. So what is in memory is looked at by a native loop (a microsecond for some thousand indices), and
what is made of integers alone is computed first. For the rest, indices that a network computes or that lie on a GPU, `state.unsure` tells
an optimiser to have everything computed before it makes a step.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial

import numpy as np

from ..base import dtype as dt
from ..base.errors import message
from ..graph import tape
from ..graph.block import unfold
from ..graph.node import Node, View, dense
from ..graph.tape import state
from ..loops.view import reach
from ..runtime import flight
from ..runtime.buffer import memory
from .layout import core, meta

FEW = 16            # nodes that are computed for their indices' sake
MANY = 10_000       # values that are worth computing a second time, and what is known of as many
SPARSE = 4          # a view that skips more than this of its memory is looked at element by element

_IR = """
define i32 @kernel(ptr noalias %p, ptr noalias %limits) {
entry:
  %n = load i64, ptr %limits
  %low.at = getelementptr i64, ptr %limits, i64 1
  %low = load i64, ptr %low.at
  %high.at = getelementptr i64, ptr %limits, i64 2
  %high = load i64, ptr %high.at
  %ignored.at = getelementptr i64, ptr %limits, i64 3
  %ignored = load i64, ptr %ignored.at
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %exit
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %found = phi i32 [0, %entry], [%found.next, %loop]
  %q = getelementptr i64, ptr %p, i64 %i
  %x = load i64, ptr %q
  %below = icmp slt i64 %x, %low
  %above = icmp sge i64 %x, %high
  %outside = or i1 %below, %above
  %counts = icmp ne i64 %x, %ignored
  %bad = and i1 %outside, %counts
  %flag = zext i1 %bad to i32
  %found.next = or i32 %found, %flag
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %exit
exit:
  %result = phi i32 [0, %entry], [%found.next, %loop]
  ret i32 %result
}
"""


class Range:
    """Indices read through `view` must be in [low, high), but for `ignored`; else `error(the first that is not)` is raised."""

    def __init__(self, view: View, low: int, high: int, ignored: int, error: Callable[[int], Exception]):
        self.view, self.low, self.high, self.ignored, self.error = view, low, high, ignored, error
        self.reach = view.memo.get("reach")
        if self.reach is None:
            self.reach = view.memo["reach"] = reach(view) if view.numel else 0
        self.start = 8 * view.offset
        self.limits, self.told = None, 0        # and their address
        if self.native and self.reach <= SPARSE * view.numel and min(view.strides, default=0) >= 0:
            self.limits = (ctypes.c_int64 * 4)(self.reach, low, high, ignored)
            self.told = ctypes.addressof(self.limits)

    urgent = True           # values not known yet are computed before an optimiser's step
    native = True           # those in memory are looked at by a native loop

    def misses(self, found: np.ndarray) -> np.ndarray:
        """Those of some values that are out of range."""
        return found[((found < self.low) | (found >= self.high)) & (found != self.ignored)]


class Interval(Range):
    """Floating point numbers read through `view` must be in [low, high]. Numbers still to be computed are not waited for."""

    urgent = native = False

    def __init__(self, view: View, low: float, high: float, error: Callable[[float], Exception]):
        super().__init__(view, low, high, 0, error)

    def misses(self, found: np.ndarray) -> np.ndarray:
        found = dt.decode(found) if found.dtype.kind == "u" else found
        return found[~((found >= self.low) & (found <= self.high))]


class NonZero(Range):
    """Integers read through `view` must not be 0. Those still to be computed are not waited for."""

    urgent = native = False

    def __init__(self, view: View, error: Callable[[int], Exception]):
        super().__init__(view, 0, 0, 0, error)

    def misses(self, found: np.ndarray) -> np.ndarray:
        return found[found == 0]


def require_places(what: str, index, size: int, error=IndexError) -> None:
    """The tensor `index` must hold places in a dimension of `size`, from its end if they are negative."""
    require(index.storage.node, Range(index._meta.view, -size, size, 0, partial(_misplaced, what, size, error)))


def _misplaced(what: str, size: int, error, found: int) -> Exception:
    return error(message(what, f"an index in [{-size}, {size}) for a dimension of size {size}", f"{found} (index out of range in self)"))


def require(node: Node, wanted: Range) -> bool:
    """Raise the error if indices, the value of `node`, are known to be out of their range. Whether they are known to be within it."""
    if state.watch is not None:
        state.watch.requires(node, wanted)
        if node.buffer is None:
            return False    # whoever watches asks again
    elif node.buffer is None and wanted.urgent:
        ends = _ends(node)
        if ends is None:
            _compute(node)
        elif wanted.low <= ends[0] and ends[1] < wanted.high:
            return True
    buffer = node.buffer
    if buffer is None or buffer.device != "cpu" or buffer.address in flight.awaited or state.rewriter is not None:
        state.unsure |= wanted.urgent
        return False
    view, dtype = wanted.view, node.form.dtype
    if not view.numel or wanted.told and dtype.itemsize == 8 and not _any_outside(buffer.address + wanted.start, wanted.told):
        return True
    found = memory(buffer.address + view.offset * dtype.itemsize, wanted.reach, dtype.memory, view)
    bad = wanted.misses(found)
    if bad.size:
        raise wanted.error(bad[0].item())
    return True


def _any_outside(values: int, limits: int) -> int:
    """Whether one of the values at an address is out of its range: the native loop, which takes this function's place."""
    global _any_outside
    from ..runtime import jit

    _any_outside = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(jit.load(_IR, lambda: _IR))
    return _any_outside(values, limits)


_known: dict = {}       # what is computed from numbers alone -> its (least, largest) value


def _ends(node: Node) -> tuple[int, int] | None:
    """The least and the largest of the values of a node that is computed from numbers alone, such as arange."""
    key = (node.form, *node.inputs)
    if not 0 < node.form.numel <= MANY or state.vmap is not None or any([type(s) is Node for s in node.inputs]):
        return None
    if key not in _known:
        twin = core.make(Node.of(node.op, node.inputs, node.views, node.static, node.shape, node.numel, node.dtype),
                         meta(dense((node.numel,)), node.dtype))
        tape.flush_part([twin.storage.node])
        values = core.host(twin)
        if len(_known) > MANY:
            _known.clear()
        _known[key] = int(values.min()), int(values.max())
    return _known[key]


def _compute(node: Node) -> None:
    """Compute indices that are made of few integers, and nothing else with them."""
    if state.vmap is not None or state.devices:
        return
    with tape.computing:
        unfold(tape.nodes)
    found = [node]
    for n in found:         # which grows
        if n.form.dtype.kind not in "bi" or n.form.op.family == "extern":
            return
        found += [s for s in n.inputs if type(s) is Node and s.buffer is None and s not in found]
        if len(found) > FEW:
            return
    del n
    tape.flush_part(found)
