"""torch.cuda: the GPUs of this machine. Without a driver everything can be asked, and nothing is there.

Recording and executing are apart here as on the CPU: what is pending is launched before a stream, a device or an event is used, so
that the order of a program is that of its GPU.
"""

from __future__ import annotations

from ..base.device import device as _Device
from ..base.errors import OutOfMemoryError  # noqa: F401 (part of the API)
from ..core.generator import generator_of as _generator_of
from ..core.generator import seed_devices as _seed_devices
from ..graph import tape as _tape
from ..runtime import cuda as _cuda

PARTS = ("amp", "comm", "graphs", "memory", "nvml", "nvtx", "profiler", "random", "status", "streams", "tunable")
LATER = {   # part: the names of it that are found here too
    "memory": frozenset(
        "CUDAPluggableAllocator MemPool caching_allocator_alloc caching_allocator_delete caching_allocator_disabled "
        "caching_allocator_enable change_current_allocator get_allocator_backend get_per_process_memory_fraction host_memory_stats "
        "host_memory_stats_as_nested_dict list_gpu_processes max_memory_cached memory_cached memory_snapshot memory_stats_as_nested_dict "
        "reset_accumulated_host_memory_stats reset_accumulated_memory_stats reset_peak_host_memory_stats "
        "set_per_process_memory_fraction use_mem_pool".split()),
    "status": frozenset(
        "CudaError DeferredCudaCallError check_error clock_rate device_memory_used get_gencode_flags get_stream_from_external "
        "get_sync_debug_mode has_magma is_tf32_supported memory_usage power_draw set_sync_debug_mode temperature utilization".split()),
}
GRAPHS = ("CUDAGraph", "graph", "graph_pool_handle", "is_current_stream_capturing", "make_graphed_callables")


def __getattr__(name: str):
    import importlib  # the parts are loaded when they are asked for

    if name in PARTS:
        return importlib.import_module(f".{name}", __name__)
    for part, names in LATER.items():
        if name in names:
            return getattr(importlib.import_module(f".{part}", __name__), name)
    if name.endswith(("Tensor", "Storage")):
        from ..core import legacy
        if (found := legacy.on_gpu(name)) is not None:
            return found
    if name in GRAPHS:
        return getattr(importlib.import_module(".graphs", __name__), name)
    raise AttributeError(f"module 'torch.cuda' has no attribute {name!r}")


def _index(device, optional: bool = True) -> int:
    """The index of a device given as an index, a string or a device."""
    if device is None and optional:
        return _cuda.current_index()
    if isinstance(device, int):
        return device
    d = _Device(device)
    if d.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {d}")
    return _cuda.current_index() if d.index is None else d.index


def _device(device=None) -> _cuda.Device:
    found = _cuda.device(_index(device))
    _tape.state.devices = _tape.state.gpus = True
    return found


default_generators: tuple = ()
has_half = True


# -- devices ----------------------------------------------------------------------------------------------------

def is_available() -> bool:
    """Whether there is a GPU and a driver for it."""
    return _cuda.device_count() > 0


def device_count() -> int:
    """How many GPUs there are."""
    return _cuda.device_count()


def is_initialized() -> bool:
    """Whether a GPU has been used."""
    return _cuda.is_initialized()


def init() -> None:
    """Make the current device ready for use, which happens by itself otherwise."""
    _device()


def current_device() -> int:
    """The index of the device that "cuda" means."""
    _cuda.driver()
    return _cuda.current_index()


def set_device(device) -> None:
    """Make a device the one that "cuda" means, in this thread."""
    index = _index(device)
    if index >= 0:
        _cuda.set_current(index)


class device:
    """`with torch.cuda.device(1):` makes a device the one that "cuda" means."""

    def __init__(self, device):
        self.idx = _index(device)
        self.prev_idx = -1

    def __enter__(self):
        self.prev_idx = _cuda.current_index()
        set_device(self.idx)

    def __exit__(self, *exc):
        set_device(self.prev_idx)


class device_of(device):
    """`with torch.cuda.device_of(tensor):`; does nothing for a tensor on the CPU."""

    def __init__(self, obj):
        super().__init__(obj.get_device() if obj.is_cuda else -1)


def get_device_name(device=None) -> str:
    """The name of a device."""
    return _cuda.properties(_index(device)).name


