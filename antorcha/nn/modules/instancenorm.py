"""Instance normalisation: each channel of each sample by itself (Ulyanov et al., 2016)."""

from __future__ import annotations

import warnings

from .. import functional as F
from .batchnorm import _expect_dims, _LazyNormBase, _NormBase


class _InstanceNorm(_NormBase):
    n = 0       # dimensions after the channels

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, device=None, dtype=None, *,
                 bias=True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def _check_input_dim(self, input):
        _expect_dims(input, self.n + 1, self.n + 2)

    def _check_channels(self, channels: int):
        if channels == self.num_features:
            return
        text = f"input's size at dim={-self.n - 1} ({channels}) does not match num_features ({self.num_features})"
        if self.affine:
            raise ValueError(f"expected {text}")
        warnings.warn(f"{text}. num_features is not used because affine=False", stacklevel=4)

    def forward(self, input):
        self._check_input_dim(input)
        self._check_channels(input.shape[-self.n - 1])
        single = input.dim() == self.n + 1
        result = F.instance_norm(input.unsqueeze(0) if single else input, self.running_mean, self.running_var, self.weight, self.bias,
                                 self.training or not self.track_running_stats, 0.0 if self.momentum is None else self.momentum, self.eps)
        return result.squeeze(0) if single else result


class InstanceNorm1d(_InstanceNorm):
    """Normalisation of each channel of each sample of (N, C, L) or (C, L)."""
    n = 1


class InstanceNorm2d(_InstanceNorm):
    """Normalisation of each channel of each sample of (N, C, H, W) or (C, H, W)."""
    n = 2


class InstanceNorm3d(_InstanceNorm):
    """Normalisation of each channel of each sample of (N, C, D, H, W) or (C, D, H, W)."""
    n = 3


class _LazyInstanceNorm(_LazyNormBase, _InstanceNorm):
    def initialize_parameters(self, input):
        self._check_input_dim(input)
        super().initialize_parameters(input if input.dim() == self.n + 2 else input.unsqueeze(0))


class LazyInstanceNorm1d(_LazyInstanceNorm):
    """An `InstanceNorm1d` whose `num_features` are the channels of the first input."""
    n, cls_to_become = 1, InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm):
    """An `InstanceNorm2d` whose `num_features` are the channels of the first input."""
    n, cls_to_become = 2, InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm):
    """An `InstanceNorm3d` whose `num_features` are the channels of the first input."""
    n, cls_to_become = 3, InstanceNorm3d
