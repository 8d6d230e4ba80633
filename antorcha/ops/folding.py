"""Windows as columns and columns as windows; elements moved between channels and places."""

from __future__ import annotations

import math

from ..base.errors import message
from .derivative import titled
from .record import check_tensor, core, operator
from .strides import keeping_format
from .view import viewed
from .windows import border, each, overlap_add, window_count, windows

Tensor = "Tensor"


@operator(title="Im2Col", name="im2col", public=False, grad=dict(input=lambda g, input_shape, size, dilation, padding, stride:
                                                 columns_to_image(g, input_shape[2:], size, dilation, padding, stride)),
          samples=lambda t: [t(2, 3, 4, 5), (2, 3), (1, 1), (0, 1), (2, 1)])
def image_to_columns(input: Tensor, size, dilation, padding, stride):
    """(N, C, *L) to (N, C * places, windows)."""
    n = len(size)
    x = input
    for d, p in enumerate(padding, 2):
        x = border(x, d, p, p)
    x = x if x._meta.view.dense else core.contiguous(x)
    shape = x._meta.view.shape
    count = window_count("unfold", shape[2:], size, stride, dilation)
    whole = viewed(x, windows(x._meta.view, size, stride, dilation, count))          # N, C, *P, *K
    turned = core.contiguous(whole.permute((0, 1, *range(2 + n, 2 + 2 * n), *range(2, 2 + n))))
    return core.reread(turned, (shape[0], shape[1] * math.prod(size), math.prod(count)))


@operator(title="Col2Im", name="col2im", public=False, grad=dict(input=lambda g, size, dilation, padding, stride:
                                                 image_to_columns(g, size, dilation, padding, stride)),
          samples=lambda t: [t(2, 12, 6), (3, 4), (2, 2), (1, 1), (0, 0), (1, 1)])
def columns_to_image(input: Tensor, length, size, dilation, padding, stride):
    """(N, C * places, windows) to (N, C, *length): what overlaps is added."""
    n = len(size)
    padded = tuple(m + 2 * p for m, p in zip(length, padding))
    count = window_count("fold", padded, size, stride, dilation)
    batch, channels = input.shape[0], input.shape[1] // math.prod(size)
    x = input.reshape((batch, channels, *size, *count))
    for d in reversed(range(n)):
        x = overlap_add(x, 2 + d, 3 + 2 * d, stride[d], dilation[d], padded[d])
    for d, (m, p) in enumerate(zip(length, padding), 2):
        x = x.narrow(d, p, m)
    return x if x._meta.view.dense else core.contiguous(x)


