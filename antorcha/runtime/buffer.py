"""A buffer: a run of bytes at a fixed address, from the allocator or shared with a NumPy array."""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from . import flight
from .memory import FINE, LARGE, allocator, size_class

MEMORY = ctypes.c_char * (sys.maxsize // 2)     # all there is from an address on, as NumPy takes memory: of any other way the quickest

_BYTE = ctypes.c_char


class Buffer:
    """`nbytes` of memory at `address`, a multiple of 64 (but for memory that came from outside).

    The memory lives as long as the buffer, or any array from `array()`. `exported` tells that somebody outside knows
    the address, so the contents must not move to another buffer.
    """

    __slots__ = ("address", "nbytes", "exported", "_capacity", "_owner", "__weakref__")

    device = "cpu"

    @staticmethod
    def allocate(nbytes: int) -> Buffer:
        """A buffer with undefined contents.

        Raises OutOfMemoryError (a RuntimeError) if the system has no memory left.
        """
        # The two hot cases of Allocator.take are written out: they halve the cost of a small tensor.
        capacity = (nbytes + 63) & -64 or 64 if nbytes <= FINE else size_class(nbytes)
        if capacity < LARGE:
            try:
                address = allocator.free[capacity].pop()
            except (KeyError, IndexError):
                address = allocator.take(capacity)
            else:
                allocated = allocator.allocated = allocator.allocated + capacity
                if allocated > allocator.peak:
                    allocator.peak = allocated
        else:
            address = allocator.take(capacity)
        self = Buffer()
        self.address = address
        self.nbytes = nbytes
        self.exported = False
        self._capacity = capacity
        return self

    @staticmethod
    def from_array(array: np.ndarray) -> Buffer:
        """The memory of `array`, from its lowest to its highest element; the array is kept alive."""
        low, size = address_of(array), array.nbytes
        if not array.flags.c_contiguous and size:
            high = low + array.itemsize
            for length, stride in zip(array.shape, array.strides):
                if stride < 0:
                    low += (length - 1) * stride
                else:
                    high += (length - 1) * stride
            size = high - low
        self = Buffer()
        self.address = low
        self.nbytes = size
        self.exported = True
        self._capacity = 0
        self._owner = array
        return self

    @staticmethod
    def within(whole: Buffer, start: int, nbytes: int) -> Buffer:
        """`nbytes` of another buffer's memory, from byte `start` on: its own to read, not to be given to a result."""
        self = Buffer()
        self.address = whole.address + start
        self.nbytes = nbytes
        self.exported = True
        self._capacity = 0
        self._owner = whole
        return self

    def __del__(self, allocator=allocator, large=LARGE, jobs=flight.jobs, uses=flight.uses, aside=flight.aside) -> None:
        # bound here: globals go first when the interpreter ends
        capacity = self._capacity
        if jobs and uses(self.address):
            aside.append((self.address, capacity) if capacity else self._owner)
        elif 0 < capacity < large:
            allocator.allocated -= capacity
            allocator.free[capacity].append(self.address)
        elif capacity:
            allocator.give(self.address, capacity)

    @property
    def __array_interface__(self) -> dict:
        if self.address in flight.awaited:
            flight.finish()
        return {"data": (self.address, False), "typestr": "|u1", "shape": (self.nbytes,), "version": 3}

    def array(self, dtype, count: int, offset: int = 0) -> np.ndarray:
        """`count` elements of a NumPy dtype, from byte `offset` on, as an array on this very memory (zero copy)."""
        self.exported = True
        if self.address in flight.awaited:
            flight.finish()
        memory = MEMORY.from_address(self.address)
        memory.owner = self
        return np.ndarray(count, dtype, memory, offset)

    def copy(self) -> Buffer:
        """Another buffer with these bytes."""
        fresh = Buffer.allocate(self.nbytes)
        fresh.copy_from(self)
        return fresh

    def copy_from(self, source: Buffer) -> None:
        """The bytes of another buffer; as many as both have."""
        count = min(self.nbytes, source.nbytes)
        self.array("uint8", count)[:] = source.array("uint8", count)

    def __repr__(self) -> str:
        return f"Buffer({self.nbytes} bytes at {self.address:#x})"


def address_of(array: np.ndarray) -> int:
    """Where an array's first element lies. (To ask for its interface takes a microsecond.)"""
    try:
        return ctypes.addressof(_BYTE.from_buffer(array))
    except (TypeError, ValueError, BufferError):     # it is read-only, empty, or has gaps
        return array.__array_interface__["data"][0]


def memory(address: int, count: int, dtype, v=None) -> np.ndarray:
    """NumPy's view of `count` elements at an address, or of an index map over them."""
    if v is None:
        return np.ndarray(count, dtype, MEMORY.from_address(address))
    size = dtype.itemsize
    back = size * sum([(1 - n) * t for n, t in zip(v.shape, v.strides) if t < 0])
    return np.ndarray(v.shape, dtype, MEMORY.from_address(address - back), back, [t * size for t in v.strides])
