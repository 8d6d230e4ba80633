"""Kullback-Leibler divergences.

A table from pairs of classes to functions; a pair of distributions takes the entry whose classes are nearest among their bases.
"""

from __future__ import annotations

import math
import warnings

import antorcha as torch

from .bernoulli import Bernoulli
from .beta import Beta
from .binomial import Binomial
from .categorical import Categorical
from .cauchy import Cauchy
from .continuous_bernoulli import ContinuousBernoulli
from .dirichlet import Dirichlet
from .exp_family import ExponentialFamily
from .exponential import Exponential
from .gamma import Gamma
from .geometric import Geometric
from .gumbel import Gumbel
from .half_normal import HalfNormal
from .independent import Independent
from .laplace import Laplace
from .lowrank_multivariate_normal import LowRankMultivariateNormal, _batch_lowrank_logdet, _batch_lowrank_mahalanobis
from .multivariate_normal import MultivariateNormal, _batch_mahalanobis
from .normal import Normal
from .one_hot_categorical import OneHotCategorical
from .pareto import Pareto
from .poisson import Poisson
from .transformed_distribution import TransformedDistribution
from .uniform import Uniform
from .utils import _sum_rightmost, euler_constant

__all__ = ["register_kl", "kl_divergence"]

_KL_REGISTRY: dict = {}     # (class of p, class of q) -> function of p and q
_KL_MEMOIZE: dict = {}      # the entry found for each pair of types asked for


def register_kl(type_p, type_q):
    """A decorator: the function computes `kl_divergence(p, q)` for these classes and their subclasses, where no entry is nearer."""
    for given in (type_p, type_q):
        if not isinstance(given, type):     # classes that stand beside Distribution are accepted, as libraries register them
            raise TypeError(f"Expected type_p and type_q to be Distribution subclasses but got {given}")

    def declare(function):
        _KL_REGISTRY[type_p, type_q] = function
        _KL_MEMOIZE.clear()
        return function
    return declare


def _dispatch_kl(type_p, type_q):
    """The entry nearest to both types. RuntimeWarning where one is nearer to p and another to q; None where there is none."""
    def distance(pair):
        return type_p.__mro__.index(pair[0]), type_q.__mro__.index(pair[1])

    matches = [pair for pair in _KL_REGISTRY if issubclass(type_p, pair[0]) and issubclass(type_q, pair[1])]
    if not matches:
        return None
    by_p = min(matches, key=distance)
    by_q = min(matches, key=lambda pair: distance(pair)[::-1])
    if _KL_REGISTRY[by_p] is not _KL_REGISTRY[by_q]:
        names = [cls.__name__ for cls in (type_p, type_q, by_p[0], by_q[1])]
        warnings.warn(f"Ambiguous kl_divergence({names[0]}, {names[1]}). Please register_kl({names[2]}, {names[3]})", RuntimeWarning,
                      stacklevel=3)
    return _KL_REGISTRY[by_p]


def kl_divergence(p, q):
    """KL(p || q) = E_p[log p(x) - log q(x)], shape batch_shape. NotImplementedError for pairs that are not registered."""
    key = type(p), type(q)
    if key not in _KL_MEMOIZE:
        _KL_MEMOIZE[key] = _dispatch_kl(*key)
    function = _KL_MEMOIZE[key]
    if function is None:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}")
    return function(p, q)


def _infinite_like(tensor):
    return torch.full_like(tensor, torch.inf)


def _x_log_x(tensor):
    return torch.special.xlogy(tensor, tensor)


def _trace_of_square(a):
    """The sum of the squares of all elements of matrices: the trace of A A^T."""
    return a.pow(2).sum((-2, -1))


# -- a distribution and another of its family -------------------------------------------------------------------

@register_kl(Bernoulli, Bernoulli)
def _kl_bernoulli_bernoulli(p, q):
    softplus = torch.nn.functional.softplus
    success = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    failure = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    return success + failure


