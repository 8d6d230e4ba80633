"""What classes and results are called, against PyTorch."""

import pytest

import antorcha


def _public(kind) -> set:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.oracle
def test_tensors_have_no_methods_that_pytorch_lacks():
    torch = pytest.importorskip("torch")
    assert not _public(antorcha.Tensor) - _public(torch.Tensor)


def test_functions_of_layers_are_no_methods_but_operators():
    torch = antorcha
    x = torch.tensor([-1.0, 2.0])
    assert not hasattr(x, "silu") and not hasattr(x, "silu_") and not hasattr(torch, "silu")
    assert torch.ops.aten.silu(x).tolist() == torch.nn.functional.silu(x).tolist()
    y = x.clone()
    assert torch.ops.aten.hardtanh(x, 0.0, 1.0).tolist() == [0.0, 1.0]
    assert torch.ops.aten.silu_(y) is y and y.tolist() == torch.nn.functional.silu(x).tolist()
    assert torch.nn.functional.silu(x, inplace=True) is x and x.tolist() == y.tolist()
    assert torch.selu_(x) is x and torch.threshold(x, 0.0, 5.0).tolist() == [5.0, x[1].item()]


@pytest.mark.parametrize("index, name", {
    "0": "Select", "0, 0": "Select", "1:, 0": "Select", ":, 0": "Select", "..., 0": "Select", "0, 1:": "Slice", "::2": "Slice",
    ":": "Slice", "None": "Unsqueeze", ":, None": "Unsqueeze", "...": "Alias", "()": "Alias", "[0, 1]": "Index"}.items())
def test_an_index_is_named_after_its_last_view(index, name):
    x = antorcha.ones(2, 3, requires_grad=True)
    assert eval(f"x[{index}]", {"x": x}).grad_fn.name() == f"{name}Backward0"
