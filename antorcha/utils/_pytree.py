"""Trees: containers within containers, taken apart into their leaves and put together again.

tuple, list, dict, OrderedDict, defaultdict, deque, torch.Size and named tuples are containers, and whatever is registered; all else,
None included, is a leaf.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

from ..ops.results import Results

__all__ = [
    "PyTree", "Context", "FlattenFn", "UnflattenFn", "DumpableContext", "ToDumpableContextFn", "FromDumpableContextFn", "PyTreeSpec",
    "TreeSpec", "LeafSpec", "keystr", "key_get", "register_pytree_node", "tree_is_leaf", "tree_flatten", "tree_flatten_with_path",
    "tree_unflatten", "tree_iter", "tree_leaves", "tree_leaves_with_path", "tree_structure", "tree_map", "tree_map_with_path", "tree_map_",
    "tree_map_only", "tree_map_only_", "tree_all", "tree_any", "tree_all_only", "tree_any_only", "treespec_dumps", "treespec_loads",
    "treespec_pprint", "is_namedtuple", "is_namedtuple_class", "is_namedtuple_instance", "is_structseq", "is_structseq_class",
    "is_structseq_instance",
]

PyTree = Context = DumpableContext = Any
FlattenFn = UnflattenFn = ToDumpableContextFn = FromDumpableContextFn = Callable


# -- places in trees --------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class SequenceKey:
    """A place in a sequence."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"

    def get(self, sequence):
        return sequence[self.idx]


@dataclasses.dataclass(frozen=True)
class MappingKey:
    """A key of a mapping."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"

    def get(self, mapping):
        return mapping[self.key]


@dataclasses.dataclass(frozen=True)
class GetAttrKey:
    """An attribute."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"

    def get(self, obj):
        return getattr(obj, self.name)


def keystr(kp) -> str:
    """The path as Python would write it: "['a'].b[0]"."""
    return "".join(map(str, kp))


def key_get(obj, kp):
    """What lies at the end of a path."""
    for key in kp:
        obj = key.get(obj)
    return obj


# -- types of containers ----------------------------------------------------------------------------------------

class NodeDef(NamedTuple):
    """How a type of container comes apart: flatten(tree) -> (children, context), unflatten(children, context) -> tree, and
    flatten_with_keys(tree) -> ([(key, child)], context)."""

    type: Any
    flatten_fn: Callable
    unflatten_fn: Callable
    flatten_with_keys_fn: Callable | None = None


class _SerializeNodeDef(NamedTuple):
    """How a type and its context are written as JSON."""

    typ: Any
    serialized_type_name: str | None
    to_dumpable_context: Callable | None
    from_dumpable_context: Callable | None


def is_namedtuple_class(cls) -> bool:
    """Whether `cls` is a type of named tuples."""
    fields = getattr(cls, "_fields", None)
    return (isinstance(cls, type) and issubclass(cls, tuple) and isinstance(fields, tuple) and all(isinstance(f, str) for f in fields)
            and callable(getattr(cls, "_make", None)) and callable(getattr(cls, "_asdict", None)))


def is_namedtuple_instance(obj) -> bool:
    """Whether `obj` is a named tuple."""
    return is_namedtuple_class(type(obj))


def is_namedtuple(obj) -> bool:
    """Whether `obj` is a named tuple or a type of them."""
    return is_namedtuple_class(obj if isinstance(obj, type) else type(obj))


def is_structseq_class(cls) -> bool:
    """Whether `cls` is a type of struct sequences, such as that of time.localtime()."""
    return (isinstance(cls, type) and cls.__bases__ == (tuple,)
            and all(isinstance(getattr(cls, name, None), int) for name in ("n_fields", "n_sequence_fields", "n_unnamed_fields")))


def is_structseq_instance(obj) -> bool:
    """Whether `obj` is a struct sequence."""
    return is_structseq_class(type(obj))