def get_device_capability(device=None) -> tuple[int, int]:
    """(major, minor) compute capability."""
    p = _cuda.properties(_index(device))
    return p.major, p.minor


def get_device_properties(device=None):
    """name, major, minor, total_memory, multi_processor_count ... of a device."""
    return _cuda.properties(_index(device))


def get_arch_list() -> list[str]:
    """The architectures that code is made for."""
    from ..targets.ptx import ARCHITECTURES

    return [f"sm_{a}" for a in ARCHITECTURES] if is_available() else []


def can_device_access_peer(device, peer_device) -> bool:
    """Whether a device reads another's memory directly: copies go through host memory here."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current device computes with bfloat16."""
    return is_available() and (including_emulation or get_device_capability()[0] >= 8)


# -- random numbers ---------------------------------------------------------------------------------------------

def manual_seed(seed) -> None:
    """Seed the generator of the current device; nothing happens without one."""
    if is_available():
        _seed_devices(int(seed), f"cuda:{_cuda.current_index()}")


def manual_seed_all(seed) -> None:
    """Seed the generators of all devices."""
    _seed_devices(int(seed))


def seed() -> int:
    """Seed the generator of the current device from the operating system."""
    return _generator_of(f"cuda:{current_device()}").seed()


def seed_all() -> None:
    """Seed the generators of all devices from the operating system."""
    import os

    _seed_devices(int.from_bytes(os.urandom(8), "little") >> 1)


def initial_seed() -> int:
    """The seed of the current device's generator."""
    return _generator_of(f"cuda:{current_device()}").initial_seed()


def get_rng_state(device="cuda"):
    """The state of a device's generator, a uint8 tensor."""
    return _generator_of(f"cuda:{_index(device)}").get_state()


def set_rng_state(new_state, device="cuda") -> None:
    """Put a device's generator into a state."""
    _generator_of(f"cuda:{_index(device)}").set_state(new_state)


def get_rng_state_all() -> list:
    """The states of all devices' generators."""
    return [get_rng_state(i) for i in range(device_count())]


def set_rng_state_all(new_states) -> None:
    """Put all devices' generators into states."""
    for i, state in enumerate(new_states):
        set_rng_state(state, i)


# -- streams ----------------------------------------------------------------------------------------------------

def synchronize(device=None) -> None:
    """Launch what is pending and wait until a device has done all its work."""
    found = _device(device)
    _tape.flush()
    found.synchronize()


class Stream:
    """A sequence of work on a device. `with torch.cuda.stream(s):` gives work to it."""

    def __init__(self, device=None, priority: int = 0, *, stream_ptr: int | None = None):
        self._device = _device(device)
        self.cuda_stream = self._device.pooled_stream(priority) if stream_ptr is None else stream_ptr
        self.priority = priority

    @property
    def device(self) -> _Device:
        return _Device("cuda", self._device.index)

    device_index = property(lambda self: self._device.index)

    def synchronize(self) -> None:
        """Wait until the stream's work is done."""
        _tape.flush()
        self._device.wait_stream(self.cuda_stream)

    def query(self) -> bool:
        """Whether the stream's work is done."""
        _tape.flush()
        return self._device.stream_done(self.cuda_stream)

    def record_event(self, event: Event | None = None) -> Event:
        """Mark what the stream has been given so far."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Work given from now on comes after an event."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Work given from now on comes after what another stream has been given."""
        self.wait_event(stream.record_event())

    def __eq__(self, other) -> bool:
        return isinstance(other, Stream) and (self.cuda_stream, self.device) == (other.cuda_stream, other.device)

    def __hash__(self) -> int:
        return hash((self.cuda_stream, self.device))

    def __enter__(self):
        self._context = StreamContext(self)
        self._context.__enter__()
        return self

    def __exit__(self, *exc):
        self._context.__exit__(*exc)

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class ExternalStream(Stream):
    """A stream that somebody else made, by its handle."""

    def __init__(self, stream_ptr: int, device=None):
        super().__init__(device, stream_ptr=stream_ptr)


