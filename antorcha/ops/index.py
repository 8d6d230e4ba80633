"""Reading and writing at places given by tensors. Two families: gather (`pick`) and scatter (`put`).

Both describe the places alike: `mapping` says for each dimension of the source where its coordinate comes from, ("d", e) from
dimension e of the result, ("i", j) from the j-th index tensor; index tensors broadcast against the result's shape.
"""

from __future__ import annotations

from ..base import dtype as dt
from ..base.errors import message, user_position
from ..graph.node import Node, Static, View, dense
from ..graph.node import view as make_view
from ..graph.tape import state
from . import pointwise as pw
from .bounds import NonZero, require, require_places
from .casts import WIDEST_ON_GPU
from .factory import tril_mask
from .layout import fitting
from .recall import deprecated
from .record import Record, broadcast_view, check_number, check_tensor, core, meta, normalize_dim, number, operator
from .strides import in_order, of_picked, order, reordered
from .view import SCATTER

Tensor = "Tensor"
GATHER = Record("gather", "gather")
STRICT_GATHER, STRICT_SCATTER = Record("gather", "gather", late_error=RuntimeError), Record("scatter", "scatter", late_error=RuntimeError)
SURE_SCATTER = Record("scatter", "scatter", late_error=None)     # to places that an operator has found itself
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
    return tuple(broadcast_view(i._meta.view, shape) for i in indices)


@operator(name="index", public=False,
          grad=dict(input=lambda g, input_shape, indices, shape, mapping:
                    put(core.zeros(meta(dense(input_shape), g._meta.dtype, g._meta.device)), g, indices, shape, mapping, "sum")))
def pick(input: Tensor, indices, shape, mapping, op=GATHER, follow=False) -> Tensor:
    """The elements of `input` at the places; an index out of range raises IndexError when the value is needed. `follow`: they lie in the
    order in which they are read."""
    place, picks = _places(input._meta.view, shape, mapping, len(indices))
    for size, _ in picks:
        if size == 0 and place.numel:
            raise IndexError("index is out of bounds for dimension with size 0")
    if state.devices:
        input, *indices = core.together("index", (input, *indices), range(1, len(indices) + 1))
    nodes = (input.storage.node, *(i.storage.node for i in indices))
    views = (place, *_index_views(indices, shape))
    d, out = input._meta.dtype, of_picked(views, shape) if follow else dense(shape)
    inward = order(out)
    if inward is not None:
        shape, views = tuple([shape[i] for i in inward]), tuple([reordered(v, inward) for v in views])
    node = Node.of(op, nodes, views, Static(picks=picks), shape, out.numel, d)
    node.where = user_position()
    return core.make(node, meta(out, d, input._meta.device))


def divisor(what: str, b, result):
    """What integers are divided by, with an element of 0 refused: RuntimeError where `b` (a number or a tensor) is known, else `b` as a
    kernel looks at it. `result`: the quotient. A GPU divides by 0, as in PyTorch."""
    if not isinstance(b, core.Tensor):
        if not b and result._meta.view.numel and result._meta.device in (None, "cpu"):
            raise _no_divisor(what)
        return b
    m = b._meta
    if m.device not in (None, "cpu") or require(b.storage.node, NonZero(m.view, lambda _: _no_divisor(what))):
        return b
    table = core.full((1,), 0, m.dtype, m.device)       # 0 leads to a place that it does not have
    return b + pick(table, [(b == 0).to(dt.int64)], m.view.shape, (("i", 0),), _DIVISOR)


def _no_divisor(what: str) -> Exception:
    return RuntimeError(message(what, "integers other than 0 to divide by", "0", "Divide floats for infinities and NaN: input.float(). "
                                "(ZeroDivisionError)"))


_DIVISOR = Record("division", "gather", late_error=RuntimeError, complaint=str(_no_divisor("division")))


@operator(name="index_put", public=False,
          grad=dict(base=lambda g, indices, shape, mapping, combine: _put_base_grad(g, indices, shape, mapping, combine),
                    values=lambda g, indices, shape, mapping: pick(g, indices, shape, mapping)))
