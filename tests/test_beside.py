"""Reductions of few elements: neighbouring rows lie side by side in a vector, and each element of theirs is written by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import program_text
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.nn import functional as F

COMBINED = {"sum": np.sum, "amax": np.max, "amin": np.min, "prod": np.prod}


def whole(shape, dtype) -> torch.Tensor:
    """Small whole numbers in memory of our own: whatever the order, results are exact."""
    x = torch.from_numpy(np.random.default_rng(len(shape)).integers(-2, 3, shape)).to(dtype) + 0
    x.sum().item()
    return x


def windows(x: np.ndarray, size: tuple, step: tuple) -> np.ndarray:
    seen = np.lib.stride_tricks.sliding_window_view(x, size, (-2, -1))
    return seen[..., ::step[0], ::step[1], :, :]


@given(st.sampled_from(sorted(COMBINED)), st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.uint8]),
       st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 40)), st.tuples(st.integers(1, 4), st.integers(1, 5)),
       st.tuples(st.integers(1, 3), st.integers(1, 5)), st.sampled_from(["llvm", "interp"]))
def test_windows(combine, dtype, shape, size, step, target):
    """Of any sizes and steps: whichever form they are written in."""
    size = tuple(min(s, n) for s, n in zip(size, shape[1:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "target", target)
        x = whole(shape, dtype)
        if dtype is torch.uint8 or combine == "prod":
            x = x.clamp(0, 2)
        seen = x.unfold(1, size[0], step[0]).unfold(2, size[1], step[1])
        flat = seen if combine != "prod" else seen.flatten(-2)
        found = getattr(flat, combine)(-1 if combine == "prod" else (-2, -1)) + 1
        right = COMBINED[combine](windows((x + 0).double().numpy(), size, step), axis=(-2, -1)) + 1
        if combine != "prod" or np.abs(right).max() < 128:
            np.testing.assert_array_equal((found + 0).double().numpy(), right)


def test_no_loop_is_left_over_the_elements():
    x = whole((4, 6, 50), torch.float32)

    def count(size):
        text = program_text(lambda: x.unfold(2, size, 1).mul(2).sum(-1))
        return sum(text.count(f"{kind} ") for kind in ("whole", "short", "vector", "serial"))

    assert count(5) < count(40)


def test_two_sums_of_the_same_windows_and_what_is_made_of_them():
    x = whole((5, 7, 30), torch.float32)
    seen = x.unfold(1, 3, 2).unfold(2, 3, 1)
    total, squares = seen.sum((-2, -1)), seen.square().sum((-2, -1))
    found = (squares - total.square() / 9).tolist()
    w = windows(x.numpy(), (3, 3), (2, 1)).astype(np.float64)
    agree(found, np.square(w).sum((-2, -1)) - np.square(w.sum((-2, -1))) / 9)


@pytest.mark.parametrize("length, stride", [(5, 1), (24, 1), (25, 2), (33, 3), (18, 6)])
def test_convolutions_by_depth(length, stride):
    """And their derivatives: the input's is a convolution by depth, too, the weight's a sum over places."""
    x, w = whole((3, 8, length, length), torch.float32).requires_grad_(), whole((8, 1, 3, 3), torch.float32).requires_grad_()
    y = F.conv2d(x, w, None, stride, 1, 1, 8)
    g = whole(tuple(y.shape), torch.float32)
    y.backward(g)
    padded = np.pad(x.detach().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = windows(padded, (3, 3), (stride, stride))
    np.testing.assert_array_equal(y.detach().numpy(), np.einsum("ncpqij,cij->ncpq", seen, w.detach().numpy()[:, 0]))
    np.testing.assert_array_equal(w.grad.numpy()[:, 0], np.einsum("ncpqij,ncpq->cij", seen, g.numpy()))
    back = np.zeros_like(padded)
    for i in range(3):
        for j in range(3):
            part = back[:, :, i:i + stride * y.shape[2]:stride, j:j + stride * y.shape[3]:stride]
            part += np.einsum("ncpq,c->ncpq", g.numpy(), w.detach().numpy()[:, 0, i, j])
    np.testing.assert_array_equal(x.grad.numpy(), back[:, :, 1:-1, 1:-1])


# -- a few that alternate ---------------------------------------------------------------------------------------

@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(2, 5),
       st.sampled_from(["float32", "float64", "int64", "uint8", "bool"]), st.booleans())
def test_channels_that_come_last(shape, few, dtype, turned):
    """Copied, computed, and read back, with a row that is the same for all channels and another that is the same for all places."""
    x = whole((few, *shape), torch.float32).to(getattr(torch, dtype))
    y = x.movedim(0, -1)
    y = y.flip(-2) if turned else y
    a = np.moveaxis((x + 0).numpy(), 0, -1)
    a = a[..., ::-1, :] if turned else a
    np.testing.assert_array_equal(y.contiguous().numpy(), a)
    row, column = torch.arange(few), torch.arange(shape[-1])[:, None]
    np.testing.assert_array_equal((y.to(torch.int64) * row - column).numpy(), a.astype(np.int64) * row.numpy() - column.numpy())
    np.testing.assert_array_equal(y.contiguous().clone().movedim(-1, 0).contiguous().numpy(), np.moveaxis(a, -1, 0))


@pytest.mark.skipif(config.target == "interp", reason="looks at loops")
def test_no_loop_is_left_over_the_few():
    for few in (2, 3, 4):
        y = whole((few, 100, 100), torch.float32).movedim(0, -1)
        text = program_text(y.contiguous)
        assert text.count("store") == few and "short" not in text and text.count("whole") + text.count("vector") == 1
