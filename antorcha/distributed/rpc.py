"""torch.distributed.rpc: calls of functions in other processes, which are missing here."""

from __future__ import annotations

from ..unavailable import unavailable_class, unavailable_function

_INSTEAD = "remote procedure calls are missing in antorcha. Use torch.distributed.send, recv and the collective operations."
RRef = unavailable_class("torch.distributed.rpc.RRef", _INSTEAD)
init_rpc = unavailable_function("torch.distributed.rpc.init_rpc", _INSTEAD)
rpc_sync = unavailable_function("torch.distributed.rpc.rpc_sync", _INSTEAD)
rpc_async = unavailable_function("torch.distributed.rpc.rpc_async", _INSTEAD)
remote = unavailable_function("torch.distributed.rpc.remote", _INSTEAD)
shutdown = unavailable_function("torch.distributed.rpc.shutdown", _INSTEAD)
get_worker_info = unavailable_function("torch.distributed.rpc.get_worker_info", _INSTEAD)


def is_available() -> bool:
    """False."""
    return False
