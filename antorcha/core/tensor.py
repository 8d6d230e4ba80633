"""The tensor: (storage, shape, strides, offset), a dtype, and its place in the graph of derivatives.

Most methods are not written here: `surface.install` makes them from the operators' records. Here is what a tensor is made of, how
it is read and written, and how in-place writes rewrite the history of views.
"""

from __future__ import annotations

import functools
import weakref

import numpy as np

from ..base import config
from ..base import dtype as dt
from ..base.device import device as Device
from ..graph import tape
from ..graph.node import Node, Static, dense, is_row_major
from ..graph.node import view as make_view
from ..graph.tape import LONGEST
from ..ops import arrange, complex_numbers, contraction, extern, factory, joining, placement, record, reduction
from ..ops import index as index_ops
from ..ops import pointwise as pw
from ..ops import view as view_ops
from ..ops.parts import conj_
from ..ops.record import core, meta, number
from ..runtime.buffer import Buffer
from . import autograd, override
from .autograd import GradNode, Handle, SpecialNode, edge_of, mode
from .generator import default_generator, generator_of
from .storage import BorrowedStorage, Storage, of_buffer


class Size(tuple):
    """A shape: a tuple of integers."""

    __slots__ = ()

    def __new__(cls, values=()):
        return super().__new__(cls, [v.__index__() for v in values])

    def numel(self) -> int:
        n = 1
        for s in self:
            n *= s
        return n

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    def __getitem__(self, key):
        got = super().__getitem__(key)
        return Size(got) if isinstance(key, slice) else got

    def __add__(self, other):
        return Size(tuple(self) + tuple(other))

    def __radd__(self, other):
        return Size(tuple(other) + tuple(self))

    def __mul__(self, n):
        return Size(tuple(self) * n)

    __rmul__ = __mul__

    def __reduce__(self):
        return Size, (tuple(self),)


class layout:
    """How a tensor's elements lie in memory."""

    def __init__(self, name):
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


class memory_format(layout):
    """The order of dimensions in memory."""


