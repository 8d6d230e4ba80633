"""Kernels for NVIDIA GPUs without a GPU: in a simulator of threads, and through NVIDIA's assembler where it is installed."""

from __future__ import annotations

import os

import numpy as np
import ptxas
import pytest
import simt
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.graph import chain, flush
from antorcha.loops import interp, lower, tiled
from antorcha.runtime import buffer
from antorcha.targets import ptx


class HostMemory(simt.Memory):
    """All memory of the process."""

    def gather(self, addresses, kind):
        size = np.dtype(kind).itemsize
        low = int(addresses.min())
        assert not np.any((addresses - low) % size)
        count = (int(addresses.max()) - low) // size + 4        # the last may be the first of a vector
        return buffer.memory(low, count, np.dtype(kind)), (addresses - low) // size


@pytest.fixture
def simulated(monkeypatch):
    """Kernels run in the simulator, in the interpreter's place. The value lists (kernel, words) of all that ran; without an `order`,
    none runs."""
    class Ran(list):
        order, fitted = "lockstep", False

    ran = Ran()

    def run(program, words):
        (kernel,) = ptx.build_all([program])
        kernel = kernel.fitted(words) if ran.fitted else kernel
        launch = kernel.launch(words)
        if launch is None:
            return
        ran.append((kernel, words))
        if ran.order:
            simt.Kernel(kernel.ir(), kernel.entry(words)).run(HostMemory(), words, launch.grid, launch.block, ran.order, launch.shared)

    monkeypatch.setattr(interp, "run", run)
    monkeypatch.setattr(config, "target", "interp")
    monkeypatch.setattr(chain, "find", lambda fusion, device: [])
    monkeypatch.setattr(tiled, "copies", lambda fusion: False)      # programs are made for the processor here
    monkeypatch.setattr(lower, "together", lambda fusion, rows: False)
    flush.clear()
    yield ran
    flush.clear()


def numbers(*shape, dtype=np.float32, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(dtype))


def in_memory(x):
    """Computed before what reads it, which would convert the numbers itself."""
    x.tolist()
    return x


A, B = numbers(37, 50), numbers(50, seed=1)
INDEX = torch.tensor([3, 1, 3, 0, 36, 1])
SCATTERED = numbers(6, 50, seed=2)


def layer_norm_gradient():
    layer = torch.nn.LayerNorm(50)
    x = A.clone().requires_grad_()
    (layer(x) ** 3).sum().backward()
    return torch.cat([x.grad, layer.weight.grad[None], layer.bias.grad[None]])


def native_layer_norm_gradient():
    x, weight, bias = numbers(37, 4).requires_grad_(), numbers(4, seed=1).requires_grad_(), numbers(4, seed=2).requires_grad_()
    found = torch.native_layer_norm(x, [4], weight, bias, 1e-5)
    return torch.cat(torch.autograd.grad(sum((y * torch.linspace(0.5, 1.5, y.numel()).reshape(y.shape)).sum() for y in found),
                                         (x, weight, bias))[:1])


def window_gradient():
    x = A.clone().requires_grad_()
    (x.unfold(0, 3, 1) ** 2).sum().backward()
    return x.grad


def rounded(compute):
    """A value with products of TF32 allowed."""
    torch.set_float32_matmul_precision("high")
    try:
        value = compute()
        value.tolist()
        return value
    finally:
        torch.set_float32_matmul_precision("highest")


