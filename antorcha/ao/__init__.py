"""torch.ao: quantization of models."""

from . import nn, quantization

__all__ = ["nn", "quantization"]
