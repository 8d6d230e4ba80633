"""L-BFGS: a quasi-Newton method with little memory (Liu and Nocedal 1989; Nocedal and Wright, "Numerical Optimization", 7.2)."""

from __future__ import annotations

import antorcha as torch

from ..core.tensor import host
from .optimizer import Optimizer, check


class LBFGS(Optimizer):
    """`step(closure)` makes up to `max_iter` iterations; `closure` computes the loss and the gradients anew each time.

    `history_size` pairs of steps and changes of the gradient stand for the Hessian. `line_search_fn`: None (a step of `lr`) or
    "strong_wolfe". Ends early when the gradient is below `tolerance_grad`, or step or loss change by less than `tolerance_change`.
    """

    def __init__(self, params, lr=1, max_iter=20, max_eval=None, tolerance_grad=1e-7, tolerance_change=1e-9, history_size=100,
                 line_search_fn=None):
        check(lr=lr)
        if max_eval is None:
            max_eval = max_iter * 5 // 4
        super().__init__(params, dict(lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad,
                                      tolerance_change=tolerance_change, history_size=history_size, line_search_fn=line_search_fn))
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params = self.param_groups[0]["params"]

    def _gradient(self):
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self._params])

    def _move(self, t: float, direction) -> None:
        start = 0
        for p in self._params:
            p.add_(direction[start:start + p.numel()].view_as(p), alpha=t)
            start += p.numel()

    def _at(self, closure, origin: list, t: float, direction) -> tuple:
        """(loss, gradient) at origin + t direction; the parameters stay at the origin."""
        self._move(t, direction)
        loss, gradient = float(closure()), self._gradient()
        for p, value in zip(self._params, origin):
            p.copy_(value)
        return loss, gradient

    def step(self, closure):
        """One step; returns the loss before it."""
        group = self.param_groups[0]
        with torch.no_grad():
            def evaluate():
                with torch.enable_grad():
                    return closure()
            return self._step(group, self.state[self._params[0]], evaluate)

    def _step(self, group, state, closure):
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first = closure()
        loss, evaluations = float(first), 1
        state["func_evals"] += 1
        g = self._gradient()
        if g.abs().max() <= group["tolerance_grad"]:
            return first
        d, t, before = state.get("d"), state.get("t"), state.get("prev_loss")
        ys, ss, ros = state.get("old_dirs"), state.get("old_stps"), state.get("ro")
        scale, old = state.get("H_diag"), state.get("prev_flat_grad")
        iterations = 0
        while iterations < group["max_iter"]:
            iterations += 1
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                d, ys, ss, ros, scale = -g, [], [], [], 1
            else:
                y, s = g - old, d * t
                ys_dot = y.dot(s)
                if ys_dot > 1e-10:
                    if len(ys) == group["history_size"]:
                        for kept in (ys, ss, ros):
                            kept.pop(0)
                    ys.append(y)
                    ss.append(s)
                    ros.append(1.0 / ys_dot)
                    scale = ys_dot / y.dot(y)
                d = self._direction(g, ys, ss, ros, scale)
            old, before = g.clone(), loss
            t = min(1.0, 1.0 / float(g.abs().sum())) * group["lr"] if state["n_iter"] == 1 else group["lr"]
            slope = float(g.dot(d))
            if slope > -group["tolerance_change"]:
                break
            used = 0
            if group["line_search_fn"] is not None:
                if group["line_search_fn"] != "strong_wolfe":
                    raise RuntimeError("only 'strong_wolfe' is supported")
                origin = [p.clone() for p in self._params]
                loss, g, t, used = strong_wolfe(lambda a, origin=origin, d=d: self._at(closure, origin, a, d), t, d, loss, g, slope)
                self._move(t, d)
                converged = g.abs().max() <= group["tolerance_grad"]
            else:
                self._move(t, d)
                converged = False
                if iterations != group["max_iter"]:
                    loss, g, used = float(closure()), self._gradient(), 1
                    converged = g.abs().max() <= group["tolerance_grad"]
            evaluations += used
            state["func_evals"] += used
            if iterations == group["max_iter"] or evaluations >= group["max_eval"] or converged \
                    or float((d * t).abs().max()) <= group["tolerance_change"] or abs(loss - before) < group["tolerance_change"]:
                break
        state.update(d=d, t=t, old_dirs=ys, old_stps=ss, ro=ros, H_diag=scale, prev_flat_grad=old, prev_loss=before)
        return first

    @staticmethod
    def _direction(g, ys, ss, ros, scale):
        """Minus the inverse Hessian by the gradient: the two loops of Nocedal and Wright's algorithm 7.4. Hundreds of short steps,
        each of which needs the result of the one before: NumPy does them at once."""
        changes, steps, factors = [host(y) for y in ys], [host(s) for s in ss], [r.item() for r in ros]
        q, weights = -host(g), []
        for y, s, factor in zip(reversed(changes), reversed(steps), reversed(factors)):
            weights.append(s.dot(q) * factor)
            q -= weights[-1] * y
        q *= scale.item()
        for y, s, factor in zip(changes, steps, factors):
            q += (weights.pop() - y.dot(q) * factor) * s
        return torch.tensor(q)


