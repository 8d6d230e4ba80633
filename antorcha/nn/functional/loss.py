"""Losses. Each is reduced to its mean or sum, or not at all; classes are integers, probabilities floating point numbers."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import partial

from ...base import dtype as dt
from ...base.errors import message
from ...ops.activation import logsigmoid
from ...ops.bounds import Interval, Range, require
from ...ops.contraction import linear
from ...ops.derivative import titled
from ...ops.index import pick, pick_one
from ...ops.pointwise import sigmoid, where
from ...ops.recall import recalled, warn, warn_once
from ...ops.record import Record, broadcast_shapes, core, everywhere, operator, widened
from ...ops.reduction import along, reduce
from .activation import log_softmax
from .distance import pairwise_distance

Tensor = "Tensor"
TINY = 1e-12     # added to squared lengths, so that a vector of zeros has a cosine


# -- reduction --------------------------------------------------------------------------------------------------

def reduction_name(size_average, reduce, reduction: str) -> str:
    """'none', 'mean' or 'sum' also from the older pair of options `size_average` and `reduce`."""
    if size_average is None and reduce is None:
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f"{reduction} is not a valid value for reduction: expected 'none', 'mean' or 'sum'")
        return reduction
    average, reduced = size_average is None or size_average, reduce is None or reduce
    name = "none" if not reduced else "mean" if average else "sum"
    warn(f"size_average and reduce args will be deprecated, please use reduction='{name}' instead.")
    return name


def _reduced(loss, reduction: str, size_average=None, reduce=None):
    reduction = reduction_name(size_average, reduce, reduction)
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    return loss


def _weighted_mean(loss, weight, reduction: str, size_average, reduce):
    """`weight * loss`, the mean of which is over the weights."""
    if weight is None:
        return _reduced(loss, reduction, size_average, reduce)
    if tuple(weight.shape) != tuple(loss.shape):
        raise ValueError(f"Weights and input must have the same size; received {list(weight.shape)} and {list(loss.shape)}")
    reduction = reduction_name(size_average, reduce, reduction)
    loss = loss * weight
    return loss.sum() / weight.sum() if reduction == "mean" else _reduced(loss, reduction)


def _same_size(input, target) -> None:
    if input.shape != target.shape:
        warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead to "
             "incorrect results due to broadcasting. Please ensure they have the same size.")


# -- distances between numbers ----------------------------------------------------------------------------------

@recalled(autocast="full")
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """(input - target)**2."""
    _same_size(input, target)
    if weight is None:
        return _squared_error(input, target, reduction_name(size_average, reduce, reduction))
    d = input - target
    return _weighted_mean(d * d, weight, reduction, size_average, reduce)


def _squared_error_slope(input, target, reduction):
    d = input - target
    return d * d.dtype.round(2 / max(d.numel(), 1) if reduction == "mean" else 2.0)


@operator(name="mse_loss", title="MseLoss", public=False, grad=dict(
    input=lambda g, input, target, reduction: _squared_error_slope(input, target, reduction) * g,
    target=lambda g, input, target, reduction: _squared_error_slope(target, input, reduction) * g),
          samples=(lambda t: [t(3, 4), t(3, 4), "mean"], lambda t: [t(...), t(...), "none"]))
def _squared_error(input: Tensor, target: Tensor, reduction):
    d = input - target
    return _reduced(d * d, reduction)


@recalled(autocast="full")
def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """|input - target|."""
    _same_size(input, target)
    return _weighted_mean((input - target).abs(), weight, reduction, size_average, reduce)


@recalled(autocast="full")
@titled("SmoothL1Loss")
def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """A square over beta below beta, a line above. Girshick, 2015."""
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta; received {beta}")
    if beta == 0:
        return l1_loss(input, target, size_average, reduce, reduction)
    _same_size(input, target)
    d = (input - target).abs()
    return _reduced(where(d < beta, 0.5 * d * d / beta, d - 0.5 * beta), reduction, size_average, reduce)


@recalled(autocast="full")
@titled("HuberLoss")
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """A square below delta, a line above. Huber, 1964."""
    if not isinstance(delta, (int, float)):
        raise TypeError(f"delta must be a float or int, got: {type(delta)}")
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta; received {delta}")
    _same_size(input, target)
    d = (input - target).abs()
    return _weighted_mean(where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)), weight, reduction, None, None)


# -- log-likelihoods of classes ---------------------------------------------------------------------------------

@operator(name="nll_pick", title="NllLoss", public=False, grad=dict(
    input=lambda g, input_shape, target, dim: where(
        along(input_shape[dim], dim, len(input_shape)) == target.unsqueeze(dim), g.unsqueeze(dim), 0.0)),
          samples=lambda t: [t(3, 4), t.integers(3, below=4), 1])
def _pick_class(input: Tensor, target, dim):
    return pick_one(input, dim, target)


def _check_classes(input, target, weight, ignore_index):
    """The dimension of the classes, and the classes in the shape of the others, if they fit log-probabilities and are in range."""
    rank = input.dim()
    if rank == 0:
        raise ValueError(f"nll_loss: Expected 1 or more dimensions (got {rank})")
    dim = 0 if rank == 1 else 1
    want = input.shape[:dim] + input.shape[dim + 1:]
    if rank == 1 and tuple(target.shape) == (1,):
        target = target.reshape(())
    if tuple(target.shape) != tuple(want):
        raise _misshapen(input, target, want)
    if target.dtype not in (dt.int64, dt.uint8):
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}: class indices are integers. Convert them: target.long()")
    if weight is not None and (weight.dim() != 1 or weight.shape[0] != input.shape[dim]):
        raise RuntimeError(f"weight tensor should be defined either for all {input.shape[dim]} classes or no classes but got weight tensor "
                           f"of shape: {list(weight.shape)}")
    if weight is not None and weight.dtype is not input.dtype:
        raise RuntimeError(f"expected scalar type {input.dtype} but found {weight.dtype}: weight must have the input's dtype")
    require(target.storage.node, Range(target._meta.view, 0, input.shape[dim], ignore_index, partial(_no_class, input.shape[dim])))
    return dim, target


def _misshapen(input, target, want) -> Exception:
    rank, count = input.dim(), target.shape[0] if target.dim() else 0
    kind, reason = RuntimeError, f"Expected target size {list(want)}, got {list(target.shape)}."
    if rank > 1 and count != input.shape[0]:
        kind, reason = ValueError, f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({count})."
    elif rank < 3 and target.dim() > 1:
        reason = "0D or 1D target tensor expected, multi-target not supported: probabilities of classes have the input's shape."
    elif rank == 1:
        kind, reason = ValueError, f"For 1D input, 1D target must have size 1, but got target size: {count}"
    return kind(message("nll_loss", f"target of shape {list(want)} for input {list(input.shape)}", f"{list(target.shape)}", reason))


def _no_class(classes: int, found: int) -> Exception:
    return IndexError(message("nll_loss", f"classes in [0, {classes})", str(found), f"Target {found} is out of bounds."))


def _of_classes_title(input, *arguments, **given) -> str:
    return "NllLoss2D" if input.dim() > 2 else "NllLoss"


@recalled(autocast="full")
@titled(_of_classes_title)
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """-input[target] for log-probabilities (N, C, ...) and classes (N, ...)."""
    reduction = reduction_name(size_average, reduce, reduction)
    dim, target = _check_classes(input, target, weight, ignore_index)
    return _of_classes(lambda target: -_pick_class(input, target, dim), input.dtype, target, weight, ignore_index, reduction)


def _of_classes(loss_of, dtype, target, weight, ignore_index, reduction):
    """The losses of the targets that are not ignored, weighted and reduced."""
    target = target.long()
    counted = target != ignore_index
    safe = where(counted, target, 0)
    loss = loss_of(safe)
    w = counted.to(dtype)
    if weight is not None:
        w = w * weight.index_select(0, safe.reshape(-1)).reshape(safe.shape)
    if reduction == "none":
        return loss * w if weight is not None else where(counted, loss, 0.0)
    total = (loss * w).sum() if weight is not None else where(counted, loss, 0.0).sum()
    return total / w.sum() if reduction == "mean" else _reduced(total, reduction)


@operator(name="log_sum", public=False, grad=dict(input=lambda g, input, top, dim, result: g * (input - top - result).exp()))
def _log_sum(input: Tensor, top, dim):
    """log(sum(exp(input - top))). Nothing is derived by `top`, the largest of the input: what is made of both does not depend on it."""
    return (input - top).exp().sum(dim, True).log()


@operator(name="class_loss", title="NllLoss", public=False, grad=dict(
    input=lambda g, input, target, top, log, dim: _class_loss_grad(g.unsqueeze(dim), input, target.unsqueeze(dim), top, log, dim)))
def _class_loss(input: Tensor, target, top, log, dim):
    """-log_softmax(input)[target], given the input's largest element and `_log_sum`, whose derivatives are taken in by that here."""
    return log.squeeze(dim) - (pick_one(input, dim, target) - top.squeeze(dim))


