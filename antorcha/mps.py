"""torch.mps: antorcha has no such device, and says so."""

from __future__ import annotations

from .absent import *  # noqa: F403
from .absent import refusal

synchronize = current_device = get_device_name = refusal("mps")
