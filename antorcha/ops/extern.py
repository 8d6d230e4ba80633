"""Operators whose work a well-kept library does: sorting, selecting, linear algebra, by NumPy on the host."""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from ..graph import tape
from ..graph.node import Node, Static, dense
from .record import Record, core, meta, normalize_dim, operator
from .reduction import kthvalue_t, median_t, sort_t, topk_t

Tensor = "Tensor"
OUTPUT = Record("output", "output")


def host_op(name: str, host) -> Record:
    return Record(name, "extern", host=host)


def run(op: Record, inputs, outputs, **params):
    """Record a call of `op.host(*arrays, **params)`; `outputs` lists (shape, dtype) of what it returns."""
    node = Node(op, tuple(x.storage.node for x in inputs), tuple(x.meta.view for x in inputs), Static(params=tuple(params.items())),
                (), 0, dt.float32)
    tape.record(node)
    out = []
    for i, (shape, d) in enumerate(outputs):
        whole = dense(tuple(shape))
        part = Node(OUTPUT, (node,), (None,), Static(position=i), whole.shape, whole.numel, d)
        tape.record(part)
        out.append(core.wrap(part, meta(whole, d, "cpu")))
    tape.settle()
    return tuple(out)


def _order(x, axis, descending):
    """A stable order, NaN last (first when descending)."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    flipped = np.flip(x, axis)
    order = np.argsort(flipped, axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(order, axis)


def _sort_host(x, dim, descending):
    order = _order(x, dim, descending)
    return np.take_along_axis(x, order, dim), order


def _topk_host(x, k, dim, largest):
    n = x.shape[dim]
    if k < n // 8 and x.dtype.kind != "f" or (k < n // 8 and not np.isnan(x).any()):
        key = -x if largest and x.dtype.kind == "f" else x
        part = np.argpartition(key, k - 1 if key is not x or not largest else n - k, axis=dim) if k else np.argsort(x, axis=dim)
        side = slice(0, k) if key is not x or not largest else slice(n - k, n)
        part = np.sort(np.take(part, np.arange(*side.indices(n)), axis=dim), axis=dim)
        values = np.take_along_axis(x, part, dim)
        order = np.take_along_axis(part, _order(values, dim, largest), dim)
    else:
        order = np.take(_order(x, dim, largest), np.arange(k), axis=dim)
    return np.take_along_axis(x, order, dim), order


SORT, TOPK = host_op("sort", _sort_host), host_op("topk", _topk_host)


def _scatter_back(g, dim, input_shape, result):
    """The cotangent of values[i] to the position it came from."""
    if not input_shape:
        return g[0]
    return core.zeros(meta(dense(input_shape), g[0].meta.dtype, g[0].meta.device)).scatter_add(dim, result[1], g[0])


@operator(name="sort", public=False, grad=dict(input=lambda g, dim, input_shape, result: _scatter_back(g, dim, input_shape, result)))
def sort_(input: Tensor, dim, descending):
    shape = input.meta.view.shape
    return sort_t(*run(SORT, (input,), [(shape, input.meta.dtype), (shape, dt.int64)], dim=dim, descending=descending))


@operator(out=False)
def sort(input: Tensor, dim=-1, descending=False, stable=False):
    """(sorted values, their positions) along `dim`; equal elements keep their order."""
    if not input.dim():
        return sort_t(input.clone(), core.zeros(meta(dense(()), dt.int64, "cpu")))
    return sort_(input, normalize_dim("sort", dim, input.dim()), bool(descending))


@operator(out=False)
def argsort(input: Tensor, dim=-1, descending=False, stable=False) -> Tensor:
    """The positions that sort along `dim`."""
    return sort(input, dim, descending)[1]


@operator(name="topk", public=False, grad=dict(input=lambda g, dim, input_shape, result: _scatter_back(g, dim, input_shape, result)))
def topk_(input: Tensor, k, dim, largest):
    shape = input.meta.view.shape
    out = shape[:dim] + (k,) + shape[dim + 1:]
    return topk_t(*run(TOPK, (input,), [(out, input.meta.dtype), (out, dt.int64)], k=k, dim=dim, largest=largest))


@operator(out=False)
def topk(input: Tensor, k, dim=-1, largest=True, sorted=True):
    """(the k largest (or smallest) values, their positions) along `dim`, in order."""
    if not input.dim():
        return topk_t(input.clone(), core.zeros(meta(dense(()), dt.int64, "cpu")))
    d = normalize_dim("topk", dim, input.dim())
    k = int(k)
    if not 0 <= k <= input.shape[d]:
        raise RuntimeError(f"selected index k out of range: expected k in [0, {input.shape[d]}]; received {k}")
    return topk_(input, k, d, bool(largest))


@operator(out=False)
def kthvalue(input: Tensor, k, dim=-1, keepdim=False):
    """(the k-th smallest value, its position) along `dim`, k from 1."""
    values, order = sort(input, dim)
    values, order = values.narrow(dim, k - 1, 1), order.narrow(dim, k - 1, 1)
    return kthvalue_t(values, order) if keepdim else kthvalue_t(values.squeeze(dim), order.squeeze(dim))


def median(input, dim=None, keepdim=False):
    """The lower median of all elements; with `dim`, (values, indices) along it."""
    if dim is None:
        return sort(input.reshape(-1), 0)[0][(input.numel() - 1) // 2]
    n = input.shape[dim]
    return median_t(*kthvalue(input, (n - 1) // 2 + 1, dim, keepdim))


def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """The q-th quantile (0 to 1) by linear interpolation between the nearest values."""
    if dim is None:
        input, dim = input.reshape(-1), 0
    q = q if isinstance(q, core.Tensor) else core.tensor(float(q), dtype=input.dtype)
    ordered = sort(input, dim)[0].movedim(dim, 0)
    place = q.reshape(-1) * (input.shape[dim] - 1)
    low = place.floor().long()
    high = place.ceil().long()
    a, b = ordered.index_select(0, low), ordered.index_select(0, high)
    w = (place - low).reshape((-1,) + (1,) * (a.dim() - 1))
    out = a + (b - a) * w
    if keepdim:
        out = out.unsqueeze(dim + 1)
    return out if q.dim() else out.squeeze(0)


def bincount(input, weights=None, minlength=0):
    """How often each non-negative integer occurs."""
    x = input.numpy()
    return core.from_numpy(np.bincount(x, None if weights is None else weights.numpy(), minlength))


def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct elements in order, on request with the inverse and the counts."""
    values, inverse, counts = np.unique(input.detach().cpu().numpy(), return_inverse=True, return_counts=True, axis=dim)
    out = [core.from_numpy(values.copy())]
    if return_inverse:
        out.append(core.from_numpy(inverse.reshape(input.shape if dim is None else -1).astype(np.int64)))
    if return_counts:
        out.append(core.from_numpy(counts.astype(np.int64)))
    return out[0] if len(out) == 1 else tuple(out)


