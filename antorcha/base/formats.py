"""Shapes, and how a tensor's elements lie in memory."""

from __future__ import annotations

_INTEGERS = frozenset((int,))


class Size(tuple):
    """A shape: a tuple of integers."""

    __slots__ = ()

    def __new__(cls, values=()):
        values = tuple(values)
        if not _INTEGERS.issuperset(map(type, values)):
            for place, v in enumerate(values):
                if not hasattr(v, "__index__"):
                    raise TypeError(f"torch.Size() takes an iterable of 'int' (item {place} is '{type(v).__name__}')")
            values = tuple([v.__index__() for v in values])
        return tuple.__new__(cls, values)

    def numel(self) -> int:
        n = 1
        for s in self:
            n *= s
        return n

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    def __getitem__(self, key):
        got = super().__getitem__(key)
        return tuple.__new__(Size, got) if isinstance(key, slice) else got

    def __add__(self, other):
        return Size(tuple(self) + tuple(other))

    def __radd__(self, other):
        return Size(tuple(other) + tuple(self))

    def __mul__(self, n):
        return Size(tuple(self) * n)

    __rmul__ = __mul__

    def __reduce__(self):
        return Size, (tuple(self),)


class layout:
    """How a tensor's elements lie in memory."""

    def __init__(self, name):
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name        # there is one object of each name: copies are it


class memory_format(layout):
    """The order of dimensions in memory."""


class qscheme(layout):
    """How a quantized tensor's integers are mapped to numbers."""


strided, jagged, sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc = (
    layout(n) for n in ("strided", "jagged", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"))
contiguous_format, preserve_format, channels_last, channels_last_3d = (
    memory_format(n) for n in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d"))
per_tensor_affine, per_channel_affine, per_tensor_symmetric, per_channel_symmetric, per_channel_affine_float_qparams = (
    qscheme(n) for n in ("per_tensor_affine", "per_channel_affine", "per_tensor_symmetric", "per_channel_symmetric",
                         "per_channel_affine_float_qparams"))
