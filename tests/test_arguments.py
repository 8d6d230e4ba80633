"""What functions say of arguments that are not what they expect, and older ways to give them."""

import re

import pytest

import antorcha as torch

F = torch.nn.functional


def test_embedding_bag_takes_the_old_order():
    weight, indices = torch.arange(12.0).reshape(6, 2), torch.tensor([[0, 1], [2, 5]])
    with pytest.warns(UserWarning, match="embedding_bag"):
        old = F.embedding_bag(weight, indices, mode="sum")
    assert old.tolist() == F.embedding_bag(indices, weight, mode="sum").tolist() == [[2.0, 4.0], [14.0, 16.0]]


X, L = torch.ones(2, 3), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
MISTAKES = {
    "relu": (lambda: F.relu(L), "input", 1, "Tensor"),
    "relu_": (lambda: torch.relu_(L), "input", 1, "Tensor"),
    "linear": (lambda: F.linear(X, L), "weight", 2, "Tensor"),
    "cross_entropy": (lambda: F.cross_entropy(L, torch.tensor([0, 1])), "input", 1, "Tensor"),
    "cross_entropy of labels": (lambda: F.cross_entropy(X, [0, 1]), "target", 2, "Tensor"),
    "mse_loss": (lambda: F.mse_loss(X, L), "target", 2, "Tensor"),
    "mse_loss by name": (lambda: F.mse_loss(X, target=L), "target", 2, "Tensor"),
    "softmax": (lambda: F.softmax(L, 0), "input", 1, "Tensor"),
    "dropout": (lambda: F.dropout(L), "input", 1, "Tensor"),
    "batch_norm": (lambda: F.batch_norm(L, None, None, training=True), "input", 1, "Tensor"),
    "layer_norm": (lambda: F.layer_norm(L, (3,)), "input", 1, "Tensor"),
    "embedding": (lambda: F.embedding([0, 1], X), "in", 1, "Tensor"),
    "conv2d": (lambda: F.conv2d(L, X), "input", 0, "Tensor"),
    "argmax": (lambda: torch.argmax(L), "input", 1, "Tensor"),
    "matmul": (lambda: torch.matmul(X, L), "other", 2, "Tensor"),
    "gather": (lambda: torch.gather(X, 0, [[0]]), "index", 3, "Tensor"),
    "zeros_like": (lambda: torch.zeros_like(L), "input", 1, "Tensor"),
    "clone": (lambda: torch.clone(L), "input", 1, "Tensor"),
    "cumsum": (lambda: X.cumsum([1.0]), "dim", 2, "int"),
    "unsqueeze": (lambda: X.unsqueeze(None), "dim", 2, "int"),
    "atleast_1d": (lambda: torch.atleast_1d(L), "tensors", 1, "Tensor"),
}

