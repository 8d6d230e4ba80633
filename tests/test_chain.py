"""Chains: the same values as computed operator by operator, for any shape, and what lies between never reaches memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
import antorcha.nn.functional as F
from antorcha.base import config
from antorcha.explaining import Recorder
from antorcha.graph import chain, flush


@pytest.fixture(autouse=True)
def eager_to_chain(monkeypatch):
    """Small values make chains too, and calls cost nothing."""
    monkeypatch.setattr(chain, "SMALL", 1)
    monkeypatch.setattr(chain, "NS_PER_CALL", 0.0)
    monkeypatch.setattr(chain, "NS_PER_PACKED", 0.0)
    monkeypatch.setattr(config, "verify", True)
    flush.clear()
    yield
    flush.clear()


def computed(program, seed: int, **settings_) -> tuple[list, list]:
    """(the values a program gives, the kinds of its kernels) under some settings."""
    before = {k: getattr(config, k, True) for k in settings_}
    flush.clear()
    try:
        for k, v in settings_.items():
            setattr(config, k, v)
        values, leaves = program(np.random.RandomState(seed))
        found = [values, *torch.autograd.grad((values * values.detach().cos()).sum(), leaves)]
        arrays = [t.detach().numpy().copy() for t in found]
        return arrays, [k["kind"] for k in flush.last().kernels()]
    finally:
        for k, v in before.items():
            setattr(config, k, v)


def tensor(random, *shape):
    return torch.tensor(random.randn(*shape).astype(np.float32), requires_grad=True)


def perceptron(rows: int, sizes: list[int]):
    def program(random):
        x = tensor(random, rows, sizes[0])
        weights = [tensor(random, b, a) for a, b in zip(sizes, sizes[1:])]
        biases = [tensor(random, b) for b in sizes[1:]]
        h = x
        for k, (w, b) in enumerate(zip(weights, biases)):
            h = F.linear(h, w, b)
            h = torch.tanh(h) if k % 2 else F.gelu(h)
        return h, [x, *weights, *biases]
    return program


def attention(batch: int, heads: int, length: int, width: int, causal: bool):
    def program(random):
        qkv = tensor(random, batch, length, 3 * heads * width)
        q, k, v = (t.view(batch, length, heads, width).transpose(1, 2) for t in qkv.split(heads * width, 2))
        scores = q @ k.transpose(-2, -1) * width ** -0.5
        if causal:
            scores = scores.masked_fill(torch.ones(length, length).tril() == 0, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, heads * width), [qkv]
    return program


@settings(max_examples=6)
@given(rows=st.integers(200, 1500), sizes=st.lists(st.integers(2, 40), min_size=3, max_size=4), seed=st.integers(0, 99))
def test_a_perceptron_in_blocks_of_rows_equals_the_one_computed_operator_by_operator(rows, sizes, seed):
    program = perceptron(rows, sizes)
    chained, kinds = computed(program, seed)
    agree(chained, computed(program, seed, eager=True)[0])


@pytest.mark.parametrize("rows", [577, 1153])
def test_a_last_block_of_one_row_is_written_whole(rows):
    """Its products are vectors times matrices, which are grouped as sums: other nodes in place of those recorded."""
    program = perceptron(rows, [2, 37, 11])
    junk = [torch.full((rows, 2), float("nan")) + 0 for _ in range(8)]
    assert all(j[0, 0].isnan() for j in junk)
    del junk        # memory that shows what was not written
    chained, kinds = computed(program, 0)
    assert "chain" in kinds
    agree(chained, computed(program, 0, eager=True)[0])


@settings(max_examples=5)
@given(batch=st.integers(1, 4), heads=st.integers(2, 5), length=st.integers(2, 33), width=st.integers(2, 9), causal=st.booleans(),
       seed=st.integers(0, 99))
def test_attention_in_blocks_equals_the_one_computed_operator_by_operator(batch, heads, length, width, causal, seed):
    program = attention(batch, heads, length, width, causal)
    chained, kinds = computed(program, seed)
    agree(chained, computed(program, seed, eager=True)[0])


@pytest.mark.parametrize("program", [perceptron(1000, [10, 100, 100]), perceptron(997, [7, 31, 31, 5]), attention(2, 3, 16, 8, True)])
def test_chains_are_made_and_the_interpreter_agrees(program):
    chained, kinds = computed(program, 0)
    assert "chain" in kinds
    agree(computed(program, 0, target="interp")[0], chained)
    agree(computed(program, 0, fuse=False)[0], chained)


def test_the_last_block_may_be_shorter_and_threads_do_not_change_the_bits():
    program = perceptron(1201, [8, 64, 64])
    one, before = None, torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            values, kinds = computed(program, 1)
            assert "chain" in kinds
            one = one or values
            assert all((a == b).all() for a, b in zip(one, values))
    finally:
        torch.set_num_threads(before)


def test_what_lies_between_does_not_reach_memory():
    x, w, v = (torch.tensor(a) for a in (np.ones((4096, 8), np.float32), np.ones((256, 8), np.float32), np.ones((4, 256), np.float32)))
    F.linear(torch.tanh(F.linear(x, w)), v).sum().item()
    plan = flush.last()
    assert "chain" in [k["kind"] for k in plan.kernels()]
    assert plan.arena_bytes < 4096 * 256 * 4 / 4


def test_a_product_that_reads_what_a_chain_reads_is_computed_with_it():
    """The gradient of attention's values, from probabilities that the gradient of its scores takes, too."""
    computed(attention(2, 3, 16, 8, True), 0)
    chains = [[name for _, name, *_ in k["nodes"]] for k in flush.last().kernels() if k["kind"] == "chain"]
    assert [names.count("contraction") for names in chains] == [2, 4]


