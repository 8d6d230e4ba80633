"""Running a graph node by node, and making another while doing so."""

from __future__ import annotations

import antorcha as torch

from .graph import Graph
from .graph_module import GraphModule
from .node import Node, map_arg
from .proxy import Proxy, TracerBase


class Interpreter:
    """Computes the nodes of a graph module one by one; subclass it and override what is to be done otherwise."""

    def __init__(self, module, garbage_collect_values: bool = True, graph: Graph | None = None):
        self.module = module
        self.submodules = dict(module.named_modules())
        self.graph = module.graph if graph is None else graph
        self.env: dict[Node, object] = {}
        self.garbage_collect_values = garbage_collect_values
        self.user_to_last_uses: dict[Node, list[Node]] = {}
        seen: set[Node] = set()
        for node in reversed(self.graph.nodes):
            for n in node.all_input_nodes:
                if n not in seen:
                    seen.add(n)
                    self.user_to_last_uses.setdefault(node, []).append(n)

    def run(self, *args, initial_env: dict | None = None, enable_io_processing: bool = True):
        """The graph's result for these arguments. `initial_env`: values of nodes that are known."""
        self.env = dict(initial_env or {})
        if enable_io_processing:
            args = self.graph.process_inputs(*args)
        self.args_iter = iter(args)
        for node in self.graph.nodes:
            if node in self.env:
                continue
            try:
                self.env[node] = self.run_node(node)
            except Exception as error:
                note = f"\n\nWhile executing {node.format_node()}"
                error.args = (str(error.args[0]) + note, *error.args[1:]) if error.args else (note,)
                raise
            if self.garbage_collect_values:
                for n in self.user_to_last_uses.get(node, ()):
                    del self.env[n]
            if node.op == "output":
                value = self.env[node]
                return self.graph.process_outputs(value) if enable_io_processing else value
        return None

    def boxed_run(self, args_list: list):
        """`run`, which empties the list of arguments so that they can be let go early."""
        args = tuple(args_list)
        args_list.clear()
        return self.run(*args)

    def run_node(self, n: Node):
        """The value of one node."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return getattr(self, n.op)(n.target, args, kwargs)

    def placeholder(self, target, args: tuple, kwargs: dict):
        if target.startswith("*"):
            return list(self.args_iter)
        try:
            return next(self.args_iter)
        except StopIteration:
            if args:
                return args[0]
            raise RuntimeError(f"Expected positional argument for parameter {target}, but one was not passed in!") from None

    def get_attr(self, target, args: tuple, kwargs: dict):
        return self.fetch_attr(target)

    def call_function(self, target, args: tuple, kwargs: dict):
        return target(*args, **kwargs)

    def call_method(self, target, args: tuple, kwargs: dict):
        return getattr(args[0], target)(*args[1:], **kwargs)

    def call_module(self, target, args: tuple, kwargs: dict):
        return self.fetch_attr(target)(*args, **kwargs)

    def output(self, target, args: tuple, kwargs: dict):
        return args[0]

    def fetch_attr(self, target: str):
        """An attribute of the module by its dotted name."""
        found = self.module
        for i, word in enumerate(words := target.split(".")):
            if not hasattr(found, word):
                raise RuntimeError(f"Node referenced nonexistent target {'.'.join(words[:i + 1])}")
            found = getattr(found, word)
        return found

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple:
        """The arguments of a node with values in place of nodes."""
        return self.map_nodes_to_values(n.args, n), self.map_nodes_to_values(n.kwargs, n)

    def map_nodes_to_values(self, args, n: Node):
        """`args` with values in place of nodes."""
        def value(used: Node):
            if used not in self.env:
                raise RuntimeError(f"Node {n} referenced nonexistent value {used}! Run Graph.lint() to diagnose such issues")
            return self.env[used]
        return map_arg(args, value)


class _TransformerTracer(TracerBase):
    def __init__(self, graph: Graph):
        self.graph, self.tensor_attrs = graph, {}


class Transformer(Interpreter):
    """Makes a graph module from another: values are proxies, so what a subclass does with nodes becomes the new graph."""

    def __init__(self, module):
        super().__init__(module)
        self.new_graph = Graph()
        self.tracer = _TransformerTracer(self.new_graph)
        self.tracer.root = module

    def placeholder(self, target, args: tuple, kwargs: dict):
        return Proxy(self.new_graph.placeholder(target, default_value=next(iter(args), ...)), self.tracer)

    def get_attr(self, target, args: tuple, kwargs: dict):
        return self.tracer.create_proxy("get_attr", target, args, kwargs)

    def call_module(self, target, args: tuple, kwargs: dict):
        return self.tracer.create_proxy("call_module", target, args, kwargs)

    def call_function(self, target, args: tuple, kwargs: dict):
        return self.tracer.create_proxy("call_function", target, args, kwargs)

    def transform(self) -> GraphModule:
        """The new module."""
        with torch.no_grad():
            result = super().run(enable_io_processing=False)
        if result is not None:
            self.new_graph.output(self.tracer.create_arg(result))
        return GraphModule(self.module, self.new_graph)