strided, sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc = (
    layout(n) for n in ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"))
contiguous_format, preserve_format, channels_last, channels_last_3d = (
    memory_format(n) for n in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d"))


class Tensor:
    """An array of elements of one dtype. See PyTorch's documentation; this class keeps its contract."""

    # What every tensor has is in slots, which are quick to fill: `_rg`: requires grad, itself or through what it was computed from;
    # `_nr`: which output of `_grad_fn` it is. The rest has a value where it is not the one below.
    __slots__ = ("storage", "meta", "_rg", "_grad_fn", "_nr", "__dict__", "__weakref__")
    _grad = None
    _base = None            # the tensor this is a view of
    _views = None           # weak references to views, on a base
    _accumulator = None
    _hooks = None
    _post_hooks = None
    _untracked = False      # made by .data: writes are not seen by autograd
    __array_priority__ = 1000
    __torch_dispatch__ = None

    def __new__(cls, *args, **kwargs):
        if cls is not Tensor and args and isinstance(args[0], Tensor):
            return cls._make_subclass(cls, args[0])
        from .legacy import constructed
        out = constructed(dt.default(), args)
        return out if cls is Tensor else cls._make_subclass(cls, out)

    @staticmethod
    def _make_subclass(cls, data, require_grad=False):
        t = plain(cls)
        t.storage, t.meta = data.storage, data.meta
        if require_grad:
            t.requires_grad_()
        return t

    def as_subclass(self, cls):
        t = alias(self, self.meta)
        out = Tensor._make_subclass(cls, t)
        out._rg, out._grad_fn, out._nr = self._rg, self._grad_fn, self._nr
        return out

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        v = self.meta.view
        found = v.memo.get("size")
        if found is None:
            found = v.memo["size"] = Size(v.shape)
        return found

    def size(self, dim=None):
        return self.shape if dim is None else self.meta.view.shape[record.normalize_dim("size", dim, len(self.meta.view.shape))]

    def stride(self, dim=None):
        strides = self.meta.view.strides
        return strides if dim is None else strides[record.normalize_dim("stride", dim, len(strides))]

    def storage_offset(self) -> int:
        return self.meta.view.offset

    def dim(self) -> int:
        return len(self.meta.view.shape)

    ndimension = dim

    @property
    def ndim(self) -> int:
        return len(self.meta.view.shape)

    def numel(self) -> int:
        return self.meta.view.numel

    nelement = numel

    @property
    def dtype(self):
        return self.meta.dtype

    @property
    def device(self) -> Device:
        return Device(self.meta.device or "cpu")

    @property
    def itemsize(self) -> int:
        return self.meta.dtype.itemsize

    def element_size(self) -> int:
        return self.meta.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.meta.view.numel * self.meta.dtype.itemsize

    layout = property(lambda self: strided)
    is_sparse, is_quantized, is_meta, is_mps, is_nested, is_mkldnn, is_xpu, is_sparse_csr = (property(lambda self: False) for _ in range(8))
    is_cpu = property(lambda self: self.meta.device in (None, "cpu"))
    is_cuda = property(lambda self: not self.is_cpu)
    names = property(lambda self: (None,) * self.dim())

    def get_device(self) -> int:
        return -1 if self.is_cpu else self.device.index

    def is_floating_point(self) -> bool:
        return self.meta.dtype.kind == "f"

    def is_complex(self) -> bool:
        return self.meta.dtype.kind == "c"

    def is_signed(self) -> bool:
        return self.meta.dtype.is_signed

    def is_conj(self) -> bool:
        return False

    is_neg = is_inference = is_conj

    def is_contiguous(self, memory_format=contiguous_format) -> bool:
        v = self.meta.view
        return v.numel == 0 or is_row_major(v.shape, v.strides)

    def is_same_size(self, other) -> bool:
        return self.shape == other.shape

    def is_set_to(self, other) -> bool:
        return self.storage is other.storage and self.meta is other.meta

    def is_shared(self) -> bool:
        return False

    def record_stream(self, stream) -> None:
        """Keep this tensor's memory until a stream, which works with it too, has done what it has been given so far."""
        if self.is_cpu:
            raise RuntimeError(f"record_stream: expected a tensor on a GPU; received one on {self.device}.")
        self.storage.buffer().used_in(stream.cuda_stream)

    def is_pinned(self, device=None) -> bool:
        if not _state.devices or self.is_cuda or self.storage.node.buffer is None:
            return False
        from ..runtime import cuda
        return cuda.is_pinned(self.storage.node.buffer.address)

    def pin_memory(self, device=None):
        """A copy in page-locked memory, from where copies to a GPU are quick and need not be waited for."""
        if self.is_cuda:
            raise RuntimeError(f"cannot pin '{self.type()}': expected a tensor on the CPU; received one on {self.device}.")
        if self.is_pinned():
            return self
        from ..runtime import cuda
        if cuda.unavailable():
            raise RuntimeError(f"pin_memory: page-locked memory is a GPU's. {cuda.unavailable()}")
        _state.devices = True
        array = host(self.detach().contiguous())
        memory = cuda.pinned(array.nbytes).view(self.dtype.memory)
        memory[:] = array.reshape(-1)
        return from_storage(_storage_on(memory, self.numel(), self.dtype), self.dtype, self.shape, dense(tuple(self.shape)).strides, 0)

    def share_memory_(self):
        return self

    @property
    def _version(self) -> int:
        return self.storage.version

    # -- gradients ----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._rg

    @requires_grad.setter
    def requires_grad(self, value) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad=True):
        if requires_grad and self.meta.dtype.kind not in "fc":
            raise RuntimeError(
                f"only Tensors of floating point dtype can require gradients; received {self.dtype}. Convert it first: x.float()"
            )
        if not requires_grad and self._grad_fn is not None:
            raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                               "subgraph that doesn't require differentiation use var_no_grad = var.detach().")
        self._rg = bool(requires_grad)
        return self

    @property
    def grad_fn(self):
        return self._grad_fn

    @property
    def output_nr(self) -> int:
        return self._nr

    @property
    def is_leaf(self) -> bool:
        return self._grad_fn is None

    @property
    def grad(self):
        return self._grad

    @grad.setter
    def grad(self, value) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}")
            if value.shape != self.shape:
                raise RuntimeError(f"assigned grad has data of a different size: expected {list(self.shape)}; received {list(value.shape)}")
            if value.dtype is not self.dtype:
                raise RuntimeError(f"assigned grad has data of a different type: expected {self.dtype}; received {value.dtype}")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None) -> None:
        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self):
        return alias(self, self.meta)

    def detach_(self):
        if self._base is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._rg, self._grad_fn, self._nr = False, None, 0
        return self

    @property
    def data(self):
        out = alias(self, self.meta)
        out._untracked = True
        return out

    @data.setter
    def data(self, value) -> None:
        self.storage, self.meta = value.storage, value.meta

    def register_hook(self, hook):
        if not self._rg:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        from collections import OrderedDict
        if self._grad_fn is None:
            if self._hooks is None:
                self._hooks = OrderedDict()
            hooks = self._hooks
        else:
            hooks = self._grad_fn.hooks().tensors.setdefault(self._nr, OrderedDict())
        handle = Handle(hooks)
        hooks[handle.id] = hook
        return handle

    def register_post_accumulate_grad_hook(self, hook):
        if self._grad_fn is not None:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        from collections import OrderedDict
        if self._post_hooks is None:
            self._post_hooks = OrderedDict()
        handle = Handle(self._post_hooks)
        self._post_hooks[handle.id] = hook
        return handle

    @property
    def _backward_hooks(self):
        return self._hooks

    @_backward_hooks.setter
    def _backward_hooks(self, hooks) -> None:
        self._hooks = hooks

    def retain_grad(self) -> None:
        if not self._rg:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self._grad_fn is not None:
            self._grad_fn.hooks().retains[self._nr] = weakref.ref(self)

    @property
    def retains_grad(self) -> bool:
        extras = self._grad_fn and self._grad_fn.extras
        return bool(extras) and self._nr in extras.retains

    def _is_view(self) -> bool:
        return self._base is not None

    # -- values -------------------------------------------------------------------------------------------------

    def item(self):
        if self.meta.view.numel != 1:
            raise RuntimeError(
                f"a Tensor with {self.meta.view.numel} elements cannot be converted to Scalar: expected one element; received shape "
                f"{list(self.shape)}. Reduce it first, or use tolist()."
            )
        return host(self).reshape(()).item()

    def tolist(self):
        return host(self).tolist()

    def numpy(self, *, force=False):
        if self._rg and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.is_cuda:
            if force:
                return self.detach().cpu().numpy()
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                            "first.")
        if self.meta.dtype.numpy is None:
            d = self.meta.dtype
            raise TypeError(f"Got unsupported ScalarType: NumPy has no dtype for {d}. Convert it first: "
                            f"x.{'cfloat' if d.is_complex else 'float'}().")
        self.storage.share()
        return host(self)

    def __array__(self, dtype=None, copy=None):
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if self._rg:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if self.is_cuda:
            raise BufferError(f"__dlpack__: expected a tensor on the CPU; received one on {self.device}. Copy it first: x.cpu()")
        return self.numpy().__dlpack__()

    def __dlpack_device__(self):
        return (1, 0) if self.is_cpu else (2, self.device.index)

    def data_ptr(self) -> int:
        self.storage.share()
        return self.storage.buffer().address + self.meta.view.offset * self.meta.dtype.itemsize

    def untyped_storage(self):
        from .untyped import UntypedStorage
        return UntypedStorage.of(self.storage)

    def __bool__(self) -> bool:
        n = self.meta.view.numel
        if n != 1:
            raise RuntimeError("Boolean value of Tensor with " + ("no values" if n == 0 else "more than one value") + " is ambiguous. "
                               "Use x.any() or x.all().")
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self.meta.dtype.kind not in "iub" or self.meta.view.numel != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        shape = self.meta.view.shape
        if not shape:
            raise TypeError("len() of a 0-d tensor")
        return shape[0]

    def __iter__(self):
        if not self.meta.view.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(view_ops.unbind(self, 0))

    def __contains__(self, x) -> bool:
        return bool((self == x).any())

    __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        return object.__format__(self, spec) if self.meta.view.shape else format(self.item(), spec)

    def __reversed__(self):
        return arrange.flip(self, 0) if self.dim() else self

    def __dir__(self):
        return sorted(set(dir(type(self))) | set(self.__dict__))

    # -- arithmetic with operators ------------------------------------------------------------------------------

    def __rpow__(self, other):
        return pw.pow(other, self)

    def __matmul__(self, other):
        return contraction.matmul(self, other)

    def __rmatmul__(self, other):
        return contraction.matmul(other, self)

    def __getitem__(self, key):
        from .indexing import getitem
        return getitem(self, key)

    def __setitem__(self, key, value) -> None:
        from .indexing import setitem
        setitem(self, key, value)

    # -- copies and conversions ---------------------------------------------------------------------------------

    def clone(self, *, memory_format=preserve_format):
        v = self.meta.view
        if v.numel == self.storage.numel and v.offset == 0 and _dense_in_some_order(v):
            out = alias(self, self.meta)
            out.storage = self.storage.copy()
            if self._rg and mode.grad:
                record.attach(pw.identity.record, out, (self,))
            return out
        return pw.identity(self)

    def contiguous(self, memory_format=contiguous_format):
        return self if self.is_contiguous() else contiguous(self)

    def copy_(self, src, non_blocking=False):
        if not isinstance(src, Tensor):
            src = tensor(src)
        lead = record.broadcast_shapes("copy_", src.meta.view.shape, self.meta.view.shape)
        if lead != self.meta.view.shape:
            raise RuntimeError(f"The expanded size of the tensor must match: copy_ of shape {list(src.shape)} into {list(self.shape)}. "
                               "(output with shape doesn't match the broadcast shape)")
        target = self

        def copied(_):
            x = src if src.meta.dtype is target.meta.dtype else pw.cast(src, target.meta.dtype)
            return x.clone() if x is src else x
        return _inplace_replacing(self, copied, src)

    def fill_(self, value):
        if isinstance(value, Tensor):
            return self.copy_(value)
        if self._rg and mode.grad:
            return inplace(self, record.RECORDS["fill"].call, (value,))
        value = number(value)
        d, shape = self.meta.dtype, self.meta.view.shape
        return _inplace_replacing(self, lambda _: factory.full_of(shape, value, d, self.meta.device), None)

    def zero_(self):
        return self.fill_(0)

    def resize_(self, *shape, memory_format=None):
        shape = view_ops.sizes("resize_", shape)
        want = dense(shape)
        have = self.storage.numel
        if want.numel > have and self.storage.shared:
            self.storage.resize(want.numel)
        elif want.numel > have:
            grown = factory.full_of((want.numel,), 0, self.meta.dtype, self.meta.device)
            if have:
                grown.as_strided((have,), (1,), 0).copy_(_flat(self.storage, self.meta))
            self.storage.write(grown.storage.node)
        self.meta = meta(want, self.meta.dtype, self.meta.device)
        return self

    def set_(self, source=None, storage_offset=0, size=None, stride=None):
        if isinstance(source, Tensor):
            self.storage, self.meta = source.storage, source.meta
        elif source is None:
            empty = factory.empty(0, dtype=self.dtype, device=self.device)
            self.storage, self.meta = empty.storage, empty.meta
        else:
            from .untyped import reread
            cell = reread(source.cell, self.dtype)
            size = tuple(size) if size is not None else (cell.numel,)
            stride = tuple(stride) if stride is not None else dense(size).strides
            self.storage, self.meta = cell, meta(make_view(size, stride, storage_offset), cell.dtype, self.meta.device)
        return self

    @property
    def T(self):
        return view_ops.permute(self, *range(self.dim() - 1, -1, -1))

    @property
    def mT(self):
        return view_ops.transpose(self, -2, -1)

    H = property(lambda self: self.T.conj())
    mH = property(lambda self: self.mT.conj())
    real = property(lambda self: complex_numbers.real(self))
    imag = property(lambda self: complex_numbers.imag(self))

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment. "
                               "Use tensor.detach().clone().")
        cells = memo.setdefault("antorcha storages", {})
        cell = cells.get(id(self.storage))
        if cell is None:
            cell = cells[id(self.storage)] = self.storage.copy()
        out = plain(type(self))
        out.storage, out.meta = cell, self.meta
        out._rg = self._rg
        memo[id(self)] = out
        if self._grad is not None:
            import copy
            out._grad = copy.deepcopy(self._grad, memo)
        extra = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        if extra:
            import copy
            out.__dict__.update(copy.deepcopy(extra, memo))
        return out

    __torch_function__ = classmethod(override.default)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        override.subclassed(cls)


