"""torch.distributed.optim: optimizers whose state is shared out, which are missing here."""

from __future__ import annotations

from ..unavailable import unavailable_class

_INSTEAD = "sharing out an optimizer's state is missing in antorcha. Use the optimizer itself with DistributedDataParallel."
ZeroRedundancyOptimizer = unavailable_class("torch.distributed.optim.ZeroRedundancyOptimizer", _INSTEAD)
DistributedOptimizer = unavailable_class("torch.distributed.optim.DistributedOptimizer", _INSTEAD)
PostLocalSGDOptimizer = unavailable_class("torch.distributed.optim.PostLocalSGDOptimizer", _INSTEAD)
