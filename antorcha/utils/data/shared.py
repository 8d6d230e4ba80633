"""Batches from a worker to its parent through shared memory.

Each worker shares one arena with the parent: a file without a name, mapped by both, far larger than needed (memory is
taken when a page is touched). The worker divides it into regions and copies, or collates directly, into them; a message
carries offsets. The parent's arrays lie on the arena itself, and when the last array on a region dies, the parent
tells the worker with its next request that the region is free. Nothing has a name, so nothing is left behind by a crash.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import tempfile
from collections import deque
from io import BytesIO
from math import prod
from multiprocessing import reduction

import numpy as np

from ...base import dtype as dtypes
from ...core.tensor import Tensor
from ...io import host
from ...nn.parameter import Parameter

SMALL = 1024  # bytes; smaller arrays travel in the message itself
_HEAD = struct.Struct("<qq")  # task, number of regions
_REGION = struct.Struct("<qq")  # offset, bytes


class Arena:
    """`size` bytes of memory shared between processes."""

    def __init__(self, descriptor: int, size: int):
        self.descriptor, self.size = descriptor, size
        self._memory = np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
        self.address: int = self._memory.__array_interface__["data"][0]

    @staticmethod
    def create() -> Arena | None:
        """A new arena, or None where the system gives none: then batches travel through the pipe."""
        for size in (1 << 36, 1 << 32, 1 << 29):
            descriptor = -1
            try:
                descriptor = _nameless_file()
                os.ftruncate(descriptor, size)
                return Arena(descriptor, size)
            except (OSError, ValueError, OverflowError, MemoryError):
                if descriptor >= 0:
                    os.close(descriptor)
        return None

    def close(self) -> None:
        """Give the descriptor back; the mapping lives as long as arrays on it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __reduce__(self):  # only while a process is being spawned
        return _attach, (reduction.DupFd(self.descriptor), self.size)


def _attach(descriptor, size: int) -> Arena:
    return Arena(descriptor.detach(), size)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("antorcha-batches")
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor


class _Lease:
    """Memory of a region: whatever array is made of it keeps it, and its death gives the region back."""

    __slots__ = ("__array_interface__", "_arena", "_offset", "_release")

    def __init__(self, arena: Arena | None, offset: int, nbytes: int, release):
        assert arena is not None
        self.__array_interface__ = {"data": (arena.address + offset, False), "typestr": "|u1", "shape": (nbytes,), "version": 3}
        self._arena, self._offset, self._release = arena, offset, release

    def __del__(self) -> None:
        self._release(self._offset)


