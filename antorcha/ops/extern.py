"""Operators whose work a well-kept library does on the host: how a call of NumPy is recorded."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..base import dtype as dt
from ..graph import tape
from ..graph.node import Node, Static, dense
from ..graph.tape import state
from .record import Record, broadcast_shapes, core, meta
from .strides import of_elements, order

OUTPUT = Record("output", "output")
PARALLEL = 1 << 17      # elements that are worth a thread


def host_op(name: str, host) -> Record:
    return Record(name, "extern", host=host)


def in_parts(function, out: np.ndarray, x: np.ndarray, dim: int) -> None:
    """`function(part of x, part of out)` for parts along the longest of the dimensions but `dim`, where there is much to do on as many
    threads as kernels use: NumPy lets the others run meanwhile."""
    from ..runtime.pool import get_num_threads

    others = [d for d in range(x.ndim) if d != dim]
    along = max(others, key=lambda d: x.shape[d], default=dim)
    count = min(get_num_threads(), x.shape[along]) if others and x.size >= PARALLEL else 1
    if count < 2:
        return function(x, out)
    from concurrent.futures import ThreadPoolExecutor

    bounds = [k * x.shape[along] // count for k in range(count + 1)]
    parts = [(slice(None),) * along + (slice(a, b),) for a, b in pairwise(bounds)]
    with ThreadPoolExecutor(count - 1) as others_work:
        rest = [others_work.submit(function, x[part], out[part]) for part in parts[1:]]
        function(x[parts[0]], out[parts[0]])
        for part in rest:
            part.result()


def run(op: Record, inputs, outputs, **params):
    """Record a call of `op.host(*arrays, **params)`; `outputs` lists (shape, dtype) of what it returns."""
    if state.devices:
        inputs = core.together(op.name, inputs)
    node = Node.of(op, tuple(x.storage.node for x in inputs), tuple(x._meta.view for x in inputs), Static(params=tuple(params.items())),
                (), 0, dt.float32)
    wholes = [dense(tuple(shape)) for shape, _ in outputs]
    parts = [Node.of(OUTPUT, (node,), (None,), Static(position=i), v.shape, v.numel, d)
             for i, (v, (_, d)) in enumerate(zip(wholes, outputs))]
    tape.nodes.extend([node, *parts])       # at once: another thread may be about to compute what is recorded
    out = tuple([core.wrap(part, meta(v, part.dtype, inputs[0]._meta.device)) for part, v in zip(parts, wholes)])
    tape.settle()
    return out


def elementwise(op: Record, input, other, d: dt.dtype, **params):
    """A routine of NumPy on the broadcast elements of two tensors, in dtype `d`; the result lies as that of any operator of elements."""
    shape = broadcast_shapes(op.name, tuple(input.shape), tuple(other.shape))
    inward = order(of_elements([input._meta.view, other._meta.view], shape))
    pair = input.expand(shape), other.expand(shape)
    if inward is None:
        return run(op, pair, [(shape, d)], **params)[0]
    out = run(op, [x.permute(inward) for x in pair], [(tuple(shape[i] for i in inward), d)], **params)[0]
    return out.permute(tuple(inward.index(i) for i in range(len(shape))))