@register_kl(Beta, Beta)
def _kl_beta_beta(p, q):
    total_p, total_q = p.concentration1 + p.concentration0, q.concentration1 + q.concentration0
    normalizers = (q.concentration1.lgamma() + q.concentration0.lgamma() + total_p.lgamma()
                   - p.concentration1.lgamma() - p.concentration0.lgamma() - total_q.lgamma())
    return (normalizers + (p.concentration1 - q.concentration1) * torch.digamma(p.concentration1)
            + (p.concentration0 - q.concentration0) * torch.digamma(p.concentration0) + (total_q - total_p) * torch.digamma(total_p))


@register_kl(Binomial, Binomial)
def _kl_binomial_binomial(p, q):
    if (p.total_count < q.total_count).any():
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    divergence = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p())
    return torch.where(p.total_count > q.total_count, torch.inf, divergence)


@register_kl(Categorical, Categorical)
def _kl_categorical_categorical(p, q):
    t = p.probs * (p.logits - q.logits)
    t = torch.where((q.probs == 0).expand_as(t), torch.inf, t)
    return torch.where((p.probs == 0).expand_as(t), 0.0, t).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _kl_onehotcategorical_onehotcategorical(p, q):
    return _kl_categorical_categorical(p._categorical, q._categorical)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _kl_continuous_bernoulli_continuous_bernoulli(p, q):
    return (p.mean * (p.logits - q.logits) + p._cont_bern_log_norm() + torch.log1p(-p.probs)
            - q._cont_bern_log_norm() - torch.log1p(-q.probs))


@register_kl(Dirichlet, Dirichlet)
def _kl_dirichlet_dirichlet(p, q):
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    normalizers = total.lgamma() - b.sum(-1).lgamma() - (a.lgamma() - b.lgamma()).sum(-1)
    return normalizers + ((a - b) * (a.digamma() - total.digamma().unsqueeze(-1))).sum(-1)


@register_kl(Exponential, Exponential)
def _kl_exponential_exponential(p, q):
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(ExponentialFamily, ExponentialFamily)
def _kl_expfamily_expfamily(p, q):
    """The Bregman divergence of the log normaliser between the natural parameters (Nielsen and Nock 2010)."""
    if type(p) is not type(q):
        raise NotImplementedError("The cross KL-divergence between different exponential families cannot be computed using Bregman "
                                  "divergences")
    p_parameters = [t.detach().requires_grad_() for t in p._natural_params]
    with torch.enable_grad():
        log_normalizer = p._log_normalizer(*p_parameters)
        gradients = torch.autograd.grad(log_normalizer.sum(), p_parameters, create_graph=True)
    result = q._log_normalizer(*q._natural_params) - log_normalizer
    for a, b, g in zip(p_parameters, q._natural_params, gradients):
        result = result - _sum_rightmost((b - a) * g, len(q.event_shape))
    return result


@register_kl(Gamma, Gamma)
def _kl_gamma_gamma(p, q):
    return (q.concentration * (p.rate / q.rate).log() + torch.lgamma(q.concentration) - torch.lgamma(p.concentration)
            + (p.concentration - q.concentration) * torch.digamma(p.concentration)
            + (q.rate - p.rate) * (p.concentration / p.rate))


@register_kl(Gumbel, Gumbel)
def _kl_gumbel_gumbel(p, q):
    ratio, shift = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return -ratio.log() + shift + ratio * euler_constant + torch.exp(-shift + (1 + ratio).lgamma()) - (1 + euler_constant)


@register_kl(Geometric, Geometric)
def _kl_geometric_geometric(p, q):
    return -p.entropy() - torch.log1p(-q.probs) / p.probs - q.logits


