"""Decompositions by orthogonal matrices: QR, singular values, eigenvalues, and what is made of them.

Derivatives of QR after S. F. Walter and L. Lehmann, "Algorithmic Differentiation of Linear Algebra Functions" (2012); of
singular values and eigenvalues after J. Townsend, "Differentiating the Singular Value Decomposition" (2016), and Giles (2008),
for complex matrices S.-X. Zhang and L. Wan (2019); of the pseudo-inverse after G. Golub and V. Pereyra, "The Differentiation of
Pseudo-Inverses" (1973). Vectors are determined up to a factor (a sign, a phase), and so are their derivatives where singular
values or eigenvalues coincide.
"""

from __future__ import annotations

import numpy as np

from ..base import dtype as dt
from ..base.errors import LinAlgError
from . import lapack
from . import pointwise as pw
from .casts import FULL_ON_CPU
from .extern import host_op, run
from .linalg import check_matrix, check_same, common_batch, triangular
from .parts import conj_, imag_, real_
from .recall import deprecated
from .record import core, everywhere, operator
from .results import named

Tensor = "Tensor"

qr_t, linalg_qr_t = named("qr", "Q", "R"), named("linalg_qr", "Q", "R")
geqrf_t = named("geqrf", "a", "tau")
svd_t, linalg_svd_t = named("svd", "U", "S", "V"), named("linalg_svd", "U", "S", "Vh")
eigh_t, eig_t = (named(name, "eigenvalues", "eigenvectors") for name in ("linalg_eigh", "linalg_eig"))
lstsq_t = named("linalg_lstsq", "solution", "residuals", "rank", "singular_values")


FAILED, NOT_FINITE = 1, 2


def _told(routine, not_finite=FAILED):
    """`routine` with one result more: 0, or why the others are NaN."""
    def host(A, *others, **params):
        why = 0 if np.isfinite(A).all() else not_finite
        if not why:
            try:
                return (*routine(A, *others, **params), np.int32(0))
            except np.linalg.LinAlgError:
                why = FAILED
        shapes = routine(np.zeros_like(A), *others, **params)
        return (*(np.full_like(x, np.nan if x.dtype.kind in "fc" else 0) for x in shapes), np.int32(max(why, 0)))
    return lapack.quiet(host)


def _look(what: str, why) -> None:
    """Raise at once what the routine told."""
    code = int(everywhere(why).max())
    if code == NOT_FINITE:
        raise RuntimeError(f"{what}: input tensor should not contain infs or NaNs.")
    if code:
        raise LinAlgError(f"{what}: The algorithm failed to converge because the input matrix is ill-conditioned or contained "
                          "non-finite values.")


WHY = ((), dt.int32)


# -- QR ---------------------------------------------------------------------------------------------------------

QR = host_op("linalg_qr", lambda A, complete: tuple(np.linalg.qr(A, "complete" if complete else "reduced")))
RAW = host_op("geqrf", lambda A: np.linalg.qr(A, "raw"))


@operator(name="linalg_qr", public=False, holomorphic=False, partial=True,
          grad=dict(A=lambda g, A, complete, result: _qr_grad(g, A, complete, result)))
def orthogonal(A: Tensor, complete):
    (m, n), lead, d = A.shape[-2:], tuple(A.shape[:-2]), A._meta.dtype
    k = m if complete else min(m, n)
    return linalg_qr_t(*run(QR, (A,), [(lead + (m, k), d), (lead + (k, n), d)], complete=complete))


def _qr_grad(g, A, complete, result):
    """(gQ + Q S) R^-H with S Hermitian, whose upper triangle is that of R gR^H - gQ^H Q."""
    (gQ, gR), (Q, R) = g, result
    if complete and A.shape[-2] > A.shape[-1]:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols. Use "
                           "mode='reduced'.")
    inner = 0
    if gR is not None:
        inner = R @ gR.mH
    if gQ is not None:
        inner = inner - gQ.mH @ Q
    inner = inner.tril()
    diagonal = inner.diagonal(0, -2, -1)
    inner = inner + inner.tril(-1).mH - (imag_(diagonal) * 1j).diag_embed() if A.is_complex() else inner + inner.tril(-1).mT
    total = Q @ inner
    if gQ is not None:
        total = total + gQ
    return triangular(R, total.mH, True, False).mH


