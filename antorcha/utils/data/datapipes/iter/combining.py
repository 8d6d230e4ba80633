"""Several pipelines made one, and one made several."""

from __future__ import annotations

import copy as copying
import itertools
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

from ..datapipe import IterDataPipe, OfSeveral, functional_datapipe

__all__ = ["ConcaterIterDataPipe", "DemultiplexerIterDataPipe", "ForkerIterDataPipe", "MultiplexerIterDataPipe", "ZipperIterDataPipe"]


@functional_datapipe("concat")
class ConcaterIterDataPipe(OfSeveral, IterDataPipe):
    """All samples of the first, then all of the second, and so on."""

    def __iter__(self):
        return itertools.chain.from_iterable(self.datapipes)

    def __len__(self) -> int:
        return sum(map(len, self.datapipes))


@functional_datapipe("mux")
class MultiplexerIterDataPipe(OfSeveral, IterDataPipe):
    """A sample of each in turn, until the shortest ends."""

    def __iter__(self):
        return itertools.chain.from_iterable(zip(*self.datapipes))

    def __len__(self) -> int:
        return min(map(len, self.datapipes)) * len(self.datapipes)


@functional_datapipe("zip")
class ZipperIterDataPipe(OfSeveral, IterDataPipe):
    """Tuples of a sample of each, until the shortest ends."""

    def __iter__(self):
        return iter(zip(*self.datapipes))

    def __len__(self) -> int:
        return min(map(len, self.datapipes))


class _Source:
    """A pipeline read once for several children, each of which has a queue of the samples that it has not asked for yet."""

    def __init__(self, datapipe, children: int, buffer_size: int, deliver: Callable):
        if children < 1:
            raise ValueError(f"Expected `num_instances` larger than 0, but {children} is found")
        if buffer_size == 0 or buffer_size < -1:
            raise ValueError(f"buffer_size should be positive, or -1 for no limit; received {buffer_size}")
        if buffer_size < 0:
            warnings.warn("Unlimited buffer size is set, please be aware of OOM risks", stacklevel=4)
        self.datapipe, self.children, self.buffer_size, self.deliver = datapipe, children, buffer_size, deliver
        self.epoch = -1
        self.restart()

    def restart(self) -> None:
        """Read the pipeline from its beginning."""
        self.epoch += 1
        self.queues: list[deque] = [deque() for _ in range(self.children)]
        self.reader: Any = None

    def next_for(self, child: int):
        queue = self.queues[child]
        while not queue:
            if self.reader is None:
                self.reader = iter(self.datapipe)
            self.deliver(self, next(self.reader))
            if self.buffer_size > 0 and max(map(len, self.queues)) > self.buffer_size:
                raise BufferError(f"DataPipe buffer overflow, buffer size {self.buffer_size} is insufficient: a child is that far behind "
                                  "another. Give a larger buffer_size, or -1 for no limit.")
        return queue.popleft()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "reader": None}


class _ChildDataPipe(IterDataPipe):
    """One reader of a pipeline that has several. The reader that first begins again takes all to the next epoch."""

    def __init__(self, main_datapipe: _Source, instance_id: int):
        self.main_datapipe, self.instance_id, self.epoch = main_datapipe, instance_id, -1

    def __iter__(self):
        source = self.main_datapipe
        if self.epoch == source.epoch:
            source.restart()
        self.epoch = source.epoch
        return self._samples(source, self.epoch)

    def _samples(self, source: _Source, epoch: int):
        while True:
            if source.epoch != epoch:
                raise RuntimeError("This iterator has been invalidated: another reader of the same pipeline has begun a new epoch.")
            try:
                sample = source.next_for(self.instance_id)
            except StopIteration:
                return
            yield sample


class _ForkedDataPipe(_ChildDataPipe):
    """A reader of all samples."""

    def __len__(self) -> int:
        return len(self.main_datapipe.datapipe)


@functional_datapipe("fork")
class ForkerIterDataPipe(IterDataPipe):
    """`num_instances` pipelines with the same samples, or with copies of them (`copy` = "shallow" or "deep")."""

    def __new__(cls, datapipe, num_instances: int, buffer_size: int = 1000, copy: str | None = None):
        if copy not in (None, "shallow", "deep"):
            raise ValueError(f"Unknown copy_method: {copy!r}. Expected None, 'shallow' or 'deep'.")
        if num_instances == 1 and copy is None:
            return [datapipe]
        duplicate = {None: lambda sample: sample, "shallow": copying.copy, "deep": copying.deepcopy}[copy]

        def deliver(source: _Source, sample) -> None:
            for queue in source.queues:
                queue.append(duplicate(sample))

        source = _Source(datapipe, num_instances, buffer_size, deliver)
        return [_ForkedDataPipe(source, i) for i in range(num_instances)]


@functional_datapipe("demux")
class DemultiplexerIterDataPipe(IterDataPipe):
    """`num_instances` pipelines: each sample goes to the one whose number `classifier_fn` gives; None is dropped with `drop_none`."""

    def __new__(cls, datapipe, num_instances: int, classifier_fn: Callable, drop_none: bool = False, buffer_size: int = 1000):
        def deliver(source: _Source, sample) -> None:
            place = classifier_fn(sample)
            if place is None and drop_none:
                return
            if place is None or not 0 <= place < num_instances:
                raise ValueError(f"Output of the classification fn should be between 0 and {num_instances - 1}. {place} is returned.")
            source.queues[place].append(sample)

        source = _Source(datapipe, num_instances, buffer_size, deliver)
        return [_ChildDataPipe(source, i) for i in range(num_instances)]
