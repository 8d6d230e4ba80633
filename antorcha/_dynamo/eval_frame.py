"""What `torch.compile` makes of a module."""

from ..nn.modules.compiled import OptimizedModule

__all__ = ["OptimizedModule"]
