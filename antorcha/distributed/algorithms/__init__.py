"""torch.distributed.algorithms: see join."""

from . import join

__all__ = ["join"]
