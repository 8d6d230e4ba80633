"""RMSprop (Tieleman and Hinton 2012)."""

from __future__ import annotations

import antorcha as torch

from .optimizer import Optimizer, check, decayed, next_step


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2;  p = p - lr g / (sqrt(v) + eps); `centered` takes the square of the mean gradient off v."""

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, capturable=False, foreach=None,
                 maximize=False, differentiable=False):
        check(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
        super().__init__(params, dict(lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered, weight_decay=weight_decay,
                                      capturable=capturable, foreach=foreach, maximize=maximize, differentiable=differentiable))

    def start(self, p, state, group):
        state.update(step=0.0, square_avg=torch.zeros_like(p))
        if group["momentum"]:
            state["momentum_buffer"] = torch.zeros_like(p)
        if group["centered"]:
            state["grad_avg"] = torch.zeros_like(p)

    def rule(self, p, g, state, group):
        lr, alpha = group["lr"], group["alpha"]
        next_step(state)
        g = decayed(g, p, group)
        v = state["square_avg"]
        v.mul_(alpha).addcmul_(g, g, value=1 - alpha)
        if group["centered"]:
            mean = state["grad_avg"].lerp_(g, 1 - alpha)
            v = v.addcmul(mean, mean, value=-1)
        root = v.sqrt().add_(group["eps"])
        if group["momentum"]:
            p.add_(state["momentum_buffer"].mul_(group["momentum"]).addcdiv_(g, root), alpha=-lr)
        else:
            p.addcdiv_(g, root, value=-lr)
