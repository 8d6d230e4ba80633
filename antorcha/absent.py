"""What torch.mps, torch.xpu and torch.mtia answer: there is no such device."""

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


def refusal(name: str):
    """The function of namespace torch.<name> that needs a device."""

    def synchronize(device=None) -> None:
        """RuntimeError: there is no device to wait for."""
        raise RuntimeError(f"torch.{name}: antorcha has no {name} device. Ask torch.{name}.is_available() before using it.")

    return synchronize
