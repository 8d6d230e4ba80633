"""torch.special: values against mpmath, derivatives against finite differences, limits and errors."""

from __future__ import annotations

import numpy as np
import pytest

import antorcha as torch

mp = pytest.importorskip("mpmath")
S = torch.special
SPREAD = np.concatenate([np.exp(np.random.default_rng(0).uniform(-8, 5, 25)), [1.0, 2.0, 6.0, 8.0]])
BOTH = np.concatenate([SPREAD, -SPREAD])



# name: (exact, places, amplitude that errors are relative to where the function oscillates)
FUNCTIONS = {
    "i0": (lambda x: mp.besseli(0, x), BOTH), "i0e": (lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), BOTH),
    "i1": (lambda x: mp.besseli(1, x), BOTH), "i1e": (lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), BOTH),
    "modified_bessel_i0": (lambda x: mp.besseli(0, x), BOTH), "modified_bessel_i1": (lambda x: mp.besseli(1, x), BOTH),
    "modified_bessel_k0": (lambda x: mp.besselk(0, x), SPREAD), "modified_bessel_k1": (lambda x: mp.besselk(1, x), SPREAD),
    "scaled_modified_bessel_k0": (lambda x: mp.besselk(0, x) * mp.exp(x), SPREAD),
    "scaled_modified_bessel_k1": (lambda x: mp.besselk(1, x) * mp.exp(x), SPREAD),
    "bessel_j0": (lambda x: mp.besselj(0, x), BOTH), "bessel_j1": (lambda x: mp.besselj(1, x), BOTH),
    "bessel_y0": (lambda x: mp.bessely(0, x), SPREAD), "bessel_y1": (lambda x: mp.bessely(1, x), SPREAD),
    "spherical_bessel_j0": (lambda x: mp.sin(x) / x, BOTH), "airy_ai": (mp.airyai, np.clip(BOTH, -100, 60)),
    "erfcx": (lambda x: mp.exp(x * x) * mp.erfc(x), np.clip(BOTH, -20, 200)), "entr": (lambda x: -x * mp.log(x), SPREAD),
    "ndtr": (mp.ncdf, np.clip(BOTH, -15, 15)), "log_ndtr": (lambda x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2), np.clip(BOTH, -60, 6)),
    "ndtri": (lambda p: -mp.sqrt(2) * mp.erfinv(1 - 2 * p), np.concatenate([1 / (1 + SPREAD), 10.0 ** -np.arange(5, 13)])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name):
    exact, x = FUNCTIONS[name]
    with mp.workdps(40):
        expected = np.array([float(exact(mp.mpf(v))) for v in x])
    received = getattr(S, name)(torch.from_numpy(x)).numpy()
    scale = np.abs(expected)
    if name.startswith(("bessel", "spherical")):
        scale = np.maximum(scale, 1 / np.sqrt(np.maximum(np.abs(x), 1)))
    if name == "airy_ai":
        scale = np.where(x < 0, np.maximum(np.abs(x), 1) ** -0.25, np.abs(expected))
    assert np.all(np.abs(received - expected) <= 4e-14 * scale)
    single = getattr(S, name)(torch.from_numpy(x.astype(np.float32)))
    assert single.dtype is torch.float32
    assert getattr(S, name)(torch.tensor([1, 2])).dtype is torch.float32


