"""Convolutions by fewer multiplications: what direct sums in float64 come to, whatever the shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.ops import convolution, recurrence, winograd
from antorcha.ops.windows import windows
from antorcha.runtime import pool

F = torch.nn.functional


def everywhere(monkeypatch, fewest: int = 1) -> None:
    """Take these also where it does not pay."""
    for name in ("ONCE", "AGAIN", "NARROW", "OF_SUMS"):
        monkeypatch.setattr(winograd, name, 0)
    monkeypatch.setattr(winograd.pays, "__defaults__", (0,))
    monkeypatch.setattr(winograd, "PARTS", (1, 256))
    monkeypatch.setattr(winograd, "FEWEST", fewest)
    monkeypatch.setattr(winograd, "NEW", 1 << 20)
    monkeypatch.setattr(winograd, "_met", {})


@pytest.fixture
def taken(monkeypatch):
    """The functions of this module that were called."""
    found = []
    for name in ("convolve", "weigh"):
        plain = getattr(winograd, name)
        monkeypatch.setattr(winograd, name, lambda *given, plain=plain, name=name: found.append(name) or plain(*given))
    return found


def direct(x, w, padding, g) -> list[np.ndarray]:
    """The convolution in float64 and its derivatives."""
    x, w = (t.detach().double().requires_grad_() for t in (x, w))
    y = F.conv2d(x, w, padding=padding)
    return [t.detach().numpy() for t in (y, *torch.autograd.grad(y, (x, w), g.double()))]


CASES = [       # samples, channels, results, height, width, padding
    (4, 64, 64, 32, 32, 1),
    (8, 64, 96, 13, 11, 1),
    (4, 128, 67, 9, 16, 0),
    (6, 70, 128, 12, 12, 2),
    (16, 128, 128, 4, 4, 1),
    (16, 256, 256, 7, 7, 1),
    (1, 64, 80, 48, 50, 1),     # in bands of lines
    (2, 80, 64, 22, 81, 0),
    (3, 96, 256, 10, 10, 1),    # by channels
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("eager", (False, True))
def test_many_channels(case, eager, taken, monkeypatch):
    n, channels, results, height, width, padding = case
    everywhere(monkeypatch)
    torch.manual_seed(0)
    x = torch.randn(n, channels, height, width, requires_grad=True)
    w = torch.randn(results, channels, 3, 3, requires_grad=True)
    g = torch.randn(n, results, height + 2 * padding - 2, width + 2 * padding - 2)
    expected = direct(x, w, padding, g)
    assert not taken, "float64 is summed directly"
    monkeypatch.setattr(config, "eager", eager)
    y = F.conv2d(x, w, padding=padding)
    found = [y, *torch.autograd.grad(y, (x, w), g)]
    assert sorted(taken) == ["convolve", "convolve", "weigh"]
    for a, b in zip(found, expected):
        assert np.abs(a.detach().numpy() - b).max() < 3e-6 * np.abs(b).max()


def test_errors_are_those_of_direct_sums(monkeypatch):
    torch.manual_seed(0)
    x, w = torch.randn(8, 128, 18, 18), torch.randn(128, 128, 3, 3)
    exact = F.conv2d(x.double(), w.double()).numpy()
    found = winograd.convolve(x, windows(x._meta.view, (3, 3), (1, 1), (1, 1), (16, 16)), w, w._meta.view).numpy()
    monkeypatch.setattr(winograd, "pays", lambda *given: False)
    plain = convolution.correlate(x, w, (16, 16), (1, 1), (0, 0), (1, 1), 1).numpy()
    assert (found != plain).any()
    assert np.abs(found - exact).mean() < 2 * np.abs(plain - exact).mean()


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 8), st.integers(3, 9), st.integers(3, 9), st.data())
def test_any_shape(n, channels, results, height, width, data):      # of which parts are bands, some samples, and groups of channels
    with pytest.MonkeyPatch.context() as monkeypatch:
        everywhere(monkeypatch, data.draw(st.sampled_from((1, 16))))
        monkeypatch.setattr(winograd, "TILES", data.draw(st.sampled_from((1, 8, 64))))
        monkeypatch.setattr(winograd, "ENOUGH", data.draw(st.sampled_from((1, 8))))
        monkeypatch.setattr(winograd, "COLUMNS", 1)
        monkeypatch.setattr(config, "target", data.draw(st.sampled_from(("llvm", "interp"))))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        x, w, g = (torch.tensor(rng.standard_normal(s), dtype=torch.float32) for s in
                   ((n, channels, height, width), (results, channels, 3, 3), (n, results, height - 2, width - 2)))
        if data.draw(st.booleans()):
            w = w.transpose(0, 1).contiguous().transpose(0, 1)
        if data.draw(st.booleans()):
            x = x.contiguous(memory_format=torch.channels_last)
        one = (1, 1)
        found = [convolution.correlate(x, w, (height - 2, width - 2), one, (0, 0), one, 1),
                 convolution.spread(g, w, (height, width), one, (0, 0), one, 1),
                 convolution.weigh(x, g, (3, 3), one, one, 1)]
        found = [t.numpy() for t in found]
        monkeypatch.setattr(config, "target", "llvm")
        for a, b in zip(found, direct(x, w, 0, g)):
            agree(a, b.astype(np.float32))


def test_transposed_convolutions_and_second_derivatives(taken, monkeypatch):
    everywhere(monkeypatch)
    torch.manual_seed(1)
    x, w = torch.randn(4, 96, 10, 10, requires_grad=True), torch.randn(96, 80, 3, 3, requires_grad=True)

    def third(x, w):
        y = F.conv_transpose2d(x, w, padding=1)
        (first,) = torch.autograd.grad((y * y * y).sum() / 1e4, w, create_graph=True)
        return [y, first, *torch.autograd.grad((first * first).sum() / 1e6, (x, w))]

    found = third(x, w)
    assert {"convolve", "weigh"} == set(taken)
    for a, b in zip(found, third(*(t.detach().double().requires_grad_() for t in (x, w)))):
        assert np.abs(a.detach().numpy() - b.detach().numpy()).max() < 2e-5 * np.abs(b.detach().numpy()).max()


def test_the_same_bits_for_any_number_of_threads():
    torch.manual_seed(2)
    x, w, g = torch.randn(12, 64, 20, 18, requires_grad=True), torch.randn(72, 64, 3, 3, requires_grad=True), torch.randn(12, 72, 20, 18)
    before, found = pool.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = F.conv2d(x, w, padding=1)
            found.append([t.detach().numpy().tobytes() for t in (y, *torch.autograd.grad(y, (x, w), g))])
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_a_program_of_ever_other_sizes_is_summed_directly(monkeypatch):
    monkeypatch.setattr(winograd, "_met", {})

    def of_sizes(first, last):
        found = 0
        for width in range(first, last, 2):
            x = torch.zeros(8, 64, 18, width + 2)
            found += winograd.pays(x, windows(x._meta.view, (3, 3), (1, 1), (1, 1), (16, width)), 64)
            x.sum().item()      # ends a recording
        return found

    taken = 16, 16 + 2 * winograd.NEW
    assert of_sizes(16, 48) == winograd.NEW
    assert of_sizes(16, 48) == winograd.NEW     # the same ones
    for _ in range(3):
        assert of_sizes(*taken) == winograd.NEW
    assert of_sizes(48, 60) == 4 * winograd.NEW // winograd.AGAIN_FOR_NEW
    assert of_sizes(16, 48) == of_sizes(*taken) == winograd.NEW


def test_what_is_summed_directly(taken, monkeypatch):
    torch.manual_seed(3)
    x = torch.randn(8, 64, 24, 24)
    w = torch.randn(64, 64, 3, 3)
    for call in (lambda: F.conv2d(x, w, stride=2), lambda: F.conv2d(x, w, dilation=2), lambda: F.conv2d(x, w[:, :32], groups=2),
                 lambda: F.conv2d(x[:3, :, :5, :5], w), lambda: F.conv2d(x[:, :8], w[:, :8]), lambda: F.conv2d(x.bfloat16(), w.bfloat16()),
                 lambda: F.conv1d(x[:, :, 0], w[:, :, 0]), lambda: torch.func.vmap(lambda one: F.conv2d(one, w))(x[:, None])):
        call().sum().item()
    monkeypatch.setattr(config, "direct", True)
    F.conv2d(x, w).sum().item()
    assert not taken
    monkeypatch.setattr(config, "direct", False)
    F.conv2d(x, w).sum().item()
    assert taken == ["convolve"]


def test_explain_shows_parts(capsys):
    x, w = torch.randn(8, 64, 14, 16), torch.randn(64, 64, 3, 3)
    torch.explain(F.conv2d(x, w, padding=1))
    text = capsys.readouterr().out
    assert "its parts are computed one by one" in text and "for 4 x 2 rows in parallel" in text


def test_parts_of_rows():
    """Each part by itself, with what all of them read, and in order."""
    x, factor = torch.arange(24.0).view(12, 2), torch.tensor([2.0, 3.0])

    def step(parts, states, every):
        (a,), (b,) = parts, every
        return (), [a * b + a.sum(0), a.sum(1)]

    first, second = recurrence.by_parts(step, [x], [factor], 4)
    each = x.numpy().reshape(4, 3, 2)
    agree(first, (each * factor.numpy() + each.sum(1, keepdims=True)).reshape(12, 2))
    agree(second, x.numpy().sum(1))