# -- making tensors ---------------------------------------------------------------------------------------------

_new = object.__new__
_state = tape.state
_pending = tape.nodes
_record = _pending.append


def plain(cls):
    """An instance of a tensor class, without history; `storage` and `meta` are to be set."""
    out = _new(cls)
    out._rg, out._grad_fn, out._nr = False, None, 0
    return out


def record_form(form, inputs: tuple, m) -> Tensor:
    """Record a node and return its tensor. This is where the time of recording goes: everything is written out."""
    node = _new(Node)
    node.form = form
    node.inputs = inputs
    node.buffer = node.where = None
    _record(node)
    storage = _new(Storage)
    storage.node = node
    storage.version = 0
    out = _new(Tensor)
    out.storage = storage
    out.meta = m
    out._rg = False
    out._grad_fn = None
    out._nr = 0
    if _state.urgent or config.eager or len(_pending) > LONGEST:
        tape.settle()
    return out


def make(node: Node, m) -> Tensor:
    """Record a node that is made already and return its tensor."""
    _record(node)
    out = tensor_on(Storage(node), m)
    if _state.urgent or config.eager or len(_pending) > LONGEST:
        tape.settle()
    return out


def tensor_on(storage: Storage, m) -> Tensor:
    """A tensor without history."""
    out = _new(Tensor)
    out.storage = storage
    out.meta = m
    out._rg = False
    out._grad_fn = None
    out._nr = 0
    return out


