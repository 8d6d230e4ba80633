"""Weight normalisation by a hook: the older form of `parametrizations.weight_norm`."""

from __future__ import annotations

import warnings

import antorcha as torch

from ..parameter import Parameter
from .hooks import undo

__all__ = ["WeightNorm", "weight_norm", "remove_weight_norm"]


def norm_except_dim(v, pow: int = 2, dim: int = 0):
    """The norm of order `pow` of `v` over all dimensions but `dim`, which are kept with size 1; over all for dim -1."""
    others = tuple(d for d in range(v.dim()) if d != dim) if dim != -1 else tuple(range(v.dim()))
    if dim == -1:
        return torch.linalg.vector_norm(v, pow)
    return torch.linalg.vector_norm(v, pow, dim=others, keepdim=True) if others else v.abs()


def scaled_to_norm(v, g, dim: int = 0):
    """v with the norms g."""
    return v * (g / norm_except_dim(v, 2, dim))


class WeightNorm:
    """The hook: computes the weight from `<name>_g` and `<name>_v` before each call."""

    def __init__(self, name: str, dim: int):
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module):
        return scaled_to_norm(getattr(module, self.name + "_v"), getattr(module, self.name + "_g"), self.dim)

    @staticmethod
    def apply(module, name: str, dim: int) -> WeightNorm:
        if any(isinstance(hook, WeightNorm) and hook.name == name for hook in module._forward_pre_hooks.values()):
            raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
        hook = WeightNorm(name, dim)
        weight = getattr(module, name)
        if isinstance(weight, torch.nn.parameter.UninitializedParameter):
            raise ValueError("The module passed to `WeightNorm` can't have uninitialized parameters. Make sure to run the dummy forward "
                             "before applying weight normalization")
        del module._parameters[name]
        module.register_parameter(name + "_g", Parameter(norm_except_dim(weight, 2, hook.dim).detach()))
        module.register_parameter(name + "_v", Parameter(weight.detach()))
        setattr(module, name, hook.compute_weight(module))
        module.register_forward_pre_hook(hook)
        return hook

    def remove(self, module) -> None:
        weight = self.compute_weight(module)
        delattr(module, self.name)
        del module._parameters[self.name + "_g"]
        del module._parameters[self.name + "_v"]
        setattr(module, self.name, Parameter(weight.detach()))

    def __call__(self, module, inputs) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module, name: str = "weight", dim: int = 0):
    """Learn length (`<name>_g`) and direction (`<name>_v`) of a weight apart (Salimans and Kingma 2016).

    dim: along which there is a length for each place; None: one for the whole tensor.
    """
    warnings.warn("`torch.nn.utils.weight_norm` is deprecated in favor of `torch.nn.utils.parametrizations.weight_norm`.", FutureWarning,
                  stacklevel=2)
    WeightNorm.apply(module, name, dim)
    return module


def remove_weight_norm(module, name: str = "weight"):
    """Make the weight an ordinary parameter again. ValueError where it has no weight normalisation."""
    return undo(module, lambda hook: isinstance(hook, WeightNorm) and hook.name == name,
                f"weight_norm of '{name}' not found in {module}")
