"""Losses."""

from __future__ import annotations

import math
import warnings

from ...base import dtype as dt
from ...base.errors import message
from ...ops.pointwise import logsigmoid, where
from ...ops.record import core, operator
from ...ops.reduction import along
from .activation import log_softmax
from .distance import cosine_similarity, pairwise_distance

Tensor = "Tensor"


def _reduced(loss, reduction: str):
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction != "none":
        raise ValueError(f"{reduction} is not a valid value for reduction: expected 'none', 'mean' or 'sum'")
    return loss


def _same_size(input, target) -> None:
    if input.shape != target.shape:
        warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead to "
                      "incorrect results due to broadcasting. Please ensure they have the same size.", stacklevel=3)


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """(input - target)**2."""
    _same_size(input, target)
    d = input - target
    return _reduced(d * d if weight is None else weight * d * d, reduction)


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """|input - target|."""
    _same_size(input, target)
    return _reduced((input - target).abs(), reduction)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Squared below beta, linear above."""
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    d = (input - target).abs()
    return _reduced(where(d < beta, 0.5 * d * d / beta, d - 0.5 * beta), reduction)


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Squared below delta, linear above. Huber, 1964."""
    d = (input - target).abs()
    return _reduced(where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)), reduction)


@operator(name="nll_pick", title="NllLoss", public=False, grad=dict(
    input=lambda g, input_shape, target, dim: where(
        along(input_shape[dim], dim, len(input_shape)) == target.unsqueeze(dim), g.unsqueeze(dim), 0.0)))
def _pick_class(input: Tensor, target, dim):
    return input.gather(dim, target.unsqueeze(dim)).squeeze(dim)


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """-input[target] for log-probabilities (N, C, ...) and classes (N, ...)."""
    rank = input.dim()
    if rank == 0:
        raise ValueError(f"Expected 1 or more dimensions (got {rank})")
    dim = 0 if rank == 1 else 1
    want = input.shape[:dim] + input.shape[dim + 1:]
    if tuple(target.shape) != tuple(want):
        raise ValueError(message("nll_loss", f"target of shape {list(want)} for input {list(input.shape)}", f"{list(target.shape)}",
                                 f"Expected input batch_size ({input.shape[0]}) to match target batch_size "
                                 f"({target.shape[0] if target.dim() else 1})."))
    if target.dtype not in (dt.int64, dt.int32, dt.uint8):
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}: class indices are integers. Convert them: target.long()")
    target = target.long()
    counted = target != ignore_index
    safe = where(counted, target, 0)
    loss = -_pick_class(input, safe, dim)
    w = counted.to(input.dtype)
    if weight is not None:
        w = w * weight.index_select(0, safe.reshape(-1)).reshape(safe.shape)
    if reduction == "none":
        return loss * w if weight is not None else where(counted, loss, 0.0)
    total = (loss * w).sum() if weight is not None else where(counted, loss, 0.0).sum()
    return total / w.sum() if reduction == "mean" else _reduced(total, reduction)


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    """The cross-entropy of logits (N, C, ...) with classes (N, ...) or class probabilities (N, C, ...)."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    dim = 0 if input.dim() == 1 else 1
    logp = log_softmax(input, dim)
    classes = input.shape[dim]
    if target.is_floating_point():
        if target.shape != input.shape:
            raise RuntimeError(f"cross_entropy: expected probabilities of the input's shape {list(input.shape)}; received {list(target.shape)}")
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / classes
        loss = -(logp * target if weight is None else logp * target * weight.reshape((-1,) + (1,) * (input.dim() - 1 - dim))).sum(dim)
        if reduction == "mean":
            return loss.sum() / (input.numel() // classes)
        return _reduced(loss, reduction)
    picked = nll_loss(logp, target, weight, None, ignore_index, None, reduction)
    if not label_smoothing:
        return picked
    counted = target != ignore_index
    spread = -(logp if weight is None else logp * weight.reshape((-1,) + (1,) * (input.dim() - 1 - dim))).sum(dim)
    spread = where(counted, spread, 0.0)
    if reduction == "mean":
        w = counted.to(input.dtype)
        if weight is not None:
            w = w * weight.index_select(0, where(counted, target, 0).reshape(-1)).reshape(target.shape)
        spread = spread.sum() / w.sum()
    else:
        spread = _reduced(spread, reduction)
    return (1 - label_smoothing) * picked + label_smoothing / classes * spread


def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """-(t log x + (1 - t) log(1 - x)), the logarithms at least -100."""
    if input.shape != target.shape:
        raise ValueError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. Please ensure "
                         "they have the same size.")
    loss = -(target * input.log().clamp_min(-100) + (1 - target) * (1 - input).log().clamp_min(-100))
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    """Binary cross-entropy of sigmoid(input), computed without overflow."""
    if input.shape != target.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    if pos_weight is None:
        loss = (1 - target) * input - logsigmoid(input)
    else:
        loss = (1 - target) * input - ((pos_weight - 1) * target + 1) * logsigmoid(input)
    return _reduced(loss if weight is None else loss * weight, reduction)


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """target * (log target - input), for log-probabilities `input`."""
    if log_target:
        loss = target.exp() * (target - input)
    else:
        loss = where(target > 0, target * (where(target > 0, target, 1.0).log() - input), 0.0)
    return loss.sum() / input.shape[0] if reduction == "batchmean" else _reduced(loss, reduction)


def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    """The negative log-likelihood of Poisson counts."""
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + where(target > 1, stirling, 0.0)
    return _reduced(loss, reduction)


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """The negative log-likelihood of normal numbers with the given means and variances."""
    var = var if isinstance(var, core.Tensor) else core.full(tuple(input.shape), var, input.dtype)
    v = where(var < eps, eps, var)
    loss = 0.5 * (v.log() + (input - target) ** 2 / v)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """x where the target is 1, max(0, margin - x) where it is -1."""
    return _reduced(where(target == 1, input, 0.0) + where(target == -1, (margin - input).clamp_min(0), 0.0), reduction)


def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """max(0, -target * (x1 - x2) + margin)."""
    return _reduced((-target * (input1 - input2) + margin).clamp_min(0), reduction)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target * x))."""
    return _reduced((-target * input).exp().log1p(), reduction)


def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos for target 1, max(0, cos - margin) for -1."""
    c = cosine_similarity(input1, input2, -1)
    return _reduced(where(target == 1, 1 - c, (c - margin).clamp_min(0)), reduction)


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"):
    """max(0, d(a, p) - d(a, n) + margin)."""
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = far.minimum(pairwise_distance(positive, negative, p, eps))
    return _reduced((near - far + margin).clamp_min(0), reduction)
