"""A caching allocator for the memory of a GPU.

Asking the driver for memory waits for the GPU, so what is freed is kept. Memory comes in segments, cut into blocks; free neighbours
join again. Blocks belong to the stream that they were made for: there, work on a block's next owner comes after that of its last,
so a block may be used again at once. Who lets other streams work with a block names them in `users`; the block is free when they have done
what they had been given by the time it came back. Nobody waits for that, unless there is no other memory.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable

from ..base.errors import OutOfMemoryError, message
from ..base.locks import Lock

ROUND = 512
SMALL = 1 << 20             # blocks up to here come from segments of their own kind
SMALL_SEGMENT = 2 << 20
LARGE_SEGMENT = 20 << 20
GRAIN = 2 << 20             # of larger segments


class Block:
    """A run of bytes in a segment. `before` and `after` are its neighbours."""

    __slots__ = ("address", "size", "stream", "free", "before", "after", "small", "users")

    def __init__(self, address: int, size: int, stream: int, small: bool, before=None, after=None):
        self.address, self.size, self.stream, self.small = address, size, stream, small
        self.before, self.after = before, after
        self.free = True
        self.users: set[int] = set()    # other streams that work with it

    def __lt__(self, other) -> bool:
        return (self.size, self.address) < (other.size, other.address)


class Allocator:
    """`reserve(nbytes) -> address` and `release(address)` are the driver's; `reserve` raises MemoryError when there is none left. `mark`
    gives an event after all that a stream has been given (`done()`, `synchronize()`), or None while it cannot."""

    def __init__(self, name: str, reserve: Callable[[int], int], release: Callable[[int], None], mark: Callable | None = None):
        self.name, self._reserve, self._release, self._mark = name, reserve, release, mark
        self._lock = Lock()
        self._in_use: list[tuple[Block, list]] = []     # given back, but other streams work with them until these events
        self._free: dict[tuple[int, bool], list[Block]] = {}    # (stream, small) -> blocks by size
        self._returned: deque[Block] = deque()      # by finalisers, which may come at any moment
        self.allocated = self.peak = 0
        self.reserved = self.reserved_peak = 0
        self.segments: set[int] = set()
        self.allocations = self.retries = 0

    def take(self, nbytes: int, stream: int = 0) -> Block:
        """A block of at least `nbytes` for work in a stream. OutOfMemoryError if the GPU has none."""
        size = max(ROUND, (nbytes + ROUND - 1) // ROUND * ROUND)
        small = size <= SMALL
        with self._lock:
            self.collect()
            block = self._best(size, stream, small) or self._segment(size, stream, small)
            self._cut(block, size)
            block.free = False
            self.allocations += 1
            self.allocated += block.size
            self.peak = max(self.peak, self.allocated)
        return block

    def give(self, block: Block) -> None:
        """Take a block back. May be called from a finaliser."""
        self._returned.append(block)

    def collect(self) -> None:
        """Put back what finalisers returned, and what other streams are done with."""
        with self._lock:
            self._collect()

    def _collect(self) -> None:
        later = []
        while self._returned:
            block = self._returned.popleft()
            marks = [self._mark(stream) for stream in block.users]
            if None in marks:
                later.append(block)
            elif marks:
                block.users.clear()
                self._in_use.append((block, marks))
            else:
                self._put(block)
        self._returned.extend(later)
        if self._in_use:
            waiting, self._in_use = self._in_use, []
            for block, marks in waiting:
                if all(mark.done() for mark in marks):
                    self._put(block)
                else:
                    self._in_use.append((block, marks))

    def _settle(self) -> None:
        """Wait for other streams."""
        for _, marks in self._in_use:
            for mark in marks:
                mark.synchronize()
        self.collect()

    def empty_cache(self) -> None:
        """Give whole free segments back to the driver."""
        with self._lock:
            self.collect()
            self._settle()
            for blocks in self._free.values():
                for block in [b for b in blocks if b.before is None and b.after is None]:
                    blocks.remove(block)
                    self.segments.discard(block.address)
                    self.reserved -= block.size
                    self._release(block.address)

    def reset_peak(self) -> None:
        self.collect()
        self.peak, self.reserved_peak = self.allocated, self.reserved

    # -- blocks ---------------------------------------------------------------------------------------------------

    def _best(self, size: int, stream: int, small: bool) -> Block | None:
        blocks = self._free.get((stream, small), [])
        at = bisect_left(blocks, Block(0, size, stream, small))
        return blocks.pop(at) if at < len(blocks) else None

    def _segment(self, size: int, stream: int, small: bool) -> Block:
        whole = SMALL_SEGMENT if small else max(LARGE_SEGMENT, (size + GRAIN - 1) // GRAIN * GRAIN)
        try:
            address = self._reserve(whole)
        except MemoryError:
            self.retries += 1
            self.empty_cache()
            whole = SMALL_SEGMENT if small else (size + GRAIN - 1) // GRAIN * GRAIN
            try:
                address = self._reserve(whole)
            except MemoryError:
                raise OutOfMemoryError(message(
                    "CUDA out of memory", f"{size:,} bytes on {self.name}", f"{self.allocated:,} bytes in use, {self.reserved:,} reserved",
                    "Use smaller batches, or free tensors that are no longer needed.")) from None
        self.segments.add(address)
        self.reserved += whole
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        return Block(address, whole, stream, small)

    def _cut(self, block: Block, size: int) -> None:
        """Keep what a block has too much."""
        rest = block.size - size
        if rest < (ROUND if block.small else SMALL):
            return
        tail = Block(block.address + size, rest, block.stream, block.small, block, block.after)
        if block.after is not None:
            block.after.before = tail
        block.after, block.size = tail, size
        insort(self._free.setdefault((block.stream, block.small), []), tail)

    def _put(self, block: Block) -> None:
        self.allocated -= block.size
        free = self._free.setdefault((block.stream, block.small), [])
        block.free = True
        after, before = block.after, block.before
        if after is not None and after.free:
            free.remove(after)
            self._join(block, after)
        if before is not None and before.free:
            free.remove(before)
            self._join(before, block)
            block = before
        insort(free, block)

    @staticmethod
    def _join(first: Block, second: Block) -> None:
        first.size += second.size
        first.after = second.after
        if second.after is not None:
            second.after.before = first
