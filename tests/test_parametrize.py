"""Parametrizations, pruning, fusion and the older normalisations."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from tolerance import agree

import antorcha
from antorcha import nn
from antorcha.nn.utils import parametrizations, parametrize, prune


class Symmetric(nn.Module):
    def forward(self, X):
        return X.triu() + X.triu(1).T

    def right_inverse(self, A):
        return A.triu()


class Exp(nn.Module):
    def forward(self, X):
        return X.exp()

    def right_inverse(self, X):
        return X.log()


def test_a_parametrized_weight():
    m = nn.Linear(3, 3)
    parametrize.register_parametrization(m, "weight", Symmetric())
    assert type(m).__name__ == "ParametrizedLinear" and isinstance(m, nn.Linear)
    assert parametrize.type_before_parametrizations(m) is nn.Linear
    assert list(m.state_dict()) == ["bias", "parametrizations.weight.original"] and "weight" not in dict(m.named_parameters())
    assert bool((m.weight == m.weight.T).all())
    m(antorcha.ones(2, 3)).sum().backward()
    assert m.parametrizations.weight.original.grad is not None
    m.weight = antorcha.eye(3)
    assert m.weight.tolist() == antorcha.eye(3).tolist()
    parametrize.register_parametrization(m, "weight", Exp())
    assert antorcha.allclose(m.weight, antorcha.eye(3).exp())
    with parametrize.cached():
        assert m.weight is m.weight
    assert m.weight is not m.weight
    other = copy.deepcopy(m)
    other.load_state_dict({k: v + 1 for k, v in m.state_dict().items()})
    assert not antorcha.allclose(m.weight, other.weight)
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        m.__getstate__()
    value = m.weight.detach()
    parametrize.remove_parametrizations(m, "weight")
    assert type(m) is nn.Linear and antorcha.equal(m.weight, value) and isinstance(m.weight, nn.Parameter)
    with pytest.raises(ValueError, match="does not have a parametrization"):
        parametrize.remove_parametrizations(m, "weight")
    with pytest.raises(ValueError, match="may not change the shape"):
        parametrize.register_parametrization(m, "weight", nn.Linear(3, 2))
    with pytest.raises(ValueError, match="does not have a parameter"):
        parametrize.register_parametrization(m, "gain", Exp())


@pytest.mark.parametrize("kind", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_orthogonal(kind, shape):
    antorcha.manual_seed(0)
    m = parametrizations.orthogonal(nn.Linear(shape[1], shape[0]), orthogonal_map=kind)

    def check():
        w = m.weight if shape[0] <= shape[1] else m.weight.T
        agree(w @ w.T, antorcha.eye(min(shape)))

    check()
    m(antorcha.ones(1, shape[1])).square().sum().backward()
    with antorcha.no_grad():
        m.parametrizations.weight.original -= 0.1 * m.parametrizations.weight.original.grad
    check()
    q = antorcha.linalg.qr(antorcha.randn(max(shape), min(shape)))[0]
    m.weight = q = q if shape[0] >= shape[1] else q.T
    agree(m.weight, q)


def test_orthogonal_without_trivialization():
    m = parametrizations.orthogonal(nn.Linear(3, 5), orthogonal_map="householder", use_trivialization=False)
    q = antorcha.linalg.qr(antorcha.randn(5, 3))[0]
    m.weight = q
    agree(m.weight, q)


def test_spectral_norm():
    for wrap in (parametrizations.spectral_norm, nn.utils.spectral_norm):
        antorcha.manual_seed(0)
        m = wrap(nn.Linear(6, 4), n_power_iterations=30)
        m(antorcha.ones(1, 6))
        assert abs(np.linalg.svd(m.weight.detach().numpy())[1][0] - 1) < 1e-4
    weight = m.weight.detach()
    nn.utils.remove_spectral_norm(m)
    assert list(m.state_dict()) == ["bias", "weight"]
    agree(m.weight, weight)
    with pytest.raises(ValueError, match="not found"):
        nn.utils.remove_spectral_norm(m)


def test_weight_norm_and_its_older_form():
    antorcha.manual_seed(0)
    m = nn.Linear(4, 3)
    weight = m.weight.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        older = nn.utils.weight_norm(copy.deepcopy(m))
    newer = parametrizations.weight_norm(copy.deepcopy(m))
    assert antorcha.allclose(older.weight, weight) and antorcha.allclose(newer.weight, weight)
    older.weight_g.data *= 2
    newer.load_state_dict(older.state_dict())
    x = antorcha.ones(2, 4)
    assert antorcha.allclose(newer(x), older(x)) and antorcha.allclose(newer.weight, 2 * weight)
    nn.utils.remove_weight_norm(older)
    assert antorcha.allclose(older.weight, 2 * weight)


def test_pruning():
    antorcha.manual_seed(0)
    m = nn.Linear(4, 3)
    prune.l1_unstructured(m, "weight", 0.5)
    assert prune.is_pruned(m) and m.weight_mask.sum().item() == 6 and list(m.state_dict()) == ["bias", "weight_orig", "weight_mask"]
    assert float(m.weight.abs()[m.weight_mask == 1].min()) >= float(m.weight_orig.abs()[m.weight_mask == 0].max())
    prune.random_unstructured(m, "weight", 2)
    assert m.weight_mask.sum().item() == 4
    prune.ln_structured(m, "weight", 1, n=2, dim=0)
    assert (m.weight_mask.sum(1) == 0).sum().item() >= 1
    m(antorcha.ones(1, 4)).sum().backward()
    assert bool((m.weight_orig.grad[m.weight_mask == 0] == 0).all())
    kept = m.weight.detach()
    prune.remove(m, "weight")
    assert antorcha.equal(m.weight, kept) and list(m.state_dict()) == ["bias", "weight"] and not prune.is_pruned(m)
    a, b = nn.Linear(4, 3), nn.Linear(3, 2)
    prune.global_unstructured([(a, "weight"), (b, "weight")], prune.L1Unstructured, amount=0.5)
    assert (a.weight_mask.sum() + b.weight_mask.sum()).item() == 9
    prune.global_unstructured([(a, "weight"), (b, "weight")], prune.L1Unstructured, amount=3)       # of what is left
    assert (a.weight_mask.sum() + b.weight_mask.sum()).item() == 6
    for amount, error in ((1.5, ValueError), (-1, ValueError), (15, ValueError), ("a", TypeError)):
        with pytest.raises(error):
            prune.l1_unstructured(nn.Linear(2, 2), "weight", amount)
    with pytest.raises(ValueError, match="multidimensional"):
        prune.ln_structured(nn.Linear(2, 2), "bias", 1, n=2, dim=0)
    with pytest.raises(ValueError, match="has to be pruned"):
        prune.remove(nn.Linear(2, 2), "weight")


def test_fusion():
    antorcha.manual_seed(0)
    for layer, bn, x, fuse in (
            (nn.Conv2d(2, 3, 2, bias=False), nn.BatchNorm2d(3), antorcha.randn(4, 2, 5, 5), nn.utils.fuse_conv_bn_eval),
            (nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3), antorcha.randn(4, 2, 5, 5),
             lambda a, b: nn.utils.fuse_conv_bn_eval(a, b, transpose=True)),
            (nn.Linear(4, 3), nn.BatchNorm1d(3), antorcha.randn(5, 4), nn.utils.fuse_linear_bn_eval)):
        bn(layer(x) * 2 + 1)
        both = nn.Sequential(layer, bn).eval()
        agree(fuse(layer, bn)(x), both(x))
    with pytest.raises(AssertionError, match="eval"):
        nn.utils.fuse_linear_bn_eval(nn.Linear(2, 2), nn.BatchNorm1d(2))


def test_stateless_and_skip_init():
    m = nn.Linear(2, 2)
    with pytest.warns(FutureWarning):
        y = nn.utils.stateless.functional_call(m, {"weight": antorcha.eye(2), "bias": antorcha.ones(2)}, antorcha.ones(1, 2))
    assert y.tolist() == [[2, 2]]
    antorcha.manual_seed(0)
    first = antorcha.rand(1).item()
    antorcha.manual_seed(0)
    nn.utils.skip_init(nn.Linear, 2, 2)
    assert antorcha.rand(1).item() == first


@pytest.mark.oracle
def test_normalisations_like_pytorch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.nn.utils.prune")
    found = []
    wraps = [lambda u, m: u.parametrizations.orthogonal(m), lambda u, m: u.parametrizations.weight_norm(m),
             lambda u, m: u.parametrizations.spectral_norm(m), lambda u, m: u.spectral_norm(m),
             lambda u, m: u.prune.random_unstructured(m, "weight", 0.3), lambda u, m: u.prune.ln_structured(m, "weight", 2, 1, 1)]
    for lib in (torch, antorcha):
        out = []
        for wrap in wraps:
            lib.manual_seed(0)
            m = wrap(lib.nn.utils, lib.nn.Linear(4, 3))
            y = m(lib.ones(2, 4))
            y.sum().backward()
            out.append((y.tolist(), {k: v.tolist() for k, v in m.state_dict().items()}, [p.grad.tolist() for p in m.parameters()]))
        found.append(out)
    for (ty, ts, tg), (y, s, g) in zip(*found):
        agree(y, ty)
        assert list(ts) == list(s)
        for a, b in [*((s[k], ts[k]) for k in ts), *zip(g, tg)]:
            agree(a, b)


def test_what_one_module_owns_is_no_attribute_of_others():
    class Holder(nn.Module):
        def __init__(self, name):
            super().__init__()
            setattr(self, name, nn.Linear(2, 2))

    one, other = Holder("one"), Holder("other")
    assert not hasattr(Holder, "one") and not hasattr(other, "one") and "one" not in dir(other) and "one" in dir(one)
    with pytest.raises(AttributeError, match="'Holder' object has no attribute 'one'"):
        assert other.one
    other.one = 3
    assert other.one == 3
    del one.one
    assert not hasattr(one, "one")

    class Counting(Holder):
        def __getattr__(self, name):
            self.__dict__.setdefault("asked", []).append(name)
            return super().__getattr__(name)

    counting = Counting("one")
    assert counting.one is counting._modules["one"] and counting.asked == ["one"]