def _arguments(what: str, kernel_size, dilation, padding, stride) -> tuple:
    found = []
    for name, x, least in (("kernel_size", kernel_size, 1), ("dilation", dilation, 1), ("padding", padding, 0), ("stride", stride, 1)):
        values = each(what, name, x, 2)
        if min(values) < least:
            raise RuntimeError(message(what, f"{name} of at least {least} ({name} should be greater than zero)", f"{list(values)}"))
        found.append(values)
    return tuple(found)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """Windows as columns: (N, C, H, W) or (C, H, W) to (N, C * KH * KW, windows)."""
    check_tensor("unfold", "input", input)
    arguments = size, dilation, padding, stride = _arguments("unfold", kernel_size, dilation, padding, stride)
    single = input.dim() == 3
    if input.dim() not in (3, 4) or 0 in input.shape[-3:]:
        raise RuntimeError(message("unfold", "3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions "
                                   "for input", f"shape {list(input.shape)}"))
    reach = [d * (k - 1) + 1 for k, d in zip(size, dilation)]
    if any(m + 2 * p < r for m, p, r in zip(input.shape[-2:], padding, reach)):
        raise RuntimeError(message("unfold", f"a padded input at least as large as the kernel's extent {reach}",
                                   f"shape {list(input.shape)} with padding {list(padding)}",
                                   "(calculated shape of the array of sliding blocks, its components must be at least one)"))
    x = input.unsqueeze(0) if single else input
    out = image_to_columns(x, *arguments)
    return out.squeeze(0) if single else out


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns as windows, what overlaps added: (N, C * KH * KW, windows) or without N to (N, C, *output_size)."""
    check_tensor("fold", "input", input)
    arguments = size, dilation, padding, stride = _arguments("fold", kernel_size, dilation, padding, stride)
    length = each("fold", "output_size", output_size, 2)
    if min(length) <= 0:
        raise RuntimeError(message("fold", "output_size greater than zero", f"{list(length)}"))
    if input.dim() not in (2, 3) or 0 in input.shape[-2:]:
        raise RuntimeError(message("fold", "2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions "
                                   "for input", f"shape {list(input.shape)}"))
    if input.shape[-2] % math.prod(size):
        raise RuntimeError(message("fold", f"size of input's dimension 1 to be divisible by the product of kernel_size {list(size)}",
                                   f"input.size(1)={input.shape[-2]}"))
    count = [(m + 2 * p - d * (k - 1) - 1) // s + 1 for m, p, d, k, s in zip(length, padding, dilation, size, stride)]
    if min(count) < 1 or math.prod(count) != input.shape[-1]:
        blocks = f"{' * '.join(map(str, count))} = {math.prod(count)}"
        raise RuntimeError(message("fold", f"size of input's dimension 2 to match the calculated number of sliding blocks {blocks} for "
                                   f"output_size={list(length)}, kernel_size={list(size)}, dilation={list(dilation)}, "
                                   f"padding={list(padding)}, stride={list(stride)}", f"input.size(2)={input.shape[-1]}"))
    single = input.dim() == 2
    out = columns_to_image(input.unsqueeze(0) if single else input, length, *arguments)
    return out.squeeze(0) if single else out


# -- channels and places ----------------------------------------------------------------------------------------

def _factor(what: str, name: str, input, factor) -> int:
    check_tensor(what, "input", input)
    if input.dim() < 3:
        raise RuntimeError(message(what, "input to have at least 3 dimensions", f"input with {input.dim()} dimension(s)"))
    if factor <= 0:
        raise RuntimeError(message(what, f"a positive {name}", f"{factor}"))
    return int(factor)


@keeping_format
@titled("PixelShuffle")
def pixel_shuffle(input, upscale_factor):
    """(..., C * r * r, H, W) to (..., C, H * r, W * r). Shi et al., "Real-Time Single Image and Video Super-Resolution", 2016."""
    r = _factor("pixel_shuffle", "upscale_factor", input, upscale_factor)
    *lead, channels, h, w = input.shape
    if channels % (r * r):
        raise RuntimeError(message("pixel_shuffle", "its input's 'channel' dimension to be divisible by the square of upscale_factor, "
                                   f"{r * r}", f"input.size(-3)={channels}"))
    parts = input.reshape((*lead, channels // (r * r), r, r, h, w))
    n = len(lead) + 1
    return parts.permute((*range(n), n + 2, n, n + 3, n + 1)).reshape((*lead, channels // (r * r), h * r, w * r))


@keeping_format
@titled("PixelUnshuffle")
def pixel_unshuffle(input, downscale_factor):
    """(..., C, H * r, W * r) to (..., C * r * r, H, W): the inverse of `pixel_shuffle`."""
    r = _factor("pixel_unshuffle", "downscale_factor", input, downscale_factor)
    *lead, channels, h, w = input.shape
    for name, m in (("height", h), ("width", w)):
        if m % r:
            raise RuntimeError(message("pixel_unshuffle", f"{name} to be divisible by downscale_factor {r}", f"{m}"))
    parts = input.reshape((*lead, channels, h // r, r, w // r, r))
    n = len(lead) + 1
    return parts.permute((*range(n), n + 1, n + 3, n, n + 2)).reshape((*lead, channels * r * r, h // r, w // r))


@keeping_format
@titled("ChannelShuffle")
def channel_shuffle(input, groups):
    """(N, C, ...) with the channels of all groups in turn. Zhang et al., "ShuffleNet", 2018."""
    groups = _factor("channel_shuffle", "number of groups", input, groups)
    n, channels, *rest = input.shape
    if channels % groups:
        raise RuntimeError(message("channel_shuffle", f"the number of channels to be divisible by groups={groups}", f"{channels}"))
    return input.reshape((n, groups, channels // groups, *rest)).transpose(1, 2).reshape((n, channels, *rest))


native_channel_shuffle = channel_shuffle
