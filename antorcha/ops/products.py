"""Products of matrices and vectors beyond matmul: chains, powers, the exponential, Householder reflections, cross products."""

from __future__ import annotations

import math

from . import lapack
from . import pointwise as pw
from .casts import FULL_ON_CPU, ONE_ON_GPU, WIDEST_ON_GPU
from .contraction import check_dtypes, matmul
from .extern import host_op, run
from .linalg import check_matrix, inv, solve, triangular
from .parts import conj_
from .recall import deprecated, warn_once
from .record import broadcast_shapes, check_tensor, core, normalize_dim, operator

Tensor = "Tensor"


@operator(autocast="parts", name="linalg_matmul", namespace="linalg", samples=lambda t: [t(..., 3, 4), t(..., 4, 5)])
def linalg_matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product, as torch.matmul."""
    return matmul(input, other)


@operator(name="linalg_diagonal", namespace="linalg", out=False, samples=lambda t: [t(..., 3, 4), dict(offset=1)])
def linalg_diagonal(A: Tensor, *, offset=0, dim1=-2, dim2=-1) -> Tensor:
    """The diagonals of matrices, a view."""
    return A.diagonal(offset, dim1, dim2)


@operator(autocast="lower", name="linalg_vecdot", namespace="linalg", samples=lambda t: [t(..., 4), t(..., 4)])
def vecdot(x: Tensor, y: Tensor, *, dim=-1) -> Tensor:
    """The sum of conj(x) y along `dim`."""
    check_tensor("linalg.vecdot", "x", x)
    check_tensor("linalg.vecdot", "y", y)
    check_dtypes("linalg.vecdot", x, y)
    return (conj_(x) * y).sum(dim)


# -- powers and chains ------------------------------------------------------------------------------------------

@operator(autocast="parts", name="linalg_matrix_power", namespace="linalg", torch_name="matrix_power", samples=lambda t: [t(..., 3, 3), 3])
def matrix_power(input: Tensor, n: int) -> Tensor:
    """A^n of square matrices, by squaring; of the inverse where n is negative."""
    if input.dim() < 2 or input.shape[-1] != input.shape[-2]:
        raise RuntimeError(f"linalg.matrix_power: input must be batches of square matrices; received shape {list(input.shape)}")
    if n < 0:
        return matrix_power(inv(input), -n)
    if n == 0:
        return _identity_like(input)
    result = None
    while n:
        if n & 1:
            result = input if result is None else result @ input
        n >>= 1
        if n:
            input = input @ input
    return result.clone() if result.storage is input.storage else result


@operator(public=False, grad=dict(input=lambda g: g * 0))
def _identity_like(input: Tensor):
    return core.eye(input.shape[-1], dtype=input._meta.dtype).expand(input.shape).clone()


EXP = host_op("linalg_matrix_exp", lapack.matrix_exp)


@operator(name="linalg_matrix_exp", public=False, wide=True, holomorphic=False, grad=dict(A=lambda g, A: _exp_grad(g, A)))
def exponential(A: Tensor):
    return run(EXP, (A,), [(A.shape, A._meta.dtype)])[0]


def _exp_grad(g, A):
    """The upper right block of exp([[A^H, g], [0, A^H]]); R. Mathias, "A Chain Rule for Matrix Functions and Applications" (1996).

    That is linear in g, whose elements are brought to 1: its norm must not ask for more squarings than that of A.
    """
    if not A.numel():
        return g
    n, turned = A.shape[-1], A.mH
    scale = g.detach().abs().amax((-2, -1), True)
    scale = pw.where(scale == 0, 1.0, scale)
    block = core.cat([core.cat([turned, g / scale], -1), core.cat([turned * 0, turned], -1)], -2)
    return exponential(block)[..., :n, n:] * scale


@operator(name="linalg_matrix_exp", namespace="linalg", torch_name="matrix_exp", out=False, samples=lambda t: [t(..., 3, 3)])
def matrix_exp(input: Tensor) -> Tensor:
    """The exponential of square matrices, sum of A^k / k!."""
    check_matrix("linalg.matrix_exp", input, square=True, narrow=True)
    return exponential(input)


def _chain(matrices, first, last, split):
    if first == last:
        return matrices[first]
    k = split[first, last]
    return _chain(matrices, first, k, split) @ _chain(matrices, k + 1, last, split)


def _best_splits(sizes) -> dict:
    """(first, last) -> where to split the product so that fewest multiplications are done; matrix i has sizes[i] rows, sizes[i
    + 1] columns. Of equal splits it is PyTorch's, since results are rounded otherwise: the first, but of three matrices (AB)C."""
    count = len(sizes) - 1
    cost, split = {(i, i): 0 for i in range(count)}, {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            options = [(cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)]
            cost[i, j], split[i, j] = min(options, key=lambda option: (option[0], -option[1] if count == 3 else option[1]))
    return split


@operator(autocast=ONE_ON_GPU, name="linalg_multi_dot", namespace="linalg", samples=lambda t: [[t(2, 3), t(3, 4), t(4, 2)]])
def multi_dot(tensors: list[Tensor]) -> Tensor:
    """The product of matrices in the order that takes fewest multiplications; the first and the last may be vectors."""
    tensors = list(tensors)
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    first, last = tensors[0].dim() == 1, tensors[-1].dim() == 1
    if first:
        tensors[0] = tensors[0].unsqueeze(0)
    if last:
        tensors[-1] = tensors[-1].unsqueeze(1)
    for i, x in enumerate(tensors):
        if x.dim() != 2:
            end = i in (0, len(tensors) - 1)
            raise RuntimeError(f"multi_dot(): tensor {i} must be {'1D or ' if end else ''}2D but got {x.dim()}D")
    check_dtypes("multi_dot", *tensors)
    for i, (a, b) in enumerate(zip(tensors, tensors[1:])):
        if a.shape[1] != b.shape[0]:
            raise RuntimeError(f"multi_dot(): tensors {i} and {i + 1} with shapes {list(a.shape)} and {list(b.shape)} cannot be "
                               "multiplied")
    result = _chain(tensors, 0, len(tensors) - 1, _best_splits([x.shape[0] for x in tensors] + [tensors[-1].shape[1]]))
    if first:
        result = result.squeeze(0)
    return result.squeeze(-1) if last else result


@operator(autocast=ONE_ON_GPU, method=False, out=False, samples=lambda t: [t(2, 3), t(3, 4), t(4, 2)])
def chain_matmul(*matrices) -> Tensor:
    """The product of matrices; deprecated for linalg.multi_dot."""
    deprecated("torch.chain_matmul", "torch.linalg.multi_dot([..])")
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices)