def _class_loss_grad(g, input, target, top, log, dim):
    chance = (input - top).exp() * (-log).exp()     # the exponentials are those of `_log_sum`
    return where(along(input.shape[dim], dim, input.dim()) == target, chance - 1, chance) * g


@titled(_of_classes_title)
def _cross_entropy_of_classes(input, target, weight, ignore_index, reduction):
    """Of logits nothing but the largest and a sum of exponentials is kept for the derivative."""
    d = input.dtype
    dim, target = _check_classes(input, target, weight, ignore_index)
    top = reduce("max", input, dim, True, d, d)
    log = _log_sum(input, top, dim)
    return _of_classes(lambda target: _class_loss(input, target, top, log, dim), d, target, weight, ignore_index, reduction)


def _class_weights(weight, rank: int, dim: int):
    return weight.reshape((-1,) + (1,) * (rank - 1 - dim))


@recalled(autocast="full")
def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    """The cross-entropy of logits (N, C, ...) with classes (N, ...) or class probabilities (N, C, ...)."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    reduction = reduction_name(size_average, reduce, reduction)
    dim = 0 if input.dim() == 1 else 1
    if target.shape == input.shape:
        return _soft_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing, dim)
    if not label_smoothing and input.numel() and input.is_floating_point() and input.dtype.compute is input.dtype:
        return _cross_entropy_of_classes(input, target, weight, ignore_index, reduction)
    logp = log_softmax(input, dim)
    picked = nll_loss(logp, target, weight, None, ignore_index, None, reduction)
    if not label_smoothing:
        return picked
    counted = target != ignore_index
    spread = -(logp if weight is None else logp * _class_weights(weight, input.dim(), dim)).sum(dim)
    spread = where(counted, spread, 0.0)
    if reduction == "mean":
        w = counted.to(input.dtype)
        if weight is not None:
            w = w * weight.index_select(0, where(counted, target, 0).reshape(-1)).reshape(target.shape)
        spread = spread.sum() / w.sum()
    else:
        spread = _reduced(spread, reduction)
    return (1 - label_smoothing) * picked + label_smoothing / input.shape[dim] * spread


def _soft_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing, dim):
    """`cross_entropy` with probabilities of all classes."""
    if not target.is_floating_point():
        raise RuntimeError(f"Expected floating point type for target with class probabilities, got {target.dtype}")
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    classes = input.shape[dim]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    terms = log_softmax(input, dim) * target
    loss = -(terms if weight is None else terms * _class_weights(weight, input.dim(), dim)).sum(dim)
    if reduction == "mean":
        return loss.sum() / max(input.numel() // max(classes, 1), 1) if input.numel() else loss.sum() / 0.0
    return _reduced(loss, reduction)


@dataclasses.dataclass(frozen=True)
class LinearCrossEntropyOptions:
    """How PyTorch is to divide the work of `linear_cross_entropy` into chunks of rows, and in which dtype to add them up."""

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: dt.dtype | None = None

    def __post_init__(self):
        if self.acc_policy not in ("auto", "accurate", "balanced", "compact"):
            raise ValueError(f"invalid acc_policy: expected 'auto', 'accurate', 'balanced' or 'compact'; received {self.acc_policy!r}")
        if self.chunking_method not in (None, "auto") and not re.fullmatch("aspect_ratio(:0*[1-9][0-9]*)?", self.chunking_method):
            raise ValueError("invalid chunking_method: expected None, 'auto', 'aspect_ratio' or 'aspect_ratio:N' with N > 0; received "
                             f"{self.chunking_method!r}")
        if self.batch_chunk_size is not None and not (isinstance(self.batch_chunk_size, int) and self.batch_chunk_size > 0):
            raise ValueError(f"batch_chunk_size must be positive int or None, got {self.batch_chunk_size!r}")
        if self.acc_dtype not in (None, dt.float16, dt.bfloat16, dt.float32, dt.float64):
            raise ValueError(f"acc_dtype must be a floating point dtype or None, got {self.acc_dtype!r}")


@recalled(autocast="parts")
def linear_cross_entropy(input, linear_weight, target, *, linear_bias=None, weight=None, reduction="mean", ignore_index=None,
                         label_smoothing=0.0, options=None):
    """`cross_entropy` of the logits input (N, in) times linear_weight (C, ..., in) with classes (N, ...).

    The product and the loss are recorded together and computed block by block, so `options` has nothing to choose.
    """
    features, classes = linear_weight.shape[-1], linear_weight.shape[0]
    if input.dim() not in (1, 2):
        raise RuntimeError(f"linear_cross_entropy: expected input with dimensionality 1 or 2, got {input.dim()}")
    if input.dim() == 1 and linear_weight.dim() > 2:
        raise RuntimeError(f"linear_cross_entropy: K-dimensional loss defined by linear_weight shape {list(linear_weight.shape)} requires "
                           f"batched input, [N, {features}], got unbatched input with shape {list(input.shape)}")
    if input.shape[-1] != features:
        raise RuntimeError("linear_cross_entropy: expected equal input and linear_weight last dimensions (in_features), got "
                           f"{input.shape[-1]} and {features}, respectively")
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError(f"linear_cross_entropy: expected weight shape to be {(classes,)}, got {tuple(weight.shape)}")
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"linear_cross_entropy: expected label_smoothing to be in range [0, 1], got {label_smoothing}")
    if ignore_index is not None and target.is_floating_point():
        raise RuntimeError("linear_cross_entropy: ignore_index is not supported for floating point target")
    if options is not None and linear_weight.dim() == 2 and input.dtype.compute is not input.dtype:     # as PyTorch's chunks
        loss = linear_cross_entropy(widened(input), widened(linear_weight), widened(target), linear_bias=widened(linear_bias),
                                    weight=widened(weight), reduction=reduction, ignore_index=ignore_index,
                                    label_smoothing=label_smoothing)
        return loss.to(input.dtype)
    shape = tuple(linear_weight.shape[:-1])
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    logits = linear(input, linear_weight.reshape(-1, features), bias).unflatten(-1, shape)
    return cross_entropy(logits, target, weight, None, -100 if ignore_index is None else ignore_index, None, reduction, label_smoothing)


# -- other log-likelihoods --------------------------------------------------------------------------------------

def _shared(grad, weight, reduction: str):
    """A derivative by elements of a weighted loss, as the reduction has it."""
    grad = grad if weight is None else grad * weight
    return grad / grad.numel() if reduction == "mean" else grad


@operator(wide="forward", name="binary_cross_entropy_terms", public=False)
def _bernoulli_terms(input, target):
    return -(target * input.log().clamp_min(-100) + (1 - target) * (1 - input).log().clamp_min(-100))


@operator(name="binary_cross_entropy", title="BinaryCrossEntropy", public=False, grad=dict(
    input=lambda g, input, target, weight, reduction: _shared(
        g * (input - target) / ((1 - input) * input).clamp_min(1e-12), weight, reduction),
    target=lambda g, input, weight, reduction: _shared(-(input / (1 - input)).log() * g, weight, reduction),
    weight=lambda g, input, target, reduction: _shared(g * _bernoulli_terms(input, target), None, reduction)),
          samples=lambda t: [t(3, 4), t(3, 4), t(3, 4), "mean"])
def _binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor, reduction):
    loss = _bernoulli_terms(input, target)
    # Of numbers that are still to be computed a kernel notes it: one outside leads to a place that a table of one zero does not have.
    outside = ((input >= 0) & (input <= 1)).logical_not().any().to(dt.int64)
    zero = pick(core.full((1,), 0, loss._meta.dtype, loss._meta.device), [outside], (), (("i", 0),), _PROBABILITIES)
    return _reduced(loss if weight is None else loss * weight, reduction) + zero


def _no_probability(found) -> Exception:
    return RuntimeError(message("binary_cross_entropy", "all elements of input to be probabilities, between 0 and 1", f"{found}",
                                "Take the sigmoid first, or give logits to binary_cross_entropy_with_logits. (all elements of input should "
                                "be between 0 and 1)"))


_PROBABILITIES = Record("binary_cross_entropy", "gather", late_error=RuntimeError, complaint=str(_no_probability("others")))


@recalled(autocast={"cpu": "full", "cuda": "refused"})
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """-(t log x + (1 - t) log(1 - x)), the logarithms at least -100. RuntimeError for x outside of [0, 1]: at once if they
    are in memory, else when the loss is computed."""
    if input.shape != target.shape:
        raise ValueError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. Please "
                         "ensure they have the same size.")
    if not input.is_floating_point():
        raise NotImplementedError(f'"binary_cross_entropy" not implemented for {input.dtype}: expected probabilities.')
    if target.dtype is not input.dtype:
        raise RuntimeError(message("binary_cross_entropy", f"target of the input's dtype, {input.dtype}", str(target.dtype),
                                   f"Convert it: target.to({input.dtype}). (Found dtype {target.dtype} but expected {input.dtype})"))
    require(input.storage.node, Interval(input._meta.view, 0, 1, _no_probability))
    return _binary_cross_entropy(input, target, weight, reduction_name(size_average, reduce, reduction))


@recalled(autocast="full")
def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    """Binary cross-entropy of sigmoid(input), computed without overflow."""
    if input.shape != target.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    if not target.is_floating_point():
        raise RuntimeError(message("binary_cross_entropy_with_logits", "target of a floating point dtype", str(target.dtype),
                                   f"Convert it: target.to({input.dtype}). (result type {input.dtype} can't be cast to {target.dtype})"))
    return _logits_loss(input, target, weight, pos_weight, reduction_name(size_average, reduce, reduction))


def _logits_entropy(input, target, pos_weight):
    """-(w t log s + (1 - t) log(1 - s)) with s = sigmoid(x): (1 - t) x - (1 + (w - 1) t) log s, of which nothing overflows."""
    log = logsigmoid(input)
    return (1 - target) * input - (log if pos_weight is None else ((pos_weight - 1) * target + 1) * log)


def _logits_entropy_slope(input, target, pos_weight):
    """The derivative of `_logits_entropy` by its input."""
    if pos_weight is None:
        return sigmoid(input) - target
    ones = pos_weight * target
    return (ones + 1 - target) * sigmoid(input) - ones


def _share(slope, g, weight, reduction):
    """The cotangent of what an element of a reduced loss has this slope by; divided last, when it is least likely to underflow."""
    share = slope * g if weight is None else slope * g * weight
    return share / share.numel() if reduction == "mean" else share


@operator(name="binary_cross_entropy_with_logits", title="BinaryCrossEntropyWithLogits", public=False, grad=dict(
    input=lambda g, input, target, weight, pos_weight, reduction:
        _share(_logits_entropy_slope(input, target, pos_weight), g, weight, reduction),
    target=lambda g, input, weight, pos_weight, reduction:
        _share(-input if pos_weight is None else (1 - pos_weight) * logsigmoid(input) - input, g, weight, reduction),
    weight=lambda g, input, target, pos_weight, reduction: _share(_logits_entropy(input, target, pos_weight), g, None, reduction),
    pos_weight=lambda g, input, target, weight, reduction: _share(-target * logsigmoid(input), g, weight, reduction)),
          samples=lambda t: [t(3, 4, low=-3, high=3), t(3, 4), t(3, 4), t(4), "sum"])
def _logits_loss(input: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, reduction):
    loss = _logits_entropy(input, target, pos_weight)
    return _reduced(loss if weight is None else loss * weight, reduction)


@recalled(autocast="full")
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """target * (log target - input), for log-probabilities `input`. 'batchmean' is the sum over the first dimension's size."""
    if reduction == "mean" and size_average is None and reduce is None:
        warn_once("kl_div: reduction='mean' divides by the number of elements; 'batchmean' divides by the number of samples, which is the "
                  "divergence's definition.")
    if log_target:
        loss = target.exp() * (target - input)
    else:
        loss = where(target == 0, 0.0, target * where(target == 0, 1.0, target).log()) - target * input
    if reduction == "batchmean" and size_average is None and reduce is None:
        return loss.sum() / input.shape[0] if input.dim() else loss.sum()
    return _reduced(loss, reduction, size_average, reduce)


