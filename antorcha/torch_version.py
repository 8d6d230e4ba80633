"""torch.__version__: a string that is compared as a version, so that "2.13" comes after "2.4"."""

from __future__ import annotations

import re
from functools import total_ordering

from .version import torch_version


def _release(version) -> tuple | None:
    """The numbers of a version (a string, a tuple of numbers, or what says it as a string) without zeros at their end, and whether it is
    final; None for what is none."""
    text = ".".join(map(str, version)) if isinstance(version, (tuple, list)) else str(version)
    found = re.fullmatch(r"v?(\d+(?:\.\d+)*)((?:a|b|rc|\.dev|\.post)\d*)?(\+.*)?", text.strip())
    if found is None:
        return None
    numbers = [int(n) for n in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    suffix = found[2] or ""
    return tuple(numbers), -1 if suffix and not suffix.startswith(".post") else len(suffix), found[3] or ""


@total_ordering
class TorchVersion(str):
    """A version: compared with other versions by their numbers, and with other text as text."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other) -> bool:
        there = _release(other)
        return str.__eq__(self, other) if there is None else _release(str(self)) == there

    def __lt__(self, other) -> bool:
        there = _release(other)
        return str.__lt__(self, str(other)) if there is None else _release(str(self)) < there

    def __ne__(self, other) -> bool:
        return not self == other

    __le__ = lambda self, other: self < other or self == other
    __gt__ = lambda self, other: not self <= other
    __ge__ = lambda self, other: not self < other


__version__ = TorchVersion(torch_version)
