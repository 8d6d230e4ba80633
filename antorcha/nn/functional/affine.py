"""Bilinear maps."""

from __future__ import annotations

from ...base.errors import message
from ...ops.casts import WIDEST_ON_GPU
from ...ops.recall import recalled


@recalled(autocast=WIDEST_ON_GPU)
def bilinear(input1, input2, weight, bias=None):
    """x1 A x2 + b for each matrix A of `weight` (out, in1, in2): (..., in1) and (..., in2) to (..., out)."""
    out, first, second = weight.shape
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]):
        raise RuntimeError(
            message("bilinear", f"inputs of the same batch dimensions {list(input1.shape[:-1])}", f"{list(input2.shape[:-1])}")
        )
    for name, x, features in (("input1", input1, first), ("input2", input2, second)):
        if x.shape[-1] != features:
            raise RuntimeError(message("bilinear", f"{name} of shape (..., {features}) to match weight {list(weight.shape)}",
                                       f"{list(x.shape)}"))
    halfway = input1 @ weight.permute(1, 0, 2).reshape(first, out * second)
    result = (halfway.unflatten(-1, (out, second)) @ input2.unsqueeze(-1)).squeeze(-1)
    return result if bias is None else result + bias
