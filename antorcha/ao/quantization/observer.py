"""Observers: modules that note the range of what passes through them and choose a grid (scale and zero point) for it."""

from __future__ import annotations

import functools
import warnings

import antorcha as torch

from ...core.quantized import limits
from ...nn import Module

EPS = 1.1920928955078125e-07        # of float32
SYMMETRIC = (torch.per_tensor_symmetric, torch.per_channel_symmetric)
PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric, torch.per_channel_affine_float_qparams)


class Partial:
    """A class with some of its arguments: what `with_args` gives, and configurations keep. `callable_args` are functions of no argument,
    called when an instance is made."""

    def __init__(self, p, callable_args=None):
        self.p, self.callable_args = p, callable_args or {}

    def __call__(self, *args, **keywords):
        made = {name: make() for name, make in self.callable_args.items() if name not in keywords}
        return self.p(*args, **made, **keywords)

    def __repr__(self):
        return f"{self.p!r}{self.callable_args!r}"

    def with_args(self, **kwargs):
        return Partial(functools.partial(self.p, **kwargs), self.callable_args)

    def with_callable_args(self, **kwargs):
        return Partial(self.p, {**self.callable_args, **kwargs})


class ObserverBase(Module):
    """A module that gives its input on, having looked at it."""

    def __init__(self, dtype, is_dynamic=False):
        super().__init__()
        self.dtype, self.is_dynamic = dtype, is_dynamic

    def calculate_qparams(self, **kwargs):
        """(scale, zero point) for what was seen."""
        raise NotImplementedError

    @classmethod
    def with_args(cls, **kwargs):
        """A factory with these arguments."""
        return Partial(functools.partial(cls, **kwargs))

    @classmethod
    def with_callable_args(cls, **kwargs):
        """A factory that calls these functions for its arguments each time."""
        return Partial(cls, kwargs)


