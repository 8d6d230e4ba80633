"""Sparse tensors: the values that are not zero and where they are.

`SparseTensor` keeps coordinates (int64, (sparse dimensions, n)) and values ((n, *dense dimensions)); a place may occur several times, then
its values add up (`coalesce` makes them one). In the compressed layouts the same coordinates are told as `crow_indices` and
`col_indices`. Everything is computed from the two dense tensors, so derivatives by the values follow; what no sparse form exists for
refuses and says `to_dense()`.
"""

from __future__ import annotations

import math

from ..base import dtype as dt
from ..base.formats import Size, sparse_coo, sparse_csc, sparse_csr
from ..graph.node import view as make_view
from ..ops import factory
from ..ops import pointwise as pw
from ..ops.contraction import check_dtypes
from ..ops.joining import cat, stack
from ..ops.record import meta, normalize_dim, normalize_dims, widened
from ..ops.sorting import unique
from .arrays import tensor
from .override import disabled
from .tensor import Tensor, plain


def _refused(self):
    raise NotImplementedError(f"expected a dense tensor; received one of layout {self.layout}, for which this operator does not exist. "
                              "Convert it first: input.to_dense()")


class SparseTensor(Tensor):
    """See the module's text. Its `_meta` has the shape and dtype; there is no storage behind it."""

    is_sparse = True
    __torch_function__ = disabled
    storage = property(_refused)

    def __new__(cls, indices, values, shape, coalesced=False, layout=sparse_coo):
        self = plain(cls)
        shape = tuple(shape)
        self._meta = meta(make_view(shape, (0,) * len(shape)), values.dtype, values._meta.device)
        self.__dict__.update(_at=indices, _of=values, _unique=bool(coalesced) or layout is not sparse_coo, _layout=layout)
        return self

    def __init__(self, *args, **kwargs):
        pass

    def _like(self, values, coalesced=None) -> SparseTensor:
        """Other values at the same places."""
        return SparseTensor(self._at, values, self.shape, self._unique if coalesced is None else coalesced, self._layout)

    def at_places(self, other):
        """The elements of another tensor at the places of this one."""
        if other.is_sparse and other._at is self._at:
            return other._of
        dense = other.to_dense()
        return dense[tuple(self._at.unbind(0))] if self.sparse_dim() else dense.unsqueeze(0)

    # -- what it is ---------------------------------------------------------------------------------------------

    layout = property(lambda self: self._layout)
    is_sparse_csr = property(lambda self: self._layout is sparse_csr)
    requires_grad = property(lambda self: self._of.requires_grad, lambda self, wanted: self.requires_grad_(wanted))
    is_leaf = property(lambda self: self._of.is_leaf)
    grad_fn = property(lambda self: self._of.grad_fn)

    @property
    def grad(self):
        """The derivative by the values, at their places."""
        return None if self._of.grad is None else self._like(self._of.grad)

    @grad.setter
    def grad(self, value):
        self._of.grad = None if value is None else value._of

    def requires_grad_(self, requires_grad=True):
        self._of.requires_grad_(requires_grad)
        return self

    def sparse_dim(self) -> int:
        return self._at.shape[0]

    def dense_dim(self) -> int:
        return self._of.dim() - 1

    def _nnz(self) -> int:
        return self._of.shape[0]

    def is_coalesced(self) -> bool:
        return self._unique

    def _indices(self):
        return self._at

    def _values(self):
        return self._of

    def indices(self):
        """The coordinates; RuntimeError where places may occur twice."""
        self._need_coalesced("indices")
        return self._at

    def values(self):
        """The values; RuntimeError where places may occur twice."""
        self._need_coalesced("values")
        return self._of

    def _need_coalesced(self, what: str) -> None:
        if self._layout is not sparse_coo and what == "indices":
            raise RuntimeError(f"indices expected sparse coordinate tensor layout but got {self._layout}: use crow_indices and col_indices")
        if not self._unique:
            raise RuntimeError(f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first")

    def _compressed(self, kept: int):
        if self._layout is not (sparse_csr, sparse_csc)[kept]:
            raise RuntimeError(f"expected a tensor of layout {(sparse_csr, sparse_csc)[kept]}; received {self._layout}. Convert it: "
                               f"{('to_sparse_csr', 'to_sparse_csc')[kept]}()")
        counts = factory.zeros(self.shape[kept] + 1, dtype=dt.int64).index_add(
            0, self._at[kept] + 1, factory.ones(self._nnz(), dtype=dt.int64)
        )
        return counts.cumsum(0)

    def crow_indices(self):
        """Where each row begins among the values."""
        return self._compressed(0)

    def col_indices(self):
        """The column of each value."""
        self._compressed(0)
        return self._at[1]

    def ccol_indices(self):
        """Where each column begins among the values."""
        return self._compressed(1)

    def row_indices(self):
        """The row of each value."""
        self._compressed(1)
        return self._at[0]

    # -- other forms --------------------------------------------------------------------------------------------

    def to_dense(self, dtype=None, *, masked_grad=None):
        """The same numbers with the zeros written out."""
        zeros = factory.zeros(tuple(self.shape), dtype=self.dtype)
        dense = zeros.index_put(tuple(self._at.unbind(0)), self._of, accumulate=True) if self.sparse_dim() else zeros + self._of.sum(0)
        return dense if dtype is None else dense.to(dtype)

    def coalesce(self):
        """Each place once, in order; values of one place added."""
        if self._unique:
            return self
        places, inverse = unique(self._flat(), return_inverse=True)
        summed = factory.zeros((places.shape[0], *self._of.shape[1:]), dtype=self.dtype).index_add(0, inverse, self._of)
        return SparseTensor(self._unravelled(places), summed, self.shape, True)

    def _flat(self):
        """The coordinates as one number each."""
        flat = self._at[0]
        for d in range(1, self.sparse_dim()):
            flat = flat * self.shape[d] + self._at[d]
        return flat

    def _unravelled(self, flat):
        rows = []
        for size in reversed(self.shape[:self.sparse_dim()]):
            rows.append(flat % size)
            flat = flat // size
        return stack(rows[::-1], 0)

    def to_sparse(self, sparse_dim=None, *, layout=None, blocksize=None, dense_dim=None):
        """This tensor in another sparse layout."""
        wanted = layout or sparse_coo
        c = SparseTensor(self._at, self._of, self.shape, self._unique).coalesce()
        if wanted is sparse_coo:
            return c
        if c.sparse_dim() != 2:
            raise RuntimeError(f"to_sparse: expected a matrix for layout {wanted}; received {c.sparse_dim()} sparse dimensions")
        at, of = c._at, c._of
        if wanted is sparse_csc:
            order = (at[1] * self.shape[0] + at[0]).argsort()
            at, of = at[:, order], of[order]
        return SparseTensor(at, of, self.shape, True, wanted)

    to_sparse_coo = to_sparse

    def to_sparse_csr(self, dense_dim=None):
        return self.to_sparse(layout=sparse_csr)

    def to_sparse_csc(self, dense_dim=None):
        return self.to_sparse(layout=sparse_csc)

    def detach(self):
        return self._like(self._of.detach())

    def clone(self, *, memory_format=None):
        return self._like(self._of.clone())

    def to(self, *args, **kwargs):
        return self._like(self._of.to(*args, **kwargs))

    def type(self, dtype=None):
        return super().type() if dtype is None else self._like(self._of.type(dtype))

    float, double, half, bfloat16, long, int = (
        (lambda wanted: lambda self: self.to(wanted))(d) for d in (dt.float32, dt.float64, dt.float16, dt.bfloat16, dt.int64, dt.int32))

    def cpu(self):
        return self

    def transpose(self, dim0, dim1):
        """Two sparse dimensions exchanged."""
        a, b = (normalize_dim("transpose", d, self.dim()) for d in (dim0, dim1))
        if max(a, b) >= self.sparse_dim() and a != b:
            raise RuntimeError("transpose: expected two sparse dimensions of a sparse tensor")
        order, shape = list(range(self.sparse_dim())), list(self.shape)
        order[a], order[b], shape[a], shape[b] = b, a, shape[b], shape[a]
        c = SparseTensor(stack([self._at[d] for d in order], 0), self._of, shape)
        return c if self._layout is sparse_coo else c.to_sparse(layout=sparse_csc if self._layout is sparse_csr else sparse_csr)

    def t(self):
        return self.transpose(0, 1)

    T = property(t)

    def index_select(self, dim, index):
        """Slices along a dimension."""
        return self.to_dense().index_select(dim, index).to_sparse(self.sparse_dim())

    def sparse_mask(self, mask):
        return self.to_dense().sparse_mask(mask)

    # -- arithmetic ---------------------------------------------------------------------------------------------

    def _same_shape(self, what: str, other) -> None:
        if self.shape != other.shape:
            raise RuntimeError(f"{what}: expected tensors of equal sizes; received {list(self.shape)} and {list(other.shape)}")

    def __add__(self, other, alpha=1):
        if not isinstance(other, Tensor):
            _refused(self)
        self._same_shape("add", other)
        if not other.is_sparse:
            return self.to_dense() + other * alpha if alpha != 1 else self.to_dense() + other
        d = dt.promote(self.dtype, other.dtype)
        sum_ = SparseTensor(
            cat([self._at, other._at], 1), cat([self._of.to(d), (other._of * alpha if alpha != 1 else other._of).to(d)], 0), self.shape
        )
        return sum_ if self._layout is sparse_coo else sum_.to_sparse(layout=self._layout)

    __radd__ = __add__

    def add(self, other, *, alpha=1):
        return self.__add__(other, alpha)

    def add_(self, other, *, alpha=1):
        return self._become(self.__add__(other, alpha))

    def sub(self, other, *, alpha=1):
        return self.__add__(other, -alpha)

    __sub__ = sub

    def __rsub__(self, other):
        return (-self).__add__(other)

    def _become(self, other):
        self.__dict__.update(_at=other._at, _of=other._of, _unique=other._unique)
        return self

    def mul(self, other):
        """By a number or a tensor of no dimensions: the values; by a tensor of the same shape: at the places of both."""
        if not isinstance(other, Tensor) or not other.dim():
            return self._like(self._of * other)
        c = self.coalesce()
        dense = other.to_dense() if other.is_sparse else other.expand(self.shape)
        return c._like(c._of * dense[tuple(c._at.unbind(0))])

    __mul__ = __rmul__ = mul

    def mul_(self, other):
        return self._become(self.mul(other))

    def div(self, other, *, rounding_mode=None):
        if isinstance(other, Tensor) and other.dim():
            _refused(self)
        c = self.coalesce()
        return c._like(pw.div(c._of, other, rounding_mode=rounding_mode))

    __truediv__ = div

    def neg(self):
        return self._like(-self._of)

    __neg__ = neg

    def zero_(self):
        return self._become(SparseTensor(self._at[:, :0], self._of.detach()[:0], self.shape, True))

    def sum(self, dim=None, keepdim=False, *, dtype=None):
        """The sum of everything (dense), or over dimensions (sparse, while sparse dimensions are left)."""
        if dim is None:
            return self._of.sum(dtype=dtype)
        dims = normalize_dims("sum", dim, self.dim())
        n = self.sparse_dim()
        values = self._of
        inner = tuple(d - n + 1 for d in dims if d >= n)
        values = values.sum(inner, keepdim, dtype=dtype) if inner else values if dtype is None else values.to(dtype)
        outer = [d for d in range(n) if d not in dims]
        shape = [self.shape[d] if d not in dims else 1 for d in range(self.dim()) if keepdim or d not in dims]
        if not outer and not keepdim:
            return values.sum(0)
        kept = [self._at[d] if d in outer else self._at[d] * 0 for d in range(n) if keepdim or d in outer]
        return SparseTensor(stack(kept, 0), values, shape).coalesce()

    def norm(self, p="fro", dim=None, keepdim=False, dtype=None):
        if dim is not None:
            _refused(self)
        return self.coalesce()._of.norm(p)

    def matmul(self, other, reduce="sum"):
        """(n, m) times (m, ...) or (m,), dense; the product of two sparse matrices is sparse. The products of a row's values are added, or
        reduced by "mean", "amax" or "amin"."""
        if self.sparse_dim() != 2 or self.dense_dim():
            raise RuntimeError(
                f"matmul: expected a sparse matrix; received {self.sparse_dim()} sparse and {self.dense_dim()} dense dimensions"
            )
        if other.is_sparse:
            product = self.matmul(other.to_dense())
            return product.to_sparse(layout=self._layout) if self._layout is not sparse_coo else product.to_sparse()
        if other.dim() not in (1, 2) or other.shape[0] != self.shape[1]:
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({self.shape[0]}x{self.shape[1]} and "
                               f"{'x'.join(map(str, other.shape))})")
        check_dtypes("matmul", self, other)
        rows = other.index_select(0, self._at[1])
        terms = widened(rows) * widened(self._of.unsqueeze(1) if other.dim() == 2 else self._of)
        out = factory.zeros((self.shape[0], *other.shape[1:]), dtype=terms.dtype)
        if reduce == "sum":
            out = out.index_add(0, self._at[0], terms)
        else:
            out = out.index_reduce(0, self._at[0], terms, reduce, include_self=False)
        return out.to(other.dtype)

    mm = mv = __matmul__ = matmul

    def smm(self, mat):
        """The product with a dense matrix, as a sparse one."""
        return smm(self, mat)

    def sspaddmm(self, mat1, mat2, *, beta=1, alpha=1):
        """beta * self + alpha * (mat1 @ mat2) with `mat1` sparse, as a sparse matrix."""
        return sspaddmm(self, mat1, mat2, beta=beta, alpha=alpha)

    def __rmatmul__(self, other):
        return self.t().matmul(other.t()).t() if other.dim() == 2 else self.t().matmul(other)


def _on_values(name: str):
    """A function with f(0) = 0, of the values."""
    function = getattr(pw, name)

    def method(self):
        c = self.coalesce()
        return c._like(function(c._of))
    method.__name__ = name
    method.__doc__ = f"`{name}` of the values."
    return method


for _name in (
    "abs",
    "sqrt",
    "sin",
    "tan",
    "asin",
    "atan",
    "sinh",
    "tanh",
    "asinh",
    "atanh",
    "expm1",
    "log1p",
    "relu",
    "sign",
    "sgn",
    "ceil",
    "floor",
    "round",
    "trunc",
    "erf",
    "square",
):
    if hasattr(pw, _name):
        setattr(SparseTensor, _name, _on_values(_name))
SparseTensor.__abs__ = SparseTensor.abs


def _power(self, exponent):
    if isinstance(exponent, Tensor) or exponent <= 0:
        _refused(self)
    c = self.coalesce()
    return c._like(c._of ** exponent)


SparseTensor.pow = SparseTensor.__pow__ = _power


# -- making them ------------------------------------------------------------------------------------------------

def _as(x, dtype=None):
    x = x if isinstance(x, Tensor) else tensor(x)
    return x if dtype is None else x.to(dtype)


def _checked(what: str, at, of, shape) -> None:
    """That coordinates, values and shape go together."""
    n = at.shape[0]
    if at.dim() != 2 or of.dim() < 1 or at.shape[1] != of.shape[0]:
        raise RuntimeError(
            f"{what}: expected indices (sparse dimensions, n) and values (n, ...); received {list(at.shape)} and {list(of.shape)}"
        )
    if len(shape) != n + of.dim() - 1 or tuple(shape[n:]) != tuple(of.shape[1:]):
        raise RuntimeError(f"{what}: number of dimensions must be sparse_dim ({n}) + dense_dim ({of.dim() - 1}), the latter "
                           f"{list(of.shape[1:])}, but got size {list(shape)}")
    if at.numel():
        low, high = at.min(1)[0].tolist(), at.max(1)[0].tolist()
        for d in range(n):
            if low[d] < 0 or high[d] >= shape[d]:
                raise RuntimeError(f"{what}: size is inconsistent with indices: for dim {d}, size is {shape[d]} but found index "
                                   f"{low[d] if low[d] < 0 else high[d]}")


def sparse_coo_tensor(indices, values=None, size=None, *, dtype=None, device=None, pin_memory=False, requires_grad=False,
                      check_invariants=None, is_coalesced=None):
    """A sparse tensor with `values` (n, ...) at `indices` (sparse dimensions, n); places that occur twice add up."""
    if values is None:      # only a size
        size = tuple(indices)
        return SparseTensor(factory.zeros(len(size), 0, dtype=dt.int64), factory.zeros(0, dtype=dtype), size, True)
    at, of = _as(indices, dt.int64), _as(values, dtype)
    at = at.unsqueeze(0) if at.dim() == 1 else at
    if size is None:
        size = (*((at.max(1)[0] + 1).tolist() if at.numel() else [0] * at.shape[0]), *of.shape[1:])
    size = tuple(int(n) for n in size)
    _checked("sparse_coo_tensor", at, of, size)
    out = SparseTensor(at, of, size, bool(is_coalesced))
    return out.requires_grad_() if requires_grad else out


def _from_compressed(what, layout, starts, others, values, size, dtype, requires_grad):
    starts, others, of = _as(starts, dt.int64), _as(others, dt.int64), _as(values, dtype)
    first = factory.arange(starts.shape[0] - 1).repeat_interleave(starts[1:] - starts[:-1])
    if first.shape != others.shape:
        raise RuntimeError(f"{what}: expected as many indices as the last of the starts, {first.shape[0]}; received {others.shape[0]}")
    at = stack([first, others] if layout is sparse_csr else [others, first], 0)
    if size is None:
        own, other = starts.shape[0] - 1, int(others.max()) + 1 if others.numel() else 0
        size = (own, other) if layout is sparse_csr else (other, own)
    _checked(what, at, of, tuple(size))
    out = SparseTensor(at, of, size, True, layout)
    return out.requires_grad_() if requires_grad else out


def sparse_csr_tensor(crow_indices, col_indices, values, size=None, *, dtype=None, device=None, pin_memory=False, requires_grad=False,
                      check_invariants=None):
    """A sparse matrix by rows: row i has the columns col_indices[crow_indices[i]:crow_indices[i + 1]]."""
    return _from_compressed("sparse_csr_tensor", sparse_csr, crow_indices, col_indices, values, size, dtype, requires_grad)


def sparse_csc_tensor(ccol_indices, row_indices, values, size=None, *, dtype=None, device=None, pin_memory=False, requires_grad=False,
                      check_invariants=None):
    """A sparse matrix by columns."""
    return _from_compressed("sparse_csc_tensor", sparse_csc, ccol_indices, row_indices, values, size, dtype, requires_grad)


def sparse_compressed_tensor(
    compressed_indices,
    plain_indices,
    values,
    size=None,
    *,
    dtype=None,
    layout=None,
    device=None,
    pin_memory=False,
    requires_grad=False,
    check_invariants=None,
):
    """`sparse_csr_tensor` or `sparse_csc_tensor`, by the layout."""
    make = {sparse_csr: sparse_csr_tensor, sparse_csc: sparse_csc_tensor}.get(layout)
    if make is None:
        raise RuntimeError(f"sparse_compressed_tensor: expected layout torch.sparse_csr or torch.sparse_csc; received {layout}")
    return make(compressed_indices, plain_indices, values, size, dtype=dtype, requires_grad=requires_grad)


def from_dense(x, sparse_dim=None, layout=sparse_coo):
    """The elements (or slices, with fewer `sparse_dim`) of a dense tensor that are not zero."""
    n = x.dim() if sparse_dim is None else sparse_dim
    if not 0 <= n <= x.dim():
        raise RuntimeError(f"to_sparse: sparse_dim argument must be in [0,{x.dim()}], but got {sparse_dim}")
    full = (x != 0) if n == x.dim() else (x != 0).flatten(n).any(-1)
    at = full.nonzero().t().contiguous()
    of = x[tuple(at.unbind(0))] if n else x.unsqueeze(0)
    out = SparseTensor(at, of, x.shape, True)
    return out if layout is sparse_coo else out.to_sparse(layout=layout)


def spmm(input, mat2):
    """The product of a sparse and a dense matrix."""
    return input.matmul(mat2)


dsmm = spmm


def smm(input, mat):
    """The product of a sparse and a dense matrix, as a sparse one."""
    return input.matmul(mat).to_sparse()


def hspmm(mat1, mat2):
    """The product of a sparse and a dense matrix, of which the rows that are not zero are kept."""
    return mat1.matmul(mat2).to_sparse(1)


hsmm = hspmm


def sspaddmm(input, mat1, mat2, *, beta=1, alpha=1):
    """beta * input + alpha * (mat1 @ mat2) with `input` and `mat1` sparse, as a sparse matrix."""
    return input * beta + smm(mat1, mat2) * alpha


saddmm = sspaddmm


def sparse_rows(indices, values, shape):
    """The gradient of a table of which only the rows `indices` were read."""
    flat = indices.reshape(1, -1).to(dt.int64)
    return SparseTensor(flat, values.reshape(math.prod(indices.shape), -1), Size(shape))
