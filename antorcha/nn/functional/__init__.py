"""torch.nn.functional: layers as functions of tensors, composed of the engine's operators."""

from __future__ import annotations

import math

from ... import ops  # noqa: F401
from ...base import dtype as dt
from ...base.errors import message
from ...ops import random
from ...ops.contraction import contract_dims, linear  # noqa: F401
from ...ops.index import embedding as _embedding
from ...ops.pointwise import (  # noqa: F401
    celu, elu, gelu, hardshrink, hardsigmoid, hardswish, hardtanh, leaky_relu, logsigmoid, mish, relu, relu6, selu, sigmoid, silu,
    softplus, softshrink, tanh, threshold, where,
)
from ...ops.record import core, operator
from ...ops.reduction import along
from ...ops.reduction import log_softmax as _log_softmax, softmax as _softmax

Tensor = "Tensor"


def _last_dim(dim, rank: int) -> int:
    return (0 if rank in (0, 1, 3) else 1) if dim is None else dim


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) / sum(exp(x)) along `dim`."""
    return _softmax(input, _last_dim(dim, input.dim()), dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """log(softmax(x)) along `dim`."""
    return _log_softmax(input, _last_dim(dim, input.dim()), dtype)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """softmax(-x)."""
    return softmax(-input, dim, dtype=dtype)


def _inplace_option(function):
    def activation(input, *args, inplace=False, **kwargs):
        if not inplace:
            return function(input, *args, **kwargs)
        return core.inplace(input, function, args, kwargs)
    activation.__name__ = activation.__qualname__ = function.__name__
    activation.__doc__ = function.__doc__
    return activation


relu, relu6, elu, selu, celu, leaky_relu, silu, mish, hardtanh, hardswish, hardsigmoid, threshold = (
    _inplace_option(f) for f in (relu, relu6, elu, selu, celu, leaky_relu, silu, mish, hardtanh, hardswish, hardsigmoid, threshold))


def tanhshrink(input):
    """x - tanh(x)."""
    return input - input.tanh()


def softsign(input):
    """x / (1 + |x|)."""
    return input / (1 + input.abs())


def prelu(input, weight):
    """x where positive, else weight * x; one weight, or one for each channel."""
    if weight.numel() > 1:
        weight = weight.reshape((1, -1) + (1,) * (input.dim() - 2))
    return where(input > 0, input, input * weight)


def glu(input, dim=-1):
    """The first half times the sigmoid of the second."""
    if input.shape[dim] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {input.shape[dim]}")
    a, b = input.chunk(2, dim)
    return a * b.sigmoid()


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """A sample of the Gumbel-softmax distribution (Jang et al., 2016)."""
    noise = -random.exponential_(core.full(tuple(logits.shape), 0, logits.dtype)).log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    picked = core.full(tuple(logits.shape), 0, logits.dtype).scatter(dim, soft.max(dim, True)[1], value=1.0)
    return picked - soft.detach() + soft


# -- embedding, dropout -----------------------------------------------------------------------------------------

def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of `weight` at the indices `input`."""
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    if max_norm is not None:
        from ...core.autograd import no_grad
        with no_grad():
            rows = input.reshape(-1)
            values = weight.index_select(0, rows)
            norms = values.norm(norm_type, 1, True)
            weight.index_copy_(0, rows, where(norms > max_norm, values * (max_norm / (norms + 1e-7)), values))
    return _embedding(weight, input, -1 if padding_idx is None else padding_idx, scale_grad_by_freq, sparse)


def one_hot(tensor, num_classes=-1):
    """int64 vectors with a single 1."""
    if num_classes == -1:
        num_classes = int(tensor.max()) + 1
    return (tensor.unsqueeze(-1) == core.arange(num_classes)).long()


