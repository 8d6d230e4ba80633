"""What convolution, pooling and folding share: arguments given once or per dimension, windows as index maps, a border around a
tensor, and sums over windows one dimension at a time.

Window p of a dimension covers the places p * stride + t * dilation for t < size.
"""

from __future__ import annotations

import itertools
import math

from ..base.errors import message
from ..graph.node import View, dense
from ..graph.node import view as make_view
from .index import fold
from .record import core, meta, operator
from .reduction import reduce
from .view import region_grad, slice_, slice_view, viewed

Tensor = "Tensor"
UNROLLED = 8        # places of a window up to which they are summed one by one, rather than by a reduction


def each(what: str, name: str, x, n: int) -> tuple:
    """`x` for each of n dimensions: one integer for all, or a sequence of n (or of one)."""
    values = tuple(x) if isinstance(x, (tuple, list)) else (x,)
    for v in values:
        if isinstance(v, (float, complex, str)) or v is None:
            raise TypeError(f"{what}(): argument '{name}' must be int or tuple of ints, not {type(v).__name__}")
    if len(values) not in (1, n):
        raise RuntimeError(message(what, f"{name} to be one integer or {n} ({name} must be a single int or a tuple of {n} ints)",
                                   f"{list(x)}"))
    values = tuple(int(v) for v in values)
    return values * n if len(values) == 1 else values


def positive(what: str, name: str, values: tuple) -> None:
    if any(v <= 0 for v in values):
        raise RuntimeError(message(what, f"{name} greater than zero", f"{list(values)}", f"(non-positive {name} is not supported)"))


