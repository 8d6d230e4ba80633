"""The multivariate normal distribution."""

from __future__ import annotations

import math

import antorcha as torch

from . import constraints
from .distribution import Distribution
from .utils import _standard_normal, lazy_property

__all__ = ["MultivariateNormal"]


def _batch_mv(matrix, vector):
    """Products of a batch of matrices and a batch of vectors."""
    return torch.matmul(matrix, vector.unsqueeze(-1)).squeeze(-1)


def _batch_mahalanobis(L, x):
    """|L^-1 x|^2 for a batch of lower triangular L (b + (n, n)) and of vectors x (s + b + (n,)): shape s + b.

    The draws s become columns, so that a matrix is solved once for all of them."""
    rank = L.dim() - 2
    x = x.expand(torch.broadcast_shapes(x.shape, L.shape[:-1]))
    lead = x.shape[:x.dim() - rank - 1]
    columns = x.reshape((-1,) + x.shape[len(lead):]).movedim(0, -1)
    solved = torch.linalg.solve_triangular(L, columns, upper=False).pow(2).sum(-2)
    return solved.movedim(-1, 0).reshape(lead + x.shape[len(lead):-1])


def _precision_to_scale_tril(P):
    """The lower triangular L with (L L^T)^-1 = P, from the factor of P read backwards."""
    factor = torch.linalg.cholesky(torch.flip(P, (-2, -1)))
    inverse = torch.flip(factor, (-2, -1)).mT
    return torch.linalg.solve_triangular(inverse, torch.eye(P.shape[-1], dtype=P.dtype), upper=False)


_MATRICES = ("covariance_matrix", "precision_matrix", "scale_tril")


def scale_parameter(matrices: dict, batch_shape):
    """(name, matrix, batch shape) of the one matrix that is given, which may add to the batch. ValueError for none or several."""
    given = {name: m for name, m in matrices.items() if m is not None}
    if len(given) != 1:
        raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
    ((name, matrix),) = given.items()
    if matrix.dim() < 2:
        raise ValueError(f"{name} must be at least two-dimensional, with optional leading batch dimensions")
    batch_shape = torch.broadcast_shapes(matrix.shape[:-2], batch_shape)
    return name, matrix, batch_shape


def scale_factor(name: str, matrix):
    """The lower triangular L with L L^T the covariance, from the parameter of this name."""
    if name == "scale_tril":
        return matrix
    return torch.linalg.cholesky(matrix) if name == "covariance_matrix" else _precision_to_scale_tril(matrix)


class MultivariateNormal(Distribution):
    """Normal vectors of mean `loc` and covariance L L^T, given as `covariance_matrix`, as its inverse `precision_matrix`, or as the
    lower triangular L (`scale_tril`), which is the quickest."""

    arg_constraints = {"loc": constraints.real_vector, "covariance_matrix": constraints.positive_definite,
                       "precision_matrix": constraints.positive_definite, "scale_tril": constraints.lower_cholesky}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None):
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        matrices = dict(zip(_MATRICES, (covariance_matrix, precision_matrix, scale_tril)))
        name, matrix, batch_shape = scale_parameter(matrices, loc.shape[:-1])
        setattr(self, name, matrix.expand(batch_shape + (-1, -1)))
        self.loc = loc.expand(batch_shape + (-1,))
        super().__init__(batch_shape, self.loc.shape[-1:], validate_args=validate_args)
        self._unbroadcasted_scale_tril = scale_factor(name, matrix)

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(MultivariateNormal, _instance)
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril
        return self._expanded(MultivariateNormal, batch_shape, new)

    def _expand_matrix(self, matrix):
        return matrix.expand(self._batch_shape + self._event_shape + self._event_shape)

    @lazy_property
    def scale_tril(self):
        return self._expand_matrix(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self):
        L = self._unbroadcasted_scale_tril
        return self._expand_matrix(torch.matmul(L, L.mT))

    @lazy_property
    def precision_matrix(self):
        return self._expand_matrix(torch.cholesky_inverse(self._unbroadcasted_scale_tril))

    mean = mode = property(lambda self: self.loc)

    @property
    def variance(self):
        return self._unbroadcasted_scale_tril.pow(2).sum(-1).expand(self._batch_shape + self._event_shape)

    def rsample(self, sample_shape=()):
        noise = _standard_normal(self._extended_shape(sample_shape), self.loc.dtype)
        return self.loc + _batch_mv(self._unbroadcasted_scale_tril, noise)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        distance = _batch_mahalanobis(self._unbroadcasted_scale_tril, value - self.loc)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + distance) - self._half_log_det()

    def _half_log_det(self):
        return self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def entropy(self):
        return (0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._half_log_det()).expand(self._batch_shape)