def is_structseq(obj) -> bool:
    """Whether `obj` is a struct sequence or a type of them."""
    return is_structseq_class(obj if isinstance(obj, type) else type(obj))


def _indexed(children) -> list:
    return [(SequenceKey(i), child) for i, child in enumerate(children)]


def _tuple_flatten(t): return list(t), None
def _tuple_flatten_with_keys(t): return _indexed(t), None
def _tuple_unflatten(values, context): return tuple(values)
def _list_flatten(t): return t, None
def _list_flatten_with_keys(t): return _indexed(t), None
def _list_unflatten(values, context): return list(values)
def _dict_flatten(d): return list(d.values()), list(d)
def _dict_flatten_with_keys(d): return [(MappingKey(k), v) for k, v in d.items()], list(d)
def _dict_unflatten(values, context): return dict(zip(context, values))
def _ordereddict_unflatten(values, context): return OrderedDict(zip(context, values))
def _defaultdict_flatten(d): return list(d.values()), [d.default_factory, list(d)]
def _defaultdict_flatten_with_keys(d): return _dict_flatten_with_keys(d)[0], [d.default_factory, list(d)]
def _defaultdict_unflatten(values, context): return defaultdict(context[0], _dict_unflatten(values, context[1]))
def _deque_flatten(d): return list(d), d.maxlen
def _deque_flatten_with_keys(d): return _indexed(d), d.maxlen
def _deque_unflatten(values, context): return deque(values, maxlen=context)
def _namedtuple_flatten(t): return list(t), type(t)
def _namedtuple_flatten_with_keys(t): return [(GetAttrKey(f), v) for f, v in zip(t._fields, t)], type(t)
def _namedtuple_unflatten(values, context): return context(*values)


_ordereddict_flatten, _ordereddict_flatten_with_keys = _dict_flatten, _dict_flatten_with_keys

SUPPORTED_NODES: dict[Any, NodeDef] = {definition.type: definition for definition in (
    NodeDef(tuple, _tuple_flatten, _tuple_unflatten, _tuple_flatten_with_keys),
    NodeDef(list, _list_flatten, _list_unflatten, _list_flatten_with_keys),
    NodeDef(dict, _dict_flatten, _dict_unflatten, _dict_flatten_with_keys),
    NodeDef(namedtuple, _namedtuple_flatten, _namedtuple_unflatten, _namedtuple_flatten_with_keys),
    NodeDef(OrderedDict, _dict_flatten, _ordereddict_unflatten, _dict_flatten_with_keys),
    NodeDef(defaultdict, _defaultdict_flatten, _defaultdict_unflatten, _defaultdict_flatten_with_keys),
    NodeDef(deque, _deque_flatten, _deque_unflatten, _deque_flatten_with_keys),
)}
BUILTIN_TYPES = frozenset(SUPPORTED_NODES)
STANDARD_DICT_TYPES = frozenset({dict, OrderedDict, defaultdict})
CONSTANT_NODES: set = set()


