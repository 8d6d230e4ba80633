"""Methods of Tensor that are neither operators nor part of what a tensor is: new tensors like it, conversions, older names."""

from __future__ import annotations

import builtins

import numpy as np

from ..base import dtype as dt
from ..base.device import device as Device
from ..base.formats import preserve_format
from ..graph import tape
from ..graph.node import dense
from ..ops import factory, placement
from ..ops.recall import deprecated, warn_once
from ..ops.record import core, rounded
from ..ops.strides import of_format, suggested
from ..ops.view import given_size
from . import writing
from .arrays import storage_on, tensor
from .tensor import Tensor, from_storage, host, laid_out, plain

# -- new tensors of the same dtype ------------------------------------------------------------------------------

def _like(make, name):
    def method(self, *size, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False, **given):
        return make(given_size(name, size, given), dtype=dt.asked(name, dtype, self.dtype),
                    device=self.device if device is None else device, requires_grad=requires_grad, pin_memory=pin_memory)
    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`torch.{name[4:]}` of the given size, with this tensor's dtype and device unless given."
    return method


new_empty, new_zeros, new_ones = _like(factory.empty, "new_empty"), _like(factory.zeros, "new_zeros"), _like(factory.ones, "new_ones")


def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """`torch.tensor` with this tensor's dtype unless given."""
    return tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad,
                  pin_memory=pin_memory)