@recalled(autocast="full")
def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    """The negative log-likelihood of Poisson counts, `full` with Stirling's approximation of log(target!)."""
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        safe = where(target > 1, target, 1.0)
        loss = loss + where(target > 1, safe * safe.log() - safe + 0.5 * (2 * math.pi * safe).log(), 0.0)
    return _reduced(loss, reduction, size_average, reduce)


@recalled(autocast="parts")
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """The negative log-likelihood of normal numbers with the given means and variances (at least `eps`)."""
    var = var if isinstance(var, core.Tensor) else core.full(tuple(input.shape), var, input.dtype)
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape:
            var = var.unsqueeze(-1)
        elif not (input.dim() == var.dim() and sum(a != b for a, b in zip(input.shape, var.shape)) <= 1
                  and all(b in (a, 1) for a, b in zip(input.shape, var.shape))):
            raise ValueError(
                f"var is of incorrect size: expected {list(input.shape)} or a size of 1 in one dimension; received {list(var.shape)}"
            )
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    if (everywhere(var) < 0).any():
        raise ValueError("var has negative entry/entries")
    at_least = var + (var.detach().clamp_min(eps) - var.detach())      # the gradient passes where var is raised, too
    loss = 0.5 * (at_least.log() + (input - target) ** 2 / at_least)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# -- margins ----------------------------------------------------------------------------------------------------

