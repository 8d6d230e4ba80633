"""How a GPU is doing, as its driver's management library tells (`nvml.py`), and settings of the device."""

from __future__ import annotations

from ..runtime.cuda import CudaError, driver  # noqa: F401 (part of the API)
from . import _index, nvml


def utilization(device=None) -> int:
    """Percent of the last second in which the GPU computed."""
    return nvml.utilization(_index(device))[0]


def memory_usage(device=None) -> int:
    """Percent of the last second in which its memory was read or written."""
    return nvml.utilization(_index(device))[1]


def temperature(device=None) -> int:
    """Degrees Celsius."""
    return nvml.number("nvmlDeviceGetTemperature", _index(device), nvml.TEMPERATURE_OF_GPU)


def power_draw(device=None) -> int:
    """Milliwatts."""
    return nvml.number("nvmlDeviceGetPowerUsage", _index(device))


def clock_rate(device=None) -> int:
    """MHz of its processors."""
    return nvml.number("nvmlDeviceGetClockInfo", _index(device), nvml.CLOCK_OF_PROCESSORS)


def device_memory_used(device=None) -> int:
    """Bytes in use by all processes."""
    return nvml.memory_used(_index(device))


def check_error(res: int) -> None:
    """CudaError unless `res` is 0, success."""
    if int(res):
        raise CudaError(f"the driver reported error {int(res)}")


class DeferredCudaCallError(Exception):
    """A call that waited for the first use of a GPU failed."""


_sync_mode = 0


def set_sync_debug_mode(debug_mode: int | str) -> None:
    """0 ("default"), 1 ("warn") or 2 ("error") where the program waits for the GPU. Kept, and given back by `get_sync_debug_mode`: it waits
    where a value is asked for, and there alone."""
    global _sync_mode
    names = {"default": 0, "warn": 1, "error": 2}
    mode = names.get(debug_mode, debug_mode) if isinstance(debug_mode, str) else debug_mode
    if mode not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected one of `default`, `warn`, `error`; received {debug_mode!r}")
    _sync_mode = mode


def get_sync_debug_mode() -> int:
    """What `set_sync_debug_mode` chose."""
    return _sync_mode


def is_tf32_supported() -> bool:
    """Whether the GPU multiplies numbers rounded to 10 bits after the point (Ampere and later)."""
    from . import get_device_capability, is_available

    return is_available() and get_device_capability()[0] >= 8


def get_gencode_flags() -> str:
    """What nvcc would be told to make code for the same architectures."""
    from . import get_arch_list

    numbers = [name.removeprefix("sm_") for name in get_arch_list()]
    return " ".join(f"-gencode compute=compute_{n},code=sm_{n}" for n in numbers)


def get_stream_from_external(data_ptr: int, device=None):
    """A stream that somebody else made, by its handle."""
    from . import ExternalStream

    return ExternalStream(data_ptr, device)


def has_magma() -> bool:
    """False: `linalg` computes on the host."""
    return False
