"""Systems of linear equations: triangular, LU, Cholesky and LDL factors, inverses, determinants. Factors by LAPACK, in stacks of
matrices.

Derivatives after M. B. Giles, "An Extended Collection of Matrix Derivative Results for Forward and Reverse Mode Automatic
Differentiation" (2008), and I. Murray, "Differentiation of the Cholesky Decomposition" (2016). A^H is the conjugate transpose.

Routines that can fail return `info`: 0, or the position of what vanished. Functions whose name does not end in `_ex` look at it
at once and raise LinAlgError.
"""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from ..base.errors import LinAlgError
from . import lapack
from . import pointwise as pw
from .casts import FULL_ON_CPU
from .extern import host_op, run
from .parts import complex_, conj_, imag_
from .recall import deprecated
from .record import broadcast_shapes, check_tensor, core, everywhere, operator
from .results import named

Tensor = "Tensor"

inv_ex_t = named("linalg_inv_ex", "inverse", "info")
solve_ex_t = named("linalg_solve_ex", "result", "info")
cholesky_ex_t = named("linalg_cholesky_ex", "L", "info")
linalg_slogdet_t, slogdet_t = (named(name, "sign", "logabsdet") for name in ("linalg_slogdet", "slogdet"))
linalg_lu_t, lu_unpack_t = (named(name, "P", "L", "U") for name in ("linalg_lu", "lu_unpack"))
lu_factor_t = named("linalg_lu_factor", "LU", "pivots")
lu_factor_ex_t, lu_with_info_t = (named(name, "LU", "pivots", "info") for name in ("linalg_lu_factor_ex", "_lu_with_info"))
ldl_factor_t = named("linalg_ldl_factor", "LD", "pivots")
ldl_factor_ex_t = named("linalg_ldl_factor_ex", "LD", "pivots", "info")
triangular_solve_t = named("triangular_solve", "solution", "cloned_coefficient")


# -- arguments --------------------------------------------------------------------------------------------------

def check_matrix(what: str, A, name: str = "A", square: bool = False, narrow: bool = False) -> None:
    """Refuse what is not a stack of (square) matrices of float32, float64, their complex counterparts or (`narrow`) 16-bit floats."""
    check_tensor(what, name, A)
    shape, d = A._meta.view.shape, A._meta.dtype
    if len(shape) < 2:
        raise RuntimeError(f"{what}: The input tensor {name} must have at least 2 dimensions; received shape {list(shape)}.")
    if d.kind not in "fc":
        raise RuntimeError(f"{what}: Expected a floating point or complex tensor as input; received {d}. Convert it first: "
                           f"{name}.float()")
    if d.itemsize < 4 and not narrow:
        raise NotImplementedError(f"{what}: Low precision dtypes not supported; received {d}. Convert it first: {name}.float()")
    if square and shape[-1] != shape[-2]:
        raise RuntimeError(f"{what}: {name} must be batches of square matrices, but they are {shape[-2]} by {shape[-1]} matrices")


def check_same(what: str, A, B, names=("A", "B")) -> None:
    check_tensor(what, names[1], B)
    if A._meta.dtype is not B._meta.dtype:
        raise RuntimeError(f"{what}: Expected {names[0]} and {names[1]} to have the same dtype, but found {names[0]} of type "
                           f"{A.dtype} and "
                           f"{names[1]} of type {B.dtype} instead")


def check_system(what: str, A, B, left: bool) -> None:
    """Whether A X = B (X A = B) has fitting shapes."""
    check_matrix(what, A, square=True)
    check_same(what, A, B)
    check_matrix(what, B, "B")
    if A.shape[-1] != B.shape[-2 if left else -1]:
        raise RuntimeError(f"{what}: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
                           f"({A.shape[-2]}x{A.shape[-1]} and {B.shape[-2]}x{B.shape[-1]})")


def common_batch(what: str, *matrices) -> list:
    """The matrices with their leading dimensions broadcast."""
    lead = broadcast_shapes(what, *[tuple(x.shape[:-2]) for x in matrices])
    return [x if x.shape[:-2] == lead else x.expand(*lead, *x.shape[-2:]) for x in matrices]


