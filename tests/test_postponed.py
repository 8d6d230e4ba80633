"""Kernels that wait for a small result, so that what needs both joins them; and what is recorded twice but computed once."""

from __future__ import annotations

import numpy as np
from recorded import kernels

import antorcha as torch

F = torch.nn.functional


def test_cross_entropy_and_its_cotangent_are_one_pass():
    rng = np.random.default_rng(2)
    a, t = rng.standard_normal((70, 130), np.float32), rng.integers(0, 130, 70)
    t[3] = -100
    x, target = (torch.from_numpy(a.copy()) + 0).requires_grad_(), torch.from_numpy(t) + 0

    def step():
        loss = F.cross_entropy(x, target)
        loss.backward()
        return loss

    loss, found = kernels(step)
    e = np.exp(a.astype(np.float64) - a.max(1, keepdims=True))
    p, kept = e / e.sum(1, keepdims=True), np.flatnonzero(t >= 0)
    assert abs(loss.item() + np.log(p[kept, t[kept]]).mean()) < 1e-5
    p[kept, t[kept]] -= 1
    p[3] = 0
    assert np.abs(x.grad.numpy() * len(kept) - p).max() < 1e-5
    large = {tuple(k["nodes"]) for k in found if any(node[2] == (70, 130) for node in k["nodes"])}
    assert len(large) == 1


def test_a_kernel_that_others_read_does_not_wait():
    a = np.random.default_rng(4).standard_normal((40, 50)).astype(np.float32)
    x = torch.from_numpy(a.copy()) + 0

    def work():
        top = x.amax(1, keepdim=True)
        total = (top * 2).sum()             # takes from the rows' kernel, and is needed by what follows
        return ((x - top).exp() * total).sum(1)

    found, _ = kernels(work)
    top = a.max(1, keepdims=True)
    assert np.allclose(found.numpy(), (np.exp(a - top) * (top * 2).sum()).sum(1), rtol=1e-5)