def _name_of(cls) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _named(path: str):
    """What a dotted name stands for."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


SUPPORTED_SERIALIZED_TYPES: dict[Any, _SerializeNodeDef] = {
    cls: _SerializeNodeDef(cls, _name_of(cls), None, None) for cls in (tuple, list, dict, OrderedDict, deque)}
SUPPORTED_SERIALIZED_TYPES[defaultdict] = _SerializeNodeDef(
    defaultdict, _name_of(defaultdict), lambda context: [context[0] and _name_of(context[0]), context[1]],
    lambda context: [context[0] and _named(context[0]), context[1]])
SUPPORTED_SERIALIZED_TYPES[namedtuple] = _SerializeNodeDef(
    namedtuple, "collections.namedtuple", lambda cls: SUPPORTED_SERIALIZED_TYPES[cls].serialized_type_name
    if cls in SUPPORTED_SERIALIZED_TYPES else _unserializable(cls), lambda name: SERIALIZED_TYPE_TO_PYTHON_TYPE[name])
SERIALIZED_TYPE_TO_PYTHON_TYPE: dict[str, Any] = {d.serialized_type_name: cls for cls, d in SUPPORTED_SERIALIZED_TYPES.items()}


def _unserializable(cls):
    raise NotImplementedError(f"Can't serialize TreeSpec of {cls}: register it with a serialized_type_name first.")


def register_pytree_node(cls, flatten_fn, unflatten_fn, *, serialized_type_name=None, to_dumpable_context=None, from_dumpable_context=None,
                         flatten_with_keys_fn=None) -> None:
    """Make `cls` a type of container: flatten_fn(tree) -> (children, context), unflatten_fn(children, context) -> tree.

    serialized_type_name, to_dumpable_context, from_dumpable_context: how it is written by `treespec_dumps`. flatten_with_keys_fn:
    like flatten_fn with (key, child) for each child. ValueError where the type is registered already.
    """
    if cls in SUPPORTED_NODES:
        raise ValueError(f"{cls} is already registered as pytree node.")
    if (to_dumpable_context is None) != (from_dumpable_context is None):
        raise ValueError(f"Both to_dumpable_context and from_dumpable_context for {cls} must be None or registered.")
    SUPPORTED_NODES[cls] = NodeDef(cls, flatten_fn, unflatten_fn, flatten_with_keys_fn)
    SUPPORTED_SERIALIZED_TYPES[cls] = _SerializeNodeDef(cls, serialized_type_name, to_dumpable_context, from_dumpable_context)
    if serialized_type_name is not None:
        SERIALIZED_TYPE_TO_PYTHON_TYPE[serialized_type_name] = cls


_register_pytree_node = _private_register_pytree_node = register_pytree_node


def _deregister_pytree_node(cls) -> None:
    SUPPORTED_NODES.pop(cls, None)
    definition = SUPPORTED_SERIALIZED_TYPES.pop(cls, None)
    if definition is not None:
        SERIALIZED_TYPE_TO_PYTHON_TYPE.pop(definition.serialized_type_name, None)


def _register_namedtuple(cls, *, serialized_type_name: str) -> None:
    """Let a type of named tuples be written by `treespec_dumps`."""
    SUPPORTED_SERIALIZED_TYPES[cls] = _SerializeNodeDef(cls, serialized_type_name, None, None)
    SERIALIZED_TYPE_TO_PYTHON_TYPE[serialized_type_name] = cls


def register_dataclass(cls, *, field_names=None, drop_field_names=None, serialized_type_name=None) -> None:
    """Make a dataclass a type of container whose children are its fields that are not None."""
    names = [f.name for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else field_names
    if names is None:
        raise ValueError(f"register_dataclass: expected a dataclass, or field_names; received {cls}")
    if field_names is not None:
        names = list(field_names)
    names = [n for n in names if n not in (drop_field_names or ())]

    def split(obj):
        values = [(n, getattr(obj, n)) for n in names]
        return [(n, v) for n, v in values if v is not None], [n for n, v in values if v is None]

    def flatten(obj):
        present, absent = split(obj)
        return [v for _, v in present], [[n for n, _ in present], absent]

    def flatten_with_keys(obj):
        present, absent = split(obj)
        return [(GetAttrKey(n), v) for n, v in present], [[n for n, _ in present], absent]

    def unflatten(values, context):
        return cls(**dict(zip(context[0], values)), **dict.fromkeys(context[1]))

    register_pytree_node(cls, flatten, unflatten, serialized_type_name=serialized_type_name or _name_of(cls),
                         flatten_with_keys_fn=flatten_with_keys)


@dataclasses.dataclass(frozen=True)
class ConstantNode:
    """A value that is part of a tree's structure."""

    value: Any


