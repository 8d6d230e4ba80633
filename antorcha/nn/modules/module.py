"""`Module`: a tree of parameters, buffers and submodules with a `forward`."""

from __future__ import annotations

import inspect
from collections import OrderedDict

import antorcha as torch

from ..parameter import Buffer, Parameter
from ._hooks import (
    HooksMixin,
    after_registration,
    call,
    global_backward_hooks,
    global_backward_pre_hooks,
    global_buffer_registration_hooks,
    global_forward_hooks,
    global_forward_pre_hooks,
    global_module_registration_hooks,
    global_parameter_registration_hooks,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from ._state import EXTRA_STATE, StateMixin, _IncompatibleKeys  # noqa: F401 (libraries take it from here)

_EXTRA_STATE_KEY_SUFFIX = EXTRA_STATE

__all__ = [
    "Module",
    "register_module_backward_hook",
    "register_module_buffer_registration_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
]

def _fresh_state() -> dict:
    """The attributes of every module as they start."""
    return {
        "training": True,
        "_parameters": {},
        "_buffers": {},
        "_non_persistent_buffers_set": set(),
        "_backward_pre_hooks": OrderedDict(),
        "_backward_hooks": OrderedDict(),
        "_is_full_backward_hook": None,
        "_forward_hooks": OrderedDict(),
        "_forward_hooks_with_kwargs": OrderedDict(),
        "_forward_hooks_always_called": OrderedDict(),
        "_forward_pre_hooks": OrderedDict(),
        "_forward_pre_hooks_with_kwargs": OrderedDict(),
        "_state_dict_hooks": OrderedDict(),
        "_state_dict_pre_hooks": OrderedDict(),
        "_load_state_dict_pre_hooks": OrderedDict(),
        "_load_state_dict_post_hooks": OrderedDict(),
        "_modules": {},
    }


def _addindent(text: str, spaces: int) -> str:
    """`text` with all lines but the first indented."""
    return text.replace("\n", "\n" + " " * spaces)


def _typename(x) -> str:
    if isinstance(x, torch.Tensor):
        return x.type()
    cls = type(x)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _forward_unimplemented(self, *input) -> None:
    """What the module computes. Every subclass defines it."""
    raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')


class _Member:
    """A parameter, submodule or buffer of this name, as an attribute of the classes whose modules have one. Without it Python searches in
    vain, raises and forgets AttributeError, and only then calls `Module.__getattr__`: all that takes ten times as long. Where a module
    has none the search goes on as if this was not there; an attribute of the module itself comes first."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __get__(self, module, owner=None):
        if module is not None and type(module).__getattr__ is _search:
            name = self.name
            if name in (table := module._parameters) or name in (table := module._modules) or name in (table := module._buffers):
                return table[name]
        raise AttributeError(f"type object '{owner.__name__}' has no attribute '{self.name}'")

    @classmethod
    def add(cls, owner: type, name: str) -> None:
        """Let the modules of a class find what is called so, unless that is something else in the class."""
        if not any([name in vars(c) for c in owner.__mro__]):
            setattr(owner, name, cls(name))


class Module(HooksMixin, StateMixin):
    """The base of all neural network modules.

    A subclass makes its parameters, buffers and submodules in `__init__` (after `super().__init__()`) by assigning them to attributes,
    and computes in `forward`. Calling the module calls `forward`, and the hooks.
    """

    dump_patches = False
    call_super_init = False
    _version = 1
    _compiled_call_impl = None
    training: bool
    forward = _forward_unimplemented

    def __init__(self, *args, **kwargs) -> None:
        if not self.call_super_init and (args or kwargs):
            received = f"unexpected keyword argument '{next(iter(kwargs))}'" if kwargs else f"{len(args)} positional arguments"
            raise TypeError(f"{type(self).__name__}.__init__() got {received}; Module.__init__ takes none")
        self.__dict__.update(_fresh_state())
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    # -- calling -------------------------------------------------------------------------------------------------

    def _call_impl(self, *args, **kwargs):
        if (self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks
                or global_forward_hooks or global_forward_pre_hooks or global_backward_hooks or global_backward_pre_hooks):
            return call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    __call__ = _wrapped_call_impl = _call_impl

    def compile(self, *args, **kwargs) -> None:
        """Nothing to do: everything is compiled as it is recorded."""

    # -- attributes ----------------------------------------------------------------------------------------------

    def __getattr__(self, name: str):
        state = self.__dict__
        for table in ("_parameters", "_modules", "_buffers"):
            if name in state.get(table, ()):    # there is none if __init__ was not called
                return state[table][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value) -> None:
        state = self.__dict__
        parameters, modules, buffers = state.get("_parameters"), state.get("_modules"), state.get("_buffers")
        if isinstance(value, Parameter):
            if parameters is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, except_in=parameters)
            self.register_parameter(name, value)
        elif parameters is not None and name in parameters:
            self._check_assignment(value is None, value, f"as parameter '{name}'", "torch.nn.Parameter")
            self.register_parameter(name, None)
        elif isinstance(value, Module):
            if modules is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, except_in=modules)
            modules[name] = after_registration(global_module_registration_hooks, self, name, value)
            _Member.add(type(self), name)
        elif modules is not None and name in modules:
            self._check_assignment(value is None, value, f"as child module '{name}'", "torch.nn.Module")
            modules[name] = after_registration(global_module_registration_hooks, self, name, None)
        elif isinstance(value, Buffer):
            if buffers is None:
                raise AttributeError("cannot assign buffer before Module.__init__() call")
            self._forget(name, except_in=buffers)
            self.register_buffer(name, value, value.persistent)
        elif buffers is not None and name in buffers:
            is_tensor = value is None or isinstance(value, torch.Tensor)
            self._check_assignment(is_tensor, value, f"as buffer '{name}'", "torch.nn.Buffer, torch.Tensor")
            buffers[name] = after_registration(global_buffer_registration_hooks, self, name, value)
        else:
            object.__setattr__(self, name, value)

    def _forget(self, name: str, except_in: dict) -> None:
        state = self.__dict__
        state.pop(name, None)
        for table in (self._parameters, self._buffers, self._modules):
            if table is not except_in:
                table.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    @staticmethod
    def _check_assignment(allowed: bool, value, where: str, expected: str) -> None:
        if not allowed:
            raise TypeError(f"cannot assign '{_typename(value)}' {where} ({expected} or None expected)")

    def __delattr__(self, name: str) -> None:
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self):
        own = [name for name in dir(type(self)) if type(inspect.getattr_static(type(self), name)) is not _Member]
        names = {*own, *self.__dict__, *self._parameters, *self._modules, *self._buffers}
        return sorted(name for name in names if not name[0].isdigit())

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_compiled_call_impl"}

    def __setstate__(self, state) -> None:
        self.__dict__.update({**_fresh_state(), **state})   # modules pickled by older versions lack some

    def _check_name(self, kind: str, name, table: dict) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_typename(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain "."')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in table and self._has(name):
            raise KeyError(f"attribute '{name}' already exists")

    def _has(self, name: str) -> bool:
        """hasattr(self, name), which takes several times as long where the answer is no."""
        if type(self).__getattr__ is not Module.__getattr__:
            return hasattr(self, name)
        return (name in self.__dict__ or name in self._parameters or name in self._modules or name in self._buffers
                or hasattr(type(self), name))

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make `param` the parameter `name` of this module. None reserves the name."""
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name("parameter", name, self._parameters)
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot assign '{_typename(param)}' object to parameter '{name}' (torch.nn.Parameter or None required)")
            if param.grad_fn is not None:
                raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}': it was computed from other tensors. "
                                 "Compute it in forward() instead, or register its detached value.")
            param = after_registration(global_parameter_registration_hooks, self, name, param)
        self._parameters[name] = param
        _Member.add(type(self), name)

    def register_buffer(self, name: str, tensor, persistent: bool = True) -> None:
        """Keep `tensor` with the module as `name`, without learning it. Only persistent buffers are in `state_dict()`."""
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, torch.Tensor):
            raise TypeError(f"cannot assign '{_typename(tensor)}' object to buffer '{name}' (torch Tensor or None required)")
        self._buffers[name] = after_registration(global_buffer_registration_hooks, self, name, tensor)
        _Member.add(type(self), name)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Make `module` the child `name` of this module."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{_typename(module)} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._modules[name] = after_registration(global_module_registration_hooks, self, name, module)

    register_module = add_module

    # -- finding by name -----------------------------------------------------------------------------------------

    def get_submodule(self, target: str) -> Module:
        """The descendant with the full name `target` ("encoder.layers.0"); this module itself for ""."""
        module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put `module` in the place of the descendant `target`. `strict`: there must be one already."""
        if not target:
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        above, _, name = target.rpartition(".")
        parent = self.get_submodule(above)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def _get_member(self, target: str):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        return module, name, getattr(module, name)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with the full name `target`."""
        _, name, found = self._get_member(target)
        if not isinstance(found, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return found

    def get_buffer(self, target: str):
        """The buffer with the full name `target`."""
        module, name, found = self._get_member(target)
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return found

    # -- iterating -----------------------------------------------------------------------------------------------

    def named_modules(self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True):
        """This module and all descendants, depth first, as (full name, module)."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self):
        """This module and all descendants, each once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self):
        """The direct submodules, each once, as (name, module)."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self):
        """The direct submodules, each once."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, get_members_fn, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True):
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in get_members_fn(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True):
        """All parameters as (full name, parameter), shared ones once."""
        return self._named_members(lambda module: module._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True):
        """All parameters, shared ones once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True):
        """All buffers as (full name, buffer), shared ones once."""
        return self._named_members(lambda module: module._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True):
        """All buffers, shared ones once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # -- modes ---------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True):
        """Training mode for this module and all descendants (dropout drops, batch norm uses the batch's statistics)."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: training mode is expected to be boolean; received {mode!r}")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self):
        """Evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True):
        """Whether all parameters are to be learned."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all parameters' gradients (None), or set them to zero."""
        for parameter in self.parameters():
            _zero_grad(parameter, set_to_none)

    def share_memory(self):
        """Move all tensors to memory shared between processes."""
        return self._apply(lambda t: t.share_memory_())

    # -- converting ----------------------------------------------------------------------------------------------

    def apply(self, fn):
        """Call `fn(module)` for all descendants, then for this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self, fn, recurse: bool = True):
        """Replace the value of every parameter, gradient and buffer by `fn(value)`. Parameters stay the same objects."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for parameter in self._parameters.values():
            if parameter is None:
                continue
            with torch.no_grad():
                grad = parameter.grad
                converted = fn(parameter)
                if converted is not parameter:
                    parameter.grad = None
                    parameter.data = converted
                if grad is not None:
                    parameter.grad = fn(grad).requires_grad_(grad.requires_grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self, *args, **kwargs):
        """Convert all parameters and buffers: `to(device)`, `to(dtype)` (floating point ones only), `to(device, dtype)`,
        `to(tensor)` (its device and dtype), each with `non_blocking` and `memory_format`."""
        device, dtype, non_blocking, memory_format = _parse_to(*args, **kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")

        def convert(t):
            numeric = dtype if t.is_floating_point() or t.is_complex() else None
            if memory_format is not None and t.dim() in (4, 5):     # of images; vectors and matrices have no other format
                return t.to(device, numeric, non_blocking, memory_format=memory_format)
            if (numeric is None or t.dtype is numeric) and (device is None or t.device == device):
                return t
            return t.to(device, numeric, non_blocking)

        return self._apply(convert)

    def _to_floating(self, dtype):
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() and t.dtype is not dtype else t)

    def float(self):
        """All floating point tensors as float32."""
        return self._to_floating(torch.float32)

    def double(self):
        """All floating point tensors as float64."""
        return self._to_floating(torch.float64)

    def half(self):
        """All floating point tensors as float16."""
        return self._to_floating(torch.float16)

    def bfloat16(self):
        """All floating point tensors as bfloat16."""
        return self._to_floating(torch.bfloat16)

    def type(self, dst_type):
        """All tensors as `dst_type`."""
        return self._apply(lambda t: t.type(dst_type))

    def cpu(self):
        """All tensors on the CPU."""
        return self._apply(lambda t: t.cpu())

    def cuda(self, device=None):
        """All tensors on a GPU."""
        return self._apply(lambda t: t.cuda(device))

    def _unsupported_device(name):
        def move(self, device=None):
            raise NotImplementedError(f"{type(self).__name__}.{name}: there is no {name} device in antorcha; use cpu or cuda")
        move.__name__ = name
        return move

    ipu, xpu, mtia = _unsupported_device("ipu"), _unsupported_device("xpu"), _unsupported_device("mtia")
    del _unsupported_device

    def to_empty(self, *, device, recurse: bool = True):
        """All tensors on `device` with arbitrary values."""
        return self._apply(lambda t: torch.empty_like(t, device=device), recurse=recurse)

    # -- printing ------------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What `repr` shows besides the submodules; subclasses override it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_addindent(repr(module), 2)}" for name, module in self._modules.items()]
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({extra})"
        lines += children
        if not lines:
            return f"{self._get_name()}()"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _zero_grad(tensor, set_to_none: bool) -> None:
    grad = tensor.grad
    if grad is None:
        return
    if set_to_none:
        tensor.grad = None
        return
    if grad.requires_grad:
        grad = tensor.grad = grad.detach()
    with torch.no_grad():
        grad.zero_()


def _parse_to(*args, device=None, dtype=None, non_blocking=False, copy=False, memory_format=None):
    """The arguments of `to` as (device, dtype, non_blocking, memory_format)."""
    for a in args:
        if isinstance(a, torch.Tensor):
            device, dtype = a.device, a.dtype
        elif isinstance(a, torch.dtype):
            dtype = a
        elif isinstance(a, bool):
            non_blocking = a
        elif a is not None:
            device = a
    return None if device is None else torch.device(device), dtype, non_blocking, memory_format


_search = Module.__getattr__      # a subclass may have its own
