"""From a list of samples to a batch."""

from __future__ import annotations

import collections.abc
import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np

import antorcha as torch

from ...core.tensor import Tensor
from ...io import host
from . import shared

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]

np_str_obj_array_pattern = re.compile(r"[SaUO]")    # the dtypes of NumPy's that are no numbers, as libraries ask for them
default_collate_err_msg_format = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}. " \
                                 "Pass a collate_fn that knows it"


def default_convert(data: Any) -> Any:
    """NumPy arrays and scalars in `data` become tensors; containers stay, and so does the rest."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else torch.as_tensor(data)
    if isinstance(data, collections.abc.Mapping):
        return _mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, tuple):
        return [default_convert(item) for item in data]
    if isinstance(data, collections.abc.Sequence) and not isinstance(data, (str, bytes)):
        return _sequence(data, [default_convert(item) for item in data])
    return data


def default_collate(batch: Any) -> Any:
    """A batch of samples of one structure: tensors, arrays and numbers are stacked along a new first dimension.

    Mappings, named tuples and sequences are gone through; strings stay as they are. A tuple becomes a list.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Any, *, collate_fn_map: dict | None = None) -> Any:
    """`default_collate` with functions of one's own for some types: `collate_fn_map[type](batch, collate_fn_map=...)`."""
    first = batch[0]
    kind = type(first)
    function = _function(kind, collate_fn_map or {})
    if function is not None:
        return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, collections.abc.Mapping):
        return _mapping(first, {key: collate([sample[key] for sample in batch], collate_fn_map=collate_fn_map) for key in first})
    if not isinstance(first, collections.abc.Sequence):
        raise TypeError(default_collate_err_msg_format.format(kind))
    if hasattr(first, "_fields"):
        return kind(*(collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)))
    if len({len(sample) for sample in batch}) != 1:
        raise RuntimeError("each element in list of batch should be of equal size; received sizes "
                           f"{[len(sample) for sample in batch]}. Pad them, or pass a collate_fn")
    columns = [collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)]
    return columns if isinstance(first, tuple) else _sequence(first, columns)


def _function(kind: type, functions: dict) -> Callable | None:
    if kind in functions:
        return functions[kind]
    return next((function for known, function in functions.items() if issubclass(kind, known)), None)


def _mapping(like, items: dict):
    """A mapping with `items` of the type of `like`, which may carry more than its items."""
    try:
        if isinstance(like, collections.abc.MutableMapping):
            clone = copy.copy(like)
            clone.update(items)
            return clone
        return type(like)(items)
    except TypeError:
        return items


def _sequence(like, items: list):
    try:
        if isinstance(like, collections.abc.MutableSequence):
            clone = copy.copy(like)
            for i, item in enumerate(items):
                clone[i] = item
            return clone
        return type(like)(items)
    except TypeError:
        return items


def stack_arrays(arrays: list[np.ndarray]) -> Tensor:
    """The tensor with these arrays, of one shape and dtype, as rows; in a worker process, in shared memory."""
    out = shared.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    np.stack(arrays, out=out)
    return host.adopt(out)


def collate_tensor_fn(batch, *, collate_fn_map: dict | None = None):
    """Samples are data: their values are copied, not recorded, but for those that need a gradient or are not on the CPU."""
    first = batch[0]._meta
    shape, dtype = first.view.shape, first.dtype
    metas = [tensor._meta for tensor in batch]
    if dtype.numpy is None or any(m.view.shape != shape or m.dtype is not dtype or m.device not in (None, "cpu") for m in metas) or any(
            tensor.requires_grad for tensor in batch):
        return torch.stack(list(batch), 0)
    out = shared.empty((len(batch), *shape), dtype.numpy)
    host.stack(batch, out)
    return host.adopt(out)


def collate_numpy_array_fn(batch, *, collate_fn_map: dict | None = None):
    first = batch[0]
    if first.dtype.kind in "SUO":
        raise TypeError(default_collate_err_msg_format.format(f"an array of {first.dtype}"))
    if any(a.shape != first.shape or a.dtype != first.dtype for a in batch):
        return collate([torch.as_tensor(array) for array in batch], collate_fn_map=collate_fn_map)
    return stack_arrays(list(batch))


def collate_numpy_scalar_fn(batch, *, collate_fn_map: dict | None = None):
    return torch.as_tensor(np.asarray(batch))


def collate_float_fn(batch, *, collate_fn_map: dict | None = None):
    return host.adopt(np.array(batch, np.float64))


def collate_int_fn(batch, *, collate_fn_map: dict | None = None):
    if any(type(value) is not int for value in batch):
        return torch.tensor(list(batch))
    return host.adopt(np.array(batch, np.int64))


def collate_str_fn(batch, *, collate_fn_map: dict | None = None):
    return batch


default_collate_fn_map: dict = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}
