"""Rows of a table at integer indices."""

from __future__ import annotations

import math

from ...base import dtype as dt
from ...core.autograd import no_grad
from ...ops.derivative import titled
from ...ops.index import embedding as _embedding
from ...ops.pointwise import where
from ...ops.recall import recalled, warn
from ...ops.record import check_tensor, core, everywhere, whole, widened


def _limit_norms(weight, indices, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are about to be read to a norm of at most `max_norm`, in place."""
    with no_grad():
        rows = indices.reshape(-1)
        values = weight.index_select(0, rows)
        norms = values.norm(norm_type, 1, True)
        weight.index_copy_(0, rows, where(norms > max_norm, values * (max_norm / (norms + 1e-7)), values))


def _padding(padding_idx, rows: int) -> int:
    """The row that is not learned, counted from 0; -1 for none."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise AssertionError("Padding_idx must be within num_embeddings")
    return padding_idx % rows


@recalled
def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of `weight` at the indices `input`."""
    if input.dtype not in (dt.int64, dt.int32):
        raise RuntimeError(f"embedding: expected indices of dtype int64 or int32; received {input.dtype}. Convert them: input.long()")
    if weight.dim() != 2:
        raise RuntimeError(f"'weight' must be 2-D; received {weight.dim()}-D")
    if max_norm is not None:
        _limit_norms(weight, input, max_norm, norm_type)
    return _embedding(weight, input, _padding(padding_idx, weight.shape[0]), scale_grad_by_freq, sparse)


def _checked_classes(tensor, num_classes: int) -> int:
    """The number of classes, of which `tensor` holds indices."""
    values = everywhere(tensor)
    if values.min() < 0:
        raise RuntimeError("Class values must be non-negative.")
    largest = int(values.max())
    if num_classes == -1:
        return largest + 1
    if num_classes < 1:
        raise RuntimeError(f"num_classes should be positive; received {num_classes}")
    if largest >= num_classes:
        raise RuntimeError(f"Class values must be smaller than num_classes: {num_classes}; received {largest}")
    return num_classes


def one_hot(tensor, num_classes=-1):
    """int64 vectors with a single 1."""
    check_tensor("one_hot", "tensor", tensor, 1)
    num_classes = whole("one_hot", "num_classes", num_classes, 2)
    if tensor.dtype is not dt.int64:
        raise RuntimeError(f"one_hot is only applicable to index tensor of type LongTensor; received {tensor.dtype}")
    if not tensor.numel():
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor. Give num_classes.")
        return core.full((*tensor.shape, num_classes), 0, dt.int64)
    num_classes = _checked_classes(tensor, num_classes)
    return (tensor.unsqueeze(-1) == core.arange(num_classes)).long()


# -- bags -------------------------------------------------------------------------------------------------------

def _starts(input, offsets, include_last_offset: bool):
    """Where the bags of flat indices begin; None for indices (bags, n)."""
    if input.dim() == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length sequences. "
                             f"However, found offsets of type {type(offsets).__name__}")
        return None
    if input.dim() != 1:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.dim()}")
    if offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    if offsets.dim() != 1:
        raise ValueError("offsets has to be a 1D Tensor")
    starts = offsets[:-1] if include_last_offset else offsets
    if starts.numel() and int(starts[0]) != 0:
        raise RuntimeError(f"offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. However, got "
                           f"{int(starts[0])}")
    return starts


@recalled
@titled("EmbeddingBag")
def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, mode="mean", sparse=False,
                  per_sample_weights=None, include_last_offset=False, padding_idx=None):
    """The sum, mean or maximum of the rows of `weight` in each bag: indices (bags, n), or flat ones that begin at `offsets`.

    `per_sample_weights` (mode 'sum') scale the rows; indices equal to `padding_idx` do not count. An empty bag is zero.
    """
    if weight.dtype is dt.int64 and input.is_floating_point():
        warn("embedding_bag(weight, input) is deprecated: the order of arguments was changed. Use embedding_bag(input, weight).")
        input, weight = weight, input
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            f"embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' (got mode='{mode}')."
        )
    if per_sample_weights is not None and per_sample_weights.shape != input.shape:
        raise ValueError(f"embedding_bag: If per_sample_weights ({list(per_sample_weights.shape)}) is not None, then it must have the same "
                         f"shape as the input ({list(input.shape)})")
    starts = _starts(input, offsets, include_last_offset)
    if max_norm is not None:
        _limit_norms(weight, input.reshape(-1), max_norm, norm_type)
    padding = _padding(padding_idx, weight.shape[0])
    bag, inside = None, input != padding
    if starts is not None:
        n = input.shape[0]
        bag = core.full((n + 1,), 0, dt.int64).index_add(0, starts, core.full(starts.shape, 1, dt.int64)).cumsum(0)[:n] - 1
        if mode == "max":
            input, inside = _side_by_side(input, inside, starts, bag)
    rows = widened(_embedding(weight, input, padding, scale_grad_by_freq, sparse))
    if mode == "max":
        return _largest(rows, inside.unsqueeze(-1)).to(weight.dtype)
    if per_sample_weights is not None:
        rows = rows * widened(per_sample_weights).unsqueeze(-1)

    def added(x):
        return x.sum(1) if bag is None else core.full((starts.shape[0], x.shape[-1]), 0, x.dtype).index_add(0, bag, x)

    total = added(rows if padding_idx is None else where(inside.unsqueeze(-1), rows, 0.0))
    if mode == "mean":
        counted = bag is not None or padding_idx is not None
        total = total / (added(inside.unsqueeze(-1).to(rows.dtype)).clamp_min(1) if counted else max(1, input.shape[1]))
    return total.to(weight.dtype)


def _side_by_side(indices, inside, starts, bag):
    """Flat indices as (bags, length of the longest), and which of these are some."""
    place = core.arange(indices.shape[0]) - starts[bag]
    shape = (starts.shape[0], int(place.max()) + 1 if indices.shape[0] else 0)
    at = bag, place
    return core.full(shape, 0, indices.dtype).index_put(at, indices), core.full(shape, False, dt.bool_).index_put(at, inside)


def _largest(rows, inside):
    """Of rows (bags, n, width), those of which are `inside`; zero where there are none."""
    if not rows.shape[1]:
        return rows.sum(1)
    return where(inside.any(1), where(inside, rows, -math.inf).max(1)[0], 0.0)
