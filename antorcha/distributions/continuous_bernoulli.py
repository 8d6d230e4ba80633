"""The continuous Bernoulli distribution."""

from __future__ import annotations

import math

import antorcha as torch
from antorcha.nn.functional import binary_cross_entropy_with_logits

from . import constraints
from .exp_family import ExponentialFamily
from .utils import ProbsOrLogits, broadcast_all, clamp_probs, lazy_property, logits_to_probs, probs_to_logits

__all__ = ["ContinuousBernoulli"]


class ContinuousBernoulli(ProbsOrLogits, ExponentialFamily):
    """Density proportional to probs**x (1 - probs)**(1 - x) on [0, 1] (Loaiza-Ganem and Cunningham 2019).

    Between `lims`, around 1/2, formulas that divide by 1 - 2 probs are replaced by the first terms of their series.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, probs=None, logits=None, lims=(0.499, 0.501), validate_args=None):
        self._take(probs, logits)
        if probs is not None:
            if validate_args is not None and not self.arg_constraints["probs"].check(self.probs).all():
                raise ValueError("The parameter probs has invalid values")
            self.probs = clamp_probs(self.probs)
        self._lims = lims
        super().__init__(self._param.size(), validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(ContinuousBernoulli, _instance)
        new._lims = self._lims
        return self._expanded(ContinuousBernoulli, batch_shape, new)

    @lazy_property
    def logits(self):
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self):
        return clamp_probs(logits_to_probs(self.logits, is_binary=True))

    def _outside_unstable_region(self):
        return (self.probs <= self._lims[0]) | (self.probs > self._lims[1])

    def _stable(self, formula, series):
        """`formula(probs)` outside `lims`, inside `series((probs - 1/2)**2)`."""
        outside = self._outside_unstable_region()
        return torch.where(outside, formula(torch.where(outside, self.probs, self._lims[0])), series((self.probs - 0.5).square()))

    def _cont_bern_log_norm(self):
        """log of 2 atanh(1 - 2 p) / (1 - 2 p)."""
        return self._stable(lambda p: torch.log(torch.abs(torch.log1p(-p) - torch.log(p))) - torch.log(torch.abs(1 - 2 * p)),
                            lambda x: math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x)

    @property
    def mean(self):
        centered = self.probs - 0.5
        return self._stable(lambda p: p / (2.0 * p - 1.0) + 1.0 / (torch.log1p(-p) - torch.log(p)),
                            lambda x: 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x) * centered)

    @property
    def variance(self):
        return self._stable(lambda p: p * (p - 1.0) / (1.0 - 2.0 * p).square() + 1.0 / (torch.log1p(-p) - torch.log(p)).square(),
                            lambda x: 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    stddev = property(lambda self: torch.sqrt(self.variance))

    def sample(self, sample_shape=()):
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape=()):
        return self.icdf(torch.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype))

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none") + self._cont_bern_log_norm()

    def cdf(self, value):
        if self._validate_args:
            self._validate_sample(value)
        outside = self._outside_unstable_region()
        p = torch.where(outside, self.probs, self._lims[0])
        found = (torch.pow(p, value) * torch.pow(1.0 - p, 1.0 - value) + p - 1.0) / (2.0 * p - 1.0)
        found = torch.where(outside, found, value)
        return torch.where(value <= 0.0, 0.0, torch.where(value >= 1.0, 1.0, found))

    def icdf(self, value):
        outside = self._outside_unstable_region()
        p = torch.where(outside, self.probs, self._lims[0])
        found = (torch.log1p(-p + value * (2.0 * p - 1.0)) - torch.log1p(-p)) / (torch.log(p) - torch.log1p(-p))
        return torch.where(outside, found, value)

    def entropy(self):
        log_failure = torch.log1p(-self.probs)
        return self.mean * (log_failure - torch.log(self.probs)) - self._cont_bern_log_norm() - log_failure

    @property
    def _natural_params(self):
        return (self.logits,)

    def _log_normalizer(self, x):
        """log of (exp(x) - 1) / x, by its series around 0."""
        unstable = (x > self._lims[0] - 0.5) & (x <= self._lims[1] - 0.5)
        away = torch.where(unstable, self._lims[0] - 0.5, x)
        return torch.where(unstable, 0.5 * x + x.square() / 24.0 - x.pow(4) / 2880.0,
                           torch.log(torch.abs(torch.exp(away) - 1)) - torch.log(torch.abs(away)))
