"""Symbolic tracing: a function is run once on proxies, and what it does to them is the graph."""

from __future__ import annotations

import builtins
import collections
import functools
import inspect
import math
from types import FunctionType, ModuleType

import antorcha as torch

from .graph import Graph
from .graph_module import GraphModule
from .node import Node, map_aggregate
from .proxy import ParameterProxy, Proxy, Scope, TracerBase

_wrapped: dict = {}     # (id of globals, name) -> globals: functions that tracing records as they are
_wrapped_methods: list = []
_tracing = [False]


def is_fx_tracing() -> bool:
    """Whether a trace is going on."""
    return _tracing[0]


is_fx_symbolic_tracing = is_fx_tracing


class _PlaceholderSign:
    def __repr__(self) -> str:
        return "PH"


PH = _PlaceholderSign()     # in concrete_args: this one stays an input


class ProxyableClassMeta(type):
    """The metaclass of classes whose construction with proxies is recorded as a call."""

    def __call__(cls, *args, **kwargs):
        tracers: dict = {}
        map_aggregate((args, kwargs), lambda a: tracers.setdefault(a.tracer) if isinstance(a, Proxy) else None)
        if tracers:
            return next(iter(tracers)).create_proxy("call_function", cls, args, kwargs)
        return super().__call__(*args, **kwargs)


def wrap(fn_or_name):
    """At a module's top level: calls of this function (or of the global or builtin of this name) are recorded, not traced into."""
    name = fn_or_name if isinstance(fn_or_name, str) else getattr(fn_or_name, "__name__", None)
    if not isinstance(name, str):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or string name")
    frame = inspect.currentframe().f_back
    if frame.f_code.co_name != "<module>":
        raise NotImplementedError("wrap must be called at the top level of a module")
    _wrapped[id(frame.f_globals), name] = frame.f_globals
    return fn_or_name


def _recording(function):
    """`function`, which with a proxy among its arguments is recorded as one call."""
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        tracers: dict = {}
        map_aggregate((args, kwargs), lambda a: tracers.setdefault(a.tracer) if isinstance(a, Proxy) else None)
        if tracers:
            return next(iter(tracers)).create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)
    return wrapped


class _Patches:
    """Changes of dictionaries and classes, taken back on leaving."""

    def __init__(self):
        self.undo: list = []

    def item(self, space: dict, name: str, value) -> None:
        missing = name not in space
        before = space.get(name)
        space[name] = value
        self.undo.append(lambda: space.pop(name) if missing else space.__setitem__(name, before))

    def attribute(self, holder, name: str, value) -> None:
        before = vars(holder)[name]
        setattr(holder, name, value)
        self.undo.append(lambda: setattr(holder, name, before))

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        for take_back in reversed(self.undo):
            take_back()


