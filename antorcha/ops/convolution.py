"""Convolutions of one, two and three dimensions and their transposes, as contractions over windows read in place.

A convolution is one trilinear form of an input x (N, C, *L), a weight w (O, C / groups, *K) and an output y (N, O, *P):

    T(x, w, y) = sum over n, o, c, p, k of  x[n, c, p * stride + k * dilation - padding] * w[o, c, k] * y[n, o, p]

Its derivatives to y, x and w are the three operators here, `correlate`, `spread` and `weigh`; the derivatives of each are the
other two, so that gradients of any order are contractions too. Where it pays, those of 3 x 3 places take fewer multiplications
(`winograd.py`).
"""

from __future__ import annotations

import itertools
import math

from ..base.errors import message
from ..base.formats import contiguous_format
from ..graph.node import View, dense, ordered
from ..graph.node import view as make_view
from . import winograd
from .contraction import check_dtypes, contract
from .recall import recalled
from .record import check_tensor, core, meta, operator, rounded, widened
from .strides import in_format, suggested
from .view import slice_view, viewed
from .windows import each, positive, surround, window_count, windows

Tensor = "Tensor"
CHUNKS = 16         # partial sums of a weight's gradient, at most
MOST_CHUNKS = 64    # of a small weight's, for which the places of a sample are divided too
SMALL_PARTS = 1 << 16   # elements in all partial sums of a small weight, at most
LARGE = 1 << 18         # elements of a weight that has none: writing them would take longer than what they are sums of


def _whole(x):
    return x if x.is_contiguous() else core.contiguous(x)


def _padded(x, padding: tuple):
    return surround(x, tuple((p, p) for p in padding), 0) if any(padding) else _whole(x)


