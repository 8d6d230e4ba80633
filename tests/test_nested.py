"""Nested tensors: batches of sequences of several lengths, without padding."""

from __future__ import annotations

import pytest

import antorcha as torch
from antorcha import nn
from antorcha.nn import functional as F


def ragged(*lengths, tail=(6,), requires_grad=False):
    torch.manual_seed(0)
    return torch.nested.nested_tensor([torch.randn(n, *tail) for n in lengths], layout=torch.jagged, requires_grad=requires_grad)


def test_what_it_is():
    x = torch.nested.nested_tensor([torch.arange(6.0).reshape(2, 3), torch.arange(3.0).reshape(1, 3)], layout=torch.jagged)
    assert x.is_nested and x.layout is torch.jagged and x.dim() == x.ndim == 3 and len(x) == x.size(0) == 2 and x.size(-1) == 3
    assert x.shape[1] is x.size(1) and x.shape[1] == (x * 2).shape[1] and isinstance(x, torch.Tensor) and not x.requires_grad
    assert repr(x) == f"NestedTensor(size=(2, {x.shape[1]}, 3), offsets=tensor([0, 2, 3]), contiguous=True)"
    assert x.offsets().tolist() == [0, 2, 3] and x.lengths() is None and x.numel() == 9 and [len(t) for t in x] == [2, 1]
    assert x.to_padded_tensor(-1.0)[1].tolist() == [[0.0, 1.0, 2.0], [-1.0, -1.0, -1.0]] and x[1].tolist() == [[0.0, 1.0, 2.0]]
    assert torch.nested.to_padded_tensor(x, 0.0, (2, 4, 3)).shape == (2, 4, 3)
    with pytest.raises(RuntimeError, match="Truncation"):
        x.to_padded_tensor(0.0, (2, 1, 3))
    plain = torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])
    assert plain.layout is torch.strided and repr(plain) == "nested_tensor([\n  tensor([1., 1.]),\n  tensor([1.])\n])"
    with pytest.raises(RuntimeError, match="dimension 1 is irregular"):
        plain.size(1)


def test_elements_and_other_dimensions():
    x = ragged(2, 3)
    parts, w, norm = x.unbind(), nn.Linear(6, 4), nn.LayerNorm(6)
    for f in (lambda t: (t * 2 + 1).relu() / 3, w, norm, lambda t: t.softmax(-1), F.gelu, lambda t: 1 - t, lambda t: t @ torch.ones(6, 2),
              lambda t: t.sum(-1, keepdim=True), lambda t: t.max(-1)[0], lambda t: torch.cat(t.chunk(2, -1)[::-1], -1), lambda t: t > 0,
              lambda t: t.unflatten(-1, [2, 3]).flatten(-2), lambda t: t.unsqueeze(-1).squeeze(-1), lambda t: t + torch.arange(6.0),
              lambda t: t.cumsum(-2), lambda t: t.softmax(-2), lambda t: t.double(), lambda t: t.transpose(-1, -2).exp().transpose(-1, -2)):
        y = f(x)
        assert y.is_nested and y.shape[1] is x.shape[1]
        for a, b in zip(y, parts):
            assert torch.allclose(a, f(b)), f
    for f in (lambda t: t.sum(-2), lambda t: t.mean(-2), lambda t: t.amax(-2)):
        assert torch.equal(f(x), torch.stack([f(t) for t in parts]))
    assert torch.equal((x * torch.tensor([2.0, 3.0]).reshape(2, 1, 1))[1], parts[1] * 3) and torch.allclose(x.sum(), x.values().sum())
    assert x.view(2, -1, 2, 3).values().shape == (5, 2, 3)
    before = x.values().clone()
    assert x.mul_(2) is x and torch.equal(x.values(), 2 * before)


