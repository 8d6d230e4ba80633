"""Activations and attention as modules."""

from __future__ import annotations

import inspect

import antorcha as torch

from ...ops.derivative import written
from .. import functional as F
from .. import init
from ..init import constant_, xavier_normal_, xavier_uniform_  # noqa: F401 (names of this module in PyTorch)
from ..parameter import Parameter
from .linear import NonDynamicallyQuantizableLinear
from .module import Module

REQUIRED = inspect.Parameter.empty


class _Activation(Module):
    """A function of `nn.functional` with options that are kept in attributes of their names.

    A subclass names the function and the options with their defaults: `class ELU(_Activation, function="elu", alpha=1.0, inplace=False)`.
    """

    def __init_subclass__(cls, function=None, **options):
        super().__init_subclass__()
        if function is not None:
            cls.function, cls.options = function, tuple(options)
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            cls.__signature__ = inspect.Signature([inspect.Parameter(name, kind, default=value) for name, value in options.items()])

    def __init__(self, *args, **kwargs):
        super().__init__()
        given = type(self).__signature__.bind(*args, **kwargs)
        given.apply_defaults()
        self.__dict__.update(given.arguments)

    def _options(self) -> dict:
        return {name: getattr(self, name) for name in self.options}

    def forward(self, input):
        # Of each class it is written out: collecting the options takes as long as the function.
        cls = next(c for c in type(self).__mro__ if "function" in vars(c))
        options = "".join([f", {name}=self.{name}" for name in cls.options])
        cls.forward = written(f"def forward(self, input): return F.{cls.function}(input{options})\n", {"F": F})
        return cls.forward(self, input)

    def extra_repr(self):
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items() if name != "inplace" or value)


class ReLU(_Activation, function="relu", inplace=False):
    """max(x, 0)."""


class RReLU(_Activation, function="rrelu", lower=1 / 8, upper=1 / 3, inplace=False):
    """x where positive, else x times a number drawn from [lower, upper) (their mean in evaluation). Xu et al., 2015."""

    def forward(self, input):
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class Hardtanh(_Activation, function="hardtanh", min_val=-1.0, max_val=1.0, inplace=False):
    """x clamped to [min_val, max_val]."""

    def __init__(self, *args, **kwargs):
        for old, new in (("min_value", "min_val"), ("max_value", "max_val")):
            if kwargs.get(old) is not None:
                import warnings
                warnings.warn(f"keyword argument `{old}` is deprecated and rename to `{new}`", FutureWarning, stacklevel=2)
                kwargs[new] = kwargs[old]
            kwargs.pop(old, None)
        super().__init__(*args, **kwargs)
        if self.max_val <= self.min_val:
            raise AssertionError(f"max_val must be larger than min_val, but got max_val={self.max_val} and min_val={self.min_val}")


class ReLU6(Hardtanh, function="relu6", inplace=False):
    """min(max(x, 0), 6)."""

    min_val, max_val = 0.0, 6.0


class Sigmoid(_Activation, function="sigmoid"):
    """1 / (1 + exp(-x))."""


class Hardsigmoid(_Activation, function="hardsigmoid", inplace=False):
    """x / 6 + 1 / 2, clamped to [0, 1]."""


class Tanh(_Activation, function="tanh"):
    """The hyperbolic tangent."""


class SiLU(_Activation, function="silu", inplace=False):
    """x sigmoid(x)."""


class Mish(_Activation, function="mish", inplace=False):
    """x tanh(softplus(x)). Misra, 2019."""


class Hardswish(_Activation, function="hardswish", inplace=False):
    """x times hardsigmoid(x). Howard et al., 2019."""


class ELU(_Activation, function="elu", alpha=1.0, inplace=False):
    """x where positive, else alpha (exp(x) - 1). Clevert et al., 2015."""


class CELU(_Activation, function="celu", alpha=1.0, inplace=False):
    """x where positive, else alpha (exp(x / alpha) - 1). Barron, 2017."""


class SELU(_Activation, function="selu", inplace=False):
    """An ELU scaled so that mean and variance are kept. Klambauer et al., 2017."""


class GLU(_Activation, function="glu", dim=-1):
    """The first half along `dim` times the sigmoid of the second. Dauphin et al., 2016."""


class GELU(_Activation, function="gelu", approximate="none"):
    """x times the normal distribution function at x. Hendrycks and Gimpel, 2016."""


class Hardshrink(_Activation, function="hardshrink", lambd=0.5):
    """x where |x| > lambd, else 0."""

    def extra_repr(self):
        return f"{self.lambd}"


