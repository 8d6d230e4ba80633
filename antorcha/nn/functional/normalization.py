"""Normalisation over features, channels, groups and batches."""

from __future__ import annotations

import math

from ...base import dtype as dt
from ...base.errors import message
from ...core.autograd import no_grad
from ...ops.casts import FULL_ON_GPU
from ...ops.padding import pad
from ...ops.pointwise import axpy_, div
from ...ops.recall import recalled
from ...ops.record import core, operator, wide, widened
from ...ops.strides import in_order, keeping_format

Tensor = "Tensor"


@operator(name="moments", public=False, grad=dict(input=lambda g, input, dims, result_0: _moments_grad(g, input, dims, result_0)))
def _moments(input: Tensor, dims):
    """(mean, variance) over dimensions, which stay. The operators below are given the moments of their input, and their derivative by it
    takes in what goes through the moments; what derives that derivative finds it here."""
    mean = input.mean(dims, True)
    centred = input - mean
    return mean, (centred * centred).mean(dims, True)


def _moments_grad(g, input, dims, mean):
    count = math.prod(input.shape[d] for d in dims)
    return g[0] / count + g[1] * (2 / count) * (input - mean)


def _standard(input, mean, variance, eps):
    return (input - mean) * (variance + eps).rsqrt()


def _kept(input, mean, variance, eps):
    """(input, mean, scale) in float32 or more; of 16-bit floats the moments are, as in PyTorch, those that were kept in 16 bits."""
    x, scale = widened(input), (variance + eps).rsqrt()
    return (x, mean, scale) if x is input else (x, widened(mean.to(input.dtype)), widened(scale.to(input.dtype)))


def _standard_grad(g, input, mean, variance, dims, eps):
    """The cotangent of what was standardised, from that of the result."""
    x, mean, scale = _kept(input, mean, variance, eps)
    return _unit_grad(g, _unit(x, mean, scale), scale, dims)


def _unit(x, mean, scale):
    return (x - mean) * scale


def _line(x, mean, scale):
    """(x - mean) * scale as PyTorch has it in the derivative by layer_norm's weight: what is left of one element is what this rounds."""
    return axpy_(-mean * scale, x, scale)


def _unit_grad(g, unit, scale, dims):
    return scale * (g - g.mean(dims, True) - unit * (g * unit).mean(dims, True))


def _layer_norm_grad(g, input, mean, variance, dims, weight, eps):
    return _standard_grad(_times(widened(g), widened(weight)), input, mean, variance, dims, eps)


@operator(name="layer_norm", title="NativeLayerNorm", public=False, wide="forward", grad=dict(
    input=_layer_norm_grad, bias=lambda g: widened(g),
    weight=lambda g, input, mean, variance, eps: widened(g) * _line(*_kept(input, mean, variance, eps))))
def _layer_norm(input: Tensor, mean, variance, dims, weight: Tensor, bias: Tensor, eps):
    out = _times(_standard(input, mean, variance, eps), weight)
    return in_order(out if bias is None else out + bias)


def _times(x, weight):
    return x if weight is None else x * weight


@operator(autocast=FULL_ON_GPU, method=False, samples=lambda t: [t(..., 4), (4,), t(4), t(4), 1e-5])
def native_layer_norm(input: Tensor, normalized_shape, weight: Tensor, bias: Tensor, eps):
    """(layer_norm, mean, 1 / sqrt(variance + eps)). No derivative goes through the moments."""
    out = layer_norm(input, normalized_shape, weight, bias, eps)
    d = input.dtype if weight is None else weight.dtype
    mean, variance = _moments(widened(input.detach()), tuple(range(-len(tuple(normalized_shape)), 0)))
    return out, mean.to(d), (variance + eps).rsqrt().to(d)