def put(base: Tensor, values: Tensor, indices, shape, mapping, combine, op=SCATTER) -> Tensor:
    """`base` with `values` (of `shape`) combined in at the places."""
    if state.devices:
        base, values, *indices = core.together("index_put", (base, values, *indices), range(2, len(indices) + 2))
    whole = dense(base._meta.view.shape)
    if not (base._meta.view is whole and base.storage.numel == whole.numel):
        base = pw.identity(base)
        if base._meta.view is not whole:
            base = core.contiguous(base)
    region, picks = _places(whole, shape, mapping, len(indices))
    d = base._meta.dtype
    if region.numel == 0:
        return pw.identity(base)
    node = Node.of(op, (base.storage.node, values.storage.node, *(i.storage.node for i in indices)),
                (dense((whole.numel,)), broadcast_view(values._meta.view, shape), *_index_views(indices, shape)),
                Static(casts=(d, d), combine=combine, region=region, picks=picks), whole.shape, whole.numel, d)
    node.where = user_position()
    return core.make(node, meta(whole, d, base._meta.device))


def fold(x, dims: tuple, combine: str):
    """The sum or the product over dimensions, which stay, in the dtype of `x`: one element after the other, and each step is rounded."""
    shape = x._meta.view.shape
    kept = tuple(1 if d in dims else n for d, n in enumerate(shape))
    start = core.full(kept, 1 if combine == "prod" else 0, x._meta.dtype, x._meta.device)
    places = [d for d in range(len(shape)) if d not in dims]
    return put(start.reshape(tuple(shape[d] for d in places)), x, [], shape, tuple(("d", d) for d in places), combine,
               SURE_SCATTER).reshape(kept)


def _put_base_grad(g, indices, shape, mapping, combine):
    if combine == "sum":
        return g
    if combine != "set":
        raise NotImplementedError(f"the derivative of scatter with reduce={combine!r} is missing in antorcha so far")
    zero = core.zeros(meta(dense(shape), g._meta.dtype, g._meta.device))
    return put(g, zero, indices, shape, mapping, "set")


def _check_index(what: str, input, index, size: int | None = None, dtypes=(dt.int64, dt.int32)):
    """`size`: of the dimension, if the values are to be looked at."""
    check_tensor(what, "index", index)
    if state.devices:       # unlike in input[index], they are on one device
        core.together(what, (input, index))
    if index._meta.dtype not in dtypes:
        raise RuntimeError(f"{what}(): Expected dtype int32/int64 for index; received {index._meta.dtype}. Convert it first: index.long()")
    if size is not None:
        require_places(what, index, size)


def _others(rank: int, dim: int) -> tuple:
    return tuple(("i", 0) if i == dim else ("d", i) for i in range(rank))


@operator(title="IndexSelect", apart=0, samples=lambda t: [t(3, 4), 0, t.integers(5, below=3)])
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The positions `index` (a vector) along `dim`."""
    _check_index("index_select", input, index)
    shape = input._meta.view.shape
    if index.dim() > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if not shape:
        return input.clone()
    d = normalize_dim("index_select", dim, len(shape))
    require_places("index_select", index, shape[d])
    n = index.numel()
    out = shape[:d] + (n,) + shape[d + 1:]
    return pick(input, [index.reshape((n,) + (1,) * (len(shape) - 1 - d))], out, _others(len(shape), d))


@operator(title="Gather", out="exact", apart=0,
          samples=(lambda t: [t(3, 4), 1, t.integers(2, 3, below=4)], lambda t: [t(3, 4), 0, t.integers(0, 4)]))
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad=False) -> Tensor:
    """out[i][j][k] = input[index[i][j][k]][j][k] for dim 0, and likewise along other dimensions."""
    shape, want = input._meta.view.shape, index._meta.view.shape
    d = normalize_dim("gather", dim, len(shape))
    if not index.numel():
        return input.reshape(-1).narrow(0, 0, 0).reshape(want)
    _check_index("gather", input, index)
    if not shape or not want:      # a number counts as a vector of one element
        return gather(input.reshape(shape or (1,)), d, index.reshape(want or (1,))).reshape(want)
    if len(shape) != len(want):
        raise RuntimeError(f"gather(): Index tensor must have the same number of dimensions as input tensor; received {list(want)} for an "
                           f"input of shape {list(shape)}")
    for i, (n, m) in enumerate(zip(shape, want)):
        if i != d and m > n:
            raise RuntimeError(f"gather(): Size does not match at dimension {i} expected index {list(want)} to be no larger than self "
                               f"{list(shape)} apart from dimension {d}")
    require_places("gather", index, shape[d], RuntimeError)
    return pick(input, [index], want, _others(len(shape), d), STRICT_GATHER)


def pick_one(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """input[i, index[i, j], j] for a dimension `dim` and an index without it, which has been looked at."""
    index = index.unsqueeze(dim)
    return pick(input, [index], index._meta.view.shape, _others(input.dim(), dim)).squeeze(dim)


@operator(title="Take", apart=0, samples=lambda t: [t(3, 4), t.integers(2, 3, below=12)])
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened input."""
    _check_index("take", input, index, input.numel())
    return pick(input.reshape(-1), [index], index._meta.view.shape, (("i", 0),))