@register_kl(HalfNormal, HalfNormal)
def _kl_halfnormal_halfnormal(p, q):
    return _kl_normal_normal(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _kl_laplace_laplace(p, q):
    ratio = p.scale / q.scale
    distance = (p.loc - q.loc).abs()
    return -ratio.log() + distance / q.scale + ratio * torch.exp(-distance / p.scale) - 1


@register_kl(Normal, Normal)
def _kl_normal_normal(p, q):
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(Pareto, Pareto)
def _kl_pareto_pareto(p, q):
    alpha = q.alpha / p.alpha
    divergence = q.alpha * (p.scale / q.scale).log() - alpha.log() + alpha - 1
    return torch.where(p.support.lower_bound < q.support.lower_bound, torch.inf, divergence)


@register_kl(Poisson, Poisson)
def _kl_poisson_poisson(p, q):
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _kl_uniform_uniform(p, q):
    divergence = ((q.high - q.low) / (p.high - p.low)).log()
    return torch.where((q.low > p.low) | (q.high < p.high), torch.inf, divergence)


@register_kl(Cauchy, Cauchy)
def _kl_cauchy_cauchy(p, q):
    """Chyzak and Nielsen 2019."""
    return ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log() - (4 * p.scale * q.scale).log()


@register_kl(TransformedDistribution, TransformedDistribution)
def _kl_transformed_transformed(p, q):
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("KL between transformed distributions is known where the transforms and the events are the same")
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _kl_independent_independent(p, q):
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("KL between Independents is known where reinterpreted_batch_ndims is the same; "
                                  f"received {p.reinterpreted_batch_ndims} and {q.reinterpreted_batch_ndims}")
    return _sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


# -- normal vectors ---------------------------------------------------------------------------------------------

def _kl_normal_vectors(p, q, log_det_ratio, trace, distance):
    """Half of log(det q / det p) + tr(q^-1 p) + the squared distance of the means - n."""
    if p.event_shape != q.event_shape:
        raise ValueError(f"KL-divergence between {type(p).__name__} and {type(q).__name__} with different event shapes cannot be computed: "
                         f"received {tuple(p.event_shape)} and {tuple(q.event_shape)}")
    return 0.5 * (log_det_ratio + trace + distance - p.event_shape[0])


def _log_det(d):
    """The logarithm of the covariance's determinant."""
    if isinstance(d, LowRankMultivariateNormal):
        return _batch_lowrank_logdet(d._unbroadcasted_cov_factor, d._unbroadcasted_cov_diag, d._capacitance_tril)
    return 2 * d._half_log_det()


def _in_units_of(q, matrix):
    """tr(q^-1 M M^T) for matrices M."""
    columns = matrix.mT
    if isinstance(q, LowRankMultivariateNormal):
        W, D = q._unbroadcasted_cov_factor.unsqueeze(-3), q._unbroadcasted_cov_diag.unsqueeze(-2)
        return _batch_lowrank_mahalanobis(W, D, columns, q._capacitance_tril.unsqueeze(-3)).sum(-1)
    return _trace_of_square(torch.linalg.solve_triangular(q._unbroadcasted_scale_tril, matrix, upper=False))


def _spread(p, q):
    """tr(q^-1 p) of the covariances."""
    if isinstance(p, LowRankMultivariateNormal):
        diagonal = torch.diag_embed(p._unbroadcasted_cov_diag.sqrt())
        return _in_units_of(q, p._unbroadcasted_cov_factor) + _in_units_of(q, diagonal)
    return _in_units_of(q, p._unbroadcasted_scale_tril)


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _kl_to_lowrank(p, q):
    distance = _batch_lowrank_mahalanobis(q._unbroadcasted_cov_factor, q._unbroadcasted_cov_diag, q.loc - p.loc, q._capacitance_tril)
    return _kl_normal_vectors(p, q, _log_det(q) - _log_det(p), _spread(p, q), distance)


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
@register_kl(MultivariateNormal, MultivariateNormal)
def _kl_to_multivariatenormal(p, q):
    distance = _batch_mahalanobis(q._unbroadcasted_scale_tril, q.loc - p.loc)
    return _kl_normal_vectors(p, q, _log_det(q) - _log_det(p), _spread(p, q), distance)


# -- different families: -H(p) - E_p[log q] ---------------------------------------------------------------------

@register_kl(Bernoulli, Poisson)
def _kl_bernoulli_poisson(p, q):
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Beta, ContinuousBernoulli)
def _kl_beta_continuous_bernoulli(p, q):
    return -p.entropy() - p.mean * q.logits - torch.log1p(-q.probs) - q._cont_bern_log_norm()


@register_kl(Beta, Exponential)
@register_kl(Gamma, Exponential)
@register_kl(ContinuousBernoulli, Exponential)
def _kl_positive_exponential(p, q):
    return -p.entropy() - q.rate.log() + q.rate * p.mean


