"""How a spread tensor lies: missing, as such tensors are."""

from ...unavailable import unavailable_class
from . import _INSTEAD, Partial, Placement, Replicate, Shard

_StridedShard = unavailable_class("torch.distributed.tensor.placement_types._StridedShard", _INSTEAD)
__all__ = ["Partial", "Placement", "Replicate", "Shard", "_StridedShard"]
