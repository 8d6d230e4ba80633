"""What has no plan is computed in pieces that have, where they have come in other recordings."""

from __future__ import annotations

import zlib
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha import nn
from antorcha.base import config
from antorcha.graph import flush, pieces
from antorcha.nn import functional as F


@pytest.fixture(autouse=True)
def planned(monkeypatch):
    """How many nodes plans were made for, without those that are cast."""
    made, make = [], flush.make
    monkeypatch.setattr(flush, "make", lambda nodes, *rest: made.append(len(nodes)) or make(nodes, *rest))
    flush.clear()
    yield made
    flush.clear()


def cut(codes: list[int], begins=(), stays=()) -> list[int]:
    n = len(codes)
    return pieces.cuts(np.array(codes, np.uint64), np.isin(np.arange(n), begins), np.isin(np.arange(n), stays))


CODES = st.lists(st.integers(0, 1 << 32), min_size=1, max_size=60, unique=True)


@given(CODES, CODES, CODES)
def test_cuts_are_where_the_content_says(before, other, content):
    """Whatever comes before, but for what is near to it."""
    near = pieces.AROUND + pieces.SHORTEST + 1
    found = [{at - len(first) for at in cut([*first, *content]) if at - len(first) >= near} for first in (before, other)]
    if not {*before, *other} & {*content}:
        assert found[0] == found[1]
    assert all(b - a > pieces.AROUND for a, b in pairwise(cut(content)))


@given(st.lists(st.integers(0, 1 << 32), min_size=12, max_size=30, unique=True))
def test_periods_are_cut_alike(period):
    found = cut(period * 5)
    inner = [at % len(period) for at in found if 2 * len(period) <= at < 3 * len(period)]
    assert inner and inner == [at % len(period) for at in found if 3 * len(period) <= at < 4 * len(period)]


def test_cuts_are_before_products_rather_than_anywhere_and_never_before_outputs():
    codes = [zlib.crc32(bytes([k])) for k in range(60)]
    assert {12, 36} <= {*cut(codes, begins=(12, 36))} and not {12, 36} & {*cut(codes, begins=(12, 36), stays=(12, 36))}


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(1, 20)), max_size=4))
def test_equal_parts_are_joined(runs):
    parts = [tuple(part) for part, times in runs for _ in range(times)]
    found, at = pieces.joined(parts), 0
    for count in found:
        assert {*parts[at:at + count]} == {parts[at]} and (count == 1 or count * len(parts[at]) <= pieces.LONGEST)
        at += count
    assert at == len(parts)


def steps(count: int, size: int = 5, seed: int = 0) -> list[float]:
    """What is recorded depends on the data: layers are taken in any order, as often as chance has it."""
    torch.manual_seed(0)
    chance = Random(seed)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), nn.Sequential(nn.Linear(6, 6), nn.GELU()), nn.Softmax(-1)]
    layers = [layer.double() for layer in layers]      # in which rounding shows nowhere
    parameters = [p for layer in layers for p in layer.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=1e-2)
    found = []
    for _ in range(count):
        x = torch.linspace(-1, 1, size * 6, dtype=torch.float64).view(size, 6)
        for _ in range(chance.randint(4, 12)):
            x = x + chance.choice(layers)(x)
        optimiser.zero_grad()
        loss = (x * x).mean()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found


def test_what_a_program_of_changing_steps_consists_of_comes_again(planned):
    found = steps(40)
    assert steps(40) == pytest.approx(found)
    planned.clear()
    other = steps(40, seed=1)
    assert sum(planned) < 40 * 20       # of some hundred nodes a step
    config.eager = True
    try:
        agree(steps(40), found)
        agree(steps(40, seed=1), other)
    finally:
        config.eager = False


def test_large_values_are_not_stored_for_it(planned, monkeypatch):
    monkeypatch.setattr(pieces, "STORED", 64)
    steps(20)
    assert max(planned[-10:]) > 60      # whole steps


def test_training_and_evaluation_of_several_sizes_have_plans_of_their_own(planned):
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU()) for _ in range(6)])
    optimiser = torch.optim.Adam(model.parameters())
    for rows in (16, 16, 5, 16, 16, 5, 7, 16):
        loss = model(torch.ones(rows, 8)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
        with torch.no_grad():
            model(torch.ones(rows + 1, 8)).tolist()
    assert not any(pieces._times.values())


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
    """The outputs of ten steps are joined by ten nodes."""
    torch.manual_seed(0)
    model = Speech(nn.GRUCell)
    train(model, [12, 12, 10, 15])
    whole = max(planned)
    planned.clear()
    train(model, [13, 11, 14])
    assert whole > 300 and max(planned) < whole / 2
