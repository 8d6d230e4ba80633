"""What products leave out above a diagonal: causal attention, forwards and backwards."""

from __future__ import annotations

import math

import numpy as np
import pytest
from recorded import kernels

import antorcha as torch
from antorcha.base import config
from antorcha.loops.ir import triangular
from antorcha.runtime import flight
from antorcha.targets import microkernel

F = torch.nn.functional


def leaves(*shapes) -> list:
    torch.manual_seed(0)
    return [torch.randn(*shape).requires_grad_() for shape in shapes]


def explicit(q, k, v):
    """Attention under a mask of numbers, of which nothing is known beforehand."""
    mask = torch.tensor(np.triu(np.full((q.shape[-2], k.shape[-2]), -np.inf, np.float32), 1))
    return torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + mask, -1) @ v


def programs(run) -> list:
    """The contractions of what is computed, in order."""
    found = []
    for kernel in kernels(run)[1]:
        program = kernel["program"]
        parts = [c.program for c in program.call.calls()] if hasattr(program, "call") else [program]
        found += [p.body[0].attr for p in parts if p is not None and p.body[0].kind == "contract"]
    return found


@pytest.mark.parametrize("batch, heads, queries, keys, width", [(1, 1, 2, 2, 3), (3, 2, 61, 61, 16), (2, 2, 37, 67, 8), (2, 3, 67, 37, 8),
                                                                (8, 8, 256, 256, 32)])
def test_causal_attention_is_attention_under_a_mask(batch, heads, queries, keys, width):
    shapes = (batch, heads, queries, width), (batch, heads, keys, width), (batch, heads, keys, width)
    found = []
    for attention in (explicit, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)):
        q, k, v = leaves(*shapes)
        y = attention(q, k, v)
        (y * torch.linspace(-1, 1, width)).sum().backward()
        found.append([x.detach().numpy() for x in (y, q.grad, k.grad, v.grad)])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("dtype, rounding", [(torch.bfloat16, 1e-2), (torch.float16, 2e-3), (torch.float64, 1e-6)])
def test_causal_attention_of_other_numbers(dtype, rounding):
    given = [x.detach().to(dtype) for x in leaves(*[(2, 2, 150, 40)] * 3)]
    found = []
    for attention, d in ((explicit, torch.float64), (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), dtype)):
        q, k, v = (x.to(d).requires_grad_() for x in given)
        y = attention(q, k, v)
        y.to(torch.float64).square().sum().backward()
        found.append([x.detach().to(torch.float64).numpy() for x in (y, q.grad, k.grad, v.grad)])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, atol=rounding * np.abs(a).max())


@pytest.mark.parametrize("shape", [(2, 3, 40, 16), (16, 8, 256, 32)])      # by itself, and in chains
def test_no_product_of_causal_attention_is_computed_whole(shape):
    def run():
        q, k, v = leaves(shape, shape, shape)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        (y * y).sum().backward()
        q.grad.sum().item(), k.grad.sum().item(), v.grad.sum().item()

    found = programs(run)
    scores = (("n", "m"),)
    assert sorted(c.within for c in found) == sorted([scores, scores, (("k", "m"),), (("k", "m"),), (("m", "k"),), (("m", "k"),)])


def test_what_is_asked_for_is_computed():
    def run():
        x, y = leaves((4, 50, 8), (4, 50, 8))
        scores = x @ y.transpose(-2, -1)
        hidden = torch.nn.functional.attention.shown(scores, torch.ones(50, 50).tril() > 0)     # nothing is known of this mask
        assert scores.isfinite().all().item() and hidden.isinf().any().item()

    assert [c.within for c in programs(run)] == [()]


def test_scores_that_are_read_beside_the_mask_are_computed_whole():
    from antorcha.nn.functional.attention import shown
    from antorcha.ops.factory import tril_mask

    x, y, z = leaves((4, 50, 8), (4, 50, 8), (4, 50, 8))
    found = []

    def run():
        scores = x @ y.transpose(-2, -1)
        weights = torch.exp(shown(scores, tril_mask(50, 50)))
        found.extend([(scores * 2).sum().item(), (weights @ z).detach().numpy()])

    within = [c.within for c in programs(run)]
    assert () in within and (("n", "m"),) not in within
    a, b, c = (t.detach().numpy().astype(np.float64) for t in (x, y, z))
    scores = a @ b.transpose(0, 2, 1)
    np.testing.assert_allclose(found[0], 2 * scores.sum(), rtol=1e-4)
    np.testing.assert_allclose(found[1], (np.exp(scores) * np.tri(50)) @ c, rtol=1e-3, atol=1e-3)


