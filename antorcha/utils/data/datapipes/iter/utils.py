"""Where pipelines begin: something to iterate over."""

from __future__ import annotations

import copy
import warnings

from ..datapipe import IterDataPipe

__all__ = ["IterableWrapperIterDataPipe"]


class IterableWrapperIterDataPipe(IterDataPipe):
    """The elements of `iterable`, of which a copy is taken each epoch (`deepcopy`), so that changing samples leaves it alone."""

    def __init__(self, iterable, deepcopy: bool = True):
        self.iterable, self.deepcopy = iterable, deepcopy

    def __iter__(self):
        source = self.iterable
        if self.deepcopy:
            try:
                source = copy.deepcopy(source)
            except TypeError:   # generators and open files cannot be copied
                warnings.warn("The input iterable can not be deepcopied, please be aware of in-place modification would affect "
                              "source data.", stacklevel=2)
        yield from source

    def __len__(self) -> int:
        return len(self.iterable)