@recalled(autocast=FULL_ON_GPU)
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) over the last dimensions, times weight plus bias. Ba et al., 2016."""
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError("layer_norm: Expected normalized_shape to be at least 1-dimensional; received ()")
    if tuple(input.shape[-len(shape):]) != shape:
        raise RuntimeError(message("layer_norm", f"input of shape (..., {', '.join(map(str, shape))}), the normalized_shape {list(shape)}",
                                   f"{list(input.shape)}", "Given normalized_shape must be the input's last dimensions."))
    dims = tuple(range(-len(shape), 0))
    return _layer_norm(input, *_moments(widened(input), dims), dims, weight, bias, eps)


@recalled(autocast=FULL_ON_GPU)
def rms_norm(input, normalized_shape, weight=None, eps=None):
    """x / sqrt(mean(x**2) + eps) over the last dimensions, times weight. Zhang and Sennrich, 2019."""
    return _rms_norm(input, normalized_shape, weight, eps)


@wide
def _rms_norm(input, normalized_shape, weight, eps):
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError("rms_norm: Expected normalized_shape to be at least 1-dimensional; received ()")
    if weight is not None and tuple(weight.shape) != shape:
        raise RuntimeError(message("rms_norm", f"weight to be of same shape as normalized_shape {list(shape)}", f"{list(weight.shape)}"))
    if tuple(input.shape[-len(shape):]) != shape:
        raise RuntimeError(message("rms_norm", f"input of shape (..., {', '.join(map(str, shape))}), the normalized_shape {list(shape)}",
                                   f"{list(input.shape)}", "Given normalized_shape must be the input's last dimensions."))
    dims = tuple(range(-len(shape), 0))
    eps = {dt.float64: 2.220446049250313e-16}.get(input.dtype, 1.1920928955078125e-07) if eps is None else eps
    out = input * ((input * input).mean(dims, True) + eps).rsqrt()
    return out if weight is None else out * weight


def _check_dtypes(what: str, input, others: dict) -> None:
    """RuntimeError for weights and statistics of another dtype than the input's; beside 16-bit floats float32 may stand."""
    for name, x in others.items():
        if x is not None and x.dtype not in (input.dtype, input.dtype.compute):
            raise RuntimeError(message(what, f"{name} of dtype {input.dtype}, the input's", f"{x.dtype}",
                                       f"Convert the input or the layer: input.to({x.dtype}). (mixed dtype)"))


def _per_channel(x, rank: int):
    return x.reshape((1, -1) + (1,) * (rank - 2))


