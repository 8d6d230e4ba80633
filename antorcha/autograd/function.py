"""torch.autograd.function: operators with a derivative of their own."""

from __future__ import annotations

from ..core.function import Function, FunctionCtx, FunctionNode as BackwardCFunction, InplaceFunction, NestedIOFunction, once_differentiable

FunctionMeta = type(Function)

__all__ = ["BackwardCFunction", "Function", "FunctionCtx", "FunctionMeta", "InplaceFunction", "NestedIOFunction", "once_differentiable"]
