"""torch.cuda.comm: tensors copied to several devices, cut up among them, and put together again."""

from __future__ import annotations

import antorcha as torch

__all__ = ["broadcast", "broadcast_coalesced", "gather", "reduce_add", "reduce_add_coalesced", "scatter"]


def _named(device) -> torch.device:
    return torch.device("cuda", device) if isinstance(device, int) and device >= 0 else torch.device("cpu" if device == -1 else device)


def _one_of(what: str, devices, out) -> None:
    if (devices is None) == (out is None):
        raise RuntimeError(f"{what}: expected exactly one of 'devices' and 'out'; received devices={devices} and out={out}")


def broadcast(tensor, devices=None, *, out=None) -> tuple:
    """Copies of a tensor on `devices`, or in the tensors `out`."""
    _one_of("broadcast", devices, out)
    return tuple(t.copy_(tensor) for t in out) if devices is None else tuple(tensor.to(_named(d)) for d in devices)


def broadcast_coalesced(tensors, devices, buffer_size: int = 10485760) -> tuple:
    """For each device copies of several tensors."""
    return tuple(tuple(t.to(_named(d)) for t in tensors) for d in devices)


def reduce_add(inputs, destination=None):
    """The sum of tensors of several devices, on `destination` (that of the first)."""
    home = inputs[0].device if destination is None else _named(destination)
    if len({tuple(t.shape) for t in inputs}) > 1:
        raise ValueError(f"reduce_add: expected tensors of one size; received {[list(t.shape) for t in inputs]}")
    total = inputs[0].to(home)
    for t in inputs[1:]:
        total = total + t.to(home)
    return total


def reduce_add_coalesced(inputs, destination=None, buffer_size: int = 10485760) -> tuple:
    """The sums of several tensors; `inputs` has for each device those of all."""
    return tuple(reduce_add(parts, destination) for parts in zip(*inputs))


def scatter(tensor, devices=None, chunk_sizes=None, dim: int = 0, streams=None, *, out=None) -> tuple:
    """Pieces of a tensor along `dim`, of sizes `chunk_sizes` or equal ones, on `devices` or in the tensors `out`."""
    _one_of("scatter", devices, out)
    if out is not None:
        return tuple(t.copy_(part) for t, part in zip(out, tensor.split([t.shape[dim] for t in out], dim)))
    parts = tensor.chunk(len(devices), dim) if chunk_sizes is None else tensor.split(list(chunk_sizes), dim)
    return tuple(part.to(_named(d)) for part, d in zip(parts, devices))


def gather(tensors, dim: int = 0, destination=None, *, out=None):
    """Tensors of several devices side by side along `dim`, on `destination` (the current GPU) or in `out`."""
    if out is not None:
        return out.copy_(torch.cat([t.to(out.device) for t in tensors], dim))
    home = torch.device("cuda" if torch.cuda.is_available() else "cpu") if destination is None else _named(destination)
    return torch.cat([t.to(home) for t in tensors], dim)
