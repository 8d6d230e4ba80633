"""The recording: pending nodes and blocks of nodes in the order they were recorded, and when they are computed.

A flush computes everything pending that a tensor can still ask for. It happens when a value is needed, when the
recording has grown long, after each operation in `config.eager`, and at once for values that the outside can touch.
What comes after the value that is needed is computed in the background, while recording goes on (`runtime.flight`).

All threads record into one list. One at a time computes, and whoever needs a value waits for it; so does a fork, and the child
finds nothing half computed. Where computing is interrupted, what was pending is pending again.
"""

from __future__ import annotations

import os
import threading
import time

from ..base import config
from ..base.errors import OutOfMemoryError
from ..base.locks import Lock
from ..runtime import flight
from ..runtime.void import Void
from .block import Block, unfold
from .node import Node

ALL = object()   # all values are wanted, at once
LONGEST = 10_000 # nodes, twice those of a training step of GPT-2; a program that never asks for a value must not grow without bound


class State:
    """`unsure`: the recording holds indices that may be out of their dimension (`ops.bounds`). `urgent`: the next recorded node is to be
    computed at once. `backwards`: the recording holds a backward pass. `devices`: there are values elsewhere than on the CPU, `gpus`: also
    on GPUs. `vmap`: what rewrites the nodes recorded for one lane of a batch (`func.lanes`), while a function is mapped; `urgent` then
    calls it after each operation. `watch`: what is told of the recording of a function that is to be replayed (`compiler.observe`).
    `kept`: what is asked before a storage is given another value, while there are CUDA graphs of the program's own (`cuda.graphs`).
    `profiled`: it is found out which code a function runs, which is not to depend on whether calls are being noted. `hidden`: how
    many nodes of blocks are recorded and not made. `whole`: the thread that records an operation of several nodes (`whole` below).
    `flushes`: how often what was recorded has been computed."""

    __slots__ = ("unsure", "urgent", "backwards", "devices", "gpus", "watch", "kept", "rewriter", "mapper", "profiled", "hidden", "whole",
                 "flushes")

    def __init__(self):
        self.unsure = self.urgent = self.backwards = self.devices = self.gpus = self.profiled = False
        self.watch = self.kept = self.rewriter = self.mapper = self.whole = None
        self.hidden = self.flushes = 0

    @property
    def vmap(self):
        """The rewriter, in the thread that maps a function (`mapper`)."""
        return None if self.rewriter is None or self.mapper != threading.get_ident() else self.rewriter


state = State()
nodes: list = []     # Node or Block; one list for good: whoever records appends to it
record = nodes.append
watchers: list = []        # called with the times (time.perf_counter) at which computing began and ended


def settle() -> None:
    """Called when an operation has been recorded whole: compute now if something demands it."""
    if state.rewriter is not None:
        if state.vmap is None:
            wait_for_mapper()
            return
        urgent = state.urgent is True
        state.vmap.rewrite()
        if not (urgent or config.eager or len(nodes) + state.hidden > LONGEST):
            return
        flush()
        return
    if state.urgent or config.eager or len(nodes) + state.hidden > LONGEST:
        if state.whole == threading.get_ident() and not config.eager:
            return
        now = state.urgent or config.eager
        state.urgent = False
        flush(ALL if now else None)


class whole:
    """`with whole():` records one operation of several nodes. What demands that it be computed at once does so when all of them are
    there: a large weight that the outside can touch is not widened in memory for a product that reads it as it lies."""

    __slots__ = ("inner",)

    def __enter__(self) -> None:
        me = threading.get_ident()
        self.inner = state.whole == me
        state.whole = me

    def __exit__(self, kind, error, traceback) -> None:
        if not self.inner:
            state.whole = None
            if state.urgent and kind is None:
                settle()


def begin_backward() -> None:
    """Called where a backward pass begins. One in the recording already: a training loop that asks for no value. Cutting here
    cuts each of its steps at the same place, so that one plan serves all."""
    if state.backwards:
        flush(None)
    state.backwards = True


def flush(wanted=ALL) -> None:
    """Compute every pending value that can still be asked for. On return the value of node `wanted` is there, or ALL are, or with None
    perhaps none: the others follow in the background."""
    if state.rewriter is not None and state.vmap is None:
        wait_for_mapper()
    with computing:
        if wanted is not ALL and wanted is not None and wanted.buffer is not None:
            return          # another thread was quicker
        try:
            _flush(wanted)
        finally:
            state.backwards = False


