"""Reductions, and what is composed of them."""

from __future__ import annotations

import builtins
import math

import numpy as np

from ..base import dtype as dt
from ..graph.node import Static, dense, form
from ..graph.node import view as make_view
from . import pointwise as pw
from .casts import FULL_ON_GPU
from .extern import host_op, run
from .index import fold
from .layout import told
from .parts import complex_, imag_, real_
from .recall import warn
from .record import Record, check_tensor, computable, core, meta, normalize_dim, normalize_dims, operator, rounded, widened
from .results import named
from .strides import in_order

Tensor = "Tensor"
LONG, BESIDE = 64, 16       # elements of a row, which shorter are compared side by side (loops.lower), and rows that fill a vector
_OPS = {name: Record(name, "reduction", combine=name) for name in ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin")}
PROD = host_op("prod", lambda x, dim, keepdim: (np.prod(x, axis=dim, keepdims=keepdim),))
_plans: dict = {}


def reduce(name: str, input, dim, keepdim: bool, accumulate: dt.dtype, out: dt.dtype):
    """Record one reduction of `input` over `dim` (None: all)."""
    m = input._meta
    if m.dtype.kind == "c" or out.kind == "c":
        return _complex_reduce(name, input, dim, keepdim, accumulate, out)
    dim = dim if type(dim) is not list else tuple(dim)
    key = (name, m, dim, told(dim), keepdim, accumulate, out)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) > 20_000:
            _plans.clear()
        plan = _plans[key] = _plan(name, m, dim, keepdim, accumulate, out)
    return core.record(plan[0], (input.storage.node,), plan[1])


def _complex_reduce(name: str, input, dim, keepdim: bool, accumulate: dt.dtype, out: dt.dtype):
    """A reduction of complex numbers, by their parts."""
    if name in ("any", "all"):
        return reduce(name, input != 0, dim, keepdim, accumulate, out)
    if name == "prod":
        shape = _plan(name, input._meta, dim, keepdim, accumulate, out)[1].view.shape
        return run(PROD, (input.to(out),), [(shape, out)], dim=normalize_dims(name, dim, input.dim()), keepdim=keepdim)[0]
    if name != "sum":
        raise NotImplementedError(f'"{name}" not implemented for complex tensors: reduce the real and imaginary parts, or the magnitudes.')
    real = out.to_real()
    return complex_(*[reduce(name, part(input), dim, keepdim, real, real) for part in (real_, imag_)])


def _plan(name, m, dim, keepdim, accumulate, out):
    computable(name, m.dtype)
    v = m.view
    rank = len(v.shape)
    dims = normalize_dims(name, dim, rank)
    kept = [i for i in range(rank) if i not in dims]
    reduced = list(dims)
    shape = tuple(v.shape[i] for i in kept)
    source = make_view(tuple(v.shape[i] for i in kept + reduced), tuple(v.strides[i] for i in kept + reduced), v.offset)
    if not reduced:
        source = make_view(shape + (1,), source.strides + (0,), v.offset)
    static = Static(casts=(accumulate.compute,), reduced=len(reduced) or 1)
    result = tuple(1 if i in dims else n for i, n in enumerate(v.shape)) if keepdim else shape
    out_view = dense(result)
    return form(_OPS[name], (source,), static, shape, out_view.numel, out), meta(out_view, out, m.device)


def _restore(x, dim, keepdim: bool, rank: int):
    """A reduced tensor with its lost dimensions back as 1, so that it broadcasts against the input."""
    if keepdim or not rank:
        return x
    for d in sorted(normalize_dims("reduction", dim, rank)):
        x = x.unsqueeze(d)
    return x


def _back(g, dim, keepdim, shape):
    return _restore(g, dim, keepdim, len(shape)).expand(shape)


def sum_dtype(input, dtype):
    d = input._meta.dtype
    return dt.asked("sum", dtype, d if d.kind in "fc" else dt.int64)


@operator(autocast=FULL_ON_GPU, bare=True, title=lambda dim: f"SumBackward{int(dim is not None)}",
          grad=dict(input=lambda g, dim, keepdim, input_shape: _back(g, dim, keepdim, input_shape)),
          samples=(lambda t: [t(...)], lambda t: [t(..., 4), -1, True]))
