"""What is computed in the background is the same, and nobody sees it half done."""

from __future__ import annotations

import os
import sys
import weakref

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha import nn
from antorcha.base import config
from antorcha.graph import brief, flush, tape
from antorcha.loops import plan
from antorcha.runtime import flight
from antorcha.runtime.buffer import Buffer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the pool has one thread here")


@pytest.fixture(autouse=True)
def eager_to_leave(monkeypatch):
    """Every step after the wanted one goes to the background, on two threads at least."""
    monkeypatch.setattr(plan, "FEW", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(2, threads))
    yield
    torch.set_num_threads(threads)


def training(steps: int, read: str) -> tuple[list, list]:
    """(losses, parameters) of a small training; `read`: which value is asked for in each step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y = torch.randn(64, 20), torch.randint(0, 4, (64,))
    losses, found = [], []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if read == "loss":
            losses.append(loss.item())
        elif read == "parameter":
            found.append(model[2].weight.detach().numpy().copy())
        elif read == "kept":
            losses.append(loss.detach())
    return [float(v) for v in losses], [p.detach().numpy().copy() for p in model.parameters()] + found


@pytest.mark.parametrize("layers", ["embedding", "pooling"])
def test_the_loss_is_there_before_the_steps_that_do_not_lead_to_it(layers, monkeypatch):
    """The derivative of the embedding scatters to places that were checked before, that of pooling to places of its own: nothing after
    the loss can fail."""
    handed = []
    launch = plan.Plan.launch

    def note(self, *arguments):
        handed.append((arguments[-1], len(self.steps)))
        launch(self, *arguments)

    monkeypatch.setattr(plan.Plan, "launch", note)
    torch.manual_seed(0)
    if layers == "embedding":
        model = nn.Sequential(nn.Embedding(11, 20), nn.Flatten(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 4))
        x = torch.randint(0, 11, (8, 3))
    else:
        model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 4))
        x = torch.randn(8, 1, 14, 14)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    y = torch.randint(0, 4, (8,))
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        float(loss)
    first, steps = handed[-1]
    assert first <= steps // 2


def test_a_check_of_another_range_is_no_repetition():
    """The scatter writes into fewer rows than the gather read from: it may fail where the gather did not."""
    places = torch.tensor([0.0, 3.0]).mul(2).long()     # not looked at in advance        # made of floats: not looked at in advance
    read, base = torch.arange(8.0), torch.zeros(5)
    value = read[places].sum()
    written = base.index_put((places,), torch.ones(2))
    with pytest.raises(IndexError, match="size 5"):
        value.item()
        written.sum().item()
    assert value.item() == 6.0


@pytest.mark.parametrize("read", ["loss", "parameter", "kept", "nothing"])
def test_training_gives_the_same_bits(read, monkeypatch):
    losses, parameters = training(12, read)
    monkeypatch.setattr(plan, "FEW", 1 << 60)
    expected, weights = training(12, read)
    assert losses == expected
    for a, b in zip(parameters, weights):
        np.testing.assert_array_equal(a, b)


def in_flight(n: int = 300_000):
    """(a value that is there, one that is still being computed)."""
    a = torch.rand(n) + 1
    total = a.sum()
    rest = a
    for _ in range(5):
        rest = (rest * 1.5 + a).exp().log()
        rest = rest - rest.mean()
    assert total.item() > n
    return a, rest


def test_the_rest_follows_and_is_waited_for_when_asked():
    a, rest = in_flight()
    assert flight.awaited and rest.storage.node.buffer.address in flight.awaited
    seen = rest.numpy()
    assert not flight.awaited
    x = a.numpy().astype(np.float64)
    expected = x
    for _ in range(5):
        expected = expected * 1.5 + x
        expected = expected - expected.mean()
    agree(seen, expected)


@pytest.mark.parametrize("meanwhile", ["record", "draw", "threads", "synchronize", "drop", "share an input", "error", "explain"])
def test_life_goes_on_meanwhile(meanwhile):
    a, rest = in_flight()
    kept = rest + 0
    if meanwhile == "record":
        b = (a * 2).sum()
        assert b.item() > 0
    elif meanwhile == "draw":
        assert torch.rand(10_000).max().item() < 1
    elif meanwhile == "threads":
        torch.set_num_threads(3)
    elif meanwhile == "synchronize":
        torch.synchronize()
        assert not flight.awaited
    elif meanwhile == "drop":
        del rest
        junk = [torch.full((300_000,), float(i)) for i in range(4)]
        assert [j[7].item() for j in junk] == [0.0, 1.0, 2.0, 3.0]
    elif meanwhile == "share an input":
        a.numpy()[:] = 0.0      # after the kernels that read it
    elif meanwhile == "error":
        with pytest.raises(IndexError):
            torch.embedding(torch.ones(3, 2), torch.tensor([5])).sum().item()
    elif meanwhile == "explain":
        torch.explain(a * 3 + 1)
    mean = kept.mean().item()
    assert abs(mean) < 1e-2 and np.isfinite(kept.numpy()).all()


def test_a_child_process_sees_it_whole():
    _, rest = in_flight()
    pid = os.fork()
    if pid == 0:
        ok = bool(torch.isfinite(rest).all()) and (torch.ones(100_000) * 2).sum().item() == 200_000
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0 and np.isfinite(rest.numpy()).all()


def test_nothing_is_left_to_the_background_in_eager_mode(monkeypatch):
    monkeypatch.setattr(config, "eager", True)
    a = torch.rand(1000)
    (a.exp() + 1).sum()
    assert not flight.awaited


def test_a_program_that_asks_for_nothing_does_not_grow():
    from antorcha.runtime.memory import allocator

    def run(steps):
        training(steps, "nothing")
        tape.flush()
        return allocator.allocated

    run(5)
    before = run(5)
    assert run(60) <= before * 1.5 + (1 << 20)


def test_one_job_at_a_time():
    a, rest = in_flight()
    (job,) = flight.jobs
    _, other = in_flight()
    assert flight.jobs and flight.jobs != [job]
    assert np.isfinite(rest.numpy()).all() and np.isfinite(other.numpy()).all() and not flight.jobs


def test_references_of_the_background_are_not_counted():
    a, rest = in_flight()
    known = [a.storage.node.buffer, rest.storage.node.buffer]
    during = [*map(sys.getrefcount, known)]
    flight.finish()
    assert [*map(sys.getrefcount, known)] == during


def test_memory_that_is_let_go_meanwhile_is_handed_out_later():
    arrays = [np.ones(100, np.float32), np.ones(100, np.float32)]
    used, other = [Buffer.allocate(5000), Buffer.from_array(arrays[0])], [Buffer.allocate(5000), Buffer.from_array(arrays[1])]
    gone, others_gone = map(weakref.ref, arrays)
    address, others_address = used[0].address, other[0].address
    flight.begin(lambda: True, None, [b.address for b in used], [])
    del arrays, used[:], other[:]
    assert others_gone() is None and Buffer.allocate(5000).address == others_address        # no memory of the job's
    assert gone() is not None and address not in {b.address for b in [Buffer.allocate(5000) for _ in range(100)]}
    flight.finish()
    assert gone() is None and Buffer.allocate(5000).address == address and not flight.aside


def test_memory_that_is_read_meanwhile_is_not_written_to_at_once():
    a = torch.rand(200, 1000) + 1
    scale = torch.ones(1000)
    total, rest = a.sum(), a
    for _ in range(6):
        rest = (rest * scale).exp().log()
    assert total.item() > 0
    scale.zero_()
    agree(rest.numpy(), a.numpy())


def test_a_step_of_training_that_is_known_is_found_by_a_function_of_its_own(monkeypatch):
    """Without a key, and while the step before is still being computed."""
    tape.flush()
    flush.clear()
    looked_up = []
    monkeypatch.setattr(brief, "found", lambda *given, found=brief.found: (looked_up.append(1), found(*given)))
    losses, _ = training(4 * brief.PATIENCE, "loss")
    count = len(looked_up)
    assert count < 3 * brief.PATIENCE
    monkeypatch.setattr(brief, "LONGEST", 0)
    expected, _ = training(4 * brief.PATIENCE, "loss")
    assert losses == expected and len(looked_up) > count


def test_a_recording_is_found_while_the_last_one_is_computed():
    """Each step finds the plan of the one before, whether that is still being computed or not, and writes to the same memory."""
    p, m = torch.rand(300_000) + 1, torch.zeros(300_000)

    def step(wait):
        nonlocal p, m
        m = m * 0.9 + p
        total = p.sum()
        for _ in range(4):
            p = (p * 0.5 + m * 0.1).exp().log()
            p = p - p.mean()
        assert np.isfinite(total.item())
        if wait:
            flight.finish()

    for k in range(6):
        step(k % 2)
    made = flush.counters["made"]
    for k in range(6):
        step(k % 2)
    assert flush.counters["made"] == made
