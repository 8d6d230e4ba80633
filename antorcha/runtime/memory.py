"""Memory for tensors: a caching allocator over pages from the operating system.

The first touch of a fresh page costs more than any elementwise kernel spends on it, so blocks are kept for reuse. Sizes are
rounded up to classes: multiples of 64 bytes to 4 KiB, then eight classes per doubling (at most 12.5 % is unused; pages that are
never touched cost nothing). Small blocks are cut from slabs and kept for good. Large ones are mapped one by one and kept, least
recently freed first out, up to `limit()` bytes.

Every address is a multiple of 64. The memory is private to the process: after a fork each side has its own copy.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

from ..base.errors import OutOfMemoryError, message
from ..base.locks import Lock

ALIGNMENT = 64
FINE = 4096  # up to here, classes are 64 bytes apart
LARGE = 1 << 20  # from here on, a block has its own mapping
SLAB = 1 << 20
HUGE_PAGE = 2 << 20
MADV_HUGEPAGE = getattr(mmap, "MADV_HUGEPAGE", None)


# -- pages ------------------------------------------------------------------------------------------------------

# Mapped through ctypes, not with the class mmap.mmap, whose memory goes when the interpreter ends: worker threads may
# still be looking at it then.

if sys.platform == "win32":
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.VirtualAlloc.restype = ctypes.c_void_p
    _kernel32.VirtualAlloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32]
    _kernel32.VirtualFree.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32]

    def map_pages(nbytes: int) -> int:
        """Address of `nbytes` of new zeroed memory, page-aligned; 0 if there is none."""
        return _kernel32.VirtualAlloc(None, nbytes, 0x3000, 0x04) or 0  # RESERVE | COMMIT, READWRITE

    def unmap_pages(address: int, nbytes: int) -> None:
        _kernel32.VirtualFree(address, 0, 0x8000)

    def _advise_huge(address: int, nbytes: int) -> None:
        pass
else:
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.mmap.restype = ctypes.c_void_p
    _libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t]
    _libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    _libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _FAILED = ctypes.c_void_p(-1).value
    _PROTECTION = mmap.PROT_READ | mmap.PROT_WRITE
    _FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

    def map_pages(nbytes: int) -> int:
        """Address of `nbytes` of new zeroed memory, page-aligned; 0 if there is none."""
        address = _libc.mmap(None, nbytes, _PROTECTION, _FLAGS, -1, 0)
        return 0 if address is None or address == _FAILED else address

    def unmap_pages(address: int, nbytes: int) -> None:
        _libc.munmap(address, nbytes)

    def _advise_huge(address: int, nbytes: int) -> None:
        if MADV_HUGEPAGE is not None:
            _libc.madvise(address, nbytes, MADV_HUGEPAGE)


# -- the allocator ----------------------------------------------------------------------------------------------

def size_class(nbytes: int) -> int:
    """The size of the block that serves a request."""
    if nbytes <= FINE:
        return (nbytes + 63) & -64 or ALIGNMENT
    shift = (nbytes - 1).bit_length() - 4
    return (((nbytes - 1) >> shift) + 1) << shift


class Allocator:
    """Hands out blocks and takes them back. All methods may be called from any thread, and `give` from a finaliser.

    The free lists of small blocks need no lock: a list's `pop` and `append` are atomic. The table of large blocks has one,
    which a finaliser must never wait for (the thread it interrupts may hold it): it leaves its block in `_returned`
    for the next caller that has the lock.
    """

    def __init__(self) -> None:
        self.free: dict[int, list[int]] = {}  # size class -> addresses of free blocks
        self.allocated = 0  # bytes in use now, and the most there has been
        self.peak = 0
        self.reserved = 0  # bytes mapped
        self.kept = 0  # bytes of free large blocks
        self._mappings: dict[int, tuple[int, int]] = {}  # large block -> (start of its mapping, length)
        self._kept_order: dict[int, int] = {}  # free large block -> its size, oldest first
        self._returned: list[tuple[int, int]] = []
        self._limit: int | None = None
        self._lock = Lock()

    def take(self, capacity: int) -> int:
        """Address of a block of this size class."""
        if capacity < LARGE:
            try:
                address = self.free[capacity].pop()
            except (KeyError, IndexError):
                address = self._cut_slab(capacity)
        else:
            address = self._take_large(capacity)
        allocated = self.allocated = self.allocated + capacity
        if allocated > self.peak:
            self.peak = allocated
        return address

    def give(self, address: int, capacity: int) -> None:
        """Take back a block that `take` returned."""
        self.allocated -= capacity
        if capacity < LARGE:
            self.free[capacity].append(address)
            return
        self._returned.append((address, capacity))
        if not self._lock.held():       # by this thread, at work on the lists, when a finaliser came
            self._lock.attempt(self._store_returned)

    # -- small blocks

    def _cut_slab(self, capacity: int) -> int:
        """Fill the free list of a class from a new slab (a part of one, if the blocks are tiny) and take one block."""
        count = max(1, min(SLAB // capacity, 64))
        with self._lock:
            blocks = self.free.setdefault(capacity, [])
            start = self._slab_space(count * capacity)
        blocks.extend(range(start + (count - 1) * capacity, start, -capacity))
        return start

    _slab_next = _slab_end = 0

    def _slab_space(self, nbytes: int) -> int:
        if self._slab_next + nbytes > self._slab_end:
            size = max(SLAB, nbytes)
            self._slab_next = self._map(size)
            self._slab_end = self._slab_next + size
        start = self._slab_next
        self._slab_next += nbytes
        return start

    # -- large blocks

    def _take_large(self, capacity: int) -> int:
        with self._lock:
            self._store_returned()
            blocks = self.free.get(capacity)
            if blocks:
                address = blocks.pop()
                self.kept -= self._kept_order.pop(address)
                return address
            return self._map_large(capacity)

    def _map_large(self, capacity: int) -> int:
        """A mapping of its own, huge pages where the system has them (they need a multiple of 2 MiB to start from)."""
        huge = capacity >= HUGE_PAGE and MADV_HUGEPAGE is not None
        length = capacity + HUGE_PAGE if huge else capacity
        start = address = self._map(length)
        if huge:
            address = (start + HUGE_PAGE - 1) & -HUGE_PAGE
            _advise_huge(address, capacity)
        self._mappings[address] = (start, length)
        return address

    def _store_returned(self) -> None:
        while self._returned:
            address, capacity = self._returned.pop()
            self.free.setdefault(capacity, []).append(address)
            self._kept_order[address] = capacity
            self.kept += capacity
        if self.kept > self.limit():
            self._release(self.limit())

    def _release(self, target: int) -> None:
        """Unmap free large blocks, those freed longest ago first, until at most `target` bytes are kept."""
        while self.kept > target and self._kept_order:
            address = next(iter(self._kept_order))
            capacity = self._kept_order.pop(address)
            self.kept -= capacity
            self.free[capacity].remove(address)
            start, length = self._mappings.pop(address)
            unmap_pages(start, length)
            self.reserved -= length

    def _map(self, nbytes: int) -> int:
        address = map_pages(nbytes)
        if not address:
            self._release(0)
            address = map_pages(nbytes)
        if not address:
            raise OutOfMemoryError(message(
                "memory", "room for the result",
                f"no memory from the system for {nbytes:,} bytes ({self.allocated:,} are in use)",
                "Use smaller batches, or free tensors that are no longer needed."))
        self.reserved += nbytes
        return address

    # -- settings and statistics

    def limit(self) -> int:
        """The most bytes kept in free large blocks: ANTORCHA_KEEP_BYTES, or a quarter of the machine's memory."""
        if self._limit is None:
            given = os.environ.get("ANTORCHA_KEEP_BYTES")
            self._limit = int(given) if given else _physical_memory() // 4
        return self._limit

    def set_limit(self, nbytes: int) -> None:
        self._limit = nbytes
        with self._lock:
            self._store_returned()

    def empty_cache(self) -> None:
        """Return the memory of all free large blocks to the system."""
        with self._lock:
            self._store_returned()
            self._release(0)

    def reset_peak(self) -> None:
        self.peak = self.allocated

    def after_fork(self) -> None:
        """In the child: another thread of the parent may have held the lock."""
        self._lock = Lock()


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


allocator = Allocator()
empty_cache = allocator.empty_cache

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=allocator.after_fork)
