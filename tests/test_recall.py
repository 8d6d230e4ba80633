"""What is recorded again is what would have been recorded: operators of several nodes, derivatives, steps of optimisers."""

from __future__ import annotations

import numpy as np
import pytest

import antorcha as torch
from antorcha.base import config
from antorcha.graph import flush
from antorcha.optim import repeated

F = torch.nn.functional
CALLS = 7       # the first are seen, the fourth noted, the others recorded again


@pytest.fixture
def eagerly(monkeypatch):
    """A function's results where nothing is recorded again."""
    def run(function):
        with monkeypatch.context() as m:
            m.setattr(config, "eager", True)
            return function()
    return run


def close(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def values(seed: int, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in shapes]


def differentiated(function, arrays):
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = function(*inputs)
    (out * torch.arange(float(out.numel())).reshape(out.shape)).sum().backward()
    return [out.detach().numpy(), *[x.grad.numpy() for x in inputs]]


@pytest.mark.parametrize("name, function, shapes", [
    ("layer_norm", lambda x, w, b: F.layer_norm(x, (6,), w, b), [(4, 6), (6,), (6,)]),
    ("softmax", lambda x: x.softmax(-1), [(4, 6)]),
    ("log_softmax", lambda x: x.log_softmax(0), [(4, 6)]),
    ("var", lambda x: x.var(1), [(4, 6)]),
    ("gelu", F.gelu, [(4, 6)]),
    ("cat", lambda x, y: torch.cat([x, y, x], 1), [(4, 6), (4, 2)]),
    ("prod", lambda x: x.prod(1), [(4, 6)]),
    ("attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v), [(2, 4, 6)] * 3),
])
def test_operators_with_other_values(name, function, shapes, eagerly):
    for seed in range(CALLS):
        arrays = values(seed, *shapes)
        close(differentiated(function, arrays), eagerly(lambda arrays=arrays: differentiated(function, arrays)))


def test_arguments_that_are_one_tensor_and_then_are_not():
    x, (w, b) = torch.tensor(values(0, (4, 6))[0]), map(torch.tensor, values(1, (6,), (6,)))
    unit = F.layer_norm(x, (6,)).numpy()
    for _ in range(CALLS):
        close([F.layer_norm(x, (6,), w, w)], [unit * w.numpy() + w.numpy()])
    for _ in range(CALLS):
        close([F.layer_norm(x, (6,), w, b)], [unit * w.numpy() + b.numpy()])


def test_equal_numbers_of_different_types_and_other_numbers():
    x = torch.tensor(values(0, (4, 6))[0])
    for eps in (1, 1.0, 1e-5, 2.0):
        for _ in range(CALLS):
            a = x.numpy()
            c = a - a.mean(1, keepdims=True)
            close([F.layer_norm(x, (6,), eps=eps)], [c / np.sqrt((c * c).mean(1, keepdims=True) + eps)])


def test_memory_that_is_larger_than_the_tensor():
    whole = torch.tensor(values(0, (9, 6))[0])
    for part in [torch.tensor(values(1, (4, 6))[0]), whole[:4]] * CALLS:
        a = np.exp(part.numpy())
        close([part.softmax(1)], [a / a.sum(1, keepdims=True)])
        close([torch.cat([part, part])], [np.concatenate([part.numpy()] * 2)])


def test_memory_that_numpy_shares():
    array = values(0, (4, 6))[0]
    x = torch.from_numpy(array)
    for k in range(CALLS):
        array[0, 0] = k
        a = np.exp(array)
        close([x.softmax(1)], [a / a.sum(1, keepdims=True)])


def test_derivatives_of_derivatives_after_plain_ones():
    x = torch.tensor(values(0, (3, 4))[0], requires_grad=True)
    for _ in range(CALLS):
        x.softmax(1).pow(2).sum().backward()
    assert torch.autograd.gradgradcheck(lambda t: t.softmax(1), torch.tensor(x.detach().numpy(), dtype=torch.float64, requires_grad=True))


def trained(optimizer, steps: int = 9, schedule=None):
    w, b = (torch.tensor(a, requires_grad=True) for a in values(0, (5, 3), (3,)))
    x = torch.tensor(values(1, (7, 5))[0])
    opt = optimizer([w, b])
    rates = schedule(opt) if schedule else None
    for _ in range(steps):
        opt.zero_grad()
        ((x @ w + b) ** 2).mean().backward()
        opt.step()
        if rates:
            rates.step()
    return [w.detach().numpy(), b.detach().numpy()]


@pytest.mark.parametrize("name, options", [
    ("SGD", {}), ("SGD", dict(momentum=0.9, nesterov=True, weight_decay=0.1)), ("Adam", {}), ("Adam", dict(amsgrad=True, maximize=True)),
    ("AdamW", {}), ("NAdam", {}), ("RAdam", {}), ("Adamax", {}), ("RMSprop", dict(centered=True, momentum=0.5)), ("Adagrad", {}),
    ("Adadelta", {}), ("ASGD", dict(t0=4)), ("Rprop", {}), ("Adafactor", {}),
])
def test_steps_are_those_of_the_rule(name, options, eagerly):
    def run():
        return trained(lambda ps: getattr(torch.optim, name)(ps, lr=0.05, **options),
                       schedule=lambda o: torch.optim.lr_scheduler.StepLR(o, 2))
    repeated._known.clear()
    close(run(), eagerly(run))


def test_rules_are_recorded_again():
    repeated._known.clear()
    trained(lambda ps: torch.optim.AdamW(ps))
    found = [s for known in repeated._known.values() for s in known.found.values()]
    assert len(found) == 2 and all(type(s) is repeated.Step for s in found)


def test_a_count_of_steps_that_is_set_back():
    p = torch.ones(3, requires_grad=True)
    opt, rates = torch.optim.Adam([p], lr=0.1), []
    for step in [0.0] * CALLS + [7.0]:
        p.grad = torch.ones(3)
        if opt.state:
            for s in opt.state[p].values():
                if isinstance(s, torch.Tensor):
                    s.zero_()
            opt.state[p]["step"] = step
        before = p.detach().numpy().copy()
        opt.step()
        rates.append((before - p.detach().numpy())[0])
    assert opt.state[p]["step"] == 8.0
    np.testing.assert_allclose(rates[:-1], 0.1, rtol=1e-4)
    t = 8
    expected = 0.1 * (0.1 / (1 - 0.9 ** t)) / (0.001 ** 0.5 / (1 - 0.999 ** t) ** 0.5)
    np.testing.assert_allclose(rates[-1], expected, rtol=1e-4)


def test_no_further_plans_are_made():
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 3))
    opt, x, y = torch.optim.Adam(model.parameters()), torch.randn(5, 6), torch.randint(0, 3, (5,))
    made = []
    for _ in range(CALLS + 2):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        loss.item()
        made.append(flush.counters["made"])
    assert made[-1] == made[2]
