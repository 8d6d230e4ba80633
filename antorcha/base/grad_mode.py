"""Whether derivatives are recorded, and what products are cast to (torch.autocast), for each thread.

A context variable would be another for each task of a thread's event loop; PyTorch's modes are the thread's.
"""

from __future__ import annotations

import functools
import threading
from threading import get_ident
from typing import NamedTuple

# Each operator asks, and an attribute of threading.local takes 70 ns. The threads in which something is not as at the beginning (and
# some that have ended): where a set is empty, as mostly, nothing else need be asked.
without_grad: set[int] = set()
casting: set[int] = set()


class Cast(NamedTuple):
    """What torch.autocast casts to, a 16-bit float, and on which kind of device."""

    dtype: object
    device: str


casts = functools.cache(Cast)       # of equal ones there is one: a replay knows them by identity


class _Mode(threading.local):
    grad = True             # set by `set_grad` alone
    inference = False
    autocast: Cast | None = None        # inside of torch.autocast; set by `set_autocast` alone
    accumulates = True      # within a backward pass: whether it adds to the `.grad` of all leaves


mode = _Mode()


# Not a `__setattr__` of the class: each attribute set would take five times as long.
def set_grad(recorded: bool) -> None:
    """Let this thread record derivatives, or not."""
    if recorded:
        without_grad.discard(get_ident())
    else:
        without_grad.add(get_ident())
    mode.grad = recorded


def set_autocast(cast: Cast | None) -> None:
    """Let this thread cast, or not."""
    if cast is None:
        casting.discard(get_ident())
    else:
        casting.add(get_ident())
    mode.autocast = cast
