"""A piece of the tensor graph that is recorded again and again, with other inputs."""

from __future__ import annotations

from . import tape
from .block import taker
from .node import Node


class Piece:
    """Nodes, each with where its inputs are found: ("leaf" | "number" | "node", k)."""

    def __init__(self, nodes: list[Node], inputs: list[tuple]):
        self.forms = [(n.form, n.where) for n in nodes]
        self.inputs = inputs
        self.blank: list[Node] = []         # stand for the nodes where a plan is run
        for form, where in self.forms:
            n = Node()
            n.form, n.where, n.inputs, n.buffer = form, where, (), None
            self.blank.append(n)

    def __len__(self) -> int:
        return len(self.forms)

    def close(self, leaves: int, numbers: int) -> None:
        """Say how many leaves and numbers there are; before the first `record`."""
        first = {"leaf": 0, "number": leaves, "node": leaves + numbers}
        self.first = leaves + numbers
        self.sites = [(form, where, taker([first[kind] + k for kind, k in reads]))
                      for (form, where), reads in zip(self.forms, self.inputs)]

    def record(self, leaves: list, numbers: list) -> list:
        """Record the nodes, in one list after the leaves and numbers; node k is at `first + k`."""
        table = [*leaves, *numbers]
        add = table.append
        for form, where, take in self.sites:
            n = Node()
            n.form, n.where, n.buffer = form, where, None
            n.inputs = take(table)
            add(n)
        tape.nodes.extend(table[self.first:])
        return table


def closed(recorded: list[Node], nodes: list) -> tuple | None:
    """(recorded nodes as a piece whose leaves are `nodes`, its numbers, where each node stands in it); None where a node reads what is
    neither recorded nor a leaf."""
    leaf_at = {n: k for k, n in reversed(list(enumerate(nodes)))}
    reads, numbers = _described(recorded, leaf_at)
    if reads is None:
        return None
    piece = Piece(recorded, reads)
    piece.close(len(nodes), len(numbers))
    return piece, numbers, {**leaf_at, **{n: piece.first + k for k, n in enumerate(recorded)}}


def _described(piece: list[Node], leaf_at: dict) -> tuple:
    """(where the inputs of the nodes of a piece are found, as `Piece` has it, its numbers); None for the first where one is neither in
    the piece nor a leaf."""
    number_of, reads, numbers = {n: k for k, n in enumerate(piece)}, [], []
    for n in piece:
        own = []
        for s in n.inputs:
            if type(s) is not Node:
                own.append(("number", len(numbers)))
                numbers.append(s)
            elif s in number_of:
                own.append(("node", number_of[s]))
            elif s in leaf_at:
                own.append(("leaf", leaf_at[s]))
            else:
                return None, numbers
        reads.append(tuple(own))
    return reads, numbers