def test_a_value_inside_of_a_chain_can_still_be_asked_for():
    x, w, v = (torch.tensor(np.random.RandomState(k).randn(*s).astype(np.float32)) for k, s in enumerate(((2000, 8), (64, 8), (4, 64))))
    hidden = torch.tanh(F.linear(x, w))
    out = F.linear(hidden, v)
    out.sum().item()
    assert "chain" in [k["kind"] for k in flush.last().kernels()]
    expected = np.tanh(x.numpy() @ w.numpy().T)
    agree(hidden, expected)
    agree(out, expected @ v.numpy().T)


def test_a_kept_plan_holds_no_memory_of_the_recording(settled):
    from antorcha.runtime import memory

    def step():
        x = torch.tensor(np.ones((2048, 8), np.float32))
        out = F.linear(torch.tanh(F.linear(x, w)), v).sum()
        out.backward()
        w.grad = v.grad = None
        return out.item()

    w, v = (torch.tensor(np.ones(s, np.float32), requires_grad=True) for s in ((64, 8), (4, 64)))
    step()
    assert "chain" in [k["kind"] for k in flush.last().kernels()]
    step()
    before = memory.allocator.allocated
    for _ in range(5):
        step()
    assert memory.allocator.allocated <= before


@pytest.mark.parametrize("target", ["llvm", "interp"])
def test_a_value_takes_over_the_memory_of_what_is_last_read_for_it(target, monkeypatch):
    """The derivative of a hidden layer, which is computed of that layer row by row."""
    def step():
        random = np.random.RandomState(0)
        x, w, b, v = tensor(random, 3001, 9), tensor(random, 100, 9), tensor(random, 100), tensor(random, 1, 100)
        x = x.detach()
        F.mse_loss(F.linear(torch.relu(F.linear(x, w, b)), v), x[:, :1]).backward()
        return [t.grad.numpy() for t in (w, b, v)]

    with monkeypatch.context() as m:
        m.setattr(config, "eager", True)
        expected = step()
    monkeypatch.setattr(config, "target", target)
    flush.clear()
    agree(step(), expected)
    shared = [(read, written) for k in flush.last().kernels() if k["kind"] == "chain" for body in k["program"].call.all_bodies()
              for c in body.calls for read in c.reads for written in c.writes
              if read[0] == written[0] == "inner" and read != written and body.offsets[read] == body.offsets[written]]
    assert shared


@pytest.mark.parametrize("keys", [256, 512])
def test_scores_of_one_head_stay_in_cache(keys):
    torch.manual_seed(0)
    x = torch.randn(2, keys, 3, 4, 32).requires_grad_()
    w = torch.randn(128, 128)
    with Recorder() as recorder:
        q, k, v = x.transpose(1, 3).unbind(2)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).reshape(2, keys, 128) @ w
        (y * y).sum().backward()
        x.grad.sum().item()
    kinds = [kernel["kind"] for kernel in recorder.kernels()]
    assert "chain" in kinds