def _probability(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _drop(input, p, shape):
    if p == 1.0:
        return input * 0.0
    keep = random.mask(shape, 1.0 - p, like=input if shape == tuple(input.shape) else None)
    return input * (keep.to(input.dtype) * (1.0 / (1.0 - p)))


def dropout(input, p=0.5, training=True, inplace=False):
    """Zeroes elements with probability p and scales the others by 1 / (1 - p)."""
    _probability(p)
    if not training or p == 0.0:
        return input
    result = _drop(input, p, tuple(input.shape))
    return core.inplace(input, lambda _: result, ()) if inplace else result


def feature_dropout(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels."""
    _probability(p)
    if not training or p == 0.0:
        return input
    return _drop(input, p, tuple(input.shape[:2]) + (1,) * (input.dim() - 2))


dropout1d = dropout2d = dropout3d = feature_dropout


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps mean and variance under SELU."""
    _probability(p)
    if not training or p == 0.0:
        return input
    alpha = -1.7580993408473766
    a = ((1 - p) * (1 + p * alpha ** 2)) ** -0.5
    keep = random.mask(tuple(input.shape), 1.0 - p, like=input)
    return where(keep, input, alpha) * a - a * alpha * p


# -- normalisation ----------------------------------------------------------------------------------------------

def _standard(input, dims, eps):
    centred = input - input.mean(dims, True)
    scale = ((centred * centred).mean(dims, True) + eps).rsqrt()
    return centred * scale, scale


def _layer_norm_grad(g, input, dims, weight, eps):
    unit, scale = _standard(input, dims, eps)
    g = g if weight is None else g * weight
    return scale * (g - g.mean(dims, True) - unit * (g * unit).mean(dims, True))


@operator(name="layer_norm", title="NativeLayerNorm", public=False, grad=dict(
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
    rank = input.dim()
    dims = (0, *range(2, rank))
    if training:
        n = input.numel() // input.shape[1]
        if n <= 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        mean = input.mean(dims, True)
        centred = input - mean
        variance = (centred * centred).mean(dims, True)
        if running_mean is not None:
            from ...core.autograd import no_grad
            with no_grad():
                running_mean.mul_(1 - momentum).add_(mean.detach().reshape(-1), alpha=momentum)
                running_var.mul_(1 - momentum).add_(variance.detach().reshape(-1), alpha=momentum * n / (n - 1))
    else:
        centred, variance = input - _per_channel(running_mean, rank), _per_channel(running_var, rank)
    out = centred * (variance + eps).rsqrt()
    out = out if weight is None else out * _per_channel(weight, rank)
    return out if bias is None else out + _per_channel(bias, rank)


def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5):
    """Normalisation of each channel of each sample."""
    rank = input.dim()
    out = _standard(input, tuple(range(2, rank)), eps)[0]
    out = out if weight is None else out * _per_channel(weight, rank)
    return out if bias is None else out + _per_channel(bias, rank)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalisation of groups of channels of each sample. Wu and He, 2018."""
    n, c = input.shape[:2]
    if c % num_groups:
        raise RuntimeError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(input.shape)} and "
                           f"num_groups={num_groups}")
    out = _standard(input.reshape(n, num_groups, -1), (2,), eps)[0].reshape(input.shape)
    out = out if weight is None else out * _per_channel(weight, input.dim())
    return out if bias is None else out + _per_channel(bias, input.dim())


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """x / max(norm(x), eps) along `dim`."""
    return input / input.norm(p, dim, True).clamp_min(eps).expand(input.shape)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along `dim`."""
    a, b = x1.norm(2, dim, True).clamp_min(eps), x2.norm(2, dim, True).clamp_min(eps)
    return ((x1 / a) * (x2 / b)).sum(dim)


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of the difference, along the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)


# -- losses -----------------------------------------------------------------------------------------------------

def _reduced(loss, reduction: str):
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction != "none":
        raise ValueError(f"{reduction} is not a valid value for reduction: expected 'none', 'mean' or 'sum'")
    return loss


def _same_size(input, target) -> None:
    if input.shape != target.shape:
        import warnings
        warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead to "
                      "incorrect results due to broadcasting. Please ensure they have the same size.", stacklevel=3)


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """(input - target)**2."""
    _same_size(input, target)
    d = input - target
    return _reduced(d * d if weight is None else weight * d * d, reduction)


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """|input - target|."""
    _same_size(input, target)
    return _reduced((input - target).abs(), reduction)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Squared below beta, linear above."""
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    d = (input - target).abs()
    return _reduced(where(d < beta, 0.5 * d * d / beta, d - 0.5 * beta), reduction)


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Squared below delta, linear above. Huber, 1964."""
    d = (input - target).abs()
    return _reduced(where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)), reduction)


@operator(name="nll_pick", title="NllLoss", public=False, grad=dict(
    input=lambda g, input_shape, target, dim: where(
        along(input_shape[dim], dim, len(input_shape)) == target.unsqueeze(dim), g.unsqueeze(dim), 0.0)))
