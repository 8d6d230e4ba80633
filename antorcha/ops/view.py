"""Views: operators that change how a value is read, and never move it.

Each is a function from an index map to an index map; the result shares the input's storage. The derivative of a view that reads
every element once is the view back; of one that leaves elements out or repeats them, a sum into zeros (`region_grad`).
"""

from __future__ import annotations

import builtins
import functools

from ..base import dtype as dt
from ..base.grad_mode import mode
from ..graph.node import View, dense, ordered, row_major
from ..graph.node import view as make_view
from .record import Record, broadcast_view, core, meta, normalize_dim, normalize_dims, operator, whole, widened

Tensor = "Tensor"
SCATTER = Record("scatter", "scatter")


def viewed(input, v: View):
    """`input`'s storage read through `v`."""
    m = input._meta
    return core.view_of(input, meta(v, m.dtype, m.device))


def region_grad(g, shape: tuple, find) -> Tensor:
    """Zeros of `shape` with `g` added at the region `find(dense index map)` of it."""
    region = find(dense(shape))
    zeros = core.zeros(meta(dense(shape), g._meta.dtype, g._meta.device))
    return core.add_region(zeros, region, g)


def sizes(what: str, shape) -> tuple:
    """A shape given as one sequence or as several integers."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = shape[0]
    for n in shape:
        if type(n) is not int:
            wrong = dict.fromkeys(type(n).__name__ for n in shape if type(n) is bool or not hasattr(n, "__index__"))
            if wrong:
                raise TypeError(f"{what}(): argument 'size' must be tuple of ints, not {', '.join(wrong)}. Use //, or int(..), where sizes "
                                "are divided.")
            return tuple([n.__index__() for n in shape])
    return shape if type(shape) is tuple else tuple(shape)


def given_size(what: str, size: tuple, given: dict) -> tuple:
    """The shape that a function of `*size` was given: integers, one sequence, or either by name. It takes no other names."""
    if not size and "size" in given:
        size = (given.pop("size"),)
    elif not size and not given:
        raise TypeError(f'{what}() missing 1 required positional argument: "size"')
    if given:
        raise TypeError(f"{what}() got an unexpected keyword argument '{next(iter(given))}'")
    return sizes(what, size)


def resolve_shape(what: str, shape: tuple, numel: int, old: tuple) -> tuple:
    """`shape` with its -1 replaced."""
    if -1 in shape:
        known = 1
        for n in shape:
            known *= n if n != -1 else 1
        if shape.count(-1) > 1:
            raise RuntimeError("only one dimension can be inferred")
        if known == 0 or numel % known:
            raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel} (its shape is {list(old)})")
        return tuple(numel // known if n == -1 else n for n in shape)
    n = 1
    for s in shape:
        if s < 0:
            raise RuntimeError(f"invalid shape dimension {s}")
        n *= s
    if n != numel:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel} (its shape is {list(old)})")
    return shape


def regroup(v: View, shape: tuple) -> View | None:
    """`v` read with another shape of as many elements, without moving anything; None where no strides can do it."""
    key = ("regroup", shape)
    if key in v.memo:
        return v.memo[key]
    v.memo[key] = found = _regroup(v, shape)
    return found


def _regroup(v: View, shape: tuple) -> View | None:
    if v.numel == 0:
        return make_view(shape, row_major(shape), v.offset)
    old = [(n, t) for n, t in zip(v.shape, v.strides) if n != 1]
    runs: list = []                     # maximal runs of dimensions that step like one: (elements, stride)
    for n, t in old:
        if runs and runs[-1][1] == n * t:
            runs[-1] = (runs[-1][0] * n, t)
        else:
            runs.append((n, t))
    strides = [0] * len(shape)
    i = len(runs) - 1
    left, step = runs[i] if runs else (1, 1)
    for d in range(len(shape) - 1, -1, -1):
        n = shape[d]
        if left == 1 and n != 1:
            i -= 1
            if i < 0:
                return None
            left, step = runs[i]
        if n != 1 and left % n:
            return None
        strides[d] = step
        if n != 1:
            left //= n
            step *= n
    return make_view(shape, tuple(strides), v.offset)


@operator(family="view", grad=dict(input=lambda g, input_shape: _back(g, input_shape)), name="view", public=False)
def view_(input: Tensor, shape) -> Tensor:
    old = input._meta.view
    full = resolve_shape("view", shape, old.numel, old.shape)
    v = regroup(old, full)
    if v is None:
        raise RuntimeError(f"view size is not compatible with input tensor's size and stride: shape {list(old.shape)}, strides "
                           f"{list(old.strides)} cannot be read as {list(full)} without moving elements. Use .reshape(...) instead.")
    return viewed(input, v)


_VIEWS = view_.record.cache     # the layouts and shapes that are known to fit -> (the layout of the result, the derivative)


def _back(g, shape: tuple):
    """`g.reshape(shape)`."""
    found = None if mode.grad else _VIEWS.get((g._meta, shape))
    return core.view_of(g, found[0]) if found is not None else g.reshape(shape)


@operator(family="view", namespace=False, strided=True, samples=lambda t: [t(3, 4), (2, -1)])
def view(input, *size, dtype=None):
    """The same elements with another shape, sharing memory; of a dtype instead, their bytes read as that."""
    dtype = size[0] if len(size) == 1 and isinstance(size[0], dt.dtype) else dtype
    return core.bitcast(input, dtype) if dtype is not None else view_(input, sizes("view", size))


@operator(family="view", samples=lambda t: [t(3, 4), (2, -1)])
def reshape(input, *shape):
    """The same elements with another shape: a view where strides allow it, else a copy."""
    return _reshaped(input, sizes("reshape", shape))


def _reshaped(input, shape: tuple):
    if (input._meta, shape) in _VIEWS:
        return view_(input, shape)
    v = input._meta.view
    full = resolve_shape("reshape", shape, v.numel, v.shape)
    return view_(input if regroup(v, full) is not None else input.contiguous(), shape)


@operator(family="view", grad=dict(input=lambda g, dims: g.permute(_inverse(dims))), name="permute", public=False)
def permute_(input: Tensor, dims) -> Tensor:
    v = input._meta.view
    rank = len(v.shape)
    if len(dims) != rank:
        raise RuntimeError(f"permute: number of dimensions in the tensor input does not match the length of the desired "
                           f"ordering of dimensions i.e. input.dim() = {rank} is not equal to len(dims) = {len(dims)}")
    order = [normalize_dim("permute", d, rank) for d in dims]
    if len(set(order)) != rank:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return viewed(input, ordered(v, order))


def _inverse(dims):
    rank = len(dims)
    out = [0] * rank
    for i, d in enumerate(dims):
        out[d % rank] = i
    return tuple(out)


@operator(family="view", samples=lambda t: [t(2, 3, 4), (2, 0, 1)])
def permute(input, *dims):
    """The dimensions in another order."""
    return permute_(input, sizes("permute", dims))


@operator(family="view", grad=dict(input=lambda g, dim0, dim1: transpose(g, dim0, dim1)), samples=lambda t: [t(2, 3, 4), 0, -1])
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    v = input._meta.view
    rank = len(v.shape)
    a, b = normalize_dim("transpose", dim0, rank), normalize_dim("transpose", dim1, rank)
    shape, strides = list(v.shape), list(v.strides)
    if rank:
        shape[a], shape[b] = shape[b], shape[a]
        strides[a], strides[b] = strides[b], strides[a]
    return viewed(input, make_view(tuple(shape), tuple(strides), v.offset))


@operator(family="view", grad=dict(input=lambda g: t(g)), samples=lambda t: [t(3, 4)])
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or number as it is."""
    rank = len(input._meta.view.shape)
    if rank > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {rank}D")
    return transpose.record.function(input, 0, 1) if rank == 2 else viewed(input, input._meta.view)


