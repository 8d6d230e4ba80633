"""NVIDIA GPUs through their driver alone (libcuda by ctypes): devices, streams, events, memory, modules, launches.

Nothing here runs before a GPU is asked for: the library is looked for with the first question (`unavailable`), a context is made
with the first use of a device. A process that was forked after that cannot use the GPU (CUDA's rule): it is told so, and what it
inherited is left alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

import numpy as np

from ..base.locks import Lock
from .cuda_memory import Allocator, Block

OUT_OF_MEMORY, NOT_READY, OLD_DRIVER = 2, 600, 222
NON_BLOCKING, NO_TIMING = 1, 2      # flags of streams, of events
BUFFER_POINTER, BUFFER_SIZE = 1, 2  # kinds of the extra arguments of a launch
TRANSLATORS = 8     # threads in which the driver translates PTX
MAJOR, MINOR, PROCESSORS, THREADS_OF_PROCESSOR, WARP, SHARED = 75, 76, 16, 39, 10, 97      # device attributes
MOST_SHARED = 8     # the attribute of a function that says how much shared memory its launches may ask for
ERROR_LOG, ERROR_LOG_SIZE = 5, 6     # options of translating
ALWAYS = 48 << 10   # bytes of shared memory that every launch may
STREAMS = 32        # of one priority, that programs are given in turn
STAGED = 1 << 20    # bytes up to which memory that is not page-locked is copied to some that is, so that nobody waits


class Unavailable(RuntimeError):
    """There is no GPU that can be used."""


class CudaError(RuntimeError):
    """The driver reported an error."""


# -- the library ------------------------------------------------------------------------------------------------

def _find() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


class Driver:
    """The functions of libcuda. `call` raises CudaError where one fails."""

    def __init__(self, library):
        self.library = library
        self.process = os.getpid()
        self.reason: str | None = None
        self.count = 0
        self.ready = False

    def call(self, name: str, *args) -> None:
        code = getattr(self.library, name)(*args)
        if code:
            self.fail(name, code)

    def fail(self, name: str, code: int) -> None:
        text = c_char_p()
        self.library.cuGetErrorString(code, byref(text))
        if code == OUT_OF_MEMORY:
            raise MemoryError(f"CUDA out of memory in {name}. Use smaller batches, or free tensors that are no longer needed.")
        raise CudaError(f"CUDA error in {name}: {(text.value or b'unknown error').decode()} (code {code}).")

    def start(self) -> None:
        """Count the devices. No context is made."""
        if not self.ready:
            with _lock:
                if not self.ready:
                    self._count()
                    self.ready = True

    def _count(self) -> None:
        code = self.library.cuInit(0)
        if code:
            text = c_char_p()
            self.library.cuGetErrorString(code, byref(text))
            self.reason = f"the NVIDIA driver does not start: {(text.value or b'unknown error').decode()}"
            return
        count = c_int()
        self.call("cuDeviceGetCount", byref(count))
        self.count = count.value
        if not self.count:
            self.reason = "the NVIDIA driver finds no GPU"


_driver: Driver | None = None
_missing: str | None = None
_forked = False
_lock = Lock()


def driver() -> Driver:
    """The driver, started. Unavailable, with the reason, where there is none or no GPU."""
    global _driver, _missing
    if _forked:
        raise Unavailable("CUDA cannot be used in a process forked after its first use. Start such processes with the 'spawn' method.")
    if _driver is None and _missing is None:
        with _lock:
            try:
                _driver = Driver(_find())
            except OSError:
                _missing = "there is no NVIDIA driver on this machine (libcuda was not found)"
    if _driver is None:
        raise _not_there(_missing)
    _driver.start()
    if _driver.reason:
        raise _not_there(_driver.reason)
    return _driver


def _not_there(reason: str | None) -> Unavailable:
    return Unavailable(f"device 'cuda' is not available: {reason}. Compute on the CPU (device='cpu'), or choose with "
                       "torch.cuda.is_available().")


def unavailable() -> str | None:
    """Why there is no GPU; None if there is one."""
    try:
        driver()
    except Unavailable as e:
        return str(e)
    return None


def device_count() -> int:
    return 0 if unavailable() else driver().count


def use(library) -> None:
    """Replace the driver's library (None: look for it again), for tests."""
    global _driver, _missing
    for device in _devices.values():
        device.lost = True
    _devices.clear()
    _idle.clear()
    _driver, _missing = (None if library is None else Driver(library)), None
    _current.__dict__.clear()


