"""The tensor itself: views and in-place writes, autograd, indexing, errors, caches."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.runtime import jit


def numpy_of(t):
    return np.array(t.detach().tolist())


# -- views and in-place writes ----------------------------------------------------------------------------------

VIEWS = [
    (lambda x: x[1], lambda a: a[1]),
    (lambda x: x[:, 1:3], lambda a: a[:, 1:3]),
    (lambda x: x.t(), lambda a: a.T),
    (lambda x: x[::2, ::3], lambda a: a[::2, ::3]),
    (lambda x: x.view(-1)[5:15], lambda a: a.reshape(-1)[5:15]),
    (lambda x: x.unsqueeze(0).transpose(0, 2), lambda a: a[None].swapaxes(0, 2)),
    (lambda x: x.diagonal(), lambda a: np.lib.stride_tricks.as_strided(a, (4,), (a.strides[0] + a.strides[1],))),
]
WRITES = [
    (lambda v: v.add_(2), lambda a: np.add(a, 2, out=a)),
    (lambda v: v.mul_(v + 1), lambda a: np.multiply(a, a + 1, out=a)),
    (lambda v: v.zero_(), lambda a: a.fill(0)),
    (lambda v: v.copy_(torch.full(v.shape, 3.5)), lambda a: a.fill(3.5)),
    (lambda v: v.relu_(), lambda a: np.maximum(a, 0, out=a)),
    (lambda v: v.clamp_(-1, 1), lambda a: np.clip(a, -1, 1, out=a)),
]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, len(VIEWS) - 1), st.integers(0, len(WRITES) - 1)), max_size=6), st.booleans(), st.integers(0, 99))
def test_writes_through_views_reach_the_base(program, eager, seed):
    a = np.random.RandomState(seed).standard_normal((4, 6))
    x = torch.tensor(a, dtype=torch.float64)
    kept = x + 0
    before, config.eager = config.eager, eager
    try:
        for v, w in program:
            WRITES[w][0](VIEWS[v][0](x))
        other = a.copy()
        for v, w in program:
            WRITES[w][1](VIEWS[v][1](other))
        agree(numpy_of(x), other)
        np.testing.assert_array_equal(numpy_of(kept), a)
    finally:
        config.eager = before


def test_numpy_shares_memory_both_ways():
    a = np.zeros(4, np.float32)
    x = torch.from_numpy(a)
    y = x + 1
    a[0] = 7
    assert y.tolist() == [1, 1, 1, 1]
    x[1] = 5
    assert a.tolist() == [7, 5, 0, 0]
    b = torch.ones(3)
    n = b.numpy()
    b.mul_(2)
    assert n.tolist() == [2, 2, 2]
    assert b.data_ptr() == n.ctypes.data
    assert np.from_dlpack(b).ctypes.data == n.ctypes.data


def test_clone_is_independent():
    x = torch.arange(3.0)
    y = x.clone()
    x.add_(1)
    y.mul_(10)
    assert x.tolist() == [1, 2, 3] and y.tolist() == [0, 10, 20]


def test_strides_and_sharing():
    x = torch.arange(12).view(3, 4)
    assert x.t().stride() == (1, 4) and not x.t().is_contiguous()
    assert (x.t() + 1).stride() == (1, 4)
    assert x[1:].storage_offset() == 4
    with pytest.raises(RuntimeError, match="reshape"):
        x.t().view(-1)
    assert x.t().reshape(-1).tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


def test_deepcopy_and_pickle_keep_sharing_and_values():
    x = torch.randn(3, 3, requires_grad=True)
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y.requires_grad and torch.equal(x.detach(), y.detach()) and y.storage is not x.storage


# -- autograd ---------------------------------------------------------------------------------------------------

def test_backward_accumulates_and_frees():
    x = torch.tensor([2.0], requires_grad=True)
    y = x ** 3
    y.backward()
    assert x.grad.tolist() == [12.0]
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    z = x ** 3
    z.backward(retain_graph=True)
    z.backward()
    assert x.grad.tolist() == [36.0]


def test_in_place_history():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y[0] = 5.0
    y[1:].mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 6.0, 6.0]
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x.add_(1)
    w = torch.ones(2, requires_grad=True)
    v = w.exp()
    v.add_(1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        v.sum().backward()      # the derivative of exp needs its result


def test_saved_tensor_modified_in_place():
    a = torch.ones(2, requires_grad=True)
    b = a * 1
    c = b * b
    b.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        c.sum().backward()


def test_higher_order_and_hooks():
    x = torch.tensor(3.0, requires_grad=True)
    (g,) = torch.autograd.grad(x ** 3, x, create_graph=True)
    (h,) = torch.autograd.grad(g, x, create_graph=True)
    assert h.item() == 18.0
    seen = []
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: seen.append(g.item()) or g * 10)
    (y * 5).backward()
    assert seen == [5.0] and x.grad.item() == 100.0 and y.grad.item() == 50.0


def test_no_grad_and_detach():
    x = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert not (x * 2).requires_grad
    assert not x.detach().requires_grad and (x * 2).requires_grad


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.softmax(-1),
        lambda x: x.log_softmax(0),
        lambda x: x.logsumexp(1),
        lambda x: x.cumsum(1),
        lambda x: x.var(0),
        lambda x: x.std(),
        lambda x: x.prod(1),
        lambda x: x.max(1)[0],
        lambda x: x.amax(),
        lambda x: x.norm(),
        lambda x: x @ x.t(),
        lambda x: x[:, [0, 2, 0]],
        lambda x: x.gather(1, torch.tensor([[0, 1], [2, 2], [1, 0]])),
        lambda x: torch.cat([x, x * 2], 1),
        lambda x: x.tril(),
        lambda x: x.sort(1)[0],
        lambda x: x.topk(2)[0],
        lambda x: torch.einsum("ij,kj->ik", x, x),
        lambda x: x.unfold(1, 2, 1),
        lambda x: x.repeat(2, 1),
        lambda x: x.expand(2, 3, 4).sum(0),
        lambda x: torch.stack(x.unbind(1)),
        lambda x: x.split(2, 1)[0],
        lambda x: x.masked_fill(x > 0, 0.0),
        lambda x: x.scatter_add(1, torch.tensor([[0, 0], [1, 1], [2, 2]]), x[:, :2] * 3),
        lambda x: torch.nn.functional.layer_norm(x, (4,)),
        lambda x: torch.nn.functional.gelu(x),
        lambda x: x.flip(0).roll(1, 1),
        lambda x: torch.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None], is_causal=True),
        lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([0, 3, 1])),
        lambda x: x.permute(1, 0).contiguous().view(-1)[::2],
    ],
)
def test_derivatives_of_functions(function):
    x = torch.tensor(np.random.RandomState(1).standard_normal((3, 4)), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,))


# -- indexing against NumPy -------------------------------------------------------------------------------------

KEYS = [0, -1, slice(None, None, 2), (slice(1, 3), 0), (Ellipsis, 1), (None, 1), ([0, 2],), ([0, 2], [1, 1]), (slice(None), [2, 0]),
        ([[0], [1]], slice(None), [0, 1, 2]), (0, [1, 1], slice(1, None)), ([0, 1], slice(None), 1), (), ((0, 2), (1, 1)), (0, range(2))]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing(key):
    a = np.arange(60.0).reshape(3, 4, 5)
    x = torch.tensor(a)
    np.testing.assert_array_equal(numpy_of(x[key]), a[key])
    x[key] = -1.0
    a[key] = -1.0
    np.testing.assert_array_equal(numpy_of(x), a)


@pytest.mark.filterwarnings("ignore:A list of several indices")
def test_lists_as_indices():
    x = torch.arange(60).reshape(3, 4, 5)
    assert x[[0, 2]].shape == (2, 4, 5) and x[[]].shape == (0, 4, 5) and x[[[]]].shape == (0, 4, 5)
    for key in ([0, slice(1, 3)], [None, 0], [[0, 2], [1, 3]], [torch.tensor(1), torch.tensor([0, 2])], [Ellipsis, 1]):
        assert torch.equal(x[key], x[tuple(key)])
    with pytest.raises(IndexError, match="float"):
        x[0.5]
    with pytest.raises(IndexError, match="0-dim"):
        x[0, 0, 0][0]


def test_masks():
    a = np.arange(12.0).reshape(3, 4)
    x = torch.tensor(a)
    np.testing.assert_array_equal(numpy_of(x[x > 5]), a[a > 5])
    np.testing.assert_array_equal(numpy_of(x[x[:, 0] > 3]), a[a[:, 0] > 3])
    x[x > 5] = torch.arange(6.0)
    a[a > 5] = np.arange(6.0)
    np.testing.assert_array_equal(numpy_of(x), a)


# -- errors -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("call, kind, words", [
    (lambda: torch.nn.functional.linear(torch.ones(32, 28, 28), torch.ones(300, 784)), RuntimeError, "input.flatten\\(1\\)"),
    (lambda: torch.ones(2, 3) + torch.ones(4), RuntimeError, "must match the size"),
    (lambda: torch.ones(2, 3) @ torch.ones(2, 3), RuntimeError, "cannot be multiplied"),
    (lambda: torch.ones(3)[5], IndexError, "out of bounds"),
    (lambda: torch.ones(2, 3).view(4), RuntimeError, "invalid for input of size"),
    (lambda: torch.sin(3), TypeError, "must be Tensor"),
    (lambda: torch.ones(3).sum(4), IndexError, "Dimension out of range"),
    (lambda: torch.ones(3).add_(torch.ones(2, 3)), RuntimeError, "doesn't match the broadcast shape"),
    (lambda: torch.arange(3).add_(0.5), RuntimeError, "can't be cast"),
    (lambda: torch.arange(3).requires_grad_(), RuntimeError, "floating point"),
    (lambda: bool(torch.ones(2)), RuntimeError, "ambiguous"),
    (lambda: torch.zeros(2, device="cuda"), RuntimeError, "CPU"),
    (lambda: torch.tensor([[1, 2], [3]]), ValueError, "expected sequence of length"),
])
def test_errors_say_what_to_do(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def test_a_late_index_error_names_operator_and_line():
    table = torch.ones(3, 2)
    out = torch.nn.functional.embedding(torch.tensor([0.0, 2.5]).mul(2).long(), table)     # made of floats: not looked at in advance
    with pytest.raises(IndexError, match="test_core.py"):
        out.tolist()


# -- caches -----------------------------------------------------------------------------------------------------

def _train(sizes):
    torch.manual_seed(0)
    embedding, layer = torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11)
    optimizer = torch.optim.AdamW([*embedding.parameters(), *layer.parameters()])
    for batch, length in sizes:
        x = torch.randint(0, 11, (batch, length))
        loss = torch.nn.functional.cross_entropy(layer(torch.nn.functional.gelu(embedding(x))).view(-1, 11), x.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        float(loss)


def test_new_sizes_compile_nothing(settled):
    _train([(2, 5), (3, 7), (4, 9)])
    before = jit.counters.compiled + jit.counters.loaded
    _train([(5, 6), (7, 3), (9, 11), (2, 13), (6, 8)])
    assert jit.counters.compiled + jit.counters.loaded == before


def test_sums_of_ever_more_parts_share_their_kernels(settled):
    def total(count):
        parts = [torch.full((5, 7), float(k)).sum(1) for k in range(count)]
        return sum(parts[1:], parts[0]).tolist()

    for count in (*range(2, 40), 61, 90):
        total(count)
    before = jit.counters.compiled + jit.counters.loaded
    for count in (40, 53, 77):
        assert total(count) == [7.0 * count * (count - 1) / 2] * 5
    assert jit.counters.compiled + jit.counters.loaded == before


def test_a_second_process_compiles_nothing(tmp_path):
    script = ("import antorcha as torch; from antorcha.runtime import jit; torch.manual_seed(0)\n"
              "x = torch.randn(5, 7, requires_grad=True); y = (x @ x.t()).softmax(-1).log().sum(); y.backward(); x.grad.tolist()\n"
              "print(jit.counters.compiled)")
    environment = {**os.environ, "ANTORCHA_CACHE": str(tmp_path)}
    counts = [int(subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True).stdout)
              for _ in range(2)]
    assert counts[0] > 0 and counts[1] == 0


def test_a_power_of_a_half_is_the_root_and_has_its_derivative():
    x = torch.tensor([4.0, 9.0], requires_grad=True)
    y = x ** 0.5
    y.sum().backward()
    assert y.tolist() == [2.0, 3.0] and x.grad.tolist() == pytest.approx([0.25, 1 / 6])


@pytest.mark.parametrize("exponent", [1, 2, 3, 0.5, -1, -2, -0.5])
def test_powers_of_common_exponents_and_their_derivatives_are_made_of_products_and_roots(exponent):
    from antorcha.graph import flush

    x = torch.tensor([0.5, 1.5, 4.0], requires_grad=True)
    y = x ** exponent
    y.sum().backward()
    assert y.tolist() == pytest.approx((x.detach().numpy() ** exponent).tolist())
    kernels = flush.last().kernels()
    assert x.grad.tolist() == pytest.approx((exponent * x.detach().numpy() ** (exponent - 1)).tolist())
    if exponent in (2, 3, -1):
        assert not any(node[1] == "pow" for kernel in kernels + flush.last().kernels() for node in kernel["nodes"])


def test_a_tensor_overwritten_with_constants_goes_on_requiring_grad():
    for change in (
        lambda u: u.fill_(2.0),
        lambda u: u.zero_(),
        lambda u: u.copy_(torch.ones(2)),
        lambda u: u.__setitem__(slice(None), 3.0),
    ):
        x = torch.ones(2, requires_grad=True)
        u = x * 2
        change(u)
        assert u.requires_grad and u.grad_fn is not None
        (u * 5).sum().backward()
        assert x.grad.tolist() == [0.0, 0.0]


def test_attributes_of_programs_beside_those_of_tensors():
    x = torch.ones(2)
    assert not hasattr(x, "meta")
    x.meta = {"affine": 1}
    assert (x + 1).tolist() == [2, 2] and x.meta == {"affine": 1}


@pytest.mark.parametrize("data, dtype, expected", [
    ([[1, 2.0], [3, 4]], torch.float32, [[1.0, 2.0], [3.0, 4.0]]),
    ([[True, False], [2, 3]], torch.int64, [[1, 0], [2, 3]]),
    (((True,), [False]), torch.bool, [[True], [False]]),
    ([[], []], torch.float32, [[], []]),
    ([[[1]], [[2]]], torch.int64, [[[1]], [[2]]]),
    ([[np.float64(1.5)], [2]], torch.float64, [[1.5], [2.0]]),
    ([[torch.tensor(1.5)], [2]], torch.float32, [[1.5], [2.0]]),
    ([[1j]], torch.complex64, [[1j]]),
])
def test_tensors_of_nested_lists(data, dtype, expected):
    x = torch.tensor(data)
    assert x.dtype is dtype and x.tolist() == expected


def test_a_tensor_has_a_copy_of_what_it_is_made_of():
    for n in (3, 4000):
        a = np.arange(float(n))
        x = torch.tensor(a)
        a[:] = 0
        assert x[-1].item() == n - 1 and x.stride() == (1,)
    assert torch.tensor(np.arange(6.0).reshape(2, 3).T).tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_lists_of_different_lengths_are_no_tensor():
    for data in ([[1, 2], [3]], [[1], []], [[[1]], [[1, 2]]]):
        with pytest.raises(ValueError, match="expected sequence of length"):
            torch.tensor(data)


@pytest.mark.parametrize("join", [lambda x: torch.cat([x]), lambda x: torch.cat([x, torch.empty(0)], 1),
                                  lambda x: torch.stack([x], 1)[:, 0], lambda x: torch.cat([torch.empty(2, 0), x], 1)])
def test_one_tensor_joined_is_a_copy(join):
    for times in range(6):
        x = torch.arange(6.0).reshape(2, 3) + times
        w = x.clone().requires_grad_()
        y, z = join(x), join(w)
        y.add_(1.0)
        x.mul_(2.0)
        (z * z).sum().backward()
        kept = np.arange(6.0).reshape(2, 3) + times
        np.testing.assert_array_equal(y.numpy(), kept + 1)
        np.testing.assert_array_equal(x.numpy(), kept * 2)
        np.testing.assert_array_equal(w.grad.numpy(), kept * 2)
    a = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    shared = join(torch.from_numpy(a))
    a[:] = 0
    assert shared.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    for t in (torch.arange(6.0).reshape(3, 2).t(), torch.ones(2, 1).expand(2, 3), torch.arange(12.0).reshape(2, 6)[:, ::2]):
        assert join(t).tolist() == t.tolist() and join(t).is_contiguous()


def test_one_tensor_joined_takes_the_dtype_of_all():
    x = torch.cat([torch.arange(3), torch.empty(0)])
    assert x.dtype is torch.float32 and x.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("data, dtype", [
    ([np.uint8(1), np.uint8(2)], "uint8"), ([np.float32(1), 2.0], "float32"), ([2.0, np.float64(1)], "float64"),
    ([1, np.float64(2.5)], "float64"),
    ([np.float32(1), np.int64(2)], "float32"), ([np.int32(1), 2], "int64"), ([[np.float16(1)], [np.float16(2)]], "float16"),
    ([np.complex64(1j), 1.0], "complex64"), ([np.bool_(True), np.bool_(False)], "bool")])
def test_numbers_of_numpys_in_lists_count_by_their_dtypes(data, dtype):
    x = torch.tensor(data)
    assert x.dtype is getattr(torch, dtype) and x.tolist() == np.array(data).tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_layout_are_shared_where_they_lie(order):
    array = np.asarray(np.arange(24.0, dtype=np.float32).reshape(4, 6), order=order)
    for part in (array, array[1:], array[:, 2:4], array[::2, ::3], array[2], array[1, 1:2].reshape(())):
        t = torch.from_numpy(part)
        assert t.data_ptr() == part.__array_interface__["data"][0]
        np.testing.assert_array_equal(t.numpy(), part)
        t.add_(1)
        np.testing.assert_array_equal(t.numpy(), part)
    assert torch.from_numpy(array[:0]).shape == (0, 6)


def test_numbers_and_lists_have_the_dtypes_of_what_is_in_them():
    for data, d in ((True, torch.bool), (2, torch.int64), (2.5, torch.float32), ([1, 2.5], torch.float32), ((True, 2), torch.int64),
                    ([[True], [False]], torch.bool), ([2 ** 62, 1], torch.int64), ([], torch.float32), ([[1, 2], [3, 4.5]], torch.float32)):
        t = torch.tensor(data)
        assert t.dtype is d and t.tolist() == (list(data) if isinstance(data, tuple) else data)
    assert torch.tensor([0.1, 2], dtype=torch.float64).tolist() == [0.1, 2.0]
    assert torch.tensor([1.5, 2], dtype=torch.int64).tolist() == [1, 2] and torch.tensor(7, dtype=torch.int8).item() == 7
    with pytest.raises(ValueError):
        torch.tensor([1, 2 ** 70])
    with pytest.raises((RuntimeError, ValueError)):
        torch.tensor([300, 1], dtype=torch.int8)
    array = np.arange(3.0)
    t = torch.tensor(array)
    array[0] = 5.0
    assert t.dtype is torch.float64 and t.tolist() == [0.0, 1.0, 2.0]


def test_a_tensor_has_as_many_views_as_it_has_rows():
    """Going through the references to those that live for each new one would take a time that grows with the square of their number."""
    t = torch.zeros(5000)
    rows = list(t)
    gone = sum([len(t[k:]) for k in range(2000)])
    assert gone == sum(range(3001, 5001)) and len(t._views) < 12000
    t += 1
    assert rows[-1].item() == 1


def test_integers_in_memory_are_indices_as_numbers_are():
    x = torch.arange(12.0).reshape(3, 4).requires_grad_()
    i, j = torch.tensor(2), torch.tensor(-1)
    y = x[i, j] + x[i].sum() + x[j, 1:3].sum() + x[i + 0].sum()
    assert type(x[i].grad_fn).__name__ == "SelectBackward0"
    y.backward()
    assert x.grad.tolist() == [[0] * 4, [0] * 4, [2, 3, 3, 3]] and y.item() == 11 + 38 + 19 + 38
    for wrong in (lambda: x[torch.tensor(3)], lambda: x[i, torch.tensor(4)], lambda: torch.tensor(1.0)[i]):
        with pytest.raises(IndexError):
            wrong()
    assert x[torch.tensor(1, dtype=torch.uint8)].shape == (1, 3, 4)      # a mask


@pytest.mark.parametrize("d", [torch.float32, torch.float64, torch.int64, torch.bool, torch.float16, torch.int32])
def test_elements_are_written_one_by_one(d):
    """At once or recorded, with the same result as NumPy's, whoever else looks at the tensor."""
    rng = np.random.default_rng(0)
    t, expected = torch.zeros(4, 5, dtype=d), np.zeros((4, 5), str(d).removeprefix("torch.").removesuffix("_"))
    turned, kept = t.T, None
    for step in range(200):
        i, j, value = int(rng.integers(-4, 4)), int(rng.integers(-5, 5)), int(rng.integers(0, 9))
        kind = step % 7
        if kind == 0:
            t[i, j] = value
            expected[i, j] = value
        elif kind == 1:
            turned[j, i] = float(value) if d.is_floating_point else value
            expected[i, j] = value
        elif kind == 2:
            t[torch.tensor(i), j] = torch.tensor(value, dtype=d)
            expected[i, j] = value
        elif kind == 3 and d is not torch.bool:
            t[i, j] += value
            expected[i, j] += value
        elif kind == 4:
            t[i] = 0
            expected[i] = 0
        elif kind == 5 and d is not torch.bool:
            t[i, j:] *= 2
            expected[i, j:] *= 2
        elif kind == 6:
            if kept is not None:
                np.testing.assert_array_equal(kept[0].numpy(), kept[1])
            kept = t.clone() if step % 2 else t + t, expected.copy() if step % 2 else expected + expected
    np.testing.assert_array_equal(t.numpy(), expected)


