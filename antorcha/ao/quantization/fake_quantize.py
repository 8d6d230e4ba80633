"""Modules that move what passes to the grid an observer chose, and let derivatives through: for training with quantization in mind."""

from __future__ import annotations

import antorcha as torch

from ...nn import Module
from ...ops.quantization import LEAST_SCALE
from . import observer as observers
from .observer import (
    PER_CHANNEL,
    SYMMETRIC,
    FixedQParamsObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    ObserverBase,
)


class FakeQuantizeBase(Module):
    """Two switches: whether to observe, and whether to move to the grid."""

    switches = torch.uint8

    def __init__(self):
        super().__init__()
        self.register_buffer("fake_quant_enabled", torch.tensor([1], dtype=self.switches))
        self.register_buffer("observer_enabled", torch.tensor([1], dtype=self.switches))

    def enable_fake_quant(self, enabled=True):
        self.fake_quant_enabled.fill_(1 if enabled else 0)

    def disable_fake_quant(self):
        self.enable_fake_quant(False)

    def enable_observer(self, enabled=True):
        self.observer_enabled.fill_(1 if enabled else 0)

    def disable_observer(self):
        self.enable_observer(False)

    with_args = classmethod(ObserverBase.with_args.__func__)
    with_callable_args = classmethod(ObserverBase.with_callable_args.__func__)


class FakeQuantize(FakeQuantizeBase):
    """Moves its input to the grid that `observer`, a class or factory, chooses for it."""

    def __init__(self, observer=MovingAverageMinMaxObserver, quant_min=None, quant_max=None, is_dynamic=False, **observer_kwargs):
        super().__init__()
        self.activation_post_process = observer(quant_min=quant_min, quant_max=quant_max, is_dynamic=is_dynamic, **observer_kwargs)
        seen = self.activation_post_process
        self.quant_min, self.quant_max, self.is_dynamic = seen.quant_min, seen.quant_max, is_dynamic
        self.dtype, self.qscheme, self.ch_axis = seen.dtype, seen.qscheme, getattr(seen, "ch_axis", -1)
        self.is_per_channel = self.qscheme in PER_CHANNEL
        free = self.qscheme is torch.per_channel_affine_float_qparams
        self.register_buffer("scale", torch.tensor([1.0]))
        self.register_buffer("zero_point", torch.tensor([0], dtype=torch.float if free else torch.int))

    def calculate_qparams(self):
        return self.activation_post_process.calculate_qparams()

    _grid = calculate_qparams

    def forward(self, X):
        if self.observer_enabled[0] == 1:
            self.activation_post_process(X.detach())
            scale, zero_point = self._grid()
            self.scale, self.zero_point = scale.to(self.scale.dtype), zero_point.to(self.zero_point.dtype)
        if self.fake_quant_enabled[0] != 1:
            return X
        if self.is_per_channel:
            return torch.fake_quantize_per_channel_affine(X, self.scale, self.zero_point, self.ch_axis, self.quant_min, self.quant_max)
        return torch.fake_quantize_per_tensor_affine(X, self.scale, self.zero_point, self.quant_min, self.quant_max)

    def extra_repr(self):
        return (f"fake_quant_enabled={self.fake_quant_enabled}, observer_enabled={self.observer_enabled}, quant_min={self.quant_min}, "
                f"quant_max={self.quant_max}, dtype={self.dtype}, qscheme={self.qscheme}, ch_axis={self.ch_axis}, scale={self.scale}, "
                f"zero_point={self.zero_point}")

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name in ("scale", "zero_point"):        # of as many channels as were seen
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


class FixedQParamsFakeQuantize(FakeQuantize):
    """Moves its input to a grid that is known beforehand."""

    def __init__(self, observer):
        if not isinstance(observer(), FixedQParamsObserver):
            raise AssertionError("FixedQParamsFakeQuantize: expected an observer with a given grid (FixedQParamsObserver)")
        FakeQuantizeBase.__init__(self)
        seen = self.activation_post_process = observer()
        self.quant_min, self.quant_max, self.is_dynamic = seen.quant_min, seen.quant_max, False
        self.dtype, self.qscheme, self.ch_axis, self.is_per_channel = seen.dtype, seen.qscheme, -1, False
        self.register_buffer("scale", seen.scale)
        self.register_buffer("zero_point", seen.zero_point)


