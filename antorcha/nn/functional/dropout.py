"""Dropout: elements or channels zeroed at random."""

from __future__ import annotations

from ...ops import random
from ...ops.pointwise import where
from ...ops.recall import recalled, warn
from ...ops.record import check_tensor, core


def _probability(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _or_inplace(input, result, inplace: bool):
    return core.inplace(input, lambda _: result, ()) if inplace else result


def _dropped(drop, shape, input, p, training, inplace):
    """`drop` with a mask of shape(input), unless nothing is dropped."""
    _probability(p)
    check_tensor("dropout", "input", input, 1)
    if not training or p == 0.0 or not input.numel():
        return input
    return _or_inplace(input, drop(input, p, shape(input)), inplace)


def _elements(input) -> tuple:
    return tuple(input.shape)


def _drop(input, p, shape):
    if p == 1.0:
        return input * 0.0
    keep = random.mask(shape, 1.0 - p, like=input if shape == tuple(input.shape) else None)
    return input * (keep.to(input.dtype) * (1.0 / (1.0 - p)))


def _channels(input) -> tuple:
    """The shape of a mask that is one number for each channel of (N, C, ...)."""
    if input.dim() < 2:
        raise RuntimeError(f"Feature dropout requires at least 2 dimensions in the input; received {list(input.shape)}")
    return tuple(input.shape[:2]) + (1,) * (input.dim() - 2)


@recalled
def dropout(input, p=0.5, training=True, inplace=False):
    """Zeroes elements with probability p and scales the others by 1 / (1 - p)."""
    return _dropped(_drop, _elements, input, p, training, inplace)


@recalled
def feature_dropout(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels of (N, C, ...)."""
    return _dropped(_drop, _channels, input, p, training, inplace)


def _without_batch(input, p, training, inplace):
    """`feature_dropout` of (C, ...)."""
    dropped = feature_dropout(input.unsqueeze(0), p, training).squeeze(0)
    return _or_inplace(input, dropped, inplace)


@recalled
def dropout1d(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels of (N, C, L) or (C, L)."""
    _probability(p)
    if input.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. Note that dropout1d exists to provide "
            "channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional batch dimension."
        )
    return (feature_dropout if input.dim() == 3 else _without_batch)(input, p, training, inplace)


@recalled
def dropout2d(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels of (N, C, H, W); of (N, C, L), too, with a warning where it is another rank."""
    _probability(p)
    if input.dim() not in (3, 4):
        warn(
            f"dropout2d: Received a {input.dim()}-D input to dropout2d, which is deprecated and will result in an error in a future "
            "release. Consider using dropout instead."
        )
    return feature_dropout(input, p, training, inplace)


@recalled
def dropout3d(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    _probability(p)
    if input.dim() not in (4, 5):
        warn(
            f"dropout3d: Received a {input.dim()}-D input to dropout3d, which is deprecated and will result in an error in a future "
            "release. Consider using dropout instead."
        )
    return (feature_dropout if input.dim() != 4 else _without_batch)(input, p, training, inplace)


def _alpha_drop(input, p, shape):
    """Zeros replaced by SELU's limit, then scaled and moved so that mean and variance are kept."""
    if p == 1.0:
        return input * 0.0
    limit = -1.7580993408473766
    a = ((1 - p) * (1 + p * limit ** 2)) ** -0.5
    keep = random.mask(shape, 1.0 - p, like=input if shape == tuple(input.shape) else None)
    return where(keep, input * a, limit * a) - a * limit * p


@recalled
def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps mean and variance under SELU. Klambauer et al., 2017."""
    return _dropped(_alpha_drop, _elements, input, p, training, inplace)


@recalled
def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """`alpha_dropout` of whole channels of (N, C, ...)."""
    return _dropped(_alpha_drop, _channels, input, p, training, inplace)
