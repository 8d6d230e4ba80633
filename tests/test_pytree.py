"""Trees, and torch.testing."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple

import pytest

import antorcha as torch
from antorcha.testing import assert_close, make_tensor
from antorcha.utils import _pytree as pytree

Pair = namedtuple("Pair", "a b")
TREE = {"b": [1, (2, None)], "a": Pair(3, OrderedDict(x=4)), "c": deque([5], maxlen=3), "d": defaultdict(list, {"k": 6}),
        "e": torch.Size([7])}


def test_trees_come_apart_and_together():
    leaves, spec = pytree.tree_flatten(TREE)
    assert leaves == [1, 2, None, 3, 4, 5, 6, 7] and spec.num_leaves == 8
    again = pytree.tree_unflatten(leaves, spec)
    assert again == TREE and again["c"].maxlen == 3 and again["d"].default_factory is list
    assert [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(TREE)[0]] == [
        "['b'][0]", "['b'][1][0]", "['b'][1][1]", "['a'].a", "['a'].b['x']", "['c'][0]", "['d']['k']", "['e'][0]"]
    assert all(pytree.key_get(TREE, path) == leaf for path, leaf in pytree.tree_leaves_with_path(TREE))
    assert spec == pytree.tree_structure({**TREE, "e": torch.Size([9])})
    assert spec != pytree.tree_structure(pytree.tree_map(str, TREE)) and hash(spec) == hash(pytree.tree_structure(TREE))
    assert repr(pytree.tree_structure([1, {"a": 2}])) == "TreeSpec(list, None, [*,\n  TreeSpec(dict, ['a'], [*])])"
    assert pytree.treespec_pprint(pytree.tree_structure([1, {"a": 2}])) == "[*, {'a': *}]"


def test_mapping():
    assert pytree.tree_map(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"b": (5, 6), "a": 4}) == {"a": 5, "b": (7, 9)}
    assert pytree.tree_map(lambda x, y: (x, y), [1, 2], [[3, 4], 5]) == [(1, [3, 4]), (2, 5)]
    assert pytree.tree_map_only(int, lambda x: -x, [1, "a", None]) == [-1, "a", None]
    assert pytree.tree_map_with_path(lambda path, x: pytree.keystr(path) + str(x), [1, {"k": 2}]) == ["[0]1", {"k": "[1]['k']2"}]
    assert pytree.tree_leaves([1, [2, 3]], is_leaf=lambda x: x == [2, 3]) == [1, [2, 3]]
    assert pytree.tree_all(bool, [1, (2,)]) and pytree.tree_any(bool, [0, (2,)]) and not pytree.tree_all_only(int, bool, [0, "a"])
    for wrong, message in (([3], "arity"), ((3, 4), "type"), ({"a": 1}, "type")):
        with pytest.raises(ValueError, match=message):
            pytree.tree_map(lambda x, y: x, [1, 2], wrong)
    with pytest.raises(ValueError, match="keys mismatch"):
        pytree.tree_map(lambda x, y: x, {"a": 1}, {"b": 1})


def test_registered_types_and_text():
    class Box:
        def __init__(self, *values):
            self.values = values

    pytree.register_pytree_node(Box, lambda b: (list(b.values), None), lambda values, _: Box(*values), serialized_type_name="box")
    try:
        assert pytree.tree_map(lambda x: x + 1, Box(1, [2])).values == (2, [3])
        spec = pytree.tree_structure((Box(1), {"a": [2]}, defaultdict(list, k=1)))
        assert pytree.treespec_loads(pytree.treespec_dumps(spec)) == spec
        with pytest.raises(ValueError, match="already registered"):
            pytree.register_pytree_node(Box, None, None)
        with pytest.raises(ValueError, match="flatten_with_keys_fn"):
            pytree.tree_leaves_with_path(Box(1))
    finally:
        pytree._deregister_pytree_node(Box)


DIFFERENT = [
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1]), r"Mismatched elements: 1 / 2 \(50.0%\)\nGreatest absolute .* at index \(1,\)"),
    (torch.ones(2), torch.ones(3), "'shape' do not match"), (torch.ones(2), torch.ones(2).long(), "'dtype' do not match"),
    (1.0, 1.1, "Scalars are not close!\n\nExpected 1.1 but got 1.0."), ([1.0, 2.0], [1.0, 2.5], r"failure occurred for item \[1\]"),
    ({"a": [torch.tensor(1.0)]}, {"a": [torch.tensor(2.0)]}, r"for item \['a'\]\[0\]"), ({"a": 1}, {"b": 1}, "keys of the mappings"),
    ([1], [1, 2], "length of the sequences"), (torch.tensor([True]), torch.tensor([False]), "not equal"), (None, 1, "None mismatch"),
    (torch.tensor(float("nan")), torch.tensor(float("nan")), "not close"), (True, False, "Booleans"), (1, 1.0, "types do not match"),
    (torch.tensor([1, 2]), torch.tensor([1, 3]), "not equal"),
]


@pytest.mark.parametrize("actual, expected, message", DIFFERENT)
def test_assert_close_tells_the_difference(actual, expected, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(actual, expected)
    assert_close(actual, actual, equal_nan=True)


def test_assert_close_options():
    assert_close(torch.tensor([1.0]), torch.tensor([1.05]), rtol=0.1, atol=0)
    assert_close(torch.ones(2), torch.ones(2).double(), check_dtype=False)
    with pytest.raises(AssertionError, match="^mine: Tensor-likes"):
        assert_close(torch.ones(2), torch.zeros(2), msg=lambda m: "mine: " + m)
    with pytest.raises(ValueError, match="got no atol"):
        assert_close(1.0, 1.0, rtol=1e-3)
    with pytest.raises(TypeError, match="No comparison pair"):
        assert_close(torch.ones(1), 1.0)
    with pytest.raises(AssertionError, match=r"stride\(\)"):
        assert_close(torch.ones(2, 3).T, torch.ones(3, 2), check_stride=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_make_tensor(dtype):
    x = make_tensor((5, 40), dtype=dtype, noncontiguous=True)
    assert x.shape == (5, 40) and x.dtype is dtype and not x.is_contiguous()
    y = make_tensor(5, 4, dtype=dtype, low=0, high=2, exclude_zero=True)
    assert y.is_contiguous() and bool((y != 0).all())
    if dtype.is_floating_point:
        assert float(x.min()) >= -9 and float(x.max()) < 9.1 and make_tensor(2, dtype=dtype, requires_grad=True).requires_grad
    with pytest.raises(ValueError):
        make_tensor(2, dtype=dtype, low=3, high=1)


@pytest.mark.oracle
def test_make_tensor_like_pytorch():
    theirs = pytest.importorskip("torch")
    for name in ("float32", "float64", "int64", "uint8", "bool", "complex64"):
        theirs.manual_seed(0)
        torch.manual_seed(0)
        expected = theirs.testing.make_tensor((3, 4), dtype=getattr(theirs, name), device="cpu")
        assert make_tensor((3, 4), dtype=getattr(torch, name), device="cpu").tolist() == expected.tolist(), name
