"""Layers of quantized tensors: weights and results on grids that were found beforehand.

Their products are computed from the integers widened to float32, which is exact as far as float32 is, and rounded to the grid of the
result once.
"""

from __future__ import annotations

import antorcha as torch

from .... import nn
from ....nn import functional as F
from .packed import (
    LinearPackedParams,
    OnGrid,
    needs_quantized,
    numbers,
    observed_weight,
    one_line,
    quantized_weight,
    requantized,
    take_settings,
)


def _weight_of(mod):
    """The quantized weight of a float layer: as its fake quantization or its `qconfig` has it."""
    fake = getattr(mod, "weight_fake_quant", None)
    if fake is None:
        return observed_weight(mod.weight, mod.qconfig)
    fake(mod.weight)
    return quantized_weight(mod.weight, fake.activation_post_process)


class _Weighted(OnGrid):
    """A layer with a quantized weight. `then`: what is done with its result before that is rounded."""

    then = staticmethod(lambda x: x)

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        """The layer for a float one that was prepared and has seen data, or one of those that are merged in it."""
        layer = mod[0] if isinstance(mod, nn.Sequential) else mod.merged() if hasattr(mod, "merged") else mod
        if not hasattr(layer, "qconfig"):
            layer.qconfig = mod.qconfig
        new = take_settings(cls.__new__(cls), layer)
        new._set(_weight_of(layer), layer.bias)
        new.set_grid(mod.activation_post_process)
        return new

    def _set(self, weight, bias):
        self._weight, self._bias = weight, None if bias is None else bias.detach()

    set_weight_bias = _set

    def weight(self):
        return self._weight

    def bias(self):
        return self._bias

    def forward(self, input):
        needs_quantized(self._get_name(), input)
        return requantized(self.then(self._product(numbers(input), numbers(self.weight()), self.bias())), self)


class Linear(_Weighted):
    """x W^T + b of quantized x: (..., in_features) to (..., out_features)."""

    def __init__(self, in_features, out_features, bias_=True, dtype=torch.qint8):
        super().__init__()
        self.in_features, self.out_features, self.scale, self.zero_point = in_features, out_features, 1.0, 0
        self._set(torch.quantize_per_tensor(torch.zeros(out_features, in_features), 1.0, 0, dtype),
                  torch.zeros(out_features) if bias_ else None)

    def _set(self, weight, bias):
        self._packed_params = LinearPackedParams(weight.dtype)
        self._packed_params.set_weight_bias(weight, bias)

    set_weight_bias = _set

    def weight(self):
        return self._packed_params._weight_bias()[0]

    def bias(self):
        return self._packed_params._weight_bias()[1]

    _product, __repr__ = staticmethod(F.linear), one_line

    def extra_repr(self):
        return (f"in_features={self.in_features}, out_features={self.out_features}, scale={self.scale}, zero_point={self.zero_point}, "
                f"qscheme={self.weight().qscheme()}")


