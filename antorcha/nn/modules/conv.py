"""Convolution and its transpose."""

from __future__ import annotations

import math

import antorcha as torch

from .. import functional as F
from .. import init
from ..parameter import Parameter, UninitializedParameter
from .lazy import LazyModuleMixin
from .module import Module
from .utils import _ntuple, _reverse_repeat_tuple

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """The parameters of a convolution over the last `n` dimensions."""

    n = 0
    transposed = False

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias, padding_mode,
                 device=None, dtype=None):
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        many = _ntuple(self.n)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of 'valid', 'same'")
            if padding == "same" and any(s != 1 for s in many(stride)):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {_PADDING_MODES}, but got padding_mode='{padding_mode}'")
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
        self.kernel_size, self.stride, self.dilation, self.output_padding = map(many, (kernel_size, stride, dilation, output_padding))
        self.padding = padding if isinstance(padding, str) else many(padding)
        self._reversed_padding_repeated_twice = self._amounts()
        options = dict(device=device, dtype=dtype)
        self.weight = Parameter(torch.empty(self._weight_shape(), **options))
        self.register_parameter("bias", Parameter(torch.empty(out_channels, **options)) if bias else None)
        self.reset_parameters()

    def _weight_shape(self) -> tuple:
        first, second = (self.in_channels, self.out_channels) if self.transposed else (self.out_channels, self.in_channels)
        return (first, second // self.groups, *self.kernel_size)

    def _amounts(self) -> tuple:
        """The padding in the order that `F.pad` wants."""
        if self.padding == "valid":
            return (0,) * (2 * self.n)
        if self.padding == "same":
            total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
            return tuple(a for t in reversed(total) for a in (t // 2, t - t // 2))
        return _reverse_repeat_tuple(self.padding, 2)

    def reset_parameters(self):
        """Uniform in +-1 / sqrt(fan in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self):
        options = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        defaults = dict(padding=(0,) * self.n, dilation=(1,) * self.n, output_padding=(0,) * self.n, groups=1)
        options += [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        if self.bias is None:
            options.append("bias=False")
        if self.padding_mode != "zeros":
            options.append(f"padding_mode={self.padding_mode}")
        return ", ".join(options)


class _Conv(_ConvNd):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros",
                 device=None, dtype=None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode, device, dtype)

    def _conv_forward(self, input, weight, bias):
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._reversed_padding_repeated_twice, self.padding_mode), 0
        return getattr(F, self.function)(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def forward(self, input):
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Conv):
    """Cross-correlation of (N, in_channels, L) with a learned kernel."""
    n, function = 1, "conv1d"


class Conv2d(_Conv):
    """Cross-correlation of (N, in_channels, H, W) with a learned kernel."""
    n, function = 2, "conv2d"


class Conv3d(_Conv):
    """Cross-correlation of (N, in_channels, D, H, W) with a learned kernel."""
    n, function = 3, "conv3d"


class _ConvTransposeNd(_ConvNd):
    transposed = True

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1,
                 padding_mode="zeros", device=None, dtype=None):
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias, padding_mode,
                         device, dtype)

    def _output_padding(self, input, output_size) -> tuple:
        """The padding of the output with which it has the size asked for."""
        if output_size is None:
            return self.output_padding
        lead = input.dim() - self.n
        if len(output_size) == self.n + lead:
            output_size = output_size[lead:]
        if len(output_size) != self.n:
            raise ValueError(f"{type(self).__name__}: for {input.dim()}D input, output_size must have {self.n} or {self.n + lead} elements "
                             f"(got {len(output_size)})")
        smallest = [(input.shape[lead + i] - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (self.kernel_size[i] - 1) + 1
                    for i in range(self.n)]
        largest = [low + stride - 1 for low, stride in zip(smallest, self.stride)]
        if any(not low <= size <= high for low, size, high in zip(smallest, output_size, largest)):
            raise ValueError(f"requested an output size of {list(output_size)}, but valid sizes range from {smallest} to {largest} "
                             f"(for an input of {list(input.shape[lead:])})")
        return tuple(size - low for size, low in zip(output_size, smallest))

    def forward(self, input, output_size=None):
        return getattr(F, self.function)(input, self.weight, self.bias, self.stride, self.padding, self._output_padding(input, output_size),
                             self.groups, self.dilation)


class ConvTranspose1d(_ConvTransposeNd):
    """The transpose (the gradient with respect to the input) of a `Conv1d` from out_channels to in_channels."""
    n, function = 1, "conv_transpose1d"


class ConvTranspose2d(_ConvTransposeNd):
    """The transpose (the gradient with respect to the input) of a `Conv2d` from out_channels to in_channels."""
    n, function = 2, "conv_transpose2d"


class ConvTranspose3d(_ConvTransposeNd):
    """The transpose (the gradient with respect to the input) of a `Conv3d` from out_channels to in_channels."""
    n, function = 3, "conv_transpose3d"


class _LazyConvXdMixin(LazyModuleMixin):
    """A convolution whose `in_channels` are those of the first input."""

    def _defer(self, out_channels, bias, device, dtype):
        self.out_channels = out_channels
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self):
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()

    def initialize_parameters(self, input, *args, **kwargs):
        if self.has_uninitialized_params():
            if input.dim() not in (self.n + 1, self.n + 2):
                raise RuntimeError(f"Expected {self.n + 1}D (unbatched) or {self.n + 2}D (batched) input to {type(self).__name__}, "
                                   f"but got input of size: {list(input.shape)}")
            self.in_channels = input.shape[-self.n - 1]
            if self.in_channels % self.groups:
                raise ValueError("in_channels must be divisible by groups")
            self.weight.materialize(self._weight_shape())
            if self.bias is not None:
                self.bias.materialize((self.out_channels,))
            self.reset_parameters()
        if self.in_channels == 0:       # loaded from a state dict
            self.in_channels = self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups


class _LazyConv(_LazyConvXdMixin):
    def __init__(self, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros",
                 device=None, dtype=None):
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode, device, dtype)
        self._defer(out_channels, bias, device, dtype)


class LazyConv1d(_LazyConv, Conv1d):
    """A `Conv1d` whose `in_channels` are those of the first input."""
    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A `Conv2d` whose `in_channels` are those of the first input."""
    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A `Conv3d` whose `in_channels` are those of the first input."""
    cls_to_become = Conv3d


class _LazyConvTranspose(_LazyConvXdMixin):
    def __init__(self, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1,
                 padding_mode="zeros", device=None, dtype=None):
        super().__init__(0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode, device, dtype)
        self._defer(out_channels, bias, device, dtype)


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A `ConvTranspose1d` whose `in_channels` are those of the first input."""
    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A `ConvTranspose2d` whose `in_channels` are those of the first input."""
    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A `ConvTranspose3d` whose `in_channels` are those of the first input."""
    cls_to_become = ConvTranspose3d
