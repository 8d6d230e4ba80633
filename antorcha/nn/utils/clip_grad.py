"""Gradients that must not grow too large (Pascanu et al. 2013)."""

from __future__ import annotations

import math
import warnings

import antorcha as torch

from ...ops.recall import recalled


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The norm of all tensors together, as of one vector."""
    tensors = list(tensors)
    if not tensors:
        return torch.tensor(0.0)
    total = _norm(tensors, float(norm_type))
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be clipped.")
    return total


@recalled(autocast="parts")
def _norm(tensors: list, order: float):
    if order == math.inf:
        return torch.stack([t.abs().max() for t in tensors]).max()
    if order == 2.0:
        return torch.stack([(t * t).sum() for t in tensors]).sum().sqrt()
    return torch.stack([t.abs().pow(order).sum() for t in tensors]).sum().pow(1 / order)


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale all gradients so that their norm together is at most `max_norm`; returns the norm before."""
    grads = [p.grad for p in ([parameters] if isinstance(parameters, torch.Tensor) else parameters) if p.grad is not None]
    with torch.no_grad():
        total = get_total_norm(grads, norm_type, error_if_nonfinite)
        _scale(grads, float(max_norm), total)
    return total


def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Scale all gradients, whose norm together is `total_norm`, so that it is at most `max_norm`."""
    parameters = [parameters] if isinstance(parameters, torch.Tensor) else parameters
    with torch.no_grad():
        _scale([p.grad for p in parameters if p.grad is not None], float(max_norm), total_norm)


@recalled(autocast="parts")
def _scale(grads: list, max_norm: float, total) -> None:
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(factor)


def clip_grad_norm(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The older name of `clip_grad_norm_`."""
    warnings.warn("`torch.nn.utils.clip_grad_norm` is now deprecated in favor of `torch.nn.utils.clip_grad_norm_`.", FutureWarning,
                  stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(parameters, clip_value, foreach=None):
    """Clamp every element of the gradients to [-clip_value, clip_value]."""
    with torch.no_grad():
        for p in [parameters] if isinstance(parameters, torch.Tensor) else parameters:
            if p.grad is not None:
                p.grad.clamp_(min=-float(clip_value), max=float(clip_value))