@operator(samples=lambda t: [t(3, 4), t.integers(2, 4, below=3), 0])
def take_along_dim(input: Tensor, indices: Tensor, dim=None) -> Tensor:
    """`gather` with the other dimensions broadcast."""
    if dim is None:
        return input.reshape(-1).gather(0, indices.reshape(-1))
    d = normalize_dim("take_along_dim", dim, input.dim())
    lead = [max(a, b) if i != d else None for i, (a, b) in enumerate(zip(input.shape, indices.shape))]
    a = input.expand([n if n is not None else input.shape[d] for n in lead])
    b = indices.expand([n if n is not None else indices.shape[d] for n in lead])
    return gather(a, d, b)


def _embedding_grad(g, weight_shape, indices, padding_idx, scale_grad_by_freq, sparse):
    if scale_grad_by_freq:
        flat = indices.reshape(-1)
        counts = core.zeros(meta(dense((weight_shape[0],)), g._meta.dtype, g._meta.device)).index_add(
            0, flat, core.ones_like(flat, g._meta.dtype)
        )
        g = g / counts.index_select(0, flat).reshape(indices.shape).unsqueeze(-1)
    if padding_idx is not None and padding_idx >= 0:
        g = pw.where((indices == padding_idx).unsqueeze(-1), 0.0, g)
    if sparse:
        return core.sparse_rows(indices, g, weight_shape)
    shape = indices._meta.view.shape + (weight_shape[1],)
    zeros = core.zeros(meta(dense(weight_shape), g._meta.dtype, g._meta.device))
    return put(zeros, g, [indices.unsqueeze(-1)], shape, (("i", 0), ("d", len(shape) - 1)), "sum")


@operator(method=False, grad=dict(weight=lambda g, weight_shape, indices, padding_idx, scale_grad_by_freq, sparse:
                                  _embedding_grad(g, weight_shape, indices, padding_idx, scale_grad_by_freq, sparse)),
          samples=lambda t: [t(3, 4), t.integers(..., below=3)])
def embedding(weight: Tensor, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False) -> Tensor:
    """Rows of `weight` (n, d) at `indices` (any shape): indices.shape + (d,)."""
    check_tensor("embedding", "indices", indices)
    dtype = indices._meta.dtype
    if dtype not in (dt.int64, dt.int32):
        raise RuntimeError(message("embedding", "indices of dtype int64 or int32", dtype.name, "Convert them: indices.long()"))
    if weight.dim() != 2:
        raise RuntimeError(message("embedding", "weight to be a matrix ('weight' must be 2-D)", f"shape {list(weight.shape)}"))
    if state.devices:
        core.together("embedding", (weight, indices))
    require_places("embedding", indices, weight._meta.view.shape[0])
    shape = indices._meta.view.shape + (weight._meta.view.shape[1],)
    return pick(weight, [indices.unsqueeze(-1)], shape, (("i", 0), ("d", len(shape) - 1)))


