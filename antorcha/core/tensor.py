"""The tensor: (storage, shape, strides, offset), a dtype, and its place in the graph of derivatives.

Most methods are not written here: `surface.install` makes them from the operators' records. Here is what a tensor is made of, how
it is read, and how operators make one.
"""

from __future__ import annotations

import ctypes
import weakref

import numpy as np

from ..base import config
from ..base import dtype as dt
from ..base.device import device as Device
from ..base.formats import Size, contiguous_format, preserve_format, strided
from ..base.grad_mode import mode, without_grad
from ..graph import tape
from ..graph.node import Node, Static, dense
from ..graph.node import view as make_view
from ..graph.tape import LONGEST
from ..ops import arrange, complex_numbers, contraction, placement, record
from ..ops import pointwise as pw
from ..ops import view as view_ops
from ..ops.recall import warn, warn_once
from ..ops.record import meta
from ..ops.strides import fills, lies_in, of_format, order, reordered, stacked
from . import autograd, indexing, override
from .autograd import Handle
from .storage import Storage


class Tensor:
    """An array of elements of one dtype. See PyTorch's documentation; this class keeps its contract."""

    # What every tensor has is in slots, which are quick to fill: `_rg`: requires grad, itself or through what it was computed from;
    # `_nr`: which output of `_grad_fn` it is. The rest has a value where it is not the one below.
    __slots__ = ("storage", "_meta", "_rg", "_grad_fn", "_nr", "__dict__", "__weakref__")
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
        t.storage, t._meta = data.storage, data._meta
        if require_grad:
            t.requires_grad_()
        return t

    def as_subclass(self, cls):
        """This tensor as an instance of a subclass, on the same memory and with the same derivative."""
        t = alias(self, self._meta)
        out = Tensor._make_subclass(cls, t)
        out._rg, out._grad_fn, out._nr = self._rg, self._grad_fn, self._nr
        return out

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        v = self._meta.view
        found = v.memo.get("size")
        if found is None:
            found = v.memo["size"] = Size(v.shape)
        return found

    def size(self, dim=None):
        """The shape, or the length of one dimension."""
        return self.shape if dim is None else self._meta.view.shape[record.normalize_dim("size", dim, len(self._meta.view.shape))]

    def stride(self, dim=None):
        """How many elements lie between neighbours along each dimension, or along one."""
        strides = self._meta.view.strides
        return strides if dim is None else strides[record.normalize_dim("stride", dim, len(strides))]

    def storage_offset(self) -> int:
        """The position of the first element in the storage, in elements."""
        return self._meta.view.offset

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self._meta.view.shape)

    ndimension = dim

    @property
    def ndim(self) -> int:
        return len(self._meta.view.shape)

    def numel(self) -> int:
        """The number of elements."""
        return self._meta.view.numel

    nelement = numel

    @property
    def dtype(self):
        return self._meta.dtype

    @property
    def device(self) -> Device:
        return Device(self._meta.device or "cpu")

    @property
    def itemsize(self) -> int:
        return self._meta.dtype.itemsize

    def element_size(self) -> int:
        """The bytes of one element."""
        return self._meta.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._meta.view.numel * self._meta.dtype.itemsize

    layout = property(lambda self: strided)
    is_sparse, is_quantized, is_mps, is_nested, is_mkldnn, is_xpu, is_sparse_csr = (property(lambda self: False) for _ in range(7))
    is_meta = property(lambda self: self._meta.device == "meta")
    is_cpu = property(lambda self: self._meta.device in (None, "cpu"))
    is_cuda = property(lambda self: not self.is_cpu)

    def get_device(self) -> int:
        """The index of the GPU that the tensor is on; -1 on the CPU."""
        return -1 if self.is_cpu else self.device.index

    def is_floating_point(self) -> bool:
        """Whether elements are floating point numbers (not complex ones)."""
        return self._meta.dtype.kind == "f"

    def is_complex(self) -> bool:
        """Whether elements are complex."""
        return self._meta.dtype.kind == "c"

    def is_signed(self) -> bool:
        """Whether elements can be negative."""
        return self._meta.dtype.is_signed

    def is_conj(self) -> bool:
        """False: conjugates are computed, never marked; neither are negatives, nor tensors of inference mode."""
        return False

    is_neg = is_inference = is_conj

    def is_contiguous(self, memory_format=contiguous_format) -> bool:
        """Whether elements lie in memory one after the other, the last dimension running fastest, or in the order of another format."""
        return lies_in(self._meta.view, memory_format)

    def is_same_size(self, other) -> bool:
        """Whether the other tensor has the same shape."""
        return self.shape == other.shape

    def is_set_to(self, other) -> bool:
        """Whether the other tensor is the same part of the same storage."""
        return self.storage is other.storage and self._meta is other._meta

    def is_shared(self) -> bool:
        """False: memory is shared with other processes where a data loader copies it there."""
        return False

    def record_stream(self, stream) -> None:
        """Keep this tensor's memory until a stream, which works with it too, has done what it has been given so far."""
        if self.is_cpu:
            raise RuntimeError(f"record_stream: expected a tensor on a GPU; received one on {self.device}.")
        self.storage.buffer().used_in(stream.cuda_stream)

    def share_memory_(self):
        """The tensor itself; see `is_shared`."""
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
        """Set whether gradients with respect to this tensor are computed; returns the tensor. RuntimeError for integers."""
        if requires_grad and self._meta.dtype.kind not in "fc":
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
        if self._grad_fn is not None and self._grad is None and not self.retains_grad:
            warn("The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be populated "
                 "during autograd.backward(). If you want it to be, call .retain_grad() on the Tensor first; else look at the leaf.")
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
            if placement.apart(value, self):
                raise RuntimeError(f"assigned grad has data located on a different device: expected {self.device}; received "
                                   f"{value.device}. Move it: grad.to('{self.device}')")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None) -> None:
        """Add the gradients of this tensor (times `gradient`, of the same shape; 1 for a single element) to the `.grad` of the leaves
        it comes from, or of `inputs` alone. The graph is freed unless `retain_graph`; `create_graph` records the gradients' own
        derivatives."""
        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self):
        """The same values on the same memory, without a derivative."""
        return alias(self, self._meta)

    def detach_(self):
        """Cut this tensor from what it was computed from; returns it. RuntimeError for views."""
        if self._base is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._rg, self._grad_fn, self._nr = False, None, 0
        return self

    @property
    def data(self):
        out = alias(self, self._meta)
        out._untracked = True
        return out

    @data.setter
    def data(self, value) -> None:
        self.storage, self._meta = value.storage, value._meta

    def register_hook(self, hook):
        """Call hook(grad) when the gradient with respect to this tensor is computed; what it returns, if not None, takes its place.
        Returns a handle with `remove()`."""
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
        """Call hook(tensor) after a gradient was added to the `.grad` of this leaf. Returns a handle with `remove()`."""
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
        """Keep the gradient in `.grad` though this tensor is no leaf."""
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
        """The only element as a Python number. RuntimeError if there are more."""
        m = self._meta
        if m.view.numel != 1:
            raise RuntimeError(
                f"a Tensor with {m.view.numel} elements cannot be converted to Scalar: expected one element; received shape "
                f"{list(self.shape)}. Reduce it first, or use tolist()."
            )
        if m.device == "meta":
            raise RuntimeError("Tensor.item() cannot be called on meta tensors: they have no values.")
        number = NUMBERS.get(m.dtype)
        if number is None or m.device not in (None, "cpu"):
            return host(self).reshape(()).item()
        buffer = self.storage.buffer()
        return number.from_address(buffer.address + m.view.offset * m.dtype.itemsize).value

    def tolist(self):
        """The elements as nested lists of Python numbers; a number for a tensor without dimensions."""
        return host(self).tolist()

    def numpy(self, *, force=False):
        """An array on the same memory. With `force` also of tensors that require grad or are on a GPU, of which it is a copy."""
        if self._rg and mode.grad and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.is_cuda:
            if force:
                return self.detach().cpu().numpy()
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                            "first.")
        if self._meta.dtype.numpy is None:
            d = self._meta.dtype
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
        """The address of the first element."""
        if self.is_meta:
            return 0
        self.storage.share()
        return self.storage.buffer().address + self._meta.view.offset * self._meta.dtype.itemsize

    def untyped_storage(self):
        """The bytes that this tensor and its views lie in."""
        from .untyped import UntypedStorage
        return UntypedStorage.of(self.storage)

    def __bool__(self) -> bool:
        n = self._meta.view.numel
        if n != 1:
            raise RuntimeError("Boolean value of Tensor with " + ("no values" if n == 0 else "more than one value") + " is ambiguous. "
                               "Use x.any() or x.all().")
        return bool(self.item())

    def _scalar(self):
        if self._meta.view.numel != 1:
            raise ValueError(f"only one element tensors can be converted to Python scalars; received shape {list(self.shape)}. "
                             "Reduce it first, or use tolist().")
        if self._rg and mode.grad:
            warn_once("Converting a tensor with requires_grad=True to a Python number loses its derivative. Use tensor.detach() or item().")
        return self.item()

    def _real(self):
        value = self._scalar()
        if type(value) is complex:
            if value.imag:
                raise RuntimeError(f"expected a real number; received {value}. (value cannot be converted without overflow) Use x.real")
            return value.real
        return value

    def __int__(self) -> int:
        return int(self._real())

    def __float__(self) -> float:
        return float(self._real())

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def __index__(self) -> int:
        if self._meta.dtype.kind not in "iub" or self._meta.view.numel != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        shape = self._meta.view.shape
        if not shape:
            raise TypeError("len() of a 0-d tensor")
        return shape[0]

    def __iter__(self):
        if not self._meta.view.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(view_ops.unbind(self, 0))

    def __contains__(self, x) -> bool:
        return bool((self == x).any())

    __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        return object.__format__(self, spec) if self._meta.view.shape else format(self.item(), spec)

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

    __getitem__, __setitem__ = indexing.getitem, indexing.setitem

    # -- copies and conversions ---------------------------------------------------------------------------------

    def clone(self, *, memory_format=preserve_format):
        """A copy in memory of its own, with this tensor's derivative passed on. It keeps the strides of this tensor where they leave no
        gaps, else their order, unless a memory format is given."""
        v = self._meta.view
        if memory_format is not preserve_format and (layout := of_format("clone", v.shape, memory_format)).strides != v.strides:
            return laid_out(self, layout)
        if v.numel == self.storage.numel and v.offset == 0 and fills(v):
            out = alias(self, self._meta)
            out.storage = self.storage.copy()
            if self._rg and mode.grad:
                record.attach(pw.identity.record, out, (self,))
            return out
        return pw.identity(self)

    def contiguous(self, memory_format=contiguous_format):
        """The tensor itself if its elements lie in the order of the format, else a copy in which they do."""
        v = self._meta.view
        return self if lies_in(v, memory_format) else laid_out(self, of_format("contiguous", v.shape, memory_format))

    @property
    def T(self):
        if self.dim() not in (0, 2):
            warn_once("x.T of tensors of other than 2 dimensions is deprecated. Use x.mT for batches of matrices, or "
                      "x.permute(*range(x.ndim - 1, -1, -1)).")
        return view_ops.permute(self, *range(self.dim() - 1, -1, -1))

    @property
    def mT(self):
        return view_ops.transpose(self, -2, -1)

    H = property(lambda self: self.T.conj())
    mH = property(lambda self: self.mT.conj())
    real = property(lambda self: complex_numbers.real(self))
    imag = property(lambda self: complex_numbers.imag(self))

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
    """An instance of a tensor class, without history; `storage` and `_meta` are to be set."""
    out = _new(cls)
    out._rg, out._grad_fn, out._nr = False, None, 0
    return out


