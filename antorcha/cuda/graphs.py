"""torch.cuda.CUDAGraph: work captured once and replayed on the same memory.

antorcha makes graphs of plans that repeat by itself; these are for programs that capture their own. While work is captured nothing is
computed. Memory that it uses belongs to the graph. A tensor that was there before and is changed is changed in its place. Each replay draws
random numbers of its own. Indices are not checked in replays.
"""

from __future__ import annotations

import weakref

from ..core.generator import generator_of
from ..core.storage import Storage
from ..graph import tape
from ..graph.node import leaf
from ..runtime import cuda as _cuda
from ..runtime.cuda import Buffer
from ..runtime.cuda_graph import Capture, Graph


class _Memory:
    """Memory of graphs. While one is captured, `written` holds the storages that were changed, and what they held before."""

    def __init__(self):
        self.buffers: weakref.WeakSet = weakref.WeakSet()
        self.written: dict | None = None

    def __call__(self, storage, node) -> bool:
        """Before a storage is given another value: whether that is done, by a copy to where a graph reads or writes it."""
        old = storage.node.buffer
        if old is None:
            return False
        if self.written is not None:
            self.written.setdefault(storage, storage.node)
            return False
        if not self.buffers:        # the graphs are gone
            tape.state.kept = None
            return False
        if old not in self.buffers:
            return False
        tape.flush()        # others may read the old value
        old.copy_from(Storage.of(node).buffer())
        return True


_memory = _Memory()


class CUDAGraph:
    """Work on a device, captured between `capture_begin` and `capture_end` (see `torch.cuda.graph`), and carried out by `replay`."""

    def __init__(self, keep_graph: bool = False):
        self._graph: Graph | None = None
        self._capture: Capture | None = None
        self._memory: list = []
        self._written: dict = {}
        self._numbers: tuple | None = None      # the device's generator, where its state is read, how far a replay advances it
        self._streams: set[int] = set()         # in which it was replayed

    def capture_begin(self, pool=None, capture_error_mode: str = "global") -> None:
        """Capture what is given to the current stream from now on, which must not be the default one. `pool` is not needed: a graph keeps
        its memory to itself."""
        device = _cuda.device()
        if not device.stream:
            raise RuntimeError("capture_begin: expected another stream than the default one to be current. "
                               "CUDA graphs must be captured on a non-default stream: with torch.cuda.graph(g).")
        if device.capturing is not None:
            raise RuntimeError("capture_begin: another graph is being captured on this device. End that capture first.")
        tape.flush()
        self.reset()
        device.synchronize()
        generator, state = generator_of(device.name), device.allocate(16)
        generator.begin_capture(state)
        self._numbers = generator, state, 0
        self._memory.append(state)
        self._capture = Capture(device, device.stream)
        self._capture.__enter__()
        device.capturing, self._scratch, device.scratch = self._memory, device.scratch, {}
        _memory.written = self._written
        tape.state.kept = _memory

    def capture_end(self) -> None:
        """End the capture."""
        self._end(None)

    def _end(self, kind) -> None:
        capture, self._capture = self._capture, None
        if capture is None:
            raise RuntimeError("capture_end: no capture has begun. Call capture_begin first.")
        device = capture.device
        try:
            if kind is None:
                tape.flush()
                self._write_back(device)
        except BaseException as error:
            kind = type(error)
            raise
        finally:
            generator, state, _ = self._numbers
            self._numbers = generator, state, generator.end_capture()
            _memory.written = device.capturing = None
            device.scratch = self._scratch
            capture.__exit__(kind)
            _memory.buffers.update(self._buffers())
        if kind is None:
            self._graph = Graph(device)
            self._graph.instantiate(capture.graph)

    def _write_back(self, device) -> None:
        """What was there before stays where it is: new values are copied to it."""
        for storage, old in self._written.items():
            new = storage.node.buffer
            if new is not old.buffer and new is not None and new.device == old.buffer.device:
                device.copy(old.buffer.address, new.address, min(new.nbytes, old.buffer.nbytes))
                storage.node = leaf(old.buffer, old.numel, old.dtype)
            self._memory.append(old.buffer)
        self._written.clear()

    def replay(self) -> None:
        """Carry out the captured work in the current stream."""
        if self._graph is None:
            raise RuntimeError("replay: expected a graph that has been captured (called without a preceding successful capture). "
                               "Capture it first: with torch.cuda.graph(g).")
        tape.flush()
        generator, state, drawn = self._numbers
        if drawn:
            self._graph.device.upload_to(state.address, generator.replayed(drawn))
        self._graph.launch()
        self._streams.add(self._graph.device.stream)

    def _buffers(self) -> list[Buffer]:
        return [x for x in self._memory if isinstance(x, Buffer)]       # there is host memory too, which is copied from

    def reset(self) -> None:
        """Forget what was captured, and let its memory go, when replays are done with it."""
        self._graph = self._numbers = None
        for buffer in self._buffers():
            _memory.buffers.discard(buffer)
            for stream in self._streams:
                buffer.used_in(stream)
        self._streams.clear()
        self._memory.clear()
        self._written.clear()
        if _memory.written is None and not _memory.buffers:
            tape.state.kept = None

    def __del__(self):
        self.reset()

    def pool(self) -> tuple[int, int]:
        """Something to hand to other captures, which do not need it."""
        return (0, id(self))


class graph:
    """`with torch.cuda.graph(g):` captures what is done within into a CUDAGraph."""

    def __init__(self, cuda_graph: CUDAGraph, pool=None, stream=None, capture_error_mode: str = "global"):
        from . import Stream, StreamContext

        self.cuda_graph = cuda_graph
        self._stream = StreamContext(stream or Stream())

    def __enter__(self) -> None:
        _cuda.device().synchronize()
        self._stream.__enter__()
        self.cuda_graph.capture_begin()

    def __exit__(self, kind, *exc) -> None:
        try:
            self.cuda_graph._end(kind)
        finally:
            self._stream.__exit__(kind, *exc)


def graph_pool_handle() -> tuple[int, int]:
    """Something to hand to captures as `pool`: graphs keep their memory to themselves."""
    return (0, 0)


def is_current_stream_capturing() -> bool:
    """Whether work given to the current device is being captured."""
    return _cuda.is_initialized() and _cuda.device().capturing is not None


def make_graphed_callables(callables, sample_args, num_warmup_iters: int = 3, allow_unused_input: bool = False, pool=None):
    """The callables as they are: what they do becomes a CUDA graph by itself when it repeats."""
    return callables
