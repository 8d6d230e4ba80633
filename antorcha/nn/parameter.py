"""Tensors that a module owns: parameters, which are learned, and buffers, which are only kept with it."""

from __future__ import annotations

from collections import OrderedDict

import antorcha as torch

from ..core.override import disabled
from ..core.tensor import Tensor


def rebuild_parameter(data, requires_grad, backward_hooks):
    """A `Parameter` from what pickling kept of it."""
    parameter = Parameter(data, requires_grad)
    parameter._backward_hooks = backward_hooks
    return parameter


_OF_TENSORS = frozenset(vars(Tensor))


class _ParameterType(type(Tensor)):
    """`isinstance(x, Parameter)` also holds for a tensor of another class that is marked `_is_param`."""

    def __instancecheck__(cls, instance) -> bool:
        if super().__instancecheck__(instance):
            return True
        return cls is Parameter and isinstance(instance, Tensor) and getattr(instance, "_is_param", False)


class Parameter(Tensor, metaclass=_ParameterType):
    """A tensor that, assigned to an attribute of a `Module`, becomes one of its `parameters()`.

    `data`: its value (shared, not copied); `requires_grad`: whether it is learned. Libraries make a parameter like another one with
    `Parameter(data, **other.__dict__)`: what a tensor keeps there itself, as its node in the graph, stays the other one's.
    """

    __torch_function__ = disabled

    def __new__(cls, data=None, requires_grad: bool = True, **attributes):
        if not _OF_TENSORS.issuperset(attributes):
            raise TypeError(f"Parameter.__new__() got an unexpected keyword argument {min(attributes.keys() - _OF_TENSORS)!r}")
        if data is None:
            data = torch.empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: expected data to be a Tensor; received {type(data).__name__}. "
                            "Make a tensor of it first: torch.tensor(data)")
        if type(data) is Tensor or isinstance(data, Parameter):
            return Tensor._make_subclass(cls, data, requires_grad)
        # Another subclass of Tensor keeps its class and is marked.
        marked = data.detach().requires_grad_(requires_grad)
        marked._is_param = True
        return marked

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.data.clone(memory_format=torch.preserve_format), self.requires_grad)
        return memo[id(self)]

    def __repr__(self, *, tensor_contents=None) -> str:
        return "Parameter containing:\n" + super().__repr__(tensor_contents=tensor_contents)

    def __reduce_ex__(self, protocol):
        return rebuild_parameter, (self.data, self.requires_grad, OrderedDict())


class _BufferType(type(Tensor)):
    """`isinstance(x, Buffer)` holds for tensors marked `_is_buffer`: a buffer is an ordinary tensor with that mark."""

    def __instancecheck__(cls, instance) -> bool:
        return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)


class Buffer(Tensor, metaclass=_BufferType):
    """A tensor that, assigned to an attribute of a `Module`, is kept with it but not learned.

    `persistent`: whether it belongs to the module's `state_dict`.
    """

    __torch_function__ = disabled

    def __new__(cls, data=None, *, persistent: bool = True):
        if data is None:
            data = torch.empty(0)
        buffer = data.detach().requires_grad_(data.requires_grad)
        buffer.persistent = persistent
        buffer._is_buffer = True
        return buffer


class UninitializedTensorMixin:
    """A tensor without shape or data yet; a lazy module gives it both at its first call."""

    __torch_function__ = disabled

    def materialize(self, shape, device=None, dtype=None) -> None:
        """Become an ordinary parameter or buffer of `shape`, with arbitrary values."""
        self.data = torch.empty(shape, device=device or self.data.device, dtype=dtype or self.data.dtype)
        self.__class__ = self.cls_to_become

    @property
    def shape(self):
        raise RuntimeError(f"{type(self).__name__}: it has no shape yet. Call the lazy module once with an input first.")

    def share_memory_(self):
        raise RuntimeError(f"{type(self).__name__}: cannot be shared yet. Call the lazy module once with an input first.")

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol):
        return type(self), (self.requires_grad,)


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A parameter of a lazy module before its first call."""

    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device=None, dtype=None):
        return Tensor._make_subclass(cls, torch.empty(0, device=device, dtype=dtype), requires_grad)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.data.device, self.data.dtype)
        return memo[id(self)]


class UninitializedBuffer(UninitializedTensorMixin, Tensor):
    """A buffer of a lazy module before its first call."""

    cls_to_become = Tensor

    def __new__(cls, requires_grad: bool = False, device=None, dtype=None, persistent: bool = True):
        buffer = Tensor._make_subclass(cls, torch.empty(0, device=device, dtype=dtype), requires_grad)
        buffer.persistent = persistent
        buffer._is_buffer = True
        return buffer


def is_lazy(tensor) -> bool:
    return isinstance(tensor, UninitializedTensorMixin)