CASES = {
    "pointwise": lambda: (A + B).tanh() * torch.sin(A),
    "one dimension": lambda: (numbers(20_000) * 2).exp(),
    "float64": lambda: torch.erf(numbers(100, dtype=np.float64)),
    "half": lambda: (A.half() * 2 + 1).float(),
    "bfloat16": lambda: (A.bfloat16() * 3).float(),
    "integers": lambda: (A * 10).int() // 3 + (A * 100).to(torch.int8),
    "remainder": lambda: torch.fmod(A * 1e6, B) + torch.remainder(A, B * 1e-5) + torch.fmod(A[:, 0] * 1e30, 7.0)[:, None],
    "remainder of float64": lambda: torch.fmod(numbers(50, dtype=np.float64) * 1e80, numbers(50, dtype=np.float64, seed=1)),
    "complex": lambda: torch.view_as_real(torch.complex(A, A) * torch.complex(B.expand(37, 50), A)),
    "transposition": lambda: numbers(70, 40).t().contiguous(),
    "total": lambda: (numbers(20_000) * 2).sum(),
    "total of float64": lambda: numbers(3000, dtype=np.float64).prod(),
    "short rows": lambda: numbers(200, 3).sum(1),
    "rows": lambda: torch.softmax(A, 1),
    "long rows": lambda: torch.log_softmax(numbers(3, 1500), 1),
    "rows of bool": lambda: (A > 2).any(1),
    "rows of integers": lambda: (A * 100).long().amax(1) + (A * 100).to(torch.int16).sum(1),
    "columns": lambda: numbers(700, 40).sum(0),
    "many columns": lambda: numbers(100, 700).amax(0),
    "columns of halves": lambda: A.half().float().mean(0),
    "middle dimension": lambda: numbers(5, 60, 7).sum(1),
    "argmax": lambda: A.argmax(1) + A.max(1).indices * (A > 0).int().argmax(1),
    "argmin": lambda: torch.where(A > 2, float("nan"), A).argmin(1) + (A > 1).long().min(1)[1] + (A * 3).to(torch.uint8).argmin(1),
    "argmax of long rows": lambda: torch.stack([numbers(2, 3000).argmax(1), torch.full((2, 300), -float("inf")).argmax(1)]),
    "argmax of all": lambda: A[None].argmax() + numbers(5, 60, 7).transpose(1, 2).argmax(1).sum(),
    "scan": lambda: A.cumsum(1),
    "gather": lambda: A[INDEX] + A[:, 3:4][INDEX],
    "scatter": lambda: torch.zeros(40, 50).index_add(0, INDEX, SCATTERED),
    "sum over windows": lambda: window_gradient(),
    "scatter of integers": lambda: torch.zeros(40, dtype=torch.int64).scatter_reduce(0, INDEX, INDEX * 3, "amax"),
    "matmul": lambda: numbers(70, 33) @ numbers(33, 45, seed=3),
    "matmul with epilogue": lambda: torch.relu(numbers(130, 40) @ numbers(40, 150, seed=3) + numbers(150)),
    "batched matmul": lambda: numbers(2, 20, 33) @ numbers(2, 45, 33, seed=3).transpose(1, 2),
    "matmul of float64": lambda: numbers(20, 33, dtype=np.float64) @ numbers(33, 45, dtype=np.float64, seed=3),
    "matmul of halves": lambda: (in_memory(numbers(20, 33).half()) @ in_memory(numbers(33, 45, seed=3).half())).float(),
    "matmul of bfloat16 along rows": lambda: (
        in_memory(numbers(72, 40).bfloat16()) @ in_memory(numbers(40, 48, seed=3).bfloat16())).float(),
    "matmul of bfloat16 along k": lambda: (
        in_memory(numbers(72, 40).bfloat16()) @ in_memory(numbers(48, 40, seed=3).bfloat16()).t()).float(),
    "matmul of transposed halves": lambda: (
        in_memory(numbers(40, 72).half()).t() @ in_memory(numbers(40, 48, seed=3).half())).float(),
    "matmul of many halves": lambda: (
        torch.relu(numbers(4, 264, 19).half() @ numbers(4, 19, 260, seed=3).half() + numbers(260).half()).float()),
    "matmul rounded": lambda: rounded(lambda: numbers(70, 33) @ numbers(33, 45, seed=3)),
    "matmul rounded along rows": lambda: rounded(lambda: torch.relu(numbers(130, 36) @ numbers(36, 152, seed=3) + numbers(152))),
    "matmul rounded along k": lambda: rounded(lambda: numbers(72, 40) @ numbers(48, 40, seed=3).t()),
    "matmul rounded, transposed": lambda: rounded(lambda: numbers(40, 72).t() @ numbers(40, 48, seed=3)),
    "matmul of integers": lambda: (numbers(20, 33) * 9).int() @ (numbers(33, 15) * 9).int(),
    "convolution": lambda: torch.nn.functional.conv2d(numbers(2, 3, 9, 9), numbers(4, 3, 3, 3), padding=1),
    "convolution with a stride, rounded": lambda: rounded(
        lambda: torch.nn.functional.conv2d(numbers(2, 5, 11, 9), numbers(7, 5, 3, 2, seed=1), stride=2, dilation=(1, 2))),
    "layer norm": layer_norm_gradient,
    "native layer norm": native_layer_norm_gradient,
}


