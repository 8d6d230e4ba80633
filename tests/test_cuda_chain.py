"""Chains on GPUs: the same values as kernel by kernel, in the simulator, and what they leave in memory."""

from __future__ import annotations

import functools

import numpy as np
import ptxas
import pytest
from tolerance import agree

import antorcha as torch
import antorcha.nn.functional as F
from antorcha.base import config
from antorcha.graph import chain, flush
from antorcha.targets import ptx


@pytest.fixture
def chained(gpus, monkeypatch):
    """Small values make chains too, of blocks of 16 rows, and calls cost nothing."""
    monkeypatch.setattr(chain, "GPU", chain.GPU._replace(small=1, least=16, most=16, ns_per_packed=0.0, ns_per_shared=0.0, ns_per_call=0.0))
    monkeypatch.setattr(config, "verify", True)
    return gpus


def tensor(random, *shape, device="cpu", dtype=torch.float32):
    t = torch.tensor(random.randn(*shape).astype(np.float32)).to(dtype).to(device)
    return t.requires_grad_()


def computed(program, device: str):
    """(the value and the gradients of a program's leaves, the plan)."""
    values, leaves = program(np.random.RandomState(0), device)
    found = [values, *torch.autograd.grad((values.float() * values.detach().float().cos()).sum(), leaves)]
    first = found[0].detach().cpu()
    first.tolist()
    plan = flush.last()
    return [first, *[t.detach().cpu() for t in found[1:]]], plan