class StreamContext:
    """Work within is given to a stream; None changes nothing."""

    def __init__(self, stream: Stream | None):
        self.stream = stream

    def __enter__(self):
        if self.stream is not None:
            _tape.flush()
            self._before = _cuda.current_index(), self.stream._device.stream
            _cuda.set_current(self.stream._device.index)
            self.stream._device.stream = self.stream.cuda_stream
        return self

    def __exit__(self, *exc):
        if self.stream is not None:
            _tape.flush()
            self.stream._device.stream = self._before[1]
            _cuda.set_current(self._before[0])


def stream(stream: Stream | None) -> StreamContext:
    """Work within `with torch.cuda.stream(s):` is given to a stream."""
    return StreamContext(stream)


def current_stream(device=None) -> Stream:
    """The stream that work is given to."""
    found = _device(device)
    return Stream(found.index, stream_ptr=found.stream)


def default_stream(device=None) -> Stream:
    """The stream that work is given to where nothing else is said."""
    return Stream(_index(device), stream_ptr=0)


def set_stream(stream: Stream) -> None:
    """Give work to a stream from now on."""
    _tape.flush()
    _cuda.set_current(stream._device.index)
    stream._device.stream = stream.cuda_stream


class Event:
    """A mark in a stream: to wait for, or, with `enable_timing`, to measure time between two of them."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False, external: bool = False):
        if interprocess:
            raise NotImplementedError("Event: interprocess events are missing in antorcha. Synchronise the processes on the host.")
        self.enable_timing = enable_timing
        self._event: _cuda.Event | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Mark what a stream (the current one) has been given so far."""
        stream = stream or current_stream()
        _tape.flush()
        if self._event is None or self._event.device is not stream._device:
            self._event = _cuda.Event(stream._device, self.enable_timing)
        self._event.record(stream.cuda_stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Work given to a stream (the current one) from now on comes after this mark."""
        _tape.flush()
        if self._event is not None:
            self._event.wait((stream or current_stream()).cuda_stream)

    def query(self) -> bool:
        """Whether what was marked is done."""
        return self._event is None or self._event.done()

    def synchronize(self) -> None:
        """Wait until what was marked is done."""
        if self._event is not None:
            self._event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to another."""
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._event is None or end_event._event is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return self._event.milliseconds_to(end_event._event)

    def __repr__(self) -> str:
        return "<torch.cuda.Event>" if self._event else "<torch.cuda.Event uninitialized>"


# -- memory -----------------------------------------------------------------------------------------------------

def mem_get_info(device=None) -> tuple[int, int]:
    """(free, total) bytes of a device."""
    return _device(device).memory_info()


def _allocator(device):
    """A device's allocator; None before its first use."""
    if not _cuda.is_initialized():
        return None
    allocator = _device(device).allocator
    allocator.collect()
    return allocator


def memory_allocated(device=None) -> int:
    """Bytes in use by tensors."""
    a = _allocator(device)
    return a.allocated if a else 0


def max_memory_allocated(device=None) -> int:
    """The most bytes that were in use by tensors."""
    a = _allocator(device)
    return a.peak if a else 0


def memory_reserved(device=None) -> int:
    """Bytes that were taken from the driver, in use or kept."""
    a = _allocator(device)
    return a.reserved if a else 0


def max_memory_reserved(device=None) -> int:
    """The most bytes that were taken from the driver."""
    a = _allocator(device)
    return a.reserved_peak if a else 0


def reset_peak_memory_stats(device=None) -> None:
    """Start counting the most bytes anew."""
    a = _allocator(device)
    if a:
        a.reset_peak()


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def memory_stats(device=None) -> dict[str, int]:
    """Counts of the allocator, under PyTorch's names."""
    a = _allocator(device)
    if a is None:
        return {}
    return {"allocated_bytes.all.current": a.allocated, "allocated_bytes.all.peak": a.peak, "reserved_bytes.all.current": a.reserved,
            "reserved_bytes.all.peak": a.reserved_peak, "segment.all.current": len(a.segments), "num_alloc_retries": a.retries,
            "allocation.all.allocated": a.allocations}


def memory_summary(device=None, abbreviated: bool = False) -> str:
    """The counts of the allocator as a table."""
    return "\n".join(f"{name:<36} {value:>16,}" for name, value in memory_stats(device).items())


def empty_cache() -> None:
    """Give memory that is kept for reuse back to the driver."""
    if _cuda.is_initialized():
        for found in _cuda.in_use():
            found.empty_cache()


def ipc_collect() -> None:
    """Release memory shared with processes that have ended: none is shared."""