def nonzero(input, *, as_tuple=False):
    """The places of the nonzero elements, (count, rank), or one vector for each dimension."""
    places = np.nonzero(core.host(input)) if input.dim() else (np.nonzero(core.host(input).reshape(1))[0][:, None],)
    if as_tuple:
        return tuple(core.from_numpy(np.ascontiguousarray(p)) for p in (places if input.dim() else [places[0].reshape(-1)]))
    if not input.dim():
        return core.from_numpy(np.zeros((len(places[0]), 0), np.int64))
    return core.from_numpy(np.ascontiguousarray(np.stack(places, 1)))


argwhere = nonzero


def searchsorted(sorted_sequence, input, *, right=False, side=None, out_int32=False):
    """Where the values would be inserted into a sorted vector."""
    kind = "right" if right or side == "right" else "left"
    values = core.host(input) if isinstance(input, core.Tensor) else input
    return core.from_numpy(np.asarray(np.searchsorted(core.host(sorted_sequence), values, kind), dtype=np.int64))


QR = host_op("linalg_qr", lambda a: tuple(np.linalg.qr(a)))
INV = host_op("linalg_inv", lambda a: (np.linalg.inv(a),))


def qr(a):
    """(Q, R) with orthonormal columns in Q and R upper triangular."""
    m, n = a.shape[-2:]
    k = min(m, n)
    lead = tuple(a.shape[:-2])
    return run(QR, (a,), [(lead + (m, k), a.dtype), (lead + (k, n), a.dtype)])


FUNCTIONS = [median, quantile, bincount, unique, nonzero, argwhere, searchsorted]
