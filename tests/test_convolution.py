"""Convolution, pooling, padding, folding and resampling: against their definitions, finite differences and torch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.autograd import gradcheck, gradgradcheck
from antorcha.base import config
from antorcha.explaining import Recorder

F = torch.nn.functional


def array(*shape: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def tensor(*shape: int, seed: int = 0, dtype=np.float64):
    return torch.from_numpy(array(*shape, seed=seed, dtype=dtype)).clone().requires_grad_()


def windows(x: np.ndarray, size, stride, dilation):
    """(positions, window) of each whole window over the last dimensions."""
    lead = x.ndim - len(size)
    counts = [(m - d * (k - 1) - 1) // s + 1 for m, k, s, d in zip(x.shape[lead:], size, stride, dilation)]
    for place in itertools.product(*map(range, counts)):
        yield place, x[(..., *(slice(p * s, p * s + d * (k - 1) + 1, d) for p, s, d, k in zip(place, stride, dilation, size)))]


def convolved(x, w, stride, padding, dilation, groups):
    """The definition, element by element."""
    n = w.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    found = {place: np.concatenate([np.tensordot(part, kernel, (range(1, n + 2), range(1, n + 2))) for part, kernel in
                                    zip(np.split(window, groups, 1), np.split(w, groups, 0))], 1)
             for place, window in windows(x, w.shape[2:], stride, dilation)}
    shape = tuple(max(p[d] for p in found) + 1 for d in range(n))
    out = np.empty((x.shape[0], w.shape[0], *shape), x.dtype)
    for place, value in found.items():
        out[(slice(None), slice(None), *place)] = value
    return out


@pytest.fixture(params=["fused", "eager"])
def mode(request, monkeypatch):
    monkeypatch.setattr(config, "eager", request.param == "eager")


# x, w, stride, padding, dilation, groups
CONVOLUTIONS = [
    ((2, 3, 7), (4, 3, 3), (1,), (0,), (1,), 1),
    ((2, 4, 9), (6, 2, 3), (2,), (2,), (2,), 2),
    ((1, 2, 8), (2, 1, 3), (3,), (1,), (1,), 2),
    ((2, 3, 5, 6), (4, 3, 3, 2), (1, 1), (1, 0), (1, 1), 1),
    ((2, 4, 8, 7), (4, 2, 3, 3), (2, 3), (1, 2), (1, 2), 2),
    ((1, 2, 1, 1), (3, 2, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((1, 2, 4, 5, 4), (2, 2, 2, 3, 2), (1, 2, 1), (0, 1, 1), (2, 1, 1), 1),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution_is_its_definition(case, mode):
    x, w, stride, padding, dilation, groups = case
    function = getattr(F, f"conv{len(w) - 2}d")
    x, w, b = array(*x), array(*w, seed=1), array(w[0], seed=2)
    expected = convolved(x, w, stride, padding, dilation, groups) + b.reshape(-1, *(1,) * len(stride))
    received = function(torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b), stride, padding, dilation, groups)
    agree(received, expected)
    single = function(torch.from_numpy(x[0]), torch.from_numpy(w), torch.from_numpy(b), stride, padding, dilation, groups)
    np.testing.assert_array_equal(single.numpy(), received.numpy()[0])


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_transposed_convolution_is_the_transpose(case):
    """<conv(x), y> = <x, conv_transpose(y)> for all x and y, output_padding making up what the stride leaves."""
    x, w, stride, padding, dilation, groups = case
    n = len(stride)
    x, w = tensor(*x), torch.from_numpy(array(*w, seed=1))
    out = getattr(F, f"conv{n}d")(x, w, None, stride, padding, dilation, groups)
    y = torch.from_numpy(array(*out.shape, seed=2))
    (expected,) = torch.autograd.grad((out * y).sum(), x)
    smallest = [(p - 1) * s - 2 * q + d * (k - 1) + 1 for p, s, q, d, k in zip(y.shape[2:], stride, padding, dilation, w.shape[2:])]
    extra = [m - s for m, s in zip(x.shape[2:], smallest)]
    received = getattr(F, f"conv_transpose{n}d")(y, w, None, stride, padding, extra, groups, dilation)
    agree(received, expected)


@pytest.mark.parametrize("case", CONVOLUTIONS[1:5:2] + CONVOLUTIONS[2:3], ids=str)
def test_derivatives_of_convolution(case):
    x, w, stride, padding, dilation, groups = case
    n = len(stride)
    x, w = tensor(*x), tensor(*w, seed=1)
    function = getattr(F, f"conv{n}d")
    assert gradcheck(lambda x, w: function(x, w, None, stride, padding, dilation, groups), (x, w))
    assert gradgradcheck(lambda x, w: function(x, w, None, stride, padding, dilation, groups), (x, w))


def test_derivatives_of_transposed_convolution():
    x, w, b = tensor(2, 4, 3), tensor(4, 2, 3, seed=1), tensor(4, seed=2)
    function = lambda x, w, b: F.conv_transpose1d(x, w, b, stride=2, padding=1, output_padding=2, groups=2, dilation=3)
    assert gradcheck(function, (x, w, b))
    assert gradgradcheck(function, (x, w, b))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_transposed_convolutions_with_much_output_padding_add_up_in_16_bits(dtype):
    """The products by each place of the kernel are rounded, and the sum after each of them; so is the weight's after each sample."""
    generator = np.random.default_rng(7)
    x, w = (torch.from_numpy(generator.uniform(-9, 9, shape)).to(dtype).requires_grad_() for shape in ((3, 4, 5), (4, 2, 4)))
    stride, dilation, padding, extra = 2, 3, 1, 2
    y = torch.nn.functional.conv_transpose1d(x, w, None, stride, padding, extra, 2, dilation)
    g = torch.from_numpy(generator.uniform(-9, 9, tuple(y.shape))).to(dtype)
    y.backward(g)

    def rounded(a):
        return torch.from_numpy(a).to(dtype).double().numpy()
    a, b, c = (t.detach().double().numpy() for t in (x, w, g))
    total, spread = np.zeros((3, 4, y.shape[-1] + 2 * padding)), np.zeros((3, 4, y.shape[-1] + 2 * padding))
    spread[:, :, padding:-padding] = c
    by_w, by_x = np.zeros(b.shape), np.zeros(a.shape)
    for k in range(4):
        at = slice(k * dilation, k * dilation + 4 * stride + 1, stride)
        columns = np.einsum("ngcp,gco->ngop", a.reshape(3, 2, 2, 5), b[..., k].reshape(2, 2, 2)).reshape(3, 4, 5)
        total[..., at] = rounded(total[..., at] + rounded(columns))
        by_x += np.einsum("ngop,gco->ngcp", spread[..., at].reshape(3, 2, 2, 5), b[..., k].reshape(2, 2, 2)).reshape(3, 4, 5)
        for i in range(3):
            product = np.einsum("gcp,gop->gco", a[i].reshape(2, 2, 5), spread[i, :, at].reshape(2, 2, 5)).reshape(4, 2)
            by_w[..., k] = rounded(by_w[..., k] + product)
    np.testing.assert_array_equal(y.detach().double().numpy(), total[..., padding:-padding])
    np.testing.assert_allclose(w.grad.double().numpy(), by_w, rtol=torch.finfo(dtype).eps)
    np.testing.assert_allclose(x.grad.double().numpy(), rounded(by_x), rtol=torch.finfo(dtype).eps)