def raise_where(info, describe) -> None:
    """LinAlgError for the first matrix whose info is not 0; describe(info) says what happened to it."""
    found = everywhere(info)
    bad = np.argwhere(found)
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        which = f"(Batch element {', '.join(map(str, place))}): " if place else ""
        raise LinAlgError(which + describe(int(found[place])))


def run_square(op, A, *others, **params):
    """(a result like A, info) of a routine of matrices."""
    return run(op, (A, *others), [((others or (A,))[-1].shape, A._meta.dtype), (A.shape[:-2], dt.int32)], **params)


# -- triangular systems -----------------------------------------------------------------------------------------

TRIANGULAR = host_op("linalg_solve_triangular", lapack.solve_triangular)


@operator(name="linalg_solve_triangular", public=False, holomorphic=False,
          grad=dict(A=lambda g, A, upper, unit, result: _triangular_grad(g, A, upper, unit, result),
                    B=lambda g, A, upper, unit: triangular(A.mH, g, not upper, unit)))
def triangular(A: Tensor, B: Tensor, upper, unit):
    """X of A X = B for stacks of the same size."""
    return run(TRIANGULAR, (A, B), [(B.shape, B._meta.dtype)], upper=upper, unit=unit)[0]


def _triangular_grad(g, A, upper, unit, X):
    gA = -triangular(A.mH, g, not upper, unit) @ X.mH
    return gA.triu(int(unit)) if upper else gA.tril(-int(unit))


@operator(name="linalg_solve_triangular", namespace="linalg", samples=lambda t: [t.regular(..., 3).triu(), t(..., 3, 2), dict(upper=True)])
def solve_triangular(A: Tensor, B: Tensor, *, upper, left=True, unitriangular=False) -> Tensor:
    """X of A X = B (X A = B unless `left`) for a triangular A, whose other triangle is not read, nor the diagonal if
    `unitriangular`."""
    check_system("linalg.solve_triangular", A, B, left)
    A, B = common_batch("linalg.solve_triangular", A, B)
    if left:
        return triangular(A, B, bool(upper), bool(unitriangular))
    return triangular(A.mT, B.mT, not upper, bool(unitriangular)).mT


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t(3, 2), t.regular(3).triu()])
def triangular_solve(input: Tensor, A: Tensor, upper=True, transpose=False, unitriangular=False):
    """(X of A X = input, A); deprecated for linalg.solve_triangular."""
    deprecated("torch.triangular_solve", "torch.linalg.solve_triangular(A, B, upper=True)")
    check_matrix("triangular_solve", input, "b")
    check_matrix("triangular_solve", A, square=True)
    X = solve_triangular(A.mT, input, upper=not upper, unitriangular=unitriangular) if transpose else \
        solve_triangular(A, input, upper=upper, unitriangular=unitriangular)
    return triangular_solve_t(X, A.expand(*X.shape[:-2], *A.shape[-2:]).clone())


# -- inverses and general systems -------------------------------------------------------------------------------

INV, SOLVE = host_op("linalg_inv", lapack.inv), host_op("linalg_solve", lapack.solve)


@operator(name="linalg_inv_ex", public=False, holomorphic=False,
          grad=dict(A=lambda g, result_0: -result_0.mH @ g[0] @ result_0.mH))
def inverse_(A: Tensor):
    return inv_ex_t(*run_square(INV, A))


def _singular(info: int) -> str:
    return (f"linalg.inv: The diagonal element {info} is zero, the inversion could not be completed because the input matrix is "
            "singular.")


@operator(autocast=FULL_ON_CPU, name="linalg_inv_ex", namespace="linalg", samples=lambda t: [t.regular(..., 3)])
def inv_ex(A: Tensor, *, check_errors=False):
    """(inverse, info): info is the position of a zero pivot, for a matrix that is singular, else 0."""
    check_matrix("linalg.inv", A, square=True)
    found = inverse_(A)
    if check_errors:
        raise_where(found.info, _singular)
    return found


