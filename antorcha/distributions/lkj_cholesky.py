"""Random correlation matrices."""

from __future__ import annotations

import math

import antorcha as torch

from . import constraints
from .beta import Beta
from .distribution import Distribution
from .utils import broadcast_all

__all__ = ["LKJCholesky"]


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices M with a density proportional to det(M)**(concentration - 1).

    The onion method of Lewandowski, Kurowicka and Joe (2009): row by row, a direction on the sphere and a Beta length.
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim, concentration=1.0, validate_args=None):
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        # The squared length of the k-th row below the diagonal: Beta(k / 2, concentration + (dim - 1 - k) / 2); row 0 is never used.
        k = torch.cat([torch.zeros(1, dtype=self.concentration.dtype), torch.arange(dim - 1, dtype=self.concentration.dtype)])
        marginal = self.concentration + 0.5 * (dim - 2)
        self._beta = Beta(k + 0.5, marginal.unsqueeze(-1) - 0.5 * k)
        super().__init__(self.concentration.size(), torch.Size((dim, dim)), validate_args)

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(LKJCholesky, _instance)
        new.dim, new._beta = self.dim, self._beta.expand(torch.Size(batch_shape) + (self.dim,))
        return self._expanded(LKJCholesky, batch_shape, new)

    def sample(self, sample_shape=()):
        with torch.no_grad():
            y = self._beta.sample(sample_shape).unsqueeze(-1)
            normal = torch.randn(self._extended_shape(sample_shape), dtype=y.dtype).tril(-1)
            length = (normal * normal).sum(-1, keepdim=True).sqrt()
            w = torch.sqrt(y) * torch.where(length == 0, 0.0, normal / length)
            rest = torch.clamp(1 - (w * w).sum(-1), min=torch.finfo(w.dtype).tiny).sqrt()
            return w + torch.diag_embed(rest)

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = torch.arange(2, self.dim + 1, dtype=self.concentration.dtype)
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - order
        unnormalized = torch.sum(order * diagonal.log(), dim=-1)
        less = self.dim - 1
        alpha = self.concentration + 0.5 * less
        normalizer = 0.5 * less * math.log(math.pi) + torch.mvlgamma(alpha - 0.5, less) - torch.lgamma(alpha) * less
        return unnormalized - normalizer
