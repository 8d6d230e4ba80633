"""torch._C._nn: functions that torch.nn.functional has as well."""

from __future__ import annotations

from ..nn import functional as F
from ..nn.modules.module import _parse_to  # noqa: F401


def __getattr__(name: str):
    if name.startswith("__") or not hasattr(F, name):
        raise AttributeError(f"module 'torch._C._nn' has no attribute '{name}'")
    return getattr(F, name)
