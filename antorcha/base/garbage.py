"""Not looking for garbage while there cannot be any."""

from __future__ import annotations

import functools
import gc


def uncollected(function):
    """A function during which Python does not look for garbage in cycles: what it makes, by thousands, lives until it is done, and to go
    through it every few hundred objects takes a fifth of its time."""
    @functools.wraps(function)
    def call(*args, **kwargs):
        collects = gc.isenabled()
        try:
            gc.disable()
            return function(*args, **kwargs)
        finally:
            if collects:
                gc.enable()
    return call
