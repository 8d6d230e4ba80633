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
    recurrence   the graph of one step, static.params' "steps", as often as inputs[0] is long: see recurrence.py. All inputs are dense
    output       the static.position-th result of the extern node or recurrence inputs[0]
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any, NamedTuple

from ..base import dtype as dt
from ..base.errors import OutOfMemoryError, message
from ..loops.view import View, dense, is_row_major, ordered, row_major, view  # noqa: F401 (a node's vocabulary)


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
    device: str = "cpu"         # of a node without inputs; all others are computed where their inputs are
    within: tuple = ()          # of a contraction: pairs of groups of dimensions, as in `loops.ir.Contraction`; each is one dimension


class Form:
    """All of a node but its inputs and its value. Interned (`form(...)`), so that recordings are compared by the identity of forms.
    `pattern`: kept for `family.pattern`. `places`, `framed`: kept for `window`."""

    FIELDS = ("op", "views", "static", "shape", "numel", "dtype")
    __slots__ = (*FIELDS, "pattern", "places", "framed")

    def __init__(self, op, views: tuple, static: Static, shape: tuple, numel: int, dtype: dt.dtype):
        self.pattern = self.places = self.framed = None
        self.op, self.views, self.static, self.shape, self.numel, self.dtype = op, views, static, shape, numel, dtype

    def reading(self, views: tuple, static: Static) -> Form:
        """The form that is read and written through other index maps."""
        return form(self.op, views, static, self.shape, self.numel, self.dtype)


MOST = 1 << 42      # bytes of a value, 4 TiB: no machine has such memory, and what only reads it would run for hours
_forms: dict[tuple, Form] = {}


def form(op, views: tuple, static: Static, shape: tuple, numel: int, dtype: dt.dtype) -> Form:
    """The one Form with these fields. OutOfMemoryError for a value that has no room anywhere."""
    key = (op, views, static, shape, dtype)
    found = _forms.get(key)
    if found is None:
        if type(numel) is int and numel * dtype.itemsize > MOST:
            no_room(op.name, numel * dtype.itemsize, shape)
        if len(_forms) > 100_000:
            _forms.clear()
            _leaf_forms.clear()
        found = _forms[key] = Form(op, views, static, shape, numel, dtype)
    return found


def no_room(name: str, nbytes: int, shape: tuple):
    raise OutOfMemoryError(message(name, "a result that fits into memory", f"one of {nbytes:,} bytes",
                                   f"Its shape is {shape}: is a dimension meant to be another, or broadcast by mistake?"))


class Node:
    """One recorded operation, or a leaf.

    Who can still ask for its value is told by the references to it: a storage cell has one (`held`). A long recording is
    millions of small objects to the garbage collector, so a node has nothing that can be found out when it is computed.
    """

    form: Form
    inputs: tuple
    buffer: Any         # runtime.buffer.Buffer once realised; then inputs is ()
    index: int          # position in the graph that a plan is made for
    where: Any          # where the user's call is, for operators that can fail late
    __slots__ = ("form", "inputs", "buffer", "index", "where", "__weakref__")

    # No `__init__`: whoever records makes a bare node, and fills it without a call.
    @staticmethod
    def of(op, inputs: tuple, views: tuple, static: Static, shape: tuple, numel: int, dtype: dt.dtype) -> Node:
        """A node of the form with these fields."""
        node = Node()
        node.form, node.inputs = form(op, views, static, shape, numel, dtype), inputs
        node.buffer = node.where = None
        return node

    op, views, static, shape, numel, dtype = (property(attrgetter(f"form.{name}")) for name in Form.FIELDS)


class Lanes(NamedTuple):
    """In place of the inputs of a node that stands for one lane of a batch (`func.lanes`): the value for lane b is read in `node`,
    from b * step on."""

    level: object
    node: Node
    step: int


class Leaf:
    """The operator of values already in memory."""

    name, family = "leaf", "leaf"


LEAF = Leaf()


_NOTHING_MORE = Static()


_leaf_forms: dict[tuple, Form] = {}     # by their numbers of elements and dtypes


def leaf_form(numel: int, dtype: dt.dtype) -> Form:
    found = _leaf_forms.get((numel, dtype))
    if found is None:
        found = _leaf_forms[numel, dtype] = form(LEAF, (), _NOTHING_MORE, (numel,), numel, dtype)
    return found


def leaf(buffer, numel: int, dtype: dt.dtype) -> Node:
    node = Node()
    node.form, node.inputs, node.buffer = leaf_form(numel, dtype), (), buffer
    node.where = None
    return node


_IN_A_LIST = next(map(sys.getrefcount, [object()]))     # what an object counts that only a list refers to


def held(objects: list, known: list[int]) -> list[bool]:
    """Which objects have more references than this list's and `known[i]` others: somebody else can reach them."""
    return counted(map(sys.getrefcount, objects), known)


def counted(references, known: list[int]) -> list[bool]:
    """As `held`, by counts taken earlier."""
    return [n > _IN_A_LIST + k for n, k in zip(references, known)]


def alike(references, known: list[int]) -> tuple[int, ...]:
    """Counts that tell the same (`counted`) as these, equal for one other reference and for many."""
    return tuple([min(n, _IN_A_LIST + k + 1) for n, k in zip(references, known)])


def uses(nodes: list[Node], leaves=()) -> dict[Node, int]:
    """How many references to each node the recording has itself, the keys of this table among them, lists of nodes not."""
    count = dict.fromkeys([*nodes, *leaves], 1)
    for n in nodes:
        for s in n.inputs:
            if s in count:
                count[s] += 1
    return count


def format_graph(nodes: list[Node]) -> str:
    """The graph as text, one line a node."""
    number = {id(n): i for i, n in enumerate(nodes)}
    lines = []
    count, pending = uses(nodes), sys.modules[__package__ + ".tape"].nodes
    listed = {id(n) for n in pending} if pending is not nodes else set()
    kept = held(nodes, [count[n] + (id(n) in listed) for n in nodes])
    for i, n in enumerate(nodes):
        reads = []
        for source, v in zip(n.inputs, n.views):
            if isinstance(source, Node):
                name = f"%{number[id(source)]}" if id(source) in number else f"leaf[{source.numel}]"
                reads.append(name if v is None or (v.dense and v.shape == n.shape) else f"{name} as {v}")
            else:
                reads.append(repr(source))
        lines.append(f"%{i:<4} {n.op.name:18} {n.dtype.code:4} {str(list(n.shape)):20} {', '.join(reads)}{'  (kept)' if kept[i] else ''}")
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
            for v in n.views:
                assert v is None or v.shape == n.shape, f"{n.op.name}: reads {v} for a shape {n.shape}"
        seen.add(id(n))
