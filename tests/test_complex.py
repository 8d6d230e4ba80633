"""complex64 and complex128: values against NumPy, derivatives against finite differences, and both against torch."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.base import config

DTYPES = {torch.complex64: np.complex64, torch.complex128: np.complex128}
UNARY = """exp expm1 log log2 log10 log1p sqrt reciprocal sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh
           abs angle conj square negative""".split()
DIFFERENTIABLE = ["exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "tan", "asin", "atan", "tanh", "asinh", "acosh", "sigmoid",
                  "abs", "angle", "sgn", "conj"]


def numbers(*shape: int, seed: int = 0, dtype=np.complex128) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(dtype)


@pytest.fixture(params=["fused", "eager"])
def mode(request, monkeypatch):
    monkeypatch.setattr(config, "eager", request.param == "eager")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_functions_agree_with_numpy(name, dtype, mode):
    kind = DTYPES[dtype]
    values = numbers(7, 5, dtype=kind)
    expected = getattr(np, name)(values)
    received = getattr(torch, name)(torch.from_numpy(values))
    agree(received, expected)
    assert received.numpy().dtype == expected.dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arithmetic_agrees_with_numpy(dtype, mode):
    kind = DTYPES[dtype]
    a, b, c = numbers(6, 4, dtype=kind), numbers(6, 4, seed=1, dtype=kind), numbers(3, 4, seed=2, dtype=kind)
    x, y, z = map(torch.from_numpy, (a, b, c))
    pairs = [
        (x + 2 * y, a + 2 * b),
        (x * y - 1j, a * b - 1j),
        (x / y, a / b),
        (x**y, a**b),
        (x**2, a**2),
        (x.real * y.imag, a.real * b.imag),
        (x @ z.t(), a @ c.T),
        (x @ z.mH, a @ c.conj().T),
        (x.sum(1), a.sum(1)),
        (x.mean(), a.mean()),
        (x.cumsum(0), a.cumsum(0)),
        (torch.where(x.abs() > 1, x, y), np.where(abs(a) > 1, a, b)),
        (torch.cat([x, z]), np.concatenate([a, c])),
        (x[[0, 2, 2]], a[[0, 2, 2]]),
    ]
    for received, expected in pairs:
        agree(received, expected.astype(received.numpy().dtype))
    assert torch.equal(x == x, torch.ones(6, 4, dtype=torch.bool))


def test_types_mix_as_documented():
    z = torch.ones(2, dtype=torch.complex64)
    assert (z * torch.ones(2)).dtype is torch.complex64
    assert (z * torch.ones(2, dtype=torch.float64)).dtype is torch.complex128
    assert (torch.ones(2) * 1j).dtype is torch.complex64 and (torch.ones(2, dtype=torch.float64) + 1j).dtype is torch.complex128
    assert z.abs().dtype is z.real.dtype is torch.float32 and z.is_complex() and torch.tensor(1 + 2j).item() == 1 + 2j
    assert torch.complex(torch.ones(2), torch.zeros(2)).dtype is torch.complex64


def test_parts_come_apart_and_together():
    z = torch.from_numpy(numbers(3, 2))
    assert torch.equal(torch.view_as_complex(torch.view_as_real(z)), z)
    assert torch.equal(torch.complex(z.real, z.imag), z)
    agree(torch.polar(z.abs(), z.angle()), z)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_of_functions(name):
    z = torch.from_numpy(numbers(5, seed=3)).requires_grad_()
    assert torch.autograd.gradcheck(getattr(torch, name), (z,))


def test_derivatives_of_arithmetic():
    x = torch.from_numpy(numbers(3, 4)).requires_grad_()
    y = torch.from_numpy(numbers(4, 2, seed=1)).requires_grad_()
    r = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y, r: ((x @ y) * r + r * 1j).sum(0).abs(), (x, y, r))
    assert torch.autograd.gradcheck(lambda x: (x.real * x.imag, x * x.conj(), x**2 / (x + 3)), (x,))


def test_the_gradient_of_a_real_leaf_is_real():
    r = torch.ones(3, requires_grad=True)
    (r * (1 + 2j)).abs().sum().backward()
    assert r.grad.dtype is torch.float32
    agree(r.grad, np.full(3, 5**0.5))


def test_descent_follows_the_conjugate_derivative():
    z = torch.tensor([1 + 1j], requires_grad=True)
    (z * z.conj()).real.sum().backward()
    assert z.grad.tolist() == [2 + 2j]


def test_bad_input_says_so():
    z = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match="ComplexFloat"):
        torch.lt(z, z)
    with pytest.raises(RuntimeError):
        z.requires_grad_().sum().backward()


def test_printing():
    assert repr(torch.tensor([1 + 2j, 3.5 - 1j])) == "tensor([1.0000+2.j, 3.5000-1.j])"


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["exp", "log1p", "sqrt", "tan", "acosh", "atanh", "sigmoid", "angle", "sgn", "rsqrt"])
def test_values_and_gradients_equal_torch(name):
    oracle = pytest.importorskip("torch")
    found = []
    for module in (torch, oracle):
        z = module.from_numpy(numbers(40, seed=5)).requires_grad_()
        out = getattr(module, name)(z)
        (out.abs() ** 2).sum().backward()
        found.append((out.detach().numpy(), z.grad.numpy()))
    for mine, theirs in zip(*found):
        agree(mine, theirs)


@pytest.mark.parametrize("target", ["cpu", "interp"])
def test_complex_numbers_of_16_bit_floats_are_computed_in_complex64(target, monkeypatch):
    monkeypatch.setattr(config, "target", target)
    values = np.array([1.5 - 2j, 0.25 + 3j, -4 + 0.1j], np.complex64)
    x = torch.tensor(values).chalf()
    kept = x.cfloat().numpy()
    assert x.dtype is torch.complex32 and x.element_size() == 4 and x.real.dtype is torch.float16
    np.testing.assert_array_equal(kept, values.real.astype(np.float16) + 1j * values.imag.astype(np.float16).astype(np.float32))

    def rounded(z):
        return z.real.astype(np.float16).astype(np.float32) + 1j * z.imag.astype(np.float16).astype(np.float32)

    for ours, exact in (((x * x), kept * kept), (x / 2.5, kept / 2.5), (x.exp(), np.exp(kept)), (x + 1j * x, kept + rounded(1j * kept)),
                        (x.sum(), kept.sum()), (x.conj() - x, np.conj(kept) - kept), (x[:, None].T[0, 1:], kept[1:])):
        agree(ours.cfloat(), rounded(np.asarray(exact)))
    assert torch.promote_types(torch.complex32, torch.float32) is torch.complex64 and (x * torch.ones(3).half()).dtype is torch.complex32
    assert torch.promote_types(torch.complex32, torch.float64) is torch.complex128
    half = torch.tensor([1.5, 2.0]).half().requires_grad_()
    z = torch.complex(half, half * 2)
    (z * z.conj()).real.sum().backward()
    assert z.dtype is torch.complex32 and half.grad.tolist() == [15.0, 20.0] and half.grad.dtype is torch.float16
    with pytest.raises(TypeError, match="cfloat"):
        x.numpy()


def test_a_product_is_one_contraction():
    """Of both parts of all operands, whether they lie as they are read or not; parts that are infinite spoil no other."""
    from antorcha.graph import flush

    a, b = numbers(5, 7, seed=1), numbers(9, 7, seed=2)[1:].T
    x, y = torch.tensor(a), torch.tensor(numbers(9, 7, seed=2))
    y[1, 0] = float("inf")
    product = x @ y[1:].T
    x.tolist(), y.tolist()
    found = np.array(product.tolist())
    assert sum(any(node[1] == "contraction" for node in k["nodes"]) for k in flush.last().kernels()) == 1
    agree(found[:, 1:], a @ b[:, 1:])
    assert np.isinf(found.real[:, 0]).all() and np.isinf(found.imag[:, 0]).all()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_powers_are_those_of_the_c_library_to_the_last_bit(dtype):
    """NumPy's are, but of whole exponents."""
    kind = DTYPES[dtype]
    z, w = 4 * numbers(40, 30, dtype=kind).T, 4 * numbers(40, 30, seed=1, dtype=kind).T
    power = torch.from_numpy(z) ** torch.from_numpy(w)
    np.testing.assert_array_equal(power.numpy(), np.power(z, w))
    assert power.stride() == (1, 30)
    zeros = torch.zeros(2, dtype=dtype)
    assert (zeros ** 0).tolist() == [1, 1] and (zeros ** (2 + 1j)).tolist() == [0, 0] and (zeros ** torch.tensor(1.5)).tolist() == [0, 0]


def test_derivatives_of_powers():
    z, w = (torch.tensor(numbers(5, seed=s)).requires_grad_() for s in (1, 2))
    real = torch.tensor([0.5, 1.5, 2.0, 2.5, 3.0], dtype=torch.float64, requires_grad=True)
    for function, inputs in ((torch.pow, (z, w)), (torch.pow, (z, real)), (torch.pow, (real, w)), (lambda z: z ** -1, (z,)),
                             (lambda z: z ** -0.5, (z,)), (lambda z: z ** 1, (z,)), (lambda z: 2 ** z, (z,))):
        assert torch.autograd.gradcheck(function, inputs)
