"""torch.autograd.profiler: the older names of torch.profiler."""

from __future__ import annotations

from ..profiler import EventList, profile, record_function

__all__ = ["EventList", "emit_itt", "emit_nvtx", "profile", "record_function"]


class emit_nvtx:
    """Accepted for compatibility: marks for NVIDIA's tools are not made. Use `torch.profiler.profile`, or `torch.explain`."""

    def __init__(self, enabled: bool = True, record_shapes: bool = False):
        self.enabled = enabled

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


class emit_itt(emit_nvtx):
    """Accepted for compatibility: marks for Intel's tools are not made."""
