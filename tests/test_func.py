"""torch.func: derivatives of functions and vmap, against loops, differences and each other."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha import func
from antorcha.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    replace_all_batch_norm_modules_,
    stack_module_state,
    vjp,
    vmap,
)
from antorcha.nn import functional as F


def same(a, b):
    """Trees of tensors are close."""
    a, b = a if isinstance(a, (tuple, list)) else (a,), b if isinstance(b, (tuple, list)) else (b,)
    assert len(a) == len(b)
    for x, y in zip(a, b):
        agree(x, y)


# -- vmap against a loop ------------------------------------------------------------------------------------------

INDEX = torch.tensor([0, 2, 1, 1])
WEIGHT = torch.linspace(-1, 1, 12).reshape(3, 4)
ONE = {
    "pointwise": lambda x: x.sin() * 2 + 1,
    "promotion": lambda x: x + torch.arange(4),
    "where": lambda x: torch.where(x > 0, x, -2.0),
    "sum": lambda x: x.sum(0),
    "all": lambda x: x.sum(),
    "mean": lambda x: x.mean(-1, keepdim=True),
    "var": lambda x: x.var(0),
    "max": lambda x: x.max(1),
    "argmax": lambda x: x.argmax(),
    "logsumexp": lambda x: x.logsumexp(0),
    "softmax": lambda x: x.softmax(0),
    "norm": lambda x: x.norm(),
    "prod": lambda x: x.prod(1),
    "any": lambda x: (x > 1).any(0),
    "cumsum": lambda x: x.cumsum(0),
    "cummax": lambda x: x.cummax(1),
    "sort": lambda x: x.sort(0),
    "topk": lambda x: x.topk(2),
    "median": lambda x: x.median(),
    "kthvalue": lambda x: x.kthvalue(2, 0),
    "transpose": lambda x: x.T,
    "reshape": lambda x: x.T.reshape(-1),
    "slice": lambda x: x[1:, ::2],
    "newaxis": lambda x: x[None, :, 0],
    "expand": lambda x: x[:1].expand(5, 4),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 1),
    "diagonal": lambda x: x.diagonal(),
    "tril": lambda x: x.tril(),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "chunk": lambda x: x.chunk(2, 1),
    "unbind": lambda x: x.unbind(),
    "cat": lambda x: torch.cat([x, torch.ones(1, 4), x * 2]),
    "stack": lambda x: torch.stack([x, WEIGHT], 1),
    "pad": lambda x: F.pad(x, (1, 2)),
    "take": lambda x: x[INDEX % 3],
    "gather": lambda x: x.gather(1, INDEX[None, :3] % 3),
    "mask": lambda x: x.masked_fill(x > 0, 0.5),
    "index_add": lambda x: torch.zeros(3, 3).index_add(1, INDEX, x),
    "scatter": lambda x: torch.zeros(3, 4).scatter(1, INDEX[None].expand(3, 4), x),
    "index_put": lambda x: x.index_put((INDEX[:2],), torch.ones(4)),
    "own index": lambda x: x[x.argmax(0), torch.arange(4)],
    "matmul": lambda x: x @ WEIGHT.T,
    "matmul turned": lambda x: WEIGHT.T @ x,
    "mv": lambda x: x @ torch.ones(4),
    "vm": lambda x: torch.ones(3) @ x,
    "gram": lambda x: x.T @ x,
    "bmm": lambda x: torch.bmm(x[None].expand(2, 3, 4), WEIGHT.T[None].expand(2, 4, 3)),
    "linear": lambda x: F.linear(x, WEIGHT, torch.ones(3)),
    "outer": lambda x: torch.outer(x[0], x[1]),
    "dot": lambda x: x[0].dot(x[1]),
    "einsum": lambda x: torch.einsum("ij,kj->ik", x, WEIGHT),
    "einsum left": lambda x: torch.einsum("ij,kj->ik", WEIGHT, x),
    "inv": lambda x: torch.linalg.inv(x @ x.T + torch.eye(3)),
    "solve": lambda x: torch.linalg.solve(x @ x.T + torch.eye(3), x),
    "svd": lambda x: torch.linalg.svdvals(x),
    "cholesky": lambda x: torch.linalg.cholesky(x @ x.T + torch.eye(3)),
    "fft": torch.fft.rfft,
    "conv1d": lambda x: F.conv1d(x[None], WEIGHT[None, :, :2]),
    "max_pool": lambda x: F.max_pool1d(x, 2),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
    "cross_entropy": lambda x: F.cross_entropy(x, INDEX[:3]),
    "embedding": lambda x: F.embedding((x > 0).long(), WEIGHT),
    "one_hot": lambda x: F.one_hot((x > 0).long(), 2),
    "in place": lambda x: x.clone().add_(1).mul_(x),
    "write": lambda x: _written(x),
    "constant": lambda x: torch.ones(2),
    "new": lambda x: x.new_zeros(2) + x[0, :2],
    "half": lambda x: x.half().sum(0),
    "complex": lambda x: torch.complex(x, -x) * 2j,
    "view write": lambda x: _view_written(x),
    "none": lambda x: x,
    "nested": lambda x: vmap(lambda row: row * row.sum() + x[0])(x),
    "chained": lambda x: vmap(vmap(torch.exp), in_dims=1, out_dims=1)(x),
}


def _written(x):
    out = torch.zeros(3, 4)
    out[1:] = x[1:]
    out[0, 0] = 5
    return out


def _view_written(x):
    y = x * 1
    y.T[1] += 1
    y[0].zero_()
    return y


@pytest.mark.parametrize("name", ONE)
def test_vmap_is_a_loop(name):
    f = ONE[name]
    x = torch.randn(5, 3, 4)
    parts = [f(x[i]) for i in range(5)]
    want = [torch.stack(p) for p in zip(*parts)] if isinstance(parts[0], tuple) else [torch.stack(parts)]
    same(vmap(f)(x), want)
    same(vmap(f, in_dims=2)(x.permute(1, 2, 0)), want)  # lanes interleaved in memory
    same(vmap(f)(torch.cat([x, x])[3:8]), [torch.stack(p) for p in zip(*[[*_several(f(t))] for t in torch.cat([x, x])[3:8]])])


def _several(x):
    return x if isinstance(x, tuple) else (x,)


@pytest.mark.parametrize(
    "name", [n for n in ONE if n not in ("argmax", "any", "one_hot", "constant", "embedding", "complex", "half", "fft")]
)
def test_derivatives_within_lanes(name):
    """vmap of grad, and the derivative of vmap, against loops."""
    f = ONE[name]
    x = torch.randn(4, 3, 4)
    weights = [torch.randn(o.shape) if o.dtype is torch.float32 else None for o in _several(f(x[0]))]

    def loss(x):
        return sum((o.sin() * w).sum() for o, w in zip(_several(f(x)), weights) if w is not None)

    want = torch.stack([grad(loss)(row) for row in x])
    agree(vmap(grad(loss))(x), want)
    leaf = x.clone().requires_grad_()
    vmap(loss)(leaf).sum().backward()
    agree(leaf.grad, want)


def test_vmap_dims_and_trees():
    x, y = torch.randn(3, 2, 5), torch.randn(5)
    agree(vmap(lambda a, b: a * b, in_dims=(1, None), out_dims=2)(x, y), (x * y).permute(0, 2, 1))
    agree(vmap(lambda a, b: a * b, in_dims=(-1, 0), out_dims=-1)(x, y), x * y)
    got = vmap(
        lambda d, k: {"a": d["x"] + k, "b": [d["y"].sum()]}, in_dims=({"x": 0, "y": None}, None), out_dims={"a": 1, "b": 0}
    )({"x": x, "y": y}, 2)
    agree(got["a"], (x + 2).movedim(0, 1))
    agree(got["b"][0], y.sum().expand(3))
    agree(vmap(lambda a, b=None: a * b)(x, b=y), x * y)
    a, n = vmap(lambda a: (a, 3), out_dims=(0, None))(x)
    assert n == 3
    agree(vmap(lambda a: a.exp(), chunk_size=2)(x), x.exp())
    agree(vmap(lambda a: a.exp(), chunk_size=2, out_dims=1)(x), x.exp().movedim(0, 1))
    assert vmap(torch.sum)(torch.ones(0, 3)).shape == (0,)


def test_vmap_writes_to_its_arguments():
    def double(x):
        x.mul_(2)
        return x.sum()

    x = torch.randn(3, 4)
    y, z = x.clone(), x.clone()
    agree(vmap(double)(y), x.sum(1) * 2)
    agree(y, x * 2)
    vmap(double, in_dims=1)(z)
    agree(z, x * 2)


def test_vmap_refuses():
    x = torch.randn(3, 4)
    with pytest.raises(RuntimeError, match=r"vmap: It looks like you're calling .item\(\)"):
        vmap(lambda a: a.sum().item())(x)
    with pytest.raises(RuntimeError, match="data-dependent control flow"):
        vmap(lambda a: a if a.sum() > 0 else -a)(x)
    for wrong, text in [
        (lambda: vmap(lambda a: a, in_dims=None)(x), "expected `in_dims` to be int"),
        (lambda: vmap(lambda a: a, in_dims=2)(x), "Got in_dim=2 for some input"),
        (lambda: vmap(lambda a: a, in_dims=(0, 0))(x), "in_dims is not compatible"),
        (lambda: vmap(lambda a: a, out_dims=(0, 0))(x), "out_dims is not compatible"),
        (lambda: vmap(lambda a, b: a)(x, 3), "Got in_dim=0 for an input but the input is of type"),
        (lambda: vmap(lambda a, b: a)(x, torch.ones(4)), "Expected all tensors to have the same size"),
        (lambda: vmap(lambda a: 3)(x), "must only return Tensors"),
        (lambda: vmap(lambda: x)(), "got no inputs"),
        (lambda: vmap(lambda a: a, out_dims=None)(x), "its out_dim is None"),
        (lambda: vmap(lambda a: a, chunk_size=0), "chunk_size should be None or greater"),
    ]:
        with pytest.raises(ValueError, match=text):
            wrong()
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(lambda a: a, randomness="some")
    with pytest.raises(IndexError):
        vmap(lambda a: a, out_dims=5)(x)


def test_writing_lanes_into_shared_memory_is_refused():
    x, total = torch.randn(3, 4), torch.zeros(4)

    def add(a):
        total.mul_(2)
        total.add_(a)
        return a

    with pytest.raises(RuntimeError, match="inplace arithmetic"):
        vmap(add)(x)
    agree(total, torch.zeros(4))
    escaped = []
    vmap(lambda a: escaped.append(a * 1) or a)(x)
    with pytest.raises(RuntimeError, match="vmap"):
        (escaped[0] + 1).sum().item()


def test_vmap_shows_all_lanes():
    seen = []
    vmap(lambda a: seen.append(repr(a)) or a)(torch.ones(2, 1))
    assert seen == ["BatchedTensor(lvl=1, bdim=0, value=\n    tensor([[1.],\n            [1.]])\n)"]
    agree(vmap(lambda a: func.debug_unwrap(a).sum() + a)(torch.ones(2)), torch.tensor([3.0, 3.0]))


def test_randomness():
    x = torch.zeros(3, 20)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        vmap(lambda a: a + torch.rand(20))(x)
    for draw in (
        lambda s: torch.randn(s),
        lambda s: torch.rand(s, dtype=torch.float64),
        lambda s: torch.randint(0, 99, s),
        lambda s: F.dropout(torch.ones(s)),
        lambda s: torch.zeros(s).uniform_(),
        lambda s: torch.zeros(s).log_normal_(),
        lambda s: torch.bernoulli(torch.full(s, 0.3)),
    ):
        torch.manual_seed(1)
        want = draw((20,))
        torch.manual_seed(1)
        agree(vmap(lambda a, draw=draw, want=want: a.to(want.dtype) + draw((20,)), randomness="same")(x), want.expand(3, 20))
    for draw in (lambda s: torch.randn(s), lambda s: torch.rand(s, dtype=torch.float64), lambda s: torch.randint(0, 99, s)):
        torch.manual_seed(1)
        want = draw((3, 20))
        torch.manual_seed(1)
        agree(vmap(lambda a, draw=draw, want=want: a.to(want.dtype) + draw((20,)), randomness="different")(x), want)
        torch.manual_seed(1)
        want = draw((3, 20, 2))
        torch.manual_seed(1)
        agree(
            vmap(
                vmap(lambda a, draw=draw, want=want: a.to(want.dtype) + draw((2,)), randomness="different"),
                randomness="different",
            )(x),
            want,
        )
    torch.manual_seed(1)
    want = F.dropout(torch.ones(3, 20), 0.4)
    torch.manual_seed(1)
    agree(vmap(lambda a: F.dropout(a + 1, 0.4), randomness="different")(x), want)
    chances = torch.rand(3, 6)
    torch.manual_seed(1)
    want = torch.stack([torch.multinomial(c, 2) for c in chances])
    torch.manual_seed(1)
    agree(vmap(lambda c: torch.multinomial(c, 2), randomness="different")(chances), want)
    alike = vmap(lambda c: torch.poisson(c * 0 + 9), randomness="same")(chances)
    agree(alike, alike[:1].expand(3, 6))
    twice = vmap(lambda c: c.sum() * 0 + torch.poisson(torch.full((50,), 9.0)), randomness="different")(chances)
    assert not twice[0].equal(twice[1])
    with pytest.raises(RuntimeError, match="every probability in"):
        vmap(torch.bernoulli, randomness="different")(chances + 1)
    rows = vmap(lambda a: a + torch.randperm(20), randomness="different")(x)
    agree(rows.sort(1)[0], torch.arange(20.0).expand(3, 20))
    assert not rows[0].equal(rows[1])


# -- derivatives --------------------------------------------------------------------------------------------------


def curve(x):
    return torch.stack([x.sin().sum(), (x**3).prod(), x[0] * x[1], torch.tanh(x @ x)])


def test_grad_and_value():
    x, y = torch.randn(4), torch.randn(4)
    agree(grad(lambda x: (x**3).sum())(x), 3 * x**2)
    (gx, gy), (value, aux) = grad_and_value(lambda x, y: ((x * y).sum(), x.exp()), argnums=(0, 1), has_aux=True)(x, y)
    agree(gx, y)
    agree(gy, x)
    agree(value, x @ y)
    agree(aux, x.exp())
    assert not any(t.requires_grad for t in (gx, gy, value, aux))
    tree = grad(lambda p: (p["a"] * p["b"][0]).sum())({"a": x, "b": [y]})
    agree(tree["a"], y)
    agree(tree["b"][0], x)
    agree(grad(lambda x, y: y.sum())(x, y), torch.zeros(4))
    agree(grad(lambda x, y: (x * y).sum(), argnums=-1)(x, y), x)


def test_transforms_keep_apart():
    x = torch.tensor(2.0)
    agree(grad(lambda x: x * grad(lambda y: x + y)(x))(x), torch.tensor(1.0))
    agree(grad(grad(grad(lambda x: x**4)))(x), torch.tensor(48.0))
    agree(jvp(lambda x: x * grad(lambda y: x * y * y)(x), (x,), (torch.tensor(1.0),))[1], torch.tensor(24.0))
    w = torch.tensor(3.0, requires_grad=True)
    g = grad(lambda x: w * w * x)(x)
    (outer,) = torch.autograd.grad(g, w)
    agree(outer, torch.tensor(6.0))
    (through,) = torch.autograd.grad(grad(lambda x: x**3)(w), w)
    agree(through, torch.tensor(18.0))
    with torch.no_grad():
        g = grad(lambda x: x**3 * w)(w)
    assert not g.requires_grad
    agree(g, torch.tensor(81.0))

    def stopped(x):
        with torch.no_grad():
            y = x**2
        return x * y

    agree(grad(stopped)(x), torch.tensor(4.0))


def test_vjp_jvp_linearize_agree_with_the_jacobian():
    x, t = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    columns = []
    for i in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = 1e-6
        columns.append((curve(x + step) - curve(x - step)) / 2e-6)
    jacobian = torch.stack(columns, 1)
    agree(jacrev(curve)(x), jacobian)
    agree(jacfwd(curve)(x), jacobian)
    agree(jacrev(curve, chunk_size=2)(x), jacobian)
    out, pull = vjp(curve, x)
    agree(out, curve(x))
    agree(pull(out)[0], jacobian.T @ out)
    out, tangent = jvp(curve, (x,), (t,))
    agree(out, curve(x))
    agree(tangent, jacobian @ t)
    out, push = linearize(curve, x)
    agree(push(t), jacobian @ t)
    agree(push(2 * t), jacobian @ t * 2)
    assert not (out.requires_grad or tangent.requires_grad)


def test_jacobians_of_trees():
    x, y = torch.randn(2), torch.randn(3)

    def f(x, p):
        return {"a": torch.outer(x, p["y"]), "b": (x.sum(), p["y"] * 2)}

    for jac in (jacrev, jacfwd):
        got = jac(f, argnums=(0, 1))(x, {"y": y})
        agree(got["a"][0], torch.einsum("ik,j->ijk", torch.eye(2), y))
        agree(got["a"][1]["y"], torch.einsum("i,jk->ijk", x, torch.eye(3)))
        agree(got["b"][0][0], torch.ones(2))
        agree(got["b"][0][1]["y"], torch.zeros(3))
        agree(got["b"][1][1]["y"], 2 * torch.eye(3))
        agree(jac(lambda x: (x * 2, x + 1), has_aux=True)(x)[1], x + 1)


def test_second_derivatives():
    x = torch.randn(4, dtype=torch.float64)

    def f(x):
        return (x.sin() * x.prod()).sum() + (x @ x).exp() * 0.1

    want = jacrev(jacrev(f))(x)
    agree(want, want.T)
    for h in (hessian(f)(x), jacfwd(jacfwd(f))(x), jacrev(jacfwd(f))(x)):
        agree(h, want)
    rows = torch.randn(3, 4, dtype=torch.float64)
    agree(vmap(hessian(f))(rows), torch.stack([hessian(f)(r) for r in rows]))
    t = torch.randn(4, dtype=torch.float64)
    agree(jvp(grad(f), (x,), (t,))[1], want @ t)
    agree(grad(lambda x: jvp(f, (x,), (t,))[1])(x), want @ t)


def test_derivatives_of_vmap_of_all_orders():
    w, x = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    pairs = []
    for f in (vmap(lambda a: torch.tanh(w @ a)), lambda x: torch.tanh(x @ w.T)):
        first = torch.autograd.grad((f(x) ** 3).sum(), (w, x), create_graph=True)
        second = torch.autograd.grad((first[0] ** 2).sum() + first[1].sin().sum(), (w, x), create_graph=True)
        third = torch.autograd.grad(second[0].sum() + (second[1] ** 2).sum(), (w, x))
        pairs.append([*first, *second, *third])
    for a, b in zip(*pairs):
        agree(a, b)
    inner = vmap(lambda a: vmap(lambda row: (row * a).sum() ** 2)(w))(x)
    got = torch.autograd.grad(inner.sin().sum(), (w, x))
    want = torch.autograd.grad(((x @ w.T) ** 2).sin().sum(), (w, x))
    same(got, want)


def test_activations_outside_are_differentiated_once():
    """A value outside that the lanes use, and what it was computed from."""
    x = torch.randn(3, requires_grad=True)
    h = x.exp()
    out = vmap(lambda a: (a * h * x).sum())(torch.eye(3)).sum()
    agree(torch.autograd.grad(out, x)[0], (x.exp() * (x + 1)).detach())


def test_messages():
    x = torch.randn(3)
    for wrong, text in [
        (lambda: grad(lambda x: x)(x), "Expected f.*to return a scalar Tensor, got tensor with 1 dims"),
        (lambda: grad(lambda x: (x.sum(), 1))(x), "Expected f.*to return a Tensor, got <class 'tuple'>"),
        (lambda: grad(lambda x: x.sum(), argnums=3)(x), "Got argnum=3, but only 1 positional inputs"),
        (lambda: grad(lambda x, y: x.sum(), argnums=(0, 0))(x, x), "must be unique"),
        (lambda: grad(lambda x: x.sum())(torch.ones(3, dtype=torch.int64)), "floating point dtype can require gradients"),
        (lambda: grad(lambda x: x.sum(), has_aux=True)(x), "should be a tuple"),
        (lambda: vjp(lambda x: 3, x), "expected f.*to return only tensors"),
        (lambda: vjp(lambda x: x, x)[1](torch.ones(2)), "Mismatch in shape"),
        (lambda: vjp(lambda x: x, x)[1](x, x), "structure of cotangents"),
        (lambda: jvp(lambda x: x, x, x), "Expected primals to be a tuple"),
        (lambda: jvp(lambda x: x, (x,), (x, x)), "same python structure"),
        (lambda: jvp(lambda x: x, (x,), (torch.ones(2),)), "different size"),
        (lambda: func.functionalize(lambda x: x, remove="all"), "functionalize"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            wrong()
    with pytest.raises(ValueError, match="must be Tensor"):
        grad(lambda x: x)(3)
    with pytest.raises(ValueError, match="chunk_size"):
        jacrev(lambda x: x, chunk_size=0)


# -- modules ------------------------------------------------------------------------------------------------------


def test_per_sample_gradients():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))

    def loss(parameters, x, y):
        return F.cross_entropy(functional_call(net, parameters, (x[None],)), y[None])

    parameters = {k: v.detach() for k, v in net.named_parameters()}
    got = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    for i in range(6):
        net.zero_grad()
        F.cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
        for name, p in net.named_parameters():
            agree(got[name][i], p.grad)


def test_an_ensemble():
    nets = [torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)) for _ in range(3)]
    parameters, buffers = stack_module_state(nets)
    assert parameters["0.weight"].shape == (3, 3, 4) and parameters["0.weight"].requires_grad and parameters["0.weight"].is_leaf
    x = torch.randn(5, 4)
    out = vmap(lambda p, b, x: functional_call(nets[0], (p, b), (x,)), in_dims=(0, 0, None))(parameters, buffers, x)
    agree(out, torch.stack([net(x) for net in nets]))
    out.sum().backward()
    nets[1](x).sum().backward()
    agree(parameters["0.weight"].grad[1], nets[1][0].weight.grad)
    with pytest.raises(RuntimeError, match="at least one model"):
        stack_module_state([])
    with pytest.raises(RuntimeError, match="same training/eval mode"):
        stack_module_state([nets[0], torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()])


def test_functional_call():
    net = torch.nn.Linear(2, 1)
    weight = net.weight
    agree(functional_call(net, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, torch.ones(3, 2)), torch.full((3, 1), 2.0))
    assert net.weight is weight
    with pytest.raises(RuntimeError, match=r"Missing key\(s\): 'bias'"):
        functional_call(net, {"weight": torch.ones(1, 2)}, torch.ones(3, 2), strict=True)
    with pytest.raises(ValueError, match="appears in multiple dictionaries"):
        functional_call(net, ({"weight": weight}, {"weight": weight}), torch.ones(3, 2))
    tied = torch.nn.Sequential(net, torch.nn.Linear(1, 1), torch.nn.Linear(2, 1))
    tied[2].weight = net.weight
    tied = torch.nn.ModuleDict({"a": net, "b": tied[2]})

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = tied

        def forward(self, x):
            return self.parts["a"](x) + self.parts["b"](x)

    both, new = Both(), torch.full((1, 2), 2.0)
    with torch.no_grad():
        base = both(torch.zeros(1, 2))
        agree(functional_call(both, {"parts.a.weight": new}, torch.ones(1, 2)) - base, torch.full((1, 1), 8.0))
        agree(
            functional_call(both, {"parts.a.weight": new}, torch.ones(1, 2), tie_weights=False) - base,
            4.0 + (weight @ torch.ones(2)).reshape(1, 1),
        )
    with pytest.raises(ValueError, match="tied"):
        functional_call(both, {"parts.a.weight": new, "parts.b.weight": new + 1}, torch.ones(1, 2))


def test_batch_norm_under_vmap():
    net = torch.nn.BatchNorm1d(4)
    x = torch.randn(2, 3, 4)
    with pytest.raises(RuntimeError, match="inplace arithmetic"):
        vmap(net)(x)
    agree(net.running_mean, torch.zeros(4))
    replace_all_batch_norm_modules_(net)
    agree(vmap(net)(x), torch.stack([F.batch_norm(t, None, None, training=True) for t in x]))


@pytest.mark.parametrize(
    "pattern, sizes, how",
    [
        ("a b c -> c a b", {}, lambda x: x.permute(2, 0, 1)),
        ("a b c -> a (b c)", {}, lambda x: x.reshape(2, 12)),
        ("a (b p) c -> (p a) b c", {"p": 3}, lambda x: x.reshape(2, 1, 3, 4).permute(2, 0, 1, 3).reshape(6, 1, 4)),
        ("a ... -> ... a", {}, lambda x: x.permute(1, 2, 0)),
        ("a ... -> (...) a", {}, lambda x: x.permute(1, 2, 0).reshape(12, 2)),
        ("a b c -> a 1 (c b) ()", {}, lambda x: x.transpose(1, 2).reshape(2, 1, 12, 1)),
    ],
)
def test_rearrange(pattern, sizes, how):
    x = torch.randn(2, 3, 4)
    agree(func.rearrange(x, pattern, **sizes), how(x))
    agree(func.rearrange([x, x], "n a b c -> a b c n"), torch.stack([x, x], -1))


@pytest.mark.parametrize(
    "pattern, sizes, text",
    [
        ("a b c -> a b", {}, "only on one side"),
        ("a b -> b a", {}, "Number of dimensions"),
        ("a a c -> a c", {}, "duplicate"),
        ("(a p) b c -> a p b c", {}, "cannot infer"),
        ("(a p) b c -> a p b c", {"p": 3}, "does not evenly fit"),
        ("a b c", {}, "expected one '->'"),
        ("(a b c -> c b a", {}, "not closed"),
        ("a b c+ -> c b a", {}, "received"),
    ],
)
def test_rearrange_refuses(pattern, sizes, text):
    with pytest.raises(ValueError, match=text):
        func.rearrange(torch.randn(2, 3, 4), pattern, **sizes)


# -- PyTorch ------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_against_pytorch():
    oracle = pytest.importorskip("torch")
    x = np.random.RandomState(0).randn(3, 4).astype(np.float32)

    def programs(torch):
        f = torch.func
        x_ = torch.tensor(x)
        w = torch.tensor(x[:2], requires_grad=True)
        yield f.vmap(f.grad(lambda a: (a.sin() * a.sum()).sum()))(x_)
        yield f.hessian(lambda a: (a.sin() * a.prod()).sum())(x_[0])
        yield f.jacfwd(f.jacrev(lambda a: a.cumsum(0) * a))(x_[0])
        yield f.jvp(lambda a: torch.softmax(a, 1), (x_,), (x_.cos(),))[1]
        yield f.linearize(lambda a: a.tanh() @ a.T, x_)[1](x_.exp())
        yield torch.autograd.functional.jacobian(lambda a: (w @ a).exp(), x_[0])
        yield torch.autograd.functional.hvp(lambda a: (a**3).sum(), x_, x_.cos())[1]
        yield torch.autograd.grad(f.vmap(lambda a: (w @ a).sin().sum())(x_).sum(), w)[0]
        torch.manual_seed(3)
        yield f.vmap(lambda a: a + torch.randn(4) + torch.rand(4), randomness="different")(x_)
        yield f.vmap(lambda a: torch.nn.functional.dropout(a, 0.3), randomness="different")(x_)
        yield f.vmap(lambda a: torch.nn.functional.dropout(a, 0.3), randomness="same")(x_)

    for ours, theirs in zip(programs(torch), programs(oracle)):
        agree(ours, theirs)