@operator(autocast=FULL_ON_CPU, name="linalg_qr", namespace="linalg", samples=lambda t: [t(..., 4, 3)])
def linalg_qr(A: Tensor, mode="reduced"):
    """(Q, R) of A (..., m, n): orthonormal columns, upper triangular. `mode`: "reduced" (Q has min(m, n) columns), "complete"
    (m), or "r" (Q is empty, and there is no derivative)."""
    check_matrix("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    if mode == "r":
        R = orthogonal(A, False).R
        if R.requires_grad:
            R = _without_derivative(R)
        return linalg_qr_t(core.full((0,), 0, A._meta.dtype), R)
    m, n = A.shape[-2:]
    if m >= n:
        return orthogonal(A, mode == "complete")
    Q, R = orthogonal(A[..., :m], False)    # of a wide matrix: that of its square part, the rest of R from Q
    return linalg_qr_t(Q, core.cat([R, Q.mH @ A[..., m:]], -1))


def _refuse(g):
    raise RuntimeError("The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Use mode='reduced'.")


@operator(public=False, grad=dict(R=lambda g: _refuse(g)))
def _without_derivative(R: Tensor):
    return R.clone()


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t(..., 4, 3)])
def qr(input: Tensor, some=True):
    """(Q, R), as linalg.qr."""
    deprecated("torch.qr", "torch.linalg.qr(A, 'reduced' if some else 'complete')")
    return qr_t(*linalg_qr(input, "reduced" if some else "complete"))


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t.fixed(4, 3)])
def geqrf(input: Tensor):
    """(a, tau): R on and above the diagonal of a, below it the Householder vectors of Q, as LAPACK returns them. Has no
    derivative."""
    check_matrix("geqrf", input, "input")
    m, n = input.shape[-2:]
    lead, d = input.shape[:-2], input._meta.dtype
    turned, tau = run(RAW, (input.detach(),), [((*lead, n, m), d), ((*lead, min(m, n)), d)])
    return geqrf_t(turned.mT, tau)


# -- singular values --------------------------------------------------------------------------------------------

SVD = host_op("linalg_svd", _told(lambda A, full: tuple(np.linalg.svd(A, full))))
SVDVALS = host_op("linalg_svdvals", _told(lambda A: (np.linalg.svd(A, compute_uv=False),)))


@operator(name="linalg_svd", public=False, holomorphic=False, partial=True,
          grad=dict(A=lambda g, A, full, result: _svd_grad(g, A, full, result)))
def singular(A: Tensor, full):
    (m, n), lead, d = A.shape[-2:], tuple(A.shape[:-2]), A._meta.dtype
    k = min(m, n)
    left, right = (m, n) if full else (k, k)
    return run(SVD, (A,), [(lead + (m, left), d), (lead + (k,), d.to_real()), (lead + (right, n), d), WHY], full=full)


def _skew(x):
    return x - x.mH


def _gaps(values):
    """values[j] - values[i], 1 on the diagonal."""
    return values.unsqueeze(-2) - values.unsqueeze(-1) + core.eye(values.shape[-1], dtype=values._meta.dtype)


def _svd_grad(g, A, full, result):
    (gU, gS, gVh, _), (U, S, Vh, _) = g, result
    m, n = A.shape[-2:]
    k = min(m, n)
    if full:        # vectors of the null space are arbitrary, and have no derivative
        U, Vh = U[..., :k], Vh[..., :k, :]
        gU, gVh = gU if gU is None else gU[..., :k], gVh if gVh is None else gVh[..., :k, :]
    if gU is None and gVh is None:
        return (U * gS.unsqueeze(-2)) @ Vh
    S2, inner, outer = _gaps(S * S), gS.diag_embed() if gS is not None else 0.0, 0.0
    if gU is not None:
        turn = _skew(U.mH @ gU)
        inner = inner + turn / S2 * S.unsqueeze(-2) * _off_diagonal(k, S)
        if A.is_complex():
            inner = inner + (turn.diagonal(0, -2, -1) / (2 * S)).diag_embed()
        if m > k:
            scaled = gU / S.unsqueeze(-2)
            outer = outer + (scaled - U @ (U.mH @ scaled)) @ Vh
    if gVh is not None:
        inner = inner + S.unsqueeze(-1) * (_skew(Vh @ gVh.mH) / S2) * _off_diagonal(k, S)
        if n > k:
            scaled = gVh / S.unsqueeze(-1)
            outer = outer + U @ (scaled - (scaled @ Vh.mH) @ Vh)
    return U @ inner.to(U.dtype) @ Vh + outer


