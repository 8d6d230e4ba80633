"""Optimisers and schedules: their rules against NumPy, their promises, and their trajectories against PyTorch's."""

from __future__ import annotations

import copy
import io
import math
import pickle

import numpy as np
import pytest

import antorcha as torch
from antorcha import nn, optim
from antorcha.optim import lr_scheduler

CASES = {
    "SGD": [
        {},
        dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        dict(lr=0.1, momentum=0.9, dampening=0.5),
        dict(maximize=True),
    ],
    "Adam": [{}, dict(amsgrad=True, weight_decay=0.1), dict(betas=(0.5, 0.9), eps=1e-3)],
    "AdamW": [{}, dict(weight_decay=0.3, amsgrad=True)],
    "Adamax": [{}, dict(weight_decay=0.1)],
    "NAdam": [{}, dict(weight_decay=0.1, decoupled_weight_decay=True)],
    "RAdam": [{}, dict(weight_decay=0.1)],
    "Adagrad": [{}, dict(lr_decay=0.1, initial_accumulator_value=0.2)],
    "Adadelta": [{}, dict(rho=0.8, weight_decay=0.1)],
    "Adafactor": [{}, dict(weight_decay=0.1, d=2.0)],
    "ASGD": [{}, dict(t0=3, lambd=0.01)],
    "RMSprop": [{}, dict(momentum=0.9, centered=True)],
    "Rprop": [{}, dict(etas=(0.3, 1.5))],
    "LBFGS": [dict(lr=0.1), dict(line_search_fn="strong_wolfe", max_iter=3)],
}
SCHEDULES = {
    "LambdaLR": dict(lr_lambda=lambda e: 0.9**e),
    "MultiplicativeLR": dict(lr_lambda=lambda e: 0.9),
    "StepLR": dict(step_size=3),
    "MultiStepLR": dict(milestones=[2, 2, 7]),
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": dict(gamma=0.8),
    "PolynomialLR": dict(total_iters=8, power=2.0),
    "CosineAnnealingLR": dict(T_max=5),
    "CosineAnnealingWarmRestarts": dict(T_0=3, T_mult=2),
    "CyclicLR": dict(base_lr=0.01, max_lr=0.2, step_size_up=3, mode="triangular2"),
    "OneCycleLR": dict(max_lr=0.3, total_steps=20),
}
RANDOM = np.random.RandomState(0)
X, Y, START = RANDOM.randn(20, 3).astype(np.float32), RANDOM.randn(20, 2).astype(np.float32), RANDOM.randn(3, 2).astype(np.float32)


def trajectory(lib, name: str, options: dict, steps: int = 6) -> list:
    w, b = lib.tensor(START, requires_grad=True), lib.tensor([0.1, -0.2], requires_grad=True)
    x, y = lib.tensor(X), lib.tensor(Y)
    optimizer = getattr(lib.optim, name)([w, b], **options)

    def closure():
        optimizer.zero_grad()
        loss = ((x @ w).tanh() + b - y).square().mean()
        loss.backward()
        return loss

    found = []
    for _ in range(steps):
        optimizer.step(closure)
        found.append(np.concatenate([w.detach().numpy().reshape(-1), b.detach().numpy()]).copy())
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_parameters_follow_pytorch(name):
    oracle = pytest.importorskip("torch")
    steps = 2 if name == "LBFGS" else 6     # twenty steps in one, each of which magnifies the last bit
    for options in CASES[name]:
        for a, b in zip(trajectory(torch, name, options, steps), trajectory(oracle, name, options, steps)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5, err_msg=f"{name} {options}")


