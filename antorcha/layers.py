"""Functions of the torch namespace that torch.nn.functional has under another signature, or under the same."""

from __future__ import annotations

from .base import dtype as dt
from .core.tensor import Tensor
from .nn import functional as F
from .nn.functional import (  # noqa: F401
    alpha_dropout,
    bilinear,
    celu,
    celu_,
    cosine_similarity,
    feature_alpha_dropout,
    feature_dropout,
    pairwise_distance,
    pdist,
    relu_,
    rms_norm,
    rrelu,
    rrelu_,
    selu,
    selu_,
    threshold,
    threshold_,
)
from .ops.pooling import adaptive_max_pool1d_with_indices as adaptive_max_pool1d  # noqa: F401

REDUCTIONS = ("none", "mean", "sum")


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-05, cudnn_enable=True):
    """`nn.functional.layer_norm`."""
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-05, cudnn_enabled=True):
    """`nn.functional.group_norm`."""
    return F.group_norm(input, num_groups, weight, bias, eps)


def batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled=True):
    """`nn.functional.batch_norm`."""
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, cudnn_enabled=True):
    """`nn.functional.instance_norm`."""
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def embedding(weight, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False):
    """Rows of `weight` at `indices`; row `padding_idx` gets no gradient."""
    return F.embedding(indices, weight, None if padding_idx == -1 else padding_idx, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)


def embedding_bag(weight, indices, offsets, scale_grad_by_freq=False, mode=0, sparse=False, per_sample_weights=None,
                  include_last_offset=False, padding_idx=None):
    """`nn.functional.embedding_bag` with `mode` 0 (sum), 1 (mean) or 2 (max)."""
    return F.embedding_bag(indices, weight, offsets, None, 2, scale_grad_by_freq, ("sum", "mean", "max")[mode], sparse, per_sample_weights,
                           include_last_offset, padding_idx)


def _recurrent(mode: str):
    """The layers `mode` of a recurrent network, by parameters in a list; of packed input with a second argument, the batch sizes."""

    def form(input, hx, params, *options, **given):
        batch_sizes = None
        if isinstance(params, Tensor) or mode == "LSTM" and isinstance(hx, Tensor):       # (data, batch_sizes, hx, params, ...)
            batch_sizes, hx, params, options = hx, params, options[0], options[1:]
        names = ("has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")
        g = dict(zip(names, options), **given)
        size = (4 if g["has_biases"] else 2) + (mode == "LSTM" and len(hx) == 2 and hx[0].shape[-1] != hx[1].shape[-1])
        weights = [list(params[i:i + size]) for i in range(0, len(params), size)]
        states = tuple(hx) if mode == "LSTM" else hx
        out, last = F.recurrent.run(mode, input, states, weights, 2 if g["bidirectional"] else 1, g["has_biases"],
                                    g["dropout"] if g["train"] else 0.0, g.get("batch_first", False), batch_sizes)
        return (out, *last) if isinstance(last, tuple) else (out, last)

    form.__name__ = form.__qualname__ = mode.lower()
    form.__doc__ = f"{mode} layers: output and final states, from input, first states, weights, then has_biases, num_layers, dropout, " \
                   "train, bidirectional, batch_first; or from packed data, batch sizes, first states and so on."
    return form


lstm, gru, rnn_tanh, rnn_relu = map(_recurrent, ("LSTM", "GRU", "RNN_TANH", "RNN_RELU"))


def dropout(input, p, train):
    """`nn.functional.dropout`."""
    return F.dropout(input, p, train)


def dropout_(input, p, train):
    """In-place `dropout`."""
    return F.dropout(input, p, train, inplace=True)


def _reduced(name: str):
    """The loss `name`, whose reduction is a name or a number: 0 none, 1 mean, 2 sum."""
    loss = getattr(F, name)

    def form(*args, reduction=1, **given):
        return loss(*args, reduction=REDUCTIONS[reduction] if isinstance(reduction, int) else reduction, **given)

    form.__name__ = form.__qualname__ = name
    form.__doc__ = f"`nn.functional.{name}` with reduction 0 (none), 1 (mean) or 2 (sum)."
    return form


(binary_cross_entropy_with_logits, cosine_embedding_loss, ctc_loss, hinge_embedding_loss, kl_div, margin_ranking_loss, poisson_nll_loss,
 triplet_margin_loss) = map(_reduced, (
     "binary_cross_entropy_with_logits", "cosine_embedding_loss", "ctc_loss", "hinge_embedding_loss", "kl_div", "margin_ranking_loss",
     "poisson_nll_loss", "triplet_margin_loss"))


def _in_place(name: str):
    function = getattr(F, name)

    def inplace(input, p, train):
        return input.copy_(function(input, p, train))
    inplace.__name__ = inplace.__qualname__ = f"{name}_"
    inplace.__doc__ = f"`{name}`, written into `input`."
    return inplace


alpha_dropout_, feature_alpha_dropout_, feature_dropout_ = map(_in_place, ("alpha_dropout", "feature_alpha_dropout", "feature_dropout"))


def native_dropout(input, p, train):
    """(`input` with elements zeroed with probability p and the others scaled by 1 / (1 - p), the mask of the elements that stayed).
    `train`: False leaves all; None is True."""
    if train is False or not input.numel():
        return input, input.new_ones(input.shape, dtype=dt.bool_)
    kept = F.dropout(input.new_ones(input.shape), p, True) != 0
    return input * kept * (0.0 if p == 1 else 1 / (1 - p)), kept


def native_norm(input, p=2, dim=None, keepdim=False, dtype=None):
    """`torch.norm` of a sparse tensor's values, or of a dense tensor."""
    return input.norm(p) if dim is None else input.norm(p, dim, keepdim, dtype)


def norm_except_dim(v, pow=2, dim=0):
    """The norms of the slices of `v` along `dim`, which stays; dim=-1: the norm of everything."""
    return v.norm(pow) if dim == -1 else v.norm(pow, tuple(d for d in range(v.dim()) if d != dim % v.dim()), True)


def embedding_renorm_(self, indices, max_norm, norm_type):
    """Scale the rows at `indices` down to the norm `max_norm`, in place."""
    rows = indices.reshape(-1).unique()
    chosen = self.detach()[rows]
    norms = chosen.norm(norm_type, 1, True)
    self.detach()[rows] = chosen * (max_norm / (norms + 1e-7)).clamp(max=1)
    return self