class Sender:
    """The worker's side: hands out regions and packs messages."""

    def __init__(self, arena: Arena | None):
        self._arena = arena
        self._top = 0
        self._free: dict[int, list[int]] = {}
        self._capacity: dict[int, int] = {}  # of each region in use, by offset
        self._holders: dict[int, int] = {}  # the worker, the parent, or both

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised array, in shared memory if it is large and there is room."""
        nbytes = prod(shape) * dtype.itemsize
        offset = self._take(nbytes) if nbytes >= SMALL else None
        if offset is None:
            return np.empty(shape, dtype)
        return np.asarray(_Lease(self._arena, offset, nbytes, self.release)).view(dtype).reshape(shape)

    def _take(self, nbytes: int) -> int | None:
        if self._arena is None:
            return None
        capacity = _capacity(nbytes)
        free = self._free.setdefault(capacity, [])
        if free:
            offset = free.pop()
        elif self._top + capacity <= self._arena.size:
            offset = self._top
            self._top += capacity
        else:
            return None
        self._capacity[offset], self._holders[offset] = capacity, 1
        return offset

    def release(self, offset: int) -> None:
        """One of the holders of a region has let go of it."""
        self._holders[offset] -= 1
        if not self._holders[offset]:
            del self._holders[offset]
            self._free[self._capacity.pop(offset)].append(offset)

    def _publish(self, buffer: pickle.PickleBuffer, regions: list[tuple[int, int]]) -> bool:
        """Put a buffer into shared memory; True (`leave it in the pickle`) if it is small or there is no room."""
        with buffer.raw() as raw:
            if raw.nbytes < SMALL or self._arena is None:
                return True
            data = np.frombuffer(raw, np.uint8)
            offset = data.__array_interface__["data"][0] - self._arena.address
            if offset in self._holders:  # collated in place
                self._holders[offset] += 1
            else:
                found = self._take(raw.nbytes)
                if found is None:
                    return True
                offset = found
                start = self._arena._memory[offset : offset + raw.nbytes]
                start[:] = data
            regions.append((offset, raw.nbytes))
            return False

    def message(self, task: int, payload) -> bytes:
        """The bytes of an answer."""
        regions: list[tuple[int, int]] = []
        body = BytesIO()
        pickler = pickle.Pickler(body, 5, buffer_callback=lambda buffer: self._publish(buffer, regions))
        pickler.dispatch_table = _REDUCERS
        try:
            pickler.dump(payload)
        except BaseException:
            for offset, _ in regions:
                self.release(offset)
            raise
        table = b"".join(_REGION.pack(*region) for region in regions)
        return b"".join((_HEAD.pack(task, len(regions)), table, body.getbuffer()))


def _capacity(nbytes: int) -> int:
    """The size of region for so many bytes: eight sizes between two powers of two, all multiples of 64."""
    step = max(64, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step


class Receiver:
    """The parent's side: unpacks messages. `released` collects the regions to give back."""

    def __init__(self, arena: Arena | None):
        self._arena = arena
        self.released: deque[int] = deque()

    def unpack(self, message: bytes) -> tuple[int, object]:
        """(task, payload) of a message; the payload's large arrays lie in the arena."""
        task, count = _HEAD.unpack_from(message)
        body = _HEAD.size + count * _REGION.size
        buffers = [np.asarray(_Lease(self._arena, offset, nbytes, self.released.append))
                   for offset, nbytes in _REGION.iter_unpack(memoryview(message)[_HEAD.size : body])]
        return task, pickle.loads(memoryview(message)[body:], buffers=buffers)

    def take_released(self) -> list[int]:
        offsets = []
        while self.released:
            offsets.append(self.released.popleft())
        return offsets


# tensors in messages: only their elements travel


def _reduce(tensor: Tensor):
    if tensor.requires_grad and not tensor.is_leaf:
        raise RuntimeError("DataLoader: expected samples without a graph; received a non-leaf tensor that requires grad. "
                           "Detach it in the worker: tensor.detach()")
    if tensor.dtype.numpy is None:
        return tensor.__reduce_ex__(5)
    array = host.peek(tensor)
    order = None
    if not array.flags.c_contiguous:
        order = tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))
        array = np.ascontiguousarray(array.transpose(order))
    elif array.nbytes < SMALL:
        array = array.copy()  # writable, so that it is writable on the other side
    flags = (type(tensor) is Parameter, tensor.requires_grad)
    return _tensor, (pickle.PickleBuffer(array.data), tensor.dtype.name, array.shape, order, flags)


def _tensor(data, name: str, shape: tuple[int, ...], order: tuple[int, ...] | None, flags: tuple[bool, bool]):
    array = np.frombuffer(data, dtypes.of(name).numpy).reshape(shape)
    if not array.flags.writeable:
        array = array.copy()
    tensor = host.adopt(array)
    if order is not None:
        tensor = tensor.permute(  # type: ignore[attr-defined]
            tuple(order.index(axis) for axis in range(len(order))))
    is_parameter, requires_grad = flags
    if is_parameter:
        return Parameter(tensor, requires_grad)
    return tensor.requires_grad_(True) if requires_grad else tensor


_REDUCERS: dict = {Tensor: _reduce, Parameter: _reduce}

_sender: Sender | None = None  # in a worker process


def serve(sender: Sender) -> None:
    """From now on this process collates into `sender`'s arena."""
    global _sender
    _sender = sender


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array for a batch: in a worker, in shared memory."""
    return np.empty(shape, dtype) if _sender is None else _sender.empty(shape, dtype)
