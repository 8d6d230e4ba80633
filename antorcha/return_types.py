"""torch.return_types: the types of several results with names, declared beside the operators that return them."""

from __future__ import annotations

from .ops.results import TYPES

all_return_types = list(TYPES.values())
# what functions return that were given out=
_STORED = {name + "_out": kind for name, kind in TYPES.items() if name not in ("histogramdd", "_lu_with_info")}

__all__ = ["all_return_types"] + list(TYPES) + list(_STORED)
globals().update(TYPES)
globals().update(_STORED)
