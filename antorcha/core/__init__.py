"""Tensors: memory, views, derivatives."""

from . import bindings  # noqa: F401
