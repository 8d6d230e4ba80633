"""Common mistakes: the message says what was expected, what was received and what to do, with PyTorch's type of exception."""

from __future__ import annotations

import numpy as np
import pytest

import antorcha as torch
from antorcha import nn
from antorcha.ops import recall

X = torch.ones(2, requires_grad=True)


class Doubled(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x * 2)
    backward = staticmethod(lambda ctx, g: (g * 2, g))


class Scaled(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x, factor: x * factor)
    backward = staticmethod(lambda ctx, g: (g, g))


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
    "lists for tensors": (lambda: torch.index_select(torch.ones(2), 0, [1]), TypeError, ("'index' (position 3) must be Tensor, not list",)),
    "arrays for tensors": (lambda: nn.Linear(2, 2)(np.ones((1, 2))), TypeError, ("linear", "'input'", "not ndarray")),
    "nothing for a tensor": (lambda: torch.addr(torch.ones(2, 2), None, torch.ones(2)), TypeError, ("'vec1'", "not NoneType")),
    "a fraction of a dimension": (lambda: torch.fft.fft2(torch.ones(2, 2), dim=(0.5, 1)), TypeError, ("'dim'", "float")),
    "integers of a continuous distribution": (lambda: torch.ones(2).int().exponential_(), RuntimeError, ("int32",)),
    "products of other dtypes": (lambda: torch.cross(torch.ones(3), torch.ones(3).double(), dim=0), RuntimeError, ("float64",)),
    "integers divided by 0": (lambda: torch.tensor([1, 2]) // 0, RuntimeError, ("floor_divide", "ZeroDivisionError", "float()")),
    "integers divided by some 0": (lambda: torch.tensor([1, 2]) % torch.tensor([0, 1]), RuntimeError, ("remainder", "ZeroDivisionError")),
    "a number divided by an integer 0": (lambda: 5 // torch.tensor([0]), RuntimeError, ("ZeroDivisionError",)),
    "a byte for a larger number": (lambda: torch.full((2,), 300, dtype=torch.uint8), RuntimeError,
                                   ("cannot be converted to type uint8_t without overflow", "255", "300")),
    "half precision for a larger number": (lambda: torch.zeros(2).half().masked_fill(torch.tensor([True, False]), -1e9), RuntimeError,
                                           ("type c10::Half without overflow", "65504")),
    "a float for a larger number": (lambda: torch.zeros(2).fill_(1e300), RuntimeError, ("type float without overflow",)),
    "an integer for no number": (lambda: torch.zeros(2).long().fill_(float("nan")), RuntimeError, ("int64_t without overflow", "nan")),
    "more than 64 bits": (lambda: torch.full((2,), 2 ** 70), OverflowError, ("int too big to convert", "64 bits")),
    "an element of more than 64 bits": (lambda: torch.zeros(2).long().__setitem__(0, 2 ** 70), OverflowError, ("int too big",)),
    "bounds beyond a byte": (lambda: torch.ones(2).byte().clamp(-1, 300), RuntimeError, ("uint8_t without overflow", "300")),
    "a choice beyond a byte": (lambda: torch.where(torch.tensor([True]), torch.ones(1).byte(), 300), RuntimeError, ("uint8_t",)),
    "a border beyond a byte": (lambda: nn.functional.pad(torch.ones(2).byte(), (1, 0), value=300), RuntimeError, ("uint8_t",)),
    "random integers beyond a byte": (lambda: torch.randint(0, 300, (2,), dtype=torch.uint8), RuntimeError, ("to - 1 is out of bounds",)),
    "a quotient of integers": (lambda: torch.addcdiv(*[torch.tensor([1])] * 3), RuntimeError, ("addcdiv is no longer supported",)),
    "an image of other channels": (lambda: nn.Conv2d(3, 4, 1)(torch.ones(1, 1, 2, 2)), RuntimeError,
                                   ("to have 3 channels, but got 1 channels instead",)),
    "more derivatives than inputs": (lambda: Doubled.apply(torch.ones(2, requires_grad=True)).sum().backward(), RuntimeError,
                                     ("DoubledBackward returned an incorrect number of gradients (expected 1, got 2)",)),
    "a derivative by a number": (lambda: Scaled.apply(torch.ones(2, requires_grad=True), 2.0).sum().backward(), RuntimeError,
                                 ("different from None at position 2", "Return None")),
    "the derivative by what was not used": (lambda: torch.autograd.grad(X.sum(), [X, torch.ones(2, requires_grad=True)]), RuntimeError,
                                            ("The differentiated Tensor at index 1", "allow_unused=True")),
    "numbers among words": (lambda: torch.tensor([np.float32(1), "a"]), ValueError, ("'a'",)),
    "a row of another length": (lambda: torch.zeros(2, 3).__setitem__(0, torch.ones(2)), RuntimeError,
                                ("The expanded size of the tensor (3) must match the existing size (2) at non-singleton dimension 0",)),
    "a write to a view of a parameter": (lambda: nn.Linear(2, 2).weight[0].fill_(1), RuntimeError, ("leaf", "torch.no_grad()")),
}


WARNINGS = {
    "the gradient of what was computed": (lambda: torch.ones(2, requires_grad=True).exp().grad, "not a leaf"),
    "a tensor made of a tensor": (lambda: torch.tensor(torch.ones(2)), "detach().clone()"),
    "an array that may not be written": (lambda: torch.from_numpy(np.frombuffer(b"ab", np.uint8)), "not writable"),
    "a softmax along some dimension": (lambda: nn.functional.softmax(torch.ones(2, 3)), "dim=X"),
    "divergence by the number of elements": (lambda: nn.functional.kl_div(torch.zeros(2), torch.ones(2)), "batchmean"),
    "the deviation of one number": (lambda: torch.ones(1).std(), "std(): degrees of freedom"),
    "a transposition of three dimensions": (lambda: torch.ones(2, 3, 4).T, "x.mT"),
    "a grid of some orientation": (lambda: torch.meshgrid(torch.ones(2), torch.ones(2)), 'indexing="ij"'),
    "the imaginary part lost": (lambda: torch.ones(2, dtype=torch.complex64).float(), "imaginary"),
    "bytes as a mask": (lambda: torch.ones(2)[torch.ones(2, dtype=torch.uint8)], "torch.bool"),
    "a derivative lost": (lambda: float(torch.ones((), requires_grad=True)), "item()"),
    "the schedule before the optimiser": (lambda: torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)], 0.1), 1).step(),
                                          "optimizer.step()"),
    "a GPU's autocast without a GPU": (lambda: torch.autocast("cuda"), "'cuda'"),
    "no weights to set": (lambda: nn.Linear(0, 2), "no-op"),
    "a function that goes": (lambda: torch.cholesky(torch.eye(2)), "torch.linalg.cholesky"),
}


