"""The generalised Pareto distribution."""

from __future__ import annotations

import antorcha as torch

from . import constraints
from .distribution import Distribution
from .utils import broadcast_all

__all__ = ["GeneralizedPareto"]


class GeneralizedPareto(Distribution):
    """Excesses over a threshold `loc`: x is exceeded with probability (1 + concentration z)**(-1 / concentration), z = (x - loc) / scale;
    with probability exp(-z) for a concentration of 0."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    has_rsample = True

    def __init__(self, loc, scale, concentration, validate_args=None):
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.size(), validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        return self._expanded(GeneralizedPareto, batch_shape, _instance)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        upper = torch.where(self.concentration < 0, self.loc - self.scale / self.concentration, torch.inf)
        return constraints.interval(self.loc, upper)

    def _z(self, x):
        return (x - self.loc) / self.scale

    def _by_concentration(self, function, limit):
        """`function(concentration)`, or `limit` where the concentration is 0; gradients stay finite there."""
        flat = torch.isclose(self.concentration, torch.zeros_like(self.concentration))
        return torch.where(flat, limit, function(torch.where(flat, 1.0, self.concentration)))

    def rsample(self, sample_shape=()):
        return self.icdf(torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype))

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        z = self._z(value)
        return self._by_concentration(lambda c: -(1 + 1 / c) * torch.log1p(c * z), -z) - self.scale.log()

    def log_survival_function(self, value):
        """The logarithm of the probability of more than `value`."""
        if self._validate_args:
            self._validate_sample(value)
        z = self._z(value)
        return self._by_concentration(lambda c: -torch.log1p(c * z) / c, -z)

    def log_cdf(self, value):
        """The logarithm of `cdf`."""
        return torch.log1p(-torch.exp(self.log_survival_function(value)))

    def cdf(self, value):
        return torch.exp(self.log_cdf(value))

    def icdf(self, value):
        exponential = -torch.log1p(-value)
        return self.loc + self.scale * self._by_concentration(lambda c: torch.expm1(c * exponential) / c, exponential)

    @property
    def mean(self):
        c = self.concentration
        return torch.where(c < 1, self.loc + self.scale / (1 - torch.where(c < 1, c, 0.0)), torch.inf)

    @property
    def variance(self):
        c = torch.where(self.concentration < 0.5, self.concentration, 0.0)
        return torch.where(self.concentration < 0.5, self.scale.square() / ((1 - c).square() * (1 - 2 * c)), torch.inf)

    def entropy(self):
        return (1 + self.concentration + self.scale.log()).expand(self._batch_shape)

    mode = property(lambda self: self.loc)
