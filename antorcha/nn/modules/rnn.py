"""Recurrent layers and their cells."""

from __future__ import annotations

import math
import warnings

import antorcha as torch

from ...base.grad_mode import mode as modes
from ...ops.contraction import linear
from .. import functional as F
from .. import init
from ..parameter import Parameter
from .module import Module


class RNNBase(Module):
    """The parameters of `num_layers` recurrent layers in one or both directions, named as in `weight_ih_l0_reverse`.

    Input (L, N, input_size), with `batch_first` (N, L, input_size), without a batch (L, input_size), or a `PackedSequence`; output in
    the same layout, with hidden_size (or proj_size) features for each direction.
    """

    gates = 1       # matrices in each weight
    input_dtype = property(lambda self: self._flat_weights[0].dtype)
    product = staticmethod(linear)      # how weights are applied

    def __init__(self, mode, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False,
                 proj_size=0, device=None, dtype=None):
        super().__init__()
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self.proj_size = proj_size
        self._check_options(dropout)
        width = proj_size or hidden_size
        self._flat_weights_names: list[str] = []
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[:self._directions]:
                features = input_size if layer == 0 else width * self._directions
                rows = self.gates * hidden_size
                shapes = dict(weight_ih=(rows, features), weight_hh=(rows, width))
                if bias:
                    shapes.update(bias_ih=(rows,), bias_hh=(rows,))
                if proj_size:
                    shapes.update(weight_hr=(proj_size, hidden_size))
                names = [f"{name}_l{layer}{suffix}" for name in shapes]
                for name, shape in zip(names, shapes.values()):
                    setattr(self, name, Parameter(torch.empty(shape, device=device, dtype=dtype)))
                self._flat_weights_names += names
                self._all_weights.append(names)
        self.reset_parameters()

    def _check_options(self, dropout) -> None:
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
        if dropout > 0 and self.num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers "
                          f"greater than 1, but got dropout={dropout} and num_layers={self.num_layers}", stacklevel=4)
        for names, kind in ((("bias", "batch_first", "bidirectional"), bool), (("input_size", "hidden_size", "num_layers"), int)):
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, kind):
                    raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
                if kind is int and value <= 0:
                    raise ValueError(f"{name} must be greater than zero")
        if self.proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if self.proj_size >= self.hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _flat_weights(self) -> list:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list:
        """The parameters, a list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def reset_parameters(self):
        """Uniform in +-1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self):
        """Nothing to do: kernels read each parameter where it is."""

    # -- checks --------------------------------------------------------------------------------------------------

    def check_input(self, input, batch_sizes):
        """The last dimension is `input_size`."""
        expected = 3 if batch_sizes is None else 2
        if input.dtype != self.input_dtype and modes.autocast is None:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({self.input_dtype}). "
                             f"Convert input: input.to({self.input_dtype}), or convert model: model.to({input.dtype})")
        if input.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.dim()}")
        if self.input_size != input.shape[-1]:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}")

    def get_expected_hidden_size(self, input, batch_sizes) -> tuple:
        batch = int(batch_sizes[0]) if batch_sizes is not None else input.shape[0 if self.batch_first else 1]
        return (self.num_layers * self._directions, batch, self.proj_size or self.hidden_size)

    def check_hidden_size(self, hx, expected_hidden_size, msg="Expected hidden size {}, got {}"):
        if tuple(hx.shape) != tuple(expected_hidden_size):
            raise RuntimeError(msg.format(tuple(expected_hidden_size), list(hx.shape)))

    def check_forward_args(self, input, hidden, batch_sizes):
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden, self.get_expected_hidden_size(input, batch_sizes))

    def permute_hidden(self, hx, permutation):
        """The hidden state with its batch in another order."""
        return hx if permutation is None else hx.index_select(1, permutation)

    # -- computing -----------------------------------------------------------------------------------------------

    def _states(self, x, hx, batch_sizes, batched: bool):
        """The hidden state to begin with: the given one, with a batch dimension, or zeros."""
        if hx is None:
            return x.new_zeros(self.get_expected_hidden_size(x, batch_sizes))
        if batch_sizes is None and hx.dim() != (3 if batched else 2):
            kind, rank = ("batched 3-D", "3-D") if batched else ("unbatched 2-D", "2-D")
            raise RuntimeError(f"For {kind} input, hx should also be {rank} but got {hx.dim()}-D tensor")
        return hx if batched else hx.unsqueeze(1)

    def _run(self, x, states, batch_sizes):
        """(output, final states) for input with a batch (or packed)."""
        self.check_forward_args(x, states, batch_sizes)
        return F.recurrent.run(self.mode, x, states, self.all_weights, self._directions, self.bias, self.dropout if self.training else 0.0,
                               self.batch_first, batch_sizes, self.product)

    def _unbatch(self, states):
        return states.squeeze(1)

    def forward(self, input, hx=None):
        if isinstance(input, torch.nn.utils.rnn.PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"{self._get_name()}: Expected input to be 2D or 3D, got {input.dim()}D tensor instead")
        batched, batch_dim = input.dim() == 3, 0 if self.batch_first else 1
        x = input if batched else input.unsqueeze(batch_dim)
        output, states = self._run(x, self._states(x, hx, None, batched), None)
        return (output, states) if batched else (output.squeeze(batch_dim), self._unbatch(states))

    def _forward_packed(self, packed, hx):
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        states = self._states(data, hx, batch_sizes, True)
        if hx is not None:
            states = self.permute_hidden(states, sorted_indices)
        output, states = self._run(data, states, batch_sizes)
        output = type(packed)(output, batch_sizes, sorted_indices, unsorted_indices)
        return output, self.permute_hidden(states, unsorted_indices)

    def extra_repr(self):
        options = [f"{self.input_size}, {self.hidden_size}"]
        defaults = dict(proj_size=0, num_layers=1, bias=True, batch_first=False, dropout=0, bidirectional=False)
        return ", ".join(options + [f"{name}={getattr(self, name)}" for name, d in defaults.items() if getattr(self, name) != d])


