"""Operators whose work a well-kept library does on the host: how a call of NumPy is recorded."""

from __future__ import annotations

from ..base import dtype as dt
from ..graph import tape
from ..graph.tape import state
from ..graph.node import Node, Static, dense
from .record import Record, core, meta

OUTPUT = Record("output", "output")


def host_op(name: str, host) -> Record:
    return Record(name, "extern", host=host)


def run(op: Record, inputs, outputs, **params):
    """Record a call of `op.host(*arrays, **params)`; `outputs` lists (shape, dtype) of what it returns."""
    if state.devices:
        inputs = core.together(op.name, inputs)
    node = Node(op, tuple(x.storage.node for x in inputs), tuple(x.meta.view for x in inputs), Static(params=tuple(params.items())),
                (), 0, dt.float32)
    tape.record(node)
    out = []
    for i, (shape, d) in enumerate(outputs):
        whole = dense(tuple(shape))
        part = Node(OUTPUT, (node,), (None,), Static(position=i), whole.shape, whole.numel, d)
        tape.record(part)
        out.append(core.wrap(part, meta(whole, d, inputs[0].meta.device)))
    tape.settle()
    return tuple(out)


