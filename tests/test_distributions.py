"""Distributions: each against its own draws and derivatives, and against PyTorch."""

from __future__ import annotations

import functools
import math
import pickle

import numpy as np
import pytest

import antorcha
from antorcha import distributions as ours

MANY = 20_000


def _t(lib, values, dtype=None):
    return lib.tensor(values, dtype=dtype or lib.float64)


# name -> function from a library and its parameters' tensors, and the parameters
CASES = {
    "Bernoulli": (lambda t, p: t.distributions.Bernoulli(p), [[0.2, 0.5, 0.9]]),
    "BernoulliLogits": (lambda t, x: t.distributions.Bernoulli(logits=x), [[-1.0, 0.3, 2.0]]),
    "Beta": (lambda t, a, b: t.distributions.Beta(a, b), [[0.5, 2.0, 7.0], [0.7, 3.0, 1.5]]),
    "Binomial": (lambda t, p: t.distributions.Binomial(12, p), [[0.1, 0.5, 0.85]]),
    "BinomialLarge": (lambda t, p: t.distributions.Binomial(100, p), [[0.3, 0.6]]),
    "Categorical": (lambda t, p: t.distributions.Categorical(p), [[[0.1, 0.6, 0.3], [2.0, 1.0, 1.0]]]),
    "CategoricalLogits": (lambda t, x: t.distributions.Categorical(logits=x), [[0.1, -0.6, 1.3]]),
    "Cauchy": (lambda t, a, b: t.distributions.Cauchy(a, b), [[0.0, 1.0], [1.0, 0.5]]),
    "Chi2": (lambda t, a: t.distributions.Chi2(a), [[1.0, 4.5]]),
    "ContinuousBernoulli": (lambda t, p: t.distributions.ContinuousBernoulli(p), [[0.1, 0.4999, 0.7]]),
    "Dirichlet": (lambda t, a: t.distributions.Dirichlet(a), [[[0.5, 2.0, 3.0], [4.0, 1.5, 1.0]]]),
    "Exponential": (lambda t, r: t.distributions.Exponential(r), [[0.5, 3.0]]),
    "FisherSnedecor": (lambda t, a, b: t.distributions.FisherSnedecor(a, b), [[3.0, 6.0], [12.0, 15.0]]),
    "Gamma": (lambda t, a, b: t.distributions.Gamma(a, b), [[0.5, 2.0, 9.0], [1.0, 3.0, 0.5]]),
    "GeneralizedPareto": (lambda t, a, b, c: t.distributions.GeneralizedPareto(a, b, c),
                          [[0.0, 1.0, 0.0], [1.0, 2.0, 1.5], [0.1, 0.0, -0.3]]),
    "Geometric": (lambda t, p: t.distributions.Geometric(p), [[0.2, 0.7]]),
    "Gumbel": (lambda t, a, b: t.distributions.Gumbel(a, b), [[0.0, 1.0], [1.0, 0.5]]),
    "HalfCauchy": (lambda t, b: t.distributions.HalfCauchy(b), [[1.0, 0.5]]),
    "HalfNormal": (lambda t, b: t.distributions.HalfNormal(b), [[1.0, 0.5]]),
    "Independent": (lambda t, a, b: t.distributions.Independent(t.distributions.Normal(a, b), 1), [[0.0, 1.0], [1.0, 0.5]]),
    "InverseGamma": (lambda t, a, b: t.distributions.InverseGamma(a, b), [[5.0, 6.0], [1.0, 2.0]]),
    "Kumaraswamy": (lambda t, a, b: t.distributions.Kumaraswamy(a, b), [[1.5, 2.0], [3.0, 1.2]]),
    "Laplace": (lambda t, a, b: t.distributions.Laplace(a, b), [[0.0, 1.0], [1.0, 0.5]]),
    "LKJCholesky": (lambda t, a: t.distributions.LKJCholesky(3, a), [[0.7, 2.0]]),
    "LogNormal": (lambda t, a, b: t.distributions.LogNormal(a, b), [[0.0, 1.0], [0.3, 0.5]]),
    "LogisticNormal": (lambda t, a, b: t.distributions.LogisticNormal(a, b), [[[0.0, 1.0]], [[0.3, 0.5]]]),
    "LowRank": (lambda t, a, w, d: t.distributions.LowRankMultivariateNormal(a, w, d),
                [[0.0, 1.0, 2.0], [[1.0], [0.5], [-0.3]], [0.5, 1.0, 2.0]]),
    "Mixture": (lambda t, p, a, b: t.distributions.MixtureSameFamily(t.distributions.Categorical(p), t.distributions.Normal(a, b)),
                [[0.3, 0.7], [-1.0, 2.0], [0.5, 1.0]]),
    "Multinomial": (lambda t, p: t.distributions.Multinomial(7, p), [[[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]]),
    "MultivariateNormal": (lambda t, a, c: t.distributions.MultivariateNormal(a, c),
                           [[[0.0, 1.0], [2.0, -1.0]], [[2.0, 0.5], [0.5, 1.0]]]),
    "MultivariateNormalPrecision": (lambda t, a, c: t.distributions.MultivariateNormal(a, precision_matrix=c),
                                    [[0.0, 1.0], [[2.0, 0.5], [0.5, 1.0]]]),
    "NegativeBinomial": (lambda t, n, p: t.distributions.NegativeBinomial(n, p), [[3.0, 5.5], [0.3, 0.6]]),
    "Normal": (lambda t, a, b: t.distributions.Normal(a, b), [[0.0, 1.0], [1.0, 0.5]]),
    "OneHotCategorical": (lambda t, p: t.distributions.OneHotCategorical(p), [[[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]]),
    "Pareto": (lambda t, a, b: t.distributions.Pareto(a, b), [[1.0, 0.5], [5.0, 6.0]]),
    "Poisson": (lambda t, r: t.distributions.Poisson(r), [[0.5, 3.0, 20.0]]),
    "RelaxedBernoulli": (lambda t, p: t.distributions.RelaxedBernoulli(_t(t, 0.7), p), [[0.2, 0.6]]),
    "RelaxedOneHotCategorical": (lambda t, p: t.distributions.RelaxedOneHotCategorical(_t(t, 0.7), p), [[0.2, 0.5, 0.3]]),
    "StudentT": (lambda t, n, a, b: t.distributions.StudentT(n, a, b), [[5.0, 9.0], [0.0, 1.0], [1.0, 0.5]]),
    "Transformed": (lambda t, a, b: t.distributions.TransformedDistribution(
        t.distributions.Normal(a, b), [t.distributions.SigmoidTransform(), t.distributions.AffineTransform(1.0, -2.0)]),
        [[0.0, 1.0], [1.0, 0.5]]),
    "Uniform": (lambda t, a, b: t.distributions.Uniform(a, b), [[0.0, -1.0], [1.0, 0.5]]),
    "VonMises": (lambda t, a, b: t.distributions.VonMises(a, b), [[0.0, 1.0], [1.0, 9.0]]),
    "Weibull": (lambda t, a, b: t.distributions.Weibull(a, b), [[1.0, 2.0], [1.5, 0.8]]),
    "Wishart": (lambda t, n, c: t.distributions.Wishart(n, c), [5.0, [[2.0, 0.5], [0.5, 1.0]]]),
}

# Their draws come from the words of the generator in another order than PyTorch's, which draws Wishart matrices again without need.
OTHER_DRAWS = {"Cauchy", "HalfCauchy", "VonMises", "Wishart"}
# PyTorch computes them in float32 alone.
SINGLE = {"GeneralizedPareto"}
# PyTorch's mode is NaN where there is one; its divergence is infinite where the bounds of p are those of q.
OTHER_MODE = {"Kumaraswamy", "Weibull"}
OTHER_DIVERGENCE = {("Uniform", "ContinuousBernoulli")}
SCALAR = {"Beta", "Cauchy", "Chi2", "ContinuousBernoulli", "Exponential", "FisherSnedecor", "Gamma",
          "GeneralizedPareto", "Gumbel", "HalfCauchy", "HalfNormal", "InverseGamma", "Kumaraswamy", "Laplace",
          "LogNormal", "Mixture", "Normal", "Pareto", "StudentT", "Transformed", "Uniform", "VonMises", "Weibull"}


def made(name, lib=antorcha, grad=False):
    build, parameters = CASES[name]
    tensors = [_t(lib, p, lib.float32 if name in SINGLE else None) for p in parameters]
    if grad:
        tensors = [t.requires_grad_() for t in tensors]
    return build(lib, *tensors), tensors


def value(call):
    """What a call gives, or the type of its error."""
    try:
        return call()
    except Exception as e:
        return type(e)


def array(x):
    return np.asarray(x.detach().tolist())


def close(a, b, **tolerance):
    np.testing.assert_allclose(array(a), array(b), **{"rtol": 1e-6, "atol": 1e-7, **tolerance})


# -- against its own draws --------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", CASES)
def test_shapes(name):
    d, _ = made(name)
    x = d.sample((4,))
    assert x.shape == (4,) + d.batch_shape + d.event_shape
    assert d.log_prob(x).shape == (4,) + d.batch_shape
    wide = d.expand((3,) + d.batch_shape)
    assert wide.batch_shape == (3,) + d.batch_shape and wide.event_shape == d.event_shape and type(wide) is type(d)
    assert wide.sample((2,)).shape == (2, 3) + d.batch_shape + d.event_shape
    close(wide.log_prob(x[0]), d.log_prob(x[0]).expand(wide.batch_shape))
    assert repr(d).startswith(type(d).__name__)
    assert bool(d.support.check(x).all())
    if d.has_rsample:
        assert d.rsample((2,)).shape == (2,) + d.batch_shape + d.event_shape


@pytest.mark.parametrize("name", sorted(set(CASES) - {"Cauchy", "HalfCauchy", "LKJCholesky", "Wishart", "VonMises", "Independent"}))
def test_moments_and_entropy_of_draws(name):
    antorcha.manual_seed(1)
    d, _ = made(name)
    x = d.sample((MANY // 4,))
    x = x.double()
    for found, expected in ((x.mean(0), value(lambda: d.mean)), (x.var(0), value(lambda: d.variance))):
        if isinstance(expected, type) or not bool(expected.isfinite().all()):
            continue
        scale = array(x.std(0)) + array(expected) * 0
        power = scale if found.shape == expected.shape and found is not None else 1.0
        np.testing.assert_allclose(array(found), array(expected), atol=float(np.max(power * (1 + power))) * 0.12)
    entropy = value(d.entropy)
    if not isinstance(entropy, type):
        log_prob = d.log_prob(x)
        np.testing.assert_allclose(array(-log_prob.mean(0)), array(entropy), atol=0.08, rtol=0.05)


@pytest.mark.parametrize("name", sorted(SCALAR))
def test_distribution_functions(name):
    antorcha.manual_seed(2)
    d, _ = made(name)
    x = d.sample((5,))
    cdf = value(lambda: d.cdf(x.clone().requires_grad_()))
    if isinstance(cdf, type):
        assert cdf is NotImplementedError
        return
    x = x.requires_grad_()
    (slope,) = antorcha.autograd.grad(d.cdf(x).sum(), x)
    close(slope, d.log_prob(x).exp(), rtol=1e-3)     # of ContinuousBernoulli around 1/2, a series' first term
    inverse = value(lambda: d.icdf(cdf))
    if not isinstance(inverse, type):
        close(inverse, x, rtol=1e-4, atol=1e-5)


def test_gradient_of_draws_is_that_of_the_mean():
    for name in ("Gamma", "Beta", "Dirichlet", "Normal", "Laplace", "StudentT", "Kumaraswamy", "FisherSnedecor", "Uniform", "Weibull"):
        antorcha.manual_seed(3)
        d, parameters = made(name, grad=True)
        weight = antorcha.arange(1.0, 1 + d.mean.numel(), dtype=antorcha.float64).reshape(d.mean.shape)
        expected = antorcha.autograd.grad((d.mean * weight).sum(), parameters, allow_unused=True)
        d, parameters = made(name, grad=True)
        found = antorcha.autograd.grad((d.rsample((MANY,)) * weight).sum() / MANY, parameters, allow_unused=True)
        for f, e in zip(found, expected):
            if e is not None:
                np.testing.assert_allclose(array(f), array(e), atol=0.05, rtol=0.08, err_msg=name)


@pytest.mark.parametrize("a, x", [(0.01, 1e-9), (0.5, 0.3), (1.0, 1.0), (3.0, 9.0), (50.0, 42.0), (1e4, 1.02e4)])
def test_gamma_draw_follows_its_concentration(a, x):
    """-dF/da / density, by SciPy's incomplete gamma function."""
    special = pytest.importorskip("scipy.special")
    h = 1e-5 * a
    slope = (special.gammainc(a + h, x) - special.gammainc(a - h, x)) / (2 * h)
    density = math.exp((a - 1) * math.log(x) - x - math.lgamma(a))
    found = antorcha._standard_gamma_grad(_t(antorcha, [a]), _t(antorcha, [x]))
    np.testing.assert_allclose(found.tolist(), [-slope / density], rtol=2e-6)


@pytest.mark.parametrize("a, b, x", [(0.1, 0.2, 1e-3), (0.5, 0.5, 0.97), (2.0, 3.0, 0.3), (30.0, 1.0, 0.99), (400.0, 300.0, 0.55)])
def test_beta_draw_follows_its_concentration(a, b, x):
    special = pytest.importorskip("scipy.special")
    h = 1e-5 * a
    slope = (special.betainc(a + h, b, x) - special.betainc(a - h, b, x)) / (2 * h)
    density = math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - special.betaln(a, b))
    found = antorcha._dirichlet_grad(_t(antorcha, [x]), _t(antorcha, [a]), _t(antorcha, [a + b]))
    np.testing.assert_allclose(found.tolist(), [-slope / density / (1 - x)], rtol=2e-6)


def test_single_precision_of_these_derivatives():
    a = antorcha.tensor(np.geomspace(0.01, 1e4, 40), dtype=antorcha.float64)
    x = a * antorcha.linspace(0.8, 1.2, 40, dtype=antorcha.float64)
    p = (a / (a + a.flip(0))).clamp(1e-6, 1 - 1e-6)
    total = a + a.flip(0)
    for derivative, arguments in ((antorcha._standard_gamma_grad, (a, x)), (antorcha._dirichlet_grad, (p, a, total))):
        single = [t.float() for t in arguments]
        close(derivative(*single), derivative(*[t.double() for t in single]), rtol=1e-4)


KL_OF_DRAWS = [("Normal", "Laplace"), ("Gamma", "Gumbel"), ("Uniform", "Normal"), ("Beta", "Normal"), ("Beta", "Beta"),
               ("Gumbel", "Gumbel"), ("Exponential", "Gamma"), ("Cauchy", "Cauchy"), ("Dirichlet", "Dirichlet"), ("LowRank", "LowRank")]


@pytest.mark.parametrize("p, q", KL_OF_DRAWS)
def test_divergence_of_draws(p, q):
    antorcha.manual_seed(4)
    build_p, parameters = CASES[p]
    build_q, others = CASES[q]
    n = min(len(parameters[0]), len(others[0]))
    cut = (lambda values: values) if p == "LowRank" else (lambda values: values[:n])
    p = build_p(antorcha, *[_t(antorcha, cut(v)) for v in parameters])
    q = build_q(antorcha, *[_t(antorcha, cut(v)) * 1.3 + 0.1 for v in others])
    x = p.sample((MANY,))
    expected = (p.log_prob(x) - q.log_prob(x)).mean(0)
    np.testing.assert_allclose(array(ours.kl_divergence(p, q)), array(expected), atol=0.05, rtol=0.05)


# -- transforms -------------------------------------------------------------------------------------------------

TRANSFORMS = {
    "exp": (lambda t: t.distributions.ExpTransform(), (3,)), "sigmoid": (lambda t: t.distributions.SigmoidTransform(), (3,)),
    "softplus": (lambda t: t.distributions.SoftplusTransform(), (3,)), "tanh": (lambda t: t.distributions.TanhTransform(), (3,)),
    "affine": (lambda t: t.distributions.AffineTransform(1.0, -2.0), (3,)),
    "affine of events": (lambda t: t.distributions.AffineTransform(_t(t, [1.0, 2.0]), _t(t, [3.0, -1.0]), event_dim=1), (3, 2)),
    "power": (lambda t: t.distributions.ComposeTransform([t.distributions.ExpTransform(), t.distributions.PowerTransform(_t(t, 2.5))]),
              (3,)),
    "stick": (lambda t: t.distributions.StickBreakingTransform(), (2, 3)),
    "corr": (lambda t: t.distributions.CorrCholeskyTransform(), (2, 6)),
    "reshape": (lambda t: t.distributions.ReshapeTransform((4,), (2, 2)), (3, 4)),
    "independent": (lambda t: t.distributions.IndependentTransform(t.distributions.ExpTransform(), 1), (3, 2)),
    "stack": (lambda t: t.distributions.StackTransform([t.distributions.ExpTransform(), t.distributions.TanhTransform()], 1), (3, 2)),
    "cat": (lambda t: t.distributions.CatTransform([t.distributions.ExpTransform(), t.distributions.TanhTransform()], -1, [1, 2]), (3, 3)),
    "cdf": (lambda t: t.distributions.CumulativeDistributionTransform(t.distributions.Normal(_t(t, 0.0), _t(t, 1.0))), (3,)),
    "inverse": (lambda t: t.distributions.TanhTransform().inv.inv, (3,)),
    "compose": (lambda t: t.distributions.ComposeTransform(
        [t.distributions.AffineTransform(0.5, 2.0), t.distributions.StickBreakingTransform()]), (2, 3)),
    "cached": (lambda t: t.distributions.TanhTransform(cache_size=1), (3,)),
}
INPUT = np.random.default_rng(0).normal(size=24)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    build, shape = TRANSFORMS[name]
    f = build(antorcha)
    x = _t(antorcha, INPUT[:int(np.prod(shape))].reshape(shape).tolist())
    y = f(x)
    close(f.inv(y), x, rtol=1e-9)
    assert f.forward_shape(x.shape) == y.shape and f.inverse_shape(y.shape) == x.shape
    assert bool(f.codomain.check(y).all()) and bool(f.domain.check(x).all())
    assert f.inv.inv is f and f == f
    jacobian = f.log_abs_det_jacobian(x, y)
    assert jacobian.shape == x.shape[:x.dim() - f.domain.event_dim]
    close(f.inv.log_abs_det_jacobian(y, x), -jacobian)
    if name not in ("stick", "corr", "compose", "reshape"):
        v = x.clone().requires_grad_()
        (slope,) = antorcha.autograd.grad(f(v).sum(), v)
        expected = slope.abs().log()
        for _ in range(f.domain.event_dim):
            expected = expected.sum(-1)
        close(jacobian, expected, rtol=1e-9)
    assert bool((pickle.loads(pickle.dumps(f))(x) == y).all())


@pytest.mark.parametrize("registry", ["biject_to", "transform_to"])
def test_registered_transforms_reach_their_sets(registry):
    c = ours.constraints if hasattr(ours, "constraints") else antorcha.distributions.constraints
    sets = [(c.real, (3,)), (c.positive, (3,)), (c.greater_than(2.0), (3,)), (c.less_than(-1.0), (3,)), (c.interval(-1.0, 4.0), (3,)),
            (c.unit_interval, (3,)), (c.half_open_interval(0.0, 2.0), (3,)), (c.simplex, (2, 3)), (c.corr_cholesky, (2, 3)),
            (c.independent(c.positive, 1), (2, 3)), (c.stack([c.positive, c.real], 1), (3, 2)), (c.cat([c.positive, c.real], 0), (2,))]
    if registry == "transform_to":
        sets += [(c.lower_cholesky, (2, 3, 3)), (c.positive_definite, (2, 3, 3))]
    for constraint, shape in sets:
        f = getattr(ours, registry)(constraint)
        y = f(_t(antorcha, INPUT[:int(np.prod(shape))].reshape(shape).tolist()))
        assert bool(constraint.check(y).all()), constraint
    with pytest.raises(NotImplementedError, match="Cannot transform _IntegerInterval"):
        getattr(ours, registry)(c.integer_interval(0, 3))


def test_errors_tell_what_is_wrong():
    with pytest.raises(ValueError, match="Expected parameter scale .* GreaterThan"):
        ours.Normal(antorcha.zeros(2), -antorcha.ones(2))
    with pytest.raises(ValueError, match="within the support"):
        ours.Bernoulli(0.3).log_prob(antorcha.tensor(2.0))
    with pytest.raises(ValueError, match="not broadcastable"):
        ours.Normal(antorcha.zeros(2, 3), 1.0).log_prob(antorcha.zeros(4))
    with pytest.raises(ValueError, match="must be a Tensor"):
        ours.Normal(0.0, 1.0).log_prob(3)
    with pytest.raises(ValueError, match="but not both"):
        ours.Bernoulli(probs=0.1, logits=0.2)
    with pytest.raises(ValueError, match="Exactly one of"):
        ours.MultivariateNormal(antorcha.zeros(2))
    with pytest.raises(NotImplementedError, match=r"No KL\(p \|\| q\)"):
        ours.kl_divergence(ours.Cauchy(0.0, 1.0), ours.Uniform(0.0, 1.0))

    class Shifted(ours.Normal):
        def __init__(self, loc):
            super().__init__(loc, 1.0)

    with pytest.raises(NotImplementedError, match="custom .expand"):
        Shifted(1.0).expand((3,))
    assert ours.Normal(0.0, -1.0, validate_args=False).scale.item() == -1


def test_a_user_can_register_a_divergence():
    class Mine(ours.Normal):
        pass

    @ours.register_kl(Mine, ours.Normal)
    def _(p, q):
        return antorcha.tensor(7.0)

    assert ours.kl_divergence(Mine(0.0, 1.0), ours.Normal(0.0, 1.0)).item() == 7
    assert ours.kl_divergence(ours.Normal(0.0, 1.0), Mine(0.0, 1.0)).item() == 0


# -- against PyTorch --------------------------------------------------------------------------------------------

PROPERTIES = ["mean", "mode", "variance", "stddev"]


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_like_pytorch(name):
    torch = pytest.importorskip("torch")
    mine, _ = made(name)
    theirs, _ = made(name, torch)
    assert repr(mine).replace("antorcha", "torch") == repr(theirs)
    assert (mine.batch_shape, mine.event_shape) == (tuple(theirs.batch_shape), tuple(theirs.event_shape))
    assert (mine.has_rsample, mine.has_enumerate_support) == (theirs.has_rsample, theirs.has_enumerate_support)
    shown = [repr(d.arg_constraints).replace("torch.float64", "") for d in (mine, theirs)]
    assert shown[0] == shown[1]
    assert type(mine.support).__name__ == type(theirs.support).__name__
    torch.manual_seed(0)
    antorcha.manual_seed(0)
    x = theirs.sample((3,))
    if name not in OTHER_DRAWS:
        close(mine.sample((3,)), x, rtol=1e-5)
    y = antorcha.tensor(x.tolist(), dtype=antorcha.float64 if x.is_floating_point() else antorcha.int64)
    close(mine.log_prob(y), theirs.log_prob(x), rtol=1e-5)
    properties = [p for p in PROPERTIES if p != "mode" or name not in OTHER_MODE]
    for what in [*properties, "entropy", "cdf", "icdf", "enumerate_support"]:
        def call(d, x, what=what):
            if what in PROPERTIES:
                return getattr(d, what)
            if what == "icdf":
                return d.icdf(x * 0 + 0.3)
            return getattr(d, what)(x) if what == "cdf" else getattr(d, what)()
        found, expected = value(lambda: call(mine, y)), value(lambda: call(theirs, x))
        if isinstance(expected, type) or isinstance(found, type):
            assert found is expected, what
        else:
            np.testing.assert_allclose(array(found), array(expected), rtol=1e-5, atol=1e-7, err_msg=what)


@pytest.mark.oracle
@pytest.mark.parametrize("name", sorted(set(CASES) - OTHER_DRAWS))
def test_gradients_like_pytorch(name):
    torch = pytest.importorskip("torch")
    found = []
    for lib in (torch, antorcha):
        lib.manual_seed(0)
        d, parameters = made(name, lib, grad=True)
        x = d.rsample((3,)) if d.has_rsample else d.sample((3,))
        loss = d.log_prob(x.detach()).sum() + ((x * x).sum() if d.has_rsample else 0)
        entropy = value(d.entropy)
        if not isinstance(entropy, type):
            loss = loss + entropy.sum()
        found.append(lib.autograd.grad(loss, parameters))
    # PyTorch's own derivatives of gamma and beta draws are good to about 1e-3.
    for theirs, mine in zip(*found):
        np.testing.assert_allclose(array(mine), array(theirs), rtol=5e-3, atol=5e-3)


@pytest.mark.oracle
def test_divergences_like_pytorch():
    torch = pytest.importorskip("torch")
    from torch.distributions.kl import _KL_REGISTRY
    names = {made(n)[0].__class__.__name__: n for n in reversed(CASES)}
    wrong = []
    for a, b in _KL_REGISTRY:
        if a.__name__ not in names or b.__name__ not in names or (a.__name__, b.__name__) in OTHER_DIVERGENCE:
            continue
        found = []
        for lib in (torch, antorcha):
            p, q = ([_t(lib, v) for v in CASES[names[c.__name__]][1]] for c in (a, b))
            n = min(len(p[0]), len(q[0]))
            batched = not any("Normal" in c.__name__ and c.__name__ not in ("Normal", "HalfNormal", "LogNormal") for c in (a, b))
            p, q = ([v[:n] for v in side] if batched else side for side in (p, q))
            if not batched:
                p, q = ([v[:2] if v.dim() == 1 or v.shape[-1] == 1 else v for v in side] for side in (p, q))
                p, q = ([side[0][0] if side[0].dim() == 2 else side[0], *side[1:]] for side in (p, q))
            p, q = (CASES[names[c.__name__]][0](lib, *side) for c, side in ((a, p), (b, [v * 0.9 for v in q])))
            found.append(value(functools.partial(lib.distributions.kl_divergence, p, q)))
        theirs, mine = found
        if isinstance(theirs, type) or isinstance(mine, type):
            if theirs is not mine:
                wrong.append((a.__name__, b.__name__, theirs, mine))
        elif not np.allclose(array(mine), array(theirs), rtol=1e-5, equal_nan=True):
            wrong.append((a.__name__, b.__name__, theirs, mine))
    assert not wrong


@pytest.mark.oracle
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_like_pytorch(name):
    torch = pytest.importorskip("torch")
    build, shape = TRANSFORMS[name]
    found = []
    for lib in (torch, antorcha):
        x = _t(lib, INPUT[:int(np.prod(shape))].reshape(shape).tolist())
        f = build(lib)
        y = f(x)
        found.append((y, f.log_abs_det_jacobian(x, y), repr(f), repr(f.domain), repr(f.codomain), f.bijective))
    for theirs, mine in zip(*found):
        close(mine, theirs) if isinstance(mine, antorcha.Tensor) else None
        assert isinstance(mine, antorcha.Tensor) or mine == theirs


@pytest.mark.oracle
def test_names_like_pytorch():
    torch = pytest.importorskip("torch")
    assert sorted(torch.distributions.__all__) == sorted(ours.__all__)
    assert sorted(torch.distributions.constraints.__all__) == sorted(antorcha.distributions.constraints.__all__)
    theirs = {(a.__name__, b.__name__) for a, b in torch.distributions.kl._KL_REGISTRY}
    assert theirs == {(a.__name__, b.__name__) for a, b in antorcha.distributions.kl._KL_REGISTRY if a.__module__.startswith("antorcha")}
    for registry in ("biject_to", "transform_to"):
        names = [{k.__name__ for k in getattr(lib.distributions, registry)._registry} for lib in (torch, antorcha)]
        assert names[0] == names[1]
