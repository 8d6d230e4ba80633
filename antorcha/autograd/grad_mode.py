"""torch.autograd.grad_mode: whether derivatives are recorded."""

from __future__ import annotations

from ..core.autograd import enable_grad, inference_mode, no_grad, set_grad_enabled
from . import enforce_grad_layout_policy, set_multithreading_enabled

__all__ = [
    "enable_grad",
    "enforce_grad_layout_policy",
    "inference_mode",
    "no_grad",
    "set_grad_enabled",
    "set_multithreading_enabled",
]
