"""Convolution."""

from __future__ import annotations

from ...base.errors import message
from ...ops.contraction import contract_dims
from .padding import pad


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
