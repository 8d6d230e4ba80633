"""A backward pass that comes again is recorded again only where it would record the same."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.core import repeated

F = torch.nn.functional
CALLS = 7       # the first are seen, the fourth written out, the others recorded again


@pytest.fixture
def again(monkeypatch):
    """What `Pass.again` answered, call by call."""
    answers, plain = [], repeated.Pass.again
    monkeypatch.setattr(repeated, "_known", {})
    monkeypatch.setattr(repeated, "_seen", {})
    monkeypatch.setattr(repeated, "_credit", [repeated.CREDIT * repeated.PRICE])
    monkeypatch.setattr(repeated.Pass, "again", lambda self, loss: answers.append(plain(self, loss)) or answers[-1])
    return answers


def array(seed: int, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(a, b):
    a, b = (x.tolist() if isinstance(x, torch.Tensor) else x for x in (a, b))      # NumPy would share their memory
    agree(a, b)


def gradients(function, seed: int, *shapes) -> list:
    """Of the sum of a function of leaves."""
    leaves = [torch.tensor(array(seed + i, *shape), requires_grad=True) for i, shape in enumerate(shapes)]
    function(*leaves).sum().backward()
    return [None if x.grad is None else x.grad.numpy() for x in leaves]


def eagerly(monkeypatch, function, *arguments):
    with monkeypatch.context() as m:
        m.setattr(config, "eager", True)
        return function(*arguments)


FUNCTIONS = {
    "a chain": (lambda x, y: (x @ y).relu().exp(), [(3, 4), (4, 2)]),
    "a value used twice": (lambda x: x.sin() * x + x, [(3, 4)]),
    "several results": (lambda x: torch.cat([p * i for i, p in enumerate(x.split(1, 1))][1:], 1), [(3, 4)]),
    "a result that is kept": (lambda x, y: torch.softmax(x, 1) * y.tanh(), [(3, 4), (3, 4)]),
    "lists": (lambda x, y: torch.stack([x, y, x]).prod(0), [(3, 4), (3, 4)]),
    "broadcast": (lambda x, y: F.layer_norm(x, (4,), y, y), [(3, 4), (4,)]),
    "a leaf no gradient reaches": (lambda x, y: torch.where(x > 9, y.detach(), x) + 0 * y, [(3, 4), (3, 4)]),
    "views": (lambda x: (x.t()[1:] * x[:, 1:].t()).flatten(), [(3, 4)]),
}


@pytest.mark.parametrize("function, shapes", FUNCTIONS.values(), ids=FUNCTIONS)
def test_with_other_values(function, shapes, again, monkeypatch):
    for seed in range(CALLS):
        found = gradients(function, seed, *shapes)
        for a, b in zip(found, eagerly(monkeypatch, gradients, function, seed, *shapes), strict=True):
            close(a, b)
    assert again == [True] * (CALLS - 4)


def test_numbers_that_are_kept_count(again):
    for factor in [2.0] * CALLS + [3.0, 2, -0.0, 0.0]:
        close(gradients(lambda x, factor=factor: x * factor, 0, (3, 4))[0], np.full((3, 4), factor, np.float32))


def test_gradients_that_are_there_are_added_to(again):
    x = torch.tensor(array(0, 3, 4), requires_grad=True)
    for _ in range(2 * CALLS):
        x.grad = None
        for times in range(1, 4):
            (x * x).sum().backward()
            before = x.grad
            close(before, 2 * times * array(0, 3, 4))
    assert again.count(True) > CALLS and before is x.grad
    (x * x).sum().backward()
    assert before is x.grad


def test_memory_that_is_shared_and_then_is_not(again):
    a, b = (torch.tensor(array(k, 3, 4), requires_grad=True) for k in range(2))
    for x, y in [(a, a)] * CALLS + [(a, b)] * CALLS + [(b, b)]:
        a.grad = b.grad = None
        (x * y).sum().backward()
        close(x.grad, (y + (x if x is y else 0)).detach())


def test_writing_to_a_gradient_that_the_graph_keeps(again):
    for _ in range(CALLS):
        x = torch.tensor(array(0, 3, 4), requires_grad=True)
        x.grad = torch.tensor(array(1, 3, 4))
        (x * x.grad).sum().backward()
        close(x.grad, 2 * array(1, 3, 4))
        x.grad = torch.tensor(array(1, 3, 4))
        (x * torch.tensor(array(2, 3, 4))).sum().backward()
        close(x.grad, array(1, 3, 4) + array(2, 3, 4))


def test_the_order_in_which_a_graph_was_made(again, monkeypatch):
    def one(x, y):
        a, b = x.exp(), y.exp()
        return a * b

    def other(x, y):
        b, a = y.exp(), x.exp()
        return a * b

    for function in [one, other] * CALLS:
        for a, b in zip(gradients(function, 3, (2,), (2,)), eagerly(monkeypatch, gradients, function, 3, (2,), (2,))):
            close(a, b)
    assert True in again and False in again


def test_hooks_that_come_later(again):
    x = torch.tensor(array(0, 3, 4), requires_grad=True)

    def run(prepare=lambda y: None):
        x.grad = None
        y = x.sin()
        prepare(y)
        y.sum().backward()
        return x.grad.numpy()

    plain = [run() for _ in range(CALLS)][0]
    seen = []
    close(run(lambda y: y.register_hook(lambda g: g * 2)), 2 * plain)
    close(run(lambda y: y.grad_fn.register_hook(lambda *_: seen.append(1))), plain)
    handle = x.register_hook(lambda g: g * 3)
    close(run(), 3 * plain)
    handle.remove()
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(t))
    close(run(), plain)
    handle.remove()
    close(run(), plain)
    assert len(seen) == 2 and seen[1] is x and again[-1]


def test_what_is_kept_is_let_go_and_must_not_be_written_to(again):
    x = torch.tensor(array(0, 3, 4), requires_grad=True)
    for _ in range(CALLS):
        loss = x.exp().sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            loss.backward()
        y = x.exp()
        loss = y.sum()
        y.detach().zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_a_graph_that_is_retained(again):
    x = torch.tensor(array(0, 3, 4), requires_grad=True)
    for _ in range(CALLS):
        x.grad = None
        loss = x.exp().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        close(x.grad, 2 * np.exp(array(0, 3, 4)))
    assert again[-2:] == [True, True]


def test_memory_that_numpy_shares(again):
    for step in range(CALLS):
        x = torch.tensor(array(0, 3, 4), requires_grad=True)
        if step % 2:
            x.detach().numpy()[:] = step
        (x * x).sum().backward()
        close(x.grad, 2 * x.detach().numpy())


def test_operators_of_the_user(again, doubling):
    Double, calls = doubling
    for seed in range(CALLS):
        close(gradients(lambda x: Double.apply(x) * x, seed, (3, 4))[0], 4 * array(seed, 3, 4))
    assert len(calls) == CALLS


def test_optimisers_within_a_pass(again):
    """A step made where a gradient arrives."""
    model = torch.nn.Linear(4, 2)
    rates = []
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: rates.append(p.grad.norm().item()))
    for seed in range(CALLS):
        model.zero_grad()
        model(torch.tensor(array(seed, 3, 4))).exp().sum().backward()
    assert len(set(rates)) == 2 * CALLS and True not in again


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_anomalies_are_looked_for(again):
    x = torch.zeros(2, requires_grad=True)
    for _ in range(CALLS):
        (x + 1).sqrt().sum().backward()
    with torch.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="nan"):
        (x * 0).sqrt().mul(0).sum().backward()


def test_numbers_may_change(again):
    """A weight that changes with every step is no part of the structure, unless something is decided by it."""
    def loss(x, y, weight, power):
        return (weight * (x * y).exp() + (x / weight).sin() + x.abs() ** power - weight).sum()

    for k in range(12):
        x, y = (torch.tensor(array(k + i, 3, 4), requires_grad=True) for i in range(2))
        weight, power = 0.5 + k, 2.0 if k < 10 else 3.0
        loss(x, y, weight, power).backward()
        found = [np.float32(v.grad.tolist()) for v in (x, y)]
        a, b = (np.array(v.tolist()) for v in (x, y))
        close(found[0], weight * b * np.exp(a * b) + np.cos(a / weight) / weight + power * np.abs(a) ** (power - 1) * np.sign(a))
        close(found[1], weight * a * np.exp(a * b))
    assert again.count(True) >= 4


def test_steps_without_gradients_keep_their_numbers(again):
    """A graph that is retained gives the same numbers again."""
    x = torch.tensor(array(0, 3), requires_grad=True)
    for k in range(CALLS):
        loss = (x * (k + 0.5)).sum()
        for _ in range(2):
            x.grad = None
            loss.backward(retain_graph=True)
            close(x.grad, np.full(3, k + 0.5, np.float32))


def test_slices_of_data_and_arrays_that_numpy_shares_lie_anywhere(again):
    data, weight = torch.tensor(array(0, 30, 4)), torch.tensor(array(1, 4), requires_grad=True)
    for step in range(CALLS):
        weight.grad = None
        own = array(step, 2, 4)
        ((data[2 * step:2 * step + 2] * torch.from_numpy(own)) @ weight * (torch.from_numpy(own) * weight).sum()).sum().backward()
        known, expected = weight.grad.tolist(), weight.detach().requires_grad_()
        rows, other = data[2 * step:2 * step + 2].clone(), torch.tensor(array(step, 2, 4))
        (wanted,) = torch.autograd.grad(((rows * other) @ expected * (other * expected).sum()).sum(), expected)
        close(known, wanted)
    assert again[-2:] == [True, True]


def test_graphs_that_come_a_few_times_each_are_not_written_out_for_ever(again):
    def step(length: int):
        w = torch.ones(3, requires_grad=True)
        x = w
        for _ in range(length):
            x = x * 2.0
        x.sum().backward()
        assert w.grad.tolist() == [2.0 ** length] * 3

    for length in range(1, 31):
        for _ in range(5):
            step(length)
    written = sum(map(len, repeated._known.values()))
    assert 10 <= written < 20       # each is of use once, which does not pay
    for _ in range(repeated.LATE + 3):
        step(40)
    assert sum(map(len, repeated._known.values())) == written + 1 and again[-2:] == [True, True]
