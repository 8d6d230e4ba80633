"""What quantized layers have in common: weights of integers, results on a given grid, and how both are saved."""

from __future__ import annotations

import copy

import antorcha as torch

from ....core.quantized import QuantizedTensor
from ....nn import Module
from ....nn import functional as F
from ....ops.pointwise import clamp
from ....ops.quantization import chosen, grid


def quantized_weight(weight, observer):
    """`weight` on the grid that an observer of it has chosen."""
    scale, zero_point = observer.calculate_qparams()
    x = weight.detach().float()
    if observer.qscheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return torch.quantize_per_tensor(x, scale.item(), int(zero_point.item()), observer.dtype)
    return torch.quantize_per_channel(x, scale, zero_point, observer.ch_axis, observer.dtype)


def observed_weight(weight, qconfig):
    """`weight` as `qconfig` has it: on the grid of a new observer of it, or in float16."""
    observer = qconfig.weight()
    if observer.dtype is torch.float16:
        return weight.detach().half()
    observer(weight)
    return quantized_weight(weight, observer)


def numbers(weight):
    """A weight as float32: what stands for its elements while they are multiplied, read from its integers."""
    return weight.dequantize() if weight.is_quantized else weight.float()


def dynamic_linear(x, weight, bias=None):
    """x W^T + b with a quantized W, and x on a grid of 7 bits that is chosen for it now; with W of float16, x as it is."""
    if not weight.is_quantized or not x.numel():
        return F.linear(x, numbers(weight), None if bias is None else bias.detach())
    x = x.detach()
    scale, zero_point = chosen(x.min(), x.max(), 0, 127)
    q = clamp(grid(x, scale, zero_point), 0, 127) - zero_point
    out = F.linear(q, numbers(weight)) * scale
    return out if bias is None else out + bias.detach()


def requantized(x, layer):
    """`x` on the grid of a layer's results, its `scale` and `zero_point`."""
    return torch.quantize_per_tensor(x, float(layer.scale), int(layer.zero_point), torch.quint8)


def needs_quantized(what: str, x) -> None:
    if not isinstance(x, QuantizedTensor):
        raise NotImplementedError(f"{what}: expected a quantized input; received one of {x.dtype}. Quantize it first: a QuantStub "
                                  "where the model begins")


def take_settings(new, mod):
    """`new`, an instance without `__init__`, with the settings of the layer `mod`, but none of its parameters, buffers and hooks."""
    Module.__init__(new)
    own = vars(Module())
    vars(new).update({name: copy.copy(value) for name, value in vars(mod).items() if name not in own and name != "qconfig"})
    new.training = mod.training
    return new


def one_line(layer) -> str:
    """The text of a layer without that of its packed parameters."""
    return f"{layer._get_name()}({layer.extra_repr()})"


class LinearPackedParams(Module):
    """A quantized weight (or one of float16) and a bias, told in a state_dict as PyTorch does: `dtype` and `_packed_params`."""

    _version = 3

    def __init__(self, dtype=torch.qint8):
        super().__init__()
        self.dtype, self._packed_params = dtype, (None, None)

    def set_weight_bias(self, weight, bias):
        self._packed_params = weight, bias

    def _weight_bias(self):
        return self._packed_params

    def forward(self, x):
        return x

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "dtype"] = self.dtype
        destination[prefix + "_packed_params"] = self._weight_bias()

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        for name in ("dtype", "_packed_params"):
            if prefix + name not in state_dict:
                missing_keys.append(prefix + name)
        self.dtype = state_dict.get(prefix + "dtype", self.dtype)
        if prefix + "_packed_params" in state_dict:
            self.set_weight_bias(*state_dict[prefix + "_packed_params"])

    def extra_repr(self):
        return repr(self._weight_bias())


class OnGrid(Module):
    """A layer of quantized inputs with results on a grid of its own, `scale` and `zero_point`. `shown`: further attributes that are told in
    a state_dict though they are neither parameters nor buffers."""

    shown: tuple = ()
    _version = 3

    def set_grid(self, observer) -> None:
        """The grid that an observer of the results has chosen."""
        scale, zero_point = observer.calculate_qparams()
        self.scale, self.zero_point = float(scale), int(zero_point)

    def _get_name(self):
        return "Quantized" + type(self).__name__

    def extra_repr(self):
        return f"{super().extra_repr()}, scale={self.scale}, zero_point={self.zero_point}".removeprefix(", ")

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({prefix + name.strip("_"): getattr(self, name) for name in self.shown})
        destination.update({prefix + name: torch.tensor(getattr(self, name)) for name in ("scale", "zero_point")})

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        known = {prefix + name.strip("_"): name for name in (*self.shown, "scale", "zero_point")}
        missing_keys += [key for key in known if key not in state_dict]
        for key, name in known.items():
            if key in state_dict:
                value = state_dict[key]
                setattr(self, name, value.item() if name in ("scale", "zero_point") else value)
        rest = {k: v for k, v in state_dict.items() if k not in known}
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)


__all__ = [
    "LinearPackedParams",
    "OnGrid",
    "dynamic_linear",
    "needs_quantized",
    "numbers",
    "observed_weight",
    "one_line",
    "quantized_weight",
    "requantized",
    "take_settings",
]