def _after_fork() -> None:
    global _forked, _lock
    _lock = Lock()
    _current.bound = None       # so that it is told with the first call, whatever that is
    if _devices:
        _forked = True
        for device in _devices.values():
            device.lost = True
    elif _driver is not None and _driver.ready:
        _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# -- devices ----------------------------------------------------------------------------------------------------

class _Current(threading.local):
    """The current device of each thread, its stream on each device, and whose context is bound."""

    index = 0
    bound: Device | None = None


_current = _Current()
_devices: dict[int, Device] = {}


def current_index() -> int:
    return _current.index


def set_current(index: int) -> None:
    check_index(index)
    _current.index = index


def check_index(index: int) -> None:
    count = driver().count
    if not 0 <= index < count:
        raise RuntimeError(f"cuda: expected a device index in [0, {count}); received {index}.")


def device(index: int | None = None) -> Device:
    """A device, with its context; the current one for None."""
    index = _current.index if index is None else index
    found = _devices.get(index)
    if found is None:
        check_index(index)
        with _lock:
            found = _devices.get(index) or _devices.setdefault(index, Device(driver(), index))
    return found


def named(name: str) -> Device:
    """The device of a name such as "cuda:0"."""
    return device(int(name.partition(":")[2] or _current.index))


def in_use() -> list[Device]:
    """The devices that have a context."""
    return list(_devices.values())


def is_initialized() -> bool:
    """Whether a context exists."""
    return bool(_devices)


class Properties:
    """What a device is, found out without a context."""

    def __init__(self, index: int):
        check_index(index)
        d = driver()
        handle = c_int()
        d.call("cuDeviceGet", byref(handle), index)
        self.handle = handle.value
        name = ctypes.create_string_buffer(256)
        d.call("cuDeviceGetName", name, 256, self.handle)
        self.name = name.value.decode()
        total = c_size_t()
        d.call("cuDeviceTotalMem_v2", byref(total), self.handle)
        self.total_memory = total.value
        (self.major, self.minor, self.multi_processor_count, self.max_threads_per_multi_processor, self.warp_size,
         self.shared_memory) = (self._attribute(d, number) for number in (MAJOR, MINOR, PROCESSORS, THREADS_OF_PROCESSOR, WARP, SHARED))

    @property
    def bus_id(self) -> str:
        """Domain, bus, device and function, as other libraries of NVIDIA's know the device."""
        found = ctypes.create_string_buffer(64)
        driver().call("cuDeviceGetPCIBusId", found, 64, self.handle)
        return found.value.decode()

    def _attribute(self, d: Driver, number: int) -> int:
        value = c_int()
        d.call("cuDeviceGetAttribute", byref(value), number, self.handle)
        return value.value

    def __repr__(self) -> str:
        return (f"_CudaDeviceProperties(name='{self.name}', major={self.major}, minor={self.minor}, "
                f"total_memory={self.total_memory >> 20}MB, multi_processor_count={self.multi_processor_count})")


@functools.lru_cache(maxsize=64)
def _properties(library_id: int, index: int) -> Properties:
    return Properties(index)


def properties(index: int | None = None) -> Properties:
    return _properties(id(driver().library), _current.index if index is None else index)


