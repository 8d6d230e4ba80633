"""torch.autograd."""

from __future__ import annotations

from .core.autograd import (  # noqa: F401
    backward, enable_grad, grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled,
)
from .core.function import Function, once_differentiable  # noqa: F401
from .core.gradcheck import gradcheck, gradgradcheck  # noqa: F401
from .core.tensor import Tensor as Variable  # noqa: F401


class set_detect_anomaly:
    """Accepted for compatibility: errors already name the operator."""

    def __init__(self, mode=True, check_nan=True):
        self.mode = mode

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


detect_anomaly = set_detect_anomaly
