"""vmap: a function of one example applied to a batch of them, without a loop.

The function runs once, on tensors that stand for all lanes (`lanes`). To reverse-mode differentiation the whole application is
one operation, `VmapBackward`: its derivative enters the same lanes again and runs the derivatives recorded within them; what a
tensor from outside receives, used by every lane, is summed over the lanes.
"""

from __future__ import annotations

import functools

from ..base.grad_mode import mode
from ..core import autograd
from ..core.autograd import RELEASED, TWICE, SpecialNode, edge_of, place_of
from ..core.tensor import Tensor
from ..ops.joining import cat
from ..ops.view import movedim
from ..utils._pytree import TreeSpec, _broadcast_to_and_flatten, tree_flatten, tree_unflatten
from . import lanes
from .lanes import Level

# -- derivatives --------------------------------------------------------------------------------------------------


class LaneInput(SpecialNode):
    """Where the derivatives within the lanes end: one lane, along `dim`, of a tensor from outside, whose edge is `source`."""

    __slots__ = ("level", "source", "dim")

    def __init__(self, level: Level, x: Tensor, dim: int, lane: Tensor):
        super().__init__()
        self.level, self.source, self.dim = level, edge_of(x), dim
        self.outputs = lane._meta.alone


class VmapBackward(SpecialNode):
    """The derivative of a function applied to all lanes.

    `roots`: the places of its results, within the lanes; `mapped`: the LaneInputs and `shared`: the places outside that these
    lead to.
    """

    __slots__ = ("level", "roots", "mapped", "shared")

    def backward(self, grads: list) -> list:
        if self.kept is RELEASED:
            raise RuntimeError(TWICE)
        places = [(node, 0) for node in self.mapped] + self.shared
        given = [(root, g) for root, g in zip(self.roots, grads) if g is not None]

        def pull(cotangents):
            captures: dict = {place: [] for place in places}
            autograd.run(
                [root for root, _ in given],
                cotangents,
                True,
                mode.grad,
                captures,
                accumulate=False,
                final={node for node, _ in places},
            )
            return [next(iter(captures[place]), None) for place in places]

        found = apply(self.level, pull, [g for _, g in given], [0] * len(given))
        for i, g in enumerate(found):
            if g is not None:
                found[i] = movedim(g, 0, self.mapped[i].dim) if i < len(self.mapped) else g.sum(0)
        return found

    def release(self) -> None:
        self.roots, self.kept = (), RELEASED


def apply(level: Level, function, tensors: list, dims: list) -> list:
    """The tensors among the results of `function`, for all lanes along a first dimension; other results as they are.

    `function` gets the list of `tensors`, those with a dimension in `dims` for one lane, and returns a list.
    """
    with level:
        inputs = []
        for x, dim in zip(tensors, dims):
            if dim is None:
                inputs.append(x)
                continue
            lane = lanes.enter(level, x, dim)
            if x._rg:
                lane._rg, lane._grad_fn = True, LaneInput(level, x, dim, lane)
            inputs.append(lane)
        entered = [(x, lane, lane.storage.version) for x, lane, dim in zip(tensors, inputs, dims) if dim is not None]
        outputs = function(inputs)
        results = [lanes.leave(level, t) if isinstance(t, Tensor) else t for t in outputs]
        written = [
            (x, dim, lanes.leave(level, lane))
            for (x, lane, version), dim in zip(entered, [d for d in dims if d is not None])
            if lane.storage.version != version
        ]
    _attach(level, outputs, results)
    for x, dim, value in written:
        with autograd.no_grad():
            x.copy_(movedim(value, 0, dim))
    return results


def _attach(level: Level, outputs: list, results: list) -> None:
    """Give the `results` their history: that of the `outputs` for one lane."""
    tracked = [(t, r) for t, r in zip(outputs, results) if isinstance(t, Tensor) and t._rg]
    if not tracked:
        return
    roots = [place_of(edge_of(t)) for t, _ in tracked]
    mapped, shared = _ends(level, roots)
    if not mapped and not shared:
        return
    node = VmapBackward()
    node.level, node.roots, node.mapped, node.shared = level, roots, mapped, shared
    node.edges = tuple([n.source for n in mapped]) + tuple([n if not nr else (n, nr) for n, nr in shared])
    node.outputs = tuple([r._meta for _, r in tracked])
    for i, (_, r) in enumerate(tracked):
        r._rg, r._grad_fn, r._nr = True, node, i


def _ends(level: Level, roots: list) -> tuple[list, list]:
    """(the LaneInputs, the places outside) that the derivatives recorded in the lanes lead to."""
    mapped, shared = {}, {}
    stack, seen = list(roots), set()
    while stack:
        node, nr = stack.pop()
        if type(node) is LaneInput and node.level is level:
            mapped[node] = True
        elif isinstance(node, Tensor):
            if level not in lanes.depth(node):
                shared[node, 0] = True
        elif not level.made(node.seq):
            shared[node, nr] = True
        elif node not in seen:
            seen.add(node)
            stack.extend([place_of(e) for e in node.edges if e is not None])
    return list(mapped), list(shared)


# -- the function -------------------------------------------------------------------------------------------------