def sum(input: Tensor, dim=None, keepdim=False, *, dtype=None) -> Tensor:
    """The sum over `dim` (an int, several, or None for all)."""
    d = sum_dtype(input, dtype)
    return reduce("sum", input, dim, keepdim, d, d)


HASH = host_op("hash_tensor", lambda x, dim, keepdim: (np.bitwise_xor.reduce(x.view(np.uint64), axis=dim, keepdims=keepdim),))


@operator()
def hash_tensor(input: Tensor, dim=(), keepdim=False, *, mode=0) -> Tensor:
    """The exclusive or, over `dim` (all), of the bits of the elements as int64 or float64: a check sum, of dtype uint64."""
    if mode != 0:
        raise RuntimeError(f"hash_tensor: expected mode 0, the exclusive or; received {mode}")
    kind = input._meta.dtype.kind
    if kind == "c":
        raise NotImplementedError("\"hash_tensor\" not implemented for complex tensors: hash view_as_real(input).")
    _nonempty("hash_tensor", input, dim)
    dims = normalize_dims("hash_tensor", dim, input.dim())
    bits = input.detach().to(dt.float64 if kind == "f" else dt.int64)
    shape = _plan("sum", input._meta, dim, keepdim, input._meta.dtype, input._meta.dtype)[1].view.shape
    return run(HASH, (bits,), [(shape, dt.uint64)], dim=dims, keepdim=bool(keepdim))[0]


def _count(shape, dim) -> int:
    n = 1
    for d in normalize_dims("mean", dim, len(shape)):
        n *= shape[d]
    return n


@operator(title=lambda dim: f"MeanBackward{int(dim is not None)}",
          grad=dict(input=lambda g, dim, keepdim, input_shape: _back(g / _count(input_shape, dim), dim, keepdim, input_shape)),
          samples=(lambda t: [t(...)], lambda t: [t(..., 4), -1, True]))
def mean(input: Tensor, dim=None, keepdim=False, *, dtype=None) -> Tensor:
    """The mean over `dim`; of a floating point tensor."""
    d = dt.asked("mean", dtype, input._meta.dtype)
    if d.kind not in "fc":
        raise RuntimeError(f"mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: {d}. "
                           "Convert it first: input.float().mean()")
    n = _count(input._meta.view.shape, dim)
    total = reduce("sum", input, dim, keepdim, d, d.compute)
    return rounded(total / n if n else total * math.nan, d)


def _prod_grad(g, input, dim, keepdim, result):
    """The product over the element; where an element of the input is 0, the product of the others."""
    if not input.dim():
        return g
    x, d = (input.reshape(-1), 0) if dim is None else (input, dim)
    g, result = (t.reshape(1) if dim is None else _restore(t, dim, keepdim, input.dim()) for t in (g, result))
    zero = x == 0
    return (g * pw.where(zero.any(), _others(x, d), result / pw.where(zero, 1.0, x))).reshape(input.shape)


def _others(x, dim: int):
    """For each element the product of all others along `dim`: of those before it and of those after it."""
    def before(x):
        one = core.full((*x.shape[:dim], 1, *x.shape[dim + 1:]), 1, x._meta.dtype, x._meta.device)
        return core.cat([one, x.narrow(dim, 0, x.shape[dim] - 1)], dim).cumprod(dim)
    dim %= x.dim()
    return before(x) * before(x.flip(dim)).flip(dim)


@operator(autocast="full", bare=True, title=lambda dim: f"ProdBackward{int(dim is not None)}",
          grad=dict(input=lambda g, input, dim, keepdim, result: _prod_grad(g, input, dim, keepdim, result)),
          samples=(lambda t: [t(3, 2)], lambda t: [t(..., 4), -1, True]))
def prod(input: Tensor, dim=None, keepdim=False, *, dtype=None) -> Tensor:
    """The product over `dim`; of 16-bit floats each product is rounded, as PyTorch's are."""
    d = sum_dtype(input, dtype)
    if d.compute is not d:
        dims = normalize_dims("prod", dim, input.dim())
        product = fold(core.cast(input, d) if input._meta.dtype is not d else input, dims, "prod")
        return product if keepdim else product.squeeze(dims)
    return reduce("prod", input, dim, keepdim, d, d)


