"""Joining tensors, and the grids and products made by joining or broadcasting them."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Callable

from ..base import config
from ..base import dtype as dt
from ..base.formats import contiguous_format
from ..base.grad_mode import mode
from ..graph.node import Node, Static, dense, is_row_major, leaf
from ..graph.node import view as make_view
from ..graph.tape import state
from ..runtime import flight
from ..runtime.buffer import Buffer
from .placement import common
from .recall import warn_once
from .record import broadcast_shapes, check_tensor, core, meta, normalize_dim, operator
from .strides import of_format, suggested
from .view import SCATTER, expand_, slice_, slice_view, unbind, unsqueeze, view_

Tensor = "Tensor"
SAMPLES, AT_ONCE = 8, 1 << 20       # as many tensors in memory, of no more bytes together, are copied when they are joined
FEW = 8             # tensors to each that is still to be computed, which it then is


def _cat_grad(g, shapes, dim):
    out, start = [], 0
    for shape in shapes:
        n = shape[dim] if shape != (0,) else 0
        part = slice_(g, dim, start, start + n, 1)
        out.append(part if shape != (0,) else view_(part, shape))
        start += n
    return out


def _cat_at_once(tensors, dim):
    """`cat` of samples in memory (`_copied`), or None."""
    if not isinstance(tensors, (list, tuple)) or len(tensors) < SAMPLES:
        return None
    tensors = _listed("cat", tensors)
    return _copied(tensors, _joined_dim(tensors, dim), lambda d: _joined_shape([x._meta.view.shape for x in tensors], d))


@operator(method=False, apart=0, at_once=_cat_at_once,
          grad=dict(tensors=lambda g, tensors_shape, dim: _cat_grad(g, tensors_shape, dim % g.dim())),
          samples=lambda t: [[t(3, 4), t(2, 4), t(0)]])
def cat(tensors: list[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along `dim`; those of shape (0,) are left out."""
    tensors = _listed("cat", tensors)
    dim = _joined_dim(tensors, dim)
    shape = _joined_shape([x._meta.view.shape for x in tensors], dim)
    d = functools.reduce(dt.promote, (x._meta.dtype for x in tensors))
    if state.devices:
        tensors = core.together("cat", tensors)
    fmt = suggested(tensors[0]._meta.view)
    if any([suggested(x._meta.view) is not fmt for x in tensors]):
        fmt = contiguous_format
    device, filled = common(tensors), [x for x in tensors if x._meta.view.numel]
    if len(filled) == 1 and filled[0]._meta.dtype is d and filled[0]._meta.device == device:
        return filled[0].clone(memory_format=fmt)       # the output of a recurrent layer of one step
    whole = of_format("cat", shape, fmt)
    held = dense(shape) if fmt is contiguous_format else dense((whole.numel,))
    joined, start = core.blank(shape, d, device), 0
    for x in filled:
        n = x._meta.view.shape[dim]
        region = slice_view(whole, dim, start, start + n, 1)
        node = Node.of(SCATTER, (joined.storage.node, x.storage.node), (dense((whole.numel,)), x._meta.view),
                       Static(casts=(d, d), combine="set", region=region), held.shape, whole.numel, d)
        joined = core.make(node, meta(whole, d, device))
        start += n
    return joined


def _joined_shape(shapes: list, dim: int) -> tuple:
    """The shape of tensors of these shapes joined along `dim`; those of shape (0,) fit all others."""
    like = next((s for s in shapes if s != (0,)), (0,))
    total = 0
    for i, s in enumerate(shapes):
        if s == (0,) and like != (0,):
            continue
        if not s:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated. Use stack, or x.unsqueeze(0).")
        if len(s) != len(like):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(like)} and {len(s)}, for tensor number {i} in the "
                               f"list, of shape {list(s)}; expected {list(like)}")
        for d, (size, n) in enumerate(zip(like, s)):
            if size != n and d != dim:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {dim}. Expected size {size} but got size {n} for "
                                   f"tensor number {i} in the list, of shape {list(s)}; expected {list(like)} but for that dimension")
        total += s[dim]
    return like[:dim] + (total,) + like[dim + 1:]


