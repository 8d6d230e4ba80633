"""`torch.utils`: data loading, hooks, checkpointing, trees."""

from . import data, hooks

__all__ = ["data", "hooks"]


def __getattr__(name: str):
    if name in ("_pytree", "checkpoint", "cpp_extension", "dlpack", "flop_counter", "model_zoo", "tensorboard"):
        import importlib

        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'torch.utils' has no attribute {name!r} in antorcha: if it is part of PyTorch, it is missing here so far")
