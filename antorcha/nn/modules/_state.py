"""Saving and loading of a module's state: the part of `Module` about `state_dict`."""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict, namedtuple
from collections.abc import Mapping

import antorcha as torch

from ..parameter import Parameter, is_lazy
from ._hooks import RemovableHandle, _register

EXTRA_STATE = "_extra_state"
_absent = object()


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict` returns: the keys the module expected in vain, and those it did not know."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


class StateMixin:
    """`state_dict`, `load_state_dict` and their hooks."""

    # -- saving ----------------------------------------------------------------------------------------------

    def get_extra_state(self):
        """What else is to be saved with the module (any picklable value); a module that has such state overrides this."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be called: "
                           f"{type(self).__name__} defines set_extra_state() alone. Define both.")

    def set_extra_state(self, state) -> None:
        """Take back what `get_extra_state` returned."""
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be called: "
                           f"{type(self).__name__} defines get_extra_state() alone. Define both.")

    def register_state_dict_pre_hook(self, hook) -> RemovableHandle:
        """`hook(module, prefix, keep_vars)` is called before this module's state is collected."""
        return _register(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook) -> RemovableHandle:
        """`hook(module, state_dict, prefix, local_metadata)` is called after; it changes the state dict in place."""
        hook._from_public_api = True
        return _register(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook) -> RemovableHandle:
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError("Cannot register the same function as the state dict post hook that was previously registered via "
                               "register_state_dict_post_hook")
        return _register(self._state_dict_hooks, hook)

    def _save_to_state_dict(self, destination, prefix: str, keep_vars: bool) -> None:
        """Put this module's own parameters, persistent buffers and extra state into `destination`."""
        for name, value in self._persistent_state():
            destination[prefix + name] = value if keep_vars else value.detach()
        if _overrides(self, "get_extra_state"):
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _persistent_state(self):
        buffers = ((k, v) for k, v in self._buffers.items() if k not in self._non_persistent_buffers_set)
        return ((k, v) for k, v in itertools.chain(self._parameters.items(), buffers) if v is not None)

    def state_dict(self, *args, destination=None, prefix: str = "", keep_vars: bool = False):
        """All parameters and persistent buffers by their full names. The tensors share the module's memory; they are detached
        unless `keep_vars`."""
        if args:
            destination, prefix, keep_vars = (*args, *(destination, prefix, keep_vars)[len(args):])
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            result = hook(self, destination, prefix, local_metadata)
            if getattr(hook, "_from_public_api", False):
                if result is not None:
                    raise RuntimeError("state_dict post-hook must return None")
            elif result is not None:
                destination = result
        return destination

    # -- loading ---------------------------------------------------------------------------------------------

    def register_load_state_dict_pre_hook(self, hook) -> RemovableHandle:
        """`hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)` is called before
        this module's own state is loaded."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(self, hook, with_module: bool = False) -> RemovableHandle:
        return _register(self._load_state_dict_pre_hooks, functools.partial(hook, self) if with_module else hook)

    def register_load_state_dict_post_hook(self, hook) -> RemovableHandle:
        """`hook(module, incompatible_keys)` is called after loading; it may change the lists of keys in place."""
        return _register(self._load_state_dict_post_hooks, hook)

    def _load_from_state_dict(self, state_dict, prefix: str, local_metadata: dict, strict: bool,
                              missing_keys: list, unexpected_keys: list, error_msgs: list) -> None:
        """Load this module's own state; what goes wrong is appended to the three lists."""
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, own in self._persistent_state():
            key = prefix + name
            if key in state_dict:
                self._load_tensor(key, name, own, state_dict[key], assign, error_msgs)
            elif strict:
                missing_keys.append(key)
        key = prefix + EXTRA_STATE
        if _overrides(self, "set_extra_state"):
            if key in state_dict:
                self.set_extra_state(state_dict[key])
            elif strict:
                missing_keys.append(key)
        elif strict and key in state_dict:
            unexpected_keys.append(key)
        if strict:
            unexpected_keys.extend(self._unknown_keys(state_dict, prefix))

    def _load_tensor(self, key: str, name: str, own, given, assign: bool, error_msgs: list) -> None:
        if not isinstance(given, torch.Tensor):
            error_msgs.append(f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from '
                              f"checkpoint but received {type(given)}")
            return
        if not is_lazy(own):
            if own.dim() == 0 and tuple(given.shape) == (1,):
                given = given[0]  # scalars were saved with one dimension before PyTorch 0.4
            if given.shape != own.shape:
                error_msgs.append(f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, "
                                  f"the shape in current model is {own.shape}.")
                return
        elif not is_lazy(given):
            with torch.no_grad():
                own.materialize(given.shape)
        try:
            with torch.no_grad():
                if assign:
                    if isinstance(own, Parameter):
                        given = (given.requires_grad_(own.requires_grad) if isinstance(given, Parameter)
                                 else Parameter(given, requires_grad=own.requires_grad))
                    setattr(self, name, given)
                elif not is_lazy(given):
                    own.copy_(given)
        except Exception as error:
            action = "swapping" if assign else "copying"
            error_msgs.append(f'While {action} the parameter named "{key}", whose dimensions in the model are {own.size()} and whose '
                              f"dimensions in the checkpoint are {given.size()}, an exception occurred : {error.args}.")

    def _unknown_keys(self, state_dict, prefix: str):
        known = {name for name, _ in self._persistent_state()}
        for key in state_dict:
            if key.startswith(prefix) and key != prefix + EXTRA_STATE:
                first, *rest = key[len(prefix):].split(".", 1)
                if (first not in self._modules) if rest else (first not in known):
                    yield key

    def load_state_dict(self, state_dict: Mapping, strict: bool = True, assign: bool = False) -> _IncompatibleKeys:
        """Copy the tensors of `state_dict` into this module and its descendants.

        `strict`: the keys must be exactly those of `self.state_dict()`. `assign`: take the given tensors themselves instead of
        copying their values (parameters keep their `requires_grad`). Raises RuntimeError with all that did not fit; what fitted has
        been loaded by then.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None)
        state_dict = OrderedDict(state_dict)
        if metadata is not None:
            state_dict._metadata = metadata
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []

        def load(module, part, prefix=""):
            local = {} if metadata is None else metadata.get(prefix[:-1], {})
            if assign:
                local["assign_to_params_buffers"] = True
            module._load_from_state_dict(part, prefix, local, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    below = f"{prefix}{name}."
                    load(child, {k: v for k, v in part.items() if k.startswith(below)}, below)
            keys = _IncompatibleKeys(missing, unexpected)
            for hook in module._load_state_dict_post_hooks.values():
                if hook(module, keys) is not None:
                    raise AssertionError("Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return "
                                         "new values: change the lists of incompatible keys in place.")

        load(self, state_dict)
        if strict:
            for title, keys in (("Unexpected", unexpected), ("Missing", missing)):  # missing keys come first
                if keys:
                    names = ", ".join(f'"{k}"' for k in keys)
                    errors.insert(0, f"{title} key(s) in state_dict: {names}. ")
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        return _IncompatibleKeys(missing, unexpected)


def _overrides(module, method: str) -> bool:
    return getattr(type(module), method) is not getattr(StateMixin, method)
