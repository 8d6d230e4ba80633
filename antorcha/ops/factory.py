"""Operators that make tensors from nothing. Their values are computed inside whatever kernel reads them."""

from __future__ import annotations

import math

from ..base import dtype as dt
from ..base.formats import preserve_format
from ..graph.node import Node, Static, dense, form
from .layout import fitting
from .placement import device_name, place
from .recall import deprecated
from .record import Record, check_tensor, core, meta, number, rounded, whole
from .strides import of_copy, of_format
from .view import given_size, sizes

FULL = Record("full", "pointwise", scalar=lambda v: v)
EMPTY = Record("empty", "pointwise", scalar=lambda v: v)
BLANK = Record("blank", "pointwise", scalar=lambda v: v, unread=True)      # all of it is written over


def _range(start, step, i):
    return start + i.cast(start.dtype) * step


ARANGE = Record("arange", "pointwise", scalar=_range, uses_index=True)
COUNT = Record("arange", "pointwise", scalar=lambda i: i, uses_index=True)     # from 0 by 1: vectors have no product of 64-bit integers


_NUMBERS = frozenset((bool, int, float))
_full: dict[tuple, tuple] = {}      # (shape, dtype, device, operator) -> (form, layout)


def full_of(shape: tuple, value, d: dt.dtype, device=None, op=FULL, layout=None):
    """A tensor of `shape` with one value (as `number` gives it), without any checks; `layout`: an index map that fills its memory."""
    known = _full.get((shape, d, device, op))
    if known is not None and layout is None and type(value) in _NUMBERS:
        return core.record(known[0], (value,), known[1])
    out = dense(shape)
    if layout is not None and layout is not out:
        return core.tensor_on(full_of((layout.numel,), value, d, device, op).storage, meta(layout, d, device or "cpu"))
    if isinstance(value, complex):
        value = number(value)
    if d.opaque:
        return core.recode(full_of(shape, value, dt.float32, device, op), d)
    if isinstance(value, core.Tensor):
        return place(core.contiguous(core.cast(value, d).expand(shape)), device or "cpu")
    if len(_full) > 10_000:
        _full.clear()
    known = _full[shape, d, device, op] = \
        form(op, (None,), Static(casts=(d,), device=device or "cpu"), shape, out.numel, d), meta(out, d, device)
    return core.record(known[0], (value,), known[1])


def finish(out, requires_grad: bool, pin_memory: bool = False):
    """What is still asked of a new tensor; see `Tensor.pin_memory`."""
    out = out.pin_memory() if pin_memory else out
    return out.requires_grad_() if requires_grad else out


def new_size(what: str, size: tuple, given: dict) -> tuple:
    """The shape of a new tensor; see `given_size`."""
    shape = given_size(what, size, given)
    for n in shape:
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(shape)}")
    return shape


def _filled(name: str, value, text: str):
    def factory(*size, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, memory_format=None,
                generator=None, names=None, **given):
        shape = new_size(name, size, given)
        if memory_format is not None and name != "empty":
            raise TypeError(f"{name}() got an unexpected keyword argument 'memory_format'")
        layout = None if memory_format is None else of_format(name, shape, memory_format)
        result = full_of(shape, value, dt.asked(name, dtype, dt.default()), device_name(device), EMPTY if name == "empty" else FULL, layout)
        if out is not None:
            return core.store_out(name, out, result)
        return finish(result, requires_grad, pin_memory)
    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = f"A tensor of the given size {text}."

    def like(input, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=preserve_format, pin_memory=False):
        check_tensor(f"{name}_like", "input", input, 1)
        m = input._meta
        result = full_of(m.view.shape, value, dt.asked(f"{name}_like", dtype, m.dtype), m.device if device is None else device_name(device),
                         layout=of_copy(f"{name}_like", m.view, memory_format or preserve_format))
        return finish(result, requires_grad, pin_memory)
    like.__name__ = like.__qualname__ = f"{name}_like"
    like.__doc__ = f"A tensor with the shape, the dtype and (unless a memory format is given) the order in memory of `input` {text}."
    return factory, like


zeros, zeros_like = _filled("zeros", 0, "filled with 0")
ones, ones_like = _filled("ones", 1, "filled with 1")
empty, empty_like = _filled("empty", 0, "whose values have no meaning (they are 0 here)")


def full(size, fill_value, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, names=None):
    """A tensor of the given size filled with one value."""
    if isinstance(fill_value, core.Tensor):
        fill_value = fill_value.item()
    value = number(fill_value)
    if value is None:
        raise TypeError(f"full(): argument 'fill_value' must be Number, not {type(fill_value).__name__}")
    dtype = dt.asked("full", dtype) or (
        value.dtype
        if isinstance(value, core.Tensor)
        else dt.bool_
        if type(value) is bool
        else dt.int64
        if type(value) is int
        else dt.default()
    )
    result = full_of(new_size("full", (size,), {}), number(fitting(fill_value, dtype)), dtype, device_name(device))
    return finish(result, requires_grad, pin_memory) if out is None else core.store_out("full", out, result)


