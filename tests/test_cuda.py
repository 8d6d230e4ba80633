"""device="cuda" without a GPU: on a driver of our own, whose GPUs are simulated."""

from __future__ import annotations

import os

import fake_cuda
import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.graph import flush, tape
from antorcha.runtime import cuda
from antorcha.runtime.cuda_memory import Allocator


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


A, B = numbers(37, 50), numbers(50, seed=1)
INDEX = torch.tensor([3, 1, 3, 0, 36, 1])


def launches(library) -> int:
    return library.names().count("launch")


def test_without_a_driver_nothing_is_there(monkeypatch):
    def missing():
        raise OSError

    monkeypatch.setattr(cuda, "_find", missing)
    cuda.use(None)
    assert not torch.cuda.is_available() and torch.cuda.device_count() == 0 and not torch.cuda.is_initialized()
    torch.cuda.manual_seed_all(1)
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() == 0
    for ask in (lambda: torch.zeros(2, device="cuda"), lambda: A.cuda(), lambda: torch.nn.Linear(2, 2).to("cuda"), torch.cuda.synchronize,
                lambda: A.to(0)):
        with pytest.raises(RuntimeError, match="libcuda was not found.*is_available"):
            ask()
    cuda.use(None)


def test_questions_make_no_context(gpus):
    assert torch.cuda.is_available() and torch.cuda.device_count() == 2 and torch.cuda.current_device() == 0
    assert torch.cuda.get_device_name() == "A GPU of the imagination" and torch.cuda.get_device_capability(1) == (8, 0)
    assert torch.cuda.get_device_properties(0).multi_processor_count == 108
    assert not torch.cuda.is_initialized() and "cuDevicePrimaryCtxRetain" not in gpus.names()
    torch.manual_seed(0)
    torch.cuda.manual_seed(0)
    torch.cuda.manual_seed_all(0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.memory_allocated() == torch.cuda.max_memory_allocated() == 0
    torch.cuda.set_device(1)
    assert torch.cuda.current_device() == 1 and torch.device("cuda").index is None
    with torch.cuda.device(0):
        assert torch.cuda.current_device() == 0
    torch.cuda.set_device("cuda:0")
    torch.amp.GradScaler("cuda")
    data = torch.utils.data.TensorDataset(torch.arange(4))
    assert len(list(torch.utils.data.DataLoader(data, num_workers=1))) == 4
    assert not torch.cuda.is_initialized() and gpus.names() == ["cuInit"]
    torch.ones(2, device="cuda").tolist()
    assert torch.cuda.is_initialized()


def test_there_and_back(gpus):
    x = A.cuda()
    assert x.is_cuda and not x.is_cpu and x.device == torch.device("cuda:0") and x.get_device() == 0
    assert repr(x[0, :2]).endswith("device='cuda:0')")
    np.testing.assert_array_equal(x.cpu().numpy(), A.numpy())
    assert A.cpu() is A and x.cuda() is x and x.to("cuda:0") is x
    t = A.t().cuda()
    assert t.stride() == A.t().stride() and t.tolist() == A.t().tolist()
    assert A[::2, 3:7].cuda().tolist() == A[::2, 3:7].tolist() and torch.empty(0, 3).cuda().shape == (0, 3)
    assert A.to("cuda", torch.float64).dtype is torch.float64 and x.to("cpu", torch.float16).is_cpu
    other = x.to("cuda:1")
    assert other.get_device() == 1 and other.tolist() == A.tolist()
    with pytest.raises(TypeError, match="Use Tensor.cpu"):
        x.numpy()
    with pytest.raises(RuntimeError, match=r"index in \[0, 2\); received 2"):
        A.to("cuda:2")


def test_moving_is_differentiable(gpus):
    x = numbers(4).requires_grad_()
    (x.cuda() * torch.arange(4.0).cuda()).sum().cpu().backward()
    assert x.grad.is_cpu and x.grad.tolist() == [0, 1, 2, 3]


MIXED = {   # what the error says: who asked, what is where, what to move
    "add": (lambda x, y: x + y, "On cuda:0: input; on cpu: other.", "other"),
    "matmul": (lambda x, y: x @ y.t(), "On cuda:0: input; on cpu: other.", "other"),
    "cat": (lambda x, y: torch.cat([x, x, y]), "On cuda:0: tensors[0], tensors[1]; on cpu: tensors[2].", "tensors[2]"),
    "where": (lambda x, y: torch.where(x > 0, x, y), "On cuda:0: condition, input; on cpu: other.", "other"),
    "linear": (lambda x, y: torch.nn.Linear(50, 3).cuda()(y), "On cpu: input; on cuda:0: weight, bias.", "input"),
    "conv2d": (lambda x, y: torch.nn.Conv2d(1, 1, 3).cuda()(y[None, None]), "On cpu: input; on cuda:0: weight, bias.", "input"),
    "embedding": (lambda x, y: torch.nn.Embedding(40, 3).cuda()(INDEX), "On cpu: input; on cuda:0: weight.", "input"),
    "cross_entropy": (lambda x, y: torch.nn.functional.cross_entropy(x[:6], target=INDEX), "On cuda:0: input; on cpu: target.", "target"),
    "lstm": (lambda x, y: torch.nn.LSTM(50, 3).cuda()(y[None]), "On cpu: input; on cuda:0: weight, bias.", "input"),
    "scaled_dot_product_attention": (lambda x, y: torch.nn.functional.scaled_dot_product_attention(x, y, y),
                                     "On cuda:0: query; on cpu: key, value.", "key"),
    "gather": (lambda x, y: x.gather(1, INDEX[:, None]), "On cuda:0: input; on cpu: index.", "index"),
    "index_add": (lambda x, y: x.index_add(0, INDEX, x[:6]), "On cuda:0: input, source; on cpu: index.", "index"),
    "masked_select": (lambda x, y: x.masked_select(y > 0), "On cuda:0: input; on cpu: mask.", "mask"),
    "linalg_solve": (lambda x, y: torch.linalg.solve(torch.eye(37, device="cuda"), y), "On cuda:0: A; on cpu: B.", "B"),
    "sub": (lambda x, y: x.to("cuda:1").sub_(x), "On cuda:1: input; on cuda:0: other.", "other"),
}


@pytest.mark.parametrize("case", MIXED)
def test_devices_are_not_mixed(gpus, case):
    """The operator that was called is named, with its arguments: not one that it is made of."""
    mix, places, move = MIXED[case]
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device, but found at least two devices, ") as error:
        mix(A.cuda(), A)
    said = str(error.value)
    assert said.startswith(f"{'linear' if case == 'lstm' else case}: ") and places in said and f" {move}.to('cuda:" in said


def test_results_and_gradients_are_not_moved(gpus):
    x = A.cuda()
    with pytest.raises(RuntimeError, match=r"add\(\): Expected out tensor to have device cuda:0, but got cpu instead"):
        torch.add(x, x, out=torch.empty(37, 50))
    with pytest.raises(RuntimeError, match="Expected out tensor to have device cpu, but got cuda:0"):
        torch.cat([A, A], out=torch.empty(74, 50, device="cuda"))
    assert torch.arange(3, out=torch.empty(0, dtype=torch.int64, device="cuda")).tolist() == [0, 1, 2]
    leaf = torch.ones(2, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="expected device cuda:0 but got cpu"):
        (leaf * 2).backward(torch.ones(2))
    with pytest.raises(RuntimeError, match="on a different device: expected cuda:0; received cpu"):
        leaf.grad = torch.ones(2)
    (leaf * 2).sum().backward(torch.tensor(1.0))
    assert leaf.grad.is_cuda and leaf.grad.tolist() == [2, 2]


def test_what_may_be_mixed(gpus):
    x = A.cuda()
    assert (x * torch.tensor(2.0)).is_cuda and (torch.tensor(2.0) - x).tolist() == (2 - A).tolist()
    assert x[INDEX].tolist() == A[INDEX].tolist()
    y = torch.zeros(3, device="cuda")
    y.copy_(torch.ones(3))
    y[1] = 5
    y[0] = torch.tensor(7.0)
    assert y.tolist() == [7, 5, 1]


def test_new_tensors(gpus):
    made = [torch.zeros(3, device="cuda"), torch.arange(3, device="cuda"), torch.tensor([1.0], device="cuda"), torch.eye(2, device="cuda"),
            torch.rand(3, device="cuda"), torch.randint(5, (3,), device="cuda"), torch.linspace(0, 1, 3, device="cuda"),
            torch.full((2,), 1.5, device="cuda:0"), torch.randperm(4, device="cuda")]
    x = A.cuda()
    made += [torch.zeros_like(x), torch.randn_like(x), x.new_zeros(2), x.new_tensor([1]), torch.full_like(x, 2), x.clone(), x.tril(),
             torch.nn.functional.one_hot(torch.tensor([1, 2]).cuda()), x.sort(1)[1], x.nonzero(),
             torch.bincount(torch.tensor([1, 2]).cuda()),
             torch.nn.functional.dropout(x), torch.multinomial(x.softmax(1), 2), x.unique(), x.max(1).indices]
    assert [t.device for t in made] == [torch.device("cuda:0")] * len(made)
    with torch.device("cuda:1"):
        assert torch.ones(2).get_device() == 1 and torch.tensor([1]).get_device() == 1
    torch.set_default_device("cuda")
    try:
        assert torch.ones(2).is_cuda and torch.nn.Linear(2, 2).weight.is_cuda
    finally:
        torch.set_default_device(None)
    assert torch.ones(2).is_cpu
    with torch.cuda.device(1):
        assert torch.ones(2, device="cuda").get_device() == 1
    assert torch.cuda.current_device() == 0


def test_random_numbers_are_drawn_on_the_device(gpus):
    """They follow from seed and offset alone; nothing is sent to the device, and drawing anew makes no new plan."""
    torch.cuda.manual_seed(3)
    first = torch.randn(20, device="cuda").tolist()
    assert torch.randn(20, device="cuda").tolist() != first
    sent, plans = gpus.names().count("HtoD"), flush.counters["made"]
    assert torch.randn(20, device="cuda").tolist() != first
    assert (gpus.names().count("HtoD"), flush.counters["made"]) == (sent, plans)
    torch.manual_seed(3)
    assert torch.randn(20, device="cuda").tolist() == first == torch.randn(20, device="cuda:1").tolist()
    state = torch.cuda.get_rng_state()
    assert state.tolist() == [3] + 7 * [0] + [4] + 7 * [0]
    dropped = torch.nn.functional.dropout(torch.ones(50, device="cuda")).tolist()
    torch.cuda.set_rng_state(state)
    assert torch.nn.functional.dropout(torch.ones(50, device="cuda")).tolist() == dropped
    own = torch.Generator(device="cuda").manual_seed(3)
    assert torch.randn(20, device="cuda", generator=own).tolist() == first and own.get_offset() == 4
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        torch.rand(2, device="cuda", generator=torch.Generator())
    with torch.random.fork_rng():
        inside = torch.rand(3, device="cuda").tolist()
    assert torch.rand(3, device="cuda").tolist() == inside


def test_philox_gives_the_words_of_its_authors():
    """The known answers of the Random123 library for Philox 4x32 with ten rounds."""
    from antorcha.core.philox import signed, words
    from antorcha.loops import ir

    for counter, key, want in ((0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"), (-1, -1, "408f276d 41c83b0e a20bc7c6 6d5451fd")):
        got = words(ir.integer(signed(key)), ir.integer(signed(counter)), ir.integer(signed(counter)))
        assert " ".join(f"{_word(w):08x}" for w in got) == want


def _word(e) -> int:
    """The value of an expression of constants, by the interpreter."""
    from antorcha.base import dtype as dt
    from antorcha.loops import interp, ir

    p, out = ir.Program(), np.zeros(1, np.uint32)
    slot = p.slot("out", dt.uint32)
    p.body = [ir.loop("i", "parallel", ir.integer(1), ir.store(slot, ir.integer(0), e))]
    interp.run(p, [out.ctypes.data])
    return int(out[0])


def test_distributions_drawn_on_the_device(gpus):
    torch.cuda.manual_seed(0)
    gpus.execute = "interp"
    n = 10_000
    u, z = torch.rand(n, device="cuda").cpu().double().numpy(), torch.randn(n, device="cuda").cpu().double().numpy()
    assert 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.02 and abs(u.var() - 1 / 12) < 0.004
    assert abs(z.mean()) < 0.04 and abs(z.std() - 1) < 0.04 and abs((z ** 4).mean() - 3) < 0.4
    kept = torch.nn.functional.dropout(torch.ones(n, device="cuda"), 0.3).cpu().numpy()
    assert abs((kept > 0).mean() - 0.7) < 0.02 and np.allclose(kept[kept > 0], 1 / 0.7)
    whole = torch.randint(-3, 9, (n,), device="cuda").cpu().numpy()
    assert set(whole.tolist()) == set(range(-3, 9)) and whole.dtype == np.int64
    x = torch.empty(n, device="cuda", dtype=torch.float64)
    assert abs(x.exponential_(2.0).mean().item() - 0.5) < 0.03 and abs(x.geometric_(0.25).mean().item() - 4) < 0.2
    assert abs(x.cauchy_(1.0, 2.0).median().item() - 1) < 0.2 and abs(x.log_normal_(0.0, 0.5).log().std().item() - 0.5) < 0.03
    assert abs(torch.bernoulli(torch.full((n,), 0.2, device="cuda")).mean().item() - 0.2) < 0.02
    assert sorted(torch.randperm(9, device="cuda").tolist()) == list(range(9))
    assert torch.randn(5, 2, device="cuda", dtype=torch.complex64).is_complex()
    sampled = torch.func.vmap(lambda a: a + torch.rand(3, device="cuda"), randomness="different")(torch.zeros(4, 3, device="cuda"))
    assert len(set(sampled.flatten().tolist())) == 12


def test_replays_of_a_graph_draw_anew(gpus):
    x = torch.ones(40, device="cuda")
    x.tolist()
    torch.cuda.manual_seed(5)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = torch.nn.functional.dropout(x) + torch.rand(40, device="cuda")
    found = []
    for _ in range(3):
        graph.replay()
        found.append(y.tolist())
    assert found[0] != found[1] != found[2] and torch.cuda.get_rng_state()[8:].tolist() == [24] + 7 * [0]
    torch.cuda.manual_seed(5)
    assert (torch.nn.functional.dropout(x) + torch.rand(40, device="cuda")).tolist() == found[0]


def train(device: str, steps: int = 3):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(11, 4), torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Dropout(0.1),
                                torch.nn.LayerNorm(8), torch.nn.Linear(8, 7)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    x, y = torch.arange(6).reshape(2, 3).to(device), torch.arange(6).to(device)
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, model


def test_training(gpus):
    torch.cuda.manual_seed(0)
    got, model = train("cuda")
    assert all(p.is_cuda and p.grad.is_cuda for p in model.parameters())
    assert got[-1] < got[0] and all(np.isfinite(got))
    launched = launches(gpus)
    assert launched and flush.counters["hits"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(gpus, dtype):
    layer, x = torch.nn.Linear(16, 24).to("cuda"), numbers(9, 16).cuda()
    scaler = torch.amp.GradScaler("cuda", init_scale=8.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with torch.amp.autocast("cuda", dtype=dtype):
        y = layer(x)
    assert y.dtype is dtype and y.is_cuda
    scaler.scale(y.float().square().mean()).backward()
    want = torch.nn.Linear(16, 24)
    want.load_state_dict(layer.cpu().state_dict())
    layer.to("cuda")
    want(x.cpu()).square().mean().backward()
    scaler.unscale_(optimizer)
    agree(layer.weight.grad, want.weight.grad, "gpu", str(dtype).removeprefix("torch."))
    scaler.step(optimizer)
    scaler.update()
    assert any("mma.sync" in text for text in gpus.modules.values())


def halves(*shape):
    return torch.ones(*shape, device="cuda", dtype=torch.float16)


def singles(*shape):
    return torch.ones(*shape, device="cuda")


F = torch.nn.functional
CAST = {    # as PyTorch's lists for this kind of device say
    "float16": [
        lambda: singles(2, 3) @ singles(3, 2), lambda: torch.mv(singles(2, 3), singles(3)), lambda: F.linear(singles(2, 3), singles(4, 3)),
        lambda: torch.einsum("ab,bc->ac", singles(2, 3), singles(3, 2)), lambda: torch.addr(singles(2, 3), singles(2), singles(3)),
        lambda: F.conv1d(singles(1, 1, 4), singles(1, 1, 3)), lambda: F.prelu(singles(2, 4), singles(1)),
        lambda: F.scaled_dot_product_attention(*[singles(1, 1, 3, 4)] * 3), lambda: torch.linalg.vecdot(singles(3), singles(3)),
        lambda: halves(2, 4).mean(), lambda: halves(2, 4).var(), lambda: halves(3).tanh(), lambda: F.gelu(halves(3)),
        lambda: F.batch_norm(halves(2, 4), None, None, training=True), lambda: F.instance_norm(halves(1, 2, 4)), lambda: halves(3).exp_(),
        lambda: halves(2, 4).sum(dtype=torch.float16), lambda: torch.dot(halves(3), halves(3)),
        lambda: torch.exp(torch.ones(3, dtype=torch.float16))],
    "float32": [
        lambda: halves(3).exp(), lambda: torch.log(halves(3)), lambda: halves(3) ** 2, lambda: 2 ** halves(3), lambda: halves(2, 4).sum(1),
        lambda: halves(3).prod(), lambda: halves(3).cumsum(0), lambda: torch.softmax(halves(2, 4), 1), lambda: F.softmax(halves(2, 4), 1),
        lambda: F.log_softmax(halves(2, 4), 1), lambda: halves(2, 4).logsumexp(1), lambda: halves(3).norm(),
        lambda: torch.linalg.norm(halves(3)), lambda: F.layer_norm(halves(2, 4), (4,)), lambda: F.rms_norm(halves(2, 4), (4,)),
        lambda: torch.nn.LayerNorm(4, device="cuda")(halves(2, 4)), lambda: F.group_norm(halves(2, 4), 2), lambda: F.softplus(halves(3)),
        lambda: F.cosine_similarity(halves(2, 4), halves(2, 4)), lambda: torch.cdist(halves(3, 4), halves(3, 4)),
        lambda: F.mse_loss(halves(3), halves(3)), lambda: F.cross_entropy(halves(1, 4), INDEX[2:3].clamp(max=3).cuda()),
        lambda: torch.dot(singles(3), halves(3)), lambda: torch.tensordot(singles(2, 3), singles(3, 2), 1),
        lambda: torch.cat([halves(3), singles(3)]), lambda: F.linear(torch.ones(2, 3), torch.ones(2, 3)),
        lambda: torch.mm(singles(2, 3), singles(3, 2), out=singles(2, 2))]}


@pytest.mark.parametrize("dtype", CAST)
def test_autocast_casts_what_pytorch_does(gpus, dtype):
    """On a GPU more than products and losses, and only what is there; the sums that an operator consists of are left alone."""
    gpus.execute = "none"
    with torch.autocast("cuda"):
        assert torch.is_autocast_enabled("cuda") and not torch.is_autocast_enabled("cpu")
        found = [str(compute().dtype).removeprefix("torch.") for compute in CAST[dtype]]
        assert [(i, x) for i, x in enumerate(found) if x != dtype] == []
        with pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"):
            F.binary_cross_entropy(halves(3), halves(3))
        assert halves(3).double().exp().dtype is torch.float64
    with torch.autocast("cpu"):
        assert (singles(2, 2) @ singles(2, 2)).dtype is torch.float32 and halves(3).exp().dtype is torch.float16
        assert torch.ones(3, dtype=torch.bfloat16).exp().dtype is torch.bfloat16


def test_a_step_that_overflows_is_left_out(gpus):
    layer = torch.nn.Linear(3, 1).cuda()
    optimizer, scaler = torch.optim.Adam(layer.parameters(), lr=0.1), torch.amp.GradScaler("cuda", init_scale=4.0, growth_interval=2)
    first, found = layer.weight.tolist(), []
    for value in (float("inf"), 1.0, 1.0):
        optimizer.zero_grad()
        with torch.autocast("cuda"):
            loss = layer(torch.full((2, 3), value, device="cuda")).float().sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        found.append((scaler.get_scale(), layer.weight.tolist() == first))
    assert found == [(2.0, True), (2.0, False), (4.0, False)] and layer.weight.isfinite().all().item()


def convolution(device: str):
    """A convolution of bfloat16, and its derivatives."""
    x, w = (numbers(*shape, seed=k).bfloat16().to(device).requires_grad_() for k, shape in enumerate([(2, 8, 7, 7), (8, 8, 3, 3)]))
    y = torch.nn.functional.conv2d(x, w, padding=1)
    found = y, *torch.autograd.grad(y, (x, w), numbers(2, 8, 7, 7, seed=2).bfloat16().to(device))
    return torch.cat([t.detach().flatten() for t in found]).cpu()


def test_convolutions_use_tensor_cores(gpus):
    """Windows are read through their index map: there is no copy of them. Derivatives are such products too."""
    got = convolution("cuda")
    assert sum("mma.sync" in text for text in gpus.modules.values()) == 3
    agree(got, convolution("cpu"), "gpu")


def test_a_step_that_repeats_is_one_graph(gpus):
    """Its plan is found again; nothing is copied, allocated or waited for, and only arguments that changed are told."""
    def step(device, scale, losses):
        nonlocal w
        h = (x * w[:4]).cumsum(0).relu()
        loss = (torch.softmax(h, 1) * w[4:]).cumsum(1).tanh().mean()
        loss.backward()
        with torch.no_grad():
            w -= scale * w.grad
        w.grad = None
        losses.append(loss)
        tape.flush()

    x, results, asked = torch.arange(32.0).reshape(4, 8), {}, []
    for device in ("cpu", "cuda"):
        w, losses = torch.ones(8, 8, device=device).requires_grad_(), []
        w.tolist()
        x = x.to(device)
        for k in range(9):
            before = len(gpus.calls)
            step(device, 0.1 if k < 7 else 0.05, losses)
            asked.append([c[0] for c in gpus.calls[before:]])
        results[device] = [loss.item() for loss in losses], w.tolist()
    agree(results["cuda"], results["cpu"], "gpu", "float32")
    asked = asked[9:]
    assert set(asked[1]) == {"launch"} and sum(calls.count("cuGraphInstantiate") for calls in asked) == 1
    for calls in asked[6:]:
        assert set(calls) <= {"cuGraphUpdate", "cuGraphLaunch"} and calls.count("cuGraphLaunch") == 1


def test_explain_times_kernels(gpus):
    from antorcha.explaining import Recorder

    x = A.cuda()
    with Recorder() as recorder:
        (x.softmax(1) @ x.t()).tolist()
    run = list(recorder.runs.values())[-1]
    assert len(run.times) == 2 and all(run.times) and "ptx_kernel" in recorder.report(code=True)


def test_a_bad_index_is_reported_when_somebody_waits(gpus):
    got = torch.ones(3, device="cuda")[torch.tensor([0, 7]).cuda()]
    tape.flush()
    with pytest.raises(IndexError, match=r"index in \[-3, 3\).*received 7(.|\n)*test_cuda.py"):
        got.tolist()
    assert torch.ones(2, device="cuda").tolist() == [1, 1]


def test_two_devices_and_the_processor_in_one_recording(gpus):
    a, b, c = torch.ones(3) * 2, torch.ones(3, device="cuda:0") * 3, torch.ones(3, device="cuda:1") * 4
    assert (c.tolist(), b.tolist(), a.tolist()) == ([4] * 3, [3] * 3, [2] * 3)
    pending = torch.ones(3, device="cuda") * 5
    before = launches(gpus)
    (torch.ones(2) + 1).to("cuda")
    assert launches(gpus) == before     # the recording for the GPU goes on
    assert pending.tolist() == [5] * 3


def test_operators_of_numpy(gpus):
    x = numbers(3, 4)
    values, order = (x.cuda() * 2).sort(1)
    assert ((values + 1).cpu().tolist(), order.tolist()) == (((x * 2).sort(1)[0] + 1).tolist(), x.sort(1)[1].tolist())


def test_streams_and_events(gpus):
    stream = torch.cuda.Stream()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    pending = torch.ones(2, device="cuda") + 1
    start.record()
    with torch.cuda.stream(stream):
        assert torch.cuda.current_stream() == stream != torch.cuda.default_stream()
        inside = torch.ones(2, device="cuda") * 3
        end.record()
    torch.cuda.current_stream().wait_stream(stream)
    end.synchronize()
    marked = [c for c in gpus.calls if c[0] in ("launch", "cuEventRecord", "cuStreamWaitEvent")]
    streams = [c[-1] for c in marked]
    assert [c[0] for c in marked[:4]] == ["launch", "cuEventRecord", "launch", "cuEventRecord"]
    assert streams[:4] == [0, 0, stream.cuda_stream, stream.cuda_stream] and marked[-1] == ("cuStreamWaitEvent", 0)
    assert start.elapsed_time(end) == 1.0 and stream.query() and end.query()
    assert pending.tolist() == [2, 2] and inside.tolist() == [3, 3]


def test_memory_waits_for_streams_that_use_it(gpus):
    stream, x = torch.cuda.Stream(), torch.ones(1000, device="cuda")
    x.tolist()
    with torch.cuda.stream(stream):
        tape.flush()
        y = x + 1
        tape.flush()
    x.record_stream(stream)
    taken = x.data_ptr()
    gpus.busy.add(stream.cuda_stream)
    del x
    waited = gpus.names().count("cuStreamSynchronize")
    other = torch.empty(1000, device="cuda").fill_(2)
    assert other.data_ptr() != taken and gpus.names().count("cuStreamSynchronize") == waited     # the stream still works with it
    gpus.busy.clear()
    assert torch.empty(1000, device="cuda").fill_(3).data_ptr() == taken and y[0].item() == 2 and other[0].item() == 2


def test_memory(gpus):
    assert torch.cuda.mem_get_info() == (fake_cuda.MEMORY, fake_cuda.MEMORY)
    x = torch.empty(1 << 20, device="cuda").fill_(1)
    tape.flush()
    used = torch.cuda.memory_allocated()
    assert used >= 4 << 20 and torch.cuda.memory_reserved() >= used
    del x
    assert torch.cuda.memory_allocated() <= used - (4 << 20) and torch.cuda.max_memory_allocated() >= used
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() < used
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < 4 << 20
    with pytest.raises(torch.cuda.OutOfMemoryError, match="cuda:0"):
        torch.ones(fake_cuda.MEMORY, device="cuda").tolist()


def test_management_is_asked_by_the_place_on_the_bus(gpus, monkeypatch):
    """The numbers of NVIDIA's management library are others where devices are hidden."""
    from antorcha.cuda import nvml

    class Management:
        def nvmlDeviceGetHandleByPciBusId_v2(self, bus, handle):
            handle._obj.value = {b"0000:3B:00.0": 7, b"0000:3D:00.0": 9}[bus.value]
            return 0

        def nvmlDeviceGetTemperature(self, handle, kind, found):
            found._obj.value = 10 * handle.value
            return kind.value

    monkeypatch.setattr(nvml, "_library", Management)
    assert torch.cuda.temperature() == 70 and torch.cuda.temperature(1) == 90


def test_copies_are_staged(gpus):
    """The driver of the tests refuses to go on while memory is read that is not page-locked."""
    from antorcha.runtime import cuda

    waits = gpus.names().count("cuStreamSynchronize")
    small = [torch.full((k,), 2.0).cuda() for k in range(1, 9)]
    assert gpus.names().count("cuStreamSynchronize") == waits
    large = torch.ones(cuda.STAGED // 4 + 1).cuda()
    assert gpus.names().count("cuStreamSynchronize") == waits + 1
    assert large.sum().item() == cuda.STAGED // 4 + 1 and [x.tolist() for x in small] == [[2.0] * k for k in range(1, 9)]
    assert len(cuda.device()._in_flight) <= 1       # of copies that are done the last at most is remembered


def test_pinned_memory(gpus):
    x = numbers(6).pin_memory()
    assert x.is_pinned() and not A.is_pinned() and x.tolist() == numbers(6).tolist()
    before = gpus.names().count("cuStreamSynchronize")
    y = x.to("cuda", non_blocking=True)
    assert gpus.names().count("cuStreamSynchronize") == before and y.tolist() == x.tolist()
    assert torch.empty(7).pin_memory().copy_(A[0, :7].cuda(), non_blocking=True).tolist() == A[0, :7].tolist()
    assert y.to("cpu", non_blocking=True).tolist() == x.tolist() and x.cuda(1, non_blocking=True).get_device() == 1
    made = [torch.empty(3, pin_memory=True), torch.zeros_like(A, pin_memory=True), torch.arange(3, pin_memory=True),
            torch.full((2,), 7, pin_memory=True), torch.randn(2, pin_memory=True), A.new_zeros(2, pin_memory=True),
            torch.tensor([1], pin_memory=True), torch.randperm(4, pin_memory=True), torch.empty_strided((2, 3), (1, 2), pin_memory=True)]
    assert all(t.is_pinned() for t in made) and made[3].tolist() == [7, 7] and made[-1].stride() == (1, 2)
    with pytest.raises(RuntimeError, match="expected a tensor on the CPU"):
        torch.zeros(2, device="cuda", pin_memory=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_pinned(gpus, workers):
    """Workers, forked after the first use of a GPU, make them on the CPU."""
    pending = torch.ones(2, device="cuda") + 1
    torch.ones(2, device="cuda").tolist()
    samples = [(torch.full((3,), float(i)), {"class": torch.tensor(i)}, f"{i}.png") for i in range(6)]
    loader, seen = torch.utils.data.DataLoader(samples, batch_size=2, num_workers=workers, pin_memory=True), []
    for x, labels, names in loader:
        assert x.is_pinned() and labels["class"].is_pinned() and len(names) == 2
        seen += x.cuda(non_blocking=True)[:, 0].tolist()
    assert seen == [0, 1, 2, 3, 4, 5] and pending.tolist() == [2, 2]


def test_files(gpus, tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"w": A.cuda(), "b": B}, path)
    loaded = torch.load(path)
    assert loaded["w"].device == torch.device("cuda:0") and loaded["b"].is_cpu and loaded["w"].tolist() == A.tolist()
    assert torch.load(path, map_location="cpu")["w"].is_cpu
    assert torch.load(path, map_location={"cuda:0": "cuda:1"})["w"].get_device() == 1
    assert torch.load(path, map_location=lambda storage, location: storage.cuda(1))["b"].get_device() == 1
    cuda.use(fake_cuda.Library(0))
    with pytest.raises(RuntimeError, match="map_location='cpu'"):
        torch.load(path)


@pytest.mark.parametrize("use", [lambda x: torch.ones(2, device="cuda"), lambda x: x + 1, lambda x: x])
def test_a_forked_process_is_told(gpus, use):
    x = torch.ones(2, device="cuda")
    x.tolist()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            use(x).tolist()
            text = "no error"
        except RuntimeError as e:
            text = str(e)
        del x
        os.write(write, text.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert "forked" in os.read(read, 4096).decode() and x.tolist() == [1, 1]


def test_the_allocator():
    """Random requests: blocks never overlap, neighbours join, what is given back is used again."""
    space, next_address = {}, [1 << 20]

    def reserve(nbytes):
        if sum(space.values()) + nbytes > 200 << 20:
            raise MemoryError
        space[next_address[0]] = nbytes
        next_address[0] += nbytes + (1 << 20)
        return next_address[0] - nbytes - (1 << 20)

    allocator = Allocator("test", reserve, lambda address: space.pop(address))
    random, held = np.random.RandomState(0), []
    for _ in range(2000):
        if held and random.rand() < 0.5:
            allocator.give(held.pop(random.randint(len(held))))
            continue
        block = allocator.take(int(2 ** random.uniform(0, 22)), int(random.randint(2)))
        assert all(block.address + block.size <= b.address or b.address + b.size <= block.address for b in held)
        assert any(s <= block.address and block.address + block.size <= s + n for s, n in space.items())
        held.append(block)
    while held:
        allocator.give(held.pop())
    allocator.empty_cache()
    assert allocator.allocated == 0 and allocator.reserved == 0 and not space


# -- what a real driver asks for ----------------------------------------------------------------------------------

def test_streams_come_from_a_pool(gpus):
    """A program that makes streams without end uses a few of the driver's."""
    handles = [torch.cuda.Stream().cuda_stream for _ in range(3 * cuda.STREAMS)]
    assert len(set(handles)) == cuda.STREAMS and 0 not in handles
    assert torch.cuda.Stream(priority=-1).cuda_stream not in handles


def test_threads_have_their_own_context(gpus):
    """Each thread binds it before its first call, whatever that is."""
    import threading

    stream, event, x = torch.cuda.Stream(), torch.cuda.Event(), torch.ones(3, device="cuda")
    event.record()
    found = []
    questions = [stream.query, event.query, lambda: (x + 1).tolist(), lambda: x.cpu().tolist(), torch.cuda.synchronize]
    threads = [threading.Thread(target=lambda ask=ask: found.append(ask())) for ask in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(500)
    assert len(found) == len(questions) and [2, 2, 2] in found


def test_notes_of_kernels_wait_for_their_stream(gpus):
    """An index out of range in one stream is not lost, nor looked at too early, when another stream is waited for."""
    index = torch.tensor([0, 7]).cuda()
    other = torch.ones(2, device="cuda")
    other.tolist()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.ones(3, device="cuda")[index]
        bad = torch.ones(3, device="cuda")[index]
        tape.flush()
    assert (other + 1).tolist() == [2, 2]
    with pytest.raises(IndexError, match="received 7"):
        torch.cuda.synchronize()
    del bad


def test_pinned_memory_is_kept(gpus):
    x = numbers(600).pin_memory()
    address = x.data_ptr()
    del x
    assert numbers(700).pin_memory().data_ptr() == address and len(gpus.host) == 1
    torch.cuda.empty_cache()
    assert not gpus.host


def test_shared_memory_is_never_asked_for_less(gpus):
    """Two launches of one function: what the first needs stays allowed."""
    from antorcha.targets.ptx import Launch

    device, asked = cuda.device(), []
    device.function = lambda *given: cuda.c_void_p(7)
    gpus.cuFuncSetAttribute = lambda function, attribute, value: asked.append(value.value) or 0
    for nbytes in (10_000, 90_000, 60_000, 100_000):
        device.call_of("key", "kernel", lambda: "", Launch((1, 1), (32, 1), nbytes), 0, 0)
    assert asked == [90_000, 100_000]


def test_a_driver_that_is_too_old(gpus):
    gpus.cuModuleLoadDataEx = lambda *given: cuda.OLD_DRIVER
    with pytest.raises(RuntimeError, match="Update the NVIDIA driver"):
        torch.ones(2, device="cuda").tolist()


def test_a_graph_that_cannot_be_updated_is_made_anew(gpus):
    """The driver refuses where a library launches other kernels than before."""
    x, found = torch.arange(8.0).cuda(), []
    x.tolist()
    for k in range(12):
        if k == 8:
            gpus.cuGraphExecKernelNodeSetParams = lambda *given: 910
        found.append(((x * (k + 1.0)).cumsum(0).relu().cumsum(0).sqrt().cumsum(0)).tolist())
    want = torch.arange(8.0)
    for k, got in enumerate(found):
        agree(got, (want * (k + 1.0)).cumsum(0).relu().cumsum(0).sqrt().cumsum(0), "gpu")


def test_no_launch_has_more_threads_than_registers(gpus):
    """Code says how many threads a block may have; without that 512 threads of more than 128 registers do not start on a card."""
    for compute in (lambda x: x.softmax(1), lambda x: x.sum(), lambda x: x @ x.t(), lambda x: x.cumsum(1), lambda x: x * 2):
        compute(A.cuda()).tolist()
    assert gpus.modules and all("nvvm.maxntid" in text for text in gpus.modules.values())


def test_a_step_that_asks_by_a_copy_is_one_recording(gpus, monkeypatch):
    """Forward and backward pass are computed together in each step, whichever way its value is asked for."""
    gpus.execute = "none"
    x, w = torch.ones(4).cuda(), torch.ones(4).cuda().requires_grad_()
    torch.cuda.synchronize()
    counts, compute = [], flush.flush
    monkeypatch.setattr(flush, "flush", lambda nodes, *given, **named: counts.append(len(nodes)) or compute(nodes, *given, **named))
    for _ in range(3):
        w.grad = None
        (x * w).sin().sum().backward()
        w.grad.cpu()
    assert len(counts) == 3
