"""torch.mps: antorcha has no such device, and says so."""

from __future__ import annotations

from .absent import *  # noqa: F403
from .absent import without

globals().update(without(
    "mps",
    "compile_shader current_allocated_memory current_device driver_allocated_memory get_device_name get_rng_state load_metallib "
    "recommended_max_memory set_per_process_memory_fraction set_rng_state synchronize",
    "Event",
))
