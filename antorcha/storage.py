"""torch.storage: the bytes of tensors."""

from __future__ import annotations

from .core.untyped import TypedStorage, UntypedStorage

__all__ = ["TypedStorage", "UntypedStorage"]
