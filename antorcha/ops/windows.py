"""What convolution and pooling share: arguments given once or per dimension, windows as index maps, zeros or a constant around a tensor."""

from __future__ import annotations

from ..base.errors import message
from ..graph.node import View, dense, view as make_view
from .record import core, operator
from .view import region_grad, slice_view, viewed

Tensor = "Tensor"


def each(what: str, name: str, x, n: int) -> tuple:
    """`x` for each of n dimensions: one integer for all, or a sequence of n (or of one)."""
    if not isinstance(x, (tuple, list)):
        return (int(x),) * n
    if len(x) == 1:
        return (int(x[0]),) * n
    if len(x) != n:
        raise RuntimeError(message(what, f"{name} to be one integer or {n}", f"{list(x)}"))
    return tuple(int(v) for v in x)


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


def surround_view(v: View, amounts: tuple) -> View:
    """The part of `v` that is left when (before, after) elements are taken off its last dimensions."""
    lead = len(v.shape) - len(amounts)
    for d, (before, after) in enumerate(amounts, lead):
        v = slice_view(v, d, before, v.shape[d] - after, 1)
    return v


@operator(name="constant_pad_nd", public=False, grad=dict(input=lambda g, amounts: crop(g, amounts)))
def surround(input: Tensor, amounts, value):
    """`value` around the last dimensions of `input`: (before, after) of each, none negative."""
    shape = input.meta.view.shape
    lead = len(shape) - len(amounts)
    shape = shape[:lead] + tuple(n + a + b for n, (a, b) in zip(shape[lead:], amounts))
    whole = core.full(shape, value, input.meta.dtype, input.meta.device)
    return core.overwrite_region(whole, surround_view(dense(shape), amounts), input) if input.meta.view.numel else whole


@operator(name="crop", public=False, family="view",
          grad=dict(input=lambda g, input_shape, amounts: region_grad(g, input_shape, lambda v: surround_view(v, amounts))))
def crop(input: Tensor, amounts):
    """The last dimensions without (before, after) elements each, as a view."""
    return viewed(input, surround_view(input.meta.view, amounts))
