"""A graph: nodes in the order they are computed in, and the Python code they stand for."""

from __future__ import annotations

import builtins
import contextlib
import copy
import keyword
import math
import re
from typing import Any, NamedTuple

import antorcha as torch

from .node import Node, display, map_arg, qualified_name
from .proxy import INPLACE, SIGNS


class PythonCode(NamedTuple):
    """Source text and the globals it needs."""

    src: str
    globals: dict[str, Any]


class _Names:
    """Names given to nodes, each once."""

    def __init__(self):
        self.used: dict[str, int] = {}

    def create(self, candidate: str) -> str:
        candidate = re.sub(r"[^0-9a-zA-Z_]+", "_", candidate) or "_unnamed"
        if candidate[0].isdigit():
            candidate = f"_{candidate}"
        stem, number = candidate, 0
        ending = re.match(r"(.*)_(\d+)$", candidate)
        if ending and (candidate in self.used or keyword.iskeyword(candidate)):
            stem, number = ending[1], int(ending[2])
        while candidate in self.used or keyword.iskeyword(candidate) or candidate in _RESERVED or hasattr(builtins, candidate):
            number = max(number, self.used.get(stem, 0)) + 1
            candidate = f"{stem}_{number}"
        self.used[candidate] = 0
        self.used[stem] = max(self.used.get(stem, 0), number)
        return candidate


_RESERVED = {"self", "torch", "inf", "nan", "NoneType", "device"}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: "_" + m[1], name).lower()