@operator(autocast=FULL_ON_CPU, name="linalg_inv", namespace="linalg", torch_name="inverse", samples=lambda t: [t.regular(..., 3)])
def inv(A: Tensor) -> Tensor:
    """The inverses of square matrices (..., n, n). LinAlgError for a singular one."""
    return inv_ex(A, check_errors=True)[0]


@operator(name="linalg_solve_ex", public=False, holomorphic=False,
          grad=dict(A=lambda g, A, result_0: -solve_(A.mH, g[0])[0] @ result_0.mH, B=lambda g, A: solve_(A.mH, g[0])[0]))
def solve_(A: Tensor, B: Tensor):
    return solve_ex_t(*run_square(SOLVE, A, B))


@operator(name="linalg_solve_ex", namespace="linalg", samples=lambda t: [t.regular(..., 3), t(..., 3, 2)])
def solve_ex(A: Tensor, B: Tensor, *, left=True, check_errors=False):
    """(solution, info) as `linalg.solve`; info is the position of a zero pivot of A, or 0."""
    check_tensor("linalg.solve", "A", A)
    check_tensor("linalg.solve", "B", B)
    vector = B.dim() == 1 or A.dim() - 1 == B.dim() and tuple(B.shape) == tuple(A.shape[:-1])
    if vector and not left:
        raise RuntimeError("linalg.solve: Vector broadcasting of the left hand side is not supported for left=False")
    columns = B.unsqueeze(-1) if vector else B
    check_system("linalg.solve", A, columns, left)
    A, columns = common_batch("linalg.solve", A, columns)
    X, info = solve_(A, columns) if left else solve_(A.mT, columns.mT)
    if check_errors:
        raise_where(info, lambda k: "linalg.solve: The solver failed because the input matrix is singular.")
    return solve_ex_t(X.squeeze(-1) if vector else X if left else X.mT, info)


@operator(autocast=FULL_ON_CPU, name="linalg_solve", namespace="linalg", samples=lambda t: [t.regular(..., 3), t(..., 3, 2)])
def solve(A: Tensor, B: Tensor, *, left=True) -> Tensor:
    """X of A X = B (X A = B unless `left`), A (..., n, n), B a matrix (..., n, k) or vector (..., n). LinAlgError if A is
    singular."""
    return solve_ex(A, B, left=left, check_errors=True)[0]


# -- determinants -----------------------------------------------------------------------------------------------

@lapack.quiet
def _slogdet_host(A):
    sign, logarithm = np.linalg.slogdet(A)
    return np.asarray(sign), np.asarray(logarithm)


@lapack.quiet
def _adjugate_host(A):
    """det(A) A^-1, also of a singular matrix: by its singular values, G. W. Stewart, "On the Adjugate Matrix" (1998)."""
    U, S, Vh = np.linalg.svd(A)
    n = A.shape[-1]
    others = np.where(np.eye(n, dtype=bool), 1, S[..., None, :]).prod(-1)
    turn = np.linalg.det(U) * np.linalg.det(Vh)
    return turn[..., None, None] * ((Vh.conj().swapaxes(-1, -2) * others[..., None, :]) @ U.conj().swapaxes(-1, -2))


DET = host_op("linalg_det", lambda A: np.asarray(np.linalg.det(A)))
SLOGDET, ADJUGATE = host_op("linalg_slogdet", _slogdet_host), host_op("adjugate", _adjugate_host)


@operator(public=False, grad=dict(A=lambda g, A: _adjugate_grad(g, A)))
def adjugate(A: Tensor):
    return run(ADJUGATE, (A,), [(A.shape, A._meta.dtype)])[0]


def _adjugate_grad(g, A):
    """Where A is regular: adj(A) = det(A) A^-1."""
    inverse, det_ = inverse_(A)[0].mT, determinant(A)
    return det_[..., None, None] * ((g * inverse.mT).sum((-2, -1), True) * inverse - inverse @ g @ inverse)


