"""Operators of 16-bit floats and of bytes: where PyTorch rounds, and how it resamples images of bytes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import antorcha as at
import antorcha.nn.functional

# Expressions of T (the module), F (its functions), x, y (4, 6), w (6,) and v (6,), which is zero: 16-bit floats.
EXPRESSIONS = """
F.normalize(x, dim=1)                       F.normalize(x, 0.5, 0)                      F.cosine_similarity(x, y)
F.pairwise_distance(x, y)                   T.linalg.vector_norm(x, 2, 1)               T.linalg.vector_norm(x, 3, 1)
T.atan2(x, y)
T.renorm(x, 2, 0, 0.5)                      F.mish(x)                                   T.special.entr(x.abs())
T.xlogy(x, y.abs())                         T.trapezoid(x, y)
F.batch_norm(x, None, None, w, w, True)     F.batch_norm(x, v, v + 1, w, w)             F.batch_norm(x, v, v + 1, w)
T.mvlgamma(x.abs() + 2, 3)                  T.gradient(x, edge_order=2)[0]
T.native_batch_norm(x, w, w, None, None, True, 0.1, 1e-5)[0]
F.conv1d(x[None], w.reshape(1, 2, 3)[:, :1].expand(2, 4, 3), w[:2])                     T.masked.normalize(x, 2.0, 1)
F.layer_norm(x, (6,), w, w)                 F.layer_norm(x, (4, 6))                     F.group_norm(x, 2, w, w)
T.native_layer_norm(x, (6,), w, w, 1e-5)[0]                                             F.local_response_norm(x[None], 2)
T.logit(y.sigmoid())                        T.logit(x.sigmoid(), 0.2)                   T.sinc(x)
T.ldexp(x, w)                               T.addr(x, w[:4], w, beta=0.2, alpha=0.6)    2.5 / x
F.log_softmax(x, 1)                         F.log_softmax(x, 0)                         F.cross_entropy(x, y.softmax(1))
T.linalg.vector_norm(x, 3, 1)               T.linalg.vector_norm(x, 1.5, 1)             T.linalg.vector_norm(x, 0.5, 1)
T.cummax(x, 1)[0]                           T.dist(x, y)                                T.special.xlog1py(x, y.abs())
F.cosine_embedding_loss(x, y, T.ones(4))    F.cosine_embedding_loss(x, y, -T.ones(4))
F.linear_cross_entropy(x, y, T.arange(4) % 3)                                           x.as_strided((4, 3, 4), (6, 1, 1))
F.linear_cross_entropy(x, y, T.arange(4) % 3, options=T.nn.LinearCrossEntropyOptions())
""".split("\n")
EXPRESSIONS = [e.strip() for line in EXPRESSIONS for e in line.split("   ") if e.strip()]


def outcome(module, expression: str, name: str) -> list:
    """The value and the derivatives, in float32."""
    rng = np.random.RandomState(1)
    leaves = [module.tensor(rng.standard_normal(s).astype(np.float32)).to(getattr(module, name)).requires_grad_()
              for s in ((4, 6), (4, 6), (6,))]
    value = eval(expression, dict(T=module, F=module.nn.functional, x=leaves[0], y=leaves[1], w=leaves[2],
                                  v=leaves[2].detach() * 0))
    cotangent = module.cos(module.arange(value.numel(), dtype=module.float32)).to(value.dtype).reshape(value.shape)
    derivatives = module.autograd.grad(value, leaves, cotangent, allow_unused=True)
    return [None if t is None else t.detach().float().numpy() for t in (value, *derivatives)]


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_roundings_are_pytorchs(expression, name):
    torch = pytest.importorskip("torch")
    step = 2.0 ** (-10 if name == "float16" else -7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = outcome(at, expression, name), outcome(torch, expression, name)
    for a, b in zip(ours, theirs):
        if a is not None or b is not None:
            a = np.zeros_like(b) if a is None else a
            b = np.zeros_like(a) if b is None else b
            np.testing.assert_allclose(a, b, rtol=2 * step, atol=step * 0.1)


RESIZED = [dict(size=(7, 5), mode="bilinear"), dict(size=(7, 5), mode="bicubic"),
           dict(scale_factor=2.0, mode="bilinear", align_corners=True), dict(size=(3, 9), mode="bicubic", antialias=True),
           dict(size=(4, 4), mode="bilinear", antialias=True),
           dict(size=(11, 6), mode="nearest")]


@pytest.mark.oracle
@pytest.mark.parametrize("options", RESIZED)
def test_images_of_bytes_are_resampled_in_fixed_point(options):
    torch = pytest.importorskip("torch")
    image = np.random.RandomState(2).randint(0, 256, (2, 3, 11, 8)).astype(np.uint8)
    ours = at.nn.functional.interpolate(at.tensor(image), **options).numpy()
    np.testing.assert_array_equal(ours, torch.nn.functional.interpolate(torch.tensor(image), **options).numpy())


@pytest.mark.parametrize("options", RESIZED)
def test_a_plain_image_stays_plain(options):
    image = at.full((1, 2, 11, 8), 200, dtype=at.uint8)
    assert (at.nn.functional.interpolate(image, **options) == 200).all()


def test_a_hash_is_the_exclusive_or_of_bits():
    x = at.tensor([[1.5, -2.0], [3.0, 1.5]])
    bits = np.array([[1.5, -2.0], [3.0, 1.5]]).view(np.uint64)
    assert at.hash_tensor(x, 1).tolist() == np.bitwise_xor.reduce(bits, 1).tolist() and at.hash_tensor(x).dtype is at.uint64
    assert at.hash_tensor(at.stack([x, x])).item() == 0 and at.hash_tensor(x.half(), 0, True).shape == (1, 2)
    assert at.hash_tensor(at.tensor([-1, 5], dtype=at.int8)).item() == 2 ** 64 - 6
    with pytest.raises(NotImplementedError, match="complex"):
        at.hash_tensor(at.tensor([1j]))


def test_statistics_of_a_batch_are_returned():
    x = at.tensor(np.random.RandomState(3).standard_normal((5, 3, 4)))
    out, mean, scale = at.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-14)
    np.testing.assert_allclose(mean.numpy(), x.mean((0, 2)).numpy(), rtol=1e-12)
    np.testing.assert_allclose(scale.numpy(), 1 / x.var((0, 2), correction=0).sqrt().numpy(), rtol=1e-12)
    running = at.zeros(3, dtype=at.float64), at.ones(3, dtype=at.float64)
    legit = at._native_batch_norm_legit(x, None, None, *running, False, 0.1, 0.0)
    assert legit[1].shape == (0,) and (legit[0] == x).all()
    assert at._native_batch_norm_legit(x, None, None, True, 0.1, 1e-5)[0].shape == out.shape


def test_memory_of_an_array_does_not_grow():
    x = at.from_numpy(np.ones(3))
    assert x.resize_(2).tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="not resizable"):
        x.resize_(6)
    with pytest.raises(RuntimeError, match="not resizable"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        at.cat([at.ones(2), at.ones(2)], out=at.from_numpy(np.ones(1, np.float32)))
    known = at.ones(3)
    known.data_ptr()
    assert known.resize_(5).tolist()[:3] == [1.0] * 3


def test_refusals():
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        at.nn.functional.group_norm(at.ones(1), 1)
    with pytest.raises(ValueError, match="min_val"):
        at.nn.functional.hardtanh(at.ones(1), 0.5, -0.5)
    with pytest.raises(RuntimeError, match="unsigned"):
        at.nn.functional.hardtanh(at.ones(1, dtype=at.uint8))
    assert at.nn.functional.hardtanh(at.tensor([-3, 0, 3])).tolist() == [-1, 0, 1]
    with pytest.raises(ValueError, match="not a valid value"):
        at.nn.functional.multi_margin_loss(at.ones(5, 4), at.ones(5), reduction="abc")
    out = at.empty(2, 3)
    assert at.nn.functional.normalize(at.ones(2, 3), out=out) is out and out[0, 0] == np.float32(1 / np.sqrt(3))


def test_the_dispatchers_operators():
    x = at.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
    values, places = at.nn.functional.max_pool2d(x, 2, return_indices=True)
    back = at.ops.aten.max_pool2d_with_indices_backward(at.ones_like(values), x, [2, 2], [2, 2], [0, 0], [1, 1], False, places)
    assert back.flatten().nonzero().flatten().tolist() == [5, 7, 13, 15]
    small = at.ops.aten._upsample_bilinear2d_aa(x, [2, 2], False)
    wanted = at.nn.functional.interpolate(x, (2, 2), mode="bilinear", antialias=True)
    assert at.allclose(small, wanted)
    assert at.allclose(at.ops.aten._upsample_bilinear2d_aa(x, None, False, scale_factors=[0.5, 0.5]), wanted)


def test_moments_of_layers_and_groups_are_returned():
    x = at.tensor(np.random.RandomState(4).standard_normal((2, 4, 3)))
    out, mean, scale = at.native_layer_norm(x, (4, 3), None, None, 0.0)
    assert mean.shape == scale.shape == (2, 1, 1) and at.allclose((x - mean) * scale, out)
    out, mean, scale = at.native_group_norm(x, None, None, 2, 4, 3, 2, 0.0)
    assert mean.shape == scale.shape == (2, 2)
    assert at.allclose(((x.reshape(2, 2, 6) - mean[..., None]) * scale[..., None]).reshape(2, 4, 3), out)
    assert at.ops.aten._batch_norm_with_update(x, None, None, at.zeros(4).double(), at.ones(4).double(), 0.1, 1e-5)[3].dtype is at.uint8


def test_products_of_sparse_rows_are_reduced():
    dense = at.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    other = at.tensor([[1.0, -1.0], [2.0, 1.0], [5.0, 3.0]], requires_grad=True)
    sparse = dense.to_sparse_csr().requires_grad_()
    assert at.sparse.mm(sparse, other, "mean").tolist() == [[5.5, 2.5], [0.0, 0.0], [5.5, 0.5]]
    assert at.sparse.mm(sparse, other, "amax").tolist() == [[10.0, 6.0], [0.0, 0.0], [8.0, 4.0]]
    by_values, by_other = at.autograd.grad(at.sparse.mm(sparse, other, "amax").sum(), [sparse, other])
    assert by_values.layout is at.sparse_csr and by_values.values().tolist() == [0.0, 8.0, 0.0, 3.0]
    assert by_other.tolist() == [[0.0, 0.0], [4.0, 4.0], [2.0, 2.0]]


def test_a_running_log_of_sums_of_large_numbers_is_differentiated_precisely():
    x = at.tensor([900.0, -700.0, 899.0, 880.0], requires_grad=True)
    g = at.tensor([1.0, -2.0, 0.5, 3.0])
    exact = x.detach().double().requires_grad_()
    given, = at.autograd.grad(x.logcumsumexp(0), x, g)
    wanted, = at.autograd.grad(at.stack([exact[:i + 1].logsumexp(0) for i in range(4)]), exact, g.double())
    np.testing.assert_allclose(given.numpy(), wanted.numpy(), rtol=2e-7, atol=1e-12)


def test_options_of_a_linear_cross_entropy():
    options = at.nn.LinearCrossEntropyOptions(batch_chunk_size=2, chunking_method="aspect_ratio:2")
    x, w, t = at.ones(3, 2), at.eye(2), at.tensor([0, 1, 1])
    assert at.nn.functional.linear_cross_entropy(x, w, t, options=options).item() == pytest.approx(np.log(2))
    for wrong in (dict(acc_policy="fast"), dict(chunking_method="aspect_ratio:0"), dict(batch_chunk_size=0), dict(acc_dtype=at.int8)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            at.nn.LinearCrossEntropyOptions(**wrong)
    with pytest.raises(RuntimeError, match="dimensionality"):
        at.nn.functional.linear_cross_entropy(at.ones(2, 3, 2), w, t)


def test_invalid_input_of_activations_and_norms():
    with pytest.raises(RuntimeError, match="softshrink"):
        at.nn.functional.softshrink(at.ones(1), -0.5)
    for shape, weight in (((), None), ((2,), at.ones(3)), ((3,), None)):
        with pytest.raises(RuntimeError, match="rms_norm"):
            at.nn.functional.rms_norm(at.ones(4, 2), shape, weight)


def test_complex_functions_far_from_0():
    z = at.tensor([-8.0 + 0.5j, 30 - 2j, -0.999 + 1e-3j])
    np.testing.assert_allclose(z.atanh().numpy(), np.arctanh(z.numpy().astype(np.complex128)), rtol=1e-5)
    np.testing.assert_allclose(at.nn.functional.silu(z).numpy(), z.numpy() / (1 + np.exp(-z.numpy().astype(np.complex128))), rtol=1e-5)