class Tracer(TracerBase):
    """Traces modules and functions. Subclass it to say which modules are leaves, or how nodes are made.

    `autowrap_modules`: functions of these modules are recorded as calls; `autowrap_functions`: so are these;
    `param_shapes_constant`: shapes of parameters are numbers and not traced.
    """

    def __init__(self, autowrap_modules: tuple[ModuleType, ...] = (math,), autowrap_functions: tuple = (),
                 param_shapes_constant: bool = False):
        super().__init__()
        self._autowrapped = {id(f): f for module in autowrap_modules for name, f in vars(module).items()
                             if not name.startswith("_") and callable(f)}
        self._autowrapped.update({id(f): f for f in autowrap_functions})
        self._autowrap_search = list(autowrap_modules)
        self.param_shapes_constant = param_shapes_constant
        self.submodule_paths: dict | None = None
        self.root_module_name = ""
        self.scope, self.module_stack = Scope("", None), collections.OrderedDict()
        self.node_name_to_scope: dict[str, tuple] = {}
        self.num_calls: dict[str, int] = {}

    # -- what subclasses change ---------------------------------------------------------------------------------

    def is_leaf_module(self, m, module_qualified_name: str) -> bool:
        """Whether a module is recorded as one call: those of torch.nn are, but for Sequential."""
        ours = m.__module__.startswith(("antorcha.nn", "antorcha.ao.nn"))
        return ours and not isinstance(m, torch.nn.Sequential)

    def path_of_module(self, mod) -> str:
        """The name of a submodule of the root. NameError if it is none."""
        if self.submodule_paths is None:
            self.submodule_paths = {m: name for name, m in self.root.named_modules()}
        if mod not in self.submodule_paths:
            raise NameError("module is not installed as a submodule: assign it to an attribute of the traced module or of a module in it")
        return self.submodule_paths[mod]

    def call_module(self, m, forward, args: tuple, kwargs: dict):
        """A call of a module within what is traced."""
        path = self.path_of_module(m)
        before, self.scope = self.scope, Scope(path, type(m))
        self.num_calls[path] = self.num_calls.get(path, 0) + 1
        key = f"{path}@{self.num_calls[path] - 1}" if self.num_calls[path] > 1 else path
        self.module_stack[key] = (path, type(m))
        try:
            if self.is_leaf_module(m, path):
                return self.create_proxy("call_module", path, args, kwargs)
            return forward(*args, **kwargs)
        finally:
            self.module_stack.pop(key)
            self.scope = before

    def getattr(self, attr: str, attr_val, parameter_proxy_cache: dict):
        """The value of an attribute that a module keeps: a proxy, if it is a parameter of the root."""
        if isinstance(attr_val, torch.nn.Parameter):
            found = self._attribute_proxy(attr_val, self.root.named_parameters(), parameter_proxy_cache)
        elif self.proxy_buffer_attributes and isinstance(attr_val, torch.Tensor):
            found = self._attribute_proxy(attr_val, self.root.named_buffers(), parameter_proxy_cache)
        else:
            found = None
        return attr_val if found is None else found

    def _attribute_proxy(self, value, named, cache: dict):
        name = next((n for n, x in named if x is value), None)
        if name is None:
            return None
        if name not in cache:
            factory = (lambda node: ParameterProxy(self, node, name, value)) if self.param_shapes_constant else None
            given = {} if factory is None else {"proxy_factory_fn": factory}
            cache[name] = self.create_proxy("get_attr", name, (), {}, **given)
        return cache[name]

    def create_node(self, kind: str, target, args: tuple, kwargs: dict, name: str | None = None, type_expr=None) -> Node:
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        self.node_name_to_scope[node.name] = (self.scope.module_path, self.scope.module_type)
        if self.module_stack:
            node.meta["nn_module_stack"] = dict(self.module_stack)
        return node

    def create_arg(self, a):
        """As the base does; tensors become attributes of the root, modules are told by their names."""
        if isinstance(a, torch.nn.Parameter):
            name = next((n for n, p in self.root.named_parameters() if p is a), None)
            if name is None:
                raise NameError("parameter is not a member of this module")
            return self.create_node("get_attr", name, (), {})
        if isinstance(a, torch.Tensor):
            name = next((n for n, b in self.root.named_buffers() if b is a), None) or self._constants.get(id(a))
            return self.create_node("get_attr", name or self._keep(a, "_tensor_constant"), (), {})
        if isinstance(a, torch.nn.Module):
            return self.create_node("get_attr", self.path_of_module(a), (), {})
        return super().create_arg(a)

    def _keep(self, value, stem: str) -> str:
        """Keep a tensor as an attribute of the root."""
        name = self.get_fresh_qualname(stem)
        setattr(self.root, name, value)
        self._constants[id(value)] = name
        return name

    def get_fresh_qualname(self, prefix: str) -> str:
        """A name that the root does not have."""
        number = 0
        while hasattr(self.root, f"{prefix}{number}"):
            number += 1
        return f"{prefix}{number}"

    # -- tracing ------------------------------------------------------------------------------------------------

    def create_args_for_root(self, root_fn, is_module: bool, concrete_args: dict | None = None):
        """(function, its arguments): the module, if it is one, and a proxy for each parameter that is not in `concrete_args`."""
        code = inspect.unwrap(root_fn).__code__
        names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
        parameters = inspect.signature(root_fn).parameters
        args: list = []
        if is_module:
            if not code.co_argcount:
                raise RuntimeError("``self`` argument cannot be part of *args expansion!")
            args.append(self.root)
            names = names[1:]
        concrete = concrete_args or {}
        count = code.co_argcount - is_module
        args += [self._input(name, parameters[name], concrete) for name in names[:count]]
        stars = [kind + name for kind, name in (("*", _varargs(code)), ("**", _varkeywords(code))) if name]
        first = [self.create_proxy("placeholder", name, (), {}) for name in stars if not name.startswith("**")]
        given = {name: self._input(name, parameters[name], concrete) for name in names[count:]}
        last = [self.create_proxy("placeholder", name, (), {}) for name in stars if name.startswith("**")]
        if stars:
            return _starless(root_fn), [*args, *given.values(), *first, *last]
        return functools.partial(root_fn, **given) if given else root_fn, args

    def _input(self, name: str, parameter: inspect.Parameter, concrete: dict):
        """The proxy of a parameter, or what it is fixed to."""
        default = () if parameter.default is inspect.Parameter.empty else (parameter.default,)
        hint = parameter.annotation if parameter.annotation is not inspect.Parameter.empty else None
        if name not in concrete or concrete[name] is PH:
            return self.create_proxy("placeholder", name, default, {}, type_expr=hint)
        value = concrete[name]
        if isinstance(value, (list, tuple, dict)) and _holds_placeholder(value):
            raise NotImplementedError(f"concrete_args: {name}: PH within lists and dicts is missing in antorcha so far. "
                                      "Make each element an argument of its own.")
        proxy = self.create_proxy("placeholder", name, default or (value,), {}, type_expr=hint)
        if isinstance(value, (bool, int, float, str)):
            text = f"{name} has been specialized to have value {value} but got another value"
            self.create_proxy("call_function", torch._assert, (proxy == value, text), {})
        return value

    def trace(self, root, concrete_args: dict | None = None) -> Graph:
        """The graph of a module's `forward`, or of a function."""
        is_module = isinstance(root, torch.nn.Module)
        if is_module:
            self.root, function = root, getattr(type(root), self.traced_func_name)
        else:
            self.root, function = torch.nn.Module(), root
        self.root_module_name = type(root).__name__ if is_module else ""
        self.submodule_paths = None
        self._constants: dict[int, str] = {}
        for module_name, module in self.root.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, torch.Tensor):
                    self._constants[id(value)] = f"{module_name}.{name}" if module_name else name
        graph = self.graph = Graph(tracer_cls=type(self))
        if not inspect.isfunction(inspect.unwrap(function)):
            raise TypeError(f"trace: expected a function or an nn.Module; received {type(root).__name__}")
        function, args = self.create_args_for_root(function, is_module, concrete_args)
        before, _tracing[0] = _tracing[0], True
        try:
            with _Patches() as patches:
                self._patch(patches, inspect.unwrap(root.forward if is_module else root))
                result = function(*args)
            self.create_node("output", "output", (self.create_arg(result),), {}, type_expr=_returned(root, is_module))
        finally:
            _tracing[0] = before
            self.submodule_paths = None
        return graph

    def _patch(self, patches: _Patches, function) -> None:
        """Have modules' calls and parameters, and wrapped functions, come by the tracer."""
        cls = torch.nn.Module
        call, attribute = cls.__call__, cls.__getattr__
        cache: dict = {}

        def called(module, *args, **kwargs):
            return self.call_module(module, lambda *a, **k: call(module, *a, **k), args, kwargs)

        def looked_up(module, name):
            return self.getattr(name, attribute(module, name), cache)

        patches.attribute(cls, "__call__", called)
        patches.attribute(cls, "__getattr__", looked_up)
        for (_, name), space in list(_wrapped.items()):
            original = space[name] if name in space else getattr(builtins, name)
            patches.item(space, name, _recording(original))
        spaces = [vars(module) for module in self._autowrap_search]
        if isinstance(getattr(function, "__globals__", None), dict):
            spaces.append(function.__globals__)
        for space in spaces:
            for name, value in list(space.items()):
                if id(value) in self._autowrapped and not name.startswith("_"):
                    patches.item(space, name, _recording(value))