def test_gamma_functions():
    generator = np.random.default_rng(1)
    a = np.exp(generator.uniform(-4, 8, 40))
    x = a * np.exp(generator.normal(0, 0.5, 40))
    with mp.workdps(30):
        lower = np.array([float(mp.gammainc(p, 0, q, regularized=True)) for p, q in zip(a, x)])
        s, q = generator.uniform(1.01, 20, 20), generator.uniform(-5, 30, 20)
        s[q < 0] = np.ceil(s[q < 0]) + 1
        sums = np.array([float(mp.zeta(int(v) if v == int(v) else v, w)) for v, w in zip(s, q)])
        derivatives = {n: np.array([float(mp.polygamma(n, v)) for v in q]) for n in range(4)}
    np.testing.assert_allclose(torch.igamma(torch.from_numpy(a), torch.from_numpy(x)).numpy(), lower, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(torch.igammac(torch.from_numpy(a), torch.from_numpy(x)).numpy(), 1 - lower, atol=1e-13)
    np.testing.assert_allclose(S.zeta(torch.from_numpy(s), torch.from_numpy(q)).numpy(), sums, rtol=1e-12)
    for n, expected in derivatives.items():
        np.testing.assert_allclose(torch.polygamma(n, torch.from_numpy(q)).numpy(), expected, rtol=1e-11, atol=1e-12)
    y = torch.tensor([3.0, 7.5], dtype=torch.float64)
    expected = sum(torch.lgamma(y - j / 2) for j in range(3)) + 1.5 * np.log(np.pi)
    assert torch.allclose(S.multigammaln(y, 3), expected) and torch.equal(y.mvlgamma(3), S.multigammaln(y, 3))
    assert torch.equal(y.polygamma(2), torch.polygamma(2, y))


POLYNOMIALS = {
    "chebyshev_polynomial_t": mp.chebyt, "chebyshev_polynomial_u": mp.chebyu, "hermite_polynomial_h": mp.hermite,
    "hermite_polynomial_he": lambda n, x: mp.hermite(n, x / mp.sqrt(2)) / mp.sqrt(2) ** n,
    "laguerre_polynomial_l": lambda n, x: sum(mp.binomial(n, k) * mp.mpf(-x) ** k / mp.factorial(k) for k in range(n + 1)),
    "legendre_polynomial_p": mp.legendre,
    "chebyshev_polynomial_v": lambda n, x: mp.chebyu(n, x) - (mp.chebyu(n - 1, x) if n else 0),
    "chebyshev_polynomial_w": lambda n, x: mp.chebyu(n, x) + (mp.chebyu(n - 1, x) if n else 0),
}


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials(name):
    x, n = np.array([-1.0, -0.7, 0.3, 1.0, 2.5]), np.array([0, 1, 2, 3, 7])
    expected = np.array([[float(POLYNOMIALS[name](int(k), v)) for v in x] for k in n])
    points, degrees = torch.from_numpy(x), torch.from_numpy(n)[:, None]
    function = getattr(S, name)
    np.testing.assert_allclose(function(points, degrees).numpy(), expected, rtol=1e-12, atol=1e-12)
    for k, row in zip(n, expected):
        np.testing.assert_allclose(function(points, int(k)).numpy(), row, rtol=1e-12, atol=1e-12)
    assert function(points, -1).abs().sum() == 0
    if name.startswith("chebyshev"):
        np.testing.assert_allclose(getattr(S, "shifted_" + name)((points + 1) / 2, degrees).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: function(x, 4), (points.requires_grad_(),))


def test_derivatives_of_gamma_functions():
    a, x = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64), torch.tensor([0.3, 2.5, 5.0], dtype=torch.float64, requires_grad=True)
    for function in (lambda x: torch.igamma(a, x), lambda x: torch.igammac(a, x), lambda x: S.zeta(a + 2, x),
                     lambda x: torch.polygamma(2, x), torch.digamma, torch.lgamma, lambda x: torch.mvlgamma(x + 1, 3)):
        assert torch.autograd.gradcheck(function, (x,))
    with pytest.raises(NotImplementedError, match="derivative"):
        torch.igamma(a.requires_grad_(), x).sum().backward()


def test_polygamma_where_terms_cancel_is_rounded_as_in_pytorch():
    """Near and between the negative integers, from the roundings of float32: the angle of the reflection, and the terms of the sum."""
    x = torch.tensor([-2.0009765625, -0.9990234375, -1.499, -0.4926])
    expected = torch.tensor([[1048453.56, 1048632.5, 9.37910843, 8.93396854],
                             [2.70215978e+16, -2.70215978e+16, 15.0690403, 110.445328],
                             [8.50026039e+23, -8.50026039e+23, 2579.80371, 19103.8223]])
    torch.testing.assert_close(torch.stack([torch.polygamma(n, x) for n in (1, 4, 6)]), expected)
    halves = torch.polygamma(6, torch.tensor([-7.5, -3.5]).bfloat16())
    torch.testing.assert_close(halves, torch.tensor([0.003997802734375, -0.029052734375]).bfloat16())


def test_limits():
    inf, nan = float("inf"), float("nan")

    def at(name, *xs):
        return getattr(S, name)(*[torch.tensor(x, dtype=torch.float64) for x in xs]).tolist()
    assert at("i0", [0.0, inf, -inf]) == [1, inf, inf] and at("i1", [0.0, inf, -inf]) == [0, inf, -inf]
    assert at("modified_bessel_k0", 0.0) == at("modified_bessel_k1", 0.0) == inf and at("bessel_y1", 0.0) == -inf
    assert at("entr", [0.0, -1.0]) == [0, -inf] and at("xlogy", [0.0, 0.0], [0.0, -1.0]) == [0, 0] and np.isnan(at("xlogy", 0.0, nan))
    assert at("ndtri", [0.0, 0.5, 1.0]) == [-inf, 0, inf] and np.isnan(at("ndtri", 2.0)) and at("log_ndtr", -inf) == -inf
    assert at("gammainc", [1.0, 0.0, 2.0], [0.0, 1.0, inf]) == [0, 1, 1] and at("zeta", [1.0, 2.0], [3.0, -2.0]) == [inf, inf]
    assert np.isnan(at("bessel_y0", -1.0)) and np.isnan(at("zeta", 0.5, 1.0)) and np.isnan(at("erfcx", nan))


def test_errors():
    with pytest.raises(NotImplementedError):
        S.i0(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(RuntimeError, match="negative n"):
        torch.polygamma(-1, torch.ones(2))
    with pytest.raises(RuntimeError, match="p has to be"):
        torch.mvlgamma(torch.ones(2), 0)
    with pytest.raises(RuntimeError):
        torch.igamma(torch.ones(2), torch.ones(3))
    for function in (torch.igamma, S.zeta, S.chebyshev_polynomial_t):
        with pytest.raises(TypeError, match="must be Tensor"):
            function(2, 3)


def test_recurrences_of_polynomials_round_once():
    """x * x - 1, the polynomial of degree 2, is exact but for one rounding."""
    x = np.random.default_rng(0).standard_normal(500).astype(np.float32) * 3
    found = torch.special.hermite_polynomial_he(torch.tensor(x), 2).numpy()
    np.testing.assert_array_equal(found, (x.astype(np.float64) ** 2 - 1).astype(np.float32))
