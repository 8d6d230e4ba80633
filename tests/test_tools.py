"""What programs use around their models: counters, weak dictionaries, swapped tensors, checks of texts, control flow."""

from __future__ import annotations

import datetime
import gc

import pytest

import antorcha as torch
from antorcha import monitor
from antorcha.utils import weak


def test_stats_log_their_aggregates_at_the_end_of_a_window():
    events = []
    handle = monitor.register_event_handler(events.append)
    try:
        stat = monitor.Stat("loss", [monitor.SUM, monitor.MEAN, monitor.COUNT], datetime.timedelta(hours=1), max_samples=3)
        for value in (1.0, 2.0):
            stat.add(value)
        assert stat.count == 2 and stat.get()[monitor.MEAN] == 1.5 and not events
        stat.add(6.0)
        assert events[0].data == {"loss.sum": 9.0, "loss.mean": 3.0, "loss.count": 3}
        stat.add(5.0)   # the window is full
        assert stat.count == 0
    finally:
        monitor.unregister_event_handler(handle)


def test_weak_dictionaries_compare_by_identity_and_forget():
    a, b = torch.ones(2), torch.ones(2)
    table = weak.WeakTensorKeyDictionary()
    table[a], table[b] = "a", "b"
    assert table[a] == "a" and len(table) == 2 and a in table
    del a
    gc.collect()
    assert len(table) == 1 and list(table.values()) == ["b"]
    reference = weak.TensorWeakRef(b)
    assert reference() is b


def test_swapped_tensors_keep_who_refers_to_them():
    a, b = torch.ones(2), torch.nn.Parameter(torch.zeros(3))
    b.tag = 1
    holder = [a, b]
    torch.utils.swap_tensors(a, b)
    assert isinstance(holder[0], torch.nn.Parameter) and holder[0].shape == (3,) and holder[0].tag == 1
    assert holder[1].tolist() == [1.0, 1.0] and type(holder[1]) is torch.Tensor


def test_texts_are_checked_in_order():
    text = "one\ntwo three\nfour\n"
    torch.testing.FileCheck().check("one").check_next("two").check_same("three").check_not("five").check("four").run(text)
    for check in (torch.testing.FileCheck().check("four").check("one"), torch.testing.FileCheck().check_not("two").check("four"),
                  torch.testing.FileCheck().check_count("o", 2, exactly=True)):
        with pytest.raises(RuntimeError, match="Expected"):
            check.run(text)


def test_cond_runs_one_branch():
    ran = []
    out = torch.cond(torch.tensor([True]), lambda x: ran.append(1) or x + 1, lambda x: ran.append(2) or x - 1, (torch.ones(2),))
    assert out.tolist() == [2.0, 2.0] and ran == [1]
    with pytest.raises(RuntimeError, match="pred"):
        torch.cond("no", None, None)


def test_files_as_tensors(tmp_path):
    path = str(tmp_path / "numbers")
    x = torch.from_file(path, shared=True, size=4, dtype=torch.int32)
    x[1] = 7
    x.tolist()
    del x
    gc.collect()
    y = torch.from_file(path, size=4, dtype=torch.int32)
    assert y.tolist() == [0, 7, 0, 0]
    with pytest.raises(RuntimeError, match="at least"):
        torch.from_file(path, size=400)


def test_functions_of_the_torch_namespace():
    x = torch.ones(8, 8)
    out, kept = torch.native_dropout(x, 0.5, True)
    assert torch.equal(out, kept * 2.0) and kept.dtype is torch.bool
    assert torch.norm_except_dim(x, 2, 1).shape == (1, 8)
    table = torch.ones(3, 4)
    torch.embedding_renorm_(table, torch.tensor([1, 1]), 1.0, 2.0)
    assert table.norm(2, 1).tolist() == pytest.approx([2.0, 1.0, 2.0], abs=1e-5)
    assert torch.adaptive_max_pool1d(torch.arange(4.0).reshape(1, 4), 2)[1].tolist() == [[1, 3]]
    torch.set_anomaly_enabled(True)
    assert torch.is_anomaly_enabled()
    torch.set_anomaly_enabled(False)


@pytest.mark.parametrize("name", ["AnyType", "cudnn_convolution", "fbgemm_linear_int8_weight", "parse_ir"])
def test_names_of_other_engines_say_what_to_use(name):
    with pytest.raises(NotImplementedError, match=f"torch.{name}.*(Use|Call) "):
        getattr(torch, name)()


