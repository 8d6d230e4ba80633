"""The quick way of replaying a training step: whatever changes between two steps, the next is that of the function itself."""

from __future__ import annotations

import copy
import gc
import random
import sys
import threading
import weakref

import pytest

import antorcha as torch
from antorcha import nn
from antorcha.compiler import witness
from antorcha.nn import functional as F
from antorcha.runtime.buffer import Buffer

QUICK = witness.works()


class Net(nn.Module):
    gain = 1.0

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 3)])
        self.drop, self.scale, self.sizes = nn.Dropout(0.2), 1.0, [1.0, 2.0]
        self.register_buffer("shift", torch.zeros(8))

    def forward(self, x):
        x = self.drop(F.relu(self.layers[0](x) * self.scale + self.shift))
        return self.layers[1](x) * self.sizes[0] * self.gain


class Training:
    def __init__(self, make=torch.optim.AdamW, frozen=False):
        torch.manual_seed(0)
        self.model = model = Net()
        self.optimizer = optimizer = make(model.parameters(), lr=0.01)
        self.weight = weight = 1.0
        if frozen:
            model.layers[0].weight.requires_grad_(False)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y) * weight
            loss.backward()
            optimizer.step()
            return loss
        self.step = self.plain = step

    def compile(self):
        self.step = torch.compile(self.plain)
        return self

    @property
    def steady(self):
        return self.step.recordings[0].steady if self.step.recordings else None

    def run(self, n, seed, size=6):
        torch.manual_seed(seed)
        return [self.step(torch.randn(size, 4), torch.randint(0, 3, (size,))).item() for _ in range(n)]

    def warm(self):
        self.run(9, 1)
        if self.step is not self.plain:
            assert self.step.reason is None and (self.steady is not None) == QUICK
        return self


def same(a, b):
    for p, q in zip(a.model.state_dict().values(), b.model.state_dict().values()):
        assert torch.equal(p, q)
    for p, q in zip(a.model.parameters(), b.model.parameters()):
        assert (p.grad is None) == (q.grad is None) and (p.grad is None or torch.equal(p.grad, q.grad))
        assert p._version == q._version
    for s, t in zip(a.optimizer.state.values(), b.optimizer.state.values()):
        assert all(torch.equal(s[k], t[k]) if isinstance(t[k], torch.Tensor) else s[k] == t[k] for k in t)


def weight(t):
    return t.model.layers[0].weight


def add_layer(t):
    torch.manual_seed(8)
    t.model.layers[0] = nn.Sequential(nn.Linear(4, 8), nn.Tanh())