class Device:
    """A GPU with its context, allocator and loaded modules. Its methods bind the context to the calling thread."""

    def __init__(self, driver: Driver, index: int):
        self.driver, self.index, self.name = driver, index, f"cuda:{index}"
        self.lost = False           # of a parent process, or of another driver
        self.properties = properties(index)
        context = c_void_p()
        driver.call("cuDevicePrimaryCtxRetain", byref(context), self.properties.handle)
        self.context = context
        self.allocator = Allocator(self.name, self._reserve, self._release, self._mark)
        self.functions: dict[tuple[str, str], c_void_p] = {}
        self._modules: dict[str, c_void_p] = {}
        self.scratch: dict[tuple, Buffer] = {}      # (whose, stream): memory for what is done there meanwhile
        self.streams = threading.local()
        self._pool: dict[int, list[int]] = {}       # streams by priority
        self._handed = 0
        self._checks: list[tuple[int, np.ndarray, Buffer, Callable]] = []
        self._in_flight: deque[tuple[Event, np.ndarray]] = deque()      # arrays that copies still read
        self.launches = 0
        self._roomy: dict[int, int] = {}        # function -> bytes of shared memory that its launches may ask for
        self._libraries: dict[int, object] = {}
        self.capturing: list | None = None      # the memory of the graph into which work is being captured

    def bind(self) -> None:
        """Make this device's context the calling thread's."""
        if _current.bound is not self:
            if self.lost:
                raise Unavailable("CUDA cannot be used in a process forked after its first use. Start such processes with the "
                                  "'spawn' method.")
            self.driver.call("cuCtxSetCurrent", self.context)
            _current.bound = self

    def call(self, name: str, *args) -> None:
        """A driver function, in this device's context."""
        self.bind()
        self.driver.call(name, *args)

    def asked(self, name: str, *args) -> bool:
        """Whether something is done, as a driver function of this kind tells."""
        self.bind()
        code = getattr(self.driver.library, name)(*args)
        if code not in (0, NOT_READY):
            self.driver.fail(name, code)
        return code == 0

    def let_go(self, name: str, *args) -> None:
        """A driver function that destroys something, for finalisers: an error that work before it met is told elsewhere."""
        if not self.lost:
            self.bind()
            getattr(self.driver.library, name)(*args)

    # -- memory

    def _reserve(self, nbytes: int) -> int:
        address = c_uint64()
        self.call("cuMemAlloc_v2", byref(address), c_size_t(nbytes))
        return address.value

    def _release(self, address: int) -> None:
        self.synchronize(checked=False)
        self.call("cuMemFree_v2", c_uint64(address))

    def _mark(self, stream: int) -> Event | None:
        """An event after all that a stream has been given; None while work is being captured."""
        if self.capturing is not None:
            return None
        event = Event(self, False)
        event.record(stream)
        return event

    def memory_info(self) -> tuple[int, int]:
        """(free, total) bytes."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def allocate(self, nbytes: int) -> Buffer:
        buffer = Buffer(self, self.allocator.take(nbytes, self.stream), nbytes)
        if self.capturing is not None:
            self.capturing.append(buffer)
        return buffer

    def arena(self, nbytes: int) -> Buffer:
        """Memory for what lives only while a plan runs: one block for each stream, kept, grown when a plan needs more."""
        found = self.scratch.get(("arena", self.stream))
        if found is None or found.nbytes < nbytes:
            found = None
            self.scratch.pop(("arena", self.stream), None)
            found = self.scratch["arena", self.stream] = self.allocate(nbytes)
        return found

    def empty_cache(self) -> None:
        """Give what is not in use back to the driver."""
        for key in [key for key in self.scratch if key[0] == "arena"]:       # the address of other scratch is in the graphs of plans
            del self.scratch[key]
        self.allocator.empty_cache()
        Pinned.empty_cache()

    def upload(self, source: np.ndarray, wait: bool = True) -> Buffer:
        """A buffer with the bytes of a contiguous array; see `upload_to`."""
        buffer = self.allocate(source.nbytes)
        self.upload_to(buffer.address, source, wait)
        return buffer

    def upload_to(self, address: int, source: np.ndarray, wait: bool = True) -> None:
        """Copy a contiguous array to the device. It may change once this returns; without `wait`, if it lies in page-locked memory, only
        when the copy is done. Of other memory the driver does not say when it has read it."""
        if not source.nbytes:
            return
        locked = is_pinned(source.ctypes.data)
        if not locked and (source.nbytes <= STAGED or self.capturing is not None):
            staged = pinned(source.nbytes)
            staged[:] = source.reshape(-1).view(np.uint8)
            source, locked, wait = staged, True, False
        self.call("cuMemcpyHtoDAsync_v2", c_uint64(address), c_void_p(source.ctypes.data), c_size_t(source.nbytes), c_void_p(self.stream))
        if self.capturing is not None:
            self.capturing.append(source)       # each replay reads it
        elif wait or not locked:
            self.wait_stream(self.stream)
        else:
            mark = Event(self, False)
            mark.record(self.stream)
            with _lock:
                while self._in_flight and self._in_flight[0][0].done():
                    self._in_flight.popleft()
                self._in_flight.append((mark, source))

    def download(self, address: int, out: np.ndarray) -> np.ndarray:
        """Fill a contiguous array with bytes from the device, when all work in the stream is done."""
        if out.nbytes:
            self.call("cuMemcpyDtoHAsync_v2", c_void_p(out.ctypes.data), c_uint64(address), c_size_t(out.nbytes), c_void_p(self.stream))
        self.wait_stream(self.stream)
        self._settle_checks(self.stream)
        return out

    def copy(self, to: int, source: int, nbytes: int) -> None:
        if nbytes:
            self.call("cuMemcpyDtoDAsync_v2", c_uint64(to), c_uint64(source), c_size_t(nbytes), c_void_p(self.stream))

    def clear(self, address: int, nbytes: int) -> None:
        if nbytes:
            self.call("cuMemsetD8Async", c_uint64(address), ctypes.c_ubyte(0), c_size_t(nbytes), c_void_p(self.stream))

    # -- streams

    @property
    def stream(self) -> int:
        """The handle of the calling thread's current stream; 0 is the default one."""
        return getattr(self.streams, "current", 0)

    @stream.setter
    def stream(self, handle: int) -> None:
        self.streams.current = handle

    @property
    def home(self) -> int:
        """The stream that work is for: the current one, or what was current before a plan's own capture."""
        beneath = getattr(self.streams, "beneath", None)
        return self.stream if beneath is None else beneath

    def new_stream(self, priority: int = 0) -> int:
        handle = c_void_p()
        self.call("cuStreamCreateWithPriority", byref(handle), c_uint(NON_BLOCKING), c_int(priority))
        return handle.value or 0

    def pooled_stream(self, priority: int = 0) -> int:
        """One of a few streams, each in turn: the driver's are dear, and programs make them without end."""
        streams = self._pool.setdefault(priority, [])
        self._handed += 1
        if len(streams) < STREAMS:
            streams.append(self.new_stream(priority))
            return streams[-1]
        return streams[self._handed % STREAMS]

    def wait_stream(self, handle: int) -> None:
        self.call("cuStreamSynchronize", c_void_p(handle))

    def stream_done(self, handle: int) -> bool:
        """Whether all work given to a stream is done."""
        return self.asked("cuStreamQuery", c_void_p(handle))

    def synchronize(self, checked: bool = True) -> None:
        """Wait until all work is done; an error that a kernel noted is raised."""
        self.call("cuCtxSynchronize")
        if checked:
            self._settle_checks()

    # -- code

    def function(self, key: str, entry: str, ptx: Callable[[], str]) -> c_void_p:
        """A function of the module that `key` determines, loaded once."""
        found = self.functions.get((key, entry))
        if found is None:
            module = self._modules.get(key)
            if module is None:
                module = self._modules[key] = self._load(ptx())
            found = self.functions[key, entry] = c_void_p()
            self.call("cuModuleGetFunction", byref(found), module, entry.encode())
        return found

    def call_of(self, key: str, entry: str, ptx: Callable[[], str], launch, words: int, count: int) -> Call:
        """A function with its launch (grid, block, shared)."""
        function = self.function(key, entry, ptx)
        if launch.shared > self._roomy.get(function.value, ALWAYS):     # never less than another launch of it needs
            self.call("cuFuncSetAttribute", function, c_int(MOST_SHARED), c_int(launch.shared))
            self._roomy[function.value] = launch.shared
        return Call(function, launch, words, count)

    def prepare(self, modules: list[tuple[str, Callable[[], str]]]) -> None:
        """Load modules (key, what gives their PTX) that are not loaded yet: the driver translates several while the next is made."""
        missing = {key: ptx for key, ptx in modules if key not in self._modules}
        if len(missing) < 2:
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(missing), TRANSLATORS)) as pool:
            loading = [(key, pool.submit(self._load, ptx())) for key, ptx in missing.items()]
        for key, module in loading:
            self._modules[key] = module.result()

    def _load(self, ptx: str) -> c_void_p:
        module, log = c_void_p(), ctypes.create_string_buffer(8192)
        options = (c_int * 2)(ERROR_LOG, ERROR_LOG_SIZE)
        values = (c_void_p * 2)(ctypes.cast(log, c_void_p), c_void_p(len(log)))
        self.bind()
        code = self.driver.library.cuModuleLoadDataEx(byref(module), c_char_p(ptx.encode()), c_uint(2), options, values)
        if code == OLD_DRIVER:
            raise CudaError(f"cuda: expected a driver that knows the kernels' language, PTX{ptx.partition('.version')[2][:4]}; received an "
                            "older one. Update the NVIDIA driver, or compute with device='cpu'.")
        if code:
            try:
                self.driver.fail("cuModuleLoadDataEx", code)
            except CudaError as e:
                raise CudaError(f"{e} {log.value.decode(errors='replace')}") from None
        return module

    def launch(self, call: Call) -> None:
        """Launch a kernel in the current stream; its words are read at once."""
        self.call("cuLaunchKernel", call.function, *call.shape, call.shared, c_void_p(self.stream), None, call.extra)
        self.launches += 1

    def library(self, lib):
        """cuBLASLt's state on this device; None if it does not start here (it may be newer than the driver)."""
        if id(lib) not in self._libraries:
            from .cublas import CublasError, Handle

            try:
                self._libraries[id(lib)] = Handle(self, lib)
            except CublasError as e:
                import warnings

                warnings.warn(f"cuBLASLt does not start on {self.name}, products are computed without it: {e}", stacklevel=2)
                self._libraries[id(lib)] = None
        return self._libraries[id(lib)]

    # -- what kernels note

    def check_later(self, status: Buffer, count: int, complain: Callable[[list[int]], None]) -> None:
        """Once work is done and somebody waits for it: `complain(words)` if one of a buffer's int64 words is not 0."""
        host = pinned(8 * count).view(np.int64)
        self.call("cuMemcpyDtoHAsync_v2", c_void_p(host.ctypes.data), c_uint64(status.address), c_size_t(8 * count), c_void_p(self.stream))
        self._checks.append((self.stream, host, status, complain))
        if len(self._checks) > 256:
            self.synchronize()

    def _settle_checks(self, stream: int | None = None) -> None:
        """Look at what kernels noted in a stream whose work is done (None: in all)."""
        if not self._checks:
            return
        checks, self._checks = self._checks, []
        if stream is not None:
            self._checks = [check for check in checks if check[0] != stream]
        for where, host, _, complain in checks:
            if stream in (None, where) and host.any():
                complain(host.tolist())