@operator(family="view", grad=dict(input=lambda g: g), name="expand", public=False)
def expand_(input: Tensor, shape) -> Tensor:
    return viewed(input, _expanded(input._meta.view, shape))


def _expanded(v: View, shape: tuple) -> View:
    lead = len(shape) - len(v.shape)
    if lead < 0:
        raise RuntimeError(
            f"expand: the number of sizes provided ({len(shape)}) must be greater or equal to the number of dimensions in the "
            f"tensor ({len(v.shape)})"
        )
    full = list(shape)
    for i, n in enumerate(full):
        have = v.shape[i - lead] if i >= lead else None
        if n == -1:
            if have is None:
                raise RuntimeError(f"expand: -1 is not allowed for the new dimension {i}")
            full[i] = have
        elif have not in (None, 1, n):
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({have}) at non-singleton dimension {i}. "
                f"Target sizes: {list(shape)}. Tensor sizes: {list(v.shape)}"
            )
    return broadcast_view(v, tuple(full))


@operator(family="view", namespace=False, samples=lambda t: [t(3, 1), (2, -1, 4)])
def expand(input, *size, implicit=False):
    """Dimensions of size 1 read repeatedly, sharing memory; -1 keeps a size."""
    return expand_(input, sizes("expand", size))


@operator(family="view", samples=lambda t: [t(3, 1), (2, 3, 4)])
def broadcast_to(input, size):
    """`expand` to the given shape."""
    return expand_(input, sizes("broadcast_to", (size,)))


