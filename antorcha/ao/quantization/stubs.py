"""Where the quantized part of a model begins and ends."""

from __future__ import annotations

from ...nn import Module


class QuantStub(Module):
    """Where a model turns numbers into quantized ones, once it is converted. The identity until then; `prepare` lets it observe."""

    def __init__(self, qconfig=None):
        super().__init__()
        if qconfig:
            self.qconfig = qconfig

    def forward(self, x):
        return x


class DeQuantStub(QuantStub):
    """Where a converted model turns quantized numbers into plain ones. The identity until then."""


class QuantWrapper(Module):
    """A module between a QuantStub and a DeQuantStub."""

    def __init__(self, module):
        super().__init__()
        self.add_module("quant", QuantStub(getattr(module, "qconfig", None)))
        self.add_module("dequant", DeQuantStub())
        self.add_module("module", module)
        if getattr(module, "qconfig", None):
            self.qconfig = module.qconfig
        self.train(module.training)

    def forward(self, X):
        return self.dequant(self.module(self.quant(X)))
