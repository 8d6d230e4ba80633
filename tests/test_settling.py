"""Values that are stored where a scatter would put them (graph/settling.py)."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import kernels

import antorcha as torch
from antorcha.base import config
from antorcha.explaining import Recorder
from antorcha.graph.settling import apart
from antorcha.loops.view import view

F = torch.nn.functional


def kinds(run) -> list:
    """The kinds of the kernels of what is computed."""
    return [kernel["kind"] for kernel in kernels(run)[1]]


def drawn(*shapes) -> list:
    torch.manual_seed(0)
    return [torch.randn(*shape) for shape in shapes]


def attention(batch: int, length: int, heads: int, width: int, dtype):
    """Gradients of a joint projection of queries, keys and values, and the same in float64 by operators one after the other."""
    x, w, out, g = drawn((batch, length, heads * width), (heads * width, 3 * heads * width), (heads * width, 8), (batch, length, 8))

    def gradient(d):
        weight = (w / 16).detach().to(d).requires_grad_()
        q, k, v = (part.reshape(batch, length, heads, -1).transpose(1, 2) for part in (x.to(d) @ weight).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, -1)
        (y @ out.to(d) * g.to(d)).sum().backward()
        return weight.grad

    found = []
    computed = kinds(lambda: found.append(gradient(dtype).to(torch.float64).numpy()))
    config.fuse = False
    try:
        return found[0], gradient(torch.float64).numpy(), computed
    finally:
        config.fuse = True


@pytest.mark.parametrize("length, chained", [(64, False), (150, True), (256, True)])
def test_gradients_of_attention_are_made_side_by_side(length, chained):
    found, expected, computed = attention(16, length, 4, 32, torch.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert "scatter" not in computed and ("chain" in computed) is chained


def test_heads_are_made_side_by_side():
    """Their values have one place in memory, where the derivative reads them, too."""
    x, out, g = drawn((16, 256, 384), (128, 128), (16, 256, 128))

    def gradient(d):
        leaf = x.detach().to(d).requires_grad_()
        q, k, v = (part.reshape(16, 256, 4, 32).transpose(1, 2) for part in leaf.chunk(3, -1))
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        (torch.tanh(heads.transpose(1, 2).reshape(16, 256, 128) @ out.to(d)) * g.to(d)).sum().backward()
        return leaf.grad

    with Recorder() as recorder:
        found = gradient(torch.float32).numpy()
    computed = [{op for _, op, *_ in kernel["nodes"]} for kernel in recorder.kernels()]
    assert [ops for ops in computed if "clone" in ops and "contraction" not in ops] == []
    expected = gradient(torch.float64).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_bits_of_them_do_not_depend_on_the_number_of_threads():
    found = []
    threads = torch.get_num_threads()
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        found.append(attention(16, 150, 4, 32, torch.float32)[0].tobytes())
    torch.set_num_threads(threads)
    assert len(set(found)) == 1


def test_products_are_joined_as_they_are_made():
    a, b, c = drawn((50, 40), (40, 30), (40, 70))
    found = []

    def run():
        found.append(torch.cat([a @ b, torch.tanh(a @ c), (a @ b) * 2], 1).numpy())

    assert "scatter" not in kinds(run)
    x, y, z = (t.numpy().astype(np.float64) for t in (a, b, c))
    np.testing.assert_allclose(found[0], np.concatenate([x @ y, np.tanh(x @ z), 2 * (x @ y)], 1), atol=1e-4)


def test_products_joined_with_what_is_no_product():
    """A scatter comes behind a product that writes beside it."""
    a, b, c = drawn((6, 40), (40, 30), (6, 50))
    for _ in range(2):
        p, q = a @ b, a.flip(1) @ b
        joined = torch.cat([p, c.flip(0), q, c.cumsum(1)], 1) * 2
        parts = [t.detach().numpy() for t in (a @ b, c.flip(0), a.flip(1) @ b, c.cumsum(1))]
        np.testing.assert_array_equal(joined.numpy(), np.concatenate(parts, 1) * 2)


def test_a_product_that_is_asked_for_is_kept():
    a, b = drawn((50, 40), (40, 30))
    product = a @ b
    joined = torch.cat([product, product + 1], 1)
    np.testing.assert_array_equal(joined.numpy()[:, :30], product.numpy())
    np.testing.assert_array_equal(joined.numpy()[:, 30:], product.numpy() + 1)


@pytest.mark.parametrize("first, second", [(slice(0, 30), slice(20, 50)), (slice(20, 50), slice(0, 30)), (slice(0, 25), slice(25, 50))])
def test_what_is_written_last_stays(first, second):
    a, b, c = drawn((40, 60), (60, 70), (60, 70))
    for begin in (torch.zeros, torch.ones, torch.empty):
        x = begin(40, 70)
        rows = begin(50, 40, 70)
        p, q = a @ b, a @ c
        rows[first] = p
        rows[second] = q
        x[:20], x[10:30] = p[:20], q[10:30]
        expected = rows.clone().numpy()
        np.testing.assert_array_equal(expected[second], np.broadcast_to(q.numpy(), expected[second].shape))
        np.testing.assert_array_equal(x.numpy()[:10], p.numpy()[:10])
        np.testing.assert_array_equal(x.numpy()[10:30], q.numpy()[10:30])


@pytest.mark.parametrize("begin", [torch.zeros, torch.ones])
def test_products_written_over_one_another(begin):
    a, b, c, d = drawn((40, 60), (60, 70), (60, 50), (30, 60))
    x = begin(100, 90)
    x[10:50, :70] = a @ b
    x[30:70, 40:] = torch.relu(a @ c)
    x[35:65, 5:55] = d @ c
    p, q, r = (t.numpy() for t in (a @ b, torch.relu(a @ c), d @ c))
    expected = begin(100, 90).numpy().copy()
    expected[10:50, :70] = p
    expected[30:70, 40:] = q
    expected[35:65, 5:55] = r
    np.testing.assert_array_equal(x.numpy(), expected)


def test_regions_that_are_apart():
    joint = (6 * 9, 9, 1)
    left, right = view((2, 6, 3), joint, 0), view((2, 6, 6), joint, 3)
    assert apart(left, right) and apart(right, left)
    assert not apart(left, view((2, 6, 6), joint, 2))
    assert not apart(left, view((2, 6, 9), joint, 3))       # it reaches into the next row
    assert not apart(left, view((2, 6, 3), (54, 1, 9), 3))
    assert apart(view((2, 2), (4, 2)), view((2, 2), (4, 2), 1))
