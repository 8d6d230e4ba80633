"""torch.nn.attention: which kernel computes attention. There is one way here; the choice is accepted and changes nothing."""

from __future__ import annotations

import contextlib
import enum


class SDPBackend(enum.Enum):
    """PyTorch's kernels of scaled_dot_product_attention."""
    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextlib.contextmanager
def sdpa_kernel(backends, set_priority: bool = False):
    """A context; raises for what is no SDPBackend."""
    chosen = [backends] if isinstance(backends, SDPBackend) else list(backends)
    for backend in chosen:
        if not isinstance(backend, SDPBackend):
            raise AssertionError(f"Backend must be an instance of SDPBackend or a list of SDPBackend instances; received {backend!r}")
    yield {}


def __getattr__(name: str):
    import importlib

    if name in ("flex_attention", "bias"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'torch.nn.attention' has no attribute '{name}' in antorcha")
