"""torch.distributed.distributed_c10d: where PyTorch keeps the names of torch.distributed."""

from __future__ import annotations

from .collectives import *  # noqa: F403
from .group import *  # noqa: F403
from .group import world as _get_default_group  # noqa: F401
