"""Optimisers and schedules: their rules against NumPy, their promises, and their trajectories against PyTorch's."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha import nn, optim
from antorcha.base import dtype as dt
from antorcha.loops import ir
from antorcha.optim import lr_scheduler, quasi_newton

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
            agree(a, b)


def _descent(lib, options: dict, steps: int) -> list:
    """Parameters of least squares through a tanh layer after each step of L-BFGS. The gradients are NumPy's, whatever `lib` is."""
    random = np.random.default_rng(0)
    x, y, *start = (random.standard_normal(shape) for shape in ((16, 4), (16, 2), (4, 3), (3, 2)))
    params = [lib.tensor(w.astype(np.float32), requires_grad=True) for w in start]
    optimizer = lib.optim.LBFGS(params, **options)

    def closure():
        first, second = (p.detach().numpy().astype(np.float64) for p in params)
        hidden = np.tanh(x @ first)
        error = hidden @ second - y
        slope = 2 * error / error.size
        for p, g in zip(params, (x.T @ ((slope @ second.T) * (1 - hidden**2)), hidden.T @ slope)):
            p.grad = lib.tensor(g.astype(np.float32))
        return lib.tensor(np.float32((error**2).mean()))

    found = []
    for _ in range(steps):
        optimizer.step(closure)
        found.append(np.concatenate([p.detach().numpy().reshape(-1) for p in params]))
    found += [len(x) for x in optimizer.state_dict()["state"][0].values() if isinstance(x, list)]
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("options", [{}, dict(lr=0.01, history_size=7), dict(line_search_fn="strong_wolfe")])
def test_lbfgs_rounds_as_pytorch_does(options):
    """A last bit grows to thousands in these twenty steps, so that only the same bits agree."""
    oracle = pytest.importorskip("torch")
    processor = Path("/proc/cpuinfo")
    intel = processor.exists() and "GenuineIntel" in processor.read_text()      # MKL goes other ways on others' processors
    if not intel or oracle.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("PyTorch's library sums in another order on this processor")
    for a, b in zip(_descent(torch, options, 20), _descent(oracle, options, 20), strict=True):
        np.testing.assert_array_equal(a, b)


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
    agree(rates(torch, name, SCHEDULES[name]), rates(oracle, name, SCHEDULES[name]))


# -- without PyTorch ------------------------------------------------------------------------------------------------

def test_a_scaled_sum_is_rounded_once():
    x, y = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    alpha, a, b = float(np.float32(0.3)), torch.tensor(x), torch.tensor(y)
    x, y = x.astype(np.float64), y.astype(np.float64)
    for found, exact in [(torch.add(a, b, alpha=alpha), x + alpha * y), (a.sub(b, alpha=alpha), x - alpha * y),
                         (torch.rsub(a, b, alpha=alpha), y - alpha * x), (a.clone().add_(b, alpha=alpha), x + alpha * y)]:
        np.testing.assert_array_equal(found.numpy(), exact.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dot_products_of_lbfgs_are_summed_in_one_order(dtype):
    """One element too large, and its opposite, cancel all that was added to them meanwhile: what is left tells the order."""
    lanes, large = 64 // np.dtype(dtype).itemsize, 2.0**40 if dtype == np.float32 else 2.0**80

    def left(n, i, j):
        x = np.ones(n, dtype)
        x[i], x[j] = large, -large
        return quasi_newton.dot(x, np.ones(n, dtype))

    n = 7 * lanes + 3
    assert left(n, 0, 4 * lanes) == n - 2                   # the same sum, one after the other
    assert left(n, 0, 6 * lanes) == n - 3 and left(n, 0, 7 * lanes) == n - 4     # so are two vectors more, one more and the rest
    assert left(n, 0, lanes) == n - 6                       # the second of four, which has two
    assert left(n, lanes, 5 * lanes) == n - 2
    assert left(n, 2 * lanes, 3 * lanes) == n - 2 and left(n, 0, 2 * lanes) == n - 8
    for k in range(1, 70):
        x, y = np.random.default_rng(k).standard_normal((2, k)).astype(dtype)
        agree(quasi_newton.dot(x, y), x.astype(np.float64) @ y)
        agree(quasi_newton.short_sum(x), x.astype(np.float64).sum())


@pytest.mark.parametrize("pairs", [0, 1, 3, 5, 8])
def test_direction_of_lbfgs(pairs):
    """The two loops, written out; of eight pairs the last five are kept."""
    ir.verify(quasi_newton.direction_program(dt.float64))
    random, history = np.random.default_rng(0), quasi_newton.History(5, 37, np.dtype(np.float64))
    kept = []
    for _ in range(pairs):
        y, s = random.standard_normal((2, 37))
        kept.append((y, s, 1 / (y @ s)))
        history.add(*kept[-1])
    g = random.standard_normal(37)
    kept, q, weights = kept[-5:], -g, []
    for y, s, factor in reversed(kept):
        weights.insert(0, factor * (s @ q))
        q = q - weights[0] * y
    q = q * 0.7
    for (y, s, factor), weight in zip(kept, weights):
        q = q + (weight - factor * (y @ q)) * s
    agree(history.direction(g, 0.7), q)
    agree(history.weights[:len(kept)], weights)


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_goes_on_from_what_it_kept(line_search):
    """A new optimiser with the state of another does what the first would have done."""
    def problem(w):
        return ((w - torch.arange(6.0)).square() * torch.tensor([1.0, 2, 3, 4, 5, 6])).sum() + w.prod() * 0.01

    def advance(optimizer, w, steps):
        def closure():
            optimizer.zero_grad()
            loss = problem(w)
            loss.backward()
            return loss
        for _ in range(steps):
            optimizer.step(closure)
        return w.tolist()

    options = dict(max_iter=3, history_size=4, lr=0.3, line_search_fn=line_search)
    w = torch.ones(6, requires_grad=True)
    optimizer = optim.LBFGS([w], **options)
    advance(optimizer, w, 2)
    other = w.detach().clone().requires_grad_()
    successor = optim.LBFGS([other], **options)
    successor.load_state_dict(optimizer.state_dict())
    assert advance(optimizer, w, 3) == advance(successor, other, 3)


def test_lbfgs_takes_complex_parameters():
    target = torch.tensor([1 + 2j, 3 - 1j])
    w = torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    optimizer = optim.LBFGS([w], line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (w - target).abs().square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(w.detach(), target, atol=1e-4, rtol=0)


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_takes_a_tensor_as_rate(line_search):
    options = dict(line_search_fn=line_search, max_iter=4)
    for a, b in zip(trajectory(torch, "LBFGS", dict(options, lr=0.125), 2),
                    trajectory(torch, "LBFGS", dict(options, lr=torch.tensor(0.125)), 2)):
        agree(a, b)


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
        agree(w, p)


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


class Own(torch.optim.Optimizer):
    """An optimiser with its own `step`, as programs write them."""

    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))
        self.log = []

    @torch.no_grad()
    def step(self, closure=None, times=1):
        self.log.append(times)
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-group["lr"] * times)


