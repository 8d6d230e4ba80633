"""Rows of a table, summed in bags."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch

F = torch.nn.functional


@pytest.mark.parametrize("padding", [None, 3])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("offsets", [None, [0, 4, 4, 9, 13], [0]], ids=str)
def test_bags_of_embeddings(mode, offsets, padding):
    """Rows that are the same length, of any length and empty; those of the padding do not count, and get no derivative."""
    rng = np.random.default_rng(0)
    table, indices = rng.permutation(11 * 5).reshape(11, 5).astype(np.float32), rng.integers(0, 11, 13 if offsets else (4, 6))
    bags = np.split(indices, offsets[1:]) if offsets else list(indices)
    weight = torch.tensor(table, requires_grad=True)
    found = F.embedding_bag(torch.tensor(indices), weight, offsets and torch.tensor(offsets), mode=mode, padding_idx=padding)
    right, gradient = np.zeros((len(bags), 5), np.float32), np.zeros_like(table)
    for k, bag in enumerate(bags):
        kept = bag[bag != padding]
        if len(kept):
            rows = table[kept]
            right[k] = getattr(rows, mode)(0)
            share = np.eye(len(kept), dtype=np.float32)[rows.argmax(0)].T if mode == "max" else np.ones((len(kept), 5), np.float32)
            np.add.at(gradient, kept, share * (k + 1) / (len(kept) if mode == "mean" else 1))
    agree(found, right)
    (found.sum(1) * torch.arange(1.0, len(bags) + 1)).sum().backward()
    agree(weight.grad, gradient)