# -- writing ----------------------------------------------------------------------------------------------------

def _fitted(what, input, d, index, src):
    """`src`, checked and cut to the index's shape; a number as a tensor of it."""
    shape = index._meta.view.shape
    if not isinstance(src, core.Tensor):
        return core.full(shape, number(fitting(src, input._meta.dtype)), input._meta.dtype, input._meta.device)
    if src._meta.dtype is not input._meta.dtype:
        raise RuntimeError(f"{what}(): Expected self.dtype to be equal to src.dtype; received {input.dtype} and {src.dtype}")
    for name, x in (("self", input), ("src", src)):
        if x.dim() != len(shape):
            raise RuntimeError(
                f"{what}(): Index tensor must have the same number of dimensions as {name} tensor; received {len(shape)} and {x.dim()}"
            )
    for i, (n, m) in enumerate(zip(shape, src.shape)):
        if n > m or (i != d and n > input.shape[i]):
            raise RuntimeError(
                f"Expected index {list(shape)} to be no larger than self {list(input.shape)} apart from dimension {d} and to "
                f"be no larger size than src {list(src.shape)}"
            )
    return src[tuple(slice(0, n) for n in shape)] if tuple(src.shape) != shape else src


def _scatter(what, input, dim, index, src, combine):
    _check_index(what, input, index)
    if index.numel() == 0:
        return input.clone()
    rank = input.dim()
    if not rank:
        input, index = input.reshape(1), index.reshape(1)
        src = src.reshape(1) if isinstance(src, core.Tensor) else src
        return _scatter(what, input, 0, index, src, combine).reshape(())
    d = normalize_dim(what, dim, rank)
    src = _fitted(what, input, d, index, src)
    require_places(what, index, input._meta.view.shape[d], RuntimeError)
    return put(input, src, [index], index._meta.view.shape, _others(rank, d), combine, STRICT_SCATTER)


@operator(inplace=True, apart=1, title=lambda input, dim, index, src=None, *, value=None, reduce=None:
          f"ScatterBackward{int(not isinstance(src if value is None else value, core.Tensor))}",
          samples=(lambda t: [t(3, 4), 1, t.of([[2, 0, 3], [1, 2, 0]]), t(2, 3)], lambda t: [t(3, 4), 0, t.integers(0, 4), t(0, 4)]))
def scatter(input: Tensor, dim: int, index, src: Tensor = None, *, value=None, reduce=None) -> Tensor:
    """`input` with input[index[i][j]][j] = src[i][j] for dim 0, and likewise along other dimensions."""
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError(f"scatter: reduce argument must be either add or multiply; received {reduce!r}")
    if reduce is not None and isinstance(src, core.Tensor):
        deprecated("torch.scatter with a tensor and reduce=", "torch.scatter_reduce")
    src = value if src is None else src
    if not isinstance(src, core.Tensor):
        check_number("scatter", "src", src, 4)
    return _scatter("scatter", input, dim, index, src, COMBINE[reduce or "set"])


@operator(autocast=WIDEST_ON_GPU, title="ScatterAdd", inplace=True, apart=1,
          samples=(lambda t: [t(3, 4), 1, t.integers(2, 3, below=4), t(2, 3)], lambda t: [t(3, 4), 0, t.integers(0, 4), t(0, 4)]))
def scatter_add(input: Tensor, dim: int, index, src: Tensor) -> Tensor:
    """`scatter` that adds."""
    check_tensor("scatter_add", "src", src, 4)
    return _scatter("scatter_add", input, dim, index, src, "sum")


def _reduce_base_grad(g, input, dim, index, src, reduce, include_self, result):
    if reduce == "sum":
        found = g
    elif reduce == "mean":
        found = g / _terms(input, dim, index, include_self)
    elif reduce == "prod":
        others = pw.where(input == 0, 1.0, input)
        found = g * scatter_reduce_(others, dim, index, src, reduce, include_self) / others
    else:
        found = _winners(g, input, dim, index, src, result)[0]
    return found if include_self else found.scatter(dim, index, 0)


