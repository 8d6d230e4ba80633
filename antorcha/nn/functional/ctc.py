"""Connectionist temporal classification."""

from __future__ import annotations

import math

from ...base import dtype as dt
from ...ops.joining import cat, stack
from ...ops.pointwise import where
from ...ops.record import core
from .loss import _reduced

IMPOSSIBLE = -1e30      # the logarithm of zero: finite, so that derivatives stay numbers


def _log_add(*terms):
    """log(exp(a) + exp(b) + ...)."""
    largest = terms[0]
    for t in terms[1:]:
        largest = largest.maximum(t)
    largest = largest.detach()
    total = (terms[0] - largest).exp()
    for t in terms[1:]:
        total = total + (t - largest).exp()
    return total.log() + largest


def _as_lengths(name: str, lengths, batch: int):
    lengths = lengths.reshape(-1).tolist() if isinstance(lengths, core.Tensor) else list(lengths)
    if len(lengths) != batch:
        raise RuntimeError(f"{name} must be of size batch_size: expected {batch}; received {len(lengths)}")
    if any(n < 0 for n in lengths):
        raise RuntimeError(f"Expected {name} to have value at least 0; received {min(lengths)}")
    return [int(n) for n in lengths]


def _padded_targets(targets, lengths: list):
    """Targets (N, S) from themselves or from the concatenation of all."""
    longest = max(lengths, default=0)
    if targets.dim() == 2:
        if targets.shape[1] < longest:
            raise RuntimeError(f"Expected tensor to have size at least {longest} at dimension 1, but got size {list(targets.shape)} for "
                               "argument #2 'targets'")
        return targets.long()[:, :longest]
    if targets.numel() != sum(lengths):
        raise RuntimeError(f"ctc_loss: expected {sum(lengths)} targets, the sum of target_lengths; received {targets.numel()}")
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    rows = [[start + min(i, max(n - 1, 0)) for i in range(longest)] for start, n in zip(starts, lengths)]
    if not targets.numel():
        return core.full((len(lengths), longest), 0, dt.int64)
    last = targets.numel() - 1
    return targets.long()[core.tensor([[min(i, last) for i in row] for row in rows])] if longest else targets.new_zeros((len(lengths), 0))


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """Minus the log-probability of each target sequence, summed over all its alignments with the input. Graves et al., 2006.

    `log_probs`: (T, N, C) or (T, C); `targets`: (N, S), or all sequences one after the other. 'mean' divides by the target lengths first.
    `zero_infinity`: 0 instead of infinity where the input is too short.
    """
    single = log_probs.dim() == 2
    if log_probs.dim() not in (2, 3):
        raise RuntimeError(f"ctc_loss: expected log_probs of 2 or 3 dimensions; received {log_probs.dim()}")
    x = log_probs.unsqueeze(1) if single else log_probs
    steps, batch, classes = x.shape
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    inputs, counts = _as_lengths("input_lengths", input_lengths, batch), _as_lengths("target_lengths", target_lengths, batch)
    if max(inputs, default=0) > steps:
        raise RuntimeError(f"Expected input_lengths to have value at most {steps}, but got value {max(inputs)}")
    labels = _padded_targets(targets.unsqueeze(0) if single and targets.dim() == 1 else targets, counts)
    loss = _negative_log_likelihood(x, labels, core.tensor(inputs), core.tensor(counts), blank)
    possible = loss < -IMPOSSIBLE / 2
    # PyTorch's gradient takes log_probs for log_softmax's result and gives that of the logits: that of this term, which is 0, is added.
    time = core.arange(steps).reshape(-1, 1, 1) < core.tensor(inputs).reshape(1, -1, 1)
    mass = where(time, x.exp(), 0.0).sum((0, 2))
    loss = where(possible, loss + (mass - mass.detach()), 0.0 if zero_infinity else math.inf)
    if reduction == "mean":
        return (loss / core.tensor(counts).clamp_min(1)).mean()
    return _reduced(loss.squeeze(0) if single else loss, reduction)


def _negative_log_likelihood(x, labels, inputs, counts, blank: int):
    """The forward recursion over time. States are blank, label, blank, label, ..., blank."""
    steps, batch, _ = x.shape
    states = 2 * labels.shape[1] + 1
    blanks = core.full((batch, labels.shape[1] + 1), blank, dt.int64)
    symbols = stack([blanks[:, :-1], labels], 2).reshape(batch, -1)
    symbols = cat([symbols, blanks[:, -1:]], 1)
    scores = x.gather(2, symbols.unsqueeze(0).expand(steps, batch, states))
    never = core.full((batch, 2), IMPOSSIBLE, x.dtype)
    number = core.arange(states)
    # From the state before last one may come if the blank between is no separator of equal labels.
    skipped = cat([symbols[:, :2] * 0 + blank, symbols[:, :-2]], 1)[:, :states] if states > 1 else symbols
    may_skip = (symbols != blank) & (symbols != skipped)
    alpha = where((number < 2).expand(batch, states), scores[0], IMPOSSIBLE) if steps else core.full((batch, states), IMPOSSIBLE, x.dtype)
    for t in range(1, steps):
        one = cat([never[:, :1], alpha], 1)[:, :states]
        two = where(may_skip, cat([never, alpha], 1)[:, :states], IMPOSSIBLE)
        alpha = where((inputs > t).unsqueeze(1), (_log_add(alpha, one, two) + scores[t]).clamp_min(IMPOSSIBLE), alpha)
    last = (2 * counts).unsqueeze(1)
    ends = alpha.gather(1, last), where(last > 0, alpha.gather(1, (last - 1).clamp_min(0)), IMPOSSIBLE)
    loss = -_log_add(*ends).squeeze(1)
    return where(inputs > 0, loss, where(counts == 0, 0.0, -IMPOSSIBLE))
