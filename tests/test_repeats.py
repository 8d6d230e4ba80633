"""What repeats itself in a recording is computed in pieces, which have plans whatever its length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha import nn
from antorcha.base import config
from antorcha.graph import flush, repeats
from antorcha.graph.node import leaf
from antorcha.nn import functional as F


@pytest.fixture(autouse=True)
def planned(monkeypatch):
    """How many nodes plans were made for, without those that are cast."""
    made, make = [], flush.make
    monkeypatch.setattr(flush, "make", lambda nodes, *rest: made.append(len(nodes)) or make(nodes, *rest))
    flush.clear()
    yield made
    flush.clear()


@given(st.lists(st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(1, 12)), max_size=4))
def test_what_repeats_is_found(parts):
    kinds = [k for period, times in parts for k in period * times]
    found = repeats.runs(kinds)
    at = 0
    for start, stop, period in found:
        assert at <= start < stop <= len(kinds) and stop - start >= repeats.TIMES * period
        assert all(kinds[i] == kinds[i - period] for i in range(start + period, stop))
        at = stop
    period, times = parts[0] if len(parts) == 1 else ([], 0)
    if len(kinds) >= 40 and times >= repeats.TIMES and len(set(period)) == len(period):
        assert found == [(0, len(kinds), len(period))]
    lengths = repeats._lengths(found, [leaf(None, 1, torch.float32)] * len(kinds))
    assert sum(lengths) == len(kinds) and 0 not in lengths


class Speech(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.token, self.steps, self.out = nn.Embedding(11, 8), kind(8, 16), nn.Linear(16, 11)

    def forward(self, x):
        state, found = None, []
        for part in self.token(x).unbind(1):
            state = self.steps(part, state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return self.out(torch.stack(found, 1))


def train(model, lengths) -> list[float]:
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    found = []
    for length in lengths:
        x = torch.arange(4 * length).view(4, length) * 5 % 11
        loss = F.cross_entropy(model(x).flatten(0, 1), x.roll(1, 1).flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found + [p.double().sum().item() for p in model.parameters()]


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell])
def test_sequences_of_other_lengths(kind, planned):
    torch.manual_seed(0)
    model = Speech(kind)
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    first = train(model, [20])
    whole = sum(planned)
    train(model, [33, 41, 27, 36, 29, 44])
    planned.clear()
    train(model, [38, 25])
    assert whole > 300 and sum(planned) < whole / 2
    lengths = [20, 31, 23, 20, 40, 39, 31]
    model.load_state_dict(initial)
    found = train(model, lengths)
    assert found[0] == pytest.approx(first[0])
    model.load_state_dict(initial)
    config.eager = True
    try:
        agree(train(model, lengths), found)
    finally:
        config.eager = False


def loop(x, times, at=None):
    """Writes and reads, one after another."""
    values = torch.zeros(times, 4)
    for k in range(times):
        x = (x * 1.1).sin() + values.sum(0)
        values[k] = x / 2
        if at is not None:
            x = x + values[0, (x > -9).long() * (at if k == times // 2 else 3)] * 0
    return x, values


def test_loops_that_write(planned):
    x = torch.tensor([0.1, 0.2, 0.3, 0.4])
    for times in (40, 60, 51):
        planned.clear()
        y, values = loop(x, times)
        found = y.tolist(), values.tolist()
        config.eager = True
        try:
            y, values = loop(x, times)
            agree(y, found[0])
            agree(values, found[1])
        finally:
            config.eager = False


def test_an_error_in_a_piece_loses_nothing_else():
    x = torch.tensor([0.1, 0.2, 0.3, 0.4])
    for times in (30, 45):
        loop(x, times, 3)[0].tolist()
    y, _ = loop(x, 50, 4)
    other = x * 3
    with pytest.raises(IndexError, match="for a dimension of size 4; received 4"):
        y.tolist()
    agree(other, (np.float32([0.1, 0.2, 0.3, 0.4]) * 3))


def test_long_recordings_get_no_plan_as_long(planned):
    x = torch.linspace(0, 1, 8)
    with torch.no_grad():
        for k in range(300):
            x = x + (x * 0.5).tanh() * 0.1 - (x - k).sigmoid() * 0.01
    want = x.tolist()
    assert max(planned) < 400
    assert np.isfinite(want).all()


def test_what_lies_between_may_grow_too(planned):
    """The outputs of ten steps are joined by ten nodes, which are too few to be a run."""
    torch.manual_seed(0)
    model = Speech(nn.GRUCell)
    train(model, [12, 12])
    whole = max(planned)
    planned.clear()
    train(model, [13, 11, 14])
    assert whole > 300 and max(planned) < whole / 2
