"""Distances between vectors."""

from __future__ import annotations

from ...ops.casts import FULL_ON_GPU
from ...ops.derivative import titled
from ...ops.recall import recalled
from ...ops.record import core, result_dtype


@recalled(autocast=FULL_ON_GPU)
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along `dim`, each norm taken as at least `eps`. The tensors are broadcast first, so that
    the vectors are as long as they are in the result's shape."""
    d = result_dtype((x1, x2))
    if d.kind != "f":
        raise RuntimeError(f"cosine_similarity: expected tensors of a floating point dtype; received {d}. Convert them first: x.float()")
    a, b = (x / x.norm(2, dim, True).clamp_min(eps) for x in core.broadcast_tensors(x1.to(d), x2.to(d)))
    return (a * b).sum(dim)


@recalled(autocast="parts")
def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of the difference, along the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)


@recalled(autocast=FULL_ON_GPU)
@titled("Pdist")
def pdist(input, p=2.0):
    """The p-norms of the differences of all pairs of rows of (N, M): the upper triangle of a matrix of distances, N (N - 1) / 2."""
    if input.dim() != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.dim()}D")
    if p < 0:
        raise RuntimeError(f"pdist only supports non-negative p values; received {p}")
    n = input.shape[0]
    first = core.tensor([i for i in range(n) for _ in range(i + 1, n)] or [0])
    second = core.tensor([j for i in range(n) for j in range(i + 1, n)] or [0])
    distances = (input.index_select(0, first) - input.index_select(0, second)).norm(p, 1) if n else input.reshape(-1)
    return distances if n > 1 else distances[:0]
