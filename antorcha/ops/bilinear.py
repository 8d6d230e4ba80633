"""Products of vectors, matrices and tensors, composed of the contraction and of elementwise products."""

from __future__ import annotations

from .casts import LOWER_ON_GPU, WIDEST_ON_GPU
from .contraction import bmm, check_dtypes, contract_dims, matmul, mm
from .parts import conj_
from .record import broadcast_shapes, check_tensor, core, normalize_dim, operator, result_dtype
from .view import expand_

Tensor = "Tensor"


# -- vectors ----------------------------------------------------------------------------------------------------

def _vectors(name, a, b):
    check_tensor(name, "input", a)
    check_tensor(name, "tensor", b)
    if a.dim() != 1 or b.dim() != 1:
        raise RuntimeError(f"{name}: 1D tensors expected, but got {a.dim()}D and {b.dim()}D tensors")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name} : expected both vectors to have same dtype, but found {a.dtype} and {b.dtype}. Convert one of them.")
    if a.numel() != b.numel():
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{a.numel()}] and src [{b.numel()}] to have the same number of elements"
        )


@operator(autocast=WIDEST_ON_GPU, title="Dot", samples=lambda t: [t(5), t(5)])
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors."""
    _vectors("dot", input, tensor)
    return matmul(input, tensor)


@operator(autocast=WIDEST_ON_GPU, samples=lambda t: [t(5), t(5)])
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors, the first conjugated."""
    _vectors("vdot", input, other)
    return matmul(conj_(input), other)


@operator(autocast=LOWER_ON_GPU, title="Mv", samples=lambda t: [t(3, 4), t(4)])
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """A matrix times a vector."""
    if input.dim() != 2 or vec.dim() != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got {1}, {input.dim()}, {vec.dim()}")
    if input.shape[1] != vec.shape[0]:
        raise RuntimeError(f"size mismatch, got mat ({input.shape[0]}x{input.shape[1]}), vec ({vec.shape[0]})")
    return matmul(input, vec)


@operator(samples=lambda t: [t(5), t(5)])
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of an element of one vector with one of another."""
    for name, x in (("self", input), ("vec2", vec2)):
        if x.dim() != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {x.dim()}-D")
    return input.unsqueeze(1) * vec2.unsqueeze(0)


@operator(autocast="parts", samples=lambda t: [t(2, 4), t(3, 4)])
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimension of each; with a number, the products."""
    if not input.dim() or not other.dim():
        return input * other
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(input.shape)} and {list(other.shape)}"
        )
    return dot(input, other) if input.dim() == 1 == other.dim() else tensordot(input, other, ([-1], [-1]))


# -- sums with products -----------------------------------------------------------------------------------------

def _scaled(x, factor):
    """x * factor; a factor of integers is cut to an integer, as PyTorch does."""
    kind = x._meta.dtype.kind
    factor = bool(factor) if kind == "b" else int(factor) if kind in "iu" else factor
    return x if factor == 1 else x * factor


def _combined(name, input, product, beta, alpha):
    """beta * input + alpha * product; of beta 0 the input is not read."""
    product = _scaled(product, alpha)
    shape = product._meta.view.shape
    if broadcast_shapes(name, input._meta.view.shape, shape) != shape:
        raise RuntimeError(f"{name}: expected input to broadcast to the product's shape {list(shape)}; received {list(input.shape)}")
    return product if beta == 0 else _scaled(expand_(input, shape), beta) + product


@operator(title="Addmm", autocast="lower", wide=True, inplace=True, numbers_first=True,
          samples=lambda t: [t(3, 5), t(3, 4), t(4, 5), dict(beta=0.5, alpha=2)])
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta=1, alpha=1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)."""
    check_dtypes("addmm", input, mat1)
    return _combined("addmm", input, mm(mat1, mat2), beta, alpha)


@operator(autocast=LOWER_ON_GPU, title="Addmv", wide=True, inplace=True, numbers_first=True,
          samples=lambda t: [t(3), t(3, 4), t(4), dict(beta=0.5, alpha=2)])
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta=1, alpha=1) -> Tensor:
    """beta * input + alpha * (mat @ vec)."""
    check_dtypes("addmv", input, mat, vec)
    return _combined("addmv", input, mv(mat, vec), beta, alpha)


@operator(autocast=LOWER_ON_GPU, inplace=True, numbers_first=True, grad=dict(
    input=lambda g, beta: _scaled(g, beta), vec1=lambda g, vec2, alpha: _scaled(mv(g, vec2), alpha),
    vec2=lambda g, vec1, alpha: _scaled(mv(g.t(), vec1), alpha)), samples=lambda t: [t(3, 4), t(3), t(4), dict(beta=0.5, alpha=2)])
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta=1, alpha=1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)."""
    d = result_dtype((input, vec1, vec2))
    if not isinstance(alpha, complex) and not isinstance(beta, complex):
        alpha, beta = d.round(alpha), d.round(beta)
    return _combined("addr", input, outer(_scaled(vec1, alpha), vec2), beta, 1)