def _pick_class(input: Tensor, target, dim):
    return input.gather(dim, target.unsqueeze(dim)).squeeze(dim)


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """-input[target] for log-probabilities (N, C, ...) and classes (N, ...)."""
    rank = input.dim()
    if rank == 0:
        raise ValueError(f"Expected 1 or more dimensions (got {rank})")
    dim = 0 if rank == 1 else 1
    want = input.shape[:dim] + input.shape[dim + 1:]
    if tuple(target.shape) != tuple(want):
        raise ValueError(message("nll_loss", f"target of shape {list(want)} for input {list(input.shape)}", f"{list(target.shape)}",
                                 f"Expected input batch_size ({input.shape[0]}) to match target batch_size "
                                 f"({target.shape[0] if target.dim() else 1})."))
    if target.dtype not in (dt.int64, dt.int32, dt.uint8):
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}: class indices are integers. Convert them: target.long()")
    target = target.long()
    counted = target != ignore_index
    safe = where(counted, target, 0)
    loss = -_pick_class(input, safe, dim)
    w = counted.to(input.dtype)
    if weight is not None:
        w = w * weight.index_select(0, safe.reshape(-1)).reshape(safe.shape)
    if reduction == "none":
        return loss * w if weight is not None else where(counted, loss, 0.0)
    total = (loss * w).sum() if weight is not None else where(counted, loss, 0.0).sum()
    return total / w.sum() if reduction == "mean" else _reduced(total, reduction)


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    """The cross-entropy of logits (N, C, ...) with classes (N, ...) or class probabilities (N, C, ...)."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    dim = 0 if input.dim() == 1 else 1
    logp = log_softmax(input, dim)
    classes = input.shape[dim]
    if target.is_floating_point():
        if target.shape != input.shape:
            raise RuntimeError(f"cross_entropy: expected probabilities of the input's shape {list(input.shape)}; received {list(target.shape)}")
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / classes
        loss = -(logp * target if weight is None else logp * target * weight.reshape((-1,) + (1,) * (input.dim() - 1 - dim))).sum(dim)
        if reduction == "mean":
            return loss.sum() / (input.numel() // classes)
        return _reduced(loss, reduction)
    picked = nll_loss(logp, target, weight, None, ignore_index, None, reduction)
    if not label_smoothing:
        return picked
    counted = target != ignore_index
    spread = -(logp if weight is None else logp * weight.reshape((-1,) + (1,) * (input.dim() - 1 - dim))).sum(dim)
    spread = where(counted, spread, 0.0)
    if reduction == "mean":
        w = counted.to(input.dtype)
        if weight is not None:
            w = w * weight.index_select(0, where(counted, target, 0).reshape(-1)).reshape(target.shape)
        spread = spread.sum() / w.sum()
    else:
        spread = _reduced(spread, reduction)
    return (1 - label_smoothing) * picked + label_smoothing / classes * spread


def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """-(t log x + (1 - t) log(1 - x)), the logarithms at least -100."""
    if input.shape != target.shape:
        raise ValueError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. Please ensure "
                         "they have the same size.")
    loss = -(target * input.log().clamp_min(-100) + (1 - target) * (1 - input).log().clamp_min(-100))
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    """Binary cross-entropy of sigmoid(input), computed without overflow."""
    if input.shape != target.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    if pos_weight is None:
        loss = (1 - target) * input - logsigmoid(input)
    else:
        loss = (1 - target) * input - ((pos_weight - 1) * target + 1) * logsigmoid(input)
    return _reduced(loss if weight is None else loss * weight, reduction)


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """target * (log target - input), for log-probabilities `input`."""
    if log_target:
        loss = target.exp() * (target - input)
    else:
        loss = where(target > 0, target * (where(target > 0, target, 1.0).log() - input), 0.0)
    return loss.sum() / input.shape[0] if reduction == "batchmean" else _reduced(loss, reduction)


def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    """The negative log-likelihood of Poisson counts."""
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + where(target > 1, stirling, 0.0)
    return _reduced(loss, reduction)


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """The negative log-likelihood of normal numbers with the given means and variances."""
    var = var if isinstance(var, core.Tensor) else core.full(tuple(input.shape), var, input.dtype)
    v = where(var < eps, eps, var)
    loss = 0.5 * (v.log() + (input - target) ** 2 / v)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """x where the target is 1, max(0, margin - x) where it is -1."""
    return _reduced(where(target == 1, input, 0.0) + where(target == -1, (margin - input).clamp_min(0), 0.0), reduction)


def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """max(0, -target * (x1 - x2) + margin)."""
    return _reduced((-target * (input1 - input2) + margin).clamp_min(0), reduction)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target * x))."""
    return _reduced((-target * input).exp().log1p(), reduction)


