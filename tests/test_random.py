"""Random numbers: the twister against NumPy's, and PyTorch's numbers for a seed."""

from __future__ import annotations

import numpy as np
import pytest

import antorcha as torch
from antorcha.core import twister


@pytest.mark.parametrize("n", [1, 100, 624, 1248, 5000, 30_001])
@pytest.mark.parametrize("before", [0, 7, 623, 624])
def test_twister_equals_numpy(n, before):
    a, b = np.random.RandomState(5), np.random.RandomState(5)
    a.randint(0, 2 ** 32, before, np.uint32), b.randint(0, 2 ** 32, before, np.uint32)
    np.testing.assert_array_equal(twister.words(a, n), b.randint(0, 2 ** 32, n, np.uint32))
    np.testing.assert_array_equal(a.randint(0, 2 ** 32, 700, np.uint32), b.randint(0, 2 ** 32, 700, np.uint32))


def test_pytorchs_numbers():
    torch.manual_seed(0)
    np.testing.assert_allclose(torch.rand(3).tolist(), [0.4962565899, 0.7682217956, 0.0884774327], rtol=1e-7)
    torch.manual_seed(0)
    np.testing.assert_allclose(torch.randn(3).tolist(), [1.5409960747, -0.2934289277, -2.1787893772], rtol=1e-6)
    torch.manual_seed(0)
    assert torch.randperm(5).tolist() == [2, 0, 4, 1, 3] or torch.initial_seed() == 0


def test_state_is_restored():
    torch.manual_seed(3)
    torch.randn(5)
    state = torch.get_rng_state()
    a = torch.randn(30), torch.rand(40_000), torch.randperm(9)
    torch.set_rng_state(state)
    b = torch.randn(30), torch.rand(40_000), torch.randperm(9)
    assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_dropout_keeps_the_expectation():
    torch.manual_seed(0)
    x = torch.nn.functional.dropout(torch.ones(100_000), 0.25)
    assert abs(x.mean().item() - 1) < 0.01 and set(x.unique().tolist()) == {0.0, np.float32(1 / 0.75).item()}


@pytest.mark.oracle
@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000, 100_000])
@pytest.mark.parametrize("seed", [0, -3, 2 ** 40 + 5])
def test_equal_to_pytorch(n, seed):
    oracle = pytest.importorskip("torch")
    torch.manual_seed(seed)
    oracle.manual_seed(seed)
    for draw in (lambda t: t.rand(n), lambda t: t.randn(n), lambda t: t.randint(0, 1000, (n,)), lambda t: t.randperm(n),
                 lambda t: t.rand(n, dtype=t.float64), lambda t: t.randint(0, 2 ** 40, (n,)), lambda t: t.empty(n).uniform_(-1, 3),
                 lambda t: t.empty(n).normal_(1, 2), lambda t: t.nn.functional.dropout(t.ones(n), 0.3), lambda t: t.empty(n).exponential_(),
                 lambda t: t.multinomial(t.arange(1.0, n + 1), 1), lambda t: t.nn.init.kaiming_uniform_(t.empty(n, 3))):
        np.testing.assert_allclose(np.array(draw(torch).tolist()), np.array(draw(oracle).tolist()), rtol=2e-6, atol=1e-6)
