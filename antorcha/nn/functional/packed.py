"""Sequences of different lengths laid out time by time: without padding, where those that have ended are left out, and with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...ops.layout import core
from ...ops.pointwise import where
from ...ops.record import operator

Tensor = "Tensor"


class Packing(NamedTuple):
    """How L times of N sequences lie, of which `rows` are there. `places`: (L * N,) the packed row of each padded one, 0 for one that is
    not; `there`: (L * N,) whether it is; `back`: (rows,) the padded row of each packed one."""

    times: int
    batch: int
    rows: int
    places: Tensor
    there: Tensor
    back: Tensor


def packing(sizes: list[int], device) -> Packing:
    """`sizes`: how many sequences reach each time."""
    batch = sizes[0]
    there = (np.arange(batch) < np.array(sizes)[:, None]).reshape(-1)
    places = np.maximum(np.cumsum(there) - 1, 0) * there
    back = np.flatnonzero(there)
    tensors = [core.tensor(a).to(device) for a in (places, there, back)]
    return Packing(len(sizes), batch, len(back), *tensors)


@operator(name="pad_rows", public=False, grad=dict(input=lambda g, places, there, back: unpad_rows(g, places, there, back)))
def pad_rows(input: Tensor, places, there, back) -> Tensor:
    """Packed rows (rows, *) as padded ones (L * N, *), with zeros where a sequence has ended."""
    there = there.reshape((-1,) + (1,) * (input.dim() - 1))
    return where(there, input.index_select(0, places), 0.0).to(input.dtype)


@operator(name="unpad_rows", public=False, grad=dict(input=lambda g, places, there, back: pad_rows(g, places, there, back)))
def unpad_rows(input: Tensor, places, there, back) -> Tensor:
    """Padded rows (L * N, *) as packed ones (rows, *)."""
    return input.index_select(0, back)
