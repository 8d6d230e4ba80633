"""The Wishart distribution."""

from __future__ import annotations

import math
import warnings

import antorcha as torch

from . import constraints
from .chi2 import Chi2
from .exp_family import ExponentialFamily
from .multivariate_normal import _MATRICES, scale_factor, scale_parameter
from .utils import lazy_property

__all__ = ["Wishart"]

_MANY_TRIES = 10


def _log_multivariate_gamma(a, p: int):
    return torch.mvlgamma(a, p)


def _multidigamma(a, p: int):
    """The derivative of the logarithm of the multivariate gamma function."""
    return torch.digamma(a.unsqueeze(-1) - 0.5 * torch.arange(p, dtype=a.dtype)).sum(-1)


class Wishart(ExponentialFamily):
    """Sums of `df` outer products of normal vectors of this covariance (or precision, or Cholesky factor `scale_tril`)."""

    support = constraints.positive_definite
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, df, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None):
        matrices = dict(zip(_MATRICES, (covariance_matrix, precision_matrix, scale_tril)))
        given = next((m for m in matrices.values() if m is not None), None)
        df = df if isinstance(df, torch.Tensor) or given is None else torch.tensor(df, dtype=given.dtype)
        name, matrix, batch_shape = scale_parameter(matrices, getattr(df, "shape", ()))
        event_shape = matrix.shape[-2:]
        if event_shape[0] != event_shape[1]:
            raise ValueError(f"{name}: expected square matrices; received shape {tuple(matrix.shape)}")
        self.df = df.expand(batch_shape)
        setattr(self, name, matrix.expand(batch_shape + (-1, -1)))
        if self.df.le(event_shape[-1] - 1).any():
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {event_shape[-1] - 1}.")
        super().__init__(batch_shape, event_shape, validate_args=validate_args)
        if self.df.lt(event_shape[-1]).any():
            warnings.warn("Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.", stacklevel=2)
        self._unbroadcasted_scale_tril = scale_factor(name, matrix)
        self._set_chi2()

    def _set_chi2(self) -> None:
        """The squares on the diagonal of a draw's factor (Bartlett 1933)."""
        self._dist_chi2 = Chi2(self.df.unsqueeze(-1) - torch.arange(self._event_shape[-1], dtype=self.df.dtype))

    @property
    def arg_constraints(self):
        return {"covariance_matrix": constraints.positive_definite, "precision_matrix": constraints.positive_definite,
                "scale_tril": constraints.lower_cholesky, "df": constraints.greater_than(self._event_shape[-1] - 1)}

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(Wishart, _instance)
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril
        new = self._expanded(Wishart, batch_shape, new, names=("df", *_MATRICES))
        new._set_chi2()
        return new

    def _expand_matrix(self, matrix):
        return matrix.expand(self._batch_shape + self._event_shape)

    @lazy_property
    def scale_tril(self):
        return self._expand_matrix(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self):
        return self._expand_matrix(self._unbroadcasted_scale_tril @ self._unbroadcasted_scale_tril.mT)

    @lazy_property
    def precision_matrix(self):
        return self._expand_matrix(torch.cholesky_inverse(self._unbroadcasted_scale_tril))

    @property
    def mean(self):
        return self.df.reshape(self._batch_shape + (1, 1)) * self.covariance_matrix

    @property
    def mode(self):
        factor = (self.df - self.covariance_matrix.shape[-1] - 1).reshape(self._batch_shape + (1, 1))
        return torch.where(factor <= 0, torch.nan, factor) * self.covariance_matrix

    @property
    def variance(self):
        V = self.covariance_matrix
        diagonal = V.diagonal(dim1=-2, dim2=-1)
        outer = diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)
        return self.df.reshape(self._batch_shape + (1, 1)) * (V.pow(2) + outer)

    def _bartlett_sampling(self, sample_shape):
        """L A A^T L^T: A has roots of chi-squared numbers on its diagonal and normal numbers below."""
        p = self._event_shape[-1]
        noise = torch.diag_embed(self._dist_chi2.rsample(sample_shape).clamp(min=torch.finfo(self.df.dtype).eps).sqrt())
        below = torch.randn(torch.Size(sample_shape) + self._batch_shape + (p * (p - 1) // 2,), dtype=noise.dtype)
        rows, columns = torch.tril_indices(p, p, -1)
        lower = torch.zeros_like(noise)
        lower[..., rows, columns] = below
        factor = self._unbroadcasted_scale_tril @ (noise + lower)
        return factor @ factor.mT

    def rsample(self, sample_shape=(), max_try_correction=None):
        """Draws; those that rounding made singular are drawn again, up to `max_try_correction` times."""
        tries = _MANY_TRIES if max_try_correction is None else max_try_correction
        sample = self._bartlett_sampling(sample_shape)
        singular = ~self.support.check(sample)
        while tries > 0 and singular.any():
            again = self._bartlett_sampling(sample_shape)
            sample = torch.where(singular.unsqueeze(-1).unsqueeze(-1), again, sample)
            singular, tries = ~self.support.check(sample), tries - 1
        if singular.any():
            warnings.warn("Singular sample detected.", stacklevel=2)
        return sample

    def _log_det_scale(self):
        return 2 * self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        nu, p = self.df, self._event_shape[-1]
        trace = torch.cholesky_solve(value, self._unbroadcasted_scale_tril).diagonal(dim1=-2, dim2=-1).sum(-1)
        return (-nu * (p * math.log(2) + self._log_det_scale()) / 2 - _log_multivariate_gamma(nu / 2, p)
                + (nu - p - 1) / 2 * torch.linalg.slogdet(value).logabsdet - trace / 2)

    def entropy(self):
        nu, p = self.df, self._event_shape[-1]
        return (p * (p + 1) * math.log(2) / 2 + (p + 1) * self._log_det_scale() / 2 + _log_multivariate_gamma(nu / 2, p)
                - (nu - p - 1) / 2 * _multidigamma(nu / 2, p) + nu * p / 2)

    @property
    def _natural_params(self):
        return -self.precision_matrix / 2, (self.df - self._event_shape[-1] - 1) / 2

    def _log_normalizer(self, x, y):
        p = self._event_shape[-1]
        return (y + (p + 1) / 2) * (-torch.linalg.slogdet(-2 * x).logabsdet + p * math.log(2)) + _log_multivariate_gamma(y + (p + 1) / 2, p)
