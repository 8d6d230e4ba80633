"""What `torch.compile(module)` returns."""

from __future__ import annotations

from ...compiler import Compiled
from .module import Module


class OptimizedModule(Module):
    """A module that behaves as `_orig_mod`, which it has as a child: keys of its state begin with that name, as in PyTorch."""

    def __init__(self, module: Module):
        super().__init__()
        self._orig_mod = module
        self.training = module.training
        object.__setattr__(self, "_compiled", Compiled(module))

    def forward(self, *args, **kwargs):
        return self._compiled(*args, **kwargs)

    @property
    def reason(self) -> str | None:
        """Why the last call was not replayed; None if it was."""
        return self._compiled.reason

    def train(self, mode: bool = True):
        self.training = mode
        self._orig_mod.train(mode)
        return self

    def __getattr__(self, name):
        if name == "_orig_mod":
            return self._modules["_orig_mod"]
        return getattr(self._orig_mod, name)

    def __setattr__(self, name, value):
        if name in ("_orig_mod", "training") or "_orig_mod" not in self.__dict__.get("_modules", ()):
            super().__setattr__(name, value)
        else:
            setattr(self._orig_mod, name, value)