def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos for target 1, max(0, cos - margin) for -1."""
    c = cosine_similarity(input1, input2, -1)
    return _reduced(where(target == 1, 1 - c, (c - margin).clamp_min(0)), reduction)


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"):
    """max(0, d(a, p) - d(a, n) + margin)."""
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = far.minimum(pairwise_distance(positive, negative, p, eps))
    return _reduced((near - far + margin).clamp_min(0), reduction)


# -- attention --------------------------------------------------------------------------------------------------

def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(q k^T * scale + mask) v. Vaswani et al., 2017."""
    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query @ key.transpose(-2, -1)) * scale
    if is_causal:
        if attn_mask is not None:
            raise RuntimeError("scaled_dot_product_attention: expected attn_mask=None with is_causal=True; received both. "
                               "Explicit attn_mask should not be set when is_causal=True")
        from ...ops.factory import tril_mask
        scores = where(tril_mask(*scores.shape[-2:]), scores, -math.inf)
    if attn_mask is not None:
        scores = where(attn_mask, scores, -math.inf) if attn_mask.dtype is dt.bool_ else scores + attn_mask
    return dropout(softmax(scores, -1), dropout_p) @ value


# -- padding, convolution, pooling ------------------------------------------------------------------------------

def pad(input, pad, mode="constant", value=None):
    """Elements added around the last dimensions; `pad` lists (before, after), last dimension first."""
    out = input
    for i in range(len(pad) // 2):
        d, (before, after) = input.dim() - 1 - i, (pad[2 * i], pad[2 * i + 1])
        if before < 0 or after < 0:
            out = out.narrow(d, max(-before, 0), out.shape[d] + min(before, 0) + min(after, 0))
            before, after = max(before, 0), max(after, 0)
        if not (before or after):
            continue
        n = out.shape[d]
        if mode == "constant":
            shape = list(out.shape)
            parts = []
            for k in (before, after):
                shape[d] = k
                parts.append(core.full(tuple(shape), value or 0, out.dtype))
            out = core.cat([parts[0], out, parts[1]] if before and after else [parts[0], out] if before else [out, parts[1]], d)
            continue
        places = range(-before, n + after)
        if mode == "replicate":
            order = [min(max(p, 0), n - 1) for p in places]
        elif mode == "circular":
            order = [p % n for p in places]
        elif mode == "reflect":
            if max(before, after) >= n:
                raise RuntimeError(f"Padding size should be less than the corresponding input dimension, but got: padding ({before}, {after}) at "
                                   f"dimension {d} of input {list(input.shape)}")
            order = [abs(p) if p < n else 2 * (n - 1) - p for p in places]
        else:
            raise NotImplementedError(f"Unrecognised padding mode {mode}")
        out = out.index_select(d, core.tensor(order))
    return out


def _many(x, n: int) -> tuple:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,) * n


