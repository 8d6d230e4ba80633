"""torch.cuda.streams: sequences of work on a GPU."""

from __future__ import annotations

from . import Event, ExternalStream, Stream

__all__ = ["Event", "ExternalStream", "Stream"]