def register_constant(cls) -> None:
    """Make values of `cls` part of the structure of trees, not leaves."""
    if cls.__eq__ is object.__eq__:
        raise TypeError(f"register_constant: expected a class with an __eq__ of its own; {cls} compares by identity")
    register_pytree_node(cls, lambda value: ([], ConstantNode(value)), lambda values, context: context.value,
                         flatten_with_keys_fn=lambda value: ([], ConstantNode(value)))
    CONSTANT_NODES.add(cls)


def is_constant_class(cls) -> bool:
    return isinstance(cls, type) and cls in CONSTANT_NODES


def _get_node_type(tree):
    """The key of a tree's type in SUPPORTED_NODES; its type where it has none."""
    cls = type(tree)
    if cls not in SUPPORTED_NODES and issubclass(cls, Results):     # torch.return_types
        register_pytree_node(cls, _tuple_flatten, lambda values, _: cls(*values), flatten_with_keys_fn=_tuple_flatten_with_keys)
    return namedtuple if cls not in SUPPORTED_NODES and is_namedtuple_class(cls) else cls


def tree_is_leaf(tree, is_leaf=None) -> bool:
    """Whether `tree` is no container, or is_leaf(tree)."""
    return (is_leaf is not None and is_leaf(tree)) or _get_node_type(tree) not in SUPPORTED_NODES


_is_leaf = tree_is_leaf


# -- structures -------------------------------------------------------------------------------------------------

class TreeSpec:
    """The structure of a tree: its type, what the type needs besides the children, and their structures. A leaf has type None."""

    __slots__ = ("type", "_context", "_children", "num_nodes", "num_leaves", "num_children")

    def __init__(self, type=None, context=None, children=()):
        self.type, self._context, self._children = type, context, list(children)
        self.num_children = len(self._children)
        self.num_nodes = 1 + sum(c.num_nodes for c in self._children)
        self.num_leaves = 1 if type is None else sum(c.num_leaves for c in self._children)

    context = property(lambda self: self._context)
    children_specs = property(lambda self: self._children)

    def is_leaf(self) -> bool:
        return self.type is None

    def children(self) -> list:
        """The structures of the children."""
        return list(self._children)

    def child(self, index: int) -> TreeSpec:
        """The structure of one child."""
        return self._children[index]

    def unflatten(self, leaves):
        """The tree of this structure with these leaves."""
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ValueError(f"treespec.unflatten(leaves): `leaves` has length {len(leaves)} but the spec refers to a pytree that holds "
                             f"{self.num_leaves} items ({self}).")
        return self._built(iter(leaves))

    def _built(self, leaves):
        if self.type is None:
            return next(leaves)
        return SUPPORTED_NODES[self.type].unflatten_fn([c._built(leaves) for c in self._children], self._context)

    def flatten_up_to(self, tree) -> list:
        """What lies in `tree` where this structure has its leaves. ValueError where `tree` has another structure above."""
        out: list = []
        self._collect(tree, out)
        return out

    def _collect(self, tree, out: list) -> None:
        if self.type is None:
            out.append(tree)
            return
        kind = _get_node_type(tree)
        both_dicts = self.type in STANDARD_DICT_TYPES and kind in STANDARD_DICT_TYPES
        if kind is not self.type and not both_dicts:
            raise ValueError(f"Node type mismatch; expected {self.type!r}, but got {kind!r}.")
        children, context = SUPPORTED_NODES[kind].flatten_fn(tree)
        if len(children) != self.num_children:
            raise ValueError(f"Node arity mismatch; expected {self.num_children}, but got {len(children)}.")
        if both_dicts:
            children = self._in_order(tree)
        elif self.type is not deque and context != self._context:
            raise ValueError(f"Node context mismatch for node type {self.type!r}: expected {self._context!r}, but got {context!r}.")
        for spec, child in zip(self._children, children):
            spec._collect(child, out)

    def _in_order(self, tree) -> list:
        """The values of a dict in the order of this structure's keys."""
        keys = self._context[1] if self.type is defaultdict else self._context
        if set(keys) != set(tree):
            missing, extra = [k for k in keys if k not in tree], [k for k in tree if k not in keys]
            raise ValueError(f"Node keys mismatch; missing key(s): {missing}; additional key(s): {extra}.")
        return [tree[k] for k in keys]

    def __eq__(self, other) -> bool:
        if self is other:
            return True
        return (isinstance(other, TreeSpec) and self.type is other.type and self._context == other._context
                and self._children == other._children)

    def __hash__(self) -> int:
        keys = self._context if self.type in (dict, OrderedDict) else None
        return hash((self.type, tuple(keys) if keys else None, tuple(self._children)))

    def __repr__(self) -> str:
        if self.type is None:
            return "*"
        children = ",\n  ".join(repr(c).replace("\n", "\n  ") for c in self._children)
        return f"TreeSpec({self.type.__name__}, {self._context}, [{children}])"


