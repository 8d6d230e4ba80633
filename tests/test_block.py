"""Blocks: what a function records again is one entry of the recording, and comes to what its nodes come to."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.graph import block, flush, tape
from antorcha.graph.block import Block
from antorcha.graph.node import Node, verify
from antorcha.ops.recall import recalled
from antorcha.runtime import pool

F = torch.nn.functional
CALLS = 7       # the first are seen, the fourth noted, the others recorded again


def blocks() -> list[Block]:
    return [n for n in tape.nodes if type(n) is Block]


def known_layer_norm():
    """A layer norm that is recorded again, its inputs, and what it is in NumPy."""
    rng = np.random.default_rng(0)
    given = [rng.normal(size=s).astype(np.float32) for s in ((3, 7), (7,), (7,))]
    x, w, b = [torch.tensor(a) for a in given]
    for _ in range(CALLS):
        F.layer_norm(x, (7,), w, b).tolist()
    a = given[0]
    whole = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-5) * given[1] + given[2]
    return lambda: F.layer_norm(x, (7,), w, b), x, whole


def test_a_known_operator_is_one_entry():
    call, _, expected = known_layer_norm()
    tape.flush()
    out = call()
    (found,) = blocks()
    assert tape.nodes == [found] and found.made == (out.storage.node,)
    assert tape.state.hidden == found.form.hidden > 4
    made = flush.counters["made"]
    agree(out, expected)
    assert flush.counters["made"] == made and tape.state.hidden == 0


def test_unfolded_nodes_make_a_graph():
    call, _, expected = known_layer_norm()
    tape.flush()
    first = call()
    last = call() + first
    block.unfold(tape.nodes)
    assert all(type(n) is Node for n in tape.nodes) and first.storage.node in tape.nodes
    verify(tape.nodes)
    agree(last, 2 * expected)


def test_what_is_written_to_meanwhile_has_been_read():
    call, x, expected = known_layer_norm()
    out = call()
    x.add_(1.0)
    agree(out, expected)


def test_hidden_nodes_count_towards_the_longest_recording():
    call, _, _ = known_layer_norm()
    tape.flush()
    most, kept = 0, []
    for _ in range(2 * tape.LONGEST // 8):
        kept.append(call())
        most = max(most, len(tape.nodes) + tape.state.hidden)
    assert tape.LONGEST - 20 < most <= tape.LONGEST + 20
    tape.flush()
    kept.clear()


def test_an_interrupted_flush_leaves_what_is_pending(monkeypatch):
    call, _, expected = known_layer_norm()
    call().tolist()

    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    out = call()
    with monkeypatch.context() as m:
        m.setattr(pool, "launch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            out.tolist()
    agree(out, expected)


def test_a_wrong_index_within_a_block_is_told_with_its_place():
    table, good = torch.randn(5, 3), torch.tensor([1, 4])

    @recalled
    def doubled(indices, table):
        return F.embedding(indices, table) * 2 + 1

    for _ in range(CALLS):
        doubled((good.float() * 1).long(), table).tolist()
    out = doubled((good.float() * 3).long(), table)       # not computed before it is needed
    other = doubled(good, table)
    with pytest.raises(IndexError, match=r"(?s)12.*test_block.py"):
        out.tolist()
    assert len(other.tolist()) == 2


@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
def test_steps_have_the_same_bits_as_unfolded(optimiser, monkeypatch):
    def losses():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Dropout(0.2),
                                    torch.nn.Linear(8, 3))
        opt = getattr(torch.optim, optimiser)(model.parameters(), lr=0.05)
        x, y = torch.randn(5, 6), torch.randint(0, 3, (5,))
        found = []
        for _ in range(2 * CALLS):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            found.append(loss.item())
        return found, [p.tolist() for p in model.parameters()]

    folded = losses()
    identified = []
    monkeypatch.setattr(flush.brief, "LONGEST", 0)
    monkeypatch.setattr(flush, "_run_folded", lambda *given: identified.append(given) or flush._Folding((), given[0], [], None))
    monkeypatch.setattr(flush.block, "Folded", lambda plan, places: plan)
    assert losses() == folded and identified
