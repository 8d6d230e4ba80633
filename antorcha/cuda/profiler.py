"""torch.cuda.profiler: telling NVIDIA's profiler when to collect."""

from __future__ import annotations

import contextlib

from ..graph import tape
from ..runtime import cuda as _cuda

__all__ = ["profile", "start", "stop"]


def start() -> None:
    """Have a profiler that is attached collect from now on."""
    tape.flush()
    _cuda.driver().call("cuProfilerStart")


def stop() -> None:
    """Have it collect no longer."""
    tape.flush()
    _cuda.driver().call("cuProfilerStop")


@contextlib.contextmanager
def profile():
    """A context within which it collects."""
    start()
    try:
        yield
    finally:
        stop()