def _reduce_source_grad(g, input, dim, index, src, reduce, include_self, result):
    if reduce == "sum":
        return g.gather(dim, index)
    if reduce == "mean":
        return (g / _terms(input, dim, index, include_self)).gather(dim, index)
    if reduce != "prod":
        return _winners(g, input, dim, index, src, result)[1]
    zero = src == 0
    zeros = core.full(input.shape, 0, g.dtype).scatter_add(dim, index, zero.to(g.dtype)).gather(dim, index)
    single = zero & (zeros == 1)        # the product of the others is wanted there
    without = scatter_reduce_(input, dim, index, pw.where(single, 1.0, src), reduce, include_self)
    return pw.where(single, (g * without).gather(dim, index), (g * result).gather(dim, index) / pw.where(zero, 1.0, src))


def _winners(g, input, dim, index, src, result):
    """The cotangent of an extreme, shared by all that attain it: (of the input, of the source)."""
    own, theirs = (input == result).to(g.dtype), (src == result.gather(dim, index)).to(g.dtype)
    share = g / own.scatter_add(dim, index, theirs)
    return own * share, theirs * share.gather(dim, index)


def _terms(input, dim, index, include_self):
    """How many values meet at each place, at least 1."""
    start = core.full(input.shape, 1 if include_self else 0, input._meta.dtype)
    ones = core.full(index.shape, 1, input._meta.dtype)
    return pw.clamp_min(_scatter("scatter_reduce", start, dim, index, ones, "sum"), 1)


@operator(
    name="scatter_reduce",
    public=False,
    grad=dict(
        input=lambda g, input, dim, index, src, reduce, include_self, result: _reduce_base_grad(
            g, input, dim, index, src, reduce, include_self, result
        ),
        src=lambda g, input, dim, index, src, reduce, include_self, result: _reduce_source_grad(
            g, input, dim, index, src, reduce, include_self, result
        ),
    ),
)
def scatter_reduce_(input: Tensor, dim, index, src: Tensor, reduce, include_self):
    d = input._meta.dtype
    base = input
    if not include_self:    # an extreme of itself is itself; sums and products have a neutral element
        start = src if reduce in ("amax", "amin") else core.full(index.shape, 1 if reduce == "prod" else 0, d)
        base = _scatter("scatter_reduce", input, dim, index, start, "set")
    if d is dt.bool_ and reduce != "mean":      # as numbers 0 and 1
        kind = "sum" if reduce == "sum" else reduce
        whole = _scatter("scatter_reduce", base.to(dt.int64), dim, index, src.to(dt.int64), COMBINE[kind])
        return whole.to(dt.bool_)
    if reduce != "mean":
        return _scatter("scatter_reduce", base, dim, index, src, COMBINE[reduce])
    count = _terms(input, dim, index, include_self)
    total = _scatter("scatter_reduce", base, dim, index, src, "sum")
    return total / count if d.kind in "fc" else total.div(count, rounding_mode="floor")


@operator(inplace=True, apart=1, samples=tuple(
    lambda t, reduce=reduce: [t(3, 4), 1, t.integers(2, 3, below=4), t(2, 3), reduce] for reduce in ("sum", "prod", "mean", "amax")))
def scatter_reduce(input: Tensor, dim: int, index, src: Tensor, reduce, *, include_self=True) -> Tensor:
    """`scatter` that combines by "sum", "prod", "mean", "amax" or "amin"."""
    check_tensor("scatter_reduce", "src", src, 4)
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    if not input.dim():
        return scatter_reduce(input.reshape(1), 0, index.reshape(1), src.reshape(1), reduce, include_self=include_self).reshape(())
    _check_index("scatter_reduce", input, index)
    d = normalize_dim("scatter_reduce", dim, input.dim())
    if not index.numel():
        return input.clone()
    return scatter_reduce_(input, d, index, _fitted("scatter_reduce", input, d, index, src), reduce, include_self)


