"""torch._C: what programs use of the names of PyTorch's C++ part."""

from __future__ import annotations

from .core.generator import Generator
from .core.override import default as _default, disabled as _disabled_torch_function_impl
from .core.tensor import Size, Tensor as TensorBase
from .overrides import (
    DisableTorchFunction, DisableTorchFunctionSubclass, has_torch_function as _has_torch_function, has_torch_function_unary as
    _has_torch_function_unary, has_torch_function_variadic as _has_torch_function_variadic, _len_torch_function_stack,
)

_TensorBase = TensorBase

__all__ = ["DisableTorchFunction", "DisableTorchFunctionSubclass", "Generator", "Size", "TensorBase", "_TensorBase", "_default",
           "_disabled_torch_function_impl", "_has_torch_function", "_has_torch_function_unary", "_has_torch_function_variadic",
           "_len_torch_function_stack"]