def full_like(input, fill_value, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=preserve_format,
              pin_memory=False):
    """A tensor with the shape, the dtype and (unless a memory format is given) the order in memory of `input` filled with one value."""
    check_tensor("full_like", "input", input, 1)
    m = input._meta
    result = full(m.view.shape, fill_value, dtype=dtype or m.dtype, device=device or m.device)
    wanted = of_copy("full_like", m.view, memory_format or preserve_format)
    return finish(core.tensor_on(result.storage, meta(wanted, result._meta.dtype, result._meta.device)), requires_grad, pin_memory)


def empty_strided(size, stride, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """An uninitialised tensor with the given strides."""
    count = 1 + sum((n - 1) * t for n, t in zip(size, stride)) if 0 not in size else 0
    return finish(empty(count, dtype=dtype, device=device, pin_memory=pin_memory).as_strided(size, stride), requires_grad)


def empty_permuted(size, physical_layout, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """An uninitialised tensor whose dimensions lie in memory in the given order, outermost first."""
    size, order = sizes("empty_permuted", (size,)), [int(d) for d in physical_layout]
    if len(order) != len(size):
        raise RuntimeError(
            f"Number of dimensions in size does not match the length of the physical_layout; i.e. len(size) = {len(size)} is not "
            f"equal to len(physical_layout) = {len(order)}"
        )
    if any(not 0 <= d < len(size) for d in order):
        raise RuntimeError(f"Dimension out of range (expected to be between 0 and {len(size) - 1}, but got {order}).")
    if len(set(order)) < len(order):
        raise RuntimeError(f"Duplicate dim not allowed: received {order}")
    plain = empty(tuple(size[d] for d in order), dtype=dtype, device=device, requires_grad=requires_grad,
                  pin_memory=pin_memory)
    return plain.permute(tuple(order.index(d) for d in range(len(size))))


def scalar_tensor(s, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """A tensor without dimensions with one value, of the default dtype unless given."""
    return full((), s, dtype=dtype or dt.default(), device=device, requires_grad=requires_grad, pin_memory=pin_memory)


def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A vector on the memory of an object with Python's buffer protocol, from byte `offset` on."""
    import numpy as np
    size = memoryview(buffer).nbytes
    if not size:
        raise ValueError("both buffer length (0) and count (-1) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) minus 1")
    if count < 0 and (size - offset) % dtype.itemsize:
        raise ValueError(
            f"buffer length ({size - offset} bytes) after offset ({offset} bytes) must be a multiple of element size ({dtype.itemsize})"
        )
    if count > 0 and offset + count * dtype.itemsize > size:
        raise ValueError(
            f"requested buffer length ({count} * {dtype.itemsize} bytes) after offset ({offset} bytes) must not be greater than actual "
            f"buffer length ({size} bytes)"
        )
    array = np.frombuffer(buffer, dtype.memory, count, offset)
    shared = core.on_memory(array)
    return finish(shared if dtype.numpy is not None else core.bitcast(shared, dtype), requires_grad)


def arange(start, end=None, step=1, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """Numbers from `start` (0) up to but excluding `end`, by `step`."""
    if end is None:
        start, end = 0, start
    dtype = dt.asked("arange", dtype, out.dtype if out is not None else None)
    start, end, step = (x.item() if isinstance(x, core.Tensor) else number(x) for x in (start, end, step))
    if dtype is None:
        dtype = dt.default() if any(type(x) is float for x in (start, end, step)) else dt.int64
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if dtype.kind in "iu" and not int(step):
        raise ValueError(f"step must be nonzero: expected one of at least 1 for {dtype}; received {step}")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    count = max(0, math.ceil((end - start) / step)) if any(type(x) is float for x in (start, end, step)) else -(-(end - start) // step)
    if dtype.kind in "iub":
        start, step = int(start), int(step)
    result = ramp(start, step, count, dtype, device_name(device))
    return finish(result, requires_grad, pin_memory) if out is None else core.store_out("arange", out, result)


def ramp(start, step, count: int, dtype: dt.dtype, device=None):
    """start + i * step for i below `count`, computed in float64 or int64, then cast."""
    wide = dt.float64 if dtype.kind == "f" else dt.int64
    start, step = (float(start), float(step)) if wide is dt.float64 else (start, step)
    out = dense((count,))
    plain = wide is dt.int64 and (start, step) == (0, 1)
    op, inputs = (COUNT, ()) if plain else (ARANGE, (start, step))
    node = Node.of(op, inputs, (None,) * len(inputs), Static(casts=(wide,) * len(inputs), device=device or "cpu"), (count,), count, wide)
    result = core.make(node, meta(out, wide, device))
    return rounded(result, dtype)


def range_(start=0, end=None, step=1, **kwargs):
    """Like arange, including `end`."""
    deprecated("torch.range", "torch.arange, which leaves out the end,")
    return arange(start, end + step, step, **{"dtype": dt.default(), **kwargs})


def _ends(name, start, end, steps):
    """The ends of a sequence as numbers; TypeError for a number of steps that is none."""
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise TypeError(
            f"{name}() received an invalid combination of arguments: expected steps to be an int; received {type(steps).__name__}"
        )
    for x in (start, end):
        if isinstance(x, core.Tensor) and x.dim():
            raise RuntimeError(f"{name} only supports 0-dimensional start and end tensors; received one of {x.dim()} dimensions")
    return [x.item() if isinstance(x, core.Tensor) else x for x in (start, end)]


def linspace(start, end, steps, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """`steps` numbers evenly spaced from `start` to `end`, both included."""
    start, end = _ends("linspace", start, end, steps)
    dtype = dt.asked("linspace", dtype, out.dtype if out is not None else dt.default())
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    # As in PyTorch, the gap is rounded to the dtype, and the second half counts back from the end, so that both ends are exact.
    gap = dtype.round(dtype.round(end - start) / dtype.round(steps - 1)) if steps > 1 else 0.0
    device = device_name(device)
    if dtype.compute is not dtype:      # the distance from the end is rounded, too
        low, high = ramp(0, 1, steps // 2, dtype, device) * gap, ramp(steps - steps // 2 - 1, -1, steps - steps // 2, dtype, device) * gap
        result = core.cat([low + start, end - high], 0)
    else:
        low = ramp(start, gap, steps // 2, dt.float64, device)
        high = ramp(end - gap * (steps - steps // 2 - 1), gap, steps - steps // 2, dt.float64, device)
        result = rounded(core.cat([low, high], 0), dtype)
    result = result if steps > 1 else rounded(ramp(start, 0, steps, dt.float64, device), dtype)
    return finish(result, requires_grad, pin_memory) if out is None else core.store_out("linspace", out, result)


def logspace(start, end, steps, base=10.0, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """base to the powers linspace(start, end, steps)."""
    start, end = _ends("logspace", start, end, steps)
    wide = (
        dt.complex128 if any(isinstance(x, complex) for x in (start, end, base)) or dtype is not None and dtype.kind == "c" else dt.float64
    )
    powers = linspace(start, end, steps, dtype=wide, device=device)
    result = (complex(base) if wide is dt.complex128 else float(base)) ** powers
    result = result.to(dt.asked("logspace", dtype, out.dtype if out is not None else dt.default()))
    return finish(result, requires_grad, pin_memory) if out is None else core.store_out("logspace", out, result)


def eye(n, m=None, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """The identity matrix, n x m."""
    m = n if m is None else m
    whole("eye", "n", n, 1)
    whole("eye", "m", m, 2)
    if n < 0 or m < 0:
        raise RuntimeError(f"n must be greater or equal to 0, got {n}")
    result = (arange(n, device=device).unsqueeze(1) == arange(m, device=device)).to(dt.asked("eye", dtype, dt.default()))
    return finish(result, requires_grad, pin_memory) if out is None else core.store_out("eye", out, result)


def tril_mask(rows: int, columns: int, diagonal: int = 0):
    """Whether the column is at most the row and `diagonal`. Without one there is no number: plans may count on it (graph/triangle.py)."""
    row, column = core.arange(rows).unsqueeze(1), core.arange(columns)
    return column <= row if diagonal == 0 else column - row <= diagonal


def tril_indices(row, col, offset=0, *, dtype=None, device=None, layout=None):
    """The indices of the lower triangle, 2 x count."""
    import numpy as np
    indices = core.from_numpy(np.stack(np.tril_indices(row, offset, col)))
    return place(indices.to(dt.asked("tril_indices", dtype, dt.int64)), device_name(device))


def triu_indices(row, col, offset=0, *, dtype=None, device=None, layout=None):
    """The indices of the upper triangle, 2 x count."""
    import numpy as np
    indices = core.from_numpy(np.stack(np.triu_indices(row, offset, col)))
    return place(indices.to(dt.asked("triu_indices", dtype, dt.int64)), device_name(device))


FUNCTIONS = [
    zeros,
    zeros_like,
    ones,
    ones_like,
    empty,
    empty_like,
    full,
    full_like,
    empty_strided,
    empty_permuted,
    scalar_tensor,
    frombuffer,
    arange,
    linspace,
    logspace,
    eye,
    tril_indices,
    triu_indices,
]
