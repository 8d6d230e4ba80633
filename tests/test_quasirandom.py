"""Sobol points: spread evenly, the same from any start, and PyTorch's."""

from __future__ import annotations

import pytest

import antorcha as torch
from antorcha.quasirandom import SobolEngine


def test_one_dimension_is_van_der_corputs_sequence():
    assert SobolEngine(1).draw(8).flatten().tolist() == [0, 0.5, 0.75, 0.25, 0.375, 0.875, 0.625, 0.125]


@pytest.mark.parametrize("scramble", [False, True])
def test_each_column_has_one_point_in_each_interval(scramble):
    pytest.importorskip("scipy")
    points = SobolEngine(9, scramble=scramble, seed=2).draw(64)
    cells = (points * 64).long().sort(0).values
    assert torch.equal(cells, torch.arange(64)[:, None].expand(64, 9))


def test_points_do_not_depend_on_how_they_are_drawn():
    pytest.importorskip("scipy")
    engine = SobolEngine(4, scramble=True, seed=1)
    whole = engine.draw(21)
    engine.reset()
    assert torch.equal(torch.cat([engine.draw(1), engine.draw(12), engine.draw(8)]), whole)
    assert torch.equal(engine.reset().fast_forward(20).draw(1), whole[20:])
    assert engine.reset().draw_base2(3).shape == (8, 4)
    with pytest.raises(ValueError, match="power of 2"):
        engine.draw_base2(2)
    out = torch.empty(0, dtype=torch.float64)
    assert engine.reset().draw(2, out=out, dtype=torch.float64) is out and out.shape == (2, 4)


def test_dimension_is_checked():
    with pytest.raises(ValueError, match="21201"):
        SobolEngine(30000)


@pytest.mark.oracle
@pytest.mark.parametrize("dimension, scramble", [(1, False), (40, False), (7, True)])
def test_points_are_pytorchs(dimension, scramble):
    oracle = pytest.importorskip("torch")
    ours, theirs = SobolEngine(dimension, scramble, 3), oracle.quasirandom.SobolEngine(dimension, scramble, 3)
    for count in (1, 10, 5):
        assert ours.draw(count).tolist() == theirs.draw(count).tolist()
    assert repr(ours) == repr(theirs)
