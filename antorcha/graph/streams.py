"""Which results are stored past the caches: those that would no longer be there when they are read.

An ordinary store reads the line of memory that it is about to write, and puts another one out of the caches. A streaming one does neither,
so what mostly writes takes up to two fifths less time. But what is read again soon must not have to come from memory.

How soon that is, is counted in bytes: what the steps of a plan read and write from the one that stores a result up to the one that
reads it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..loops.size import now

FAR = 32 << 20      # bytes after which a line is not in the caches any more; programs share the last of these
LEAST = 1 << 20     # of a result that is worth it


def stream(steps: list, size_of: Callable, kept: set) -> None:
    """Tell the steps which of their results to stream. `size_of(buffer)`: bytes; `kept`: those in memory that was read before."""
    moved = [sum([size_of(b) for b in {*s.reads, *s.writes}]) for s in steps]
    total = sum(moved)
    if total < FAR:         # the one thing here that is decided by sizes: on all else nothing depends but time
        return
    left = 0                # to be moved from a step on
    next_read: dict = {}    # buffer -> what is left then
    for step, nbytes in zip(reversed(steps), map(now, reversed(moved))):
        left += nbytes
        far = {b for b in step.stored() if b not in kept and now(size_of(b)) >= LEAST and left - next_read.get(b, 0) >= FAR}
        if far:
            step.stream(far)
        next_read.update(dict.fromkeys(step.reads, left))
