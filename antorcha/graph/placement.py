"""On which device each part of a recording is computed: where its inputs are."""

from __future__ import annotations

from .block import Block
from .node import Node


def device_of(node: Node | Block, known: dict[Node, str]) -> str:
    """The device of a node; `known` holds those recorded before it. RuntimeError where inputs are on several devices."""
    if node.buffer is not None:
        return node.buffer.device
    devices = {known.get(s) or device_of(s, known) for s in node.inputs if type(s) is Node}
    if len(devices) > 1:
        raise RuntimeError(f"{node.op.name}: expected inputs on one device; received inputs on {' and '.join(sorted(devices))}. "
                           "Move them first: x.to(device)")
    return devices.pop() if devices else node.static.device


def divide(nodes: list) -> dict[str, list]:
    """The nodes and blocks of each device, in order."""
    known: dict[Node, str] = {}
    parts: dict[str, list[Node]] = {}
    for n in nodes:
        device = known[n] = device_of(n, known)
        if type(n) is Block:
            known.update(dict.fromkeys(n.made, device))
        parts.setdefault(device, []).append(n)
    return parts
