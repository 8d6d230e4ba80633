"""torch.sparse: functions of sparse tensors."""

from __future__ import annotations

from .core.sparse import SparseTensor, from_dense
from .core.tensor import Tensor
from .ops import factory


def mm(mat1, mat2, reduce=None):
    """The product of matrices of which at least one is sparse.

    With `reduce`, of a sparse matrix by a dense one: the products of a row's values are reduced by "sum", "mean" (over the values there
    are), "amax" or "amin".
    """
    if reduce is not None:
        return mat1.matmul(mat2, reduce)
    return mat1.matmul(mat2) if mat1.is_sparse else mat2.__rmatmul__(mat1)


def addmm(mat, mat1, mat2, *, beta=1.0, alpha=1.0):
    """beta * mat + alpha * (mat1 @ mat2) with mat1 sparse."""
    return mat * beta + mm(mat1, mat2) * alpha


def sum(input, dim=None, dtype=None):
    """`input.sum`."""
    return input.sum(dim, dtype=dtype)


def _over_values(input, dim, dtype, function):
    """A function of each row's values; places without a value count as minus infinity."""
    c = input.coalesce()
    dense = c._like(c._of * 0 + 1).to_dense() > 0
    full = c.to_dense(dtype).masked_fill(~dense, float("-inf"))
    result = function(full, dim)
    return c._like(result[tuple(c._at.unbind(0))])


def softmax(input, dim, *, dtype=None):
    """Softmax over the values that are there."""
    return _over_values(input, dim, dtype, lambda x, d: x.softmax(d))


def log_softmax(input, dim, *, dtype=None):
    """The logarithm of `softmax`."""
    return _over_values(input, dim, dtype, lambda x, d: x.log_softmax(d))


def spdiags(diagonals, offsets, shape, layout=None):
    """A sparse matrix with the rows of `diagonals` on the diagonals `offsets`, element j of a row in column j."""
    diagonals = diagonals.unsqueeze(0) if diagonals.dim() == 1 else diagonals
    rows, columns, values = [], [], []
    for d, k in zip(diagonals, offsets.reshape(-1).tolist()):
        first, last = max(0, k), min(shape[1], shape[0] + k, d.shape[0])
        if last > first:
            column = factory.arange(first, last)
            rows.append(column - k)
            columns.append(column)
            values.append(d[first:last])
    from .core.sparse import cat, sparse_coo_tensor, stack

    if not values:
        return sparse_coo_tensor(shape)
    out = sparse_coo_tensor(stack([cat(rows), cat(columns)]), cat(values), shape)
    return out.coalesce() if layout is None else out.to_sparse(layout=layout)


def sampled_addmm(input, mat1, mat2, *, beta=1.0, alpha=1.0, out=None):
    """alpha * (mat1 @ mat2) at the places of `input`, plus beta * input."""
    rows, columns = input._at.unbind(0)
    values = (mat1[rows] * mat2[:, columns].t()).sum(1) * alpha + input._of * beta
    return input._like(values)


class check_sparse_tensor_invariants:
    """A context; what sparse tensors are made of is always checked."""

    def __init__(self, enable: bool = True):
        self.enable_ = enable

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    @staticmethod
    def is_enabled() -> bool:
        return True

    enable = disable = staticmethod(lambda: None)


__all__ = [
    "SparseTensor",
    "Tensor",
    "addmm",
    "check_sparse_tensor_invariants",
    "from_dense",
    "log_softmax",
    "mm",
    "sampled_addmm",
    "softmax",
    "spdiags",
    "sum",
]
