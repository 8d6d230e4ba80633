"""x[...] and x[...] = value, with integers, slices, None, ..., tensors of integers and masks (NumPy's rules)."""

from __future__ import annotations

from operator import index

import numpy as np

from ..base import dtype as dt
from ..base.grad_mode import mode
from ..graph.node import View
from ..graph.node import view as make_view
from ..ops import pointwise as pw
from ..ops.bounds import require_places
from ..ops.casts import WIDEST_ON_GPU, autocast
from ..ops.index import pick, put
from ..ops.layout import converted
from ..ops.overlap import check_apart, check_once
from ..ops.recall import Recollections, warn
from ..ops.record import broadcast_shapes, core, operator
from ..ops.view import region_grad, select_, viewed

Tensor = "Tensor"


ALL = (None, None, None)


def _basic_view(v: View, key: tuple) -> View:
    """`key`: integers, None, `...`, and slices as (start, stop, step)."""
    shape, strides, offset, d = [], [], v.offset, 0
    for k in _parse(v.shape, tuple([slice(*k) if type(k) is tuple else k for k in key]))[0]:
        if k is None:
            shape.append(1)
            strides.append(0)
            continue
        n, t = v.shape[d], v.strides[d]
        d += 1
        if k is ALL:
            shape.append(n)
            strides.append(t)
        elif type(k) is tuple:
            start, stop, step = k
            count = max(0, -(-(stop - start) // step))
            offset += start * t if count else 0
            shape.append(count)
            strides.append(t * step)
        else:
            offset += k * t
    return make_view(tuple(shape), tuple(strides), offset)


def _indexing(title: str):
    """The view that a key of `_basic_view` tells."""
    @operator(family="view", name=f"getitem_{title.lower()}", title=title, public=False, grad=dict(
        input=lambda g, input_shape, key: region_grad(g, input_shape, lambda v: _basic_view(v, key))))
    def basic(input: Tensor, key) -> Tensor:
        return viewed(input, _basic_view(input._meta.view, key))
    return basic


_BY_LAST = {int: _indexing("Select"), tuple: _indexing("Slice"), type(None): _indexing("Unsqueeze"), type(Ellipsis): _indexing("Alias")}


def _basic(t, key: tuple):
    """`t[key]`. It is one view, named as the last of those that PyTorch makes of it, one for each entry."""
    last = Ellipsis
    for k in key:
        if k is not Ellipsis and (k != ALL or len(key) == 1):
            last = k
    return _BY_LAST[type(last)](t, key)


def _as_index(k):
    """A tensor where `k` stands for one (arrays, lists, tuples, ranges), else `k`."""
    if isinstance(k, (list, tuple, range)):
        return core.tensor(k) if len(k) else core.tensor(k, dtype=dt.int64)
    return core.tensor(k) if isinstance(k, np.ndarray) else k


_ENTRIES = (list, tuple, range, np.ndarray, slice, type(None), type(Ellipsis))


def _entries(key) -> list:
    """The entries of a key. A short list stands for a tuple if it has entries that are more than numbers."""
    if isinstance(key, list) and len(key) < 32 and any([isinstance(k, (*_ENTRIES, core.Tensor)) for k in key]):
        warn("A list of several indices is read as a tuple of them, which is deprecated: later it may be read as one tensor of "
             "indices. Write x[tuple(indices)] or x[torch.tensor(indices)].")
        return list(key)
    return list(key) if isinstance(key, tuple) else [key]


def _expand(rank: int, key):
    """The key as a list with one entry for each dimension consumed, `...` filled in."""
    key = [_as_index(k) for k in _entries(key)]
    used = 0
    for k in key:
        if isinstance(k, core.Tensor) and k._meta.dtype in (dt.bool_, dt.uint8):
            if k._meta.dtype is dt.uint8:
                warn("indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead.")
            used += k.dim()
        elif k is not None and k is not Ellipsis and not isinstance(k, bool):
            used += 1
    if used > rank:
        if not rank:
            raise IndexError("invalid index of a 0-dim tensor. Use tensor.item() to convert it to a number.")
        raise IndexError(f"too many indices for tensor of dimension {rank}")
    fill = [slice(None)] * (rank - used)
    at = next((i for i, k in enumerate(key) if k is Ellipsis), None)
    if at is None:
        return key + fill
    return key[:at] + fill + [k for k in key[at + 1:] if k is not Ellipsis]


def _integer(k, n: int, d: int) -> int:
    if not -n <= k < n:
        raise IndexError(f"index {k} is out of bounds for dimension {d} with size {n}")
    return k % n


def _parse(shape: tuple, key):
    """What a key says of dimensions of `shape`: (the basic part, as `_basic` has it, every number within bounds, [(dimension of the basic
    result, index tensor or mask)])."""
    spec, tensors, d, out = [], [], 0, 0
    for k in _expand(len(shape), key):
        if k is None:
            spec.append(None)
            out += 1
        elif isinstance(k, (bool, np.bool_)):
            spec.append(None)
            tensors.append((out, core.tensor([bool(k)])))
            out += 1
        elif isinstance(k, slice):
            n = shape[d]
            start, stop, step = (index(x) if x is not None else None for x in (k.start, k.stop, k.step))
            if step is not None and step <= 0:
                raise ValueError("step must be greater than zero")
            start, stop, step = slice(start, stop, step).indices(n)
            spec.append(ALL if (start, step) == (0, 1) and stop == n else (start, stop, step))
            d += 1
            out += 1
        elif isinstance(k, core.Tensor):
            if k._meta.dtype in (dt.bool_, dt.uint8):
                count = k.dim()
                if tuple(k.shape) != shape[d:d + count]:
                    i = next(i for i in range(count) if k.shape[i] != shape[d + i])
                    raise IndexError(f"The shape of the mask {list(k.shape)} at index {i} does not match the shape of the indexed tensor "
                                     f"{list(shape)} at index {d + i}")
                if not count:
                    spec.append(None)
                    tensors.append((out, k.reshape(1)))
                    out += 1
                    continue
            elif k._meta.dtype.kind in "iu":
                count = 1
                if not k.dim() and k.storage.node.buffer is not None:
                    spec.append(_integer(int(k), shape[d], d))
                    d += 1
                    continue
            else:
                raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
            spec.extend([ALL] * count)
            tensors.append((out, k))
            d += count
            out += count
        elif hasattr(k, "__index__"):
            spec.append(_integer(k.__index__(), shape[d], d))
            d += 1
        else:
            raise IndexError(f"only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                            f"(got {type(k).__name__})")
    return tuple(spec), tensors


def _places(shape: tuple, tensors):
    """Index tensors for dimensions of a tensor of `shape`: (indices broadcast to the result, result shape, mapping)."""
    flat: list = []
    for d, k in tensors:
        if k._meta.dtype in (dt.bool_, dt.uint8):
            flat.extend((d + i, p) for i, p in enumerate(k.nonzero(as_tuple=True)))
        else:
            require_places("index", k, shape[d])
            flat.append((d, k))
    try:
        joint = broadcast_shapes("index", *[tuple(k.shape) for _, k in flat])
    except RuntimeError:
        raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                         + ", ".join(str(list(k.shape)) for _, k in flat)) from None
    indexed = [d for d, _ in flat]
    adjacent = indexed == list(range(indexed[0], indexed[0] + len(indexed)))
    front = indexed[0] if adjacent else 0
    kept = [d for d in range(len(shape)) if d not in indexed]
    before = [d for d in kept if d < front] if adjacent else []
    after = kept[len(before):]
    result = tuple(shape[d] for d in before) + joint + tuple(shape[d] for d in after)
    mapping: list = [None] * len(shape)
    for e, d in enumerate(before):
        mapping[d] = ("d", e)
    for e, d in enumerate(after):
        mapping[d] = ("d", len(before) + len(joint) + e)
    indices = []
    for j, (d, k) in enumerate(flat):
        mapping[d] = ("i", j)
        indices.append(k.reshape(tuple(k.shape) + (1,) * len(after)))
    return indices, result, tuple(mapping)


_BOUNDS = frozenset((int, type(None)))


def _spelled(key) -> tuple | None:
    """A key of integers, slices of integers, None and `...` as `_basic` has it; None for any other."""
    out = []
    for k in key if type(key) is tuple else (key,):
        if type(k) is slice:
            start, stop, step = k = k.start, k.stop, k.step
            if type(start) not in _BOUNDS or type(stop) not in _BOUNDS or type(step) not in _BOUNDS:
                return None
        elif type(k) is not int and k is not None and k is not Ellipsis:
            k = _known(k)
            if k is None:
                return None
        out.append(k)
    return tuple(out)


def _known(k) -> int | None:
    """The integer that a tensor without dimensions is whose value is in memory; None for anything else."""
    if type(k) is core.Tensor and not k._meta.view.shape and k._meta.dtype.kind in "iu" and k._meta.dtype is not dt.uint8 \
            and k.storage.node.buffer is not None:
        return k.item()
    return None


def getitem(t, key):
    shape = t._meta.view.shape
    if shape:
        at = key if type(key) is int else _known(key)
        if at is not None:
            return select_(t, 0, _integer(at, shape[0], 0))
    if isinstance(key, core.Tensor):
        found = core.chosen_at_once(t, key) if key._meta.dtype is dt.bool_ and type(key) is type(t) is core.Tensor else None
        return _picks[type(t), type(key)](t, key) if found is None else found
    basic = _spelled(key)
    return _picks[type(t), type(key)](t, key) if basic is None else _basic(t, basic)


def _picked(t, key):
    spec, tensors = _parse(t._meta.view.shape, key)
    basic = t if tensors and all(k is ALL for k in spec) else _basic(t, spec)
    if len(tensors) == 1:
        basic, tensors = _flat(basic, *tensors[0])
    return pick(basic, *_places(basic._meta.view.shape, tensors), follow=True) if tensors else basic


def _flat(t, d: int, k) -> tuple:
    """(tensor, [(d, index)]) for an index from dimension d on; a mask of several dimensions that are one in memory is of one here."""
    v, rank = t._meta.view, k.dim()
    if rank < 2 or k._meta.dtype not in (dt.bool_, dt.uint8) or \
            any(v.strides[i] != v.strides[i + 1] * v.shape[i + 1] for i in range(d, d + rank - 1)):
        return t, [(d, k)]
    return t.reshape(v.shape[:d] + (k.numel(),) + v.shape[d + rank:]), [(d, k.reshape(-1))]


_picks = Recollections(_picked)


_INTEGERS, _NUMBERS = frozenset((int,)), frozenset((bool, int, float))


def setitem(t, key, value) -> None:
    shape = t._meta.view.shape
    spec, tensors = _spelled(key), ()
    if spec is None:
        spec, tensors = _parse(shape, key)
    elif type(value) in _NUMBERS and len(spec) == len(shape) and _INTEGERS.issuperset(map(type, spec)) and not (t._rg and mode.grad) \
            and core.put_at_once(t, spec, value):
        return
    whole = all([k is Ellipsis or k == ALL for k in spec]) and len(spec) - spec.count(Ellipsis) <= len(shape)
    target = t if whole else _basic(t, spec)
    if not isinstance(value, core.Tensor):
        value = core.tensor(value, dtype=t.dtype) if not isinstance(value, (int, float, bool)) else converted(value, t._meta.dtype)
    if not tensors:
        _write(target, value)
        return
    mask = tensors[0][1]
    shape = target._meta.view.shape
    if len(tensors) == 1 and mask._meta.dtype is dt.bool_ and (not isinstance(value, core.Tensor) or not value.dim()):
        d = tensors[0][0]
        mask = mask.reshape((1,) * d + tuple(mask.shape) + (1,) * (len(shape) - d - mask.dim()))
        if isinstance(value, core.Tensor):
            value = value.to(t.dtype)
        core.inplace(target, lambda x: pw.where(mask, value, x).to(t.dtype), (), repeated=True)
        return
    indices, result, mapping = _places(shape, tensors)
    if not isinstance(value, core.Tensor):
        value = core.tensor(value, dtype=t.dtype)
    value = _fit(value.to(t.dtype), result)
    check_apart("index_put_", target, (value, *indices), True)
    core.inplace(target, lambda x: put(x, value, indices, result, mapping, "set"), (), repeated=True)


def _fit(value, shape):
    """`value` with leading dimensions of 1 dropped where that makes it broadcast."""
    while value.dim() > len(shape) and value.shape[0] == 1:
        value = value.squeeze(0)
    try:
        return value.expand(shape)
    except RuntimeError:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of shape "
                           f"{list(shape)}") from None


def _write(target, value) -> None:
    if isinstance(value, core.Tensor):
        if value.storage is target.storage and value._meta is target._meta and not (mode.grad and value._rg):
            value.storage.version += not value._untracked       # x[i] += 1 has written there
            return
        shape, own = target._meta.view.shape, value._meta.view.shape
        target.copy_(value if own == shape else value.expand(shape) if len(own) <= len(shape) else _fit(value, shape))
    else:
        if not target._meta.view.dense:
            check_once("copy_", target)
        target.fill_(value)


@autocast(WIDEST_ON_GPU)
def index_put(input, indices, values, accumulate=False):
    """`input` with `values` written (or added) at the places given by a tuple of index tensors."""
    spec, tensors = _parse(input._meta.view.shape, tuple(indices))
    places, result, mapping = _places(input._meta.view.shape, tensors)
    return put(input, _fit(values, result), places, result, mapping, "sum" if accumulate else "set")


def _clamped(input, indices) -> list:
    """The index tensors (None: a whole dimension) with places outside of their dimensions moved to the nearest inside."""
    return [slice(None) if i is None else pw.clamp(i, -n, n - 1) for i, n in zip(indices, input.shape)]


@operator(name="_unsafe_masked_index", method=False, out=False,
          samples=lambda t: [t(3, 4), t.flags(5), [t.integers(5, below=3), t.integers(5, below=4)], 0.5])
def unsafe_masked_index(input: Tensor, mask, indices, fill) -> Tensor:
    """`input[indices]` where the mask holds, else `fill`; where it does not, an index may be out of range."""
    return pw.where(mask, getitem(input, tuple(_clamped(input, indices))), fill)


@operator(name="_unsafe_masked_index_put_accumulate", method=False, out=False,
          samples=lambda t: [t(3, 4), t.flags(5), [t.integers(5, below=3), t.integers(5, below=4)], t(5)])
def unsafe_masked_index_put_accumulate(input: Tensor, mask, indices, values: Tensor) -> Tensor:
    """`input` with `values` added at the places where the mask holds; where it does not, an index may be out of range."""
    return index_put(input, _clamped(input, indices), pw.where(mask, values, 0), True)