def _flush(wanted) -> None:
    state.unsure = False
    state.flushes += 1
    if state.rewriter is not None and state.vmap is not None:
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
    wanted = ALL if watchers else wanted
    try:
        _execute(nodes.copy(), "cpu", wanted)
    except OutOfMemoryError:
        needed = _needed(wanted)
        if len(needed) in (0, len(nodes)):
            raise
        _execute(needed, "cpu", wanted)     # the value asked for may yet fit


def flush_part(pending: list[Node]) -> None:
    """Compute some pending nodes, and whatever they need, which must be among them; beside what runs in the background, if they are few."""
    if not pending:
        return
    wanted = set(pending)
    pending.clear()         # references are counted
    with computing:
        unfold(nodes)
        part = [n for n in nodes if n in wanted]
        wanted.clear()
        if part:
            _execute(part, "cpu", beside=True)


def _execute(pending: list, device: str, wanted=ALL, beside: bool = False) -> None:
    """Compute some of the recorded nodes."""
    begin = time.perf_counter() if watchers else 0.0
    try:
        _take(pending)
        (_execution or _load()).flush(pending, device=device, wanted=wanted, beside=beside)
    except KeyboardInterrupt as error:
        _put_back(pending, error)
        pending.clear()         # what the error's traceback refers to would count as wanted
        raise error.with_traceback(None) from None
    except BaseException as error:
        _put_back(pending, error)
        raise
    for watch in watchers:
        watch(begin, time.perf_counter())


_execution = None   # the module `flush`


def _load():
    """The compiler is loaded with the first value that is needed."""
    global _execution
    from . import flush as _execution

    return _execution


def _needed(wanted) -> list[Node]:
    """The pending nodes that a value is computed from, its own included; none for ALL."""
    found = {wanted}
    unfold(nodes)
    for n in reversed(nodes):
        if n in found:
            found.update(s for s in n.inputs if type(s) is Node)
    return [n for n in nodes if n in found or n.form.op.family == "output" and n.inputs[0] in found]


def _take(pending: list) -> None:
    """Remove nodes from the recording, to which other threads may be adding."""
    if nodes[0] is pending[0] and nodes[len(pending) - 1] is pending[-1]:
        del nodes[:len(pending)]
    else:
        taken = set(pending)
        nodes[:] = [n for n in nodes if n not in taken]
    state.hidden = sum([n.form.hidden for n in nodes if type(n) is Block]) if nodes else 0


def _put_back(pending: list, error: BaseException) -> None:
    """What was not computed can be asked for again, but for `error.node`, which failed, and what depends on it. An error that
    does not tell, and would come again, takes all with it."""
    lost = set()
    unfold(pending)
    if hasattr(error, "node"):
        lost.add(error.node)
        del error.node
    elif not isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, OutOfMemoryError)):
        return
    again, present = [], set(nodes)
    for n in pending:
        if not lost.isdisjoint(s for s in n.inputs if type(s) is Node):
            lost.add(n)
        elif n.buffer is None and n not in lost and n not in present:
            again.append(n)
    nodes[:0] = again


def _flush_devices() -> None:
    """As `flush`, where the recording may be for several devices: one after another."""
    from .placement import divide

    for device, own in divide(nodes).items():
        if device == "meta":
            _leave(own)
        else:
            _execute(own, device)
    state.devices = state.gpus or Void.alive > 0


def _leave(pending: list) -> None:
    """What is on the device "meta" gets no value."""
    _take(pending)
    unfold(pending)
    for n in pending:
        n.inputs, n.buffer = (), Void(n.numel * n.dtype.itemsize)


def flush_only(device: str) -> None:
    """Compute what is pending on one device; the recording for the others goes on."""
    if not state.devices or state.vmap is not None:
        flush()
        return
    from .placement import divide

    with computing:
        own = divide(nodes).get(device)
        if own:
            state.backwards = False
            _leave(own) if device == "meta" else _execute(own, device)


# Re-entrant: a signal handler or finaliser may ask for a value.
computing = Lock()
mapping = Lock()     # held by the thread that maps a function: what it records is rewritten, and so belongs to nobody else
PATIENCE = 60.0


def wait_for_mapper() -> None:
    """Wait until another thread has done mapping a function."""
    if not mapping.held() and not mapping.attempt(lambda: None, PATIENCE):
        raise RuntimeError(f"vmap: expected another thread to be done with its vmap; it has been busy for {PATIENCE:.0f} seconds. A mapped "
                           "function must not wait for a thread that uses tensors.")


def _in_child() -> None:
    global computing, mapping
    computing, mapping = Lock(), Lock()
    if state.vmap is None:
        state.rewriter, state.urgent = None, False      # of a thread that is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: computing.acquire(), after_in_parent=lambda: computing.release(), after_in_child=_in_child)