@recalled
@keeping_format
def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalisation of each channel over the batch (or with running statistics). Ioffe and Szegedy, 2015."""
    if not input.numel():
        return input.clone()
    if training and input.numel() == input.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    channels = input.shape[1] if input.dim() > 1 else 1
    _check_dtypes("batch_norm", input, dict(weight=weight, bias=bias, running_mean=running_mean, running_var=running_var))
    for name, x in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        if x is not None and x.numel() != channels:
            raise RuntimeError(message("batch_norm", f"{name} of {channels} elements, the channels of the input {list(input.shape)}",
                                       f"{x.numel()}", f"{name} should contain {channels} elements not {x.numel()}: check the layer's "
                                       "num_features."))
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)[0]


def _rounded(x, d):
    """`x` with the values it has in dtype `d`; the derivative is that of `x`."""
    return x + (x.to(d).to(x.dtype) - x).detach()


@operator(name="rsqrt", public=False, grad=dict(input=lambda g, result: -0.5 * g * result.pow(3)))
def _rsqrt_in(input: Tensor, d):
    """1 / sqrt(x) rounded to `d`, in the dtype of x."""
    return input.rsqrt() if d.compute is d else input.rsqrt().to(d).to(input.dtype)


def _batch_norm_grad(g, input, mean, scale, dims, weight):
    g = _times(g, None if weight is None else _per_channel(weight, input.dim()))
    return _unit_grad(g, (input - mean) * scale, scale, dims)


def _channel_sums(x):
    return x.sum([d for d in range(x.dim()) if d != 1])


@operator(name="batch_norm", title="NativeBatchNorm", public=False, grad=dict(
    input=_batch_norm_grad, bias=lambda g: _channel_sums(g),
    weight=lambda g, input, mean, scale: _channel_sums(g * ((input - mean) * scale))))
def _normalised(input: Tensor, mean, scale, dims, weight: Tensor, bias: Tensor):
    return _affine((input - mean) * scale, weight, bias)


def _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps) -> tuple:
    """(the normalised input, mean, 1 / standard deviation). Those of the batch have shape (1, channels, 1, ...) and the values
    they have in the dtype of the weight; without `training` there is no mean."""
    if eps < 0 or training and not eps:
        raise ValueError(f"batch_norm eps must be {'positive during training' if training else 'non-negative'}, but got {eps}")
    rank, dtype = input.dim(), input.dtype
    kept = (input if weight is None else weight).dtype
    input, weight, bias = widened(input), widened(weight), widened(bias)
    dims = (0, *range(2, rank))
    if training:
        n = input.numel() // input.shape[1]
        mean, variance = _moments(input, dims)
        if kept.compute is not kept:
            mean = _rounded(mean, kept)
            if kept is dt.bfloat16:     # PyTorch rounds the sum of squares, then the quotient; of float16, where it might overflow, neither
                variance = _rounded(_rounded(variance * n, kept) / n, kept)
        if running_mean is not None and n:
            with no_grad():
                running_mean.mul_(1 - momentum).add_(mean.detach().reshape(-1), alpha=momentum)
                running_var.mul_(1 - momentum).add_(variance.detach().reshape(-1), alpha=momentum * n / max(n - 1, 1))
        scale = _rsqrt_in(variance + eps, kept)
        return _normalised(input, mean, scale, dims, weight, bias).to(dtype), mean, scale
    mean, variance = _per_channel(widened(running_mean), rank), _per_channel(widened(running_var), rank)
    scale = (variance + eps).rsqrt()
    return _affine((input - mean) * scale, weight, bias).to(dtype), None, scale


@operator(method=False, samples=lambda t: [t(5, 4), t(4), t(4), t.fixed(4), t.fixed(4), False, 0.1, 1e-5])
def native_batch_norm(input: Tensor, weight: Tensor, bias: Tensor, running_mean, running_var, training, momentum, eps):
    """`nn.functional.batch_norm` with the statistics of the batch, (result, means, 1 / standard deviations); without `training`
    they are empty."""
    out, mean, scale = _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    kept = weight.dtype if weight is not None else input.dtype
    if mean is None:
        return (out, *(core.full((0,), 0, kept) for _ in range(2)))
    return out, mean.detach().reshape(-1).to(kept), scale.detach().reshape(-1).to(kept)


@operator(method=False, samples=lambda t: [t(5, 4), t(4), t(4), t.fixed(4), t.fixed(4), 0.1, 1e-5])
def _batch_norm_with_update(input: Tensor, weight: Tensor, bias: Tensor, running_mean, running_var, momentum, eps):
    """`native_batch_norm` in training, and (empty) memory for its derivative."""
    return *native_batch_norm(input, weight, bias, running_mean, running_var, True, momentum, eps), core.full((0,), 0, dt.uint8)


@operator(method=False, samples=lambda t: [t(5, 4), t(4), t(4), t.fixed(4), t.fixed(4), True, 0.1, 1e-5])
def _native_batch_norm_legit(input: Tensor, weight: Tensor, bias: Tensor, *options):
    """`native_batch_norm` with its options, or without the running statistics among them."""
    statistics = options if len(options) == 5 else (None, None, *options)
    return native_batch_norm(input, weight, bias, *statistics)


@recalled
def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5):
    """Normalisation of each channel of each sample (Ulyanov et al., 2016); the running statistics are those of the mean sample."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if not input.numel():
        return input.clone()
    dims = tuple(range(2, input.dim()))
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    if running_mean is not None:
        with no_grad():
            running_mean.mul_(1 - momentum).add_(input.detach().mean(dims).mean(0), alpha=momentum)
            running_var.mul_(1 - momentum).add_(input.detach().var(dims).mean(0), alpha=momentum)
    # Each channel of each sample is a channel of a batch of one.
    count = input.shape[0]
    whole = input.reshape(1, count * input.shape[1], *input.shape[2:])
    weight, bias = (None if x is None else x.repeat(count) for x in (weight, bias))
    return in_order(_batch_norm(whole, None, None, weight, bias, True, momentum, eps)[0].reshape(input.shape))


