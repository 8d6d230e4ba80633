"""float16 and bfloat16: kept in 16 bits, computed in float32, rounded after each operator."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest

import antorcha as torch
from antorcha import nn
from antorcha.base import config
from antorcha.base import dtype as dt
from antorcha.graph import flush
from antorcha.runtime import jit
from antorcha.targets import kernel, llvm

HALVES = [torch.float16, torch.bfloat16]


def every_half() -> np.ndarray:
    return np.arange(65536, dtype=np.uint16).view(np.float16)


def hard_floats() -> np.ndarray:
    """float32 values at and beside every rounding boundary of both formats."""
    halves = every_half().astype(np.float32)
    with np.errstate(invalid="ignore"):
        middles = (halves[:-1] + halves[1:]) / 2
    brains = dt.decode(np.arange(0, 65536, 7, dtype=np.uint16))
    values = np.concatenate(
        [halves, middles, np.nextafter(middles, np.float32(np.inf)), np.nextafter(middles, np.float32(-np.inf)), brains]
    )
    return np.concatenate([values, np.random.default_rng(0).standard_normal(4000).astype(np.float32) * 1e-6])


@pytest.fixture(params=["instructions", "integers"])
def conversion(request, monkeypatch):
    """With the processor's conversions, and without."""
    if request.param == "integers":
        monkeypatch.setattr(llvm, "_converts_half", lambda: False)
        monkeypatch.setattr(kernel, "_kernels", {})
        monkeypatch.setattr("antorcha.runtime.jit.link", _fresh)
        monkeypatch.setattr("antorcha.runtime.jit.prepare", lambda modules: None)
        flush.clear()
    yield
    flush.clear()


def _fresh(module, _link=jit.link):
    return _link(module._replace(key=module.key + "\n; converted by integers"))


def test_float16_reads_every_value(conversion):
    np.testing.assert_array_equal(torch.from_numpy(every_half()).float().numpy(), every_half().astype(np.float32))


@pytest.mark.filterwarnings("ignore:overflow")
def test_float16_rounds_to_nearest_even(conversion):
    values = hard_floats()
    np.testing.assert_array_equal(torch.tensor(values).half().numpy(), values.astype(np.float16))


def test_bfloat16_rounds_to_nearest_even():
    values = hard_floats()
    np.testing.assert_array_equal(torch.tensor(values).bfloat16().float().numpy(), dt.decode(dt.encode(values)))


@pytest.mark.parametrize("half", HALVES)
def test_fused_equals_operator_by_operator_bit_for_bit(half):
    def program():
        x = torch.tensor(np.random.default_rng(1).standard_normal((33, 17)).astype(np.float32)).to(half)
        return ((x * 0.3 + x).exp() - x.tanh() / 3).sqrt().where(x > 0, x * x).float().numpy()

    fused = program()
    config.eager = True
    try:
        np.testing.assert_array_equal(program(), fused)
    finally:
        config.eager = False


@pytest.mark.parametrize("half", HALVES)
def test_the_interpreter_agrees(half):
    def program():
        x = torch.tensor(np.random.default_rng(2).standard_normal((9, 16)).astype(np.float32)).to(half)
        y = (x @ x.t()).softmax(-1)
        return [t.float().numpy() for t in (x * 2 + 0.1, x.sum(0), x.amax(1), y, torch.cat([x, x * 3]), x.cumsum(1))]

    compiled = program()
    config.target = "interp"
    try:
        for a, b in zip(program(), compiled):
            np.testing.assert_allclose(a, b, rtol=2 ** -8, atol=1e-3)
    finally:
        config.target = "llvm"


@pytest.mark.parametrize("half", HALVES)
def test_sums_accumulate_in_float32(half):
    assert torch.ones(5000, dtype=half).sum().item() in (5000.0, 4992.0)
    assert torch.ones(1, 3000, dtype=half).mm(torch.ones(3000, 1, dtype=half)).item() in (3000.0, 2992.0, 3008.0)


