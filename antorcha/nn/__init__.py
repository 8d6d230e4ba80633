"""torch.nn."""

from . import functional, init, modules, utils
from .functional.loss import LinearCrossEntropyOptions
from .modules import *  # noqa: F403
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

__all__ = [
    *modules.__all__,
    "Buffer",
    "LinearCrossEntropyOptions",
    "Parameter",
    "UninitializedBuffer",
    "UninitializedParameter",
    "functional",
    "init",
    "modules",
    "utils",
]


def __getattr__(name: str):
    if name in ("attention", "common_types", "grad", "intrinsic", "parallel", "qat", "quantized"):
        import importlib

        return importlib.import_module(f"..ao.nn.{name}" if name in ("intrinsic", "qat", "quantized") else f".{name}", __name__)
    if name in ("DataParallel",):
        from .parallel import DataParallel

        return DataParallel
    raise AttributeError(f"module 'torch.nn' has no attribute {name!r} in antorcha: if it is part of PyTorch, it is missing here so far")
