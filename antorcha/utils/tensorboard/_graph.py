"""A module's operations as the graph that TensorBoard draws: each a node, named after the modules that it is called in."""

from __future__ import annotations

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.versions_pb2 import VersionDef

from ... import fx
from ...core.tensor import Tensor

__all__ = ["graph"]


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shapes of what each node gives."""

    def run_node(self, n):
        result = super().run_node(n)
        n.meta["shape"] = tuple(result.shape) if isinstance(result, Tensor) else None
        return result


def graph(model, inputs) -> GraphDef:
    """The graph of `model` for the inputs, a tensor or a tuple of them. RuntimeError where its way depends on values."""
    try:
        traced = fx.symbolic_trace(model)
        _Shapes(traced).run(*(inputs if isinstance(inputs, (tuple, list)) else (inputs,)))
    except Exception as error:
        raise RuntimeError(f"add_graph: {type(model).__name__} could not be traced: {error}. "
                           "Its forward may not decide by the values of tensors.") from error
    names: dict = {}
    nodes = [_node(node, model, names) for node in traced.graph.nodes]
    return GraphDef(node=nodes, versions=VersionDef(producer=22))


def _node(node, model, names: dict) -> NodeDef:
    label = {"placeholder": "input", "output": "output"}.get(node.op)
    path = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
    if node.op == "call_module":
        label = type(model.get_submodule(path)).__name__
        name = "/".join([type(model).__name__, *path.split("."), node.name])
    elif node.op == "get_attr":
        label, name = "parameter", "/".join([type(model).__name__, *path.split(".")])
    else:
        label = label or path
        name = f"{label}/{node.name}" if node.op in ("placeholder", "output") else f"{type(model).__name__}/{node.name}"
    names[node] = name
    attributes = {}
    shape = node.meta.get("shape")
    if shape is not None:
        attributes["_output_shapes"] = AttrValue(list=AttrValue.ListValue(shape=[_shape(shape)]))
    if node.op == "call_module":
        attributes["attr"] = AttrValue(s=model.get_submodule(path).extra_repr().encode())
    return NodeDef(name=name, op=label, input=[names[source] for source in node.all_input_nodes], attr=attributes)


def _shape(sizes):
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
