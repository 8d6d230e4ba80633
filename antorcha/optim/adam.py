"""Adam (Kingma and Ba 2015) and its relatives."""

from __future__ import annotations

import antorcha as torch

from .optimizer import Optimizer, by_rows, check, decayed, decoupled, next_step


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr m' / (sqrt(v') + eps), with m', v' free of their bias to zero.

    `weight_decay` adds to the gradient, or with `decoupled_weight_decay` shrinks the parameter. `amsgrad` divides by the
    largest v so far (Reddi et al. 2018).
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, foreach=None, maximize=False,
                 capturable=False, differentiable=False, fused=None, decoupled_weight_decay=False):
        check(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize,
                                      foreach=foreach, capturable=capturable, differentiable=differentiable, fused=fused,
                                      decoupled_weight_decay=decoupled_weight_decay))

    def start(self, p, state, group):
        state.update(step=0.0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = torch.zeros_like(p)

    def rule(self, p, g, state, group):
        lr, (beta1, beta2) = group["lr"], group["betas"]
        if isinstance(lr, torch.Tensor):
            lr = lr.item()
        t = next_step(state)
        g = decoupled(g, p, group)
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if group["amsgrad"]:
            v = torch.maximum(state["max_exp_avg_sq"], v)
            state["max_exp_avg_sq"].copy_(v)
        _descend(p, m, v, lr, t, group)


def _descend(p, m, v, lr, t: float, group: dict) -> None:
    """p = p - lr m' / (sqrt(v') + eps), with numerator and denominator multiplied by the factor between v and v' (Kingma and Ba 2015, end
    of section 2): a division of all elements less."""
    beta1, beta2 = group["betas"]
    scale = (1 - beta2**t) ** 0.5
    p.addcdiv_(m, v.sqrt().add_(group["eps"] * scale), value=-lr * scale / (1 - beta1**t))


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False, foreach=None,
                 capturable=False, differentiable=False, fused=None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
                         differentiable=differentiable, fused=fused, decoupled_weight_decay=True)


class Adamax(Optimizer):
    """Adam with the infinity norm: u = max(b2 u, |g| + eps);  p = p - lr m' / u (Kingma and Ba 2015, section 7.1)."""

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=None, *, maximize=False,
                 differentiable=False, capturable=False):
        check(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, capturable=capturable))

    def start(self, p, state, group):
        state.update(step=0.0, exp_avg=torch.zeros_like(p), exp_inf=torch.zeros_like(p))

    def rule(self, p, g, state, group):
        beta1, beta2 = group["betas"]
        t = next_step(state)
        g = decayed(g, p, group)
        m, u = state["exp_avg"].lerp_(g, 1 - beta1), state["exp_inf"]
        u.copy_(torch.maximum(u.mul(beta2), g.abs().add(group["eps"])))
        p.addcdiv_(m, u, value=-group["lr"] / (1 - beta1**t))


class SparseAdam(Optimizer):
    """Adam whose averages and parameters move only in the rows that the sparse gradient has."""

    takes_sparse = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, maximize=False):
        check(lr=lr, betas=betas, eps=eps)
        if not lr > 0:
            raise ValueError(f"Invalid learning rate: expected a positive number; received {lr}")
        if not eps > 0:
            raise ValueError(f"Invalid epsilon value: expected a positive number; received {eps}")
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, maximize=maximize))

    def start(self, p, state, group):
        state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))

    def rule(self, p, g, state, group):
        if not g.is_sparse:
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
        beta1, beta2 = group["betas"]
        t = next_step(state)
        rows, g = by_rows(g)
        m, v = (state[name].index_select(0, rows) for name in ("exp_avg", "exp_avg_sq"))
        m, v = m + (g - m) * (1 - beta1), v + (g * g - v) * (1 - beta2)
        state["exp_avg"].index_copy_(0, rows, m)
        state["exp_avg_sq"].index_copy_(0, rows, v)
        rate = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        p.index_add_(0, rows, m / (v.sqrt() + group["eps"]), alpha=-rate)


class NAdam(Optimizer):
    """Adam with Nesterov momentum whose weight mu(t) = b1 (1 - 0.96^(t momentum_decay) / 2) rises (Dozat 2016)."""

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3, decoupled_weight_decay=False, *,
                 foreach=None, maximize=False, capturable=False, differentiable=False):
        check(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
                                      decoupled_weight_decay=decoupled_weight_decay, maximize=maximize, foreach=foreach,
                                      capturable=capturable, differentiable=differentiable))

    def start(self, p, state, group):
        state.update(step=0.0, mu_product=torch.ones(()), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))

    def rule(self, p, g, state, group):
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["momentum_decay"]
        t = next_step(state)
        g = decoupled(g, p, group)
        mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * decay))
        mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * decay))
        product = state["mu_product"].mul_(mu)
        m, v = state["exp_avg"].lerp_(g, 1 - beta1), state["exp_avg_sq"]
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        root = (v / (1 - beta2**t)).sqrt().add_(group["eps"])
        p.sub_(g / root * (lr * (1.0 - mu) / (1.0 - product)))
        p.sub_(m / root * (lr * mu_next / (1.0 - product * mu_next)))


