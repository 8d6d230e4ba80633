"""torch.distributed: several processes that train together, on one host or more.

The backend is "gloo": sockets between every two processes. It works on the CPU; tensors of a GPU go by way of it. What needs more
(sharded parameters and tensors, remote calls) is missing, and raises an error that says so when it is used.
"""

from __future__ import annotations

import os

from .collectives import (  # noqa: F401
    P2POp,
    Work,
    all_gather,
    all_gather_into_tensor,
    all_gather_object,
    all_reduce,
    all_reduce_coalesced,
    all_to_all,
    all_to_all_single,
    barrier,
    batch_isend_irecv,
    broadcast,
    broadcast_object_list,
    gather,
    gather_object,
    irecv,
    isend,
    monitored_barrier,
    recv,
    reduce,
    reduce_scatter,
    reduce_scatter_tensor,
    scatter,
    scatter_object_list,
    send,
)
from .group import (  # noqa: F401
    Backend,
    GroupMember,
    ProcessGroup,
    ReduceOp,
    default_pg_timeout,
    destroy_process_group,
    get_backend,
    get_global_rank,
    get_group_rank,
    get_node_local_rank,
    get_process_group_ranks,
    get_rank,
    get_world_size,
    group,
    init_process_group,
    is_initialized,
    new_group,
)

reduce_op = ReduceOp
_MODULES = ("algorithms", "checkpoint", "device_mesh", "fsdp", "rpc", "tensor", "optim", "_composable", "_functional_collectives",
            "constants", "distributed_c10d")


def is_available() -> bool:
    """True."""
    return True


is_gloo_available = is_available


def is_nccl_available() -> bool:
    """False: there are sockets alone."""
    return False


is_mpi_available = is_ucc_available = is_xccl_available = is_nccl_available


def is_backend_available(backend: str) -> bool:
    """Whether `backend` is "gloo"."""
    return backend.lower() == "gloo"


def is_torchelastic_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def __getattr__(name: str):
    import importlib

    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in ("DeviceMesh", "init_device_mesh"):
        return getattr(importlib.import_module(".device_mesh", __name__), name)
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(f"torch.distributed.{name} is missing in antorcha. Present are the collective operations, new_group, "
                         "DistributedSampler and nn.parallel.DistributedDataParallel.")
