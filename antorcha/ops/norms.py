"""Norms and distances."""

from __future__ import annotations

import math
import numbers

from . import pointwise as pw
from .casts import FULL_ON_CPU, FULL_ON_GPU
from .contraction import check_dtypes
from .linalg import check_matrix, inverse_
from .parts import imag_, real_
from .record import broadcast_shapes, check_tensor, core, normalize_dim, normalize_dims, operator, rounded, widened
from .reduction import _restore
from .spectral import svdvals

Tensor = "Tensor"
INF = math.inf


# -- of vectors -------------------------------------------------------------------------------------------------

@operator(name="linalg_vector_norm", public=False, wide="forward", holomorphic=False,
          grad=dict(input=lambda g, input, ord, dim, keepdim, result: _vector_norm_grad(g, input, ord, dim, keepdim, result)))
def vector_norm_(input: Tensor, ord, dim, keepdim):
    """(sum of |x|^ord)^(1 / ord) over `dim`; also in the limits of ord."""
    if ord == 2:
        return _squares(input).sum(dim, keepdim).sqrt()
    size = input.abs()
    if ord == 0:
        return (input != 0).to(size._meta.dtype).sum(dim, keepdim)
    if abs(ord) == INF:
        return (size.amax if ord > 0 else size.amin)(() if dim is None else dim, keepdim)
    if ord == 1:
        return size.sum(dim, keepdim)
    return size.pow(ord).sum(dim, keepdim).pow(1.0 / ord)


def _squares(x):
    if x.is_complex():
        a, b = real_(x), imag_(x)
        return a * a + b * b
    return x * x


def _vector_norm_grad(g, x, ord, dim, keepdim, result):
    """The subgradient of least norm where there are several: 0 at 0, shared among equal extremes."""
    g, length = (_restore(t, dim, keepdim, x.dim()) for t in (g, result))
    if ord == 0:
        return x * 0
    if ord == 2:
        return g * pw.where(length == 0, 0.0, x / length)
    if ord == 1:
        return pw.sgn(x) * g
    size = x.abs()
    if abs(ord) == INF:
        top = size == length
        return pw.sgn(x) * pw.where(top, g / top.sum(dim, True), 0.0) if dim is not None else \
            pw.sgn(x) * pw.where(top, g / top.sum(), 0.0)
    if x._meta.dtype.compute is not x._meta.dtype:     # as PyTorch, which rounds each factor
        power = x * size.pow(ord - 2) if ord > 2 else pw.sgn(x) * pw.where(size == 0, 0.0, size.pow(ord - 1))
        return power * pw.where(length == 0, 0.0, g / length.pow(ord - 1)) if ord > 1 else power * g * length.pow(1 - ord)
    ratio = pw.where(size == 0, 0.0, pw.where(size == 0, 1.0, size / length).pow(ord - 1))
    return pw.sgn(x) * ratio * pw.where(length == 0, 0.0, g)


def _in_dtype(what, x, dtype):
    """`x` in the dtype that the norm is computed in."""
    check_tensor(what, "input", x)
    d = x._meta.dtype
    if dtype is not None:
        if dtype.kind not in "fc":
            raise RuntimeError(f"{what}: dtype should be floating point or complex. Got {dtype}")
        if (dtype.kind == "c") != (d.kind == "c"):
            raise RuntimeError(f"{what}: dtype should be {'complex' if d.kind == 'c' else 'real'} for {d} inputs, but got "
                               f"{dtype}")
        if dtype.itemsize < d.itemsize:
            raise RuntimeError(f"{what}: the dtype of the input ({d}) should be convertible without narrowing to the specified "
                               f"dtype ({dtype})")
        return x.to(dtype)
    if d.kind not in "fc":
        raise RuntimeError(f"{what}: Expected a floating point or complex tensor as input. Got {d}. Convert it first: "
                           "input.float()")
    return x