def window_count(what: str, length: tuple, size: tuple, stride: tuple, dilation: tuple) -> tuple:
    """How many whole windows fit in each dimension."""
    reach = tuple(d * (k - 1) + 1 for k, d in zip(size, dilation))
    if any(r > n for r, n in zip(reach, length)):
        raise RuntimeError(message(what, f"a padded input at least as large as the kernel's extent {list(reach)}", f"{list(length)}",
                                   "Kernel size can't be greater than actual input size: pad the input or use a smaller kernel."))
    return tuple((n - r) // s + 1 for n, r, s in zip(length, reach, stride))


def windows(v: View, size: tuple, stride: tuple, dilation: tuple, count: tuple) -> View:
    """All windows over the last dimensions: leading dimensions, then positions, then places within a window."""
    lead = len(v.shape) - len(size)
    inner = v.strides[lead:]
    return make_view(v.shape[:lead] + count + size, v.strides[:lead] + tuple(a * s for a, s in zip(inner, stride))
                     + tuple(a * d for a, d in zip(inner, dilation)), v.offset)


# -- a border ---------------------------------------------------------------------------------------------------

def surround_view(v: View, amounts: tuple) -> View:
    """The part of `v` that is left when (before, after) elements are taken off its last dimensions."""
    lead = len(v.shape) - len(amounts)
    for d, (before, after) in enumerate(amounts, lead):
        v = slice_view(v, d, before, v.shape[d] - after, 1)
    return v


@operator(name="constant_pad_nd", public=False, grad=dict(input=lambda g, amounts: crop(g, amounts)),
          samples=lambda t: [t(..., 3, 4), ((1, 2), (0, 1)), 0.5])
def surround(input: Tensor, amounts, value):
    """`value` around the last dimensions of `input`: (before, after) of each, none negative."""
    shape = input._meta.view.shape
    lead = len(shape) - len(amounts)
    shape = shape[:lead] + tuple(n + a + b for n, (a, b) in zip(shape[lead:], amounts))
    whole = core.full(shape, value, input._meta.dtype, input._meta.device)
    return core.overwrite_region(whole, surround_view(dense(shape), amounts), input) if input._meta.view.numel else whole


@operator(name="crop", public=False, family="view",
          grad=dict(input=lambda g, input_shape, amounts: region_grad(g, input_shape, lambda v: surround_view(v, amounts))),
          samples=lambda t: [t(..., 3, 4), ((1, 0), (1, 2))])
def crop(input: Tensor, amounts):
    """The last dimensions without (before, after) elements each, as a view."""
    return viewed(input, surround_view(input._meta.view, amounts))


def border(x, dim: int, before: int, after: int, value=0):
    """`value` before and after along one dimension."""
    if not (before or after):
        return x
    return surround(x, ((before, after),) + ((0, 0),) * (x.dim() - 1 - dim), value)


# -- sums over windows ------------------------------------------------------------------------------------------

def places(x, dim: int, start: int, count: int, step: int):
    """`count` elements along `dim`, every `step`-th from `start` on."""
    return slice_(x, dim, start, start + (count - 1) * step + 1, step)


@operator(name="window_sum", public=False, grad=dict(
    input=lambda g, input_shape, dim, size, stride: window_spread(g, dim, size, stride, input_shape[dim])),
          samples=lambda t: [t(2, 7), 1, 3, 2])
def window_sum(input: Tensor, dim, size, stride):
    """The sums of the windows along `dim`."""
    count = (input._meta.view.shape[dim] - size) // stride + 1
    if size > UNROLLED:
        moved = input.movedim(dim, -1)
        whole = viewed(moved, windows(moved._meta.view, (size,), (stride,), (1,), (count,)))
        d = input._meta.dtype
        return core.contiguous(reduce("sum", whole, -1, False, d, d).movedim(-1, dim))
    total = places(input, dim, 0, count, stride)
    if size == 1:
        return core.contiguous(total)
    for t in range(1, size):
        total = total + places(input, dim, t, count, stride)
    return total


@operator(name="window_spread", public=False, grad=dict(input=lambda g, dim, size, stride: window_sum(g, dim, size, stride)),
          samples=lambda t: [t(2, 3), 1, 3, 2, 8])
def window_spread(input: Tensor, dim, size, stride, length):
    """The transpose of `window_sum`: each element added to all places of its window."""
    shape = input._meta.view.shape
    count = shape[dim]
    if stride == size:
        repeated = core.contiguous(input.unsqueeze(dim + 1).expand(shape[:dim + 1] + (size,) + shape[dim + 1:]))
        return border(core.reread(repeated, shape[:dim] + (count * size,) + shape[dim + 1:]), dim, 0, length - count * size)
    before, blocks = (size - 1) // stride, -(-length // stride)
    padded = border(input, dim, before, max(0, blocks - count))
    return _interleaved(lambda t: padded, size, stride, 1, dim, length, before)


def window_sums(x, size: tuple, stride: tuple, padding: tuple, count: tuple):
    """The sum of each window over the last dimensions, `count` of them; zeros stand around `x`."""
    for d, k, s, p, c in zip(range(x.dim() - len(size), x.dim()), size, stride, padding, count):
        x = window_sum(border(x, d, p, max(0, (c - 1) * s + k - x.shape[d] - p)), d, k, s)
    return x


@operator(name="spread_in_order", public=False, grad=dict(input=lambda g, input_shape, size, stride, padding: window_sums(
    g.to(g.dtype.compute), size, stride, padding, input_shape[-len(size):]).to(g.dtype)))
def spread_in_order(input: Tensor, size, stride, padding, lengths):
    """The transpose of `window_sums` over `lengths` elements, in the dtype of `input`: each place is the sum of the elements of its
    windows, one after the other in the order of memory."""
    lead = input.dim() - len(size)
    ones = (1,) * len(size)
    before = tuple((k - 1) // s for k, s in zip(size, stride))
    blocks = tuple(-(-(m + p) // s) for m, p, s in zip(lengths, padding, stride))
    x = surround(input, tuple((b, max(0, m - c)) for b, m, c in zip(before, blocks, input.shape[lead:])), 0)
    whole = dense(tuple(x.shape[:lead]) + tuple(m * s for m, s in zip(blocks, stride)))
    out = core.zeros(meta(whole, x._meta.dtype, x._meta.device))
    for first in itertools.product(*(range(min(k, s)) for k, s in zip(size, stride))):      # every stride-th place at a time
        reach = tuple((k - 1 - r) // s + 1 for k, r, s in zip(size, first, stride))
        near, region = x._meta.view, whole
        for d, (b, n, m, r, s) in enumerate(zip(before, reach, blocks, first, stride), lead):
            near = slice_view(near, d, b + 1 - n, b + m, 1)
            region = slice_view(region, d, r, whole.shape[d], s)
        near = viewed(x, windows(near, reach, ones, ones, blocks))
        out = core.overwrite_region(out, region, _added(near, reach))
    for d, (m, p) in enumerate(zip(lengths, padding), lead):
        out = places(out, d, p, m, 1)
    return core.contiguous(out)


def _added(x, reach: tuple):
    """The sum over the last dimensions, one element after the other in the dtype of `x`."""
    if math.prod(reach) > UNROLLED ** 2:
        return fold(x, tuple(range(x.dim() - len(reach), x.dim())), "sum").reshape(x.shape[:-len(reach)])
    total = None
    for at in itertools.product(*map(range, reach)):
        term = x
        for i in reversed(at):
            term = term.select(-1, i)
        total = term if total is None else total + term
    return total


def overlap_add(x, tap: int, dim: int, stride: int, dilation: int, length: int):
    """Sums of parts that overlap: x holds part t at place t of dimension `tap` < dim, and along `dim` the positions p; each place of
    the result is the sum over all x[t, p] with t * dilation + p * stride there. The result lacks dimension `tap`."""
    size, count = x.shape[tap], x.shape[dim]
    before, blocks = (size - 1) * dilation // stride, -(-length // stride)
    padded = border(x, dim, before, max(0, blocks - count))
    return _interleaved(lambda t: padded.select(tap, t), size, stride, dilation, dim - 1, length, before)


def _interleaved(part, size: int, stride: int, dilation: int, dim: int, length: int, before: int):
    """The sum of the parts t < size shifted by t * dilation, every stride-th place at a time. `before` zeros precede each part."""
    blocks = -(-length // stride)
    out = None
    for r in range(stride):
        terms = [places(part(t), dim, before - t * dilation // stride, blocks, 1)
                 for t in range(size) if t * dilation % stride == r]
        if not terms:
            continue
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        if stride == 1:
            return total if len(terms) > 1 else core.contiguous(total)
        if out is None:
            shape = total._meta.view.shape
            out = core.zeros(meta(dense(shape[:dim] + (blocks * stride,) + shape[dim + 1:]), total._meta.dtype, total._meta.device))
        out = core.overwrite_region(out, slice_view(dense(out._meta.view.shape), dim, r, blocks * stride, stride), total)
    return out if blocks * stride == length else core.contiguous(places(out, dim, 0, length, 1))