class RAdam(Optimizer):
    """Adam that divides by sqrt(v) only once its variance can be trusted, and then by a rectified one (Liu et al. 2020)."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False, *, foreach=None,
                 maximize=False, capturable=False, differentiable=False):
        check(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize, foreach=foreach,
                                      capturable=capturable, decoupled_weight_decay=decoupled_weight_decay,
                                      differentiable=differentiable))

    def start(self, p, state, group):
        state.update(step=0.0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))

    def rule(self, p, g, state, group):
        lr, (beta1, beta2) = group["lr"], group["betas"]
        t = next_step(state)
        g = decoupled(g, p, group)
        m, v = state["exp_avg"].lerp_(g, 1 - beta1), state["exp_avg_sq"]
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        update = m / (1 - beta1**t)
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        if length > 5.0:
            rectified = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
            update = update * lr * ((1 - beta2**t) ** 0.5 / v.sqrt().add_(group["eps"])) * rectified
        else:
            update = update * lr
        p.sub_(update)


class AdamX(Optimizer):
    """AMSGrad whose proof of convergence holds for a decreasing b1 (Tran and Phong, "On the Convergence Proof of AMSGrad and
    a New Version", 2019): b1(t) = b1 lambda^(t - 1);  v^(t) = max(((1 - b1(t)) / (1 - b1(t - 1)))^2 v^(t - 1), v(t));
    p = p - lr m / (sqrt(v^) + eps)."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), lambd=1 - 1e-8, eps=1e-8, weight_decay=0, *, maximize=False):
        check(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        if not 0.0 < lambd <= 1.0:
            raise ValueError(f"Invalid lambd: expected a number in (0, 1]; received {lambd}")
        super().__init__(params, dict(lr=lr, betas=betas, lambd=lambd, eps=eps, weight_decay=weight_decay, maximize=maximize))

    def start(self, p, state, group):
        state.update(step=0.0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p), max_exp_avg_sq=torch.zeros_like(p))

    def rule(self, p, g, state, group):
        beta1, beta2 = group["betas"]
        t = next_step(state)
        g = decayed(g, p, group)
        now, before = beta1 * group["lambd"] ** (t - 1), beta1 * group["lambd"] ** (t - 2)
        m, v, top = state["exp_avg"].lerp_(g, 1 - now), state["exp_avg_sq"], state["max_exp_avg_sq"]
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        top.copy_(v if t == 1 else torch.maximum(top * ((1 - now) / (1 - before)) ** 2, v))
        p.addcdiv_(m, top.sqrt().add_(group["eps"]), value=-group["lr"])


class AdamZ(Optimizer):
    """Adam that changes its rate by how the loss goes (Zaznov et al., "AdamZ: an enhanced optimisation method for neural network
    training", 2024): a loss above all of the last `patience` ones is an overshoot and multiplies the rate by
    `overshoot_factor`; a standard deviation of the last `patience` losses below `stagnation_threshold` times that of the last
    `stagnation_period` ones is a stagnation and multiplies it by `stagnation_factor`; within [`min_lr`, `max_lr`].

    The loss is what the closure returns, or what is given as `step(loss=...)`.
    """

    def __init__(self, params, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, overshoot_factor=0.5, stagnation_factor=1.2,
                 stagnation_threshold=0.2, patience=100, stagnation_period=10, max_grad_norm=1.0, min_lr=1e-7, max_lr=1.0):
        check(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, min_lr=min_lr, max_lr=max_lr)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, overshoot_factor=overshoot_factor,
                                      stagnation_factor=stagnation_factor, stagnation_threshold=stagnation_threshold, patience=patience,
                                      stagnation_period=stagnation_period, max_grad_norm=max_grad_norm, min_lr=min_lr, max_lr=max_lr))
        self.losses: list[float] = []

    start = RAdam.start

    def step(self, closure=None, loss=None):
        given = loss
        loss = super().step(closure)
        given = given if given is not None else loss
        if given is not None:
            self._adjust(float(given))
        return loss

    def _adjust(self, loss: float) -> None:
        """The next rates, from the losses so far."""
        losses = self.losses
        losses.append(loss)
        longest = max(max(g["patience"], g["stagnation_period"]) for g in self.param_groups)
        del losses[:-longest]
        for group in self.param_groups:
            patience, period = group["patience"], group["stagnation_period"]
            if len(losses) < patience:
                continue
            recent = losses[-patience:]
            if loss >= max(recent):
                group["lr"] *= group["overshoot_factor"]
            elif len(losses) >= period and _deviation(recent) < group["stagnation_threshold"] * _deviation(losses[-period:]):
                group["lr"] *= group["stagnation_factor"]
            group["lr"] = min(max(group["lr"], group["min_lr"]), group["max_lr"])

    def update(self, group, parameters):
        if group["max_grad_norm"] and parameters:
            torch.nn.utils.clip_grad_norm_(parameters, group["max_grad_norm"])
        super().update(group, parameters)

    def rule(self, p, g, state, group):
        beta1, beta2 = group["betas"]
        t = next_step(state)
        g = decayed(g, p, group)
        m, v = state["exp_avg"].lerp_(g, 1 - beta1), state["exp_avg_sq"]
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        _descend(p, m, v, group["lr"], t, group)


def _deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
