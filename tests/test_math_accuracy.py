"""The elementary functions of loop programs against float64, long double and mpmath, in units in the last place (ulp)."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from antorcha.base import dtype as dt
from antorcha.loops import interp, ir
from antorcha.loops import math as lm
from antorcha.targets.kernel import build

mpmath = pytest.importorskip("mpmath")
Wide = np.longdouble
BLOCK = 4096


def program(function, d: dt.dtype, inputs: int) -> ir.Program:
    p = ir.Program()
    sources = [p.slot("in", d) for _ in range(inputs)]
    out, extent = p.slot("out", d), ir.arg(p.slot("extent", dt.int64))
    start = ir.index("p") * BLOCK
    at = start + ir.index("i")
    body = ir.store(out, at, function(*(ir.load(s, at, d) for s in sources)))
    inner = ir.loop("i", "vector", ir.minimum(extent - start, BLOCK), body)
    p.body = [ir.loop("p", "parallel", (extent + (BLOCK - 1)) / BLOCK, inner)]
    ir.verify(p)
    return p


def evaluate(function, d: dt.dtype, *arguments, interpret: bool = False) -> np.ndarray:
    arguments = [np.ascontiguousarray(a, d.numpy) for a in arguments]
    out = np.empty_like(arguments[0])
    p = program(function, d, len(arguments))
    words = [a.ctypes.data for a in arguments] + [out.ctypes.data, len(out)]
    if interpret:
        interp.run(p, words)
        return out
    kernel = build(p)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(kernel.address)
    block = np.array(words, np.int64)
    call(block.ctypes.data, 0, kernel.tiles(words), None)
    return out


def ulps(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance of float results from exact ones (of a wider type). A result that overflows may be infinite or the largest number."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        size = np.abs(exact)
        unit = np.exp2(np.floor(np.log2(np.maximum(size, Wide(info.tiny)))) - info.nmant)
        error = np.abs(got.astype(Wide) - exact) / unit
        half_above = Wide(info.max) * (1 + Wide(2.0) ** -(info.nmant + 2))
        matches = np.isinf(got) & (np.sign(got) == np.sign(exact)) | (np.abs(got) == info.max)
        error = np.where(size >= half_above, np.where(matches, 0, np.inf), error)
        near_top = np.isinf(got) & (size < half_above) & (size >= Wide(info.max) * (1 - Wide(2.0) ** -info.nmant))
        error = np.where(near_top, 1, error)
        both = np.isnan(got) & np.isnan(exact)
        return np.where(both, 0, np.where(np.isnan(got) | np.isnan(exact), np.inf, error))


def every_exponent(count: int = 150_000) -> np.ndarray:
    """float32 values of all exponents and both signs, the special ones, and more where the functions change most."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)
    special = [0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2.0 ** -149, -2.0 ** -149, 2.0 ** -126, 3.4028235e38, -3.4028235e38]
    dense = [random.uniform(low, high, count // 4) for low, high in ((-1, 1), (-20, 20), (-110, 110), (0.5, 2))]
    return np.concatenate([bits, np.concatenate([special, *dense]).astype(np.float32)])


def by_mpmath(function):
    def exact(x: np.ndarray) -> np.ndarray:
        with mpmath.workdps(40):
            return np.array([_wide(function, float(v)) for v in x])
    return exact


def _wide(function, x: float):
    try:
        y = function(mpmath.mpf(x))
    except ValueError:
        return Wide("nan")
    return Wide(mpmath.nstr(y, 25)) if mpmath.im(y) == 0 else Wide("nan")


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


NUMPY = dict(exp=np.exp, exp2=np.exp2, expm1=np.expm1, log=np.log, log2=np.log2, log10=np.log10, log1p=np.log1p, sin=np.sin, cos=np.cos,
             tan=np.tan, asin=np.arcsin, acos=np.arccos, atan=np.arctan, sinh=np.sinh, cosh=np.cosh, tanh=np.tanh, asinh=np.arcsinh,
             acosh=np.arccosh, atanh=np.arctanh, sigmoid=_sigmoid, rsqrt=lambda x: 1 / np.sqrt(x))
MPMATH = dict(erf=mpmath.erf, erfc=mpmath.erfc, erfinv=mpmath.erfinv)
# Largest errors allowed in float64; all others 2 ulp.
FLOAT64 = dict(log10=3, sin=2.5, tan=4, asin=3.5, acos=3.5, sinh=3, cosh=3, tanh=3, erfc=8)


@pytest.mark.parametrize("name", NUMPY)
@np.errstate(all="ignore")
def test_float32(name):
    x = every_exponent()
    wide = x.astype(Wide if name == "sigmoid" else np.float64)
    error = ulps(evaluate(getattr(lm, name), dt.float32, x), NUMPY[name](wide).astype(Wide))
    worst = int(np.argmax(error))
    assert error[worst] <= 2, (name, x[worst], error[worst])


@pytest.mark.parametrize("name", MPMATH)
@np.errstate(all="ignore")
def test_float32_error_functions(name):
    special = pytest.importorskip("scipy.special")
    x = every_exponent()
    error = ulps(evaluate(getattr(lm, name), dt.float32, x), getattr(special, name)(x.astype(np.float64)).astype(Wide))
    worst = int(np.argmax(error))
    assert error[worst] <= 2, (name, x[worst], error[worst])


@pytest.mark.parametrize("name", NUMPY)
@np.errstate(all="ignore")
def test_float64(name):
    if np.finfo(Wide).nmant < 63:
        pytest.skip("long double is no wider than float64 here")
    random = np.random.default_rng(1)
    n = 20_000
    special = [0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 5e-324]
    dense = [random.uniform(low, high, n) for low, high in ((-1, 1), (-30, 30), (-760, 760), (0.5, 2))]
    x = np.concatenate([*dense, np.exp(random.uniform(-740, 709, n)) * random.choice([-1, 1], n), special])
    if name in ("sin", "cos", "tan"):
        x = x[(np.abs(x) < 1e8) | ~np.isfinite(x)]
    error = ulps(evaluate(getattr(lm, name), dt.float64, x), NUMPY[name](x.astype(Wide)))
    worst = int(np.argmax(error))
    assert error[worst] <= FLOAT64.get(name, 2), (name, x[worst], error[worst])


@pytest.mark.parametrize("name", MPMATH)
def test_float64_error_functions(name):
    random = np.random.default_rng(2)
    x = np.concatenate([random.uniform(-1, 1, 200), random.uniform(-26, 26, 200), 10.0 ** random.uniform(-300, 0, 100),
                        1 - 10.0 ** random.uniform(-15, 0, 100)])
    error = ulps(evaluate(getattr(lm, name), dt.float64, x), by_mpmath(MPMATH[name])(x))
    worst = int(np.argmax(error))
    assert error[worst] <= FLOAT64.get(name, 2), (name, x[worst], error[worst])


@pytest.mark.parametrize("name, exact", [("lgamma", lambda x: mpmath.re(mpmath.loggamma(x))), ("digamma", mpmath.digamma)])
@pytest.mark.parametrize("d", [dt.float32, dt.float64], ids=str)
def test_gamma_functions(name, exact, d):
    """Absolute near their zeros, else relative."""
    random = np.random.default_rng(3)
    x = np.concatenate([random.uniform(0.01, 30, 200), random.uniform(-9.9, 0, 100), 10.0 ** random.uniform(-30, 30, 50)]).astype(d.numpy)
    want = by_mpmath(exact)(x).astype(np.float64)
    np.testing.assert_allclose(evaluate(getattr(lm, name), d, x), want, rtol=64 * np.finfo(d.numpy).eps, atol=64 * np.finfo(d.numpy).eps)


@pytest.mark.parametrize("d, most", [(dt.float32, 2.5e-7), (dt.float64, 5e-16)], ids=str)
def test_slope_of_gelu(d, most):
    """Its error is relative to 1; far out it is 0 or 1."""
    special = pytest.importorskip("scipy.special")
    x = np.concatenate([np.linspace(-14, 14, 100_001), [0.0, -0.0, 1e-30, 20, -20, 1e5, -1e5]]).astype(d.numpy)
    wide = x.astype(np.float64)
    exact = special.ndtr(wide) + wide * np.exp(-0.5 * wide * wide) / np.sqrt(2 * np.pi)
    got = evaluate(lm.gelu_slope, d, x)
    assert np.max(np.abs(got - exact)) <= most
    np.testing.assert_allclose(got[-4:], [1, 0, 1, 0], atol=1e-30)
    assert np.isnan(evaluate(lm.gelu_slope, d, np.array([np.nan], d.numpy))[0])


def _pairs(d: dt.dtype):
    random = np.random.default_rng(4)
    n, exponent, kind = 40_000, 80 if d is dt.float32 else 600, d.numpy
    special = np.array([0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 2.0 ** 24 + 1, 0.9999999],
                       kind)
    x, y = (v.ravel() for v in np.meshgrid(special, special))
    bases = [x, np.exp(random.uniform(-exponent, exponent, n)), random.uniform(0.5, 2, n), random.uniform(-9, 9, n)]
    exponents = [y, random.uniform(-3, 3, n), random.uniform(-100, 100, n), np.round(random.uniform(-9, 9, n))]
    return np.concatenate(bases).astype(kind), np.concatenate(exponents).astype(kind)


@pytest.mark.parametrize("d", [dt.float32, dt.float64], ids=str)
@pytest.mark.parametrize("name, exact", [("pow", np.power), ("atan2", np.arctan2)])
@np.errstate(all="ignore")
def test_two_arguments(name, exact, d):
    if d is dt.float64 and np.finfo(Wide).nmant < 63:
        pytest.skip("long double is no wider than float64 here")
    x, y = _pairs(d)
    got = evaluate(getattr(lm, name), d, x, y)
    wide = np.float64 if d is dt.float32 else Wide
    want = exact(x.astype(wide), y.astype(wide)).astype(Wide)
    error = ulps(got, want)
    worst = int(np.argmax(error))
    assert error[worst] <= (2 if d is dt.float32 or name == "pow" else 4), (x[worst], y[worst], got[worst], want[worst])
    known = ~np.isnan(want)
    assert np.array_equal(np.signbit(got)[known], np.signbit(want)[known])


@pytest.mark.parametrize("name", ["fmod", "remainder"])
@pytest.mark.parametrize("d", [dt.float32, dt.float64, dt.int64, dt.int8], ids=str)
@np.errstate(all="ignore")
def test_remainders(name, d):
    x, y = _pairs(dt.float64)
    if d.kind == "i":
        x, y = (np.random.default_rng(seed).integers(-99, 100, 5000) for seed in (5, 6))
    x, y = x.astype(d.numpy), y.astype(d.numpy)
    np.testing.assert_array_equal(evaluate(getattr(lm, name), d, x, y), getattr(np, name)(x, y))


@pytest.mark.parametrize("name", [*NUMPY, *MPMATH])
@pytest.mark.parametrize("d", [dt.float32, dt.float64], ids=str)
def test_interpreter_gives_the_same(name, d):
    x = every_exponent(2000).astype(d.numpy)
    compiled, interpreted = (evaluate(getattr(lm, name), d, x, interpret=flag) for flag in (False, True))
    assert ulps(compiled, interpreted.astype(Wide)).max() <= 1


@pytest.mark.parametrize("name", ["sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf", "expm1", "log1p", "erfinv"])
@pytest.mark.parametrize("d", [dt.float32, dt.float64], ids=str)
def test_sign_of_zero(name, d):
    got = evaluate(getattr(lm, name), d, np.array([0.0, -0.0]))
    assert got[0] == got[1] == 0 and not np.signbit(got[0]) and np.signbit(got[1])
