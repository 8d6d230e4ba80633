"""Orthogonal, weight-normalised and spectrally normalised parameters."""

from __future__ import annotations

from enum import Enum, auto

import antorcha as torch

from .. import functional as F
from ..modules import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..modules.module import Module
from . import parametrize
from .weight_norm import norm_except_dim, scaled_to_norm

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


# -- orthogonal -------------------------------------------------------------------------------------------------

def _is_orthogonal(Q, eps=None) -> bool:
    """Whether Q has orthonormal columns, within 10 n eps."""
    n, k = Q.size(-2), Q.size(-1)
    eps = 10.0 * n * torch.finfo(Q.dtype).eps if eps is None else eps
    return bool(torch.allclose(Q.mT.conj() @ Q, torch.eye(k, dtype=Q.dtype), atol=eps))


def _make_orthogonal(A):
    """The orthonormal columns that the columns of A give one after the other, with the directions they have in A (Gram and Schmidt)."""
    Q, R = torch.linalg.qr(A)
    return Q * R.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


class _OrthMaps(Enum):
    matrix_exp = auto()
    cayley = auto()
    householder = auto()


class _Orthogonal(Module):
    """An orthogonal matrix made from any matrix; with `use_trivialization`, times the orthogonal matrix `base` (Lezcano-Casado 2019)."""

    def __init__(self, weight, orthogonal_map: _OrthMaps, *, use_trivialization=True):
        super().__init__()
        if weight.is_complex() and orthogonal_map is _OrthMaps.householder:
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X):
        n, k = X.size(-2), X.size(-1)
        wide = n < k
        if wide:
            X, n, k = X.mT, k, n
        if self.orthogonal_map is _OrthMaps.householder:
            Q = self._reflections(X)
        else:
            Q = self._rotation(X, n, k)
        if getattr(self, "base", None) is not None:
            Q = self.base @ Q
        return Q.mT if wide else Q

    @staticmethod
    def _reflections(X):
        """Columns below the diagonal give Householder reflections; the diagonal holds signs."""
        A = X.tril(diagonal=-1)
        tau = 2.0 / (1.0 + (A * A).sum(dim=-2))
        return torch.linalg.householder_product(A, tau) * X.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)

    def _rotation(self, X, n: int, k: int):
        """exp(A) or (I + A/2)^-1 (I - A/2)^T of the skew A = X - X^T, X below the diagonal."""
        X = X.tril()
        if n != k:
            X = torch.cat([X, torch.zeros(*X.shape[:-2], n, n - k, dtype=X.dtype)], dim=-1)
        A = X - X.mT.conj()
        if self.orthogonal_map is _OrthMaps.matrix_exp:
            Q = torch.linalg.matrix_exp(A)
        else:
            eye = torch.eye(n, dtype=A.dtype)
            Q = torch.linalg.solve(eye - 0.5 * A, eye + 0.5 * A)
        return Q[..., :k]

    def right_inverse(self, Q):
        if Q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {Q.shape}.")
        given, wide = Q, Q.size(-2) < Q.size(-1)
        if wide:
            Q = Q.mT
        n, k = Q.shape[-2:]
        if not hasattr(self, "base"):
            return self._signed_reflectors(Q, wide)
        if n == k:
            Q = Q.clone() if _is_orthogonal(Q) else _make_orthogonal(Q)
        else:
            Q = _make_orthogonal(torch.cat([Q, torch.randn(*Q.shape[:-2], n, n - k, dtype=Q.dtype)], dim=-1))
        self.base = Q
        # The matrix that both kinds of maps send to the first columns of the identity: -1 are signs for the reflections.
        return -torch.eye(*given.shape[-2:], dtype=given.dtype).expand(given.shape).clone()

    def _signed_reflectors(self, Q, wide: bool):
        if self.orthogonal_map is not _OrthMaps.householder:
            raise NotImplementedError("It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                                      "use_trivialization=False.")
        A, tau = torch.geqrf(Q)
        signs = A.diagonal(dim1=-2, dim2=-1).sign()
        signs = torch.where(tau == 0.0, -signs, signs)
        A = A - torch.diag_embed(A.diagonal(dim1=-2, dim2=-1) - signs) if A.size(-2) == A.size(-1) else _with_diagonal(A, signs)
        return A.mT if wide else A


def _with_diagonal(A, diagonal):
    """A tall matrix with another diagonal."""
    k = A.size(-1)
    top = A[..., :k, :]
    top = top - torch.diag_embed(top.diagonal(dim1=-2, dim2=-1) - diagonal)
    return torch.cat([top, A[..., k:, :]], dim=-2)


def orthogonal(module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True):
    """Keep the matrix `name` (or batch of matrices) orthogonal; of a tall one the columns, of a wide one the rows are orthonormal.

    orthogonal_map: "matrix_exp" (the default for square matrices), "cayley" or "householder" (the default else). use_trivialization:
    assignment works, and training starts where the matrix is.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.size(-2) == weight.size(-1) or weight.is_complex() else "householder"
    chosen = getattr(_OrthMaps, orthogonal_map, None)
    if chosen is None:
        raise ValueError(f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}')
    parametrization = _Orthogonal(weight, chosen, use_trivialization=use_trivialization)
    parametrize.register_parametrization(module, name, parametrization, unsafe=True)
    return module


# -- weight normalisation ---------------------------------------------------------------------------------------

class _WeightNorm(Module):
    """g v / |v|, the norm taken over all dimensions but `dim` (Salimans and Kingma 2016)."""

    def __init__(self, dim: int | None = 0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g, weight_v):
        return scaled_to_norm(weight_v, weight_g, self.dim)

    def right_inverse(self, weight):
        return norm_except_dim(weight, 2, self.dim), weight


def weight_norm(module, name: str = "weight", dim: int = 0):
    """Learn length and direction of a weight apart: parametrizations.<name>.original0 and .original1.

    dim: along which there is a length for each place; None: one for the whole tensor. Checkpoints of the older
    `torch.nn.utils.weight_norm` can be loaded.
    """
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def read_older(state_dict, prefix, *ignored):
        for older, newer in ((f"{prefix}{name}_g", "original0"), (f"{prefix}{name}_v", "original1")):
            if older in state_dict:
                state_dict[f"{prefix}parametrizations.{name}.{newer}"] = state_dict.pop(older)

    module._register_load_state_dict_pre_hook(read_older)
    return module


# -- spectral normalisation -------------------------------------------------------------------------------------

class _SpectralNorm(Module):
    """A weight divided by its greatest singular value, which power iteration estimates (Miyato et al. 2018)."""

    def __init__(self, weight, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12):
        super().__init__()
        if dim >= weight.ndim or dim < -weight.ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{weight.ndim}, {weight.ndim - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim, self.eps = dim if dim >= 0 else dim + weight.ndim, eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._reshape_weight_to_matrix(weight)
            height, width = matrix.shape
            u, v = matrix.new_empty(height).normal_(0, 1), matrix.new_empty(width).normal_(0, 1)
            self.register_buffer("_u", F.normalize(u, dim=0, eps=eps))
            self.register_buffer("_v", F.normalize(v, dim=0, eps=eps))
            self._power_method(matrix, 15)

    def _reshape_weight_to_matrix(self, weight):
        return weight.movedim(self.dim, 0).flatten(1)

    def _power_method(self, matrix, n_power_iterations: int) -> None:
        with torch.no_grad():
            u, v = self._u, self._v
            for _ in range(n_power_iterations):
                u = F.normalize(torch.mv(matrix, v), dim=0, eps=self.eps)
                v = F.normalize(torch.mv(matrix.T, u), dim=0, eps=self.eps)
            self._u.copy_(u)
            self._v.copy_(v)

    def forward(self, weight):
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._reshape_weight_to_matrix(weight)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()     # several calls may come before one backward pass
        return weight / torch.dot(u, torch.mv(matrix, v))

    def right_inverse(self, value):
        return value


def spectral_norm(module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None):
    """Divide a weight by its greatest singular value, as a matrix whose rows are its places along `dim` (0; 1 for transposed
    convolutions). Each reading of the weight in training makes `n_power_iterations` more steps towards that value."""
    weight = getattr(module, name, None)
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    parametrize.register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
    return module
