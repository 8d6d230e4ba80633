"""torch.lobpcg: some eigenpairs of a large symmetric matrix, from products with it alone."""

from __future__ import annotations

from .base.errors import message
from .core.autograd import no_grad
from .core.tensor import Tensor
from .ops import factory, random, spectral
from .ops.joining import cat, stack
from .ops.record import check_tensor
from .type_info import finfo


def lobpcg(A, k=None, B=None, X=None, n=None, iK=None, niter=None, tol=None, largest=None, method=None, tracker=None, ortho_iparams=None,
           ortho_fparams=None, ortho_bparams=None):
    """(eigenvalues, eigenvectors as columns) of the `k` (1) largest, or smallest, of A x = E B x with symmetric `A` (*, m, m), dense or
    sparse, and positive definite `B` (the identity), m at least 3 k. Knyazev, "Toward the Optimal Preconditioned Eigensolver", 2001.

    `X` (*, m, n) or else `n` random vectors are where it starts from, `iK` is applied to residuals, at most `niter` (1000) times, until
    their norms are below `tol` (the root of the dtype's precision) of that of A. The basis is made orthonormal by a decomposition of its
    inner products, whatever `method` and `ortho_*` say. Derivatives by dense A and B are those of simple eigenvalues."""
    check_tensor("lobpcg", "A", A, 1)
    if A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(message("lobpcg", "A of shape (*, m, m) (A must be square)", f"{list(A.shape)}"))
    if not A.is_floating_point():
        raise RuntimeError(message("lobpcg", "a floating point tensor", f"{A.dtype}", "Convert it first: A.float()"))
    m = A.shape[-1]
    n = n or (X.shape[-1] if X is not None else k or 1)
    k = min(k or n, n)
    if m < 3 * n:
        raise ValueError(f"LOBPCG algorithm is not applicable when the number of A rows (={m}) is smaller than 3 x the number of requested "
                         f"eigenpairs (={n}). Use torch.linalg.eigh.")
    for name, x, shape in (("B", B, (m, m)), ("X", X, (m, n)), ("iK", iK, (m, m))):
        if x is not None and tuple(x.shape[-2:]) != shape:
            raise ValueError(message("lobpcg", f"{name} of shape {list(A.shape[:-2] + shape)} (shape mismatch)", f"{list(x.shape)}"))
    X = random.randn(*A.shape[:-2], m, n, dtype=A.dtype, device=A.device) if X is None else X
    tol = finfo(A.dtype).eps ** 0.5 if tol is None else tol
    return _each(A, B, X, iK, k, 1000 if niter is None else niter, tol, largest is not False)


def _each(A, B, X, iK, *options):
    """The eigenpairs of every matrix of a batch."""
    if A.dim() > 2:
        parts = [_each(A[i], *(None if x is None else x[i] if x.dim() > 2 else x for x in (B, X, iK)), *options) for i in range(A.shape[0])]
        return tuple(stack(found) for found in zip(*parts))
    with no_grad():
        E, found = _iterated(A.detach(), None if B is None else B.detach(), X.detach(), iK, *options)
    return _with_derivatives(A, B, E, found) if A.requires_grad or B is not None and B.requires_grad else (E, found)


def _times(B: Tensor | None, X: Tensor) -> Tensor:
    return X if B is None else B @ X


def _orthonormal(S, B):
    """A basis of the span of the columns of `S`, of which x'By is 0 and x'Bx is 1: by the eigenvectors of their inner products, twice, as
    the first time rounds."""
    for _ in range(2):
        inner = S.t() @ _times(B, S)
        scale = inner.diagonal().clamp(min=finfo(S.dtype).tiny).rsqrt()
        lengths, turned = spectral.eigh(inner * scale * scale.unsqueeze(1))
        kept = lengths > lengths.max() * S.shape[1] * finfo(S.dtype).eps
        S = S @ (scale.unsqueeze(1) * turned[:, kept] * lengths[kept].rsqrt())
    return S


def _iterated(A, B, X, iK, k: int, niter: int, tol: float, largest: bool):
    n, basis, size = X.shape[1], X, 0.0
    for step in range(niter + 1):
        S = _orthonormal(basis, B)
        values, turned = spectral.eigh(S.t() @ (A @ S))
        if largest:
            values, turned = values.flip(0), turned.flip(1)
        E, found = values[:n], S @ turned[:, :n]
        size = max(size, float(values.abs().max()))
        residual = A @ found - _times(B, found) * E
        if step == niter or float(residual[:, :k].norm(dim=0).max()) <= tol * size:
            break
        way = found - X @ (X.t() @ _times(B, found)) if step else None      # from the last step's vectors, of which there are none at first
        X, residual = found, _times(iK, residual)
        residual = residual - X @ (X.t() @ _times(B, residual))
        basis = cat([X, residual] if way is None else [X, residual, way], 1)
    return E[:k], found[:, :k]


def _with_derivatives(A, B, E, X):
    """The same numbers with their derivatives: dE = x'(dA - E dB)x, and of x minus the pseudo-inverse of A - EB times (dA - dE B - E dB)x,
    and x times -x'dBx / 2."""
    values, vectors = [], []
    for i in range(E.shape[0]):
        x = X[:, i]
        moved = A @ x - E[i] * _times(B, x)
        e = E[i] + x @ moved - (x @ moved).detach()
        shifted = (A - E[i] * (B if B is not None else factory.eye(A.shape[-1], dtype=A.dtype, device=A.device))).detach()
        turn = spectral.pinv(shifted, hermitian=True) @ (A @ x - e * _times(B, x))
        turn = turn - x * (_times(B, x).detach() @ turn)
        length = x @ _times(B, x) / 2
        values.append(e)
        vectors.append(x - (turn - turn.detach()) - (length - length.detach()) * x)
    return stack(values), stack(vectors, 1)


__all__ = ["lobpcg"]