class Graph:
    """Nodes in order. A fresh graph is empty; `placeholder`, `call_function` and the like append to it, or insert where
    `inserting_before` and `inserting_after` say."""

    def __init__(self, owning_module=None, tracer_cls=None, tracer_extras=None):
        self._root = Node(self, "", "root", "", (), {})
        self._names = _Names()
        self._insert = self._root.prepend
        self._order: dict | None = None
        self._len = 0
        self.owning_module, self._tracer_cls, self._tracer_extras = owning_module, tracer_cls, tracer_extras
        self._codegen = CodeGen()

    # -- nodes --------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> NodeList:
        """All nodes in order; erasing the current one while iterating is allowed."""
        return NodeList(self)

    def output_node(self) -> Node:
        """The output."""
        return next(n for n in reversed(self.nodes) if n.op == "output")

    def find_nodes(self, *, op: str, target=None, sort: bool = True) -> list[Node]:
        """The nodes with this op (and target)."""
        return [n for n in self.nodes if n.op == op and (target is None or n.target == target)]

    def _position(self, node: Node) -> int:
        if self._order is None or node not in self._order:
            self._order = {n: i for i, n in enumerate(self.nodes)}
        return self._order[node]

    def create_node(self, op: str, target, args: tuple | None = None, kwargs: dict | None = None, name: str | None = None,
                    type_expr=None) -> Node:
        """A node at the insertion point."""
        node = Node(self, self._names.create(name or self._candidate(target)), op, target, args or (), kwargs or {}, type_expr)
        self._insert(node)
        self._order = None
        self._len += 1
        return node

    @staticmethod
    def _candidate(target) -> str:
        if isinstance(target, str):
            return _snake_case(target.replace(".", "_").strip("_") if target.startswith("__") else target.replace(".", "_"))
        return _snake_case(target.__name__.strip("_") if target.__name__.startswith("__") else target.__name__)

    _target_to_str = _candidate

    def placeholder(self, name: str, type_expr=None, default_value=...) -> Node:
        """An input of the graph."""
        return self.create_node("placeholder", name, () if default_value is ... else (default_value,), type_expr=type_expr)

    def get_attr(self, qualified_name: str, type_expr=None) -> Node:
        """An attribute of the module that will own the graph."""
        return self.create_node("get_attr", qualified_name, type_expr=type_expr)

    def call_module(self, module_name: str, args=None, kwargs=None, type_expr=None) -> Node:
        """A call of a submodule of the module that will own the graph."""
        return self.create_node("call_module", module_name, args, kwargs, type_expr=type_expr)

    def call_method(self, method_name: str, args=None, kwargs=None, type_expr=None) -> Node:
        """A call of a method of `args[0]`."""
        return self.create_node("call_method", method_name, args, kwargs, type_expr=type_expr)

    def call_function(self, the_function, args=None, kwargs=None, type_expr=None, name=None) -> Node:
        """A call of a function."""
        return self.create_node("call_function", the_function, args, kwargs, name=name, type_expr=type_expr)

    def output(self, result, type_expr=None) -> Node:
        """What the graph returns."""
        return self.create_node("output", "output", (result,), type_expr=type_expr)

    def erase_node(self, to_erase: Node) -> None:
        """Take a node out that nobody uses."""
        if to_erase.users:
            raise RuntimeError(f"Tried to erase Node {to_erase} but it still had {len(to_erase.users)} users in the graph: "
                               f"{to_erase.users}!")
        if to_erase.graph is not self:
            raise RuntimeError(f"Attempting to remove {to_erase} from wrong graph!")
        if to_erase._erased:
            return
        to_erase._set_arguments((), {})
        to_erase._leave()
        to_erase._erased = True
        self._order = None
        self._len -= 1

    @contextlib.contextmanager
    def _inserting(self, insert):
        before, self._insert = self._insert, insert
        try:
            yield
        finally:
            self._insert = before

    def inserting_before(self, n: Node | None = None):
        """A context: new nodes come before `n`, by default at the beginning."""
        return self._inserting((n or self._root.next).prepend)

    def inserting_after(self, n: Node | None = None):
        """A context: new nodes come after `n`, by default at the end of what is there."""
        if n is None:
            return self._inserting(self._root.prepend)
        last = [n]

        def insert(x):
            last[0].append(x)
            last[0] = x
        return self._inserting(insert)

    # -- copies -------------------------------------------------------------------------------------------------

    def node_copy(self, node: Node, arg_transform=lambda x: x) -> Node:
        """A copy of another graph's node; `arg_transform` gives this graph's node for each of that graph."""
        args, kwargs = map_arg(node.args, arg_transform), map_arg(node.kwargs, arg_transform)
        made = self.create_node(node.op, node.target, args, kwargs, node.name, node.type)
        made.meta = copy.copy(node.meta)
        return made

    def graph_copy(self, g: Graph, val_map: dict, return_output_node: bool = False):
        """Append copies of all nodes of `g`; `val_map` (filled here) gives the copy of each. Returns what `g` returns."""
        for node in g.nodes:
            if node in val_map:
                continue
            if node.op == "output":
                value = map_arg(node.args[0], lambda n: val_map[n])
                return (value, node) if return_output_node else value
            val_map[node] = self.node_copy(node, lambda n: val_map[n])
        return None

    def __deepcopy__(self, memo=None) -> Graph:
        made = Graph(tracer_cls=self._tracer_cls)
        made._codegen = copy.copy(self._codegen)
        copies: dict = {}
        found = made.graph_copy(self, copies, return_output_node=True)
        if found is not None:
            value, old = found
            made.output(value, old.type).meta = copy.copy(old.meta)
        if memo is not None:
            memo[id(self)] = made
        return made

    # -- order and use ------------------------------------------------------------------------------------------

    def lint(self) -> None:
        """RuntimeError where the graph breaks a rule: values before they are made, two nodes of a name, targets that are missing."""
        seen: set[Node] = set()
        names: set[str] = set()
        for node in self.nodes:
            if node.graph is not self:
                raise RuntimeError(f"Node '{node}' does not belong to this Graph")
            for n in node.all_input_nodes:
                if n not in seen:
                    raise RuntimeError(f"Argument '{n}' of Node '{node}' was used before it has been defined! Please check that Nodes "
                                       f"in the graph are topologically ordered\n{self}")
            if node.name in names:
                raise RuntimeError(f"Node redefined name {node.name}!")
            seen.add(node)
            names.add(node.name)
            if self.owning_module is not None and node.op in ("get_attr", "call_module"):
                self._check_target(node)

    def _check_target(self, node: Node) -> None:
        at = self.owning_module
        for word in node.target.split("."):
            if not hasattr(at, word):
                raise RuntimeError(f"Node {node} target {node.target} references nonexistent attribute {word} of the owning module")
            at = getattr(at, word)
        if node.op == "call_module" and not isinstance(at, torch.nn.Module):
            raise RuntimeError(f"Node {node} target {node.target} does not reference an nn.Module")

    def eliminate_dead_code(self, is_impure_node=None) -> bool:
        """Erase what nobody uses and has no side effect. Whether there was something."""
        self.lint()
        changed = False
        for node in reversed(self.nodes):
            if not node.users and not (is_impure_node or Node.is_impure)(node):
                self.erase_node(node)
                changed = True
        return changed

    # -- code ---------------------------------------------------------------------------------------------------

    def process_inputs(self, *args):
        """What the placeholders get of the arguments of `forward`."""
        return self._codegen.process_inputs(*args)

    def process_outputs(self, out):
        """What `forward` returns of the output's value."""
        return self._codegen.process_outputs(out)

    def set_codegen(self, codegen: CodeGen) -> None:
        """Generate code another way."""
        self._codegen = codegen

    def on_generate_code(self, make_transformer) -> _Undo:
        """Register a function that makes a transformer of the generated code's lines from the present one. Returns a context (or
        an object to call) that takes it back."""
        before = self._codegen._body_transformer
        self._codegen._body_transformer = make_transformer(before)
        return _Undo(self._codegen, before)

    def python_code(self, root_module: str, *, verbose: bool = False, **kwargs) -> PythonCode:
        """The source of a `forward`; attributes are looked up in the variable `root_module`."""
        return self._codegen._gen_python_code(self.nodes, root_module)

    def print_tabular(self) -> None:
        """Print all nodes as a table."""
        rows = [("opcode", "name", "target", "args", "kwargs")]
        rows += [(n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in self.nodes]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        for k, row in enumerate(rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
            if k == 0:
                print("  ".join("-" * width for width in widths))

    def __str__(self) -> str:
        inputs: list[str] = []
        returns = [""]
        lines = [text for text in (n.format_node(inputs, returns) for n in self.nodes) if text]
        return f"graph({', '.join('%' + i for i in inputs)}){returns[0]}:" + "".join(f"\n    {line}" for line in lines)


class NodeList:
    """The nodes of a graph, forwards or with `reversed` backwards."""

    def __init__(self, graph: Graph, backwards: bool = False):
        self.graph, self.backwards = graph, backwards

    def __len__(self) -> int:
        return self.graph._len

    def __iter__(self):
        node = self.graph._root
        while True:
            node = node._prev if self.backwards else node._next
            while node._erased:
                node = node._prev if self.backwards else node._next
            if node is self.graph._root:
                return
            yield node

    def __reversed__(self):
        return NodeList(self.graph, not self.backwards)


class _Undo:
    def __init__(self, codegen: CodeGen, before):
        self.codegen, self.before = codegen, before

    def __call__(self) -> None:
        self.codegen._body_transformer = self.before

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self()


class CodeGen:
    """How a graph becomes Python. Subclasses change the function's head (`gen_fn_def`) and what it returns (`generate_output`)."""

    def __init__(self):
        self._body_transformer = None
        self._func_name = "forward"

    def gen_fn_def(self, free_vars: list[str], maybe_return_annotation: str, **kwargs) -> str:
        """The line that begins the function."""
        if not free_vars or free_vars[0] != "self":
            free_vars = ["self", *free_vars]
        return f"def {self._func_name}({', '.join(free_vars)}){maybe_return_annotation}:"

    def generate_output(self, output_args, **kwargs) -> str:
        """The line that returns."""
        return f"return {_written(output_args, {})}"

    def process_inputs(self, *args):
        return args

    def process_outputs(self, outputs):
        return outputs

    def additional_globals(self) -> list:
        """Names and values that the code of a subclass needs."""
        return []

    def _gen_python_code(self, nodes, root_module: str) -> PythonCode:
        space: dict[str, Any] = {"torch": torch, "inf": math.inf, "nan": math.nan, "NoneType": type(None), "device": torch.device}
        space.update(self.additional_globals())
        last_use: dict[Node, list[Node]] = {}
        seen: set[Node] = set()
        for node in reversed(nodes):
            for n in node.all_input_nodes:
                if n not in seen:
                    seen.add(n)
                    last_use.setdefault(node, []).append(n)
        parameters: list[str] = []
        returns = ""
        body: list[str] = []
        for node in nodes:
            if node.op == "placeholder":
                annotation = f" : {_annotation(node.type, space)}" if node.type is not None else ""
                default = f" = {_written(node.args[0], space)}" if node.args else ""
                parameters.append(f"{node.target}{annotation}{default}")
                plain = node.target.replace("*", "")
                if plain != node.name:
                    body.append(f"{node.name} = {plain}\n")
                continue
            if node.op == "output":
                returns = f" -> {_annotation(node.type, space)}" if node.type is not None else ""
                _written(node.args[0], space)       # its globals
                body.append(self.generate_output(node.args[0]) + "\n")
                continue
            ended = [n.name for n in last_use.get(node, ())] + ([] if node.users else [node.name])
            freed = f";  {' = '.join(ended)} = None" if ended else ""
            body.append(f"{_statement(node, root_module, space)}{freed}\n")
        body = body or ["pass\n"]
        if self._body_transformer is not None:
            body = self._body_transformer(body)
        lines = "".join(body).rstrip("\n").split("\n")
        source = "\n" + self.gen_fn_def(parameters, returns) + "\n" + "\n".join(f"    {line}" for line in lines) + "\n"
        return PythonCode(source, space)


def _statement(node: Node, root: str, space: dict) -> str:
    """The line that computes a node."""
    name = node.name
    if node.op == "call_method":
        return f"{name} = {_written(node.args[0], space)}.{node.target}({_arguments(node.args[1:], node.kwargs, space)})"
    if node.op == "call_module":
        return f"{name} = {_path(root, node.target)}({_arguments(node.args, node.kwargs, space)})"
    if node.op == "get_attr":
        return f"{name} = {_path(root, node.target)}"
    function = node.target
    if function is getattr and isinstance(node.args[1], str) and node.args[1].isidentifier() and len(node.args) == 2:
        return f"{name} = {_written(node.args[0], space)}.{node.args[1]}"
    if getattr(function, "__module__", "") == "_operator" and not node.kwargs:
        operands = [_written(a, space) for a in node.args]
        if function.__name__ in SIGNS:
            return f"{name} = {SIGNS[function.__name__].format(*operands)}"
        if function.__name__ in INPLACE:
            return f"{INPLACE[function.__name__].format(*operands)};  {name} = {operands[0]}"
    return f"{name} = {_function_name(function, space)}({_arguments(node.args, node.kwargs, space)})"


def _path(root: str, target: str) -> str:
    """The expression of an attribute; names such as "0" are none of Python's."""
    out = root
    for word in target.split("."):
        out = f"{out}.{word}" if word.isidentifier() and not keyword.iskeyword(word) else f'getattr({out}, "{word}")'
    return out


def _function_name(function, space: dict) -> str:
    """How the code calls a function: by its dotted name in torch, or as a global of the code."""
    name = qualified_name(function)
    words = name.split(".")
    at: Any = torch if words[0] == "torch" else getattr(builtins, words[0], None)
    for word in words[1:]:
        at = getattr(at, word, None)
    return name if at is function else _global(name, function, space)


def _global(name: str, value, space: dict) -> str:
    name = stem = re.sub(r"[^0-9a-zA-Z_]", "_", name)
    number = 0
    while name in space and space[name] is not value:
        number += 1
        name = f"{stem}_{number}"
    space[name] = value
    return name


def _arguments(args, kwargs, space: dict) -> str:
    return ", ".join([*(_written(a, space) for a in args), *(f"{k} = {_written(v, space)}" for k, v in kwargs.items())])


def _written(a, space: dict) -> str:
    """An argument as Python source; what has no literal becomes a global."""
    if isinstance(a, Node):
        return a.name
    inner = display(a, lambda x: _written(x, space))
    if inner is not None:
        return _global(type(a).__name__, type(a), space) + inner if hasattr(a, "_fields") else inner
    if isinstance(a, slice):
        return f"slice({', '.join(_written(x, space) for x in (a.start, a.stop, a.step))})"
    if isinstance(a, (torch.dtype, torch.layout, str, int, float, bool, complex, type(None), torch.device, range)):
        return repr(a)
    if a is Ellipsis:
        return "..."
    if callable(a):
        return _function_name(a, space)
    return _global(f"_{type(a).__name__}_constant", a, space)


def _annotation(t, space: dict) -> str:
    """A type as the code writes it."""
    if t is Any or isinstance(t, str):
        return _global("Any", Any, space) if t is Any else repr(t)
    if isinstance(t, type) and getattr(builtins, t.__name__, None) is t:
        return t.__name__
    if t is torch.Tensor:
        return "torch.Tensor"
    return _global(getattr(t, "__name__", None) or f"_{type(t).__name__}", t, space)
