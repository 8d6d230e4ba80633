"""Common mistakes: the message says what was expected, what was received and what to do, with PyTorch's type of exception."""

from __future__ import annotations

import pytest

import antorcha as torch
from antorcha import nn

CASES = {
    "integers into a layer": (lambda: nn.Linear(4, 2)(torch.ones(3, 4, dtype=torch.long)), RuntimeError,
                              ("received int64 and float32", "x.to(torch.float32)")),
    "float64 into a layer": (lambda: nn.Linear(4, 2)(torch.ones(3, 4).double()), RuntimeError, ("float64 and float32", "Convert")),
    "a model in place of its parameters": (lambda: torch.optim.Adam(nn.Linear(2, 2)), TypeError, ("Linear", "model.parameters()")),
    "a size that was divided": (lambda: torch.zeros(5 / 2, 3), TypeError, ("zeros", "float", "//")),
    "words as numbers": (lambda: torch.tensor(["a", "b"]), ValueError, ("'a'", "number")),
    "many elements as one number": (lambda: float(torch.ones(3)), ValueError, ("only one element", "[3]", "tolist")),
    "a complex number as a real one": (lambda: float(torch.tensor(1 + 2j)), RuntimeError, ("1+2j", ".real")),
    "the deviation of integers": (lambda: torch.tensor([1, 2]).std(), RuntimeError, ("std:", "int64", "input.float().std()")),
    "sizes of parts that are no integers": (lambda: torch.ones(5).split(2.5), TypeError, ("split", "float")),
    "parts of a negative size": (lambda: torch.ones(5).split([-1, 6]), RuntimeError, ("non-negative", "[-1, 6]")),
    "tensors of other ranks joined": (lambda: torch.cat([torch.ones(2, 3), torch.ones(2)]), RuntimeError, ("got 2 and 1",)),
    "tensors of other sizes joined": (lambda: torch.cat([torch.ones(2, 3), torch.ones(2, 4)]), RuntimeError, ("3 but got size 4",)),
    "a matrix for a batch": (lambda: torch.bmm(torch.ones(2, 3), torch.ones(2, 3, 4)), RuntimeError, ("batch1", "[2, 3]")),
    "integers as probabilities": (lambda: nn.functional.binary_cross_entropy(torch.ones(2), torch.tensor([0, 1])), RuntimeError,
                                  ("int64", "target.to(torch.float32)")),
    "integers as targets of logits": (lambda: nn.functional.binary_cross_entropy_with_logits(torch.ones(2), torch.tensor([0, 1])),
                                      RuntimeError, ("int64", "target.to(torch.float32)")),
    "a batch of classes for one sample": (lambda: nn.functional.nll_loss(torch.ones(3), torch.tensor([0, 1])), ValueError, ("size 1", "2")),
    "classes for another batch": (lambda: nn.functional.nll_loss(torch.ones(4, 3), torch.tensor([0, 1])), ValueError, ("(4)", "(2)")),
    "a write to a view of a parameter": (lambda: nn.Linear(2, 2).weight[0].fill_(1), RuntimeError, ("leaf", "torch.no_grad()")),
}


@pytest.mark.parametrize("call, kind, parts", CASES.values(), ids=list(CASES))
def test_message(call, kind, parts):
    with pytest.raises(kind) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)
