"""torch._C: what programs use of the names of PyTorch's C++ part."""

from __future__ import annotations

from ..base.device import device
from ..base.dtype import dtype
from ..base.formats import Size, layout, memory_format
from ..core.generator import Generator
from ..core.override import default as _default
from ..core.override import disabled as _disabled_torch_function_impl
from ..core.tensor import Tensor as TensorBase
from ..overrides import (
    DisableTorchFunction,
    DisableTorchFunctionSubclass,
    _len_torch_function_stack,
)
from ..overrides import (
    has_torch_function as _has_torch_function,
)
from ..overrides import (
    has_torch_function_unary as _has_torch_function_unary,
)
from ..overrides import (
    has_torch_function_variadic as _has_torch_function_variadic,
)
from .dispatch import DispatchKey, DispatchKeySet, _dispatch_keys

_TensorBase = TensorBase
_TensorMeta = type(TensorBase)


def _log_api_usage_once(event: str) -> None:
    """Nothing is logged, as in PyTorch without a logger."""


def _get_tracing_state() -> None:
    """None: nothing is traced for TorchScript."""


def __getattr__(name: str):
    import importlib

    if name in ("_nn", "_linalg", "_special", "_fft"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'torch._C' has no attribute '{name}' in antorcha")


__all__ = [
    "DispatchKey",
    "DispatchKeySet",
    "DisableTorchFunction",
    "DisableTorchFunctionSubclass",
    "Generator",
    "Size",
    "TensorBase",
    "_TensorBase",
    "_TensorMeta",
    "_dispatch_keys",
    "_default",
    "_disabled_torch_function_impl",
    "_has_torch_function",
    "_has_torch_function_unary",
    "_has_torch_function_variadic",
    "_len_torch_function_stack",
    "device",
    "dtype",
    "layout",
    "memory_format",
]


def _are_functorch_transforms_active() -> bool:
    """Whether a function is being mapped by torch.func.vmap in this thread."""
    from ..graph import tape

    return tape.state.vmap is not None