@pytest.mark.parametrize("case", CASES)
def test_kernels_compute_what_the_processor_does(simulated, case, monkeypatch):
    got = CASES[case]().detach().numpy()
    assert simulated
    with monkeypatch.context() as m:
        m.setattr(config, "target", "llvm")
        want = CASES[case]().detach().numpy()
    coarse = any(word in case for word in ("halves", "bfloat16", "rounded"))    # sums in another order may round to a neighbour
    agree(got, want, "gpu", "float16" if coarse else None)
    assert "rounded" not in case or np.abs(got - want).max() > 1e-5


@pytest.mark.parametrize("lanes", [64, 128, 256, 512])
def test_any_number_of_warps_shares_a_row(simulated, lanes, monkeypatch):
    """All lanes know what they have made together."""
    monkeypatch.setattr(ptx.Kernel, "_rows", staticmethod(lambda count, width, *given: ptx.Launch((count, 1), (lanes, 1))))
    x = numbers(2, 700)
    agree(torch.log_softmax(x, 1).exp().sum(1), [1, 1])
    assert x.argmax(1).tolist() == x.numpy().argmax(1).tolist()


@pytest.mark.parametrize("case", ["total", "rows", "long rows", "rows of bool", "many columns", "matmul of float64",
                                  "matmul of transposed halves", "matmul rounded along k", "layer norm"])
def test_no_barrier_is_missing(simulated, case, monkeypatch):
    """One warp after another, as far as each gets."""
    simulated.order = "warps"
    got = CASES[case]().detach().numpy()
    with monkeypatch.context() as m:
        m.setattr(config, "target", "llvm")
        want = CASES[case]().detach().numpy()
    agree(got, want, "gpu", "float16" if "halves" in case or "rounded" in case else None)


def test_sums_stay_in_registers(simulated):
    """Partial sums of columns are not read and written for every row."""
    numbers(700, 40).sum(0).tolist()
    kernel, _ = simulated[0]
    (serial,) = [o for o in ptx.walk(kernel.plan.top) if o.kind == "loop" and o.attr[1] == "serial"]
    assert not any(o.kind == "store" for o in ptx.walk(serial))


def test_searches_are_parallel(simulated):
    """A row's lanes share the search for its largest element."""
    numbers(2, 3000).argmax(1).tolist()
    (kernel, words), = simulated
    assert not any(o.kind == "loop" and o.attr[1] == "serial" for o in ptx.walk(kernel.plan.top)) and kernel.launch(words).block[0] >= 512


def test_scatters_are_parallel(simulated):
    CASES["scatter"]().tolist()
    kernels = [k for k, _ in simulated if any(o.kind == "atomic" for o in ptx.walk(k.plan.top))]
    assert len(kernels) == 1 and "atom.global.add.f32" in kernels[0].ptx(80)
    assert not any(o.kind == "loop" and o.attr[1] == "serial" for o in ptx.walk(kernels[0].plan.top))


def test_products_of_halves_use_tensor_cores(simulated):
    """Vectors of 16 bytes are read where everything lies at multiples of 8 elements."""
    for case in ("matmul of bfloat16 along rows", "matmul of transposed halves", "matmul of halves"):
        CASES[case]().tolist()
    found = [(k.entry(words), k) for k, words in simulated if k.program.body[0].kind == "contract"]
    assert [entry for entry, _ in found] == ["small_wide", "small_wide", "small"]
    assert all("mma.sync" in k.ir(80) and "ldmatrix" in k.ir(80) and "mma.sync" not in k.ir(75) for _, k in found)


def test_launches(simulated):
    """Where there is much to do, a large GPU is filled; where there is nothing, nothing is launched."""
    for count, width in [(1, 100_000_000), (1_000_000, 10), (100_000, 768), (8, 50_257), (65_536, 1)]:
        split, rows = ptx.Kernel._split(count, width), ptx.Kernel._rows(count, width)
        for found in (split, rows):
            assert found.block[0] * found.block[1] <= 1024 and found.grid[0] * found.block[1] >= count
            assert found.block[0] & (found.block[0] - 1) == 0
        threads = split.grid[0] * split.grid[1] * split.block[0] * split.block[1]
        assert threads >= min(ptx.FILLED, count * width / 8)