def test_modules_that_run_are_tracked():
    from antorcha.utils.module_tracker import ModuleTracker

    class Part(torch.nn.Module):
        def forward(self, x):
            seen.append(set(tracker.parents))
            inner = x * 2
            inner.register_hook(lambda g: seen.append(set(tracker.parents)))
            return inner + 1

    seen: list = []
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Part())
    with ModuleTracker() as tracker:
        model(torch.ones(1, 2)).sum().backward()
    assert seen[0] == {"Global", "Sequential", "Sequential.1"} and "Sequential.1" in seen[1]


def test_optimizers_are_pickled_with_their_state():
    import pickle

    p = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([p])
    p.grad = torch.ones(2)
    optimizer.step()
    again = pickle.loads(pickle.dumps(optimizer))
    (q,) = again.param_groups[0]["params"]
    assert torch.equal(q, p) and torch.equal(again.state[q]["exp_avg"], optimizer.state[p]["exp_avg"])
    q.grad = torch.ones(2)
    again.step()


def test_throughput_is_measured():
    bench = torch.utils.ThroughputBenchmark(torch.nn.Linear(2, 2))
    bench.add_input(torch.ones(1, 2))
    stats = bench.benchmark(num_calling_threads=2, num_warmup_iters=1, num_iters=5)
    assert stats.num_iters == 5 and stats.latency_avg_ms > 0 and "iterations: 5" in str(stats)


def test_functions_of_arrays_take_tensors():
    import numpy as np

    double = torch.compiler.wrap_numpy(lambda x: np.add(x, x))
    assert double(torch.ones(2)).tolist() == [2.0, 2.0]


def test_settings_of_backends():
    before = torch.backends.cuda.matmul.fp32_precision
    with torch.backends.flags(fp32_precision="tf32"):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert torch.backends.cudnn.set_flags(benchmark_limit=3) == (10,) and torch.backends.cudnn.benchmark_limit == 3
    torch.backends.cudnn.benchmark_limit = 10
    assert torch.backends.mkldnn.conv.fp32_precision == "none" and not torch.backends.cusparselt.is_available()
    with pytest.raises(RuntimeError, match="no mps device"):
        torch.backends.mps.get_name()


def test_memory_of_devices_can_be_asked_for_without_one():
    assert torch.cuda.memory.memory_allocated() == 0 and torch.cuda.memory_snapshot() == [] and torch.xpu.memory_reserved() == 0
    assert torch.accelerator.max_memory_allocated() == 0 and torch.cuda.get_allocator_backend() == "native"
    assert not isinstance(torch.ones(1), torch.cuda.FloatTensor) and issubclass(type(torch.cuda.FloatTensor), type)
    for call in (torch.xpu.current_device, torch.mtia.get_device_properties):
        with pytest.raises(RuntimeError, match="antorcha has no"):
            call()
    with pytest.raises(NotImplementedError, match="allocator"):
        torch.cuda.MemPool()


def test_pieces_for_devices_come_together_again():
    from antorcha.cuda import comm

    x = torch.arange(6.0)
    parts = comm.scatter(x, ["cpu", "cpu"], [2, 4])
    assert [len(p) for p in parts] == [2, 4] and torch.equal(comm.gather(parts, destination="cpu"), x)
    assert comm.reduce_add([x, x, x]).tolist() == (3 * x).tolist()
    out = torch.empty(6)
    assert comm.broadcast(x, out=[out])[0] is out and torch.equal(out, x)
    with pytest.raises(RuntimeError, match="exactly one"):
        comm.broadcast(x)


def test_causal_masks_that_are_not_written_out():
    from antorcha.nn.attention.bias import causal_lower_right, causal_upper_left

    assert torch.nn.attention.bias.causal_upper_left is causal_upper_left
    q, k = torch.randn(1, 2, 4), torch.randn(1, 5, 4)
    attend = torch.nn.functional.scaled_dot_product_attention
    for make, shift in ((causal_lower_right, 3), (causal_upper_left, 0)):
        mask = torch.ones(2, 5, dtype=torch.bool).tril(shift)
        assert torch.equal(make(2, 5).materialize(), mask)
        assert torch.allclose(attend(q, k, k, attn_mask=make(2, 5)), attend(q, k, k, attn_mask=mask))


def test_files_without_values_and_places_of_storages(tmp_path):
    with torch.serialization.skip_data():
        torch.save({"w": torch.ones(3)}, tmp_path / "empty.pt")
    assert torch.load(tmp_path / "empty.pt")["w"].tolist() == [0.0, 0.0, 0.0]
    assert torch.serialization.location_tag(torch.ones(1).untyped_storage()) == "cpu"
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.serialization.default_restore_location(torch.ones(1).untyped_storage(), "cuda:7")


def test_limits_and_nodes_have_their_attributes_on_the_class():
    assert torch.finfo.eps.__get__(torch.finfo(torch.float32)) == 2.0**-23 and torch.iinfo.max.__get__(torch.iinfo(torch.int8)) == 127
