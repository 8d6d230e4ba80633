"""Random numbers: the twister against NumPy's, and PyTorch's numbers for a seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from golden_cases import CLOSE, EXACT, HERE, LARGE, RECORDED, SEEDS, SIZES

import antorcha as torch
from antorcha.core import shuffle, twister


def _twisters(before: int) -> tuple:
    """Ours and NumPy's, after so many words."""
    ours, theirs = twister.Twister(5), np.random.RandomState(5)
    ours.words(before), theirs.randint(0, 2 ** 32, before, np.uint32)
    return ours, theirs


def _same_state(ours, theirs) -> bool:
    (keys, position), (_, expected, place, *_) = ours.saved(), theirs.get_state()
    return position == place and (keys == expected).all()


@pytest.mark.parametrize("n", [1, 100, 624, 1248, 4992, 5000, 30_001])
@pytest.mark.parametrize("before", [0, 7, 623, 624, 4991])
def test_twister_equals_numpy(n, before):
    ours, theirs = _twisters(before)
    np.testing.assert_array_equal(ours.words(n), theirs.randint(0, 2 ** 32, n, np.uint32))
    assert _same_state(ours, theirs)
    again = twister.Twister(0)
    again.restore(ours.saved())
    np.testing.assert_array_equal(again.words(700), theirs.randint(0, 2 ** 32, 700, np.uint32))


@pytest.mark.parametrize("n", [1, 311, 2496, 2497, 9000])
@pytest.mark.parametrize("before", [0, 7, 623, 4990, 4991])
def test_comparisons_of_pairs_of_words(n, before):
    ours, theirs = _twisters(before)
    words = theirs.randint(0, 2 ** 32, 2 * n, np.uint32).astype(np.uint64)
    numbers = (words[::2] & np.uint64(2 ** 21 - 1)) << np.uint64(32) | words[1::2]
    for threshold in (0, int(0.37 * 2 ** 53), int(numbers[0]), int(numbers[0]) + 1, 2 ** 53):
        start = twister.Twister(0)
        start.restore(ours.saved())
        out = np.full(n + 1, 9, np.uint8)
        start.below(n, threshold, out.ctypes.data)
        np.testing.assert_array_equal(out[:n], numbers < threshold)
        assert out[n] == 9 and _same_state(start, theirs)


def test_pytorchs_numbers():
    torch.manual_seed(0)
    np.testing.assert_allclose(torch.rand(3).tolist(), [0.4962565899, 0.7682217956, 0.0884774327], rtol=1e-7)
    torch.manual_seed(0)
    np.testing.assert_allclose(torch.randn(3).tolist(), [1.5409960747, -0.2934289277, -2.1787893772], rtol=1e-6)


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


def same(name, ours, theirs):
    """Equal numbers; those made with logarithms, sines and the like, and what is computed from them, to a few ulp."""
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, name
    if name in EXACT:
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
    else:
        tolerance = 1e-6 if ours.dtype == np.float32 else 1e-14
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)


DRAWS = {**EXACT, **CLOSE}


@pytest.mark.parametrize("name", DRAWS)
def test_recorded_numbers(name):
    with np.load(HERE / "random.npz") as recorded:
        for n in RECORDED:
            torch.manual_seed(SEEDS[1])
            same(name, DRAWS[name](torch, n).numpy(), recorded[f"{name}/{n}"])


@pytest.mark.oracle
@pytest.mark.parametrize("name", DRAWS)
def test_equal_to_pytorch(name):
    oracle = pytest.importorskip("torch")
    for seed in SEEDS:
        for n in SIZES + LARGE:
            if n > 5000 and name in ("poisson", "multinomial"):
                continue
            torch.manual_seed(seed)
            oracle.manual_seed(seed)
            same(name, DRAWS[name](torch, n).numpy(), DRAWS[name](oracle, n).numpy())
            np.testing.assert_array_equal(torch.rand(3).numpy(), oracle.rand(3).numpy(), err_msg=f"{name}: what is drawn next")


