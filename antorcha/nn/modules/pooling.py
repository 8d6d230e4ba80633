"""Pooling: windows reduced to one element each."""

from __future__ import annotations

from .. import functional as F
from .module import Module
from .utils import _ntuple, described


class _MaxPoolNd(Module):
    """The largest element of windows, with `return_indices` also where it lies."""

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    def forward(self, input):
        return getattr(F, self.function)(input, self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode,
                             return_indices=self.return_indices)

    def extra_repr(self):
        return described(self, "kernel_size", "stride", "padding", "dilation", "ceil_mode")


class MaxPool1d(_MaxPoolNd):
    """The largest element of windows of (N, C, L)."""
    function = "max_pool1d"


class MaxPool2d(_MaxPoolNd):
    """The largest element of windows of (N, C, H, W)."""
    function = "max_pool2d"


class MaxPool3d(_MaxPoolNd):
    """The largest element of windows of (N, C, D, H, W)."""
    function = "max_pool3d"


class _MaxUnpoolNd(Module):
    """The partial inverse of max pooling: elements put back where the indices say, zeros elsewhere."""

    n = 0

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        many = _ntuple(self.n)
        self.kernel_size, self.stride = many(kernel_size), many(kernel_size if stride is None else stride)
        self.padding = many(padding)

    def forward(self, input, indices, output_size=None):
        return getattr(F, self.function)(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self):
        return described(self, "kernel_size", "stride", "padding")


class MaxUnpool1d(_MaxUnpoolNd):
    """The partial inverse of `MaxPool1d`."""
    n, function = 1, "max_unpool1d"


class MaxUnpool2d(_MaxUnpoolNd):
    """The partial inverse of `MaxPool2d`."""
    n, function = 2, "max_unpool2d"


class MaxUnpool3d(_MaxUnpoolNd):
    """The partial inverse of `MaxPool3d`."""
    n, function = 3, "max_unpool3d"


class _AvgPoolNd(Module):
    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode, self.count_include_pad, self.divisor_override = ceil_mode, count_include_pad, divisor_override

    def forward(self, input):
        return getattr(F, self.function)(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                             self.divisor_override)

    def extra_repr(self):
        return described(self, "kernel_size", "stride", "padding")


class AvgPool1d(_AvgPoolNd):
    """The mean of windows of (N, C, L)."""

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        one = _ntuple(1)
        super().__init__(one(kernel_size), one(kernel_size if stride is None else stride), one(padding), ceil_mode, count_include_pad)
        del self.divisor_override

    def forward(self, input):
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool2d(_AvgPoolNd):
    """The mean of windows of (N, C, H, W)."""
    function = "avg_pool2d"


class AvgPool3d(_AvgPoolNd):
    """The mean of windows of (N, C, D, H, W)."""
    function = "avg_pool3d"


class _FractionalMaxPoolNd(Module):
    """Max pooling over windows whose places are drawn so that the output has the size, or ratio, asked for. Graham, 2014."""

    n = 0

    def __init__(self, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        super().__init__()
        many = _ntuple(self.n)
        self.kernel_size, self.return_indices = many(kernel_size), return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else many(output_size)
        self.output_ratio = None if output_ratio is None else many(output_ratio)
        name = type(self).__name__
        if (output_size is None) is (output_ratio is None):
            given = "neither" if output_size is None else "both"
            raise ValueError(f"{name} requires specifying either an output size, or a pooling ratio; received {given}")
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input):
        return getattr(F, self.function)(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
                             _random_samples=self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPoolNd):
    """Fractional max pooling of (N, C, H, W)."""
    n, function = 2, "fractional_max_pool2d"


class FractionalMaxPool3d(_FractionalMaxPoolNd):
    """Fractional max pooling of (N, C, D, H, W)."""
    n, function = 3, "fractional_max_pool3d"


class _LPPoolNd(Module):
    """The norm of order `norm_type` of windows."""

    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input):
        return getattr(F, self.function)(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self):
        return described(self, "norm_type", "kernel_size", "stride", "ceil_mode")


class LPPool1d(_LPPoolNd):
    """The norm of windows of (N, C, L)."""
    function = "lp_pool1d"


class LPPool2d(_LPPoolNd):
    """The norm of windows of (N, C, H, W)."""
    function = "lp_pool2d"


class LPPool3d(_LPPoolNd):
    """The norm of windows of (N, C, D, H, W)."""
    function = "lp_pool3d"


class _AdaptiveAvgPoolNd(Module):
    """The mean of as many windows, of about equal size, as `output_size` says."""

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def forward(self, input):
        return getattr(F, self.function)(input, self.output_size)

    def extra_repr(self):
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """(N, C, L) to (N, C, output_size) by means."""
    function = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """(N, C, H, W) to (N, C, *output_size) by means."""
    function = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    """(N, C, D, H, W) to (N, C, *output_size) by means."""
    function = "adaptive_avg_pool3d"


class _AdaptiveMaxPoolNd(_AdaptiveAvgPoolNd):
    """The largest element of as many windows, of about equal size, as `output_size` says."""

    def __init__(self, output_size, return_indices=False):
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input):
        return getattr(F, self.function)(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """(N, C, L) to (N, C, output_size) by maxima."""
    function = "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """(N, C, H, W) to (N, C, *output_size) by maxima."""
    function = "adaptive_max_pool2d"


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """(N, C, D, H, W) to (N, C, *output_size) by maxima."""
    function = "adaptive_max_pool3d"