def _check_nonempty(what, x, ord, dim):
    if x.numel() or ord >= 0 and ord != INF:
        return
    dims = range(x.dim()) if dim is None else normalize_dims(what, dim, x.dim())
    if dim is None or any(x.shape[d] == 0 for d in dims):
        raise RuntimeError(f"{what} cannot compute the {float(ord)} norm on an empty tensor because the operation does not have "
                           "an identity")


@operator(autocast=FULL_ON_GPU, name="linalg_vector_norm", namespace="linalg", samples=(lambda t: [t(3, 4)], lambda t: [t(..., 4), 3, -1]))
def vector_norm(x: Tensor, ord=2, dim=None, keepdim=False, *, dtype=None) -> Tensor:
    """The norm of all elements, or of vectors over `dim` (an int or several): (sum |x|^ord)^(1 / ord), any real `ord`, inf and
    0 too."""
    if isinstance(ord, bool) or not isinstance(ord, numbers.Real):
        raise TypeError(f"linalg_vector_norm(): argument 'ord' must be Number, not {type(ord).__name__}")
    x = _in_dtype("linalg.vector_norm", x, dtype)
    dim = None if dim is None or dim == () or dim == [] else normalize_dims("linalg.vector_norm", dim, x.dim())
    _check_nonempty("linalg.vector_norm", x, ord, dim)
    if not x.dim():
        dim = None
    return vector_norm_(x, ord, dim, bool(keepdim))


# -- of matrices ------------------------------------------------------------------------------------------------

MATRIX_ORDERS = (1, -1, 2, -2, INF, -INF)


@operator(autocast=FULL_ON_GPU, name="linalg_matrix_norm", namespace="linalg", samples=(lambda t: [t(..., 3, 4)], lambda t: [t(3, 3), 2]))
def matrix_norm(A: Tensor, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None) -> Tensor:
    """The matrix norm `ord` over the two dimensions `dim`.

    "fro": of all elements; "nuc": sum of singular values; 2, -2: largest, smallest of them; 1, -1: largest, smallest sum of a
    column; inf, -inf: of a row.
    """
    what = "linalg.matrix_norm"
    if ord not in ("fro", "nuc") if isinstance(ord, str) else abs(ord) not in MATRIX_ORDERS:
        raise RuntimeError(f"{what}: Order {ord} not supported.")
    A = _in_dtype(what, A, dtype)
    rows, columns = _matrix_dims(what, A, dim)
    if ord == "fro":
        return vector_norm_(A, 2, (rows, columns), bool(keepdim))
    if ord in ("nuc", 2, -2):
        s = svdvals(A.permute([d for d in range(A.dim()) if d not in (rows, columns)] + [rows, columns]))
        result = s.sum(-1) if ord == "nuc" else s.amax(-1) if ord == 2 else s.amin(-1)
    else:
        summed, left = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = vector_norm_(A, 1, (summed,), True)
        result = (sums.amax if ord > 0 else sums.amin)(left, True).squeeze((rows, columns))
    if keepdim:
        for d in sorted((rows, columns)):
            result = result.unsqueeze(d)
    return result


def _matrix_dims(what: str, A, dim) -> tuple[int, int]:
    """The dimensions of rows and columns."""
    if A.dim() < 2:
        raise RuntimeError(f"{what}: The input tensor A must have at least 2 dimensions.")
    dim = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    if len(dim) != 2:
        raise RuntimeError(f"{what}: dim must be a 2-tuple. Got {dim}")
    rows, columns = (normalize_dim(what, d, A.dim()) for d in dim)
    if rows == columns:
        raise RuntimeError(f"{what}: dims must be different. Got ({dim[0]}, {dim[1]})")
    return rows, columns


