"""torch._tensor_str: how tensors are shown, under the names that libraries import."""

from __future__ import annotations

from .printing import _elements as _tensor_str
from .printing import options as PRINT_OPTS
from .printing import set_printoptions

__all__ = ["PRINT_OPTS", "_tensor_str", "set_printoptions"]
