"""On which device each part of a recording is computed: where its inputs are."""

from __future__ import annotations

from .node import Node


def device_of(node: Node, known: dict[Node, str]) -> str:
    """The device of a node; `known` holds those recorded before it."""
    if node.buffer is not None:
        return node.buffer.device
    for source in node.inputs:
        if type(source) is Node:
            return known[source] if source in known else device_of(source, known)
    return node.static.device


def divide(nodes: list[Node]) -> dict[str, list[Node]]:
    """The nodes of each device, in order."""
    known: dict[Node, str] = {}
    parts: dict[str, list[Node]] = {}
    for n in nodes:
        device = known[n] = device_of(n, known)
        parts.setdefault(device, []).append(n)
    return parts