@operator(title="Baddbmm", autocast="lower", wide=True, inplace=True, numbers_first=True,
          samples=lambda t: [t(2, 3, 5), t(2, 3, 4), t(2, 4, 5), dict(beta=0.5, alpha=2)])
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta=1, alpha=1) -> Tensor:
    """beta * input + alpha * bmm(batch1, batch2)."""
    check_dtypes("baddbmm", input, batch1, batch2)
    return _combined("baddbmm", input, bmm(batch1, batch2), beta, alpha)


@operator(autocast="lower", wide=True, inplace=True, numbers_first=True,
          samples=lambda t: [t(3, 5), t(2, 3, 4), t(2, 4, 5), dict(beta=0.5, alpha=2)])
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta=1, alpha=1) -> Tensor:
    """beta * input + alpha * the sum of batch1[i] @ batch2[i]."""
    a, b = batch1._meta.view.shape, batch2._meta.view.shape
    if len(a) != 3 or len(b) != 3 or a[0] != b[0] or a[2] != b[1]:
        raise RuntimeError(f"addbmm: expected batches of shapes (b, n, m) and (b, m, p); received {list(a)} and {list(b)}. "
                           "(batch1 and batch2 must be 3D tensors)")
    check_dtypes("addbmm", input, batch1, batch2)
    total = contract_dims(batch1.permute(1, 0, 2), batch2.permute(2, 0, 1), 0, 1, 1, 2)
    return _combined("addbmm", input, total, beta, alpha)


# -- tensors ----------------------------------------------------------------------------------------------------

def _as_dims(dims, rank):
    dims = dims.tolist() if isinstance(dims, core.Tensor) else dims
    return [normalize_dim("tensordot", d, rank) for d in ((dims,) if isinstance(dims, int) else dims)]


@operator(autocast={"cuda": "widest", "cpu": "lower"}, method=False, samples=lambda t: [t(2, 3, 4), t(3, 4, 5)])
def tensordot(a: Tensor, b: Tensor, dims=2) -> Tensor:
    """The sum of products over some dimensions of each: the last `dims` of a and the first of b, or the pairs of two lists."""
    if isinstance(dims, core.Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.dim(), b.dim()):
            raise RuntimeError(f"tensordot expects dims in [0, {min(a.dim(), b.dim())}], but got dims={dims}")
        over_a, over_b = list(range(a.dim() - dims, a.dim())), list(range(dims))
    else:
        over_a, over_b = _as_dims(dims[0], a.dim()), _as_dims(dims[1], b.dim())
    if len(over_a) != len(over_b):
        raise RuntimeError("both dimension lists should have same length")
    for i, j in zip(over_a, over_b):
        if a.shape[i] != b.shape[j]:
            if 1 not in (a.shape[i], b.shape[j]):
                raise RuntimeError(f"contracted dimensions need to match, but first has size {a.shape[i]} in dim {i} and second has size "
                                   f"{b.shape[j]} in dim {j}")
            a, b = (a.sum(i, True, dtype=a.dtype), b) if b.shape[j] == 1 else (a, b.sum(j, True, dtype=b.dtype))
    check_dtypes("tensordot", a, b)
    rows, columns = [i for i in range(a.dim()) if i not in over_a], [i for i in range(b.dim()) if i not in over_b]
    return contract_dims(a.permute((*rows, *over_a)), b.permute((*columns, *over_b)), 0, len(rows), len(columns), len(over_a))


@operator(samples=lambda t: [t(2, 3), t(3, 2)])
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of `input` times the whole of `other`, in its place."""
    rank = max(input.dim(), other.dim())
    a, b = ((1,) * (rank - x.dim()) + tuple(x.shape) for x in (input, other))
    left = input.reshape(tuple(n for pair in zip(a, (1,) * rank) for n in pair))
    right = other.reshape(tuple(n for pair in zip((1,) * rank, b) for n in pair))
    return (left * right).reshape(tuple(n * m for n, m in zip(a, b)))
