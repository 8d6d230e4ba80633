"""What `explain` prints of a computation."""

from __future__ import annotations

import numpy as np
from tolerance import agree

import antorcha as torch
from antorcha.explaining import Recorder, explain
from antorcha.runtime import pool


def test_explain_shows_graph_kernels_program_and_time(capsys):
    x = (torch.ones(50, 20) + 1).relu().sum(1)
    explain(x)
    text = capsys.readouterr().out
    for expected in ("recording 1", "add", "relu", "sum", "kernel 1.1", " tiles, ", "the slowest of 1 kernel\n", "cut here", "store $",
                     "ms in kernels"):
        assert expected in text, expected
    assert text.count("(kept)") == text.count("(stored)") == text.count("store $") == 1      # the sum alone
    assert x.tolist() == [40.0] * 50
    explain(x)
    assert "in memory already" in capsys.readouterr().out


def test_explain_gives_native_code_on_request(capsys):
    explain(torch.ones(64) * 3, code=True)
    assert ".text" in capsys.readouterr().out


def test_what_is_timed_has_memory_to_pack_in(monkeypatch):
    reserved = []
    monkeypatch.setattr(pool, "reserve_scratch", reserved.append)
    monkeypatch.setattr(pool, "run_timed", lambda steps: np.zeros(len(steps)))
    explain(torch.ones(100, 100) @ torch.ones(100, 100))
    assert max(reserved) > 0


def test_a_recorder_counts_the_runs_of_a_plan():
    x = torch.ones(10)
    x.tolist()
    with Recorder() as recorder:
        for _ in range(3):
            (x * 2 + 1).tolist()
    (run,) = recorder.runs.values()
    assert run.count == 3 and "run 3 times" in recorder.report()


def test_a_square_is_reduced_like_any_matrix():
    """Where rows are as many as columns, a sum over the rows must not be read across memory."""
    def programs(rows: int, columns: int) -> list[str]:
        x = torch.randn(rows, columns)
        x.tolist()
        with Recorder() as recorder:
            sums = [(x * 2).sum(1), x.sum(0)]
        agree(sums[1], torch.stack([x[:, k].sum() for k in range(columns)]))
        return [k["program"].text() for k in recorder.kernels()]

    assert programs(192, 192) == programs(192, 224)
