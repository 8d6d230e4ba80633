"""What torch.autocast casts, on the CPU and on a GPU, against PyTorch itself.

PyTorch tells without a GPU what it would cast there: tensors of its FakeTensorMode are on "cuda" and hold nothing. So do those of the
driver of the tests, which carries nothing out.
"""

from __future__ import annotations

import warnings

import pytest

import antorcha

# h: 16-bit floats, f: float32, i: integers, of these sizes; e: the identity in 16 bits
NAMES = {
    "torch.{}(h(3) * 0.5)": "abs acos asin atan ceil cos cosh erf erfinv exp exp2 expm1 lgamma log log10 log1p log2 neg reciprocal relu "
                            "rsqrt sigmoid sin sinh sqrt square tan tanh",
    "torch.{}(h(3), f(3))": "add mul div pow atan2 maximum eq ne",
    "torch.{}(h(3), h(3))": "add mul div pow atan2 hypot dist dot vdot outer inner logaddexp float_power",
    "torch.{}(h(2, 4))": "sum mean prod std var amax median nansum norm max all argmax std_mean var_mean trapezoid trace",
    "torch.{}(h(2, 4), 1)": "sum mean prod std cumsum cumprod logsumexp softmax log_softmax logcumsumexp",
    "F.{}(h(2, 4))": "relu gelu elu silu mish softplus softsign tanhshrink hardswish logsigmoid glu dropout normalize",
    "F.{}(h(3), h(3))": "mse_loss l1_loss smooth_l1_loss huber_loss kl_div poisson_nll_loss hinge_embedding_loss soft_margin_loss "
                        "binary_cross_entropy_with_logits",
    "F.{}(h(2, 4), h(2, 4))": "cosine_similarity pairwise_distance multilabel_soft_margin_loss",
    "torch.{}(f(2, 3), f(3, 2))": "mm matmul chain_matmul",
    "torch.linalg.{}(e(2))": "norm vector_norm matrix_norm",
}
CALLS = [text.format(name) for text, names in NAMES.items() for name in names.split()] + """
h(3) ** 2
2 ** h(3)
h(3).exp_()
h(3).pow_(2)
f(2, 3) @ f(3, 2)
h(2, 3) @ f(3, 2)
torch.mm(f(2, 3), f(3, 2), out=f(2, 2))
torch.exp(h(3), out=h(3))
torch.sum(h(2, 4), dtype=torch.float16)
h(2, 4).softmax(-1, dtype=torch.float16)
f(3).double().exp()
h(3).double() @ h(3).double()
torch.inner(f(2, 3), f(2, 3))
torch.bmm(f(1, 2, 3), f(1, 3, 2))
torch.matmul(f(3), f(3))
torch.mv(f(2, 3), f(3))
torch.addmm(f(2, 2), f(2, 3), f(3, 2))
torch.addmv(f(2), f(2, 3), f(3))
torch.addr(f(2, 3), f(2), f(3))
torch.addbmm(f(2, 2), f(1, 2, 3), f(1, 3, 2))
torch.baddbmm(h(1, 2, 2), f(1, 2, 3), f(1, 3, 2))
torch.linalg.multi_dot([f(2, 3), f(3, 2), f(2, 2)])
torch.linalg.vecdot(f(2, 3), f(2, 3))
torch.linalg.matrix_power(f(2, 2), 2)
torch.linalg.matmul(f(2, 3), f(3, 2))
torch.einsum("ab,bc->ac", f(2, 3), f(3, 2))
torch.tensordot(f(2, 3), f(3, 2), 1)
torch.tensordot(h(2, 3), h(3, 2), 1)
torch.cross(h(2, 3), h(2, 3), dim=1)
torch.addcmul(h(3), f(3), h(3))
torch.addcdiv(f(3), h(3), h(3))
torch.cat([h(3), f(3)])
torch.stack([h(3), f(3)])
torch.where(h(3) > 0, h(3), f(3))
torch.renorm(h(2, 4), 2, 0, 1.0)
torch.cdist(h(3, 4), h(3, 4))
torch.frobenius_norm(h(3, 4), dim=1)
torch.norm(h(3, 4), p=1)
h(3, 4).norm(dim=1, keepdim=True)
F.linear(h(2, 3), f(4, 3), f(4))
F.bilinear(f(2, 3), f(2, 4), f(5, 3, 4))
F.conv1d(f(1, 1, 4), f(1, 1, 3))
F.conv2d(f(1, 1, 4, 4), f(1, 1, 3, 3), f(1))
F.conv_transpose2d(f(1, 1, 4, 4), f(1, 1, 3, 3))
torch.conv_tbc(f(4, 1, 1), f(3, 1, 2), f(2))
F.prelu(h(2, 4), f(1))
F.batch_norm(h(2, 4), None, None, training=True)
F.layer_norm(h(2, 4), (4,), f(4), f(4))
F.rms_norm(h(2, 4), (4,))
F.group_norm(h(2, 4), 2)
F.instance_norm(h(1, 2, 4))
F.local_response_norm(h(2, 4, 4), 2)
F.max_pool2d(h(1, 1, 4, 4), 2)
F.avg_pool2d(h(1, 1, 4, 4), 2)
F.lp_pool2d(h(1, 1, 4, 4), 2, 2)
F.interpolate(h(1, 1, 4), scale_factor=2)
F.interpolate(h(1, 1, 4), scale_factor=2, mode="linear")
F.interpolate(h(1, 1, 4, 4), scale_factor=2, mode="nearest-exact")
F.interpolate(h(1, 1, 4, 4), scale_factor=2, mode="bilinear")
F.interpolate(h(1, 1, 4, 4), scale_factor=2, mode="bicubic")
F.interpolate(h(1, 1, 4, 4), scale_factor=2, mode="area")
F.interpolate(h(1, 1, 4, 4, 4), scale_factor=2, mode="trilinear")
F.pixel_shuffle(h(1, 4, 2, 2), 2)
F.embedding(i(2), h(3, 4))
F.scaled_dot_product_attention(f(1, 1, 3, 4), f(1, 1, 3, 4), f(1, 1, 3, 4))
F.nll_loss(h(2, 4), i(2))
F.cross_entropy(h(2, 4), i(2))
F.margin_ranking_loss(h(3), h(3), h(3))
F.cosine_embedding_loss(h(3, 4), h(3, 4), i(3) + 1)
F.triplet_margin_loss(h(3, 4), h(3, 4), h(3, 4))
F.multi_margin_loss(h(2, 4), i(2))
torch.rnn_tanh_cell(f(2, 3), f(2, 4), f(4, 3), f(4, 4), f(4), f(4))
torch.lstm_cell(f(2, 3), (f(2, 4), f(2, 4)), f(16, 3), f(16, 4), f(16), f(16))
""".strip().splitlines()
ON_CPU = """
torch.gru_cell(f(2, 3), f(2, 4), f(12, 3), f(12, 4), f(12), f(12))
nn.GRU(3, 4)(f(5, 2, 3))
nn.RNN(3, 4)(f(5, 2, 3))
nn.LSTM(3, 4)(h(5, 2, 3))
nn.MultiheadAttention(4, 2)(f(3, 1, 4), f(3, 1, 4), f(3, 1, 4))
F.grid_sample(h(1, 1, 4, 4), f(1, 2, 2, 2), align_corners=False)
F.affine_grid(f(1, 2, 3), (1, 1, 2, 2), align_corners=False)
F.avg_pool3d(h(1, 1, 4, 4, 4), 2)
F.adaptive_avg_pool3d(h(1, 1, 4, 4, 4), 2)
F.max_pool3d(h(1, 1, 4, 4, 4), 2)
F.fractional_max_pool2d(h(1, 1, 4, 4), 2, output_size=2)
F.pad(h(1, 1, 3), (1, 1), mode="reflect")
F.pad(h(1, 1, 3, 3), (1, 1, 1, 1), mode="replicate")
F.pad(h(1, 1, 3, 3), (1, 1, 1, 1), mode="circular")
torch.quantile(h(4), 0.5)
torch.polar(h(3), h(3))
torch.view_as_complex(h(3, 2))
torch.fft.fft(h(4))
torch.fft.irfft2(h(4, 4))
torch.stft(h(16), 4, window=h(4), return_complex=True)
torch.index_copy(h(3), 0, i(1), f(1))
torch.linalg.cholesky(e(2))
torch.linalg.solve(e(2), e(2))
torch.linalg.svd(e(2))
torch.linalg.eigh(e(2))
torch.linalg.qr(e(2))
torch.inverse(e(2))
torch.pinverse(e(2))
torch.fake_quantize_per_tensor_affine(h(3), 0.1, 0, 0, 255)
""".strip().splitlines()
ON_GPU = {      # where PyTorch would ask for the device
    "F.grid_sample(h(1, 1, 4, 4), f(1, 2, 2, 2), align_corners=False)": "float32",
    "F.grid_sample(h(1, 1, 4, 4), h(1, 2, 2, 2), align_corners=False)": "half",
    "torch.scatter_add(h(2, 2), 0, i(2, 2), f(2, 2))": "float32",
    "torch.index_put(h(3), (i(1),), f(1))": "float32",
    "nn.GRU(3, 4, device=device)(f(5, 2, 3))": ["half", "half"],
    "nn.LSTM(3, 4, device=device)(h(5, 2, 3))": ["half", ["half", "half"]],
    "nn.GRUCell(3, 4, device=device)(f(2, 3))": "half",
}


