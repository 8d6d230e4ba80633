"""Random numbers of the gamma family, and how they move with their parameters.

A sample x of a distribution with cumulative distribution F(x; a) and density p is moved by its parameter by
dx/da = -(dF/da) / p (implicit reparameterisation: Figurnov, Mohamed and Mnih 2018). For the densities here,
dF/da is an integral of the density times a slowly varying factor. It is taken from x to the tail that holds less, over the
distance s from x on the scale on which the density is log-concave (log t for gamma, the logit of t for beta), so the
integrand falls from 1 at s = 0 without a bump and a fixed Gauss rule is precise for all parameters.
"""

from __future__ import annotations

import functools

import numpy as np

from ..base import dtype as dt
from .placement import place
from .pointwise import where
from .random import source
from .record import by_lane, core, operator
from .samples import binary, unary
from .special import digamma

Tensor = "Tensor"


def _precision(d: dt.dtype) -> tuple[int, float]:
    """(how many nodes, by which power of e the integrand has fallen where it is cut off): for nine digits, or for five."""
    return (48, 36.0) if d is dt.float64 else (28, 27.0)


@functools.cache
def _rule(count: int):
    """Nodes v**2 and weights on [0, 1], crowded near 0 (Gauss and Legendre, in v)."""
    x, w = np.polynomial.legendre.leggauss(count)
    v = (x + 1) / 2
    return core.from_numpy(v ** 2), core.from_numpy(w * v)


def _integral(integrand, reach, count: int):
    """The integral of `integrand(s)` over s in [0, reach], for each element of `reach`."""
    nodes, weights = _rule(count)
    reach = reach.unsqueeze(-1)
    return (integrand(reach * nodes) * (reach * weights)).sum(-1)


def _gamma_reach(a, x, below, fall: float):
    """A distance at which the integrand of `_standard_gamma_grad` has fallen by at least exp(-fall)."""
    left = (fall / 3 + (fall ** 2 / 9 + 2 * fall * a).sqrt()) / a
    right = core.Tensor.minimum((2 * fall / x).sqrt(), (fall / x).log1p() + 0.5)
    return where(below, left, right)


@operator(public=True, method=False, out=False, samples=binary(0.5, 5))
def _standard_gamma_grad(input: Tensor, output: Tensor) -> Tensor:
    """How a sample `output` of Gamma(concentration `input`, rate 1) moves with the concentration."""
    a, x = input.double(), output.double()
    count, fall = _precision(output._meta.dtype)
    below = x <= a
    reach = _gamma_reach(a, x, below, fall)
    side = where(below, 1.0, -1.0)
    head = digamma(a) - x.log()
    a, x, head, sign = (t.unsqueeze(-1) for t in (a, x, head, side))

    def integrand(s):
        # t = x exp(-s) below the mean, x exp(s) above
        return (-sign * a * s - x * (-sign * s).expm1()).exp() * (s + sign * head)

    return (output.double() * _integral(integrand, reach, count)).to(output.dtype)


def _beta_reach(rate, total, fall: float):
    """A distance at which the integrand of `_dirichlet_grad` has fallen by at least exp(-fall): by its slope far away, or its
    curvature at 0."""
    far = (fall - total * (-rate / total).log1p()) / rate
    curvature = rate * (1 - rate / total)
    near = (fall / 3 + (fall ** 2 / 9 + 2 * fall * curvature).sqrt()) / curvature
    return core.Tensor.minimum(far, near)


@operator(public=True, method=False, out=False, samples=lambda t: [t(3, 4), t(3, 4), t(3, 4) + 2])
def _dirichlet_grad(x: Tensor, alpha: Tensor, total: Tensor) -> Tensor:
    """How a sample x of Beta(alpha, total - alpha) moves with alpha while total - alpha stays, divided by 1 - x."""
    p, a, c = x.double(), alpha.double(), total.double()
    below = p * c <= a
    rate = where(below, a, c - a)
    weight = where(below, p, 1 - p)
    head = digamma(a) - digamma(c) - p.log()
    count, fall = _precision(x._meta.dtype)
    reach = _beta_reach(rate, c, fall)
    below, rate, weight, head, c = (t.unsqueeze(-1) for t in (below, rate, weight, head, c))

    def integrand(s):
        # logit t = logit x - s below the mean, + s above; m is -log of the ratio of 1 - t (below) or of t (above) to its value at x
        m = (weight * (-s).expm1()).log1p()
        return (-rate * s - c * m).exp() * where(below, s + m + head, -m - head)

    return (p * _integral(integrand, reach, count)).to(x.dtype)


def _smallest(d: dt.dtype) -> float:
    return float(np.finfo(np.float64 if d is dt.float64 else np.float32).tiny)


def _host(x):
    return np.asarray(core.host(x.detach()), np.float64 if x._meta.dtype is dt.float64 else np.float32)


def _from(array, x):
    """A tensor of the shape and dtype of `x`, where `x` is."""
    return place(core.from_numpy(np.ascontiguousarray(array).reshape(tuple(x.shape))).to(x._meta.dtype), str(x.device))


def _require_float(name: str, x) -> None:
    if not x.is_floating_point():
        raise RuntimeError(f"{name}: expected a floating point tensor; received {x.dtype}. Convert it first: input.float()")


@operator(public=True, method=False, out=False, draws=True, surrogate=True,
          grad=dict(input=lambda g, input, result: g * _standard_gamma_grad(input, result)), samples=unary(0.5, 5))
def _standard_gamma(input: Tensor, generator=None) -> Tensor:
    """Samples of the gamma distributions with these concentrations and rate 1 (Marsaglia and Tsang 2000)."""
    _require_float("_standard_gamma", input)
    return _draw_gamma(input, generator)


@by_lane
def _draw_gamma(input, generator):
    drawn = source(generator).gamma(_host(input).reshape(-1)).astype(np.float64 if input._meta.dtype is dt.float64 else np.float32)
    return _from(np.maximum(drawn, _smallest(input._meta.dtype)), input)


def _dirichlet_backward(g, input, result):
    """A component grows at the expense of the others, which keep their proportions."""
    total = input.sum(-1, True).expand(input.shape)
    return _dirichlet_grad(result, input, total) * (g - (result * g).sum(-1, True))


@operator(public=True, method=False, out=False, draws=True, surrogate=True,
          grad=dict(input=lambda g, input, result: _dirichlet_backward(g, input, result)),
          samples=lambda t: [t(..., 3, low=0.5, high=5)])
def _sample_dirichlet(input: Tensor, generator=None) -> Tensor:
    """Samples of the Dirichlet distributions whose concentrations lie along the last dimension: gamma numbers over their sum."""
    _require_float("_sample_dirichlet", input)
    return _draw_dirichlet(input, generator)


@by_lane
def _draw_dirichlet(input, generator):
    drawn = source(generator).gamma(_host(input).astype(np.float64).reshape(-1)).reshape(tuple(input.shape))
    share = (drawn / drawn.sum(-1, keepdims=True)).astype(_host(input).dtype)
    eps = np.finfo(share.dtype).eps
    return _from(np.clip(share, _smallest(input._meta.dtype), 1 - eps / 2), input)


