"""A node of a graph: one operation, its arguments, who uses its result."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from ..core import override

Target = Callable[..., Any] | str     # of a call_function: the function; otherwise a name
Argument = Any
OPS = frozenset(["placeholder", "call_method", "call_module", "call_function", "get_attr", "output", "root"])
_side_effects: set = set()


def has_side_effect(fn):
    """Declare that calls of `fn` stay when nobody uses their results. Returns `fn`."""
    _side_effects.add(fn)
    return fn


def map_aggregate(a, fn):
    """`a` with `fn` applied to everything within its tuples, lists, dicts and slices."""
    if isinstance(a, tuple):
        parts = [map_aggregate(x, fn) for x in a]
        return type(a)(*parts) if hasattr(a, "_fields") else tuple(parts)
    if isinstance(a, list):
        return [map_aggregate(x, fn) for x in a]
    if isinstance(a, dict):
        return {k: map_aggregate(v, fn) for k, v in a.items()}
    if isinstance(a, slice):
        return slice(*(map_aggregate(x, fn) for x in (a.start, a.stop, a.step)))
    return fn(a)


def map_arg(a, fn):
    """`a` with `fn` applied to the nodes within it."""
    return map_aggregate(a, lambda x: fn(x) if isinstance(x, Node) else x)


def qualified_name(function) -> str:
    """The dotted name under which a function is found: torch.nn.functional.relu, operator.add, builtins.len."""
    known = override.resolve(function)
    if known is not None:
        return known
    name, module = getattr(function, "__qualname__", function.__name__), function.__module__ or "torch"
    if getattr(builtins, name, None) is function:
        return name
    if name.startswith("PyCapsule"):
        name = function.__name__
    return f"{module.replace('_operator', 'operator')}.{name}".replace("antorcha.", "torch.", 1)


class Node:
    """One operation of a graph.

    `op` says what it is: "placeholder" (an input; `args` may hold its default), "get_attr" (an attribute of the module),
    "call_function", "call_method" (`args[0]` is the object), "call_module", or "output". `args` and `kwargs` may hold nodes, also
    within lists and the like. `meta` is free for programs to use.
    """

    __slots__ = ("graph", "meta", "name", "op", "target", "type", "users", "__dict__", "__weakref__")

    def __init__(self, graph, name: str, op: str, target: Target, args: tuple, kwargs: dict, return_type=None):
        if op not in OPS:
            raise AssertionError(f"Node: expected an op among {sorted(OPS)}; received {op!r}")
        if op == "call_function" and not callable(target):
            raise ValueError(f"Node [graph = {graph}, name = '{name}'] target {target} has type {type(target).__name__} but a Callable "
                             "is expected")
        if op not in ("call_function", "root") and not isinstance(target, str):
            raise ValueError(f"Node [graph = {graph}, name = '{name}'] target {target} has type {type(target).__name__} but a str is "
                             "expected")
        self.graph, self.name, self.op, self.target = graph, name, op, target
        self.type = return_type
        self.users: dict[Node, None] = {}
        self.meta: dict[str, Any] = {}
        self._inputs: dict[Node, None] = {}
        self._args, self._kwargs = (), {}
        self._prev = self._next = self
        self._erased = False
        self._sort_key = ()
        self._repr_fn = None
        self._set_arguments(args, kwargs)

    # -- arguments ----------------------------------------------------------------------------------------------

    def _set_arguments(self, args, kwargs) -> None:
        for n in self._inputs:
            n.users.pop(self, None)
        self._args, self._kwargs = tuple(args), dict(kwargs)
        self._inputs = {}
        map_arg((self._args, self._kwargs), self._inputs.setdefault)
        for n in self._inputs:
            n.users.setdefault(self)

    @property
    def args(self) -> tuple:
        return self._args

    @args.setter
    def args(self, value) -> None:
        self._set_arguments(value, self._kwargs)

    @property
    def kwargs(self) -> dict:
        return self._kwargs

    @kwargs.setter
    def kwargs(self, value) -> None:
        self._set_arguments(self._args, value)

    @property
    def all_input_nodes(self) -> list[Node]:
        """The nodes among the arguments, each once."""
        return list(self._inputs)

    def update_arg(self, idx: int, arg) -> None:
        """Replace one positional argument."""
        self.args = (*self.args[:idx], arg, *self.args[idx + 1:])

    def insert_arg(self, idx: int, arg) -> None:
        """Insert a positional argument."""
        self.args = (*self.args[:idx], arg, *self.args[idx:])

    def update_kwarg(self, key: str, arg) -> None:
        """Replace or add one keyword argument."""
        self.kwargs = {**self.kwargs, key: arg}

    def replace_input_with(self, old_input: Node, new_input: Node) -> None:
        """Use `new_input` wherever this node's arguments have `old_input`."""
        def change(n):
            return new_input if n is old_input else n
        self._set_arguments(map_arg(self.args, change), map_arg(self.kwargs, change))

    def replace_all_uses_with(self, replace_with: Node, delete_user_cb=lambda user: True, *, propagate_meta: bool = False) -> list[Node]:
        """Let all users of this node (for which `delete_user_cb` holds) use another. Returns them."""
        if propagate_meta:
            replace_with.meta.update(self.meta)
        changed = [user for user in list(self.users) if user is not replace_with and delete_user_cb(user)]
        for user in changed:
            user.replace_input_with(self, replace_with)
        return changed

    # -- place in the graph -------------------------------------------------------------------------------------

    @property
    def next(self) -> Node:
        return self._next

    @property
    def prev(self) -> Node:
        return self._prev

    def prepend(self, x: Node) -> None:
        """Move `x` before this node."""
        if x.graph is not self.graph:
            raise AssertionError("Attempting to move a Node into a different Graph")
        if x is self:
            return
        x._leave()
        before = self._prev
        before._next, x._prev = x, before
        x._next, self._prev = self, x

    def append(self, x: Node) -> None:
        """Move `x` after this node."""
        self._next.prepend(x)

    def _leave(self) -> None:
        self._prev._next, self._next._prev = self._next, self._prev

    def __lt__(self, other: Node) -> bool:
        return self.graph._position(self) < self.graph._position(other)

    def __gt__(self, other: Node) -> bool:
        return other < self

    def __le__(self, other: Node) -> bool:
        return self is other or self < other

    def __ge__(self, other: Node) -> bool:
        return other <= self

    # -- what it does -------------------------------------------------------------------------------------------

    @property
    def stack_trace(self) -> str | None:
        """Where the operation was recorded, if the tracer keeps that."""
        return self.meta.get("stack_trace")

    @stack_trace.setter
    def stack_trace(self, trace: str | None) -> None:
        self.meta["stack_trace"] = trace

    def is_impure(self, impure_random: bool = True) -> bool:
        """Whether the node must stay though nobody uses its result."""
        if self.op in ("placeholder", "output"):
            return True
        if self.op == "call_function":
            return self.target in _side_effects
        if self.op == "call_method":
            return self.target.endswith("_") and not self.target.endswith("__")
        if self.op == "call_module":
            owner = self.graph.owning_module
            return owner is None or getattr(owner.get_submodule(self.target), "_is_impure", False)
        return False

    def normalized_arguments(self, root, arg_types=None, kwarg_types=None, normalize_to_only_use_kwargs: bool = False):
        """(args, kwargs) bound to the signature of what is called; None where it has none."""
        import inspect

        from .operator_schemas import Normalized
        if self.op == "call_function":
            function = self.target
        elif self.op == "call_module":
            function = root.get_submodule(self.target).forward
        else:
            return None
        try:
            bound = inspect.signature(function).bind(*self.args, **self.kwargs)
        except (TypeError, ValueError):
            return None
        bound.apply_defaults()
        if normalize_to_only_use_kwargs:
            return Normalized((), dict(bound.arguments))
        return Normalized(bound.args, bound.kwargs)

    def _pretty_print_target(self, target) -> str:
        if isinstance(target, str):
            return target
        return qualified_name(target)

    def format_node(self, placeholder_names: list | None = None, maybe_return_typename: list | None = None,
                    **kwargs) -> str | None:
        """The node as one line of the printed graph; None for what the graph's first line and last line say."""
        if self.op == "placeholder":
            if placeholder_names is not None:
                placeholder_names.append(self.name + (f": {_type_name(self.type)}" if self.type else ""))
                return None
            default = f"(default={self.args[0]})" if self.args else ""
            return f"%{self.name} : [num_users={len(self.users)}] = {self.op}[target={self.target}]{default}"
        if self.op == "get_attr":
            return f"%{self.name} : [num_users={len(self.users)}] = {self.op}[target={self.target}]"
        if self.op == "output":
            if self.type and maybe_return_typename is not None:
                maybe_return_typename[0] = f" -> {_type_name(self.type)}"
            return f"return {self.args[0]}"
        return (f"%{self.name} : [num_users={len(self.users)}] = {self.op}[target={self._pretty_print_target(self.target)}]"
                f"(args = {_shown(self.args)}, kwargs = {_shown(self.kwargs)})")

    def __repr__(self) -> str:
        return self._repr_fn(self) if self._repr_fn else self.name


def display(a, each, key=repr) -> str | None:
    """A tuple, list or dict as Python writes it, with `each` item as told; None for anything else."""
    if isinstance(a, tuple):
        return f"({', '.join(map(each, a))}{',' if len(a) == 1 else ''})"
    if isinstance(a, list):
        return f"[{', '.join(map(each, a))}]"
    if isinstance(a, dict):
        return f"{{{', '.join(f'{key(k)}: {each(v)}' for k, v in a.items())}}}"
    return None


def _shown(a) -> str:
    if isinstance(a, Node):
        return f"%{a.name}"
    return display(a, _shown, str) or (a if isinstance(a, str) else repr(a))


def _type_name(t) -> str:
    return getattr(t, "__name__", None) or str(t)
