"""Rows of a table at integer indices."""

from __future__ import annotations

from ...core.autograd import no_grad
from ...ops.index import embedding as _embedding
from ...ops.pointwise import where
from ...ops.record import core


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of `weight` at the indices `input`."""
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    if max_norm is not None:
        with no_grad():
            rows = input.reshape(-1)
            values = weight.index_select(0, rows)
            norms = values.norm(norm_type, 1, True)
            weight.index_copy_(0, rows, where(norms > max_norm, values * (max_norm / (norms + 1e-7)), values))
    return _embedding(weight, input, -1 if padding_idx is None else padding_idx, scale_grad_by_freq, sparse)


def one_hot(tensor, num_classes=-1):
    """int64 vectors with a single 1."""
    if num_classes == -1:
        num_classes = int(tensor.max()) + 1
    return (tensor.unsqueeze(-1) == core.arange(num_classes)).long()