def found(torch, device: str, half, calls) -> dict:
    """The dtypes of what calls give."""
    def of(result):
        if isinstance(result, torch.Tensor):
            name = str(result.dtype).removeprefix("torch.")
            return "half" if result.dtype is half else name
        return [of(x) for x in result]

    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "device": device,
             "h": lambda *sizes: torch.ones(*sizes, device=device, dtype=half), "f": lambda *sizes: torch.ones(*sizes, device=device),
             "i": lambda *sizes: torch.zeros(*sizes, device=device, dtype=torch.long),
             "e": lambda n: torch.eye(n, device=device).to(half)}
    results = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = torch.get_autocast_dtype(device)
        torch.set_autocast_dtype(device, half)
        torch.set_autocast_enabled(device, True)
        try:
            for call in calls:
                results[call] = of(eval(call, names))
        finally:
            torch.set_autocast_enabled(device, False)
            torch.set_autocast_dtype(device, before)
    return results


def different(ours: dict, theirs: dict) -> dict:
    return {call: (ours[call], theirs[call]) for call in ours if ours[call] != theirs[call]}


@pytest.mark.oracle
def test_on_the_cpu():
    torch = pytest.importorskip("torch")
    calls = CALLS + ON_CPU
    assert not different(found(antorcha, "cpu", antorcha.bfloat16, calls), found(torch, "cpu", torch.bfloat16, calls))


