"""What functions say of arguments that are not what they expect, and older ways to give them."""

import pytest

import antorcha as torch

F = torch.nn.functional


def test_embedding_bag_takes_the_old_order():
    weight, indices = torch.arange(12.0).reshape(6, 2), torch.tensor([[0, 1], [2, 5]])
    with pytest.warns(UserWarning, match="embedding_bag"):
        old = F.embedding_bag(weight, indices, mode="sum")
    assert old.tolist() == F.embedding_bag(indices, weight, mode="sum").tolist() == [[2.0, 4.0], [14.0, 16.0]]
