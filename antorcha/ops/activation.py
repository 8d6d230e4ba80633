"""Activations of neural networks."""

from __future__ import annotations

import math

from ..loops import complex as cx
from ..loops import ir
from ..loops import math as lm
from .casts import FULL_ON_GPU
from .pointwise import exp, sigmoid, tanh, where
from .record import continuous, no_bool, operator, pointwise
from .samples import unary

Tensor = "Tensor"
SQRT_2, SQRT_2_PI = math.sqrt(2.0), math.sqrt(2.0 / math.pi)


@pointwise(lambda x: ir.select(x <= 0, ir.const(0, x.dtype), x), rule=no_bool, samples=unary(-9, 9),
           grad=dict(input=lambda g, result: where(result > 0, g, 0.0)))
def relu(input: Tensor) -> Tensor:
    """max(x, 0)."""


@pointwise(lambda x, s: ir.select(x > 0, x, x * s), rule=continuous, namespace=False, method=False, samples=unary(-9, 9),
           grad=dict(input=lambda g, input, negative_slope: where(input > 0, g, g * negative_slope)))
def leaky_relu(input: Tensor, negative_slope=0.01) -> Tensor:
    """x where positive, else negative_slope * x."""


def _elu(x, alpha, scale, input_scale):
    return ir.select(x <= 0.0, alpha * scale * lm.expm1(x * input_scale), x * scale)


@pointwise(_elu, rule=continuous, namespace=False, method=False, samples=unary(-9, 9),
           grad=dict(input=lambda g, input, alpha, scale, input_scale:
                     where(input <= 0, g * (input_scale * alpha * scale) * exp(input * input_scale), g * scale)), wide=True)
def elu(input: Tensor, alpha=1.0, scale=1.0, input_scale=1.0) -> Tensor:
    """x where positive, else alpha * (exp(x) - 1). Clevert et al., 2015."""


@operator(inplace=True, method=False, samples=unary(-9, 9))
def selu(input: Tensor) -> Tensor:
    """Scaled exponential linear unit. Klambauer et al., 2017."""
    return elu(input, 1.6732632423543772, 1.0507009873554805)


@operator(inplace=True, title="Celu", method=False, samples=unary(-9, 9))
def celu(input: Tensor, alpha=1.0) -> Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)). Barron, 2017."""
    return elu(input, alpha, 1.0, 1.0 / alpha)


@pointwise(lambda x: x * 0.5 * (1.0 + lm.erf(x * (1.0 / SQRT_2))), name="gelu", public=False, rule=continuous, samples=unary(-5, 5),
           grad=dict(input=lambda g, input: g * gelu_slope(input)), wide=True)
def gelu_erf(input: Tensor): ...


@pointwise(lm.gelu_slope, public=False, inplace=False, rule=continuous, samples=unary(-5, 5), wide=True,
           grad=dict(input=lambda g, input: g * (2 - input * input) * exp(input * input * -0.5) * (1 / math.sqrt(2 * math.pi))))
def gelu_slope(input: Tensor):
    """The derivative of x * Phi(x), Phi(x) + x * phi(x), with the normal distribution and its density."""


@pointwise(lambda x: x * 0.5 * (1.0 + lm.tanh(x * (1.0 + x * x * 0.044715) * SQRT_2_PI)), name="gelu_tanh", title="Gelu", public=False,
           wide=True,
           rule=continuous, samples=unary(-5, 5), grad=dict(input=lambda g, input: _gelu_tanh_grad(g, input)))
def gelu_tanh(input: Tensor): ...


def _gelu_tanh_grad(g, input):
    squared = input * input
    slope = tanh(input * (1.0 + squared * 0.044715) * SQRT_2_PI)
    return g * (0.5 * (1 + slope) + input * (1 - slope * slope) * (1.0 + squared * 0.134145) * (0.5 * SQRT_2_PI))


@operator(namespace=False, method=False, samples=unary(-5, 5))
def gelu(input: Tensor, *, approximate="none") -> Tensor:
    """x * Phi(x) with the normal distribution function, or its approximation by tanh. Hendrycks and Gimpel, 2016."""
    if approximate == "none":
        return gelu_erf(input)
    if approximate != "tanh":
        raise RuntimeError(f"gelu: expected approximate to be 'none' or 'tanh'; received {approximate!r}")
    return gelu_tanh(input)


@pointwise(lambda x: x * lm.sigmoid(x), rule=continuous, namespace=False, method=False, samples=unary(-9, 9),
           complex=lambda z: z * cx.sigmoid(z),
           grad=dict(input=lambda g, input: g * (sigmoid(input) * (1 + input * (1 - sigmoid(input))))), wide=True)
def silu(input: Tensor) -> Tensor:
    """x * sigmoid(x)."""


def _softplus(x, beta, threshold):
    z = x * beta
    return ir.select(z > threshold, x, lm.log1p(lm.exp(z)) / beta)


@pointwise(_softplus, autocast=FULL_ON_GPU, rule=continuous, namespace=False, method=False, samples=unary(-9, 9),
           grad=dict(input=lambda g, input, beta, threshold: where(input * beta > threshold, g, g * sigmoid(input * beta))), wide=True)
def softplus(input: Tensor, beta=1.0, threshold=20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself above the threshold."""