# -- Householder reflections ------------------------------------------------------------------------------------

def _reflections(what, A, tau):
    """(V, T) with H_1 .. H_k = 1 - V T V^H: R. Schreiber and C. van Loan, "A Storage-Efficient WY Representation for Products of
    Householder Transformations" (1989). T^-1 = diag(1 / tau) + the strict upper triangle of V^H V."""
    check_matrix(what, A, "input")
    check_tensor(what, "tau", tau)
    if tau._meta.dtype is not A._meta.dtype:
        raise RuntimeError(f"{what}: tau dtype {tau.dtype} does not match input dtype {A.dtype}")
    m, n = A.shape[-2:]
    if m < n:
        raise RuntimeError(f"{what}: input.shape[-2] must be greater than or equal to input.shape[-1]; received {list(A.shape)}")
    if tau.dim() != A.dim() - 1 or tuple(tau.shape[:-1]) != tuple(A.shape[:-2]):
        raise RuntimeError(f"{what}: Expected tau to have one dimension less than input and equal batch dimensions; received "
                           f"{list(tau.shape)} and "
                           f"{list(A.shape)}")
    k = tau.shape[-1]
    if k > n:
        raise RuntimeError(f"{what}: input.shape[-1] must be greater than or equal to tau.shape[-1]; received {list(A.shape)} "
                           f"and {list(tau.shape)}")
    V = A[..., :k].tril(-1) + core.eye(m, k, dtype=A._meta.dtype)
    scale = tau.diag_embed()
    return V, triangular(scale @ (V.mH @ V).triu(1), scale, True, True)


@operator(autocast=FULL_ON_CPU, name="linalg_householder_product", namespace="linalg", torch_name="orgqr",
          samples=lambda t: [t(2, 4, 3), t(2, 3)])