def _listed(name, tensors):
    """The tensors of a joining operator as a list, checked."""
    tensors = list(tensors) if isinstance(tensors, (list, tuple)) else tensors
    if not isinstance(tensors, list):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not {type(tensors).__name__}")
    if not tensors:
        raise (ValueError if name == "cat" else RuntimeError)(f"torch.{name}(): expected a non-empty list of Tensors")
    for x in tensors:
        check_tensor(name, "tensors", x)
    return tensors


def _joined_dim(tensors: list, dim: int) -> int:
    rank = max([len(x._meta.view.shape) for x in tensors])
    if rank == 0:
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    return normalize_dim("cat", dim, rank)


def _copied(tensors: list, dim: int, joined: Callable[[int], tuple]):
    """Samples joined to a batch at once: one copy of each, where all are runs of memory that are there already and no derivative is wanted;
    else None. Recorded, a batch would be as many nodes, and another recording for each choice of samples among which some are the same.
    `joined(dim)`: the shape of the batch."""
    if state.watch is not None or state.rewriter is not None or config.eager:
        return None
    pending = [x for x in tensors if x.storage.node.buffer is None]
    if len(pending) * FEW > len(tensors) or any([x._rg for x in pending]):
        return None
    for x in pending:       # the newest of a memory of samples
        x.storage.buffer()
    first, tracked = tensors[0]._meta, mode.grad
    d, fits, sources = first.dtype, {}, []
    for x in tensors:
        m, buffer = x._meta, x.storage.node.buffer      # of memory shared with NumPy a copy is made whenever it is asked for
        if m not in fits:
            v = m.view
            fits[m] = m.dtype is d and len(v.shape) >= dim and math.prod(v.shape[:dim]) == 1 and is_row_major(v.shape, v.strides)
        if buffer is None or buffer.device != "cpu" or x._rg and tracked or x.is_sparse or not fits[m]:
            return None
        sources.append(buffer)
    view = dense(joined(dim))
    if view.numel * d.itemsize > AT_ONCE:
        return None
    if not flight.awaited.isdisjoint([s.address for s in sources]):
        flight.finish()
    buffer = Buffer.allocate(view.numel * d.itemsize)
    at = buffer.address
    for x, source in zip(tensors, sources):
        v = x._meta.view
        size = v.numel * d.itemsize
        ctypes.memmove(at, source.address + v.offset * d.itemsize, size)
        at += size
    return core.tensor_on(core.Storage.of(leaf(buffer, view.numel, d)), meta(view, d, first.device))


def _stack_at_once(tensors, dim):
    """`stack` of samples in memory (`_copied`), or None."""
    if not isinstance(tensors, (list, tuple)) or len(tensors) < SAMPLES:
        return None
    tensors = _listed("stack", tensors)
    shape = _stacked_shape(tensors)
    return _copied(tensors, normalize_dim("stack", dim, len(shape) + 1), lambda d: (*shape[:d], len(tensors), *shape[d:]))


