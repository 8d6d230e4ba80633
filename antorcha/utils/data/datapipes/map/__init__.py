"""Stages that are asked for samples by key."""

from __future__ import annotations

import copy
import warnings
from bisect import bisect_right
from itertools import accumulate

from ..datapipe import IterDataPipe, MapDataPipe, OfBatches, OfSeveral, Shuffling, functional_datapipe

__all__ = ["Batcher", "Concater", "Mapper", "SequenceWrapper", "Shuffler", "Zipper"]


class SequenceWrapperMapDataPipe(MapDataPipe):
    """The elements of a sequence or mapping, of which a copy is taken (`deepcopy`)."""

    def __init__(self, sequence, deepcopy: bool = True):
        self.sequence = sequence
        if deepcopy:
            try:
                self.sequence = copy.deepcopy(sequence)
            except TypeError:
                warnings.warn("The input sequence can not be deepcopied, please be aware of in-place modification would affect source "
                              "data", stacklevel=2)

    def __getitem__(self, index):
        return self.sequence[index]

    def __len__(self) -> int:
        return len(self.sequence)


@functional_datapipe("map")
class MapperMapDataPipe(MapDataPipe):
    """`fn` of each sample."""

    def __init__(self, datapipe, fn=lambda sample: sample):
        self.datapipe, self.fn = datapipe, fn

    def __getitem__(self, index):
        return self.fn(self.datapipe[index])

    def __len__(self) -> int:
        return len(self.datapipe)


@functional_datapipe("concat")
class ConcaterMapDataPipe(OfSeveral, MapDataPipe):
    """All samples of the first, then all of the second, and so on."""

    def __getitem__(self, index):
        ends = list(accumulate(map(len, self.datapipes)))
        if not 0 <= index < ends[-1]:
            raise IndexError(f"Index {index} is out of range; there are {ends[-1]} samples")
        which = bisect_right(ends, index)
        return self.datapipes[which][index - (ends[which - 1] if which else 0)]

    def __len__(self) -> int:
        return sum(map(len, self.datapipes))


@functional_datapipe("zip")
class ZipperMapDataPipe(OfSeveral, MapDataPipe):
    """Tuples of a sample of each."""

    def __getitem__(self, index):
        return tuple(pipe[index] for pipe in self.datapipes)

    def __len__(self) -> int:
        return min(map(len, self.datapipes))


@functional_datapipe("batch")
class BatcherMapDataPipe(OfBatches, MapDataPipe):
    """Batches with keys 0, 1, ... of samples with keys 0, 1, ..."""

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} is out of bound; there are {len(self)} batches")
        first = index * self.batch_size
        return self.wrapper_class([self.datapipe[i] for i in range(first, min(first + self.batch_size, len(self.datapipe)))])


class ShufflerIterDataPipe(Shuffling, IterDataPipe):
    """The samples with keys `indices` (0 to the length) in a random order."""

    def __init__(self, datapipe, *, indices: list | None = None):
        super().__init__(datapipe)
        self._shuffled = self.indices = list(range(len(datapipe))) if indices is None else indices

    def reset(self) -> None:
        self._use_seed()
        self._shuffled = self._rng.sample(self.indices, len(self.indices)) if self._enabled else self.indices

    def __iter__(self):
        for index in self._shuffled:
            yield self.datapipe[index]


MapDataPipe.register_datapipe_as_function("shuffle", ShufflerIterDataPipe)     # a stream itself, it shuffles pipelines by key
Batcher, Concater, Mapper = BatcherMapDataPipe, ConcaterMapDataPipe, MapperMapDataPipe
SequenceWrapper, Shuffler, Zipper = SequenceWrapperMapDataPipe, ShufflerIterDataPipe, ZipperMapDataPipe