def _nonempty(name, input, dim):
    shape = input._meta.view.shape
    if input._meta.view.numel == 0 and builtins.any(shape[d] == 0 for d in normalize_dims(name, dim, len(shape))):
        dim = None if dim == () else dim
        hint = (
            f"Expected reduction dim {dim} to have non-zero size."
            if dim is not None
            else "Specify the reduction dim with the 'dim' argument."
        )
        raise (IndexError if dim is not None or name in ("argmax", "argmin") else RuntimeError)(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. {hint}"
        )


def _extreme_grad(g, input, dim, keepdim, result):
    """The cotangent shared equally by all elements that attain the extreme."""
    top = input == _restore(result, dim, keepdim, input.dim())
    count = top.sum(dim, True) if dim is not None and dim != () else top.sum()
    return pw.where(top, _restore(g, dim, keepdim, input.dim()) / count, 0.0)


@operator(bare=True, grad=dict(input=lambda g, input, dim, keepdim, result: _extreme_grad(g, input, dim, keepdim, result)),
          samples=lambda t: [t(..., 4), -1])
def amax(input: Tensor, dim=(), keepdim=False) -> Tensor:
    """The largest element over `dim`; NaN where there is one."""
    _nonempty("amax", input, dim)
    return reduce("max", input, dim, keepdim, input._meta.dtype, input._meta.dtype)


@operator(bare=True, grad=dict(input=lambda g, input, dim, keepdim, result: _extreme_grad(g, input, dim, keepdim, result)),
          samples=lambda t: [t(..., 4), -1])
def amin(input: Tensor, dim=(), keepdim=False) -> Tensor:
    """The smallest element over `dim`; NaN where there is one."""
    _nonempty("amin", input, dim)
    return reduce("min", input, dim, keepdim, input._meta.dtype, input._meta.dtype)


def _arg(name, input, dim, keepdim):
    _nonempty(name, input, dim)
    if input._meta.dtype is dt.bool_:
        input = input.to(dt.uint8)
    rank = input.dim()
    if dim is None:
        out = reduce(name, input.reshape(-1), 0, False, input._meta.dtype, dt.int64)
        return out.reshape((1,) * rank) if keepdim else out
    dim, v = normalize_dim(name, int(dim), rank), input._meta.view
    beside = math.prod([n for n, t in zip(v.shape, v.strides) if 0 < t < v.strides[dim]]) if rank else 1
    if beside >= BESIDE and v.shape[dim] > LONG and input._meta.device == "cpu":
        return _place_of_extreme(name, input, dim, keepdim)
    return reduce(name, input, dim, keepdim, input._meta.dtype, dt.int64)


def _place_of_extreme(name, input, dim: int, keepdim):
    """The first place along a dimension, across rows that lie side by side, where the extreme stands: two passes over vectors of these take
    less time than one along each."""
    d, n = input._meta.dtype, input.shape[dim]
    found = input == reduce(name[3:], input, dim, True, d, d)
    if d.kind == "f":
        found = found | (input != input)
    place = core.arange(0, n, 1).reshape((-1,) + (1,) * (input.dim() - 1 - dim))
    return reduce("min", pw.where(found, place, n), dim, keepdim, dt.int64, dt.int64)


def _check_ranked(name: str, input) -> None:
    if input._meta.dtype is dt.bool_:
        raise RuntimeError(f"{name}(): does not support bool input. Convert it first: input.int()")


@operator(samples=lambda t: [t(..., 4), -1, True])
def argmax(input: Tensor, dim: int | None = None, keepdim=False) -> Tensor:
    """The position of the largest element, along `dim` or in the flattened tensor."""
    _check_ranked("argmax", input)
    return _arg("argmax", input, dim, keepdim)


@operator(samples=lambda t: [t(..., 4), -1, True])
def argmin(input: Tensor, dim: int | None = None, keepdim=False) -> Tensor:
    """The position of the smallest element, along `dim` or in the flattened tensor."""
    _check_ranked("argmin", input)
    return _arg("argmin", input, dim, keepdim)


def along(values, dim: int, rank: int):
    """0, 1, 2 .. along dimension `dim` of a tensor of `rank` dimensions, of size `values`."""
    return core.arange(0, values, 1).reshape((-1,) + (1,) * (rank - 1 - dim % rank))


