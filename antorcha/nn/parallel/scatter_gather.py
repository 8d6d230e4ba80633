"""Cutting the arguments of a model into parts, one for each device, and joining the results of the parts."""

from __future__ import annotations

import antorcha as torch

from ...core.tensor import Tensor

__all__ = ["gather", "scatter", "scatter_kwargs"]


def scatter(inputs, target_gpus, dim: int = 0) -> list:
    """A list with an element for each device: tensors of `inputs` are cut along `dim`, containers gone through, the rest repeated."""
    parts = len(target_gpus)
    if isinstance(inputs, Tensor):
        return [part.to(device) for part, device in zip(torch.chunk(inputs, parts, dim), target_gpus)]
    if isinstance(inputs, (list, tuple)) and inputs:
        columns = zip(*(scatter(item, target_gpus, dim) for item in inputs))
        if hasattr(inputs, "_fields"):
            return [type(inputs)(*column) for column in columns]
        return [type(inputs)(column) for column in columns]
    if isinstance(inputs, dict) and inputs:
        return [type(inputs)(zip(inputs, column)) for column in zip(*(scatter(item, target_gpus, dim) for item in inputs.values()))]
    return [inputs] * parts


def scatter_kwargs(inputs, kwargs, target_gpus, dim: int = 0) -> tuple[tuple, tuple]:
    """`scatter` of positional and keyword arguments; the shorter is filled with empty ones."""
    rows = scatter(inputs, target_gpus, dim) if inputs else []
    named = scatter(kwargs, target_gpus, dim) if kwargs else []
    rows += [()] * (len(named) - len(rows))
    named += [{}] * (len(rows) - len(named))
    return tuple(rows), tuple(named)


def gather(outputs, target_device, dim: int = 0):
    """The results of the parts joined along `dim` on `target_device`; numbers (tensors of no dimension) make a vector."""
    first = outputs[0]
    if isinstance(first, Tensor):
        moved = [output.to(target_device) for output in outputs]
        return torch.stack(moved) if first.dim() == 0 else torch.cat(moved, dim)
    if first is None:
        return None
    if isinstance(first, dict):
        if any(len(output) != len(first) for output in outputs):
            raise ValueError("gather: all dicts must have the same number of keys; "
                             f"received {[len(output) for output in outputs]}.")
        return type(first)((key, gather([output[key] for output in outputs], target_device, dim)) for key in first)
    columns = [gather(column, target_device, dim) for column in zip(*outputs)]
    return type(first)(*columns) if hasattr(first, "_fields") else type(first)(columns)