def _off_diagonal(n: int, like):
    return 1 - core.eye(n, dtype=like._meta.dtype)


def _check_driver(driver):
    if driver is not None:
        raise RuntimeError("linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend; "
                           f"received {driver!r}")


@operator(autocast=FULL_ON_CPU, name="linalg_svd", namespace="linalg", samples=lambda t: [t(..., 3, 3)])
def linalg_svd(A: Tensor, full_matrices=True, *, driver=None):
    """(U, S, Vh) of A = U diag(S) Vh, S decreasing. `full_matrices`: U and Vh square; else only as many vectors as S has
    values."""
    check_matrix("linalg.svd", A)
    _check_driver(driver)
    *found, why = singular(A, bool(full_matrices))
    _look("linalg.svd", why)
    return linalg_svd_t(*found)


@operator(autocast=FULL_ON_CPU, name="linalg_svdvals", namespace="linalg", samples=lambda t: [t(..., 3, 3)])
def svdvals(A: Tensor, *, driver=None) -> Tensor:
    """The singular values, decreasing."""
    check_matrix("linalg.svd", A)
    _check_driver(driver)
    if A.requires_grad and core.is_grad_enabled():
        return linalg_svd(A, False).S
    s, why = run(SVDVALS, (A,), [((*A.shape[:-2], min(A.shape[-2:])), A._meta.dtype.to_real()), WHY])
    _look("linalg.svd", why)
    return s


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t(..., 3, 3)])
def svd(input: Tensor, some=True, compute_uv=True):
    """(U, S, V) of input = U diag(S) V^H; V is not the conjugate transpose that linalg.svd returns."""
    check_matrix("svd", input, "input")
    if compute_uv:
        U, S, Vh = linalg_svd(input, not some)
        return svd_t(U, S, Vh.mH)
    m, n = input.shape[-2:]
    lead, d = tuple(input.shape[:-2]), input._meta.dtype
    return svd_t(core.full((*lead, m, m), 0, d), svdvals(input), core.full((*lead, n, n), 0, d))


# -- eigenvalues ------------------------------------------------------------------------------------------------

NAN_FOR_NAN = -1     # no error: the results are NaN, too
EIGH = host_op("linalg_eigh", _told(lambda A, triangle: tuple(np.linalg.eigh(A, triangle)), NAN_FOR_NAN))
EIGVALSH = host_op("linalg_eigvalsh", _told(lambda A, triangle: (np.linalg.eigvalsh(A, triangle),), NAN_FOR_NAN))


def _eig_host(A):
    values, vectors = np.linalg.eig(A)
    return values.astype(np.result_type(A.dtype, np.complex64)), vectors.astype(np.result_type(A.dtype, np.complex64))


EIG = host_op("linalg_eig", _told(_eig_host, NOT_FINITE))
EIGVALS = host_op("linalg_eigvals", _told(lambda A: (np.linalg.eigvals(A).astype(np.result_type(A.dtype, np.complex64)),), NOT_FINITE))


@operator(name="linalg_eigh", public=False, holomorphic=False, partial=True,
          grad=dict(A=lambda g, result: _eigh_grad(g[:2], *result[:2])))
def hermitian_eigen(A: Tensor, triangle):
    return run(EIGH, (A,), [(A.shape[:-1], A._meta.dtype.to_real()), (A.shape, A._meta.dtype), WHY], triangle=triangle)


