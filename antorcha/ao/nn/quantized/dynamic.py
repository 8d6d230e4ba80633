"""Layers with quantized weights whose inputs and results are plain: each input gets a grid of its own as it comes."""

from __future__ import annotations

import antorcha as torch

from .... import nn
from ....nn.functional import recurrent
from .packed import LinearPackedParams, dynamic_linear, observed_weight, one_line, take_settings


def _config(mod):
    from ...quantization.qconfig import default_dynamic_qconfig

    return getattr(mod, "qconfig", None) or default_dynamic_qconfig


class Linear(nn.Module):
    """x W^T + b with W of int8 (or float16): (..., in_features) to (..., out_features)."""

    _version = 4

    def __init__(self, in_features, out_features, bias_=True, dtype=torch.qint8):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.scale, self.zero_point = 1.0, 0
        weight = torch.zeros(out_features, in_features)
        self._packed_params = LinearPackedParams(dtype)
        self.set_weight_bias(torch.quantize_per_tensor(weight, 1.0, 0, dtype) if dtype is torch.qint8 else weight.half(),
                             torch.zeros(out_features) if bias_ else None)

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        """The layer for a float one, or one trained with fake quantization; its `qconfig` says how."""
        weight = observed_weight(mod.weight, _config(mod))
        new = cls(mod.in_features, mod.out_features, mod.bias is not None, torch.qint8 if weight.is_quantized else torch.float16)
        new.set_weight_bias(weight, mod.bias)
        return new

    __repr__ = one_line

    def set_weight_bias(self, w, b):
        self._packed_params.set_weight_bias(w, b)

    def weight(self):
        return self._packed_params._weight_bias()[0]

    def bias(self):
        return self._packed_params._weight_bias()[1]

    def forward(self, x):
        return dynamic_linear(x, self.weight(), self.bias())

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "scale"], destination[prefix + "zero_point"] = torch.tensor(self.scale), torch.tensor(self.zero_point)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        rest = {k: v for k, v in state_dict.items() if k not in (prefix + "scale", prefix + "zero_point")}
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def _get_name(self):
        return "DynamicQuantizedLinear"

    def extra_repr(self):
        text = f"in_features={self.in_features}, out_features={self.out_features}, dtype={self._packed_params.dtype}"
        return text + (f", qscheme={self.weight().qscheme()}" if self.weight().is_quantized else "")


class _Weights:
    """The part of a recurrent layer that keeps quantized weights under their names; told in a state_dict like parameters."""

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        """The layer for a float one; its `qconfig` says how."""
        new = take_settings(cls.__new__(cls), mod)
        new._packed = {name: p if name.startswith("bias") else observed_weight(p, _config(mod)) for name, p in mod.named_parameters()}
        return new

    def __getattr__(self, name):
        packed = vars(self).get("_packed", {})
        return packed[name] if name in packed else super().__getattr__(name)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination.update({prefix + name: weight for name, weight in self._packed.items()})

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        for name in self._packed:
            if prefix + name in state_dict:
                self._packed[name] = state_dict[prefix + name]
            else:
                missing_keys.append(prefix + name)

    def _get_name(self):
        return "DynamicQuantized" + type(self).__name__

    input_dtype, product = torch.float32, staticmethod(dynamic_linear)


class LSTM(_Weights, nn.LSTM):
    """`nn.LSTM` with quantized weights."""


class GRU(_Weights, nn.GRU):
    """`nn.GRU` with quantized weights."""


class _Cell(_Weights):
    def _computed(self, mode):
        def cell(x, state, w_ih, w_hh, b_ih, b_hh):
            states = state if isinstance(state, tuple) else (state,)
            new = recurrent.cell(mode, x, states, w_ih, w_hh, b_ih, b_hh, dynamic_linear)
            return new if len(states) > 1 else new[0]
        return cell


class RNNCell(_Cell, nn.RNNCell):
    """`nn.RNNCell` with quantized weights."""

    def forward(self, input, hx=None):
        return self._step(self._computed("RNN_" + self.nonlinearity.upper()), input, (hx,))


class LSTMCell(_Cell, nn.LSTMCell):
    """`nn.LSTMCell` with quantized weights."""

    def forward(self, input, hx=None):
        return self._step(self._computed("LSTM"), input, (None, None) if hx is None else tuple(hx))


class GRUCell(_Cell, nn.GRUCell):
    """`nn.GRUCell` with quantized weights."""

    def forward(self, input, hx=None):
        return self._step(self._computed("GRU"), input, (hx,))


__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "Linear", "RNNCell"]