class FusedMovingAvgObsFakeQuantize(FakeQuantize):
    """`FakeQuantize` with an observer of moving averages. Nothing is left to fuse here: everything recorded is fused."""

    switches = torch.int64

    def __init__(self, observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, **observer_kwargs):
        super().__init__(observer, quant_min, quant_max, **observer_kwargs)
        if not isinstance(self.activation_post_process, (MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver)):
            raise AssertionError("FusedMovingAvgObsFakeQuantize: expected an observer of moving averages")

    def _grid(self):
        """As the observer has it; a symmetric one so that neither end is beyond the integers, of which there is one more below 0."""
        scale, zero_point = self.calculate_qparams()
        seen = self.activation_post_process
        if self.qscheme in SYMMETRIC:
            most = (self.quant_max - self.quant_min) // 2
            scale = torch.maximum(seen.min_val / -(most + 1), seen.max_val / most).clamp_min(LEAST_SCALE).reshape(scale.shape)
        return scale, zero_point

    def extra_repr(self):
        return (f"fake_quant_enabled={self.fake_quant_enabled}, observer_enabled={self.observer_enabled}, scale={self.scale}, "
                f"zero_point={self.zero_point}, dtype={self.dtype}, quant_min={self.quant_min}, quant_max={self.quant_max}, "
                f"qscheme={self.qscheme}, reduce_range={self.activation_post_process.reduce_range}")


_WEIGHT = dict(quant_min=-128, quant_max=127, dtype=torch.qint8)
_CHANNELS = dict(observer=MovingAveragePerChannelMinMaxObserver, qscheme=torch.per_channel_symmetric)
_WHOLE = dict(observer=MovingAverageMinMaxObserver, qscheme=torch.per_tensor_symmetric)
_NARROW = dict(quant_min=-127, quant_max=127, dtype=torch.qint8, eps=2**-12)

default_fake_quant = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8,
                                            qscheme=torch.per_tensor_affine, reduce_range=True)
default_weight_fake_quant = FakeQuantize.with_args(**_WHOLE, **_WEIGHT, reduce_range=False)
default_per_channel_weight_fake_quant = FakeQuantize.with_args(**_CHANNELS, **_WEIGHT, reduce_range=False, ch_axis=0)
default_dynamic_fake_quant = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, is_dynamic=True,
                                                    dtype=torch.quint8, averaging_constant=1)
default_histogram_fake_quant = FakeQuantize.with_args(observer=observers.HistogramObserver, quant_min=0, quant_max=255, dtype=torch.quint8,
                                                      qscheme=torch.per_tensor_affine, reduce_range=True)
default_embedding_fake_quant = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver, qscheme=torch.per_channel_affine_float_qparams, dtype=torch.quint8, quant_min=0,
    quant_max=255, ch_axis=0, averaging_constant=1)
default_fused_act_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255,
                                                                       dtype=torch.quint8)
default_fused_wt_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(**_WHOLE, **_WEIGHT)
default_fused_per_channel_wt_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(**_CHANNELS, **_WEIGHT)
fused_wt_fake_quant_range_neg_127_to_127 = FusedMovingAvgObsFakeQuantize.with_args(**_WHOLE, **_NARROW)
fused_per_channel_wt_fake_quant_range_neg_127_to_127 = FusedMovingAvgObsFakeQuantize.with_args(**_CHANNELS, **_NARROW)
default_fixed_qparams_range_neg1to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=observers.default_fixed_qparams_range_neg1to1_observer)
default_fixed_qparams_range_0to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=observers.default_fixed_qparams_range_0to1_observer)
default_symmetric_fixed_qparams_fake_quant = default_fixed_qparams_range_neg1to1_fake_quant
default_affine_fixed_qparams_fake_quant = default_fixed_qparams_range_0to1_fake_quant


def _switch(name: str, doc: str):
    def switch(mod):
        if isinstance(mod, FakeQuantizeBase):
            getattr(mod, name)()
    switch.__name__ = switch.__qualname__ = name
    switch.__doc__ = doc
    return switch


enable_fake_quant = _switch("enable_fake_quant", "For `model.apply`: move to the grid from now on.")
disable_fake_quant = _switch("disable_fake_quant", "For `model.apply`: do not move to the grid.")
enable_observer = _switch("enable_observer", "For `model.apply`: observe from now on.")
disable_observer = _switch("disable_observer", "For `model.apply`: keep the grids as they are.")


__all__ = [
    "FakeQuantize",
    "FakeQuantizeBase",
    "FixedQParamsFakeQuantize",
    "FusedMovingAvgObsFakeQuantize",
    "default_affine_fixed_qparams_fake_quant",
    "default_dynamic_fake_quant",
    "default_embedding_fake_quant",
    "default_fake_quant",
    "default_fixed_qparams_range_0to1_fake_quant",
    "default_fixed_qparams_range_neg1to1_fake_quant",
    "default_fused_act_fake_quant",
    "default_fused_per_channel_wt_fake_quant",
    "default_fused_wt_fake_quant",
    "default_histogram_fake_quant",
    "default_per_channel_weight_fake_quant",
    "default_symmetric_fixed_qparams_fake_quant",
    "default_weight_fake_quant",
    "disable_fake_quant",
    "disable_observer",
    "enable_fake_quant",
    "enable_observer",
    "fused_per_channel_wt_fake_quant_range_neg_127_to_127",
    "fused_wt_fake_quant_range_neg_127_to_127",
]