def _along(what, input, dim, index):
    d = normalize_dim(what, dim, input.dim())
    require_places(what, index, input._meta.view.shape[d])
    shape = input.shape[:d] + (index.numel(),) + input.shape[d + 1:]
    return d, tuple(shape), index.reshape((-1,) + (1,) * (input.dim() - 1 - d))


@operator(title="IndexAdd", inplace=True, apart=1, samples=lambda t: [t(3, 4), 0, t.of([2, 0, 2]), t(3, 4), dict(alpha=2)])
def index_add(input: Tensor, dim: int, index, source: Tensor, *, alpha=1) -> Tensor:
    """`source` added to the positions `index` along `dim`."""
    _check_index("index_add", input, index)
    if not input.dim():
        return input + source.reshape(()) * alpha
    d, shape, place = _along("index_add", input, dim, index)
    if tuple(source.shape) != shape:
        raise RuntimeError(f"index_add_(): expected source of shape {list(shape)}; received {list(source.shape)}")
    return put(input, source if alpha == 1 else source * alpha, [place], shape, _others(input.dim(), d), "sum")


@operator(autocast={"cpu": "widest"}, title="IndexCopy", inplace=True, apart=1, samples=lambda t: [t(3, 4), 0, t.of([1, 0]), t(2, 4)])
def index_copy(input: Tensor, dim: int, index, source: Tensor) -> Tensor:
    """`source` written to the positions `index` along `dim`."""
    _check_index("index_copy", input, index)
    if not input.dim():
        return source.reshape(()).clone()
    d, shape, place = _along("index_copy", input, dim, index)
    return put(input, source, [place], shape, _others(input.dim(), d), "set")


@operator(inplace=True, apart=1,
          samples=(lambda t: [t(3, 4), 0, t.of([2, 0, 2]), t(3, 4), "prod"],
                   lambda t: [t(3, 4), 0, t.of([2, 0, 2]), t(3, 4), "amax", dict(include_self=False)]))