PyTreeSpec = TreeSpec
_LEAF_SPEC = TreeSpec()


class _LeafType(type):
    def __instancecheck__(cls, instance) -> bool:
        return isinstance(instance, TreeSpec) and instance.is_leaf()

    def __call__(cls) -> TreeSpec:
        return _LEAF_SPEC


class LeafSpec(metaclass=_LeafType):
    """The structure of a leaf: `LeafSpec()` is the one there is."""


def treespec_leaf() -> TreeSpec:
    """The structure of a leaf."""
    return _LEAF_SPEC


def treespec_tuple(iterable=()) -> TreeSpec:
    """The structure of a tuple of these structures."""
    return TreeSpec(tuple, None, iterable)


def treespec_dict(mapping=(), **kwargs) -> TreeSpec:
    """The structure of a dict of these structures."""
    given = dict(mapping, **kwargs)
    return TreeSpec(dict, list(given), given.values())


# -- taking apart and putting together --------------------------------------------------------------------------

def tree_flatten(tree, is_leaf=None) -> tuple[list, TreeSpec]:
    """(leaves from left to right, structure)."""
    leaves: list = []
    return leaves, _flatten(tree, leaves, is_leaf)


def _flatten(tree, leaves: list, is_leaf) -> TreeSpec:
    if tree_is_leaf(tree, is_leaf):
        leaves.append(tree)
        return _LEAF_SPEC
    kind = _get_node_type(tree)
    children, context = SUPPORTED_NODES[kind].flatten_fn(tree)
    return TreeSpec(kind, context, [_flatten(c, leaves, is_leaf) for c in children])


def tree_unflatten(leaves, treespec: TreeSpec):
    """The tree of this structure with these leaves."""
    if not isinstance(treespec, TreeSpec):
        raise TypeError(f"Expected `treespec` to be an instance of PyTreeSpec but got item of type {type(treespec)}.")
    return treespec.unflatten(leaves)


def tree_iter(tree, is_leaf=None):
    """The leaves from left to right, one after the other."""
    if tree_is_leaf(tree, is_leaf):
        yield tree
        return
    for child in SUPPORTED_NODES[_get_node_type(tree)].flatten_fn(tree)[0]:
        yield from tree_iter(child, is_leaf)


def tree_leaves(tree, is_leaf=None) -> list:
    """The leaves from left to right."""
    return list(tree_iter(tree, is_leaf))


def tree_structure(tree, is_leaf=None) -> TreeSpec:
    """The structure alone."""
    return tree_flatten(tree, is_leaf)[1]


def _generate_key_paths(path: tuple, tree, is_leaf=None):
    if tree_is_leaf(tree, is_leaf):
        yield path, tree
        return
    definition = SUPPORTED_NODES[_get_node_type(tree)]
    if definition.flatten_with_keys_fn is None:
        raise ValueError(f"Did not find a flatten_with_keys_fn for type: {definition.type}. Please pass a flatten_with_keys_fn argument to "
                         "register_pytree_node.")
    for key, child in definition.flatten_with_keys_fn(tree)[0]:
        yield from _generate_key_paths((*path, key), child, is_leaf)


