"""Whether what is written shares memory with itself, or with what is read: PyTorch's rules, which refuse what has no meaning element by
element."""

from __future__ import annotations

from .layout import core
from .strides import fills

HINT = "Clone it first: {0}.clone(). (Please clone() the tensor before performing the operation.)"


def repeats(v) -> bool:
    """Whether an index map reads an element more than once along some dimension, as that of an expanded tensor does."""
    if v.dense:
        return False
    found = v.memo.get("repeats")
    if found is None:
        found = v.memo["repeats"] = v.numel > 0 and any([t == 0 and n > 1 for t, n in zip(v.strides, v.shape)])
    return found


def check_once(name: str, target) -> None:
    """RuntimeError if elements of `target`, which is to be written, share memory with each other."""
    if repeats(target._meta.view):
        raise RuntimeError(f"{name}(): unsupported operation: more than one element of the written-to tensor refers to a single memory "
                           f"location; expected one with memory for each of its elements, received one of shape {list(target.shape)} with "
                           f"strides {list(target.stride())}. {HINT.format('x')}")


def check_apart(name: str, target, inputs, apart: bool) -> None:
    """RuntimeError if an input shares some of the memory of `target`, which is to be written: all of it too, if they are to be `apart`."""
    for x in inputs:
        if isinstance(x, (list, tuple)):
            check_apart(name, target, x, apart)
        elif isinstance(x, core.Tensor) and x.storage is target.storage and _meet(x._meta.view, target._meta.view, apart):
            raise RuntimeError(f"{name}(): unsupported operation: some elements of the input tensor and the written-to tensor refer to a "
                               f"single memory location; expected an input elsewhere{'' if apart else ', or on the same elements'}. "
                               f"{HINT.format('input')}")


def _meet(a, b, apart: bool) -> bool:
    """Whether two maps have elements in common; unless `apart`, those that read the same ones in the same order do not. As in PyTorch,
    only maps that fill their spans of memory are looked at."""
    if a is b:
        return apart and a.numel > 0
    if not a.numel or not b.numel or not fills(a) or not fills(b):
        return False
    if (a.offset, a.numel, a.strides) == (b.offset, b.numel, b.strides):
        return apart
    return a.offset < b.offset + b.numel and b.offset < a.offset + a.numel