class Buffer:
    """`nbytes` of device memory at `address`. As `runtime.buffer.Buffer`, for a GPU."""

    __slots__ = ("address", "nbytes", "exported", "device", "owner", "_block", "__weakref__")

    def __init__(self, device: Device, block: Block, nbytes: int):
        self.address, self.nbytes, self.exported = block.address, nbytes, False
        self.device = device.name
        self.owner, self._block = device, block

    def __del__(self) -> None:
        if not self.owner.lost:
            self.owner.allocator.give(self._block)

    def used_in(self, stream: int) -> None:
        """Another stream works with this memory: it must be done before the memory has another owner."""
        if stream != self._block.stream:
            self._block.users.add(stream)

    def copy(self) -> Buffer:
        """Another buffer with these bytes."""
        fresh = self.owner.allocate(self.nbytes)
        fresh.copy_from(self)
        return fresh

    def copy_from(self, source: Buffer) -> None:
        """The bytes of another buffer of this device."""
        self.owner.copy(self.address, source.address, min(self.nbytes, source.nbytes))

    def array(self, dtype, count: int, offset: int = 0) -> np.ndarray:
        """A copy in host memory of `count` elements of a NumPy dtype, from byte `offset` on."""
        out = np.empty(count, dtype)
        return self.owner.download(self.address + offset, out)

    def __repr__(self) -> str:
        return f"Buffer({self.nbytes} bytes at {self.address:#x} on {self.device})"


