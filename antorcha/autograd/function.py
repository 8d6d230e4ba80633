"""torch.autograd.function: operators with a derivative of their own."""

from __future__ import annotations

from ..core.function import (
    Function,
    FunctionCtx,
    InplaceFunction,
    NestedIOFunction,
    once_differentiable,
)
from ..core.function import (
    FunctionNode as BackwardCFunction,
)

FunctionMeta = type(Function)

__all__ = [
    "BackwardCFunction",
    "Function",
    "FunctionCtx",
    "FunctionMeta",
    "InplaceFunction",
    "NestedIOFunction",
    "once_differentiable",
]