@register_kl(Beta, Gamma)
def _kl_beta_gamma(p, q):
    mean_log = p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma()
    return (-p.entropy() + q.concentration.lgamma() - q.concentration * q.rate.log() - (q.concentration - 1) * mean_log
            + q.rate * p.mean)


def _against_normal(mean, variance, q):
    """-E[log q] for a normal q, by two moments."""
    return (0.5 * math.log(2 * math.pi) + q.scale.log()) + 0.5 * (variance + (mean - q.loc).pow(2)) / q.scale.pow(2)


@register_kl(Beta, Normal)
@register_kl(ContinuousBernoulli, Normal)
@register_kl(Exponential, Normal)
@register_kl(Gamma, Normal)
@register_kl(Gumbel, Normal)
@register_kl(Laplace, Normal)
@register_kl(Uniform, Normal)
def _kl_moments_normal(p, q):
    return -p.entropy() + _against_normal(p.mean, p.variance, q)


@register_kl(Pareto, Normal)
def _kl_pareto_normal(p, q):
    return torch.where(p.alpha <= 2, torch.inf, _kl_moments_normal(p, q))


def _unless_inside(p, q, divergence):
    """`divergence` where p's support, by its bounds, lies in that of a uniform q; else infinity."""
    return torch.where((q.high < p.support.upper_bound) | (q.low > p.support.lower_bound), torch.inf, divergence)


@register_kl(Beta, Uniform)
@register_kl(ContinuousBernoulli, Uniform)
def _kl_unit_uniform(p, q):
    return _unless_inside(p, q, -p.entropy() + (q.high - q.low).log())


@register_kl(ContinuousBernoulli, Pareto)
@register_kl(Beta, Pareto)
@register_kl(Exponential, Beta)
@register_kl(Exponential, ContinuousBernoulli)
@register_kl(Exponential, Pareto)
@register_kl(Exponential, Uniform)
def _kl_exponential_infinity(p, q):
    return _infinite_like(p._natural_params[0])


@register_kl(Exponential, Gamma)
def _kl_exponential_gamma(p, q):
    ratio = q.rate / p.rate
    return (-q.concentration * ratio.log() + ratio + q.concentration.lgamma() + q.concentration * euler_constant - (1 + euler_constant))


@register_kl(Exponential, Gumbel)
@register_kl(Gamma, Gumbel)
def _kl_gamma_gumbel(p, q):
    """E[exp(-x / scale)] is the Laplace transform of the gamma density."""
    concentration = getattr(p, "concentration", 1.0)
    transform = (concentration * -torch.log1p((p.rate * q.scale).reciprocal())).exp()
    return -p.entropy() + q.scale.log() - q.loc / q.scale + p.mean / q.scale + (q.loc / q.scale).exp() * transform


@register_kl(Gamma, Beta)
@register_kl(Gamma, ContinuousBernoulli)
@register_kl(Gamma, Pareto)
@register_kl(Gamma, Uniform)
def _kl_gamma_infinity(p, q):
    return _infinite_like(p.concentration)


@register_kl(Gumbel, Beta)
@register_kl(Gumbel, ContinuousBernoulli)
@register_kl(Gumbel, Exponential)
@register_kl(Gumbel, Gamma)
@register_kl(Gumbel, Pareto)
@register_kl(Gumbel, Uniform)
@register_kl(Laplace, Beta)
@register_kl(Laplace, ContinuousBernoulli)
@register_kl(Laplace, Exponential)
@register_kl(Laplace, Gamma)
@register_kl(Laplace, Pareto)
@register_kl(Laplace, Uniform)
@register_kl(Normal, Beta)
@register_kl(Normal, ContinuousBernoulli)
@register_kl(Normal, Exponential)
@register_kl(Normal, Gamma)
@register_kl(Normal, Pareto)
@register_kl(Normal, Uniform)
def _kl_real_infinity(p, q):
    return _infinite_like(p.loc)


@register_kl(Normal, Gumbel)
def _kl_normal_gumbel(p, q):
    shift = (p.loc - q.loc) / q.scale
    return -p.entropy() + q.scale.log() + shift + (0.5 * (p.scale / q.scale).pow(2) - shift).exp()


