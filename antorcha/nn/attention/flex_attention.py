"""Attention whose scores a function changes (`score_mod`) or leaves out (`mask_mod`), position by position. Dong et al., "Flex
Attention", 2024.

The functions are written for one score and its indices (batch, head, query, key), and mapped over all of them; what they compute is
fused with the rest. Blocks of a `BlockMask` say what is masked, not what is skipped: every score is computed.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypedDict

import antorcha as torch

from ...func import vmap

_DEFAULT_SPARSE_BLOCK_SIZE = 128


class AuxRequest(NamedTuple):
    """What `flex_attention` is to return besides the output: the logarithms of the sums of exponentials, the largest scores."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What an AuxRequest asked for, each (B, H, Q), or None."""

    lse: torch.Tensor | None = None
    max_scores: torch.Tensor | None = None


class FlexKernelOptions(TypedDict, total=False):
    """Options of PyTorch's GPU kernels: accepted, without effect."""

    num_warps: int
    num_stages: int
    BLOCK_M: int
    BLOCK_N: int
    PRESCALE_QK: bool
    ROWS_GUARANTEED_SAFE: bool
    BLOCKS_ARE_CONTIGUOUS: bool
    BACKEND: str


def noop_mask(batch, head, token_q, token_kv):
    """A mask_mod that leaves out nothing."""
    return batch.new_ones(size=(), dtype=torch.bool)


def and_masks(*mask_mods):
    """The mask_mod that keeps what all of these keep."""
    def kept(b, h, q, kv):
        result = b.new_ones((), dtype=torch.bool)
        for mod in mask_mods:
            result = result & mod(b, h, q, kv)
        return result
    return kept


def or_masks(*mask_mods):
    """The mask_mod that keeps what one of these keeps."""
    def kept(b, h, q, kv):
        result = b.new_zeros((), dtype=torch.bool)
        for mod in mask_mods:
            result = result | mod(b, h, q, kv)
        return result
    return kept


def _positions(sizes, device) -> list:
    return [torch.arange(n, device=device) for n in sizes]


def _over_indices(mod, scored: bool):
    """A function of one position, mapped over batch, head, query and key."""
    for dim in (3, 2, 1, 0):        # the innermost first
        dims = [0 if i == dim else None for i in range(4)]
        mod = vmap(mod, in_dims=(0, *dims) if scored else tuple(dims))
    return mod


def create_mask(mod_fn, B, H, Q_LEN, KV_LEN, device=None):
    """The mask (B, H, Q_LEN, KV_LEN) of a mask_mod, or of a score_mod (of zeros). B or H None: 1."""
    import inspect

    indices = _positions((B or 1, H or 1, Q_LEN, KV_LEN), device)
    count = len([p for p in inspect.signature(mod_fn).parameters.values() if p.default is p.empty])
    if count == 5:
        zeros = torch.zeros(B or 1, H or 1, Q_LEN, KV_LEN, device=device)
        return torch.where(torch.isneginf(_over_indices(mod_fn, True)(zeros, *indices)), False, True)
    return _over_indices(mod_fn, False)(*indices)