def cubic_minimum(x1, f1, g1, x2, f2, g2, bounds=None) -> float:
    """Where the cubic through two points with their slopes is least, within the bounds (Nocedal and Wright, 3.59)."""
    low, high = bounds if bounds is not None else (min(x1, x2), max(x1, x2))
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if square < 0:
        return (low + high) / 2.0
    d2 = square**0.5
    if x1 <= x2:
        place = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        place = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(place, low), high)


def strong_wolfe(evaluate, t, direction, f, g, slope, c1=1e-4, c2=0.9, tolerance=1e-9, most=25):
    """A step that lessens the loss and flattens its slope enough (Nocedal and Wright, algorithms 3.5 and 3.6).

    `evaluate(t)`: (loss, gradient). Returns (loss, gradient, t, evaluations).
    """
    reach = float(direction.abs().max())
    f_new, g_new = evaluate(t)
    used, slope_new = 1, float(g_new.dot(direction))
    t_old, f_old, g_old, slope_old = 0.0, f, g, slope
    done, k = False, 0
    while k < most:
        if f_new > f + c1 * t * slope or k > 1 and f_new >= f_old:
            bracket = [(t_old, f_old, g_old, slope_old), (t, f_new, g_new, slope_new)]
            break
        if abs(slope_new) <= -c2 * slope:
            bracket, done = [(t, f_new, g_new, slope_new)], True
            break
        if slope_new >= 0:
            bracket = [(t_old, f_old, g_old, slope_old), (t, f_new, g_new, slope_new)]
            break
        following = cubic_minimum(t_old, f_old, slope_old, t, f_new, slope_new, (t + 0.01 * (t - t_old), t * 10))
        t_old, f_old, g_old, slope_old = t, f_new, g_new, slope_new
        t = following
        f_new, g_new = evaluate(t)
        used += 1
        slope_new = float(g_new.dot(direction))
        k += 1
    else:
        bracket = [(0.0, f, g, slope), (t, f_new, g_new, slope_new)]
    stalled = False
    low, high = (0, -1) if bracket[0][1] <= bracket[-1][1] else (1, 0)
    while not done and k < most:
        ends = [bracket[0][0], bracket[1][0]]
        if abs(ends[1] - ends[0]) * reach < tolerance:
            break
        t = cubic_minimum(bracket[0][0], bracket[0][1], bracket[0][3], bracket[1][0], bracket[1][1], bracket[1][3])
        margin = 0.1 * (max(ends) - min(ends))
        if min(max(ends) - t, t - min(ends)) < margin:      # too near an end: a little inwards, the second time for sure
            if stalled or t >= max(ends) or t <= min(ends):
                t = max(ends) - margin if abs(t - max(ends)) < abs(t - min(ends)) else min(ends) + margin
                stalled = False
            else:
                stalled = True
        else:
            stalled = False
        f_new, g_new = evaluate(t)
        used += 1
        slope_new = float(g_new.dot(direction))
        k += 1
        if f_new > f + c1 * t * slope or f_new >= bracket[low][1]:
            bracket[high] = (t, f_new, g_new, slope_new)
            low, high = (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)
        else:
            if abs(slope_new) <= -c2 * slope:
                done = True
            elif slope_new * (bracket[high][0] - bracket[low][0]) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = (t, f_new, g_new, slope_new)
    t, f_new, g_new, _ = bracket[low]
    return f_new, g_new, t, used
