"""The derivatives of a function that is recorded again are one node, which is what the function's own were."""

from __future__ import annotations

import gc
import weakref

import pytest
from tolerance import agree

import antorcha as torch
from antorcha.core.history import Folded
from antorcha.ops.recall import recalled

F = torch.nn.functional
CALLS = 7       # the first are seen, the fourth noted, the others recorded again


def known(function, *shapes):
    """A function that is recorded again, and leaves for it."""
    leaves = [torch.randn(s, requires_grad=True) for s in shapes]
    for _ in range(CALLS):
        function(*leaves)
    return leaves


def unity(x):
    return F.normalize(x, dim=1)


def folded(t) -> bool:
    return isinstance(t.grad_fn.derivative, Folded)


def scaled(x, w):
    return F.layer_norm(x, (6,), w, w)


def surprise(x):
    return F.cross_entropy(x, torch.tensor([1, 0]))


@pytest.mark.parametrize("function, shapes", [(unity, [(4, 6)]), (scaled, [(4, 6), (6,)]), (surprise, [(2, 3)])])
def test_one_node_gives_what_all_gave(function, shapes):
    """To the bit, whether it is known or not, and in passes that are written out."""
    leaves, found = [torch.randn(s, requires_grad=True) for s in shapes], []
    for _ in range(2 * CALLS):
        for x in leaves:
            x.grad = None
        loss = (function(*leaves) * 3.0).sum() + leaves[0].exp().sum()
        loss.backward()
        found.append([x.grad.tolist() for x in leaves])
    assert found == found[:1] * len(found)
    assert folded(function(*leaves))


def test_it_is_shown_as_it_was():
    x, w = torch.randn(4, 6, requires_grad=True), torch.randn(6, requires_grad=True)

    def shown(node, depth=0):
        return [(node and node.name(), depth), *[s for f, _ in (node.next_functions if node else ()) for s in shown(f, depth + 1)]]

    seen = [shown((scaled(x, w) * unity(x)).grad_fn) for _ in range(CALLS)]
    assert seen == seen[:1] * CALLS and len(seen[0]) > 5
    out = unity(x)
    node = out.grad_fn
    assert folded(out) and node.next_functions == node.next_functions and not folded(out)
    out.sum().backward()        # through the nodes that were looked at
    agree(x.grad, torch.autograd.grad(unity(x).sum(), x)[0])


def test_what_its_operators_saved_can_be_asked_for():
    (x,) = known(unity, (4, 6))
    out = unity(x)
    agree(out.grad_fn._saved_self if hasattr(out.grad_fn, "_saved_self") else out.grad_fn._saved_input, x)
    out = unity(x)
    out.sum().backward()
    with pytest.raises(AttributeError):
        out.grad_fn._saved_nothing      # noqa: B018


def test_derivatives_of_derivatives():
    (x,) = known(unity, (3, 5))

    def second(f):
        (g,) = torch.autograd.grad(f(x).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), x)[0]

    assert folded(unity(x))
    agree(second(unity), second(lambda x: x / (x * x).sum(1, keepdim=True).sqrt()))


def test_hooks_and_gradients_in_between():
    (x,) = known(unity, (4, 6))
    seen = []
    out = unity(x)
    out.register_hook(lambda g: seen.append("tensor") or g * 2)
    out.grad_fn.register_hook(lambda inputs, outputs: seen.append("node"))
    out.retain_grad()
    (out * 1.5).sum().backward()
    assert seen == ["tensor", "node"]
    agree(out.grad, torch.full((4, 6), 3.0))
    agree(x.grad, 3.0 * torch.autograd.grad(unity(x).sum(), x)[0])


def test_what_is_kept_is_let_go_and_must_not_be_written_to():
    x, w = known(scaled, (4, 6), (6,))
    out = scaled(x, w)
    out.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()
    out = scaled(x, w)
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation: a tensor of shape .6. kept by NativeLayerNormBackward0"):
        out.sum().backward()


def test_a_result_that_is_kept_and_written_to():
    @recalled
    def function(x):
        return torch.sigmoid(x * 2).exp()

    (x,) = known(function, (3,))
    out = function(x)
    assert folded(out)
    out.add_(1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        out.sum().backward()


def test_anomalies_are_found_in_the_operator_that_has_them():
    @recalled
    def function(x):
        return (x * 0).sqrt() * 0 + x

    (x,) = known(function, (3,))
    with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly():
        out = function(x)
        assert folded(out)
        with pytest.raises(RuntimeError, match="Function 'SqrtBackward0' returned nan|Function 'MulBackward0' returned nan"):
            out.sum().backward()


def test_several_results():
    @recalled
    def function(x):
        return torch.sort(x.exp() + 1.0, 1)

    (x,) = known(function, (3, 5))
    values, places = function(x)
    assert folded(values)
    (g,) = torch.autograd.grad(values[:, 0].sum(), x)
    smallest = x.detach() == x.detach().amin(1, keepdim=True)
    agree(g, torch.where(smallest, x.detach().exp(), 0.0))


def test_a_leaf_that_is_no_argument_of_all_its_parts():
    x, w = torch.randn(4, 6, requires_grad=True), torch.randn(6, requires_grad=True)
    for _ in range(CALLS):
        out = scaled(x, w)
        (g,) = torch.autograd.grad(out.square().sum(), w)
    a = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    agree(g, torch.autograd.grad((a * w + w).square().sum(), w)[0])


def test_nothing_is_kept_alive_in_a_circle(settled):
    for _ in range(CALLS):
        x = torch.randn(4, 6, requires_grad=True)
        out = unity(x)
        out.sum().backward()
        gone = [weakref.ref(t) for t in (x, out.storage, out.grad_fn)]
        del x, out
        assert [r() for r in gone] == [None] * 3
    assert not gc.isenabled()
