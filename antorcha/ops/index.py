"""Reading and writing at places given by tensors. Two families: gather (`pick`) and scatter (`put`).

Both describe the places alike: `mapping` says for each dimension of the source where its coordinate comes from, ("d", e) from
dimension e of the result, ("i", j) from the j-th index tensor; index tensors broadcast against the result's shape.
"""

from __future__ import annotations

from ..base import dtype as dt
from ..base.errors import message, user_position
from ..graph.node import Node, Static, View, dense
from ..graph.node import view as make_view
from . import pointwise as pw
from .factory import tril_mask
from .record import Record, broadcast_view, check_tensor, core, meta, normalize_dim, number, operator, result_dtype
from .view import SCATTER

Tensor = "Tensor"
GATHER = Record("gather", "gather")
COMBINE = {"sum": "sum", "add": "sum", "prod": "prod", "multiply": "prod", "amax": "max", "amin": "min", "set": "set"}


def _places(v: View, shape: tuple, mapping: tuple, count: int):
    """The affine part of the places in a source read through `v`, and (size, stride) for each index."""
    strides, picks = [0] * len(shape), [None] * count
    for d, (kind, where) in enumerate(mapping):
        if kind == "d":
            strides[where] += v.strides[d]
        else:
            picks[where] = (v.shape[d], v.strides[d])
    return make_view(shape, tuple(strides), v.offset), tuple(picks)


def _index_views(indices, shape):
    return tuple(broadcast_view(i.meta.view, shape) for i in indices)


@operator(name="index", public=False,
          grad=dict(input=lambda g, input_shape, indices, shape, mapping:
                    put(core.zeros(meta(dense(input_shape), g.meta.dtype, g.meta.device)), g, indices, shape, mapping, "sum")))
def pick(input: Tensor, indices, shape, mapping) -> Tensor:
    """The elements of `input` at the places; an index out of range raises IndexError when the value is needed."""
    place, picks = _places(input.meta.view, shape, mapping, len(indices))
    for size, _ in picks:
        if size == 0 and place.numel:
            raise IndexError("index is out of bounds for dimension with size 0")
    nodes = (input.storage.node, *(i.storage.node for i in indices))
    d, out = input.meta.dtype, dense(shape)
    node = Node(GATHER, nodes, (place, *_index_views(indices, shape)), Static(picks=picks), shape, out.numel, d)
    node.where = user_position()
    return core.make(node, meta(out, d, input.meta.device))


@operator(name="index_put", public=False,
          grad=dict(base=lambda g, indices, shape, mapping, combine: _put_base_grad(g, indices, shape, mapping, combine),
                    values=lambda g, indices, shape, mapping: pick(g, indices, shape, mapping)))
def put(base: Tensor, values: Tensor, indices, shape, mapping, combine) -> Tensor:
    """`base` with `values` (of `shape`) combined in at the places."""
    whole = dense(base.meta.view.shape)
    if not (base.meta.view is whole and base.storage.numel == whole.numel):
        base = pw.identity(base)
        if base.meta.view is not whole:
            base = core.contiguous(base)
    region, picks = _places(whole, shape, mapping, len(indices))
    d = base.meta.dtype
    if region.numel == 0:
        return pw.identity(base)
    node = Node(SCATTER, (base.storage.node, values.storage.node, *(i.storage.node for i in indices)),
                (dense((whole.numel,)), broadcast_view(values.meta.view, shape), *_index_views(indices, shape)),
                Static(casts=(d, d), combine=combine, region=region, picks=picks), whole.shape, whole.numel, d)
    node.where = user_position()
    return core.make(node, meta(whole, d, base.meta.device))


def _put_base_grad(g, indices, shape, mapping, combine):
    if combine == "sum":
        return g
    if combine != "set":
        raise NotImplementedError(f"the derivative of scatter with reduce={combine!r} is missing in antorcha so far")
    zero = core.zeros(meta(dense(shape), g.meta.dtype, g.meta.device))
    return put(g, zero, indices, shape, mapping, "set")


