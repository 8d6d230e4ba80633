"""Saving and loading: PyTorch's checkpoint files."""

from .serialization import load, save

__all__ = ["load", "save"]