class BlockMask:
    """A mask told by blocks of queries and keys: empty ones, full ones, and ones where `mask_mod` says which positions are kept.

    kv_num_blocks (B, H, rows) and kv_indices (B, H, rows, columns): for each row of blocks how many columns are partly kept, and
    which; full_kv_*: the same for those kept as a whole. q_*: both with rows and columns changed.
    """

    def __init__(self, seq_lengths, kv_num_blocks, kv_indices, full_kv_num_blocks=None, full_kv_indices=None, q_num_blocks=None,
                 q_indices=None, full_q_num_blocks=None, full_q_indices=None, BLOCK_SIZE=(128, 128), mask_mod=noop_mask):
        if kv_indices.dim() < 2:
            raise RuntimeError("BlockMask must have at least 2 dimensions")
        if (full_kv_num_blocks is None) != (full_kv_indices is None):
            raise AssertionError("full_kv_num_blocks and full_kv_indices must be both provided or omitted")
        self.seq_lengths, self.BLOCK_SIZE, self.mask_mod = tuple(seq_lengths), tuple(BLOCK_SIZE), mask_mod
        self.kv_num_blocks, self.kv_indices = kv_num_blocks, kv_indices
        self.full_kv_num_blocks, self.full_kv_indices = full_kv_num_blocks, full_kv_indices
        self.q_num_blocks, self.q_indices = q_num_blocks, q_indices
        self.full_q_num_blocks, self.full_q_indices = full_q_num_blocks, full_q_indices

    @classmethod
    def from_kv_blocks(cls, kv_num_blocks, kv_indices, full_kv_num_blocks=None, full_kv_indices=None, BLOCK_SIZE=128, mask_mod=None,
                       seq_lengths=None, compute_q_blocks: bool = True):
        """A mask from its blocks; without `seq_lengths` the sequences are whole blocks."""
        size = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else tuple(BLOCK_SIZE)
        if seq_lengths is None:
            seq_lengths = (kv_indices.shape[-2] * size[0], kv_indices.shape[-1] * size[1])
        parts = [(kv_num_blocks, kv_indices)]
        if full_kv_num_blocks is not None:
            parts.append((full_kv_num_blocks, full_kv_indices))
        turned = [_listed(_spread(n, i).transpose(-2, -1)) if compute_q_blocks else (None, None) for n, i in parts]
        full = (full_kv_num_blocks, full_kv_indices)
        full_turned = turned[1] if len(turned) > 1 else (None, None)
        return cls(seq_lengths, kv_num_blocks, kv_indices, *full, *turned[0], *full_turned, size, mask_mod or noop_mask)

    _TENSORS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_num_blocks", "q_indices", "full_q_num_blocks",
                "full_q_indices")

    def as_tuple(self, flatten: bool = True) -> tuple:
        """All parts, in the order of the constructor."""
        tensors = tuple(getattr(self, name) for name in self._TENSORS)
        if flatten:
            return (*self.seq_lengths, *tensors, *self.BLOCK_SIZE, self.mask_mod)
        return (self.seq_lengths, *tensors, self.BLOCK_SIZE, self.mask_mod)

    @property
    def shape(self) -> tuple:
        return (*self.kv_indices.shape[:-2], *self.seq_lengths)

    def size(self, dim: int | None = None):
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """The number of scores."""
        return math.prod(self.shape)

    def sparsity(self) -> float:
        """How many percent of the blocks are empty."""
        return 100 * (1 - float(self.to_dense().float().mean()))

    def to_dense(self):
        """(B, H, rows, columns): 1 where a block is kept, in part or as a whole."""
        kept = _spread(self.kv_num_blocks, self.kv_indices)
        if self.full_kv_num_blocks is not None:
            kept = kept | _spread(self.full_kv_num_blocks, self.full_kv_indices)
        return kept.to(torch.int32)

    def to(self, device):
        """The mask on another device."""
        moved = [None if t is None else t.to(device) for t in (getattr(self, name) for name in self._TENSORS)]
        return BlockMask(self.seq_lengths, *moved, self.BLOCK_SIZE, self.mask_mod)

    def __getitem__(self, index):
        """The mask of some batches and heads, or of some rows of blocks; `mask_mod` stays as it is."""
        index = index if isinstance(index, tuple) else (index,)
        parts = [None if t is None else t[index] for t in (self.kv_num_blocks, self.kv_indices, self.full_kv_num_blocks,
                                                           self.full_kv_indices)]
        if len(index) == 3:
            lengths = (parts[0].shape[-1] * self.BLOCK_SIZE[0], self.seq_lengths[1])
        else:
            lengths = self.seq_lengths
        return BlockMask.from_kv_blocks(*parts, BLOCK_SIZE=self.BLOCK_SIZE, mask_mod=self.mask_mod, seq_lengths=lengths)

    def positions(self, device):
        """(B, H, Q, KV): which scores are kept."""
        q, kv = self.seq_lengths
        batch, heads = self.kv_num_blocks.shape[:2]

        def by_position(blocks):
            wide = blocks.repeat_interleave(self.BLOCK_SIZE[0], -2).repeat_interleave(self.BLOCK_SIZE[1], -1)
            return wide[..., :q, :kv]
        kept = by_position(_spread(self.kv_num_blocks, self.kv_indices)) & create_mask(self.mask_mod, batch, heads, q, kv, device)
        if self.full_kv_num_blocks is not None:
            kept = kept | by_position(_spread(self.full_kv_num_blocks, self.full_kv_indices))
        return kept

    def to_string(self, grid_size=(20, 20), limit: int = 4) -> str:
        """The blocks of the first batches and heads as text: an empty cell is masked."""
        dense = self.to_dense().reshape(-1, *self.to_dense().shape[-2:])
        pictures = []
        for blocks in dense[:limit].tolist():
            pictures.append("\n".join("".join("██" if x else "  " for x in row) for row in blocks))
        return "\n\n".join(pictures)

    def __repr__(self) -> str:
        return f"BlockMask(shape={self.shape}, sparsity={self.sparsity():.2f}%,\n{self.to_string()}\n)"


def _spread(counts, indices):
    """(.., rows, columns) of bool, from how many columns of each row are meant and which."""
    columns = indices.shape[-1]
    listed = torch.arange(columns, device=counts.device) < counts.unsqueeze(-1)
    spare = torch.zeros(*indices.shape[:-1], columns + 1, dtype=torch.bool, device=counts.device)
    return spare.scatter(-1, torch.where(listed, indices, columns).long(), True)[..., :columns]


