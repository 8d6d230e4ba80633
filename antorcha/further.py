"""Functions of the torch namespace that are no operators: control flow, files, settings."""

from __future__ import annotations

import contextlib
import enum
import warnings

from .core.tensor import Tensor


def cond(pred, true_fn, false_fn, operands=()):
    """true_fn(*operands) if `pred` (a bool, or a tensor of one element) holds, else false_fn(*operands). Only one of the two runs."""
    if not isinstance(pred, (bool, int, float, Tensor)):
        raise RuntimeError(f"Expected pred to be bool or tensor, but got {pred}.")
    if isinstance(pred, Tensor) and pred.numel() != 1:
        raise RuntimeError(f"Expected pred to be bool or single-element tensor, but got {pred}.")
    if not isinstance(operands, (tuple, list)):
        raise RuntimeError(f"Expect operands to be a tuple of possibly nested dict/list/tuple; received {type(operands).__name__}")
    return (true_fn if bool(pred) else false_fn)(*operands)


def from_file(filename, shared=None, size=0, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """A vector of `size` elements in a file, mapped into memory: shared=True, what is written to it goes to the file, which is made
    longer if need be; otherwise the file stays as it is."""
    import os

    import numpy as np

    from .base import dtype as dt
    from .core.arrays import from_numpy

    d = dtype or dt.default()
    if d.numpy is None:
        raise TypeError(f"from_file: expected a dtype that NumPy has; received {d}")
    nbytes = size * d.itemsize
    if shared and (not os.path.exists(filename) or os.path.getsize(filename) < nbytes):
        with open(filename, "ab") as file:
            file.truncate(nbytes)
    if os.path.getsize(filename) < nbytes:
        raise RuntimeError(f"from_file: expected a file of at least {nbytes} bytes; received {filename} of {os.path.getsize(filename)}")
    return from_numpy(np.memmap(filename, d.numpy, "r+" if shared else "c", shape=(size,))).requires_grad_(requires_grad)


def init_num_threads() -> None:
    """Nothing to do: all threads of a program share the pool that computes."""


def is_vulkan_available() -> bool:
    """False."""
    return False


_always = False


def set_warn_always(b: bool, /) -> None:
    """Whether a warning is shown each time and not once for each place. The filters of the program's own stay."""
    global _always
    if b and not _always:
        warnings.simplefilter("always")
    elif _always and not b:
        with contextlib.suppress(ValueError):       # the program has reset them
            warnings.filters.remove(("always", None, Warning, None, 0))     # type: ignore[attr-defined]
    _always = b


def is_warn_always_enabled() -> bool:
    """Whether warnings are shown each time."""
    return _always


def parse_schema(schema: str, allow_typevars: bool = True):
    """The schema of an operator from "name(Tensor x, int n=1) -> Tensor"."""
    from .schema import parse
    return parse(schema)


class AggregationType(enum.Enum):
    """How the results of several calls become one."""

    SUM = 0
    AVG = 1


SUM, AVG = AggregationType
