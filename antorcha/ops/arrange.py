"""Elements in another arrangement: repeated, flipped, rolled, laid on diagonals, written into parts of a copy."""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from ..base.formats import preserve_format
from ..graph.node import dense
from ..graph.node import view as make_view
from . import complex_numbers  # noqa: F401 (declares operators with copies below)
from . import view as views
from .casts import FULL_ON_CPU
from .joining import cat
from .record import RECORDS, core, derived, meta, normalize_dim, normalize_dims, operator, whole
from .strides import of_copy
from .view import expand_, narrow, ravel, reshape, select_view, sizes, slice_view, unsqueeze, view_

Tensor = "Tensor"


# -- repeating --------------------------------------------------------------------------------------------------

@operator(title="Repeat", namespace=False, out=False, samples=lambda t: [t(3, 4), 2, 1, 2])
def repeat(input, *repeats) -> Tensor:
    """Copies of the whole tensor along each dimension."""
    counts = sizes("repeat", repeats)
    shape = input._meta.view.shape
    if len(counts) < len(shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if any(n < 0 for n in counts):
        raise RuntimeError(f"Trying to create tensor with negative dimension: repeat expected counts >= 0; received {list(counts)}")
    shape = (1,) * (len(counts) - len(shape)) + shape
    mixed = tuple(x for pair in zip((1,) * len(shape), shape) for x in pair)
    wide = tuple(x for pair in zip(counts, shape) for x in pair)
    return view_(core.contiguous(expand_(reshape(input, mixed), wide)), tuple(a * b for a, b in zip(counts, shape)))


@operator(title="Repeat", out=False, samples=lambda t: [t(3, 4), (2, 1, 2)])
def tile(input, *dims) -> Tensor:
    """`repeat`, with missing counts in front taken as 1."""
    counts = sizes("tile", dims)
    return repeat(input, (1,) * (len(input._meta.view.shape) - len(counts)) + counts)


@operator(out=False, samples=(lambda t: [t(3, 4), t.of([2, 0, 2]), 0], lambda t: [t(3, 4), 2]))
def repeat_interleave(input: Tensor, repeats=None, dim=None, *, output_size=None) -> Tensor:
    """Every element (or position along `dim`) repeated in place; of counts alone, the positions that they repeat."""
    if repeats is None:
        return core.from_numpy(np.repeat(np.arange(input.numel()), core.host(input)))
    if dim is None:
        input, dim = ravel(input), 0
    elif not input.dim():
        input = reshape(input, (1,))
    shape = input._meta.view.shape
    d = normalize_dim("repeat_interleave", dim, len(shape))
    if isinstance(repeats, core.Tensor) and repeats.numel() == 1:
        repeats = int(repeats)
    if not isinstance(repeats, core.Tensor):
        repeats = whole("repeat_interleave", "repeats", repeats, 2, "Tensor or int")
        if repeats < 0:
            raise RuntimeError(f"repeats can not be negative; received {repeats}")
        wide = shape[:d + 1] + (repeats,) + shape[d + 1:]
        return reshape(expand_(unsqueeze(input, d + 1), wide), shape[:d] + (shape[d] * repeats,) + shape[d + 1:])
    if repeats.dim() > 1 or repeats.numel() != shape[d]:
        raise RuntimeError(
            f"repeats must have the same size as input along dim: expected {shape[d]} counts; received {list(repeats.shape)}"
        )
    return input.index_select(d, core.from_numpy(np.repeat(np.arange(shape[d]), core.host(repeats))))


# -- mirrors and rotations --------------------------------------------------------------------------------------

@operator(name="flip", public=False, grad=dict(input=lambda g, dims: flip_(g, dims)))
def flip_(input: Tensor, dims):
    v = input._meta.view
    strides, offset = list(v.strides), v.offset
    for d in dims:
        offset += (v.shape[d] - 1) * strides[d]
        strides[d] = -strides[d]
    if not v.numel:
        return input.clone()
    mirrored = core.tensor_on(input.storage, meta(make_view(v.shape, tuple(strides), offset), input._meta.dtype, input._meta.device))
    return core.laid_out(mirrored, of_copy("flip", v, preserve_format))


@operator(out=False, samples=lambda t: [t(..., 3, 4), (0, -1)])
def flip(input: Tensor, *dims) -> Tensor:
    """The order along some dimensions reversed."""
    dims = sizes("flip", dims)
    return flip_(input, normalize_dims("flip", dims, input.dim()) if dims else ())


def _mirror(name, dim, rank):
    def function(input: Tensor) -> Tensor:
        if input.dim() < rank:
            raise RuntimeError(f"Input must be >= {rank}-d.")
        return flip_(input, (dim,))
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The order along dimension {dim} reversed."
    return operator(out=False)(function)


fliplr, flipud = _mirror("fliplr", 1, 2), _mirror("flipud", 0, 1)


@operator(title="Rot90", out=False)
def rot90(input: Tensor, k: int = 1, dims=(0, 1)) -> Tensor:
    """A rotation by `k` right angles in the plane of two dimensions, from the first towards the second."""
    rank = input.dim()
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if rank < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {rank}")
    a, b = (normalize_dim("rot90", d, rank) for d in dims)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 0:
        return input.clone()
    if k == 2:
        return flip_(input, (a, b))
    return flip_(input, (b,)).transpose(a, b) if k == 1 else flip_(input, (a,)).transpose(a, b)


@operator(title="Roll", out=False, samples=lambda t: [t(..., 3, 4), (1, -2), (0, -1)])
def roll(input: Tensor, shifts, dims=()) -> Tensor:
    """Elements moved along dimensions, those that fall off coming in again on the other side."""
    shifts = shifts if isinstance(shifts, (tuple, list)) else [shifts]
    shifts = tuple([whole("roll", "shifts", n, 2, "int or tuple of ints") for n in shifts])
    dims = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    if not shifts:
        raise RuntimeError("`shifts` required")
    if not dims and len(shifts) == 1:
        return view_(roll(ravel(input), shifts, 0), input._meta.view.shape)
    if not input.dim():
        raise IndexError(f"roll: Dimension specified as {dims[0] if dims else 0} but tensor has no dimensions")
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    out = input
    for s, d in zip(shifts, dims):
        n = out.shape[normalize_dim("roll", d, out.dim())] if out.dim() else 0
        if n and s % n:
            out = cat([narrow(out, d, n - s % n, s % n), narrow(out, d, 0, n - s % n)], d)
    return out if out is not input else input.clone()


# -- diagonals --------------------------------------------------------------------------------------------------

@operator(samples=(lambda t: [t(3, 4), 1], lambda t: [t(4), -1]))
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal."""
    if input.dim() == 1:
        return diag_embed(input, diagonal)
    if input.dim() != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.dim()}D")
    return views.diagonal(input, diagonal).clone()


@operator(out=False, samples=lambda t: [t(2, 3), -1])
def diagflat(input: Tensor, offset=0) -> Tensor:
    """The matrix with all elements of the input on a diagonal."""
    return diag_embed(ravel(input), offset)


@operator(title="DiagEmbed", out=False, samples=lambda t: [t(..., 3), 1])
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last dimension laid on the diagonal of two new dimensions, zero elsewhere."""
    rank = input.dim() + 1
    a, b = normalize_dim("diag_embed", dim1, rank), normalize_dim("diag_embed", dim2, rank)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    n = input.shape[-1] + abs(offset)
    rest = iter(input.shape[:-1])
    shape = tuple(n if d in (a, b) else next(rest) for d in range(rank))
    return diagonal_scatter(core.zeros(meta(dense(shape), input.dtype, input._meta.device)), input, offset, a, b)


@operator(autocast=FULL_ON_CPU, title="Trace", out=False)
def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix."""
    if input.dim() != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.dim()}")
    return views.diagonal(input).sum()


# -- parts of a copy --------------------------------------------------------------------------------------------

def _scattered(name, input, src, find):
    """A copy of `input` with `src` written at the region `find(dense index map)`."""
    region = find(dense(input._meta.view.shape))
    if tuple(src.shape) != region.shape:
        raise RuntimeError(f"{name}: expected src to have a size equal to the slice of self. src size = {list(src.shape)}, "
                           f"slice size = {list(region.shape)}")
    return core.overwrite_region(input, region, src.to(input.dtype))


@operator(samples=lambda t: [t(3, 4), t(3), 1, 2])
def select_scatter(input: Tensor, src: Tensor, dim, index) -> Tensor:
    """A copy of `input` with `src` at position `index` of `dim`."""
    shape = input._meta.view.shape
    d = normalize_dim("select_scatter", dim, len(shape))
    if not -shape[d] <= index < shape[d]:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {dim}")
    return _scattered("select_scatter", input, src, lambda v: select_view(v, d, index % shape[d]))


@operator(samples=lambda t: [t(3, 4), t(3, 2), 1, 0, 4, 2])
def slice_scatter(input: Tensor, src: Tensor, dim=0, start=None, end=None, step=1) -> Tensor:
    """A copy of `input` with `src` at every `step`-th position from `start` up to `end` of `dim`."""
    d = normalize_dim("slice_scatter", dim, input.dim())
    start, end, step = slice(start, end, step).indices(input.shape[d])
    return _scattered("slice_scatter", input, src, lambda v: slice_view(v, d, start, end, step))


@operator(samples=lambda t: [t(3, 4), t(3)])
def diagonal_scatter(input: Tensor, src: Tensor, offset=0, dim1=0, dim2=1) -> Tensor:
    """A copy of `input` with `src` on a diagonal of two dimensions."""
    a, b = (normalize_dim("diagonal_scatter", d, input.dim()) for d in (dim1, dim2))
    return _scattered("diagonal_scatter", input, src, lambda v: views._diagonal_view(v, offset, a, b))


@operator(strided=True, differs="its derivative by the input is that of the part that is written over",
          samples=lambda t: [t(3, 4), t(2, 2), (2, 2), (4, 2), 1])
def as_strided_scatter(input: Tensor, src: Tensor, size, stride, storage_offset=None) -> Tensor:
    """A copy of `input` with `src` written where `as_strided` would read."""
    v = input._meta.view
    extent = 1 + sum((n - 1) * t for n, t in zip(v.shape, v.strides)) + v.offset if v.numel else 0
    flat = views.as_strided_(input, (extent,), (1,), 0).clone()
    offset = v.offset if storage_offset is None else storage_offset
    region = views.as_strided(flat, size, stride, offset)._meta.view
    return views.as_strided_(core.overwrite_region(flat, region, src.to(input.dtype)), v.shape, v.strides, v.offset)


# -- views, copied ----------------------------------------------------------------------------------------------

def _owned(result):
    return tuple([core.contiguous(x) for x in result]) if isinstance(result, tuple) else core.contiguous(result)


for _name in ("alias", "as_strided", "diagonal", "expand", "narrow", "permute", "select", "slice", "split", "split_with_sizes",
              "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"):
    derived(_name + "_copy", RECORDS.get(_name) or RECORDS["_" + _name], _owned, method=_name == "narrow",
            silent=_name in ("split", "split_with_sizes", "unbind"))


for _name in ("view_as_real", "view_as_complex"):
    derived(_name + "_copy", RECORDS[_name], lambda x: x, method=False)


@operator(family="view", samples=lambda t: [t(3, 4), (1, 3), 1])
def unsafe_split_with_sizes(input, split_sizes, dim=0):
    """`split_with_sizes`, whose parts are taken as tensors of their own."""
    return views.split_with_sizes(input, split_sizes, dim)


@operator(method=False, out=False, samples=lambda t: [t.fixed(...)])
def detach_copy(input: Tensor) -> Tensor:
    """`detach`, in memory of its own."""
    return input.detach().clone()


@operator(method=False, out=False, samples=lambda t: [t.integers(2, 3, below=12), (3, 4)])
def unravel_index(indices: Tensor, shape):
    """The coordinates, one tensor for each dimension of `shape`, of places in a flattened tensor."""
    if indices.dtype.kind not in "iu":
        raise TypeError(f"expected 'indices' to be an integer tensor; received dtype {indices.dtype}. Convert it first: indices.long()")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"'shape' cannot have negative values, but got {shape}")
    indices, out, step = indices.to(dt.int64), [], 1
    for n in reversed(shape):
        out.append(indices.div(step, rounding_mode="floor").remainder(n) if n else indices)
        step *= n
    return tuple(reversed(out))