# -- what is not even computed ----------------------------------------------------------------------------------

def poison() -> None:
    """NaN in all memory that plans use for what lies between."""
    from antorcha.loops import plan
    from antorcha.runtime import pool
    from antorcha.runtime.buffer import memory

    flight.finish()
    if plan._arena is not None:
        memory(plan._arena.address, plan._arena.nbytes // 4, np.dtype(np.float32))[:] = np.nan
    for address, nbytes in pool._pool._scratch if pool._pool else ():
        memory(address, nbytes // 4, np.dtype(np.float32))[:] = np.nan


def attended(attention, shapes, d) -> list:
    q, k, v = (x.detach().to(d).requires_grad_() for x in leaves(*shapes))
    y = attention(q, k, v)
    (y.to(torch.float32) * torch.linspace(-1, 1, shapes[2][-1])).sum().backward()
    found = [y.detach(), q.grad, k.grad, v.grad]
    poison()
    return [x.to(torch.float64).numpy() for x in found]


@pytest.mark.parametrize("dtype, rounding", [(torch.float32, 2e-5), (torch.float64, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("batch, heads, queries, keys, width", [
    (1, 2, 128, 128, 8), (2, 2, 200, 200, 16), (1, 2, 150, 290, 16), (1, 2, 290, 150, 16), (8, 8, 256, 256, 32), (1, 2, 512, 512, 64)])
def test_what_nobody_reads_may_be_anything(batch, heads, queries, keys, width, dtype, rounding):
    shapes = (batch, heads, queries, width), (batch, heads, keys, width), (batch, heads, keys, width)
    expected = attended(explicit, shapes, torch.float64)
    for _ in range(2):
        found = attended(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), shapes, dtype)
        for a, b in zip(expected, found):
            np.testing.assert_allclose(a, b, atol=rounding * np.abs(a).max())


def test_the_interpreter_takes_nothing_from_there(monkeypatch):
    monkeypatch.setattr(config, "target", "interp")
    shapes = ((2, 2, 150, 16),) * 3
    expected = attended(explicit, shapes, torch.float32)
    for _ in range(2):
        found = attended(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), shapes, torch.float32)
        for a, b in zip(expected, found):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_rows_of_causal_attention_end_beyond_the_diagonal():
    def run():
        q, k, v = leaves(*[(8, 8, 256, 32)] * 3)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        (y * y).sum().backward()
        q.grad.sum().item(), k.grad.sum().item(), v.grad.sum().item()

    found = programs(run)
    assert [c.beyond is not None for c in found] == [c.within == (("n", "m"),) for c in found]
    sides = [triangular(c.within) for c in found]
    assert [c.rows for c in found if triangular(c.within)] == [*map("".join, filter(None, sides))]     # the low side of a register tile
    rows = microkernel.shape(torch.float32).mr
    assert {c.beyond for c in found if c.beyond is not None} == {rows - 1}


def test_weights_that_are_asked_for_are_computed_whole():
    from antorcha.nn.functional.attention import shown
    from antorcha.ops.factory import tril_mask

    found = []

    def run():
        x, y, z = leaves((4, 150, 8), (4, 150, 8), (4, 150, 8))
        scores = shown(x @ y.transpose(-2, -1), tril_mask(150, 150))
        weights = torch.softmax(scores, -1)
        mixed = weights @ z
        mixed.sum().item()
        poison()
        found.append(weights.detach().numpy())

    assert all(c.beyond is None for c in programs(run))
    assert (found[0] == np.tril(found[0])).all() and np.allclose(found[0].sum(-1), 1)


def test_a_sum_over_the_other_dimension_reads_all_rows():
    """The sums of columns are not those of rows that end at the diagonal."""
    from antorcha.nn.functional.attention import shown
    from antorcha.ops.factory import tril_mask

    x, y, z = (t.detach() for t in leaves((4, 150, 8), (4, 150, 8), (4, 150, 8)))
    for _ in range(2):
        weights = torch.exp(shown(x @ y.transpose(-2, -1), tril_mask(150, 150)))
        mixed, columns, rows = weights @ z, weights.sum(-2), weights.sum(-1)
        total = [t.numpy() + 0 for t in (mixed, columns, rows)]
        poison()
    a, b, c = (t.numpy().astype(np.float64) for t in (x, y, z))
    w = np.exp(a @ b.transpose(0, 2, 1)) * np.tri(150)
    for one, other in zip(total, (w @ c, w.sum(-2), w.sum(-1))):
        np.testing.assert_allclose(one, other, rtol=1e-3)
