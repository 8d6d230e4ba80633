"""Running sums, products and extremes along a dimension."""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from ..graph.node import Static, dense, form, row_major
from ..graph.node import view as make_view
from . import pointwise as pw
from .casts import FULL_ON_GPU
from .extern import host_op, run
from .numeric import largest
from .record import Record, core, meta, normalize_dim, operator, widened
from .reduction import cummax_t, cummin_t, sum_dtype

Tensor = "Tensor"
_SCANS = {name: Record(f"scan_{name}", "scan", combine=name) for name in ("sum", "prod", "max", "min", "argmax", "argmin", "logsumexp")}
COMPLEX = {"sum": host_op("cumsum", lambda x, dim: (np.cumsum(x, dim),)), "prod": host_op("cumprod", lambda x, dim: (np.cumprod(x, dim),))}


def scan(name: str, input, dim: int, accumulate: dt.dtype, out: dt.dtype):
    """Record one scan of `input` along `dim`."""
    v = input._meta.view
    if not v.shape:
        normalize_dim(name, dim, 0)
        return input.to(out, copy=True) if name[:3] != "arg" else core.zeros(meta(v, dt.int64, input._meta.device))
    d = normalize_dim(name, dim, len(v.shape))
    if out.kind == "c" and name in COMPLEX:
        return run(COMPLEX[name], (input.to(out),), [(v.shape, out)], dim=d)[0]
    if input._meta.dtype.kind == "c":
        raise NotImplementedError(f"cum{name}: expected real numbers, which have an order; received {input._meta.dtype}")
    order = [i for i in range(len(v.shape)) if i != d] + [d]
    shape = tuple(v.shape[i] for i in order)
    source = make_view(shape, tuple(v.strides[i] for i in order), v.offset)
    strides = [0] * len(order)
    for i, s in zip(order, row_major(shape)):
        strides[i] = s
    out_meta = meta(make_view(v.shape, tuple(strides)), out, input._meta.device)
    return core.record(
        form(_SCANS[name], (source,), Static(casts=(accumulate.compute,)), shape, v.numel, out), (input.storage.node,), out_meta
    ).contiguous()


def _from_the_end(g, dim):
    return g.flip(dim).cumsum(dim).flip(dim) if g.dim() else g


@operator(autocast=FULL_ON_GPU, grad=dict(input=lambda g, dim: _from_the_end(g, dim)), inplace=True, samples=lambda t: [t(..., 4), -1])
def cumsum(input: Tensor, dim: int, *, dtype=None) -> Tensor:
    """The running sum along `dim`."""
    d = sum_dtype(input, dtype)
    return scan("sum", input, dim, d, d)


def _cumprod_grad(g, input, dim, result):
    """Before the first zero of a row, sums of later products over the element; at it, with it left out; after it nothing."""
    if not input.dim():
        return g
    zeros = (input == 0).cumsum(dim)
    first = (input == 0) & (zeros == 1)
    rest = pw.where(first, 1, input).cumprod(dim)
    return pw.where(zeros == 0, _from_the_end(g * result, dim) / pw.where(input == 0, 1, input),
                    pw.where(first, _from_the_end(g * rest, dim), 0.0))


@operator(autocast=FULL_ON_GPU, grad=dict(input=lambda g, input, dim, result: _cumprod_grad(g, input, dim, result)), inplace=True,
          samples=lambda t: [t(..., 4), -1])
def cumprod(input: Tensor, dim: int, *, dtype=None) -> Tensor:
    """The running product along `dim`."""
    d = sum_dtype(input, dtype)
    return scan("prod", input, dim, d, d)


def _extreme_grad(g, dim, input_shape, places):
    if not input_shape:
        return g[0]
    return core.zeros(meta(dense(input_shape), g[0].dtype.compute, g[0]._meta.device)).scatter_add(dim, places, widened(g[0]))


@operator(grad=dict(input=lambda g, dim, input_shape, result_1: _extreme_grad(g, dim, input_shape, result_1)),
          samples=lambda t: [t(..., 4), -1])
def cummax(input: Tensor, dim: int):
    """(running maximum, its position) along `dim`."""
    d = input._meta.dtype
    return cummax_t(scan("max", input, dim, d, d), scan("argmax", input, dim, d, dt.int64))


@operator(grad=dict(input=lambda g, dim, input_shape, result_1: _extreme_grad(g, dim, input_shape, result_1)),
          samples=lambda t: [t(..., 4), -1])
def cummin(input: Tensor, dim: int):
    """(running minimum, its position) along `dim`."""
    d = input._meta.dtype
    return cummin_t(scan("min", input, dim, d, d), scan("argmin", input, dim, d, dt.int64))


def _log_sums_host(x, dim):
    """Of complex numbers, one after the other, so that the imaginary part goes on from the larger term's."""
    rows = np.moveaxis(x, dim, 0)
    out = rows.copy()
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for i in range(1, len(rows)):
            first = out[i - 1].real >= rows[i].real
            top, low = np.where(first, out[i - 1], rows[i]), np.where(first, rows[i], out[i - 1])
            out[i] = top + np.log1p(np.exp(low - top))
    return (np.moveaxis(out, 0, dim),)


LOG_SUMS = host_op("logcumsumexp", _log_sums_host)


def _log_sums_grad(g, input, dim):
    """The sum over later positions of g exp(input - result), in logarithms: of the positive and the negative part of g. In double
    precision, for the difference of large numbers is to be precise."""
    if not g.dim():
        return g
    wide = dt.complex128 if g._meta.dtype.kind == "c" else dt.float64
    g, input = g.to(wide), input.to(wide)
    result, lowest = input.logcumsumexp(dim), -largest(dt.float64)

    def part(g, there):
        logs = pw.where(there, pw.where(there, g, 1.0).log(), lowest) - result
        return (logs.flip(dim).logcumsumexp(dim).flip(dim) + input).exp()
    return part(g, g != 0) if g._meta.dtype.kind == "c" else part(g, g > 0) - part(-g, g < 0)


@operator(grad=dict(input=lambda g, input, dim: _log_sums_grad(g, input, dim)), samples=lambda t: [t(..., 4), -1])
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """The running logsumexp along `dim`."""
    d = input._meta.dtype
    if d.kind not in "fc":
        raise NotImplementedError(f"logcumsumexp: expected a floating point or complex input; received {d}. "
                                  "Convert it first: input.float()")
    if d.kind == "c" and input.dim():
        return run(LOG_SUMS, (input,), [(input.shape, d)], dim=normalize_dim("logcumsumexp", dim, input.dim()))[0]
    return scan("logsumexp", input, dim, d, d)
