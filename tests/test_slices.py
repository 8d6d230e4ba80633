"""Products of float32 in slices of 16 bits, on processors with AMX: as near to float64's as float32's, whatever the operands are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import antorcha as torch
from antorcha.graph import flush
from antorcha.runtime import cpu
from antorcha.targets import blocking

pytestmark = pytest.mark.skipif(cpu.processor() is not cpu.host() or not cpu.has_tiles(), reason="needs AMX")


@pytest.fixture
def sliced(monkeypatch):
    """Products of any size are multiplied in slices; gives what was decided for each."""
    decided, worth_slicing = [], blocking.worth_slicing

    def decide(*product):
        decided.append(worth_slicing(*product))
        return decided[-1]

    monkeypatch.setattr(blocking, "FEWEST", 1)
    monkeypatch.setattr(blocking, "LEAST", 1)
    monkeypatch.setattr(blocking, "worth_slicing", decide)
    flush.clear()
    yield decided
    flush.clear()


def multiplied(a, b, a_turned=False, b_turned=False):
    """The product of two arrays, each stored as it is or transposed."""
    a, b = (torch.tensor(np.ascontiguousarray(x.T)).t() if turned else torch.tensor(x) for x, turned in ((a, a_turned), (b, b_turned)))
    return (a @ b).numpy()


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("a_turned", [False, True])
@pytest.mark.parametrize("b_turned", [False, True])
@given(m=st.integers(2, 90), n=st.integers(2, 90), k=st.integers(1, 1100), seed=st.integers(0, 1 << 30))
@settings(max_examples=12, deadline=None)
def test_sums_are_nearer_than_those_of_float32_may_be(a_turned, b_turned, m, n, k, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocking, "FEWEST", 1)
        patch.setattr(blocking, "LEAST", 1)
        rng = np.random.default_rng(seed)
        a, b = normal(rng, m, k), normal(rng, k, n)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        bound = (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)) * 2.0 ** -22
        assert (np.abs(multiplied(a, b, a_turned, b_turned) - exact) <= bound * max(1.0, k ** 0.5 / 8)).all()


def test_they_are_used_for_large_products_and_nearer_to_float64(sliced):
    rng = np.random.default_rng(0)
    a, b = normal(rng, 257, 519), normal(rng, 519, 301)
    exact = a.astype(np.float64) @ b
    assert np.abs(multiplied(a, b) - exact).max() < np.abs(np.float32(a) @ b - exact).max() * 1.5
    assert sliced and all(sliced)


def test_products_that_are_numbers_of_float32_are_exact(sliced):
    """Of 12 bits by 12 bits, and sums below 2^24."""
    rng = np.random.default_rng(1)
    a = rng.integers(-4095, 4096, (40, 33)).astype(np.float32) * (np.arange(33) == rng.integers(0, 33, (40, 1)))
    b = rng.integers(-4095, 4096, (33, 50)).astype(np.float32)
    assert np.array_equal(multiplied(a.astype(np.float32), b), a.astype(np.float64) @ b)
    a, b = (rng.integers(-64, 65, shape).astype(np.float32) for shape in ((70, 1000), (1000, 66)))
    assert np.array_equal(multiplied(a, b), a.astype(np.float64) @ b)
    identity = np.eye(96, dtype=np.float32)
    x = rng.standard_normal((96, 96)).astype(np.float32) * 10.0 ** rng.integers(-28, 28, (96, 96)).astype(np.float32)
    assert np.array_equal(multiplied(x, identity), x) and np.array_equal(multiplied(identity, x), x)
    assert sliced and all(sliced)


LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("k", [40, 1100])      # of one block along k, and of several
@pytest.mark.parametrize("a_turned", [False, True])
@pytest.mark.parametrize("value, other, expected", [
    (np.inf, 0.5, np.inf), (-np.inf, 2.0, -np.inf), (np.inf, 0.0, np.nan), (np.nan, 1.0, np.nan),
    (LARGEST, 0.5, LARGEST / 2), (LARGEST, 1.0, LARGEST), (LARGEST, 2.0, np.inf), (-LARGEST, 3.0, -np.inf),
    (3e38, 1.3, np.inf), (1e30, 1e30, np.inf), (1e30, -1e30, -np.inf), (1e-30, 1e30, 1.0), (2.0 ** 120, 2.0 ** -120, 1.0),
])
def test_large_and_infinite_elements(sliced, k, a_turned, value, other, expected):
    rng = np.random.default_rng(2)
    a, b = normal(rng, 70, k), normal(rng, k, 50)
    a[33], b[:, 17] = 0, 0
    a[33, k // 2], b[k // 2, 17] = value, other
    with np.errstate(all="ignore"):
        exact = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    got = multiplied(a, b, a_turned)
    assert np.array_equal(got[33, 17], np.float32(expected), equal_nan=True) or np.isclose(got[33, 17], expected, rtol=3e-7)
    rest = np.ones(got.shape, bool)
    rest[33], rest[:, 17] = False, False
    np.testing.assert_allclose(got[rest], exact[rest], rtol=2e-5, atol=2e-5)
    with np.errstate(all="ignore"):
        one = (value * np.float32(b[k // 2])).astype(np.float32)     # the other results of that row: one term each, the rest zero
    same = np.isclose(got[33], one, rtol=3e-7) | (got[33] == one) | np.isnan(got[33]) & np.isnan(one)
    assert np.delete(same, 17).all()
    assert sliced and all(sliced)


def test_operands_that_are_computed_while_they_are_packed(sliced):
    rng = np.random.default_rng(3)
    x, w = normal(rng, 3, 50, 77), normal(rng, 77, 90)
    y = torch.relu(torch.tensor(x) * 2 + 1) @ torch.exp(torch.tensor(w))
    exact = np.maximum(x * 2 + 1, 0).astype(np.float64) @ np.exp(w).astype(np.float64)
    np.testing.assert_allclose(y.numpy(), exact, rtol=1e-5)
    heads = torch.tensor(normal(rng, 2, 40, 3, 64)).permute(0, 2, 1, 3)
    scores = heads @ heads.transpose(-1, -2)
    h = heads.numpy().astype(np.float64)
    np.testing.assert_allclose(scores.numpy(), h @ h.swapaxes(-1, -2), rtol=1e-4, atol=1e-5)
    flat = heads.permute(0, 2, 1, 3).reshape(80, 192)
    np.testing.assert_allclose((flat.t() @ flat).numpy(), flat.numpy().astype(np.float64).T @ flat.numpy(), rtol=1e-4, atol=1e-4)
    assert any(sliced)


def test_a_layer_trains_as_with_vectors(sliced):
    """Derivatives, too, of operands of every layout; and the same bits each time."""
    def gradients():
        torch.manual_seed(0)
        layer, x = torch.nn.Linear(70, 130), torch.randn(97, 70, requires_grad=True)
        (torch.nn.functional.gelu(layer(x)) ** 2).sum().backward()
        return [t.grad.numpy().copy() for t in (x, layer.weight, layer.bias)]

    first, again = gradients(), gradients()
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert sliced and all(sliced)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocking, "worth_slicing", lambda *_: False)
        flush.clear()
        plain = gradients()
    for a, b in zip(first, plain):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
