"""Finding a pattern in a graph and putting something else in its place."""

from __future__ import annotations

from typing import NamedTuple

import antorcha as torch

from ._symbolic_trace import symbolic_trace
from .graph import Graph
from .graph_module import GraphModule, _copy_attr
from .node import Node, map_arg


class Match(NamedTuple):
    """Where a pattern was found: its output's node, and the graph's node for each of the pattern's."""

    anchor: Node
    nodes_map: dict[Node, Node]


def replace_pattern(gm: GraphModule, pattern, replacement) -> list[Match]:
    """Put `replacement` in place of every part of the graph that does what `pattern` does (both functions, modules or graphs, with as
    many inputs). Parts whose inner values are used elsewhere, or that overlap one found before, stay."""
    wanted, instead = _graph_of(pattern), _graph_of(replacement)
    found: list[Match] = []
    taken: set[Node] = set()
    for node in gm.graph.nodes:
        match = _matched(wanted, node)
        if match is not None and taken.isdisjoint(inner := _inner(wanted, match.nodes_map)):
            found.append(match)
            taken |= inner
    renamed: dict[Node, Node] = {}      # results of parts replaced before
    for match in found:
        _replace(gm, wanted, instead, match, renamed)
    if isinstance(replacement, torch.nn.Module):
        for node in instead.nodes:
            if node.op in ("call_module", "get_attr"):
                _copy_attr(replacement, gm, node.target)
    gm.graph.lint()
    gm.recompile()
    return found


def _graph_of(x) -> Graph:
    return x if isinstance(x, Graph) else x.graph if isinstance(x, GraphModule) else symbolic_trace(x).graph


def _result(graph: Graph) -> Node:
    value = graph.output_node().args[0]
    if not isinstance(value, Node):
        raise NotImplementedError("replace_pattern: expected a pattern that returns one value; one that returns several is missing in "
                                  "antorcha so far. Replace each by a call of its own.")
    return value


def _inner(pattern: Graph, nodes: dict) -> set[Node]:
    """The graph's nodes that a match replaces."""
    return {nodes[n] for n in pattern.nodes if n.op not in ("placeholder", "output") and n in nodes}


def _matched(pattern: Graph, node: Node) -> Match | None:
    """The match that ends at `node`, if there is one."""
    nodes: dict[Node, Node] = {}
    end = _result(pattern)
    if not _same(end, node, nodes):
        return None
    inner = _inner(pattern, nodes)
    if any(n is not node and any(user not in inner for user in n.users) for n in inner):
        return None
    return Match(node, nodes)


def _same(p, n, nodes: dict) -> bool:
    """Whether an argument of the pattern fits one of the graph; `nodes` grows."""
    if isinstance(p, Node):
        if p in nodes:
            return nodes[p] is n
        if p.op == "placeholder":
            nodes[p] = n
            return True
        if not isinstance(n, Node) or p.op != n.op or p.target != n.target:
            return False
        nodes[p] = n
        return _same(p.args, n.args, nodes) and _same(p.kwargs, n.kwargs, nodes)
    if isinstance(p, (tuple, list)):
        return isinstance(n, (tuple, list)) and len(p) == len(n) and all(_same(a, b, nodes) for a, b in zip(p, n))
    if isinstance(p, dict):
        return isinstance(n, dict) and p.keys() == n.keys() and all(_same(p[k], n[k], nodes) for k in p)
    return not isinstance(n, Node) and type(p) is type(n) and p == n


def _replace(gm: GraphModule, pattern: Graph, instead: Graph, match: Match, renamed: dict) -> None:
    graph = gm.graph
    inputs = [n for n in pattern.nodes if n.op == "placeholder"]
    outputs = [n for n in instead.nodes if n.op == "placeholder"]
    if len(inputs) != len(outputs):
        raise ValueError(f"replace_pattern: expected a replacement with {len(inputs)} inputs, as the pattern has; received {len(outputs)}")
    values = {}
    for old, new in zip(inputs, outputs):
        value = match.nodes_map.get(old)
        values[new] = renamed.get(value, value)
    with graph.inserting_before(match.anchor):
        for node in instead.nodes:
            if node.op not in ("placeholder", "output"):
                values[node] = graph.node_copy(node, lambda n: values[n])
    result = map_arg(instead.output_node().args[0], lambda n: values[n])
    match.anchor.replace_all_uses_with(result)
    renamed[match.anchor] = result
    for p in reversed(pattern.nodes):
        n = match.nodes_map.get(p)
        if p.op not in ("placeholder", "output") and n is not None and not n._erased and not n.users:
            graph.erase_node(n)
