"""Spectral normalisation by a hook: the older form of `parametrizations.spectral_norm`."""

from __future__ import annotations

import antorcha as torch

from ..parameter import Parameter
from .hooks import undo

__all__ = ["SpectralNorm", "SpectralNormLoadStateDictPreHook", "SpectralNormStateDictHook", "spectral_norm", "remove_spectral_norm"]


class SpectralNorm:
    """The hook: divides `<name>_orig` by its greatest singular value before each call; `<name>_u` is the left singular vector so far."""

    _version = 1

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12):
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def reshape_weight_to_matrix(self, weight):
        return weight.movedim(self.dim, 0).flatten(1)

    def compute_weight(self, module, do_power_iteration: bool):
        weight, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        matrix = self.reshape_weight_to_matrix(weight)
        if do_power_iteration:
            with torch.no_grad():
                new_u, new_v = u, v
                for _ in range(self.n_power_iterations):
                    new_v = torch.nn.functional.normalize(torch.mv(matrix.T, new_u), dim=0, eps=self.eps)
                    new_u = torch.nn.functional.normalize(torch.mv(matrix, new_v), dim=0, eps=self.eps)
                u.copy_(new_u)
                v.copy_(new_v)
                u, v = u.clone(), v.clone()     # several calls may come before one backward pass
        return weight / torch.dot(u, torch.mv(matrix, v))

    def remove(self, module) -> None:
        with torch.no_grad():
            weight = self.compute_weight(module, do_power_iteration=False)
        delattr(module, self.name)
        for part in ("u", "v", "orig"):
            delattr(module, f"{self.name}_{part}")
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module, inputs) -> None:
        setattr(module, self.name, self.compute_weight(module, do_power_iteration=module.training))

    @staticmethod
    def apply(module, name: str, n_power_iterations: int, dim: int, eps: float) -> SpectralNorm:
        if any(isinstance(hook, SpectralNorm) and hook.name == name for hook in module._forward_pre_hooks.values()):
            raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
        hook = SpectralNorm(name, n_power_iterations, dim, eps)
        weight = module._parameters[name]
        if weight is None:
            raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
        with torch.no_grad():
            height, width = hook.reshape_weight_to_matrix(weight).shape
            u = torch.nn.functional.normalize(weight.new_empty(height).normal_(0, 1), dim=0, eps=eps)
            v = torch.nn.functional.normalize(weight.new_empty(width).normal_(0, 1), dim=0, eps=eps)
        delattr(module, name)
        module.register_parameter(name + "_orig", weight)
        setattr(module, name, weight.data)      # as a plain attribute, so that the hook can set it
        module.register_buffer(name + "_u", u)
        module.register_buffer(name + "_v", v)
        module.register_forward_pre_hook(hook)
        module._register_state_dict_hook(SpectralNormStateDictHook(hook))
        module._register_load_state_dict_pre_hook(SpectralNormLoadStateDictPreHook(hook))
        return hook


class SpectralNormStateDictHook:
    """Writes the version of the saved form beside it."""

    def __init__(self, fn):
        self.fn = fn

    def __call__(self, module, state_dict, prefix, local_metadata) -> None:
        versions = local_metadata.setdefault("spectral_norm", {})
        versions[self.fn.name + ".version"] = self.fn._version


class SpectralNormLoadStateDictPreHook:
    """Reads the saved form without `<name>_v`: v is what one step from u gives."""

    def __init__(self, fn):
        self.fn = fn

    def __call__(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs) -> None:
        name = prefix + self.fn.name
        if local_metadata.get("spectral_norm", {}).get(self.fn.name + ".version", 1) >= 1 and name + "_v" in state_dict:
            return
        if name + "_orig" in state_dict and name + "_u" in state_dict:
            state_dict.pop(name, None)
            matrix = self.fn.reshape_weight_to_matrix(state_dict[name + "_orig"])
            state_dict[name + "_v"] = torch.nn.functional.normalize(torch.mv(matrix.T, state_dict[name + "_u"]), dim=0, eps=self.fn.eps)


def spectral_norm(module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None):
    """Divide a weight by its greatest singular value (Miyato et al. 2018), as a matrix whose rows are its places along `dim` (0; 1 for
    transposed convolutions)."""
    if dim is None:
        nn = torch.nn
        dim = 1 if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)) else 0
    SpectralNorm.apply(module, name, n_power_iterations, dim, eps)
    return module


def remove_spectral_norm(module, name: str = "weight"):
    """Make the weight an ordinary parameter again. ValueError where it has no spectral normalisation."""
    undo(module, lambda hook: isinstance(hook, SpectralNorm) and hook.name == name, f"spectral_norm of '{name}' not found in {module}")
    for hooks, kind in ((module._state_dict_hooks, SpectralNormStateDictHook),
                        (module._load_state_dict_pre_hooks, SpectralNormLoadStateDictPreHook)):
        for k in [k for k, h in hooks.items() if isinstance(h, kind) and h.fn.name == name]:
            del hooks[k]
    return module
