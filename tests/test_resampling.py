"""Elements that come several times or in another order: borders, and the nearest element."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import antorcha as torch

F = torch.nn.functional


def whole(shape) -> torch.Tensor:
    """Small whole numbers: whatever the order, their sums are exact."""
    return torch.from_numpy(np.random.default_rng(len(shape)).integers(-4, 5, shape).astype(np.float32)) + 0


def test_each_element_several_times():
    x = whole((2, 3, 5, 7))
    for times in ((2, 2), (3, 1), (1, 4), (5, 2)):
        leaf = (x + 0).requires_grad_()
        y = F.interpolate(leaf, scale_factor=times)
        a = x.numpy().repeat(times[0], 2).repeat(times[1], 3)
        np.testing.assert_array_equal(y.detach().numpy(), a)
        g = whole(y.shape)
        y.backward(g)
        right = (g + 0).numpy().reshape(2, 3, 5, times[0], 7, times[1]).sum((3, 5))
        np.testing.assert_array_equal(leaf.grad.numpy(), right)


@pytest.mark.parametrize("mode, numpys", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@given(st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 20)), st.tuples(*[st.integers(0, 3)] * 4))
def test_borders(mode, numpys, shape, amounts):
    """Each is made of runs of the rows and columns within; derivatives add up what each of these has become."""
    x = whole(shape)
    widths = ((0, 0), amounts[2:], amounts[:2])
    leaf = (x + 0).requires_grad_()
    y = F.pad(leaf, amounts, mode=mode)
    np.testing.assert_array_equal(y.detach().numpy(), np.pad(x.numpy(), widths, mode=numpys))
    g = whole(tuple(y.shape))
    (y * g).sum().backward()
    places, right = np.pad(np.arange(x.numel()).reshape(shape), widths, mode=numpys), np.zeros(x.numel(), np.float32)
    np.add.at(right, places.reshape(-1), (g + 0).numpy().reshape(-1))
    np.testing.assert_array_equal(leaf.grad.numpy().reshape(-1), right)
