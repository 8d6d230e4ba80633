"""Lazy modules: their parameters take their shapes from the first input."""

from __future__ import annotations

from ..parameter import is_lazy


class LazyModuleMixin:
    """What makes a module lazy. A class that inherits it, before the module that it is to become (`cls_to_become`), makes
    `UninitializedParameter`s, and gives them their shapes in `initialize_parameters(input)`, called before the first forward.
    """

    cls_to_become = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(self._lazy_load_hook)
        self._initialize_hook = self.register_forward_pre_hook(self._infer_parameters, with_kwargs=True)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        for name, value in self._persistent_state():
            destination[prefix + name] = value if keep_vars or is_lazy(value) else value.detach()

    def _lazy_load_hook(self, state_dict, prefix, *others) -> None:
        """Take shapes from the tensors that are about to be loaded."""
        for name, own in self._persistent_state():
            given = state_dict.get(prefix + name)
            if given is not None and is_lazy(own) and not is_lazy(given):
                own.materialize(given.shape)

    def initialize_parameters(self, *args, **kwargs):
        """Give the parameters shapes that fit the input, and initial values."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}: a lazy module defines it")

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or a buffer has no shape yet."""
        return any(is_lazy(value) for table in (self._parameters, self._buffers) for value in table.values())

    def _infer_parameters(self, module, args, kwargs=None):
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized: initialize_parameters left a parameter "
                               "without a shape")
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become

    def _replicate_for_data_parallel(self):
        raise RuntimeError("Modules with uninitialized parameters can't be used with `DataParallel`. Run a dummy forward pass first.")
