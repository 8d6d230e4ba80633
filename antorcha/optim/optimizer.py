"""What all optimisers share: parameter groups, state, `state_dict`."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from copy import deepcopy
from functools import wraps
from itertools import chain
from typing import Any, TypeAlias

import antorcha as torch

from ..graph import tape
from ..graph.node import Node
from . import repeated

required = object()
ParamsT: TypeAlias = Iterable[torch.Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, torch.Tensor]]
_params_t = params_t = ParamsT


def _use_grad_for_differentiable(step):
    """A decorator of `step` methods: without derivatives, unless the optimiser's default `differentiable` is true."""
    @wraps(step)
    def wrapped(self, *args, **kwargs):
        with torch.set_grad_enabled(self.defaults.get("differentiable", False)):
            return step(self, *args, **kwargs)
    return wrapped


def _get_value(x):
    """The number in a tensor; a number itself."""
    return x.item() if isinstance(x, torch.Tensor) else x


def _dispatch_sqrt(x):
    """The square root of a number or a tensor."""
    return x.sqrt() if isinstance(x, torch.Tensor) else x ** 0.5


def _default_to_fused_or_foreach(params, differentiable: bool, use_fused: bool = False) -> tuple[bool, bool]:
    """(False, False): updates written one by one are fused as they are."""
    return False, False


def _get_capturable_supported_devices(supports_xla: bool = True) -> list[str]:
    """Devices whose steps can be captured."""
    return ["cuda"]


_global_hooks: dict[str, OrderedDict] = {"pre": OrderedDict(), "post": OrderedDict()}


def _register(moment: str, hook):
    from ..utils.hooks import RemovableHandle
    handle = RemovableHandle(_global_hooks[moment])
    _global_hooks[moment][handle.id] = hook
    return handle


def register_optimizer_step_pre_hook(hook):
    """`Optimizer.register_step_pre_hook`, for all optimisers."""
    return _register("pre", hook)


def register_optimizer_step_post_hook(hook):
    """`Optimizer.register_step_post_hook`, for all optimisers."""
    return _register("post", hook)


def _new_arguments(step, result, args: tuple, kwargs: dict) -> tuple:
    """The arguments of a step as a hook leaves them."""
    if result is None:
        return args, kwargs
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got {result}.")
    return tuple(result[0])[1:], result[1]


