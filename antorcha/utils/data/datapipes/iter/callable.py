"""Functions applied to samples."""

from __future__ import annotations

from collections.abc import Callable

from ...collate import default_collate
from ..datapipe import IterDataPipe, functional_datapipe

__all__ = ["CollatorIterDataPipe", "MapperIterDataPipe"]


@functional_datapipe("map")
class MapperIterDataPipe(IterDataPipe):
    """`fn` of each sample. With `input_col`, of these columns (an index or key, or a list of them); the result goes to `output_col`: an
    existing column, or -1 for a new one at the end; None puts it in place of the input."""

    def __init__(self, datapipe, fn: Callable, input_col=None, output_col=None):
        if input_col is None and output_col is not None:
            raise ValueError("`output_col` must be None when `input_col` is None.")
        if isinstance(output_col, (list, tuple)):
            if len(output_col) > 1:
                raise ValueError("`output_col` must be a single-element list or tuple")
            (output_col,) = output_col
        self.datapipe, self.fn, self.input_col, self.output_col = datapipe, fn, input_col, output_col

    def _apply(self, data):
        if self.input_col is None:
            return self.fn(data)
        several = isinstance(self.input_col, (list, tuple))
        result = self.fn(*(data[column] for column in self.input_col)) if several else self.fn(data[self.input_col])
        return _with_column(data, self.input_col, self.output_col, result)

    def __iter__(self):
        for data in self.datapipe:
            yield self._apply(data)

    def __len__(self) -> int:
        return len(self.datapipe)


def _with_column(data, inputs, output, result):
    """A sample like `data`, a sequence or a dict, with `result` in column `output`."""
    changed = dict(data) if isinstance(data, dict) else list(data)
    if output == -1 and isinstance(changed, list):
        changed.append(result)
    elif output is not None:
        changed[output] = result
    elif isinstance(inputs, (list, tuple)):
        changed[inputs[0]] = result
        for column in sorted(inputs[1:], reverse=True) if isinstance(changed, list) else inputs[1:]:
            del changed[column]
    else:
        changed[inputs] = result
    return tuple(changed) if isinstance(data, tuple) else changed


def _collated_columns(conversion, data: list):
    """The batch with the conversion's function for each named column, and the default for the others."""
    return {key: conversion.get(key, default_collate)([sample[key] for sample in data]) for key in data[0]}


@functional_datapipe("collate")
class CollatorIterDataPipe(MapperIterDataPipe):
    """Lists of samples made into batches: by `collate_fn`, or by `conversion`, which is such a function or a dict of one for each key."""

    def __init__(self, datapipe, conversion=None, collate_fn: Callable | None = None):
        import functools

        if isinstance(conversion, dict):
            conversion = functools.partial(_collated_columns, conversion)
        super().__init__(datapipe, fn=collate_fn or conversion or default_collate)
