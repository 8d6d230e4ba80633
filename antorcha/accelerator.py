"""torch.accelerator: the device other than the CPU, if there is one."""

from __future__ import annotations

from . import cuda
from .base.device import device


def is_available() -> bool:
    """Whether there is an accelerator."""
    return cuda.is_available()


def device_count() -> int:
    """How many there are."""
    return cuda.device_count()


def current_accelerator(check_available: bool = False):
    """Its device; None where there is none."""
    return device("cuda") if cuda.is_available() else None


def current_device_index() -> int:
    """The number of the current accelerator."""
    return cuda.current_device()


current_device_idx = current_device_index


def set_device_index(device) -> None:
    """Make the accelerator `device` the current one."""
    cuda.set_device(device)


set_device_idx = set_device_index


def synchronize(device=None) -> None:
    """Wait until everything submitted is computed."""
    cuda.synchronize(device)


def empty_cache() -> None:
    """Give memory that nothing uses back to the device."""
    cuda.empty_cache()


def current_stream(device=None, /):
    """The stream that work is given to."""
    return cuda.current_stream(device)


def set_stream(stream) -> None:
    """Give work to a stream from now on."""
    cuda.set_stream(stream)


def get_device_capability(device=None, /) -> dict:
    """What the accelerator computes with: {"supported_dtypes": ...}."""
    from .base import dtype as dt

    numbers = {dt.bool_, dt.uint8, dt.int8, dt.int16, dt.int32, dt.int64, dt.float16, dt.float32, dt.float64, dt.complex64, dt.complex128}
    return {"supported_dtypes": numbers | ({dt.bfloat16} if cuda.is_bf16_supported() else set())}


def empty_host_cache() -> None:
    """Nothing to do: page-locked memory is not kept for reuse."""


class device_index(cuda.device):
    """`with torch.accelerator.device_index(1):` makes an accelerator the current one; None changes nothing."""

    def __init__(self, device: int | None, /):
        super().__init__(-1 if device is None else device)


def _of_cuda(name: str, ours: str = ""):
    function = getattr(cuda, name)

    def ask(device_index=None, /):
        return function(device_index)
    ask.__name__ = ask.__qualname__ = ours or name
    ask.__doc__ = f"`torch.cuda.{name}`."
    return ask


get_memory_info = _of_cuda("mem_get_info", "get_memory_info")
(memory_allocated, max_memory_allocated, memory_reserved, max_memory_reserved, memory_stats, reset_peak_memory_stats,
 reset_accumulated_memory_stats) = map(_of_cuda, (
     "memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "memory_stats", "reset_peak_memory_stats",
     "reset_accumulated_memory_stats"))


def __getattr__(name: str):
    if name == "Graph":
        return cuda.CUDAGraph
    raise AttributeError(f"module 'torch.accelerator' has no attribute {name!r}")
