"""Kernels whose rows read ahead: the last loop over a row does the first stage of the next."""

from __future__ import annotations

import numpy as np
import pytest

import antorcha as torch
from antorcha.explaining import Recorder

F = torch.nn.functional
SHAPES = [(1031, 1027), (300, 5003), (2, 521, 1024)]


def made(shape) -> torch.Tensor:
    """Numbers in memory that NumPy does not share: what is done with them is fused."""
    x = torch.from_numpy(np.random.default_rng(3).standard_normal(shape, np.float32)) + 0
    x.sum().item()
    return x


def wide(x) -> np.ndarray:
    return (x + 0).numpy().astype(np.float64)


def softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape):
    x = made(shape)
    a = wide(x)
    assert np.abs(x.softmax(-1).numpy() - softmax(a)).max() < 1e-6
    normal = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)
    with Recorder() as recorder:
        y = F.layer_norm(x, shape[-1:])
    assert np.abs(y.numpy() - normal).max() < 1e-5
    assert any("@next" in k["program"].text() for k in recorder.kernels())


def test_rows_that_are_not_neighbours():
    """Two coordinates for each row, stepped like an odometer."""
    x = made((30, 90, 600))[:, ::2]
    assert np.abs(x.softmax(-1).numpy() - softmax(wide(x))).max() < 1e-6


def test_a_result_in_the_memory_of_its_input():
    x = made((1031, 1027))
    expected = softmax(wide(x) + 1)
    y = (x + 1).softmax(-1)
    assert np.abs(y.numpy() - expected).max() < 1e-6


def test_values_of_rows_and_totals():
    x = made((1031, 1027))
    target = torch.arange(1031) % 1027
    target[5] = -100
    leaf = x.clone().requires_grad_()
    loss = F.cross_entropy(leaf, target)
    loss.backward()
    p, t = softmax(wide(x)), target.numpy()
    kept = np.flatnonzero(t >= 0)
    assert abs(loss.item() + np.log(p[kept, t[kept]]).mean()) < 1e-5
    p[kept, t[kept]] -= 1
    p[5] = 0
    assert np.abs(leaf.grad.numpy() * len(kept) - p).max() < 1e-5


def test_the_same_bits_for_any_number_of_threads():
    x = made((1031, 1027))
    threads = torch.get_num_threads()
    try:
        found = []
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append((x.softmax(-1).numpy().tobytes(), F.layer_norm(x, (1027,)).numpy().tobytes()))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]
