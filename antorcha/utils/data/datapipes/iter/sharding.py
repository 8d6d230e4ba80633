"""Shares of the samples, one for each worker or process."""

from __future__ import annotations

import itertools
from enum import IntEnum

from ..datapipe import IterDataPipe, functional_datapipe

__all__ = ["SHARDING_PRIORITIES", "ShardingFilterIterDataPipe"]


class SHARDING_PRIORITIES(IntEnum):
    """Over what samples are shared out."""

    DEFAULT = 1
    DISTRIBUTED = 2
    MULTIPROCESSING = 3


@functional_datapipe("sharding_filter")
class ShardingFilterIterDataPipe(IterDataPipe):
    """Every n-th sample, once `apply_sharding` has said which; the data loader says it in its workers."""

    def __init__(self, source_datapipe, sharding_group_filter: SHARDING_PRIORITIES | None = None):
        self.source_datapipe, self.sharding_group_filter = source_datapipe, sharding_group_filter
        self.groups: dict[int, tuple[int, int]] = {}

    def apply_sharding(self, num_of_instances: int, instance_id: int, sharding_group=SHARDING_PRIORITIES.DEFAULT) -> None:
        """This is `instance_id` of `num_of_instances` of the group; groups divide each other's shares."""
        if instance_id >= num_of_instances:
            raise ValueError(f"instance_id({instance_id}) should be smaller than num_of_instances({num_of_instances})")
        if (sharding_group == SHARDING_PRIORITIES.DEFAULT) != (set(self.groups) <= {SHARDING_PRIORITIES.DEFAULT}) and self.groups:
            raise RuntimeError("ShardingFilter cannot mix DEFAULT and non DEFAULT groups")
        self.groups[sharding_group] = num_of_instances, instance_id

    @property
    def share(self) -> tuple[int, int]:
        """(how many shares, which one) of all groups together."""
        shares, own = 1, 0
        for group in sorted(self.groups, reverse=True):
            if self.sharding_group_filter in (None, group):
                instances, instance = self.groups[group]
                own += shares * instance
                shares *= instances
        return shares, own

    def __iter__(self):
        shares, own = self.share
        return itertools.islice(self.source_datapipe, own, None, shares)

    def __len__(self) -> int:
        shares, own = self.share
        return max(0, -(-(len(self.source_datapipe) - own) // shares))
