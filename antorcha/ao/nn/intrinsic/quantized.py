"""Quantized layers that end in a ReLU."""

from __future__ import annotations

from ....nn import functional as F
from ..quantized import layers


def _with_relu(base, name: str):
    return type(name, (base,), dict(then=staticmethod(F.relu), __module__=__name__, __doc__=f"`{base.__name__}` and a ReLU."))


LinearReLU = _with_relu(layers.Linear, "LinearReLU")
ConvReLU1d, ConvReLU2d, ConvReLU3d = (_with_relu(getattr(layers, f"Conv{n}d"), f"ConvReLU{n}d") for n in (1, 2, 3))


class _NormReLU:
    """A batch normalisation and a ReLU: the grid begins at 0."""

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        mod[0].activation_post_process = mod.activation_post_process
        return super().from_float(mod[0])

    def forward(self, input):
        return super().forward(input).relu()


class BNReLU2d(_NormReLU, layers.BatchNorm2d):
    """`BatchNorm2d` and a ReLU."""


class BNReLU3d(_NormReLU, layers.BatchNorm3d):
    """`BatchNorm3d` and a ReLU."""


__all__ = ["BNReLU2d", "BNReLU3d", "ConvReLU1d", "ConvReLU2d", "ConvReLU3d", "LinearReLU"]
