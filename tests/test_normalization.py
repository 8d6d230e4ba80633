"""Derivatives of normalisations by all that they are given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from recorded import kernels

import antorcha as torch
import antorcha.nn.functional as F


@pytest.mark.parametrize("shape, groups", [((2, 6), 3), ((3, 4, 5), 2), ((1, 6, 2, 3), 6), ((2, 4, 3, 1, 2), 1)])
@pytest.mark.parametrize("affine", [True, False])
def test_derivatives_of_a_group_norm(shape, groups, affine):
    x, *others = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in (shape, *[shape[1:2]] * (2 * affine))]

    def normalise(x, *others):
        return F.group_norm(x, groups, *others)
    assert torch.autograd.gradcheck(normalise, (x, *others)) and torch.autograd.gradgradcheck(normalise, (x, *others))


def test_derivatives_of_a_group_norm_far_from_zero():
    """Sums are of what is left when the mean is taken off: those of the input itself would have no digit of the result."""
    def gradients(dtype):
        generator = np.random.default_rng(5)
        x, w, b, g = (torch.from_numpy(generator.standard_normal(s).astype(np.float32)).to(dtype)
                      for s in ((2, 6, 5, 7), 6, 6, (2, 6, 5, 7)))
        leaves = [t.requires_grad_() for t in (x + 1000, w, b)]
        F.group_norm(leaves[0], 2, *leaves[1:]).backward(g)
        return [t.grad.numpy() for t in leaves]
    for exact, found in zip(gradients(torch.float64), gradients(torch.float32)):
        np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-3)


def test_the_derivatives_of_a_group_norm_share_sums():
    """Nothing of the input's size is stored but its gradient."""
    x, w, b = (torch.randn(*s).requires_grad_() for s in ((4, 64, 32, 32), (64,), (64,)))
    g = torch.randn(4, 64, 32, 32)
    out = F.group_norm(x, 8, w, b)
    out.sum().item(), g.sum().item()
    taken = kernels(lambda: out.backward(g))[1]
    stored = [node for k in taken for node in k["nodes"] if node[4] and math.prod(node[2]) == x.numel()]
    assert len(stored) == 1