def tree_leaves_with_path(tree, is_leaf=None) -> list:
    """[(path, leaf)] from left to right."""
    return list(_generate_key_paths((), tree, is_leaf))


def tree_flatten_with_path(tree, is_leaf=None) -> tuple[list, TreeSpec]:
    """([(path, leaf)] from left to right, structure)."""
    return tree_leaves_with_path(tree, is_leaf), tree_structure(tree, is_leaf)


def arg_tree_leaves(*args, **kwargs) -> list:
    """The leaves of all arguments."""
    return [leaf for a in (*args, *kwargs.values()) for leaf in tree_iter(a)]


# -- mapping ----------------------------------------------------------------------------------------------------

def tree_map(func, tree, *rests, is_leaf=None):
    """The tree with each leaf replaced by func(leaf, what lies at the same place of `rests`)."""
    leaves, spec = tree_flatten(tree, is_leaf)
    return spec.unflatten(map(func, leaves, *[spec.flatten_up_to(r) for r in rests]))


def tree_map_with_path(func, tree, *rests, is_leaf=None):
    """The tree with each leaf replaced by func(path, leaf, what lies at the same place of `rests`)."""
    found, spec = tree_flatten_with_path(tree, is_leaf)
    return spec.unflatten(func(path, *others) for (path, _), *others in zip(found, (leaf for _, leaf in found),
                                                                          *[spec.flatten_up_to(r) for r in rests]))


def tree_map_(func, tree, *rests, is_leaf=None):
    """Like `tree_map` for what `func` does; returns the tree itself."""
    leaves, spec = tree_flatten(tree, is_leaf)
    for group in zip(leaves, *[spec.flatten_up_to(r) for r in rests]):
        func(*group)
    return tree


def _predicate(kind) -> Callable:
    """Whether a leaf is of these types, or satisfies this predicate."""
    if isinstance(kind, (type, tuple)) or not callable(kind):
        return lambda x: isinstance(x, kind)
    return kind


def map_only(type_or_types_or_pred, /) -> Callable:
    """A decorator: the function is applied to values of these types (or that satisfy the predicate); others stay."""
    wanted = _predicate(type_or_types_or_pred)

    def decorate(func):
        @functools.wraps(func)
        def applied(x):
            return func(x) if wanted(x) else x
        return applied
    return decorate


def tree_map_only(type_or_types_or_pred, /, func, tree, is_leaf=None):
    """`tree_map` for leaves of these types (or that satisfy the predicate); the others stay."""
    return tree_map(map_only(type_or_types_or_pred)(func), tree, is_leaf=is_leaf)


def tree_map_only_(type_or_types_or_pred, /, func, tree, is_leaf=None):
    """`tree_map_` for leaves of these types (or that satisfy the predicate)."""
    return tree_map_(map_only(type_or_types_or_pred)(func), tree, is_leaf=is_leaf)


def tree_all(pred, tree, is_leaf=None) -> bool:
    """Whether all leaves satisfy the predicate."""
    return all(map(pred, tree_iter(tree, is_leaf)))


def tree_any(pred, tree, is_leaf=None) -> bool:
    """Whether some leaf satisfies the predicate."""
    return any(map(pred, tree_iter(tree, is_leaf)))


def tree_all_only(type_or_types, /, pred, tree, is_leaf=None) -> bool:
    """Whether all leaves of these types satisfy the predicate."""
    return all(pred(x) for x in tree_iter(tree, is_leaf) if isinstance(x, type_or_types))


def tree_any_only(type_or_types, /, pred, tree, is_leaf=None) -> bool:
    """Whether some leaf of these types satisfies the predicate."""
    return any(pred(x) for x in tree_iter(tree, is_leaf) if isinstance(x, type_or_types))


