"""torch._utils: helpers that libraries take from there."""

from __future__ import annotations

import antorcha as torch

from .io.rebuild import (  # noqa: F401 (what pickles of tensors name)
    _rebuild_parameter,
    _rebuild_parameter_with_state,
    _rebuild_tensor,
    _rebuild_tensor_v2,
    _rebuild_tensor_v3,
)


def __getattr__(name: str):
    if name == "ExceptionWrapper":
        from .utils.data.worker import ExceptionWrapper

        return ExceptionWrapper
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _accumulate(iterable, fn=lambda x, y: x + y):
    """Running totals."""
    import itertools

    return itertools.accumulate(iterable, fn)


def _flatten_dense_tensors(tensors):
    """One vector with the elements of all tensors, one after the other."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _unflatten_dense_tensors(flat, tensors) -> tuple:
    """Parts of the vector `flat` in the shapes of `tensors`: the inverse of `_flatten_dense_tensors`."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    return tuple(part.view_as(tensor) for part, tensor in zip(parts, tensors))


def _take_tensors(tensors, size_limit: int):
    """Lists of tensors of one dtype, of about `size_limit` bytes together."""
    waiting: dict = {}
    for tensor in tensors:
        group = waiting.setdefault(tensor.type(), [])
        if group and sum(t.numel() * t.element_size() for t in group) + tensor.numel() * tensor.element_size() > size_limit:
            yield waiting.pop(tensor.type())
            group = waiting.setdefault(tensor.type(), [])
        group.append(tensor)
    yield from waiting.values()


def _get_device_index(device, optional: bool = False, allow_cpu: bool = False) -> int:
    """The number of a GPU: of a device, its name or its number; with `optional`, of the current one for None."""
    if device is None and optional:
        return torch.cuda.current_device()
    if isinstance(device, int):
        return device
    device = torch.device(device)
    if device.type == "cpu":
        if allow_cpu:
            return -1
        raise ValueError(f"Expected a non cpu device, but got: {device}")
    return device.index if device.index is not None else torch.cuda.current_device()
