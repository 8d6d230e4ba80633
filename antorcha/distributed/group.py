"""Process groups: who takes part, and how to reach them."""

from __future__ import annotations

import datetime
import os
from typing import Any

import numpy as np

from .connection import Connections

UNINITIALIZED = "Default process group has not been initialized, please make sure to call init_process_group."
default_pg_timeout = datetime.timedelta(minutes=30)


class ReduceOp:
    """How values are combined."""

    class RedOpType:
        """One way of combining; compare with `is` or `==`."""

        def __init__(self, name: str, combine):
            self.name, self.combine = name, combine

        def __repr__(self) -> str:
            return f"<RedOpType.{self.name}>"

        def __reduce__(self):
            return getattr, (ReduceOp, self.name)

    SUM = RedOpType("SUM", np.add)
    AVG = RedOpType("AVG", np.add)
    PRODUCT = RedOpType("PRODUCT", np.multiply)
    MIN = RedOpType("MIN", np.minimum)
    MAX = RedOpType("MAX", np.maximum)
    BAND = RedOpType("BAND", np.bitwise_and)
    BOR = RedOpType("BOR", np.bitwise_or)
    BXOR = RedOpType("BXOR", np.bitwise_xor)


class Backend(str):
    """A way to communicate: "gloo" here, sockets between processes on the CPU."""

    UNDEFINED, GLOO, NCCL, MPI, UCC = "undefined", "gloo", "nccl", "mpi", "ucc"
    backend_list = [GLOO]

    def __new__(cls, name: str):
        if not isinstance(name, str):
            raise ValueError(f"Backend constructor parameter must be string-ish: {name!r}")
        return super().__new__(cls, name.lower())


class ProcessGroup:
    """Some processes, in the order of their ranks within the group."""

    def __init__(self, ranks: list[int], number: int, connections: Connections, name: str = ""):
        self.ranks, self.number, self.connections, self.group_name = ranks, number, connections, name or str(number)

    def rank(self) -> int:
        """This process's rank within the group; -1 if it is none of it."""
        me = self.connections.rank
        return self.ranks.index(me) if me in self.ranks else -1

    def size(self) -> int:
        return len(self.ranks)

    def name(self) -> str:
        return "gloo"

    def send(self, peer: int, data, tag: int = 0) -> None:
        """Send bytes to a rank of the group."""
        self.connections.send(self.ranks[peer], data, self.number, tag)

    def receive(self, peer: int, tag: int = 0) -> bytearray:
        """Bytes from a rank of the group."""
        return self.connections.receive(self.ranks[peer], self.number, tag)

    def __repr__(self) -> str:
        return f"<ProcessGroup gloo, ranks {self.ranks}>"


class GroupMember:
    """WORLD: all processes. NON_GROUP_MEMBER: what `new_group` gives to those outside."""

    WORLD: Any = None
    NON_GROUP_MEMBER = object()


group = GroupMember
_made: dict[int, ProcessGroup] = {}


def world() -> ProcessGroup:
    """The group of all. ValueError before `init_process_group`."""
    if GroupMember.WORLD is None:
        raise ValueError(UNINITIALIZED)
    return GroupMember.WORLD


def member(which=None) -> ProcessGroup:
    """The group meant by an argument `group`: None is all."""
    found = world() if which is None else which
    if isinstance(found, str):
        found = next(g for g in _made.values() if g.group_name == found)
    if not isinstance(found, ProcessGroup):
        raise ValueError("torch.distributed: this process is none of the group's. Ask get_rank(group) first.")
    return found


def is_initialized() -> bool:
    """Whether `init_process_group` has been called."""
    return GroupMember.WORLD is not None


