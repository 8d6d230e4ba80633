"""The Pareto distribution."""

from __future__ import annotations

import antorcha as torch

from . import constraints
from .exponential import Exponential
from .transformed_distribution import TransformedDistribution
from .transforms import AffineTransform, ExpTransform
from .utils import broadcast_all

__all__ = ["Pareto"]


class Pareto(TransformedDistribution):
    """Numbers from `scale` on, exceeding x with probability (scale / x)**alpha."""

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}

    def __init__(self, scale, alpha, validate_args=None):
        self.scale, self.alpha = broadcast_all(scale, alpha)
        super().__init__(Exponential(self.alpha, validate_args=validate_args), _transforms(self.scale), validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(Pareto, _instance)
        new.scale, new.alpha = self.scale.expand(batch_shape), self.alpha.expand(batch_shape)
        new = super().expand(batch_shape, _instance=new)
        new.transforms = _transforms(new.scale)
        return new

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self):
        return torch.where(self.alpha > 1, self.alpha * self.scale / (self.alpha - 1), torch.inf)

    mode = property(lambda self: self.scale)

    @property
    def variance(self):
        a = self.alpha
        return torch.where(a > 2, self.scale.pow(2) * a / ((a - 1).pow(2) * (a - 2)), torch.inf)

    def entropy(self):
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())


def _transforms(scale) -> list:
    return [ExpTransform(), AffineTransform(loc=0, scale=scale)]