class UniformQuantizationObserverBase(ObserverBase):
    """Chooses grids of equal steps, of integers from `quant_min` to `quant_max` (those of `dtype`; with `reduce_range` half as many)."""

    def __init__(self, dtype=torch.quint8, qscheme=torch.per_tensor_affine, reduce_range=False, quant_min=None, quant_max=None,
                 factory_kwargs=None, eps=EPS, is_dynamic=False, **kwargs):
        super().__init__(dtype, is_dynamic)
        if (quant_min is None) != (quant_max is None) or quant_min is not None and not quant_min < quant_max:
            raise ValueError(f"{type(self).__name__}: expected quant_min < quant_max, or neither; received {quant_min} and {quant_max}")
        if dtype not in (torch.qint8, torch.quint8, torch.qint32, torch.int8, torch.uint8, torch.int16, torch.int32):
            raise AssertionError(f"{type(self).__name__}: expected an integer or quantized dtype; received {dtype}")
        if reduce_range:
            warnings.warn("Please use quant_min and quant_max to specify the range for observers. reduce_range will be deprecated in a "
                          "future release of PyTorch.", stacklevel=2)
        self.qscheme, self.reduce_range = qscheme, reduce_range
        self.register_buffer("eps", torch.tensor([eps]))
        self.has_customized_qrange = quant_min is not None
        low, high = (quant_min, quant_max) if self.has_customized_qrange else _range(dtype)
        self.quant_min, self.quant_max = (low // 2, high // 2) if reduce_range and high - low < 256 else (low, high)

    def _calculate_qparams(self, min_val, max_val):
        """The grid over [min_val, max_val] and 0: tensors of one number each, or of one for each channel."""
        low, high = min_val.clamp(max=0.0), max_val.clamp(min=0.0)
        zero_point = torch.zeros(low.shape, dtype=torch.int64)
        if self.qscheme in SYMMETRIC:
            scale = torch.maximum(-low, high) / ((self.quant_max - self.quant_min) / 2)
            if self.dtype in (torch.quint8, torch.uint8):
                zero_point = zero_point + ((self.quant_min + self.quant_max) // 2 if self.has_customized_qrange else 128)
            return torch.maximum(scale, self.eps), zero_point
        if self.qscheme is torch.per_channel_affine_float_qparams:
            scale = (max_val - min_val) / (self.quant_max - self.quant_min)
            scale = torch.where(scale > self.eps, scale, torch.ones_like(scale))
            return scale, -min_val / scale
        scale = torch.maximum((high - low) / (self.quant_max - self.quant_min), self.eps)
        return scale, (self.quant_min - (low / scale).round().to(torch.int32)).clamp(self.quant_min, self.quant_max)

    def reset_min_max_vals(self):
        raise NotImplementedError


def _range(dtype) -> tuple[int, int]:
    if dtype.kind == "q":
        return limits(dtype)
    info = torch.iinfo(dtype)
    return int(info.min), int(info.max)


class MinMaxObserver(UniformQuantizationObserverBase):
    """Notes the least and the largest element seen, `min_val` and `max_val`."""

    channels = False

    def __init__(self, dtype=torch.quint8, qscheme=torch.per_tensor_affine, reduce_range=False, quant_min=None, quant_max=None,
                 factory_kwargs=None, eps=EPS, is_dynamic=False, **kwargs):
        if not self.channels and qscheme in PER_CHANNEL:
            raise NotImplementedError(f"{type(self).__name__}: expected qscheme torch.per_tensor_affine or torch.per_tensor_symmetric; "
                                      f"received {qscheme}. Use a per-channel observer")
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic)
        self.reset_min_max_vals()

    def reset_min_max_vals(self):
        """Forget what was seen."""
        empty = () if self.channels else float("inf")
        self.register_buffer("min_val", torch.tensor(empty))
        self.register_buffer("max_val", torch.tensor(empty if self.channels else float("-inf")))

    @property
    def _empty(self) -> bool:
        return not self.min_val.numel() or not self.channels and bool(self.min_val == float("inf"))

    def _extremes(self, x):
        return torch.aminmax(x)

    def _combined(self, low, high):
        return torch.minimum(self.min_val, low), torch.maximum(self.max_val, high)

    def forward(self, x_orig):
        if not x_orig.numel():
            return x_orig
        low, high = self._extremes(x_orig.detach().to(self.min_val.dtype))
        if not self._empty:
            low, high = self._combined(low, high)
        self.min_val, self.max_val = low, high
        return x_orig

    def calculate_qparams(self, **kwargs):
        if self._empty:
            warnings.warn("must run observer before calling calculate_qparams. Returning default values.", stacklevel=2)
            return torch.tensor([1.0]), torch.tensor([0])
        scale, zero_point = self._calculate_qparams(self.min_val, self.max_val)
        return (scale, zero_point) if self.channels else (scale.reshape(1), zero_point.reshape(1))

    def extra_repr(self):
        return f"min_val={self.min_val if self.channels else self.min_val.item()}, " \
               f"max_val={self.max_val if self.channels else self.max_val.item()}"

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name in ("min_val", "max_val"):      # of as many channels as were seen
            if self.channels and prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


class MovingAverageMinMaxObserver(MinMaxObserver):
    """Notes moving averages of the least and the largest element, new ones with weight `averaging_constant`."""

    def __init__(self, averaging_constant=0.01, dtype=torch.quint8, qscheme=torch.per_tensor_affine, reduce_range=False, quant_min=None,
                 quant_max=None, eps=EPS, is_dynamic=False, **kwargs):
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, None, eps, is_dynamic)
        self.averaging_constant = averaging_constant

    def _combined(self, low, high):
        c = self.averaging_constant
        return self.min_val + c * (low - self.min_val), self.max_val + c * (high - self.max_val)


class PerChannelMinMaxObserver(MinMaxObserver):
    """`MinMaxObserver` for each index along dimension `ch_axis`."""

    channels = True

    def __init__(self, ch_axis=0, dtype=torch.quint8, qscheme=torch.per_channel_affine, reduce_range=False, quant_min=None, quant_max=None,
                 factory_kwargs=None, eps=EPS, is_dynamic=False, **kwargs):
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic)
        self.ch_axis = ch_axis

    def _extremes(self, x):
        return torch.aminmax(x.movedim(self.ch_axis, 0).flatten(1), dim=1)


class MovingAveragePerChannelMinMaxObserver(PerChannelMinMaxObserver):
    """`MovingAverageMinMaxObserver` for each index along dimension `ch_axis`."""

    def __init__(self, averaging_constant=0.01, ch_axis=0, dtype=torch.quint8, qscheme=torch.per_channel_affine, reduce_range=False,
                 quant_min=None, quant_max=None, eps=EPS, is_dynamic=False, **kwargs):
        super().__init__(ch_axis, dtype, qscheme, reduce_range, quant_min, quant_max, None, eps, is_dynamic)
        self.averaging_constant = averaging_constant

    _combined = MovingAverageMinMaxObserver._combined