@operator(autocast="parts", name="linalg_norm", namespace="linalg", samples=(lambda t: [t(3, 4)], lambda t: [t(..., 4), 3, -1]))
def linalg_norm(A: Tensor, ord=None, dim=None, keepdim=False, *, dtype=None) -> Tensor:
    """A norm of vectors where `dim` is one dimension or `A` has one (or `ord` is None), else of matrices."""
    check_tensor("linalg.norm", "A", A)
    if dim is not None:
        dim = (dim,) if isinstance(dim, int) else tuple(dim)
        if len(dim) not in (1, 2):
            raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dim)}")
    elif ord is not None and A.dim() not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.dim()}D.")
    if ord is not None and (len(dim) if dim is not None else A.dim()) == 2:
        return matrix_norm(A, ord, dim or (0, 1), keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: Order {ord} is one of matrices; received one dimension")
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


@operator(autocast=FULL_ON_GPU, samples=(lambda t: [t(3, 4)], lambda t: [t(..., 4), 3, -1]))
def norm(input: Tensor, p="fro", dim=None, keepdim=False, dtype=None) -> Tensor:
    """The p-norm of all elements or over `dim`; "fro" is 2, "nuc" the sum of singular values of matrices."""
    if p == "nuc":
        if dim is None and input.dim() != 2:
            raise RuntimeError(f"norm: expected a matrix for p='nuc' without dim; received {input.dim()} dimensions")
        return matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"only valid string values are 'fro' and 'nuc', found {p}")
    return vector_norm(input, 2 if p in ("fro", None) else p, dim, keepdim, dtype=dtype)


@operator(autocast=FULL_ON_GPU, method=False, samples=lambda t: [t(..., 4), -1])
def frobenius_norm(input: Tensor, dim=(), keepdim=False) -> Tensor:
    """The square root of the sum of squares over `dim` (all)."""
    return vector_norm(input, 2, dim or None, keepdim)


@operator(autocast=FULL_ON_GPU, method=False, samples=lambda t: [t(3, 3)])
def nuclear_norm(input: Tensor, dim=(-2, -1), keepdim=False) -> Tensor:
    """The sum of the singular values of matrices."""
    return matrix_norm(input, "nuc", dim, keepdim)


@operator(autocast=FULL_ON_CPU, name="linalg_cond", namespace="linalg", samples=lambda t: [t.regular(3)])
def cond(A: Tensor, p=None) -> Tensor:
    """The condition number ||A|| ||A^-1|| in the norm `p` (2); of a singular matrix inf."""
    if A.dim() < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if p in (None, 2, -2):
        s = svdvals(A)
        if not s.shape[-1]:
            return core.full(tuple(A.shape[:-2]), 0, s._meta.dtype)
        return s[..., 0] / s[..., -1] if p != -2 else s[..., -1] / s[..., 0]
    if p not in ("fro", "nuc", 1, -1, INF, -INF):
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    check_matrix("linalg.cond", A, square=True)
    if not A.shape[-1]:
        return core.full(tuple(A.shape[:-2]), 0, A._meta.dtype.to_real())
    inverse, info = inverse_(A)
    regular = info == 0
    inverse = pw.where(regular[..., None, None], inverse, 0.0)
    return pw.where(regular, matrix_norm(A, p) * matrix_norm(inverse, p), INF)


# -- distances --------------------------------------------------------------------------------------------------

@operator(autocast=FULL_ON_GPU, title="Dist", out=True, samples=lambda t: [t(3, 4), t(3, 4), 3])
def dist(input: Tensor, other: Tensor, p=2) -> Tensor:
    """The p-norm of input - other, of all elements."""
    return vector_norm(input - other, p)


EXACT = 25          # rows up to which Euclidean distances are norms of differences
COMPUTE_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")