# -- launches ---------------------------------------------------------------------------------------------------

class Call:
    """A kernel with its launch. Its parameters are `count` words of 8 bytes at the address `words`."""

    __slots__ = ("function", "shape", "shared", "extra", "_size")

    def __init__(self, function: c_void_p, launch, words: int, count: int):
        self.function, self.shape, self.shared = function, (*launch.grid, 1, *launch.block, 1), launch.shared
        self._size = c_size_t(8 * count)
        self.extra = (c_void_p * 5)(BUFFER_POINTER, words, BUFFER_SIZE, ctypes.addressof(self._size), 0)

    def launch(self, device: Device) -> None:
        device.launch(self)


# -- page-locked host memory ------------------------------------------------------------------------------------

class Pinned:
    """Host memory that a GPU reads and writes directly. Locking and unlocking pages is slow, and waits for the GPU, so blocks are kept,
    by the powers of two that are their sizes. Who gives one back is done with it: copies that are under way hold their arrays."""

    def __init__(self, nbytes: int):
        self.device = device()
        self.size = 1 << max(9, (nbytes - 1).bit_length())
        idle = _idle.get((self.device, self.size))
        self.address = idle.pop() if idle else self._locked()
        _pinned[self.address] = self.size
        self.__array_interface__ = {"data": (self.address, False), "typestr": "|u1", "shape": (nbytes,), "version": 3}

    def _locked(self) -> int:
        address = c_void_p()
        self.device.call("cuMemAllocHost_v2", byref(address), c_size_t(self.size))
        return address.value or 0

    def __del__(self) -> None:
        if hasattr(self, "address"):
            del _pinned[self.address]
            if not self.device.lost:
                _idle.setdefault((self.device, self.size), []).append(self.address)

    @staticmethod
    def empty_cache() -> None:
        """Give blocks that are not in use back."""
        for owner, size in list(_idle):
            for address in _idle.pop((owner, size)):
                owner.let_go("cuMemFreeHost", c_void_p(address))