class Extended(torch.optim.SGD):
    """An optimiser whose `step` calls that of its base."""

    def step(self, closure=None):
        return super().step(closure)


def leaf():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    return p


@pytest.mark.parametrize("kind", [Own, Extended, torch.optim.Adam])
def test_hooks_are_called_around_any_step(kind):
    from antorcha.optim import optimizer as module

    o, log = kind([leaf()], lr=0.1), []
    o.register_step_pre_hook(lambda opt, args, kwargs: log.append(("before", args == (opt,), kwargs)))
    o.register_step_post_hook(lambda opt, args, kwargs: log.append(("after", args == (opt,), kwargs)))
    handles = [module.register_optimizer_step_pre_hook(lambda *a: log.append("all before")),
               module.register_optimizer_step_post_hook(lambda *a: log.append("all after"))]
    o.step()
    for h in handles:
        h.remove()
    assert log == ["all before", ("before", True, {}), ("after", True, {}), "all after"]


def test_a_hook_changes_the_arguments_of_a_step():
    o = Own([leaf()], lr=0.1)
    handle = o.register_step_pre_hook(lambda opt, args, kwargs: (args, {**kwargs, "times": 3}))
    o.step()
    assert o.log == [3]
    handle.remove()
    o.register_step_pre_hook(lambda *a: "nonsense")
    with pytest.raises(RuntimeError, match="must return None or a tuple of .new_args, new_kwargs., but got nonsense"):
        o.step()
    assert o.log == [3]


@pytest.mark.parametrize("kind", [Own, Extended, torch.optim.Adam])
def test_a_schedule_tells_of_steps_in_the_wrong_order(kind):
    o = kind([leaf()], lr=0.1)
    s = torch.optim.lr_scheduler.StepLR(o, 1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        s.step()
    o = kind([leaf()], lr=0.1)
    s = torch.optim.lr_scheduler.StepLR(o, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        o.step()
        s.step()
        s.step()
    o = kind([leaf()], lr=0.1)
    s = torch.optim.lr_scheduler.StepLR(o, 1)
    o.step = lambda: None
    o.step()
    with pytest.warns(UserWarning, match="overridden"):
        s.step()


def test_a_profile_shows_steps():
    with torch.profiler.profile() as profile:
        torch.optim.SGD([leaf()], 0.1).step()
        Own([leaf()], 0.1).step()
    assert {"Optimizer.step#SGD.step", "Optimizer.step#Own.step"} <= {event.key for event in profile.key_averages()}


def test_schedules_in_sequence_and_losses_that_are_read_warn_of_nothing():
    """The second schedule of a sequence begins anew, and a line search reads the losses of its closure."""
    x = leaf()
    o = torch.optim.SGD([x], lr=0.1)
    s = torch.optim.lr_scheduler
    sequence = s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=2), s.CosineAnnealingLR(o, 4)], [2])
    search = torch.optim.LBFGS([x], line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        loss = (x ** 2).sum()
        loss.backward()
        return loss
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search.step(closure)
        for _ in range(4):
            o.step()
            sequence.step()
    assert o.param_groups[0]["lr"] == pytest.approx(0.05 * (1 + math.cos(math.pi / 2)))