def _pick_grad(g, dim, keepdim, input_shape, picked):
    """The cotangent of `values` at the position that was picked, else 0."""
    g = g[0]
    rank = len(input_shape)
    if not rank:
        return g
    d = dim % rank
    place = along(input_shape[d], d, rank)
    return pw.where(place == _restore(picked, d, keepdim, rank), _restore(g, d, keepdim, rank), 0.0)


def _pair(name):
    return named(name, "values", "indices")


_max_t, _min_t, median_t, nanmedian_t, mode_t, kthvalue_t, cummax_t, cummin_t, sort_t, topk_t = (
    _pair(n) for n in ("max", "min", "median", "nanmedian", "mode", "kthvalue", "cummax", "cummin", "sort", "topk"))
histogram_t, histogramdd_t = named("histogram", "hist", "bin_edges"), named("histogramdd", "hist", "bin_edges")
aminmax_t = named("aminmax", "min", "max")
frexp_t = named("frexp", "mantissa", "exponent")


@operator(
    name="max", public=False, grad=dict(
        input=lambda g, dim, keepdim, input_shape, result_1: _pick_grad(g, dim, keepdim, input_shape, result_1))
)
def max_along(input: Tensor, dim, keepdim):
    d = input._meta.dtype
    _nonempty("max", input, dim)
    return _max_t(reduce("max", input, dim, keepdim, d, d), _arg("argmax", input, dim, keepdim))


@operator(
    name="min", public=False, grad=dict(
        input=lambda g, dim, keepdim, input_shape, result_1: _pick_grad(g, dim, keepdim, input_shape, result_1))
)
def min_along(input: Tensor, dim, keepdim):
    d = input._meta.dtype
    _nonempty("min", input, dim)
    return _min_t(reduce("min", input, dim, keepdim, d, d), _arg("argmin", input, dim, keepdim))


def _extreme(name, along_dim, all_, two):
    def function(input: Tensor, dim=None, keepdim=False, *, other=None):
        check_tensor(name, "input", input)
        dim = other if other is not None else dim
        if isinstance(dim, core.Tensor):
            return two(input, dim)
        if dim is None:
            return all_(input)
        return along_dim(input, normalize_dim(name, dim, len(input._meta.view.shape)), keepdim)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = (f"The {'largest' if name == 'max' else 'smallest'} element; with `dim`, (values, indices) along it; with a second "
                        "tensor, elementwise.")
    def title(input, dim=None, keepdim=False, *, other=None):
        tensor = isinstance(dim if other is None else other, core.Tensor)
        return name.capitalize() + ("imum" if tensor else f"Backward{int(dim is None)}")
    return operator(title=title, samples=(lambda t: [t(3, 4)], lambda t: [t(..., 4), -1], lambda t: [t(...), t(...)]))(function)


max = _extreme("max", max_along, amax, pw.maximum)
min = _extreme("min", min_along, amin, pw.minimum)


@operator(samples=(lambda t: [t.flags(...)], lambda t: [t.flags(..., 4), -1]))
def any(input: Tensor, dim=None, keepdim=False) -> Tensor:
    """Whether one element is true (nonzero)."""
    return reduce("any", input, dim, keepdim, dt.bool_, dt.uint8 if input._meta.dtype is dt.uint8 else dt.bool_)


@operator(samples=(lambda t: [t.flags(...)], lambda t: [t.flags(..., 4), -1]))
def all(input: Tensor, dim=None, keepdim=False) -> Tensor:
    """Whether all elements are true (nonzero)."""
    return reduce("all", input, dim, keepdim, dt.bool_, dt.uint8 if input._meta.dtype is dt.uint8 else dt.bool_)




def _correction(unbiased, correction):
    return 1 if correction is None and unbiased is None else int(bool(unbiased)) if correction is None else correction


def _variance_args(what, input, dim, unbiased, correction):
    """The dimensions and the correction of a variance; of a dtype that has one."""
    if input._meta.dtype.kind not in "fc":
        raise RuntimeError(f"{what}: expected a floating point or complex dtype; received {input._meta.dtype}. Convert it first: "
                           f"input.float().{what}(). ({'std and var' if what in ('std', 'var') else what} only support floating point and "
                           "complex dtypes)")
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    correction = _correction(unbiased, correction)
    shape = input._meta.view.shape
    if math.prod([shape[d] for d in normalize_dims(what, dim, len(shape))]) <= correction:
        warn(f"{what}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor (input numel "
             "divided by output numel).")
    return dim, correction


