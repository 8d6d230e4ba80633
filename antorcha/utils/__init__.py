"""`torch.utils`: data loading, hooks, checkpointing, trees."""

from . import data, hooks

__all__ = ["data", "hooks"]
_MODULES = ("_pytree", "benchmark", "checkpoint", "collect_env", "cpp_extension", "deterministic", "dlpack", "flop_counter", "model_zoo",
            "module_tracker", "tensorboard", "throughput_benchmark", "weak")


def set_module(obj, mod: str) -> None:
    """Have an object say that it belongs to module `mod`."""
    if not isinstance(mod, str):
        raise TypeError(f"set_module: expected the module's name; received {type(mod).__name__}")
    obj.__module__ = mod


def swap_tensors(t1, t2) -> None:
    """Exchange what two tensors are, their values, gradients, attributes and classes, while everybody's references stay."""
    from ..core.tensor import Tensor

    slots = [name for name in Tensor.__slots__ if not name.startswith("__")]
    before = {name: (getattr(t1, name, None), getattr(t2, name, None)) for name in slots}
    first, second = dict(t1.__dict__), dict(t2.__dict__)
    t1.__class__, t2.__class__ = type(t2), type(t1)
    for name, (a, b) in before.items():
        setattr(t1, name, b)
        setattr(t2, name, a)
    for t, attributes in ((t1, second), (t2, first)):
        t.__dict__.clear()
        t.__dict__.update(attributes)


def __getattr__(name: str):
    if name in _MODULES:
        import importlib

        return importlib.import_module(f".{name}", __name__)
    if name == "ThroughputBenchmark":
        from .throughput_benchmark import ThroughputBenchmark

        return ThroughputBenchmark
    raise AttributeError(f"module 'torch.utils' has no attribute {name!r} in antorcha: if it is part of PyTorch, it is missing here so far")
