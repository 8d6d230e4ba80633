"""torch.xpu: antorcha has no such device, and says so."""

from __future__ import annotations

from .absent import *  # noqa: F403
from .absent import without

default_generators: tuple = ()
globals().update(without(
    "xpu",
    "can_device_access_peer change_current_allocator clock_rate current_device current_stream device_memory_used get_device_capability "
    "get_device_name get_device_properties get_per_process_memory_fraction get_rng_state get_stream_from_external graph_pool_handle init "
    "initial_seed make_graphed_callables mem_get_info memory_usage power_draw set_device set_per_process_memory_fraction set_rng_state "
    "set_stream stream synchronize temperature use_mem_pool utilization",
    "Event MemPool Stream StreamContext XPUGraph XPUPluggableAllocator device device_of graph",
))
