"""Indexing within transforms."""

from __future__ import annotations

import contextlib


class TransformGetItemToIndex(contextlib.nullcontext):
    """Within it, `x[i]` with a tensor `i` of a `vmap` picks by index. It always does here, so nothing changes."""