def test_padding_by_name():
    x, w = torch.from_numpy(array(1, 2, 6)), torch.from_numpy(array(3, 2, 4, seed=1))
    assert F.conv1d(x, w, padding="same").shape == (1, 3, 6)
    expected = F.conv1d(F.pad(x, (1, 2)), w)
    agree(F.conv1d(x, w, padding="same"), expected)
    agree(F.conv1d(x, w, padding="valid"), F.conv1d(x, w))
    with pytest.raises(RuntimeError, match="strided"):
        F.conv1d(x, w, padding="same", stride=2)


@pytest.mark.parametrize("call, error, words", [
    (lambda: F.conv2d(torch.zeros(1, 3, 4, 4), torch.zeros(2, 4, 3, 3)), RuntimeError, "4 channels.*3 channels"),
    (lambda: F.conv2d(torch.zeros(1, 3, 2, 2), torch.zeros(2, 3, 3, 3)), RuntimeError, "Kernel size can't be greater"),
    (lambda: F.conv2d(torch.zeros(3, 4), torch.zeros(2, 3, 3, 3)), RuntimeError, "3D.*4D"),
    (lambda: F.conv1d(torch.zeros(1, 2, 5), torch.zeros(2, 2, 3), torch.zeros(3)), RuntimeError, "bias"),
    (lambda: F.conv1d(torch.zeros(1, 2, 5), torch.zeros(2, 2, 3, dtype=torch.float64)), RuntimeError, "dtype"),
    (lambda: F.conv_transpose1d(torch.zeros(1, 2, 5), torch.zeros(2, 2, 3), output_padding=1), RuntimeError, "output padding"),
    (lambda: F.max_pool2d(torch.zeros(1, 1, 4, 4), 2, padding=2), RuntimeError, "half of effective kernel size"),
    (lambda: F.avg_pool2d(torch.zeros(1, 1, 2, 2), 3), RuntimeError, "too small"),
    (lambda: F.pad(torch.zeros(1, 2, 3), (3, 0), "reflect"), RuntimeError, "less than the corresponding"),
    (lambda: F.interpolate(torch.zeros(1, 2, 3), 4, mode="bilinear"), NotImplementedError, "4 dimensions"),
    (lambda: F.interpolate(torch.zeros(1, 2, 3)), ValueError, "size or scale_factor"),
    (lambda: F.grid_sample(torch.zeros(1, 2, 3, 3), torch.zeros(2, 2, 2, 2)), RuntimeError, "batch size"),
    (lambda: F.fold(torch.zeros(1, 5, 4), (3, 3), 2), RuntimeError, "divisible"),
    (lambda: F.pixel_shuffle(torch.zeros(1, 3, 2, 2), 2), RuntimeError, "divisible by the square"),
])
def test_errors_say_what_was_expected(call, error, words):
    with pytest.raises(error, match=f"(?s){words}"):
        call()


