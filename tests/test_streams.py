"""Results that go past the caches: which do, and that they are what they are otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import kernels

import antorcha as torch
from antorcha.base import config
from antorcha.graph import flush, streams
from antorcha.loops import lower
from antorcha.runtime import cpu

F = torch.nn.functional
MIB = 1 << 20
past_the_caches = pytest.mark.skipif(not cpu.streams() or config.target == "interp", reason="needs stores that go past the caches")


def made(shape, seed=3) -> torch.Tensor:
    """Numbers in memory of its own, which are there."""
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32)) + 0
    x.sum().item()
    return x


def roles(found: list) -> list[str]:
    """Of all slots of kernels."""
    return [slot.role for k in found for slot in k["program"].slots]


@pytest.fixture
def everything(monkeypatch):
    """Whatever can be streamed is, and rows wait in scratch memory."""
    monkeypatch.setattr(streams, "FAR", 0)
    monkeypatch.setattr(streams, "LEAST", 0)
    monkeypatch.setattr(lower, "FAR", 0)
    flush.clear()
    yield
    flush.clear()


# -- which ------------------------------------------------------------------------------------------------------

class Step:
    def __init__(self, reads: str, writes: str):
        self.reads, self.writes, self.streamed = set(reads), set(writes), set()

    def stored(self):
        return self.writes - self.reads

    def stream(self, buffers):
        self.streamed = buffers


def streamed(steps: list[Step], sizes: dict, kept=()) -> list[str]:
    streams.stream(steps, sizes.__getitem__, set(kept))
    return ["".join(sorted(s.streamed)) for s in steps]


def test_what_is_read_soon_stays():
    sizes = dict(x=8 * MIB, a=4 * MIB, b=4 * MIB, c=24 * MIB)
    assert streamed([Step("x", "a"), Step("a", "b"), Step("b", "c")], sizes) == ["", "", ""]      # c: 28 MiB are moved until the end
    assert streamed([Step("x", "ab"), Step("a", "c"), Step("cb", "")], sizes) == ["b", "", ""]


def test_what_the_plan_does_not_read_again_is_far_from_its_end():
    sizes = dict(x=20 * MIB, a=20 * MIB, b=20 * MIB, s=MIB // 2)
    assert streamed([Step("x", "as"), Step("x", "b")], sizes) == ["a", "b"]       # s is small
    assert streamed([Step("x", "ax"), Step("a", "b")], sizes, kept="b") == ["a", ""]    # x is read; b takes over what was read


def test_small_plans_are_not_looked_at():
    assert streamed([Step("x", "a")], dict(x=12 * MIB, a=12 * MIB)) == [""]


@past_the_caches
def test_a_large_result_is_streamed_and_a_small_one_is_not():
    x = made((2500, 2048))
    y, found = kernels(lambda: x * 2 + 1)
    assert "stream" in roles(found) and "out" not in roles(found)
    assert np.array_equal(y.numpy(), x.numpy() * 2 + 1)
    assert "vmovnt" in found[0]["kernel"].assembly() and "sfence" in found[0]["kernel"].assembly()
    small = made((500, 2048))
    assert "stream" not in roles(kernels(lambda: small * 2 + 1)[1])


@past_the_caches
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int16, torch.int32, torch.int64], ids=str)
def test_any_dtype_of_two_bytes_and_more(dtype):
    x = (made((5000, 2048)) * 50).to(dtype)
    x.sum().item()
    y, found = kernels(lambda: x + x)
    assert "vmovnt" in found[0]["kernel"].assembly()
    assert torch.equal(y[:7].clone(), x[:7].clone() + x[:7])


def test_what_is_written_in_place_is_not():
    x = made((3000, 2048))
    expected = (x * 3).numpy()      # x has shared its memory with nobody
    _, found = kernels(lambda: x.mul_(3))
    assert "stream" not in roles(found)
    assert np.array_equal(x.numpy(), expected)


@past_the_caches
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.int16], ids=str)
@pytest.mark.parametrize("few", [2, 3, 4, 5])
def test_vectors_that_are_interleaved(few, dtype, everything):
    """Channels that come last: stores of several registers, which begin anywhere."""
    for first in range(3):
        x = (made((2, few, 37, 83)) * 50).to(dtype)
        x.sum().item()
        y, found = kernels(x.permute(0, 2, 3, 1)[..., first:, :].add(1).contiguous)
        assert np.array_equal(y.numpy(), x.numpy().transpose(0, 2, 3, 1)[..., first:, :] + 1)
        assert few > 4 or dtype is torch.float16 or "vmovnt" in found[0]["kernel"].assembly()


@past_the_caches
def test_the_epilogue_of_a_product():
    a, b = made((8200, 130)), made((130, 1033))
    y, found = kernels(lambda: (a @ b).relu())
    assert "stream" in roles(found)
    assert np.allclose(y.numpy(), np.maximum(a.numpy() @ b.numpy(), 0), atol=1e-3)


@past_the_caches
def test_softmax_waits_in_a_row_of_its_own():
    x = made((5000, 1027))
    y, found = kernels(lambda: x.softmax(-1))
    assert {"scratch", "stream"} <= set(roles(found)) and "inout" not in roles(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lower, "FAR", 1 << 60)
        flush.clear()
        other, found = kernels(lambda: x.softmax(-1))
    flush.clear()
    assert "inout" in roles(found)
    assert torch.equal(y, other)


def test_a_plan_for_other_sizes_decides_anew():
    def work(rows):
        x = made((rows, 1024))
        return kernels(lambda: x * 5 - 1)[1]

    flush.clear()
    found = {rows: "stream" in roles(work(rows)) for rows in (64, 70, 81, 90, 8192, 97, 9000, 33, 8500)}
    assert found == {rows: rows > 8000 for rows in found}


# -- what -------------------------------------------------------------------------------------------------------

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 300))


@given(shape=SHAPES, first=st.integers(0, 5), seed=st.integers(0, 1 << 20))
@settings(max_examples=30, deadline=None)
def test_the_same_bits_wherever_rows_begin(shape, first, seed):
    """Elementwise, rows, sums over columns, parts of a result that begin anywhere, and several results."""
    def work(x):
        x = x[:, min(first, shape[1] - 1):]
        y = torch.empty(shape[0], 2 * shape[1] + 3)
        y[:, first:first + x.shape[1]] = x * 2
        wide = x.double() + 1
        return (x.softmax(-1), x.log_softmax(-1).exp() * x, F.gelu(x), y[:, first:first + x.shape[1]].clone(), x.sum(0), wide,
                x.bfloat16() * 3,
                x.to(torch.int32) + 1, x > 0, x.t().contiguous(), torch.cat([x, x * 3], 1))

    x = made(shape, seed)
    expected = [t.clone() for t in work(x)]
    torch.synchronize()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((streams, "FAR"), (streams, "LEAST"), (lower, "FAR")):
            patch.setattr(module, name, 0)
        flush.clear()
        found = work(x)
        for a, b in zip(expected, found):
            assert a.dtype is b.dtype and torch.equal(a, b)
    flush.clear()


def test_a_step_of_training(everything):
    """A chain, products with epilogues, norms, attention's rows: losses and weights as they are otherwise."""
    def trained():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(24, 48), torch.nn.GELU(), torch.nn.LayerNorm(48),
                                    torch.nn.TransformerEncoderLayer(48, 4, 96, dropout=0.0, batch_first=True), torch.nn.Linear(48, 5))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        x, target = torch.randn(6, 33, 24), torch.randint(0, 5, (6, 33))
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x).flatten(0, 1), target.flatten())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, [p.detach().clone().numpy() for p in model.parameters()]

    found = trained()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "FAR", 1 << 60)
        flush.clear()
        expected = trained()
    assert found[0] == expected[0]
    assert all(np.array_equal(a, b) for a, b in zip(found[1], expected[1]))
