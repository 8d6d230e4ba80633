"""torch.xpu: antorcha has no such device, and says so."""

from __future__ import annotations


def is_available() -> bool:
    """False."""
    return False


def is_initialized() -> bool:
    """False."""
    return False


def is_current_stream_capturing() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing to seed without a device."""


manual_seed_all = manual_seed


def empty_cache() -> None:
    """Nothing is cached without a device."""


def synchronize(device=None) -> None:
    """RuntimeError: there is no device to wait for."""
    raise RuntimeError("torch.xpu: antorcha has no xpu device. Ask torch.xpu.is_available() before using it.")


current_device = get_device_name = synchronize
