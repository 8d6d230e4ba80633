"""Mixtures."""

from __future__ import annotations

import antorcha as torch

from . import constraints
from .categorical import Categorical
from .constraints import MixtureSameFamilyConstraint
from .distribution import Distribution

__all__ = ["MixtureSameFamily"]


class MixtureSameFamily(Distribution):
    """Draws of one of the components along the last batch dimension of `component_distribution`, chosen by `mixture_distribution`."""

    arg_constraints: dict = {}
    has_rsample = False

    def __init__(self, mixture_distribution, component_distribution, validate_args=None):
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(" The Mixture distribution needs to be an instance of torch.distributions.Categorical; "
                             f"received {type(mixture_distribution).__name__}")
        if not isinstance(component_distribution, Distribution):
            raise ValueError("The Component distribution need to be an instance of torch.distributions.Distribution; "
                             f"received {type(component_distribution).__name__}")
        self._mixture_distribution, self._component_distribution = mixture_distribution, component_distribution
        batch = component_distribution.batch_shape[:-1]
        for mine, its in zip(reversed(mixture_distribution.batch_shape), reversed(batch)):
            if mine != 1 and its != 1 and mine != its:
                raise ValueError(f"`mixture_distribution.batch_shape` ({mixture_distribution.batch_shape}) is not compatible with "
                                 f"`component_distribution.batch_shape`({component_distribution.batch_shape})")
        chosen, available = mixture_distribution.logits.shape[-1], component_distribution.batch_shape[-1]
        if chosen != available:
            raise ValueError(f"`mixture_distribution component` ({chosen}) does not equal "
                             f"`component_distribution.batch_shape[-1]` ({available})")
        self._num_component = available
        self._event_ndims = len(component_distribution.event_shape)
        super().__init__(batch, component_distribution.event_shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(MixtureSameFamily, _instance)
        batch_shape = torch.Size(batch_shape)
        new._component_distribution = self._component_distribution.expand(batch_shape + (self._num_component,))
        new._mixture_distribution = self._mixture_distribution.expand(batch_shape)
        new._num_component, new._event_ndims = self._num_component, self._event_ndims
        return self._as_expanded(new, MixtureSameFamily, batch_shape)

    mixture_distribution = property(lambda self: self._mixture_distribution)
    component_distribution = property(lambda self: self._component_distribution)

    @constraints.dependent_property
    def support(self):
        return MixtureSameFamilyConstraint(self._component_distribution.support)

    def _weighted(self, values):
        """The sum of the components' values, each with its probability."""
        probs = self._mixture_distribution.probs
        return (probs.reshape(probs.shape + (1,) * self._event_ndims) * values).sum(-1 - self._event_ndims)

    @property
    def mean(self):
        return self._weighted(self._component_distribution.mean)

    @property
    def variance(self):
        """The mean of the variances and the variance of the means."""
        component = self._component_distribution
        return self._weighted(component.variance) + self._weighted((component.mean - self._pad(self.mean)).pow(2.0))

    def cdf(self, x):
        return torch.sum(self._component_distribution.cdf(self._pad(x)) * self._mixture_distribution.probs, dim=-1)

    def log_prob(self, x):
        if self._validate_args:
            self._validate_sample(x)
        weights = torch.log_softmax(self._mixture_distribution.logits, dim=-1)
        return torch.logsumexp(self._component_distribution.log_prob(self._pad(x)) + weights, dim=-1)

    def sample(self, sample_shape=()):
        with torch.no_grad():
            dim = len(torch.Size(sample_shape)) + len(self.batch_shape)
            chosen = self._mixture_distribution.sample(sample_shape)
            drawn = self._component_distribution.sample(sample_shape)
            chosen = chosen.reshape(chosen.shape + (1,) * (1 + self._event_ndims))
            chosen = chosen.expand(drawn.shape[:dim] + (1,) + drawn.shape[dim + 1:])
            return torch.gather(drawn, dim, chosen).squeeze(dim)

    def _pad(self, x):
        """A dimension for the components before those of the event."""
        return x.unsqueeze(-1 - self._event_ndims)

    def __repr__(self):
        return f"MixtureSameFamily(\n  {self._mixture_distribution},\n  {self._component_distribution})"