@operator(
    grad=dict(input=lambda g, input, dim, correction, keepdim: _var_grad(g, input, dim, correction, keepdim)), name="var", public=False
)
def var_(input: Tensor, dim, correction, keepdim):
    n = _count(input._meta.view.shape, dim)
    x = widened(input)
    total = _squares(x - x.mean(dim if dim is not None else tuple(range(x.dim())), True)).sum(dim, keepdim)
    return rounded(total / (n - correction if n > correction else 0), input._meta.dtype.to_real())


def _squares(x):
    """|x|**2 of every element."""
    return real_(x) * real_(x) + imag_(x) * imag_(x) if x._meta.dtype.kind == "c" else x * x


def _var_grad(g, input, dim, correction, keepdim):
    n = _count(input._meta.view.shape, dim)
    scale = 2.0 / (n - correction) if n > correction else math.inf
    return (scale * _restore(g, dim, keepdim, input.dim())) * (
        input - input.mean(dim if dim is not None else tuple(range(input.dim())), True)
    )


@operator(name="std", public=False, grad=dict(input=lambda g, input, dim, correction, keepdim, result: _var_grad(
    pw.where(result == 0, 0.0, g / (2 * result)), input, dim, correction, keepdim)))
def std_(input: Tensor, dim, correction, keepdim):
    return rounded(var_(widened(input), dim, correction, keepdim).sqrt(), input._meta.dtype.to_real())


@operator(out=True, samples=(lambda t: [t(3, 4)], lambda t: [t(..., 4), -1, dict(correction=0)]))
def var(input: Tensor, dim=None, unbiased: bool | None = None, keepdim=False, *, correction=None) -> Tensor:
    """The variance over `dim`, divided by n - correction (1 unless given)."""
    dim, correction = _variance_args("var", input, dim, unbiased, correction)
    return var_(input, dim, correction, keepdim)


@operator(out=True, samples=(lambda t: [t(3, 4)], lambda t: [t(..., 4), -1, dict(correction=0)]))
def std(input: Tensor, dim=None, unbiased: bool | None = None, keepdim=False, *, correction=None) -> Tensor:
    """The standard deviation over `dim`: the square root of `var`."""
    dim, correction = _variance_args("std", input, dim, unbiased, correction)
    return std_(input, dim, correction, keepdim)


@operator(title="VarMean", out=False, method=False, samples=(lambda t: [t(3, 4)], lambda t: [t(..., 4), -1, dict(correction=0)]))
def var_mean(input: Tensor, dim=None, unbiased: bool | None = None, keepdim=False, *, correction=None):
    """(variance, mean) over `dim`."""
    dim, correction = _variance_args("var_mean", input, dim, unbiased, correction)
    return var_(input, dim, correction, keepdim), input.mean(dim, keepdim)


@operator(title="StdMean", out=False, method=False, samples=(lambda t: [t(3, 4)], lambda t: [t(..., 4), -1, dict(correction=0)]))
def std_mean(input: Tensor, dim=None, unbiased: bool | None = None, keepdim=False, *, correction=None):
    """(standard deviation, mean) over `dim`."""
    dim, correction = _variance_args("std_mean", input, dim, unbiased, correction)
    return std_(input, dim, correction, keepdim), input.mean(dim, keepdim)


@operator(autocast=FULL_ON_GPU, grad=dict(input=lambda g, input, dim, keepdim, result:
                    _restore(g, dim, keepdim, input.dim()) * (input - _restore(result, dim, keepdim, input.dim())).exp()),
          samples=lambda t: [t(..., 4, low=-5, high=5), -1])
def logsumexp(input: Tensor, dim, keepdim=False) -> Tensor:
    """log(sum(exp(x))) over `dim`, without overflow."""
    if input._meta.dtype.kind not in "fc":
        input = input.to(dt.default())
    real = real_(input) if input._meta.dtype.kind == "c" else input
    top = reduce("max", real, dim, True, real._meta.dtype, real._meta.dtype) if input.numel() else real.sum(dim, True)
    top = pw.where(pw.abs(top) == math.inf, 0.0, top)
    total = (input - top).exp().sum(dim, True).log() + top
    return total if keepdim else total.sum(dim)