def _broadcast_to_and_flatten(tree, treespec: TreeSpec, is_leaf=None) -> list | None:
    """The leaves of `tree` where it is cut off above the leaves of `treespec`, each repeated for all below; None if it does not fit."""
    if tree_is_leaf(tree, is_leaf):
        return [tree] * treespec.num_leaves
    kind = _get_node_type(tree)
    if kind is not treespec.type:
        return None
    children, context = SUPPORTED_NODES[kind].flatten_fn(tree)
    if len(children) != treespec.num_children or context != treespec.context:
        return None
    parts = [_broadcast_to_and_flatten(child, spec, is_leaf) for child, spec in zip(children, treespec._children)]
    return None if any(p is None for p in parts) else [leaf for part in parts for leaf in part]


# -- structures as text -----------------------------------------------------------------------------------------

_PROTOCOL = 1


def treespec_dumps(treespec: TreeSpec, protocol: int | None = None) -> str:
    """A structure as JSON: [protocol, {"type", "context", "children_spec"}]."""
    if not isinstance(treespec, TreeSpec):
        raise TypeError(f"treespec_dumps(treespec, protocol): Expected `treespec` to be instance of TreeSpec but got item of type "
                        f"{type(treespec)}.")
    if protocol not in (None, _PROTOCOL):
        raise ValueError(f"Unknown protocol {protocol}. Available protocols: [{_PROTOCOL}]")
    return json.dumps([_PROTOCOL, _to_json(treespec)])


def _to_json(spec: TreeSpec) -> dict:
    if spec.is_leaf():
        return {"type": None, "context": None, "children_spec": []}
    definition = SUPPORTED_SERIALIZED_TYPES.get(spec.type)
    if definition is None or definition.serialized_type_name is None:
        _unserializable(spec.type)
    dump = definition.to_dumpable_context or json.dumps
    context = dump(spec.context)
    return {"type": definition.serialized_type_name, "context": context if isinstance(context, str) else json.dumps(context),
            "children_spec": [_to_json(c) for c in spec._children]}


def treespec_loads(serialized: str) -> TreeSpec:
    """The structure that `treespec_dumps` wrote."""
    protocol, schema = json.loads(serialized)
    if protocol != _PROTOCOL:
        raise ValueError(f"Unknown protocol {protocol}. Available protocols: [{_PROTOCOL}]")
    return _from_json(schema)


def _from_json(schema: dict) -> TreeSpec:
    if schema["type"] is None:
        return _LEAF_SPEC
    cls = SERIALIZED_TYPE_TO_PYTHON_TYPE.get(schema["type"])
    if cls is None:
        raise NotImplementedError(f"Can't deserialize TreeSpec of the type {schema['type']!r}: register it first.")
    load, context = SUPPORTED_SERIALIZED_TYPES[cls].from_dumpable_context, schema["context"]
    if load is None:
        context = json.loads(context)
    else:
        context = load(json.loads(context) if cls is defaultdict else context)
    return TreeSpec(cls, context, [_from_json(c) for c in schema["children_spec"]])


class _Star(str):
    def __repr__(self) -> str:
        return "*"


def treespec_pprint(treespec: TreeSpec) -> str:
    """The structure as a tree of stars."""
    return repr(treespec.unflatten([_Star("*")] * treespec.num_leaves))


def pytree_to_str(tree) -> str:
    """The structure of `tree` as JSON."""
    return treespec_dumps(tree_structure(tree))


def str_to_pytree(serialized: str) -> TreeSpec:
    """The structure that `pytree_to_str` wrote."""
    return treespec_loads(serialized)


def _register_size() -> None:
    from ..base.formats import Size
    register_pytree_node(Size, _tuple_flatten, _tuple_unflatten, serialized_type_name="torch.Size",
                         flatten_with_keys_fn=_tuple_flatten_with_keys)     # mapped, its elements may be no sizes any more


_register_size()