def _eigh_grad(g, values, V):
    gvalues, gV = g
    if gV is None:
        return (V * gvalues.unsqueeze(-2)) @ V.mH
    inner = (V.mH @ gV) / _gaps(values) * _off_diagonal(values.shape[-1], values)
    if gvalues is not None:
        inner = inner + gvalues.diag_embed()
    return V @ inner @ V.mH


def _triangle(UPLO) -> str:
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return UPLO.upper()


@operator(autocast=FULL_ON_CPU, name="linalg_eigh", namespace="linalg", samples=lambda t: [t.positive(..., 3)])
def eigh(A: Tensor, UPLO="L"):
    """(eigenvalues, increasing; eigenvectors in columns) of Hermitian matrices, of which the lower ("L") or upper triangle is
    read."""
    check_matrix("linalg.eigh", A, square=True)
    values, vectors, why = hermitian_eigen(A, _triangle(UPLO))
    _look("linalg.eigh", why)
    return eigh_t(values, vectors)


@operator(autocast=FULL_ON_CPU, name="linalg_eigvalsh", namespace="linalg", samples=lambda t: [t.positive(..., 3)])
def eigvalsh(A: Tensor, UPLO="L") -> Tensor:
    """The eigenvalues of Hermitian matrices, increasing."""
    check_matrix("linalg.eigh", A, square=True)
    if A.requires_grad and core.is_grad_enabled():
        return eigh(A, UPLO).eigenvalues
    values, why = run(EIGVALSH, (A,), [(A.shape[:-1], A._meta.dtype.to_real()), WHY], triangle=_triangle(UPLO))
    _look("linalg.eigh", why)
    return values


@operator(name="linalg_eig", public=False, holomorphic=False, partial=True,
          grad=dict(A=lambda g, result: _eig_grad(g[:2], *result[:2])))
def eigen(A: Tensor):
    d = A._meta.dtype.to_complex()
    return run(EIG, (A,), [(A.shape[:-1], d), (A.shape, d), WHY])


def _eig_grad(g, values, V):
    """V^-H (diag(gvalues) + (V^H gV - V^H V Re diag(V^H gV)) / conj(gaps)) V^H: vectors have norm 1, so they do not grow."""
    from .linalg import solve_
    gvalues, gV = g
    inner = 0.0
    if gV is not None:
        inner = V.mH @ gV
        inner = inner - (V.mH @ V) * real_(inner.diagonal(0, -2, -1)).unsqueeze(-2)
        inner = inner / conj_(_gaps(values)) * _off_diagonal(values.shape[-1], values)
    if gvalues is not None:
        inner = inner + gvalues.diag_embed()
    return solve_(V.mH, inner @ V.mH)[0]


@operator(autocast=FULL_ON_CPU, name="linalg_eig", namespace="linalg", samples=lambda t: [t.regular(..., 3)])
def eig(A: Tensor):
    """(eigenvalues, eigenvectors in columns), complex, of square matrices."""
    check_matrix("linalg.eig", A, square=True)
    values, vectors, why = eigen(A)
    _look("linalg.eig", why)
    return eig_t(values, vectors)


