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
    "a write to a view of a parameter": (lambda: nn.Linear(2, 2).weight[0].fill_(1), RuntimeError, ("leaf", "torch.no_grad()")),
}


@pytest.mark.parametrize("call, kind, parts", CASES.values(), ids=list(CASES))
def test_message(call, kind, parts):
    with pytest.raises(kind) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)