def wrap(node: Node, m) -> Tensor:
    """The tensor of a node that is recorded already; the caller settles the tape."""
    return tensor_on(Storage(node), m)


def alias(t: Tensor, m) -> Tensor:
    """Another tensor on the same storage, without history."""
    return tensor_on(t.storage, m)


def view_of(t: Tensor, m) -> Tensor:
    """A view: in-place writes to it or its base are seen by both, by autograd too."""
    out = _new(Tensor)
    out.storage = t.storage
    out.meta = m
    out._rg = False
    out._grad_fn = None
    out._nr = 0
    base = out._base = t._base if t._base is not None else t
    if base._rg or mode.grad:
        views = base._views
        if views is None:
            views = base._views = []
        elif len(views) > 64:
            views[:] = [r for r in views if r() is not None]
        views.append(weakref.ref(out))
    return out


def reread(t: Tensor, shape: tuple) -> Tensor:
    """A fresh dense result given another shape of as many elements."""
    if t.meta.view.shape != shape:
        t.meta = meta(dense(shape), t.meta.dtype, t.meta.device)
    return t


def contiguous(t: Tensor) -> Tensor:
    """A row-major copy."""
    shape = t.meta.view.shape
    out = _copy_in_order(t)
    return out if out.meta.view.shape == shape else reread(out, shape)


