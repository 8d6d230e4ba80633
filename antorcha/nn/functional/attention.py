"""Attention."""

from __future__ import annotations

import math

from ...base import dtype as dt
from ...ops.contraction import batched_wide, linear
from ...ops.factory import tril_mask
from ...ops.padding import pad
from ...ops.pointwise import shown, where
from ...ops.recall import recalled, warn
from ...ops.record import core, operator, rounded, widened
from .activation import softmax
from .dropout import dropout

Tensor = "Tensor"


@recalled(autocast="lower")
def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(q k^T * scale + mask) v, 0 for queries from which the mask hides all keys. Vaswani et al., 2017.

    16-bit floats are multiplied as such where PyTorch does (of four dimensions, without dropout or a derivative by the mask); elsewhere
    everything is in float32, rounded once.
    """
    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: expected attn_mask=None with is_causal=True; received both. "
                           "Explicit attn_mask should not be set when is_causal=True")
    if attn_mask is None:
        return _attention(query, key, value, None, dropout_p, is_causal, scale)
    attn_mask, blind = _opened(attn_mask)
    return where(blind, 0.0, _attention(query, key, value, attn_mask, dropout_p, False, scale))


def _opened(mask) -> tuple:
    """(the mask without effect on queries from which it hides all keys, which these are)."""
    if mask.dtype is dt.bool_:
        blind = ~mask.any(-1, True)
        return mask | blind, blind
    blind = (mask == -math.inf).all(-1, True)
    return where(blind, 0.0, mask), blind


def _attention(query, key, value, mask, dropout_p: float, is_causal: bool, scale: float):
    if not dropout_p and not (mask is not None and mask.requires_grad) and _in_batches_alike(query, key, value):
        return _flash_attention(query, key, value, mask, is_causal, scale)[0]
    d, root = query.dtype, math.sqrt(abs(scale))
    query, key, value = widened(query), widened(key), widened(value)
    scores = _masked((query * math.copysign(root, scale)) @ (key * root).transpose(-2, -1), mask, is_causal)
    return rounded(dropout(softmax(scores, -1), dropout_p) @ value, d)


def _masked(scores, mask, is_causal: bool):
    if is_causal:
        return shown(scores, tril_mask(*scores.shape[-2:]))
    if mask is None:
        return scores
    return shown(scores, mask) if mask.dtype is dt.bool_ else scores + mask


def _in_batches_alike(*tensors) -> bool:
    first = tensors[0].shape
    return all(x.dim() == 4 and x.shape[:2] == first[:2] and x.shape[-1] == first[-1] and x.numel() for x in tensors)


@operator(name="flash_attention", title="ScaledDotProductFlashAttentionForCpu", public=False, partial=True, grad={
    ("query", "key", "value"): lambda g, query, key, value, scale, result: _attention_grad(g, query, key, value, scale, *result)})
def _flash_attention(query: Tensor, key: Tensor, value: Tensor, mask, is_causal, scale):
    """(attention, exponentials of the scores, their factor in the weights). Products of 16-bit floats are summed in float32; the
    exponentials are rounded for theirs before they are divided by their sum. Dao et al., "FlashAttention", 2022: they keep the logarithm of
    the sum, which takes a logarithm and an exponential for each query and rounds more than the sum's reciprocal.
    """
    d = query.dtype
    scores = _masked(batched_wide(query, key.transpose(-2, -1), d) * scale, mask, is_causal)
    largest = scores.amax(-1, True)
    exponentials = (scores - largest).exp()
    factor = exponentials.sum(-1, True).reciprocal()
    return rounded(batched_wide(exponentials, value, d) * factor, d), exponentials, factor


def _attention_grad(g, query, key, value, scale: float, mixed, exponentials, factor):
    """The mean of the cotangents of the weights, which softmax's derivative takes off, is that of the result (section 3.1 there)."""
    d, weights = query.dtype, exponentials * factor
    by_mixed, by_exponentials, by_factor = g
    by_mixed = mixed * 0 if by_mixed is None else by_mixed
    mean = (widened(by_mixed) * widened(mixed)).sum(-1, True)
    by_scores = weights * (batched_wide(by_mixed, value.transpose(-2, -1), d) - mean)
    if by_exponentials is not None:     # the derivative of the derivative
        by_scores = by_scores + exponentials * by_exponentials - weights * (by_factor * factor)
    return (rounded(batched_wide(by_scores, key, d) * scale, d),
            rounded(batched_wide(by_scores.transpose(-2, -1), query, d) * scale, d),
            rounded(batched_wide(weights.transpose(-2, -1), by_mixed, d), d))


