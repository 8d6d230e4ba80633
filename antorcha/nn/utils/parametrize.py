"""Parametrizations: a parameter or buffer of a module as a function of other parameters.

After `register_parametrization(module, "weight", p)`, `module.weight` is `p(original)`, computed when it is read; the original is
`module.parametrizations.weight.original`, and it is what is learned and saved.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy

import antorcha as torch

from ..modules.container import ModuleDict, ModuleList
from ..parameter import Parameter

__all__ = ["cached", "ParametrizationList", "register_parametrization", "is_parametrized", "remove_parametrizations",
           "type_before_parametrizations", "transfer_parametrizations_and_params"]


class _Cache:
    depth = 0
    values: dict = {}       # (id of the module, name) -> value


@contextmanager
def cached():
    """Inside, each parametrized tensor is computed once, when it is first read."""
    _Cache.depth += 1
    try:
        yield
    finally:
        _Cache.depth -= 1
        if not _Cache.depth:
            _Cache.values = {}


def _register_parameter_or_buffer(module, name: str, value) -> None:
    if isinstance(value, Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def _set_data(original, value) -> None:
    """Give `original`, which stays the same object, the value."""
    original.data = value.detach()


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, applied one after the other to `original` (or to `original0`, `original1` ..., if the
    right inverse of the first gives several tensors)."""

    def __init__(self, modules, original, unsafe: bool = False):
        if not len(modules):
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        new = self._inverted(original)
        if not isinstance(new, (torch.Tensor, list, tuple)):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                             f"Got {type(new).__name__}")
        self.is_tensor = isinstance(new, torch.Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            if dtype != new.dtype:
                raise ValueError("When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                                 f"original.dtype: {dtype}\nright_inverse(original).dtype: {new.dtype}")
            _set_data(original, new)
            _register_parameter_or_buffer(self, "original", original)
        else:
            for i, part in enumerate(new):
                if not isinstance(part, torch.Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                                     f"Got element {i} of the sequence with type {type(part).__name__}.")
                if isinstance(original, Parameter):
                    part = Parameter(part.detach(), original.requires_grad)
                _register_parameter_or_buffer(self, f"original{i}", part.requires_grad_(original.requires_grad))
        if not unsafe:
            self._check(shape, dtype)

    def _inverted(self, value):
        """What the parametrizations make `value` of, as far as they can tell."""
        with torch.no_grad():
            for module in reversed(self):
                if hasattr(module, "right_inverse"):
                    try:
                        value = module.right_inverse(value)
                    except NotImplementedError:
                        pass
        return value

    def _check(self, shape, dtype) -> None:
        result = self()
        if not isinstance(result, torch.Tensor):
            raise ValueError(f"A parametrization must return a tensor. Got {type(result).__name__}.")
        if result.dtype != dtype:
            raise ValueError("Registering a parametrization may not change the dtype of the tensor, unless `unsafe` flag is enabled.\n"
                             f"unparametrized dtype: {dtype}\nparametrized dtype: {result.dtype}")
        if result.shape != shape:
            raise ValueError("Registering a parametrization may not change the shape of the tensor, unless `unsafe` flag is enabled.\n"
                             f"unparametrized shape: {shape}\nparametrized shape: {result.shape}")

    def _originals(self) -> list:
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def right_inverse(self, value) -> None:
        """Set the originals so that the parametrized tensor becomes `value`, through each parametrization's `right_inverse`."""
        with torch.no_grad():
            for module in reversed(self):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                if not isinstance(value, torch.Tensor):
                    raise ValueError(f"`right_inverse` should return a tensor. Got {type(value).__name__}")
                if value.dtype != self.original.dtype:
                    raise ValueError(f"The tensor returned by `right_inverse` has dtype {value.dtype} while `original` has dtype "
                                     f"{self.original.dtype}")
                _set_data(self.original, value)
                return
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {type(value).__name__}.")
            if len(value) != self.ntensors:
                raise ValueError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. "
                                 f"Got a sequence of length {len(value)}.")
            for original, part in zip(self._originals(), value):
                _set_data(original, part)

    def forward(self):
        parametrizations = list(self)
        x = parametrizations[0](*self._originals())
        for module in parametrizations[1:]:
            x = module(x)
        return x


# -- modules with parametrized tensors --------------------------------------------------------------------------

def _inject_new_class(module) -> None:
    """Give the module a class of its own, for the properties that stand for its parametrized tensors."""
    cls = module.__class__

    def deep_copy(self, memo):
        known = memo.get(id(self))
        if known is not None:
            return known
        replica = self.__new__(self.__class__)
        memo[id(self)] = replica
        replica.__dict__ = deepcopy(self.__dict__, memo)
        return replica

    def no_pickling(self):
        raise RuntimeError("Serialization of parametrized modules is only supported through state_dict(). Save it and load it into a "
                           "module that is parametrized in the same way.")

    body = {"__getstate__": no_pickling}
    if not hasattr(cls, "__deepcopy__"):
        body["__deepcopy__"] = deep_copy
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), body)


