"""torch.distributed: there is one process, and programs that ask are told so."""

from __future__ import annotations

MESSAGE = "torch.distributed.{} is missing here: antorcha trains in one process. Ask torch.distributed.is_available() first."


def is_available() -> bool:
    """False: there is no communication between processes."""
    return False


def is_initialized() -> bool:
    """False."""
    return False


def is_torchelastic_launched() -> bool:
    """False."""
    return False


is_nccl_available = is_gloo_available = is_mpi_available = is_ucc_available = is_available


def get_rank(group=None) -> int:
    """ValueError, as before `init_process_group` in PyTorch."""
    raise ValueError("Default process group has not been initialized: antorcha trains in one process.")


get_world_size = get_rank


def __getattr__(name: str):
    if name.startswith("_"):
        raise AttributeError(name)
    raise AttributeError(MESSAGE.format(name))
