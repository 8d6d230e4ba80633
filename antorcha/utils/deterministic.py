"""torch.utils.deterministic: options of deterministic computing."""

from __future__ import annotations

import sys
import types


class _Options(types.ModuleType):
    """`fill_uninitialized_memory`: whether `torch.empty` and its like give NaN (the largest integer) rather than what was in memory while
    `use_deterministic_algorithms` is on. Here it is kept only: memory that is handed out anew is zero, whatever is set."""

    fill_uninitialized_memory = True


sys.modules[__name__].__class__ = _Options
