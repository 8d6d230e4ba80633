"""How the elements of a result lie in memory: PyTorch's rules.

A result of elements lies as its operands do (`of_elements`), a copy as what it is a copy of (`of_copy`), unless a memory format is asked
for. What is here takes index maps and gives index maps; all of them fill their memory, so that they are a permutation of the dimensions
away from row-major order (`order`).
"""

from __future__ import annotations

from functools import wraps

from ..base.errors import message
from ..base.formats import channels_last, channels_last_3d, contiguous_format, memory_format, preserve_format
from ..graph.node import View, dense, is_row_major, ordered
from ..graph.node import view as make_view
from .layout import core

CHANNELS_LAST = {channels_last: 4, channels_last_3d: 5}       # format -> the number of dimensions it is for


def stacked(shape: tuple, inward) -> View:
    """The map that fills memory with the dimensions in the order of `inward`, the one that runs fastest first."""
    strides, step = [0] * len(shape), 1
    for d in inward:
        strides[d] = step
        step *= max(shape[d], 1)
    return make_view(shape, tuple(strides))


def _channels_inward(rank: int) -> tuple:
    return (1, *range(rank - 1, 1, -1), 0)


def of_format(what: str, shape: tuple, fmt: memory_format) -> View:
    """The map of a new tensor in a format other than preserve_format."""
    if fmt is contiguous_format:
        return dense(shape)
    rank = CHANNELS_LAST.get(fmt)
    if rank is None:
        raise RuntimeError(message(what, "a memory format of its own", f"{fmt}", "There is nothing whose format could be preserved: give "
                                   "torch.contiguous_format or torch.channels_last. (unsupported memory format)"))
    if len(shape) != rank:
        raise RuntimeError(message(what, f"a tensor of {rank} dimensions", f"shape {list(shape)}",
                                   f"(required rank {rank} tensor to use {fmt.name} format)"))
    return stacked(shape, _channels_inward(rank))


def lies_in(v: View, fmt: memory_format) -> bool:
    """Whether a map is that of a tensor in a format."""
    if fmt not in CHANNELS_LAST:
        return v.numel == 0 or is_row_major(v.shape, v.strides)
    if len(v.shape) != CHANNELS_LAST[fmt]:
        return False
    step = 1
    for d in _channels_inward(len(v.shape)):
        if v.shape[d] != 1:
            if v.strides[d] != step:
                return False
            step *= v.shape[d]
    return True


def suggested(v: View) -> memory_format:
    """The format in which operators on images give their results for an input: channels_last where its strides look like it."""
    found = v.memo.get("format")
    if found is None:
        found = v.memo["format"] = _suggested(v)
    return found


def _suggested(v: View) -> memory_format:
    rank = len(v.shape)
    if rank not in (4, 5) or v.strides[1] == 0:
        return contiguous_format
    least = 0
    for d in _channels_inward(rank):
        if v.shape[d] == 0 or v.strides[d] < least or d == 0 and least == v.strides[1]:     # the last: (N, 1, 1, 1) is ambiguous
            return contiguous_format
        least = v.strides[d] * v.shape[d] if v.shape[d] > 1 else v.strides[d]
    return channels_last if rank == 4 else channels_last_3d


def fills(v: View) -> bool:
    """Whether a map reads each place of a span of memory once."""
    if v.dense:
        return True
    step = 1
    for t, n in sorted((t, n) for n, t in zip(v.shape, v.strides) if n != 1):
        if n == 0 or t != step:
            return n == 0
        step *= n
    return True


def of_copy(what: str, v: View, fmt: memory_format) -> View:
    """The map of a copy of what `v` reads: its strides, or without gaps and repetitions its order of dimensions, if that is preserved."""
    if fmt is not preserve_format:
        return of_format(what, v.shape, fmt)
    if v.dense and v.numel:
        return v
    found = v.memo.get("copy")
    if found is None:
        found = v.memo["copy"] = make_view(v.shape, v.strides) if fills(v) else stacked(v.shape, _inward([v], v.shape))
    return found


def of_elements(views: list, shape: tuple, alone: bool = True) -> View:
    """The map of a result of `shape` computed element by element of operands with the given maps. `alone`: no operand is a number."""
    if alone and all(v.shape == shape for v in views):
        if all(lies_in(v, contiguous_format) for v in views):
            return dense(shape)
        if all(lies_in(v, channels_last) for v in views):
            return stacked(shape, _channels_inward(len(shape)))
        if all(v.strides == views[0].strides for v in views) and fills(views[0]):
            return make_view(shape, views[0].strides)
    inward = _inward(views, shape)
    return dense(shape) if inward == list(range(len(shape)))[::-1] else stacked(shape, inward)


def of_picked(views: list, shape: tuple) -> View:
    """The map of x[indices]: `views` are those that x and the indices are read through, for each element of the result."""
    return stacked(shape, _inward(views, shape))


def _inward(views: list, shape: tuple) -> list:
    """The dimensions of a result, the one that runs fastest first: sorted by the first operand that tells two apart."""
    rank = len(shape)
    strides = []
    for v in views:
        skip = rank - len(v.shape)
        strides.append([0] * skip + [0 if n == 1 != m else t for n, t, m in zip(v.shape, v.strides, shape[skip:])])

    def compared(a: int, b: int) -> int:
        for t in strides:
            if t[a] and t[b]:
                if t[a] != t[b]:
                    return 1 if t[a] > t[b] else -1
                if shape[a] > shape[b]:
                    return 1
        return 0

    out = list(range(rank))[::-1]
    for i in range(1, rank):        # an insertion sort that skips what it cannot tell apart: the relation is no order
        moved = i
        for j in range(i - 1, -1, -1):
            sign = compared(out[j], out[moved])
            if sign < 0:
                break
            if sign > 0:
                out[j], out[moved] = out[moved], out[j]
                moved = j
    return out


def order(v: View) -> tuple | None:
    """The dimensions in the order in which they lie in memory, the outermost first; None where that is their own."""
    found = v.memo.get("order")
    if found is None:
        found = tuple(sorted(range(len(v.shape)), key=lambda d: (-v.strides[d], d))) if not is_row_major(v.shape, v.strides) else ()
        v.memo["order"] = found
    return found or None


def reordered(v: View, dims: tuple | None) -> View:
    """The map with its dimensions in another order."""
    return v if dims is None else ordered(v, dims)


def keeping_format(body):
    """Decorates a function of images whose results lie in the memory format that its first argument suggests."""
    @wraps(body)
    def call(input, *args, **kwargs):
        result = body(input, *args, **kwargs)
        fmt = suggested(input._meta.view)
        return tuple([in_format(x, fmt) for x in result]) if isinstance(result, tuple) else in_format(result, fmt)
    return call


def in_order(x):
    """A tensor in row-major order: itself, or a copy."""
    return x if x.is_contiguous() else core.contiguous(x)


def in_format(x, fmt: memory_format):
    """A tensor in a format: itself if it lies so, else a copy. None, and a tensor of other dimensions than the format's, as it is."""
    if x is None or fmt in CHANNELS_LAST and x.dim() != CHANNELS_LAST[fmt] or lies_in(x._meta.view, fmt):
        return x
    return core.laid_out(x, of_format("contiguous", x._meta.view.shape, fmt))
