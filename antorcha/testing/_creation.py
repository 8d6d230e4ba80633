"""`make_tensor`."""

from __future__ import annotations

import math

import antorcha as torch


def _bounds(low, high, lowest, highest, default) -> tuple:
    """The interval to draw from, within what the dtype holds."""
    low, high = (given if given is not None else d for given, d in zip((low, high), default))
    if any(isinstance(x, float) and math.isnan(x) for x in (low, high)):
        raise ValueError(f"`low` and `high` cannot be NaN, but got {low=} and {high=}")
    if low > high or low == high and low > highest:
        raise ValueError(f"make_tensor: expected low <= high; received {low} and {high}")
    if high < lowest or low > highest:
        raise ValueError(f"The value interval [{low}, {high}) does not overlap that of the dtype, [{lowest}, {highest}]")
    return max(low, lowest), min(high, highest)


def make_tensor(*shape, dtype, device="cpu", low=None, high=None, requires_grad=False, noncontiguous=False, exclude_zero=False,
                memory_format=None):
    """A tensor of random numbers in [low, high): by default [-9, 9) for floats, [-9, 10) for signed integers, [0, 10) for uint8.

    shape: sizes, or one sequence of them. noncontiguous: every second element of a larger one (where there are 2 or more).
    exclude_zero: zeros are replaced by the least positive number (1 for integers).
    """
    if len(shape) == 1 and not isinstance(shape[0], int):
        shape = tuple(shape[0])
    if noncontiguous and memory_format is not None:
        raise ValueError(f"The parameters `noncontiguous` and `memory_format` are mutually exclusive, but got {noncontiguous=} and "
                         f"{memory_format=}")
    if requires_grad and not (dtype.is_floating_point or dtype.is_complex):
        raise ValueError(f"`requires_grad=True` is not supported for boolean and integral dtypes, but got {dtype=}")
    if dtype is torch.bool:
        low, high = _bounds(low, high, 0, 2, (0, 2))
        result = torch.randint(int(low), int(high), shape, dtype=dtype, device=device)
    elif dtype.is_floating_point:
        top = torch.finfo(dtype).max
        low, high = _bounds(low, high, -top, top, (-9, 9))
        result = torch.empty(shape, dtype=dtype, device=device).uniform_(low, high)
    elif dtype.is_complex:
        part = torch.float32 if dtype is torch.complex64 else torch.float64
        top = torch.finfo(part).max
        low, high = _bounds(low, high, -top, top, (-9, 9))
        result = torch.view_as_complex(torch.empty((*shape, 2), dtype=part, device=device).uniform_(low, high))
    else:
        info = torch.iinfo(dtype)
        low, high = _bounds(low, high, info.min, info.max + 1, (0, 10) if info.min == 0 else (-9, 10))
        result = torch.randint(math.ceil(low), math.ceil(high), shape, dtype=dtype, device=device)
    if noncontiguous and result.numel() > 1:
        result = torch.repeat_interleave(result, 2, dim=-1)[..., ::2]
    elif memory_format is not None:
        result = result.clone(memory_format=memory_format)
    if exclude_zero:
        least = torch.finfo(dtype).tiny if dtype.is_floating_point or dtype.is_complex else 1
        result[result == 0] = least
    return result.requires_grad_() if requires_grad else result