def test_attention_sees_its_own_component():
    q = ragged(4, 2, 3, tail=(8,)).unflatten(-1, [2, 4]).transpose(1, 2)
    assert q.size(1) == 2 and q.shape[2] is q.size(2)
    k, v = q * 2, q * 3
    for causal in (False, True):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        for a, *parts in zip(out, q, k, v):
            assert torch.allclose(a, F.scaled_dot_product_attention(*parts, is_causal=causal), atol=1e-6)


def test_derivatives():
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones(1, 3, requires_grad=True)
    x = torch.nested.as_nested_tensor([a, b], layout=torch.jagged)
    (x * 3).values().pow(2).sum().backward()
    assert a.grad.tolist() == [[18.0] * 3] * 2 and b.grad.tolist() == [[18.0] * 3] and not x.is_leaf and x.grad_fn is not None
    leaf = ragged(2, 3, requires_grad=True)
    (leaf * 2).sum().backward()
    assert leaf.is_leaf and leaf.grad.is_nested and leaf.grad.values().tolist() == [[2.0] * 6] * 5 and not leaf.detach().requires_grad
    values = torch.arange(12.0).reshape(6, 2).requires_grad_()
    y = torch.nested.nested_tensor_from_jagged(values, torch.tensor([0, 2, 3, 6]))
    y.mean(1).sum().backward()
    assert values.grad[:, 0].tolist() == pytest.approx([1 / 2, 1 / 2, 1, 1 / 3, 1 / 3, 1 / 3])


def test_a_model_is_trained():
    torch.manual_seed(0)
    embedding, layer, head = nn.Embedding(5, 8), nn.Linear(8, 8), nn.Linear(8, 2)
    optimiser = torch.optim.Adam([*embedding.parameters(), *layer.parameters(), *head.parameters()], 0.05)
    for _ in range(30):
        words = torch.nested.nested_tensor([torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([0, 4])], layout=torch.jagged)
        x = embedding(words)
        q = layer(x).unflatten(-1, [2, -1]).transpose(1, 2)
        x = x + F.scaled_dot_product_attention(q, q, q).transpose(1, 2).flatten(-2)
        loss = F.cross_entropy(head(x).mean(1), torch.tensor([0, 1, 0]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


def test_parts_of_dense_tensors():
    x = torch.arange(24.0).reshape(2, 4, 3)
    parts = torch.nested.narrow(x, 1, torch.tensor([0, 1]), torch.tensor([2, 3]), layout=torch.jagged)
    assert torch.equal(parts[0], x[0, :2]) and torch.equal(parts[1], x[1, 1:4])
    picked = torch.nested.masked_select(torch.arange(12).reshape(3, 4), torch.arange(12).reshape(3, 4) % 3 == 0)
    assert [t.tolist() for t in picked] == [[0, 3], [6], [9]]
    gaps = torch.nested.nested_tensor_from_jagged(torch.arange(6), torch.tensor([0, 3, 6]), torch.tensor([2, 1]))
    assert [t.tolist() for t in gaps] == [[0, 1], [3]]


def test_refusals():
    x, y = ragged(2, 3), ragged(2, 3)
    for call, part in (
            (lambda: x + y, "nested_tensor_from_jagged"),
            (lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(2, 4)]), "single ragged dimension"),
            (lambda: x.sum(0), "that of the batch"),
            (lambda: x.chunk(2, 1), "the ragged one"),
            (lambda: x.view(5, 6), "-1 for the ragged length"),
            (lambda: torch.nested.narrow(x, 2, 0, 1), "dim=1"),
            (lambda: x + torch.ones(2, 2, 6), "length 1 along the ragged dimension"),
            (lambda: F.linear(x.transpose(1, 2), y[0]), "is not the ragged one")):
        with pytest.raises(RuntimeError, match=part):
            call()
    with pytest.raises(NotImplementedError, match="to_padded_tensor"):
        torch.fft.fft(x)
    with pytest.raises(NotImplementedError, match="symbolic_trace"):
        torch.export.export(nn.Linear(2, 2), ())