def init_process_group(backend=None, init_method=None, timeout=None, world_size: int = -1, rank: int = -1, store=None,
                       group_name: str = "", pg_options=None, device_id=None) -> None:
    """Meet the other processes of the job.

    init_method: "env://" (the default; MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE of the environment) or "tcp://host:port" with
    `world_size` and `rank`. backend: "gloo", the only one. timeout: a timedelta, 30 minutes.
    """
    if is_initialized():
        raise ValueError("trying to initialize the default process group twice!")
    name = str(backend or "gloo").lower()
    if "gloo" not in name:
        raise RuntimeError(f"torch.distributed: backend {backend!r} is missing in antorcha. Use 'gloo', which works on the CPU.")
    if store is not None:
        raise NotImplementedError("init_process_group: stores are missing in antorcha. Use init_method='env://' or 'tcp://host:port'.")
    method = init_method or "env://"
    scheme, _, place = method.partition("://")
    if scheme == "env":
        missing = [n for n in ("MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
        missing += [n for n, given in (("RANK", rank), ("WORLD_SIZE", world_size)) if given < 0 and n not in os.environ]
        if missing:
            raise ValueError(f"Error initializing torch.distributed using env:// rendezvous: environment variable {missing[0]} expected, "
                             "but not set")
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        rank = int(os.environ["RANK"]) if rank < 0 else rank
        world_size = int(os.environ["WORLD_SIZE"]) if world_size < 0 else world_size
    elif scheme == "tcp":
        host, _, number = place.rpartition(":")
        port = int(number)
        if rank < 0 or world_size < 1:
            raise ValueError(f"init_process_group: with {method} expected rank and world_size; received {rank} and {world_size}")
    else:
        raise RuntimeError(f"No rendezvous handler for {scheme}://: expected env:// or tcp://host:port")
    if not 0 <= rank < world_size:
        raise ValueError(f"init_process_group: expected a rank from 0 to {world_size - 1}; received {rank}")
    seconds = (timeout or default_pg_timeout).total_seconds()
    GroupMember.WORLD = _made[0] = ProcessGroup(list(range(world_size)), 0, Connections(rank, world_size, host, port, seconds), group_name)


def destroy_process_group(group=None) -> None:
    """End a group; without one all of them, and the connections."""
    if group is not None and group is not GroupMember.WORLD:
        _made.pop(group.number, None)
        return
    world().connections.close()
    _made.clear()
    GroupMember.WORLD = None


def new_group(ranks=None, timeout=None, backend=None, pg_options=None, use_local_synchronization: bool = False, group_desc=None,
              device_id=None):
    """A group of some processes. All processes must call this, in the same order."""
    all_of = world()
    ranks = list(all_of.ranks) if ranks is None else sorted(ranks)
    number = new_group.made = getattr(new_group, "made", 0) + 1
    if any(not 0 <= r < all_of.size() for r in ranks) or len(set(ranks)) != len(ranks):
        raise ValueError(f"new_group: expected distinct ranks from 0 to {all_of.size() - 1}; received {ranks}")
    made = _made[number] = ProcessGroup(ranks, number, all_of.connections, group_desc or "")
    return made if made.rank() >= 0 else GroupMember.NON_GROUP_MEMBER


def get_rank(group=None) -> int:
    """This process's rank; -1 if it is none of the group's."""
    return -1 if group is GroupMember.NON_GROUP_MEMBER else member(group).rank()


def get_world_size(group=None) -> int:
    """How many processes there are; -1 for a group without this one."""
    return -1 if group is GroupMember.NON_GROUP_MEMBER else member(group).size()


def get_backend(group=None) -> str:
    """"gloo"."""
    return Backend(member(group).name())


def get_process_group_ranks(group=None) -> list[int]:
    """The global ranks of a group's processes."""
    return list(member(group).ranks)


def get_global_rank(group, group_rank: int) -> int:
    """The global rank of a rank within a group."""
    return member(group).ranks[group_rank]


def get_group_rank(group, global_rank: int) -> int:
    """The rank within a group of a global rank."""
    return member(group).ranks.index(global_rank)


def get_node_local_rank(fallback_rank: int | None = None) -> int:
    """LOCAL_RANK of the environment, or `fallback_rank`."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    if fallback_rank is None:
        raise RuntimeError("LOCAL_RANK is not in the environment. Consider passing fallback_rank to get_node_local_rank.")
    return fallback_rank
