"""Recordings are told by what their nodes read: found as one that is known, or traced."""

from __future__ import annotations

import numpy as np
import pytest

import antorcha as torch
from antorcha.graph import flush, tape, wiring


def recorded(make):
    tape.flush()
    kept = make()
    return kept, tape.nodes.copy()


@pytest.mark.parametrize("make", [lambda a, b: a + a, lambda a, b: a + b, lambda a, b: (a * 2.0 + b) * a,
                                  lambda a, b: torch.cat([a, b, a])])
def test_a_known_recording_is_told_as_it_was_traced(make):
    a, b = torch.arange(4.0), torch.arange(4.0) + 1.0
    wiring.clear()
    _, nodes = recorded(lambda: make(a, b))
    wiring.traced(nodes, nodes)
    assert wiring.known(nodes, nodes) is None       # it may never come again
    forms, sources, leaves, buffers, numbers = wiring.traced(nodes, nodes)
    again = wiring.known(nodes, nodes)
    assert again[0] is forms and again[1] is sources and again[2:4] == (leaves, buffers)
    assert list(again[4]) == list(numbers)


def test_equal_forms_that_read_other_things():
    a, b = torch.arange(4.0), torch.arange(4.0) + 1.0
    for _ in range(4):
        for x, y, expected in ((a, a, 2 * np.arange(4.0)), (a, b, 2 * np.arange(4.0) + 1), (b, b, 2 * np.arange(4.0) + 2)):
            np.testing.assert_array_equal((x + y).numpy(), expected)
            pending = x + 0.0       # a value that is not there yet in place of one that is
            np.testing.assert_array_equal((pending + y).numpy(), expected)


def test_numbers_that_differ_in_sign_alone():
    x = torch.ones(2)
    for zero in (0.0, -0.0, 0.0, -0.0):
        assert np.signbit((x * zero).numpy()).tolist() == [np.signbit(zero)] * 2


def test_many_recordings_are_not_kept_for_good(monkeypatch):
    monkeypatch.setattr(wiring, "MOST", 50)
    flush.clear()
    most = 0
    for n in range(1, 30):
        for _ in range(2):
            _, nodes = recorded(lambda n=n: torch.ones(n) + torch.ones(n))
            wiring.traced(nodes, nodes)
        most = max(most, len(wiring._known))
        assert sum(len(w.sources) for several in wiring._known.values() for w in several) <= 50
    assert 1 < most < 29


@pytest.mark.parametrize("count", [3, 60])
def test_what_has_moved_is_bound_anew(count):
    """Plans keep the addresses and numbers that they ran with: some others, all others, the same again."""
    values = [np.float32(k) for k in range(count)]
    tensors = [torch.tensor([v]) for v in values]
    for step in range(12):
        moved = range(count) if step % 4 == 3 else range(step % 3, count, 20) if step % 2 else ()
        for k in moved:
            values[k] = np.float32(100 * step + k)
            tensors[k] = torch.tensor([values[k]])
        scale, power = float(1 + step // 5), 2 + step // 7
        terms = [t * scale + t.to(torch.int64) * power for t in tensors]
        expected = [v * scale + int(v) * power for v in values]
        np.testing.assert_allclose(torch.stack(terms).numpy()[:, 0], expected, rtol=1e-6)