def vmap(func, in_dims=0, out_dims=0, randomness="error", *, chunk_size=None):
    """`func` applied to each of a batch of examples.

    func: from tensors (in trees of tuples, lists and dicts) to tensors. in_dims: for each positional argument, or a tree like it,
    the dimension that counts the examples, or None for one value for all; keyword arguments are the same for all. out_dims: where
    that dimension is in the results. randomness: what random operators inside do: "error", "different" numbers for each example,
    or the "same". chunk_size: how many examples at a time, to save memory.

    Errors: ValueError where dimensions do not fit; RuntimeError where `func` asks for the value of a tensor.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def mapped(*args, **kwargs):
        leaves, spec, dims, size = _inputs(func, in_dims, args)
        if chunk_size is None or size <= chunk_size:
            outputs, out_spec, out = _run(func, leaves, spec, dims, size, out_dims, randomness, kwargs)
            return tree_unflatten([_placed(t, d) for t, d in zip(outputs, out)], out_spec)
        parts = []
        for start in range(0, size, chunk_size):
            count = min(chunk_size, size - start)
            chunk = [x if d is None else x.narrow(d, start, count) for x, d in zip(leaves, dims)]
            outputs, out_spec, out = _run(func, chunk, spec, dims, count, out_dims, randomness, kwargs)
            parts.append(outputs)
        joined = [ts[0] if d is None else _placed(cat(ts, 0), d) for ts, d in zip(zip(*parts), out)]
        return tree_unflatten(joined, out_spec)

    return mapped


def _name(func) -> str:
    return getattr(func, "__name__", repr(func))


def _inputs(func, in_dims, args: tuple) -> tuple[list, TreeSpec, list, int]:
    """(leaves of the arguments, their structure, the dimension of each or None, how many lanes)."""
    what = f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>)"
    if not isinstance(in_dims, (int, tuple, list)):
        raise ValueError(
            f"{what}: expected `in_dims` to be int or a (potentially nested) tuple matching the structure of inputs, "
            f"got: {type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({_name(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over a "
            "function with no inputs. The latter is unsupported."
        )
    leaves, spec = tree_flatten(args)
    dims = _broadcast_to_and_flatten(tuple(in_dims) if isinstance(in_dims, list) else in_dims, spec)
    if dims is None:
        raise ValueError(
            f"{what}: in_dims is not compatible with the structure of `inputs`. in_dims has structure "
            f"{tree_flatten(in_dims)[1]} but inputs has structure {spec}."
        )
    for i, (x, d) in enumerate(zip(leaves, dims)):
        if d is None:
            continue
        if not isinstance(d, int):
            raise ValueError(f"{what}: Got in_dim={d} for an input but in_dim must be either an integer dimension or None.")
        if not isinstance(x, Tensor):
            raise ValueError(
                f"{what}: Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap over non-Tensor "
                "arguments, please use None as the respective in_dim"
            )
        if not -x.dim() <= d < x.dim():
            raise ValueError(
                f"{what}: Got in_dim={d} for some input, but that input is a Tensor of dimensionality {x.dim()} so expected "
                f"in_dim to satisfy -{x.dim()} <= in_dim < {x.dim()}."
            )
        dims[i] = d % x.dim()
    sizes = [x.shape[d] for x, d in zip(leaves, dims) if d is not None]
    if not sizes:
        raise ValueError(f"{what}: vmap must have at least one input to be mapped over; received None for all.")
    if any(n != sizes[0] for n in sizes):
        raise ValueError(
            f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes} for the mapped "
            "dimension"
        )
    return leaves, spec, dims, sizes[0]


def _run(func, leaves: list, spec: TreeSpec, dims: list, size: int, out_dims, randomness: str, kwargs: dict):
    """(results with the lanes in front, their structure, where the lanes are to go)."""
    found: list = []

    def call(inputs: list) -> list:
        result = func(*tree_unflatten(inputs, spec), **kwargs)
        outputs, out_spec = tree_flatten(result)
        found.extend([out_spec, _out_dims(func, out_dims, outputs, out_spec)])
        return outputs

    outputs = apply(Level(size, randomness), call, leaves, dims)
    return outputs, *found


def _out_dims(func, out_dims, outputs: list, spec: TreeSpec) -> list:
    what = f"vmap({_name(func)}, ..., out_dims={out_dims})(<inputs>)"
    dims = _broadcast_to_and_flatten(out_dims, spec)
    if dims is None and isinstance(out_dims, tuple) and len(out_dims) == 1 and spec.is_leaf():
        dims = list(out_dims)
    if dims is None:
        raise ValueError(
            f"{what}: out_dims is not compatible with the structure of `outputs`. out_dims has structure "
            f"{tree_flatten(out_dims)[1]} but outputs has structure {spec}."
        )
    for x, d in zip(outputs, dims):
        if d is not None and not isinstance(d, int):
            raise ValueError(f"{what}: expected out_dims to be int, None or a tree of them; received {d!r}.")
        if d is not None and not isinstance(x, Tensor):
            raise ValueError(
                f"vmap({_name(func)}, ...): `{_name(func)}` must only return Tensors, got type {type(x)}. Did you mean to set "
                "out_dims= to None for output?"
            )
        if d is None and isinstance(x, Tensor) and lanes.levels()[-1] in lanes.depth(x):
            raise ValueError(
                f"{what}: a result is mapped over, one value for each example, but its out_dim is None: give its dimension."
            )
    return dims


def _placed(t, dim):
    """A result with the lanes moved from the first dimension to `dim`."""
    if dim is None or not dim:
        return t
    if not -t.dim() <= dim < t.dim():
        raise IndexError(f"Dimension out of range (expected to be in range of [{-t.dim()}, {t.dim() - 1}], but got {dim})")
    return movedim(t, 0, dim)