@record.operator(name="contiguous", title="Clone", public=False, grad=dict(input=lambda g: g))
def _copy_in_order(input: Tensor):
    m = input.meta
    whole = dense(m.view.shape)
    node = Node(pw.identity.record, (input.storage.node,), (m.view,), Static(casts=(m.dtype,)), whole.shape, whole.numel, m.dtype)
    return make(node, meta(whole, m.dtype, m.device))


def _flat(storage: Storage, m) -> Tensor:
    return tensor_on(storage, meta(dense((storage.numel,)), m.dtype, m.device))


def _dense_in_some_order(v) -> bool:
    """Whether `v` reads each of the first numel elements once."""
    if v.dense:
        return True
    pairs = sorted((t, n) for n, t in zip(v.shape, v.strides) if n != 1)
    step = 1
    for t, n in pairs:
        if t != step:
            return False
        step *= n
    return True


def host(t: Tensor) -> np.ndarray:
    """The value as a NumPy array on the tensor's own memory; of a dtype that NumPy lacks (bfloat16), a copy in float32."""
    m = t.meta
    d, v = m.dtype, m.view
    if v.numel == 0:
        return np.empty(v.shape, d.numpy or d.compute.numpy or np.float32)
    flat = t.storage.buffer().array(d.memory, t.storage.numel)
    if v.dense:
        array = flat[:v.numel].reshape(v.shape)
    else:
        array = np.lib.stride_tricks.as_strided(flat[v.offset:], v.shape, tuple(s * d.itemsize for s in v.strides))
    return dt.numbers(array, d)


def from_storage(storage: Storage, dtype, shape, strides, offset) -> Tensor:
    buffer = storage.node.buffer
    return tensor_on(storage, meta(make_view(tuple(shape), tuple(strides), offset), dtype, "cpu" if buffer is None else buffer.device))


def adopt(array: np.ndarray) -> Tensor:
    """A tensor on the memory of an array that nobody else will touch."""
    d = dt.of(array.dtype)
    shape, array = array.shape, np.ascontiguousarray(array)
    return from_storage(_storage_on(array, array.size, d), d, shape, dense(shape).strides, 0)


