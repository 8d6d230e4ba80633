"""torch.nn.attention.bias: causal masks that need not be written out."""

from __future__ import annotations

import enum

import antorcha as torch

from ..functional import scaled_dot_product_attention

__all__ = ["CausalBias", "CausalVariant", "causal_lower_right", "causal_upper_left"]


class CausalVariant(enum.IntEnum):
    """Where the diagonal of a mask that is not square begins: at the first query and key, or at the last."""

    UPPER_LEFT = 1
    LOWER_RIGHT = 2


class CausalBias(torch.Tensor):
    """A mask for `attn_mask` of `scaled_dot_product_attention`: a query attends to the keys before its place.
    `materialize` writes it out."""

    def __new__(cls, variant: CausalVariant, seq_len_q: int, seq_len_kv: int):
        return torch.Tensor._make_subclass(cls, torch.empty(0))

    def __init__(self, variant: CausalVariant, seq_len_q: int, seq_len_kv: int):
        if not isinstance(variant, CausalVariant):
            raise AssertionError(f"CausalBias: expected a CausalVariant; received {variant!r}")
        self.variant, self.seq_len_q, self.seq_len_kv = variant, seq_len_q, seq_len_kv

    def materialize(self, device=None):
        """The mask (seq_len_q, seq_len_kv), True where a query may attend to a key."""
        shift = 0 if self.variant is CausalVariant.UPPER_LEFT else self.seq_len_kv - self.seq_len_q
        return torch.ones(self.seq_len_q, self.seq_len_kv, dtype=torch.bool, device=device).tril(shift)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return super().__torch_function__(func, types, args, kwargs)
        return cls._attend(*args, **(kwargs or {}))

    @staticmethod
    def _attend(query, key, value, attn_mask, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        if is_causal:
            raise ValueError("CausalBias should not be used with causal=True")
        plain = attn_mask.variant is CausalVariant.UPPER_LEFT or attn_mask.seq_len_q == attn_mask.seq_len_kv
        mask = None if plain else attn_mask.materialize(query.device)
        return scaled_dot_product_attention(query, key, value, mask, dropout_p, plain, scale, enable_gqa)

    def __repr__(self) -> str:
        return repr(self.materialize())


def causal_upper_left(*size) -> CausalBias:
    """The mask (queries, keys) whose diagonal begins at the first query and key."""
    return CausalBias(CausalVariant.UPPER_LEFT, *_pair(size))


def causal_lower_right(*size) -> CausalBias:
    """The mask (queries, keys) whose diagonal ends at the last query and key: new queries after keys that are kept."""
    return CausalBias(CausalVariant.LOWER_RIGHT, *_pair(size))


def _pair(size: tuple) -> tuple[int, int]:
    if len(size) != 2:
        raise AssertionError(f"expected a mask of 2 dimensions, (queries, keys); received {size}")
    return size