# -- pooling ----------------------------------------------------------------------------------------------------

POOLS = [((2, 3, 9), (3,), (2,), (1,), (1,)), ((1, 2, 8, 7), (2, 3), (2, 2), (1, 1), (1, 1)), ((2, 7, 9), (3, 2), (1, 2), (0, 0), (2, 3)),
         ((1, 1, 24), (11,), (3,), (5,), (2,)), ((1, 2, 4, 5, 6), (2, 2, 3), (2, 1, 3), (0, 1, 0), (1, 1, 1))]


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_max_pool_is_its_definition(case, mode):
    shape, size, stride, padding, dilation = case
    n = len(size)
    x = array(*shape)
    padded = np.pad(x, [(0, 0)] * (x.ndim - n) + [(p, p) for p in padding], constant_values=-np.inf)
    values, indices = getattr(F, f"max_pool{n}d")(torch.from_numpy(x), size, stride, padding, dilation, return_indices=True)
    for place, window in windows(padded, size, stride, dilation):
        np.testing.assert_array_equal(values.numpy()[(..., *place)], window.max(tuple(range(-n, 0))))
    lead = x.shape[:x.ndim - n]
    picked = np.take_along_axis(x.reshape(*lead, -1), indices.numpy().reshape(*lead, -1), -1)
    np.testing.assert_array_equal(picked.reshape(values.shape), values.numpy())


def test_max_pool_prefers_the_first_of_equals_and_nan():
    x = torch.tensor([[1.0, 1.0, 0.0, float("nan"), 2.0, 3.0]])
    values, indices = F.max_pool1d(x, 2, return_indices=True)
    assert indices.tolist() == [[0, 3, 5]] and np.isnan(values[0, 1].item())


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_derivatives_of_pools(case):
    shape, size, stride, padding, dilation = case
    n, x = len(size), tensor(*shape)
    largest, mean = getattr(F, f"max_pool{n}d"), getattr(F, f"avg_pool{n}d")
    assert gradcheck(lambda x: largest(x, size, stride, padding, dilation, ceil_mode=True), (x,))
    assert gradcheck(lambda x: mean(x, size, stride, padding, ceil_mode=True, count_include_pad=False), (x,))
    assert gradgradcheck(lambda x: mean(x, size, stride, padding), (x,))


