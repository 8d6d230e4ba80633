"""Recordings computed in pieces, which have plans where they have none themselves.

A plan for all of a recording is the best one, but it takes as long to make as the recording is long, and a program whose steps depend on
its data (a sequence of another length, as many boxes as an image has) records something else each time. What such recordings consist of
comes again nevertheless. They are cut where their content says so, as stores of files find what two files have in common: before nodes that
are the least of their neighbourhood in an order that is told by their kinds. What comes in or goes elsewhere moves no cut here, so pieces
are the same whatever surrounds them, and so are the periods of a loop however often it runs. What is met again and again, whatever its
sizes, is worth a plan of its own.
"""

from __future__ import annotations

import numpy as np

from .family import Member, pattern
from .node import Node
from .tape import state

LEAST = 32          # nodes of a recording that is cut
AROUND = 8          # nodes before and behind one that it is compared with
SHORTEST = 6        # nodes of a piece, where neighbours are equal
LONGEST = 96        # nodes of a piece that consists of equal ones, about
MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)      # odd numbers without a pattern
BEGINNINGS = ("contraction", "extern", "recurrence", "scan")    # families that take in nothing of what they read: cut there first
LAST = np.uint64(1 << 63)
MET = 3             # structures without a plan that a piece has come in before it is taken for one that goes on coming in others
PATIENCE = 6        # recordings of one structure that have plans made, before there are to be more that such plans serve
STORED = 1 << 20    # bytes of a node, on average, that storing it takes less time than planning it
OFTEN = 10          # meetings of a recording before it gets a plan of its own: to make that takes as long as it will then have saved
VARYING = 60        # meetings of a structure, whatever its sizes, before it gets plans of its own, of which it will take several
ENDLESS = 2000      # nodes from which on a recording without a backward pass is computed in pieces from its first meeting on
_met: dict[int, int] = {}           # hash of a piece's kinds -> how many structures it came in
_times: dict[int, int] = {}         # hash of a structure, or of one with its sizes -> how often it was computed in pieces
_last = [False]                     # whether the last recording without a plan was computed in pieces


def clear() -> None:
    _met.clear()
    _times.clear()
    _last[0] = False


def changing() -> bool:
    """Whether the program goes on recording something else each time, as far as is known."""
    return _last[0]


def cuts(codes: np.ndarray, begins: np.ndarray, stays: np.ndarray) -> list[int]:
    """Where pieces begin, besides at 0. Of each node a number that tells its kind, whether a piece should rather begin there, and whether
    it stays with the one before."""
    order = codes.astype(np.uint64) * MIXERS[0]
    order[1:] += codes[:-1].astype(np.uint64) * MIXERS[1]
    order = np.where(begins, order >> np.uint64(2), (order >> np.uint64(2)) | np.uint64(1 << 62))
    order[stays] = LAST
    around = np.lib.stride_tricks.sliding_window_view(np.pad(order, AROUND, constant_values=LAST), 2 * AROUND + 1)
    found = [0]
    for at in np.flatnonzero((order == around.min(1)) & ~stays).tolist():
        if at - found[-1] >= SHORTEST:
            found.append(at)
    return found[1:]


def joined(parts: list) -> list[int]:
    """How many parts each piece consists of: several equal ones that follow one another, as many as make the longest, then half as many,
    and so on; few pieces, and few kinds of them. Parts of other sizes would be pieces of other sizes each time."""
    found, at = [], 0
    while at < len(parts):
        end = at + 1
        while end < len(parts) and parts[end] == parts[at]:
            end += 1
        step = 1
        while 2 * step * len(parts[at]) <= LONGEST:
            step *= 2
        while at < end:
            while step > end - at:
                step //= 2
            found.append(step)
            at += step
    return found


def lengths(nodes: list[Node], member: Member) -> list[int] | None:
    """The lengths of the pieces to compute a recording in that has no plan; None if it is to have one."""
    found = _lengths(nodes, member)
    if len(nodes) >= LEAST:
        _last[0] = found is not None
    return found


def _lengths(nodes: list[Node], member: Member) -> list[int] | None:
    known = member.family
    if len(nodes) < LEAST or known is not None and (known.missed < PATIENCE or known.missed < known.served):
        return None
    kinds = [pattern(n.form)[0] for n in nodes]
    families = [n.form.op.family for n in nodes]
    starts = [0, *cuts(np.array([k.code for k in kinds]), np.isin(families, BEGINNINGS), np.array(families) == "output"), len(nodes)]
    parts = [tuple(kinds[a:b]) for a, b in zip(starts, starts[1:])]
    structure, numbers = hash(member.name), [hash(p) for p in parts]
    come = sum([len(p) for p, number in zip(parts, numbers) if _met.get(number, 0) >= MET])
    if structure not in _times:
        if len(_met) + len(_times) > 1 << 16:
            clear()
        _times[structure] = 0
        for number in set(numbers):
            _met[number] = _met.get(number, 0) + 1
    endless = len(nodes) >= ENDLESS and not state.backwards
    if not endless and (2 * come < len(nodes) or sum([n.form.numel * n.form.dtype.itemsize for n in nodes]) > STORED * len(nodes)):
        return None
    recording = hash((structure, member.sizes.tobytes()))
    _times[structure] += 1
    _times[recording] = _times.get(recording, 0) + 1
    if _times[recording] > OFTEN or _times[structure] > VARYING and known is None:
        return None
    shapes = [n.form.shape for n in nodes]
    found, at = [], 0
    for count in joined([tuple(zip(kinds[a:b], shapes[a:b])) for a, b in zip(starts, starts[1:])]):
        found.append(sum(map(len, parts[at:at + count])))
        at += count
    return found