def record_form(form, inputs: tuple, m) -> Tensor:
    """Record a node and return its tensor. This is where the time of recording goes: everything is written out."""
    node = Node()
    node.form = form
    node.inputs = inputs
    node.buffer = node.where = None
    _record(node)
    storage = Storage()
    storage.node = node
    storage.version = 0
    out = _new(Tensor)
    out.storage = storage
    out._meta = m
    out._rg = False
    out._grad_fn = None
    out._nr = 0
    if _state.urgent or config.eager or len(_pending) > LONGEST:
        tape.settle()
    return out


def make(node: Node, m) -> Tensor:
    """Record a node that is made already and return its tensor."""
    _record(node)
    out = tensor_on(Storage.of(node), m)
    if _state.urgent or config.eager or len(_pending) > LONGEST:
        tape.settle()
    return out


def tensor_on(storage: Storage, m) -> Tensor:
    """A tensor without history."""
    out = _new(Tensor)
    out.storage = storage
    out._meta = m
    out._rg = False
    out._grad_fn = None
    out._nr = 0
    return out


def wrap(node: Node, m) -> Tensor:
    """The tensor of a node that is recorded already; the caller settles the tape."""
    return tensor_on(Storage.of(node), m)


def alias(t: Tensor, m) -> Tensor:
    """Another tensor on the same storage, without history."""
    return tensor_on(t.storage, m)


