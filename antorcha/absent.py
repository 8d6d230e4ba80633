"""What torch.mps, torch.xpu and torch.mtia answer: there is no such device."""

from __future__ import annotations

from .unavailable import unavailable_class, unavailable_function


def is_available() -> bool:
    """False."""
    return False


def is_initialized() -> bool:
    """False."""
    return False


def is_current_stream_capturing() -> bool:
    """False."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """False: nothing is computed there."""
    return False


def is_tf32_supported() -> bool:
    """False: nothing is computed there."""
    return False


def device_count() -> int:
    """0."""
    return 0


def get_arch_list() -> list[str]:
    """[]: no code is made for such devices."""
    return []


def get_gencode_flags() -> str:
    """"": no code is made for such devices."""
    return ""


def manual_seed(seed: int) -> None:
    """Nothing to seed without a device."""


manual_seed_all = manual_seed


def seed() -> None:
    """Nothing to seed without a device."""


seed_all = seed


def empty_cache() -> None:
    """Nothing is cached without a device."""


def get_rng_state_all() -> list:
    """[]: the states of no devices."""
    return []


def set_rng_state_all(new_states) -> None:
    """Nothing to set without a device."""


def memory_allocated(device=None) -> int:
    """0 bytes."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def memory_stats(device=None) -> dict:
    """{}: there is nothing to count."""
    return {}


memory_stats_as_nested_dict = memory_stats


def memory_snapshot(mempool_id=None) -> list:
    """[]: there is no memory."""
    return []


def reset_peak_memory_stats(device=None) -> None:
    """Nothing to reset."""


reset_accumulated_memory_stats = reset_peak_memory_stats


def without(kind: str, functions: str, classes: str = "") -> dict:
    """The names of namespace torch.<kind> that need a device: functions raise RuntimeError, making an object NotImplementedError."""
    reason = f"antorcha has no {kind} device. Ask torch.{kind}.is_available() before using it."
    made: dict = {name: unavailable_function(f"torch.{kind}.{name}", reason, RuntimeError) for name in functions.split()}
    return made | {name: unavailable_class(f"torch.{kind}.{name}", reason) for name in classes.split()}
