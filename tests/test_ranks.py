"""Order: sorting, and where the largest element stands; NaN comes last, and is larger than all; equal elements keep their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import program_text

import antorcha as torch
from antorcha.base import config

DTYPES = ["f2", "f4", "f8", "i1", "u1", "i2", "i4", "i8"]


def elements(dtype: str, shape: tuple, seed: int, lost: int = 0) -> np.ndarray:
    """Few different ones, the extremes among them."""
    random, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind == "f":
        some = np.array([-np.inf, -3, -1.5, -0.0, 0.0, 2, 7, np.inf] + [np.nan, -np.nan] * (lost > 0), kind)
    else:
        some = np.array([np.iinfo(kind).min, 0, 1, 2, np.iinfo(kind).max], kind)
    return random.choice(some, shape)


@given(st.sampled_from(DTYPES), st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 3)), st.integers(0, 2), st.booleans(),
       st.integers(0, 9), st.integers(0, 1))
def test_sorting(dtype, shape, dim, descending, seed, lost):
    x = elements(dtype, shape, seed, lost)
    values, places = torch.from_numpy(x).sort(dim, descending)
    places = places.numpy()
    if descending:
        right = np.flip(x.shape[dim] - 1 - np.argsort(np.flip(x, dim), dim, kind="stable"), dim)
    else:
        right = np.argsort(x, dim, kind="stable")
    np.testing.assert_array_equal(places, right)
    found, expected = values.numpy(), np.take_along_axis(x, right, dim)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@given(st.sampled_from(DTYPES), st.tuples(st.integers(1, 4), st.integers(1, 300), st.integers(1, 3)), st.integers(0, 2), st.booleans(),
       st.integers(0, 9), st.integers(0, 1), st.booleans(), st.integers(0, 40))
def test_the_first_of_them(dtype, shape, dim, largest, seed, lost, different, k):
    x = elements(dtype, shape, seed, lost)
    if different and dtype[0] == "f":
        x = np.random.default_rng(seed).normal(0, 1, shape).astype(dtype)
    k = min(k, shape[dim])
    values, places = torch.from_numpy(x).topk(k, dim, largest)
    right = np.take(np.sort(x, dim), np.arange(shape[dim] - 1, shape[dim] - 1 - k, -1) if largest else np.arange(k), dim)
    np.testing.assert_array_equal(values.numpy(), right)
    np.testing.assert_array_equal(np.take_along_axis(x, places.numpy(), dim), right)
    assert all(len({*row}) == k for row in np.moveaxis(places.numpy(), dim, -1).reshape(x.size // shape[dim], k).tolist())


@given(st.sampled_from(DTYPES[1:]), st.tuples(st.integers(1, 4), st.integers(1, 90), st.integers(1, 20)), st.integers(-1, 2),
       st.sampled_from(["argmax", "argmin"]), st.integers(0, 9), st.integers(0, 1), st.booleans(), st.sampled_from(["llvm", "interp"]))
def test_where_the_largest_stands(dtype, shape, dim, name, seed, lost, computed, target):
    """The first of them, of what lies in memory and of what is computed."""
    x = elements(dtype, shape, seed, lost)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "target", target)
        t = torch.from_numpy(x) + 0
        t.sum().item()
        if computed:
            t = t.flip(1).flip(1) * 1
        if dim < 0:
            assert getattr(t, name)().item() == getattr(np, name)(x)
            return
        found = getattr(t, name)(dim).numpy()
    np.testing.assert_array_equal(found, getattr(np, name)(x, axis=dim))


@pytest.mark.parametrize("dtype", ["f4", "u1", "?"])
def test_planes_are_compared_side_by_side(dtype):
    """Which of 21 classes a place belongs to, for all places of a row at once."""
    x = elements("f4", (3, 21, 5, 40), 1, 1) if dtype == "f4" else np.random.default_rng(1).integers(0, 2, (3, 21, 5, 40)).astype(dtype)
    t = torch.from_numpy(x)
    np.testing.assert_array_equal(t.argmax(1).numpy() if dtype != "?" else t.max(1)[1].numpy(), x.argmax(1))
    np.testing.assert_array_equal(t.min(1)[1].numpy(), x.argmin(1))
    assert "serial" not in program_text(lambda: (t + 0 if dtype != "?" else ~t).min(1)[1] + 1)


def test_it_is_found_in_vectors():
    x = torch.randn(64, 1000)
    x.sum().item()
    assert program_text(lambda: x.argmax(1)).count("vector i") == 2


@given(st.sampled_from(DTYPES), st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 3)), st.integers(0, 2), st.integers(0, 100),
       st.integers(0, 2), st.integers(0, 1 << 20))
def test_of_a_rank(dtype, shape, dim, k, lost, seed):
    """The k-th and the middle ones, some of them lost: each stands where it is said to."""
    x = elements(dtype, shape, seed, lost)
    t, n = torch.from_numpy(x), shape[dim]
    whole = np.sort(x, dim)
    middle = np.take(whole, (n - 1) // 2, dim)
    middle = np.where(np.isnan(x).any(dim), np.nan, middle).astype(x.dtype) if x.dtype.kind == "f" else middle
    for found, right in ((t.kthvalue(k % n + 1, dim), np.take(whole, k % n, dim)), (t.median(dim), middle)):
        values, places = (y.numpy() for y in found)
        np.testing.assert_array_equal(values, right)
        np.testing.assert_array_equal(np.take_along_axis(x, np.expand_dims(places, dim), dim).squeeze(dim), values)


@given(st.sampled_from(["i1", "u1", "i2", "i4", "i8"]), st.integers(0, 40), st.booleans(), st.integers(0, 1 << 20))
def test_distinct_whole_numbers(dtype, count, close, seed):
    """From one end of a dtype to the other, and close to one another at either end."""
    random, bounds = np.random.default_rng(seed), np.iinfo(dtype)
    x = random.choice(np.array([bounds.min, 0, 1, bounds.max], dtype), count)
    if close:
        x = random.choice([np.array(bounds.min, dtype), np.array(bounds.max - 5, dtype)]) + random.integers(0, 6, count).astype(dtype)
    found = torch.from_numpy(x).unique(return_inverse=True, return_counts=True)
    for a, b in zip(found, np.unique(x, return_inverse=True, return_counts=True)):
        np.testing.assert_array_equal(a.numpy(), b)