def test_numbers_onto_one_element():
    """Computed at once in Python where the value is in memory: the same bits as NumPy's, and nothing that a kernel would not do."""
    rng = np.random.default_rng(1)
    for dtype in (np.float32, np.float64):
        values = np.concatenate([rng.normal(size=60), 10.0 ** rng.uniform(-44, 38, 60), [0.0, -0.0, np.inf, np.nan]]).astype(dtype)
        x, y = torch.tensor(values[0]), values[0]
        for k, v in enumerate(values[1:]):
            number = float(v) if k % 2 else torch.tensor(v)
            with np.errstate(all="ignore"):
                if k % 4 == 0:
                    x += number
                    y = y + v
                elif k % 4 == 1:
                    x.sub_(number)
                    y = y - v
                elif k % 4 == 2:
                    x *= number
                    y = y * v
                elif v:
                    x /= number
                    y = y / v
                if not np.isfinite(y) or k % 8 == 7:
                    x, y = torch.tensor(v), v
            assert np.array_equal(x.numpy().copy(), y, equal_nan=True), (k, x, y)
    x = torch.tensor(2 ** 63 - 1)
    x += 1
    assert x.item() == -2 ** 63
    x = torch.tensor(1.0)
    x /= 0
    assert x.item() == float("inf")
    with pytest.raises(RuntimeError):
        torch.tensor(1).add_(0.5)
    with pytest.raises(RuntimeError):
        torch.tensor(1).div_(2)
    version = x._version
    x += 1
    assert x._version == version + 1
    w = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        w += 1
    z = w * w
    z *= 3
    z.backward()
    assert w.grad.item() == 6
    other = x.expand(3)
    x += other[0]
    assert x.item() == float("inf")