# -- several heads ----------------------------------------------------------------------------------------------

def float_mask(mask, name: str, target, other=None, other_name: str = ""):
    """A mask to add to scores of dtype `target`, from a bool one (True: may not be attended to) or a floating point one."""
    if mask is None:
        return None
    if mask.dtype is not dt.bool_ and not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported; received {mask.dtype}")
    if other is not None and other.dtype is not mask.dtype:
        warn(f"Support for mismatched {name} and {other_name} is deprecated. Use same type for both instead.")
    if mask.dtype is not dt.bool_:
        return mask
    return where(mask, core.full((), -math.inf, target), core.full((), 0.0, target))


def _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads: int) -> bool:
    """Whether there is a batch."""
    rank = query.dim()
    if rank not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {rank}-D query tensor")
    kind = "batched (3-D)" if rank == 3 else "unbatched (2-D)"
    if key.dim() != rank or value.dim() != rank:
        raise AssertionError(f"For {kind} `query`, expected `key` and `value` to be {rank}-D but found {key.dim()}-D and {value.dim()}-D "
                             "tensors respectively")
    if key_padding_mask is not None and key_padding_mask.dim() != rank - 1:
        raise AssertionError(f"For {kind} `query`, expected `key_padding_mask` to be `None` or {rank - 1}-D but found "
                             f"{key_padding_mask.dim()}-D tensor instead")
    if attn_mask is not None and attn_mask.dim() not in (2, 3):
        raise AssertionError(
            f"For {kind} `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.dim()}-D tensor instead"
        )
    if rank == 2 and attn_mask is not None and attn_mask.dim() == 3 and tuple(attn_mask.shape) != (
            num_heads, query.shape[0], key.shape[0]):
        raise AssertionError(
            f"Expected `attn_mask` shape to be {(num_heads, query.shape[0], key.shape[0])} but got {tuple(attn_mask.shape)}"
        )
    return rank == 3