class _Conv(_Weighted):
    shown = ("_weight", "_bias")

    def __init__(self, *args, **kwargs):
        layer = self.plain(*args, **kwargs)
        take_settings(self, layer)
        self._set(torch.quantize_per_tensor(layer.weight.detach(), 1.0, 0, torch.qint8), layer.bias)
        self.scale, self.zero_point = 1.0, 0

    def _product(self, x, weight, bias):
        return self._conv_forward(x, weight, bias)

    def extra_repr(self):
        defaults = dict(padding=(0,) * self.n, dilation=(1,) * self.n, output_padding=(0,) * self.n, groups=1)
        options = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, scale={self.scale}, "
                   f"zero_point={self.zero_point}"]
        options += [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        return ", ".join(options + (["bias=False"] if self.bias() is None else []))


class Conv1d(_Conv, nn.Conv1d):
    """`nn.Conv1d` of quantized tensors."""

    plain = nn.Conv1d


class Conv2d(_Conv, nn.Conv2d):
    """`nn.Conv2d` of quantized tensors."""

    plain = nn.Conv2d


class Conv3d(_Conv, nn.Conv3d):
    """`nn.Conv3d` of quantized tensors."""

    plain = nn.Conv3d


class Embedding(OnGrid):
    """Rows of a quantized table, read as float32."""

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        new = take_settings(cls.__new__(cls), mod)
        new._table, new.scale, new.zero_point = _weight_of(mod), 1.0, 0
        return new

    shown = ("_table",)

    def weight(self):
        return self._table

    def forward(self, indices):
        table = self._table
        grid = table.q_per_channel_scales(), table.q_per_channel_zero_points()
        scale, zero = (x.to(torch.float32)[indices].unsqueeze(-1) for x in grid)
        return (table.int_repr()[indices] - zero) * scale

    def extra_repr(self):
        return f"num_embeddings={self.num_embeddings}, embedding_dim={self.embedding_dim}, dtype={self._table.dtype}, " \
               f"qscheme={self._table.qscheme()}"


def _computed(base, name=None):
    """A quantized layer without a quantized weight: the float layer's result, rounded to the grid."""
    class Layer(OnGrid, base):
        def __init__(self, *args, scale=1.0, zero_point=0, **kwargs):
            super().__init__(*args, **kwargs)
            self.scale, self.zero_point = scale, zero_point

        @classmethod
        def from_float(cls, mod, use_precomputed_fake_quant=False):
            new = take_settings(cls.__new__(cls), mod)
            new._parameters.update(mod._parameters)
            new._buffers.update(mod._buffers)
            new.set_grid(mod.activation_post_process)
            return new

        def forward(self, *inputs):
            needs_quantized(self._get_name(), inputs[0])
            return requantized(super().forward(*[x.dequantize() for x in inputs]).detach(), self)

    Layer.__name__ = Layer.__qualname__ = name or base.__name__
    Layer.__doc__ = f"`nn.{base.__name__}` of quantized tensors."
    return Layer


BatchNorm2d, BatchNorm3d, LayerNorm, GroupNorm = map(_computed, (nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm))
InstanceNorm1d, InstanceNorm2d, InstanceNorm3d = map(_computed, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))
ELU, Hardswish, LeakyReLU, PReLU = map(_computed, (nn.ELU, nn.Hardswish, nn.LeakyReLU, nn.PReLU))
Sigmoid, Softmax = map(_computed, (nn.Sigmoid, nn.Softmax))


class ReLU6(nn.ReLU6):
    """`nn.ReLU6` of quantized tensors; the grid stays."""

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        return cls(mod.inplace)

    def _get_name(self):
        return "QuantizedReLU6"


class Quantize(nn.Module):
    """Float32 to quantized, on a given grid."""

    def __init__(self, scale, zero_point, dtype, factory_kwargs=None):
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float).reshape(-1))
        self.register_buffer("zero_point", torch.as_tensor(zero_point).long().reshape(-1))
        self.dtype = dtype

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        observer = mod.activation_post_process
        return cls(*observer.calculate_qparams(), observer.dtype)

    def forward(self, X):
        return torch.quantize_per_tensor(X, float(self.scale), int(self.zero_point), self.dtype)

    def extra_repr(self):
        return f"scale={self.scale}, zero_point={self.zero_point}, dtype={self.dtype}"


class DeQuantize(nn.Module):
    """Quantized to float32."""

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        return cls()

    def forward(self, Xq):
        return Xq.dequantize()


class FloatFunctional(nn.Module):
    """Operations between tensors as a module, so that their results can be observed and then quantized."""

    def __init__(self):
        super().__init__()
        self.activation_post_process = nn.Identity()

    def _done(self, result):
        return self.activation_post_process(result)

    def _numbers(self, x):
        return x

    def forward(self, x):
        raise RuntimeError("FloatFunctional is not intended to use the forward. Please use the corresponding operation: add, mul, cat")

    def add(self, x, y):
        return self._done(self._numbers(x) + self._numbers(y))

    def add_scalar(self, x, y):
        return self._numbers(x) + y

    def mul(self, x, y):
        return self._done(self._numbers(x) * self._numbers(y))

    def mul_scalar(self, x, y):
        return self._numbers(x) * y

    def cat(self, x, dim=0):
        return self._done(torch.cat([self._numbers(t) for t in x], dim))

    def add_relu(self, x, y):
        return self._done(F.relu(self._numbers(x) + self._numbers(y)))

    def matmul(self, x, y):
        return self._done(self._numbers(x) @ self._numbers(y))


class QFunctional(OnGrid, FloatFunctional):
    """`FloatFunctional` of quantized tensors, with results on the grid `scale`, `zero_point`."""

    def __init__(self):
        super().__init__()
        self.scale, self.zero_point = 1.0, 0

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        new = cls()
        new.set_grid(mod.activation_post_process)
        return new

    def _numbers(self, x):
        return x.dequantize()

    def _done(self, result):
        return requantized(result, self)

    def add_scalar(self, x, y):
        return requantized(x.dequantize() + y, self)

    def mul_scalar(self, x, y):
        return requantized(x.dequantize() * y, self)

    def _get_name(self):
        return "QFunctional"