class RNN(RNNBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. Elman, 1990. Returns (output, h_n)."""

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, device=None, dtype=None):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.nonlinearity = nonlinearity
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         device=device, dtype=dtype)


class LSTM(RNNBase):
    """Long short-term memory: gates i, f, g, o; c' = f c + i g, h' = o tanh(c'), with `proj_size` projected. Hochreiter and
    Schmidhuber, 1997; Sak et al., 2014. Returns (output, (h_n, c_n))."""

    gates = 4

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, proj_size=0,
                 device=None, dtype=None):
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)

    def get_expected_cell_size(self, input, batch_sizes) -> tuple:
        return (*self.get_expected_hidden_size(input, batch_sizes)[:2], self.hidden_size)

    def check_forward_args(self, input, hidden, batch_sizes):
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden[0], self.get_expected_hidden_size(input, batch_sizes), "Expected hidden[0] size {}, got {}")
        self.check_hidden_size(hidden[1], self.get_expected_cell_size(input, batch_sizes), "Expected hidden[1] size {}, got {}")

    def permute_hidden(self, hx, permutation):
        return tuple(super(LSTM, self).permute_hidden(state, permutation) for state in hx)

    def _states(self, x, hx, batch_sizes, batched):
        if hx is None:
            return (x.new_zeros(self.get_expected_hidden_size(x, batch_sizes)), x.new_zeros(self.get_expected_cell_size(x, batch_sizes)))
        rank = 3 if batched else 2
        if batch_sizes is None and any(state.dim() != rank for state in hx):
            kind = "batched 3-D" if batched else "unbatched 2-D"
            raise RuntimeError(f"For {kind} input, hx and cx should also be {rank}-D but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors")
        return tuple(hx) if batched else tuple(state.unsqueeze(1) for state in hx)

    def _unbatch(self, states):
        return tuple(state.squeeze(1) for state in states)


class GRU(RNNBase):
    """Gated recurrent unit: gates r, z, n; h' = (1 - z) n + z h, with r inside n's product. Cho et al., 2014. Returns (output, h_n)."""

    gates = 3

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, device=None,
                 dtype=None):
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype)


class RNNCellBase(Module):
    """The parameters of one step of a recurrent layer."""

    def __init__(self, input_size, hidden_size, bias, num_chunks, device=None, dtype=None):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        options, rows = dict(device=device, dtype=dtype), num_chunks * hidden_size
        self.weight_ih = Parameter(torch.empty(rows, input_size, **options))
        self.weight_hh = Parameter(torch.empty(rows, hidden_size, **options))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(torch.empty(rows, **options)) if bias else None)
        self.reset_parameters()

    reset_parameters = RNNBase.reset_parameters

    def _step(self, function, input, states: tuple):
        """`function` applied to input and states that all have a batch; its result without one where the input has none."""
        name = self._get_name()
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for state in states:
            if state is not None and state.dim() not in (1, 2):
                raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {state.dim()}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        states = tuple(x.new_zeros(x.shape[0], self.hidden_size) if s is None else s if batched else s.unsqueeze(0) for s in states)
        self._check(x, states)
        out = function(x, states if len(states) > 1 else states[0], self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        if batched:
            return out
        return tuple(o.squeeze(0) for o in out) if isinstance(out, tuple) else out.squeeze(0)

    def _check(self, x, states) -> None:
        if x.shape[1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}")
        for i, state in enumerate(states):
            if state.shape[0] != x.shape[0]:
                raise RuntimeError(f"Input batch size {x.shape[0]} doesn't match hidden{i} batch size {state.shape[0]}")
            if state.shape[1] != self.hidden_size:
                raise RuntimeError(f"hidden{i} has inconsistent hidden_size: got {state.shape[1]}, expected {self.hidden_size}")

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """One step of an `RNN`: (N, input_size), (N, hidden_size) to (N, hidden_size)."""

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input, hx=None):
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        function = F.recurrent.rnn_tanh_cell if self.nonlinearity == "tanh" else F.recurrent.rnn_relu_cell
        return self._step(function, input, (hx,))


class LSTMCell(RNNCellBase):
    """One step of an `LSTM`: x, (h, c) to (h', c')."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input, hx=None):
        return self._step(F.recurrent.lstm_cell, input, (None, None) if hx is None else tuple(hx))


class GRUCell(RNNCellBase):
    """One step of a `GRU`: (N, input_size), (N, hidden_size) to (N, hidden_size)."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input, hx=None):
        return self._step(F.recurrent.gru_cell, input, (hx,))
