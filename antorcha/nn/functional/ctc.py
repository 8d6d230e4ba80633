"""Connectionist temporal classification."""

from __future__ import annotations

import math

from ...base import dtype as dt
from ...ops.joining import cat, stack
from ...ops.pointwise import where
from ...ops.record import core, operator
from ...ops.recurrence import recur
from .loss import _reduced

Tensor = "Tensor"
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
    mass = mass - mass.detach()
    # An infinite loss has no derivative: that of the root of |0| is NaN.
    loss = where(possible, loss + mass, 0.0 if zero_infinity else math.inf + where(possible, 1.0, mass.abs()).sqrt())
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
    # From the state before last one may come if the blank between is no separator of equal labels.
    skipped = cat([symbols[:, :2] * 0 + blank, symbols[:, :-2]], 1)[:, :states] if states > 1 else symbols
    alpha = core.full((batch, states), IMPOSSIBLE, x.dtype)
    if steps:
        scores = x.gather(2, symbols.unsqueeze(0).expand(steps, batch, states))
        going = inputs > core.arange(steps).unsqueeze(1)
        alpha = _alphas(scores, going.unsqueeze(2), (symbols != blank) & (symbols != skipped))[-1]
    last = (2 * counts).unsqueeze(1)
    ends = alpha.gather(1, last), where(last > 0, alpha.gather(1, (last - 1).clamp_min(0)), IMPOSSIBLE)
    loss = -_log_add(*ends).squeeze(1)
    return where(inputs > 0, loss, where(counts == 0, 0.0, -IMPOSSIBLE))


@operator(name="ctc_alphas", title="CtcLoss", public=False, grad=dict(
    scores=lambda g, scores, going, skips, result: _alphas_back(g, scores, going, skips, result)))
def _alphas(scores: Tensor, going, skips):
    """(T, N, S): the logarithm of what all alignments up to a time sum to that end in a state. `scores` (T, N, S): the log-probability of
    each state's symbol; `going` (T, N, 1): whether the input has not ended; `skips` (N, S): whether the state before may be left out."""
    times, _, states = scores.shape
    start = where((core.arange(states) < 2).expand(scores.shape[1:]), scores[0], IMPOSSIBLE)
    return recur(_step, [scores[1:], going[1:], skips.expand(times - 1, *skips.shape)], [start], [])[0][0]


def _shifted(x, by: int, filling: float):
    """Rows moved to the right, or to the left by negative numbers."""
    if x.shape[1] <= abs(by):
        return x * 0 + filling
    border = x[:, :abs(by)] * 0 + filling
    return cat([border, x[:, :-by]] if by > 0 else [x[:, -by:], border], 1)


def _step(parts, states, _):
    score, going, skips = parts
    (alpha,) = states
    two = where(skips, _shifted(alpha, 2, IMPOSSIBLE), IMPOSSIBLE)
    new = _log_add(alpha, _shifted(alpha, 1, IMPOSSIBLE), two) + score
    return [where(going, new.clamp_min(IMPOSSIBLE), alpha)], []


def _alphas_back(g, scores, going, skips, alphas):
    """The cotangent of the scores: back through time with that of the alphas."""
    each = [g[1:], alphas[:-1], alphas[1:], scores[1:], going[1:], skips.expand(scores.shape[0] - 1, *skips.shape)]
    carried, kept = recur(_step_back, each, [alphas[-1] * 0], [], True)
    first = where((core.arange(scores.shape[2]) < 2).expand(scores.shape[1:]), carried[0][0] + g[0], 0.0).unsqueeze(0)
    return cat([first, *kept], 0)


def _step_back(parts, states, _):
    g, before, after, score, going, skips = parts
    g = g + states[0]
    d_score = where(going & (after > IMPOSSIBLE), g, 0.0)
    total = after - score

    def arrived(by, d):
        """Through the state so many further on; what it came from is at most the whole."""
        return (before - _shifted(total, -by, 0.0)).clamp_max(0).exp() * _shifted(d, -by, 0.0) if by else \
            (before - total).clamp_max(0).exp() * d

    d_before = arrived(0, d_score) + arrived(1, d_score) + arrived(2, where(skips, d_score, 0.0))
    return [where(going, d_before, g)], [d_score]