@pytest.mark.oracle
@pytest.mark.parametrize("before", [0, 1, 16, 700, 30_000])
@pytest.mark.parametrize("normals", [0, 1, 2])
def test_states_are_pytorchs(before, normals):
    oracle = pytest.importorskip("torch")
    for library in (torch, oracle):
        library.manual_seed(-7)
        library.rand(before)
        library.randn(normals)
    state = oracle.get_rng_state().numpy()
    np.testing.assert_array_equal(torch.get_rng_state().numpy(), state)
    torch.manual_seed(1)
    torch.set_rng_state(torch.tensor(state))
    np.testing.assert_allclose(torch.randn(5).numpy(), oracle.randn(5).numpy(), rtol=1e-6)


def test_long_permutations_use_the_same_steps():
    steps = np.random.default_rng(0).integers(0, np.arange(999, 0, -1) + 1)
    order = list(range(1000))
    for i, z in enumerate(steps.tolist()):
        order[i], order[i + z] = order[i + z], order[i]
    assert shuffle.shuffled(steps).tolist() == order


def test_bad_parameters_are_refused():
    x = torch.zeros(3)
    for call in (lambda: x.uniform_(2, 1), lambda: x.normal_(0, -1), lambda: x.bernoulli_(2), lambda: x.exponential_(-1),
                 lambda: x.geometric_(2), lambda: x.cauchy_(0, -1), lambda: x.log_normal_(0, -1), lambda: torch.randint(5, 5, (2,)),
                 lambda: torch.zeros(2, dtype=torch.int8).random_(0, 1000), lambda: torch.multinomial(x - 1, 1),
                 lambda: torch.multinomial(x + 1, 4), lambda: torch.bernoulli(x + 2), lambda: torch.poisson(x - 1)):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(ValueError):
        torch.manual_seed(2 ** 64)
    with pytest.raises(NotImplementedError):
        torch.zeros(2, dtype=torch.int64).normal_()


@pytest.mark.parametrize("seed", [0, 5])
def test_gamma_numbers_are_those_of_the_method_step_by_step(seed):
    """The loop program against Marsaglia and Tsang's method written with a generator's numbers one by one."""
    generator, other = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    concentrations = np.concatenate([np.geomspace(0.01, 1000.0, 300), [1.0, 0.999, 1e-6, 0.0]])

    def normal():
        return float(other.single_normals(1)[0])

    def uniform():
        return float(other.uniform(1, np.float64)[0])

    def one(a):
        boost = (1.0 - uniform()) ** (1.0 / a) if a < 1 else 1.0
        d = (a + 1.0 if a < 1 else a) - float(np.float32(1) / np.float32(3))
        while True:
            x = normal()
            y = 1.0 + x / math.sqrt(9.0 * d)
            if y <= 0.0:
                continue
            v, u = y ** 3, 1.0 - uniform()
            if u < 1.0 - 0.0331 * x ** 4 or math.log(u) < 0.5 * x * x + d * (1.0 - v + math.log(v)):
                return boost * d * v

    found = generator.gamma(concentrations)
    assert found[-1] == 0
    np.testing.assert_allclose(found[:-1], [one(a) for a in concentrations[:-1].tolist()], rtol=1e-12)
    one(1.0)    # what the number for a concentration of 0 has taken
    assert generator.random() == other.random()
    np.testing.assert_allclose(generator.single_normals(1), other.single_normals(1), rtol=1e-14)      # the kernel's sine and NumPy's


def test_single_numbers_are_drawn():
    one, nought = torch.ones(()), torch.zeros(())
    for draw in (lambda: torch.normal(nought, one), lambda: torch.normal(nought, 1.0), lambda: torch.normal(0.0, one),
                 lambda: torch.distributions.Normal(0.0, 1.0).sample(), lambda: torch.randn(()), lambda: torch.rand([])):
        assert draw().shape == ()


@pytest.mark.parametrize("count", [3, 100])
def test_weights_that_are_none(count):
    good = torch.ones(2, count)
    assert torch.multinomial(good, 1).shape == (2, 1)
    for bad, complaint in ((-0.5, "element < 0"), (float("nan"), "element < 0"), (float("inf"), "`inf`")):
        weights = good.clone()
        weights[1, count - 1] = bad
        with pytest.raises(RuntimeError, match=complaint):
            torch.multinomial(weights, 1)
    with pytest.raises(RuntimeError, match="sum of probabilities <= 0"):
        torch.multinomial(torch.zeros(1, count), 1)
