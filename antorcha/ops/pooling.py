"""Pooling: the largest element, the mean or the p-norm of each window over the last dimensions.

Windows are reduced one dimension at a time, over strided views of the input. The largest element is found together with its
place, an offset into the plane of the pooled dimensions; its derivative adds the cotangent at that place.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..base import dtype as dt
from ..base.errors import message
from ..base.formats import contiguous_format
from ..graph.node import dense
from . import pointwise as pw
from .casts import FULL_ON_CPU
from .derivative import titled
from .index import SURE_SCATTER, pick, put
from .random import rand
from .recall import recalled
from .record import check_tensor, comparison, core, meta, operator, pointwise
from .reduction import reduce
from .resampling import resample, resample_all, spans
from .strides import keeping_format, of_format, suggested
from .view import SCATTER, viewed
from .windows import UNROLLED, each, places, spread_in_order, surround, window_sum, window_sums, windows

Tensor = "Tensor"


# -- arguments --------------------------------------------------------------------------------------------------

def _check_input(what: str, n: int, input) -> None:
    check_tensor(what, "input", input)
    shape = tuple(input.shape)
    if len(shape) not in (n + 1, n + 2) or 0 in shape[-n - 1:]:
        raise RuntimeError(message(what, f"a non-empty {n + 1}D or {n + 2}D (batch mode) tensor, (C, ...) or (N, C, ...)",
                                   f"shape {list(shape)}"))


def _arguments(what: str, n: int, kernel_size, stride, padding, dilation=1) -> tuple:
    size = each(what, "kernel_size", kernel_size, n)
    stride = size if stride is None or isinstance(stride, (tuple, list)) and not stride else each(what, "stride", stride, n)
    padding, dilation = each(what, "padding", padding, n), each(what, "dilation", dilation, n)
    for name, values in (("kernel size", size), ("stride", stride), ("dilation", dilation)):
        if min(values) <= 0:
            raise RuntimeError(message(what, f"{name} greater than zero", f"{list(values)}", f"({name} should not be zero)"))
    if any(p < 0 or p > ((k - 1) * d + 1) // 2 for p, k, d in zip(padding, size, dilation)):
        raise RuntimeError(message(what, "padding of at least 0 and at most half of the kernel's extent (pad should be at most half of "
                                   f"effective kernel size), kernel_size={list(size)}, dilation={list(dilation)}",
                                   f"padding={list(padding)}", "(pad must be non-negative)"))
    return size, stride, padding, dilation


def _counts(what: str, lengths, size, stride, padding, dilation, ceil_mode) -> tuple:
    """How many windows there are. With `ceil_mode` the last one may reach beyond the padding, but does not begin in it."""
    found = []
    for n, k, s, p, d in zip(lengths, size, stride, padding, dilation):
        room = n + 2 * p - d * (k - 1) - 1
        count = room // s + 1
        if ceil_mode:
            count = -(-room // s) + 1
            count -= (count - 1) * s >= n + p
        if count < 1:
            raise RuntimeError(message(what, "an output of at least one element (Output size is too small)",
                                       f"input {list(lengths)} with kernel_size={list(size)}, padding={list(padding)}",
                                       "Use a smaller kernel."))
        found.append(count)
    return tuple(found)


def _lowest(d):
    if d.kind == "f":
        return -math.inf
    return 0 if d.kind in "ub" else -2 ** (8 * d.itemsize - 1)


# -- the largest element ----------------------------------------------------------------------------------------

@pointwise(lambda a, b: (b < a) | a.ne(a), rule=comparison, name="later_maximum", public=False, out=False, inplace=False)
def _later(input, other):
    """Whether a further element becomes the maximum."""


def _largest(candidates) -> tuple:
    """The largest of several (value, place), elementwise; the first of equal ones, but NaN before all."""
    best = place = None
    for value, where in candidates:
        if best is None:
            best, place = value, where
            continue
        later = _later(value, best)
        place, best = pw.where(later, where, place).to(dt.int32), pw.where(later, value, best)
    return best, place


def _planes(lead: tuple) -> tuple:
    return (*(("d", d) for d in range(len(lead))), ("i", 0))


@operator(name="max_pool_with_indices", title="MaxPoolWithIndices", public=False, grad=dict(
    input=lambda g, input_shape, size, result_1: spread_max(g[0], result_1, input_shape, len(size))))
def max_pool(input: Tensor, size, stride, padding, dilation, count):
    """(largest element, its offset in the plane) of each window over the last dimensions."""
    n, d = len(size), input._meta.dtype
    shape = input._meta.view.shape
    lead, lengths = len(shape) - n, shape[-n:]
    ends = tuple(max(0, (c - 1) * s + e * (k - 1) + 1 - m - p)
                 for c, s, e, k, m, p in zip(count, stride, dilation, size, lengths, padding))
    steps = [math.prod(lengths[i + 1:]) for i in range(n)]
    x = input
    if any(padding) or any(ends):
        x = surround(x, tuple(zip(padding, ends)), _lowest(d))
    if max(size) > UNROLLED:
        values, offset = _largest_of_many(x, size, stride, dilation, count, steps)
    else:
        values, offset = x, 0
        for i in reversed(range(n)):
            values, offset = _largest(_along(values, offset, lead + i, t * dilation[i], steps[i], count[i], stride[i])
                                      for t in range(size[i]))
    first, wide = 0, dt.int32 if math.prod(lengths) < 2 ** 31 else dt.int64
    for i in range(n):
        starts = core.arange(0, count[i], 1).to(wide) * (stride[i] * steps[i]) - padding[i] * steps[i]
        first = starts.reshape((-1,) + (1,) * (n - 1 - i)) + first
    place = first + offset
    if any(padding):
        place = place.clamp(0, math.prod(lengths) - 1)      # a window of -inf alone
    place = place.expand(values.shape) if tuple(place.shape) != tuple(values.shape) else place
    return (values if values is not x else core.contiguous(x)), place.to(wide)


def _along(values, offset, dim: int, start: int, step: int, count: int, stride: int) -> tuple:
    """One place of all windows along `dim`, with its offset."""
    if isinstance(offset, core.Tensor):
        offset = places(offset, dim, start, count, stride)
    return places(values, dim, start, count, stride), offset + start * step if start else offset


def _largest_of_many(x, size, stride, dilation, count, steps) -> tuple:
    """Windows of many places, by reductions."""
    n, d = len(size), x._meta.dtype
    x = x if x._meta.view.dense else core.contiguous(x)
    whole = viewed(x, windows(x._meta.view, size, stride, dilation, count))
    inner = tuple(range(-n, 0))
    values = reduce("max", whole, inner, False, d, d)
    tap = reduce("argmax", whole, inner, False, d, dt.int64)
    offset = 0
    for k, e, step in zip(reversed(size), reversed(dilation), reversed(steps)):
        offset = offset + tap % k * (e * step)
        tap = tap // k
    return values, offset


def spread_max(g, place, shape: tuple, n: int, op=SURE_SCATTER):
    """The cotangents added where their elements came from."""
    lead, plane, count = shape[:-n], math.prod(shape[-n:]), math.prod(place.shape[-n:])
    zeros = core.zeros(meta(dense(lead + (plane,)), g._meta.dtype, g._meta.device))
    at = lead + (count,)
    return put(zeros, g.reshape(at), [place.reshape(at)], at, _planes(lead), "sum", op).reshape(shape)


@operator(public=False, out=False, grad=dict(
    self=lambda g: g * 0, grad_output=lambda g, indices: g.flatten(-2).gather(-1, indices.flatten(-2)).reshape(indices.shape)))
def max_pool2d_with_indices_backward(grad_output: Tensor, self: Tensor, kernel_size, stride, padding, dilation, ceil_mode,
                                     indices):
    return spread_max(grad_output, indices, tuple(self.shape), 2, SCATTER)


def _max_pool(n: int, with_indices: bool):
    what = f"max_pool{n}d"

    def compute(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
        _check_input(what, n, input)
        size, stride, padding, dilation = _arguments(what, n, kernel_size, stride, padding, dilation)
        count = _counts(what, input.shape[-n:], size, stride, padding, dilation, ceil_mode)
        if not input.numel():
            shape = tuple(input.shape[:-n]) + count
            return core.contiguous(input.sum().expand(shape)), core.zeros(meta(dense(shape), dt.int64, input._meta.device))
        values, place = max_pool(input, size, stride, padding, dilation, count)
        return values, place.to(dt.int64) if return_indices else None

    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        found = compute(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices or with_indices)
        return found if return_indices or with_indices else found[0]
    pool = titled(f"MaxPool{n}DWithIndices" if n > 1 else "SqueezeBackward1")(pool)      # PyTorch's one dimension is one of two
    return _named(pool, what + "_with_indices" * with_indices,
                  "The largest element of each window, with return_indices also its place in the plane of the last dimensions.",
                  FULL_ON_CPU if n == 3 and not with_indices else None)


def _named(function, name: str, doc: str, autocast=None):
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return recalled(keeping_format(function), autocast=autocast)


max_pool1d, max_pool2d, max_pool3d = (_max_pool(n, False) for n in (1, 2, 3))
max_pool1d_with_indices, max_pool2d_with_indices, max_pool3d_with_indices = (_max_pool(n, True) for n in (1, 2, 3))


# -- means and norms --------------------------------------------------------------------------------------------

def _wide(input):
    """Sums of 16-bit floats are made in 32 bits."""
    return input if input._meta.dtype.compute is input._meta.dtype else input.to(input._meta.dtype.compute)


@operator(name="narrow_sums", public=False, grad=dict(input=lambda g, input_shape, size, stride, padding, dtype: spread_in_order(
    g.to(dtype), size, stride, padding, input_shape[-len(size):])))
def _narrow_sums(input: Tensor, size, stride, padding, count, dtype):
    """`window_sums` in float32 of 16-bit floats, whose derivative PyTorch adds up in 16 bits (in three dimensions it has none)."""
    return window_sums(input.to(dtype.compute), size, stride, padding, count)


def _avg_pool(n: int):
    what = f"avg_pool{n}d"

    def compute(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
        _check_input(what, n, input)
        size, stride, padding, dilation = _arguments(what, n, kernel_size, stride, padding)
        lengths = tuple(input.shape[-n:])
        count = _counts(what, lengths, size, stride, padding, dilation, ceil_mode)
        if divisor_override == 0:
            raise RuntimeError(message(what, "divisor_override other than 0 (divisor must be not zero)", "0"))
        d = input._meta.dtype
        if d.kind not in "fi" or d.kind == "i" and d is not dt.int64:
            raise NotImplementedError(f"\"{what}\" not implemented for '{d.name}': convert the input first: input.float()")
        narrow = d.compute is not d and n < 3 and any(s < k for s, k in zip(stride, size))
        x = _narrow_sums(input, size, stride, padding, count, d) if narrow else window_sums(_wide(input), size, stride, padding, count)
        divisors = []
        for k, s, p, m, c in zip(size, stride, padding, lengths, count):
            start = np.arange(c) * s - p
            stop = np.minimum(start + k, m + p)
            divisors.append(stop - start if count_include_pad else np.minimum(stop, m) - np.maximum(start, 0))
        return _divided(x, divisors, divisor_override, d)

    if n == 1:
        def pool(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
            return compute(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)
    else:
        def pool(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None, *,
                 out=None):
            result = compute(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
            return result if out is None else core.store_out(what, out, result)
    pool = titled(f"AvgPool{n}D" if n > 1 else "SqueezeBackward1")(pool)
    return _named(pool, what, "The mean of each window: its sum divided by how many elements of the padded input it covers (of the "
                  "input, without count_include_pad), or by divisor_override.", FULL_ON_CPU if n == 3 else None)


def _divided(x, divisors: list, override, d):
    """Sums over windows divided by the number of elements, a product over the dimensions."""
    if override is not None:
        divisor = int(override)
    elif all(v.min() == v.max() for v in divisors):
        divisor = math.prod(int(v[0]) for v in divisors)
    else:
        whole = functools.reduce(np.multiply, np.ix_(*divisors))
        divisor = core.from_numpy(np.ascontiguousarray(whole.astype(x._meta.dtype.numpy)))
    if d.kind == "f":
        return (x / divisor).to(d)
    return x.div(divisor, rounding_mode="trunc")


avg_pool1d, avg_pool2d, avg_pool3d = (_avg_pool(n) for n in (1, 2, 3))


def _lp_pool(n: int):
    mean = (avg_pool1d, avg_pool2d, avg_pool3d)[n - 1]

    def pool(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        p = float(norm_type)
        total = mean(input.pow(p), kernel_size, stride, 0, ceil_mode) * math.prod(each(f"lp_pool{n}d", "kernel_size", kernel_size, n))
        return (total.sign() * total.abs().relu()).pow(1 / p)
    return _named(pool, f"lp_pool{n}d", "The p-norm of each window, (sum of x**p)**(1/p).", "parts")


lp_pool1d, lp_pool2d, lp_pool3d = (_lp_pool(n) for n in (1, 2, 3))


# -- adaptive windows -------------------------------------------------------------------------------------------

def _output_size(what: str, n: int, input, output_size) -> tuple:
    check_tensor(what, "input", input)
    shape = tuple(input.shape)
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * n
    if len(sizes) != n:
        raise RuntimeError(message(what, f"output_size of {n} numbers", f"{list(sizes)}", f"(output_size must be {n})"))
    if len(shape) <= n:
        raise ValueError(message(what, f"an input of at least {n + 1} dimensions", f"shape {list(shape)}"))
    if len(shape) not in (n + 1, n + 2) or 0 in shape[-n:]:
        raise RuntimeError(message(what, f"a non-empty {n + 1}D or {n + 2}D tensor (Expected {n + 1}D or {n + 2}D tensor)",
                                   f"shape {list(shape)}"))
    sizes = tuple(m if s is None else int(s) for s, m in zip(sizes, shape[-n:]))
    if min(sizes) < 0:
        raise RuntimeError(message(what, "output_size of at least 0 (elements of output_size must be greater than or equal to 0)",
                                   f"{list(sizes)}"))
    return sizes


def _bounds(length: int, outputs: int) -> tuple:
    """Where the windows begin and end: they share the length out, and overlap where it does not divide."""
    o = np.arange(outputs)
    return o * length // max(outputs, 1), -(-(o + 1) * length // max(outputs, 1))


def _shares(length: int, outputs: int):
    start, stop = _bounds(length, outputs)
    return spans(tuple(start), tuple(stop), tuple(stop - start), length)


def _adaptive_avg(n: int):
    what = f"adaptive_avg_pool{n}d"

    def pool(input, output_size):
        sizes = _output_size(what, n, input, output_size)
        if set(sizes) == {1}:
            out = _wide(input).mean(tuple(range(-n, 0)), True).to(input.dtype)
            fmt = suggested(input._meta.view)       # the strides of a lone element tell the format
            return out if fmt is contiguous_format else core.laid_out(out, of_format(what, out._meta.view.shape, fmt))
        lengths = tuple(input.shape[-n:])
        if sizes == lengths:
            return input.clone()
        x, d, lead = input, input.dtype, input.dim() - n
        if d.compute is not d and 0 not in sizes and input.numel():
            return resample_all(input, tuple(None if m == s else _shares(m, s) for m, s in zip(lengths, sizes)))
        for d, (length, size) in enumerate(zip(lengths, sizes), lead):
            if size and length % size == 0:
                x = window_sum(x, d, length // size, length // size) / (length // size) if size != length else x
            else:
                x = resample(x, d, _shares(length, size))
        return x
    pool = titled(lambda input, output_size: "SqueezeBackward1" if n == 1 else
                  "MeanBackward1" if set(_output_size(what, n, input, output_size)) == {1} else f"AdaptiveAvgPool{n}D")(pool)
    return _named(pool, what, "Means of windows that share the input out evenly, output_size of them (None: one for each element).",
                  FULL_ON_CPU if n == 3 else None)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive_avg(n) for n in (1, 2, 3))


@operator(name="window_max", title="WindowMax", public=False, grad=dict(
    input=lambda g, input_shape, starts, result_1: spread_max(g[0], result_1, input_shape, len(starts))))
def window_max(input: Tensor, starts, stops):
    """(largest element, its offset in the plane) of windows given by where they begin and end in each of the last dimensions:
    int64 tensors that broadcast against (leading dimensions, windows)."""
    n, shape = len(starts), input._meta.view.shape
    values, offset = input, None
    for i in reversed(range(n)):
        dim, step = len(shape) - n + i, math.prod(shape[len(shape) - n + i + 1:])
        values, offset = _largest(_candidates(values, offset, dim, step, starts[i], stops[i]))
    return values, offset.to(dt.int32 if math.prod(shape[-n:]) < 2 ** 31 else dt.int64)


def _candidates(values, offset, dim: int, step: int, start, stop):
    """The elements of windows of different lengths, the last one repeated in the shorter ones."""
    (begin, longest), end = start, stop
    count = begin.shape[-1]
    shape = values._meta.view.shape
    out = shape[:dim] + (count,) + shape[dim + 1:]
    mapping = tuple(("i", 0) if d == dim else ("d", d) for d in range(len(shape)))
    after = (1,) * (len(shape) - 1 - dim)
    for t in range(longest):
        at = pw.minimum(begin + t, end - 1)
        index = at.reshape(tuple(at.shape[:-1]) + (1,) * (dim - at.dim() + 1 if at.dim() > 1 else 0) + (count,) + after)
        where = index * step if offset is None else pick(offset, [index], out, mapping) + index * step
        yield pick(values, [index], out, mapping), where.expand(out)


def _adaptive_max(n: int, with_indices: bool):
    what = f"adaptive_max_pool{n}d"

    def compute(input, output_size, return_indices):
        sizes = _output_size(what, n, input, output_size)
        lengths = tuple(input.shape[-n:])
        if 0 in sizes or not input.numel():
            shape = tuple(input.shape[:-n]) + sizes
            return core.contiguous(input.sum().expand(shape)), core.zeros(meta(dense(shape), dt.int64, input._meta.device))
        if all(m % s == 0 for m, s in zip(lengths, sizes)):
            size = tuple(m // s for m, s in zip(lengths, sizes))
            values, place = max_pool(input, size, size, (0,) * n, (1,) * n, sizes)
        else:
            starts, stops = [], []
            for m, s in zip(lengths, sizes):
                begin, end = _bounds(m, s)
                starts.append((core.from_numpy(begin), int((end - begin).max())))
                stops.append(core.from_numpy(end))
            values, place = core.settled(window_max(input, tuple(starts), tuple(stops)), (input,))
        return values, place.to(dt.int64) if return_indices else None

    def pool(input, output_size, return_indices=False):
        found = compute(input, output_size, return_indices or with_indices)
        return found if return_indices or with_indices else found[0]
    pool = titled(f"AdaptiveMaxPool{n}D" if n > 1 else "SqueezeBackward1")(pool)
    return _named(pool, what + "_with_indices" * with_indices,
                  "Largest elements of windows that share the input out evenly, output_size of them (None: one for each element).",
                  FULL_ON_CPU if n == 3 else None)


adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive_max(n, False) for n in (1, 2, 3))
adaptive_max_pool1d_with_indices, adaptive_max_pool2d_with_indices, adaptive_max_pool3d_with_indices = (
    _adaptive_max(n, True) for n in (1, 2, 3))


# -- windows at random places -----------------------------------------------------------------------------------

def _fractional_starts(samples, length: int, outputs: int, size: int):
    """Where windows of a pseudorandom sequence begin, for each sample in [0, 1) (any shape). Graham, "Fractional Max-Pooling", 2014."""
    o = core.arange(0, outputs, 1).to(samples.dtype)
    step = (length - size) / (outputs - 1) if outputs > 1 else 0.0
    u = samples.unsqueeze(-1)
    begin = ((o + u) * step).to(dt.int64) - (u * step).to(dt.int64)
    return pw.where(core.arange(0, outputs, 1) == outputs - 1, length - size, begin)


def _fractional(n: int, with_indices: bool):
    what = f"fractional_max_pool{n}d"

    def compute(input, kernel_size, output_size, output_ratio, samples):
        check_tensor(what, "input", input)
        size = each(what, "kernel_size", kernel_size, n)
        if output_size is None and output_ratio is None:
            raise ValueError(f"{what}: requires specifying either an output_size or an output_ratio")
        if input.dim() not in (n + 1, n + 2) or 0 in input.shape[-n - 1:]:
            raise RuntimeError(message(what, f"a non-empty {n + 1}D or {n + 2}D tensor", f"shape {list(input.shape)}"))
        lengths = tuple(input.shape[-n:])
        if output_size is None:
            ratio = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * n
            output_size = tuple(int(m * r) for m, r in zip(lengths, ratio))
        outputs = each(what, "output_size", output_size, n)
        for name, values in (("kernel_size", size), ("output_size", outputs)):
            if min(values) <= 0:
                raise RuntimeError(message(what, f"{name} greater than zero", f"{list(values)}"))
        if any(o + k - 1 > m for o, k, m in zip(outputs, size, lengths)):
            raise RuntimeError(message(what, "an input of at least output_size + kernel_size - 1 elements a dimension, "
                                       f"output_size={list(outputs)}, kernel_size={list(size)}", f"{list(lengths)}",
                                       "(pool height or width too large relative to input)"))
        batch, channels = (1, input.shape[0]) if input.dim() == n + 1 else tuple(input.shape[:2])
        if samples is None:
            samples = rand(batch, channels, n, dtype=input.dtype, device=input.device)
        if samples.dim() != 3 or tuple(samples.shape[1:]) != (channels, n) or samples.shape[0] < batch:
            raise RuntimeError(message(what, f"_random_samples of shape ({batch}, {channels}, {n})", f"{list(samples.shape)}"))
        samples = samples[:batch] if input.dim() == n + 2 else samples[0]
        order = (1, 0) if n == 2 else (0, 1, 2)     # in 2D the first sample is the width's
        starts = tuple((_fractional_starts(samples.select(-1, i), m, o, k), k) for i, m, o, k in zip(order, lengths, outputs, size))
        return window_max(input, starts, tuple(begin + k for begin, k in starts))

    def pool(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        values, place = compute(input, kernel_size, output_size, output_ratio, _random_samples)
        return (values, place.to(dt.int64)) if return_indices or with_indices else values
    return _named(pool, what + "_with_indices" * with_indices, "Largest elements of windows whose places are drawn at random, "
                  "output_size of them, or output_ratio times the input's size. Graham, 2014.", FULL_ON_CPU)


fractional_max_pool2d, fractional_max_pool3d = (_fractional(n, False) for n in (2, 3))
fractional_max_pool2d_with_indices, fractional_max_pool3d_with_indices = (_fractional(n, True) for n in (2, 3))


# -- back from the largest elements -----------------------------------------------------------------------------

def _unpool_size(what: str, n: int, input, size, stride, padding, output_size) -> tuple:
    default = tuple((m - 1) * s + k - 2 * p for m, s, k, p in zip(input.shape[-n:], stride, size, padding))
    if output_size is None:
        return default
    given = tuple(int(m) for m in output_size)
    given = given[2:] if len(given) == n + 2 else given
    if len(given) != n:
        raise ValueError(message(what, f"output_size of {n} or {n + 2} numbers", f"{list(output_size)}"))
    if any(not m - s < g < m + s for g, m, s in zip(given, default, stride)):
        raise ValueError(message(what, f"output_size within a stride of {list(default)}", f"{list(given)}", "(invalid output_size)"))
    return given


def _max_unpool(n: int):
    what = f"max_unpool{n}d"

    def unpool(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        check_tensor(what, "input", input)
        check_tensor(what, "indices", indices)
        size = each(what, "kernel_size", kernel_size, n)
        stride = size if stride is None or isinstance(stride, (tuple, list)) and not stride else each(what, "stride", stride, n)
        padding = each(what, "padding", padding, n)
        if indices.dtype is not dt.int64:
            raise RuntimeError(message(what, "elements in indices to be of type int64", f"{indices.dtype}"))
        _check_input(what, n, input)
        if tuple(indices.shape) != tuple(input.shape):
            raise RuntimeError(message(what, f"shape of indices to match that of input, {list(input.shape)} (Expected shape of "
                                       "indices to be same as that of the input tensor)", f"{list(indices.shape)}"))
        if min(stride) <= 0:
            raise RuntimeError(message(what, "strides greater than zero", f"{list(stride)}"))
        out = _unpool_size(what, n, input, size, stride, padding, output_size)
        lead = tuple(input.shape[:-n])
        at = lead + (math.prod(input.shape[-n:]),)
        zeros = core.zeros(meta(dense(lead + (math.prod(out),)), input._meta.dtype, input._meta.device))
        return put(zeros, input.reshape(at), [indices.reshape(at)], at, _planes(lead), "set").reshape(lead + out)
    return _named(unpool, what, "The inverse of max pooling as far as there is one: elements at their `indices`, zero elsewhere.",
                  FULL_ON_CPU)


max_unpool1d, max_unpool2d, max_unpool3d = (_max_unpool(n) for n in (1, 2, 3))
