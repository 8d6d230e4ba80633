"""The half-Cauchy distribution."""

from __future__ import annotations

import antorcha as torch

from .cauchy import Cauchy
from .folded import Folded

__all__ = ["HalfCauchy"]


class HalfCauchy(Folded):
    """|x| for x of the Cauchy distribution around 0."""

    family = Cauchy
    mean = property(lambda self: torch.full(self._extended_shape(), torch.inf, dtype=self.scale.dtype))
    variance = property(lambda self: self.base_dist.variance)
