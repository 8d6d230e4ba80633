"""What `explain` prints of a computation."""

from __future__ import annotations

import antorcha as torch
from antorcha.explaining import Recorder, explain


def test_explain_shows_graph_kernels_program_and_time(capsys):
    x = (torch.ones(50, 20) + 1).relu().sum(1)
    explain(x)
    text = capsys.readouterr().out
    for expected in ("recording 1", "add", "relu", "sum", "kernel 1.1", "tiles", "cut here", "store $", "ms in kernels"):
        assert expected in text, expected
    assert x.tolist() == [40.0] * 50
    explain(x)
    assert "in memory already" in capsys.readouterr().out


def test_explain_gives_native_code_on_request(capsys):
    explain(torch.ones(64) * 3, code=True)
    assert ".text" in capsys.readouterr().out


def test_a_recorder_counts_the_runs_of_a_plan():
    x = torch.ones(10)
    x.tolist()
    with Recorder() as recorder:
        for _ in range(3):
            (x * 2 + 1).tolist()
    (run,) = recorder.runs.values()
    assert run.count == 3 and "run 3 times" in recorder.report()
