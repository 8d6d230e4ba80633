"""The recording: pending nodes in the order they were recorded, and when they are computed.

A flush computes everything pending that a tensor can still ask for. It happens when a value is needed, when the
recording has grown long, after each operation in `config.eager`, and at once for values that the outside can touch.
What comes after the value that is needed is computed in the background, while recording goes on (`runtime.flight`).
"""

from __future__ import annotations

import time

from ..base import config
from ..runtime import flight
from .node import Node

ALL = object()   # all values are wanted, at once
LONGEST = 4_000  # nodes; a program that never asks for a value must not grow without bound


class State:
    """`urgent`: the next recorded node is to be computed at once. `backwards`: the recording holds a backward pass. `devices`: there are
    values elsewhere than on the CPU. `vmap`: what rewrites the nodes recorded for one lane of a batch (`func.lanes`), while a
    function is mapped; `urgent` then calls it after each operation. `watch`: what is told of the recording of a function that
    is to be replayed (`compiler.observe`)."""

    __slots__ = ("urgent", "backwards", "devices", "vmap", "watch")

    def __init__(self):
        self.urgent = self.backwards = self.devices = False
        self.vmap = self.watch = None


state = State()
nodes: list[Node] = []     # one list for good: whoever records appends to it
record = nodes.append
watchers: list = []        # called with the times (time.perf_counter) at which computing began and ended


def settle() -> None:
    """Called when an operation has been recorded whole: compute now if something demands it."""
    if state.vmap is not None:
        urgent = state.urgent is True
        state.vmap.rewrite()
        if not (urgent or config.eager or len(nodes) > LONGEST):
            return
        flush()
        return
    if state.urgent or config.eager or len(nodes) > LONGEST:
        now = state.urgent or config.eager
        state.urgent = False
        flush(ALL if now else None)


def begin_backward() -> None:
    """Called where a backward pass begins. One in the recording already: a training loop that asks for no value. Cutting here
    cuts each of its steps at the same place, so that one plan serves all."""
    if state.backwards:
        flush(None)
    state.backwards = True


def flush(wanted=ALL) -> None:
    """Compute every pending value that can still be asked for. On return the value of node `wanted` is there, or ALL are, or with None
    perhaps none: the others follow in the background."""
    state.backwards = False
    if state.vmap is not None:
        state.vmap.rewrite()
    if wanted is ALL:
        flight.finish()
    if not nodes:
        return
    if state.watch is not None:
        state.watch.flushed()
    if state.devices:
        _flush_devices()
        return
    pending = nodes.copy()
    nodes.clear()
    _execute(pending, "cpu", ALL if watchers else wanted)


def _execute(pending: list[Node], device: str, wanted=ALL) -> None:
    from . import flush as execution  # the compiler is loaded with the first value that is needed

    begin = time.perf_counter()
    try:
        execution.flush(pending, device=device, wanted=wanted)
    except (KeyboardInterrupt, MemoryError):
        nodes[:0] = [n for n in pending if n.buffer is None]  # nothing is lost: it can be asked for again
        raise
    except Exception as error:
        if hasattr(error, "node"):      # lost is what failed and what depends on it
            lost = {error.node}
            lost.update(n for n in pending if not lost.isdisjoint(s for s in n.inputs if type(s) is Node))
            nodes[:0] = [n for n in pending if n.buffer is None and n not in lost]
            del error.node
        raise
    for watch in watchers:
        watch(begin, time.perf_counter())


def _flush_devices() -> None:
    """As `flush`, where the recording may be for several devices: one after another."""
    from .placement import divide

    parts = divide(nodes)
    nodes.clear()
    while parts:
        device = next(iter(parts))
        try:
            _execute(parts.pop(device), device)
        except BaseException:
            for rest in parts.values():     # theirs is another matter
                nodes.extend(rest)
            raise


def flush_only(device: str) -> None:
    """Compute what is pending on one device; the recording for the others goes on."""
    if not state.devices or state.vmap is not None:
        flush()
        return
    from .placement import divide

    own = divide(nodes).get(device)
    if own:
        taken = set(own)
        nodes[:] = [n for n in nodes if n not in taken]
        taken.clear()
        _execute(own, device)
