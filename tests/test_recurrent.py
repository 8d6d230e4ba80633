"""Recurrent layers: all steps as one node against the steps one by one."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.graph import flush, tape
from antorcha.graph.recurrence import SPARE, parts_of
from antorcha.ops import recurrence

LAYERS = {"lstm": (torch.nn.LSTM, {}), "gru": (torch.nn.GRU, {}), "tanh": (torch.nn.RNN, {}),
          "relu": (torch.nn.RNN, dict(nonlinearity="relu")),
          "both ways": (torch.nn.GRU, dict(bidirectional=True, bias=False)),
          "layers": (torch.nn.LSTM, dict(bidirectional=True, num_layers=2, batch_first=True))}


def values(layer, length: int, twice: bool = False, rows: int = 2) -> list:
    torch.manual_seed(1)
    x = torch.randn(length, rows, 3, dtype=layer.weight_hh_l0.dtype, requires_grad=True)
    output, state = layer(x.transpose(0, 1) if layer.batch_first else x)
    state = state if isinstance(state, tuple) else (state,)
    loss = output.sin().sum() + sum([(s * s * (k + 1)).sum() for k, s in enumerate(state)])
    leaves = [x, *layer.parameters()]
    gradients = torch.autograd.grad(loss, leaves, create_graph=twice)
    if twice:
        gradients = torch.autograd.grad(sum([(g * g).sum() for g in gradients]), leaves)
    return [output, *state, *gradients]


def layer_of(name: str, dtype=torch.float64):
    kind, options = LAYERS[name]
    torch.manual_seed(0)
    return kind(3, 4, dtype=dtype, **options)


@pytest.mark.parametrize("name, length, twice, rows", [
    ("lstm", 3, False, 2), ("lstm", 2, True, 2), ("gru", 3, False, 1), ("gru", 2, True, 2), ("tanh", 1, False, 2), ("relu", 2, False, 2),
    ("both ways", 2, False, 2), ("layers", 4, False, 3), *(("gru", 3, False, 2 * rows) for rows in SPARE)])
def test_one_node_computes_what_its_steps_do(name, length, twice, rows, monkeypatch):
    layer = layer_of(name)
    together = [x.tolist() for x in values(layer, length, twice, rows)]
    monkeypatch.setattr(recurrence, "_alike", lambda *tensors: False)
    for a, b in zip(together, values(layer, length, twice, rows)):
        agree(a, b)


@pytest.mark.parametrize("name, lengths", [
    ("lstm", [5, 2, 4]), ("gru", [1, 3, 3]), ("tanh", [4]), ("relu", [2, 2]), ("both ways", [6, 1, 2]), ("layers", [2, 5])])
def test_packed_sequences_are_padded(name, lengths, monkeypatch):
    layer, rnn = layer_of(name), torch.nn.utils.rnn

    def values() -> list:
        torch.manual_seed(1)
        x = torch.randn(7, len(lengths), 3, dtype=torch.float64, requires_grad=True)
        output, state = layer(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
        state = state[0] if isinstance(state, tuple) else state
        padded, counts = rnn.pad_packed_sequence(output, padding_value=2.0, total_length=8)
        assert counts.tolist() == lengths and (padded[lengths[0]:, 0] == 2.0).all()
        return [output.data, state, *torch.autograd.grad(padded.sin().sum() + (state * state).sum(), [x, *layer.parameters()])]

    together = [x.tolist() for x in values()]
    monkeypatch.setattr("antorcha.nn.functional.recurrent.MOST_PADDED", 0)
    for a, b in zip(together, values()):
        agree(a, b)


def test_the_interpreter_goes_through_the_steps(monkeypatch):
    layer = layer_of("layers", torch.float32)
    native = [x.tolist() for x in values(layer, 3)]
    monkeypatch.setattr(config, "target", "interp")
    flush.clear()
    for a, b in zip(native, values(layer, 3)):
        agree(a, b)


def test_a_recording_does_not_grow_with_the_length():
    layer = layer_of("lstm")
    counts = []
    for length in (4, 40):
        x = torch.ones(length, 2, 3, dtype=torch.float64)
        x.tolist()
        output, (h, c) = layer(x)
        gradients = torch.autograd.grad(output.sum() + c.sum(), [*layer.parameters()])
        counts.append(len(tape.nodes))
        gradients[0].tolist()
    assert counts[0] == counts[1]


def test_a_new_length_has_the_plan_of_another():
    layer = layer_of("gru", torch.float32)
    flush.clear()
    before = flush.counters["resized"]
    for length in (5, 9, 7, 12, 11, 10):
        [x.tolist() for x in values(layer, length)]
    assert flush.counters["resized"] > before


def test_a_length_has_the_same_bits_whenever_it_comes():
    layer = layer_of("gru", torch.float32)
    flush.clear()
    first = [x.tolist() for x in values(layer, 6)]
    for length in (5, 9, 7, 12, 6, 30, 6, 6, 6):
        found = [x.tolist() for x in values(layer, length)]
        assert length != 6 or found == first


def test_what_a_plan_was_made_from_is_let_go():
    layer = layer_of("lstm", torch.float32)
    for _ in range(3):
        made = flush.counters["made"]
        [x.tolist() for x in values(layer, 3)]
    assert flush.counters["made"] == made


def test_a_layer_is_one_derivative():
    layer = torch.nn.LSTM(3, 4)
    output, _ = layer(torch.ones(5, 2, 3))
    names, pending = set(), [output.grad_fn]
    while pending:
        node = pending.pop()
        names.add(node.name())
        pending += [e for e, _ in node.next_functions if e is not None]
    assert "RecurrenceBackward0" in names
    assert not names & {"SigmoidBackward0", "TanhBackward0", "MulBackward0"}


def test_rows_are_divided_among_threads():
    """Few parts of many rows, which read the weights less often, but two at least."""
    assert [parts_of(rows) for rows in (1, 8, 15, 16, 20, 25, 32, 48, 64, 128, 130)] == [1, 1, 1, 2, 2, 1, 2, 3, 2, 4, 2]


@pytest.mark.parametrize("side", ("right", "left"))
@pytest.mark.parametrize("batch_first", (True, False))
def test_padding_of_what_is_in_memory_and_what_is_not(side, batch_first):
    rng = np.random.default_rng(0)
    cases = (np.float32, (), (3, 0, 7, 1)), (np.int64, (4,), (5, 5)), (np.float32, (300,), (90, 100, 2)), (bool, (2, 3), (1, 4))
    for dtype, rest, lengths in cases:
        arrays = [(rng.standard_normal((n, *rest)) * 9).astype(dtype) for n in lengths]
        expected = np.full((len(arrays), max(lengths), *rest), 1 if dtype is bool else -2, dtype)
        for row, a in zip(expected, arrays):
            row[slice(0, len(a)) if side == "right" else slice(len(row) - len(a), None)] = a
        kinds = (torch.tensor, lambda a: torch.from_numpy(a.copy()), lambda a: torch.tensor(a).roll(1, 0).roll(-1, 0),
                 lambda a: torch.tensor(a[::-1].copy()).flip(0), lambda a: torch.tensor(a.T.copy()).permute(*range(a.ndim - 1, -1, -1)))
        for make in kinds:
            sequences = [make(a) for a in arrays]
            found = torch.nn.utils.rnn.pad_sequence(sequences, batch_first, True if dtype is bool else -2, side)
            agree(found, expected if batch_first else expected.swapaxes(0, 1))
            sequences[0].zero_()        # it is a copy
            agree(found, expected if batch_first else expected.swapaxes(0, 1))


def test_padding_has_a_derivative():
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3)
    found = torch.nn.utils.rnn.pad_sequence([a, b], True, 5.0)
    (found * torch.arange(24.0).view(2, 4, 3)).sum().backward()
    agree(a.grad, torch.arange(6.0).view(2, 3).numpy())
