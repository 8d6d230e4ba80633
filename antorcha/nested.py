"""torch.nested: batches of tensors that differ in the length of one dimension, without padding.

A `NestedTensor` of shape (B, j, D, ...) keeps its B components one after the other: `values` of shape (sum of the lengths, D, ...), and
`offsets` ((B + 1,), int64) where each begins. What works element by element, or along other dimensions than the first and the ragged one,
is computed from the values alone, in one go, and so is its derivative; what goes along the ragged dimension (attention, a sum over time) is
computed for each component. Whatever else refuses, and says what to do instead.
"""

from __future__ import annotations

import itertools

import numpy as np

from .base.dtype import bool_
from .base.formats import Size, jagged, strided
from .core import override
from .core.arrays import as_tensor, from_numpy, tensor
from .core.override import unasked
from .core.tensor import Tensor, plain
from .graph.node import view as make_view
from .nn import functional as F
from .ops import factory
from .ops.joining import cat, stack
from .ops.record import RECORDS, meta, normalize_dim

_numbers = itertools.count(1)


class Ragged:
    """The length of a ragged dimension: equal to itself alone, since it stands for one length of each component."""

    def __init__(self):
        self.number = next(_numbers)

    def __repr__(self) -> str:
        return f"j{self.number}"


def _lengths_of(offsets) -> list[int]:
    ends = offsets.tolist()
    return [b - a for a, b in itertools.pairwise(ends)]


class NestedTensor(Tensor):
    """See the module's text. `ragged` is the number of the ragged dimension, 1 unless transposed."""

    is_nested = True

    def __new__(cls, values, offsets, ragged: int = 1, layout=jagged):
        self = plain(cls)
        length = offsets.__dict__.setdefault("_ragged", None) or Ragged()
        offsets.__dict__["_ragged"] = length
        shape = (offsets.shape[0] - 1, *values.shape[:ragged - 1], length, *values.shape[ragged:])
        self._meta = meta(make_view((values.numel(),), (0,)), values._meta.dtype, values._meta.device)
        self.__dict__.update(_held=values, _begins=offsets, _at=ragged, _layout=layout, _shape=tuple.__new__(Size, shape))
        return self

    def __init__(self, *args, **kwargs):
        pass

    def _like(self, values, ragged: int | None = None) -> NestedTensor:
        """Other values of components of the same lengths."""
        return NestedTensor(values, self._begins, self._at if ragged is None else ragged, self._layout)

    # -- what it is ---------------------------------------------------------------------------------------------

    layout = property(lambda self: self._layout)
    shape = property(lambda self: self._shape)
    ndim = property(lambda self: len(self._shape))
    requires_grad = property(lambda self: self._held.requires_grad, lambda self, wanted: self.requires_grad_(wanted))
    is_leaf = property(lambda self: self._held.is_leaf)
    grad_fn = property(lambda self: self._held.grad_fn)
    grad = property(lambda self: None if self._held.grad is None else self._like(self._held.grad),
                    lambda self, value: setattr(self._held, "grad", None if value is None else value._held))

    def requires_grad_(self, requires_grad=True):
        self._held.requires_grad_(requires_grad)
        return self

    def dim(self) -> int:
        return len(self._shape)

    def numel(self) -> int:
        return self._held.numel()

    def size(self, dim=None):
        """The shape, or one length of it. RuntimeError for the ragged one of layout strided."""
        if dim is None:
            return self._shape
        n = self._shape[normalize_dim("size", dim, self.dim())]
        if n is self._shape[self._at] and self._layout is strided:
            lengths = set(_lengths_of(self._begins))
            if len(lengths) != 1:
                raise RuntimeError(f"Given dimension {dim} is irregular and does not have a size.")
            return lengths.pop()
        return n

    def values(self):
        """The elements of all components, one after the other along the ragged dimension."""
        return self._held

    def offsets(self):
        """Where each component begins, and where the last one ends."""
        return self._begins

    def lengths(self):
        """None: components follow each other without gaps."""

    def unbind(self, dim=0) -> tuple:
        """The components."""
        if dim != 0:
            raise RuntimeError(f"unbind: expected dim=0 of a nested tensor; received {dim}. Take parts of its values: x.values()")
        return self._held.split(_lengths_of(self._begins), self._at - 1)

    def __len__(self) -> int:
        return self._shape[0]

    def __iter__(self):
        return iter(self.unbind())

    def __getitem__(self, key):
        if not isinstance(key, int):
            raise NotImplementedError(f"nested tensor: expected the number of a component as an index; received {type(key).__name__}. "
                                      "Index its components (x.unbind()) or its values (x.values())")
        return self.unbind()[key]

    def to_padded_tensor(self, padding, output_size=None):
        """A dense tensor of the longest length (or of `output_size`), `padding` where a component has nothing."""
        parts = [x.movedim(self._at - 1, 0) for x in self.unbind()]
        longest = max(len(x) for x in parts)
        out = stack([F.pad(x, (0, 0) * (x.dim() - 1) + (0, longest - len(x)), value=padding) for x in parts]).movedim(1, self._at)
        if output_size is None:
            return out
        if len(output_size) != out.dim() or any(n < m for n, m in zip(output_size, out.shape)):
            raise RuntimeError(f"to_padded_tensor: expected an output_size of at least {list(out.shape)}; received {list(output_size)}. "
                               "(Value in output_size is less than NestedTensor padded size. Truncation is not supported.)")
        missing = [n - m for n, m in zip(output_size, out.shape)]
        return F.pad(out, [x for n in reversed(missing) for x in (0, n)], value=padding)

    def __repr__(self, *, tensor_contents=None) -> str:
        if self._layout is strided:
            parts = ",\n".join(str(x) for x in self.unbind())
            return "nested_tensor([\n" + "\n".join(f"  {line}" for line in parts.splitlines()) + "\n])"
        history = f", grad_fn={self.grad_fn}" if self.grad_fn is not None else ", requires_grad=True" if self.requires_grad else ""
        return f"NestedTensor(size={tuple(self._shape)}, offsets={self._begins}{history}, contiguous=True)"

    __str__ = __repr__

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        name = (override.resolve(func) or getattr(func, "__name__", "?")).removesuffix(".__get__").rpartition(".")[2]
        how = _HOW.get(name)
        if how is None and (name.rstrip("_") in RECORDS and RECORDS[name.rstrip("_")].family == "pointwise"
                            or name.removeprefix("__").removesuffix("__") in _SIGNS):
            how = _elementwise
        if how is None and (override.resolve(func) or "").endswith("__get__"):
            return unasked(func, args, kwargs or {})
        if how is None:
            raise NotImplementedError(f"{name}: nested tensors are not supported. Pad it (x.to_padded_tensor(0.0)), or take its "
                                      "components (x.unbind()) or its values (x.values()).")
        return how(name, func, *args, **kwargs or {})


