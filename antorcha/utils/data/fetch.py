"""Fetching a batch from a dataset, in a worker or in the process itself."""

from __future__ import annotations

import numpy as np

from ...core.tensor import Tensor
from ...io import host
from . import shared
from .collate import collate_tensor_fn, default_collate, default_collate_fn_map
from .dataset import Subset, TensorDataset


class MapFetcher:
    """`fetch(indices)` from a dataset with `__getitem__`; with `batched=False`, `fetch(index)`."""

    def __init__(self, dataset, batched: bool, collate_fn, drop_last: bool):
        self._dataset, self._batched, self._collate = dataset, batched, collate_fn

    def fetch(self, index):
        if not self._batched:
            return self._collate(self._dataset[index])
        if self._collate is default_collate:
            rows = take_rows(self._dataset, index)
            if rows is not None:
                return rows
        if getattr(self._dataset, "__getitems__", None):
            return self._collate(self._dataset.__getitems__(index))
        return self._collate([computed(self._dataset[i]) for i in index])


class IterableFetcher:
    """`fetch(indices)` takes the next `len(indices)` samples from a dataset with `__iter__`; raises StopIteration at its end."""

    def __init__(self, dataset, batched: bool, collate_fn, drop_last: bool):
        self._iterator = iter(dataset)
        self._batched, self._collate, self._drop_last = batched, collate_fn, drop_last
        self._ended = False

    def fetch(self, index):
        if self._ended:
            raise StopIteration
        if not self._batched:
            return self._collate(next(self._iterator))
        samples = []
        for _ in index:
            try:
                samples.append(computed(next(self._iterator)))
            except StopIteration:
                self._ended = True
                break
        if not samples or (self._drop_last and len(samples) < len(index)):
            raise StopIteration
        return self._collate(samples)


def computed(sample):
    """A sample, once what was recorded for it is computed: by itself, since the samples of a batch together are hardly ever recorded as
    those of another were where something is left to chance."""
    for x in sample if isinstance(sample, (tuple, list)) else sample.values() if isinstance(sample, dict) else (sample,):
        if type(x) is Tensor and x._meta.device in (None, "cpu") and x.storage.node.buffer is None:
            x.storage.buffer()
            break       # that computes all there is
    return sample


def take_rows(dataset, indices) -> list | None:
    """The batch of a `TensorDataset`, or of a subset of one, with all rows of a tensor taken at once.

    That is what collating the rows gives. None, for the general way, if it might not be: classes that override
    something, tensors that need a gradient, indices that are not integers within range.
    """
    while type(dataset) is Subset:
        try:
            indices = [dataset.indices[i] for i in indices]
        except (IndexError, TypeError):
            return None
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or default_collate_fn_map.get(Tensor) is not collate_tensor_fn:
        return None
    tensors = dataset.tensors
    if any(type(t) is not Tensor or t.requires_grad or t.dtype.numpy is None for t in tensors):
        return None
    index, length = np.asarray(indices), len(dataset)
    if index.ndim != 1 or index.dtype.kind != "i" or index.min() < -length or index.max() >= length:
        return None
    return [_rows(host.peek(tensor), index) for tensor in tensors]


def _rows(array: np.ndarray, index: np.ndarray) -> Tensor:
    out = shared.empty((len(index), *array.shape[1:]), array.dtype)
    np.take(array, index, axis=0, out=out, mode="wrap")  # negative indices count from the end; the range has been checked
    return host.adopt(out)
