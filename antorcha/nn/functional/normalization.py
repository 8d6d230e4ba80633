"""Normalisation over features, channels, groups and batches."""

from __future__ import annotations

import math

from ...base import dtype as dt
from ...base.errors import message
from ...core.autograd import no_grad
from ...ops.padding import pad
from ...ops.pointwise import div
from ...ops.record import core, operator, wide, widened

Tensor = "Tensor"


def _standard(input, dims, eps):
    centred = input - input.mean(dims, True)
    scale = ((centred * centred).mean(dims, True) + eps).rsqrt()
    return centred * scale, scale


def _layer_norm_grad(g, input, dims, weight, eps):
    unit, scale = _standard(input, dims, eps)
    g = g if weight is None else g * weight
    return scale * (g - g.mean(dims, True) - unit * (g * unit).mean(dims, True))


@operator(wide=True, name="layer_norm", title="NativeLayerNorm", public=False, grad=dict(
    input=lambda g, input, dims, weight, eps: _layer_norm_grad(g, input, dims, weight, eps),
    weight=lambda g, input, dims, eps: g * _standard(input, dims, eps)[0], bias=lambda g: g))
def _layer_norm(input: Tensor, dims, weight: Tensor, bias: Tensor, eps):
    out = _standard(input, dims, eps)[0]
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) over the last dimensions, times weight plus bias. Ba et al., 2016."""
    shape = tuple(normalized_shape)
    if tuple(input.shape[-len(shape):]) != shape:
        raise RuntimeError(message("layer_norm", f"input of shape (..., {', '.join(map(str, shape))}), the normalized_shape {list(shape)}",
                                   f"{list(input.shape)}", "Given normalized_shape must be the input's last dimensions."))
    return _layer_norm(input, tuple(range(-len(shape), 0)), weight, bias, eps)


@wide
def rms_norm(input, normalized_shape, weight=None, eps=None):
    """x / sqrt(mean(x**2) + eps) over the last dimensions, times weight. Zhang and Sennrich, 2019."""
    dims = tuple(range(-len(tuple(normalized_shape)), 0))
    eps = {dt.float64: 2.220446049250313e-16}.get(input.dtype, 1.1920928955078125e-07) if eps is None else eps
    out = input * ((input * input).mean(dims, True) + eps).rsqrt()
    return out if weight is None else out * weight


def _per_channel(x, rank: int):
    return x.reshape((1, -1) + (1,) * (rank - 2))


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalisation of each channel over the batch (or with running statistics). Ioffe and Szegedy, 2015."""
    if training and input.numel() and input.numel() == input.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)[0]


def _rounded(x, d):
    """`x` with the values it has in dtype `d`; the derivative is that of `x`."""
    return x + (x.to(d).to(x.dtype) - x).detach()


@operator(name="rsqrt", public=False, grad=dict(input=lambda g, result: -0.5 * g * result.pow(3)))
def _rsqrt_in(input: Tensor, d):
    """1 / sqrt(x) rounded to `d`, in the dtype of x."""
    return input.rsqrt().to(d).to(input.dtype)


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
        mean = input.mean(dims, True)
        centred = input - mean
        variance = (centred * centred).mean(dims, True)
        if kept.compute is not kept:
            mean, variance = _rounded(mean, kept), _rounded(variance * n, kept) / n
            centred = input - mean
        if running_mean is not None and n:
            with no_grad():
                running_mean.mul_(1 - momentum).add_(mean.detach().reshape(-1), alpha=momentum)
                running_var.mul_(1 - momentum).add_(variance.detach().reshape(-1), alpha=momentum * n / max(n - 1, 1))
    else:
        mean = None
        centred, variance = input - _per_channel(widened(running_mean), rank), _per_channel(widened(running_var), rank)
    scale = _rsqrt_in(variance + eps, kept) if training and kept.compute is not kept else (variance + eps).rsqrt()
    out = centred * scale
    out = out if weight is None else out * _per_channel(weight, rank)
    return (out if bias is None else out + _per_channel(bias, rank)).to(dtype), mean, scale


@operator(method=False)
def native_batch_norm(input: Tensor, weight: Tensor, bias: Tensor, running_mean, running_var, training, momentum, eps):
    """`nn.functional.batch_norm` with the statistics of the batch, (result, means, 1 / standard deviations); without `training`
    they are empty."""
    out, mean, scale = _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    kept = weight.dtype if weight is not None else input.dtype
    if mean is None:
        return (out, *(core.full((0,), 0, kept) for _ in range(2)))
    return out, mean.reshape(-1).to(kept), scale.reshape(-1).to(kept)


@operator(method=False)
def _native_batch_norm_legit(input: Tensor, weight: Tensor, bias: Tensor, *options):
    """`native_batch_norm` with its options, or without the running statistics among them."""
    statistics = options if len(options) == 5 else (None, None, *options)
    return native_batch_norm(input, weight, bias, *statistics)


def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5):
    """Normalisation of each channel of each sample (Ulyanov et al., 2016); the running statistics are those of the mean sample."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    rank, dtype = input.dim(), input.dtype
    input, weight, bias = widened(input), widened(weight), widened(bias)
    dims = tuple(range(2, rank))
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    if running_mean is not None:
        with no_grad():
            running_mean.mul_(1 - momentum).add_(input.detach().mean(dims).mean(0), alpha=momentum)
            running_var.mul_(1 - momentum).add_(input.detach().var(dims).mean(0), alpha=momentum)
    out = _standard(input, dims, eps)[0]
    out = out if weight is None else out * _per_channel(weight, rank)
    return (out if bias is None else out + _per_channel(bias, rank)).to(dtype)


@wide
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalisation of groups of channels of each sample. Wu and He, 2018."""
    if input.dim() < 2:
        raise RuntimeError(f"group_norm: Expected at least 2 dimensions for input tensor but received {input.dim()}")
    n, c = input.shape[:2]
    if c % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(input.shape)} and "
            f"num_groups={num_groups}"
        )
    out = _standard(input.reshape(n, num_groups, -1), (2,), eps)[0].reshape(input.shape)
    out = out if weight is None else out * _per_channel(weight, input.dim())
    return out if bias is None else out + _per_channel(bias, input.dim())


@wide
def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """Each element divided by (k + alpha * mean of squares over `size` neighbouring channels)^beta. Krizhevsky et al., 2012."""
    if input.dim() < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.dim()} dimensions)")
    squares = pad((input * input).transpose(1, -1), (size // 2, (size - 1) // 2))
    means = squares.unfold(-1, size, 1).mean(-1).transpose(1, -1)
    return input / (means * alpha + k) ** beta


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """x / max(norm(x), eps) along `dim`."""
    return div(input, input.norm(p, dim, True).clamp_min(eps).expand(input.shape), out=out)