def _projected(query, key, value, weights, bias):
    """q, k, v by one matrix for all three (`weights` a tensor) or by three."""
    e = query.shape[-1]
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    if isinstance(weights, tuple):
        return tuple(linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
    if query is key and key is value:
        return linear(query, weights, bias).split(e, -1)
    return tuple(linear(x, w, b) for x, w, b in zip((query, key, value), weights.split(e, 0), biases))


def _merged(attn_mask, key_padding_mask, batch: int, heads: int):
    """One mask that broadcasts to (N, heads, L, S), or None."""
    if attn_mask is not None:
        attn_mask = attn_mask if attn_mask.dim() == 2 else attn_mask.unflatten(0, (batch, heads))
    if key_padding_mask is None:
        return attn_mask
    keys = key_padding_mask.reshape(batch, 1, 1, -1)
    return keys if attn_mask is None else attn_mask + keys


@recalled(autocast="parts")
def multi_head_attention_forward(
        query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn, dropout_p,
        out_proj_weight, out_proj_bias, training=True, key_padding_mask=None, need_weights=True, attn_mask=None,
        use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None, static_k=None, static_v=None,
        average_attn_weights=True, is_causal=False):
    """`nn.MultiheadAttention` as a function: query (L, N, E), key (S, N, E), value (S, N, E), each without N if there is no batch.

    Returns the output like the query, and with `need_weights` the attention weights (N, L, S), or (N, heads, L, S) if not averaged.
    `is_causal` says that `attn_mask` hides what comes later; where neither weights nor padded keys are asked for, it is not looked at then.
    """
    batched = _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    same = query is key and key is value
    if not batched:
        query = query.unsqueeze(1)
        key, value = (query, query) if same else (key.unsqueeze(1), value.unsqueeze(1))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, e = query.shape
    _check_sizes(e, embed_dim_to_check, num_heads, key, value, use_separate_proj_weight)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None        # the hint is believed: keys added below lie behind the diagonal then
    else:
        is_causal = False
    key_padding_mask = float_mask(key_padding_mask, "key_padding_mask", query.dtype, attn_mask, "attn_mask")
    attn_mask = float_mask(attn_mask, "attn_mask", query.dtype)
    weights = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight
    q, k, v = _projected(query, key, value, weights, in_proj_bias)
    _check_masks(attn_mask, key_padding_mask, length, key.shape[0], batch, num_heads)

    added = 0       # rows of keys that no input made
    if bias_k is not None and bias_v is not None:
        k, v = core.cat([k, bias_k.expand(1, batch, e)], 0), core.cat([v, bias_v.expand(1, batch, e)], 0)
        added += 1
    q, k, v = (x.unflatten(2, (num_heads, -1)).permute(1, 2, 0, 3) for x in (q, k, v))
    k = k if static_k is None else static_k.unflatten(0, (batch, num_heads))
    v = v if static_v is None else static_v.unflatten(0, (batch, num_heads))
    if add_zero_attn:
        k, v = pad(k, (0, 0, 0, 1)), pad(v, (0, 0, 0, 1))
        added += 1
    if added:
        attn_mask = None if attn_mask is None else pad(attn_mask, (0, added))
        key_padding_mask = None if key_padding_mask is None else pad(key_padding_mask, (0, added))

    mask = _merged(attn_mask, key_padding_mask, batch, num_heads)
    dropout_p = dropout_p if training else 0.0
    if need_weights:
        scores = (q * math.sqrt(1.0 / q.shape[-1])) @ k.transpose(-2, -1)
        attention = dropout(softmax(scores if mask is None else scores + mask, -1), dropout_p)
        out = attention @ v
        attention = attention.mean(1) if average_attn_weights else attention
        attention = attention if batched else attention.squeeze(0)
    else:
        out, attention = scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal), None
    out = linear(out.permute(2, 0, 1, 3).reshape(length, batch, e), out_proj_weight, out_proj_bias)
    return (out if batched else out.squeeze(1)), attention


def _check_sizes(e: int, expected: int, heads: int, key, value, separate: bool) -> None:
    if e != expected:
        raise AssertionError(f"was expecting embedding dimension of {expected}, but got {e}")
    if e % heads:
        raise AssertionError(f"embed_dim {e} not divisible by num_heads {heads}")
    if separate and key.shape[:2] != value.shape[:2]:
        raise AssertionError(f"key's sequence and batch dims {tuple(key.shape[:2])} do not match value's {tuple(value.shape[:2])}")
    if not separate and key.shape != value.shape:
        raise AssertionError(f"key shape {tuple(key.shape)} does not match value shape {tuple(value.shape)}")


def _check_masks(attn_mask, key_padding_mask, length: int, keys: int, batch: int, heads: int) -> None:
    if attn_mask is not None:
        want = (length, keys) if attn_mask.dim() == 2 else (batch * heads, length, keys)
        if tuple(attn_mask.shape) != want:
            raise RuntimeError(f"The shape of the {attn_mask.dim()}D attn_mask is {tuple(attn_mask.shape)}, but should be {want}.")
    if key_padding_mask is not None and tuple(key_padding_mask.shape) != (batch, keys):
        raise AssertionError(f"expecting key_padding_mask shape of {(batch, keys)}, but got {tuple(key_padding_mask.shape)}")
