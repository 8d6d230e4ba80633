"""Rates from the squares of all gradients so far: Adagrad, Adadelta, Adafactor."""

from __future__ import annotations

import antorcha as torch

from .optimizer import Optimizer, by_rows, check, decayed, next_step


class Adagrad(Optimizer):
    """s = s + g^2;  p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps) (Duchi, Hazan and Singer 2011)."""

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, foreach=None, *, maximize=False,
                 differentiable=False, fused=None):
        check(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value, eps=eps)
        super().__init__(params, dict(lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                                      initial_accumulator_value=initial_accumulator_value, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, fused=fused))
        for group in self.param_groups:
            self._started(group["params"], group)

    def start(self, p, state, group):
        state.update(step=0.0, sum=torch.full_like(p, group["initial_accumulator_value"], requires_grad=False))

    def share_memory(self) -> None:
        """Put the state where other processes see it."""
        for state in self.state.values():
            state["sum"].share_memory_()

    takes_sparse = True

    def rule(self, p, g, state, group):
        t = next_step(state)
        if g.is_sparse:
            if group["weight_decay"]:
                raise RuntimeError("weight_decay option is not compatible with sparse gradients")
            rows, values = by_rows(g)
            s = state["sum"].index_add_(0, rows, values * values).index_select(0, rows)
            p.index_add_(0, rows, values / (s.sqrt() + group["eps"]), alpha=-group["lr"] / (1 + (t - 1) * group["lr_decay"]))
            return
        g = decayed(g, p, group)
        s = state["sum"].addcmul_(g, g, value=1)
        p.addcdiv_(g, s.sqrt().add_(group["eps"]), value=-group["lr"] / (1 + (t - 1) * group["lr_decay"]))


class Adadelta(Optimizer):
    """v = rho v + (1 - rho) g^2;  d = sqrt(u + eps) / sqrt(v + eps) g;  u = rho u + (1 - rho) d^2;  p = p - lr d (Zeiler 2012)."""

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, foreach=None, *, capturable=False, maximize=False,
                 differentiable=False):
        check(lr=lr, eps=eps, weight_decay=weight_decay)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: expected a number in [0, 1]; received {rho}")
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize, capturable=capturable,
                                      foreach=foreach, differentiable=differentiable))

    def start(self, p, state, group):
        state.update(step=0.0, square_avg=torch.zeros_like(p), acc_delta=torch.zeros_like(p))

    def rule(self, p, g, state, group):
        rho, eps = group["rho"], group["eps"]
        next_step(state)
        g = decayed(g, p, group)
        v, u = state["square_avg"].mul_(rho).addcmul_(g, g, value=1 - rho), state["acc_delta"]
        d = (u + eps).sqrt() / (v + eps).sqrt() * g
        u.mul_(rho).addcmul_(d, d, value=1 - rho)
        p.add_(d, alpha=-group["lr"])


class Adafactor(Optimizer):
    """Adam without momentum that keeps of the squares of a matrix's gradients only the means of rows and columns, and takes steps
    relative to the size of the parameter (Shazeer and Stern 2018). b2(t) = 1 - t^beta2_decay."""

    def __init__(self, params, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, *, foreach=None, maximize=False):
        check(lr=lr, weight_decay=weight_decay)
        if not 0.0 >= beta2_decay:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and not 0.0 <= eps[0]:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if not 0.0 <= eps[1]:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if not 1.0 <= d:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        super().__init__(params, dict(lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay, foreach=foreach,
                                      maximize=maximize))

    def start(self, p, state, group):
        state["step"] = 0.0
        if p.dim() > 1:
            state["row_var"] = p.new_zeros((*p.shape[:-1], 1))
            state["col_var"] = p.new_zeros((*p.shape[:-2], 1, p.shape[-1]))
        else:
            state["variance"] = torch.zeros_like(p)

    def rule(self, p, g, state, group):
        t = next_step(state)
        eps1, eps2 = group["eps"]
        eps1 = torch.finfo(p.dtype).eps if eps1 is None else eps1
        fresh = t ** group["beta2_decay"]
        size = (p.norm(2) / p.numel() ** 0.5).clamp(min=eps2) * min(group["lr"], 1 / t**0.5)
        if group["weight_decay"]:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        if p.dim() > 1:
            rows, columns = state["row_var"], state["col_var"]
            rows.lerp_(g.norm(dim=-1, keepdim=True).square() / g.shape[-1], fresh)
            columns.lerp_(g.norm(dim=-2, keepdim=True).square() / g.shape[-2], fresh)
            estimate = rows @ columns / rows.mean(dim=-2, keepdim=True).clamp(min=eps1)
        else:
            estimate = state["variance"].lerp_(g * g, fresh)
        update = estimate.clamp(min=eps1 * eps1).rsqrt() * g
        p.sub_(update * (size / (update.norm(2) / (update.numel() ** 0.5 * group["d"])).clamp(min=1.0)))