class LeakyReLU(_Activation, function="leaky_relu", negative_slope=1e-2, inplace=False):
    """x where positive, else negative_slope x."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.negative_slope is None:
            raise ValueError("negative_slope must not be None")


class LogSigmoid(_Activation, function="logsigmoid"):
    """log(sigmoid(x))."""


class Softplus(_Activation, function="softplus", beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta; x itself above the threshold."""


class Softshrink(_Activation, function="softshrink", lambd=0.5):
    """x moved towards 0 by lambd."""

    def extra_repr(self):
        return f"{self.lambd}"


class Softsign(_Activation, function="softsign"):
    """x / (1 + |x|)."""


class Tanhshrink(_Activation, function="tanhshrink"):
    """x - tanh(x)."""


class Threshold(_Activation, function="threshold", threshold=REQUIRED, value=REQUIRED, inplace=False):
    """x where x > threshold, else value."""


class Softmin(_Activation, function="softmin", dim=None):
    """softmax(-x) along `dim`."""


class Softmax(_Activation, function="softmax", dim=None):
    """exp(x) / sum(exp(x)) along `dim`."""


class LogSoftmax(_Activation, function="log_softmax", dim=None):
    """log(softmax(x)) along `dim`."""


class Softmax2d(_Activation, function="softmax"):
    """softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input):
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.dim()}D instead")
        return F.softmax(input, -3)


class PReLU(Module):
    """x where positive, else a learned slope times x; one slope, or one for each channel. He et al., 2015."""

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(torch.empty(num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self):
        """All slopes `init`."""
        init.constant_(self.weight, self.init)

    def forward(self, input):
        return F.prelu(input, self.weight)

    def extra_repr(self):
        return f"num_parameters={self.num_parameters}"


class MultiheadAttention(Module):
    """Attention of several heads, with learned projections of query, key, value and result. Vaswani et al., 2017.

    Query (L, N, embed_dim), key (S, N, kdim), value (S, N, vdim), or with `batch_first` the batch N first, or without a batch. Returns
    the output in the query's layout and, with `need_weights`, the weights (N, L, S), averaged over the heads or (N, heads, L, S).
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None, vdim=None,
                 batch_first=False, device=None, dtype=None):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and num_heads={num_heads} instead")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.head_dim, self.add_zero_attn = embed_dim // num_heads, add_zero_attn
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")

        def parameter(*shape):
            return Parameter(torch.empty(shape, device=device, dtype=dtype))

        if self._qkv_same_embed_dim:
            self.in_proj_weight = parameter(3 * embed_dim, embed_dim)
            for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                self.register_parameter(name, None)
        else:
            self.q_proj_weight = parameter(embed_dim, embed_dim)
            self.k_proj_weight = parameter(embed_dim, self.kdim)
            self.v_proj_weight = parameter(embed_dim, self.vdim)
            self.register_parameter("in_proj_weight", None)
        self.register_parameter("in_proj_bias", parameter(3 * embed_dim) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias, device, dtype)
        self.bias_k = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = parameter(1, 1, embed_dim) if add_bias_kv else None
        self._reset_parameters()

    def _reset_parameters(self):
        projections = [self.in_proj_weight] if self._qkv_same_embed_dim else [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        for weight in projections:
            init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for row in (self.bias_k, self.bias_v):
            if row is not None:
                init.xavier_normal_(row)

    def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None, average_attn_weights=True,
                is_causal=False):
        swap = self.batch_first and query.dim() == 3
        if swap:        # what is the same tensor stays so: it is projected once
            swapped = {x: x.transpose(0, 1) for x in (query, key, value)}
            query, key, value = swapped[query], swapped[key], swapped[value]
        out, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k, self.bias_v,
            self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias, training=self.training,
            key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim, q_proj_weight=self.q_proj_weight, k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight, average_attn_weights=average_attn_weights, is_causal=is_causal)
        return out.transpose(0, 1) if swap else out, weights

    def merge_masks(self, attn_mask, key_padding_mask, query):
        """Both masks as one (N, heads, L, S) and 2, or the only one and its kind (0: attention, 1: padding), or (None, None)."""
        if key_padding_mask is None:
            return attn_mask, None if attn_mask is None else 0
        if attn_mask is None:
            return key_padding_mask, 1
        n, length = key_padding_mask.shape
        attn_mask = attn_mask.view(n, -1, length, length) if attn_mask.dim() == 3 else attn_mask.view(1, 1, length, length)
        return attn_mask.expand(n, self.num_heads, -1, -1) + key_padding_mask.view(n, 1, 1, length).expand(-1, self.num_heads, -1, -1), 2
