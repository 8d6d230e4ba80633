"""Dropout: elements or channels zeroed at random."""

from __future__ import annotations

from ...ops import random
from ...ops.pointwise import where


def _probability(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _drop(input, p, shape):
    if p == 1.0:
        return input * 0.0
    keep = random.mask(shape, 1.0 - p, like=input if shape == tuple(input.shape) else None)
    return input * (keep.to(input.dtype) * (1.0 / (1.0 - p)))


def dropout(input, p=0.5, training=True, inplace=False):
    """Zeroes elements with probability p and scales the others by 1 / (1 - p)."""
    _probability(p)
    if not training or p == 0.0:
        return input
    result = _drop(input, p, tuple(input.shape))
    return core.inplace(input, lambda _: result, ()) if inplace else result


def feature_dropout(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels."""
    _probability(p)
    if not training or p == 0.0:
        return input
    return _drop(input, p, tuple(input.shape[:2]) + (1,) * (input.dim() - 2))


dropout1d = dropout2d = dropout3d = feature_dropout


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps mean and variance under SELU."""
    _probability(p)
    if not training or p == 0.0:
        return input
    alpha = -1.7580993408473766
    a = ((1 - p) * (1 + p * alpha ** 2)) ** -0.5
    keep = random.mask(tuple(input.shape), 1.0 - p, like=input)
    return where(keep, input, alpha) * a - a * alpha * p