def _holds_placeholder(value) -> bool:
    found: list = []
    map_aggregate(value, lambda x: found.append(x) if x is PH else None)
    return bool(found)


def _returned(root, is_module: bool):
    return getattr(root.forward if is_module else root, "__annotations__", {}).get("return")


def _varargs(code) -> str | None:
    """The name of *args."""
    return code.co_varnames[code.co_argcount + code.co_kwonlyargcount] if code.co_flags & inspect.CO_VARARGS else None


def _varkeywords(code) -> str | None:
    """The name of **kwargs."""
    at = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
    return code.co_varnames[at] if code.co_flags & inspect.CO_VARKEYWORDS else None


def _starless(function: FunctionType) -> FunctionType:
    """`function` taking what *args and **kwargs stand for as ordinary arguments."""
    plain = inspect.unwrap(function)
    code = plain.__code__
    flags = code.co_flags & ~(inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    count = code.co_argcount + code.co_kwonlyargcount
    extra = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    made = FunctionType(code.replace(co_flags=flags, co_argcount=count + extra, co_kwonlyargcount=0), plain.__globals__, plain.__name__,
                        None, plain.__closure__)
    return made


def symbolic_trace(root, concrete_args: dict | None = None) -> GraphModule:
    """A module made from the graph of `root`, a module or a function, which is run once on proxies.

    concrete_args: arguments that are fixed to a value.
    """
    tracer = Tracer()
    graph = tracer.trace(root, concrete_args)
    name = type(root).__name__ if isinstance(root, torch.nn.Module) else root.__name__
    return GraphModule(tracer.root, graph, name)