def _storage_on(array: np.ndarray, numel: int, dtype) -> Storage:
    """A storage on the memory of an array that nobody else will touch."""
    buffer = Buffer.from_array(array)
    buffer.exported = False
    return of_buffer(buffer, numel, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor sharing the array's memory: writing to one is seen by the other."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    if array.dtype.name not in dt._BY_NAME:
        raise TypeError(
            f"can't convert np.ndarray of type {array.dtype}. The only supported types are: float64, float32, float16, complex64, "
            "complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool."
        )
    d = dt.of(array.dtype)
    if any(s < 0 for s in array.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not currently "
                         "supported. (You can probably work around this by making a copy of your array with array.copy().)")
    strides = tuple(s // d.itemsize for s in array.strides)
    span = 1 + sum((n - 1) * s for n, s in zip(array.shape, strides)) if array.size else 0
    flat = np.lib.stride_tricks.as_strided(array, (span,), (d.itemsize,)) if span else array.reshape(-1)
    buffer = Buffer.from_array(flat)
    storage = of_buffer(buffer, span, d)
    storage.share()
    storage.__class__ = BorrowedStorage
    if array.size and array.flags.c_contiguous:
        strides = dense(array.shape).strides
    return from_storage(storage, d, array.shape, strides, 0)


def _array_of(data, dtype) -> np.ndarray:
    """Nested sequences of numbers, arrays and tensors as one array."""
    if isinstance(data, np.ndarray):
        return data
    if isinstance(data, Tensor):
        return host(data)
    if isinstance(data, (list, tuple)) and data and any(isinstance(x, (Tensor, list, tuple, np.ndarray)) for x in data):
        parts = [_array_of(x, dtype) for x in data]
        for p in parts[1:]:
            if p.shape != parts[0].shape:
                raise ValueError(f"expected sequence of length {parts[0].shape[0] if parts[0].ndim else 0} at dim 1 "
                                 f"(got {p.shape[0] if p.ndim else 0})")
        kind = functools.reduce(dt.promote, (dt.of(p.dtype) for p in parts))
        return np.stack(parts).astype(kind.numpy)
    if not isinstance(data, (list, tuple, range, int, float, bool, complex, np.generic)) and not hasattr(data, "__array__"):
        if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (str, bytes, dict)):
            return _array_of(list(data), dtype)
        kind = type(data).__name__
        raise TypeError(f"new(): invalid data type '{kind}'") if isinstance(data, str) else RuntimeError(f"Could not infer dtype of {kind}")
    try:
        array = np.array(data)
    except OverflowError:
        raise RuntimeError("Overflow when unpacking long long") from None
    if array.dtype.kind in "OUSV":
        if array.size == 0:
            return array.astype(np.float32)
        bad = next((x for x in np.ravel(np.array(data, dtype=object)) if not isinstance(x, (int, float, bool, complex))), data)
        raise TypeError(f"tensor(): expected numbers; received {type(bad).__name__}.") if not isinstance(bad, int) else \
            RuntimeError("Overflow when unpacking long long")
    if array.size == 0 and not isinstance(data, np.generic) and not hasattr(data, "dtype"):
        return array.astype(dt.default().numpy)
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], np.generic):
        return array
    if dtype is not None and array.dtype.kind in "fc":
        return array        # rounded once, to the dtype that is wanted
    if array.dtype.kind == "f" and not isinstance(data, np.generic):
        return array.astype(dt.default().numpy)
    if array.dtype.kind == "c" and not isinstance(data, np.generic):
        return array.astype(dt.default().to_complex().numpy)
    return array


def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False) -> Tensor:
    """A new tensor with a copy of `data`: numbers, nested sequences of them, arrays."""
    device = placement.device_name(data.device if device is None and isinstance(data, Tensor) else device)
    if isinstance(data, Tensor):
        out = data.detach().clone().to(dtype or data.dtype)
    else:
        array = _array_of(data, dtype)
        if array.dtype.name not in dt._BY_NAME:
            raise TypeError(f"can't convert np.ndarray of type {array.dtype}")
        want = dtype.numpy if dtype is not None and dtype.numpy is not None else array.dtype
        with np.errstate(invalid="ignore", over="ignore"):
            out = adopt(np.array(array, dtype=want, order="C"))
        if dtype is not None and out.dtype is not dtype:
            out = out.to(dtype)
    out = placement.place(out, device)
    if pin_memory:
        out = out.pin_memory()
    return out.requires_grad_() if requires_grad else out


def as_tensor(data, dtype=None, device=None) -> Tensor:
    """`data` as a tensor, sharing its memory where it can."""
    if isinstance(data, Tensor):
        return data.to(device or data.device, dtype)
    if isinstance(data, np.ndarray):
        return from_numpy(data).to(placement.device_name(device), dtype)
    return tensor(data, dtype=dtype, device=device)


def from_dlpack(x) -> Tensor:
    """A tensor on the memory of any object with `__dlpack__`."""
    return from_numpy(np.from_dlpack(x))


# -- writing ----------------------------------------------------------------------------------------------------

def inplace(t: Tensor, function, args, kwargs=None) -> Tensor:
    """t = function(t, *args), in place: in the storage, and in the history of t and of its base and views."""
    if kwargs is None:
        kwargs = {}
    if not mode.grad or not (t._rg or any([getattr(a, "_rg", False) for a in (*args, *kwargs.values())])):
        write(t, function(t, *args, **kwargs))
        return t
    _check_inplace(t)
    old = tensor_on(t.storage.copy(), t.meta)
    old._rg, old._grad_fn, old._nr = t._rg, t._grad_fn, t._nr
    result = function(old, *args, **kwargs)
    write(t, result)
    _rewrite_history(t, result)
    return t


def _inplace_replacing(t: Tensor, function, src) -> Tensor:
    """Like `inplace` for operations that read nothing of the old value."""
    tracked = mode.grad and (t._rg or (src is not None and src._rg))
    if tracked:
        _check_inplace(t)
    result = function(None)
    write(t, result)
    if tracked:
        _rewrite_history(t, result)
    return t


def _check_inplace(t: Tensor) -> None:
    if t._rg and t._grad_fn is None:
        raise RuntimeError(
            "a leaf Variable that requires grad is being used in an in-place operation. Do it inside torch.no_grad(), or use "
            "the form without the trailing underscore."
        )
    if t._base is not None and t._base._rg and t._base._grad_fn is None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


