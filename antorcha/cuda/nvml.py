"""What NVIDIA's management library (libnvidia-ml) tells of a GPU: load, temperature, power, clock, memory, processes."""

from __future__ import annotations

import ctypes
import functools
from ctypes import byref, c_char_p, c_uint, c_ulonglong, c_void_p

from ..runtime import cuda

MISSING = "NVIDIA's management library (libnvidia-ml.so.1) is not installed, or there is no GPU: {}"
TEMPERATURE_OF_GPU, CLOCK_OF_PROCESSORS = 0, 1      # kinds in NVML's numbers


class _Pair(ctypes.Structure):
    _fields_ = [("gpu", c_uint), ("memory", c_uint)]


class _Memory(ctypes.Structure):
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class _Process(ctypes.Structure):
    _fields_ = [("pid", c_uint), ("used", c_ulonglong), ("instance", c_uint), ("part", c_uint)]


@functools.lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        raise RuntimeError(MISSING.format(error)) from None
    if code := library.nvmlInit_v2():
        raise RuntimeError(MISSING.format(f"error {code}"))
    return library


def _ask(name: str, index: int, *args) -> None:
    """Ask about a device by its place on the bus: the library counts in another order, and devices that are hidden too."""
    library, handle = _library(), c_void_p()
    bus = c_char_p(cuda.properties(index).bus_id.encode())
    code = library.nvmlDeviceGetHandleByPciBusId_v2(bus, byref(handle)) or getattr(library, name)(handle, *args)
    if code:
        raise RuntimeError(f"{name}: NVIDIA's management library reported error {code} for GPU {index}")


def utilization(index: int) -> tuple[int, int]:
    """Percent of the last second in which the processors, and the memory, were busy."""
    found = _Pair()
    _ask("nvmlDeviceGetUtilizationRates", index, byref(found))
    return found.gpu, found.memory


def number(name: str, index: int, *kinds: int) -> int:
    """What a question of NVML with one number for an answer gives."""
    found = c_uint()
    _ask(name, index, *map(c_uint, kinds), byref(found))
    return found.value


def memory_used(index: int) -> int:
    """Bytes in use, of all processes."""
    found = _Memory()
    _ask("nvmlDeviceGetMemoryInfo", index, byref(found))
    return found.used


def processes(index: int) -> list[tuple[int, int]]:
    """(process, bytes) of all that compute."""
    count = c_uint(256)
    found = (_Process * 256)()
    _ask("nvmlDeviceGetComputeRunningProcesses_v3", index, byref(count), found)
    return [(p.pid, p.used) for p in found[:count.value]]
