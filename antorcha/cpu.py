"""torch.cpu: the processor as a device."""

from __future__ import annotations

import contextlib

from . import amp  # noqa: F401


def is_available() -> bool:
    """True."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """"cpu"."""
    return "cpu"


def synchronize(device=None) -> None:
    """Compute everything that was recorded."""
    from .graph import tape
    tape.flush()


class Stream:
    """The one stream of the CPU: what is submitted first is computed first."""


def current_stream(device=None) -> Stream:
    """The stream."""
    return Stream()


def stream(stream):
    """A context that changes nothing."""
    return contextlib.nullcontext()