def _inject_property(module, tensor_name: str) -> None:
    """Let the module's class compute the tensor when it is read, and set its originals when it is assigned."""
    def compute(self):
        if not _Cache.depth:
            return self.parametrizations[tensor_name]()
        key = id(self), tensor_name
        if key not in _Cache.values:
            _Cache.values[key] = self.parametrizations[tensor_name]()
        return _Cache.values[key]

    def assign(self, value):
        self.parametrizations[tensor_name].right_inverse(value)

    setattr(module.__class__, tensor_name, property(compute, assign))


def register_parametrization(module, tensor_name: str, parametrization, *, unsafe: bool = False):
    """Make `module.<tensor_name>` a function, `parametrization`, of what it is now; several are applied in the order of registration.

    A parametrization may have a `right_inverse(value)`, which gives the original for a value: it is used now, and when the tensor is
    assigned. unsafe: do not check that shape and dtype stay the same.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        _append(module, tensor_name, parametrization, unsafe)
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        original = getattr(module, tensor_name)
        parametrizations = ParametrizationList([parametrization], original, unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _inject_new_class(module)
            module.parametrizations = ModuleDict()
        _inject_property(module, tensor_name)
        module.parametrizations[tensor_name] = parametrizations
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name '{tensor_name}'")
    return module


def _append(module, tensor_name: str, parametrization, unsafe: bool) -> None:
    """Register a further parametrization."""
    known = module.parametrizations[tensor_name]
    if not unsafe:
        value = getattr(module, tensor_name)
        with torch.no_grad():
            result = parametrization(value)
            if not isinstance(result, torch.Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(result).__name__}.")
            if (result.dtype, result.shape) != (value.dtype, value.shape):
                raise ValueError("Registering a parametrization may not change the dtype or the shape of the tensor, unless the `unsafe` "
                                 f"flag is enabled.\nunparametrized: {value.dtype} {value.shape}\nparametrized: {result.dtype} "
                                 f"{result.shape}")
            if hasattr(parametrization, "right_inverse"):
                back = parametrization.right_inverse(result)
                if not isinstance(back, torch.Tensor) or (back.dtype, back.shape) != (value.dtype, value.shape):
                    raise ValueError("parametrization.right_inverse must return a tensor of the dtype and shape it was registered on")
    known.append(parametrization)
    known.unsafe |= unsafe


def is_parametrized(module, tensor_name: str | None = None) -> bool:
    """Whether the module has parametrized tensors, or this one is."""
    parametrizations = getattr(module, "parametrizations", None)
    if not isinstance(parametrizations, ModuleDict):
        return False
    return len(parametrizations) > 0 if tensor_name is None else tensor_name in parametrizations


def remove_parametrizations(module, tensor_name: str, leave_parametrized: bool = True):
    """Make the tensor an ordinary one again: with the value it has now, or (leave_parametrized=False) with that of the original."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    parametrizations = module.parametrizations[tensor_name]
    if parametrizations.is_tensor:
        tensor = parametrizations.original
        if leave_parametrized:
            with torch.no_grad():
                _set_data(tensor, getattr(module, tensor_name))
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        tensor = Parameter(value.detach()) if value.requires_grad else value
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a sequence "
                         "of tensors.")
    delattr(module.__class__, tensor_name)
    del module.parametrizations[tensor_name]
    _register_parameter_or_buffer(module, tensor_name, tensor)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = module.__class__.__bases__[0]
    return module


def type_before_parametrizations(module) -> type:
    """The class the module had before it was parametrized."""
    return module.__class__.__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module, to_module, tensor_name: str | None = None):
    """Give `to_module` the parametrizations and the originals of `from_module`, of one tensor or of all."""
    if not is_parametrized(from_module):
        return to_module
    names = [tensor_name] if tensor_name is not None else list(from_module.parametrizations)
    for name in names:
        source = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        for parametrization in source:
            register_parametrization(to_module, name, parametrization)
        target = to_module.parametrizations[name]
        for attribute in ["original"] if source.is_tensor else [f"original{i}" for i in range(source.ntensors)]:
            setattr(target, attribute, getattr(source, attribute))
    return to_module

