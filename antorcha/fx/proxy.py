"""What stands for a value while a program is traced: every operation on it becomes a node."""

from __future__ import annotations

import dis
import inspect
import operator
from typing import Any

import antorcha as torch

from ..core import override
from .node import Node, map_aggregate

override.install()      # from here on, functions ask the classes of their arguments


class TraceError(ValueError):
    """The program needs a value that only a run could give."""


class Scope:
    """Which module is being traced."""

    def __init__(self, module_path: str, module_type):
        self.module_path, self.module_type = module_path, module_type


LITERALS = (str, int, float, bool, complex, torch.dtype, torch.device, torch.memory_format, torch.layout, type(None), type(Ellipsis),
            torch.Tensor, range, slice)


class TracerBase:
    """Makes nodes and proxies in `graph`."""

    graph = None
    record_stack_traces = False
    check_mutable_operations = False
    trace_asserts = False
    proxy_buffer_attributes = False
    traced_func_name = "forward"

    def create_node(self, kind: str, target, args: tuple, kwargs: dict, name: str | None = None, type_expr=None) -> Node:
        """A node at the end of the graph."""
        return self.graph.create_node(kind, target, args, kwargs, name, type_expr)

    def proxy(self, node: Node) -> Proxy:
        """The proxy of a node."""
        return Proxy(node, self)

    def create_proxy(self, kind: str, target, args: tuple, kwargs: dict, name: str | None = None, type_expr=None,
                     proxy_factory_fn=None) -> Proxy:
        """A node whose arguments may hold proxies, and its proxy."""
        args, kwargs = self.create_arg(tuple(args)), self.create_arg(dict(kwargs))
        node = self.create_node(kind, target, args, kwargs, name, type_expr)
        proxy = self.proxy(node) if proxy_factory_fn is None else proxy_factory_fn(node)
        if self.record_stack_traces:
            node.stack_trace = _stack()
        return proxy

    def create_arg(self, a):
        """`a` as an argument of a node: proxies become their nodes."""
        if isinstance(a, Proxy):
            return a.node
        if hasattr(a, "__fx_create_arg__"):
            return a.__fx_create_arg__(self)
        if isinstance(a, tuple):
            parts = [self.create_arg(x) for x in a]
            return type(a)(*parts) if hasattr(a, "_fields") else tuple(parts)
        if isinstance(a, list):
            return [self.create_arg(x) for x in a]
        if isinstance(a, dict):
            return {k: self.create_arg(v) for k, v in a.items()}
        if isinstance(a, slice):
            return slice(self.create_arg(a.start), self.create_arg(a.stop), self.create_arg(a.step))
        if isinstance(a, LITERALS) or isinstance(a, Node) or callable(a):
            return a
        raise NotImplementedError(f"argument of type: {type(a)}")

    def to_bool(self, obj: Proxy) -> bool:
        """Asked where a proxy decides which way the program goes."""
        raise TraceError("symbolically traced variables cannot be used as inputs to control flow: the graph would hold one of the ways "
                         "only. Decide by torch.where, or pass what decides in concrete_args.")

    def iter(self, obj: Proxy):
        """Asked where a program iterates over a proxy."""
        raise TraceError("Proxy object cannot be iterated. This can be attempted when the Proxy is used in a loop or as a *args or "
                         "**kwargs function argument: how many elements it has is not known here.")

    def keys(self, obj: Proxy):
        """Asked where a program wants a proxy's keys."""
        return Attribute(obj, "keys")()


class GraphAppendingTracer(TracerBase):
    """Appends to a given graph."""

    def __init__(self, graph):
        self.graph = graph
        self.scope, self.module_stack, self.node_name_to_scope = Scope("", None), {}, {}


