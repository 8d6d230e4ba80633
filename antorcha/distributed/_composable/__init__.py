"""torch.distributed._composable: see fsdp."""

from . import fsdp

__all__ = ["fsdp"]
