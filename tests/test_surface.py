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


@pytest.mark.parametrize("name, options", {
    "relu": (), "relu6": (), "elu": (1.5,), "celu": (1.5,), "selu": (), "leaky_relu": (0.1,), "silu": (), "mish": (),
    "hardtanh": (-0.5, 1.0), "hardswish": (), "hardsigmoid": (), "threshold": (0.1, 20.0), "rrelu": (0.2, 0.3, False),
    "dropout": (1.0, True), "alpha_dropout": (1.0, True)}.items())
def test_whether_in_place_is_the_last_option(name, options):
    function, x = getattr(antorcha.nn.functional, name), antorcha.tensor([-2.0, -0.5, 7.0])
    want = function(x, *options).tolist()
    assert x.tolist() == [-2.0, -0.5, 7.0]
    assert function(x, *options, True) is x and x.tolist() == want
    with pytest.raises(TypeError, match="positional arguments"):
        function(x, *options, True, 1.0)


def test_elu_in_place_takes_scales():
    x = antorcha.tensor([-1.0, 1.0])
    assert antorcha.nn.functional.elu_(x, 1.0, 2.0, 0.0) is x and x.tolist() == [0.0, 2.0]


def test_older_methods_of_tensors():
    torch = antorcha
    x = torch.arange(6.0) - 3
    assert x.prelu(torch.tensor(0.5)).tolist() == torch.prelu(x, torch.tensor(0.5)).tolist() == [-1.5, -1.0, -0.5, 0.0, 1.0, 2.0]
    with pytest.warns(UserWarning, match="resize"):
        assert x.resize(2, 3).shape == x.resize_as(torch.ones(2, 3)).shape == (2, 3)
    assert repr(x[:1].clone().storage()).endswith("TypedStorage(dtype=torch.float32, device=cpu) of size 1]")


@pytest.mark.parametrize("index, name", {
    "0": "Select", "0, 0": "Select", "1:, 0": "Select", ":, 0": "Select", "..., 0": "Select", "0, 1:": "Slice", "::2": "Slice",
    ":": "Slice", "None": "Unsqueeze", ":, None": "Unsqueeze", "...": "Alias", "()": "Alias", "[0, 1]": "Index"}.items())
def test_an_index_is_named_after_its_last_view(index, name):
    x = antorcha.ones(2, 3, requires_grad=True)
    assert eval(f"x[{index}]", {"x": x}).grad_fn.name() == f"{name}Backward0"


NAMES = {
    "Sum0": lambda t, x: x.sum(),
    "Sum1": lambda t, x: x.sum(0),
    "Mean1": lambda t, x: x.mean(1),
    "Squeeze1": lambda t, x: x.squeeze(0),
    "Rsub1": lambda t, x: 1 - x,
    "Pow0": lambda t, x: x ** 2,
    "Pow1": lambda t, x: x ** x,
    "Max1": lambda t, x: x.max(),
    "Clamp1": lambda t, x: x.clamp(min=0),
    "Add0": lambda t, x: t.add(x, x, alpha=2),
    "Log1P0": lambda t, x: x.log1p(),
    "Repeat0": lambda t, x: x.repeat(2, 2),
    "Gather0": lambda t, x: x.gather(0, t.zeros(1, 3, dtype=t.long)),
    "Mm0": lambda t, x: x @ x.t(),
    "Mm0 of a layer": lambda t, x: t.nn.functional.linear(x, x),
    "Mv0": lambda t, x: x @ x[0],
    "Dot0": lambda t, x: x[0] @ x[0],
    "UnsafeView0": lambda t, x: x[None] @ x.t(),
    "Addmm0": lambda t, x: t.nn.functional.linear(x, x, x[:, 0]),
    "View0": lambda t, x: t.nn.functional.linear(x[None], x, x[:, 0].contiguous()),
    "NllLoss0": lambda t, x: t.nn.functional.cross_entropy(x, t.tensor([0, 1])),
    "NllLoss0 by name": lambda t, x: t.nn.functional.nll_loss(x, target=t.tensor([0, 1]), reduction="sum"),
    "SmoothL1Loss0": lambda t, x: t.nn.functional.smooth_l1_loss(x, x + 1),
    "MaxPool2DWithIndices0": lambda t, x: t.nn.functional.max_pool2d(x[None], 2),
    "UpsampleNearest2D0": lambda t, x: t.nn.functional.interpolate(x[None, None], scale_factor=2),
}


def _name(t, make) -> str:
    return make(t, (t.arange(6.0).reshape(2, 3) + 1).requires_grad_()).grad_fn.name()


@pytest.mark.parametrize("name", NAMES)
def test_a_derivative_is_called_as_in_pytorch(name):
    expected = name.partition(" ")[0]
    assert {_name(antorcha, NAMES[name]) for _ in range(6)} == {f"{expected[:-1]}Backward{expected[-1]}"}     # written out after some calls


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_these_are_the_names_in_pytorch(name):
    torch = pytest.importorskip("torch")
    assert _name(antorcha, NAMES[name]) == _name(torch, NAMES[name])


def test_renaming_leaves_derivatives_of_arguments_alone():
    torch = antorcha
    x = torch.ones(1, 4, requires_grad=True).exp()
    assert torch.nn.functional.adaptive_avg_pool1d(x, 4).grad_fn is not x.grad_fn
    assert torch.nn.functional.pad(x, (0, 0), mode="replicate").shape == x.shape and x.grad_fn.name() == "ExpBackward0"
    assert x.repeat(1, 1).sum().grad_fn.next_functions[0][0].name() == "RepeatBackward0" and x.grad_fn.name() == "ExpBackward0"
