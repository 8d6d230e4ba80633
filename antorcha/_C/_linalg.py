"""torch._C._linalg: the functions of torch.linalg, each with the prefix linalg_."""

from __future__ import annotations

from .. import linalg


def __getattr__(name: str):
    plain = name.removeprefix("linalg_")
    if plain == name or not hasattr(linalg, plain):
        raise AttributeError(f"module 'torch._C._linalg' has no attribute '{name}'")
    return getattr(linalg, plain)