CHANGES = {
    "nothing": lambda t: None,
    "eval": lambda t: t.model.eval(),
    "attribute": lambda t: setattr(t.model, "scale", 2.0),
    "list": lambda t: t.model.sizes.__setitem__(0, 3.0),
    "a list's length": lambda t: t.model.sizes.insert(0, 3.0),
    "instance dict": lambda t: t.model.__dict__.update(scale=3.0),
    "another dict": lambda t: setattr(t.model, "__dict__", {**t.model.__dict__, "scale": 4.0}),
    "forward of the instance": lambda t: setattr(t.model.layers[0], "forward", lambda x: F.linear(x, weight(t)) * 2),
    "class of a module": lambda t: setattr(t.model, "__class__", type("Other", (Net,), {"gain": 2.0})),
    "code": lambda t: setattr(t.plain, "__code__", t.plain.__code__),
    "weights in place": lambda t: weight(t).data.mul_(2),
    "weights under no_grad": lambda t: torch.no_grad()(lambda: weight(t).add_(1))(),
    "other memory": lambda t: setattr(weight(t), "data", weight(t).data.clone() * 2),
    "another parameter": lambda t: setattr(t.model.layers[0], "weight", nn.Parameter(torch.ones(8, 4))),
    "buffer": lambda t: t.model.shift.fill_(0.5),
    "another buffer": lambda t: setattr(t.model, "shift", torch.full((8,), 0.25)),
    "frozen": lambda t: weight(t).requires_grad_(False),
    "gradient forgotten": lambda t: t.optimizer.zero_grad(),
    "gradient changed": lambda t: weight(t).grad.mul_(2),
    "gradient replaced": lambda t: setattr(weight(t), "grad", torch.ones(8, 4)),
    "hook": lambda t: weight(t).register_hook(lambda g: g * 3),
    "module hook": lambda t: t.model.layers[0].register_forward_hook(lambda m, i, o: o * 2),
    "rate": lambda t: t.optimizer.param_groups[0].update(lr=0.5),
    "betas": lambda t: t.optimizer.param_groups[0].update(betas=(0.5, 0.6)),
    "decay": lambda t: t.optimizer.param_groups[0].__setitem__("weight_decay", 0.5),
    "count": lambda t: t.optimizer.state[weight(t)].update(step=100.0),
    "moment": lambda t: t.optimizer.state[weight(t)].update(exp_avg=torch.ones(8, 4)),
    "moment in place": lambda t: t.optimizer.state[weight(t)]["exp_avg"].fill_(2.0),
    "state forgotten": lambda t: t.optimizer.state.clear(),
    "a parameter less": lambda t: t.optimizer.param_groups[0]["params"].pop(0),
    "state loaded": lambda t: t.optimizer.load_state_dict(copy.deepcopy(t.optimizer.state_dict())),
    "weights loaded": lambda t: t.model.load_state_dict({k: v * 2 for k, v in t.model.state_dict().items()}),
    "shared with NumPy": lambda t: weight(t).detach().numpy().fill(0.5),
    "layers": add_layer,
    "a longer dropout": lambda t: setattr(t.model.drop, "p", 0.7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_steps(change):
    a, b = Training().compile().warm(), Training().warm()
    for t in (a, b):
        CHANGES[change](t)
    for seed in (2, 3):
        assert a.run(4, seed) == b.run(4, seed)
        same(a, b)


def test_changes_of_classes_and_settings(monkeypatch):
    a, b = Training().compile().warm(), Training().warm()

    def agree():
        assert a.run(3, 4) == b.run(3, 4)
        same(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(Net, "gain", 2.0)
        agree()
        patch.setattr(nn.Linear, "forward", lambda self, x: F.linear(x, self.weight, self.bias) * 2)
        agree()
        patch.setattr(F, "relu", lambda x: x.tanh())
        agree()
    agree()
    with torch.autocast("cpu"):
        agree()
    agree()
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(RuntimeError):
            a.run(1, 4)
        with pytest.raises(RuntimeError):
            b.run(1, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    agree()


def test_what_others_refer_to_stays():
    a, b = Training().compile().warm(), Training().warm()
    kept: dict = {}
    for t in (a, b):
        log = kept[t] = []
        for seed in range(12):
            p = weight(t)
            if seed % 3 == 0:
                log.append(p.grad)
                log.append(p.detach().clone())
                log.append(t.optimizer.state[p]["exp_avg"].clone())
            if seed % 3 == 1:
                log.append(copy.deepcopy(p))
                log.append(p.grad.detach())
                log.append((p * 2).sum())
                p.grad = None
            t.run(3, seed)
            log.append(p.grad[0])
    assert all(torch.equal(x, y) for x, y in zip(kept[a], kept[b])) and len(kept[a]) == len(kept[b])
    same(a, b)


def test_gradients_live_as_long_as_they_would():
    a = Training().compile().warm()
    a.run(4, 1)
    grad = weight(a).grad
    before, seen = grad.clone(), weakref.ref(grad)
    a.run(2, 2)
    assert torch.equal(grad, before) and weight(a).grad is not grad
    del grad
    gc.collect()
    assert seen() is None
    watched = weakref.ref(weight(a).grad)
    a.run(1, 2)
    assert watched() is None


def test_inputs_of_other_kinds():
    a, b = Training().compile().warm(), Training().warm()
    x = torch.randn(6, 4)
    for make in (lambda t: x, lambda t: x[:, :], lambda t: x * 2, lambda t: x.t().contiguous().t(), lambda t: torch.randn(5, 4),
                 lambda t: x.numpy() is not None and x, lambda t: weight(t).detach()[:6], lambda t: torch.zeros(12, 4)[::2]):
        for t in (a, b):
            torch.manual_seed(5)
            y = torch.tensor([0, 1, 2, 0, 1, 2])
            t.losses = [t.step(i, y[:len(i)]).item() for i in (make(t),) * 3]
        assert a.losses == b.losses
        same(a, b)
    for t in (a, b):
        t.run(3, 7)
        with pytest.raises(IndexError, match="expected"):
            t.step(torch.randn(6, 4), torch.full((6,), 3)).item()


def test_values_recorded_between_steps_are_those_of_their_time():
    a, b = Training().compile().warm(), Training().warm()
    totals = {}
    for t in (a, b):
        total = torch.zeros(())
        norm = torch.zeros(())
        torch.manual_seed(9)
        for _ in range(8):
            loss = t.step(torch.randn(6, 4), torch.randint(0, 3, (6,)))
            total += loss.detach()
            norm = norm + weight(t).detach().square().sum() + weight(t).grad.abs().max()
        totals[t] = total.item(), norm.item()
    assert totals[a][0] == totals[b][0] and totals[a][1] == pytest.approx(totals[b][1], rel=1e-6)
    same(a, b)


@pytest.mark.skipif(not QUICK, reason="the interpreter does not tell what changes")
def test_a_witness_sees_what_it_should():
    class Holder:
        pass

    h = Holder()
    h.a, items, d, cell = 1.0, [1, 2], {"k": 1}, (lambda: h).__closure__[0]

    def f(x=(1,)):
        return x

    for kind, x, change in (("vars", h, lambda: setattr(h, "a", 2.0)), ("vars", h, lambda: setattr(h, "__dict__", {"a": 2.0})),
                            ("vars", h, lambda: delattr(h, "a")), ("list", items, lambda: items.reverse()),
                            ("list", items, lambda: items.append(3)), ("list", items, items.clear), ("dict", d, lambda: d.update(k=2)),
                            ("dict", d, d.clear), ("type", h, lambda: setattr(h, "__class__", type("B", (Holder,), {}))),
                            ("class", Holder, lambda: setattr(Holder, "z", 1)), ("empty", set(), None), ("empty", {}, None),
                            ("function", f, lambda: setattr(f, "__defaults__", ((2,),))),
                            ("function", f, lambda: setattr(f, "__code__", (lambda x: 1).__code__))):
        w = witness.Witness()
        w.group(kind)
        getattr(Holder, "q", None)
        w.behind(kind, x)
        w.close()
        assert w.changed() == []
        x.update({1: 1} if type(x) is dict else {1}) if change is None else change()
        assert w.changed() == [kind], kind
    w = witness.Witness()
    w.group("cell")
    w.behind("cell", cell)
    w.close()
    assert w.changed() == []
    h = None
    assert w.changed() == ["cell"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the interpreter does not say when a dict is changed")
def test_changes_of_dicts_are_counted_for_each():
    counted, numbers = witness._watcher().count_of, random.Random(0)
    for _ in range(3):      # dicts take the places of others that are gone
        dicts = [{k: 0} for k in range(2000)]
        places = [counted(d) for d in dicts]
        assert len(set(places)) == 2000 and places == [counted(d) for d in dicts]
        before = [witness.word(at) for at in places]
        changed = set(numbers.sample(range(2000), 300))
        for k in changed:
            dicts[k]["new"] = k
        assert {k for k in range(2000) if witness.word(places[k]) != before[k]} == changed
        first, now = places[0], witness.word(places[0])
        del dicts
        assert witness.word(first) > now


@pytest.mark.skipif(not QUICK, reason="the interpreter does not tell what changes")
def test_threads_take_turns(monkeypatch):
    """The arguments of a plan are one thread's until it has run."""
    real, found, others, meets = Buffer.allocate, [], [], []

    @torch.no_grad()
    def call(k):
        found.append((model(xs[k]).tolist(), k))

    def allocate(nbytes):       # for a result, when the addresses of the inputs are among the arguments
        if meets:
            meets.clear()
            others.append(threading.Thread(target=call, args=(1,)))
            others[0].start()
            others[0].join(0.5)
        return real(nbytes)

    monkeypatch.setattr(Buffer, "allocate", allocate)
    model = torch.compile(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).eval())
    xs = [torch.full((6, 4), float(k)) for k in range(2)]
    with torch.no_grad():
        for _ in range(8):
            expected = [model(x).tolist() for x in xs]
        assert model._compiled.recordings[0].steady is not None
        meets.append(True)
        call(0)
        others[0].join()
    assert len(found) == 2 and all(values == expected[k] for values, k in found)
