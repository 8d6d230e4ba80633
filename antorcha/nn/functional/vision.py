"""Images: interpolation, sampling at a grid, windows as columns, channels as places."""

from __future__ import annotations

from ...ops.folding import (  # noqa: F401
    channel_shuffle,
    fold,
    native_channel_shuffle,
    pixel_shuffle,
    pixel_unshuffle,
    unfold,
)
from ...ops.sampling import (  # noqa: F401
    affine_grid,
    grid_sample,
    interpolate,
    upsample,
    upsample_bilinear,
    upsample_nearest,
)
