"""Plans whose buffers are on a GPU: the same steps, launched one after another in the current stream."""

from __future__ import annotations

import numpy as np

from ..runtime import cuda
from ..targets.ptx import architecture_for
from .plan import Extern, Plan, late_error


class DevicePlan(Plan):
    """See `Plan`. Nothing waits for the GPU but steps done by NumPy; an index outside of its dimension is reported when somebody waits."""

    def __init__(self, device: str, *given):
        self.device = device
        super().__init__(*given)

    def _segments(self) -> None:
        """Each step: an Extern, or (kernel, function's name, launch, first word, words)."""
        self.launches: list = []
        properties = cuda.named(self.device).properties
        self.architecture = architecture_for((properties.major, properties.minor))
        self.words[self.pointer_at] = self.pointer_offset
        tiles = []
        for step, start in zip(self.steps, self.starts):
            if isinstance(step, Extern):
                self.launches.append(step)
                continue
            words = tuple(self.words[start:start + step.count].tolist())
            launch = step.kernel.launch(words, self.architecture)
            tiles.append([0, 0, launch.grid[0] * launch.grid[1] if launch else 0, 0])
            if launch:
                entry = step.kernel.entry(words, self.architecture)
                self.launches.append((step.kernel, entry, launch, self.words.ctypes.data + 8 * start, step.count))
        self.table_rows = np.array(tiles, np.int64).reshape(-1, 4)      # as `kernels` reads it
        self.times: dict = {}

    def run(self, nodes: list, leaves: list, numbers: list, timed: bool = False, wanted: int | None = None) -> None:
        device = cuda.named(self.device)
        buffers = self._results(leaves, device.allocate)
        arena = device.allocate(self.arena_bytes) if self.arena_bytes else None
        addresses = [n.buffer.address for n in leaves] + [b.address for b in buffers] + [arena.address if arena else 0]
        status = None
        if self.checks:
            status = device.allocate(8 * len(self.checks))
            device.clear(status.address, status.nbytes)
        addresses.append(status.address if status else 0)
        self._bind(addresses, numbers)
        for step in self.launches:
            if isinstance(step, Extern):
                self._on_host(device, step, addresses, numbers)
            else:
                kernel, entry, launch, words, count = step
                function = device.function(kernel.key, entry, lambda kernel=kernel: kernel.ptx(self.architecture))
                device.launch(function, launch.grid, launch.block, words, count)
        if status:
            told = [(nodes[n].op, nodes[n].where, size) for n, _, size in self.checks]
            device.check_later(status, len(told), lambda codes: _complain(codes, told))
        self._give(nodes, buffers)

    def _on_host(self, device, step: Extern, addresses: list, numbers: list) -> None:
        """A step done by NumPy: what it reads is fetched, what it writes sent back."""
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
