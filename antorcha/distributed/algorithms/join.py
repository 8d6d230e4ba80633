"""Training with inputs of different lengths, which is missing here."""

from __future__ import annotations

from ...unavailable import unavailable_class

_INSTEAD = "uneven inputs are missing in antorcha. Give all processes as many batches: DistributedSampler does."
Join = unavailable_class("torch.distributed.algorithms.join.Join", _INSTEAD)
Joinable = unavailable_class("torch.distributed.algorithms.join.Joinable", _INSTEAD)
JoinHook = unavailable_class("torch.distributed.algorithms.join.JoinHook", _INSTEAD)
