"""L-BFGS: a quasi-Newton method with little memory (Liu and Nocedal 1989; Nocedal and Wright, "Numerical Optimization", 7.2)."""

from __future__ import annotations

import numpy as np

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

    def _gradient(self) -> np.ndarray:
        """All gradients, one after the other. L-BFGS asks for a number after every few operations on vectors, so these are NumPy's."""
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad.to_dense()).reshape(-1).cpu() for p in self._params])
        return host(flat).copy()

    def _move(self, t: float, direction: np.ndarray) -> None:
        start = 0
        for p in self._params:
            piece = torch.tensor(direction[start:start + p.numel()], dtype=p.dtype, device=p.device)
            p.add_(piece.view_as(p), alpha=float(t))
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
            state = self.state[self._params[0]]
            state.setdefault("func_evals", 0)
            state.setdefault("n_iter", 0)
            memory = self._recall(state)
            first = self._step(group, state, memory, evaluate)
            self._keep(state, memory)
            return first

    _kept: tuple = ({}, {})     # what the last step left, as tensors and as arrays: few of these change in a step

    def _recall(self, state) -> dict:
        """The vectors that are kept between the steps, as arrays."""
        tensors, arrays = self._kept
        return {name: _copied(arrays[name]) if name in tensors and state.get(name) is tensors[name] else _as_arrays(state.get(name))
                for name in _VECTORS}

    def _keep(self, state, memory: dict) -> None:
        known = {id(a): t for name in _HISTORY for a, t in zip(self._kept[1].get(name, ()), self._kept[0].get(name, ()))}
        tensors = {name: [known.get(id(a)) if id(a) in known else _as_tensor(a) for a in value] if name in _HISTORY else _as_tensor(value)
                   for name, value in memory.items() if value is not None}
        state.update(tensors)
        self._kept = tensors, {name: _copied(memory[name]) for name in tensors}

    def _step(self, group, state, memory, closure):
        first = closure()
        loss, evaluations = float(first), 1
        state["func_evals"] += 1
        g = self._gradient()
        if np.abs(g).max() <= group["tolerance_grad"]:
            return first
        d, t, before, old = memory["d"], state.get("t"), state.get("prev_loss"), memory["prev_flat_grad"]
        lr, iterations = float(group["lr"]), 0
        while iterations < group["max_iter"]:
            iterations += 1
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                d = -g
                memory.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            else:
                remember(memory, g - old, d * t, group["history_size"])
                d = newton_direction(g, memory)
            old, before = g.copy(), loss
            t = min(1.0, 1.0 / float(np.abs(g).sum())) * lr if state["n_iter"] == 1 else lr
            slope = float(g.dot(d))
            if slope > -group["tolerance_change"]:
                break
            used = 0
            if group["line_search_fn"] is not None:
                if group["line_search_fn"] != "strong_wolfe":
                    raise RuntimeError("only 'strong_wolfe' is supported")
                origin = [p.clone() for p in self._params]
                loss, g, t, used = strong_wolfe(lambda a, origin=origin, d=d: self._at(closure, origin, a, d), t, d, loss, g, slope,
                                                most=group["max_eval"] - evaluations)
                self._move(t, d)
            else:
                self._move(t, d)
                if iterations != group["max_iter"]:
                    loss, g, used = float(closure()), self._gradient(), 1
            converged = np.abs(g).max() <= group["tolerance_grad"]
            evaluations += used
            state["func_evals"] += used
            if iterations == group["max_iter"] or evaluations >= group["max_eval"] or converged \
                    or np.abs(d * t).max() <= group["tolerance_change"] or abs(loss - before) < group["tolerance_change"]:
                break
        memory.update(d=d, prev_flat_grad=old)
        state.update(t=t, prev_loss=before)
        return first


_HISTORY = ("old_dirs", "old_stps", "ro")      # lists
_VECTORS = ("d", *_HISTORY, "H_diag", "prev_flat_grad")     # kept as tensors between the steps


def _as_arrays(x):
    if isinstance(x, list):
        return [_as_arrays(y) for y in x]
    return host(x.detach().cpu())[()] if isinstance(x, torch.Tensor) else x


def _as_tensor(x):
    return torch.tensor(x) if isinstance(x, (np.ndarray, np.generic)) else x


def _copied(x):
    return x.copy() if isinstance(x, list) else x


def remember(memory: dict, y: np.ndarray, s: np.ndarray, most: int) -> None:
    """Add a step `s` and the change `y` of the gradient along it, unless the curvature found is not positive."""
    curvature = y.dot(s)
    if curvature <= 1e-10:
        return
    for name, value in (("old_dirs", y), ("old_stps", s), ("ro", 1 / curvature)):
        if len(memory[name]) == most:
            memory[name].pop(0)
        memory[name].append(value)
    memory["H_diag"] = curvature / y.dot(y)


def newton_direction(g: np.ndarray, memory: dict) -> np.ndarray:
    """Minus the inverse Hessian by the gradient: the two loops of Nocedal and Wright's algorithm 7.4."""
    changes, steps, factors = memory["old_dirs"], memory["old_stps"], memory["ro"]
    q, weights = -g, []
    for y, s, factor in zip(reversed(changes), reversed(steps), reversed(factors)):
        weights.append(s.dot(q) * factor)
        q -= weights[-1] * y
    q *= memory["H_diag"]
    for y, s, factor in zip(changes, steps, factors):
        q += (weights.pop() - y.dot(q) * factor) * s
    return q


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
    reach = float(np.abs(direction).max())
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
