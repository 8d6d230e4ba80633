"""Products read their operands as they lie in memory: what only widens 16-bit floats is left to the product, whose sums are wide anyway."""

from __future__ import annotations

from ..base import dtype as dt
from ..loops import index, ir
from .node import Node


def folded(n: Node) -> Node:
    """A contraction with the casts before it left out; any other node as it is."""
    if n.op.family != "contraction":
        return n
    inputs, views = list(n.inputs), list(n.views)
    for j, (s, v) in enumerate(zip(n.inputs, n.views)):
        while isinstance(s, Node) and s.buffer is None and _widens(s):
            v = index.compose(v, s.views[0])
            if v is None:
                break
            s = s.inputs[0]
            inputs[j], views[j] = s, v
    if all(a is b for a, b in zip(inputs, n.inputs)):
        return n
    found = Node.of(n.op, tuple(inputs), tuple(views), n.static, n.shape, n.numel, n.dtype)
    found.index, found.where = n.index, n.where
    return found


def _widens(n: Node) -> bool:
    """Whether a node is a tensor of 16-bit floats in float32."""
    if n.op.family != "pointwise" or len(n.inputs) != 1 or not isinstance(n.inputs[0], Node) or n.op.uses_index:
        return False
    if n.dtype is not dt.float32 or n.inputs[0].dtype not in (dt.float16, dt.bfloat16):
        return False
    probe = ir.arg(0, dt.float32)
    return n.op.scalar(probe) is probe
