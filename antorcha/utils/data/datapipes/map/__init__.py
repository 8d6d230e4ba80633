"""Stages that are asked for samples by key."""

from __future__ import annotations

import copy
import random
import warnings
from bisect import bisect_right
from itertools import accumulate

import antorcha as torch

from ..datapipe import DataChunk, IterDataPipe, MapDataPipe, functional_datapipe

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


class _Several(MapDataPipe):
    def __init__(self, *datapipes):
        if not datapipes:
            raise ValueError("Expected at least one DataPipe, but got nothing")
        if not all(isinstance(pipe, MapDataPipe) for pipe in datapipes):
            raise TypeError(f"Expected all inputs to be `MapDataPipe`; received {[type(pipe).__name__ for pipe in datapipes]}")
        self.datapipes = datapipes


@functional_datapipe("concat")
class ConcaterMapDataPipe(_Several):
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
class ZipperMapDataPipe(_Several):
    """Tuples of a sample of each."""

    def __getitem__(self, index):
        return tuple(pipe[index] for pipe in self.datapipes)

    def __len__(self) -> int:
        return min(map(len, self.datapipes))


@functional_datapipe("batch")
class BatcherMapDataPipe(MapDataPipe):
    """Lists of `batch_size` samples with keys 0, 1, ...; the last one may be shorter, or is dropped with `drop_last`."""

    def __init__(self, datapipe, batch_size: int, drop_last: bool = False, wrapper_class: type = DataChunk):
        if batch_size <= 0:
            raise AssertionError(f"Batch size is required to be larger than 0; received {batch_size}")
        self.datapipe, self.batch_size, self.drop_last, self.wrapper_class = datapipe, batch_size, drop_last, wrapper_class

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} is out of bound; there are {len(self)} batches")
        first = index * self.batch_size
        return self.wrapper_class([self.datapipe[i] for i in range(first, min(first + self.batch_size, len(self.datapipe)))])

    def __len__(self) -> int:
        whole, rest = divmod(len(self.datapipe), self.batch_size)
        return whole + bool(rest and not self.drop_last)


class ShufflerIterDataPipe(IterDataPipe):
    """The samples with keys `indices` (0 to the length) in a random order. The seed is drawn as that of the shuffler of streams."""

    def __init__(self, datapipe, *, indices: list | None = None):
        self.datapipe, self.indices = datapipe, list(range(len(datapipe))) if indices is None else indices
        self._enabled, self._seed, self._rng = True, None, random.Random()
        self._shuffled = self.indices

    def set_shuffle(self, shuffle: bool = True):
        """Shuffle or keep the order; returns the stage."""
        self._enabled = shuffle
        return self

    def set_seed(self, seed: int):
        """Of the next epoch; returns the stage."""
        self._seed = seed
        return self

    def reset(self) -> None:
        if self._enabled and self._seed is None:
            self._seed = int(torch.empty((), dtype=torch.int64).random_().item())
        self._rng.seed(self._seed)
        self._seed = None
        self._shuffled = self._rng.sample(self.indices, len(self.indices)) if self._enabled else self.indices

    def __iter__(self):
        for index in self._shuffled:
            yield self.datapipe[index]

    def __len__(self) -> int:
        return len(self.datapipe)


MapDataPipe.register_datapipe_as_function("shuffle", ShufflerIterDataPipe)     # a stream itself, it shuffles pipelines by key
Batcher, Concater, Mapper = BatcherMapDataPipe, ConcaterMapDataPipe, MapperMapDataPipe
SequenceWrapper, Shuffler, Zipper = SequenceWrapperMapDataPipe, ShufflerIterDataPipe, ZipperMapDataPipe
