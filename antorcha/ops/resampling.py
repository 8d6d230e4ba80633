"""Linear maps along one dimension given by a table of taps: padding by reflection, interpolation, average pooling.

Element o of the result is a weighted sum of a few elements of the input, sum over t of weight[o, t] * x[index[o, t]]. The
transpose of such a map is one too, so the derivative of `resample` is `resample` with the transposed table: nothing is scattered.
"""

from __future__ import annotations

import functools

import numpy as np

from ..base import dtype as dt
from ..graph.node import dense, view
from . import pointwise as pw
from .index import SURE_SCATTER, pick, put
from .record import core, meta, operator
from .view import slice_view, viewed

Tensor = "Tensor"
RUNS = 4            # of neighbouring places that are copied one after the other
UNROLLED = 8        # taps up to which the terms are written out, rather than summed by a reduction


class Taps:
    """index, weight: (outputs, taps) arrays, weight None where all are one; `length` of the input. Unused taps weigh nothing.
    `counts`: of means, how many taps each output has; `times`: how often each element is repeated, if all are, and nothing else;
    `runs`: see there."""

    __slots__ = ("index", "weight", "length", "counts", "times", "runs", "_transposed")

    def __init__(self, index, weight, length: int, counts=None):
        self.index, self.weight, self.length, self.counts = index, weight, length, counts
        places = index[:, 0].tolist() if weight is None and index.shape[1] == 1 else []
        times = len(places) // length
        self.times = times if places and places == [i // times for i in range(length * times)] else 0
        self.runs = _runs(places)
        self._transposed: Taps | None = None

    @property
    def transposed(self) -> Taps:
        if self._transposed is None:
            self._transposed = _transpose(self)
            self._transposed._transposed = self
        return self._transposed


def _runs(index: list) -> tuple:
    """(first place, step, count) of the runs that places make, if these are few: a border, what is within, a border."""
    found, at = [], 0
    while at < len(index):
        step = index[at + 1] - index[at] if at + 1 < len(index) else 0
        end = at + 1
        while end < len(index) and index[end] - index[end - 1] == step:
            end += 1
        found.append((index[at], step, end - at))
        at = end
        if len(found) > RUNS:
            return ()
    return tuple(found)


def _in_runs(input, dim: int, outputs: int, runs: tuple):
    """Runs of places along a dimension, one after the other."""
    v, m = input._meta.view, input._meta
    out = dense(v.shape[:dim] + (outputs,) + v.shape[dim + 1:])
    result, start = core.blank(out.shape, m.dtype, m.device), 0
    for first, step, count in runs:
        strides = v.strides[:dim] + (v.strides[dim] * step,) + v.strides[dim + 1:]
        part = view(v.shape[:dim] + (count,) + v.shape[dim + 1:], strides, v.offset + v.strides[dim] * first)
        result = core.overwrite_region(result, slice_view(out, dim, start, start + count, 1), viewed(input, part))
        start += count
    return result


def _transpose(t: Taps) -> Taps:
    outputs, width = t.index.shape
    weight = np.ones(t.index.shape) if t.weight is None else t.weight
    source, target = t.index.reshape(-1), np.repeat(np.arange(outputs), width)
    used = weight.reshape(-1) != 0
    source, target, weight = source[used], target[used], weight.reshape(-1)[used]
    order = np.argsort(source, kind="stable")
    source, target, weight = source[order], target[order], weight[order]
    counts = np.bincount(source, minlength=t.length)
    rank = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    widest = max(1, counts.max(initial=0))
    index, factor = np.zeros((t.length, widest), np.int64), np.zeros((t.length, widest))
    index[source, rank], factor[source, rank] = target, weight
    return Taps(index, None if np.all(factor == 1) else factor, outputs)


@operator(name="resample", public=False, grad=dict(input=lambda g, dim, taps: resample(g, dim, taps.transposed)))
def resample(input: Tensor, dim, taps):
    """The map of `taps` along dimension `dim` (counted from 0)."""
    shape = input._meta.view.shape
    after = (1,) * (len(shape) - 1 - dim)
    outputs, width = taps.index.shape
    if not outputs or not dense(shape).numel:
        return core.zeros(meta(dense(shape[:dim] + (outputs,) + shape[dim + 1:]), input._meta.dtype, input._meta.device))

    def tap(index, weight, shape, mapping):
        part = pick(input, [core.from_numpy(np.ascontiguousarray(index))], shape, mapping)
        return part if weight is None else part * core.from_numpy(np.ascontiguousarray(weight)).to(input._meta.dtype)

    if taps.runs:
        return _in_runs(input, dim, outputs, taps.runs)
    if width <= UNROLLED:
        out = shape[:dim] + (outputs,) + shape[dim + 1:]
        mapping = tuple(("i", 0) if d == dim else ("d", d) for d in range(len(shape)))
        total = None
        for t in range(width):
            weight = None if taps.weight is None else taps.weight[:, t].reshape(-1, *after)
            part = tap(taps.index[:, t].reshape(-1, *after), weight, out, mapping)
            total = part if total is None else total + part
        return total
    out = shape[:dim] + (outputs,) + shape[dim + 1:] + (width,)
    mapping = tuple(("i", 0) if d == dim else ("d", d) for d in range(len(shape)))
    weight = None if taps.weight is None else taps.weight.reshape(outputs, *after, width)
    return tap(taps.index.reshape(outputs, *after, width), weight, out, mapping).sum(-1)


def resample_all(input, maps: tuple):
    """The maps of `maps` (Taps of means or of single elements, or None) along the last dimensions."""
    if input._meta.dtype.compute is not input._meta.dtype:
        return _resample_narrow(input, maps)
    times = [1 if t is None else t.times for t in maps]
    if all(times):
        return _repeated(input, times)
    for d, taps in enumerate(maps, input.dim() - len(maps)):
        input = input if taps is None else resample(input, d, taps)
    return input


def _repeated(input, times: list):
    """Each element along the last dimensions so many times."""
    lead = input.dim() - len(times)
    shape = list(input.shape[:lead])
    for n, k in zip(input.shape[lead:], times):
        shape += [n, k]
    apart = input.reshape([n if d < lead or (d - lead) % 2 == 0 else 1 for d, n in enumerate(shape)])
    return apart.expand(shape).reshape([*shape[:lead], *(n * k for n, k in zip(input.shape[lead:], times))])


@operator(name="resample_narrow", title="Resample", public=False, wide="forward",
          grad=dict(input=lambda g, input_shape, maps: _collect(g, input_shape, maps)))
def _resample_narrow(input: Tensor, maps):
    return resample_all(input, maps)


@operator(name="collect", public=False, grad=dict(input=lambda g, maps: _resample_narrow(g, maps)))
def _collect(input: Tensor, shape, maps):
    """The transpose of `resample_all` for 16-bit floats, which PyTorch adds up in 16 bits, one output after the other in the order of
    memory: means are divided by one dimension's count after the other, and each sum is rounded."""
    rank, n = len(shape), len(maps)
    widths = tuple(1 if t is None else t.index.shape[1] for t in maps)
    terms, inside, indices, mapping = input, None, [], [("d", d) for d in range(rank - n)]

    def along(d, values):
        """A table (outputs, taps or 1) of dimension d, against the outputs and the taps of all dimensions."""
        sizes = [1] * (rank + n)
        sizes[d], sizes[d + n] = values.shape
        return core.from_numpy(np.ascontiguousarray(values)).reshape(sizes)

    for d, taps in enumerate(maps, rank - n):
        mapping.append(("d", d) if taps is None else ("i", len(indices)))
        if taps is None:
            continue
        indices.append(along(d, taps.index))
        if taps.counts is not None:
            terms = terms / along(d, taps.counts.reshape(-1, 1)).reshape((-1,) + (1,) * (rank - 1 - d))
        if taps.weight is not None:
            used = along(d, taps.weight != 0)
            inside = used if inside is None else inside & used
    region = tuple(input.shape) + widths
    terms = terms.reshape(tuple(input.shape) + (1,) * n)
    terms = terms.expand(region) if inside is None else pw.where(inside, terms, 0.0)
    zeros = core.zeros(meta(dense(shape), input._meta.dtype, input._meta.device))
    return put(zeros, terms, indices, region, tuple(mapping), "sum", SURE_SCATTER)


# -- tables -----------------------------------------------------------------------------------------------------

def _merged(taps: Taps) -> Taps:
    """`taps` with one tap for an element that a row has several times, as it has those at the border."""
    used = taps.weight != 0
    first = np.where(used, taps.index, taps.length).min(1, keepdims=True)
    weight = np.zeros(taps.index.shape)
    np.add.at(weight, (np.arange(len(weight))[:, None], np.where(used, taps.index - first, 0)), taps.weight)
    return Taps(np.minimum(first + np.arange(weight.shape[1]), taps.length - 1), weight, taps.length)


@functools.lru_cache(maxsize=512)
def fixed_point(taps: Taps) -> tuple:
    """(taps with integer weights, bits): the weights times 2**bits, as many bits as leave the largest within 16 with its sign."""
    taps = _merged(taps)
    largest = taps.weight.max()
    bits = next((b for b in range(22) if int(0.5 + largest * 2 ** (b + 1)) >= 2 ** 15), 22)
    scaled = taps.weight * 2 ** bits
    return Taps(taps.index, np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32), taps.length), bits


