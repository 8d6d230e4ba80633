"""Namespaces around the tensors: autocast, loss scaling, compile, backends, profiler, hub."""

from __future__ import annotations

import hashlib

import pytest

import antorcha as torch
from antorcha import nn


def test_autocast_casts_products_and_keeps_losses():
    model, x = nn.Linear(4, 3), torch.randn(5, 4)
    with torch.autocast("cpu"):
        out = model(x)
        assert out.dtype is torch.bfloat16 and (x @ x.t()).dtype is torch.bfloat16
        assert torch.nn.functional.conv1d(torch.randn(1, 1, 8), torch.randn(2, 1, 3)).dtype is torch.bfloat16
        loss = nn.functional.mse_loss(out, torch.zeros(5, 3))
        assert loss.dtype is torch.float32
        with torch.autocast("cpu", enabled=False):
            assert (x @ x.t()).dtype is torch.float32
        assert torch.is_autocast_enabled("cpu")
    loss.backward()
    assert model.weight.grad.dtype is torch.float32 and (x @ x.t()).dtype is torch.float32
    expected = (x.bfloat16().float() @ model.weight.detach().bfloat16().float().t() + model.bias.detach().bfloat16().float()).bfloat16()
    assert torch.equal(out, expected)
    with pytest.raises(RuntimeError, match="device_type"):
        torch.autocast("abacus")


def test_autocast_decorates_and_takes_a_dtype():
    @torch.autocast("cpu", dtype=torch.float16)
    def product(x):
        return x @ x
    assert product(torch.ones(2, 2)).dtype is torch.float16


def test_scaled_losses_skip_steps_that_overflow():
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    scaler.scale((p * 2).sum()).backward()
    assert p.grad.tolist() == [8.0, 8.0]
    scaler.step(optimizer)
    assert p.tolist() == [0.0, 0.0]
    scaler.update()
    assert scaler.get_scale() == 8.0
    p.grad = torch.tensor([float("inf"), 1.0])
    scaler.step(optimizer)
    scaler.update()
    assert p.tolist() == [0.0, 0.0] and scaler.get_scale() == 4.0
    again = torch.amp.GradScaler("cpu")
    again.load_state_dict(scaler.state_dict())
    assert again.get_scale() == 4.0
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer), scaler.unscale_(optimizer)


def test_compile_returns_what_behaves_the_same():
    @torch.compile
    def f(x, scale=2.0):
        return x * scale
    assert f(torch.ones(2)).tolist() == [2.0, 2.0] and f(torch.ones(2), scale=3.0).tolist() == [3.0, 3.0]
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    compiled = torch.compile(model, mode="max-autotune")
    assert list(compiled.state_dict()) == ["_orig_mod.0.weight", "_orig_mod.0.bias"] and isinstance(compiled, nn.Module)
    compiled.eval()
    assert not model[1].training
    x = torch.ones(1, 2)
    assert torch.equal(compiled(x), model(x)) and compiled._orig_mod is model
    with pytest.raises(RuntimeError, match="Unrecognized mode"):
        torch.compile(f, mode="fastest")
    assert not torch.compiler.is_compiling()


def test_script_and_trace_run_the_function():
    calls = []
    traced = torch.jit.trace(lambda x: calls.append(1) or x + 1, torch.ones(1))
    assert traced(torch.ones(1)).item() == 2 and len(calls) == 2 and torch.jit.script(traced) is traced
    with pytest.raises(NotImplementedError, match="state_dict"):
        torch.jit.load("model.pt")


def test_switches_of_backends_can_be_read_and_set(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with torch.backends.cudnn.flags(benchmark=False):
        assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark and not torch.backends.mps.is_available() and torch.backends.cpu.get_cpu_capability()


def test_devices_that_are_not_there():
    for device in (torch.mps, torch.xpu):
        assert not device.is_available() and device.device_count() == 0
        with pytest.raises(RuntimeError, match="no .* device"):
            device.synchronize()


def test_profile_measures_computing():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as p, torch.profiler.record_function("mine"):
        (torch.ones(10) + 1).sum().item()
    names = {e.key: e.count for e in p.key_averages()}
    assert names["antorcha::compute"] >= 1 and names["mine"] == 1 and "mine" in p.key_averages().table()
    action = torch.profiler.schedule(wait=1, warmup=1, active=2)
    assert [action(i).name for i in range(5)] == ["NONE", "WARMUP", "RECORD", "RECORD_AND_SAVE", "NONE"]


def test_downloads_are_whole_and_checked(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "source.pt")
    digest = hashlib.sha256((tmp_path / "source.pt").read_bytes()).hexdigest()
    named = tmp_path / f"w-{digest[:8]}.pt"
    (tmp_path / "source.pt").rename(named)
    state = torch.hub.load_state_dict_from_url(named.as_uri(), model_dir=tmp_path / "cache", check_hash=True, progress=False)
    assert state["w"].tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="invalid hash"):
        torch.hub.download_url_to_file(named.as_uri(), str(tmp_path / "x.pt"), "0000", progress=False)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("x.pt")] == []


def test_initialisations_of_layers():
    w = nn.init.dirac_(torch.empty(4, 2, 3), groups=2)
    x = torch.arange(2 * 5.0).reshape(1, 2, 5)
    assert torch.equal(nn.functional.conv1d(x, w[:2], padding=1), x)
    s = nn.init.sparse_(torch.empty(10, 4), sparsity=0.3)
    assert ((s == 0).sum(0) == 3).all()


def test_flop_counter_counts_products():
    from antorcha.utils.flop_counter import FlopCounterMode

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(512, 10))
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 3, 8, 8)).sum().backward()
    forward = 2 * 2 * 64 * 8 * 27 + 2 * 2 * 512 * 10
    assert counter.get_total_flops() == 2 * forward + 2 * 2 * 512 * 10      # the input of the convolution needs no gradient


def test_checkpoints_are_read_record_by_record(tmp_path):
    torch.save({"a": torch.arange(6.0)}, tmp_path / "x.pt")
    reader = torch.PyTorchFileReader(tmp_path / "x.pt")
    assert "data.pkl" in reader.get_all_records() and reader.has_record("data/0")
    assert reader.get_storage_from_record("data/0", 6, torch.float32).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(RuntimeError, match="expected 28 bytes"):
        reader.get_storage_from_record("data/0", 7, torch.float32)


def test_overloads_of_the_dispatcher_are_objects_of_their_own():
    aten = torch.ops.aten
    assert aten.add.Tensor is aten.add.Tensor and aten.add.Tensor is not aten.add.Scalar
    assert aten._to_copy.default(torch.ones(2), dtype=torch.int64).dtype is torch.int64


def test_shapes_may_be_registered_before_an_operator():
    fake = torch.library.register_fake("early::twice", lambda x: torch.empty_like(x))
    library = torch.library.Library("early", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: 2 * x, "CPU")
    assert fake is not None and torch.ops.early.twice.default.fake is fake
    assert torch.ops.early.twice(torch.ones(2)).tolist() == [2, 2]