@pytest.mark.parametrize("size", [1, 4, 5, 8, (3, None), (8, 2)], ids=str)
def test_adaptive_pools_share_the_input_out(size):
    x = array(2, 3, 8, 6)
    out = [m if s is None else s for s, m in zip(size if isinstance(size, tuple) else (size, size), x.shape[2:])]
    mean, largest = F.adaptive_avg_pool2d(torch.from_numpy(x), size), F.adaptive_max_pool2d(torch.from_numpy(x), size)
    for i, j in itertools.product(*map(range, out)):
        rows, columns = (slice(k * m // o, -(-(k + 1) * m // o)) for k, m, o in zip((i, j), x.shape[2:], out))
        agree(mean.numpy()[..., i, j], x[..., rows, columns].mean((-2, -1)))
        np.testing.assert_array_equal(largest.numpy()[..., i, j], x[..., rows, columns].max((-2, -1)))
    assert gradcheck(lambda x: F.adaptive_avg_pool2d(x, size) + F.adaptive_max_pool2d(x, size), (tensor(1, 2, 8, 6),))


def test_unpooling_puts_elements_back():
    x = torch.from_numpy(array(1, 2, 6, 6))
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    back = F.max_unpool2d(values, indices, 2)
    np.testing.assert_array_equal(back.numpy(), np.where(back.numpy() != 0, x.numpy(), 0))
    np.testing.assert_array_equal(F.max_pool2d(back.abs(), 2).numpy(), values.abs().numpy())


def test_fractional_pools_take_the_given_places():
    x, samples = torch.from_numpy(array(2, 3, 9, 10)), torch.from_numpy(np.random.default_rng(0).random((2, 3, 2)))
    values, indices = F.fractional_max_pool2d(x, 2, (4, 5), return_indices=True, _random_samples=samples)
    assert values.shape == (2, 3, 4, 5)
    picked = np.take_along_axis(x.numpy().reshape(2, 3, -1), indices.numpy().reshape(2, 3, -1), -1)
    np.testing.assert_array_equal(picked.reshape(values.shape), values.numpy())


# -- padding, folding, resampling -------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, name", [("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_padding_is_numpys(kind, name, mode):
    x = array(2, 3, 5, 6)
    received = F.pad(torch.from_numpy(x), (2, 3, 1, 4), kind)
    np.testing.assert_array_equal(received.numpy(), np.pad(x, [(0, 0), (0, 0), (1, 4), (2, 3)], name))
    cut = F.pad(torch.from_numpy(x), (-1, 2, 0, -2), kind)
    np.testing.assert_array_equal(cut.numpy(), np.pad(x[:, :, :-2, 1:], [(0, 0), (0, 0), (0, 0), (0, 2)], name)
                                  if kind != "reflect" else cut.numpy())
    assert gradcheck(lambda x: F.pad(x, (2, 1, 1, 2), kind), (tensor(1, 2, 3, 4),))


@pytest.mark.parametrize("size, dilation, padding, stride", [(2, 1, 0, 2), (3, 1, 1, 1), ((2, 3), (2, 1), (1, 0), (1, 2)), (3, 2, 2, 3)])
def test_folding_is_the_transpose_of_unfolding(size, dilation, padding, stride):
    x = tensor(2, 3, 7, 8)
    columns = F.unfold(x, size, dilation, padding, stride)
    y = torch.from_numpy(array(*columns.shape, seed=1))
    (expected,) = torch.autograd.grad((columns * y).sum(), x)
    received = F.fold(y, (7, 8), size, dilation, padding, stride)
    agree(received, expected)
    assert gradcheck(lambda y: F.fold(y, (7, 8), size, dilation, padding, stride), (y[:1, :y.shape[1] // 3].detach().requires_grad_(),))


def test_unfolding_makes_convolution_a_product():
    x, w = torch.from_numpy(array(2, 3, 6, 5)), torch.from_numpy(array(4, 3, 3, 2, seed=1))
    product = w.reshape(4, -1) @ F.unfold(x, (3, 2), padding=1, stride=2)
    agree(product.reshape(2, 4, 3, 3), F.conv2d(x, w, padding=1, stride=2))


def test_pixels_shuffle_back():
    x = torch.from_numpy(array(2, 8, 3, 4))
    y = F.pixel_shuffle(x, 2)
    assert y.shape == (2, 2, 6, 8) and y[0, 0, 0, 1].item() == x[0, 1, 0, 0].item()
    np.testing.assert_array_equal(F.pixel_unshuffle(y, 2).numpy(), x.numpy())
    assert F.channel_shuffle(torch.arange(6.0).reshape(1, 6, 1), 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("kind", ["linear", "bilinear", "trilinear"])
def test_interpolation_keeps_straight_lines(kind):
    """A ramp stays a ramp, away from the borders."""
    n = {"linear": 1, "bilinear": 2, "trilinear": 3}[kind]
    ramp = torch.arange(8.0).reshape((1, 1) + (1,) * (n - 1) + (8,)).expand((1, 1) + (4,) * (n - 1) + (8,))
    out = F.interpolate(ramp, scale_factor=2, mode=kind)
    expected = np.broadcast_to((np.arange(4, 12) + 0.5) / 2 - 0.5, out.shape[:-1] + (8,))
    agree(out.numpy()[..., 4:12], expected)
    corners = F.interpolate(ramp, size=(4,) * (n - 1) + (15,), mode=kind, align_corners=True)
    agree(corners.numpy()[..., 2:13], np.broadcast_to(np.arange(2, 13) / 2, corners.shape[:-1] + (11,)))
    assert gradcheck(lambda x: F.interpolate(x, size=(3,) * n, mode=kind), (tensor(1, 2, *(5,) * n),))


@pytest.mark.parametrize("antialias", [False, True])
def test_cubic_interpolation_weighs_to_one_and_mirrors(antialias):
    flat, x = torch.full((1, 1, 5, 6), 3.0), torch.from_numpy(array(1, 2, 5, 6))
    constant = F.interpolate(flat, (3, 11), mode="bicubic", antialias=antialias)
    agree(constant, np.full((1, 1, 3, 11), 3.0))
    out = F.interpolate(x, (3, 11), mode="bicubic", antialias=antialias)
    mirrored = F.interpolate(x.flip(-1), (3, 11), mode="bicubic", antialias=antialias)
    agree(out.flip(-1), mirrored)
    assert gradcheck(lambda x: F.interpolate(x, (3, 7), mode="bicubic", antialias=antialias), (tensor(1, 1, 5, 6),))


def test_a_grid_of_the_identity_samples_the_input():
    x = torch.from_numpy(array(2, 3, 4, 5))
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]] * 2, dtype=torch.float64)
    kinds, paddings = ["bilinear", "nearest", "bicubic"], ["zeros", "border", "reflection"]
    for align, order in ((False, paddings), (True, paddings[1:] + paddings[:1])):
        grid = F.affine_grid(theta, (2, 3, 4, 5), align_corners=align)
        for kind, padding in zip(kinds, order):
            agree(F.grid_sample(x, grid, kind, padding, align), x)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_derivatives_of_grid_sample(kind, padding):
    grid = (torch.from_numpy(array(1, 3, 2, 2, seed=1)) * 0.9).requires_grad_()
    assert gradcheck(lambda x, g: F.grid_sample(x, g, kind, padding, False), (tensor(1, 2, 4, 3), grid))


# -- against torch ----------------------------------------------------------------------------------------------

@pytest.mark.oracle
@pytest.mark.parametrize("call", [
    lambda t, x: t.nn.functional.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    lambda t, x: t.nn.functional.avg_pool2d(x, (3, 2), 2, (1, 0), True, False),
    lambda t, x: t.nn.functional.lp_pool2d(x.abs(), 3.0, 2),
    lambda t, x: t.nn.functional.interpolate(x, (5, 13), mode="bilinear", antialias=True),
    lambda t, x: t.nn.functional.interpolate(x, (5, 13), mode="bicubic", antialias=True),
    lambda t, x: t.nn.functional.interpolate(x, scale_factor=(0.7, 1.9), mode="nearest-exact"),
    lambda t, x: t.nn.functional.interpolate(x, scale_factor=1.7, mode="bicubic", recompute_scale_factor=True),
    lambda t, x: t.nn.functional.interpolate(x, (4, 3), mode="area"),
    lambda t, x: t.nn.functional.pad(x, (3, 1, 2, 2), "reflect"),
    lambda t, x: t.nn.functional.unfold(x, (2, 3), 2, 1, 2),
    lambda t, x: t.nn.functional.adaptive_max_pool2d(x, (3, 4)),
])
def test_values_and_derivatives_are_torchs(call):
    oracle = pytest.importorskip("torch")
    x = array(2, 3, 8, 9, dtype=np.float32)
    theirs, ours = oracle.from_numpy(x).clone().requires_grad_(), torch.from_numpy(x).clone().requires_grad_()
    expected, received = call(oracle, theirs), call(torch, ours)
    agree(received, expected)
    (expected * expected).sum().backward()
    (received * received).sum().backward()
    agree(ours.grad, theirs.grad)


@pytest.mark.oracle
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_places_between_elements_are_rounded_to_float32(mode):
    oracle = pytest.importorskip("torch")
    x = 9 * array(3, 2, 10, 20, dtype=np.float32)
    ours, theirs = (library.nn.functional.interpolate(library.from_numpy(x), scale_factor=(1.7, 0.9), mode=mode, antialias=True)
                    for library in (torch, oracle))
    agree(ours, theirs)


@pytest.mark.parametrize("batch, size", [(1, (64, 3, 5)), (2, (12, 24, 9)), (3, (7, 31, 2))])
def test_weight_gradients_of_few_samples_are_sums_of_partial_sums(batch, size):
    x, w = array(batch, 2, *size, dtype=np.float32), array(3, 2, 1, 2, 1, dtype=np.float32)
    weight = torch.from_numpy(w).requires_grad_()
    y = F.conv3d(torch.from_numpy(x), weight)
    (gradient,) = torch.autograd.grad(y.sum(), weight)
    exact = np.stack([x[:, :, :, k:size[1] - 1 + k].astype(np.float64).sum((0, 2, 3, 4)) for k in (0, 1)], -1)
    agree(gradient.numpy()[:, :, 0, :, 0], np.broadcast_to(exact, (3, 2, 2)))


def test_binary_cross_entropy_refuses_what_is_no_probability():
    target = torch.tensor([0.0, 1.0])
    for bad in ([0.2, 1.5], [-0.1, 0.5], [float("nan"), 0.5]):
        for _ in range(6):      # recorded anew and again
            F.binary_cross_entropy(torch.tensor([0.2, 1.0]), target)
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            F.binary_cross_entropy(torch.tensor(bad), target)


def test_the_gradient_of_a_large_weight_is_one_product():
    """Partial sums of it, one for each sample, would be written and read for longer than they take to compute."""
    random = np.random.default_rng(0)
    x, w = (random.integers(-3, 4, shape).astype(np.float32) for shape in ((4, 200, 5, 6), (150, 200, 3, 3)))
    weight = torch.from_numpy(w).requires_grad_()
    y = F.conv2d(torch.from_numpy(x), weight, padding=1)
    g = random.integers(-3, 4, tuple(y.shape)).astype(np.float32)
    with Recorder() as recorder:
        y.backward(torch.from_numpy(g))
        found = weight.grad.numpy()
    seen = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    np.testing.assert_array_equal(found, np.einsum("nopq,ncpqij->ocij", g, seen[:, :, :5, :6], optimize=True))
    kernels = recorder.kernels()
    assert not any(node[1] == "sum" for k in kernels for node in k["nodes"])


def test_bytes_are_interpolated_with_whole_weights():
    """Of an element at the border, which is read several times, the weights are added before they are rounded, as in PyTorch."""
    x = torch.tensor([[[[122, 174, 183, 197], [129, 104, 87, 200]]]], dtype=torch.uint8)
    assert F.interpolate(x, (3, 5), mode="bicubic").tolist() == [[[
        [118, 163, 191, 194, 197], [125, 136, 133, 153, 203], [132, 109, 74, 111, 208]]]]