def _over(values, A):
    """Numbers of each matrix, to be multiplied with its elements."""
    return values.reshape(*A.shape[:-2], 1, 1)


@operator(name="linalg_det", public=False, grad=dict(A=lambda g, A: _over(g, A) * adjugate(A).mT))
def determinant(A: Tensor):
    return run(DET, (A,), [(A.shape[:-2], A._meta.dtype)])[0]


@operator(name="linalg_det", namespace="linalg", torch_name="det", samples=lambda t: [t.regular(..., 3)])
def det(A: Tensor) -> Tensor:
    """The determinants of square matrices (..., n, n)."""
    check_matrix("linalg.det", A, square=True)
    return determinant(A)


@operator(name="linalg_slogdet", public=False, holomorphic=False, grad=dict(A=lambda g, A, result: _slogdet_grad(g, A, result)))
def slogdet_(A: Tensor):
    d = A._meta.dtype
    return linalg_slogdet_t(*run(SLOGDET, (A,), [(A.shape[:-2], d), (A.shape[:-2], d.to_real())]))


def _slogdet_grad(g, A, result):
    """d log det(A) = tr(A^-1 dA); its imaginary part turns the sign."""
    weight = g[1]
    if A.is_complex():
        weight = complex_(weight, -imag_(conj_(g[0]) * result[0]))
    return _over(weight, A) * inverse_(A)[0].mH


@operator(name="linalg_slogdet", namespace="linalg", samples=lambda t: [t.regular(..., 3)])
def linalg_slogdet(A: Tensor):
    """(sign, log |det|) of square matrices: sign 0 and -inf for a singular one, of complex ones a number on the unit circle."""
    check_matrix("linalg.slogdet", A, square=True)
    return slogdet_(A)


@operator(samples=lambda t: [t.regular(..., 3)])
def slogdet(input: Tensor):
    """(sign, log |det|), as linalg.slogdet."""
    return slogdet_t(*linalg_slogdet(input))


@operator(out=False, samples=lambda t: [t.regular(..., 3)])
def logdet(input: Tensor) -> Tensor:
    """log(det), NaN where the determinant is negative."""
    check_matrix("logdet", input, square=True)
    sign, logarithm = slogdet_(input)
    return logarithm + pw.log(sign) if input.is_complex() else pw.where(sign == -1, float("nan"), logarithm)


# -- LU ---------------------------------------------------------------------------------------------------------

LU = host_op("linalg_lu_factor", lapack.lu_factor)
PERMUTATION = host_op("permutation", lapack.permutation)


def permutation(pivots, rows: int, d):
    """The matrix P (..., rows, rows) of A = P L U, in dtype `d`."""
    return run(PERMUTATION, (pivots,), [((*pivots.shape[:-1], rows, rows), dt.float32)], rows=rows)[0].to(d)


def lower_and_upper(LU):
    """L with its unit diagonal (..., m, k) and U (..., k, n)."""
    m, n = LU.shape[-2:]
    k = min(m, n)
    one = core.eye(m, k, dtype=LU._meta.dtype)
    return LU[..., :k].tril(-1) + one, LU[..., :k, :].triu()


@operator(name="linalg_lu_factor", public=False, holomorphic=False,
          grad=dict(A=lambda g, result: _lu_grad(g[0], result[0], result[1])))
def lu_(A: Tensor):
    shape, lead = A.shape, tuple(A.shape[:-2])
    return lu_factor_ex_t(*run(LU, (A,), [(shape, A._meta.dtype), ((*lead, min(shape[-2:])), dt.int32), (lead, dt.int32)]))


