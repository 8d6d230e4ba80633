"""Plans whose buffers are on a GPU: the same steps, launched in the current stream; one CUDA graph where a plan repeats."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..runtime import cublas, cuda, cuda_graph
from ..targets.cuda_contract import ContractionKernel
from ..targets.ptx import architecture_for
from .plan import Extern, Plan, late_error

REPEATED = 2        # runs after which a plan is worth a graph
FEWEST = 3          # launches that are


class DevicePlan(Plan):
    """See `Plan`. Nothing waits for the GPU but steps done by NumPy; an index outside of its dimension is reported when somebody waits."""

    def __init__(self, device: str, *given):
        self.device = device
        super().__init__(*given)

    alone = native = False

    def _segments(self) -> None:
        """How each step that has something to do is launched: an Extern, a call of the library, or (kernel, function's name, launch, first
        word, words)."""
        properties = cuda.named(self.device).properties
        self.architecture = architecture_for((properties.major, properties.minor))
        self.words[self.pointer_at] = self.pointer_offset
        self._binding()
        self.work: list = []        # (step's number, what is described above)
        tiles = []
        for k, (step, start) in enumerate(zip(self.steps, self.starts)):
            if isinstance(step, Extern):
                self.work.append((k, step))
                continue
            words = tuple(self.words[start:start + step.count].tolist())
            prepared = self._by_library(step.kernel, words, start)
            if prepared is not None:
                tiles.append([0, 0, 1, 0])
                self.work.append((k, prepared))
                continue
            kernel = step.kernel.fitted(words)
            launch = kernel.launch(words, self.architecture)
            tiles.append([0, 0, launch.grid[0] * launch.grid[1] if launch else 0, 0])
            if launch:
                entry = kernel.entry(words, self.architecture)
                self.work.append((k, (kernel, entry, launch, self.words.ctypes.data + 8 * start, step.count)))
        self.table_rows = np.array(tiles, np.int64).reshape(-1, 4)      # as `kernels` reads it
        self.times: dict = {}
        self.calls: list | None = None      # the work, once its code is loaded
        self.graph: cuda_graph.PlanGraph | None = None
        self.runs = 0

    def _by_library(self, kernel, words: tuple, start: int) -> cublas.LibraryCall | None:
        """A product as a call of cuBLASLt, if that is installed and can do it."""
        if not isinstance(kernel, ContractionKernel) or cublas.library() is None:
            return None
        from ..targets.cuda_library import product_of

        found = product_of(kernel, words)
        handle = cuda.named(self.device).library(cublas.library()) if found else None
        prepared = handle.prepared(found[0]) if handle else None
        if prepared is None:
            return None
        first = self.words.ctypes.data + 8 * start
        return cublas.LibraryCall(prepared, [(first + 8 * place[0], place[1]) if place else (0, 0) for place in found[1]])

    def run(self, nodes: list, leaves: list, numbers: list, timed: bool = False, wanted: int | None = None) -> None:
        """See `Plan.run`. Nothing is waited for: whoever reads a value does."""
        device = cuda.named(self.device)
        buffers = self._results(leaves, device.allocate)
        arena = device.arena(self.arena_bytes) if self.arena_bytes else None
        addresses = [n.buffer.address for n in leaves] + [b.address for b in buffers] + [arena.address if arena else 0]
        if device.capturing is not None:
            device.capturing += [n.buffer for n in leaves]      # the graph reads them where they are
        status = None
        if self.checks:
            status = device.allocate(8 * len(self.checks))
            device.clear(status.address, status.nbytes)
        addresses.append(status.address if status else 0)
        self.bind(addresses, numbers)
        if self.calls is None:
            kernels = [what[0] for _, what in self.work if isinstance(what, tuple)]
            device.prepare([(kernel.key, partial(kernel.ptx, self.architecture)) for kernel in kernels])
            self.calls = [(k, self._loaded(device, what)) for k, what in self.work]
        if timed:
            self._timed(device, addresses, numbers)
        elif not self._as_graph(device):
            for _, call in self.calls:
                if isinstance(call, Extern):
                    self._on_host(device, call, addresses, numbers)
                else:
                    call.launch(device)
        if status and device.capturing is None:
            told = [(nodes[n].op, nodes[n].where, size) for n, _, size in self.checks]
            device.check_later(status, len(told), lambda codes: _complain(codes, told))
        self._give(self.given(nodes), buffers)

    def _loaded(self, device, what):
        if not isinstance(what, tuple):
            return what
        kernel, entry, launch, words, count = what
        return device.call_of(kernel.key, entry, partial(kernel.ptx, self.architecture), launch, words, count)

    def _timed(self, device, addresses: list, numbers: list) -> None:
        marks = []
        for k, call in self.calls:
            start, end = cuda.Event(device, True), cuda.Event(device, True)
            start.record(device.stream)
            if isinstance(call, Extern):
                self._on_host(device, call, addresses, numbers)
            else:
                call.launch(device)
            end.record(device.stream)
            marks.append((k, start, end))
        device.wait_stream(device.stream)
        self.times.update({k: 1e6 * start.milliseconds_to(end) for k, start, end in marks})

    def _as_graph(self, device) -> bool:
        """Launch everything as one graph, if the plan has repeated; only arguments that changed are told to the driver."""
        if device.capturing is not None:
            return False        # the program makes one of its own
        self.runs += 1
        if self.graph is None:
            few = self.runs <= REPEATED or len(self.calls) < FEWEST
            if few or not cuda_graph.known(device) or any(isinstance(c, Extern) for _, c in self.calls):
                return False
            self.graph = cuda_graph.PlanGraph(device, [call for _, call in self.calls])
            self.sent = self.words.copy()
            self.first_words = np.array([self.starts[k] for k, _ in self.calls])
        if self.graph.stream != device.stream:
            return False
        changed = np.flatnonzero(self.words != self.sent)
        if changed.size:
            which = np.unique(np.searchsorted(self.first_words, changed, "right") - 1)
            if 4 * which.size > 3 * len(self.calls):
                return False                # as dear as launching
            try:
                for i in which.tolist():
                    self.graph.update(i)
            except cuda.CudaError:          # a library launches other kernels for other addresses: a new graph, in time
                self.graph, self.runs = None, 0
                return False
            self.sent[:] = self.words
        self.graph.launch()
        return True

    def _on_host(self, device, step: Extern, addresses: list, numbers: list) -> None:
        """A step done by NumPy: what it reads is fetched, what it writes sent back."""
        if device.capturing is not None:
            raise RuntimeError(f"{step.name}: expected operations that a GPU carries out alone while a CUDA graph is captured; this one is "
                               "done by NumPy on the host. Leave it out of the graph.")
        host: dict = {}

        def address(buffer) -> int:
            if buffer not in host:
                host[buffer] = np.empty(step.sizes[buffer], np.uint8)
                if buffer in step.reads:
                    device.download(self._address(buffer, addresses), host[buffer])
            return host[buffer].ctypes.data

        step.run(address, numbers)
        for buffer in step.writes:
            if buffer in host:
                device.upload_to(self._address(buffer, addresses), host[buffer])


def _complain(codes: list[int], told: list[tuple]) -> None:
    for code, (op, where, size) in zip(codes, told):
        if code:
            raise late_error(op, where, size, code)