def view_of(t: Tensor, m) -> Tensor:
    """A view: in-place writes to it or its base are seen by both, by autograd too."""
    out = _new(Tensor)
    out.storage = t.storage
    out._meta = m
    out._rg = False
    out._grad_fn = None
    out._nr = 0
    base = out._base = t._base if t._base is not None else t
    if base._rg or not without_grad or mode.grad:
        views = base._views
        if views is None:
            views = base._views = Views()
        elif len(views) > views.most:
            views[:] = [r for r in views if r() is not None]
            views.most = max(64, 2 * len(views))
        views.append(weakref.ref(out))
    return out


class Views(list):
    """Weak references to views. Those of which nothing is left go where there are more than `most`, twice as many as were left before."""

    __slots__ = ("most",)

    def __init__(self):
        self.most = 64


def reread(t: Tensor, shape: tuple) -> Tensor:
    """A fresh dense result given another shape of as many elements."""
    if t._meta.view.shape != shape:
        t._meta = meta(dense(shape), t._meta.dtype, t._meta.device)
    return t


def contiguous(t: Tensor) -> Tensor:
    """A row-major copy."""
    return laid_out(t, dense(t._meta.view.shape))


def laid_out(t: Tensor, layout) -> Tensor:
    """A copy whose elements lie as `layout`, a map that fills its memory, says."""
    out = _copy_in_order(t, order(layout))
    m = out._meta
    if m.view is not layout:
        out._meta = meta(layout, m.dtype, m.device)
    return out


