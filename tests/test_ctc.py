"""Connectionist temporal classification, against the sum over all alignments."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.graph import flush

F = torch.nn.functional


def collapsed(path: tuple) -> tuple:
    """Without repetitions and then without blanks."""
    return tuple(k for before, k in zip((-1, *path), path) if k != before and k != 0)


def right(scores: np.ndarray, target: tuple) -> float:
    total = sum(np.exp(sum(scores[t, k] for t, k in enumerate(path))) for path in product(range(scores.shape[1]), repeat=len(scores))
                if collapsed(path) == target)
    return -np.log(total) if total else np.inf


@pytest.mark.parametrize("target", [(), (1,), (1, 1), (1, 2), (2, 2, 1), (1, 2, 1, 2)])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_all_alignments(steps, target):
    """In a batch with longer ones, so that both ends are padded."""
    x = np.random.default_rng(steps).standard_normal((6, 3, 3))
    x -= np.log(np.exp(x).sum(-1, keepdims=True))
    targets = torch.tensor([(*target, *[1] * (4 - len(target))), (2, 1, 2, 1), (1, 1, 1, 1)])
    lengths, counts = torch.tensor([steps, 6, 4]), torch.tensor([len(target), 4, 2])
    given = torch.tensor(x, requires_grad=True)
    found = F.ctc_loss(given, targets, lengths, counts, reduction="none")
    expected = [right(x[:steps, 0], target), right(x[:, 1], (2, 1, 2, 1)), right(x[:4, 2], (1, 1))]
    agree(found.detach(), np.array(expected))
    possible = np.isfinite(expected)
    kept = F.ctc_loss(given, targets, lengths, counts, reduction="none", zero_infinity=True)
    agree(kept.detach(), np.where(possible, expected, 0))
    kept.sum().backward()
    for n, (length, own) in enumerate(zip(lengths.tolist(), [target, (2, 1, 2, 1), (1, 1)])):
        gradient, mass = np.zeros((6, 3)), np.exp(x[:, n])
        for t, k in product(range(length), range(3)):
            if possible[n]:     # of the logits, as PyTorch gives it
                moved = np.array(x[:length, n])
                moved[t, k] += 1e-6
                gradient[t, k] = (right(moved, own) - expected[n]) / 1e-6 + mass[t, k]
        np.testing.assert_allclose(given.grad[:, n].numpy(), gradient, atol=1e-4)


def test_one_plan_serves_all_lengths():
    def loss(steps):
        x = torch.randn(steps, 4, 20, requires_grad=True)
        value = F.ctc_loss(x.log_softmax(-1), torch.ones(4, 5, dtype=torch.long), torch.full((4,), steps), torch.full((4,), 5))
        value.backward()
        x.grad.sum().item()
        return len(flush.last().steps)

    assert len({loss(steps) for steps in (30, 41, 52)}) == 1


def test_what_has_no_alignment_has_no_derivative():
    """Its loss is infinite, its gradient NaN, as in PyTorch; that of the sequence beside it is as it is alone."""
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    targets = torch.tensor([[1, 2], [2, 1]])

    def gradient(x, targets, inputs, counts, **options):
        leaf = x.clone().requires_grad_()
        loss = F.ctc_loss(leaf.log_softmax(-1), targets, inputs, counts, reduction="sum", **options)
        loss.backward()
        return loss.item(), leaf.grad.numpy()

    loss, found = gradient(x, targets, (4, 1), (2, 2))
    alone, expected = gradient(x[:, :1], targets[:1], (4,), (2,))
    assert loss == np.inf and np.isnan(found[0, 1]).all() and not found[1:, 1].any()
    np.testing.assert_array_equal(found[:, :1], expected)
    loss, found = gradient(x, targets, (4, 1), (2, 2), zero_infinity=True)
    assert loss == pytest.approx(alone) and not found[:, 1].any()
    np.testing.assert_array_equal(found[:, :1], expected)