@register_kl(Normal, Laplace)
def _kl_normal_laplace(p, q):
    distance, ratio = p.loc - q.loc, (p.loc - q.loc) / p.scale
    mean_distance = (math.sqrt(2 / math.pi) * p.scale * torch.exp(-0.5 * ratio.pow(2))
                     + distance * torch.erf(math.sqrt(0.5) * ratio))
    return -p.entropy() + (2 * q.scale).log() + mean_distance / q.scale


@register_kl(Pareto, Beta)
@register_kl(Pareto, ContinuousBernoulli)
@register_kl(Pareto, Uniform)
def _kl_pareto_infinity(p, q):
    return _infinite_like(p.scale)


@register_kl(Pareto, Exponential)
def _kl_pareto_exponential(p, q):
    scale_rate = p.scale * q.rate
    divergence = (p.alpha / scale_rate).log() - p.alpha.reciprocal() + p.alpha * scale_rate / (p.alpha - 1) - 1
    return torch.where(p.alpha <= 1, torch.inf, divergence)


@register_kl(Pareto, Gamma)
def _kl_pareto_gamma(p, q):
    mean_log = p.scale.log() + p.alpha.reciprocal()
    divergence = (p.alpha.log() - p.scale.log() - p.alpha.reciprocal() - 1 + q.concentration.lgamma() - q.concentration * q.rate.log()
                  + (1 - q.concentration) * mean_log + q.rate * p.alpha * p.scale / (p.alpha - 1))
    return torch.where(p.alpha <= 1, torch.inf, divergence)


@register_kl(Poisson, Bernoulli)
@register_kl(Poisson, Binomial)
def _kl_poisson_infinity(p, q):
    return _infinite_like(p.rate)


@register_kl(Uniform, Beta)
def _kl_uniform_beta(p, q):
    width = p.high - p.low
    log_low = (q.concentration1 - 1) * (_x_log_x(p.high) - _x_log_x(p.low) - width) / width
    log_high = (q.concentration0 - 1) * (_x_log_x(1 - p.high) - _x_log_x(1 - p.low) + width) / width
    normalizer = q.concentration1.lgamma() + q.concentration0.lgamma() - (q.concentration1 + q.concentration0).lgamma()
    inside = (p.high <= q.support.upper_bound) & (p.low >= q.support.lower_bound)
    return torch.where(inside, -width.log() - log_low + log_high + normalizer, torch.inf)


@register_kl(Uniform, ContinuousBernoulli)
def _kl_uniform_continuous_bernoulli(p, q):
    divergence = -p.entropy() - p.mean * q.logits - torch.log1p(-q.probs) - q._cont_bern_log_norm()
    inside = (p.high <= q.support.upper_bound) & (p.low >= q.support.lower_bound)
    return torch.where(inside, divergence, torch.inf)


@register_kl(Uniform, Exponential)
def _kl_uniform_exponential(p, q):
    return torch.where(p.low < q.support.lower_bound, torch.inf, q.rate * p.mean - ((p.high - p.low) * q.rate).log())


@register_kl(Uniform, Gamma)
def _kl_uniform_gamma(p, q):
    width = p.high - p.low
    mean_log = (_x_log_x(p.high) - _x_log_x(p.low) - width) / width
    divergence = (-p.entropy() + q.concentration.lgamma() - q.concentration * q.rate.log() + (1 - q.concentration) * mean_log
                  + q.rate * p.mean)
    return torch.where(p.low < q.support.lower_bound, torch.inf, divergence)


@register_kl(Uniform, Gumbel)
def _kl_uniform_gumbel(p, q):
    width = p.high - p.low
    high, low = (p.high - q.loc) / q.scale, (p.low - q.loc) / q.scale
    mean_log = 0.5 * (high + low) - q.scale / width * (torch.exp(-high) - torch.exp(-low))
    return -width.log() + q.scale.log() + mean_log


@register_kl(Uniform, Pareto)
def _kl_uniform_pareto(p, q):
    width = p.high - p.low
    mean_log = (_x_log_x(p.high) - _x_log_x(p.low) - width) / width
    divergence = -width.log() - q.alpha.log() - q.alpha * q.scale.log() + (q.alpha + 1) * mean_log
    return torch.where(p.low < q.support.lower_bound, torch.inf, divergence)
