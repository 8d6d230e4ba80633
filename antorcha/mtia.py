"""torch.mtia: antorcha has no such device, and says so."""

from __future__ import annotations

from .absent import *  # noqa: F403
from .absent import without

globals().update(without(
    "mtia",
    "attach_out_of_memory_observer current_device current_stream default_stream get_device_capability get_device_name "
    "get_device_properties get_rng_state graph_pool_handle init initial_seed record_memory_history set_device set_rng_state set_stream "
    "snapshot stream synchronize",
    "Event MTIAGraph Stream StreamContext device graph",
))