@functools.lru_cache(maxsize=512)
def rounded(taps: Taps, dtype) -> Taps:
    """`taps` with weights that have `dtype`'s values. The derivative's have not: so it is in PyTorch."""
    def narrow(x):
        x = x.astype(np.float32)
        return dt.decode(dt.encode(x)) if dtype.numpy is None else x.astype(dtype.numpy).astype(np.float32)

    weight = narrow(taps.weight)
    if weight.shape[1] == 2:        # the first is what the other leaves of 1
        weight[:, 0] = narrow(1 - weight[:, 1])
    kept = Taps(taps.index, weight, taps.length)
    kept._transposed = taps.transposed
    return kept


@functools.lru_cache(maxsize=512)
def selection(index: tuple, length: int) -> Taps:
    """Each output is one element of the input."""
    return Taps(np.array(index, np.int64).reshape(-1, 1), None, length)


@functools.lru_cache(maxsize=512)
def spans(starts: tuple, stops: tuple, divisors: tuple, length: int) -> Taps:
    """Sums of ranges of the input, each divided by its divisor."""
    first, last = np.array(starts), np.array(stops)
    places = first[:, None] + np.arange(max(1, (last - first).max(initial=0)))
    inside = places < last[:, None]
    weight = inside / np.array(divisors, np.float64)[:, None]
    return Taps(np.where(inside, places, 0), None if np.all(weight == 1) else weight, length, np.array(divisors, np.int64))


