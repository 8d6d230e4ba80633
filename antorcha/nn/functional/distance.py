"""Distances between vectors."""

from __future__ import annotations

def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along `dim`."""
    a, b = x1.norm(2, dim, True).clamp_min(eps), x2.norm(2, dim, True).clamp_min(eps)
    return ((x1 / a) * (x2 / b)).sum(dim)


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of the difference, along the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)
