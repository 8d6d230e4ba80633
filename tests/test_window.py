"""Batches that are slices or lists of samples: one plan serves them all, whichever they are."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.graph import flush


def _made(step, steps: int) -> int:
    """How many plans the last of several steps make."""
    for i in range(steps):
        step(i)
    before = flush.counters["made"]
    for i in range(steps, 2 * steps):
        step(i)
    return flush.counters["made"] - before


def test_slices_of_a_data_set_share_a_plan(settled):
    data, weight = torch.randn(400, 6), torch.randn(6, requires_grad=True)

    def step(i):
        weight.grad = None
        batch = data[5 * i:5 * i + 5]
        loss = ((batch * weight).sum(1) - batch[:, 0]).square().mean()
        loss.backward()
        expected = data.numpy()[5 * i:5 * i + 5]
        r = expected @ weight.detach().numpy() - expected[:, 0]
        agree(loss.item(), (r * r).mean())
        agree(weight.grad, 2 / 5 * r @ expected)

    assert _made(step, 20) == 0


def test_a_window_outlives_what_it_looks_at():
    data = torch.arange(800.0)
    kept = []
    for i in range(20):
        part = data[4 * i:4 * i + 4] * 2
        kept.append(part)
        part.tolist()
    pending = data[40:44] * 2
    data.zero_()
    del data
    assert pending.tolist() == [80, 82, 84, 86] and kept[3].tolist() == [24, 26, 28, 30]


@pytest.mark.parametrize("same", [False, True], ids=["different", "some the same"])
def test_a_list_of_samples_is_one_value(same, settled):
    samples = [torch.full((1, 3), float(k)) for k in range(60)]
    for s in samples:
        s.tolist()

    def step(i):
        chosen = [samples[(i * k) % (7 if same else 60)] for k in range(12)]
        batch = torch.cat(chosen)
        assert (batch + 1).tolist() == [[float((i * k) % (7 if same else 60)) + 1] * 3 for k in range(12)]
        assert torch.stack(chosen).shape == (12, 1, 3)

    assert _made(step, 10) == 0


def test_joined_samples_are_a_copy_and_keep_their_derivative():
    samples = [torch.ones(2) for _ in range(10)]
    for s in samples:
        s.tolist()
    joined = torch.stack(samples)
    samples[0].fill_(5)
    assert joined.sum().item() == 20
    leaves = [torch.ones(2, requires_grad=True) for _ in range(10)]
    (torch.cat(leaves) * torch.arange(20.0)).sum().backward()
    assert leaves[3].grad.tolist() == [6, 7]
    with pytest.raises(RuntimeError, match="same number of dimensions: got 1 and 2"):
        torch.cat([*samples, torch.ones(2, 2)])


def test_lengths_and_places_that_are_written_to_are_no_structure(settled):
    """Numbers and data are written to memory at the call, where nobody else refers to it."""
    weight = torch.randn(5, requires_grad=True)

    def step(i):
        x = torch.zeros(4, 5)
        x[i % 4, i % 5] = 2.0
        x[(i + 1) % 4] = torch.tensor([3.0] * 5) if i % 2 else 3
        padded = torch.nn.utils.rnn.pad_sequence([torch.arange(1.0, 2 + (i + k) % 5) for k in range(4)] + [torch.ones(5)], True)[:4]
        (x * padded * weight).sum().backward()
        expected = np.zeros((4, 5))
        expected[i % 4, i % 5] = 2
        expected[(i + 1) % 4] = 3
        for k in range(4):
            n = 1 + (i + k) % 5
            expected[k] *= [*range(1, n + 1), *[0] * (5 - n)]
        agree(weight.grad, expected.sum(0))
        weight.grad = None

    assert _made(step, 10) == 0


def test_what_reads_a_value_is_not_changed_by_a_later_write():
    x = torch.zeros(3)
    x[0] = 1.0
    pending, copy, other = x + 1, x.clone(), torch.empty(3)
    other.copy_(x)
    x[1] = 5.0
    x[2:] = torch.tensor([7.0])
    assert pending.tolist() == [2, 1, 1] and copy.tolist() == other.tolist() == [1, 0, 0] and x.tolist() == [1, 5, 7]
    array = np.zeros(3)
    shared = torch.from_numpy(array)
    before = shared * 2
    shared[1] = 4.0
    assert before.tolist() == [0, 0, 0] and array.tolist() == [0, 4, 0]
    kept = torch.ones(3, requires_grad=True)
    loss = (kept * x).sum()
    x[0] = 9.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_form_that_moves_reads_what_is_not_in_memory_as_ever():
    data = torch.arange(400.0)
    for k in range(1, 40):
        pending = data * 2
        if k % 3:
            pending.tolist()
        both = data[k:k + 4] * 2 + pending[k + 1:k + 5]
        assert both.tolist() == [2.0 * (2 * i + 1) for i in range(k, k + 4)]


@pytest.mark.parametrize("warm", (1, 2, 5))
def test_places_of_a_weight_that_begin_to_move_while_it_is_planned(settled, warm):
    """Some of the nodes that read them are in blocks: the recording has other leaves with these than without."""
    def half(a, b, c):
        return a, (a + b + c) * 0.5, (a - b + c) * 0.5, c

    def transformed(w):
        columns = [half(*[w[:, :, i, j] for i in range(3)]) for j in range(3)]
        return torch.stack([u for a in range(4) for u in half(*[columns[j][a] for j in range(3)])])

    matrix = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    for channels in (8, 16, 32, 48, 24, 40):
        w = torch.randn(channels, channels, 3, 3)
        for _ in range(warm):
            transformed(w)
        for _ in range(3 * warm):
            found = transformed(w)
            torch.synchronize()
        expected = (matrix @ w.numpy().astype(np.float64) @ matrix.T).transpose(2, 3, 0, 1).reshape(16, channels, channels)
        agree(found, expected)