@record.operator(name="contiguous", title="Clone", public=False, grad=dict(input=lambda g: g))
def _copy_in_order(input: Tensor, dims):
    """`dims`: the order of dimensions in memory, the outermost first; None for that of the shape."""
    m = input._meta
    v = reordered(m.view, dims)
    node = Node.of(pw.identity.record, (input.storage.node,), (v,), Static(casts=(m.dtype,)), v.shape, v.numel, m.dtype)
    return make(node, meta(dense(v.shape) if dims is None else stacked(m.view.shape, dims[::-1]), m.dtype, m.device))


def flat_of(storage: Storage, m) -> Tensor:
    return tensor_on(storage, meta(dense((storage.numel,)), m.dtype, m.device))


# Numbers in memory that Python's have the form of.
NUMBERS = {dt.bool_: ctypes.c_bool, dt.uint8: ctypes.c_uint8, dt.int8: ctypes.c_int8, dt.int16: ctypes.c_int16, dt.int32: ctypes.c_int32,
           dt.int64: ctypes.c_int64, dt.float32: ctypes.c_float, dt.float64: ctypes.c_double}


def host(t: Tensor) -> np.ndarray:
    """The value as a NumPy array on the tensor's own memory; of a dtype that NumPy lacks (bfloat16), a copy in float32."""
    m = t._meta
    d, v = m.dtype, m.view
    if v.numel == 0:
        return np.empty(v.shape, d.numpy or d.compute.numpy or np.float32)
    if v.dense:
        array = t.storage.buffer().array(d.memory, v.numel).reshape(v.shape)
    else:
        flat = t.storage.buffer().array(d.memory, t.storage.numel)
        array = np.ndarray(v.shape, d.memory, flat, v.offset * d.itemsize, [s * d.itemsize for s in v.strides])
    return array if d.numpy is not None else dt.numbers(array, d)


def from_storage(storage: Storage, dtype, shape, strides, offset) -> Tensor:
    buffer = storage.node.buffer
    return tensor_on(storage, meta(make_view(tuple(shape), tuple(strides), offset), dtype, "cpu" if buffer is None else buffer.device))