class HistogramObserver(MinMaxObserver):
    """Keeps a histogram of what was seen and chooses the range with the least mean squared error: elements beyond it are moved to its ends,
    those within to the grid. After M. Migacz, "8-bit Inference with TensorRT" (2017), with the squared error in place of the divergence."""

    def __init__(self, bins=2048, dtype=torch.quint8, qscheme=torch.per_tensor_affine, reduce_range=False, quant_min=None, quant_max=None,
                 factory_kwargs=None, eps=EPS, is_dynamic=False, **kwargs):
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic)
        self.bins = bins
        self.register_buffer("histogram", torch.zeros(bins))

    def forward(self, x_orig):
        if not x_orig.numel():
            return x_orig
        x = x_orig.detach().to(self.histogram.dtype)
        low, high = (float(v) for v in torch.aminmax(x))
        if not self._empty:
            low, high = min(low, float(self.min_val)), max(high, float(self.max_val))
        new = torch.histc(x, self.bins, low, high) if low < high else torch.zeros(self.bins).index_fill(0, torch.tensor(0), x.numel())
        if not self._empty:
            new = new + self._moved(low, high)
        self.histogram, self.min_val, self.max_val = new, torch.tensor(low), torch.tensor(high)
        return x_orig

    def _moved(self, low: float, high: float):
        """The histogram with the bins of the range [low, high]: each bin's count goes to the bin that has its centre."""
        before, after = float(self.min_val), float(self.max_val)
        centres = before + (torch.arange(self.bins) + 0.5) * ((after - before) / self.bins)
        place = ((centres - low) * (self.bins / max(high - low, EPS))).long().clamp(0, self.bins - 1)
        return torch.zeros(self.bins).index_add(0, place, self.histogram)

    def calculate_qparams(self, **kwargs):
        if self._empty:
            return super().calculate_qparams()
        low, high = self._best_range()
        scale, zero_point = self._calculate_qparams(torch.tensor(low), torch.tensor(high))
        return scale.reshape(1), zero_point.reshape(1)

    def _best_range(self) -> tuple[float, float]:
        """The range of bins with the least error, found by taking a hundred-thousandth of the elements from one end or the other at a time:
        from the end where that takes more bins, as long as the error falls."""
        low, width = float(self.min_val), (float(self.max_val) - float(self.min_val)) / self.bins
        counts = self.histogram.double().numpy()
        below = counts.cumsum()
        total, step = below[-1], 1e-5
        first, last, least = 0, self.bins - 1, float("inf")
        alpha, beta = 0.0, 1.0
        while alpha < beta:
            left, right = first, last
            while left < last and below[left] < (alpha + step) * total:
                left += 1
            while right > first and below[right] > (beta - step) * total:
                right -= 1
            before = first, last
            if left - first > last - right:
                first, alpha = left, alpha + step
            else:
                last, beta = right, beta - step
            if (first, last) == before:
                continue
            error = self._error(counts, first, last)
            if error > least:
                first, last = before
                break
            least = error
        return low + first * width, low + (last + 1) * width

    def _error(self, counts, first: int, last: int) -> float:
        """The squared error, in bins, of 256 cells over the bins `first` to `last`: a count is spread evenly over its bin, and each element
        moved to the middle of its cell, what lies beyond to that of the cell at the end."""
        import numpy as np

        width = (last - first + 1) / 256
        edges = np.arange(self.bins + 1.0) - first
        cell = np.clip(np.floor(edges / width), 0, 255)
        up_to = cell * width**3 / 12 + ((edges - (cell + 0.5) * width) ** 3 + (width / 2) ** 3) / 3     # the integral from 0 to an edge
        return float((counts * np.diff(up_to)).sum())


class FixedQParamsObserver(ObserverBase):
    """A given grid, such as that of a sigmoid's results."""

    def __init__(self, scale, zero_point, dtype=torch.quint8, qscheme=torch.per_tensor_affine, quant_min=0, quant_max=255,
                 is_dynamic=False, **kwargs):
        super().__init__(dtype, is_dynamic)
        self.qscheme, self.quant_min, self.quant_max = qscheme, quant_min, quant_max
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float))
        self.register_buffer("zero_point", torch.tensor([zero_point], dtype=torch.int))

    def forward(self, X):
        return X

    def calculate_qparams(self):
        return self.scale, self.zero_point