def _lu_grad(g, LU, pivots):
    """Of the square part: P L^-H (tril(L^H gL, -1) + triu(gU U^H)) U^-H; what lies beyond it is solved for first."""
    m, n = LU.shape[-2:]
    k = min(m, n)
    L, U = lower_and_upper(LU)
    gL, gU = g[..., :k].tril(-1), g[..., :k, :].triu()
    L1, U1, gL1, gU1 = L[..., :k, :], U[..., :k], gL[..., :k, :], gU[..., :k]
    beyond = None
    if n > k:
        beyond = triangular(L1.mH, gU[..., k:], True, True)
        gL1 = gL1 - beyond @ U[..., k:].mH
    elif m > k:
        beyond = triangular(U1.conj(), gL[..., k:, :].mT, True, False).mT
        gU1 = gU1 - L[..., k:, :].mH @ beyond
    inner = (L1.mH @ gL1).tril(-1) + (gU1 @ U1.mH).triu()
    inner = triangular(L1.mH, triangular(U1.conj(), inner.mT, True, False).mT, True, True)
    if beyond is not None:
        inner = core.cat([inner, beyond], -1 if n > k else -2)
    return permutation(pivots, m, g._meta.dtype) @ inner


def _check_pivot(what, A, pivot):
    check_matrix(what, A)
    if not pivot:
        raise RuntimeError(f"{what}: LU without pivoting is not implemented on the CPU")


def _zero_pivot(info: int) -> str:
    return (f"linalg.lu_factor: U[{info},{info}] is zero and using it on lu_solve would result in a division by zero. If you "
            "still want to "
            "perform the factorization, consider calling linalg.lu(A) or linalg.lu_factor_ex(A)")


@operator(name="linalg_lu_factor_ex", namespace="linalg", samples=lambda t: [t.regular(..., 3)])
def lu_factor_ex(A: Tensor, *, pivot=True, check_errors=False):
    """(LU, pivots, info): L below the diagonal and U of A = P L U, rows exchanged counted from 1, position of a zero on U's
    diagonal."""
    _check_pivot("linalg.lu_factor", A, pivot)
    found = lu_(A)
    if check_errors:
        try:
            raise_where(found.info, _zero_pivot)
        except LinAlgError as e:
            raise RuntimeError(str(e)) from None
    return found


@operator(name="linalg_lu_factor", namespace="linalg", samples=lambda t: [t.regular(..., 3)])
def lu_factor(A: Tensor, *, pivot=True):
    """(LU, pivots) of A = P L U with partial pivoting, both factors in one matrix."""
    return lu_factor_t(*lu_factor_ex(A, pivot=pivot, check_errors=True)[:2])


@operator(name="linalg_lu", namespace="linalg", samples=lambda t: [t.regular(..., 3)])
def linalg_lu(A: Tensor, *, pivot=True):
    """(P, L, U) with A = P L U: a permutation, unit lower and upper triangular."""
    _check_pivot("linalg.lu", A, pivot)
    LU, pivots, _ = lu_(A)
    return linalg_lu_t(permutation(pivots, A.shape[-2], A._meta.dtype), *lower_and_upper(LU))


@operator(samples=lambda t: [t.regular(..., 3)])
def lu(input: Tensor, pivot=True, get_infos=False):
    """(LU, pivots), with info if `get_infos`; deprecated for linalg.lu_factor."""
    deprecated("torch.lu", "torch.linalg.lu_factor or torch.linalg.lu_factor_ex")
    found = lu_factor_ex(input, pivot=pivot, check_errors=not get_infos)
    return lu_with_info_t(*found) if get_infos else tuple(found[:2])


@operator(method=False, samples=lambda t: [t.regular(3), t.of([2, 2, 3]).int()])
def lu_unpack(LU_data: Tensor, LU_pivots, unpack_data=True, unpack_pivots=True):
    """(P, L, U) of what linalg.lu_factor returned; empty tensors where they are not asked for."""
    check_matrix("lu_unpack", LU_data, "LU_data")
    if unpack_pivots and LU_pivots._meta.dtype is not dt.int32:
        raise RuntimeError("lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype. Note: this "
                           "function is intended "
                           "to be used with the output produced by torch.linalg.lu_factor")
    d = LU_data._meta.dtype
    nothing = core.full((0,), 0, d)
    P = permutation(LU_pivots, LU_data.shape[-2], d) if unpack_pivots else nothing
    return lu_unpack_t(P, *(lower_and_upper(LU_data) if unpack_data else (nothing, nothing)))