@operator(out=False, samples=lambda t: [t.integers(..., 4, below=3), -1])
def count_nonzero(input: Tensor, dim=None) -> Tensor:
    """How many elements are not zero."""
    return (input != 0).sum(dim)


@operator(title="Nansum", samples=(lambda t: [t(...)], lambda t: [t(..., 4), -1, True]))
def nansum(input: Tensor, dim=None, keepdim=False, *, dtype=None) -> Tensor:
    """The sum, NaN counted as 0."""
    if input._meta.dtype.kind == "c":
        raise RuntimeError("nansum does not support complex inputs")
    return pw.where(input.isnan(), 0, input).sum(dim, keepdim, dtype=dtype)


@operator(samples=(lambda t: [t(...)], lambda t: [t(..., 4), -1, True]))
def nanmean(input: Tensor, dim=None, keepdim=False, *, dtype=None) -> Tensor:
    """The mean of the elements that are not NaN."""
    if input._meta.dtype.kind not in "fc":
        raise RuntimeError(f"nanmean(): expected input to have floating point or complex dtype but got {input._meta.dtype}")
    return nansum(input, dim, keepdim, dtype=dtype) / (~input.isnan()).sum(dim, keepdim)


@operator(title="Aminmax", out="exact", samples=lambda t: [t(..., 4), dict(dim=-1)])
def aminmax(input: Tensor, *, dim=None, keepdim=False):
    """(smallest, largest)."""
    if dim is None and not input.numel():
        raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity.")
    over = () if dim is None else normalize_dim("aminmax", dim, input.dim())
    return aminmax_t(amin(input, over, keepdim), amax(input, over, keepdim))


# -- softmax ----------------------------------------------------------------------------------------------------

def _float_input(input, dtype):
    if dtype is not None:
        return input.to(dtype)
    if input._meta.dtype.kind != "f":
        raise NotImplementedError(
            f"\"softmax_lastdim_kernel_impl\" not implemented for '{input._meta.dtype.name}': expected a floating point "
            "tensor. Convert it first: input.float()"
        )
    return input


@operator(name="softmax", public=False, wide="derivative",
          grad=dict(input=lambda g, dim, result: result * (g - (g * result).sum(dim, True))))
def softmax_(input: Tensor, dim):
    d, x = input._meta.dtype, widened(input)
    e = (x - reduce("max", x, dim, True, x._meta.dtype, x._meta.dtype)).exp()
    scale = e.sum(dim, True).reciprocal()      # one division for each row
    # Along other dimensions than the last PyTorch keeps the numerators in the input's dtype.
    return in_order(rounded((e if dim == input.dim() - 1 else widened(rounded(e, d))) * scale, d))


@operator(name="log_softmax", public=False, wide="derivative",
          grad=dict(input=lambda g, dim, result: g - result.exp() * g.sum(dim, True)))
def log_softmax_(input: Tensor, dim):
    d, x = input._meta.dtype, widened(input)
    shifted = x - reduce("max", x, dim, True, x._meta.dtype, x._meta.dtype)
    total = shifted.exp().sum(dim, True)
    # Along the last dimension PyTorch takes the sum, and its logarithm, in the input's dtype.
    log = (rounded(total, d) if dim == input.dim() - 1 else total).log()
    return in_order(rounded(shifted - widened(log), d))


@operator(autocast=FULL_ON_GPU, samples=lambda t: [t(..., 4, low=-5, high=5), -1])
def softmax(input: Tensor, dim: int, dtype=None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`."""
    input = _float_input(input, dtype)
    return softmax_(input, normalize_dim("softmax", dim, input.dim())) if input.numel() else input.clone()


@operator(autocast=FULL_ON_GPU, samples=lambda t: [t(..., 4, low=-5, high=5), -1])
def log_softmax(input: Tensor, dim: int, dtype=None) -> Tensor:
    """log(softmax(x)) along `dim`, without loss of precision."""
    input = _float_input(input, dtype)
    return log_softmax_(input, normalize_dim("log_softmax", dim, input.dim())) if input.numel() else input.clone()