# -- how functions are computed -----------------------------------------------------------------------------------

def _first(args) -> NestedTensor:
    return next(x for x in args if isinstance(x, NestedTensor))


def _beside(name: str, like: NestedTensor, x):
    """An operand as the values of `like` meet it."""
    if isinstance(x, NestedTensor):
        if x._begins is not like._begins or x._at != like._at:
            raise RuntimeError(f"cannot call binary pointwise function {name} with inputs of shapes {tuple(like.shape)} and "
                               f"{tuple(x.shape)}: expected the same offsets. Make one of the other's: nested_tensor_from_jagged(values, "
                               "x.offsets())")
        return x._held
    if not isinstance(x, Tensor) or x.dim() < like.dim() - like._at:
        return x
    place = x.dim() - like.dim() + like._at         # of the ragged dimension
    if x.shape[place] != 1:
        raise RuntimeError(f"{name}: expected a tensor of length 1 along the ragged dimension of {tuple(like.shape)}; received "
                           f"{list(x.shape)}")
    if x.dim() < like.dim():
        return x
    if x.shape[0] == 1:
        return x.squeeze(0)
    lengths = like._begins.diff()
    return x.select(like._at, 0).repeat_interleave(lengths, 0).movedim(0, like._at - 1)


def _elementwise(name, func, *args, **kwargs):
    like = _first((*args, *kwargs.values()))
    result = func(*[_beside(name, like, x) for x in args], **{k: _beside(name, like, x) for k, x in kwargs.items()})
    return args[0] if result is like._held else like._like(result)


def _of_values(name, func, input, *args, **kwargs):
    """Functions along the last dimensions, which are not the ragged one."""
    if input._at == input.dim() - 1:
        raise RuntimeError(f"{name}: expected a nested tensor whose last dimension is not the ragged one; received {tuple(input.shape)}")
    return input._like(func(input._held, *args, **kwargs))