def _logsigmoid(x):
    return ir.minimum(x, ir.const(0.0, x.dtype)) - lm.log1p(lm.exp(-ir.absolute(x)))


@pointwise(_logsigmoid, rule=continuous, samples=unary(-9, 9), namespace=False, method=False, inplace=False, name="log_sigmoid",
           grad=dict(input=lambda g, input: g * sigmoid(-input)), wide=True)
def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x)))."""


@operator(wide=True, title="Mish", namespace=False, method=False, samples=unary(-9, 9))
def mish(input: Tensor) -> Tensor:
    """x * tanh(softplus(x)). Misra, 2019."""
    return input * tanh(softplus(input))


@operator(namespace=False, method=False, samples=unary(-9, 9))
def hardtanh(input: Tensor, min_val=-1.0, max_val=1.0) -> Tensor:
    """Every element, but within [min_val, max_val]; of integers these are cut to integers."""
    if min_val > max_val:
        raise ValueError(f"min_val cannot be greater than max_val; received {min_val} and {max_val}")
    if input._meta.dtype.kind in "iu":
        min_val, max_val = int(min_val), int(max_val)
    if input._meta.dtype.kind == "u" and min_val < 0:
        raise RuntimeError(f"Cannot do hardtanh on an unsigned type with negative limits; received min_val = {min_val}")
    return _hardtanh(input, min_val, max_val)


@pointwise(lambda x, low, high: ir.minimum(ir.maximum(x, low), high), name="hardtanh", public=False, rule=no_bool,
           grad=dict(input=lambda g, input, min_val, max_val: where((input > min_val) & (input < max_val), g, 0.0)))
def _hardtanh(input: Tensor, min_val, max_val): ...


@operator(namespace=False, method=False, samples=unary(-9, 9))
def relu6(input: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return _hardtanh(input, 0, 6)


@pointwise(lambda x: ir.minimum(ir.maximum(x + 3.0, ir.const(0.0, x.dtype)), ir.const(6.0, x.dtype)) / 6.0, rule=continuous,
           namespace=False, method=False, grad=dict(input=lambda g, input: where((input > -3) & (input < 3), g / 6, 0.0)), wide=True,
           samples=unary(-9, 9))
def hardsigmoid(input: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""


@pointwise(lambda x: x * ir.minimum(ir.maximum(x + 3.0, ir.const(0.0, x.dtype)), ir.const(6.0, x.dtype)) / 6.0, rule=continuous,
           namespace=False, method=False, wide=True,
           grad=dict(input=lambda g, input: where(input <= -3, 0.0, where(input < 3, g * (input / 3 + 0.5), g))), samples=unary(-9, 9))
def hardswish(input: Tensor) -> Tensor:
    """x * min(max(x + 3, 0), 6) / 6. Howard et al., 2019."""


@pointwise(lambda x, l: ir.select((x > l) | (x < -l), x, ir.const(0.0, x.dtype)), rule=continuous, inplace=False,
           grad=dict(input=lambda g, input, lambd: where((input > lambd) | (input < -lambd), g, 0.0)), samples=unary(-9, 9))
def hardshrink(input: Tensor, lambd=0.5) -> Tensor:
    """x outside [-lambd, lambd], else 0."""


@pointwise(lambda x, l: ir.select(x > l, x - l, ir.select(x < -l, x + l, ir.const(0.0, x.dtype))), rule=continuous, name="softshrink",
           public=False, grad=dict(input=lambda g, input, lambd: where((input > lambd) | (input < -lambd), g, 0.0)))
def softshrink_(input: Tensor, lambd): ...


@operator(namespace=False, method=False, samples=unary(-9, 9))
def softshrink(input: Tensor, lambd=0.5) -> Tensor:
    """x moved towards 0 by lambd >= 0, 0 within [-lambd, lambd]."""
    if lambd < 0:
        raise RuntimeError(f"softshrink: expected lambda at least 0 (lambda must be in range [0, inf) for the input dtype); found {lambd}")
    return softshrink_(input, lambd)


@pointwise(lambda x, t, v: ir.select(x > t, x, v), rule=no_bool, method=False,
           grad=dict(input=lambda g, input, threshold: where(input > threshold, g, 0.0)), samples=unary(-1, 1, 0.1, 20))
def threshold(input: Tensor, threshold, value) -> Tensor:
    """x above the threshold, else value."""


@operator(autocast="lower", title="PreluKernel", out=False, samples=lambda t: [t(2, 4, 3, low=-1, high=1), t(4)])
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where positive, else weight * x; one weight, or one for each channel."""
    if input.dtype is not weight.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {input.dtype} and {weight.dtype}. Convert one of them.")
    if weight.numel() != 1:
        if not input.dim():
            raise RuntimeError("Not allow zero-dim input tensor with more than one weight")
        channels = input.shape[1] if input.dim() > 1 else 1
        if channels != weight.numel():
            raise RuntimeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {weight.numel()} and "
                               f"channel size = {channels}.")
    if weight.dim() > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.dim()}")
    weight = weight.reshape((1, -1) + (1,) * (input.dim() - 2)) if input.dim() > 1 else weight.reshape(()) if not input.dim() else weight
    return where(input > 0, input, input * weight)
