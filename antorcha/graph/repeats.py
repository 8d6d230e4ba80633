"""Recordings that repeat themselves, computed a few periods at a time: the steps of a recurrent network or of a sampler.

A plan for all of a recording is the best one, but it takes as long to make as the recording is long, and a sequence of another length
is another recording. What repeats in it has the same structure whatever the length: pieces of one or several periods have plans from the
first one on, and what comes before, between and behind differs in sizes at most. A recording that is met again and again is worth a plan of
its own nevertheless.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .family import pattern
from .node import Node
from .tape import state

LONG = 160          # nodes of a recording that is looked at
ALIKE = 8           # nodes that are compared to find how far apart what repeats is
PERIODS = 6         # distances that are tried
MIXER = np.uint64(0x9E3779B97F4A7C15)       # an odd number without a pattern
TIMES = 6           # periods of a run: fewer are found where sequences of one length follow one another
LEAST = 24          # nodes of a run
PIECE = 96          # nodes of a piece, about
OFTEN = 10          # meetings of a recording before it gets a plan of its own: to make that takes as long as it will then have saved
ENDLESS = 2000      # nodes from which on a recording without a backward pass is computed in pieces from its first meeting on
_met: dict[tuple, int] = {}         # the kinds of nodes in and between the runs of a recording -> how many nodes it had
_times: dict[int, int] = {}         # hash of a recording's key -> how often it was computed in pieces


class Run(NamedTuple):
    """Nodes from `start` to `stop`, each alike the one `period` nodes before."""

    start: int
    stop: int
    period: int

    @property
    def times(self) -> int:
        return (self.stop - self.start) // self.period


def clear() -> None:
    _met.clear()
    _times.clear()


def runs(kinds: list) -> list[Run]:
    """Where a sequence repeats itself: the longest runs, of the shortest periods."""
    if len(kinds) < ALIKE:
        return []
    numbers: dict = {}
    codes = np.array([numbers.setdefault(k, len(numbers)) for k in kinds], np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes * MIXER, ALIKE) @ (MIXER ** np.arange(ALIKE, dtype=np.uint64))    # hashed
    order = np.argsort(windows, kind="stable")
    alike = windows[order[1:]] == windows[order[:-1]]
    counts = np.bincount((order[1:] - order[:-1])[alike])
    periods = [p for p in np.argsort(-counts, kind="stable")[:PERIODS].tolist() if counts[p]]
    found: list[Run] = []
    for period in periods:
        same = np.zeros(len(kinds) - period + 2, np.int8)
        same[1:-1] = codes[period:] == codes[:-period]
        bounds = np.flatnonzero(np.diff(same)).tolist()
        found += [Run(start, stop + period, period) for start, stop in zip(bounds[::2], bounds[1::2])]
    chosen: list[Run] = []
    for start, stop, period in sorted(found, key=lambda run: (run.start - run.stop, run.period)):
        for other in chosen:
            if start < other.stop and other.start < stop:       # what is left of it before or behind the longer one
                start, stop = (start, other.start) if start < other.start else (other.stop, max(stop, other.stop))
        run = Run(start, stop, period)
        if run.times >= TIMES and stop - start >= LEAST:
            chosen.append(run)
    return sorted(chosen)


def pieces(nodes: list[Node], key: tuple) -> list[int] | None:
    """The lengths of the pieces to compute a recording in that has no plan; None if it is to have one. `key`: what plans are found by."""
    if len(nodes) < LONG:
        return None
    kinds = [pattern(n.form)[0] for n in nodes]
    found = runs(kinds)
    if not found:
        return None
    parts, at = [], 0
    for run in found:       # what lies between is told by its kinds: it may repeat itself, too, if less
        parts += [frozenset(kinds[at:run.start]), frozenset(kinds[run.start:run.start + run.period])]
        at = run.stop
    parts.append(frozenset(kinds[at:]))
    if len(_met) > 1024:
        _met.clear()
    endless = len(nodes) >= ENDLESS and not state.backwards
    if _met.setdefault(tuple(parts), len(nodes)) == len(nodes) and not endless:
        return None
    if len(_times) > 4096:
        _times.clear()
    number = hash(key)
    _times[number] = _times.get(number, 0) + 1
    return None if _times[number] > OFTEN else _lengths(found, nodes)


def _lengths(found: list[Run], nodes: list[Node]) -> list[int]:
    """As many periods at a time as make a piece, then half as many, and so on: few pieces, and few kinds of them."""
    ends, at = [], 0
    for run in found:
        ends.append(run.start)
        at, left, step = run.start, run.times, 1
        while 2 * step * run.period <= PIECE:
            step *= 2
        while left:
            while step > left:
                step //= 2
            at += step * run.period
            ends.append(at)
            left -= step
    lengths, at = [], 0
    for end in (*ends, len(nodes)):
        while end < len(nodes) and nodes[end].form.op.family == "output":     # stays with what it is an output of
            end += 1
        if end > at:
            lengths.append(end - at)
            at = end
    return lengths