def rates(lib, name: str, options: dict, steps: int = 19) -> list:
    optimizer = lib.optim.SGD([lib.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    schedule = getattr(lib.optim.lr_scheduler, name)(optimizer, **options)
    found = []
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        found.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
    return np.array(found)


@pytest.mark.oracle
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_follow_pytorch(name):
    oracle = pytest.importorskip("torch")
    np.testing.assert_allclose(rates(torch, name, SCHEDULES[name]), rates(oracle, name, SCHEDULES[name]), rtol=1e-9, atol=1e-15)


# -- without PyTorch ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_takes_a_tensor_as_rate(line_search):
    options = dict(line_search_fn=line_search, max_iter=4)
    for a, b in zip(trajectory(torch, "LBFGS", dict(options, lr=0.125), 2),
                    trajectory(torch, "LBFGS", dict(options, lr=torch.tensor(0.125)), 2)):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_every_optimizer_lessens_a_loss_and_goes_on_from_its_state(name):
    options = CASES[name][0]
    w = torch.tensor([2.0, -3.0], requires_grad=True)
    optimizer = getattr(optim, name)([w], **options)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    first = float(closure())
    for _ in range(5):
        optimizer.step(closure)
    assert float(closure()) < first or name == "SGD" and options.get("maximize")
    saved, place = copy.deepcopy(optimizer.state_dict()), w.detach().clone()
    for _ in range(3):
        optimizer.step(closure)
    expected = w.detach().clone()
    with torch.no_grad():
        w.copy_(place)
    optimizer = getattr(optim, name)([w], **options)
    optimizer.load_state_dict(saved)
    for _ in range(3):
        optimizer.step(closure)
    assert torch.equal(w.detach(), expected)


def test_adam_is_the_formula():
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = optim.Adam([w], lr=0.1, betas=(0.8, 0.9), eps=1e-3)
    p, m, v = w.detach().numpy().astype(np.float64), 0.0, 0.0
    for t in range(1, 8):
        optimizer.zero_grad()
        (w**3).sum().backward()
        optimizer.step()
        g = 3 * p**2
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        p = p - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
        np.testing.assert_allclose(w.detach().numpy(), p, rtol=2e-5)


def test_adamx_keeps_the_largest_rescaled_second_moment():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = optim.AdamX([w], lr=0.1, betas=(0.9, 0.5), lambd=0.5)
    p, m, v, top = 1.0, 0.0, 0.0, 0.0
    for t, g in enumerate([3.0, 1.0, -2.0], 1):
        w.grad = torch.tensor([g])
        optimizer.step()
        now, before = 0.9 * 0.5 ** (t - 1), 0.9 * 0.5 ** (t - 2)
        m, v = now * m + (1 - now) * g, 0.5 * v + 0.5 * g * g
        top = v if t == 1 else max(((1 - now) / (1 - before)) ** 2 * top, v)
        p -= 0.1 * m / (math.sqrt(top) + 1e-8)
        assert w.item() == pytest.approx(p, rel=1e-5)


def test_adamz_slows_down_when_it_overshoots_and_speeds_up_when_it_stagnates():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = optim.AdamZ([w], lr=0.1, patience=3, stagnation_period=6, stagnation_threshold=0.9)
    w.grad = torch.ones(1)
    for loss in (3.0, 2.0, 4.0):
        optimizer.step(loss=loss)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    for loss in (3.0, 2.99, 2.98):
        optimizer.step(loss=loss)
    assert optimizer.param_groups[0]["lr"] > 0.05


def test_groups_hooks_and_pickles():
    a, b = torch.zeros(2, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": torch.zeros(1, requires_grad=True), "momentum": 0.9})
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.1]
    seen = []
    handle = optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    a.grad = b.grad = None
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == ["before", "after", "after"]
    again = pickle.loads(pickle.dumps(optim.Adam([torch.zeros(2, requires_grad=True)])))
    assert again.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("make, message", [
    (lambda: optim.SGD(torch.zeros(2)), "iterable of Tensors"),
    (lambda: optim.SGD([]), "empty parameter list"),
    (lambda: optim.SGD([torch.zeros(2, requires_grad=True)], lr=-1), "lr"),
    (lambda: optim.Adam([torch.zeros(2, requires_grad=True)], betas=(1.0, 0.9)), "beta"),
    (lambda: optim.SGD([(p := torch.zeros(2, requires_grad=True)), p]), "twice"),
    (lambda: optim.Muon([torch.zeros(2, requires_grad=True)]), "2D"),
    (lambda: optim.SGD([torch.zeros(2, requires_grad=True) * 2]), "non-leaf"),
])
def test_bad_arguments_say_so(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("name", [n for n in SCHEDULES if n not in ("CyclicLR", "OneCycleLR", "LambdaLR", "MultiplicativeLR")])
def test_schedules_go_on_from_their_state(name):
    def make():
        optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        return optimizer, getattr(lr_scheduler, name)(optimizer, **SCHEDULES[name])

    optimizer, schedule = make()
    for _ in range(4):
        schedule.step()
    other, resumed = make()
    resumed.load_state_dict(schedule.state_dict())
    other.load_state_dict(optimizer.state_dict())
    for _ in range(5):
        schedule.step()
        resumed.step()
    assert resumed.get_last_lr() == schedule.get_last_lr()


def test_plateaus_reduce_the_rate():
    optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5, cooldown=1)
    found = []
    for loss in (5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0):
        schedule.step(loss)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


def test_averaged_models():
    model = nn.Linear(1, 1, bias=False)
    average = optim.swa_utils.AveragedModel(model)
    for value in (1.0, 2.0, 6.0):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(3.0)
    torch.save(average.state_dict(), io.BytesIO())


def test_hooks_around_saving_and_loading():
    p = torch.nn.Parameter(torch.ones(1))
    optimizer, seen = torch.optim.SGD([p], lr=0.5), []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("before"))
    handle = optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    saved = optimizer.state_dict()
    assert seen == ["before"] and saved["more"] == 1
    handle.remove()
    assert "more" not in optimizer.state_dict()

    def with_lr(o, state):
        return {**state, "param_groups": [{**state["param_groups"][0], "lr": 0.25}]}
    optimizer.register_load_state_dict_pre_hook(with_lr)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("after"))
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.25 and seen[-1] == "after"


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.SGD])
def test_first_step_has_the_plan_of_all_later_ones(make, settled):
    from antorcha.graph import flush

    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    optimizer = make(model.parameters(), lr=0.1)
    tokens, made = torch.tensor([[0, 3, 1], [4, 4, 2]]), []
    for _ in range(3):
        loss = model(tokens).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        made.append(flush.counters["made"])
    assert made[0] == made[1] == made[2]