@operator(autocast="full", title="Cdist", method=False, out=False, samples=lambda t: [t(..., 3, 4), t(..., 2, 4)])
def cdist(x1: Tensor, x2: Tensor, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """(..., m, n): the p-norm distances between rows of x1 (..., m, k) and of x2 (..., n, k).

    Those for p = 2 are computed by products where there are more than 25 rows, unless `compute_mode` forbids it; the distance of equal
    rows is then not quite zero.
    """
    for name, x in (("X1", x1), ("X2", x2)):
        if x._meta.dtype.kind != "f":
            raise RuntimeError(f"cdist only supports floating-point dtypes, {name} got: {x.dtype}")
        if x.dim() < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x.dim()}D")
    check_dtypes("cdist", x1, x2)
    if compute_mode not in COMPUTE_MODES:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode: expected one of {', '.join(map(repr, COMPUTE_MODES))}")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    rows, d = (x1.shape[-2], x2.shape[-2]), x1._meta.dtype
    products = compute_mode == COMPUTE_MODES[1] or compute_mode == COMPUTE_MODES[0] and max(rows) > EXACT
    if p == 2 and products and d.compute is d and min(*rows, x1.shape[-1]):
        lead = broadcast_shapes("cdist", x1.shape[:-2], x2.shape[:-2])
        return euclidean(*[x.expand(*lead, *x.shape[-2:]) for x in (x1, x2)])
    return vector_norm_(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, (-1,), False)


def _euclidean_grad(g, x1, x2, result):
    ratio = pw.where(result == 0, 0.0, g / result)
    return x1 * ratio.sum(-1, True) - ratio @ x2


@operator(public=False, title="EuclideanDist", samples=lambda t: [t(2, 5, 4), t(2, 3, 4)], grad=dict(
    x1=lambda g, x1, x2, result: _euclidean_grad(g, x1, x2, result),
    x2=lambda g, x1, x2, result: _euclidean_grad(g.mT, x2, x1, result.mT)))
def euclidean(x1: Tensor, x2: Tensor) -> Tensor:
    """Distances by products: |a - b|^2 = |a|^2 + |b|^2 - 2 a b. What is common to all rows, the mean of x2, is taken off before, so that
    less is lost where these nearly cancel."""
    center = x2.mean(-2, True)
    a, b = x1 - center, x2 - center
    return (_squares(a).sum(-1, True) + _squares(b).sum(-1).unsqueeze(-2) - 2 * (a @ b.mT)).clamp_min(0).sqrt()


def _lengths(x, p, dim: int) -> tuple:
    """(norms of the slices along `dim`, the dimensions of each)."""
    dims = tuple(i for i in range(x.dim()) if i != dim % x.dim())
    return vector_norm(x, p, dims, True, dtype=x._meta.dtype.compute), dims


def _renorm_grad(g, x, p, dim, maxnorm):
    d, x, g = x._meta.dtype, widened(x), widened(g)
    length, dims = _lengths(x, p, dim)
    inverse = 1 / (length + 1e-7)
    along = (real_(g * x.conj()) if x.is_complex() else g * x).sum(dims, True)
    turned = g - inverse * _vector_norm_grad(along, x, p, dims, True, length)
    return rounded(pw.where(length > maxnorm, maxnorm * inverse * turned, g), d)


@operator(autocast=FULL_ON_GPU, inplace=True, holomorphic=False, grad=dict(
    input=lambda g, input, p, dim, maxnorm: _renorm_grad(g, input, p, dim, maxnorm)), samples=lambda t: [t(3, 4), 2, 0, 0.5])
def renorm(input: Tensor, p, dim: int, maxnorm) -> Tensor:
    """Each slice along `dim` scaled down to the p-norm `maxnorm` where its norm is greater."""
    if input.dim() < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.dim()} dimensions")
    if isinstance(p, complex) or p <= 0:
        raise RuntimeError(f"renorm: non-positive-norm not supported; received p = {p}")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    d = normalize_dim("renorm", dim, input.dim())
    length, _ = _lengths(input, p, d)
    return input * pw.where(length > maxnorm, maxnorm / (length + 1e-7), 1.0).to(input._meta.dtype.to_real())
