"""Hooks of modules: functions called around `forward` and when gradients cross a module's borders."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import antorcha as torch

from ...utils.hooks import RemovableHandle

# Hooks of all modules: those of a module are called after them.
global_forward_hooks: OrderedDict = OrderedDict()
global_forward_hooks_with_kwargs: OrderedDict = OrderedDict()
global_forward_hooks_always_called: OrderedDict = OrderedDict()
global_forward_pre_hooks: OrderedDict = OrderedDict()
global_backward_hooks: OrderedDict = OrderedDict()
global_backward_pre_hooks: OrderedDict = OrderedDict()
global_parameter_registration_hooks: OrderedDict = OrderedDict()
global_module_registration_hooks: OrderedDict = OrderedDict()
global_buffer_registration_hooks: OrderedDict = OrderedDict()


class _GlobalBackwardKind:
    """Full hooks see gradients of a module's inputs and outputs; the older kind those of its last operator. One kind at a time."""

    full: bool | None = None


def _register(table: OrderedDict, hook, extra=(), prepend: bool = False) -> RemovableHandle:
    handle = RemovableHandle(table, extra_dict=[e for e in extra])
    table[handle.id] = hook
    if prepend:
        table.move_to_end(handle.id, last=False)
    return handle


def register_module_forward_pre_hook(hook) -> RemovableHandle:
    """`hook(module, args) -> None | args` before every module's forward."""
    return _register(global_forward_pre_hooks, hook)