@operator(autocast=FULL_ON_CPU, name="linalg_eigvals", namespace="linalg", samples=lambda t: [t.regular(..., 3)])
def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of square matrices, complex."""
    check_matrix("linalg.eigvals", A, square=True)
    if A.requires_grad and core.is_grad_enabled():
        return eig(A).eigenvalues
    values, why = run(EIGVALS, (A,), [(A.shape[:-1], A._meta.dtype.to_complex()), WHY])
    _look("linalg.eigvals", why)
    return values


# -- the pseudo-inverse, rank, least squares --------------------------------------------------------------------

PINV = host_op("linalg_pinv", _told(lambda A, tolerance, hermitian: (_pinv_host(A, tolerance, hermitian),)))


def _spectrum(A, hermitian):
    """(U, s, V^H) with A = U diag(s) V^H; s is negative where a Hermitian matrix has negative eigenvalues."""
    if hermitian:
        values, vectors = np.linalg.eigh(A)
        return vectors, values, vectors.conj().swapaxes(-1, -2)
    return np.linalg.svd(A, full_matrices=False)


def _pinv_host(A, tolerance, hermitian):
    """tolerance (..., 2): absolute, relative to the largest singular value."""
    m, n = A.shape[-2:]
    if not min(m, n):
        return np.zeros((*A.shape[:-2], n, m), A.dtype)
    U, s, Vh = _spectrum(A, hermitian)
    size = np.abs(s)
    cut = np.maximum(tolerance[..., 0], tolerance[..., 1] * size.max(-1))[..., None]
    inverse = np.where(size > cut, 1 / s, 0).astype(s.dtype)
    return (Vh.conj().swapaxes(-1, -2) * inverse[..., None, :]) @ U.conj().swapaxes(-1, -2)


@operator(name="linalg_pinv", public=False, holomorphic=False, grad=dict(A=lambda g, A, result_0: pinv_grad(g[0], A, result_0)))
def pseudo_inverse(A: Tensor, tolerance, hermitian):
    return run(PINV, (A, tolerance), [((*A.shape[:-2], A.shape[-1], A.shape[-2]), A._meta.dtype), WHY], hermitian=hermitian)


def pinv_grad(g, A, P):
    """-P^H g P^H + (1 - A P) g^H P P^H + P^H P g^H (1 - P A)."""
    gh, Ph = g.mH, P.mH
    left, right = gh @ P @ Ph, Ph @ P @ gh
    return -Ph @ g @ Ph + left - A @ (P @ left) + right - (right @ P) @ A


def _tolerances(what, A, atol, rtol):
    """(atol, rtol) as tensors that broadcast with the leading dimensions; without either rtol is max(m, n) times the machine
    epsilon."""
    d = A._meta.dtype.to_real()
    for x in (atol, rtol):
        if isinstance(x, core.Tensor) and x.is_complex():
            raise RuntimeError(f"{what}: tolerances of complex type are not supported; received {x.dtype}")
    absolute = isinstance(atol, core.Tensor) or atol is not None and atol > 0
    if rtol is None:
        rtol = max(A.shape[-2:]) * float(np.finfo(d.numpy).eps)
        if isinstance(atol, core.Tensor):
            rtol = pw.where(atol > 0, 0.0, rtol)
        elif absolute:
            rtol = 0.0
    atol = 0.0 if atol is None else atol
    return tuple(x.to(d) if isinstance(x, core.Tensor) else core.full((), float(x), d) for x in (atol, rtol))


@operator(name="linalg_pinv", namespace="linalg", samples=lambda t: [t(..., 4, 3)])
def pinv(A: Tensor, rcond=None, hermitian=False, *, atol=None, rtol=None) -> Tensor:
    """The Moore-Penrose inverse. Singular values up to max(atol, rtol * largest) count as 0; `rcond` is another name of rtol."""
    check_matrix("linalg.pinv", A, square=bool(hermitian))
    if rcond is not None:
        rtol = rcond
    atol, rtol = _tolerances("linalg.pinv", A, atol, rtol)
    lead = tuple(A.shape[:-2])
    tolerance = core.stack([atol.expand(lead) if atol.dim() <= len(lead) else atol, rtol.expand(lead)], -1)
    inverse, why = pseudo_inverse(A, tolerance, bool(hermitian))
    _look("linalg.pinv", why)
    return inverse


@operator(autocast=FULL_ON_CPU, samples=lambda t: [t(4, 3)])
def pinverse(input: Tensor, rcond=1e-15) -> Tensor:
    """The Moore-Penrose inverse, as linalg.pinv with rtol = rcond."""
    return pinv(input, rtol=rcond)


@operator(autocast=FULL_ON_CPU, name="linalg_matrix_rank", namespace="linalg")
def matrix_rank(A: Tensor, tol=None, hermitian=False, *, atol=None, rtol=None) -> Tensor:
    """How many singular values are above max(atol, rtol * largest); `tol` is an absolute tolerance."""
    check_matrix("linalg.matrix_rank", A, square=bool(hermitian))
    A = A.detach()
    if tol is not None:
        atol, rtol = tol, 0.0
    atol, rtol = _tolerances("linalg.matrix_rank", A, atol, rtol)
    s = eigvalsh(A).abs() if hermitian else svdvals(A)
    if not s.shape[-1]:
        return core.full(tuple(A.shape[:-2]), 0, dt.int64)
    return (s > pw.maximum(atol, rtol * s.amax(-1)).unsqueeze(-1)).sum(-1)


DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def _lstsq_host(A, B, rcond):
    """(X of least norm, rank, singular values)"""
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    kept = s > rcond * s.max(-1, initial=0, keepdims=True)
    scaled = np.where(kept, 1 / s, 0)[..., None].astype(s.dtype) * (U.conj().swapaxes(-1, -2) @ B)
    return Vh.conj().swapaxes(-1, -2) @ scaled, kept.sum(-1), s


LSTSQ = host_op("linalg_lstsq", _told(_lstsq_host))


@operator(name="linalg_lstsq", public=False, holomorphic=False,
          grad=dict(A=lambda g, A, B: _lstsq_grad(g[0], A, B), B=lambda g, A: pinv(A).mH @ g[0]))
def least_squares(A: Tensor, B: Tensor, rcond):
    (m, n), lead, d = A.shape[-2:], tuple(A.shape[:-2]), A._meta.dtype
    outputs = [((*lead, n, B.shape[-1]), d), (lead, dt.int64), ((*lead, min(m, n)), d.to_real()), WHY]
    return run(LSTSQ, (A, B), outputs, rcond=rcond)


def _lstsq_grad(g, A, B):
    """X = pinv(A) B."""
    return pinv_grad(g @ B.mH, A, pinv(A))


@operator(autocast=FULL_ON_CPU, name="linalg_lstsq", namespace="linalg", samples=lambda t: [t(..., 4, 3), t(..., 4, 2)])
def lstsq(A: Tensor, B: Tensor, rcond=None, *, driver=None):
    """(solution, residuals, rank, singular values): X of least ||A X - B|| and, among several, of least norm.

    A (..., m, n), B (..., m, k) or (..., m). Residuals are squared norms of columns, where m > n and A has full rank. The
    driver, one of LAPACK's names, says what is returned: "gels" no rank, "gelsy" (default) no singular values, "gelsd" and
    "gelss" all.
    """
    what = "linalg.lstsq"
    driver = "gelsy" if driver is None else driver
    if driver not in DRIVERS:
        raise RuntimeError(f"{what}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss); received {driver!r}")
    columns, vector = _right_sides(what, A, B)
    m, n = A.shape[-2:]
    A, columns = common_batch(what, A, columns)
    if rcond is None:
        rcond = max(m, n) * float(np.finfo(A._meta.dtype.to_real().numpy).eps)
    X, rank, s, why = least_squares(A, columns, 0.0 if driver == "gels" else float(rcond))
    _look(what, why)
    real = A._meta.dtype.to_real()
    residuals = X.real.reshape(-1)[:0]
    if m > n and (driver == "gels" or bool((rank == n).all())) and driver != "gelsy":
        off = A @ X - columns
        residuals = (off.abs() ** 2).sum(-2)
    return lstsq_t(X.squeeze(-1) if vector else X, residuals, rank if driver != "gels" else core.full((0,), 0, dt.int64),
                   s if driver in ("gelsd", "gelss") else core.full((0,), 0, real))


def _right_sides(what: str, A, B) -> tuple:
    """B as a matrix of columns, checked, and whether it is a vector."""
    check_matrix(what, A)
    check_same(what, A, B)
    if B.dim() < 1:
        raise RuntimeError(f"{what}: input and other should have at least 2 dimensions; received other of shape {list(B.shape)}")
    vector = B.dim() == 1 or A.dim() - 1 == B.dim() and tuple(B.shape) == tuple(A.shape[:-1])
    columns = B.unsqueeze(-1) if vector else B
    if columns.dim() < 2 or columns.shape[-2] != A.shape[-2]:
        raise RuntimeError(f"{what}: input.size(-2) should match other.size(-2); received shapes {list(A.shape)} and "
                           f"{list(B.shape)}")
    return columns, vector
