"""A group lowered from the template of an equal one is what lowering it afresh would have given."""

from __future__ import annotations

import pytest

import antorcha as torch
from antorcha import nn
from antorcha.graph import flush
from antorcha.loops import lower, template


@pytest.fixture
def found(monkeypatch):
    """Lower everything both ways and compare; counts the groups for which a template was found."""
    count = [0]

    def both(lowering, group, write):
        parts, checks = lowering.parts.copy(), lowering.checks.copy()
        fresh = write(group)
        after = lowering.parts.copy(), lowering.checks.copy()
        lowering.parts[:], lowering.checks[:] = parts, checks
        before = len(template._templates)
        calls = template.lowered(lowering, group, write)
        count[0] += len(template._templates) == before
        assert (lowering.parts, lowering.checks) == after
        assert len(calls) == len(fresh)
        for a, b in zip(calls, fresh):
            assert a.program.text() == b.program.text()
            assert a.args == b.args
            assert (a.reads, a.writes, a.read_at, a.written_at) == (b.reads, b.writes, b.read_at, b.written_at)
            assert [(n.index, j, size) for n, j, size in a.checks] == [(n.index, j, size) for n, j, size in b.checks]
        return calls

    flush.clear()
    monkeypatch.setattr(lower, "lowered", both)
    yield count
    flush.clear()


class Block(nn.Module):
    def __init__(self, width: int = 16, heads: int = 2):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = [part.view(n, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm(x)).split(d, 2)]
        weights = (q @ k.transpose(-2, -1) * 0.35).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, d))
        return x + self.net(x)


def losses(steps: int, time: int = 7) -> list:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 16), Block(), Block(), Block(), nn.Linear(16, 11))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    found = []
    for _ in range(steps):
        x, y = torch.randint(0, 11, (3, time)), torch.randint(0, 11, (3 * time,))
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x).view(-1, 11), y)
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found


def test_the_layers_of_a_network_share_their_templates(found):
    first = losses(3)
    assert found[0] > 50
    flush._plans.clear()
    assert losses(3) == first


def test_templates_of_indices_scans_and_partial_sums(found):
    def run(x, i):
        picked = x[i] + x.gather(0, i.unsqueeze(1).expand(-1, x.shape[1]))
        return (picked.cumsum(0) * x.argmax(1)[:, None], x.index_add(0, i, picked), x.sum(0), x.sum(), x.var(1), x[:, ::2].flip(1).clone(),
                torch.zeros(0, 3).sum(0), x.long() @ x.long().t())

    x, i = torch.arange(4000.0).reshape(400, 10) % 17, torch.arange(400) * 7 % 400
    x.tolist(), i.tolist()      # else they are made by the kernels that use them first, which round as they are cut
    first = [r.tolist() for r in run(x, i)]
    flush._plans.clear()
    before = found[0]
    assert [r.tolist() for r in run(x, i)] == first
    assert found[0] > before


def test_an_index_out_of_range_is_reported_from_a_template(found):
    x = torch.arange(5.0)
    for i in (3, 9):
        flush._plans.clear()
        picked = x[torch.tensor([float(i)] * 2).sqrt().square().round().long()]
        if i < 5:
            assert picked.tolist() == [3.0, 3.0]
        else:
            with pytest.raises(IndexError, match="received 9"):
                picked.tolist()


def test_what_begins_elsewhere_in_a_buffer_shares_a_template(found):
    x, w = torch.randn(8, 4, 5, requires_grad=True), torch.randn(5, 5)
    h, seen, marked = torch.zeros(4, 5), [], torch.zeros(8, 4, 5)
    for t in range(7):
        h = torch.tanh(x[t] @ w + h) * (x[t] - x[t + 1])
        seen.append(h)
    for t in range(0, 6, 2):
        marked[t:t + 2] = x.detach()[t + 1:t + 3] + x.detach()[t, :, :1]
    y = torch.stack(seen)
    (y * y.flip(0)).sum().backward()
    assert (x.grad.isfinite().all() and marked.isfinite().all()).item()
    assert found[0] >= 10


def test_templates_tell_apart_how_parts_of_a_buffer_lie(found):
    x = torch.arange(60.0).reshape(6, 10)
    x.tolist()
    for a, b in ((0, 1), (2, 3), (1, 0), (4, 4), (0, 3)):
        assert (x[a] * x[b] + x[a]).tolist() == [(10.0 * a + i) * (10 * b + i) + 10 * a + i for i in range(10)]
    assert found[0] == 1        # (2, 3) is as far apart as (0, 1)
