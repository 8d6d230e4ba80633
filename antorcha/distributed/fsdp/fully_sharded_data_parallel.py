"""Where PyTorch keeps FullyShardedDataParallel."""

from . import CPUOffload, FullyShardedDataParallel, MixedPrecision, ShardingStrategy

__all__ = ["CPUOffload", "FullyShardedDataParallel", "MixedPrecision", "ShardingStrategy"]