@pytest.mark.parametrize("d", [torch.float32, torch.int64, torch.bool, torch.float16])
def test_masks_choose_the_elements_numpy_chooses(d):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2 if d is torch.bool else 9, (4, 5, 3))
    t = torch.tensor(array.tolist()).to(d)
    array = np.array(t.tolist())
    for x, a in ((t, array), (t.permute(2, 0, 1), array.transpose(2, 0, 1)), (t[:, 1:4], array[:, 1:4]), (t + t, array + array),
                 (t[1], array[1]), (t.expand(2, 4, 5, 3), np.broadcast_to(array, (2, 4, 5, 3)))):
        for rank in range(1, x.dim() + 1):
            flags = rng.random(a.shape[:rank]) < 0.4
            for mask in (torch.tensor(flags.tolist()), torch.tensor(flags.astype(np.float32).tolist()) > 0.5):
                found = x[mask]
                assert found.dtype is d and found.is_contiguous() and found.tolist() == a[flags].tolist()
    before = t.tolist()
    chosen = t[torch.ones(4, 5, 3) > 0]
    chosen[:] = 1
    assert t.tolist() == before
    for wrong in (torch.ones(5) > 0, torch.ones(4, 5, 3, 1) > 0):
        with pytest.raises(IndexError):
            t[wrong]
    assert t[torch.tensor(True)].shape == (1, 4, 5, 3) and t[torch.tensor(False)].shape == (0, 4, 5, 3)
    assert t[torch.zeros(4) > 0].shape == (0, 5, 3)