@operator(method=False, at_once=_stack_at_once, grad=dict(tensors=lambda g, dim: unbind(g, dim)), samples=lambda t: [[t(3, 4), t(3, 4)], 1])
def stack(tensors: list[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape, along a new dimension."""
    tensors = _listed("stack", tensors)
    shape = _stacked_shape(tensors)
    d = normalize_dim("stack", dim, len(shape) + 1)
    if d == len(shape):
        return cat([unsqueeze(x, d) for x in tensors], d)
    joined = cat(tensors, d)        # in the memory format of the tensors
    m = joined._meta
    step = m.view.strides[d]
    parts = make_view((*shape[:d], len(tensors), *shape[d:]), (*m.view.strides[:d], shape[d] * step, *m.view.strides[d:]))
    return core.tensor_on(joined.storage, meta(parts, m.dtype, m.device))


def _stacked_shape(tensors: list) -> tuple:
    """The shape that all have."""
    shape = tensors[0]._meta.view.shape
    for i, x in enumerate(tensors):
        if x._meta.view.shape != shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                               f"{list(x._meta.view.shape)} at entry {i}")
    return shape


def _many(tensors):
    """Tensors given as arguments or as one sequence."""
    return list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)


def _at_least(name, rank, promote):
    def function(*tensors):
        listed = len(tensors) != 1 or isinstance(tensors[0], (list, tuple))
        out = [promote(x) for x in _many(tensors)]
        return tuple(out) if listed else out[0]
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The tensors with dimensions of size 1 added until they have {rank}."
    return operator(family="view", method=False, samples=lambda t: [t(), t(3), t(2, 3)])(function)


def _two(x):
    return x if x.dim() > 1 else view_(x, (1, x.numel()))


def _three(x):
    return x if x.dim() > 2 else unsqueeze(x, 2) if x.dim() == 2 else view_(x, (1, x.numel(), 1))


atleast_1d = _at_least("atleast_1d", 1, lambda x: x if x.dim() else view_(x, (1,)))
atleast_2d, atleast_3d = _at_least("atleast_2d", 2, _two), _at_least("atleast_3d", 3, _three)


@operator(method=False, samples=lambda t: [[t(2, 3), t(2, 3)]])
def hstack(tensors) -> Tensor:
    """Joined along the second dimension (the first of vectors)."""
    tensors = [atleast_1d(x) for x in _listed("hstack", tensors)]
    return cat(tensors, 0 if tensors[0].dim() == 1 else 1)


@operator(method=False, samples=lambda t: [[t(2, 3), t(2, 3)]])
def vstack(tensors) -> Tensor:
    """Joined along the first dimension, vectors as rows."""
    return cat([_two(x) for x in _listed("vstack", tensors)], 0)


@operator(method=False, samples=lambda t: [[t(2, 3), t(2, 3)]])
def dstack(tensors) -> Tensor:
    """Joined along the third dimension."""
    return cat([_three(x) for x in _listed("dstack", tensors)], 2)


@operator(method=False, samples=lambda t: [[t(2, 3), t(2, 3)]])
def column_stack(tensors) -> Tensor:
    """Joined along the second dimension, vectors as columns."""
    return cat([view_(x, (x.numel(), 1)) if x.dim() < 2 else x for x in _listed("column_stack", tensors)], 1)


@operator(title="BlockDiag", method=False, out=False, samples=lambda t: [t(2, 3), t(), t(2)])
def block_diag(*tensors) -> Tensor:
    """A matrix with the given matrices (vectors as rows) along its diagonal, zero elsewhere."""
    blocks = [_two(x) for x in _many(tensors)]
    for x in blocks:
        if x.dim() > 2:
            raise RuntimeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions; received one of shape {list(x.shape)}.")
    columns = sum(x.shape[1] for x in blocks)
    d = blocks[0].dtype
    for x in blocks[1:]:
        d = dt.promote(d, x.dtype)
    rows, start = [], 0
    for x in blocks:
        before, after = ((x.shape[0], n) for n in (start, columns - start - x.shape[1]))
        rows.append(cat([core.full(before, 0, d), x.to(d), core.full(after, 0, d)], 1))
        start += x.shape[1]
    return cat(rows, 0)


@operator(method=False, out=False, samples=lambda t: [t(3), t(2), dict(indexing="ij")])
def meshgrid(*tensors, indexing=None):
    """The coordinates of a grid: for vectors of n, m, .. elements, as many tensors of shape (n, m, ..); "xy" exchanges the first two."""
    if indexing is None:
        warn_once("torch.meshgrid: in an upcoming release of PyTorch it will be required to pass the indexing argument. "
                  'Pass indexing="ij" for what you get now.')
        indexing = "ij"
    vectors = _many(tensors)
    if not vectors:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    for x in vectors:
        if x.dim() > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {list(x.shape)}")
        if x.dtype is not vectors[0].dtype:
            raise RuntimeError("torch.meshgrid expects all tensors to have the same dtype")
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f"torch.meshgrid: indexing must be one of \"xy\" or \"ij\", but received: {indexing}")
    swap = indexing == "xy" and len(vectors) > 1
    if swap:
        vectors[:2] = vectors[1::-1]
    shape = tuple(x.numel() for x in vectors)
    grids = [expand_(view_(x, (1,) * i + (-1,) + (1,) * (len(shape) - 1 - i)), shape) for i, x in enumerate(vectors)]
    if swap:
        grids[:2] = grids[1::-1]
    return tuple(grids)


@operator(method=False, out=False, samples=lambda t: [t(3), t(2)])
def cartesian_prod(*tensors) -> Tensor:
    """All tuples with one element of each vector, as rows."""
    vectors = _many(tensors)
    for i, x in enumerate(vectors):
        check_tensor("cartesian_prod", "tensors", x, i + 1)
    if any(x.dim() != 1 for x in vectors):
        raise RuntimeError("cartesian_prod: expected 1D vectors. Flatten them first: x.flatten()")
    if len(vectors) == 1:
        return vectors[0]
    return stack([g.reshape(-1) for g in meshgrid(vectors)], 1)


@operator(out=False, method=False, samples=lambda t: [t(4)])
def combinations(input: Tensor, r=2, with_replacement=False) -> Tensor:
    """All choices of `r` elements of a vector, in order, as rows."""
    if input.dim() != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if not r:
        return core.blank((0,), input.dtype)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input.numel()), r))
    return input[core.tensor(rows, dtype=dt.int64).reshape(-1, r)]


@operator(name="_chunk_cat", method=False, samples=lambda t: [[t(4, 3), t(2, 3)], 0, 2])
def chunk_cat(tensors, dim, num_chunks) -> Tensor:
    """Each tensor padded with zeros to `num_chunks` equal parts along `dim`; the parts flattened after it and joined, as rows."""
    d = _chunk_dim(tensors, dim, num_chunks)
    parts = []
    for x in tensors:
        size = -(-x.shape[d] // num_chunks) * num_chunks
        if size != x.shape[d]:
            x = cat([x, core.full(x.shape[:d] + (size - x.shape[d],) + x.shape[d + 1:], 0, x.dtype)], d)
        parts.append(x.reshape(tuple(x.shape[:d]) + (num_chunks, -1)))
    return cat(parts, d + 1)


def _chunk_dim(tensors, dim, num_chunks) -> int:
    """The dimension counted from 0, all arguments checked."""
    if not tensors:
        raise RuntimeError("_chunk_cat expects a non-empty input tensor list")
    if num_chunks < 1:
        raise RuntimeError(f"_chunk_cat expects positive num_chunks, got: {num_chunks}")
    ranks = {x.dim() for x in tensors}
    if dim < 0 and len(ranks) > 1:
        raise RuntimeError("_chunk_cat expects non-negative dim when input tensors have different ndims")
    d = dim + tensors[0].dim() if dim < 0 else dim
    for x in tensors:
        if not x.numel():
            raise RuntimeError("_chunk_cat expects non-empty tensor")
        if d >= x.dim():
            raise RuntimeError("_chunk_cat expects dim < ndim for all input tensors")
        if x.shape[:d] != tensors[0].shape[:d]:
            raise RuntimeError("_chunk_cat expects same sizes of 0,...,dim-1 dimensions for all tensors")
    return d


@operator(out=False, method=False, samples=lambda t: [t(...), t(...)])
def broadcast_tensors(*tensors):
    """All tensors expanded to one shape."""
    tensors = _many(tensors)
    shape = broadcast_shapes("broadcast_tensors", *[t._meta.view.shape for t in tensors]) if tensors else ()
    return tuple(expand_(t, shape) for t in tensors)
