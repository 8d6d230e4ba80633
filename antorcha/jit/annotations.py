"""torch.jit.annotations: names that signatures for TorchScript use."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union  # noqa: F401, UP035 (names of this module in PyTorch)

from .._jit_internal import BroadcastingList1, BroadcastingList2, BroadcastingList3, Future  # noqa: F401
