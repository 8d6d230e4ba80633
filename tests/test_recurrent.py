"""Recurrent layers: the operator for sequences of one length against the steps one by one."""

from __future__ import annotations

import pytest
from tolerance import agree

import antorcha as torch
from antorcha.nn.functional import recurrent

LAYERS = {"lstm": (torch.nn.LSTM, {}), "gru": (torch.nn.GRU, {}), "tanh": (torch.nn.RNN, {}),
          "relu": (torch.nn.RNN, dict(nonlinearity="relu")),
          "both ways": (torch.nn.GRU, dict(bidirectional=True, bias=False))}


def values(layer, length: int, twice: bool) -> list:
    torch.manual_seed(1)
    x = torch.randn(length, 2, 3, dtype=torch.float64, requires_grad=True)
    output, state = layer(x)
    state = state if isinstance(state, tuple) else (state,)
    loss = output.sin().sum() + sum([(s * s * (k + 1)).sum() for k, s in enumerate(state)])
    leaves = [x, *layer.parameters()]
    gradients = torch.autograd.grad(loss, leaves, create_graph=twice)
    if twice:
        gradients = torch.autograd.grad(sum([(g * g).sum() for g in gradients]), leaves)
    return [output, *state, *gradients]


@pytest.mark.parametrize("name, length, twice", [
    ("lstm", 3, False), ("lstm", 2, True), ("gru", 3, False), ("gru", 2, True), ("tanh", 1, False), ("relu", 2, False),
    ("both ways", 2, False)])
def test_the_operator_computes_what_its_steps_do(name, length, twice, monkeypatch):
    kind, options = LAYERS[name]
    torch.manual_seed(0)
    layer = kind(3, 4, dtype=torch.float64, **options)
    together = [x.tolist() for x in values(layer, length, twice)]

    def steps(projected, h, c, w_hh, b_hh, mode, reverse):
        state, found, inputs = (h,) if c is None else (h, c), [], projected.unbind(0)
        for part in reversed(inputs) if reverse else inputs:
            state, gates = recurrent.STEPS[mode].forward(part, state, recurrent.linear(state[0], w_hh, b_hh))
            found += [*state, *gates]
        return found

    monkeypatch.setattr(recurrent, "recurrence", steps)
    for a, b in zip(together, values(layer, length, twice)):
        agree(a, b)


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
