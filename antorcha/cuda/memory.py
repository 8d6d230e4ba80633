"""torch.cuda.memory: what a GPU's memory holds. Counts are those of the caching allocator (`runtime/cuda_memory.py`)."""

from __future__ import annotations

from ..unavailable import unavailable_class, unavailable_function
from . import (
    _allocator,
    _device,
    empty_cache,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    memory_summary,
    reset_max_memory_allocated,
    reset_max_memory_cached,
    reset_peak_memory_stats,
)

_INSTEAD = "all memory of a GPU comes from antorcha's own caching allocator, whose pools are those of its streams."
CUDAPluggableAllocator = unavailable_class("torch.cuda.CUDAPluggableAllocator", _INSTEAD)
MemPool = unavailable_class("torch.cuda.MemPool", _INSTEAD)
change_current_allocator = unavailable_function("torch.cuda.change_current_allocator", _INSTEAD)
use_mem_pool = unavailable_function("torch.cuda.use_mem_pool", _INSTEAD)
caching_allocator_enable = unavailable_function("torch.cuda.caching_allocator_enable", "the caching allocator is always on.")
caching_allocator_disabled = unavailable_function("torch.cuda.caching_allocator_disabled", "the caching allocator is always on.")
set_per_process_memory_fraction = unavailable_function(
    "torch.cuda.set_per_process_memory_fraction", "memory is not limited before the GPU has none left.")

_taken: dict = {}       # address: block, of memory asked for by address


def get_per_process_memory_fraction(device=None) -> float:
    """1: a process may take all memory."""
    return 1.0


def get_allocator_backend() -> str:
    """"native"."""
    return "native"


def memory_cached(device=None) -> int:
    """The older name of `memory_reserved`."""
    return memory_reserved(device)


def max_memory_cached(device=None) -> int:
    """The older name of `max_memory_reserved`."""
    return max_memory_reserved(device)


def memory_stats_as_nested_dict(device=None) -> dict:
    """`memory_stats`, its names divided at the dots."""
    nested: dict = {}
    for name, value in memory_stats(device).items():
        *path, last = name.split(".")
        at = nested
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return nested


def host_memory_stats() -> dict:
    """{}: page-locked memory is not counted."""
    return {}


host_memory_stats_as_nested_dict = host_memory_stats


def reset_accumulated_memory_stats(device=None) -> None:
    """Start counting allocations anew."""
    if (a := _allocator(device)) is not None:
        a.allocations = a.retries = 0


def reset_peak_host_memory_stats() -> None:
    """Nothing to reset: see `host_memory_stats`."""


reset_accumulated_host_memory_stats = reset_peak_host_memory_stats


def memory_snapshot(mempool_id=None, include_traces: bool = True) -> list[dict]:
    """The segments taken from the driver: their addresses."""
    a = _allocator(None)
    return [] if a is None else [{"address": address, "segment_type": "large"} for address in sorted(a.segments)]


def caching_allocator_alloc(size: int, device=None, stream=None) -> int:
    """The address of `size` bytes, until `caching_allocator_delete`."""
    found = _device(device)
    block = found.allocator.take(size, found.stream if stream is None else getattr(stream, "cuda_stream", stream))
    _taken[block.address] = found.allocator, block
    return block.address


def caching_allocator_delete(mem_ptr: int) -> None:
    """Give memory of `caching_allocator_alloc` back."""
    allocator, block = _taken.pop(mem_ptr)
    allocator.give(block)


def list_gpu_processes(device=None) -> str:
    """The processes that use a GPU, and their memory."""
    from . import _index, nvml

    rows = [f"process {pid:>10d} uses {used / 2**20:>12.3f} MB GPU memory" for pid, used in nvml.processes(_index(device))]
    return "\n".join([f"GPU:{_index(device)}", *(rows or ["no processes are running"])])


__all__ = [
    "CUDAPluggableAllocator", "MemPool", "caching_allocator_alloc", "caching_allocator_delete", "caching_allocator_disabled",
    "caching_allocator_enable", "change_current_allocator", "empty_cache", "get_allocator_backend", "get_per_process_memory_fraction",
    "host_memory_stats", "host_memory_stats_as_nested_dict", "list_gpu_processes", "max_memory_allocated", "max_memory_cached",
    "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_cached", "memory_reserved", "memory_snapshot", "memory_stats",
    "memory_stats_as_nested_dict", "memory_summary", "reset_accumulated_host_memory_stats", "reset_accumulated_memory_stats",
    "reset_max_memory_allocated", "reset_max_memory_cached", "reset_peak_host_memory_stats", "reset_peak_memory_stats",
    "set_per_process_memory_fraction", "use_mem_pool",
]
