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