def index_reduce(input: Tensor, dim, index, source: Tensor, reduce, *, include_self=True) -> Tensor:
    """`source` combined by "prod", "mean", "amax" or "amin" with the positions `index` along `dim`."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin; received {reduce}")
    _check_index("index_reduce", input, index)
    if not input.dim():
        return index_reduce(input.reshape(1), 0, index, source.reshape(-1), reduce, include_self=include_self).reshape(())
    d, shape, place = _along("index_reduce", input, dim, index)
    if tuple(source.shape) != shape:
        raise RuntimeError(f"index_reduce_(): expected source of shape {list(shape)}; received {list(source.shape)}")
    return scatter_reduce(input, d, place.expand(shape), source, reduce, include_self=include_self)


def _sum_at(g, dim, index):
    """The sum of `g` at the positions `index` along `dim`, each counted once however often it is named."""
    g = g if g.dim() else g.reshape(1)
    d = normalize_dim("index_fill", dim, g.dim())
    named = core.full((g.shape[d],), False, dt.bool_).index_fill(0, index, True)
    return pw.where(named.reshape((-1,) + (1,) * (g.dim() - 1 - d)), g, 0.0).sum()


@operator(inplace=True, onto_repeated=True, grad=dict(input=lambda g, dim, index: g.index_fill(dim, index, 0),
                                  value=lambda g, dim, index: _sum_at(g, dim, index)), samples=lambda t: [t(3, 4), 1, t.of([3, 0, 3]), t()])
def index_fill(input: Tensor, dim: int, index, value: Tensor) -> Tensor:
    """One value written to the positions `index` along `dim`."""
    _check_index("index_fill", input, index)
    if isinstance(value, core.Tensor) and value.dim():
        raise RuntimeError(f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.dim()} dimension(s).")
    if not input.dim():
        return index_fill(input.reshape(1), 0, index, value).reshape(())
    d, shape, place = _along("index_fill", input, dim, index)
    kind = input._meta.dtype
    if not isinstance(value, core.Tensor):
        value = core.full((), check_number("index_fill", "value", fitting(value, kind), 4), kind)
    return put(input, value.to(kind).expand(shape), [place], shape, _others(input.dim(), d), "set")


@operator(name="put", inplace=True, apart=1, out=False, samples=lambda t: [t(3, 4), t.of([2, 0, 2]), t(3), True])
def put_flat(input: Tensor, index, source: Tensor, accumulate=False) -> Tensor:
    """`source` written (or added) to places in the flattened input."""
    _check_index("put_", input, index, input.numel(), (dt.int64,))
    if source.dtype is not input.dtype:
        raise RuntimeError(f"put_(): self and source expected to have the same dtype, but got {input.dtype} and {source.dtype}")
    if index.numel() != source.numel():
        raise IndexError(
            f"put_(): Expected source and index to have the same number of elements, but got source.numel() = {source.numel()}, "
            f"index.numel() = {index.numel()}"
        )
    flat = put(input.reshape(-1), source.reshape(-1), [index.reshape(-1)], (index.numel(),), (("i", 0),), "sum" if accumulate else "set")
    return flat.reshape(input.shape)


@operator(name="masked_fill", public=False, grad=dict(input=lambda g, mask: pw.where(mask, 0.0, g),
                                                      value=lambda g, mask: pw.where(mask, g, 0.0)))
def masked_fill_(input: Tensor, mask, value: Tensor):
    out = in_order(pw.where_(mask, value, input))
    return out if out._meta.dtype is input._meta.dtype else out.to(input._meta.dtype)


@operator(inplace=True, onto_repeated=True, samples=lambda t: [t(...), t.flags(...), t()])
def masked_fill(input: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """`value` where the mask holds, else `input`."""
    if mask._meta.dtype is not dt.bool_:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    if isinstance(value, core.Tensor) and value.dim():
        raise RuntimeError(f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.dim()} dimension(s).")
    if not isinstance(value, core.Tensor):
        value = number(fitting(value, input._meta.dtype))
    elif value._meta.dtype.kind == "c" and input._meta.dtype.kind != "c":
        raise RuntimeError(f"value cannot be converted to type {input.dtype} without overflow")
    return masked_fill_(input, mask, value)


@operator(title="MaskedSelect", apart=0, samples=lambda t: [t(...), t.flags(...)])
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector."""
    if mask._meta.dtype is not dt.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    if state.devices:
        core.together("masked_select", (input, mask))
    input, mask = core.broadcast_tensors(input, mask)
    return input[mask]


@operator(title="MaskedScatter", inplace=True, samples=lambda t: [t(3, 4), t.flags(3, 4), t(12)])
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Elements of `source`, in order, where the mask holds."""
    if mask.dtype is not dt.bool_ or source.dtype is not input.dtype:
        raise RuntimeError(
            f"masked_scatter_: expected a bool mask and a source of the input's dtype {input.dtype}; received {mask.dtype} and "
            f"{source.dtype}"
        )
    input, mask = core.broadcast_tensors(input, mask)
    order = (mask.reshape(-1).cumsum(0) - 1).clamp(min=0).reshape(mask.shape)
    if not source.numel():
        source = source.new_zeros(1)
    return pw.where(mask, pick(source.reshape(-1), [order], order._meta.view.shape, (("i", 0),), STRICT_GATHER), input)


@operator(inplace=True, onto_repeated=True, grad=dict(input=lambda g, diagonal: tril(g, diagonal)), samples=lambda t: [t(..., 3, 4), 1])
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two dimensions, zero elsewhere."""
    if input.dim() < 2:
        raise RuntimeError("tril: input tensor must have at least 2 dimensions")
    return in_order(pw.where_(tril_mask(*input.shape[-2:], diagonal), input, False))


@operator(inplace=True, onto_repeated=True, grad=dict(input=lambda g, diagonal: triu(g, diagonal)), samples=lambda t: [t(..., 3, 4), 1])
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two dimensions, zero elsewhere."""
    if input.dim() < 2:
        raise RuntimeError("triu: input tensor must have at least 2 dimensions")
    return in_order(pw.where_(tril_mask(*input.shape[-2:], diagonal - 1), False, input))
