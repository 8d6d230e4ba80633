"""Elements added around the last dimensions."""

from __future__ import annotations

from .. import functional as F
from .module import Module
from .utils import _ntuple


class _Pad(Module):
    """Pads the last `n` dimensions as `mode` says; `padding` is (before, after) for each, the last dimension first, or one number."""

    n = 0
    mode = "constant"

    def __init__(self, padding):
        super().__init__()
        self.padding = _ntuple(2 * self.n)(padding)

    def forward(self, input):
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self):
        return f"{self.padding}"


class _CircularPadNd(_Pad):
    mode = "circular"

    def forward(self, input):
        if input.dim() not in (self.n + 1, self.n + 2):
            raise ValueError(f"expected {self.n + 1}D or {self.n + 2}D input (got {input.dim()}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPadNd):
    """The last dimension continued periodically."""
    n = 1


class CircularPad2d(_CircularPadNd):
    """The last two dimensions continued periodically."""
    n = 2


class CircularPad3d(_CircularPadNd):
    """The last three dimensions continued periodically."""
    n = 3


class _ConstantPadNd(_Pad):
    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    """The last dimension continued with `value`."""
    n = 1


class ConstantPad2d(_ConstantPadNd):
    """The last two dimensions continued with `value`."""
    n = 2


class ConstantPad3d(_ConstantPadNd):
    """The last three dimensions continued with `value`."""
    n = 3


class _ZeroPad:
    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad, ConstantPad1d):
    """The last dimension continued with zeros."""


class ZeroPad2d(_ZeroPad, ConstantPad2d):
    """The last two dimensions continued with zeros."""


class ZeroPad3d(_ZeroPad, ConstantPad3d):
    """The last three dimensions continued with zeros."""


class _ReflectionPadNd(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPadNd):
    """The last dimension mirrored at its borders, which are not repeated."""
    n = 1


class ReflectionPad2d(_ReflectionPadNd):
    """The last two dimensions mirrored at their borders, which are not repeated."""
    n = 2


class ReflectionPad3d(_ReflectionPadNd):
    """The last three dimensions mirrored at their borders, which are not repeated."""
    n = 3


class _ReplicationPadNd(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPadNd):
    """The last dimension continued with its border."""
    n = 1


class ReplicationPad2d(_ReplicationPadNd):
    """The last two dimensions continued with their borders."""
    n = 2


class ReplicationPad3d(_ReplicationPadNd):
    """The last three dimensions continued with their borders."""
    n = 3