@recalled(autocast="full")
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """x where the target is 1, max(0, margin - x) where it is -1."""
    loss = where(target != 1, (margin - input).clamp_min(0), 0.0) + where(target != -1, input, 0.0)
    return _reduced(loss, reduction, size_average, reduce)


@recalled(autocast="full")
def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """max(0, -target * (x1 - x2) + margin)."""
    if not input1.dim() == input2.dim() == target.dim():
        raise RuntimeError(
            f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: {input1.shape}, input2: "
            f"{input2.shape}, target: {target.shape} "
        )
    return _reduced((-target * (input1 - input2) + margin).clamp_min(0), reduction, size_average, reduce)


@recalled(autocast="full")
@titled("SoftMarginLoss")
def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target * x))."""
    return _reduced((-target * input).exp().log1p(), reduction, size_average, reduce)


@recalled(autocast="full")
def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos for target 1, max(0, cos - margin) for -1; vectors along the last dimension."""
    if target.dim() not in (0, 1):
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if target.dim() == 1 and (input1.dim() != 2 or input2.dim() != 2):
        raise RuntimeError("1D target tensor expects 2D input tensors, but found inputs with sizes "
                           f"{list(input1.shape)} and {list(input2.shape)}.")
    if target.dim() == 0 and (input1.dim() != 1 or input2.dim() != 1):
        raise RuntimeError("0D target tensor expects 1D input tensors, but found inputs with sizes "
                           f"{list(input1.shape)} and {list(input2.shape)}.")
    dots, squares1, squares2 = ((a * b).sum(-1) for a, b in ((input1, input2), (input1, input1), (input2, input2)))
    c = dots / ((squares1 + TINY) * (squares2 + TINY)).sqrt()
    loss = where(target == 1, 1 - c, 0.0) + where(target == -1, (c - margin).clamp_min(0), 0.0)
    return _reduced(loss, reduction, size_average, reduce)