def _check_index(what: str, index, dtypes=(dt.int64, dt.int32)):
    check_tensor(what, "index", index)
    if index.meta.dtype not in dtypes:
        raise RuntimeError(f"{what}(): Expected dtype int32/int64 for index; received {index.meta.dtype}. Convert it first: index.long()")


def _others(rank: int, dim: int) -> tuple:
    return tuple(("i", 0) if i == dim else ("d", i) for i in range(rank))


@operator()
def index_select(input: Tensor, dim, index: Tensor) -> Tensor:
    """The positions `index` (a vector) along `dim`."""
    _check_index("index_select", index)
    shape = input.meta.view.shape
    if index.dim() > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if not shape:
        return input.clone()
    d = normalize_dim("index_select", dim, len(shape))
    n = index.numel()
    out = shape[:d] + (n,) + shape[d + 1:]
    return pick(input, [index.reshape((n,) + (1,) * (len(shape) - 1 - d))], out, _others(len(shape), d))


@operator()
def gather(input: Tensor, dim, index: Tensor, *, sparse_grad=False) -> Tensor:
    """out[i][j][k] = input[index[i][j][k]][j][k] for dim 0, and likewise along other dimensions."""
    _check_index("gather", index)
    shape, want = input.meta.view.shape, index.meta.view.shape
    if len(shape) != len(want) and index.numel():
        raise RuntimeError(f"gather(): Index tensor must have the same number of dimensions as input tensor; received {list(want)} for an "
                           f"input of shape {list(shape)}")
    if not shape:
        return input.clone()
    d = normalize_dim("gather", dim, len(shape))
    for i, (n, m) in enumerate(zip(shape, want)):
        if i != d and m > n:
            raise RuntimeError(f"gather(): Size does not match at dimension {i} expected index {list(want)} to be no larger than self "
                               f"{list(shape)} apart from dimension {d}")
    return pick(input, [index], want, _others(len(shape), d))