def test_a_slice_whose_elements_share_memory_is_not_written_to():
    x = torch.zeros(1).expand(3)
    for key in (slice(None), ..., slice(0, 2)):
        with pytest.raises(RuntimeError, match="single memory location"):
            x[key] = 1.0
    x[0] = 2.0
    x[1:2] = 3.0
    assert x.tolist() == [3.0] * 3 and x.fill_(4.0).tolist() == [4.0] * 3


def test_memory_is_written_at_once_only_where_nobody_else_reads_it():
    from antorcha.core import at_once

    def alone():
        return at_once._writable(t, t._meta.view) is not None

    t = torch.zeros(4)
    t[0] = 1.0
    assert alone()
    for of in (lambda: t.storage.node, lambda: t.storage.node.buffer, t.clone, lambda: t + 1):
        other = of()
        assert not alone()
        t[1] += 2.0
        t[2] = 3.0
        del other
        t.sum().item()
        assert alone()
    assert t.tolist() == [1.0, 8.0, 3.0, 0.0]


@pytest.mark.parametrize("write", [
    lambda x, mask: x.__setitem__(mask, 9.0), lambda x, mask: x.masked_fill_(mask, 9.0),
    lambda x, mask: x.index_put_(mask.nonzero(as_tuple=True), torch.tensor(9.0))], ids=["setitem", "masked_fill_", "index_put_"])
def test_elements_that_share_memory_get_what_is_written_to_any_of_them(write):
    rng = np.random.default_rng(0)
    for shape, whole in (((1, 3), (4, 3)), ((2, 1), (2, 5)), ((1,), (6,)), ((2, 1, 3), (2, 4, 3)), ((1, 1), (3, 2)), ((3,), (0, 3))):
        for values in (rng.normal(size=shape).astype(np.float32), np.full(shape, np.nan, np.float32)):
            mask = rng.random(whole) < 0.3
            base = torch.tensor(values.tolist())
            write(base.expand(*whole), torch.tensor(mask.tolist(), dtype=torch.bool).reshape(whole))
            several = tuple([d for d in range(len(whole)) if d < len(whole) - len(shape) or shape[d - len(whole)] < whole[d]])
            touched = mask.any(several).reshape(shape)
            np.testing.assert_array_equal(np.array(base.tolist(), np.float32), np.where(touched, np.float32(9), values))
    x = torch.ones(1).expand(3, 3)
    assert x.tril_().tolist() == [[0.0] * 3] * 3
