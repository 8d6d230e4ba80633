"""Samples in lists, and out of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from ..datapipe import DataChunk, IterDataPipe, OfBatches, functional_datapipe

__all__ = ["BatcherIterDataPipe", "GrouperIterDataPipe", "UnBatcherIterDataPipe"]


@functional_datapipe("batch")
class BatcherIterDataPipe(OfBatches, IterDataPipe):
    """Batches of samples that follow each other."""

    def __iter__(self):
        batch: list = []
        for sample in self.datapipe:
            batch.append(sample)
            if len(batch) == self.batch_size:
                yield self.wrapper_class(batch)
                batch = []
        if batch and not self.drop_last:
            yield self.wrapper_class(batch)


@functional_datapipe("unbatch")
class UnBatcherIterDataPipe(IterDataPipe):
    """The elements of lists, `unbatch_level` deep; -1 opens all that there are."""

    def __init__(self, datapipe, unbatch_level: int = 1):
        if unbatch_level < -1:
            raise ValueError(f"unbatch_level must be -1 or >= 0; received {unbatch_level}")
        self.datapipe, self.unbatch_level = datapipe, unbatch_level

    def __iter__(self):
        for element in self.datapipe:
            yield from self._open(element, self.unbatch_level)

    def _open(self, element, level: int):
        is_list = isinstance(element, (list, DataChunk))
        if level == 0 or level == -1 and not is_list:
            yield element
        elif not is_list:
            raise IndexError(f"unbatch_level {self.unbatch_level} exceeds the depth of the DataPipe")
        else:
            for inner in element:
                yield from self._open(inner, max(level - 1, -1))


@functional_datapipe("groupby")
class GrouperIterDataPipe(IterDataPipe):
    """Lists of samples for which `group_key_fn` gives the same key, in groups of at most `group_size`; (key, list) with `keep_key`.

    At most `buffer_size` samples wait for others: then the largest group goes out as it is, if it has `guaranteed_group_size` samples;
    if not, it is dropped (`drop_remaining`) or RuntimeError is raised.
    """

    def __init__(self, datapipe, group_key_fn: Callable, *, keep_key: bool = False, buffer_size: int = 10000,
                 group_size: int | None = None, guaranteed_group_size: int | None = None, drop_remaining: bool = False):
        if guaranteed_group_size is None:
            guaranteed_group_size = group_size if drop_remaining else None
        elif group_size is not None and not 0 < guaranteed_group_size <= group_size:
            raise ValueError(f"guaranteed_group_size must be between 1 and group_size ({group_size}); received {guaranteed_group_size}")
        self.datapipe, self.group_key_fn, self.keep_key, self.max_buffer_size = datapipe, group_key_fn, keep_key, buffer_size
        self.group_size, self.guaranteed_group_size, self.drop_remaining = group_size, guaranteed_group_size, drop_remaining
        self.wrapper_class = DataChunk

    def _group(self, key, samples: list):
        return (key, self.wrapper_class(samples)) if self.keep_key else self.wrapper_class(samples)

    def _largest(self, waiting: dict):
        """The key of the largest group and whether it goes out; RuntimeError if it is too small for either."""
        key = max(waiting, key=lambda k: len(waiting[k]))
        least = self.guaranteed_group_size
        if least is not None and len(waiting[key]) < least and not self.drop_remaining:
            raise RuntimeError(f"Failed to group items: the buffer is full and no group has {least} samples; "
                               f"the largest, {key!r}, has {len(waiting[key])}. Give a larger buffer_size.")
        return key, least is None or len(waiting[key]) >= least

    def __iter__(self):
        waiting: dict = defaultdict(list)
        count = 0
        for sample in self.datapipe:
            key = self.group_key_fn(sample)
            waiting[key].append(sample)
            count += 1
            if self.group_size is not None and len(waiting[key]) == self.group_size:
                count -= self.group_size
                yield self._group(key, waiting.pop(key))
            if count == self.max_buffer_size:
                key, goes_out = self._largest(waiting)
                group = waiting.pop(key)
                count -= len(group)
                if goes_out:
                    yield self._group(key, group)
        for key, group in waiting.items():
            if not (self.drop_remaining and self.guaranteed_group_size is not None and len(group) < self.guaranteed_group_size):
                yield self._group(key, group)
