"""Convolution and its transpose; folding windows."""

from __future__ import annotations

from ...ops.convolution import (  # noqa: F401
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
