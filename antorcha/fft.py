"""torch.fft: discrete Fourier transforms. The operators are declared in `ops/fft.py`."""

from __future__ import annotations

from .ops import fft as _operators
from .ops.record import functions_in

__all__ = ["fftfreq", "rfftfreq"] + list(functions_in("fft"))
globals().update(functions_in("fft"))
fftfreq, rfftfreq = _operators.fftfreq, _operators.rfftfreq