def _grouped(v: View, d: int, groups: int) -> View:
    """Dimension d read as (groups, rest)."""
    n, t = v.shape[d], v.strides[d]
    shape, strides = (groups, n // groups), (n // groups * t, t)
    return make_view(v.shape[:d] + shape + v.shape[d + 1:], v.strides[:d] + strides + v.strides[d + 1:], v.offset)


@operator(name="convolution", title="Convolution", public=False, grad=dict(
    input=lambda g, input_shape, weight, stride, padding, dilation, groups:
        spread(g, weight, input_shape[2:], stride, padding, dilation, groups),
    weight=lambda g, padded, weight_shape, stride, dilation, groups: weigh(padded, g, weight_shape[2:], stride, dilation, groups)))
def convolution_(input: Tensor, weight: Tensor, padded, count, stride, padding, dilation, groups):
    v = windows(padded._meta.view, weight._meta.view.shape[2:], stride, dilation, count)
    return _product(padded, v, weight, _grouped(weight._meta.view, 0, groups))


def correlate(input, weight, count, stride, padding, dilation, groups):
    """y: (N, C, *L) and (O, C / groups, *K) to (N, O, *count). The padded input is kept for the derivative by the weight."""
    return convolution_(input, weight, _padded(input, padding), count, stride, padding, dilation, groups)


def _product(x, v: View, weight, w: View):
    """Sums over channels and places of windows with weights: v (N, groups * in, *P, *K) and w (groups, out, in, *K) to
    (N, groups * out, *P)."""
    if w.shape[0] == 1 and winograd.pays(x, v, w.shape[1]):
        return winograd.convolve(x, v, weight, make_view(w.shape[1:], w.strides[1:], w.offset))
    n = (len(v.shape) - 2) // 2
    v = _grouped(v, 1, w.shape[0])
    right = ordered(v, (1, 0, *range(3, 3 + n), 2, *range(3 + n, 3 + 2 * n)))
    y = contract(weight, w, x, right, 1, 1, 1 + n, 1 + n)                               # groups, out, N, *P
    y = y.permute((2, 0, 1, *range(3, 3 + n)))
    return core.reread(core.contiguous(y), (v.shape[0], w.shape[0] * w.shape[1], *v.shape[3:3 + n]))


def _by_spread(g, input_shape, weight, stride, padding, dilation, groups):
    """The derivative of a transposed convolution by its input."""
    return correlate(g, weight, input_shape[2:], stride, padding, dilation, groups)


@operator(name="convolution_transposed", title="Convolution", public=False, grad=dict(
    input=_by_spread,
    weight=lambda g, input, weight_shape, stride, padding, dilation, groups:
        weigh(_padded(g, padding), input, weight_shape[2:], stride, dilation, groups)),
          samples=lambda t: [t(2, 4, 3), t(4, 2, 3), (7,), (2,), (0,), (1,), 2])
def spread(input: Tensor, weight: Tensor, length, stride, padding, dilation, groups):
    """x: (N, O, *P) and (O, C / groups, *K) to (N, C, *length).

    Every stride-th place of the result meets the same places of the kernel: for each remainder it is a correlation with these,
    turned round.
    """
    size, shape = weight._meta.view.shape[2:], input._meta.view.shape
    phases = [[_Phase(r, *each) for r in range(min(each[1], each[0]))] for each in zip(length, stride, padding, dilation, size)]
    around = tuple((max(0, *(-p.start for p in ps)), max(0, *(p.stop - m for p in ps))) for ps, m in zip(phases, shape[2:]))
    x = surround(input, around, 0) if any(map(any, around)) else _whole(input)
    w = ordered(_grouped(weight._meta.view, 0, groups), (0, 2, 1, *range(3, 3 + len(size))))    # groups, in, out, *K
    out = (shape[0], w.shape[0] * w.shape[1], *length)
    result = None
    for chosen in itertools.product(*phases):
        if all(s == 1 for s in stride):
            return _phase(x, weight, w, chosen, around)
        if result is None:
            result = core.zeros(meta(dense(out), input._meta.dtype, input._meta.device))
        if all(p.count and p.taps for p in chosen):
            region = dense(out)
            for d, (p, s) in enumerate(zip(chosen, stride), 2):
                region = slice_view(region, d, p.remainder, length[d - 2], s)
            result = core.overwrite_region(result, region, _phase(x, weight, w, chosen, around))
    return result


class _Phase:
    """Of one dimension, the places remainder + u * stride, u < count, of a transposed convolution: place u is the sum over i of
    x[start + u + i * dilation] with the kernel's `taps`[i]."""

    def __init__(self, remainder: int, length: int, stride: int, padding: int, dilation: int, size: int):
        common = math.gcd(stride, dilation)
        first = next((t for t in range(min(size, stride // common)) if (remainder + padding - t * dilation) % stride == 0), size)
        self.remainder, self.count = remainder, -(-(length - remainder) // stride)
        self.taps, self.dilation = range(first, size, stride // common)[::-1], dilation // common
        reach = self.dilation * max(0, len(self.taps) - 1)
        self.start = (remainder + padding - first * dilation) // stride - reach if self.taps else 0
        self.stop = self.start + self.count + reach if self.taps else 0


def _phase(x, weight, w: View, phases: tuple, around: tuple):
    """The correlation for one remainder of each dimension."""
    n = len(phases)
    strides, offset = list(w.strides), w.offset
    for d, p in enumerate(phases, 3):
        strides[d], offset = w.strides[d] * p.taps.step, offset + w.strides[d] * p.taps.start
    turned = make_view(w.shape[:3] + tuple(len(p.taps) for p in phases), tuple(strides), offset)
    v = x._meta.view
    start = sum((p.start + before) * t for p, (before, _), t in zip(phases, around, v.strides[2:]))
    v = windows(v, turned.shape[3:], (1,) * n, tuple(p.dilation for p in phases), tuple(p.count for p in phases))
    return _product(x, make_view(v.shape, v.strides, v.offset + start), weight, turned)


@operator(name="convolution_weight", title="ConvolutionWeight", public=False, grad=dict(
    input=lambda g, input_shape, cotangent, stride, dilation, groups:
        spread(cotangent, g, input_shape[2:], stride, (0,) * len(stride), dilation, groups),
    cotangent=lambda g, input, cotangent_shape, stride, dilation, groups:
        correlate(input, g, cotangent_shape[2:], stride, (0,) * len(stride), dilation, groups)),
          samples=lambda t: [t(2, 4, 7), t(2, 6, 3), (3,), (2,), (1,), 2])
def weigh(input: Tensor, cotangent: Tensor, size, stride, dilation, groups):
    """w: padded (N, C, *L) and (N, O, *P) to (O, C / groups, *size). The sum over samples, and for small weights that over the places
    of a sample, is cut into chunks, side by side: that gives the threads work, and rounding errors do not add up."""
    x, n, d = _whole(input), len(size), input._meta.dtype
    count = cotangent._meta.view.shape[2:]
    v = windows(x._meta.view, size, stride, dilation, count)
    if groups == 1 and winograd.pays(x, v, cotangent._meta.view.shape[1], winograd.OF_SUMS):
        return winograd.weigh(x, v, cotangent)
    v = _grouped(v, 1, groups)                                                           # N, groups, in, *P, *K
    g = _grouped(cotangent._meta.view, 1, groups)                                        # N, groups, out, *P
    weight = (g.shape[1] * g.shape[2], v.shape[2], *size)
    chunks = [_chunks(v.shape[0], CHUNKS if math.prod(weight) <= LARGE else 1)]
    most = min(MOST_CHUNKS, SMALL_PARTS // max(1, math.prod(weight)))
    for places in count:
        chunks.append(_chunks(places, most // math.prod(chunks)))
    for i in range(n, 0, -1):
        v, g = (_grouped(t, i + 2, chunks[i]) for t in (v, g))
    v, g = (_grouped(t, 0, chunks[0]) for t in (v, g))      # chunks, N, groups, channels, then chunks, places of each dimension, *K
    parts, places = range(4, 4 + 2 * n, 2), range(5, 5 + 2 * n, 2)
    right = ordered(v, (0, *parts, 2, 3, *range(4 + 2 * n, 4 + 3 * n), 1, *places))
    left = ordered(g, (0, *parts, 2, 3, 1, *places))
    if math.prod(chunks) == 1:
        return core.reread(contract(cotangent, left, x, right, 2 + n, 1, 1 + n, 1 + n), weight)
    sums = contract(cotangent, left, x, right, 2 + n, 1, 1 + n, 1 + n, wide=True)       # *chunks, groups, out, in, *K
    total = rounded(sums.sum(tuple(range(1 + n))), d)
    return core.reread(total, weight)


def _chunks(length: int, most: int) -> int:
    """The largest number up to `most` that divides a length."""
    return next((c for c in range(min(length, most), 0, -1) if length % c == 0), 1)


# -- as PyTorch adds up 16-bit floats ----------------------------------------------------------------------------

@operator(name="convolution_transposed_in_steps", title="ConvolutionTransposed", public=False, grad=dict(
    input=_by_spread,
    weight=lambda g, input, weight_shape, stride, padding, dilation, groups:
        _weigh_in_steps(_padded(g, padding), input, weight_shape[2:], stride, dilation, groups)))
def spread_in_steps(input: Tensor, weight: Tensor, length, stride, padding, dilation, groups):
    """As `spread`, but the products by each place of the kernel are rounded, and so is the sum after each of them."""
    n, x, w = len(length), _whole(input), _grouped(weight._meta.view, 0, groups)        # groups, in, out, *K
    v = _grouped(x._meta.view, 1, groups)                                               # N, groups, in, *P
    places = tuple(range(3, 3 + n))
    columns = contract(weight, ordered(w, (0, 2, *places, 1)), x, ordered(v, (1, 0, *places, 2)), 1, 1 + n, 1 + n, 1)
    shape = (groups, w.shape[2], v.shape[0], *(m + 2 * p for m, p in zip(length, padding)))
    result = core.zeros(meta(dense(shape), input._meta.dtype, input._meta.device))
    for taps in itertools.product(*map(range, w.shape[3:])):
        region, part = dense(shape), columns
        for d, (tap, count, step, apart) in enumerate(zip(taps, v.shape[3:], stride, dilation), 3):
            part = part.select(2, tap)
            region = slice_view(region, d, tap * apart, tap * apart + (count - 1) * step + 1, step)
        result = core.overwrite_region(result, region, viewed(result, region) + part)
    for d, (m, p) in enumerate(zip(length, padding), 3):
        result = result.narrow(d, p, m)
    return core.reread(core.contiguous(result.permute((2, 0, 1, *places))), (shape[2], shape[0] * shape[1], *length))


def _weigh_in_steps(input, cotangent, size, stride, dilation, groups):
    """As `weigh`, but the sum is rounded after each sample."""
    x, g, total = widened(input), widened(cotangent), None
    for i in range(x.shape[0]):
        part = weigh(x.narrow(0, i, 1), g.narrow(0, i, 1), size, stride, dilation, groups)
        total = rounded(part if total is None else widened(total) + part, input._meta.dtype)
    return total


# -- the public functions ---------------------------------------------------------------------------------------

AXES = {1: "L", 2: "H, W", 3: "D, H, W"}


def _check(what: str, n: int, input, weight, bias, stride, dilation, groups, channels: int, out: int, transposed: bool):
    check_tensor(what, "input", input)
    check_tensor(what, "weight", weight)
    if weight.dim() != n + 2:
        raise RuntimeError(message(what, f"weight of {n + 2} dimensions", f"shape {list(weight.shape)}"))
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(message(what, f"{n + 1}D (unbatched) or {n + 2}D (batched) input",
                                   f"input of size: {list(input.shape)}", f"It is (C, {AXES[n]}) or (N, C, {AXES[n]})."))
    positive(what, "stride", stride)
    positive(what, "dilation", dilation)
    if groups <= 0:
        raise RuntimeError(message(what, "a positive number of groups", str(groups), "(non-positive groups is not supported)"))
    if weight.shape[0] % groups:
        raise RuntimeError(message(what, f"the first dimension of weight to be divisible by groups={groups} and at least {groups}",
                                   f"weight of size {list(weight.shape)}"))
    if input.shape[-n - 1] != channels:
        raise RuntimeError(message(what, f"input[{list(input.shape)}] to have {channels} channels to match weight "
                                   f"{list(weight.shape)} with groups={groups}", f"{input.shape[-n - 1]} channels",
                                   f"The dimension before the last {n} is the channels. (Given groups={groups}, weight of size "
                                   f"{list(weight.shape)}, expected input{list(input.shape)} to have {channels} channels, but got "
                                   f"{input.shape[-n - 1]} channels instead)"))
    if 0 in weight.shape[2:] or any(s == 0 for s in input.shape[-n - 1:]):
        raise RuntimeError(message(what, "nonempty channels, lengths and kernel",
                                   f"input {list(input.shape)}, weight {list(weight.shape)}"))
    if bias is not None and tuple(bias.shape) != (out,):
        raise RuntimeError(message(what, f"bias to be 1-dimensional with {out} elements, as many as output channels of weight "
                                   f"{list(weight.shape)}", f"bias of size {list(bias.shape)}"))
    check_dtypes(what, input, weight, *([] if bias is None else [bias]))


def _finished(y, bias, n: int, single: bool, d, fmt):
    """The result in dtype `d` and a memory format, the bias added before it is rounded."""
    y = y if bias is None else rounded(y + bias.reshape((1, -1) + (1,) * n), d)
    return y.squeeze(0) if single else in_format(y, fmt)


def _format(x, weight):
    """The memory format of the result: channels_last where the input or the weight suggests it."""
    found = suggested(x._meta.view)
    return suggested(weight._meta.view) if found is contiguous_format else found


def _same_padding(what: str, size: tuple, stride: tuple, dilation: tuple):
    """(before, after) of each dimension that keep its length; the odd one comes after."""
    if any(s != 1 for s in stride):
        raise RuntimeError(f"{what}: padding='same' is not supported for strided convolutions; received stride {list(stride)}. "
                           "Give the padding in numbers.")
    return tuple((d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for k, d in zip(size, dilation))


def _convolve(n: int, input, weight, bias, stride, padding, dilation, groups):
    what = f"conv{n}d"
    stride, dilation = each(what, "stride", stride, n), each(what, "dilation", dilation, n)
    check_tensor(what, "weight", weight)
    channels = weight.shape[1] * groups if weight.dim() > 1 else 0
    _check(what, n, input, weight, bias, stride, dilation, groups, channels, weight.shape[0] if weight.dim() else 0, False)
    single = input.dim() == n + 1
    x = input.unsqueeze(0) if single else input
    if bias is not None:
        x, weight, bias = widened(x), widened(weight), widened(bias)
    size = tuple(weight.shape[2:])
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise RuntimeError(message(what, "padding 'same', 'valid' or numbers", repr(padding)))
        amounts = _same_padding(what, size, stride, dilation) if padding == "same" else ((0, 0),) * n
        padding = tuple(min(a) for a in amounts)
        rest = tuple((a - p, b - p) for (a, b), p in zip(amounts, padding))
        x = surround(x, rest, 0) if any(max(r) for r in rest) else x
    else:
        padding = each(what, "padding", padding, n)
        if any(p < 0 for p in padding):
            raise RuntimeError(message(what, "padding of at least zero", f"{list(padding)}", "(negative padding is not supported)"))
    length = tuple(s + 2 * p for s, p in zip(x.shape[2:], padding))
    count = window_count(what, length, size, stride, dilation)
    if not x.shape[0] or not weight.shape[0]:
        y = _empty_result(x, weight, (x.shape[0], weight.shape[0], *count))
    else:
        y = correlate(x, weight, count, stride, padding, dilation, groups)
    return _finished(y, bias, n, single, input._meta.dtype, _format(x, weight))


def _empty_result(x, weight, shape: tuple):
    """No elements, but a place in the graph of derivatives."""
    return core.contiguous((x.sum() + weight.sum()).expand(shape))


def _convolve_transposed(n: int, input, weight, bias, stride, padding, output_padding, groups, dilation):
    what = f"conv_transpose{n}d"
    stride, dilation = each(what, "stride", stride, n), each(what, "dilation", dilation, n)
    padding, extra = each(what, "padding", padding, n), each(what, "output_padding", output_padding, n)
    check_tensor(what, "weight", weight)
    out = weight.shape[1] * groups if weight.dim() > 1 else 0
    _check(what, n, input, weight, bias, stride, dilation, groups, weight.shape[0] if weight.dim() else 0, out, True)
    if any(p < 0 for p in padding):
        raise RuntimeError(message(what, "padding of at least zero", f"{list(padding)}", "(negative padding is not supported)"))
    if any(e < 0 or e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise RuntimeError(message(what, "output padding smaller than either stride or dilation, "
                                   f"{list(stride)} and {list(dilation)}", f"{list(extra)}"))
    single, d = input.dim() == n + 1, input._meta.dtype
    x = input.unsqueeze(0) if single else input
    in_steps = d.compute is not d and any(e >= s for e, s in zip(extra, stride))    # for which PyTorch's library has no routine
    if bias is not None and not in_steps:
        x, weight, bias = widened(x), widened(weight), widened(bias)
    size = tuple(weight.shape[2:])
    length = tuple((p - 1) * s - 2 * q + a * (k - 1) + e + 1
                   for p, s, q, a, k, e in zip(x.shape[2:], stride, padding, dilation, size, extra))
    if any(m <= 0 for m in length):
        raise RuntimeError(message(what, "an output of at least one element",
                                   f"output size {list(length)} for input {list(input.shape)}", "Use less padding."))
    if not x.shape[0] or not out:
        y = _empty_result(x, weight, (x.shape[0], out, *length))
    else:
        y = (spread_in_steps if in_steps else spread)(x, weight, length, stride, padding, dilation, groups)
    return _finished(y, bias, n, single, d, _format(x, weight))


@recalled(autocast="lower")
def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of (N, C, L) or (C, L) with (O, C / groups, K), plus bias (O)."""
    return _convolve(1, input, weight, bias, stride, padding, dilation, groups)


@recalled(autocast="lower")
def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of (N, C, H, W) or (C, H, W) with (O, C / groups, KH, KW), plus bias (O)."""
    return _convolve(2, input, weight, bias, stride, padding, dilation, groups)


@recalled(autocast="lower")
def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of (N, C, D, H, W) or (C, D, H, W) with (O, C / groups, KD, KH, KW), plus bias (O)."""
    return _convolve(3, input, weight, bias, stride, padding, dilation, groups)


@recalled(autocast="lower")
def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transpose of conv1d: (N, C, L) or (C, L) with weight (C, O / groups, K). Zeiler et al., 2010."""
    return _convolve_transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@recalled(autocast="lower")
def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transpose of conv2d: (N, C, H, W) or (C, H, W) with weight (C, O / groups, KH, KW)."""
    return _convolve_transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@recalled(autocast="lower")
def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transpose of conv3d: (N, C, D, H, W) or (C, D, H, W) with weight (C, O / groups, KD, KH, KW)."""
    return _convolve_transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    """conv1d, conv2d, conv3d or, if `transposed`, their transposes, by the rank of the input (N, C, ...)."""
    n = input.dim() - 2
    if n not in AXES:
        raise RuntimeError(message("convolution", "input of 3 to 5 dimensions", f"shape {list(input.shape)}"))
    if transposed:
        return _convolve_transposed(n, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return _convolve(n, input, weight, bias, stride, padding, dilation, groups)


@recalled(autocast="lower")
def conv_tbc(input, weight, bias, pad=0):
    """Convolution of (L, N, C) with (K, C, O), plus bias (O)."""
    for i, (name, x) in enumerate(dict(input=input, weight=weight, bias=bias).items()):
        check_tensor("conv_tbc", name, x, i + 1)
    return _convolve(1, input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, 1, pad, 1, 1).permute(2, 0, 1)
