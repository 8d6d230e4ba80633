"""A module made from a graph."""

from __future__ import annotations

import copy
import itertools
import linecache
from pathlib import Path

import antorcha as torch

from ..nn import Module
from .graph import Graph, PythonCode

_USER_PRESERVED_ATTRIBUTES_KEY = "_user_preserved_attributes"
_numbers = itertools.count()


def _compiled(code: PythonCode):
    """The function `forward` of the code; tracebacks show its lines."""
    name = f"<eval_with_key>.{next(_numbers)}"
    linecache.cache[name] = (len(code.src), None, code.src.splitlines(True), name)
    space = dict(code.globals)
    exec(compile(code.src, name, "exec"), space)
    return space["forward"]


def _copy_attr(from_module, to_module, target: str) -> None:
    """Give `to_module` the attribute `target` of `from_module`, with modules on the way where there are none."""
    *path, name = target.split(".")
    for word in path:
        found = getattr(to_module, word, None)
        if getattr(from_module, word) is found:
            return      # the whole branch is there already
        if found is None:
            found = torch.nn.Module()
            setattr(to_module, word, found)
        from_module, to_module = getattr(from_module, word), found
    value = getattr(from_module, name)
    if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
        if name not in to_module._buffers:
            to_module.register_buffer(name, value, persistent=name not in from_module._non_persistent_buffers_set)
    else:
        setattr(to_module, name, value)


def _assign_attr(value, to_module, target: str) -> None:
    """Make `value` the attribute `target` of `to_module`."""
    *path, name = target.split(".")
    for word in path:
        if not hasattr(to_module, word):
            setattr(to_module, word, torch.nn.Module())
        to_module = getattr(to_module, word)
    if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
        to_module.register_buffer(name, value)
    else:
        setattr(to_module, name, value)


class _CodeOnlyModule(Module):
    """The state of a graph module without its graph: what is traced again when one is read or copied."""

    def __init__(self, body: dict):
        super().__init__()
        self.__dict__ = body


def _rebuilt(state: dict, source: str, space: dict, class_name: str, module_class) -> GraphModule:
    """A graph module from its pickle: its code is traced again."""
    from ._symbolic_trace import Tracer

    class Reader(Tracer):
        def is_leaf_module(self, m, module_qualified_name):
            return True

    root = _CodeOnlyModule(state)
    code = PythonCode(source, {**space, "torch": torch, "device": torch.device, "inf": float("inf"), "nan": float("nan"),
                               "NoneType": type(None)})
    root.__class__ = type(class_name, (_CodeOnlyModule,), {"forward": _compiled(code)})
    made = module_class(root, Reader().trace(root), class_name)
    for name, value in state.items():
        if name not in made.__dict__:
            made.__dict__[name] = value
    return made