@recalled(autocast=FULL_ON_GPU)
@keeping_format
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalisation of groups of channels of each sample. Wu and He, 2018."""
    if input.dim() < 2:
        raise RuntimeError(message("group_norm", "input of at least 2 dimensions, (N, C, ...)", f"{list(input.shape)}"))
    if input.shape[1] % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(input.shape)} and "
            f"num_groups={num_groups}"
        )
    _check_dtypes("group_norm", input, dict(weight=weight, bias=bias))
    for name, x in (("weight", weight), ("bias", bias)):
        if x is not None and tuple(x.shape) != (input.shape[1],):
            raise RuntimeError(f"group_norm: Expected {name} to be a vector of size equal to the number of channels in input, but got "
                               f"{name} of shape {list(x.shape)} and input of shape {list(input.shape)}")
    if not input.numel():
        return input.clone()
    return _group_norm(input, *_moments(_grouped(widened(input), num_groups), (2,)), num_groups, weight, bias, eps)


def _grouped(x, *groups: int):
    return x.reshape(x.shape[0], *groups, -1)


def _group_norm_grad(g, input, mean, variance, groups, weight, eps):
    x, mean, scale = _by_channel(input, mean, variance, groups, eps)
    g, centred = _grouped(widened(g), groups, x.shape[2]), x - mean
    sums, products = g.sum(-1, True), (g * centred).sum(-1, True)
    if weight is not None:
        weight = widened(weight).reshape(1, groups, -1, 1)
        g, sums, products = g * weight, sums * weight, products * weight
    count = x.shape[2] * x.shape[3]
    return (scale * (g - sums.sum(2, True) / count - centred * (scale * scale * (products.sum(2, True) / count)))).reshape(input.shape)


def _group_norm_weight_grad(g, input, mean, variance, groups, eps):
    x, mean, scale = _by_channel(input, mean, variance, groups, eps)
    return ((_grouped(widened(g), groups, x.shape[2]) * (x - mean)).sum(-1, True) * scale).sum(0).reshape(-1)


def _group_norm_bias_grad(g, groups):
    return _grouped(widened(g), groups, g.shape[1] // groups).sum(-1, True).sum(0).reshape(-1)


def _by_channel(input, mean, variance, groups, eps):
    """What `_kept` gives, with a dimension for the channels of a group: the three derivatives share the sums over each channel."""
    x, mean, scale = _kept(input, mean, variance, eps)
    return _grouped(x, groups, input.shape[1] // groups), mean.unsqueeze(-1), scale.unsqueeze(-1)


@operator(name="group_norm", title="NativeGroupNorm", public=False, wide="forward", grad=dict(
    input=_group_norm_grad, weight=_group_norm_weight_grad, bias=_group_norm_bias_grad))
def _group_norm(input: Tensor, mean, variance, groups, weight: Tensor, bias: Tensor, eps):
    return _affine(_standard(_grouped(input, groups), mean, variance, eps).reshape(input.shape), weight, bias)


def _affine(x, weight, bias):
    """Each channel times its weight plus its bias."""
    x = x if weight is None else x * _per_channel(weight, x.dim())
    return x if bias is None else x + _per_channel(bias, x.dim())


@operator(method=False, wide="forward", samples=lambda t: [t(2, 4, 3), t(4), t(4), 2, 4, 3, 2, 1e-5])
def native_group_norm(input: Tensor, weight: Tensor, bias: Tensor, N, C, HxW, group, eps):
    """(group_norm, mean, 1 / sqrt(variance + eps)) of input (N, C, ...), the moments (N, group)."""
    mean, variance = _moments(_grouped(input, group), (2,))
    out = _affine(_standard(_grouped(input, group), mean, variance, eps).reshape(input.shape), weight, bias)
    return out, mean.squeeze(2), (variance + eps).rsqrt().squeeze(2)


@recalled(autocast="parts")
def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """Each element divided by (k + alpha * mean of squares over `size` neighbouring channels)^beta. Krizhevsky et al., 2012."""
    if input.dim() < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.dim()} dimensions)")
    squares = pad((input * input).transpose(1, -1), (size // 2, (size - 1) // 2))
    windows = squares.unfold(-1, size, 1)
    means = windows.mean(-1) if input.is_floating_point() else windows.sum(-1).div(size, rounding_mode="trunc")
    return input / (means.transpose(1, -1) * alpha + k) ** beta


@recalled(autocast="parts")
def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """x / max(norm(x), eps) along `dim`."""
    return div(input, input.norm(p, dim, True).clamp_min(eps).expand(input.shape), out=out)
