"""torch._custom_ops: what older libraries import of `torch.library`."""

from __future__ import annotations

from .library import custom_op, impl
from .library import register_fake as impl_abstract

__all__ = ["custom_op", "impl", "impl_abstract"]
