"""torch.cuda: there is no GPU target yet, and everything says so."""

from __future__ import annotations


def is_available() -> bool:
    return False


def device_count() -> int:
    return 0


def is_initialized() -> bool:
    return False


def manual_seed(seed) -> None:
    """Nothing to seed without a device."""


manual_seed_all = manual_seed


def synchronize(device=None) -> None:
    raise RuntimeError("torch.cuda: antorcha computes on the CPU only so far. Choose the device with torch.cuda.is_available().")


current_device = get_device_name = synchronize


def empty_cache() -> None:
    """Nothing is cached without a device."""
