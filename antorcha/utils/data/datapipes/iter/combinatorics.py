"""Samples in another order."""

from __future__ import annotations

from ...sampler import Sampler, SequentialSampler
from ..datapipe import IterDataPipe, Shuffling, functional_datapipe

__all__ = ["SamplerIterDataPipe", "ShufflerIterDataPipe"]


class SamplerIterDataPipe(IterDataPipe):
    """What a `Sampler` of the pipeline gives."""

    def __init__(self, datapipe, sampler: type[Sampler] = SequentialSampler, sampler_args=None, sampler_kwargs=None):
        self.datapipe = datapipe
        self.sampler = sampler(*(sampler_args or ()), data_source=datapipe, **(sampler_kwargs or {}))

    def __iter__(self):
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


@functional_datapipe("shuffle")
class ShufflerIterDataPipe(Shuffling, IterDataPipe):
    """Samples in a random order: one of `buffer_size` is drawn, and the next one takes its place.

    `unbatch_level` lists are opened before."""

    def __init__(self, datapipe, *, buffer_size: int = 10000, unbatch_level: int = 0):
        if buffer_size <= 0:
            raise ValueError(f"buffer_size should be larger than 0; received {buffer_size}")
        super().__init__(datapipe.unbatch(unbatch_level=unbatch_level) if unbatch_level else datapipe)
        self.buffer_size = buffer_size
        self._buffer: list = []

    def reset(self) -> None:
        self._buffer = []
        if self._enabled:
            self._use_seed()

    def __iter__(self):
        if not self._enabled:
            yield from self.datapipe
            return
        for sample in self.datapipe:
            if len(self._buffer) < self.buffer_size:
                self._buffer.append(sample)
                continue
            place = self._rng.randint(0, len(self._buffer) - 1)
            drawn, self._buffer[place] = self._buffer[place], sample
            yield drawn
        while self._buffer:
            yield self._buffer.pop(self._rng.randint(0, len(self._buffer) - 1))
