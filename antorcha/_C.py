"""torch._C: what programs use of the names of PyTorch's C++ part."""

from __future__ import annotations

from .core.generator import Generator
from .core.override import default as _default
from .core.override import disabled as _disabled_torch_function_impl
from .core.tensor import Size
from .core.tensor import Tensor as TensorBase
from .overrides import (
    DisableTorchFunction,
    DisableTorchFunctionSubclass,
    _len_torch_function_stack,
)
from .overrides import (
    has_torch_function as _has_torch_function,
)
from .overrides import (
    has_torch_function_unary as _has_torch_function_unary,
)
from .overrides import (
    has_torch_function_variadic as _has_torch_function_variadic,
)

_TensorBase = TensorBase

__all__ = [
    "DisableTorchFunction",
    "DisableTorchFunctionSubclass",
    "Generator",
    "Size",
    "TensorBase",
    "_TensorBase",
    "_default",
    "_disabled_torch_function_impl",
    "_has_torch_function",
    "_has_torch_function_unary",
    "_has_torch_function_variadic",
    "_len_torch_function_stack",
]