class PlaceholderObserver(ObserverBase):
    """Notes nothing: says of what dtype something is to be, where the grid is chosen each time or none is needed."""

    def __init__(self, dtype=torch.float32, custom_op_name="", compute_dtype=None, quant_min=None, quant_max=None, qscheme=None, eps=None,
                 is_dynamic=False):
        super().__init__(dtype, is_dynamic or compute_dtype is not None)
        self.qscheme, self.quant_min, self.quant_max, self.eps = qscheme, quant_min, quant_max, eps
        self.custom_op = custom_op_name

    def forward(self, x):
        return x

    def extra_repr(self):
        return f"dtype={self.dtype}, is_dynamic={self.is_dynamic}"

    def calculate_qparams(self):
        raise RuntimeError(f"calculate_qparams: expected an observer that has seen data; received a {type(self).__name__}")


class NoopObserver(PlaceholderObserver):
    """Notes nothing: what passes is not to be quantized."""

    def __init__(self, dtype=torch.float16, custom_op_name=""):
        super().__init__(dtype, custom_op_name)


class ReuseInputObserver(PlaceholderObserver):
    """Notes nothing: the grid is that of the input."""

    def __init__(self):
        super().__init__(torch.quint8)


class RecordingObserver(ObserverBase):
    """Keeps every tensor that passes, for looking at."""

    def __init__(self, dtype=torch.quint8):
        super().__init__(dtype)
        self.tensor_val: list = []

    def forward(self, x):
        self.tensor_val.append(x.clone())
        return x

    def calculate_qparams(self):
        raise RuntimeError("calculate_qparams: expected an observer that chooses a grid; received a RecordingObserver")

    def get_tensor_value(self):
        return self.tensor_val


default_observer = MinMaxObserver.with_args(quant_min=0, quant_max=127)
default_placeholder_observer = PlaceholderObserver
default_debug_observer = RecordingObserver
default_reuse_input_observer = ReuseInputObserver
default_weight_observer = MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
weight_observer_range_neg_127_to_127 = MinMaxObserver.with_args(
    dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, quant_min=-127, quant_max=127, eps=2**-12)
default_histogram_observer = HistogramObserver.with_args(quant_min=0, quant_max=127)
default_per_channel_weight_observer = PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
per_channel_weight_observer_range_neg_127_to_127 = PerChannelMinMaxObserver.with_args(
    dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-127, quant_max=127, eps=2**-12)
default_dynamic_quant_observer = PlaceholderObserver.with_args(dtype=torch.quint8, quant_min=0, quant_max=255, is_dynamic=True)
default_float_qparams_observer = PerChannelMinMaxObserver.with_args(
    dtype=torch.quint8, qscheme=torch.per_channel_affine_float_qparams, ch_axis=0)
default_fixed_qparams_range_neg1to1_observer = FixedQParamsObserver.with_args(
    scale=2.0 / 256.0, zero_point=128, dtype=torch.quint8, quant_min=0, quant_max=255)
default_fixed_qparams_range_0to1_observer = FixedQParamsObserver.with_args(
    scale=1.0 / 256.0, zero_point=0, dtype=torch.quint8, quant_min=0, quant_max=255)
default_symmetric_fixed_qparams_observer = default_fixed_qparams_range_neg1to1_observer
default_affine_fixed_qparams_observer = default_fixed_qparams_range_0to1_observer


def get_observer_state_dict(mod):
    """The entries of `mod.state_dict()` that are observers'."""
    return type(mod.state_dict())((k, v) for k, v in mod.state_dict().items() if "observer" in k or "activation_post_process" in k)


def load_observer_state_dict(mod, obs_dict):
    """Load what `get_observer_state_dict` gave; other entries stay."""
    mod.load_state_dict(obs_dict, strict=False)


__all__ = [
    "FixedQParamsObserver",
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "NoopObserver",
    "ObserverBase",
    "PerChannelMinMaxObserver",
    "PlaceholderObserver",
    "RecordingObserver",
    "ReuseInputObserver",
    "UniformQuantizationObserverBase",
    "default_affine_fixed_qparams_observer",
    "default_debug_observer",
    "default_dynamic_quant_observer",
    "default_fixed_qparams_range_0to1_observer",
    "default_fixed_qparams_range_neg1to1_observer",
    "default_float_qparams_observer",
    "default_histogram_observer",
    "default_observer",
    "default_per_channel_weight_observer",
    "default_placeholder_observer",
    "default_reuse_input_observer",
    "default_symmetric_fixed_qparams_observer",
    "default_weight_observer",
    "get_observer_state_dict",
    "load_observer_state_dict",
    "per_channel_weight_observer_range_neg_127_to_127",
    "weight_observer_range_neg_127_to_127",
]
