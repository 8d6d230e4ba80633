"""Attention."""

from __future__ import annotations

import math

from ...base import dtype as dt
from ...ops.factory import tril_mask
from ...ops.pointwise import where
from .activation import softmax
from .dropout import dropout


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(q k^T * scale + mask) v. Vaswani et al., 2017."""
    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query @ key.transpose(-2, -1)) * scale
    if is_causal:
        if attn_mask is not None:
            raise RuntimeError("scaled_dot_product_attention: expected attn_mask=None with is_causal=True; received both. "
                               "Explicit attn_mask should not be set when is_causal=True")
        scores = where(tril_mask(*scores.shape[-2:]), scores, -math.inf)
    if attn_mask is not None:
        scores = where(attn_mask, scores, -math.inf) if attn_mask.dtype is dt.bool_ else scores + attn_mask
    return dropout(softmax(scores, -1), dropout_p) @ value
