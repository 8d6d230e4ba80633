"""Some of the samples."""

from __future__ import annotations

from collections.abc import Callable

from ..datapipe import IterDataPipe, functional_datapipe

__all__ = ["FilterIterDataPipe"]


@functional_datapipe("filter")
class FilterIterDataPipe(IterDataPipe):
    """The samples for which `filter_fn`, of the sample or of its columns `input_col`, is true."""

    def __init__(self, datapipe, filter_fn: Callable, input_col=None):
        self.datapipe, self.filter_fn, self.input_col = datapipe, filter_fn, input_col

    def _passes(self, sample) -> bool:
        if self.input_col is None:
            passes = self.filter_fn(sample)
        elif isinstance(self.input_col, (list, tuple)):
            passes = self.filter_fn(*(sample[column] for column in self.input_col))
        else:
            passes = self.filter_fn(sample[self.input_col])
        if not isinstance(passes, bool) and not hasattr(passes, "__bool__"):
            raise ValueError(f"Boolean output is required for `filter_fn` of FilterIterDataPipe, got {type(passes)}")
        return bool(passes)

    def __iter__(self):
        for sample in self.datapipe:
            if self._passes(sample):
                yield sample
