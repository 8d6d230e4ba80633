"""Arguments bound to signatures."""

from __future__ import annotations

from typing import Any, NamedTuple


class Normalized(NamedTuple):
    """Arguments of a call; `ArgsKwargsPair` is its name in PyTorch."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


ArgsKwargsPair = Normalized