MISTAKES |= {
    "one_hot": (lambda: F.one_hot([0, 1]), "tensor", 1, "Tensor"),
    "bilinear": (lambda: F.bilinear(L, X, torch.ones(2, 3, 3)), "input1", 1, "Tensor"),
    "gumbel_softmax": (lambda: F.gumbel_softmax(L), "logits", 1, "Tensor"),
    "conv_tbc": (lambda: torch.conv_tbc(L, torch.ones(1, 3, 2), torch.ones(2)), "input", 1, "Tensor"),
    "rrelu": (lambda: F.rrelu(L), "input", 1, "Tensor"),
    "dropout in evaluation": (lambda: F.dropout(L, training=False), "input", 1, "Tensor"),
    "equal": (lambda: torch.equal(X, L), "other", 2, "Tensor"),
    "masked_fill": (lambda: X.masked_fill(None, 1.0), "mask", 2, "Tensor"),
    "isin": (lambda: torch.isin(X, None), "test_elements", 2, "Tensor"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_list_for_a_tensor_is_a_type_error_that_names_the_argument(name):
    call, argument, position, kind = MISTAKES[name]
    with pytest.raises(TypeError, match=rf"\(\): argument '{argument}.*' .*must be {kind}.*, not (list|NoneType)") as error:
        call()
    assert not position or f"(position {position})" in str(error.value)


@pytest.mark.parametrize("where", ["in memory", "to be computed", "in a training step"])
def test_binary_cross_entropy_refuses_what_is_no_probability(where):
    values = torch.tensor([0.5, 0.9, 1.25, 0.1])
    target, bias = torch.ones(4), torch.zeros(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="all elements of input should be between 0 and 1") as error:
        if where == "in memory":
            F.binary_cross_entropy(values, target)
        elif where == "to be computed":
            F.binary_cross_entropy(values * 1, target).item()
        else:
            loss = F.binary_cross_entropy(values + bias, target)
            loss.backward()
            loss.item()
    assert where == "in memory" or __file__ in str(error.value)
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        F.binary_cross_entropy(torch.full((3,), float("nan")) * 1, torch.ones(3), weight=torch.ones(3)).tolist()
    assert F.binary_cross_entropy(values.clamp(0, 1) * 1, target, reduction="none").tolist()[2] == 0.0


def test_binary_cross_entropy_refuses_at_each_call():
    for k in range(8):          # the fourth call of a kind is written out
        x = torch.tensor([0.25, 0.5]) * 2
        y = F.binary_cross_entropy(x + (1 if k % 2 else 0), torch.ones(2))
        if k % 2:
            with pytest.raises(RuntimeError, match="between 0 and 1"):
                y.item()
        else:
            assert y.item() == pytest.approx(0.34657359)


def test_lists_of_parameters_are_shown_by_dtype_and_tables_by_type():
    p = torch.nn.Parameter(torch.ones(2, 3))
    assert repr(torch.nn.ParameterList([p, 1])) == ("ParameterList(\n    (0): Parameter containing: [torch.float32 of size 2x3]\n"
                                                    "    (1): Object of type: int\n)")
    assert "(a): Parameter containing: [torch.FloatTensor of size 2x3]" in repr(torch.nn.ParameterDict({"a": p}))


B = torch.ones(2, 3, dtype=torch.bool)
TYPES = {
    "a number for a truth value": (lambda: X.sum(0, 1), "'keepdim' (position 3) must be bool, not int"),
    "a word for a truth value": (lambda: X.sort(0, descending="yes"), "'descending' (position 3) must be bool, not str"),
    "a fraction of a position": (lambda: X.topk(1.0), "'k' (position 2) must be int, not float"),
    "a fraction of a dimension": (lambda: X.argmax(1.5), "'dim' (position 2) must be int, not float"),
    "a fraction of a diagonal": (lambda: X.tril(1.5), "'diagonal' (position 2) must be int, not float"),
    "a fraction of rows": (lambda: torch.eye(2.5), "'n' (position 1) must be int, not float"),
    "a fraction of a bound": (lambda: torch.randint(2.5, (3,)), "'high' must be int, not float"),
    "a word for a dtype": (lambda: torch.zeros(2, dtype="float32"), "'dtype' must be torch.dtype, not str. Write torch.float32"),
    "a misspelt name": (lambda: torch.zeros(2, requires_gard=True), "unexpected keyword argument 'requires_gard'"),
    "another misspelt name": (lambda: torch.randn(2, dytpe=torch.float64), "unexpected keyword argument 'dytpe'"),
    "a truth value for a position": (lambda: X.select(0, True), "'index' (position 3) must be int, not bool"),
    "a truth value for a start": (lambda: X.narrow(0, True, 1), "'start' (position 3) must be int or Tensor, not bool"),
    "a fraction of a start": (lambda: X.narrow(0, 0.5, 1), "'start' (position 3) must be int or Tensor, not float"),
    "a truth value for a length": (lambda: X.narrow(0, 0, True), "'length' (position 4) must be int, not bool"),
    "a truth value for a number of parts": (lambda: X.chunk(True), "'chunks' (position 2) must be int, not bool"),
    "a truth value for a declared integer": (lambda: X.topk(True), "'k' (position 2) must be int, not bool"),
    "a truth value for a diagonal": (lambda: torch.tril(X, True), "'diagonal' (position 2) must be int, not bool"),
    "a truth value for a power": (lambda: torch.matrix_power(X, True), "'n' (position 2) must be int, not bool"),
    "a truth value for an order": (lambda: torch.polygamma(True, X), "'n' (position 1) must be int, not bool"),
    "a truth value for a window": (lambda: X.unfold(0, True, 1), "'size' (position 3) must be int, not bool"),
    "a truth value for a shift": (lambda: torch.roll(X, True), "'shifts' (position 2) must be int or tuple of ints, not bool"),
    "a truth value for repeats": (lambda: X.repeat_interleave(True), "'repeats' (position 2) must be Tensor or int, not bool"),
    "a truth value for a number of rows": (lambda: torch.eye(True), "'n' (position 1) must be int, not bool"),
    "a fraction for a number of classes": (lambda: F.one_hot(torch.tensor([0]), 1.5), "'num_classes' (position 2) must be int, not float"),
    "a truth value for a number of samples": (lambda: torch.multinomial(X, True), "'num_samples' (position 2) must be int, not bool"),
    "a truth value for a least length": (lambda: torch.tensor([0]).bincount(None, True), "'minlength' (position 3) must be int, not bool"),
    "a fraction for a number of dimensions": (lambda: torch.mvlgamma(X, 1.5), "'p' (position 2) must be int, not float"),
    "a truth value for a size": (lambda: X.split(True), "'split_size_or_sections' (position 2) must be int or tuple of ints, not bool"),
    "truth values for sizes": (lambda: X.split([True, 1]), "must be int or tuple of ints, not bool"),
    "no size": (lambda: torch.ones(), "missing 1 required positional argument"),
}


@pytest.mark.parametrize("name", TYPES)
def test_arguments_of_other_types_are_refused(name):
    call, message = TYPES[name]
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


DTYPES = {
    "a mask taken from 1": (lambda: 1 - B, RuntimeError, "with a bool tensor is not supported"),
    "a mask taken away": (lambda: X - B, RuntimeError, "with a bool tensor is not supported"),
    "an activation of integers": (lambda: F.gelu(X.long()), NotImplementedError, "expected a floating point tensor; received torch.int64"),
    "ends of other dtypes": (lambda: X.lerp(X.double(), 0.5), RuntimeError, "expected dtype torch.float32 for `end`"),
    "slopes of another dtype": (lambda: F.prelu(X, torch.ones(1).double()), RuntimeError, "Type promoting not supported"),
    "parts of other dtypes": (lambda: torch.polar(X, X.double()), RuntimeError, "Expected object of scalar type torch.float32"),
    "a batch of another dtype": (lambda: torch.nn.BatchNorm1d(3)(X.double()), RuntimeError, "mixed dtype"),
    "the largest of truth values": (lambda: B.topk(1), RuntimeError, "topk does not support bool"),
    "a base too narrow": (lambda: torch.ones(2).float_power_(2), RuntimeError, "float_power_ has dtype torch.float32"),
    "an integer too large": (lambda: torch.tensor([1, 2 ** 70]), ValueError, "received 1180591620717411303424. Give a dtype of floats"),
    "an integer too large for a dtype": (lambda: torch.tensor([300], dtype=torch.uint8), RuntimeError, "from 0 to 255; received 300"),
    "no number": (lambda: torch.tensor([float("nan")], dtype=torch.int64), RuntimeError, "received nan"),
    "an unknown subscript": (lambda: torch.einsum("i->j", torch.ones(2)), RuntimeError, "subscript j does not appear"),
    "an unknown reduction": (lambda: X.scatter(0, X.long(), X, reduce="most"), RuntimeError, "add or multiply; received 'most'"),
}


@pytest.mark.parametrize("name", DTYPES)
def test_what_cannot_be_computed_is_refused(name):
    call, error, message = DTYPES[name]
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_python_types_stand_for_dtypes():
    assert torch.zeros(2, dtype=float).dtype is torch.float64 and torch.ones(2, dtype=int).dtype is torch.int64
    assert torch.tensor([0, 2], dtype=bool).tolist() == [False, True] and X.to(float).dtype is torch.float64
    assert X.sum(dtype=float).dtype is torch.float64 and torch.arange(3, dtype=float).tolist() == [0.0, 1.0, 2.0]
    assert torch.tensor([2 ** 70, 1.5]).dtype is torch.float32 and torch.tensor([-1], dtype=torch.uint8).tolist() == [255]


def test_activations_are_written_for_their_options():
    """A module passes on what its options are when it is called; a function takes `inplace` by name and by place."""
    x = torch.tensor([-1.0, 2.0])
    module = torch.nn.LeakyReLU(0.5)
    assert module(x).tolist() == [-0.5, 2.0]
    module.negative_slope = 0.25
    assert module(x).tolist() == [-0.25, 2.0] and type(module).forward is not torch.nn.ReLU.forward
    assert torch.nn.functional.threshold(x, 0.0, 7.0, True) is x and x.tolist() == [7.0, 2.0]
    with pytest.raises(TypeError, match=r"relu\(\) got an unexpected keyword argument 'alpha'"):
        torch.nn.functional.relu(x, alpha=1)
