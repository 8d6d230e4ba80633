"""Devices: PyTorch's names for where a tensor lives."""

from __future__ import annotations

import functools

TYPES = ("cpu", "cuda", "mps", "xpu", "meta")


class device:
    """`device("cpu")`, `device("cuda:0")`, `device("cuda", 0)`. Compares and hashes by type and index."""

    __slots__ = ("type", "index")

    def __init__(self, type, index=None):
        if isinstance(type, device):
            type, index = type.type, type.index
        elif isinstance(type, int):
            type, index = "cuda", type
        elif not isinstance(type, str):
            raise TypeError(f"device: expected a string such as 'cpu' or 'cuda:0', an index or a device; received {type!r}.")
        elif not type:
            raise RuntimeError("Device string must not be empty")
        elif ":" in type:
            if index is not None:
                raise RuntimeError(f"type (string) must not include an index because index was passed explicitly: {type}")
            type, _, number = type.partition(":")
            if not (type and number.isdecimal() and number == str(int(number))):
                raise RuntimeError(f"Invalid device string: '{type}:{number}'")
            index = int(number)
        if type not in TYPES:
            raise RuntimeError(f"Expected one of {', '.join(TYPES)} device type at start of device string: {type}")
        if index is not None and not isinstance(index, int):
            raise TypeError(f"device: expected an int as index; received {index!r}.")
        if index is not None and index < 0:
            raise RuntimeError("Device index must not be negative")
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "index", index)

    def __setattr__(self, name, value):
        raise AttributeError(f"device: attribute {name!r} is not writable")

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + (f", index={self.index})" if self.index is not None else ")")

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (str(self),)

    def __enter__(self):
        outer.append(exchange_default(self))
        return self

    def __exit__(self, *exc):
        exchange_default(outer.pop())

    def __call__(self, function):
        @functools.wraps(function)
        def placed(*args, **kwargs):
            with self:
                return function(*args, **kwargs)
        return placed


outer: list = []        # default devices of the surrounding `with` statements


def exchange_default(new):
    """Make a device the one of new tensors; returns which it was. The layer that makes tensors replaces this function."""
    return new