class Optimizer:
    """Base of all optimisers.

    `params`: an iterable of tensors, of (name, tensor) pairs, or of dicts, the parameter groups, with `params` and the group's own
    options. A subclass gives `defaults`, `start(p, state, group)`, which fills the state before the first step of a parameter, and
    `rule(p, g, state, group)`, one step of parameter `p` along its gradient `g`.
    """

    def __init__(self, params, defaults: dict):
        if isinstance(params, torch.Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts; received a Tensor. "
                            "Put it in a list.")
        if isinstance(params, torch.nn.Module):
            raise TypeError(f"params argument given to the optimizer should be an iterable of Tensors or dicts; received a Module, "
                            f"{type(params).__name__}. Pass its parameters: model.parameters()")
        self.defaults = defaults
        self.state: defaultdict = defaultdict(dict)
        self.param_groups: list[dict] = []
        self._step_pre_hooks: OrderedDict = OrderedDict()
        self._step_post_hooks: OrderedDict = OrderedDict()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(dict(group))
        if tape.state.watch is None and tape.state.vmap is None:
            tape.flush(None)        # the first values of parameters: else the first step would be another recording than all later ones

    OptimizerPreHook: TypeAlias = Callable[["Optimizer", tuple, dict], Any]
    OptimizerPostHook: TypeAlias = Callable[["Optimizer", tuple, dict], None]

    def __getstate__(self) -> dict:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict) -> None:
        """Take over pickled attributes. Subclasses add to the groups what older versions of them did not save."""
        self.__dict__.update(state)
        for moment in ("step_pre", "step_post"):
            self.__dict__.setdefault(f"_{moment}_hooks", OrderedDict())

    @staticmethod
    def profile_hook_step(func):
        """A decorator of `step` methods: hooks are called before and after, and a running profile shows them as
        "Optimizer.step#Name.step". Every class's own `step` is decorated with it; what a step calls of its base class is part of it."""
        @wraps(func)
        def wrapped(self, *args, **kwargs):
            if self._called is not None:
                self._called = True
            before, after = self._step_pre_hooks, self._step_post_hooks
            profiler = sys.modules.get("antorcha.profiler")     # of a program that does not profile it is not loaded
            if not (before or after or _global_hooks["pre"] or _global_hooks["post"] or profiler and profiler._running) or self._stepping:
                return func(self, *args, **kwargs)
            self._stepping = True
            try:
                with profiler.record_function(f"Optimizer.step#{type(self).__name__}.step") if profiler else nullcontext():
                    for hook in (*_global_hooks["pre"].values(), *before.values()):
                        args, kwargs = _new_arguments(func, hook(self, (self, *args), kwargs), args, kwargs)
                    out = func(self, *args, **kwargs)
                    for hook in (*after.values(), *_global_hooks["post"].values()):
                        hook(self, (self, *args), kwargs)
                    return out
            finally:
                self._stepping = False
        wrapped.hooked = True
        return wrapped

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        step = cls.__dict__.get("step")
        if callable(step) and not getattr(step, "hooked", False):
            cls.step = Optimizer.profile_hook_step(step)

    _called = None          # whether `step` was called since it has a schedule; None without one
    _stepping = False       # whether hooks of a step were called, and it is not done

    def add_param_group(self, param_group: dict) -> None:
        """Optimise the parameters of one more group, with the group's own options and the defaults for the rest."""
        given = param_group["params"]
        if isinstance(given, torch.Tensor):
            given = [given]
        elif isinstance(given, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections; received a set. Use a list.")
        given = list(given)
        if given and isinstance(given[0], tuple):
            param_group["param_names"] = [name for name, _ in given]
            given = [p for _, p in given]
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for p in given:
            if not isinstance(p, torch.Tensor):
                raise TypeError(f"optimizer can only optimize Tensors; received {type(p).__name__}")
            if not (p.is_leaf or p.requires_grad and getattr(p, "retains_grad", False)):
                raise ValueError("can't optimize a non-leaf Tensor: it was computed from others. Use .detach().requires_grad_().")
            if id(p) in known:
                raise ValueError("some parameters appear in more than one parameter group")
        if len({id(p) for p in given}) < len(given):
            raise ValueError("some parameters appear twice in a parameter group")
        for name, value in self.defaults.items():
            if value is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, value)
        param_group["params"] = given
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with `set_to_none=False` set them to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p._grad = None
                elif p._grad is not None:
                    p._grad = p._grad.detach()
                    p._grad.zero_()

    @profile_hook_step
    def step(self, closure=None):
        """Update all parameters that have a gradient; `closure` computes the loss anew and is called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if tape.state.unsure and tape.state.watch is None:
            tape.flush(None)        # an index that is out of range is found before anything is changed
        with torch.no_grad():
            for group in self.param_groups:
                if tape.state.watch is not None:
                    group = tape.state.watch.group(group)
                self.update(group, [p for p in group["params"] if p._grad is not None])
        return loss

    def update(self, group: dict, parameters: list) -> None:
        """One step for the parameters of a group that have a gradient."""
        self._started(parameters, group)
        known = repeated.known_steps(self, group)
        sparse = [p for p in parameters if known is None or p._grad.is_sparse]
        if known is not None:
            known.make(self, [p for p in parameters if not p._grad.is_sparse] if sparse else parameters, group)
        self.each(sparse, group)

    def each(self, parameters: list, group: dict) -> None:
        """One step for each of some parameters, by the rule."""
        for p in parameters:
            g, state = p._grad, self.state.get(p)
            if g.is_sparse and not self.takes_sparse:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients, please consider SparseAdam instead")
            kept = {} if state is None else state
            self.rule(p, -g if group.get("maximize") else g, kept, group)
            if kept and state is None:
                self.state[p] = kept

    def _started(self, parameters: list, group: dict) -> None:
        """Give those parameters a state that have none yet. What is constant in it is computed now, so that the first step records the
        same as all later ones, and one plan serves for all."""
        fresh = []
        for p in parameters:
            if p not in self.state:
                state: dict = {}
                self.start(p, state, group)
                if state:
                    self.state[p] = state
                    fresh.append(state)
        if fresh and tape.state.watch is None and tape.state.vmap is None:
            tape.flush_part([v.storage.node for state in fresh for v in state.values()
                             if isinstance(v, torch.Tensor) and v.is_cpu and not any(type(s) is Node for s in v.storage.node.inputs)])

    takes_sparse = False

    def start(self, p, state: dict, group: dict) -> None:
        """The state of a parameter before its first step."""

    def rule(self, p, g, state: dict, group: dict) -> None:
        """One step of parameter p along its gradient g (negated to maximise)."""
        raise NotImplementedError

    def register_step_pre_hook(self, hook):
        """Call hook(optimizer, arguments, keyword arguments) before a step; what it returns, unless None, is a pair to take their place.
        The first argument is the optimiser."""
        return self._hook("step_pre", hook)

    def register_step_post_hook(self, hook):
        """Call hook(optimizer, arguments, keyword arguments) after a step."""
        return self._hook("step_post", hook)

    def _hook(self, moment: str, hook, prepend: bool = False):
        """Call `hook` at a moment of a step, or of saving or loading the state; with `prepend` before those that are registered."""
        from ..utils.hooks import RemovableHandle
        hooks = self.__dict__.setdefault(f"_{moment}_hooks", OrderedDict())
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    def register_state_dict_pre_hook(self, hook, prepend: bool = False):
        """Call hook(optimizer) before `state_dict`."""
        return self._hook("state_dict_pre", hook, prepend)

    def register_state_dict_post_hook(self, hook, prepend: bool = False):
        """Call hook(optimizer, state_dict) after `state_dict`; what it returns, unless None, is returned instead."""
        return self._hook("state_dict_post", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook, prepend: bool = False):
        """Call hook(optimizer, state_dict) before `load_state_dict`; what it returns, unless None, is loaded instead."""
        return self._hook("load_state_dict_pre", hook, prepend)

    def register_load_state_dict_post_hook(self, hook, prepend: bool = False):
        """Call hook(optimizer) after `load_state_dict`."""
        return self._hook("load_state_dict_post", hook, prepend)

    def _run_hooks(self, moment: str, *value):
        """The value (if any) as the hooks of a moment leave it."""
        for hook in list(self.__dict__.get(f"_{moment}_hooks", {}).values()):
            changed = hook(self, *value)
            value = (changed,) if value and changed is not None else value
        return value[0] if value else None

    def state_dict(self) -> dict:
        """The options of all groups, and the state of all parameters by number."""
        self._run_hooks("state_dict_pre")
        number: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                number.setdefault(id(p), len(number))
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": [number[id(p)] for p in group["params"]]})
        state = {
            number[id(p)]: {k: torch.tensor(v) if k == "step" and type(v) is float else v for k, v in s.items()}
            for p, s in self.state.items()
        }
        return self._run_hooks("state_dict_post", {"state": state, "param_groups": groups})

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over what `state_dict` of an optimiser over the same parameters returned."""
        saved = deepcopy(self._run_hooks("load_state_dict_pre", state_dict))
        if len(saved["param_groups"]) != len(self.param_groups):
            raise ValueError(f"loaded state dict has a different number of parameter groups: expected {len(self.param_groups)}; "
                             f"received {len(saved['param_groups'])}")
        for mine, theirs in zip(self.param_groups, saved["param_groups"]):
            if len(mine["params"]) != len(theirs["params"]):
                raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                                 f"expected {len(mine['params'])} parameters; received {len(theirs['params'])}")
        ours = dict(zip(chain.from_iterable(g["params"] for g in saved["param_groups"]),
                        chain.from_iterable(g["params"] for g in self.param_groups)))
        self.state = defaultdict(dict)
        for key, values in saved["state"].items():
            p = ours.get(key, key)
            self.state[p] = {k: _restored(k, v, p) for k, v in values.items()}
        for mine, theirs in zip(self.param_groups, saved["param_groups"]):
            mine.update({k: v for k, v in theirs.items() if k != "params"})
        self._run_hooks("load_state_dict_post")

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for i, group in enumerate(self.param_groups):
            lines += [""] * (i > 0) + [f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _restored(name: str, value, p):
    if name == "step":
        return float(value)
    if isinstance(value, torch.Tensor) and p.is_floating_point():
        return value.to(p.dtype)
    return value


def by_rows(g):
    """(rows, their values) of the sparse gradient of a parameter, each row once."""
    c = g.coalesce()
    if c.sparse_dim() != 1:
        raise RuntimeError(f"expected a sparse gradient with one sparse dimension, the rows; received {c.sparse_dim()}")
    return c.indices()[0], c.values()


def decayed(g, p, group: dict):
    """The gradient with weight decay added: that of `weight_decay / 2 * |p|^2`."""
    return g.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else g


def decoupled(g, p, group: dict):
    """The gradient with weight decay, or shrink the parameter itself (Loshchilov and Hutter 2019)."""
    if not group["weight_decay"]:
        return g
    if group["decoupled_weight_decay"]:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        return g
    return decayed(g, p, group)


def next_step(state: dict) -> float:
    """Count the steps of a parameter."""
    if tape.state.watch is not None and type(state["step"]) is float:
        return tape.state.watch.step(state)
    state["step"] += 1
    return state["step"]


def check(**values) -> None:
    """Raise ValueError for a negative value, or for betas outside of [0, 1)."""
    for name, value in values.items():
        if name == "betas":
            for i, beta in enumerate(value):
                if not 0.0 <= beta < 1.0:
                    raise ValueError(f"Invalid beta parameter at index {i}: expected a number in [0, 1); received {beta}")
        elif not 0.0 <= value:
            raise ValueError(f"Invalid {name}: expected a number of at least 0; received {value}")
