"""Steps along the gradient: SGD, averaged SGD, Rprop, Muon."""

from __future__ import annotations

import antorcha as torch

from .optimizer import Optimizer, by_rows, check, decayed, next_step


class SGD(Optimizer):
    """v = momentum v + (1 - dampening) g;  p = p - lr v, or with `nesterov` p = p - lr (g + momentum v)
    (Polyak 1964; Nesterov 1983; Sutskever et al. 2013)."""

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False, foreach=None,
                 differentiable=False, fused=None):
        check(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
                                      maximize=maximize, foreach=foreach, differentiable=differentiable, fused=fused))

    takes_sparse = True

    def rule(self, p, g, state, group):
        momentum = group["momentum"]
        if g.is_sparse:
            if momentum or group["weight_decay"]:
                raise RuntimeError("SGD: expected momentum=0 and weight_decay=0 with sparse gradients; they would change every row")
            rows, values = by_rows(g)
            p.index_add_(0, rows, values, alpha=-group["lr"])
            return
        g = decayed(g, p, group)
        if momentum:
            v = state.get("momentum_buffer")
            if v is None:
                v = state["momentum_buffer"] = g.detach().clone()
            else:
                v.mul_(momentum).add_(g, alpha=1 - group["dampening"])
            g = g.add(v, alpha=momentum) if group["nesterov"] else v
        p.add_(g, alpha=-group["lr"])


class ASGD(Optimizer):
    """SGD with decaying rate eta(t) = lr / (1 + lambd lr t)^alpha, which also keeps the average `ax` of the parameters since step t0
    (Polyak and Juditsky 1992)."""

    def __init__(self, params, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, foreach=None, maximize=False, differentiable=False,
                 capturable=False):
        check(lr=lr, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, capturable=capturable))

    def start(self, p, state, group):
        state.update(step=0.0, eta=torch.tensor(float(group["lr"])), mu=torch.ones(()), ax=torch.zeros_like(p))

    def rule(self, p, g, state, group):
        t = next_step(state)
        g = decayed(g, p, group)
        lr, decay = group["lr"], group["lambd"]
        eta = lr if t == 1 else lr / (1 + decay * lr * (t - 1)) ** group["alpha"]
        p.mul_(1 - decay * eta).add_(g, alpha=-eta)
        mu = 1 / max(1, t - 1 - group["t0"]) if t > 1 else 1.0
        if mu == 1:
            state["ax"].copy_(p)
        else:
            state["ax"].add_((p - state["ax"]) * mu)
        state["eta"] = torch.tensor(lr / (1 + decay * lr * t) ** group["alpha"])
        state["mu"] = torch.tensor(1 / max(1, t - group["t0"]))


class Rprop(Optimizer):
    """A step size for each element, which grows while the sign of its gradient stays and shrinks when it changes; the size of the
    gradient does not count (Riedmiller and Braun 1993)."""

    def __init__(self, params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), *, capturable=False, foreach=None, maximize=False,
                 differentiable=False):
        check(lr=lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: expected one in (0, 1) and one above 1; received {etas[0]}, {etas[1]}")
        super().__init__(params, dict(lr=lr, etas=etas, step_sizes=step_sizes, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, capturable=capturable))

    def start(self, p, state, group):
        state.update(step=0.0, prev=torch.zeros_like(p), step_size=torch.full_like(p, group["lr"], requires_grad=False))

    def rule(self, p, g, state, group):
        (shrink, grow), (least, most) = group["etas"], group["step_sizes"]
        next_step(state)
        same = g * state["prev"]
        size = state["step_size"]
        size.copy_((size * torch.where(same > 0, grow, torch.where(same < 0, shrink, 1.0))).clamp(least, most))
        g = torch.where(same < 0, torch.zeros_like(g), g)
        p.addcmul_(g.sign(), size, value=-1)
        state["prev"].copy_(g)


class Muon(Optimizer):
    """Momentum whose matrix is made orthogonal by Newton-Schulz iterations in bfloat16 before it is taken as a step (Jordan et al.,
    "Muon: An optimizer for hidden layers in neural networks", 2024). For matrices alone."""

    def __init__(self, params, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.775, 2.0315), eps=1e-7,
                 ns_steps=5, adjust_lr_fn=None):
        check(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
                                      ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps, adjust_lr_fn=adjust_lr_fn))
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}")

    def start(self, p, state, group):
        state["momentum_buffer"] = torch.zeros_like(p)

    def rule(self, p, g, state, group):
        v = state["momentum_buffer"].lerp_(g, 1 - group["momentum"])
        update = orthogonalised(g.lerp(v, group["momentum"]) if group["nesterov"] else v, group["ns_coefficients"], group["ns_steps"],
                                group["eps"])
        rows, columns = p.shape
        ratio = 0.2 * max(rows, columns) ** 0.5 if group["adjust_lr_fn"] == "match_rms_adamw" else max(1, rows / columns) ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update, alpha=-group["lr"] * ratio)


def orthogonalised(matrix, coefficients, steps: int, eps: float):
    """Nearly U V^T of the singular value decomposition U S V^T: X = a X + (b X X^T + c (X X^T)^2) X, some times over."""
    a, b, c = coefficients
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
