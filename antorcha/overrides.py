"""torch.overrides: doing PyTorch's functions another way, for the arguments of a class (`__torch_function__`) or all of them
within a block (`TorchFunctionMode`)."""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager

from .core import override
from .core.override import state
from .core.tensor import Tensor

override.install()


def has_torch_function(relevant_args) -> bool:
    """Whether one of the arguments is of a class that overrides functions, or a mode is active."""
    if state.skip:
        state.skip = False
        return False
    return bool(state.enabled and (state.modes or state.subclasses and override.overloaded(relevant_args)))


def has_torch_function_unary(x) -> bool:
    """`has_torch_function` for one argument."""
    return has_torch_function((x,))


def has_torch_function_variadic(*args) -> bool:
    """`has_torch_function` for several arguments."""
    return has_torch_function(args)


def handle_torch_function(public_api, relevant_args, *args, **kwargs):
    """Do public_api(*args, **kwargs) as the active mode, or the classes of `relevant_args`, want it. TypeError if none does."""
    return override.dispatch(public_api, override.overloaded(relevant_args) if state.subclasses else [], args, kwargs)


def redispatch_function(func, types, args, kwargs):
    """Within an override of `func`: call it without asking for an override of it again; of what it calls inside, yes."""
    state.skip = True
    try:
        return func(*args, **(kwargs or {}))
    finally:
        state.skip = False


def wrap_torch_function(dispatcher):
    """A decorator that makes a function overridable: dispatcher(*args, **kwargs) gives the arguments whose classes are asked."""

    def decorate(function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            relevant = dispatcher(*args, **kwargs)
            if has_torch_function(relevant):
                return handle_torch_function(wrapped, relevant, *args, **kwargs)
            return function(*args, **kwargs)

        return wrapped

    return decorate


def is_tensor_like(inp) -> bool:
    """Whether `inp` is a tensor or of a class with `__torch_function__`."""
    return type(inp) is Tensor or hasattr(inp, "__torch_function__")


def is_tensor_method_or_property(func) -> bool:
    """Whether `func` is a method of Tensor, or reads or writes a property of it."""
    return override.names.get(func, "").startswith("torch.Tensor.") or getattr(func, "__name__", "") == "__get__"


def resolve_name(f) -> str | None:
    """The dotted name of an overridable function: torch.Tensor.add, torch.nn.functional.relu."""
    return override.names.get(f)


@functools.lru_cache(None)
def get_overridable_functions() -> dict:
    """module (or Tensor) -> its overridable functions."""
    found: dict = {}
    holders = {**override.modules(), "torch.Tensor": Tensor}
    for function, name in override.names.items():
        owner = name.rpartition(".")[0]
        if owner in holders:
            found.setdefault(holders[owner], []).append(function)
    return found


@functools.lru_cache(None)
def get_ignored_functions() -> set:
    """The public functions that cannot be overridden."""
    holders = [*override.modules().values(), Tensor]
    return {getattr(h, n) for h in holders for n in override.IGNORED if n in vars(h)}


@functools.lru_cache(None)
def get_testing_overrides() -> dict:
    """Each overridable function -> one of its signature that returns -1."""
    found = {}
    for function in override.plain:

        def stand_in(*args, **kwargs):
            return -1

        try:
            stand_in.__signature__ = inspect.signature(function)
        except (TypeError, ValueError):
            pass
        found[function] = stand_in
    return found


class TorchFunctionMode:
    """Inside the context, every overridable function is done by `__torch_function__(func, types, args, kwargs)` of the subclass;
    while that runs, the mode is inactive."""

    def __init__(self) -> None:
        pass

    def __torch_function__(self, func, types, args=(), kwargs=None):
        raise NotImplementedError

    def __enter__(self):
        override.install()
        state.modes = (*state.modes, self)
        return self

    def __exit__(self, *exc):
        state.modes = state.modes[:-1]

    @classmethod
    def push(cls, *args, **kwargs):
        """A new mode of this class."""
        return cls(*args, **kwargs)


class BaseTorchFunctionMode(TorchFunctionMode):
    """A mode that changes nothing."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class _Setting:
    """A context in which an attribute of the state has another value."""

    attribute, value = "", None

    def __enter__(self):
        self._before = getattr(state, self.attribute)
        setattr(state, self.attribute, self.value)
        return self

    def __exit__(self, *exc):
        setattr(state, self.attribute, self._before)


class DisableTorchFunctionSubclass(_Setting):
    """Inside, the classes of arguments are not asked; modes are."""

    attribute, value = "subclasses", False


class DisableTorchFunction(_Setting):
    """Inside, nothing is overridden."""

    attribute, value = "enabled", False


@contextmanager
def enable_reentrant_dispatch():
    """Inside, classes and modes are asked again within an override."""
    before = state.subclasses, state.enabled
    state.subclasses = state.enabled = True
    try:
        yield
    finally:
        state.subclasses, state.enabled = before


def _get_current_function_mode_stack() -> list:
    return list(state.modes)


def _len_torch_function_stack() -> int:
    return len(state.modes)


__all__ = [
    "BaseTorchFunctionMode",
    "TorchFunctionMode",
    "enable_reentrant_dispatch",
    "get_ignored_functions",
    "get_overridable_functions",
    "get_testing_overrides",
    "handle_torch_function",
    "has_torch_function",
    "has_torch_function_unary",
    "has_torch_function_variadic",
    "is_tensor_like",
    "is_tensor_method_or_property",
    "redispatch_function",
    "resolve_name",
    "wrap_torch_function",
]