@operator(family="view", grad=dict(input=lambda g, dim: squeeze(g, dim)))
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A dimension of size 1 inserted before `dim`."""
    v = input._meta.view
    rank = len(v.shape) + 1
    d = normalize_dim("unsqueeze", dim, rank)
    step = v.shape[d] * v.strides[d] if d < rank - 1 else 1
    return viewed(input, make_view(v.shape[:d] + (1,) + v.shape[d:], v.strides[:d] + (step,) + v.strides[d:], v.offset))


@operator(family="view", title=lambda dim: f"SqueezeBackward{0 if dim is None else 1 if isinstance(dim, int) else 2}",
          grad=dict(input=lambda g, input_shape: g.reshape(input_shape)), samples=(lambda t: [t(3, 1, 4)], lambda t: [t(1, 3, 1), (0, 1)]))
def squeeze(input: Tensor, dim=None) -> Tensor:
    """Dimensions of size 1 (all, or the given ones) removed."""
    v = input._meta.view
    rank = len(v.shape)
    dims = range(rank) if dim is None else normalize_dims("squeeze", dim, rank) if dim != () else ()
    keep = [i for i in range(rank) if not (i in dims and v.shape[i] == 1)]
    return viewed(input, make_view(tuple(v.shape[i] for i in keep), tuple(v.strides[i] for i in keep), v.offset))


@operator(family="view", samples=lambda t: [t(..., 3, 4), 1])
def flatten(input, start_dim: int = 0, end_dim: int = -1):
    """The dimensions from `start_dim` to `end_dim` as one."""
    v = input._meta.view
    key = ("flatten", start_dim, end_dim, type(start_dim), type(end_dim))
    shape = v.memo.get(key)
    if shape is None:
        shape = v.memo[key] = _flat(v.shape, start_dim, end_dim)
    return _reshaped(input, shape) if shape is not v.shape else input


def _flat(shape: tuple, start_dim: int, end_dim: int) -> tuple:
    """`shape` with one dimension in place of several; itself where that changes nothing."""
    rank = len(shape)
    a, b = normalize_dim("flatten", start_dim, rank), normalize_dim("flatten", end_dim, rank)
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not shape:
        return (1,)
    n = 1
    for s in shape[a:b + 1]:
        n *= s
    return shape[:a] + (n,) + shape[b + 1:] if a < b else shape


@operator(family="view", samples=lambda t: [t(3, 4), 1, (2, -1)])
def unflatten(input, dim, sizes):
    """One dimension split into several."""
    shape = input._meta.view.shape
    d = normalize_dim("unflatten", dim, len(shape))
    inner = resolve_shape("unflatten", given_size("unflatten", (sizes,), {}), shape[d], shape)
    return view_(input, shape[:d] + inner + shape[d + 1:])


@operator(family="view", samples=lambda t: [t(...)])
def ravel(input):
    """All elements in one dimension."""
    return reshape(input, (-1,))


@operator(family="view", namespace=False, strided=True, samples=lambda t: [t(3, 4), t(2, 6)])
def view_as(input, other):
    """`view` with the shape of `other`."""
    return view_(input, other._meta.view.shape)


@operator(family="view", namespace=False, samples=lambda t: [t(3, 4), t(2, 6)])
def reshape_as(input, other):
    """`reshape` to the shape of `other`."""
    return reshape(input, other._meta.view.shape)


@operator(family="view", namespace=False, samples=lambda t: [t(3, 1), t(2, 3, 4)])
def expand_as(input, other):
    """`expand` to the shape of `other`."""
    return expand_(input, other._meta.view.shape)


@operator(family="view", samples=lambda t: [t(2, 3, 4), (0, 1), (2, 0)])
def movedim(input, source, destination):
    """Some dimensions moved to other places, the rest in their order."""
    rank = len(input._meta.view.shape)
    src = normalize_dims("movedim", source, rank)
    dst = normalize_dims("movedim", destination, rank)
    if len(src) != len(dst):
        raise RuntimeError("movedim: expected as many source as destination dimensions; "
                           f"received {list(src)} and {list(dst)}")
    order = [-1] * rank
    for s, d in zip(src, dst):
        order[d] = s
    rest = iter(i for i in range(rank) if i not in src)
    return permute_(input, tuple(next(rest) if o < 0 else o for o in order))


@operator(family="view", samples=lambda t: [t.complex(..., 3, 4)])
def adjoint(input):
    """The last two dimensions exchanged, and conjugated."""
    return core.conj(transpose(input, -2, -1))


# -- parts ------------------------------------------------------------------------------------------------------

def slice_view(v: View, dim: int, start: int, stop: int, step: int) -> View:
    count = max(0, -(-(stop - start) // step))
    shape, strides = list(v.shape), list(v.strides)
    offset = v.offset + (start * strides[dim] if count else 0)
    shape[dim] = count
    strides[dim] *= step
    return make_view(tuple(shape), tuple(strides), offset)


@operator(family="view", name="slice", public=False,
          grad=dict(input=lambda g, input_shape, dim, start, stop, step:
                    region_grad(g, input_shape, lambda v: slice_view(v, dim, start, stop, step))))
def slice_(input: Tensor, dim, start, stop, step) -> Tensor:
    return viewed(input, slice_view(input._meta.view, dim, start, stop, step))


@operator(family="view", samples=lambda t: [t(3, 4), 1, 1, 2])
def narrow(input, dim: int, start, length: int):
    """`length` positions along `dim` from `start`."""
    shape = input._meta.view.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = normalize_dim("narrow", dim, len(shape))
    if isinstance(start, core.Tensor) and (start.dim() or start.dtype.kind not in "iu"):
        raise RuntimeError(f"start must be an 0-dim integral Tensor; received {start.dtype} of {start.dim()} dimensions")
    start = int(start) if isinstance(start, core.Tensor) else whole("narrow", "start", start, 3, "int or Tensor")
    n = shape[d]
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [-{n}, {n}], but got {start})")
    start += n if start < 0 else 0
    length = whole("narrow", "length", length, 4)
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return slice_(input, d, start, start + length, 1)


def select_view(v: View, dim: int, index: int) -> View:
    return make_view(v.shape[:dim] + v.shape[dim + 1:], v.strides[:dim] + v.strides[dim + 1:], v.offset + index * v.strides[dim])


@operator(family="view", name="select", public=False,
          grad=dict(input=lambda g, input_shape, dim, index: region_grad(g, input_shape, lambda v: select_view(v, dim, index))))
def select_(input: Tensor, dim, index) -> Tensor:
    return viewed(input, select_view(input._meta.view, dim, index))


@operator(family="view", samples=lambda t: [t(3, 4), 1, -2])
def select(input, dim, index):
    """One position along `dim`, which goes away."""
    shape = input._meta.view.shape
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = normalize_dim("select", dim, len(shape))
    index = whole("select", "index", index, 3)
    n = shape[d]
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {d}")
    return select_(input, d, index % n)


def _diagonal_view(v: View, offset: int, dim1: int, dim2: int) -> View:
    rows, columns = v.shape[dim1], v.shape[dim2]
    count = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    start = v.offset + ((offset * v.strides[dim2] if offset >= 0 else -offset * v.strides[dim1]) if count else 0)
    keep = [i for i in range(len(v.shape)) if i not in (dim1, dim2)]
    return make_view(tuple(v.shape[i] for i in keep) + (count,),
                     tuple(v.strides[i] for i in keep) + (v.strides[dim1] + v.strides[dim2],), start)


@operator(family="view", name="diagonal", public=False,
          grad=dict(input=lambda g, input_shape, offset, dim1, dim2:
                    region_grad(g, input_shape, lambda v: _diagonal_view(v, offset, dim1, dim2))))
def diagonal_(input: Tensor, offset, dim1, dim2) -> Tensor:
    return viewed(input, _diagonal_view(input._meta.view, offset, dim1, dim2))


@operator(family="view", samples=lambda t: [t(2, 3, 4), 1, 0, 2])
def diagonal(input, offset: int = 0, dim1: int = 0, dim2: int = 1):
    """The diagonal of two dimensions, as a last dimension."""
    rank = len(input._meta.view.shape)
    offset, a, b = offset.__index__(), normalize_dim("diagonal", dim1, rank), normalize_dim("diagonal", dim2, rank)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return diagonal_(input, offset, a, b)


def unfold_view(v: View, dim: int, size: int, step: int) -> View:
    if not v.shape:
        return make_view((size,), (1,), v.offset)
    shape, strides = list(v.shape), list(v.strides)
    count = (shape[dim] - size) // step + 1
    inner = strides[dim]
    shape[dim], strides[dim] = count, inner * step
    return make_view(tuple(shape) + (size,), tuple(strides) + (inner,), v.offset)


@operator(family="view", name="unfold", public=False,
          grad=dict(input=lambda g, input_shape, dim, size, step:
                    region_grad(g, input_shape, lambda v: unfold_view(v, dim, size, step))))
def unfold_(input: Tensor, dim, size, step) -> Tensor:
    return viewed(input, unfold_view(input._meta.view, dim, size, step))


@operator(family="view", namespace=False, samples=lambda t: [t(3, 7), 1, 3, 2])
def unfold(input, dimension, size, step):
    """Windows of `size` every `step` along a dimension, as a last dimension."""
    shape = input._meta.view.shape
    d = normalize_dim("unfold", dimension, len(shape))
    size, step = whole("unfold", "size", size, 3), whole("unfold", "step", step, 4)
    n = shape[d] if shape else 1
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return unfold_(input, d, size, step)


@operator(family="view", name="as_strided", public=False,
          grad=dict(input=lambda g, input_shape, input_view, size, stride, storage_offset:
                    _strided_grad(g, input_view, size, stride, storage_offset)))
def as_strided_(input: Tensor, size, stride, storage_offset) -> Tensor:
    return viewed(input, make_view(size, stride, storage_offset))


@operator(family="view", strided=True, samples=lambda t: [t(3, 4), (2, 3), (1, 2), 1])
def as_strided(input, size, stride, storage_offset: int | None = None):
    """The storage read with any shape and strides (in elements)."""
    v = input._meta.view
    size, stride = sizes("as_strided", (size,)), sizes("as_strided", (stride,))
    if any(t < 0 for t in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    offset = v.offset if storage_offset is None else int(storage_offset)
    if len(size) != len(stride):
        raise RuntimeError(f"mismatch in length of strides and shape: {list(size)} and {list(stride)}")
    if 0 not in size:
        last = offset + sum((n - 1) * t for n, t in zip(size, stride))
        if last >= input.storage.numel or offset < 0:
            raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset} are out of bounds for "
                               f"storage of size {input.storage.numel}")
    return as_strided_(input, size, stride, offset)


def _strided_grad(g, v: View, size, stride, offset):
    """Into the storage as far as `input` (index map `v`) sees it: sum into a flat value, then read it as the input does."""
    extent = max([offset + sum((n - 1) * t for n, t in zip(size, stride)) if 0 not in size else 0,
                  v.offset + sum((n - 1) * t for n, t in zip(v.shape, v.strides)) if v.numel else 0]) + 1
    flat = region_grad(widened(g), (extent,), lambda _: make_view(size, stride, offset))      # places may be read many times
    return as_strided_(flat, v.shape, v.strides, v.offset)


@operator(family="view", grad=dict(input=lambda g: g), name="alias", public=False)
def alias(input: Tensor) -> Tensor:
    """The same view again."""
    return viewed(input, input._meta.view)


def _parts(gs) -> list:
    """The cotangents of several results; of a single one it comes alone."""
    return list(gs) if isinstance(gs, tuple) else [gs]


# -- several at once --------------------------------------------------------------------------------------------

def _part_size(size) -> int:
    return whole("split", "split_size_or_sections", size, 2, "int or tuple of ints")


@operator(family="view", name="split", public=False, grad=dict(input=lambda gs, dim: core.cat(_parts(gs), dim)))
def split_(input: Tensor, lengths, dim) -> Tensor:
    v, out, start = input._meta.view, [], 0
    for n in lengths:
        out.append(viewed(input, slice_view(v, dim, start, start + n, 1)))
        start += n
    return tuple(out)


@operator(family="view", samples=lambda t: [t(3, 5), 2, 1], title=lambda tensor, split_size_or_sections=None, dim=0, *, split_size=None:
          "SplitWithSizes" if isinstance(split_size_or_sections, (list, tuple)) else None)
def split(tensor, split_size_or_sections=None, dim=0, *, split_size=None):
    """Consecutive parts along `dim`, of one size (the last may be smaller; also `split_size`) or of the given sizes."""
    if (split_size_or_sections is None) == (split_size is None):
        raise TypeError("split() received an invalid combination of arguments: expected a size of the parts or a list of their sizes")
    split_size_or_sections = split_size if split_size_or_sections is None else split_size_or_sections
    shape = tensor._meta.view.shape
    if type(split_size_or_sections) is int and type(dim) is int:
        return split_(tensor, *_equal_parts(shape, split_size_or_sections, dim))
    if not shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    if not isinstance(split_size_or_sections, (list, tuple)):
        return split_(tensor, *_equal_parts.__wrapped__(shape, _part_size(split_size_or_sections), dim))
    d = normalize_dim("split", dim, len(shape))
    lengths, n = [_part_size(x) for x in split_size_or_sections], shape[d]
    if any(x < 0 for x in lengths):
        raise RuntimeError(f"split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={lengths}")
    if sum(lengths) != n:
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {d}), "
                           f"but got split_sizes={lengths}")
    return split_(tensor, tuple(lengths), d)


@functools.lru_cache(4096)
def _equal_parts(shape: tuple, size: int, dim: int) -> tuple[tuple[int, ...], int]:
    """(the lengths of parts of this size along a dimension, its number)."""
    if not shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = normalize_dim("split", dim, len(shape))
    n = shape[d]
    if size < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
    if size == 0 and n:
        raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
    return tuple([min(size, n - i) for i in range(0, n, size)]) if n else (0,), d


@operator(family="view", samples=lambda t: [t(3, 5), 2, 1])
def chunk(input, chunks: int, dim: int = 0):
    """At most `chunks` parts of equal size along `dim` (the last may be smaller)."""
    chunks = whole("chunk", "chunks", chunks, 2)
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    shape = input._meta.view.shape
    if not shape:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    d = normalize_dim("chunk", dim, len(shape))
    size = -(-shape[d] // chunks)
    return split(input, size, d) if size else split_(input, (0,) * chunks, d)


@operator(family="view", samples=lambda t: [t(3, 5), 2, 1])
def tensor_split(input, indices_or_sections=None, dim=0, *, indices=None, sections=None):
    """Parts along `dim`: a number of nearly equal ones (`sections`), or cut at the given positions (`indices`)."""
    given = [x for x in (indices_or_sections, indices, sections) if x is not None]
    if len(given) != 1:
        raise TypeError(f"tensor_split() received an invalid combination of arguments: expected a number of "
                        f"sections or indices; received {len(given)}")
    (indices_or_sections,) = given
    shape = input._meta.view.shape
    if not shape:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = normalize_dim("tensor_split", dim, len(shape))
    n = shape[d]
    if isinstance(indices_or_sections, core.Tensor):
        if indices_or_sections.dtype is not dt.int64 or indices_or_sections.dim() > 1:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional int64 tensor, but "
                f"got one of {indices_or_sections.dtype} and {indices_or_sections.dim()} dims"
            )
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        if k <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {k}")
        lengths = [n // k + (1 if i < n % k else 0) for i in range(k)]
    else:
        cuts = [0, *(min(max(int(c) + n if int(c) < 0 else int(c), 0), n) for c in indices_or_sections), n]
        return tuple(slice_(input, d, a, max(a, b), 1) for a, b in zip(cuts, cuts[1:]))
    return split_(input, tuple(lengths), d)


def _stacked_split(name, rank, dim, samples):
    def function(input, indices_or_sections):
        if input.dim() < rank:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {rank} dimension{'s' * (rank > 1)}, but got a tensor with "
                               f"{input.dim()} dimensions!")
        if not isinstance(indices_or_sections, (int, tuple, list)):
            raise TypeError(
                f"{name}() received an invalid combination of arguments: expected an int or a tuple of ints as indices_or_sections; "
                f"received {type(indices_or_sections).__name__}"
            )
        d = dim if input.dim() > 1 else 0
        if isinstance(indices_or_sections, int) and (indices_or_sections <= 0 or input.shape[d] % indices_or_sections):
            raise RuntimeError(
                f"torch.{name} attempted to split along dimension {d}, but the size of the dimension {input.shape[d]} is not "
                f"divisible by the split_size {indices_or_sections}!"
            )
        return tensor_split(input, indices_or_sections, d)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`tensor_split` along dimension {dim}."
    return operator(family="view", samples=samples)(function)


hsplit = _stacked_split("hsplit", 1, 1, lambda t: [t(2, 4), [1, 3]])
vsplit = _stacked_split("vsplit", 2, 0, lambda t: [t(4, 2), 2])
dsplit = _stacked_split("dsplit", 3, 2, lambda t: [t(2, 3, 4), 2])


@operator(family="view", samples=lambda t: [t(3, 5), (1, 4), 1])
def split_with_sizes(input, split_sizes, dim=0):
    """Consecutive parts of the given sizes along `dim`."""
    return split(input, tuple(split_sizes), dim)


@operator(family="view", name="slice", namespace=False, method=False, samples=lambda t: [t(3, 4), 1, 0, 4, 2])
def slice_along(input, dim=0, start=None, end=None, step=1):
    """Every `step`-th position from `start` up to `end` along `dim`."""
    n = input.shape[normalize_dim("slice", dim, input.dim())]
    start, end, step = builtins.slice(start, end, step).indices(n)
    return slice_(input, dim % input.dim(), start, end, step)


@operator(family="view", samples=lambda t: [t(3, 5), 2, 1])
def unsafe_split(tensor, split_size, dim=0):
    """`split`, whose parts are taken as tensors of their own."""
    return split(tensor, split_size, dim)


@operator(family="view", samples=lambda t: [t(3, 5), 2, 1])
def unsafe_chunk(input, chunks, dim=0):
    """`chunk`, whose parts are taken as tensors of their own."""
    return chunk(input, chunks, dim)


@operator(family="view", namespace=False, samples=lambda t: [t(2, 3, 4), 3, 1])
def sum_to_size(input, *size):
    """The sum over the dimensions along which a tensor of shape `size` would be broadcast to the input's."""
    want = sizes("sum_to_size", size)
    shape = input._meta.view.shape
    lead = len(shape) - len(want)
    if lead < 0 or any(n not in (1, m) for n, m in zip(want, shape[lead:])):
        raise RuntimeError(f"size {{{list(want)}}} is not expandable to size {{{list(shape)}}}.")
    if not want:
        return input.sum()
    over = (*range(lead), *(i + lead for i, n in enumerate(want) if n == 1 and shape[i + lead] != 1))
    return view_(input.sum(over, True) if over else input, want)


@operator(family="view", name="unbind", public=False, grad=dict(input=lambda gs, dim: core.stack(_parts(gs), dim)))
def unbind_(input: Tensor, dim) -> Tensor:
    v = input._meta.view
    return tuple(viewed(input, select_view(v, dim, i)) for i in range(v.shape[dim]))


@operator(family="view", samples=lambda t: [t(3, 4), 1])
def unbind(input, dim: int = 0):
    """All positions along `dim`, as a tuple."""
    return unbind_(input, normalize_dim("unbind", dim, len(input._meta.view.shape)))
