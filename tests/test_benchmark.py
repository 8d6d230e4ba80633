"""torch.utils.benchmark and torch.profiler."""

from __future__ import annotations

import json

import pytest

import antorcha as torch
from antorcha.profiler import ProfilerAction, profile, record_function, schedule
from antorcha.utils import benchmark


def _measured(times, **spec) -> benchmark.Measurement:
    return benchmark.Measurement(10, times, benchmark.TaskSpec("f()", "pass", **spec))


def test_statements_are_measured_with_what_they_record():
    timer = benchmark.Timer("y = x + 1", "x = torch.ones(4)", label="add")
    m = timer.timeit(3)
    assert m.number_per_run == 3 and len(m.times) == 1 and m.median > 0 and "add" in repr(m)
    m = timer.blocked_autorange(min_run_time=0.002)
    assert sum(m.raw_times) >= 0.002 and m.num_threads == 1
    assert benchmark.Timer(lambda: torch.ones(2)).adaptive_autorange(max_run_time=0.01).median > 0
    with pytest.raises(NotImplementedError, match="Valgrind"):
        timer.collect_callgrind()


def test_measurements_tell_their_spread():
    m = _measured([1e-5, 2e-5, 3e-5, 4e-5, 5e-5])
    assert m.median == pytest.approx(3e-6) and m.mean == pytest.approx(3e-6) and m.iqr == pytest.approx(2e-6)
    assert m.has_warnings and "WARNING" in repr(m) and m.significant_figures == 1
    assert not _measured([1e-5] * 5).has_warnings
    (both,) = benchmark.Measurement.merge([m, _measured([6e-5])])
    assert len(both.times) == 6
    assert benchmark.select_unit(2e-5) == ("us", 1e-6) and benchmark.unit_to_english("ms") == "millisecond"
    assert benchmark.trim_sigfig(1234.0, 2) == 1200.0 and benchmark.ordered_unique("abab") == ["a", "b"]


def test_comparisons_are_tables():
    results = [_measured([t * 1e-6], label="sum", sub_label=size, description=name)
               for size, name, t in (("small", "ours", 10), ("small", "theirs", 30), ("large", "ours", 200))]
    compare = benchmark.Compare(results)
    text = str(compare)
    lines = text.splitlines()
    assert " sum " in lines[0] and "ours" in lines[1] and "theirs" in lines[1] and lines[2].startswith("1 threads: ---")
    assert lines[3].replace("|", " ").split() == ["small", "1.0", "3.0"] and lines[4].replace("|", " ").split() == ["large", "20.0"]
    compare.colorize(rowwise=True)
    assert "\033[92m" in str(compare)
    with pytest.raises(ValueError, match="Measurement"):
        compare.extend_results([1])


def test_fuzzers_draw_the_same_for_a_seed():
    def fuzzer():
        return benchmark.Fuzzer(
            [benchmark.FuzzedParameter("n", 2, 8, "uniform"),
             benchmark.FuzzedParameter("m", distribution={benchmark.ParameterAlias("n"): 1.0}),
             benchmark.FuzzedParameter("k", distribution={1: 0.5, 2: 0.5})],
            [benchmark.FuzzedTensor("x", ("n", "m"), steps=("k", 1), probability_contiguous=0.0, max_elements=40),
             benchmark.FuzzedSparseTensor("s", ("n", "m"), density=0.5, coalesced=True)],
            constraints=[lambda n, m, k: n != 5], seed=1)
    drawn = list(fuzzer().take(6))
    for tensors, facts, params in drawn:
        n = params["n"]
        assert params["m"] == n != 5 and n * n <= 40 and tensors["x"].shape == (n, n) and facts["x"]["numel"] == n * n
        assert tensors["s"].is_sparse and tensors["s"].shape == (n, n)
    again = list(fuzzer().take(6))
    assert all(torch.equal(a[0]["x"], b[0]["x"]) and a[2] == b[2] for a, b in zip(drawn, again))


def test_profiles_show_kernels_by_their_operators(tmp_path):
    x = torch.ones(1000)
    with profile() as p, record_function("mine"):
        (x * 2).exp().sum().item()
    names = {e.key: e for e in p.key_averages()}
    kernels = [name for name in names if name.startswith("kernel: ")]
    assert any("mul" in k and "exp" in k and "sum" in k for k in kernels) and names["mine"].count == 1
    assert p.self_cpu_time_total > 0 and "kernel: " in p.table()
    p.add_metadata_json("note", '{"a": 1}')
    p.export_chrome_trace(str(tmp_path / "trace.json"))
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert {e["cat"] for e in trace["traceEvents"]} == {"kernel", "compute", "user"} and trace["note"] == {"a": 1}


def test_schedules_say_which_steps_are_measured():
    seen = []
    with profile(schedule=schedule(wait=1, warmup=1, active=2, repeat=1),
                 on_trace_ready=lambda p: seen.append([e.name for e in p.events() if e.kind == "user"])) as p:
        for i in range(6):
            with record_function(f"step {i}"):
                torch.ones(3).sum().item()
            p.step()
    assert len(seen) == 1 and [n for n in seen[0] if n.startswith("step")] == ["step 2", "step 3"]
    assert schedule(wait=0, warmup=0, active=1)(0) is ProfilerAction.RECORD_AND_SAVE
