"""Modules without initial values."""

from __future__ import annotations

import inspect

from ...core.generator import rewind, snapshots
from ..modules.module import Module

__all__ = ["skip_init"]


def skip_init(module_cls, *args, **kwargs):
    """A module whose parameters have arbitrary values; no random numbers are drawn. The class must take `device`."""
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    before = snapshots()
    try:
        return module_cls(*args, **kwargs)
    finally:
        rewind(before)
