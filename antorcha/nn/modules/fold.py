"""Windows as columns, and columns summed back into images."""

from __future__ import annotations

from .. import functional as F
from .module import Module
from .utils import described


class Fold(Module):
    """Sums columns (N, C * window, L) into an image (N, C, *output_size)."""

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input):
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self):
        return described(self, "output_size", "kernel_size", "dilation", "padding", "stride")


class Unfold(Module):
    """The windows of an image (N, C, *size) as columns (N, C * window, L)."""

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input):
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self):
        return described(self, "kernel_size", "dilation", "padding", "stride")
