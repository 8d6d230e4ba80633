"""torch.utils.module_tracker: which module is running, forward or backward."""

from __future__ import annotations

import weakref

from ..autograd.graph import register_multi_grad_hook
from ..core.tensor import Tensor
from ..nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from . import _pytree

__all__ = ["ModuleTracker"]


class ModuleTracker:
    """A context within which `parents` is the set of names of the modules whose forward, or backward, is running.

    Names are those of `named_modules` behind the name of the outermost module's class; "Global" is always among them. `is_bw`: within a
    backward pass.
    """

    def __init__(self):
        self.parents: set[str] = {"Global"}
        self.is_bw = False
        self._names: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._handles: list = []

    def __enter__(self) -> ModuleTracker:
        self._handles = [register_module_forward_pre_hook(self._enters), register_module_forward_hook(self._leaves, always_call=True)]
        return self

    def __exit__(self, *error) -> None:
        for handle in self._handles:
            handle.remove()
        self.parents, self.is_bw = {"Global"}, False

    def _name(self, module) -> str:
        if module not in self._names:
            root = type(module).__name__
            for name, part in module.named_modules():
                self._names.setdefault(part, f"{root}.{name}" if name else root)
        return self._names[module]

    def _enters(self, module, args) -> None:
        name = self._name(module)
        if not self.is_bw:
            self.parents.add(name)
        inputs = [t for t in _pytree.tree_leaves(args) if isinstance(t, Tensor) and t.requires_grad]
        if inputs:
            register_multi_grad_hook(inputs, lambda grads: self._backward_left(name))

    def _leaves(self, module, args, output) -> None:
        name = self._name(module)
        if not self.is_bw:
            self.parents.discard(name)
        outputs = [t for t in _pytree.tree_leaves(output) if isinstance(t, Tensor) and t.requires_grad]
        if outputs:
            register_multi_grad_hook(outputs, lambda grad: self._backward_entered(name), mode="any")

    def _backward_entered(self, name: str) -> None:
        self.is_bw = True
        self.parents.add(name)

    def _backward_left(self, name: str) -> None:
        self.parents.discard(name)
        self.is_bw = self.parents != {"Global"}
