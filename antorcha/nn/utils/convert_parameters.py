"""Parameters as one vector, and back."""

from __future__ import annotations

import antorcha as torch


def parameters_to_vector(parameters):
    """All parameters one after the other."""
    return torch.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters) -> None:
    """Set the parameters to consecutive parts of `vec`."""
    at = 0
    for p in parameters:
        p.data = vec[at:at + p.numel()].view_as(p).data
        at += p.numel()
