"""torch.ao.nn.intrinsic: layers that follow each other and become one when they are quantized (`ao.quantization.fuse_modules` makes them).

`qat` has those that train with fake quantization, `quantized` those whose products end in a ReLU.
"""

from __future__ import annotations

from .... import nn


class _FusedModule(nn.Sequential):
    """Layers one after another, quantized as one."""


def _fused(name: str, *kinds):
    def __init__(self, *layers):
        if tuple(type(x) for x in layers) != kinds and not all(isinstance(x, k) for x, k in zip(layers, kinds)):
            raise AssertionError(f"{name}: expected {', '.join(k.__name__ for k in kinds)}; received "
                                 f"{', '.join(type(x).__name__ for x in layers)}")
        nn.Sequential.__init__(self, *layers)
    return type(name, (_FusedModule,), dict(__init__=__init__, __module__=__name__,
                                            __doc__=f"{', then '.join(k.__name__ for k in kinds)}, quantized as one."))


ConvBn1d, ConvBn2d, ConvBn3d = (
    _fused(f"ConvBn{n}d", getattr(nn, f"Conv{n}d"), getattr(nn, f"BatchNorm{n}d")) for n in (1, 2, 3))
ConvBnReLU1d, ConvBnReLU2d, ConvBnReLU3d = (
    _fused(f"ConvBnReLU{n}d", getattr(nn, f"Conv{n}d"), getattr(nn, f"BatchNorm{n}d"), nn.ReLU) for n in (1, 2, 3))
ConvReLU1d, ConvReLU2d, ConvReLU3d = (_fused(f"ConvReLU{n}d", getattr(nn, f"Conv{n}d"), nn.ReLU) for n in (1, 2, 3))
LinearReLU = _fused("LinearReLU", nn.Linear, nn.ReLU)
LinearBn1d = _fused("LinearBn1d", nn.Linear, nn.BatchNorm1d)
BNReLU2d, BNReLU3d = (_fused(f"BNReLU{n}d", getattr(nn, f"BatchNorm{n}d"), nn.ReLU) for n in (2, 3))

from . import qat, quantized  # noqa: E402 (made of the above)

__all__ = ["BNReLU2d", "BNReLU3d", "ConvBn1d", "ConvBn2d", "ConvBn3d", "ConvBnReLU1d", "ConvBnReLU2d", "ConvBnReLU3d", "ConvReLU1d",
           "ConvReLU2d", "ConvReLU3d", "LinearBn1d", "LinearReLU", "qat", "quantized"]