@functools.lru_cache(maxsize=512)
def nearest(length: int, outputs: int, scale: float, exact: bool) -> Taps:
    """The element at or nearest to each output's place; `scale` is the step between outputs, rounded to float32 as PyTorch does."""
    place = np.arange(outputs, dtype=np.float32)
    place = (place + np.float32(0.5)) * np.float32(scale) if exact else place * np.float32(scale)
    return Taps(np.clip(np.floor(place).astype(np.int64), 0, length - 1).reshape(-1, 1), None, length)


def _places(outputs: int, scale: float, align_corners: bool):
    o = np.arange(outputs, dtype=np.float64)
    return o * scale if align_corners else (o + 0.5) * scale - 0.5


@functools.lru_cache(maxsize=512)
def linear(length: int, outputs: int, scale: float, align_corners: bool) -> Taps:
    """Weighted means of the two neighbours."""
    place = np.clip(_places(outputs, scale, align_corners), 0, None)
    low = np.minimum(np.floor(place).astype(np.int64), length - 1)
    part = np.clip(place - low, 0, 1)
    return Taps(np.stack([low, np.minimum(low + 1, length - 1)], 1), np.stack([1 - part, part], 1), length)


def _cubic(x, a: float):
    """The cubic convolution kernel. Keys, 1981."""
    x = np.abs(x)
    return np.where(x <= 1, ((a + 2) * x - (a + 3)) * x * x + 1, np.where(x < 2, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a, 0.0))


@functools.lru_cache(maxsize=512)
def cubic(length: int, outputs: int, scale: float, align_corners: bool) -> Taps:
    """Cubic convolution of the four neighbours, a = -3/4; the border repeated."""
    place = _places(outputs, scale, align_corners)
    low = np.floor(place).astype(np.int64)
    index = low[:, None] + np.arange(-1, 3)
    return Taps(np.clip(index, 0, length - 1), _cubic(place[:, None] - index, -0.75), length)


@functools.lru_cache(maxsize=512)
def antialiased(length: int, outputs: int, scale: float, align_corners: bool, reach: int, d) -> Taps:
    """A triangle (reach 1) or a cubic kernel with a = -1/2 (reach 2), as wide as the step where it is more than one. Places are told in
    the NumPy dtype `d`, as in PyTorch: what their rounding moves is more than that of the weights."""
    scale = d(scale)
    wide = max(scale, d(1))
    centre = scale * (np.arange(outputs, dtype=d) + d(0.5))
    first = np.maximum((centre - reach * wide + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach * wide + 0.5).astype(np.int64), length)
    index = first[:, None] + np.arange((last - first).max())
    inside = index < last[:, None]
    x = (((index.astype(d) - centre[:, None]).astype(np.float64) + 0.5) * (1 / wide)).astype(d)
    weight = np.where(inside, np.maximum(1 - np.abs(x), 0) if reach == 1 else _cubic(x, -0.5), 0.0)
    return Taps(np.where(inside, index, 0), weight / weight.sum(1, keepdims=True), length)