# -- NVIDIA's assembler -----------------------------------------------------------------------------------------


needs_assembler = [pytest.mark.ptxas, pytest.mark.skipif(ptxas.PTXAS is None, reason="ptxas is not installed (it is in nvidia-cuda-nvcc)")]


@pytest.mark.parametrize("architecture, cases", [
    pytest.param(80, ["rows", "matmul of transposed halves", "matmul rounded along k", "remainder", "argmin", "native layer norm"],
                 marks=needs_assembler),
    pytest.param(90, ["pointwise", "complex", "long rows", "many columns", "scatter", "matmul with epilogue", "matmul of transposed halves",
                      "matmul rounded", "layer norm"], marks=needs_assembler)])
def test_ptx_assembles(simulated, architecture, cases):
    simulated.order = None
    for case in cases:
        CASES[case]().tolist()
    kernels = {k.key: k for k, _ in simulated}
    for key, figures in zip(kernels, ptxas.assembled([k.ptx(architecture) for k in kernels.values()], architecture)):
        assert all(f.spilled <= ptxas.SPILLS for f in figures.values()), (figures, key)


@pytest.mark.ptxas
@pytest.mark.skipif(ptxas.PTXAS is None or not os.environ.get("ANTORCHA_ALL_RECORDS"),
                    reason="takes minutes: needs ptxas (it is in nvidia-cuda-nvcc) and ANTORCHA_ALL_RECORDS=1")
@pytest.mark.parametrize("architecture", [80, 90])
def test_the_kernels_of_all_records_assemble(architecture):
    failed, found = ptxas.report(os.cpu_count(), [architecture], ptxas.DTYPES)
    assert not failed
    assert not {key: f for key, f in found.items() if f.spilled > ptxas.SPILLS}


WIDE = {
    "pointwise": (lambda: (numbers(20, 300) * 2 + numbers(300, seed=1)).relu(), "v4.b32"),
    "halves": (lambda: numbers(20, 400).bfloat16() * 2, "v4.b32"),
    "widened": (lambda: numbers(20, 403)[:, :400].bfloat16().float() + 1, None),
    "rows": (lambda: numbers(40, 260).half().sum(1), "v4.b32"),
    "with an end": (lambda: numbers(1003).exp(), "v4.b32"),
    "softmax": (lambda: torch.softmax(numbers(5, 516), 1), None),
    "bytes": (lambda: (numbers(3, 512) > 0).logical_not(), None),
    "unaligned": (lambda: numbers(1004)[1:].exp(), ""),
    "odd rows": (lambda: numbers(20, 301)[:, :300] * numbers(300), ""),
}


@pytest.mark.parametrize("order", ["lockstep", "warps"])
@pytest.mark.parametrize("case", WIDE)
def test_a_lane_takes_16_bytes(simulated, case, order, monkeypatch):
    """Where everything lies at multiples of 16 bytes; LLVM makes one access of a group. The values are the same."""
    simulated.order, simulated.fitted = order, True
    compute, access = WIDE[case]
    got = compute().float().numpy()
    with monkeypatch.context() as m:
        m.setattr(config, "target", "llvm")
        want = compute().float().numpy()
    agree(got, want, "gpu", "float16" if case in ("halves", "widened", "rows") else None)
    wide = [k for k, _ in simulated if k.each > 1]
    assert access is None or bool(access) == bool(wide)
    assert not access or order == "warps" or any(access in kernel.ptx(80) for kernel in wide)


def test_every_architecture_has_code(simulated):
    CASES["bfloat16"]().tolist()
    CASES["rows"]().tolist()
    for kernel, _ in simulated:
        for architecture in ptx.ARCHITECTURES:
            assert f".target sm_{architecture}" in kernel.ptx(architecture)
    assert ptx.architecture_for((12, 0)) == 90 and ptx.architecture_for((8, 7)) == 86
    with pytest.raises(RuntimeError, match="compute capability 7.0 or later; received one of 6.1"):
        ptx.architecture_for((6, 1))
