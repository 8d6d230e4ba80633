"""Approximations of low rank by random projections.

N. Halko, P.-G. Martinsson and J. A. Tropp, "Finding Structure with Randomness: Probabilistic Algorithms for Constructing
Approximate Matrix Decompositions" (2011), algorithms 4.4 and 5.1.
"""

from __future__ import annotations

from ..base import dtype as dt
from . import random
from .linalg import check_matrix
from .parts import complex_
from .record import operator
from .spectral import linalg_qr, linalg_svd

Tensor = "Tensor"


def _less(product, M, x):
    return product if M is None else product - M @ x


def _normal(rows: int, columns: int, like):
    """Normal numbers of variance 1."""
    d, device = like._meta.dtype, like._meta.device
    if d.kind != "c":
        return random.randn(rows, columns, dtype=d, device=device)
    parts = random.randn(2, rows, columns, dtype=d.to_real(), device=device) * 0.5 ** 0.5
    return complex_(parts[0], parts[1])


def basis(A, q: int, niter: int, M=None):
    """An orthonormal basis (..., m, q) of a space that nearly holds the columns of A - M."""
    R = _normal(A.shape[-1], q, A)
    Q = linalg_qr(_less(A @ R, M, R)).Q
    back = None if M is None else M.mH
    for _ in range(niter):
        Q = linalg_qr(_less(A.mH @ Q, back, Q)).Q
        Q = linalg_qr(_less(A @ Q, M, Q)).Q
    return Q


@operator(method=False, out=False, draws=True, differs="the signs of its vectors are those of its library", samples=lambda t: [t(4, 3), 2])
def svd_lowrank(A: Tensor, q=6, niter=2, M: Tensor = None):
    """(U, S, V) with A - M nearly U diag(S) V^H, of rank q: `niter` iterations make the subspace precise. q should be somewhat
    greater than the rank that is wanted."""
    check_matrix("svd_lowrank", A)
    q, niter = 6 if q is None else q, 2 if niter is None else niter
    M = None if M is None else M.broadcast_to(A.shape)
    wide = A.shape[-2] < A.shape[-1]
    if wide:
        A, M = A.mH, None if M is None else M.mH
    Q = basis(A, q, niter, M)
    U, S, Vh = linalg_svd(Q.mH @ A if M is None else Q.mH @ A - Q.mH @ M, False)
    U, V = Q @ U, Vh.mH
    return (V, S, U) if wide else (U, S, V)


@operator(method=False, out=False, draws=True, differs="the signs of its vectors are those of its library", samples=lambda t: [t(4, 3), 2])
def pca_lowrank(A: Tensor, q=None, center=True, niter=2):
    """(U, S, V) of the principal components: of A (..., m, n) less the mean of its rows, unless `center` is false, in V's
    columns."""
    m, n = A.shape[-2:]
    if q is None:
        q = min(6, m, n)
    elif not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    if A._meta.dtype.kind not in "fc":
        A = A.to(dt.default())
    return svd_lowrank(A - A.mean(-2, True) if center else A, q, niter)