@operator()
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened input."""
    _check_index("take", index)
    return pick(input.reshape(-1), [index], index.meta.view.shape, (("i", 0),))


@operator()
def take_along_dim(input: Tensor, indices: Tensor, dim=None) -> Tensor:
    """`gather` with the other dimensions broadcast."""
    if dim is None:
        return input.reshape(-1).gather(0, indices.reshape(-1))
    d = normalize_dim("take_along_dim", dim, input.dim())
    lead = [max(a, b) if i != d else None for i, (a, b) in enumerate(zip(input.shape, indices.shape))]
    a = input.expand([n if n is not None else input.shape[d] for n in lead])
    b = indices.expand([n if n is not None else indices.shape[d] for n in lead])
    return gather(a, d, b)


def _embedding_grad(g, weight_shape, indices, padding_idx, scale_grad_by_freq):
    if scale_grad_by_freq:
        flat = indices.reshape(-1)
        counts = core.zeros(meta(dense((weight_shape[0],)), g.meta.dtype, g.meta.device)).index_add(0, flat, core.ones_like(flat, g.meta.dtype))
        g = g / counts.index_select(0, flat).reshape(indices.shape).unsqueeze(-1)
    if padding_idx is not None and padding_idx >= 0:
        g = pw.where((indices == padding_idx).unsqueeze(-1), 0.0, g)
    shape = indices.meta.view.shape + (weight_shape[1],)
    zeros = core.zeros(meta(dense(weight_shape), g.meta.dtype, g.meta.device))
    return put(zeros, g, [indices.unsqueeze(-1)], shape, (("i", 0), ("d", len(shape) - 1)), "sum")


@operator(method=False, grad=dict(weight=lambda g, weight_shape, indices, padding_idx, scale_grad_by_freq:
                                  _embedding_grad(g, weight_shape, indices, padding_idx, scale_grad_by_freq)))
def embedding(weight: Tensor, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False) -> Tensor:
    """Rows of `weight` (n, d) at `indices` (any shape): indices.shape + (d,)."""
    check_tensor("embedding", "indices", indices)
    if indices.meta.dtype not in (dt.int64, dt.int32):
        raise RuntimeError(message("embedding", "indices of dtype int64 or int32", indices.meta.dtype.name, "Convert them: indices.long()"))
    if weight.dim() != 2:
        raise RuntimeError(message("embedding", "weight to be a matrix ('weight' must be 2-D)", f"shape {list(weight.shape)}"))
    shape = indices.meta.view.shape + (weight.meta.view.shape[1],)
    return pick(weight, [indices.unsqueeze(-1)], shape, (("i", 0), ("d", len(shape) - 1)))


# -- writing ----------------------------------------------------------------------------------------------------

def _scatter(what, input, dim, index, src, combine):
    _check_index(what, index, (dt.int64,) if what != "index" else (dt.int64, dt.int32))
    if index.numel() == 0:
        return input.clone()
    rank = input.dim()
    if not rank:
        input, index = input.reshape(1), index.reshape(1)
        src = src.reshape(1) if isinstance(src, core.Tensor) else src
        return _scatter(what, input, 0, index, src, combine).reshape(())
    d = normalize_dim(what, dim, rank)
    shape = index.meta.view.shape
    if isinstance(src, core.Tensor):
        if src.meta.dtype is not input.meta.dtype:
            raise RuntimeError(f"{what}(): Expected self.dtype to be equal to src.dtype; received {input.dtype} and {src.dtype}")
        for i, (n, m) in enumerate(zip(shape, src.shape)):
            if n > m or (i != d and n > input.shape[i]):
                raise RuntimeError(f"Expected index {list(shape)} to be no larger than self {list(input.shape)} apart from dimension {d} and to "
                                   f"be no larger size than src {list(src.shape)}")
        src = src[tuple(slice(0, n) for n in shape)] if tuple(src.shape) != shape else src
    else:
        src = core.full(shape, src, input.meta.dtype, input.meta.device)
    return put(input, src, [index], shape, _others(rank, d), combine)


@operator(inplace=True)
def scatter(input: Tensor, dim, index, src: Tensor = None, *, value=None, reduce=None) -> Tensor:
    """`input` with input[index[i][j]][j] = src[i][j] for dim 0, and likewise along other dimensions."""
    return _scatter("scatter", input, dim, index, value if src is None else src, COMBINE[reduce or "set"])


@operator(inplace=True)
def scatter_add(input: Tensor, dim, index, src: Tensor) -> Tensor:
    """`scatter` that adds."""
    return _scatter("scatter_add", input, dim, index, src, "sum")


@operator(inplace=True)
def scatter_reduce(input: Tensor, dim, index, src: Tensor, reduce, *, include_self=True) -> Tensor:
    """`scatter` that combines by "sum", "prod", "mean", "amax" or "amin"."""
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    base = input
    if not include_self:
        neutral = {"sum": 0, "mean": 0, "prod": 1, "amax": -float("inf"), "amin": float("inf")}[reduce]
        base = _scatter("scatter_reduce", input, dim, index, core.full(index.shape, neutral, input.meta.dtype, "cpu"), "set")
    if reduce != "mean":
        return _scatter("scatter_reduce", base, dim, index, src, COMBINE[reduce])
    ones = core.full(index.shape, 1, input.meta.dtype, "cpu")
    start = core.full(input.shape, 1 if include_self else 0, input.meta.dtype, "cpu")
    count = _scatter("scatter_reduce", start, dim, index, ones, "sum")
    total = _scatter("scatter_reduce", base, dim, index, src, "sum")
    count = count.clamp(min=1)
    return total / count if input.meta.dtype.kind == "f" else total.div(count, rounding_mode="floor")


def _along(what, input, dim, index):
    d = normalize_dim(what, dim, input.dim())
    shape = input.shape[:d] + (index.numel(),) + input.shape[d + 1:]
    return d, tuple(shape), index.reshape((-1,) + (1,) * (input.dim() - 1 - d))


@operator(inplace=True)
def index_add(input: Tensor, dim, index, source: Tensor, *, alpha=1) -> Tensor:
    """`source` added to the positions `index` along `dim`."""
    _check_index("index_add", index)
    if not input.dim():
        return input + source.reshape(()) * alpha
    d, shape, place = _along("index_add", input, dim, index)
    if tuple(source.shape) != shape:
        raise RuntimeError(f"index_add_(): expected source of shape {list(shape)}; received {list(source.shape)}")
    return put(input, source if alpha == 1 else source * alpha, [place], shape, _others(input.dim(), d), "sum")


@operator(inplace=True)
def index_copy(input: Tensor, dim, index, source: Tensor) -> Tensor:
    """`source` written to the positions `index` along `dim`."""
    _check_index("index_copy", index)
    if not input.dim():
        return source.reshape(()).clone()
    d, shape, place = _along("index_copy", input, dim, index)
    return put(input, source, [place], shape, _others(input.dim(), d), "set")


@operator(inplace=True)
def index_fill(input: Tensor, dim, index, value) -> Tensor:
    """One value written to the positions `index` along `dim`."""
    _check_index("index_fill", index)
    value = value.item() if isinstance(value, core.Tensor) else value
    if not input.dim():
        return core.full((), value, input.meta.dtype, "cpu")
    d, shape, place = _along("index_fill", input, dim, index)
    return put(input, core.full(shape, value, input.meta.dtype, "cpu"), [place], shape, _others(input.dim(), d), "set")


@operator(name="masked_fill", public=False, grad=dict(input=lambda g, mask: pw.where(mask, 0.0, g),
                                                      value=lambda g, mask: pw.where(mask, g, 0.0)))
def masked_fill_(input: Tensor, mask, value: Tensor):
    out = pw.where_(mask, value, input)
    return out if out.meta.dtype is input.meta.dtype else out.to(input.meta.dtype)


@operator(inplace=True)
def masked_fill(input: Tensor, mask, value: Tensor) -> Tensor:
    """`value` where the mask holds, else `input`."""
    if mask.meta.dtype is not dt.bool_:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    if isinstance(value, core.Tensor) and value.dim():
        raise RuntimeError(f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.dim()} dimension(s).")
    if not isinstance(value, core.Tensor):
        value = number(value)
        if input.meta.dtype is not dt.bool_ and dt.CATEGORY[result_dtype((value,)).kind] > dt.CATEGORY[input.meta.dtype.kind]:
            raise RuntimeError(f"value cannot be converted to type {input.dtype} without overflow")
    return masked_fill_(input, mask, value)


@operator()
def masked_select(input: Tensor, mask) -> Tensor:
    """The elements where the mask holds, as a vector."""
    if mask.meta.dtype is not dt.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    input, mask = core.broadcast_tensors(input, mask)
    return input[mask]


@operator(inplace=True)
def masked_scatter(input: Tensor, mask, source: Tensor) -> Tensor:
    """Elements of `source`, in order, where the mask holds."""
    mask = mask.expand(input.shape)
    order = (mask.reshape(-1).cumsum(0) - 1).clamp(min=0).reshape(mask.shape)
    return pw.where(mask, take(source, order), input)


@operator(inplace=True, grad=dict(input=lambda g, diagonal: tril(g, diagonal)))
def tril(input: Tensor, diagonal=0) -> Tensor:
    """The lower triangle of the last two dimensions, zero elsewhere."""
    if input.dim() < 2:
        raise RuntimeError("tril: input tensor must have at least 2 dimensions")
    return pw.where_(tril_mask(*input.shape[-2:], diagonal), input, 0)


@operator(inplace=True, grad=dict(input=lambda g, diagonal: triu(g, diagonal)))
def triu(input: Tensor, diagonal=0) -> Tensor:
    """The upper triangle of the last two dimensions, zero elsewhere."""
    if input.dim() < 2:
        raise RuntimeError("triu: input tensor must have at least 2 dimensions")
    return pw.where_(tril_mask(*input.shape[-2:], diagonal - 1), 0, input)
