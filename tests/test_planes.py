"""Scatters that copy a plane of the old value and update it at once."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import kernels

import antorcha as torch

F = torch.nn.functional


def made(*shape) -> tuple:
    a = np.random.default_rng(5).standard_normal(shape, np.float32)
    return a, torch.from_numpy(a.copy()) + 0


def programs(work) -> tuple:
    result, found = kernels(work)
    return result, [k["program"] for k in found if k["kind"] == "scatter"]


@pytest.mark.parametrize("shape, count", [((8, 6, 14, 15), 1), ((2, 3, 14, 15), 2)])
def test_border(shape, count):
    a, x = made(*shape)
    y, found = programs(lambda: F.pad(x, (1, 2, 3, 1), value=2.5))
    assert np.array_equal(y.numpy(), np.pad(a, ((0, 0), (0, 0), (3, 1), (1, 2)), constant_values=2.5))
    assert len(found) == count        # few planes keep few threads busy


def test_cotangent_of_a_maximum():
    a, x = made(8, 6, 14, 15)
    g, cotangent = made(8, 6, 7, 7)
    leaf = x.requires_grad_()
    F.max_pool2d(leaf, 2).backward(cotangent)
    expected = np.zeros_like(a)
    windows = a[..., :14].reshape(8, 6, 7, 2, 7, 2).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4)
    first = windows.argmax(1).reshape(g.shape)
    n, c, i, j = np.indices(g.shape)
    np.add.at(expected, (n, c, 2 * i + first // 2, 2 * j + first % 2), g)
    assert np.array_equal(leaf.grad.numpy(), expected)


def test_sums_that_collide_keep_their_order():
    a, x = made(20, 30, 4)
    s, source = made(20, 50, 4)
    where = np.random.default_rng(1).integers(0, 30, (20, 50))
    y = (x * 2).scatter_add(1, torch.from_numpy(where)[:, :, None].expand(20, 50, 4), source)
    expected = 2 * a
    for plane, at, values in zip(expected, where, s):
        for i, v in zip(at, values):
            plane[i] += v
    assert np.array_equal(y.numpy(), expected)


def test_a_region_that_leaves_its_plane():
    """A diagonal: the steps of the region are longer than a row, and another row's elements follow."""
    a, x = made(20, 20)
    y = x.clone()
    y.diagonal(1).mul_(3)
    expected = a.copy()
    k = np.arange(19)
    expected[k, k + 1] *= 3
    assert np.array_equal(y.numpy(), expected)