@operator(name="linalg_lu_solve", namespace="linalg", samples=lambda t: [t.regular(3), t.of([2, 2, 3]).int(), t(3, 2)])
def linalg_lu_solve(LU: Tensor, pivots, B: Tensor, *, left=True, adjoint=False) -> Tensor:
    """X of A X = B (X A = B unless `left`; A^H if `adjoint`), A given by its factors."""
    check_system("linalg.lu_solve", LU, B, left)
    if not left:
        return linalg_lu_solve(LU, pivots, B.mH, adjoint=not adjoint).mH
    if pivots._meta.dtype is not dt.int32:
        raise RuntimeError("linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32")
    P = permutation(pivots, LU.shape[-2], LU._meta.dtype)
    LU, P, B = common_batch("linalg.lu_solve", LU, P, B)
    if adjoint:
        return P @ triangular(LU.mH, triangular(LU.mH, B, False, False), True, True)
    return triangular(LU, triangular(LU, P.mT @ B, False, True), True, False)


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t(3, 2), t.regular(3), t.of([2, 2, 3]).int()])
def lu_solve(input: Tensor, LU_data: Tensor, LU_pivots) -> Tensor:
    """X of A X = input, A given by its factors; as linalg.lu_solve."""
    deprecated("torch.lu_solve", "torch.linalg.lu_solve(LU, pivots, B)")
    return linalg_lu_solve(LU_data, LU_pivots, input)


# -- LDL --------------------------------------------------------------------------------------------------------

LDL, LDL_SOLVE = host_op("linalg_ldl_factor", lapack.ldl_factor), host_op("linalg_ldl_solve", lapack.ldl_solve)


@operator(name="linalg_ldl_factor_ex", namespace="linalg", samples=lambda t: [t.fixed(3, 3) + 2 * t.eye(3)])
def ldl_factor_ex(A: Tensor, *, hermitian=False, check_errors=False):
    """(LD, pivots, info) of a symmetric (Hermitian) matrix, by Bunch and Kaufman; its lower triangle is read. Has no
    derivative."""
    check_matrix("linalg.ldl_factor_ex", A, square=True)
    outputs = [(A.shape, A._meta.dtype), (A.shape[:-1], dt.int32), (A.shape[:-2], dt.int32)]
    found = ldl_factor_ex_t(*run(LDL, (A.detach(),), outputs, hermitian=bool(hermitian) and A.is_complex()))
    if check_errors:
        raise_where(found.info, lambda k: f"linalg.ldl_factor: The factor D has a zero at position {k} of its diagonal.")
    return found


@operator(name="linalg_ldl_factor", namespace="linalg", samples=lambda t: [t.fixed(3, 3) + 2 * t.eye(3)])
def ldl_factor(A: Tensor, *, hermitian=False):
    """(LD, pivots) of a symmetric (Hermitian) matrix: what linalg.ldl_solve takes."""
    return ldl_factor_t(*ldl_factor_ex(A, hermitian=hermitian, check_errors=True)[:2])


@operator(name="linalg_ldl_solve", namespace="linalg",
          samples=lambda t: [(t.fixed(3, 3) + t.eye(3)).tril(), t.of([1, 2, 3]).int(), t.fixed(3, 2)])
def ldl_solve(LD: Tensor, pivots, B: Tensor, *, hermitian=False) -> Tensor:
    """X of A X = B, A given by the result of linalg.ldl_factor. Has no derivative."""
    check_system("linalg.ldl_solve", LD, B, True)
    if tuple(pivots.shape) != tuple(LD.shape[:-1]):
        raise RuntimeError(f"linalg.ldl_solve: Expected LD.shape[:-1] and pivots.shape to be the same, but got pivots with shape "
                           f"{list(pivots.shape)} instead")
    if pivots._meta.dtype.kind not in "iu":
        raise RuntimeError(f"linalg.ldl_solve: Expected pivots to be integers. Got {pivots.dtype}")
    LD, B = common_batch("linalg.ldl_solve", LD.detach(), B.detach())
    pivots = pivots.expand(*LD.shape[:-1])
    return run(LDL_SOLVE, (LD, pivots, B), [(B.shape, B._meta.dtype)], hermitian=bool(hermitian) and LD.is_complex())[0]