def write(t: Tensor, result: Tensor) -> None:
    """Store the value of `result` into `t`'s elements."""
    m, r, storage = t.meta, result.meta, t.storage
    if _state.vmap is not None:
        _state.vmap.check_write(t, result)
    if r is m and m.view.dense:
        fresh = result.storage
        if type(fresh) is Storage and 0 < m.view.numel == storage.numel == fresh.node.form.numel:
            if not t._untracked:
                storage.version += 1
            storage.write(fresh.node)
            return
    if _state.devices and r.device != m.device:
        result = _on_one_device(t, result)
        m, r = t.meta, result.meta
    if r.view.shape != m.view.shape:
        if record.broadcast_shapes("in-place", r.view.shape, m.view.shape) != m.view.shape:
            raise RuntimeError(f"output with shape {list(m.view.shape)} doesn't match the broadcast shape {list(r.view.shape)}")
    if r.dtype is not m.dtype:
        if dt.CATEGORY[r.dtype.kind] > dt.CATEGORY[m.dtype.kind]:
            raise RuntimeError(
                f"result type {_NAMES.get(r.dtype, r.dtype)} can't be cast to the desired output type {_NAMES.get(m.dtype, m.dtype)}"
            )
        with autograd.no_grad():
            result = pw.cast(result, m.dtype)
        r = result.meta
    if not t._untracked:
        storage.version += 1
    v = m.view
    if v.numel == 0:
        return
    if r.view is v and v.numel == storage.numel == result.storage.numel and v.offset == 0 and _dense_in_some_order(v):
        storage.write(result.storage.copy().node if result.storage.shared else result.storage.node)
        return
    n = storage.numel
    node = Node(view_ops.SCATTER, (storage.node, result.storage.node), (dense((n,)), record.broadcast_view(r.view, v.shape)),
                Static(casts=(m.dtype, m.dtype), combine="set", region=v), (n,), n, m.dtype)
    _record(node)
    storage.write(node)
    if _state.urgent or config.eager:
        tape.settle()


def _on_one_device(t: Tensor, result: Tensor) -> Tensor:
    """`result` where `t` is. If `t` was made by an operator for its own use and `result` is on a GPU, `t` goes there."""
    if t.meta.device is None and result.is_cuda:
        flat = placement.place(_flat(t.storage, t.meta), result.meta.device)
        t.storage.write(flat.storage.node)
        t.meta = meta(t.meta.view, t.meta.dtype, result.meta.device)
        return result
    return placement.place(result, t.meta.device or "cpu")


_NAMES = {dt.float32: "Float", dt.float64: "Double", dt.int64: "Long", dt.int32: "Int", dt.int16: "Short", dt.int8: "Char",
          dt.uint8: "Byte", dt.bool_: "Bool", dt.float16: "Half", dt.bfloat16: "BFloat16"}


class CopySlices(SpecialNode):
    """A write through a view: the base's cotangent without the region, and the region's for what was written."""

    __slots__ = ("region", "base", "value_meta")

    def backward(self, grads):
        g, region, base = grads[0], self.region, self.base
        plain = base.offset == 0 and base.strides == record.row_major(base.shape)
        if plain:
            flat = g.contiguous()
        else:       # the region is told in coordinates of the base's memory
            extent = 1 + base.offset + sum((n - 1) * t for n, t in zip(base.shape, base.strides))
            flat = core.overwrite_region(factory.full_of((extent,), 0, g.meta.dtype, g.meta.device), base, g)
        before = None
        if self.edges[0] is not None:
            zero = factory.full_of(region.shape, 0, g.meta.dtype, g.meta.device)
            before = core.overwrite_region(flat, region, zero)
            before = before if plain else view_ops.as_strided_(before, base.shape, base.strides, base.offset)
        after = view_ops.as_strided_(flat, region.shape, region.strides, region.offset)
        return [before, autograd.reduce_to(after, self.value_meta)]


class Overwritten(SpecialNode):
    """All of a tensor replaced by constants: it goes on requiring grad, and what it was gets zeros."""

    __slots__ = ()

    def backward(self, grads):
        return [core.zeros(self.outputs[0])]


