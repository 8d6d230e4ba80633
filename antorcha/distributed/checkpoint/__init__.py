"""torch.distributed.checkpoint: see hf_storage. Save whole tensors with torch.save."""

from . import hf_storage

__all__ = ["hf_storage"]
