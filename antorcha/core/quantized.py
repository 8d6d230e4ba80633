"""Quantized tensors: integers, and the grid on which they stand for numbers, (q - zero_point) * scale.

`QuantizedTensor` keeps the integers as a tensor of int8, uint8 or int32. What only moves elements moves these; what is computed is
computed from `int_repr()` or `dequantize()`. There is one scale and zero point for the whole tensor (numbers), or one for each index
along a dimension `axis` (tensors of one dimension).
"""

from __future__ import annotations

import copy
import functools

from ..base import dtype as dt
from ..base import formats
from ..ops.pointwise import clamp
from ..ops.quantization import along, chosen, grid
from ..ops.record import meta
from . import override
from .tensor import Tensor, plain

# Functions whose results lie on the grid of their input, as in PyTorch.
_ON_GRID = frozenset((
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "interpolate", "upsample", "mean",
    "relu6", "hardtanh", "leaky_relu",
    "clamp", "clamp_min", "clamp_max", "dropout", "dropout2d", "pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "hardswish"))
_JOINING = frozenset(("cat", "concat", "concatenate", "stack"))


def limits(dtype) -> tuple[int, int]:
    """The least and the largest integer of a quantized dtype."""
    bits = 8 * dtype.itemsize
    return (0, (1 << bits) - 1) if dtype is dt.quint8 else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _refused(self):
    raise NotImplementedError(f"expected a tensor of numbers; received a quantized one ({self.dtype}), for which this operator does not "
                              "exist. Convert it first: input.dequantize()")


class QuantizedTensor(Tensor):
    """See the module's text. Its `_meta` has the shape and dtype; there is no storage behind it."""

    is_quantized = property(lambda self: True)
    __torch_function__ = override.disabled      # until there is one: see `_overriding`
    storage = property(_refused)

    def __new__(cls, integers, scale, zero_point, dtype, axis=None):
        _overriding()
        self = plain(cls)
        self._meta = meta(integers._meta.view, dtype, integers._meta.device)
        self.__dict__.update(_integers=integers, _scale=scale, _zero=zero_point, _axis=axis)
        return self

    def __init__(self, *args, **kwargs):
        pass

    def _whole(self, what: str) -> tuple:
        """The scale and the zero point of the whole tensor."""
        return self._of_all(what, (self._scale, self._zero))

    def _like(self, integers) -> QuantizedTensor:
        """Other integers on the same grid."""
        return QuantizedTensor(integers, self._scale, self._zero, self.dtype, self._axis)

    def int_repr(self):
        """The integers: of int8, uint8 or int32."""
        return self._integers.clone()

    def dequantize(self):
        """The numbers that the integers stand for, in float32."""
        zero, scale = self._zero, self._scale
        if self._axis is not None:
            zero, scale = (along(self, x, self._axis).to(dt.float32) for x in (zero, scale))
        return (self._integers.to(dt.float32) - zero) * scale

    def qscheme(self):
        if self._axis is None:
            return formats.per_tensor_affine
        return formats.per_channel_affine_float_qparams if self._zero.dtype.kind == "f" else formats.per_channel_affine

    def q_scale(self) -> float:
        return self._of_all("q_scale", self._scale)

    def q_zero_point(self) -> int:
        return self._of_all("q_zero_point", self._zero)

    def _of_all(self, what: str, value):
        if self._axis is not None:
            raise RuntimeError(f"{what}: expected a tensor with one scale (per_tensor_affine); received {self.qscheme()}. Ask for "
                               "q_per_channel_scales() or q_per_channel_zero_points()")
        return value

    def q_per_channel_scales(self):
        return self._of_channels("q_per_channel_scales", self._scale)

    def q_per_channel_zero_points(self):
        return self._of_channels("q_per_channel_zero_points", self._zero)

    def q_per_channel_axis(self) -> int:
        return self._of_channels("q_per_channel_axis", self._axis)

    def _of_channels(self, what: str, value):
        if self._axis is None:
            raise RuntimeError(f"{what}: expected a tensor with a scale for each channel (per_channel_affine); received "
                               "torch.per_tensor_affine. Ask for q_scale() or q_zero_point()")
        return value

    def equal(self, other) -> bool:
        """Whether shape, grid and integers are the same."""
        return (isinstance(other, QuantizedTensor) and self.dtype is other.dtype and self.qscheme() is other.qscheme()
                and self._axis == other._axis and _same(self._scale, other._scale) and _same(self._zero, other._zero)
                and self._integers.equal(other._integers))

    def relu(self):
        """Every number, but at least 0."""
        if self._axis is not None:
            _refused(self)
        return self._like(self._integers.clamp_min(self._zero))

    def tolist(self):
        return self.dequantize().tolist()

    def copy_(self, src, non_blocking=False):
        """The numbers of `src`, on the grid that this tensor has."""
        source = src.dequantize() if isinstance(src, QuantizedTensor) else src
        self._integers.copy_(_rounded(source, self._scale, self._zero, self.dtype, self._axis))
        return self

    def to(self, *args, **kwargs):
        """This tensor: it stays on the CPU and keeps its dtype."""
        for a in (*args, *kwargs.values()):
            if isinstance(a, dt.dtype) and a is not self.dtype:
                raise RuntimeError(f"to: expected {self.dtype}, which a quantized tensor keeps; received {a}. Use dequantize()")
        return self

    def cpu(self):
        return self

    def detach(self):
        return self._like(self._integers.detach())

    def __getitem__(self, key):
        if self._axis is not None:
            _refused(self)
        return self._like(self._integers[key])

    def __iter__(self):
        return iter(self.unbind(0))

    def __deepcopy__(self, memo):
        out = memo[id(self)] = QuantizedTensor(*copy.deepcopy((self._integers, self._scale, self._zero), memo), self.dtype, self._axis)
        return out


@functools.cache
def _overriding() -> None:
    """From the first quantized tensor on, functions ask for its class: nobody pays for that who has none."""
    override.begins_to(QuantizedTensor, _done_to_integers)


def _done_to_integers(cls, func, types, args=(), kwargs=None):
    """Functions that have a method in `cls` are that method, and those of `_ON_GRID` are computed in float32 and put on the grid of their
    first argument, or of its first tensor."""
    name, kwargs = func.__name__, kwargs or {}
    first = args[0] if args else None
    several = name in _JOINING and isinstance(first, (tuple, list)) and all(isinstance(x, cls) for x in first)
    if isinstance(first, cls) and name in vars(cls):
        return vars(cls)[name](*args, **kwargs)
    if several or isinstance(first, cls) and name in _ON_GRID:
        like = first[0] if several else first
        numbers = [x.dequantize() for x in first] if several else first.dequantize()
        return quantize_per_tensor(func(numbers, *args[1:], **kwargs), *like._whole(name), like.dtype)
    return override.unasked(func, args, kwargs)


def _same(a, b) -> bool:
    return a.equal(b) if isinstance(a, Tensor) else a == b


def _moving(name: str, any_grid: bool):
    """A method that moves elements, of the integers. Without `any_grid` there must be one scale for the whole tensor."""
    def method(self, *args, **kwargs):
        if self._axis is not None and not any_grid:
            _refused(self)
        moved = getattr(self._integers, name)(*args, **kwargs)
        return tuple([self._like(x) for x in moved]) if isinstance(moved, (tuple, list)) else self._like(moved)
    method.__name__ = name
    method.__doc__ = f"`{name}` of the integers."
    return method


for _name in ("clone", "contiguous"):
    setattr(QuantizedTensor, _name, _moving(_name, True))
for _name in ("reshape", "view", "flatten", "unflatten", "transpose", "t", "permute", "movedim", "squeeze", "unsqueeze", "expand", "repeat",
              "flip", "roll", "select", "narrow", "index_select", "unbind", "split", "chunk", "view_as", "reshape_as"):
    setattr(QuantizedTensor, _name, _moving(_name, False))


# -- making them ------------------------------------------------------------------------------------------------

def _rounded(x, scale, zero_point, dtype, axis=None):
    """The integers nearest to the numbers of `x`."""
    if axis is not None:
        scale, zero_point = along(x, scale, axis), along(x, zero_point, axis)
    if dtype is dt.qint32:      # 24 bits of a float32 would not do
        scale, zero_point = (v.to(dt.float64) if isinstance(v, Tensor) else v for v in (scale, zero_point))
        return clamp((x.to(dt.float64) / scale).round() + zero_point, *limits(dtype)).to(dt.int32)
    return clamp(grid(x, scale, zero_point), *limits(dtype)).to(dt.INTEGERS[dtype])


def _checked(what: str, x, dtype) -> None:
    if not isinstance(x, Tensor) or x.dtype is not dt.float32:
        raise RuntimeError(f"{what}: expected a tensor of float32; received {x.dtype if isinstance(x, Tensor) else type(x).__name__}. "
                           "Convert it first: x.float()")
    if dtype not in dt.INTEGERS:
        raise RuntimeError(f"{what}: expected dtype torch.qint8, torch.quint8 or torch.qint32; received {dtype}")


def quantize_per_tensor(input, scale, zero_point, dtype):
    """`input` (float32) on the grid (q - zero_point) * scale, q of `dtype`: the nearest q, halfway to the even multiple of the scale."""
    if isinstance(input, (tuple, list)):
        return tuple([quantize_per_tensor(*x, dtype) for x in zip(input, scale.tolist(), zero_point.tolist())])
    _checked("quantize_per_tensor", input, dtype)
    scale, zero_point = float(scale), int(zero_point)
    low, high = limits(dtype)
    if not low <= zero_point <= high:
        raise RuntimeError(f"quantize_per_tensor: zero_point {zero_point} is out of the range [{low}, {high}] of {dtype}")
    return QuantizedTensor(_rounded(input.detach(), scale, zero_point, dtype), scale, zero_point, dtype)


def quantize_per_tensor_dynamic(input, dtype, reduce_range):
    """`input` on the grid that covers its elements and 0; with `reduce_range`, with integers of 7 bits."""
    _checked("quantize_per_tensor_dynamic", input, dtype)
    if dtype is dt.qint32:
        raise RuntimeError("quantize_per_tensor_dynamic: expected dtype torch.qint8 or torch.quint8; received torch.qint32")
    low, high = limits(dtype)
    if reduce_range:
        low, high = low // 2, high // 2
    x = input.detach()
    scale, zero_point = chosen(x.min(), x.max(), low, high)
    return quantize_per_tensor(input, scale.item(), int(zero_point.item()), dtype)


def quantize_per_channel(input, scales, zero_points, axis, dtype):
    """`input` with a grid for each index along dimension `axis`. Zero points of a floating point dtype need not be on the grid."""
    _checked("quantize_per_channel", input, dtype)
    if not 0 <= axis < input.dim():
        raise RuntimeError(f"quantize_per_channel: Channel axis out of range in per channel affine quantization; received {axis} for "
                           f"{input.dim()} dimensions")
    n = input.shape[axis]
    if scales.numel() != n or zero_points.numel() != n:
        raise RuntimeError(f"quantize_per_channel: expected {n} scales and zero points for dimension {axis}; received {scales.numel()} and "
                           f"{zero_points.numel()}")
    free = zero_points.dtype.kind == "f"
    scales, zero_points = scales.detach().to(dt.float32 if free else dt.float64), zero_points.detach().to(dt.float32 if free else dt.int64)
    return QuantizedTensor(_rounded(input.detach(), scales, zero_points, dtype, axis), scales, zero_points, dtype, axis)


def dequantize(input):
    """The numbers in float32: of a quantized tensor, another tensor, or each of several."""
    return tuple([x.dequantize() for x in input]) if isinstance(input, (tuple, list)) else input.dequantize()


def _function(name: str):
    def function(input):
        return getattr(input, name)()
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`input.{name}()`."
    return function


int_repr, q_scale, q_zero_point, q_per_channel_scales, q_per_channel_zero_points, q_per_channel_axis = map(_function, (
    "int_repr", "q_scale", "q_zero_point", "q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis"))


__all__ = ["QuantizedTensor", "dequantize", "limits", "quantize_per_channel", "quantize_per_tensor", "quantize_per_tensor_dynamic"]