_pinned: dict[int, int] = {}        # address -> bytes
_idle: dict[tuple[Device, int], list[int]] = {}


def is_pinned(address: int) -> bool:
    """Whether an address lies in page-locked memory."""
    return any(start <= address < start + nbytes for start, nbytes in list(_pinned.items()))


def pinned(nbytes: int) -> np.ndarray:
    """An array of bytes in page-locked memory."""
    return np.asarray(Pinned(nbytes))


# -- events -----------------------------------------------------------------------------------------------------

class Event:
    """A mark in a stream."""

    def __init__(self, device: Device, timing: bool):
        self.device = device
        self.handle = c_void_p()
        device.call("cuEventCreate", byref(self.handle), c_uint(0 if timing else NO_TIMING))

    def record(self, stream: int) -> None:
        self.device.call("cuEventRecord", self.handle, c_void_p(stream))

    def wait(self, stream: int) -> None:
        """Work that is given to a stream from now on comes after this mark."""
        self.device.call("cuStreamWaitEvent", c_void_p(stream), self.handle, c_uint(0))

    def synchronize(self) -> None:
        self.device.call("cuEventSynchronize", self.handle)

    def done(self) -> bool:
        return self.device.asked("cuEventQuery", self.handle)

    def milliseconds_to(self, end: Event) -> float:
        time = c_float()
        self.device.call("cuEventElapsedTime", byref(time), self.handle, end.handle)
        return time.value

    def __del__(self) -> None:
        if self.handle:
            self.device.let_go("cuEventDestroy_v2", self.handle)
