"""Products of matrices that belong together in groups of different sizes, as in mixtures of experts."""

from __future__ import annotations

from ...ops.contraction import matmul
from ...ops.joining import cat, stack
from ...ops.record import core


def grouped_mm(mat_a, mat_b, *, offs=None, bias=None, out_dtype=None):
    """For each group i the product of its rows of `mat_a` (tokens, k) with mat_b[i] (k, n); group i ends at row offs[i].

    With `mat_a` (groups, m, k) the columns of `mat_b` (k, tokens) are grouped; with both of two dimensions those that are summed
    over, which gives (groups, m, n); with both of three there is nothing to group.
    """
    if {mat_a.dim(), mat_b.dim()} - {2, 3}:
        raise RuntimeError(f"grouped_mm: expected operands of 2 or 3 dimensions; received {mat_a.dim()} and {mat_b.dim()}")
    if (offs is None) != (mat_a.dim() == mat_b.dim() == 3):
        raise RuntimeError("grouped_mm: expected offs, the ends of the groups, where an operand has 2 dimensions, and only there")
    if offs is None:
        out = matmul(mat_a, mat_b)
    else:
        ends = core.host(offs.detach()).tolist()
        groups = [slice(start, end) for start, end in zip([0, *ends], ends)]
        if mat_a.dim() == mat_b.dim():
            out = stack([mat_a[:, g] @ mat_b[g] for g in groups], 0)
        elif mat_a.dim() == 2:
            out = cat([mat_a[g] @ mat_b[i] for i, g in enumerate(groups)], 0)
        else:
            out = cat([mat_a[i] @ mat_b[:, g] for i, g in enumerate(groups)], 1)
    if bias is not None:
        out = out + bias
    return out if out_dtype is None else out.to(out_dtype)