def _rewrite_history(t: Tensor, result: Tensor) -> None:
    base = t._base
    if base is None:
        if t._rg and not result._rg:
            node = Overwritten()
            node.edges, node.outputs = (edge_of(t),), t.meta.alone
            t._grad_fn, t._nr = node, 0
        else:
            t._rg, t._grad_fn, t._nr = result._rg, result._grad_fn, result._nr
        base = t
        changed = bool(base._views)
    else:
        if not (result._rg or base._rg):
            return
        node = CopySlices()
        node.edges = (edge_of(base) if base._rg else None, edge_of(result) if result._rg else None)
        node.outputs = (base.meta,)
        node.region, node.base, node.value_meta = t.meta.view, base.meta.view, result.meta
        base._rg, base._grad_fn, base._nr = True, node, 0
        changed = True
    if changed and base._rg:
        for reference in base._views or ():
            v = reference()
            if v is not None and v.storage is base.storage:
                m, v._nr = v.meta.view, 0
                record.attach(view_ops.as_strided_.record, v, (base, m.shape, m.strides, m.offset))


@record.operator(name="region", public=False, grad=dict(
    base=lambda g, region: core.overwrite_region(g, region, factory.full_of(region.shape, 0, g.meta.dtype, g.meta.device)),
    value=lambda g, region: view_ops.as_strided_(g.contiguous(), region.shape, region.strides, region.offset)))
def overwrite_region(base: Tensor, region, value: Tensor) -> Tensor:
    """A dense tensor with one region (in coordinates of its flat value) replaced."""
    return _region(base, region, value, "set")


@record.operator(name="region_sum", public=False, grad=dict(
    base=lambda g: g, value=lambda g, region: view_ops.as_strided_(g.contiguous(), region.shape, region.strides, region.offset)))
def add_region(base: Tensor, region, value: Tensor) -> Tensor:
    """A dense tensor with `value` added at one region (in coordinates of its flat value), which may repeat elements."""
    return _region(base, region, value, "set" if not _overlaps(region) else "sum")


def _overlaps(v) -> bool:
    """Whether an element may be read twice (strides that do not nest)."""
    reach = 0
    for t, n in sorted((abs(t), n) for n, t in zip(v.shape, v.strides) if n > 1):
        if t <= reach:
            return True
        reach += t * (n - 1)
    return False


def _region(base, region, value, combine):
    whole = dense(base.meta.view.shape)
    if not base.meta.view.dense:
        base = contiguous(base)
    if region.numel == 0:
        return base.clone()
    d = base.meta.dtype
    if _state.devices:
        base, value = placement.together("write", (base, value))
    node = Node(view_ops.SCATTER, (base.storage.node, value.storage.node),
                (dense((whole.numel,)), record.broadcast_view(value.meta.view, region.shape)),
                Static(casts=(d, d), combine=combine, region=region), whole.shape, whole.numel, d)
    return make(node, meta(whole, d, base.meta.device))


def _bitcast(t: Tensor, d) -> Tensor:
    from .untyped import reinterpret
    return reinterpret(t, d)


# -- what the operators need of this layer ----------------------------------------------------------------------

def _loosely(make_one):
    """A function that makes tensors for an operator's own use (see ops/placement.py)."""
    return lambda *args, **given: placement.loose(make_one(*args, **given, device="cpu"))



def _sparse_rows(*args):
    from .sparse import sparse_rows
    return sparse_rows(*args)


record.bind(Tensor, make, alias, GradNode)
autograd.bind(Tensor)
core.__dict__.update(
    Node=Node,
    record=record_form,
    tensor_on=tensor_on,
    wrap=wrap,
    default_generator=default_generator,
    view_of=view_of,
    reread=reread,
    contiguous=contiguous,
    no_grad=autograd.no_grad,
    default_device="cpu",
    host=host,
    zeros=lambda m: factory.full_of(m.view.shape, 0, m.dtype, m.device),
    ones=lambda m: factory.full_of(m.view.shape, 1, m.dtype, m.device),
    ones_like=lambda t, d=None: factory.full_of(t.meta.view.shape, 1, d or t.meta.dtype, t.meta.device),
    full=factory.full_of,
    blank=lambda shape, d, device=None: factory.full_of(shape, 0, d, device, factory.EMPTY),
    arange=_loosely(factory.arange),
    eye=_loosely(factory.eye),
    is_grad_enabled=autograd.is_grad_enabled,
    add_region=add_region,
    overwrite_region=overwrite_region,
    from_numpy=lambda array: placement.loose(adopt(array)),
    tensor=_loosely(tensor),
    cast=pw.cast,
    cat=joining.cat,
    stack=joining.stack,
    conj=conj_,
    store_out=record.store_out,
    inplace=inplace,
    broadcast_tensors=joining.broadcast_tensors,
    sparse_rows=_sparse_rows,
    bitcast=_bitcast,
    on_memory=from_numpy,
    together=placement.together,
    settled=placement.settled,
    fills=_dense_in_some_order,
    Storage=Storage,
    generator_of=generator_of,
)

__all__ = ["Tensor", "Size", "tensor", "from_numpy", "extern", "index_ops", "reduction"]
