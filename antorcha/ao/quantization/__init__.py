"""torch.ao.quantization: the places in a model where quantization would begin and end. Quantizing itself is missing here."""

from __future__ import annotations

from ...nn import Module

_INSTEAD = "quantization is missing in antorcha. Use bfloat16 (model.bfloat16()) for smaller and faster models."


class QuantStub(Module):
    """Where a quantized model would turn floats into integers. The identity until then, and so always here."""

    def __init__(self, qconfig=None):
        super().__init__()
        if qconfig:
            self.qconfig = qconfig

    def forward(self, x):
        return x


class DeQuantStub(QuantStub):
    """Where a quantized model would turn integers into floats. The identity."""


class QuantWrapper(Module):
    """A module between a QuantStub and a DeQuantStub."""

    def __init__(self, module):
        super().__init__()
        self.add_module("quant", QuantStub())
        self.add_module("dequant", DeQuantStub())
        self.add_module("module", module)
        self.train(module.training)

    def forward(self, X):
        return self.dequant(self.module(self.quant(X)))


def __getattr__(name: str):
    raise AttributeError(f"torch.ao.quantization.{name}: {_INSTEAD}")
