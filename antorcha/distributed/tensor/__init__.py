"""torch.distributed.tensor: tensors spread over processes, which are missing here."""

from __future__ import annotations

from ...unavailable import unavailable_class, unavailable_function

_INSTEAD = "tensors spread over processes are missing in antorcha. Keep whole tensors and use the collective operations."
DTensor = unavailable_class("torch.distributed.tensor.DTensor", _INSTEAD)
Placement = unavailable_class("torch.distributed.tensor.Placement", _INSTEAD)
Shard = unavailable_class("torch.distributed.tensor.Shard", _INSTEAD)
Replicate = unavailable_class("torch.distributed.tensor.Replicate", _INSTEAD)
Partial = unavailable_class("torch.distributed.tensor.Partial", _INSTEAD)
distribute_tensor = unavailable_function("torch.distributed.tensor.distribute_tensor", _INSTEAD)
distribute_module = unavailable_function("torch.distributed.tensor.distribute_module", _INSTEAD)

from . import _utils, experimental, placement_types  # noqa: E402, F401 (they need the names above)