class Proxy:
    """Stands for the value of a node; what is done to it is recorded."""

    _node: Any

    def __init__(self, node: Node, tracer: TracerBase | None = None):
        self._node = node
        self.tracer = tracer or GraphAppendingTracer(node.graph)

    @property
    def node(self) -> Node:
        """The node it stands for."""
        return self._node

    def __repr__(self) -> str:
        return f"Proxy({self.node.name})"

    def __getattr__(self, name: str):
        if name.startswith("__") and name.endswith("__") or name in ("node", "_node"):
            raise AttributeError(name)
        return Attribute(self, name)

    def __deepcopy__(self, memo):
        return Proxy(self.node, self.tracer)

    def __call__(self, *args, **kwargs):
        return self.tracer.create_proxy("call_method", "__call__", (self, *args), kwargs)

    def __iter__(self):
        count = _unpacked(inspect.currentframe().f_back)
        return self.tracer.iter(self) if count is None else (self[i] for i in range(count))

    def __bool__(self) -> bool:
        if self.tracer.trace_asserts and _asserts(inspect.currentframe().f_back):
            self.tracer.create_proxy("call_function", torch._assert, (self, "an assertion of the traced program failed"), {})
            return True
        return self.tracer.to_bool(self)

    def keys(self):
        return self.tracer.keys(self)

    def __len__(self):
        raise RuntimeError("'len' is not supported in symbolic tracing by default. If you want this call to be recorded, please call "
                           "torch.fx.wrap('len') at module scope")

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tracers: dict = {}
        map_aggregate((args, kwargs), lambda a: tracers.setdefault(a.tracer) if isinstance(a, cls) else None)
        if len(tracers) > 1:
            raise RuntimeError("Found multiple different tracers among the arguments: a proxy may be used by the trace that made it only.")
        tracer = next(iter(tracers))
        name = override.resolve(func) or ""
        if name.startswith("torch.Tensor."):
            words = name.split(".")
            if words[-1] == "__get__":
                return tracer.create_proxy("call_function", getattr, (args[0], words[-2]), {})
            return tracer.create_proxy("call_method", words[-1], args, kwargs)
        return tracer.create_proxy("call_function", func, args, kwargs)


class Attribute(Proxy):
    """An attribute of a proxy: a method, if it is called; else a node of its own when it is used."""

    def __init__(self, root: Proxy, attr: str):
        self.root, self.attr, self.tracer = root, attr, root.tracer
        self._node = None

    @property
    def node(self) -> Node:
        if self._node is None:
            self._node = self.tracer.create_proxy("call_function", getattr, (self.root, self.attr), {}).node
        return self._node

    def __call__(self, *args, **kwargs):
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


class ParameterProxy(Proxy):
    """A proxy of a parameter whose shape is taken to be constant."""

    def __init__(self, tracer: TracerBase, node: Node, name: str, param):
        super().__init__(node, tracer)
        self.param, self.name = param, name

    shape = property(lambda self: self.param.shape)
    ndim = property(lambda self: self.param.ndim)

    def size(self, *dim):
        return self.param.size(*dim)

    def dim(self):
        return self.param.dim()

    def numel(self):
        return self.param.numel()

    def nelement(self):
        return self.param.nelement()


# -- operator signs ---------------------------------------------------------------------------------------------

REFLECTED = dict(add="+", sub="-", mul="*", floordiv="//", truediv="/", mod="%", pow="**", lshift="<<", rshift=">>", and_="&", or_="|",
                 xor="^", matmul="@")
SIGNS = {name: f"{{}} {sign} {{}}" for name, sign in
         {**REFLECTED, "eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">="}.items()}
SIGNS |= {"pos": "+{}", "neg": "-{}", "invert": "~{}", "getitem": "{}[{}]"}
INPLACE = {f"i{name.rstrip('_')}": f"{{}} {sign}= {{}}" for name, sign in REFLECTED.items()}


def _install() -> None:
    def recorded(function, turned=False):
        def method(self, *args):
            operands = (*args, self) if turned else (self, *args)
            return self.tracer.create_proxy("call_function", function, operands, {})
        return method

    for name in SIGNS:
        plain = name.rstrip("_")
        setattr(Proxy, f"__{plain}__", recorded(getattr(operator, name)))
        if name in REFLECTED:
            setattr(Proxy, f"__r{plain}__", recorded(getattr(operator, name), turned=True))
    Proxy.__hash__ = lambda self: id(self)
    Proxy.__abs__ = recorded(abs)


_install()


# -- looking at the program that is traced ----------------------------------------------------------------------

def _instruction(frame):
    return next((i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti), None)


def _unpacked(frame) -> int | None:
    """Into how many names a frame is unpacking a value right now."""
    found = _instruction(frame)
    return found.argval if found is not None and found.opname == "UNPACK_SEQUENCE" else None


def _asserts(frame) -> bool:
    """Whether a frame is testing a value for an assert statement."""
    code = list(dis.get_instructions(frame.f_code))
    at = next((k for k, i in enumerate(code) if i.offset == frame.f_lasti), len(code))
    return any(i.opname == "LOAD_ASSERTION_ERROR" for i in code[at + 1:at + 3])


def _stack() -> str:
    import traceback
    return "".join(traceback.format_list([f for f in traceback.extract_stack() if "/antorcha/fx/" not in f.filename])).strip()