# -- Cholesky ---------------------------------------------------------------------------------------------------

CHOLESKY = host_op("linalg_cholesky", lapack.cholesky)


@operator(name="linalg_cholesky_ex", public=False, holomorphic=False,
          grad=dict(A=lambda g, result_0: _cholesky_grad(g[0], result_0)))
def cholesky_(A: Tensor, upper):
    """The lower factor, from the upper triangle of A if `upper`."""
    return cholesky_ex_t(*run_square(CHOLESKY, A.mH if upper else A))


def _cholesky_grad(g, L):
    """Half of L^-H phi(L^H g) L^-1, where phi puts the conjugate of the lower triangle in place of the upper one."""
    inner = L.mH @ g
    inner = inner.tril() + inner.tril(-1).mH
    return triangular(L.mH, triangular(L.mH, inner.mH, True, False).mH, True, False) * 0.5


def _not_positive(info: int) -> str:
    return ("linalg.cholesky: The factorization could not be completed because the input is not positive-definite (the leading "
            "minor of order "
            f"{info} is not positive-definite).")


@operator(autocast=FULL_ON_CPU, name="linalg_cholesky_ex", namespace="linalg", samples=lambda t: [t.positive(..., 3)])
def cholesky_ex(A: Tensor, *, upper=False, check_errors=False):
    """(factor, info): info is the order of the first leading minor that is not positive, or 0."""
    check_matrix("linalg.cholesky", A, square=True)
    L, info = cholesky_(A, bool(upper))
    if check_errors:
        raise_where(info, _not_positive)
    return cholesky_ex_t(L.mH if upper else L, info)


@operator(autocast=FULL_ON_CPU, name="linalg_cholesky", namespace="linalg", samples=lambda t: [t.positive(..., 3)])
def linalg_cholesky(A: Tensor, *, upper=False) -> Tensor:
    """L of A = L L^H, or U of A = U^H U if `upper`, of Hermitian positive definite matrices; only that triangle is read."""
    return cholesky_ex(A, upper=upper, check_errors=True)[0]


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t.positive(..., 3)])
def cholesky(input: Tensor, upper=False) -> Tensor:
    """The factor L of input = L L^H; as linalg.cholesky."""
    deprecated("torch.cholesky", "torch.linalg.cholesky(A), for an upper factor with .mH,")
    return linalg_cholesky(input, upper=upper)


def _common_factor(what, input, L, upper):
    if input.dim() < 2 or L.dim() < 2:
        raise RuntimeError(f"{what}: b and u should have at least 2 dimensions, but have {input.dim()} and {L.dim()} dimensions "
                           "instead")
    check_system(what, L, input, True)
    return common_batch(what, L.mH if upper else L, input)


@operator(name="cholesky_solve", public=False, holomorphic=False,
          grad=dict(B=lambda g, L: factored(L, g), L=lambda g, L, result: _factored_grad(factored(L, g) @ result.mH, L)))
def factored(L: Tensor, B: Tensor):
    """X of L L^H X = B."""
    return triangular(L.mH, triangular(L, B, False, False), True, False)


def _factored_grad(outer, L):
    """By the whole of L, as if L L^H were formed from both its triangles."""
    return -(outer + outer.mH) @ L


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t(3, 2), t.regular(3).tril()])
def cholesky_solve(input: Tensor, L: Tensor, upper=False) -> Tensor:
    """X of A X = input, A given by its Cholesky factor."""
    L, B = _common_factor("cholesky_solve", input, L, upper)
    return factored(L, B)


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t.regular(3).tril()])
def cholesky_inverse(input: Tensor, upper=False) -> Tensor:
    """A^-1, A given by its Cholesky factor."""
    check_matrix("cholesky_inverse", input, square=True)
    return cholesky_solve(core.eye(input.shape[-1], dtype=input._meta.dtype).expand(input.shape), input, upper)
