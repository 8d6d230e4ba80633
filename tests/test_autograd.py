"""torch.autograd: functional, forward_ad, graph, Function."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.autograd import forward_ad as fwAD
from antorcha.autograd import functional as AF
from antorcha.autograd import graph
from antorcha.autograd.function import Function, FunctionCtx, once_differentiable


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(4)


# -- functional ---------------------------------------------------------------------------------------------------


def test_jacobians(x):
    y = torch.randn(3)

    def f(x, y):
        return torch.outer(x.sin(), y), y.prod()

    for options in ({}, {"vectorize": True}, {"vectorize": True, "strategy": "forward-mode"}):
        (a, b), (c, d) = AF.jacobian(f, (x, y), **options)
        agree(a, torch.einsum("ik,i,j->ijk", torch.eye(4), x.cos(), y))
        agree(b, torch.einsum("jk,i->ijk", torch.eye(3), x.sin()))
        agree(c, torch.zeros(4))
        agree(d, y.prod() / y)
    one = AF.jacobian(torch.exp, x)
    agree(one, torch.diag(x.exp()))
    leaf = x.clone().requires_grad_()
    kept = AF.jacobian(lambda x: x**3, leaf, create_graph=True)
    agree(torch.autograd.grad(kept.sum(), leaf)[0], 6 * x)
    assert not AF.jacobian(lambda x: x**3, leaf).requires_grad


def test_products(x):
    v, w = torch.randn(4), torch.randn(4)

    def f(x):
        return x.sin() * x.flip(0)

    jacobian = AF.jacobian(f, x)
    out, got = AF.vjp(f, x, v)
    agree(out, f(x))
    agree(got, jacobian.T @ v)
    agree(AF.jvp(f, x, w)[1], jacobian @ w)

    def g(x, y):
        return (x * y).exp().sum() + (x**3).sum()

    (xx, xy), (yx, yy) = AF.hessian(g, (x, v))
    agree(xy, yx.T)
    for product in (AF.hvp, AF.vhp):
        out, (a, b) = product(g, (x, v), (w, v))
        agree(out, g(x, v))
        agree(a, xx @ w + xy @ v)
        agree(b, yx @ w + yy @ v)
    agree(AF.hessian(lambda x: (x**3).sum(), x), torch.diag(6 * x))
    agree(AF.hessian(lambda x: (x**3).sum(), x, vectorize=True, outer_jacobian_strategy="forward-mode"), torch.diag(6 * x))


def test_functional_refuses(x):
    for error, text, wrong in [
        (TypeError, "The inputs given to jacobian must be", lambda: AF.jacobian(lambda x: x, 3)),
        (TypeError, "The outputs of the user-provided function given to jacobian", lambda: AF.jacobian(lambda x: 3, x)),
        (RuntimeError, "does not require gradients", lambda: AF.jacobian(lambda x: torch.ones(2), x, strict=True)),
        (RuntimeError, "is independent of input 1", lambda: AF.jacobian(lambda x, y: x * 1, (x, x), strict=True)),
        (RuntimeError, "should contain a single element", lambda: AF.hessian(lambda x: x * 1, x)),
        (RuntimeError, "The vector v can only be None", lambda: AF.vjp(lambda x: x * 1, x)),
        (RuntimeError, "v has invalid size", lambda: AF.vjp(lambda x: x * 1, x, torch.ones(2))),
        (NotImplementedError, "vectorize=True", lambda: AF.jacobian(lambda x: x, x, strategy="forward-mode")),
    ]:
        with pytest.raises(error, match=text):
            wrong()


# -- forward_ad ---------------------------------------------------------------------------------------------------


def test_dual_numbers(x):
    t = torch.randn(4)
    with fwAD.dual_level():
        dual = fwAD.make_dual(x, t)
        out = fwAD.unpack_dual(dual.exp() * dual)
        agree(out.tangent, x.exp() * (1 + x) * t)
        agree(out.primal, x.exp() * x)
        assert not out.primal.requires_grad and not out.tangent.requires_grad
        assert fwAD.unpack_dual(x).tangent is None
        agree(fwAD.unpack_dual(dual).tangent, t)
        both = fwAD.make_dual(x * 2, t) * dual
        agree(fwAD.unpack_dual(both).tangent, t * x + 2 * x * t)
        with pytest.raises(RuntimeError, match="different size"):
            fwAD.make_dual(x, torch.ones(2))
    with pytest.raises(RuntimeError, match="no level exists"):
        fwAD.make_dual(x, t)
    leaf = x.clone().requires_grad_()
    with fwAD.dual_level():
        tangent = fwAD.unpack_dual(fwAD.make_dual(leaf, t) ** 3).tangent
    agree(torch.autograd.grad(tangent.sum(), leaf)[0], 6 * x * t)


# -- graph --------------------------------------------------------------------------------------------------------


def test_hooks_on_what_is_kept(x):
    x.requires_grad_()
    packed = []

    def pack(t):
        packed.append(t)
        return t.detach().numpy().copy()

    with graph.saved_tensors_hooks(pack, lambda a: torch.from_numpy(a)):
        y = (x.exp() * x.sin()).sum()  # exp keeps its result, mul both factors, sin its argument
    assert len(packed) == 4
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    agree(g, x.exp() * (x.sin() + x.cos()))
    (gg,) = torch.autograd.grad(g.sum(), x)
    agree(gg, 2 * x.exp() * x.cos())
    with graph.save_on_cpu():
        agree(torch.autograd.grad((x.tanh() ** 2).sum(), x)[0], 2 * x.tanh() * (1 - x.tanh() ** 2))
    with graph.disable_saved_tensors_hooks("no hooks here"), pytest.raises(RuntimeError, match="no hooks here"):
        with graph.save_on_cpu():
            pass


def test_writes_to_what_is_kept(x):
    x.requires_grad_()
    y = x.clone()
    with graph.allow_mutation_on_saved_tensors():
        out = y.sin()
        y.mul_(0)
        out.sum().backward()
    agree(x.grad, x.cos())
    z = x.clone()
    out = z.sin()
    graph.increment_version(z)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_gradient_edges(x):
    x.requires_grad_()
    y = x * 2
    edge = graph.get_gradient_edge(y)
    (g,) = torch.autograd.grad(y.sin().sum(), edge)
    agree(g, y.cos())
    a, b = x.split(2)
    second = graph.get_gradient_edge(b)
    (g,) = torch.autograd.grad(second, x, torch.ones(2))
    agree(g, torch.tensor([0.0, 0, 1, 1]))
    torch.autograd.backward((graph.get_gradient_edge(y),), (torch.ones(4),))
    agree(x.grad, torch.full((4,), 2.0))


def test_hooks_on_several_gradients(x):
    a, b, c = (x.clone().requires_grad_() for _ in range(3))
    seen = []
    handle = graph.register_multi_grad_hook([a, b, c], lambda grads: seen.append([g is not None for g in grads]))
    (a * b).sum().backward()
    (a * b * c).sum().backward()
    assert seen == [[True, True, False], [True, True, True]]
    handle.remove()
    (a * b).sum().backward()
    assert len(seen) == 2
    first = []
    with graph.register_multi_grad_hook([a, b], first.append, mode="any"):
        (a * b).sum().backward()
    assert len(first) == 1


def test_many_cotangents_at_once(x):
    x.requires_grad_()
    y = x.exp() * x.sum()
    (rows,) = torch.autograd.grad(y, x, torch.eye(4), is_grads_batched=True)
    agree(rows, torch.diag(x.exp() * x.sum()) + x.exp()[:, None])


def test_anomalies_are_found():
    x = torch.tensor(0.0, requires_grad=True)
    with (
        torch.autograd.set_detect_anomaly(True),
        pytest.raises(RuntimeError, match="Function 'SqrtBackward0' returned nan values in its 0th output"),
    ):
        (x.sqrt() * 0).backward()
    (x.sqrt() * 0).backward()
    assert torch.isnan(x.grad)


# -- Function -----------------------------------------------------------------------------------------------------


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        assert isinstance(ctx, FunctionCtx)
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


def test_functions_within_transforms(x):
    agree(torch.func.grad(lambda x: Cube.apply(x).sum())(x), 3 * x**2)
    agree(torch.func.hessian(lambda x: Cube.apply(x).sum())(x), torch.diag(6 * x))
    agree(torch.func.jvp(Cube.apply, (x,), (torch.ones(4),))[1], 3 * x**2)
    rows = torch.randn(3, 4)
    agree(torch.vmap(torch.func.grad(lambda x: Cube.apply(x).sum()))(rows), 3 * rows**2)
    leaf = rows.clone().requires_grad_()
    torch.vmap(Cube.apply)(leaf).sum().backward()
    agree(leaf.grad, 3 * rows**2)
    seen = []
    with graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        Cube.apply(leaf)
    assert len(seen) == 1


def test_once_differentiable(x):
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            return g * 2

    x.requires_grad_()
    (g,) = torch.autograd.grad(Once.apply(x).sum(), x)
    agree(g, torch.full((4,), 2.0))
    out = (Once.apply(x) ** 2).sum()
    (g,) = torch.autograd.grad(out, x, create_graph=True)
    agree(g, 8 * x)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


class Split(Function):
    """In two parts: forward without a context, and the context set up afterwards."""

    @staticmethod
    def forward(x, n):
        return x**n, x.argmax()

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.n = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)

    @staticmethod
    def vjp(ctx, g, none):
        assert none is None and ctx.needs_input_grad == (True, False) and ctx.requires_grad
        return g * ctx.n * ctx.saved_tensors[0] ** (ctx.n - 1), None


def test_setup_context(x):
    leaf = x.clone().requires_grad_()
    out, top = Split.apply(leaf, 3)
    assert not top.requires_grad and top == x.argmax()
    out.sum().backward()
    agree(leaf.grad, 3 * x**2)
    agree(torch.func.grad(lambda x: Split.apply(x, 4)[0].sum())(x), 4 * x**3)
    agree(torch.vmap(lambda x: Split.apply(x, 2)[0])(x[None]), x[None] ** 2)


def test_a_view_taken_before_a_write_follows_its_base():
    x = torch.ones(4, requires_grad=True)
    y = x * 1
    half, square = y[:2], y.view(2, 2)
    y.mul_(3)
    (half.sum() + 10 * square.sum()).backward()
    assert x.grad.tolist() == [33.0, 33.0, 30.0, 30.0]


@pytest.mark.parametrize("name, function, keeps", [
    ("product with a number", lambda a: 2 * a, True),
    ("quotient by a number", lambda a: a / 2, True),
    ("exp", lambda a: a.exp(), True),
    ("sum with a number", lambda a: a + 2, False),
    ("sum", lambda a: a.sum(), False),
    ("cat", lambda a: torch.cat([a, a]), False),
    ("stack", lambda a: torch.stack([a, a]), False),
    ("roll", lambda a: a.roll(1), False),
], ids=lambda x: x if isinstance(x, str) else "")
def test_a_graph_that_kept_values_goes_backward_once(name, function, keeps):
    a = torch.ones(2, 2, requires_grad=True)
    y = function(a)
    y.backward(torch.ones_like(y))
    if keeps:
        with pytest.raises(RuntimeError, match="second time"):
            y.backward(torch.ones_like(y))
    else:
        y.backward(torch.ones_like(y))


def test_what_was_joined_may_be_written():
    a = torch.ones(2, requires_grad=True)
    b = a.exp() + 1
    y = torch.cat([b, b])
    b.zero_()
    y.sum().backward()
    assert a.grad.tolist() == pytest.approx([2 * math.e] * 2)


@pytest.mark.parametrize("f", [
    lambda x, w, b: torch.nn.functional.layer_norm(x, (3, 4), w[:, None].expand(3, 4), b[:, None].expand(3, 4)),
    lambda x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, True),
    lambda x, w, b: torch.nn.functional.group_norm(x, 1, w, b),
    lambda x, w, b: torch.nn.functional.cross_entropy(x, torch.tensor([[0, 2, 1, -100], [1, 1, 0, 2]]), w.exp()),
], ids=["layer_norm", "batch_norm", "group_norm", "cross_entropy"])
def test_statistics_that_are_kept_are_differentiated_too(f):
    x, w, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((2, 3, 4), (3,), (3,)))
    assert torch.autograd.gradcheck(lambda x: f(x, w.detach(), b.detach()), (x,))
    assert torch.autograd.gradgradcheck(lambda x: f(x, w.detach(), b.detach()), (x,))


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "additive"])
def test_derivatives_of_attention(rank, kind):
    q, k, v = (torch.randn(*(2, 2)[4 - rank:], n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 5, 5))
    mask = {"bool": torch.rand(3, 5) > 0.3, "additive": torch.randn(3, 5, dtype=torch.float64)}.get(kind)

    def attend(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, is_causal=kind == "causal", scale=-0.7)
    assert torch.autograd.gradcheck(attend, (q, k, v)) and torch.autograd.gradgradcheck(attend, (q, k, v))


def test_attention_rounds_where_pytorch_does():
    """Of four dimensions the weights of derivatives are taken from rounded logarithms of their sums; of others queries and keys are
    multiplied by the root of the scale, each rounded."""
    attend = torch.nn.functional.scaled_dot_product_attention
    q, k, v = torch.full((1, 1, 1, 1), 1000.0), torch.ones(1, 1, 3, 1), torch.ones(1, 1, 3, 1, requires_grad=True)
    attend(q, k, v, scale=1.0).sum().backward()
    logarithm = np.float32(1000) + np.log(np.float32(3))
    agree(v.grad, float(np.exp(np.float32(1000) - logarithm)))
    q, k, v = torch.randn(2, 3, 8) * 9, torch.randn(2, 5, 8) * 9, torch.randn(2, 5, 8)
    root = 8 ** -0.25
    assert torch.equal(attend(q, k, v), torch.softmax((q * root) @ (k * root).mT, -1) @ v)


def test_layer_norm_of_one_element_leaves_its_weight_what_a_product_rounds():
    """As PyTorch does: the normalised element is x * scale, less mean * scale rounded."""
    x = np.float32([8.6, -3.7, 5.1])
    weight = torch.ones(1, requires_grad=True)
    torch.nn.functional.layer_norm(torch.from_numpy(x[:, None]), (1,), weight).sum().backward()
    scale = np.float32(1) / np.sqrt(np.float32(1e-5))
    assert weight.grad.item() == pytest.approx((x.astype(np.float64) * scale - x * scale).sum(), rel=1e-6)


@pytest.mark.parametrize("move", [lambda x: x, lambda x: x.transpose(0, 1), lambda x: x[:1].expand(2, 3, 4), lambda x: x[..., ::2]],
                         ids=["dense", "transposed", "expanded", "strided"])
def test_products_of_several_dimensions_and_a_matrix(move):
    x, b = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, move(x).shape[-1], dtype=torch.float64, requires_grad=True)
    expected = (move(x)[..., None, :] * w).sum(-1)
    assert torch.allclose(move(x) @ w.t(), expected)
    assert torch.allclose(torch.nn.functional.linear(move(x), w, b), expected + b)
    for f in (lambda x, w, b: move(x) @ w.t(), lambda x, w, b: torch.nn.functional.linear(move(x), w, b)):
        assert torch.autograd.gradcheck(f, (x, w, b))
        assert torch.autograd.gradgradcheck(f, (x, w, b))


def test_a_small_cross_entropy_of_large_logits():
    loss = torch.nn.functional.cross_entropy(torch.tensor([[1000.0, 995.0]]), torch.tensor([0])).item()
    assert abs(loss / math.log1p(math.exp(-5)) - 1) < 1e-4


def test_a_custom_cotangent_is_summed_to_the_inputs_shape():
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.save_for_backward(x)
            return x * factor

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g, g * x

    factor = torch.ones(1, 1, requires_grad=True)
    Scale.apply(torch.arange(6.0).reshape(2, 3), factor).sum().backward()
    assert factor.grad.tolist() == [[15.0]]


def test_numpy_asks_for_derivatives_only_where_they_are_recorded():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="requires grad"):
        x.numpy()
    with torch.no_grad():
        assert x.numpy().tolist() == [1, 1]
    assert [t.tolist() for t in torch.tensor_split(torch.arange(4), indices=(1, 3))] == [[0], [1, 2], [3]]
    assert len(torch.tensor_split(torch.arange(4), sections=2)) == 2 == len(torch.arange(4).split(split_size=2, dim=0))


def test_of_several_results_only_what_is_used_must_stay():
    """The derivative of pooling needs the places, so the largest values may be written to (`nn.MaxPool2d` before `nn.ReLU(True)`)."""
    x = torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]], requires_grad=True)
    torch.nn.functional.max_pool2d(x, (1, 2)).relu_().sum().backward()
    assert x.grad.tolist() == [[[[1.0, 0.0], [1.0, 0.0]]]]
    y = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    ordered = y.sort()[0]
    ordered.mul_(torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert y.grad.tolist() == [100.0, 1.0, 10.0]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values, places = y.sort()
        places.zero_()
        values.sum().backward()


def test_modes_are_a_threads_and_not_a_tasks():
    """What a start-up task of a server sets holds for the tasks after it, and for no other thread."""
    import asyncio
    import threading

    async def start():
        torch.set_grad_enabled(False)

    async def serve():
        return torch.is_grad_enabled(), (torch.ones(1, requires_grad=True) * 2).requires_grad

    async def run():
        await asyncio.create_task(start())
        return await asyncio.create_task(serve())

    elsewhere: list = []
    try:
        assert asyncio.run(run()) == (False, False)
        thread = threading.Thread(target=lambda: elsewhere.append((torch.ones(1, requires_grad=True) * 2).requires_grad))
        thread.start()
        thread.join()
    finally:
        torch.set_grad_enabled(True)
    assert elsewhere == [True]


def test_hooks_of_a_leaf_in_the_graph():
    """An AccumulateGrad lives as long as the graph in which it was looked at, and is one with all others of its leaf."""
    p, seen = torch.ones(3, requires_grad=True), []
    kept = p.expand_as(p).grad_fn.next_functions[0][0]
    assert kept.variable is p and kept.next_functions == ()
    kept.register_prehook(lambda grads: (grads[0] + 1,))
    kept.register_hook(lambda made, grads: seen.append((made, grads[0].tolist())))
    (p * 2).sum().backward()
    assert p.grad.tolist() == [3.0] * 3 and seen == [((), [3.0] * 3)]
    y = p * 3
    y.grad_fn.next_functions[0][0].register_hook(lambda made, grads: seen.append("both"))
    del kept
    y.sum().backward()
    assert seen[1:] == [((), [4.0] * 3), "both"]
    del y
    (p * 2).sum().backward()
    assert len(seen) == 3 and p.grad.tolist() == [9.0] * 3


def test_a_leaf_and_what_is_made_of_it_as_roots():
    p = torch.ones(3, requires_grad=True)
    torch.autograd.backward([p, p * 2], [torch.ones(3), torch.ones(3)])
    assert p.grad.tolist() == [3.0] * 3
    assert torch.autograd.grad(p.sum() + 0 * p[0], p)[0].tolist() == [1.0] * 3


def test_second_derivatives_through_hooks_on_what_is_kept():
    p = torch.tensor([2.0, 3.0], requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        y = (p * p * p).sum()
    (g,) = torch.autograd.grad(y, p, create_graph=True)
    (second,) = torch.autograd.grad(g.sum(), p)
    assert g.tolist() == [12.0, 27.0] and second.tolist() == [12.0, 18.0]


def test_views_in_place_belong_to_the_history():
    """`t_` and its like turn what was computed, and its derivative with it; views from before see later writes."""
    g = torch.arange(6.0)

    def derivative(change):
        x = torch.rand(2, 3, requires_grad=True)
        y = x * 1
        change(y)
        (y * g.reshape(y.shape)).sum().backward()
        return x.grad
    turned = g.reshape(3, 2).T
    assert torch.equal(derivative(lambda y: y.t_()), turned) and torch.equal(derivative(lambda y: y.transpose_(0, 1).mul_(2)), 2 * turned)
    assert torch.equal(derivative(lambda y: y.unsqueeze_(0).squeeze_(0)), g.reshape(2, 3))
    x = torch.rand(2, 3, requires_grad=True)
    y = x * 1
    flat = y.view(6)
    y.t_()
    flat.mul_(2)
    (y * g.reshape(3, 2)).sum().backward()
    assert torch.equal(x.grad, 2 * turned) and not y.is_contiguous()
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        x.t_()
    with torch.no_grad():
        assert x.t_().shape == (3, 2)
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        x.resize_(6)
    assert y.grad_fn is not None and (x * 1).grad_fn.next_functions[0][0].name() == "torch::autograd::AccumulateGrad"


def test_parts_and_losses_are_called_what_pytorch_calls_them():
    x = torch.rand(4, 6, requires_grad=True)
    made = {"SplitWithSizesBackward0": x.split([1, 3])[1], "SplitBackward0": x.split(2)[0],
            "RreluWithNoiseBackward0": torch.nn.functional.rrelu(x - 0.5, training=True),
            "SoftMarginLossBackward0": torch.nn.functional.soft_margin_loss(x, torch.ones(4, 6))}
    assert [type(y.grad_fn).__name__ for y in made.values()] == list(made)
    assert torch.autograd.gradcheck(lambda x: x.split([1, 3], 1)[1], torch.rand(2, 4, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("fast_mode", [False, True])
def test_gradcheck_finds_wrong_derivatives(fast_mode):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2.1 * x * g

    x = torch.linspace(1, 2, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
    z = torch.complex(x.detach(), x.detach() * 2).requires_grad_()
    for inputs in (x, z):
        assert torch.autograd.gradcheck(lambda a: a * a, inputs, fast_mode=fast_mode)
        assert torch.autograd.gradgradcheck(lambda a: (a * a, a.detach()), inputs, fast_mode=fast_mode)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        with pytest.raises(RuntimeError, match="Jacobian mismatch"):
            check(Wrong.apply if check is torch.autograd.gradcheck else lambda a: Wrong.apply(a) * a, x, fast_mode=fast_mode)


def test_modes_are_the_threads_own():
    with torch.no_grad(), torch.autocast("cpu"):
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        others: list = []
        thread = threading.Thread(target=lambda: others.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))))
        thread.start()
        thread.join()
        assert others == [(True, False)]
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
