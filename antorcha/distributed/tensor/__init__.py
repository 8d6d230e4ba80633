"""torch.distributed.tensor: the words for how tensors are spread over processes. Spread tensors themselves are missing here."""

from __future__ import annotations

from ...unavailable import unavailable_class, unavailable_function
from .placement_types import Partial, Placement, Replicate, Shard

_INSTEAD = "tensors spread over processes are missing in antorcha. Keep whole tensors and use the collective operations."
DTensor = unavailable_class("torch.distributed.tensor.DTensor", _INSTEAD)
distribute_tensor = unavailable_function("torch.distributed.tensor.distribute_tensor", _INSTEAD)
distribute_module = unavailable_function("torch.distributed.tensor.distribute_module", _INSTEAD)

from . import _utils, experimental  # noqa: E402 (they need the names above)

__all__ = ["DTensor", "Partial", "Placement", "Replicate", "Shard", "_utils", "distribute_module", "distribute_tensor", "experimental"]
