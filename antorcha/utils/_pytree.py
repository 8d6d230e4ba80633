"""Trees: containers within containers, taken apart into their leaves and put together again.

tuple, list, dict, OrderedDict, defaultdict, deque and named tuples are containers, and whatever is registered; all else is a leaf.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from typing import Any, Callable, NamedTuple


class NodeDef(NamedTuple):
    """How a type of container comes apart: flatten(tree) -> (children, context), unflatten(children, context) -> tree."""

    flatten: Callable
    unflatten: Callable


class _NamedTuple:
    """Stands for all types of named tuples."""


def _entries(d) -> tuple:
    return list(d.values()), list(d)


NODES: dict[Any, NodeDef] = {
    tuple: NodeDef(lambda t: (list(t), None), lambda children, _: tuple(children)),
    list: NodeDef(lambda t: (t, None), lambda children, _: list(children)),
    dict: NodeDef(_entries, lambda children, keys: dict(zip(keys, children))),
    OrderedDict: NodeDef(_entries, lambda children, keys: OrderedDict(zip(keys, children))),
    defaultdict: NodeDef(lambda d: (list(d.values()), [d.default_factory, list(d)]),
                         lambda children, context: defaultdict(context[0], zip(context[1], children))),
    deque: NodeDef(lambda d: (list(d), d.maxlen), lambda children, maxlen: deque(children, maxlen)),
    _NamedTuple: NodeDef(lambda t: (list(t), type(t)), lambda children, kind: kind(*children)),
}


def register_pytree_node(cls, flatten_fn, unflatten_fn, **ignored) -> None:
    """Make `cls` a type of container."""
    if cls in NODES:
        raise ValueError(f"{cls} is already registered as pytree node.")
    NODES[cls] = NodeDef(flatten_fn, unflatten_fn)


class TreeSpec:
    """The structure of a tree: its type, what the type needs besides the children, and their structures. A leaf has type None."""

    __slots__ = ("type", "context", "children_specs", "num_leaves")

    def __init__(self, type=None, context=None, children_specs=()):
        self.type, self.context, self.children_specs = type, context, list(children_specs)
        self.num_leaves = sum(c.num_leaves for c in self.children_specs) if type is not None else 1

    def is_leaf(self) -> bool:
        return self.type is None

    def __eq__(self, other) -> bool:
        return (isinstance(other, TreeSpec) and self.type is other.type and self.context == other.context
                and self.children_specs == other.children_specs)

    def __hash__(self) -> int:
        return hash((self.type, self.num_leaves))

    def __repr__(self) -> str:
        if self.is_leaf():
            return "*"
        children = ",\n  ".join(repr(c).replace("\n", "\n  ") for c in self.children_specs)
        return f"TreeSpec({self.type.__name__}, {self.context}, [{children}])"


LeafSpec = TreeSpec
_LEAF = TreeSpec()


def _kind(tree):
    """The key of a tree's type in NODES, or None for a leaf."""
    cls = type(tree)
    if cls in NODES:
        return cls
    return _NamedTuple if issubclass(cls, tuple) and hasattr(cls, "_fields") else None


def tree_flatten(tree, is_leaf=None) -> tuple[list, TreeSpec]:
    """(leaves from left to right, structure)."""
    leaves: list = []
    return leaves, _flatten(tree, leaves, is_leaf)


def _flatten(tree, leaves: list, is_leaf) -> TreeSpec:
    kind = _kind(tree)
    if kind is None or is_leaf is not None and is_leaf(tree):
        leaves.append(tree)
        return _LEAF
    children, context = NODES[kind].flatten(tree)
    return TreeSpec(kind, context, [_flatten(c, leaves, is_leaf) for c in children])


def tree_unflatten(leaves, treespec: TreeSpec):
    """The tree of this structure with these leaves."""
    leaves = list(leaves)
    if len(leaves) != treespec.num_leaves:
        raise ValueError(f"tree_unflatten: expected {treespec.num_leaves} leaves for {treespec}; received {len(leaves)}.")
    return _unflatten(iter(leaves), treespec)


def _unflatten(leaves, spec: TreeSpec):
    if spec.is_leaf():
        return next(leaves)
    return NODES[spec.type].unflatten([_unflatten(leaves, c) for c in spec.children_specs], spec.context)


def tree_leaves(tree, is_leaf=None) -> list:
    """The leaves from left to right."""
    return tree_flatten(tree, is_leaf)[0]


tree_iter = tree_leaves


def tree_structure(tree, is_leaf=None) -> TreeSpec:
    """The structure alone."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func, tree, *rests, is_leaf=None):
    """The tree with each leaf replaced by func(leaf, the leaves at the same place of `rests`)."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [broadcast_to_and_flatten(r, spec) for r in rests]
    if any(o is None for o in others):
        raise ValueError(f"tree_map: expected trees of one structure, {spec}.")
    return tree_unflatten([func(*x) for x in zip(leaves, *others)], spec)


def tree_map_(func, tree, *rests, is_leaf=None):
    """Like `tree_map` for what `func` does; returns the tree itself."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_only(kind, func, tree, is_leaf=None):
    """`tree_map` for leaves of a type (or that satisfy a predicate); the others stay."""
    wanted = kind if not isinstance(kind, (type, tuple)) else lambda x: isinstance(x, kind)
    return tree_map(lambda x: func(x) if wanted(x) else x, tree, is_leaf=is_leaf)


def tree_all(predicate, tree) -> bool:
    return all(map(predicate, tree_leaves(tree)))


def tree_any(predicate, tree) -> bool:
    return any(map(predicate, tree_leaves(tree)))


def broadcast_to_and_flatten(tree, treespec: TreeSpec) -> list | None:
    """The leaves of `tree` where it is cut off above the leaves of `treespec`, each repeated for all below; None if it does not fit."""
    kind = _kind(tree)
    if kind is None:
        return [tree] * treespec.num_leaves
    if kind is not treespec.type:
        return None
    children, context = NODES[kind].flatten(tree)
    if len(children) != len(treespec.children_specs) or context != treespec.context:
        return None
    out: list = []
    for child, spec in zip(children, treespec.children_specs):
        found = broadcast_to_and_flatten(child, spec)
        if found is None:
            return None
        out += found
    return out


_broadcast_to_and_flatten = broadcast_to_and_flatten
_register_pytree_node = register_pytree_node