def _windows(x, size: tuple, stride: tuple, dilation: tuple):
    """All windows over the last dimensions: x's leading dimensions, then positions, then places within a window. A view."""
    x = x.contiguous()
    n = len(size)
    shape, strides = tuple(x.shape), x.stride()
    lead = len(shape) - n
    count = tuple((s - d * (k - 1) - 1) // t + 1 for s, k, t, d in zip(shape[lead:], size, stride, dilation))
    if any(c <= 0 for c in count):
        raise RuntimeError(f"Calculated output size {list(count)} is too small: kernel size ({' x '.join(map(str, size))}) can't be greater than "
                           f"the padded input size ({' x '.join(map(str, shape[lead:]))})")
    return x.as_strided(shape[:lead] + count + size,
                        strides[:lead] + tuple(a * t for a, t in zip(strides[lead:], stride))
                        + tuple(a * d for a, d in zip(strides[lead:], dilation)), x.storage_offset())


def _conv(n, input, weight, bias, stride, padding, dilation, groups):
    name = f"conv{n}d"
    stride, dilation = _many(stride, n), _many(dilation, n)
    size = tuple(weight.shape[2:])
    single = input.dim() == n + 1
    x = input.unsqueeze(0) if single else input
    if x.dim() != n + 2 or x.shape[1] != weight.shape[1] * groups:
        raise RuntimeError(message(name, f"input of shape (N, {weight.shape[1] * groups}, {', '.join('HWD'[:n])}) to match weight "
                                   f"{list(weight.shape)} with groups={groups}", f"{list(input.shape)}",
                                   "The second dimension is the channels."))
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, size)]
        amounts = [a for t in reversed(total) for a in (t // 2, t - t // 2)]
    else:
        padding = (0,) * n if padding == "valid" else _many(padding, n)
        amounts = [p for p in reversed(padding) for _ in (0, 1)]
    x = pad(x, amounts) if any(amounts) else x
    w = _windows(x, size, stride, dilation)
    batch, out = x.shape[0], tuple(w.shape[2:2 + n])
    c = weight.shape[1]
    o = weight.shape[0] // groups
    w = w.reshape(batch, groups, c, *out, *size) if groups == 1 else w.unflatten(1, (groups, c))
    places = tuple(range(3, 3 + n))
    a = w.permute(1, 0, *places, 2, *range(3 + n, 3 + 2 * n))
    b = weight.reshape(groups, o, c, *size)
    y = contract_dims(a, b, 1, 1 + n, 1, 1 + n)
    y = y.permute(1, 0, 2 + n, *range(2, 2 + n)).reshape(batch, groups * o, *out)
    y = y if bias is None else y + bias.reshape((1, -1) + (1,) * n)
    return y.squeeze(0) if single else y


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of (N, C, L) with (O, C / groups, K)."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of (N, C, H, W) with (O, C / groups, KH, KW)."""
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of (N, C, D, H, W) with (O, C / groups, KD, KH, KW)."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _pool_windows(n, input, kernel_size, stride, padding, dilation, value, ceil_mode=False):
    size = _many(kernel_size, n)
    stride = size if stride is None or stride == () or stride == [] else _many(stride, n)
    padding, dilation = _many(padding, n), _many(dilation, n)
    for p, k in zip(padding, size):
        if p > k // 2:
            raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k}")
    amounts = [[p, p] for p in padding]
    if ceil_mode:
        for i in range(n):
            length = input.shape[i - n] + 2 * padding[i]
            reach = dilation[i] * (size[i] - 1) + 1
            count = -(-(length - reach) // stride[i]) + 1
            if (count - 1) * stride[i] >= length - padding[i]:
                count -= 1
            amounts[i][1] += max(0, (count - 1) * stride[i] + reach - length)
    flat = [a for pair in reversed(amounts) for a in pair]
    x = pad(input, flat, value=value) if any(flat) else input
    return _windows(x, size, stride, dilation).flatten(-n) if n > 1 else _windows(x, size, stride, dilation)


def _max_pool(n):
    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        if return_indices:
            raise NotImplementedError(f"max_pool{n}d: return_indices=True is missing in antorcha so far")
        return _pool_windows(n, input, kernel_size, stride, padding, dilation, -math.inf, ceil_mode).max(-1)[0]
    pool.__name__ = pool.__qualname__ = f"max_pool{n}d"
    pool.__doc__ = "The largest element of each window."
    return pool


def _avg_pool(n):
    def pool(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        w = _pool_windows(n, input, kernel_size, stride, padding, 1, 0.0, ceil_mode)
        if divisor_override:
            return w.sum(-1) / divisor_override
        if count_include_pad and not ceil_mode:
            return w.mean(-1)
        ones = core.full(tuple(input.shape), 1, input.dtype)
        return w.sum(-1) / _pool_windows(n, ones, kernel_size, stride, padding, 1, 0.0, ceil_mode).sum(-1)
    pool.__name__ = pool.__qualname__ = f"avg_pool{n}d"
    pool.__doc__ = "The mean of each window."
    return pool


max_pool1d, max_pool2d, max_pool3d = (_max_pool(n) for n in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (_avg_pool(n) for n in (1, 2, 3))


def _adaptive(n, reduce):
    def pool(input, output_size, *ignored):
        x = input
        for i, size in enumerate(_many(output_size, n)):
            d = input.dim() - n + i
            length = x.shape[d]
            size = length if size is None else size
            if length % size == 0:
                x = reduce(x.unflatten(d, (size, length // size)), d + 1)
            else:
                parts = [reduce(x.narrow(d, j * length // size, -(-(j + 1) * length // size) - j * length // size), d)
                         for j in range(size)]
                x = core.cat([p.unsqueeze(d) for p in parts], d)
        return x
    return pool


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive(n, lambda x, d: x.mean(d)) for n in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive(n, lambda x, d: x.amax(d)) for n in (1, 2, 3))
