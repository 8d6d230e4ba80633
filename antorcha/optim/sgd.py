"""Stochastic gradient descent, with momentum (Polyak 1964; Nesterov 1983; Sutskever et al. 2013)."""

from __future__ import annotations

from .optimizer import Optimizer, check


class SGD(Optimizer):
    """v = momentum v + (1 - dampening) g;  p = p - lr v, or with `nesterov` p = p - lr (g + momentum v)."""

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False, foreach=None,
                 differentiable=False, fused=None):
        check(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
                                      maximize=maximize, foreach=foreach, differentiable=differentiable, fused=fused))

    def update(self, group, parameters):
        momentum = group["momentum"]
        for p in parameters:
            g = -p.grad if group["maximize"] else p.grad
            if group["weight_decay"]:
                g = g.add(p, alpha=group["weight_decay"])
            if momentum:
                state = self.state[p]
                v = state.get("momentum_buffer")
                if v is None:
                    v = state["momentum_buffer"] = g.detach().clone()
                else:
                    v.mul_(momentum).add_(g, alpha=1 - group["dampening"])
                g = g.add(v, alpha=momentum) if group["nesterov"] else v
            p.add_(g, alpha=-group["lr"])
