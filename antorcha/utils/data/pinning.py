"""Batches in page-locked memory, from where copies to a GPU need not be waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.tensor import Tensor


def pin(data: Any) -> Any:
    """`data` with the tensors in it in page-locked memory: of mappings, sequences, named tuples and whatever has `pin_memory`."""
    if isinstance(data, Tensor) or hasattr(data, "pin_memory"):
        return data.pin_memory()
    if isinstance(data, (str, bytes)):
        return data
    if isinstance(data, Mapping):
        return _like(data, {key: pin(value) for key, value in data.items()})
    if isinstance(data, tuple):
        return type(data)(*map(pin, data)) if hasattr(data, "_fields") else tuple(map(pin, data))
    if isinstance(data, Sequence):
        return _like(data, [pin(value) for value in data])
    return data


def _like(data, values):
    """`values` in a container of the kind of `data`, where one can be made."""
    try:
        return type(data)(values)
    except TypeError:
        return values