def attention(batch, heads, length, width, causal=False, dtype=torch.float32, layers=1):
    def program(random, device):
        qkv = tensor(random, batch, length, 3 * heads * width, device=device, dtype=dtype)
        w = tensor(random, heads * width, heads * width, device=device, dtype=dtype)
        x = qkv
        for _ in range(layers):
            q, k, v = (t.view(batch, length, heads, width).transpose(1, 2) for t in x.split(heads * width, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            y = F.linear(y.transpose(1, 2).reshape(batch, length, heads * width), w).tanh()
            x = torch.cat([y, y * 2, y.flip(1)], 2)
        return y, [qkv, w]
    return program


def perceptron(rows, sizes, dtype=torch.float32):
    def program(random, device):
        x = tensor(random, rows, sizes[0], device=device, dtype=dtype)
        weights = [tensor(random, b, a, device=device, dtype=dtype) for a, b in zip(sizes, sizes[1:])]
        h = x
        for w in weights:
            h = F.gelu(F.linear(h, w * w.shape[1] ** -0.5))
        return h, [x, *weights]
    return program


PROGRAMS = {
    "attention": attention(1, 2, 18, 4),
    "causal attention": attention(2, 2, 17, 5, True),
    "attention of bfloat16": attention(1, 2, 24, 16, True, torch.bfloat16),
    "two layers of attention": attention(1, 2, 20, 8, True, layers=2),
    "perceptron": perceptron(40, [9, 12, 5]),
    "perceptron of halves": perceptron(40, [16, 24, 8], torch.float16),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_chains_compute_what_the_processor_does(chained, name):
    program = PROGRAMS[name]
    got, plan = computed(program, "cuda")
    assert "chain" in [k["kind"] for k in plan.kernels()]
    want, _ = computed(program, "cpu")
    agree(got, want, "gpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_do_not_reach_memory(chained, dtype):
    """Neither forward nor, in a chain of its own that computes them anew, backward."""
    length, chained.execute = 36, "none"
    _, plan = computed(attention(1, 2, length, 8, True, dtype, layers=2), "cuda")
    kernels = plan.kernels()
    assert [k["kind"] for k in kernels].count("chain") >= 3
    assert not [n for k in kernels for n in k["nodes"] if n[4] and n[2][-2:] == (length, length) and len(n[2]) > 2]


def test_no_barrier_is_missing(chained, monkeypatch):
    """One warp after another, as far as each gets."""
    import simt

    run = simt.Kernel.run
    monkeypatch.setattr(simt.Kernel, "run", lambda *args, **given: run(*args, **given, order="warps"))
    program = attention(1, 1, 18, 8, True, torch.bfloat16)
    got, plan = computed(program, "cuda")
    assert "chain" in [k["kind"] for k in plan.kernels()]
    agree(got, computed(program, "cpu")[0], "gpu")


def test_what_does_not_fit_into_shared_memory_lies_behind_it(chained, monkeypatch):
    """Temporaries are memory of the block's own then."""
    monkeypatch.setattr(chain, "limits", lambda device: chain.GPU._replace(room=1 << 13, block_bytes=1 << 15) if device != "cpu" else
                        chain.Limits(1 << 40, 0, 0, 1, 1, 1, 1, 0, 0, 0))
    program = PROGRAMS["causal attention"]
    got, plan = computed(program, "cuda")
    assert any(k["kind"] == "chain" and k["kernel"].scratch for k in plan.kernels())
    agree(got, computed(program, "cpu")[0], "gpu")


def masked(random, device, hidden: float = 0.5, additive: bool = False):
    """Attention with a mask that hides whole tiles of keys, the first among them: those are the number `hidden`."""
    q, k, v = (tensor(random, 1, 2, 18, 4, device=device) for _ in range(3))
    with torch.no_grad():
        k[:, :, :8] = v[:, :, :8] = hidden
    mask = torch.ones(18, 18, dtype=torch.bool)
    mask[:, :9] = False
    mask[5:, 12:] = False
    if additive:
        mask = torch.zeros(18, 18).masked_fill(~mask, -float("inf"))
    return F.scaled_dot_product_attention(q, k, v, mask.to(device)), [q, k, v]


TILED = {"causal": attention(1, 2, 18, 4, True), "of bfloat16": attention(1, 2, 24, 8, True, torch.bfloat16)}


@pytest.fixture
def tiled(chained, monkeypatch):
    """Shared memory for tiles of 8 keys and blocks of 16 rows."""
    monkeypatch.setattr(chain, "TILE", 8)
    monkeypatch.setattr(chain, "TILE_ROWS", 16)
    small = chain.GPU._replace(room=1 << 15, block_bytes=1 << 8, one_row_bytes=1 << 8)
    never = chain.Limits(1 << 40, 0, 0, 1, 1, 1, 1, 0, 0, 0)
    monkeypatch.setattr(chain, "limits", lambda device: never if device == "cpu" else small)
    return chained


@pytest.mark.parametrize("name", TILED)
def test_long_rows_are_computed_in_tiles(tiled, name):
    """Forward in one pass through the keys, backward in two; with a shorter last block of rows and a shorter last tile."""
    program = TILED[name]
    got, plan = computed(program, "cuda")
    chains = [k["kernel"] for k in plan.kernels() if k["kind"] == "chain"]
    passes = [sum(phase.tiles is not None for phase in kernel.bodies[0]) for kernel in chains]
    assert passes == [1, 2]
    assert not any(kernel.scratch for kernel in chains)
    agree(got, computed(program, "cpu")[0], "gpu")


@pytest.mark.parametrize("additive", [False, True])
def test_tiles_that_a_mask_hides_are_left_out(tiled, additive):
    """Neither scores nor derivatives are computed there: what is not a number does no harm. All else is as it was."""
    got, plan = computed(functools.partial(masked, hidden=float("nan"), additive=additive), "cuda")
    (kernel,) = [k["kernel"] for k in plan.kernels() if k["kind"] == "chain"]
    assert [phase.flags is not None for phase in kernel.bodies[0] if phase.tiles is not None] == [True] * 2
    for x, y in zip(got, computed(masked, "cpu")[0]):
        assert np.abs(x - y).max() <= 1e-4 * max(1.0, np.abs(y).max())


def test_a_mask_of_another_number_hides_nothing(tiled):
    """A plan is kept for all numbers: what is put in place of scores is looked at each time."""
    def program(random, device, number):
        q, k, v = (tensor(random, 1, 2, 18, 4, device=device) for _ in range(3))
        hidden = (torch.arange(18) >= 8).to(device)
        return torch.softmax((q @ k.mT).masked_fill(hidden, number), -1) @ v, [q, k, v]

    for number in (-float("inf"), -1.0):
        got, want = (computed(functools.partial(program, number=number), device)[0] for device in ("cuda", "cpu"))
        for x, y in zip(got, want):
            assert np.abs(x - y).max() <= 1e-4 * max(1.0, np.abs(y).max())


def test_shared_memory_does_not_grow_with_the_sequence(tiled):
    """Nor does the kernel's code."""
    tiled.execute = "none"
    found = []
    for length in (40, 56):
        kernels = [k["kernel"] for k in computed(attention(1, 2, length, 8), "cuda")[1].kernels() if k["kind"] == "chain"]
        found.append([(kernel.key, kernel.launch(()).shared) for kernel in kernels])
    assert found[0] == found[1] and len(found[0]) == 2


@pytest.mark.ptxas
@pytest.mark.skipif(ptxas.PTXAS is None, reason="ptxas is not installed (it is in nvidia-cuda-nvcc)")
@pytest.mark.parametrize("name, architecture", [("causal attention", 80), ("attention of bfloat16", 90), ("perceptron", 80)])
def test_ptx_assembles(chained, name, architecture):
    chained.execute = "none"
    _, plan = computed(PROGRAMS[name], "cuda")
    for k in plan.kernels():
        if k["kind"] == "chain":
            kernel = k["kernel"]
            text = ptx.compiled(kernel.ir(architecture), architecture, len(kernel.types) > ptx.FEW_WORDS)
            (figures,) = ptxas.assembled([text], architecture)
            assert all(f.spilled <= ptxas.SPILLS for f in figures.values())


def test_a_last_block_that_is_shorter(chained):
    """The rows of a group need not be a multiple of a block's: the same code serves both, unless there is but one row."""
    chained.execute = "none"
    for length, bodies in ((18, 1), (17, 2)):
        kernels = [k["kernel"] for k in computed(attention(1, 2, length, 4), "cuda")[1].kernels() if k["kind"] == "chain"]
        assert kernels and all(len(kernel.bodies) == bodies for kernel in kernels)