class GraphModule(Module):
    """A module whose `forward` is generated from `graph`. Assign `graph` anew, or call `recompile()`, after changing it.

    root: the module whose attributes the graph refers to, or a dict of them by name.
    """

    def __new__(cls, *args, **kwargs):
        # `forward` is looked up in the class: each instance has one of its own.
        while cls.__qualname__.endswith("Impl") and "_of" in cls.__dict__:
            cls = cls.__bases__[0]
        return super().__new__(type(f"{cls.__name__}Impl", (cls,), {"_of": cls, "__qualname__": f"{cls.__qualname__}.Impl"}))

    def __init__(self, root, graph: Graph, class_name: str = "GraphModule"):
        super().__init__()
        type(self).__name__ = class_name
        targets = [n.target for n in graph.nodes if n.op in ("get_attr", "call_module")]
        if isinstance(root, torch.nn.Module):
            self.training = root.training
            for target in targets:
                _copy_attr(root, self, target)
        elif isinstance(root, dict):
            missing = [t for t in targets if t not in root]
            if missing:
                raise RuntimeError(f"Node referenced target {missing[0]} but that target was not provided in ``root``!")
            for target in sorted(targets, key=lambda t: t.count(".")):
                _assign_attr(root[target], self, target)
        else:
            raise RuntimeError(f"Unsupported type {type(root)} passed for root! Expected an nn.Module or a dict.")
        self.meta: dict = dict(getattr(root, "meta", {})) if isinstance(getattr(root, "meta", None), dict) else {}
        self._tracer_cls = graph._tracer_cls if graph._tracer_cls and "<locals>" not in graph._tracer_cls.__qualname__ else None
        self.graph = graph if graph.owning_module is None else copy.deepcopy(graph)

    @property
    def graph(self) -> Graph:
        """The graph; assigning one generates `forward` anew."""
        return self._graph

    @graph.setter
    def graph(self, g: Graph) -> None:
        if not isinstance(g, Graph):
            raise AssertionError(f"Expected a Graph instance, but got {type(g)}")
        object.__setattr__(self, "_graph", g)
        g.owning_module = self
        self.recompile()

    @property
    def code(self) -> str:
        """The source of `forward`."""
        return self._code

    def recompile(self) -> PythonCode:
        """Generate `forward` from the graph."""
        code = self._graph.python_code("self")
        self._code = code.src
        cls = type(self)
        if "_of" not in cls.__dict__:       # made by unpickling or by a subclass that skips __new__
            cls = self.__class__ = type(cls.__name__, (cls,), {"_of": cls})
        cls.forward = _compiled(code)
        return code

    def print_readable(self, print_output: bool = True, **kwargs) -> str:
        """Print the code of this module; also returned."""
        text = f"class {self._get_name()}(torch.nn.Module):" + self._code.replace("\n", "\n    ").rstrip() + "\n"
        if print_output:
            print(text)
        return text

    def to_folder(self, folder, module_name: str = "FxModule") -> None:
        """Write the code and the state to a folder: `module.py` and `state_dict.pt`."""
        folder = Path(folder)
        folder.mkdir(exist_ok=True, parents=True)
        torch.save(self.state_dict(), folder / "state_dict.pt")
        body = self._code.strip("\n").replace("\n", "\n    ")
        (folder / "module.py").write_text(f"import torch\nfrom torch import *\n\n\nclass {module_name}(torch.nn.Module):\n    {body}\n")

    # -- submodules ---------------------------------------------------------------------------------------------

    def add_submodule(self, target: str, m) -> bool:
        """Add a module under a dotted name. False if something that is no module is in the way."""
        *path, name = target.split(".")
        at = self
        for word in path:
            if not hasattr(at, word):
                setattr(at, word, torch.nn.Module())
            at = getattr(at, word)
            if not isinstance(at, torch.nn.Module):
                return False
        at.add_module(name, m)
        return True

    def delete_submodule(self, target: str) -> bool:
        """Remove a module by its dotted name. False if there is none."""
        path, _, name = target.rpartition(".")
        try:
            owner = self.get_submodule(path)
        except AttributeError:
            return False
        if not isinstance(getattr(owner, name, None), torch.nn.Module):
            return False
        delattr(owner, name)
        return True

    def delete_all_unused_submodules(self) -> None:
        """Remove the modules that the graph neither calls nor reads from, nor that lie on the way to one."""
        used: set[str] = set()
        for node in self._graph.nodes:
            if node.op in ("call_module", "get_attr"):
                words = node.target.split(".")
                used.update(".".join(words[:i]) for i in range(1, len(words) + 1))
                if node.op == "call_module":
                    inner = self.get_submodule(node.target)
                    used.update(f"{node.target}.{name}" for name, _ in inner.named_modules() if name)
        for name in [name for name, _ in self.named_modules() if name and name not in used]:
            self.delete_submodule(name)

    # -- copies -------------------------------------------------------------------------------------------------

    def _copied(self, state: dict, graph: Graph):
        root = _CodeOnlyModule({k: v for k, v in state.items() if k != "_graph"})
        made = GraphModule.__new__(type(self)._of)
        GraphModule.__init__(made, root, graph, type(self).__name__)
        for name, value in root.__dict__.items():
            if name not in made.__dict__:
                made.__dict__[name] = value
        return made

    def __deepcopy__(self, memo):
        state = copy.deepcopy({k: v for k, v in self.__dict__.items() if k != "_graph"}, memo)
        return self._copied(state, copy.deepcopy(self._graph, memo))

    def __copy__(self):
        return self._copied(self.__dict__, copy.deepcopy(self._graph))

    def __reduce__(self):
        state = {k: v for k, v in self.__dict__.items() if k not in ("_graph", "_code")}
        code = self._graph.python_code("self")
        space = {k: v for k, v in code.globals.items() if k not in ("torch", "device", "inf", "nan", "NoneType")}
        return _rebuilt, (state, code.src, space, type(self).__name__, GraphModule)

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self._code}\n# To see more debug info, please use `graph_module.print_readable()`"