def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of H_1 .. H_k, H_i = 1 - tau_i v_i v_i^H; v_i is column i of `input` below the diagonal, on it 1,
    above it 0."""
    V, T = _reflections("linalg.householder_product", input, tau)
    n = input.shape[-1]
    return core.eye(*input.shape[-2:], dtype=input._meta.dtype) - V @ T @ V[..., :n, :].mH


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t(4, 3), t(3), t(4, 2)])
def ormqr(input: Tensor, tau: Tensor, other: Tensor, left=True, transpose=False) -> Tensor:
    """Q other (other Q unless `left`), Q^H if `transpose`, with the Q that geqrf described by (input, tau)."""
    check_matrix("ormqr", other, "other")
    V, T = _reflections("ormqr", input, tau)
    if other.shape[-2 if left else -1] != input.shape[-2]:
        raise RuntimeError(f"ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2]; received "
                           f"{list(other.shape)} and "
                           f"{list(input.shape)}")
    T = T.mH if transpose else T
    return other - V @ (T @ (V.mH @ other)) if left else other - ((other @ V) @ T) @ V.mH


# -- vectors ----------------------------------------------------------------------------------------------------

def _cross(what, input, other, dim):
    check_dtypes(what, input, other)
    if input.dim() != other.dim():
        raise RuntimeError(f"{what}: inputs must have the same number of dimensions; received {input.dim()} and {other.dim()}")
    d = normalize_dim(what, dim, input.dim())
    if input.shape[d] != 3 or other.shape[d] != 3:
        raise RuntimeError(f"{what}: inputs dimension {dim} must have length 3. Got {input.shape[d]} and {other.shape[d]}")
    shape = broadcast_shapes(what, tuple(input.shape), tuple(other.shape))
    a, b = input.expand(shape), other.expand(shape)
    return a.roll(-1, d) * b.roll(-2, d) - a.roll(-2, d) * b.roll(-1, d)


@operator(name="linalg_cross", namespace="linalg", samples=lambda t: [t(2, 1, 3), t(4, 3)[None]])
def linalg_cross(input: Tensor, other: Tensor, *, dim=-1) -> Tensor:
    """The cross products of vectors of 3 elements along `dim`."""
    return _cross("linalg.cross", input, other, dim)


@operator(autocast=WIDEST_ON_GPU, title="LinalgCross", samples=lambda t: [t(4, 3), t(4, 3)])
def cross(input: Tensor, other: Tensor, dim=None) -> Tensor:
    """The cross products of vectors along `dim`, or the first dimension of size 3."""
    if dim is None:
        warn_once("torch.cross without dim takes the first dimension of size 3 and is deprecated. Name the dimension, or use "
                  "torch.linalg.cross, which takes the last.")
        dim = next((i for i, n in enumerate(input.shape) if n == 3), None)
        if dim is None:
            raise RuntimeError(f"no dimension of size 3 in input; received shape {list(input.shape)}")
    return _cross("cross", input, other, dim)


@operator(name="linalg_vander", namespace="linalg", out=False, samples=lambda t: [t(..., 4)])
def linalg_vander(x: Tensor, N=None) -> Tensor:
    """(..., n, N): the powers 0 to N - 1 of each element."""
    check_tensor("linalg.vander", "x", x)
    x = x if x.dim() else x.unsqueeze(0)
    N = x.shape[-1] if N is None else N
    if x._meta.dtype.kind == "b":
        raise RuntimeError("linalg.vander: Expected a numeric tensor; received bool")
    if N <= 1:
        raise RuntimeError(f"N must be greater than 1; received {N}.")
    x = x.unsqueeze(-1).expand(tuple(x.shape) + (N - 1,))
    return core.cat([core.ones_like(x[..., :1]), x], -1).cumprod(-1)


@operator(method=False, out=False, samples=lambda t: [t(4)])
def vander(x: Tensor, N: int | None = None, increasing=False) -> Tensor:
    """(n, N): the powers of each element, falling unless `increasing`."""
    if x.dim() != 1:
        raise RuntimeError(f"x must be a one-dimensional tensor; received shape {list(x.shape)}")
    N = x.shape[0] if N is None else N
    if N < 0:
        raise RuntimeError(f"N must be non-negative; received {N}")
    powers = [pw.pow(x, k) for k in range(N)]
    return core.stack(powers if increasing else powers[::-1], -1) if N else core.full((x.shape[0], 0), 0, x._meta.dtype)


# -- tensors as matrices ----------------------------------------------------------------------------------------

@operator(autocast=FULL_ON_CPU, name="linalg_tensorinv", namespace="linalg", samples=lambda t: [t.regular(6).reshape(2, 3, 6)])
def tensorinv(A: Tensor, ind=2) -> Tensor:
    """The inverse of `A` as a map from its last dimensions to its first `ind`."""
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    first, rest = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    if math.prod(first) != math.prod(rest):
        raise RuntimeError(f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
                           f"{math.prod(rest)} != {math.prod(first)}")
    return inv(A.reshape(math.prod(first), -1)).reshape(rest + first)


@operator(autocast=FULL_ON_CPU, name="linalg_tensorsolve", namespace="linalg", samples=lambda t: [t.regular(6).reshape(2, 3, 6), t(2, 3)])
def tensorsolve(A: Tensor, B: Tensor, dims=None) -> Tensor:
    """X of tensordot(A, X, X.dim()) = B, with the dimensions `dims` of A moved to its end before."""
    if dims is not None:
        moved = [normalize_dim("linalg.tensorsolve", d, A.dim()) for d in dims]
        A = A.permute([d for d in range(A.dim()) if d not in moved] + moved)
    rest = tuple(A.shape[B.dim():])
    if math.prod(rest) != math.prod(B.shape):
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
                           "prod(self.shape[:other.ndim]), but got "
                           f"{math.prod(rest)} != {math.prod(B.shape)}")
    return solve(A.reshape(-1, math.prod(rest)), B.reshape(-1)).reshape(rest)