@pytest.mark.oracle
def test_on_a_gpu(gpus):
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    gpus.execute = "none"
    with FakeTensorMode(), torch.no_grad():
        theirs = found(torch, "cuda", torch.float16, CALLS)
    assert not different(found(antorcha, "cuda", antorcha.float16, CALLS), theirs)


def test_on_a_gpu_what_pytorch_asks_the_device_for(gpus):
    gpus.execute = "none"
    assert not different(found(antorcha, "cuda", antorcha.float16, ON_GPU), ON_GPU)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_derivatives_keep_the_dtypes(gpus, device):
    """Also within autocast, and those of what an operator consists of."""
    torch, F = antorcha, antorcha.nn.functional
    gpus.execute = "none"
    for compute in (lambda x: x.exp().sum(), lambda x: F.layer_norm(x, (3,)).sum(), lambda x: x.std(), lambda x: (x @ x.t()).sum(),
                    lambda x: F.batch_norm(x, None, None, training=True).sum(), lambda x: (x / torch.ones(2, 1, device=device)).mean()):
        x = torch.ones(2, 3, device=device, dtype=torch.float16, requires_grad=True)
        with torch.autocast(device, dtype=torch.float16):
            (g,) = torch.autograd.grad(compute(x), x)
            assert torch.is_autocast_enabled(device)
        assert g.dtype is torch.float16
