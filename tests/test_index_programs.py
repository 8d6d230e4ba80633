"""Random programs of indexing, expanding, arithmetic and sums, fused, against NumPy; and their derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha.base import config

OPERATORS = ["expand", "select", "pick", "gather", "add", "scatter", "put", "sum", "mul", "transpose", "exp", "mask"]


def step(name: str, t, a: np.ndarray, rng) -> tuple:
    """One operator on a tensor and on an array of the same values."""
    axis = int(rng.integers(a.ndim)) if a.ndim else 0
    if name == "expand":
        return t.unsqueeze(-1).expand(*a.shape, 2), np.broadcast_to(a[..., None], (*a.shape, 2))
    if name == "mul":
        return t * t.detach(), a * a
    if name == "exp":
        return (t * 0.1).exp(), np.exp(a * 0.1)
    if a.ndim == 0:
        return t + 1, a + 1
    size = a.shape[axis]
    index = rng.integers(0, size, 3)
    i = torch.tensor(index)
    if name == "select":
        return t.index_select(axis, i), a.take(index, axis)
    if name == "pick":
        return t[(slice(None),) * axis + (i,)], a[(slice(None),) * axis + (index,)]
    if name == "gather":
        places = rng.integers(0, size, a.shape)
        return t.gather(axis, torch.tensor(places)), np.take_along_axis(a, places, axis)
    if name == "add":
        shape = (*a.shape[:axis], 3, *a.shape[axis + 1:])
        out = np.zeros(shape)
        places = rng.integers(0, 3, size)
        np.add.at(out, (slice(None),) * axis + (places,), a)
        return torch.zeros(shape, dtype=t.dtype).index_add(axis, torch.tensor(places), t), out
    if name == "scatter":
        places = rng.integers(0, size, a.shape)
        out = np.zeros(a.shape)
        where = list(np.indices(a.shape))
        where[axis] = places
        np.add.at(out, tuple(where), a)
        return torch.zeros(a.shape, dtype=t.dtype).scatter_add(axis, torch.tensor(places), t), out
    if name == "put":
        out = a.copy()
        out[(slice(None),) * axis + (slice(0, 1),)] = 2.0
        u = t.clone()
        u[(slice(None),) * axis + (slice(0, 1),)] = 2.0
        return u, out
    if name == "sum":
        return t.sum(axis), a.sum(axis)
    if name == "mask":
        return torch.where(t > 0, t, t * 0.5), np.where(a > 0, a, a * 0.5)
    return t.transpose(0, -1), a.swapaxes(0, -1)


def run(names: list[str], seed: int):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(1, 4)))
    a = rng.standard_normal(shape)
    leaf = torch.tensor(a, requires_grad=True)
    t, sums = leaf * 1.0, []
    for name in names:
        t, a = step(name, t, np.asarray(a), rng)
        sums.append(t.detach().sum())
    return leaf, t, a, sums


@settings(max_examples=120)
@given(st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=7), st.integers(0, 2**20))
def test_values_equal_numpy(names, seed):
    _, t, a, _ = run(names, seed)
    agree(t, a)


@settings(max_examples=60)
@given(st.lists(st.sampled_from([n for n in OPERATORS if n != "mul"]), min_size=1, max_size=6), st.integers(0, 2**20))
def test_derivatives_equal_those_of_single_operators(names, seed):
    found = []
    for eager in (False, True):
        before, config.eager = config.eager, eager
        try:
            leaf, t, *_ = run(names, seed)
            (t * torch.arange(t.numel(), dtype=t.dtype).reshape(t.shape)).sum().backward()
            found.append(leaf.grad.numpy())
        finally:
            config.eager = before
    agree(*found)


@pytest.mark.parametrize("shape", [(), (2, 1), (1, 2)])
def test_rows_of_an_expanded_tensor_are_written_whole(shape):
    t = torch.ones(shape).expand(2, 2)
    assert t.index_select(0, torch.tensor([0, 1, 1, 0])).tolist() == [[1.0, 1.0]] * 4


@settings(max_examples=30)
@given(st.lists(st.sampled_from([n for n in OPERATORS if n not in ("mul", "mask")]), min_size=1, max_size=5), st.integers(0, 2**20))
def test_derivatives_equal_differences(names, seed):
    leaf, t, *_ = run(names, seed)
    weights = np.random.default_rng(1).standard_normal(tuple(t.shape))
    (t * torch.tensor(weights)).sum().backward()
    direction = np.random.default_rng(2).standard_normal(tuple(leaf.shape))
    values = []
    for sign in (1, -1):
        rng = np.random.default_rng(seed)
        shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(1, 4)))
        a = rng.standard_normal(shape) + sign * 1e-6 * direction
        for name in names:
            _, a = step(name, torch.tensor(np.asarray(a)), np.asarray(a), rng)
        values.append((a * weights).sum())
    slope = (values[0] - values[1]) / 2e-6
    assert abs(slope - (leaf.grad.numpy() * direction).sum()) <= 1e-5 * max(1.0, abs(slope))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.permutations(range(4)), st.integers(0, 3), st.integers(1, 4),
       st.integers(0, 4), st.integers(0, 2**20))
@settings(deadline=None)
def test_masks_of_several_dimensions(shape, order, first, rank, off, seed):
    """Of tensors as they lie, turned, and parts of others: read, differentiated, written; and where they are true."""
    rng = np.random.default_rng(seed)
    a = rng.integers(-9, 10, shape).astype(np.float32)
    order = [d for d in order if d < len(shape)]
    x = torch.tensor(a).permute(order)[off % (shape[order[0]] + 1):]
    b = a.transpose(order)[off % (shape[order[0]] + 1):]
    first = min(first, b.ndim - 1)
    mask = rng.integers(0, 2, b.shape[first:first + rank]).astype(bool)
    key, own = (slice(None),) * first + (torch.tensor(mask),), (slice(None),) * first + (mask,)
    leaf = x.clone().requires_grad_()
    found = leaf[key]
    np.testing.assert_array_equal(found.detach().numpy(), b[own])
    np.testing.assert_array_equal(x[key].numpy(), b[own])
    (found * 3).sum().backward()
    right = np.zeros_like(b)
    right[own] = 3
    np.testing.assert_array_equal(leaf.grad.numpy(), right)
    written, expected = x.clone(), b.copy()
    written[key] = found.detach() + 1
    expected[own] = b[own] + 1
    np.testing.assert_array_equal(written.numpy(), expected)
    for places, known in zip(torch.tensor(mask).nonzero(as_tuple=True), mask.nonzero()):
        np.testing.assert_array_equal(places.numpy(), known)
    np.testing.assert_array_equal(torch.tensor(mask).nonzero().numpy(), np.argwhere(mask))