def _listed(kept):
    """The opposite of `_spread`: (counts, indices), those that are meant first."""
    order = torch.argsort(kept.int(), dim=-1, descending=True, stable=True)
    return kept.sum(-1).to(torch.int32), order.to(torch.int32)


def create_block_mask(mask_mod, B, H, Q_LEN, KV_LEN, device=None, BLOCK_SIZE=_DEFAULT_SPARSE_BLOCK_SIZE, _compile=False,
                      separate_full_blocks: bool = True):
    """The BlockMask of a mask_mod(b, h, q_idx, kv_idx) -> bool. B or H None: the same for all batches or heads."""
    rows, columns = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else tuple(BLOCK_SIZE)
    mask = create_mask(mask_mod, B, H, Q_LEN, KV_LEN, device).expand(B or 1, H or 1, Q_LEN, KV_LEN)
    below, right = -Q_LEN % rows, -KV_LEN % columns
    padded = torch.nn.functional.pad(mask.int(), (0, right, 0, below))
    count = padded.unflatten(-1, (-1, columns)).unflatten(-3, (-1, rows)).sum((-3, -1))
    full = (count == rows * columns) if separate_full_blocks else torch.zeros_like(count, dtype=torch.bool)
    partial = (count > 0) & ~full
    return BlockMask.from_kv_blocks(*_listed(partial), *(_listed(full) if separate_full_blocks else (None, None)),
                                    BLOCK_SIZE=(rows, columns), mask_mod=mask_mod, seq_lengths=(Q_LEN, KV_LEN))


def flex_attention(query, key, value, score_mod=None, block_mask: BlockMask | None = None, scale: float | None = None,
                   enable_gqa: bool = False, return_lse: bool = False, kernel_options=None, *, return_aux: AuxRequest | None = None):
    """softmax(score_mod(q k^T * scale)) v with query (B, H, L, E), key (B, H, S, E), value (B, H, S, Ev).

    score_mod(score, b, h, q_idx, kv_idx) changes a score; `block_mask` says which are left out. A query without any key gets 0.
    enable_gqa: key and value may have fewer heads. Returns the output, with `return_lse` also log(sum(exp(scores))) (B, H, L), with
    `return_aux` also an AuxOutput.
    """
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dim() != 4:
            raise ValueError(f"flex_attention: expected {name} to be a 4D tensor; received {x.dim()} dimensions")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"flex_attention: expected query and key of one last dimension; received {query.shape[-1]} and {key.shape[-1]}")
    if not enable_gqa and query.shape[1] != key.shape[1]:
        raise ValueError(f"flex_attention: expected query and key/value to have the same num_heads; received {query.shape[1]} and "
                         f"{key.shape[1]}. Try setting enable_gqa=True for GQA.")
    if enable_gqa and query.shape[1] % key.shape[1]:
        raise ValueError(f"flex_attention: expected the number of query heads to be a multiple of the key heads; received "
                         f"{query.shape[1]} and {key.shape[1]}")
    d = query.dtype
    compute = torch.float32 if d in (torch.float16, torch.bfloat16) else d
    if enable_gqa:
        times = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    if key.shape[0] != query.shape[0]:
        key, value = (x.expand(query.shape[0], *x.shape[1:]) for x in (key, value))
    scores = (query.to(compute) @ key.to(compute).transpose(-2, -1)) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if score_mod is not None:
        scores = _over_indices(score_mod, True)(scores, *_positions(scores.shape, query.device)).to(compute)
    if block_mask is not None:
        length, keys = scores.shape[-2:]
        if block_mask.seq_lengths[0] < length or block_mask.seq_lengths[1] < keys:
            raise ValueError(f"block_mask was created for block_mask.shape={block_mask.shape} but got q_len={length} and kv_len={keys}. "
                             "As the block mask was created for a smaller length than you're using it for, you likely need to create a "
                             "new block mask.")
        scores = torch.where(block_mask.positions(query.device)[..., :length, :keys], scores, -math.inf)
    top = scores.detach().amax(-1, keepdim=True)
    shift = torch.where(torch.isneginf(top), 0.0, top)
    weights = (scores - shift).exp()
    total = weights.sum(-1, keepdim=True)
    out = ((weights / torch.where(total == 0, 1.0, total)) @ value.to(compute)).to(d)
    if not return_lse and return_aux is None:
        return out
    lse = (total.log() + shift).squeeze(-1)
    if return_lse:
        return out, lse
    return out, AuxOutput(lse if return_aux.lse else None, scores.amax(-1) if return_aux.max_scores else None)
