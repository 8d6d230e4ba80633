"""Long permutations: the exchanges of Fisher and Yates (1938) by a loop program of our own."""

from __future__ import annotations

import functools

import numpy as np

from ..base import dtype as dt
from ..loops import ir


def program() -> ir.Program:
    """order[i] and order[i + step[i]] change places, for i = 0, 1 .. in turn."""
    p = ir.Program()
    order, steps = p.slot("inout", dt.int64, "order"), p.slot("in", dt.int64, "steps")
    count = p.slot("extent", dt.int64, "count")
    i = ir.index("i")
    other = i + ir.load(steps, i, dt.int64)
    here = ir.value("here", dt.int64)
    p.body = [ir.loop("once", "parallel", ir.integer(1),
                      ir.accumulator("here", "set", ir.integer(0)),
                      ir.loop("i", "serial", ir.arg(count),
                              ir.update("here", ir.load(order, i, dt.int64)),
                              ir.store(order, i, ir.load(order, other, dt.int64)),
                              ir.store(order, other, here)))]
    return p


@functools.cache
def _kernel():
    from ..targets.kernel import Function

    return Function(program())


def shuffled(steps: np.ndarray) -> np.ndarray:
    """0 .. n-1, shuffled by the n-1 steps (int64, step i in [0, n - i))."""
    order = np.arange(steps.size + 1, dtype=np.int64)
    arguments = np.array([order.ctypes.data, steps.ctypes.data, steps.size], np.int64)
    _kernel()(arguments.ctypes.data, 4 * steps.size)
    return order
