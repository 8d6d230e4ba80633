"""Tensors on NumPy's memory: reads see what is there at the call, and small ones interrupt no recording."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.explaining import Recorder
from antorcha.graph import tape


def test_a_read_sees_the_values_at_the_call():
    array = np.arange(6, dtype=np.float32)
    x = torch.from_numpy(array)
    before = x * 2
    array[:] = -1
    after = x * 2
    assert before.tolist() == [0, 2, 4, 6, 8, 10] and after.tolist() == [-2] * 6


def test_small_reads_are_recorded_and_large_ones_too_see_their_time():
    x = torch.from_numpy(np.ones((20, 4), np.float32))
    large = np.ones(1 << 18, np.float32)
    torch.synchronize()
    y = sum((part * 2).sum() for part in x.split(5))
    assert tape.nodes
    z = torch.from_numpy(large) + 1
    large[:] = 7
    assert y.item() == 160 and z[:2].tolist() == [2, 2]


def test_writes_reach_the_array():
    array = np.zeros(4, np.float32)
    x = torch.from_numpy(array)
    x += torch.ones(4)
    x[1:3].mul_(5)
    assert array.tolist() == [1, 5, 5, 1]
    x[x > 2] = 0
    assert array.tolist() == [1, 0, 0, 1]


def test_training_on_shared_parameters():
    layer = torch.nn.Linear(3, 1)
    seen = layer.weight.detach().numpy()
    first = seen.copy()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    agree(seen, first - 6 * 0.1 * 2)


@pytest.mark.parametrize("differentiated", [False, True])
def test_an_operation_on_shared_16_bit_numbers_is_computed_as_one(differentiated):
    """A weight is read as it lies, not widened in memory for each product; so are the gradients of a layer."""
    x, weight, bias = (torch.randn(*size).bfloat16().requires_grad_(differentiated) for size in ((300, 400), (500, 400), (500,)))
    expected = torch.nn.functional.linear(x, weight, bias)
    gradients = torch.autograd.grad(expected, (x, weight), torch.ones_like(expected)) if differentiated else ()
    for t in (x, weight, bias):
        t.data_ptr()
    with Recorder() as recorder:
        found = torch.nn.functional.linear(x, weight, bias)
        again = torch.autograd.grad(found, (x, weight), torch.ones_like(found)) if differentiated else ()
        for t in (found, *again):
            t.data_ptr()
    computed = [(name, shape) for kernel in recorder.kernels() for _, name, shape, *_ in kernel["nodes"]]
    assert ("contraction", (300, 500)) in computed
    assert not {("to_float32", tuple(t.shape)) for t in (x, weight)} & set(computed)
    assert torch.equal(found, expected) and all(map(torch.equal, again, gradients))
