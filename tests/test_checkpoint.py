"""Checkpoints give the values and gradients of the plain computation, and compute again what they did not keep."""

from __future__ import annotations

import pytest

import antorcha as torch
from antorcha import nn
from antorcha.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential, set_checkpoint_early_stop

BOTH = pytest.mark.parametrize("use_reentrant", [True, False])


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def gradients(run):
    m = model()
    x = torch.linspace(-1, 1, 12).reshape(3, 4).requires_grad_()
    torch.manual_seed(1)
    y = run(m, x)
    y.square().sum().backward()
    after = torch.rand(3).tolist()
    return [y.tolist(), x.grad.tolist(), after] + [p.grad.tolist() for p in m.parameters()]


@BOTH
def test_gradients_and_random_numbers_are_those_of_the_plain_computation(use_reentrant):
    plain = gradients(lambda m, x: m(x))
    assert gradients(lambda m, x: checkpoint(m, x, use_reentrant=use_reentrant)) == plain
    assert gradients(lambda m, x: checkpoint_sequential(m, 3, x, use_reentrant=use_reentrant)) == plain
    nested = gradients(lambda m, x: checkpoint(lambda v: m[3:](checkpoint(m[:3], v, use_reentrant=use_reentrant)), x,
                                               use_reentrant=use_reentrant))
    assert nested == plain


def counted(f, calls):
    def run(*args):
        calls.append(1)
        return f(*args)
    return run


@BOTH
def test_the_part_runs_twice_and_only_in_a_backward_pass(use_reentrant):
    calls: list = []
    x = torch.ones(3, requires_grad=True)
    y = checkpoint(counted(lambda v: v.sin().cos(), calls), x, use_reentrant=use_reentrant)
    assert len(calls) == 1
    y.sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        checkpoint(counted(lambda v: v.sin(), calls), x, use_reentrant=use_reentrant)
    assert len(calls) == 3


def test_intermediate_values_are_not_kept():
    import gc
    import weakref

    kept = []

    def part(v):
        a = v.sin()
        kept.append(weakref.ref(a.storage))
        return a.cos()

    x = torch.ones(3, requires_grad=True)
    plain = part(x)
    gc.collect()
    assert kept[0]() is not None
    y = checkpoint(part, x, use_reentrant=False)
    gc.collect()
    assert kept[1]() is None
    (plain + y).sum().backward()


def test_placeholders_serve_all_that_autograd_does():
    x, w = torch.linspace(0.1, 1, 3).requires_grad_(), torch.ones(3, requires_grad=True)

    def part(v, *, scale):
        return {"a": (v * w).sin() * scale, "b": [v.exp()]}

    out = checkpoint(part, x, scale=2.0, use_reentrant=False)
    loss = out["a"].sum() + out["b"][0].sum()
    (g,) = torch.autograd.grad(loss, w, create_graph=True)
    (gg,) = torch.autograd.grad(g.sum(), x)
    plain = part(x, scale=2.0)
    (h,) = torch.autograd.grad(plain["a"].sum() + plain["b"][0].sum(), w, create_graph=True)
    (hh,) = torch.autograd.grad(h.sum(), x)
    assert torch.allclose(g, h) and torch.allclose(gg, hh)
    y = checkpoint(lambda v: v.sin().cos(), x, use_reentrant=False).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_a_part_that_changes_is_an_error():
    x, runs = torch.ones(3, requires_grad=True), []

    def shorter(v):
        runs.append(1)
        return v.sin().cos() if len(runs) == 1 else v.sin()

    y = checkpoint(shorter, x, use_reentrant=False)
    with pytest.raises(CheckpointError, match="A different number of tensors was saved"):
        y.sum().backward()
    runs.clear()

    def wider(v):
        runs.append(1)
        return (v.sin() if len(runs) == 1 else v.repeat(2).sin()[:3]).cos()

    y = checkpoint(wider, x, use_reentrant=False)
    with set_checkpoint_early_stop(True), pytest.raises(CheckpointError, match="different metadata|different number"):
        y.sum().backward()


def test_arguments_are_checked():
    x = torch.ones(3, requires_grad=True)
    with pytest.warns(UserWarning, match="use_reentrant parameter should be passed"):
        checkpoint(torch.sin, x)
    with pytest.warns(UserWarning, match="None of the inputs"):
        checkpoint(torch.sin, x.detach(), use_reentrant=True)
    with pytest.raises(ValueError, match="Unexpected keyword"):
        checkpoint(torch.sin, x, use_reentrant=True, scale=1)
    with pytest.raises(ValueError, match="determinism_check"):
        checkpoint(torch.sin, x, use_reentrant=False, determinism_check="strict")
    y = checkpoint(torch.sin, x, use_reentrant=True)
    with pytest.raises(RuntimeError, match=r"incompatible with .grad\(\)"):
        torch.autograd.grad(y.sum(), x)
