"""The tensor graph: *what* was computed. One node class, one printer, one verifier.

A node's value is flat: `numel` elements of one dtype, dense, in row-major order of the shape it was recorded with.
Shapes belong to the edges: `views[i]` says how the node reads `inputs[i]` (an affine map over that input's flat value),
so transposing, expanding, slicing and reshaping are never nodes.

An input is another Node or a Python number; a number is a run-time argument of the kernel, so a changed learning rate or
step count changes no plan and compiles nothing (its view is None, its dtype is in `op`'s rule).

What a node means is decided by its operator's family (`op.family`), never by its name:

    leaf         a value already in memory: `buffer`
    pointwise    out[i] = op.scalar(*elements); all views have the node's `shape`; each input is first cast to
                 the dtype in `static.casts`. op.uses_index: the scalar code also gets the coordinate along the last
                 dimension of the node's shape (a factory such as arange has shape (n,))
    gather       out[i] = source[view(i) + sum_j index_j(i) * stride_j]: inputs (source, index_0, index_1 ...);
                 static.picks = ((size_j, stride_j), ...); index_j in [-size_j, size_j), else an IndexError at the sync
    scatter      a copy of inputs[0] (whole, flat) in which, at region(i) + sum_j index_j(i) * stride_j, the value
                 inputs[1](i) is combined in (static.combine: "set" "sum" "prod" "max" "min"); static.region is a View (shape =
                 that of the updates); inputs[2:] are the indices, static.picks as above. With no indices: a write through a view
    reduction    inputs[0] viewed as shape kept + reduced; static.reduced = how many last dimensions are reduced,
                 op.combine in "sum" "prod" "max" "min" "any" "all" "argmax" "argmin" (flat position within the reduced part);
                 static.casts[0] is the dtype of the accumulation
    scan         inputs[0] viewed as kept + (n,): running op.combine along the last dimension ("sum" "prod" "max" "min"
                 "argmax" "argmin" "logsumexp"); same shape out
    contraction  C[b, m, n] = sum_k A[b, m, k] B[b, n, k]; views: A of shape b + m + k, B of shape b + n + k;
                 static.dims = (how many b, m, n, k dimensions); static.casts = the dtype of the sum, twice
    extern       op.host(*arrays, **static.params) -> tuple of arrays, computed by NumPy; inputs are read as arrays of
                 their view's shape; the outputs are read through `output` nodes
    output       the static.position-th result of the extern node inputs[0]
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

from ..base import dtype as dt
from ..loops.view import View, dense, is_row_major, row_major, view  # noqa: F401 (a node's vocabulary)


class Static(NamedTuple):
    """What is fixed about a node besides its operator: part of a plan's identity. See the module's table."""

    casts: tuple = ()           # dtype each input is cast to before use
    reduced: int = 0
    picks: tuple = ()
    combine: str = ""
    region: View | None = None
    dims: tuple = ()
    position: int = 0
    params: tuple = ()          # of an extern: ((name, value), ...)


class Node:
    """One recorded operation, or a leaf."""

    __slots__ = ("op", "inputs", "views", "static", "shape", "numel", "dtype", "buffer", "owner", "index", "where", "__weakref__")

    def __init__(self, op, inputs: tuple, views: tuple, static: Static, shape: tuple, numel: int, dtype: dt.dtype):
        self.op, self.inputs, self.views, self.static = op, inputs, views, static
        self.shape, self.numel, self.dtype = shape, numel, dtype
        self.buffer = None      # runtime.buffer.Buffer once realised; then inputs is ()
        self.owner = None       # weak reference to the storage cell that holds this node, or a list of them
        self.index = -1         # position in the graph being planned
        self.where = None       # (file, line) of the user's call, for operators that can fail late

    def owners(self) -> int:
        """How many storage cells hold this value: a tensor can still ask for it while there is one."""
        owner = self.owner
        if owner is None:
            return 0
        if type(owner) is list:
            return sum(1 for r in owner if (cell := r()) is not None and cell.holds(self))
        cell = owner()
        return 1 if cell is not None and cell.holds(self) else 0

    def live(self) -> bool:
        """Whether a tensor can still ask for this value."""
        return self.owners() > 0


class Leaf:
    """The operator of values already in memory."""

    name, family = "leaf", "leaf"


LEAF = Leaf()


def leaf(buffer, numel: int, dtype: dt.dtype) -> Node:
    node = Node(LEAF, (), (), Static(), (numel,), numel, dtype)
    node.buffer = buffer
    return node


def own(node: Node, storage) -> None:
    """Note that `storage` holds `node`. Several cells may hold one value: writing to one of them leaves the others as they are."""
    if node.owner is None or not node.live():
        node.owner = weakref.ref(storage)
    elif type(node.owner) is list:
        node.owner = [r for r in node.owner if r() is not None] + [weakref.ref(storage)]
    else:
        node.owner = [node.owner, weakref.ref(storage)]


def format_graph(nodes: list[Node]) -> str:
    """The graph as text, one line a node."""
    number = {id(n): i for i, n in enumerate(nodes)}
    lines = []
    for i, n in enumerate(nodes):
        reads = []
        for source, v in zip(n.inputs, n.views):
            if isinstance(source, Node):
                name = f"%{number[id(source)]}" if id(source) in number else f"leaf[{source.numel}]"
                reads.append(name if v is None or (v.dense and v.shape == n.shape) else f"{name} as {v}")
            else:
                reads.append(repr(source))
        kept = "  (kept)" if n.live() else ""
        lines.append(f"%{i:<4} {n.op.name:18} {n.dtype.code:4} {str(list(n.shape)):20} {', '.join(reads)}{kept}")
    return "\n".join(lines)


def verify(nodes: list[Node]) -> None:
    """Raise AssertionError where a graph breaks a rule of this file."""
    seen = set()
    for n in nodes:
        assert len(n.views) == len(n.inputs), f"{n.op.name}: a view for each input"
        for source, v in zip(n.inputs, n.views):
            if not isinstance(source, Node):
                continue
            assert source.buffer is not None or id(source) in seen, f"{n.op.name}: reads a value computed later"
            if v is not None and v.numel:
                last = v.offset + sum((s - 1) * max(t, 0) for s, t in zip(v.shape, v.strides))
                first = v.offset + sum((s - 1) * min(t, 0) for s, t in zip(v.shape, v.strides))
                assert 0 <= first and last < source.numel, f"{n.op.name}: {v} leaves a value of {source.numel} elements"
        if n.op.family == "pointwise":
            for source, v in zip(n.inputs, n.views):
                assert v is None or v.shape == n.shape, f"{n.op.name}: reads {v} for a shape {n.shape}"
        seen.add(id(n))
