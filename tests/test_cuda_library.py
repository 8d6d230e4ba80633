"""Products by cuBLASLt and CUDA graphs, on libraries of our own."""

from __future__ import annotations

import fake_cublas
import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.graph import tape
from antorcha.runtime import cublas
from antorcha.targets import cuda_library


def numbers(*shape, seed=0):
    return torch.tensor(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


@pytest.fixture
def library(gpus, monkeypatch):
    found = fake_cublas.Library(gpus)
    monkeypatch.setattr(cublas, "library", lambda: found)
    monkeypatch.setattr(cuda_library, "LEAST", 1)
    return found


A, B, BIAS = numbers(24, 40), numbers(40, 16, seed=1), numbers(16, seed=2)
HALF = [torch.tensor(x.half().tolist(), dtype=torch.float16) for x in (A, numbers(16, 40, seed=3), BIAS)]
CASES = {
    "rows": (lambda t: t(A) @ t(B), (False, False), "f32"),
    "transposed": (lambda t: t(A).t() @ t(numbers(24, 16, seed=3)), (False, True), "f32"),
    "along k": (lambda t: t(A) @ t(numbers(16, 40, seed=3)).t(), (True, False), "f32"),
    "linear": (lambda t: torch.nn.functional.linear(t(A), t(numbers(16, 40, seed=3)), t(BIAS)), (True, False), "f32"),
    "batches": (lambda t: t(numbers(3, 8, 12)) @ t(numbers(3, 12, 20, seed=1)), (False, False), "f32"),
    "bfloat16": (lambda t: t(A).bfloat16() @ t(B).bfloat16(), (False, False), "bf16"),
    "linear of halves": (lambda t: torch.nn.functional.linear(t(HALF[0]), t(HALF[1]), t(HALF[2])),
                         (True, False), "f16"),
    "float64": (lambda t: t(A).double() @ t(B).double(), (False, False), "f64"),
    "columns of a larger matrix": (lambda t: t(numbers(24, 80))[:, 16:56] @ t(B), (False, False), "f32"),
}


@pytest.mark.parametrize("case", CASES)
def test_products(library, case):
    compute, turned, kind = CASES[case]
    got, want = compute(lambda x: x.cuda()), compute(lambda x: x)
    agree(got, want, "gpu")
    (product,) = library.products
    told, layouts = product["told"], product["layouts"]
    assert (bool(told.get(cublas.TRANSPOSE_A)), bool(told.get(cublas.TRANSPOSE_B))) == turned
    assert {layout["kind"] for layout in layouts} == {cublas.TYPES[kind]}
    assert told["compute"] == (cublas.FLOAT64 if kind == "f64" else cublas.FLOAT32)
    assert (told.get(cublas.EPILOGUE) == cublas.ADD_BIAS) == ("linear" in case)
    assert layouts[0]["batches"] == (3 if case == "batches" else 1)


def test_the_choice_goes_by_where_the_bias_lies(library):
    for at in (0, 1, 2):        # the library of the tests refuses a bias that is less aligned than was said
        bias = numbers(18, seed=4)[at:at + 16]
        got = torch.nn.functional.linear(A.cuda(), numbers(16, 40, seed=3).cuda(), numbers(18, seed=4).cuda()[at:at + 16])
        want = torch.nn.functional.linear(A, numbers(16, 40, seed=3), bias)
        agree(got, want, "gpu")
    assert len({product["told"]["bias aligned"] for product in library.products}) == 3


def test_a_graph_works_in_memory_of_its_own(library, gpus):
    """What plans and the library need meanwhile is not that of other work in the stream of the capture."""
    side, g = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    device, scratch = side._device, []
    for _ in range(2):
        with torch.cuda.stream(side):
            ((A.cuda() * 2) @ B.cuda()).softmax(0).tolist()
    with torch.cuda.graph(g, stream=side):
        y = ((A.cuda() * 2) @ B.cuda()).softmax(0)
        tape.flush()
        scratch += device.scratch.values()
    outside = {b.address for b in device.scratch.values()}
    assert scratch and outside and not outside & {b.address for b in scratch}
    g.replay()
    agree(y, ((A * 2) @ B).softmax(0), "gpu")
    gpus.busy.add(0)        # where it was replayed; the memory was that of another stream
    del scratch[:], y
    before = device.allocator.allocated
    g.reset()
    device.allocator.collect()
    assert device.allocator.allocated == before and device.allocator._in_use
    gpus.busy.clear()
    device.allocator.collect()
    assert device.allocator.allocated < before


def test_copies_to_the_device_are_captured(gpus):
    x, g = torch.zeros(3, device="cuda"), torch.cuda.CUDAGraph()
    given = torch.tensor([1.0, 2.0, 3.0]).pin_memory()
    with torch.cuda.graph(g):
        x += given.to("cuda", non_blocking=True) + torch.tensor([10.0, 20.0, 30.0]).to("cuda")
    for _ in range(2):
        g.replay()
    assert x.tolist() == [22, 44, 66]


def test_tf32_is_told(library):
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert torch.get_float32_matmul_precision() == "high"
        (A.cuda() @ B.cuda()).tolist()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert library.products[-1]["told"]["compute"] == cublas.FLOAT32_FROM_TF32 and not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("compute", [lambda: torch.relu(A.cuda() @ B.cuda()), lambda: A.cuda() @ B.cuda() + numbers(24, 16).cuda(),
                                     lambda: A.cuda().long() @ B.cuda().long()])
def test_what_the_library_does_not_know_is_ours(library, compute):
    compute().tolist()
    assert not library.products


def test_a_product_without_an_algorithm_is_ours(library, monkeypatch):
    monkeypatch.setattr(library, "cublasLtMatmulAlgoGetHeuristic", lambda *args: 0)
    agree(A.cuda() @ B.cuda(), A @ B, "gpu")
    assert not library.products


def test_a_plan_with_products_becomes_a_graph(library, gpus):
    """They are captured, as graphs within it, and again when their addresses change."""
    x, w, kept = A.cuda(), B.cuda(), []
    for k in range(6):
        y = ((x * (k + 1.0)) @ w).softmax(1).cumsum(1)
        kept.append(y)      # results lie elsewhere each time
        tape.flush()
    names = gpus.names()
    assert names.count("cuGraphInstantiate") == 1 and names.count("cuGraphLaunch") >= 1 and library.products
    for k, y in enumerate(kept):
        agree(y, ((A * (k + 1.0)) @ B).softmax(1).cumsum(1), "gpu")


# -- graphs that a program captures -------------------------------------------------------------------------------

def test_a_captured_step_is_replayed(gpus):
    x, w = torch.zeros(4, 3, device="cuda"), torch.ones(3, 2, device="cuda")
    (x @ w).tolist()
    g = torch.cuda.CUDAGraph()
    launched = gpus.names().count("launch")
    with torch.cuda.graph(g):
        assert torch.cuda.is_current_stream_capturing()
        y = (x @ w).relu() + 1
        w += 1
    assert not torch.cuda.is_current_stream_capturing() and gpus.names().count("launch") == launched
    x.copy_(torch.arange(12.0).reshape(4, 3))
    g.replay()
    assert y.tolist() == (torch.arange(12.0).reshape(4, 3) @ torch.ones(3, 2) + 1).tolist() and w.tolist() == [[2, 2]] * 3
    x.fill_(1)
    g.replay()
    assert y.tolist() == [[7, 7]] * 4 and w.tolist() == [[3, 3]] * 3


def test_a_training_step_is_captured(gpus):
    torch.manual_seed(0)
    model, reference = torch.nn.Linear(5, 3).cuda(), torch.nn.Linear(5, 3)
    reference.load_state_dict(model.state_dict())
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, reference)]
    x, y = torch.zeros(8, 5, device="cuda"), torch.zeros(8, 3, device="cuda")
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        optimizers[0].zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizers[0].step()
    for k in range(3):
        data, target = numbers(8, 5, seed=k), numbers(8, 3, seed=10 + k)
        x.copy_(data)
        y.copy_(target)
        g.replay()
        optimizers[1].zero_grad()
        want = torch.nn.functional.mse_loss(reference(data), target)
        want.backward()
        optimizers[1].step()
        agree(loss.item(), want.item(), "gpu")
    agree(model.weight, reference.weight, "gpu")


def test_what_cannot_be_captured_is_told(gpus):
    x, g = A.cuda(), torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="sort: expected operations that a GPU carries out alone"):
        with torch.cuda.graph(g):
            y = x.sort()[0]
    del y
    assert not torch.cuda.is_current_stream_capturing() and (x + 1).tolist() == (A + 1).tolist()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        g.replay()
    with pytest.raises(RuntimeError, match="non-default stream"):
        g.capture_begin()
