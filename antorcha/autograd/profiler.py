"""torch.autograd.profiler: the older names of torch.profiler."""

from __future__ import annotations

from ..profiler import EventList, FunctionEvent, profile, record_function
from ..unavailable import unavailable_function

__all__ = ["EnforceUnique", "EventList", "FunctionEvent", "KinetoStepTracker", "emit_itt", "emit_nvtx", "load_nvprof",
           "parse_nvprof_trace", "profile", "record_function"]
load_nvprof = unavailable_function("torch.autograd.profiler.load_nvprof", "nvprof's files are not read. Use torch.profiler.profile.")
parse_nvprof_trace = unavailable_function("torch.autograd.profiler.parse_nvprof_trace",
                                          "nvprof's files are not read. Use torch.profiler.profile.")


class EnforceUnique:
    """RuntimeError where something is seen twice."""

    def __init__(self):
        self.seen: set = set()

    def see(self, *key) -> None:
        if key in self.seen:
            raise RuntimeError(f"duplicate key: {key}")
        self.seen.add(key)


class KinetoStepTracker:
    """Counts the steps of several who count them, and takes the largest for the step of all."""

    _steps: dict[str, int] = {}

    @classmethod
    def init_step_count(cls, requester: str) -> None:
        """One more who counts begins with the step of all."""
        cls._steps[requester] = cls.current_step()

    @classmethod
    def erase_step_count(cls, requester: str) -> bool:
        """One counts no longer; whether it did."""
        return cls._steps.pop(requester, None) is not None

    @classmethod
    def increment_step(cls, requester: str) -> int:
        """One counts on; the step of all."""
        cls._steps[requester] = cls._steps.get(requester, cls.current_step()) + 1
        return cls.current_step()

    @classmethod
    def current_step(cls) -> int:
        """The step of all."""
        return max(cls._steps.values(), default=0)


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
