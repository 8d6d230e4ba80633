"""Exponential families."""

from __future__ import annotations

import antorcha as torch

from .distribution import Distribution

__all__ = ["ExponentialFamily"]


class ExponentialFamily(Distribution):
    """Densities exp(<t(x), theta> - F(theta) + k(x)): sufficient statistics t, natural parameters theta, log normaliser F, carrier k.

    Entropy follows from the derivative of F (Nielsen and Nock 2010), so a subclass need only tell its natural parameters, F and
    the mean of k.
    """

    @property
    def _natural_params(self):
        raise NotImplementedError

    def _log_normalizer(self, *natural_params):
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self):
        raise NotImplementedError

    def entropy(self):
        """F(theta) - <theta, grad F(theta)> - E[k]."""
        parameters = [p.detach().requires_grad_() for p in self._natural_params]
        with torch.enable_grad():
            log_normalizer = self._log_normalizer(*parameters)
            gradients = torch.autograd.grad(log_normalizer.sum(), parameters, create_graph=True)
        result = log_normalizer - self._mean_carrier_measure
        for p, g in zip(parameters, gradients):
            result = result - (p * g).reshape(self._batch_shape + (-1,)).sum(-1)
        return result
