"""Merged layers that train with fake quantization."""

from __future__ import annotations

import antorcha as torch

from .... import nn
from ....nn import functional as F
from ....nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from .. import qat


def _with_relu(base, name: str):
    return type(name, (base,), dict(then=staticmethod(F.relu), __module__=__name__, __doc__=f"`{base.__name__}` and a ReLU."))


LinearReLU = _with_relu(qat.Linear, "LinearReLU")
ConvReLU1d, ConvReLU2d, ConvReLU3d = (_with_relu(getattr(qat, f"Conv{n}d"), f"ConvReLU{n}d") for n in (1, 2, 3))


class _Normalised:
    """A product and a batch normalisation `bn`. The weight is moved to the grid that it will have once the normalisation is merged
    in: scaled by gamma / sigma of the running statistics, which is taken back before the normalisation of this batch. After
    R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference" (2018)."""

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        """The layer for a merged float one, whose parameters it shares."""
        mod[0].qconfig = mod.qconfig
        new = super().from_float(mod[0])
        new._modules = {"bn": mod[1], **new._modules}
        new.training = mod.training
        return new

    def forward(self, input):
        bn = self.bn
        factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        rows = factor.reshape(-1, *[1] * (self.weight.dim() - 1))
        out = self._product(input, self.weight_fake_quant(self.weight * rows), None)
        out = out / factor.reshape(1, -1, *[1] * (out.dim() - 2))
        if self.bias is not None:
            out = out + self.bias.reshape(1, -1, *[1] * (out.dim() - 2))
        return self.then(bn(out))

    def merged(self):
        """The plain layer with the normalisation merged in, and its fake quantization."""
        layer, bn = self.to_float(), self.bn
        fuse = fuse_linear_bn_weights if isinstance(self, nn.Linear) else fuse_conv_bn_weights
        layer.weight, layer.bias = fuse(self.weight, self.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
        layer.weight_fake_quant, layer.qconfig = self.weight_fake_quant, self.qconfig
        return layer


def _normalised(base, name: str, then=None):
    extra = {} if then is None else dict(then=staticmethod(then))
    return type(name, (_Normalised, base), dict(extra, __module__=__name__, __doc__=f"`{base.__name__}` and a batch normalisation"
                                                + (" and a ReLU." if then else ".")))


ConvBn1d, ConvBn2d, ConvBn3d = (_normalised(getattr(qat, f"Conv{n}d"), f"ConvBn{n}d") for n in (1, 2, 3))
ConvBnReLU1d, ConvBnReLU2d, ConvBnReLU3d = (_normalised(getattr(qat, f"Conv{n}d"), f"ConvBnReLU{n}d", F.relu) for n in (1, 2, 3))
LinearBn1d = _normalised(qat.Linear, "LinearBn1d")


def freeze_bn_stats(mod):
    """For `model.apply`: use the running statistics from now on."""
    if isinstance(mod, _Normalised):
        mod.bn.training = False


def update_bn_stats(mod):
    """For `model.apply`: use and follow each batch's statistics again."""
    if isinstance(mod, _Normalised):
        mod.bn.training = True


__all__ = ["ConvBn1d", "ConvBn2d", "ConvBn3d", "ConvBnReLU1d", "ConvBnReLU2d", "ConvBnReLU3d", "ConvReLU1d", "ConvReLU2d", "ConvReLU3d",
           "LinearBn1d", "LinearReLU", "freeze_bn_stats", "update_bn_stats"]
