"""On a real GPU: what the other files check in the simulator. Skipped, with the reason, where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import test_cuda_chain
import test_cuda_library
import test_cuda_records

import antorcha as torch
from antorcha.graph import chain, flush
from antorcha.runtime import cublas, cuda

REASON = cuda.unavailable()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.mark.parametrize("name", test_cuda_records.NAMES)
def test_records_agree(name):
    test_cuda_records.compare(name)


@pytest.mark.parametrize("program, tolerance", [
    (test_cuda_chain.attention(4, 8, 300, 64, True), 1e-3), (test_cuda_chain.attention(2, 12, 1024, 64, True, torch.bfloat16, 2), 6e-2),
    (test_cuda_chain.perceptron(5000, [30, 100, 100, 7]), 1e-3), (test_cuda_chain.perceptron(4000, [64, 256, 64], torch.float16), 3e-2)])
def test_chains(program, tolerance, monkeypatch):
    monkeypatch.setattr(chain, "GPU", chain.GPU._replace(small=1, ns_per_packed=0.0, ns_per_shared=0.0, ns_per_call=0.0))
    flush.clear()
    got, plan = test_cuda_chain.computed(program, "cuda")
    assert "chain" in [k["kind"] for k in plan.kernels()]
    for x, y in zip(got, test_cuda_chain.computed(program, "cpu")[0]):
        assert np.abs(x - y).max() <= tolerance * max(1.0, np.abs(y).max())


@pytest.mark.parametrize("case", test_cuda_library.CASES)
@pytest.mark.parametrize("own", [True, False])
def test_products(case, own, monkeypatch):
    if own:
        monkeypatch.setattr(cublas, "library", lambda: None)
    elif cublas.library() is None:
        pytest.skip("antorcha[cuda] is not installed")
    flush.clear()
    compute, _, kind = test_cuda_library.CASES[case]
    got, want = compute(lambda x: x.cuda()).cpu().double().numpy(), compute(lambda x: x).double().numpy()
    tolerance = 1e-2 if kind in ("bf16", "f16") else 1e-4
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_large_products_in_every_precision():
    for dtype, precision, tolerance in ((torch.float32, "highest", 1e-4), (torch.float32, "high", 2e-2), (torch.bfloat16, "highest", 2e-2),
                                        (torch.float16, "highest", 5e-3)):
        torch.set_float32_matmul_precision(precision)
        try:
            a, b = torch.randn(700, 900).to(dtype), torch.randn(900, 520).to(dtype)
            got, want = (a.cuda() @ b.cuda()).cpu().float().numpy(), (a.float() @ b.float()).numpy()
        finally:
            torch.set_float32_matmul_precision("highest")
        assert np.abs(got - want).max() <= tolerance * np.abs(want).max()


def test_training_and_graphs():
    from test_cuda import train

    torch.cuda.manual_seed(0)
    got, model = train("cuda", steps=12)
    torch.manual_seed(0)
    want, _ = train("cpu", steps=12)
    np.testing.assert_allclose(got, want, rtol=1e-3)
    test_cuda_library.test_a_training_step_is_captured(None)


def test_memory_and_streams():
    before = torch.cuda.memory_allocated()
    x = torch.randn(1 << 20).pin_memory().to("cuda", non_blocking=True)
    stream, start, end = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        start.record()
        y = (x * 2).sum()
        end.record()
    x.record_stream(stream)
    torch.cuda.synchronize()
    assert start.elapsed_time(end) >= 0 and abs(y.item() - 2 * x.cpu().sum().item()) < 1
    assert torch.cuda.memory_allocated() >= before + (4 << 20)
