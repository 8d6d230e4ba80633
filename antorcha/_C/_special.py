"""torch._C._special: the functions of torch.special, each with the prefix special_."""

from __future__ import annotations

from .. import special


def __getattr__(name: str):
    plain = name.removeprefix("special_")
    if plain == name or not hasattr(special, plain):
        raise AttributeError(f"module 'torch._C._special' has no attribute '{name}'")
    return getattr(special, plain)
