"""torch.ao.nn.qat: layers that train while their weights are moved to the grid of fake quantization."""

from __future__ import annotations

from .... import nn
from ....nn import functional as F


class Trained:
    """The part of a layer that applies it with a weight moved to the grid. `then`: what is done with the result."""

    then = staticmethod(lambda x: x)

    def __init__(self, *args, qconfig=None, **kwargs):
        super().__init__(*args, **kwargs)
        self._observe(qconfig)

    def _observe(self, qconfig):
        if not qconfig:
            raise AssertionError(f"{type(self).__name__}: qconfig must be provided for a layer of quantization aware training")
        self.qconfig, self.weight_fake_quant = qconfig, qconfig.weight()

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        """The layer for a float one (or one merged with a ReLU), whose parameters it shares."""
        qconfig = mod.qconfig
        layer = mod[0] if isinstance(mod, nn.Sequential) else mod
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        own = vars(nn.Module())
        vars(new).update({name: value for name, value in vars(layer).items() if name not in own})
        new._parameters.update(layer._parameters)
        new.training = mod.training
        new._observe(qconfig)
        return new

    def forward(self, input):
        return self.then(self._product(input, self.weight_fake_quant(self.weight), self.bias))

    def to_float(self):
        """The plain layer with these parameters."""
        new = self.plain.__new__(self.plain)
        nn.Module.__init__(new)
        own = vars(nn.Module())
        vars(new).update({name: value for name, value in vars(self).items() if name not in own and name != "qconfig"})
        new._parameters.update({name: self._parameters[name] for name in ("weight", "bias")})
        return new


class Linear(Trained, nn.Linear):
    """`nn.Linear` with its weight on a grid."""

    plain, _product = nn.Linear, staticmethod(F.linear)


class Conv1d(Trained, nn.Conv1d):
    """`nn.Conv1d` with its weight on a grid."""

    plain, _product = nn.Conv1d, nn.Conv1d._conv_forward


class Conv2d(Trained, nn.Conv2d):
    """`nn.Conv2d` with its weight on a grid."""

    plain, _product = nn.Conv2d, nn.Conv2d._conv_forward


class Conv3d(Trained, nn.Conv3d):
    """`nn.Conv3d` with its weight on a grid."""

    plain, _product = nn.Conv3d, nn.Conv3d._conv_forward


class Embedding(Trained, nn.Embedding):
    """`nn.Embedding` with its table on a grid."""

    plain = nn.Embedding

    def forward(self, input):
        return F.embedding(input, self.weight_fake_quant(self.weight), self.padding_idx, self.max_norm, self.norm_type,
                           self.scale_grad_by_freq, self.sparse)


__all__ = ["Conv1d", "Conv2d", "Conv3d", "Embedding", "Linear"]