def test_bfloat16_has_no_numpy_form_but_values():
    x = torch.tensor([1.0, 2.5], dtype=torch.bfloat16)
    assert x.tolist() == [1.0, 2.5] and x[1].item() == 2.5
    with pytest.raises(TypeError, match="bfloat16"):
        x.numpy()
    assert repr(x) == "tensor([1.0000, 2.5000], dtype=torch.bfloat16)"


@pytest.mark.parametrize("half", HALVES)
def test_gradients_and_files_keep_the_dtype(half, tmp_path):
    x = torch.tensor([0.5, -1.0], dtype=half, requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.dtype is half and x.grad.tolist() == [1.0, -2.0]
    torch.save(x.detach(), tmp_path / "x.pt")
    back = torch.load(tmp_path / "x.pt")
    assert back.dtype is half and back.tolist() == [0.5, -1.0]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_layers_round_once(dtype):
    """Softmax, layer norm, linear and their derivatives are float32 within and rounded once, as PyTorch's kernels are."""
    from antorcha.nn import functional as F

    generator = np.random.default_rng(1)
    x, w, b = (torch.tensor(generator.standard_normal(shape), dtype=dtype) for shape in ((6, 8), (5, 8), (5,)))
    for layer, inputs in (
        (lambda x: F.softmax(x, -1), (x,)),
        (lambda x: F.layer_norm(x, (8,)), (x,)),
        (F.linear, (x, w, b)),
        (lambda x: x.mean(1), (x,)),
        (lambda x: F.gelu(x, approximate="tanh"), (x,)),
        (lambda x: x.std(1), (x,)),
    ):
        halves, floats = ([t.detach().to(kind).requires_grad_() for t in inputs] for kind in (dtype, torch.float32))
        out, expected = layer(*halves), layer(*floats)
        assert out.dtype is dtype and torch.equal(out, expected.to(dtype))
        cotangent = torch.tensor(generator.standard_normal(tuple(out.shape)), dtype=dtype)
        out.backward(cotangent)
        if layer is not F.linear:       # its derivatives round where products end
            expected.backward(cotangent.float())
            for half, full in zip(halves, floats):
                torch_grad = full.grad.to(dtype)
                assert (half.grad.float() - torch_grad.float()).abs().max() <= 2e-2 * torch_grad.float().abs().max()


@pytest.mark.parametrize("dtype", HALVES)
def test_a_quotient_is_rounded_before_it_is_cut(dtype):
    a = torch.from_numpy(np.random.default_rng(1).uniform(-60, 60, (40, 50))).to(dtype)
    b = torch.from_numpy(np.random.default_rng(2).uniform(0.5, 2, (40, 50))).to(dtype)
    assert torch.equal(torch.div(a, b, rounding_mode="trunc"), (a / b).trunc())


@pytest.mark.parametrize("dtype", HALVES)
def test_the_logistic_loss_divides_its_derivative_last(dtype):
    x = torch.linspace(-4, 4, 33).to(dtype).requires_grad_()
    t, weight = torch.linspace(0, 1, 33).to(dtype), torch.linspace(0.2, 1.7, 33).to(dtype)
    nn.functional.binary_cross_entropy_with_logits(x, t, weight).backward()
    assert torch.equal(x.grad, (x.detach().sigmoid() - t) * weight / 33)


@pytest.mark.parametrize("dtype", HALVES)
def test_exponents_have_the_dtype_of_what_is_raised(dtype):
    x = torch.linspace(0.1, 9, 200).to(dtype)
    exponent = torch.tensor(0.3).to(dtype)
    assert torch.equal(x ** 0.3, (x.float() ** exponent.float()).to(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_the_weights_of_an_interpolation_are_kept_in_16_bits(dtype):
    x = torch.tensor([[[1.0, 4.0, -2.0]]]).to(dtype)
    part = torch.tensor(2 / 3).to(dtype).float()
    expected = (x[0, 0, 0].float() * (1 - part).to(dtype).float() + x[0, 0, 1].float() * part).to(dtype)
    assert nn.functional.interpolate(x, size=4, mode="linear", align_corners=True)[0, 0, 1] == expected


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("sign", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "eq"])
def test_numbers_are_rounded_where_pytorch_rounds_them(sign, dtype):
    oracle = pytest.importorskip("torch")
    function, values = getattr(operator, sign), np.arange(1, 65, dtype=np.float32) / 7
    x, y = (library.from_numpy(values).to(getattr(library, dtype)) for library in (torch, oracle))
    for number in (0.7, 2, 0.1):
        assert function(x, number).tolist() == function(y, number).tolist(), f"x {sign} {number}"
        assert function(number, x).tolist() == function(number, y).tolist(), f"{number} {sign} x"


def test_comparing_with_a_number_compares_with_its_16_bits():
    for d in HALVES:
        x = torch.tensor([0.7]).to(d)
        assert (x == 0.7).item() and not (x < 0.7).item() and (x - 0.7).item() == 0
        assert (x * 0.7).item() == torch.tensor(x.item() * 0.7).to(d).item()        # of products the number stays as it is


@pytest.mark.parametrize("dtype", HALVES)
def test_cotangents_that_meet_are_added_in_float32(dtype):
    """Where elements of an input went to several of the result, and where a weight's gradient is a sum of parts."""
    F, generator = nn.functional, np.random.default_rng(1)
    w, x = (torch.from_numpy(generator.standard_normal(shape).astype(np.float32)).to(dtype) for shape in ((2, 2, 3, 3), (6, 2, 6, 4)))
    for function, inputs in (
        (lambda x: F.interpolate(x, size=(17, 13)), (x,)),
        (lambda w: F.conv2d(x.to(w.dtype), w), (w,)),
    ):
        (half,), (full,) = ([t.detach().to(kind).requires_grad_() for t in inputs] for kind in (dtype, torch.float32))
        y = function(half)
        cotangent = torch.from_numpy(generator.standard_normal(tuple(y.shape)).astype(np.float32)).to(dtype)
        y.backward(cotangent)
        function(full).backward(cotangent.float())
        assert half.grad.dtype is dtype
        error = (half.grad.float() - full.grad).abs()
        assert (error <= 0.51 * torch.finfo(dtype).eps * full.grad.abs() + 1e-5).all(), function


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "adaptive"])
def test_cotangents_of_borders_and_overlapping_windows_are_added_in_order(dtype, mode):
    """As PyTorch does: one output after the other, each sum rounded to 16 bits."""
    generator = np.random.default_rng(2)
    x = torch.from_numpy(generator.standard_normal((2, 4, 5))).to(dtype).requires_grad_()
    y = nn.functional.adaptive_avg_pool2d(x, (3, 7)) if mode == "adaptive" else nn.functional.pad(x, (3, 2, 1, 2), mode=mode)
    g = torch.from_numpy(generator.standard_normal(tuple(y.shape))).to(dtype)
    y.backward(g)

    def reads(o, outputs, n, before):
        if mode == "adaptive":
            return range(o * n // outputs, -(-(o + 1) * n // outputs))
        p = o - before
        return [min(max(p, 0), n - 1) if mode == "replicate" else n - 1 - abs(n - 1 - abs(p))]

    expected = np.zeros((2, 4, 5), np.float32)
    for c, i, j in np.ndindex(*y.shape):
        rows, columns = reads(i, y.shape[1], 4, 1), reads(j, y.shape[2], 5, 3)
        share = dtype.round(dtype.round(g[c, i, j].item() / len(rows)) / len(columns))
        for a in rows:
            for b in columns:
                expected[c, a, b] = dtype.round(expected[c, a, b] + share)
    np.testing.assert_array_equal(x.grad.float().numpy(), expected)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("lengths, size, stride, padding", [
    ((4, 5), (3, 2), (1, 1), (1, 0)), ((7, 6), (3, 4), (2, 3), (1, 2)), ((4, 11), 9, 1, 4)])
def test_cotangents_of_means_of_overlapping_windows_are_added_in_order(dtype, lengths, size, stride, padding):
    """As PyTorch does: divided, then added one output after the other, each step rounded to 16 bits."""
    generator = np.random.default_rng(5)
    x = torch.from_numpy(generator.standard_normal((2, *lengths))).to(dtype).requires_grad_()
    y = nn.functional.avg_pool2d(x, size, stride, padding, count_include_pad=False)
    g = torch.from_numpy(generator.standard_normal(tuple(y.shape))).to(dtype)
    y.backward(g)
    size, stride, padding = (v if isinstance(v, tuple) else (v, v) for v in (size, stride, padding))
    expected = np.zeros((2, *lengths), np.float32)
    for c, *at in np.ndindex(*y.shape):
        rows, columns = (range(max(0, i * s - p), min(n, i * s - p + k)) for i, s, p, k, n in zip(at, stride, padding, size, lengths))
        share = dtype.round(g[(c, *at)].item() / (len(rows) * len(columns)))
        for place in itertools.product(rows, columns):
            expected[(c, *place)] = dtype.round(expected[(c, *place)] + share)
    np.testing.assert_array_equal(x.grad.float().numpy(), expected)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", [(1, 25, 5), (3, 2, 4, 3)])
def test_a_batch_is_normalised_by_moments_kept_in_16_bits(dtype, shape):
    """As PyTorch does: the mean and the scale are rounded, and of bfloat16 the sum of squares and the variance too."""
    x = torch.from_numpy(np.random.default_rng(6).standard_normal(shape) * 3 + 1).to(dtype)
    dims = (0, *range(2, x.dim()))
    mean = x.float().mean(dims, True)
    total = ((x.float() - mean) ** 2).sum(dims, True)
    count = x.numel() // x.shape[1]
    variance = (total.to(dtype) / count).float() if dtype is torch.bfloat16 else total / count
    scale = (variance + 1e-5).rsqrt().to(dtype).float()
    expected = ((x.float() - mean.to(dtype).float()) * scale).to(dtype)
    assert torch.equal(nn.functional.batch_norm(x, None, None, training=True), expected)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("p", [1, 2, 3.0])
def test_the_derivative_of_renorm_is_rounded_once(dtype, p):
    generator = np.random.default_rng(7)
    x, g = (torch.from_numpy(generator.standard_normal((5, 6, 7))).to(dtype) for _ in range(2))
    half, full = (t.requires_grad_() for t in (x.clone(), x.double()))
    torch.renorm(half, p, 1, 2.0).backward(g)
    torch.renorm(full, p, 1, 2.0).backward(g.double())
    error = (half.grad.double() - full.grad).abs()
    assert (error <= 0.51 * torch.finfo(dtype).eps * full.grad.abs() + 1e-6).all()


def test_powers_of_bfloat16_are_products_that_are_each_rounded():
    x = torch.linspace(0.3, 3, 50).bfloat16()
    assert torch.equal(x ** 3, x * x * x) and torch.equal(x ** -2, 1 / (x * x)) and torch.equal(x ** -0.5, 1 / x.sqrt())
    x = x.half()
    assert torch.equal(x ** 3, (x.float() ** 3).half()) and torch.equal(x ** -2, (x.float() ** -2).half())


@pytest.mark.parametrize("dtype", HALVES)
def test_a_linear_layer_that_is_given_its_result_adds_to_the_rounded_product(dtype):
    generator = np.random.default_rng(3)
    x, w, b = (torch.from_numpy(generator.standard_normal(shape)).to(dtype) for shape in ((2, 3, 8), (5, 8), (5,)))
    out = torch.empty(2, 3, 5, dtype=dtype)
    assert nn.functional.linear(x, w, b, out=out) is out
    assert torch.equal(out, x @ w.t() + b) and torch.equal(nn.functional.linear(x, w, b), (x.float() @ w.float().t() + b.float()).to(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_a_range_counts_by_rounded_distances(dtype):
    x, gap = torch.linspace(-2, 1, 50, dtype=dtype), dtype.round(3 / 49)
    assert x[:25].tolist() == [dtype.round(-2 + dtype.round(i * gap)) for i in range(25)]
    assert x[25:].tolist() == [dtype.round(1 - dtype.round(i * gap)) for i in range(24, -1, -1)]


def test_of_an_element_that_is_0_a_product_has_the_others_for_its_derivative():
    x = torch.tensor([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0], [1.0, 2.0, 4.0]], requires_grad=True)
    x.prod(1).sum().backward()
    assert x.grad.tolist() == [[0, 6, 0], [0, 0, 0], [8, 4, 2]]
    y = torch.tensor([2.0, 0.0, 3.0], requires_grad=True)
    y.prod().backward()
    assert y.grad.tolist() == [0, 6, 0]


def test_the_cross_entropy_of_a_certain_probability_has_an_infinite_derivative_by_its_target():
    x, t = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    nn.functional.binary_cross_entropy(x, t, reduction="sum").backward()
    assert t.grad.tolist() == [float("inf"), 0, float("-inf")]


@pytest.mark.parametrize("dtype", HALVES)
def test_attention_rounds_exponentials_before_they_are_divided_by_their_sum(dtype):
    generator = np.random.default_rng(4)
    q, k, v = (torch.from_numpy(generator.standard_normal((1, 2, n, 8)) * 2).to(dtype) for n in (3, 6, 6))
    scores = q.float() @ k.float().transpose(-1, -2) * 8 ** -0.5
    weights = (scores - scores.amax(-1, True)).exp()
    expected = (weights.to(dtype).float() @ v.float() / weights.sum(-1, True)).to(dtype)
    attend = nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(attend(q, k, v), expected, rtol=torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(attend(q[0], k[0], v[0]), (scores.softmax(-1) @ v.float())[0].to(dtype), rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("additive", [False, True])
def test_queries_that_see_no_key_get_0(dtype, additive):
    q = torch.from_numpy(np.random.default_rng(5).standard_normal((1, 2, 3, 4))).to(dtype).requires_grad_()
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    if additive:
        mask = torch.zeros(3, 3, dtype=dtype).masked_fill(~mask, -float("inf"))
    y = nn.functional.scaled_dot_product_attention(q, q, q, mask)
    assert (y[:, :, 1] == 0).all() and y[:, :, ::2].isfinite().all()
    y.float().square().sum().backward()
    assert q.grad.isfinite().all() and (q.grad != 0).any()


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_volumes_are_sampled_corner_by_corner_as_in_pytorch(dtype):
    oracle = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, grid = rng.standard_normal((2, 3, 4, 5, 6), np.float32), 2 * rng.random((2, 3, 4, 5, 3), np.float32) - 1
    found = []
    for library in (torch, oracle):
        leaves = [library.from_numpy(v).to(getattr(library, dtype)).requires_grad_() for v in (x, grid)]
        out = library.nn.functional.grid_sample(*leaves, align_corners=False)
        out.backward(out.detach())
        found.append([t.detach().float().numpy() for t in (out, *[leaf.grad for leaf in leaves])])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 if dtype == "float32" else 0)


@pytest.mark.parametrize("lengths", [(4, 5), (3, 2, 4)])
def test_derivatives_of_grid_sample(lengths):
    generator = np.random.default_rng(6)
    x = torch.from_numpy(generator.standard_normal((2, 2, *lengths))).requires_grad_()
    grid = torch.from_numpy(generator.uniform(-1.3, 1.3, (2, *lengths[1:], 3, len(lengths)))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, grid: nn.functional.grid_sample(x, grid, align_corners=False), (x, grid))
    assert torch.autograd.gradgradcheck(lambda x, grid: nn.functional.grid_sample(x, grid, align_corners=False), (x, grid))