def register_module_forward_hook(hook, *, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    """`hook(module, args, output) -> None | output` (with `kwargs` after `args` if asked for) after every module's forward."""
    handle = _register(global_forward_hooks, hook, (global_forward_hooks_with_kwargs, global_forward_hooks_always_called))
    if with_kwargs:
        global_forward_hooks_with_kwargs[handle.id] = True
    if always_call:
        global_forward_hooks_always_called[handle.id] = True
    return handle


def register_module_full_backward_pre_hook(hook) -> RemovableHandle:
    """`hook(module, grad_output) -> None | grad_output` when the gradients of any module's outputs are known."""
    return _register(global_backward_pre_hooks, hook)


def register_module_full_backward_hook(hook) -> RemovableHandle:
    """`hook(module, grad_input, grad_output) -> None | grad_input` when the gradients of any module's inputs are known."""
    _choose_global_kind(True)
    return _register(global_backward_hooks, hook)


def register_module_backward_hook(hook) -> RemovableHandle:
    """The older form of `register_module_full_backward_hook`: `grad_input` are those of the module's last operator."""
    _choose_global_kind(False)
    return _register(global_backward_hooks, hook)


def _choose_global_kind(full: bool) -> None:
    if global_backward_hooks and _GlobalBackwardKind.full is not full:
        raise RuntimeError("Cannot use both regular backward hooks and full backward hooks as a global Module hook. "
                           "Please use only one of them.")
    _GlobalBackwardKind.full = full


def register_module_parameter_registration_hook(hook) -> RemovableHandle:
    """`hook(module, name, parameter) -> None | parameter` whenever a parameter is registered."""
    return _register(global_parameter_registration_hooks, hook)


def register_module_module_registration_hook(hook) -> RemovableHandle:
    """`hook(module, name, submodule) -> None | submodule` whenever a submodule is registered."""
    return _register(global_module_registration_hooks, hook)


def register_module_buffer_registration_hook(hook) -> RemovableHandle:
    """`hook(module, name, buffer) -> None | buffer` whenever a buffer is registered."""
    return _register(global_buffer_registration_hooks, hook)


def after_registration(hooks: OrderedDict, module, name: str, value):
    for hook in tuple(hooks.values()):
        result = hook(module, name, value)
        if result is not None:
            value = result
    return value


hooks_of_all = (global_forward_hooks, global_forward_pre_hooks, global_backward_hooks, global_backward_pre_hooks)


def any_global() -> bool:
    return any(hooks_of_all)


# -- calling a module with hooks --------------------------------------------------------------------------------

def call(module, args: tuple, kwargs: dict):
    """`module.forward(*args, **kwargs)` with all hooks around it."""
    called: set = set()
    try:
        args, kwargs = _before(module, args, kwargs)
        crossing = _Crossing.of(module)
        if crossing is not None:
            args = crossing.inputs(args)
        result = module.forward(*args, **kwargs)
        result = _after(module, args, kwargs, result, called)
        if crossing is not None:
            result = crossing.outputs(result)
        if module._is_full_backward_hook is False or _GlobalBackwardKind.full is False:
            _hook_last_operator(module, result)
        return result
    except Exception:
        _always(module, args, kwargs, called)
        raise


def _before(module, args, kwargs):
    for hook in tuple(global_forward_pre_hooks.values()):
        result = hook(module, args)
        if result is not None:
            args = result if isinstance(result, tuple) else (result,)
    for number, hook in tuple(module._forward_pre_hooks.items()):
        if number in module._forward_pre_hooks_with_kwargs:
            result = hook(module, args, kwargs)
            if result is not None:
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {result}.")
                args, kwargs = result
        else:
            result = hook(module, args)
            if result is not None:
                args = result if isinstance(result, tuple) else (result,)
    return args, kwargs


def _forward_hooks(module):
    """All forward hooks as (identifier, hook, takes kwargs, called even after an error)."""
    for number, hook in tuple(global_forward_hooks.items()):
        yield number, hook, number in global_forward_hooks_with_kwargs, number in global_forward_hooks_always_called
    for number, hook in tuple(module._forward_hooks.items()):
        yield number, hook, number in module._forward_hooks_with_kwargs, number in module._forward_hooks_always_called


def _after(module, args, kwargs, result, called: set):
    for number, hook, with_kwargs, always in _forward_hooks(module):
        if always:
            called.add(number)
        replaced = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
        if replaced is not None:
            result = replaced
    return result


def _always(module, args, kwargs, called: set) -> None:
    """After an error: the hooks that are to be called even then, once each. They get no result."""
    for number, hook, with_kwargs, always in _forward_hooks(module):
        if not always or number in called:
            continue
        try:
            if with_kwargs:
                hook(module, args, kwargs, None)
            else:
                hook(module, args, None)
        except Exception as error:
            warnings.warn(f"forward hook with ``always_call=True`` raised an exception that was silenced as another error was "
                          f"raised in forward: {error}", stacklevel=3)


# -- gradients crossing a module's borders ----------------------------------------------------------------------

class _Crossing:
    """One call of a module with full backward hooks: its inputs and outputs pass through identities that call them."""

    def __init__(self, module, pre_hooks: list, hooks: list):
        self.module, self.pre_hooks, self.hooks = module, pre_hooks, hooks
        self.grad_output: tuple | None = None
        self.slots: list[int] = []
        self.count = 0

    @classmethod
    def of(cls, module) -> _Crossing | None:
        pre_hooks = [*global_backward_pre_hooks.values(), *module._backward_pre_hooks.values()]
        hooks = list(global_backward_hooks.values()) if _GlobalBackwardKind.full else []
        if module._is_full_backward_hook:
            hooks += module._backward_hooks.values()
        return cls(module, pre_hooks, hooks) if pre_hooks or hooks else None

    def inputs(self, args: tuple) -> tuple:
        self.count = len(args)
        args, self.slots = _cross(args, self._at_inputs)
        return args

    def outputs(self, result):
        alone = not isinstance(result, tuple)
        results, slots = _cross((result,) if alone else result, lambda grads: self._at_outputs(grads, slots, len(results)))
        return results[0] if alone else results

    def _at_outputs(self, grads: tuple, slots, count: int) -> tuple:
        grad_output = _spread(grads, slots, count)
        for hook in self.pre_hooks:
            result = hook(self.module, grad_output)
            if result is not None:
                grad_output = _same_length("backward pre hook", "grad_output", result, grad_output)
        self.grad_output = grad_output
        if not self.slots:  # no gradient will arrive at the inputs
            for hook in self.hooks:
                result = hook(self.module, (None,) * self.count, grad_output)
                if result is not None and any(g is not None for g in result):
                    raise RuntimeError("Backward hook for Modules where no input requires gradient should always return None "
                                       "or None for all gradients.")
        return tuple(grad_output[i] for i in slots)

    def _at_inputs(self, grads: tuple) -> tuple:
        grad_input = _spread(grads, self.slots, self.count)
        for hook in self.hooks:
            result = hook(self.module, grad_input, self.grad_output)
            if result is not None:
                grad_input = _same_length("Backward hook", "grad_input", result, grad_input)
        self.grad_output = None
        return tuple(grad_input[i] for i in self.slots)


def _spread(grads: tuple, slots, count: int) -> tuple:
    out = [None] * count
    for i, g in zip(slots, grads):
        out[i] = g
    return tuple(out)


def _same_length(what: str, name: str, result, expected: tuple) -> tuple:
    result = result if isinstance(result, tuple) else (result,)
    if len(result) != len(expected):
        raise RuntimeError(f"{what} returned an invalid number of {name}, got {len(result)}, but expected {len(expected)}")
    return result


def _cross(values: tuple, action) -> tuple:
    """`values` with every tensor that requires grad passed through an identity whose backward calls `action(grads) -> grads`;
    and the positions of these tensors."""
    slots = [i for i, v in enumerate(values) if isinstance(v, torch.Tensor) and v.requires_grad] if torch.is_grad_enabled() else []
    if not slots:
        return values, slots
    crossed = _identity().apply(action, *(values[i] for i in slots))
    crossed = crossed if isinstance(crossed, tuple) else (crossed,)
    values = list(values)
    for i, v in zip(slots, crossed):
        values[i] = v
    return tuple(values), slots


def _identity():
    """The identity as an `autograd.Function` (a class made at its first use, when autograd is there)."""
    global _Identity
    if _Identity is None:
        class Identity(torch.autograd.Function):
            @staticmethod
            def forward(ctx, action, *tensors):
                ctx.action = action
                ctx.set_materialize_grads(False)
                return tuple(t.view_as(t) for t in tensors)

            @staticmethod
            def backward(ctx, *grads):
                return None, *ctx.action(grads)

        _Identity = Identity
    return _Identity


_Identity = None


def _hook_last_operator(module, result) -> None:
    """The older backward hooks: on the node that made the (first tensor of the) result."""
    hooks = [] if _GlobalBackwardKind.full else list(global_backward_hooks.values())
    if not module._is_full_backward_hook:
        hooks += module._backward_hooks.values()
    while not isinstance(result, torch.Tensor):
        if isinstance(result, dict):
            result = next((v for v in result.values() if isinstance(v, torch.Tensor)), None)
        else:
            result = result[0] if result else None
        if result is None:
            return
    if result.grad_fn is None:
        return
    for hook in hooks:
        def on_node(grad_input, grad_output, hook=hook):
            return hook(module, grad_input, grad_output)
        result.grad_fn.register_hook(on_node)


class HooksMixin:
    """The part of `Module` that registers hooks."""

    def register_forward_pre_hook(self, hook, *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """`hook(module, args) -> None | args` is called before `forward`; with `with_kwargs`,
        `hook(module, args, kwargs) -> None | (args, kwargs)`. `prepend`: before the hooks there already."""
        handle = _register(self._forward_pre_hooks, hook, (self._forward_pre_hooks_with_kwargs,), prepend)
        if with_kwargs:
            self._forward_pre_hooks_with_kwargs[handle.id] = True
        return handle

    def register_forward_hook(self, hook, *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """`hook(module, args, output) -> None | output` is called after `forward`; with `with_kwargs`,
        `hook(module, args, kwargs, output)`. `always_call`: also when `forward` raises (then with output None)."""
        extra = (self._forward_hooks_with_kwargs, self._forward_hooks_always_called)
        handle = _register(self._forward_hooks, hook, extra, prepend)
        if with_kwargs:
            self._forward_hooks_with_kwargs[handle.id] = True
        if always_call:
            self._forward_hooks_always_called[handle.id] = True
        return handle

    def register_full_backward_pre_hook(self, hook, prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_output) -> None | grad_output` is called when the gradients of the outputs are known."""
        return _register(self._backward_pre_hooks, hook, (), prepend)

    def register_full_backward_hook(self, hook, prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_input, grad_output) -> None | grad_input` is called when the gradients of the inputs are known."""
        self._choose_backward_kind(True)
        return _register(self._backward_hooks, hook, (), prepend)

    def register_backward_hook(self, hook) -> RemovableHandle:
        """The older form of `register_full_backward_hook`: `grad_input` are those of the module's last operator."""
        self._choose_backward_kind(False)
        return _register(self._backward_hooks, hook)

    def _choose_backward_kind(self, full: bool) -> None:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError("Cannot use both regular backward hooks and full backward hooks on a single Module. "
                               "Please use only one of them.")
        self._is_full_backward_hook = full
