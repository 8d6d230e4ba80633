"""What torch.autocast has operators do with 16-bit floats.

A function's `autocast` says it for all kinds of devices, or, in a dict, for each: "lower": floating point inputs are cast to the 16-bit
float (products); "full": to float32 (what loses too much otherwise), unless the call says in which dtype; "widest": to the widest among
them (which must be of one dtype); "refused": there is no safe way; "parts": it is made of others, each of which casts for itself. Without a
word it casts nothing. But for "parts", what a function is made of is no concern of autocast: a batch norm's sums stay as they are. Only
tensors on the kind of device that autocast was asked for are cast, and none of float64.
"""

from __future__ import annotations

import functools

from ..base import dtype as dt
from ..base.grad_mode import casting, mode, set_autocast
from .layout import core

DEVICES = ("cpu", "cuda")
FULL_ON_GPU, WIDEST_ON_GPU, LOWER_ON_GPU = {"cuda": "full"}, {"cuda": "widest"}, {"cuda": "lower"}
FULL_ON_CPU = {"cpu": "full"}
ONE_ON_GPU = {"cuda": "lower", "cpu": "parts"}      # products there, made of products on the CPU


def policies(said: str | dict | None) -> dict:
    """What is done on each kind of device where autocast is looked at."""
    said = said if type(said) is dict else dict.fromkeys(DEVICES, said)
    return {device: said.get(device) for device in DEVICES if said.get(device) != "parts"}


def concerned(kinds: dict) -> bool:
    """Whether autocast is on, for a kind of device on which a function with these policies looks at it."""
    now = mode.autocast
    return now is not None and now.device in kinds


def recast(function, kinds: dict, *args, **given):
    """`function`, of its floating point tensors in the dtype that torch.autocast wants; without autocast within."""
    now = mode.autocast
    kind = kinds[now.device]
    if kind == "refused":
        raise RuntimeError(f"{function.__name__}: expected a loss that is safe in {now.dtype} within torch.autocast; this one "
                           "needs float32. Use binary_cross_entropy_with_logits (BCEWithLogitsLoss) without a sigmoid before it.")
    if kind == "widest":
        d = dt.float32 if dt.float32 in _dtypes((*args, *given.values())) else now.dtype
    elif kind == "full" and any(isinstance(x, dt.dtype) for x in (*args, *given.values())):
        d = None
    else:
        d = {"lower": now.dtype, "full": dt.float32}.get(kind)
    set_autocast(None)
    try:
        if d is None:
            return function(*args, **given)
        return function(*[as_cast(x, d, now.device) for x in args], **{name: as_cast(x, d, now.device) for name, x in given.items()})
    finally:
        set_autocast(now)


def autocast(said: str | dict):
    """Decorates a function that has no other declaration."""
    kinds = policies(said)

    def declare(function):
        @functools.wraps(function)
        def call(*args, **given):
            return recast(call, kinds, *args, **given) if casting and concerned(kinds) else function(*args, **given)
        return call
    return declare


def _dtypes(values) -> set:
    return set().union(*({x._meta.dtype} if isinstance(x, core.Tensor) else _dtypes(x) if type(x) in (list, tuple) else () for x in values))


def as_cast(x, d: dt.dtype, device: str):
    """Tensors on a kind of device in dtype `d`, if they are of float32 or 16-bit floats."""
    if isinstance(x, core.Tensor):
        m = x._meta
        here = m.device is None or m.device.partition(":")[0] == device
        return x.to(d) if here and m.dtype in (dt.float32, dt.float16, dt.bfloat16) and m.dtype is not d else x
    return type(x)([as_cast(y, d, device) for y in x]) if type(x) in (list, tuple) else x
