"""On a real GPU: what the other files check in the simulator. Skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest
import test_cuda_chain
import test_cuda_library
import test_cuda_records
from tolerance import agree

import antorcha as torch
from antorcha.graph import chain, flush
from antorcha.runtime import cublas, cuda

REASON = cuda.unavailable()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.mark.parametrize("case", test_cuda_records.WHOLE)
def test_records_agree(case):
    test_cuda_records.compare(case)


@pytest.mark.parametrize("program", [
    test_cuda_chain.attention(4, 8, 300, 64, True), test_cuda_chain.attention(2, 12, 1024, 64, True, torch.bfloat16, 2),
    test_cuda_chain.perceptron(5000, [30, 100, 100, 7]), test_cuda_chain.perceptron(4000, [64, 256, 64], torch.float16)])
def test_chains(program, monkeypatch):
    monkeypatch.setattr(chain, "GPU", chain.GPU._replace(small=1, ns_per_packed=0.0, ns_per_shared=0.0, ns_per_call=0.0))
    flush.clear()
    got, plan = test_cuda_chain.computed(program, "cuda")
    assert "chain" in [k["kind"] for k in plan.kernels()]
    agree(got, test_cuda_chain.computed(program, "cpu")[0], "gpu")


@pytest.mark.parametrize("case", test_cuda_library.CASES)
@pytest.mark.parametrize("own", [True, False])
def test_products(case, own, monkeypatch):
    if own:
        monkeypatch.setattr(cublas, "library", lambda: None)
    elif cublas.library() is None:
        pytest.skip("antorcha[cuda] is not installed")
    flush.clear()
    compute, _, _ = test_cuda_library.CASES[case]
    agree(compute(lambda x: x.cuda()), compute(lambda x: x), "gpu")


def test_large_products_in_every_precision():
    for dtype, precision, row in ((torch.float32, "highest", "float32"), (torch.float32, "high", "tfloat32"),
                                  (torch.bfloat16, "highest", "bfloat16"), (torch.float16, "highest", "float16")):
        torch.set_float32_matmul_precision(precision)
        try:
            a, b = torch.randn(700, 900).to(dtype), torch.randn(900, 520).to(dtype)
            got, want = (a.cuda() @ b.cuda()).cpu(), a.float() @ b.float()
            got.tolist()
        finally:
            torch.set_float32_matmul_precision("highest")
        agree(got, want, "gpu", row)


def test_training_and_graphs():
    from test_cuda import train

    torch.cuda.manual_seed(0)
    got, model = train("cuda", steps=12)
    torch.manual_seed(0)
    want, _ = train("cpu", steps=12)
    agree(got, want, "gpu", "float32")
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
