"""torch.distributed.fsdp: parameters shared out among processes, which is missing here."""

from __future__ import annotations

from ...unavailable import unavailable_class, unavailable_function

_INSTEAD = "sharded parameters are missing in antorcha. Use torch.nn.parallel.DistributedDataParallel."
FullyShardedDataParallel = unavailable_class("torch.distributed.fsdp.FullyShardedDataParallel", _INSTEAD)
FSDPModule = unavailable_class("torch.distributed.fsdp.FSDPModule", _INSTEAD)
MixedPrecision = unavailable_class("torch.distributed.fsdp.MixedPrecision", _INSTEAD)
MixedPrecisionPolicy = unavailable_class("torch.distributed.fsdp.MixedPrecisionPolicy", _INSTEAD)
CPUOffload = unavailable_class("torch.distributed.fsdp.CPUOffload", _INSTEAD)
CPUOffloadPolicy = unavailable_class("torch.distributed.fsdp.CPUOffloadPolicy", _INSTEAD)
OffloadPolicy = unavailable_class("torch.distributed.fsdp.OffloadPolicy", _INSTEAD)
ShardingStrategy = unavailable_class("torch.distributed.fsdp.ShardingStrategy", _INSTEAD)
BackwardPrefetch = unavailable_class("torch.distributed.fsdp.BackwardPrefetch", _INSTEAD)
StateDictType = unavailable_class("torch.distributed.fsdp.StateDictType", _INSTEAD)
FullStateDictConfig = unavailable_class("torch.distributed.fsdp.FullStateDictConfig", _INSTEAD)
FullOptimStateDictConfig = unavailable_class("torch.distributed.fsdp.FullOptimStateDictConfig", _INSTEAD)
fully_shard = unavailable_function("torch.distributed.fsdp.fully_shard", _INSTEAD)
register_fsdp_forward_method = unavailable_function("torch.distributed.fsdp.register_fsdp_forward_method", _INSTEAD)