def _embedded(name, func, input, weight, *args, **kwargs):
    return input._like(func(input._held, weight, *args, **kwargs))


def _dims(name: str, x: NestedTensor, dim) -> list[int]:
    found = [normalize_dim(name, d, x.dim()) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if 0 in found and found != [0]:
        raise RuntimeError(f"{name}: expected dimensions other than that of the batch; received {dim}")
    return found


def _along(name, func, input, dim=None, *args, **kwargs):
    """Functions along one or several dimensions: reductions, softmax, running sums."""
    if dim is None:
        return func(input._held, *args, **kwargs)
    dims = _dims(name, input, dim)
    if dims == [0]:
        raise RuntimeError(f"{name}: expected a dimension other than that of the batch; received {dim}. Pad it: x.to_padded_tensor(0.0)")
    shifted = [d - 1 for d in dims] if isinstance(dim, (tuple, list)) else dims[0] - 1
    if input._at in dims:
        return _joined(input, [func(x, shifted, *args, **kwargs) for x in input.unbind()], name in _KEEP_SHAPE)
    found = func(input._held, shifted, *args, **kwargs)
    kept = kwargs.get("keepdim", bool(args and args[0] is True)) or name in _KEEP_SHAPE
    place = input._at - (0 if kept else sum(d < input._at for d in dims))
    return type(found)([input._like(x, place) for x in found]) if isinstance(found, tuple) else input._like(found, place)


def _joined(like: NestedTensor, parts: list, ragged: bool):
    """Results of the components in one tensor, which is nested if they are `ragged`."""
    if ragged:
        return like._like(cat(parts, like._at - 1))
    return type(parts[0])([stack(list(x)) for x in zip(*parts)]) if isinstance(parts[0], tuple) else stack(parts)


def _of_components(name, func, *args, **kwargs):
    """Attention and products of nested tensors, component by component. A dense operand has one for each."""
    given = [x.unbind() if isinstance(x, NestedTensor) or isinstance(x, Tensor) and x.dim() > 2 else None for x in args]
    count = len(_first(args))
    parts = [func(*[x if g is None else g[i] for x, g in zip(args, given)], **kwargs) for i in range(count)]
    like = args[0] if isinstance(args[0], NestedTensor) else _first(args)
    return like._like(cat(parts, like._at - 1))


class _Grid:
    """Where components of some lengths lie in a dense batch: `places` (B * longest) of its elements in the values, `back` of the values in
    it, `known` (B, longest) where there are any."""

    def __init__(self, x: NestedTensor):
        lengths = np.array(_lengths_of(x._begins))
        self.longest = int(lengths.max(initial=0))
        known = np.arange(self.longest) < lengths[:, None]
        places = np.where(known, np.cumsum(lengths)[:, None] - lengths[:, None] + np.arange(self.longest), 0)
        device = x.device
        self.known, self.places = from_numpy(known).to(device), from_numpy(places.reshape(-1)).to(device)
        self.back = from_numpy(np.flatnonzero(known)).to(device)

    def dense(self, x: NestedTensor):
        """The components of a tensor as a dense batch (B, H, longest, E)."""
        parts = x._held.index_select(1, self.places)
        return parts.unflatten(1, (len(x), self.longest)).transpose(0, 1)


def _attention(name, func, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **kwargs):
    """Of (B, H, j, E) as a dense batch, in which queries see the keys of their own component."""
    if attn_mask is not None or not all(isinstance(x, NestedTensor) and x.dim() == 4 and x._at == 2 for x in (query, key, value)):
        return _of_components(name, func, query, key, value, attn_mask, dropout_p, is_causal, **kwargs)
    rows, columns = _Grid(query), _Grid(key)
    seen = columns.known[:, None, None, :]
    if is_causal:
        seen = seen & factory.ones(rows.longest, columns.longest, dtype=bool_, device=query.device).tril()
    out = func(rows.dense(query), columns.dense(key), columns.dense(value), seen, dropout_p, **kwargs)
    return query._like(out.transpose(0, 1).flatten(1, 2).index_select(1, rows.back))


def _matmul(name, func, input, other):
    if isinstance(input, NestedTensor) and not isinstance(other, NestedTensor) and other.dim() <= 2 and input._at < input.dim() - 1:
        return input._like(func(input._held, other))
    return _of_components(name, func, input, other)


def _transposed(name, func, input, dim0, dim1):
    a, b = (_dims(name, input, d)[0] for d in (dim0, dim1))
    if 0 in (a, b):
        raise RuntimeError(f"{name}: expected dimensions other than that of the batch; received {dim0} and {dim1}")
    return input._like(func(input._held, a - 1, b - 1), {a: b, b: a}.get(input._at, input._at))


def _parted(name, func, input, sizes, dim=0):
    (d,) = _dims(name, input, dim)
    if d in (0, input._at):
        raise RuntimeError(f"{name}: expected a dimension other than the first and the ragged one of {tuple(input.shape)}; received {dim}")
    return tuple([input._like(x) for x in func(input._held, sizes, d - 1)])


def _cat(name, func, tensors, dim=0):
    like = _first(tensors)
    (d,) = _dims(name, like, dim)
    if d in (0, like._at):
        raise RuntimeError(f"{name}: expected a dimension other than the first and the ragged one of {tuple(like.shape)}; received {dim}. "
                           "Make one of all components: as_nested_tensor([*a, *b], layout=torch.jagged)")
    return like._like(func([_beside(name, like, x) for x in tensors], d - 1))


def _split_dim(name, func, input, dim, sizes):
    (d,) = _dims(name, input, dim)
    if d <= input._at:
        raise RuntimeError(f"{name}: expected a dimension after the ragged one of {tuple(input.shape)}; received {dim}")
    return input._like(func(input._held, d - 1, sizes))


def _flattened(name, func, input, start_dim=0, end_dim=-1):
    a, b = (normalize_dim(name, d, input.dim()) for d in (start_dim, end_dim))
    if a <= input._at <= b and a != b:
        raise RuntimeError(f"{name}: expected dimensions after the ragged one of {tuple(input.shape)}; received {start_dim} to "
                           f"{end_dim}")
    return input._like(func(input._held, a - 1, b - 1))


def _inserted(name, func, input, dim):
    d = dim % (input.dim() + (name == "unsqueeze"))
    if d <= input._at:
        raise RuntimeError(f"{name}: expected a dimension after the ragged one of {tuple(input.shape)}; received {dim}")
    return input._like(func(input._held, d - 1))


def _reshaped(name, func, input, *shape):
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if input._at != 1 or shape[:1] not in ((input.shape[0],), (-1,)) or shape[1] is not input.shape[1] and shape[1] != -1:
        raise RuntimeError(f"{name}: expected a shape that begins as {tuple(input.shape[:2])}, -1 for the ragged length; received {shape}")
    return input._like(func(input._held, (input._held.shape[0], *shape[2:])))


_SIGNS = frozenset("add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod pow rpow and or xor lt le gt ge eq ne neg abs "
                   "invert iadd isub imul itruediv pos".split())
_KEEP_SHAPE = frozenset("softmax log_softmax cumsum cumprod normalize".split())
_HOW = {name: how for how, names in (
    (_elementwise, "add sub div clamp where pow relu relu6 gelu silu mish elu celu selu leaky_relu softplus hardswish hardtanh hardsigmoid "
     "softsign tanhshrink logsigmoid dropout alpha_dropout sigmoid tanh clone detach contiguous to type float double half bfloat16 int "
     "long bool cpu cuda zeros_like ones_like empty_like full_like rand_like randn_like masked_fill nan_to_num add_ mul_ sub_ div_ zero_ "
     "fill_ lerp square threshold isnan isinf isfinite logical_and logical_or logical_not"),
    (_of_values, "linear layer_norm rms_norm"),
    (_embedded, "embedding"),
    (_along, "sum mean prod amax amin max min argmax argmin any all std var logsumexp softmax log_softmax cumsum cumprod norm normalize"),
    (_attention, "scaled_dot_product_attention"),
    (_of_components, "bmm"),
    (_matmul, "matmul __matmul__"),
    (_transposed, "transpose swapaxes swapdims"),
    (_parted, "chunk split"),
    (_cat, "cat concat"),
    (_split_dim, "unflatten"),
    (_flattened, "flatten"),
    (_inserted, "unsqueeze squeeze"),
    (_reshaped, "view reshape")) for name in names.split()}


# -- making them --------------------------------------------------------------------------------------------------

def as_nested_tensor(ts, dtype=None, device=None, layout=None):
    """A nested tensor of the given tensors, through which derivatives go; ts may be one, of layout strided or nested. They differ in the
    length of their first dimension alone."""
    if isinstance(ts, NestedTensor):
        return ts
    if not isinstance(ts, (list, tuple)) and not isinstance(ts, Tensor):
        raise TypeError("as_nested_tensor(): Expected first argument to be a tensor or a list / tuple of tensors; received "
                        f"{type(ts).__name__}")
    parts = [as_tensor(t, dtype=dtype, device=device) for t in ts]
    layout = strided if layout is None else layout
    if layout not in (strided, jagged):
        raise RuntimeError(f"Specified layout is unsupported for nested tensors: {layout}. Use torch.jagged.")
    if not parts or any(t.dim() == 0 or t.shape[1:] != parts[0].shape[1:] for t in parts):
        raise RuntimeError("Cannot represent given tensor list as a nested tensor with the jagged layout: expected tensors that differ in "
                           f"the length of the first dimension alone; received shapes {[list(t.shape) for t in parts]}. Note that the "
                           "jagged layout only allows for a single ragged dimension. For example: (B, *, D_0, D_1, ..., D_N), with "
                           "ragged * dim.")
    ends = list(itertools.accumulate([len(t) for t in parts], initial=0))
    return NestedTensor(cat(parts, 0), tensor(ends, device=parts[0].device), layout=layout)


def nested_tensor(tensor_list, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """A nested tensor with copies of the given tensors (or lists, or arrays), a leaf."""
    parts = [t.detach() if isinstance(t, Tensor) else tensor(t, dtype=dtype) for t in tensor_list]
    made = as_nested_tensor(parts, dtype, device, layout)
    made = made._like(made._held.clone())
    return made.requires_grad_() if requires_grad else made


def nested_tensor_from_jagged(values, offsets=None, lengths=None, jagged_dim=None, min_seqlen=None, max_seqlen=None):
    """A nested tensor on the memory of `values`: component i is values[offsets[i]:offsets[i + 1]], or the next lengths[i] elements.
    `jagged_dim`: the ragged dimension of the result (1)."""
    if offsets is None and lengths is None:
        raise RuntimeError("nested_tensor_from_jagged(): At least one of offsets or lengths is required.")
    if offsets is None:
        offsets = F.pad(lengths.cumsum(0), (1, 0))
    elif lengths is not None:
        return nested_tensor_from_jagged(*_compacted(values, offsets, lengths, (jagged_dim or 1) - 1), jagged_dim=jagged_dim)
    return NestedTensor(values.view(values.shape) if values.requires_grad else values, offsets, jagged_dim or 1)


def _compacted(values, offsets, lengths, dim: int) -> tuple:
    """(values, offsets) of components with gaps between them."""
    parts = [values.narrow(dim, a, n) for a, n in zip(offsets.tolist(), lengths.tolist())]
    return cat(parts, dim), F.pad(lengths.cumsum(0), (1, 0))


def to_padded_tensor(input, padding, output_size=None):
    """`NestedTensor.to_padded_tensor`."""
    return input.to_padded_tensor(padding, output_size)


def narrow(tensor, dim, start, length, layout=strided):
    """Of each tensor of a batch, `length` elements from `start` on, along its first dimension (dim=1); both numbers or one for each."""
    if dim != 1 or layout is not jagged:
        raise RuntimeError(f"narrow: expected dim=1 and layout=torch.jagged; received dim={dim} and layout={layout}")
    start, length = ([x] * len(tensor) if isinstance(x, int) else x.tolist() for x in (start, length))
    return as_nested_tensor([t[a:a + n] for t, a, n in zip(tensor, start, length)], layout=jagged)


def masked_select(tensor, mask):
    """Of each row of a matrix the elements where the mask holds, as a nested tensor (B, j)."""
    if tensor.layout is not strided or mask.dim() != 2:
        raise RuntimeError(f"masked_select: expected a dense matrix and a mask of its shape; received {list(tensor.shape)} and "
                           f"{list(mask.shape)}")
    return nested_tensor_from_jagged(tensor.masked_select(mask), lengths=mask.expand(tensor.shape).sum(1))
