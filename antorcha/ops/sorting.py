"""Sorting, selecting by rank, and what sorted order answers: distinct elements, places, membership. NumPy does the work on the host."""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from ..base.formats import preserve_format
from ..graph.node import dense
from . import pointwise as pw
from .comparison import isnan
from .extern import host_op, in_parts, run
from .record import check_number, check_tensor, core, meta, normalize_dim, operator, result_dtype
from .reduction import kthvalue_t, median_t, mode_t, nanmedian_t, sort_t, topk_t
from .strides import of_copy, order, reordered

Tensor = "Tensor"

LITTLE = 1 << 12        # elements of which all get a number that tells their order


def _order(x, axis, descending):
    """A stable order, NaN last (first when descending)."""
    order = np.empty(x.shape, np.int64)
    in_parts(lambda part, out: np.copyto(out, _order_of(part, axis, descending)), order, x, axis % x.ndim)
    return order


def _order_of(x, axis, descending):
    if _short(x, axis):
        keys = _keys(np.moveaxis(x, axis, -1), np.arange(x.shape[axis]), descending)
        keys.sort(-1)
        keys &= 0xFFFFFFFF
        return np.moveaxis(keys, -1, axis)
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    flipped = np.flip(x, axis)
    order = np.argsort(flipped, axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(order, axis)


def _short(x, axis) -> bool:
    """Whether an element and its place make a number of 64 bits."""
    return x.dtype.itemsize <= 4 and x.dtype.kind in "biuf" and x.shape[axis] <= 1 << 32


def _keys(x, places, descending):
    """int64 numbers of the same order as the elements, no two of a row equal: above the element, below its place. NumPy sorts them with
    vectors, several times as fast as it finds an order."""
    if x.dtype.kind == "f":
        bits = np.add(x, np.float32(0), dtype=np.float32).view(np.int32)     # -0 is 0
        whole = bits >> 31
        whole &= 0x7FFFFFFF
        whole ^= bits                   # negative ones the other way round
        lost = np.isnan(x)
        if lost.any():
            whole[lost] = 0x7FFFFFFF    # more than the infinite
    else:
        whole = x
    keys = whole.astype(np.int64)
    if descending:
        np.invert(keys, out=keys)
    keys <<= 32
    keys |= places
    return keys


def _sort_host(x, dim, descending):
    order = _order(x, dim, descending)
    return np.take_along_axis(x, order, dim), order


def _few(x, k, largest):
    """The places of the first `k` of each row [rows, n], which have no NaN. The elements dealt out to groups, the k-th of the groups' first
    ones is not before the k-th of all: only what is not behind it need be sorted."""
    rows, n = x.shape
    groups = min(n // 4, max(64, 4 * k))
    dealt = x[:, :n - n % groups].reshape(rows, -1, groups)
    at = groups - k if largest else k - 1
    edge = np.partition(dealt.max(1) if largest else dealt.min(1), at, -1)[:, at, None]
    found = np.flatnonzero(x >= edge if largest else x <= edge)
    row = found // n
    counts = np.bincount(row, minlength=rows)
    at = row, np.arange(len(found)) - (np.cumsum(counts) - counts)[row]
    places = np.zeros((rows, counts.max()), np.int64)
    places[at] = found - row * n
    bounds = (-np.inf, np.inf) if x.dtype.kind == "f" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    values = np.full(places.shape, bounds[not largest], x.dtype)    # what fills a row up comes last, behind its equals
    values[at] = x.reshape(-1)[found]
    return np.take_along_axis(places, _order(values, -1, largest)[:, :k], -1)


def _topk_host(x, k, dim, largest):
    n = x.shape[dim]
    if 0 < k < n and x.size <= LITTLE and dim % x.ndim == x.ndim - 1 and _short(x, dim):
        rows = x.reshape(-1, n)
        keys = np.partition(_keys(rows, np.arange(n), largest), k - 1, -1)[:, :k]
        keys.sort(-1)
        keys &= 0xFFFFFFFF
        found = rows[np.arange(len(rows))[:, None], keys]
        return found.reshape(*x.shape[:-1], k), keys.reshape(*x.shape[:-1], k)
    if 0 < k <= n // 8 and n >= 64 and x.size and not (x.dtype.kind == "f" and np.isnan(x).any()):
        rows = np.ascontiguousarray(np.moveaxis(x, dim, -1))
        order = np.moveaxis(_few(rows.reshape(-1, n), k, largest).reshape(*rows.shape[:-1], k), -1, dim)
    else:
        order = np.take(_order(x, dim, largest), np.arange(k), axis=dim)
    return np.take_along_axis(x, order, dim), order


def _rank_host(x, dim, rank):
    """(values, positions) of the element at place `rank(sorted row lengths, NaN counts)` of the order along `dim`."""
    nans = np.isnan(x).sum(dim, keepdims=True) if x.dtype.kind == "f" else np.zeros_like(np.take(x, [0], dim), np.int64)
    place = np.broadcast_to(rank(x.shape[dim], nans), nans.shape)
    first = int(place.flat[0]) if place.size else 0
    if (place == first).all() and not nans.any() and x.size:        # what is on either side of it need not be in order
        value = np.take(np.partition(x, first, dim), [first], dim)
        return value, (x == value).argmax(dim, keepdims=True)
    position = np.take_along_axis(_order(x, dim, False), place, dim)
    return np.take_along_axis(x, position, dim), position


def _kth_host(x, dim, k): return _rank_host(x, dim, lambda n, nans: np.asarray(k - 1))
def _median_host(x, dim): return _rank_host(x, dim, lambda n, nans: np.where(nans > 0, n - nans, (n - 1) // 2))
def _nanmedian_host(x, dim): return _rank_host(x, dim, lambda n, nans: np.maximum((n - nans - 1) // 2, 0))


def _mode_host(x, dim):
    """The most frequent value, the smallest of several, and the last position where it stands."""
    rows = np.moveaxis(x, dim, -1)
    values, places = np.empty(rows.shape[:-1] + (1,), x.dtype), np.empty(rows.shape[:-1] + (1,), np.int64)
    for at in np.ndindex(rows.shape[:-1]):
        row = rows[at]
        found, counts = np.unique(row, return_counts=True)
        value = found[np.argmax(counts)]
        values[at], places[at] = value, np.flatnonzero(np.isnan(row) if value != value else row == value)[-1]
    return np.moveaxis(values, -1, dim), np.moveaxis(places, -1, dim)


SORT, TOPK = host_op("sort", _sort_host), host_op("topk", _topk_host)
KTH, MEDIAN, NANMEDIAN, MODE = (host_op(f.__name__[1:-5], f) for f in (_kth_host, _median_host, _nanmedian_host, _mode_host))


def _scatter_back(g, dim, input_shape, places):
    """The cotangent of values[i] to the position it came from."""
    if not input_shape:
        return g[0]
    return core.zeros(meta(dense(input_shape), g[0]._meta.dtype, g[0]._meta.device)).scatter_add(dim, places, g[0])


def _alone(kind, input):
    """The result of a search in a number: itself, at position 0."""
    return kind(input.clone(), core.zeros(meta(dense(()), dt.int64, input._meta.device)))


@operator(name="sort", public=False, grad=dict(input=lambda g, dim, input_shape, result_1: _scatter_back(g, dim, input_shape, result_1)))
def sort_(input: Tensor, dim, descending):
    m = input._meta
    layout = of_copy("sort", m.view, preserve_format)
    inward = order(layout)
    if inward is not None:      # sorted with the dimensions in the order in which they lie in memory
        m = meta(reordered(m.view, inward), m.dtype, m.device)
        input, dim = core.tensor_on(input.storage, m), inward.index(dim)
    sorted = run(SORT, (input,), [(m.view.shape, m.dtype), (m.view.shape, dt.int64)], dim=dim, descending=descending)
    return sort_t(*[core.tensor_on(x.storage, meta(layout, x._meta.dtype, x._meta.device)) for x in sorted])


@operator(samples=lambda t: [t(..., 5), -1, True])
def sort(input: Tensor, dim: int = -1, descending=False, stable=False):
    """(sorted values, their positions) along `dim`; equal elements keep their order."""
    if input._meta.dtype.kind == "c":
        raise RuntimeError(
            "sort: expected real numbers, which have an order; received a complex tensor. Sort by its magnitude: input.abs()"
        )
    d = normalize_dim("sort", dim, input.dim())
    return sort_(input, d, bool(descending)) if input.dim() else _alone(sort_t, input)


@operator(samples=lambda t: [t(..., 5), -1, True])
def argsort(input: Tensor, dim: int = -1, descending=False, stable=False) -> Tensor:
    """The positions that sort along `dim`."""
    return sort(input, dim, descending)[1]


@operator(samples=lambda t: [t(3, 4)])
def msort(input: Tensor) -> Tensor:
    """The values sorted along the first dimension."""
    return sort(input, 0)[0] if input.dim() else input.clone()


@operator(name="topk", public=False, grad=dict(input=lambda g, dim, input_shape, result_1: _scatter_back(g, dim, input_shape, result_1)))
def topk_(input: Tensor, k, dim, largest):
    shape = input._meta.view.shape
    out = shape[:dim] + (k,) + shape[dim + 1:]
    return topk_t(*run(TOPK, (input,), [(out, input._meta.dtype), (out, dt.int64)], k=k, dim=dim, largest=largest))


@operator(samples=lambda t: [t(..., 5), 2])
def topk(input: Tensor, k: int, dim: int = -1, largest=True, sorted=True):
    """(the k largest (or smallest) values, their positions) along `dim`, in order."""
    if input._meta.dtype is dt.bool_:
        raise RuntimeError("topk does not support bool dtypes. Convert it first: input.int()")
    d = normalize_dim("topk", dim, input.dim())
    k = int(k)
    if not 0 <= k <= (input.shape[d] if input.dim() else 1):
        raise RuntimeError(f"selected index k out of range: expected k in [0, {input.shape[d] if input.dim() else 1}]; received {k}")
    return topk_(input, k, d, bool(largest)) if input.dim() else _alone(topk_t, input)


# -- by rank ----------------------------------------------------------------------------------------------------

def _ranked(op, kind):
    """An operator (input, dim, **params) -> (values, positions) along `dim`, kept with size 1."""
    @operator(name=op.name, public=False, grad=dict(
        input=lambda g, dim, input_shape, result_1: _scatter_back(g, dim, input_shape, result_1)))
    def search(input: Tensor, dim, params):
        shape = input._meta.view.shape
        out = shape[:dim] + (1,) + shape[dim + 1:]
        return kind(*run(op, (input,), [(out, input._meta.dtype), (out, dt.int64)], dim=dim, **dict(params)))

    def call(input, dim, keepdim, **params):
        d = normalize_dim(op.name, dim, input.dim())
        if not input.dim():
            return _alone(kind, input)
        if not input.shape[d]:
            raise IndexError(f"{op.name}(): Expected reduction dim {dim} to have non-zero size.")
        values, places = search(input, d, tuple(params.items()))
        return kind(values, places) if keepdim else kind(values.squeeze(d), places.squeeze(d))
    return call


_kthvalue, _median, _nanmedian, _mode = (
    _ranked(*x) for x in ((KTH, kthvalue_t), (MEDIAN, median_t), (NANMEDIAN, nanmedian_t), (MODE, mode_t))
)


@operator(title="Kthvalue", apart=0, samples=lambda t: [t(..., 5), 2])
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim=False):
    """(the k-th smallest value, its position) along `dim`, k from 1."""
    if input._meta.dtype.kind in "bc":
        raise NotImplementedError(f"kthvalue: expected numbers in an order; received {input.dtype}. Convert them first: input.int()")
    n = input.shape[normalize_dim("kthvalue", dim, input.dim())] if input.dim() else 1
    if not 1 <= k <= n:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {dim}: expected k in [1, {n}]; received {k}")
    return _kthvalue(input, dim, keepdim, k=int(k))


def _among_equals(g, input, result):
    """The cotangent shared by all elements equal to the result."""
    chosen = (input == result) | (isnan(input) & isnan(result))
    return pw.where(chosen, g / chosen.sum(), 0.0)


def _of_all(name, search):
    @operator(
        name=f"{name}_of_all",
        title=name.capitalize(),
        public=False,
        grad=dict(input=lambda g, input, result: _among_equals(g, input, result)),
    )
    def middle(input: Tensor):
        if not input.numel():
            return core.full((), float("nan"), input._meta.dtype)
        return search(input.reshape(-1), 0, False)[0]
    return middle


median_of_all, nanmedian_of_all = _of_all("median", _median), _of_all("nanmedian", _nanmedian)


@operator(title=lambda input, dim=None, keepdim=False: f"MedianBackward{int(dim is not None)}",
          samples=(lambda t: [t(3, 4)], lambda t: [t(..., 5), -1]))
def median(input: Tensor, dim: int | None = None, keepdim=False):
    """The lower median of all elements; with `dim`, (values, positions) along it. NaN if there is one."""
    return median_of_all(input) if dim is None else _median(input, dim, keepdim)


@operator(title=lambda input, dim=None, keepdim=False: f"NanmedianBackward{int(dim is not None)}",
          samples=(lambda t: [t(3, 4)], lambda t: [t(..., 5), -1]))
def nanmedian(input: Tensor, dim: int | None = None, keepdim=False):
    """`median` of the elements that are not NaN."""
    return nanmedian_of_all(input) if dim is None else _nanmedian(input, dim, keepdim)


@operator(title="Mode", samples=lambda t: [t(..., 5)])
def mode(input: Tensor, dim: int = -1, keepdim=False):
    """(the most frequent value, a position of it) along `dim`; of several the smallest."""
    return _mode(input, dim, keepdim)


# -- distinct elements ------------------------------------------------------------------------------------------

def _answers(values, inverse, counts, dtype, return_inverse, return_counts):
    out = [core.from_numpy(np.ascontiguousarray(values)).to(dtype)]
    out += [
        core.from_numpy(np.asarray(x, np.int64, order="C")) for x, wanted in ((inverse, return_inverse), (counts, return_counts)) if wanted
    ]
    return out[0] if len(out) == 1 else tuple(out)


@operator(out=False, samples=lambda t: [t.integers(..., below=5), True, True, True])
def unique(input: Tensor, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct elements (or slices along `dim`) in order, on request with the inverse and the counts."""
    x = core.host(input.detach())
    axis = None if dim is None else normalize_dim("unique", dim, input.dim())
    if axis is None and x.dtype.kind in "iu" and x.size and int(x.max()) - int(x.min()) < 2 * x.size:
        values, inverse, counts = _counted(x, return_inverse)
    else:
        found = np.unique(x, return_inverse=return_inverse, return_counts=return_counts, axis=axis, equal_nan=False)
        values, *rest = found if isinstance(found, tuple) else (found,)
        inverse = rest[0].reshape(tuple(input.shape) if dim is None else (-1,)) if return_inverse else None
        counts = rest[-1] if return_counts else None
    return _answers(values, inverse, counts, input.dtype, return_inverse, return_counts)


def _counted(x, inverse: bool) -> tuple:
    """(the distinct ones, the place of each element among them, how often they come) of whole numbers that are not far apart."""
    low = x.min()
    places = np.subtract(x, low, dtype=np.uint64 if x.dtype.kind == "u" else np.int64).astype(np.int64, copy=False).reshape(-1)
    counts = np.bincount(places)
    values = np.flatnonzero(counts)
    return values.astype(x.dtype) + low, (np.cumsum(counts > 0) - 1)[places].reshape(x.shape) if inverse else None, counts[values]


@operator(out=False, samples=lambda t: [t.integers(..., below=2), True, True])
def unique_consecutive(input: Tensor, return_inverse=False, return_counts=False, dim=None):
    """Runs of equal neighbours (or equal neighbouring slices along `dim`) reduced to one, on request with the inverse and the lengths."""
    x = core.host(input.detach())
    axis = 0 if dim is None else normalize_dim("unique_consecutive", dim, input.dim())
    rows = x.reshape(-1) if dim is None else np.moveaxis(x, axis, 0)
    changed = np.ones(len(rows), bool)
    changed[1:] = (rows[1:] != rows[:-1]).reshape(len(rows) - 1, -1).any(1) if len(rows) > 1 else changed[1:]
    starts = np.flatnonzero(changed)
    inverse = np.cumsum(changed) - 1
    counts = np.diff(np.append(starts, len(rows)))
    return _answers(
        np.moveaxis(rows[starts], 0, axis) if dim is not None else rows[starts],
        inverse.reshape(x.shape) if dim is None else inverse,
        counts,
        input.dtype,
        return_inverse,
        return_counts,
    )


# -- places -----------------------------------------------------------------------------------------------------

def _search_host(sequence, values, side):
    if sequence.ndim == 1:
        return (np.searchsorted(sequence, values, side),)
    out = np.empty(values.shape, np.int64)
    for at in np.ndindex(sequence.shape[:-1]):
        out[at] = np.searchsorted(sequence[at], values[at], side)
    return (out,)


def _isin_host(elements, tests, invert):
    return (np.isin(elements, tests, invert=invert),)


SEARCH, ISIN = host_op("searchsorted", _search_host), host_op("isin", _isin_host)


@operator(out="exact", method=False, samples=lambda t: [t(4).sort()[0], t(...)])
def searchsorted(sorted_sequence: Tensor, input, *, right=False, side=None, out_int32=False, sorter=None) -> Tensor:
    """Where values would be inserted into a sorted vector (or sorted last dimension): before equal elements, with `right` after them."""
    check_tensor("searchsorted", "sorted_sequence", sorted_sequence)
    values = input
    if not isinstance(input, core.Tensor):
        values = core.tensor(check_number("searchsorted", "input", input, 2), dtype=sorted_sequence.dtype)
    _check_search(sorted_sequence, values, right, side, sorter)
    if sorter is not None:
        sorted_sequence = sorted_sequence.gather(-1, sorter)
    side = "right" if right or side == "right" else "left"
    d = dt.int32 if out_int32 else dt.int64
    return run(SEARCH, (sorted_sequence, values), [(values.shape, d)], side=side)[0]


def _check_search(sorted_sequence, values, right, side, sorter) -> None:
    """The arguments of searchsorted."""
    if side not in (None, "left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True")
    if values.dtype is not sorted_sequence.dtype:
        raise RuntimeError(
            f"torch.searchsorted(): boundary tensor and input value tensor should have same dtype, but got boundary tensor dtype "
            f"{sorted_sequence.dtype} and input value tensor dtype {values.dtype}"
        )
    if sorted_sequence.dim() != 1 and tuple(sorted_sequence.shape[:-1]) != tuple(values.shape[:-1]):
        raise RuntimeError(
            f"torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and "
            f"input value tensor must match, but we got boundaries tensor {list(sorted_sequence.shape)} and input value tensor "
            f"{list(values.shape)}"
        )
    if sorter is not None and (sorter.shape != sorted_sequence.shape or sorter.dtype is not dt.int64):
        raise RuntimeError(
            f"torch.searchsorted(): expected sorter to be an int64 tensor of the sequence's shape {list(sorted_sequence.shape)}; "
            f"received {sorter.dtype} of shape {list(sorter.shape)}"
        )


@operator(method=False, out="exact", samples=lambda t: [t(...), t(4).sort()[0]])
def bucketize(input, boundaries: Tensor, *, out_int32=False, right=False) -> Tensor:
    """The interval between sorted boundaries that every value lies in; with `right`, a value equal to a boundary is in the next."""
    if not isinstance(input, core.Tensor):
        check_number("bucketize", "input", input, 1)
    if boundaries.dim() != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.dim()})")
    return searchsorted(boundaries, input, right=right, out_int32=out_int32)


@operator(method=False, samples=lambda t: [t.integers(...), t.integers(3)])
def isin(elements: Tensor, test_elements: Tensor, *, assume_unique=False, invert=False) -> Tensor:
    """Which elements are among the test elements."""
    if not isinstance(elements, core.Tensor) and not isinstance(test_elements, core.Tensor):
        raise TypeError("isin(): expected a Tensor among elements and test_elements; received two numbers")
    d = result_dtype((elements, test_elements))
    for x in (elements, test_elements):
        if isinstance(x, core.Tensor) and x._meta.dtype.kind in "bc":
            raise RuntimeError(f"Unsupported input type encountered for isin(): {x.dtype}. Convert it first: x.int()")
    a, b = (x.to(d) if isinstance(x, core.Tensor) else core.tensor(x, dtype=d) for x in (elements, test_elements))
    return run(ISIN, (a, b), [(a.shape, dt.bool_)], invert=bool(invert))[0]


def _nonzero(input) -> list[np.ndarray]:
    """The places of the nonzero elements along each dimension. NumPy finds those of one dimension ten times as fast as of several."""
    x = core.host(input.detach())
    found: list[np.ndarray] = []
    rest = np.flatnonzero(x)
    for n in reversed(x.shape[1:]):
        rest, place = np.divmod(rest, n) if len(rest) else (rest, rest)
        found.append(place)
    return [rest, *reversed(found)]


def _nonzero_rows(input) -> np.ndarray:
    """The places of the nonzero elements, (count, rank)."""
    return np.stack(_nonzero(input), 1) if input.dim() else np.empty((int(bool(input)), 0), np.int64)


@operator(out="exact", samples=lambda t: [t.flags(...)])
def nonzero(input: Tensor, *, as_tuple=False):
    """The places of the nonzero elements, (count, rank), or one vector for each dimension."""
    return tuple(map(core.from_numpy, _nonzero(input))) if as_tuple else core.from_numpy(_nonzero_rows(input))


@operator(samples=lambda t: [t.flags(...)])
def argwhere(input: Tensor) -> Tensor:
    """The places of the nonzero elements, (count, rank)."""
    return nonzero(input)


@operator(samples=lambda t: [t.flags(3, 4), dict(size=8)])
def nonzero_static(input: Tensor, *, size, fill_value=-1) -> Tensor:
    """The places of the first `size` nonzero elements, (size, rank), `fill_value` where there are fewer."""
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer; received {size}")
    places = _nonzero_rows(input)[:size]
    rest = np.full((size - len(places), places.shape[1]), fill_value, np.int64)
    return core.from_numpy(np.concatenate([places, rest]))
