"""benchmarks/cuda.py on a driver of our own: every part runs, so that on a card it works the first time."""

from __future__ import annotations

import json
from types import SimpleNamespace

import fake_cuda
import pytest

import antorcha as torch
from antorcha.graph import flush
from antorcha.runtime import cublas, cuda
from antorcha.targets import ptx
from benchmarks import card
from benchmarks import cuda as benchmark


@pytest.fixture
def in_process(monkeypatch):
    """Engines measure in this process, on the GPU of the imagination: PyTorch as much as antorcha has, and compiled one part."""
    known: dict = {}

    def measured(python, engine, what, options, *more):
        if what in known and (what != "gpt_bach" or "--compile" not in more):
            return known[what]
        monkeypatch.setattr(cublas, "library", lambda: None)
        try:
            bench = benchmark.Bench("antorcha", SimpleNamespace(**{**vars(options), "compile": "--compile" in more}))
            known[what] = getattr(bench, what)()
            return known[what]
        finally:
            torch.set_default_device("cpu")
            torch.set_float32_matmul_precision("highest")
            flush.clear()

    monkeypatch.setattr(benchmark, "run_one", measured)


def test_every_part_runs(gpus, in_process, capsys):
    gpus.execute = "none"
    benchmark.report(benchmark.arguments(["--quick", "--torch", "python", "--peak", "100"]))
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(results) == set(benchmark.WHAT)
    for what, found in results.items():
        assert found and all(numbers for numbers in found.values()), what
        assert all(v > 0 for numbers in found.values() for k, v in numbers.items() if k != "losses")
    assert set(results["gpt2_124m"]) == {"antorcha", "torch", "torch.compile"} and "antorcha, own kernels" in results["matmul"]


def test_a_step_of_gpt2_in_its_size(gpus, monkeypatch):
    """All launches are such as a GPU accepts, attention's scores are never whole in memory, forward or backward, and the plan of a step is
    found again."""
    library = fake_cuda.Library.of_addresses(80 << 30)
    cuda.use(library)
    monkeypatch.setattr(ptx, "assemble", lambda *given: "")     # code does not depend on sizes
    monkeypatch.setattr(benchmark.Bench, "seconds", lambda self, run, least=0.5: (run(), self.wait(), 1.0)[2])
    plans, make = [], flush._plan
    monkeypatch.setattr(flush, "_plan", lambda *given: plans.append(make(*given)) or plans[-1])
    try:
        found = benchmark.Bench("antorcha", SimpleNamespace(quick=False, device="cuda", compile=False)).gpt2_124m()
    finally:
        torch.set_default_device("cpu")
    kernels = [k for plan in plans for k in plan.kernels()]
    assert found["TFLOP/s"] > 0 and library.names().count("launch") > 100
    chains = [k["kernel"] for k in kernels if k["kind"] == "chain"]
    assert len(chains) >= 24 and not any(kernel.scratch for kernel in chains)
    assert not [n for k in kernels for n in k["nodes"] if n[4] and n[2][-2:] == (1024, 1024) and len(n[2]) > 2]
    # the first step, with the optimiser's state, and twice until all that comes again is known
    assert sum(len(plan.kernels()) > 300 for plan in plans) <= 4 < library.names().count("cuGraphLaunch") + 5


def test_one_command_runs_everything(tmp_path):
    """The tests, the records and the measurements in processes of their own, on the driver of the tests."""
    card.main(["--dry-run", "--out", str(tmp_path), "--only", "records", "copy"])
    results = json.loads((tmp_path / "results.json").read_text())
    counts = {name: (t["passed"], t["failures"]) for name, t in results["tests"].items()}
    assert counts == {"records": (len(card.DRY), [])}
    assert results["measured"]["copy"]["antorcha"]["GB/s"] > 0
    assert "| copy | antorcha |" in (tmp_path / "results.md").read_text()