@pytest.mark.parametrize("call, part", WARNINGS.values(), ids=list(WARNINGS))
def test_warning(call, part, monkeypatch):
    monkeypatch.setattr(recall, "_told", set())
    if "cuda" in part:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning) as caught:
        call()
    assert len(caught) == 1 and part in str(caught[0].message) and caught[0].filename == __file__


@pytest.mark.filterwarnings("ignore:.*numbers before the tensors")
def test_numbers_before_tensors():
    """As programs had it before PyTorch 1.5."""
    x, m = torch.tensor([1.0, 2.0]), torch.eye(2)
    assert x.clone().add_(3, x).tolist() == torch.add(x, 3, x).tolist() == [4.0, 8.0]
    assert torch.addcmul(x, 2, x, x).tolist() == [3.0, 10.0]
    assert torch.addmm(2, m, 3, m, m).tolist() == m.addmm(2, 3, m, m).tolist() == [[5.0, 0.0], [0.0, 5.0]]
    for call in (lambda: x.add(1, 2), lambda: x.add(1, 2, x), lambda: x.add(x, x)):
        with pytest.raises(TypeError, match=r"add\(\) takes 2 positional arguments but"):
            call()


def test_a_divisor_of_zero_that_is_computed():
    """It is found when the quotient is, and quotients by other numbers can still be asked for."""
    divisor = torch.tensor([1, 2]) - 1
    bad, good = torch.tensor([4, 6]) // divisor, torch.tensor([4, 6]) // (divisor + 1)
    with pytest.raises(RuntimeError, match="ZeroDivisionError") as caught:
        bad.tolist()
    assert "test_mistakes" in str(caught.value)
    assert good.tolist() == [4, 3]
    assert (torch.ones(0).long() // 0).tolist() == [] and (torch.tensor([7, -7]) // torch.tensor([2, 2])).tolist() == [3, -4]
    assert (torch.tensor([1.0]) // torch.tensor([0])).tolist() == [float("inf")]


def test_numbers_that_fit():
    """Below 0, bytes wrap around; fractions are cut off; what is written to 16-bit floats by an index may become infinite."""
    assert torch.full((1,), -1, dtype=torch.uint8).item() == 255
    assert torch.tensor([1, 2 ** 60 + 1]).masked_fill(torch.tensor([True, False]), 2.9).tolist() == [2, 2 ** 60 + 1]
    x = torch.zeros(3, dtype=torch.float16)
    x[0], x[1] = 1e9, -70000.0
    x[2:].fill_(float("inf"))
    assert x.tolist() == [float("inf"), float("-inf"), float("inf")]
    assert torch.where(torch.tensor([True, False]), torch.ones(2).half(), -1e9).tolist() == [1, float("-inf")]
    assert torch.full((1,), torch.finfo(torch.bfloat16).max, dtype=torch.bfloat16).item() == torch.finfo(torch.bfloat16).max
    assert torch.logit(torch.tensor([True, False])).tolist() == [float("inf"), float("-inf")]


@pytest.mark.parametrize("call, kind, parts", CASES.values(), ids=list(CASES))
def test_message(call, kind, parts):
    with pytest.raises(kind) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)
