"""torch.return_types: the types of several results with names, declared beside the operators that return them."""

from __future__ import annotations

from .ops.results import TYPES

__all__ = [*TYPES]
globals().update(TYPES)
