"""Questions about sizes that may be symbols: sizes are numbers here, and the answers are known."""

from __future__ import annotations


def guard_or_false(condition) -> bool:
    """Whether it is true."""
    return bool(condition)


guard_or_true = statically_known_true = guard_or_false


def free_symbols(value) -> set:
    """The symbols that `value` depends on: none."""
    return set()


free_unbacked_symbols = free_symbols


class GuardOnDataDependentSymNode(RuntimeError):
    """Never raised: a size that depends on data is computed when it is asked for."""
