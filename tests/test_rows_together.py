"""Several rows at a time: kernels with sums over short rows."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.explaining import Recorder
from antorcha.loops import ir
from antorcha.loops.jam import AT_ONCE, jam
from antorcha.targets.formula import evaluate


def made(shape, seed: int = 3) -> torch.Tensor:
    """Small integers, so that sums are exact in any order, in memory that NumPy does not share: what is done with them is fused."""
    x = torch.from_numpy(np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)) + 0
    x.sum().item()
    return x


def wide(x) -> np.ndarray:
    return (x + 0).numpy().astype(np.float64)


@pytest.fixture(params=["llvm", "interp"])
def target(request, monkeypatch):
    monkeypatch.setattr(config, "target", request.param)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 18, 203])
@pytest.mark.parametrize("columns", [1, 7, 16, 33, 100])
def test_columns(rows, columns, target):
    x = made((rows, columns))
    np.testing.assert_array_equal((x * 3).sum(0).numpy(), wide(x).sum(0) * 3)
    np.testing.assert_array_equal(x.amax(0).numpy(), wide(x).max(0))


@pytest.mark.parametrize("columns", [10, 32, 100])
def test_rows_and_columns(columns, target):
    """A value of each row, sums over the row before it, sums over all rows after it."""
    x, w = made((131, columns)), made((columns,), 4)
    with Recorder() as recorder:
        d = (x * w).sum(1, keepdim=True)
        of_x, of_w, all_, largest = (d * x).sum(0), (d * w * (x > 0)).sum(0), d.sum(), x.argmax(1)
        torch.stack([of_x, of_w]).tolist()
    a, b = wide(x), wide(w)
    e = (a * b).sum(1, keepdims=True)
    np.testing.assert_array_equal(of_x.numpy(), (e * a).sum(0))
    np.testing.assert_array_equal(of_w.numpy(), (e * b * (a > 0)).sum(0))
    assert all_.item() == e.sum()
    np.testing.assert_array_equal(largest.numpy(), a.argmax(1))
    assert any("serial rest" in k["program"].text() for k in recorder.kernels() if k["program"])


@pytest.mark.parametrize("shape", [(6, 150, 96), (20, 37, 130), (2, 3, 5000), (3, 70, 1)])
def test_columns_of_several_dimensions_are_cut_into_blocks(shape, target):
    """A value for each place along the second dimension keeps it apart from the third."""
    x = made(shape)
    with Recorder() as recorder:
        y = (x - x[:, :, :1] * 2).sum(0)
        y.tolist()
    np.testing.assert_array_equal(y.numpy(), (wide(x) - 2 * wide(x)[:, :, :1]).sum(0))
    tiles = [k["tiles"] for k in recorder.kernels() if k["nodes"][-1][1] == "sum"]
    assert max(tiles) > 1 or shape[1] * shape[2] <= 2048 or config.target == "interp"


def test_rows_that_are_not_neighbours(target):
    """Two and three coordinates for each row, stepped like an odometer from each of the rows at once to the next."""
    x = made((5, 14, 9, 12))
    a = wide(x)
    np.testing.assert_array_equal((x[:, ::2] * 2).sum((0, 1)).numpy(), (a[:, ::2] * 2).sum((0, 1)))
    np.testing.assert_array_equal((x[:, ::2, 1:] * 2).sum((0, 1, 2)).numpy(), (a[:, ::2, 1:] * 2).sum((0, 1, 2)))


def test_long_bodies_are_computed_row_by_row(target):
    x = made((131, 12))
    with Recorder() as recorder:
        got = x.exp().sin().exp().tanh().sum(0).numpy()
    agree(got, np.tanh(np.exp(np.sin(np.exp(wide(x))))).sum(0))
    assert not any("rest" in k["program"].text() for k in recorder.kernels())


def test_rows_computed_together_are_added_up_before_they_are_added():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((79, 100), np.float32)) + 0
    expected, rows = np.zeros(100, np.float32), x.numpy()
    for k in range(0, 76, AT_ONCE):
        expected += (rows[k] + rows[k + 1]) + (rows[k + 2] + rows[k + 3])
    for row in rows[76:]:
        expected += row
    assert (x + 0).sum(0).numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("rows, columns, bound", [(16000, 64, 2e-5), (16000, 300, 2e-5), (4096, 1024, 8e-6)])
def test_sums_of_many_rows_keep_their_digits(rows, columns, bound, target):
    """Mean errors; one row after the other, they would be twice as large."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((rows, columns), np.float32))
    assert np.abs(x.sum(0).numpy() - x.numpy().astype(np.float64).sum(0)).mean() < bound


def test_a_sum_is_loaded_and_stored_once_for_all_rows_at_once():
    n, row = ir.arg(0), ir.value("c", ir.integer(0).dtype)
    i = ir.index("i")
    total = ir.load(1, i, torch.float32) + ir.load(2, row * n + i, torch.float32)
    several, rest = jam(ir.integer(9), [ir.loop("i", "short", n, ir.store(1, i, total))], [row], [ir.integer(9)])
    (inner,) = [s for s in several.args if s.kind == "loop"]
    (store,) = inner.args[1:]
    loaded = [op.attr for op in ir.walk(store.args[1]) if op.kind == "load"]
    assert loaded.count(1) == 1 and loaded.count(2) == AT_ONCE
    assert evaluate(several.args[0], []) == 9 // AT_ONCE and evaluate(rest.args[0], []) == 9 % AT_ONCE
