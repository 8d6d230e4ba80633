"""torch.ao: quantization, of which there are the stubs that models carry."""

from . import quantization

__all__ = ["quantization"]
