"""torch._C._fft: the functions of torch.fft, each with the prefix fft_."""

from __future__ import annotations

from .. import fft


def __getattr__(name: str):
    plain = name.removeprefix("fft_")
    if plain == name or not hasattr(fft, plain):
        raise AttributeError(f"module 'torch._C._fft' has no attribute '{name}'")
    return getattr(fft, plain)