def new_full(self, size, fill_value, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """`torch.full` with this tensor's dtype unless given."""
    return factory.full(size, fill_value, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad,
                        pin_memory=pin_memory)


def new_empty_strided(self, size, stride, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """`torch.empty_strided` with this tensor's dtype unless given."""
    return factory.empty_strided(size, stride, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad,
                                 pin_memory=pin_memory)


def new(self, *args, device=None):
    """A tensor of this dtype, as the constructors such as FloatTensor make it."""
    from .legacy import constructed
    return constructed(self.dtype, args, device)


# -- copies ---------------------------------------------------------------------------------------------------

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
    out = plain(self.__class__)
    out.storage, out._meta = cell, self._meta
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


def is_pinned(self, device=None) -> bool:
    """Whether the memory is page-locked (`pin_memory`)."""
    if not tape.state.devices or self.is_cuda or self.storage.node.buffer is None:
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
    tape.state.devices = tape.state.gpus = True
    array = host(self.detach().contiguous())
    memory = cuda.pinned(array.nbytes).view(self.dtype.memory)
    memory[:] = array.reshape(-1)
    return from_storage(storage_on(memory, self.numel(), self.dtype), self.dtype, self.shape, dense(tuple(self.shape)).strides, 0)


# -- conversions ------------------------------------------------------------------------------------------------

def to(self, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    """This tensor with another dtype, device or memory format: to(dtype), to(device, dtype), to(other). The tensor itself where nothing
    changes."""
    for i, a in enumerate(args):
        if isinstance(a, (dt.dtype, builtins.type)):
            dtype = a
        elif isinstance(a, Tensor):
            dtype, device = a.dtype, a._meta.device
        elif isinstance(a, bool):
            copy = a if i == len(args) - 1 and i > 1 else copy
        elif isinstance(a, (str, Device, int)):
            device = a
        elif a is not None:
            raise TypeError(f"to(): expected a dtype, a device or a tensor; received {type(a).__name__}")
    dtype = dt.asked("to", dtype)
    if dtype is not None and self._meta.dtype.kind == "c" and dtype.kind not in "cb":
        warn_once("Casting complex values to real discards the imaginary part")
    x = self if dtype is None else rounded(self, dtype)
    if device is not None:
        x = placement.place(x, placement.device_name(device), not non_blocking)
    if memory_format not in (None, preserve_format) and (copy or x is not self or suggested(self._meta.view) is not memory_format):
        layout = of_format("to", self._meta.view.shape, memory_format)
        x = x if layout.strides == x.stride() else laid_out(x, layout)
    return x.clone() if copy and x is self else x


def type(self, dtype=None, non_blocking=False, **kwargs):
    """The name of the tensor's type, or the tensor converted to a dtype (also by such a name or type)."""
    from . import legacy
    if dtype is None:
        return f"torch.{legacy.type_name(self.dtype)}"
    if isinstance(dtype, str):
        name = dtype.rpartition(".")[2]
        if not dtype.startswith("torch.") or not hasattr(legacy, name):
            raise ValueError(f"invalid type: '{dtype}'")
        dtype = getattr(legacy, name)
    return self.to(getattr(dtype, "dtype", dtype))


def type_as(self, other):
    """This tensor with the dtype of the other."""
    return self.to(other.dtype)


def cpu(self, memory_format=None):
    """This tensor on the CPU."""
    return self if self.is_cpu and memory_format is None else self.to("cpu", memory_format=memory_format)


def cuda(self, device=None, non_blocking=False, memory_format=None):
    """This tensor on a GPU."""
    return self.to(device="cuda" if device is None else device, non_blocking=non_blocking, memory_format=memory_format)


def _converter(name, d):
    def method(self, memory_format=None):
        return self.to(d, memory_format=memory_format)
    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"This tensor with dtype {d}."
    return method


_DTYPES = dict(float=dt.float32, double=dt.float64, half=dt.float16, bfloat16=dt.bfloat16, int=dt.int32, long=dt.int64, short=dt.int16,
               char=dt.int8, byte=dt.uint8, bool=dt.bool_, chalf=dt.complex32, cfloat=dt.complex64,
               cdouble=dt.complex128)


def __array_wrap__(self, array, context=None, return_scalar=False):
    """A NumPy function's result for this tensor, as a tensor."""
    array = np.asarray(array)
    return core.from_numpy(array.copy())


def to_dense(self, dtype=None, *, masked_grad=True):
    """This tensor: it is dense."""
    return self if dtype is None else self.to(dtype)


def _sparse_form(name: str, layout_name: str):
    def method(self, sparse_dim=None, *, layout=None, blocksize=None, dense_dim=None):
        from . import sparse
        return sparse.from_dense(self, sparse_dim, layout or getattr(sparse, layout_name))
    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The elements that are not zero, as a tensor of layout {layout_name}."
    return method


to_sparse, to_sparse_coo, to_sparse_csr, to_sparse_csc = (_sparse_form(name, layout) for name, layout in (
    ("to_sparse", "sparse_coo"), ("to_sparse_coo", "sparse_coo"), ("to_sparse_csr", "sparse_csr"), ("to_sparse_csc", "sparse_csc")))


def sparse_mask(self, mask):
    """The elements at the places of a sparse tensor."""
    c = mask.coalesce()
    return c._like(self[tuple(c._at.unbind(0))])


def sparse_dim(self) -> int:
    """0: it is dense."""
    return 0


def dense_dim(self) -> int:
    """The number of dimensions."""
    return self.dim()


# -- elements by Python functions -------------------------------------------------------------------------------

def _by_python(self, function, *tensors):
    arrays = [np.broadcast_to(host(x.detach()), self.shape) for x in tensors]
    values = [function(*xs) for xs in zip(*(a.ravel().tolist() for a in arrays))]
    return writing.taking(self, tensor(values, dtype=self.dtype).reshape(self.shape))


def apply_(self, callable):
    """Every element replaced by `callable` of it. Slow: Python is called for each."""
    return _by_python(self, callable, self)


def map_(self, tensor, callable):
    """Every element replaced by `callable` of it and the other tensor's."""
    return _by_python(self, callable, self, tensor)


def map2_(self, x, y, callable):
    """Every element replaced by `callable` of it and those of two others."""
    return _by_python(self, callable, self, x, y)


# -- what it is -------------------------------------------------------------------------------------------------

def is_nonzero(self) -> bool:
    """Whether the only element is not zero."""
    if self.numel() != 1:
        raise RuntimeError(f"Boolean value of Tensor with {'no values' if not self.numel() else 'more than one value'} is ambiguous")
    return self.item() != 0


def dim_order(self, ambiguity_check=False) -> tuple:
    """The dimensions from the outermost in memory to the innermost."""
    strides = self.stride()
    return tuple(sorted(range(self.dim()), key=lambda d: (-strides[d], d)))


def is_distributed(self) -> bool:
    """False: a tensor is whole here."""
    return False


def storage_type(self):
    """The type of `storage()`."""
    from . import legacy
    return getattr(legacy, legacy.type_name(self.dtype)[:-6] + "Storage")


# -- in place ---------------------------------------------------------------------------------------------------

def fill_diagonal_(self, fill_value, wrap=False):
    """The main diagonal set to a number; with `wrap` it starts anew below a tall matrix's last column."""
    if self.dim() < 2:
        raise RuntimeError(f"fill_diagonal_: dimensions must larger than 1; received {self.dim()}")
    shape, strides = self.shape, self.stride()
    if self.dim() > 2 and len(set(shape)) > 1:
        raise RuntimeError(f"fill_diagonal_: all dimensions of input must be of equal length; received {list(shape)}")
    count = min(shape)
    self.as_strided((count,), (sum(strides),), self.storage_offset()).fill_(fill_value)
    if wrap and self.dim() == 2 and shape[0] > shape[1] + 1:
        self[shape[1] + 1:].fill_diagonal_(fill_value, True)
    return self


def resize(self, *sizes):
    """`reshape` to as many elements; deprecated."""
    deprecated("non-inplace resize", "reshape, or resize_ to change the number of elements")
    return self.reshape(*sizes)


def resize_as(self, tensor):
    """`reshape` to the shape of another tensor with as many elements; deprecated."""
    deprecated("non-inplace resize_as", "reshape")
    return self.reshape(tensor.shape)


def resize_as_(self, the_template, *, memory_format=None):
    """`resize_` to the shape of another tensor; with preserve_format, to its memory format too."""
    if memory_format is preserve_format:
        memory_format = suggested(the_template._meta.view)
    return self.resize_(the_template.shape, memory_format=memory_format)


def module_load(self, other, assign=False):
    """What a module keeps of `other` when it loads it for this tensor."""
    return other if assign else self.copy_(other).detach()


def index(self, indices):
    """`self[indices]` for a list of index tensors and None."""
    return self[tuple(slice(None) if i is None else i for i in indices)]


def dequantize(self):
    """The numbers in float32: of a tensor that is not quantized, its own."""
    return self.float()


def _refusing(name: str, wanted: str, error: type[Exception], convert: str):
    """A method that dense tensors of numbers do not have, which says how to come to what has it."""
    def method(self, *args, **kwargs):
        raise error(f"{name}: expected a {wanted} tensor; received a plain one. Convert it first: {convert}")
    method.__name__ = name
    method.__doc__ = f"Of a {wanted} tensor."
    return method


_REFUSED = [
    *(_refusing(name, "sparse", RuntimeError, "x.to_sparse()") for name in ("coalesce", "is_coalesced", "indices", "values")),
    *(_refusing(name, "sparse (rows compressed)", RuntimeError, "x.to_sparse_csr()") for name in ("crow_indices", "col_indices")),
    *(_refusing(name, "sparse (columns compressed)", RuntimeError, "x.to_sparse_csc()") for name in ("ccol_indices", "row_indices")),
    *(_refusing(name, "quantized", NotImplementedError, "torch.quantize_per_tensor(x, scale, zero_point, torch.qint8)") for name in (
        "int_repr", "qscheme", "q_scale", "q_zero_point", "q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis")),
]
METHODS = [
    __deepcopy__,
    dequantize,
    *_REFUSED,
    is_pinned,
    pin_memory,
    writing.copy_,
    writing.fill_,
    writing.zero_,
    writing.resize_,
    writing.set_,
    new_empty,
    new_zeros,
    new_ones,
    new_tensor,
    new_full,
    new_empty_strided,
    new,
    to,
    type,
    type_as,
    cpu,
    cuda,
    __array_wrap__,
    to_dense,
    to_sparse,
    to_sparse_coo,
    to_sparse_csr,
    to_sparse_csc,
    sparse_mask,
    sparse_dim,
    dense_dim,
    apply_,
    map_,
    map2_,
    is_nonzero,
    dim_order,
    is_distributed,
    storage_type,
    fill_diagonal_,
    resize,
    resize_as,
    resize_as_,
    module_load,
    index,
    *(_converter(*x) for x in _DTYPES.items()),
]


def install() -> None:
    for f in METHODS:
        setattr(Tensor, f.__name__, f)
    for alias, name in dict(const_data_ptr="data_ptr", __nonzero__="__bool__", __long__="__int__", __div__="__truediv__",
                            __idiv__="__itruediv__", __rdiv__="__rtruediv__").items():
        setattr(Tensor, alias, getattr(Tensor, name))
    for name in ("is_xla", "is_ipu", "is_maia", "is_mtia", "is_vulkan"):
        setattr(Tensor, name, False)
    Tensor.name = None


__all__ = ["install"]