@recalled(autocast="full")
def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None,
                        reduction="mean"):
    """max(0, d(a, p) - d(a, n) + margin), d the p-norm of the difference. Balntas et al., 2016."""
    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=lambda x, y: pairwise_distance(x, y, p, eps), margin=margin, swap=swap,
        reduction=reduction_name(size_average, reduce, reduction))


def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
    """`triplet_margin_loss` with a distance of one's own. `swap`: the negative's distance is the smaller to anchor or positive."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    ranks = anchor.dim(), positive.dim(), negative.dim()
    if len(set(ranks)) > 1:
        raise RuntimeError("The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
                           f"anchor {ranks[0]}D, positive {ranks[1]}D, and negative {ranks[2]}D inputs")
    broadcast_shapes("triplet_margin_loss", tuple(anchor.shape), tuple(positive.shape), tuple(negative.shape))
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return _reduced((near - far + margin).clamp_min(0), reduction)


@recalled(autocast="full")
@titled("MultiMarginLoss")
def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """The mean over classes j != target of max(0, margin - x[target] + x[j])**p, for input (N, C) or (C)."""
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.dim() != 1:
        raise ValueError(f"weight must be one-dimensional, got {weight.dim()} dimensions.")
    reduction = reduction_name(size_average, reduce, reduction)
    if input.dim() not in (0, 1, 2) or input.dim() == 2 and input.shape[1] == 0 or input.dim() == 1 and not input.numel():
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}")
    single = input.dim() < 2
    rows = input.reshape(1, -1) if single else input
    classes = rows.shape[1]
    if target.dim() > 1 or target.numel() != rows.shape[0]:
        raise RuntimeError(f"inconsistent target size, expected {rows.shape[0]} but got {list(target.shape)}")
    if weight is not None and weight.numel() != classes:
        raise RuntimeError(f"inconsistent weight size, expected {classes} but got {list(weight.shape)}")
    index = target.reshape(-1, 1)
    slack = (margin - rows.gather(1, index) + rows).clamp_min(0)
    slack = slack if p == 1 else slack * slack
    if weight is not None:
        slack = slack * weight.index_select(0, index.reshape(-1)).unsqueeze(1)
    loss = where(along(classes, 1, 2) == index, 0.0, slack).sum(1) / classes
    return _reduced(loss.squeeze(0) if single and not target.dim() else loss, reduction)


@recalled(autocast="full")
@titled("MultilabelMarginLoss")
def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """The sum of max(0, 1 - x[y] + x[j]) over classes y in the target and j not in it, over C; for input (N, C) or (C).

    Each row of `target` lists classes up to its first negative number.
    """
    reduction = reduction_name(size_average, reduce, reduction)
    if input.dim() > 2 or not input.dim() == target.dim() and input.numel() != 1 or input.shape != target.shape and input.dim() == 2:
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    if input.dim() and input.shape[-1] == 0:
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}")
    rows, labels = (input, target) if input.dim() == 2 else (input.reshape(1, -1), target.reshape(1, -1))
    if rows.shape != labels.shape:
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    listed = (labels < 0).long().cumsum(1) == 0
    index = where(listed, labels, 0)
    wanted = core.full(tuple(rows.shape), 0, dt.int64).scatter_add(1, index, listed.long()) > 0
    slack = (1 - rows.gather(1, index).unsqueeze(2) + rows.unsqueeze(1)).clamp_min(0)
    loss = where(listed.unsqueeze(2) & ~wanted.unsqueeze(1), slack, 0.0).sum((1, 2)) / rows.shape[1]
    return _reduced(loss if input.dim() == 2 else loss.squeeze(0), reduction)


@recalled(autocast="parts")
def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Binary cross-entropy of logits (N, C), averaged over the classes."""
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    loss = loss if weight is None else loss * weight
    return _reduced(loss.sum(-1) / loss.shape[-1], reduction, size_average, reduce)
