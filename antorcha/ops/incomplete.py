"""The incomplete gamma functions and Hurwitz' zeta function in NumPy, in double precision: iterations until all elements
converged.

W. H. Press et al., "Numerical Recipes" (3rd edition, 2007), section 6.2: series, continued fraction (modified Lentz), and for
large parameters quadrature. Zeta by the formula of Euler and Maclaurin.
"""

from __future__ import annotations

import math

import numpy as np

LARGE = 100.0       # parameters from which the integral is computed by quadrature
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
TINY = 1e-300


def _series_of_stirling(x):
    return sum(c / x ** (2 * k + 1) for k, c in enumerate(STIRLING))


def _log_gamma(x):
    product = np.ones_like(x)
    for _ in range(10):
        below = x < 10
        product = np.where(below, product * x, product)
        x = np.where(below, x + 1, x)
    return (x - 0.5) * np.log(x) - x + 0.5 * math.log(2 * math.pi) + _series_of_stirling(x) - np.log(product)


def _by_series(a, x):
    """P(a, x) for x < a + 1: sum of x^k / (a (a + 1) .. (a + k))."""
    term = total = 1 / a
    k = a
    while True:
        k = k + 1
        term = term * x / k
        total = total + term
        if not (np.abs(term) > np.abs(total) * 1e-17).any():
            return total * np.exp(a * np.log(x) - x - _log_gamma(a))


def _by_fraction(a, x):
    """1 - P(a, x) for x > a + 1."""
    b = x + 1 - a
    c, d = np.full_like(x, 1 / TINY), 1 / b
    h = d
    for i in range(1, 1000):
        n = -i * (i - a)
        b = b + 2
        d = n * d + b
        d = 1 / np.where(np.abs(d) < TINY, TINY, d)
        c = b + n / c
        c = np.where(np.abs(c) < TINY, TINY, c)
        h = h * (c * d)
        if not (np.abs(c * d - 1) > 2e-16).any():
            break
    return h * np.exp(a * np.log(x) - x - _log_gamma(a))


def _by_quadrature(a, x):
    """(P, 1 - P) for large a: from x to where the integrand has vanished, on the side away from its top a - 1."""
    top = a - 1
    width = np.sqrt(top)
    above = x > top
    highest, lowest = np.maximum(top + 11.5 * width, x + 6 * width), np.minimum(top - 9 * width, x - 6 * width)
    end = np.where(above, highest, np.maximum(0, lowest))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = x + (end - x) * (nodes[:, None] + 1) / 2
    u = (t - top) / top
    integral = (weights[:, None] * np.exp(top * (np.log1p(u) - u))).sum(0) * np.abs(end - x) / 2
    part = integral * np.exp(-_series_of_stirling(top)) / np.sqrt(2 * math.pi * top)
    return np.where(above, 1 - part, part), np.where(above, part, 1 - part)


def _both(a, x):
    """(P, 1 - P) for a > 0 and x > 0, finite."""
    p, q = np.empty_like(x), np.empty_like(x)
    large = a > LARGE
    series = ~large & (x < a + 1)
    fraction = ~large & ~series
    if series.any():
        p[series] = _by_series(a[series], x[series])
        q[series] = 1 - p[series]
    if fraction.any():
        q[fraction] = _by_fraction(a[fraction], x[fraction])
        p[fraction] = 1 - q[fraction]
    if large.any():
        p[large], q[large] = _by_quadrature(a[large], x[large])
    return p, q


def gammainc(a, x, upper):
    """P(a, x) = integral from 0 to x of t^(a - 1) exp(-t) / Gamma(a), or 1 - P."""
    d = x.dtype
    a, x = np.broadcast_arrays(a.astype(np.float64), x.astype(np.float64))
    with np.errstate(all="ignore"):
        p = np.where(a == 0, np.where(x > 0, 1.0, np.nan), np.where(x == 0, 0.0, np.where(x == np.inf, 1.0, 0.0)))
        p = np.where((a < 0) | (x < 0) | np.isnan(a) | np.isnan(x) | (a == np.inf) & (x == np.inf), np.nan, p)
        result = 1 - p if upper else p
        regular = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
        if regular.any():
            result = np.array(result)
            result[regular] = _both(a[regular], x[regular])[int(upper)]
    return (result.astype(d),)


BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330, 854513 / 138)


def zeta(s, q, narrow):
    """Sum over k >= 0 of (k + q)^-s, for s > 1. Where terms cancel (q between negative integers, s odd) their rounding is what is left:
    that is PyTorch's, which adds them up in float64 (in float32 those of `narrow`, 16-bit, floats) from a first one of float32."""
    d, terms = s.dtype, np.float32 if narrow else np.float64
    s, q = np.broadcast_arrays(s.astype(np.float64), q.astype(np.float64))
    with np.errstate(all="ignore"):
        total, x = np.zeros_like(s, terms), q
        steps = 12 + int(np.max(np.where(np.isfinite(q), -np.floor(q), 0), initial=0))
        for k in range(steps):
            below = x < 12
            power = (x ** -s).astype(d if k == 0 and not narrow else terms)
            total = np.where(below, total + power, total)
            x = np.where(below, x + 1, x)
        power = x ** -s
        total = total + (power * x / (s - 1) + 0.5 * power)
        factor = s * power / x
        for k, b in enumerate(BERNOULLI, 1):
            total = total + factor * b / math.factorial(2 * k)
            factor = factor * (s + 2 * k - 1) * (s + 2 * k) / (x * x)
        whole = q == np.floor(q)
        total = np.where((q <= 0) & whole, np.inf, np.where((q <= 0) & (s != np.floor(s)), np.nan, total))
        total = np.where(s == 1, np.inf, np.where((s < 1) | np.isnan(s) | np.isnan(q), np.nan, total))
    return (total.astype(d),)
