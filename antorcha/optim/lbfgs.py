"""L-BFGS: a quasi-Newton method with little memory (Liu and Nocedal 1989; Nocedal and Wright, "Numerical Optimization", 7.2)."""

from __future__ import annotations

import math

import numpy as np

import antorcha as torch

from ..core.tensor import host
from .optimizer import Optimizer, check
from .quasi_newton import History, dot, short_sum


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
        """All gradients, one after the other, in NumPy: L-BFGS asks for a number after every few operations on vectors."""
        flat = host(torch.cat([_flat(torch.zeros_like(p) if p.grad is None else p.grad.to_dense()) for p in self._params]))
        return flat.astype(np.float64 if flat.itemsize == 8 else np.float32)

    def _move(self, t, direction: np.ndarray) -> None:
        start = 0
        for p in self._params:
            shape = (*p.shape, 2) if p.is_complex() else p.shape
            piece = torch.tensor(direction[start:start + math.prod(shape)].reshape(shape), device=p.device)
            start += piece.numel()
            p.add_((torch.view_as_complex(piece) if p.is_complex() else piece).to(p.dtype), alpha=float(t))

    def _at(self, closure, origin: list, t, direction) -> tuple:
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
            return self._step(group, state, evaluate)

    _kept: tuple = (None, None)     # the list of steps in the state, and the same as a history

    def _history(self, state, n: int, dtype: np.dtype) -> History:
        """The vectors kept in the state."""
        tensors, history = self._kept
        if tensors is None or tensors is not state["old_stps"]:
            history = History(self.param_groups[0]["history_size"], n, dtype)
            for pair in zip(*(state[name] for name in _LISTS)):
                history.add(*[_number(x) for x in pair])
            self._kept = state["old_stps"], history
        return history

    def _remember(self, state, history: History, y: np.ndarray, s: np.ndarray) -> None:
        """Add a step `s` and the change `y` of the gradient along it, unless the curvature found is not positive."""
        curvature = dot(y, s)
        if curvature <= 1e-10:
            return
        factor = 1 / curvature
        for name, value in zip(_LISTS, (y, s, factor)):
            if len(state[name]) == history.room:
                state[name].pop(0)
            state[name].append(torch.tensor(value))
        history.add(y, s, factor)
        state["H_diag"] = torch.tensor(curvature / dot(y, y))

    def _step(self, group, state, closure):
        first = closure()
        loss, evaluations = float(first), 1
        state["func_evals"] += 1
        g = self._gradient()
        if np.abs(g).max() <= group["tolerance_grad"]:
            return first
        d, t, before, old = (_number(state.get(name)) for name in ("d", "t", "prev_loss", "prev_flat_grad"))
        lr, iterations = _number(group["lr"]), 0
        while iterations < group["max_iter"]:
            iterations += 1
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                d = -g
                state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            else:
                history = self._history(state, g.size, g.dtype)
                self._remember(state, history, g - old, d * t)
                d = history.direction(g, _number(state["H_diag"]))
            old, before = g, loss
            t = min(1.0, 1.0 / short_sum(np.abs(g))) * lr if state["n_iter"] == 1 else lr
            slope = dot(g, d)
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
        self._keep(state, d, t, before, old)
        return first

    def _keep(self, state, d, t, before, old) -> None:
        tensors, history = self._kept
        if tensors is state["old_stps"]:
            state.setdefault("al", [None] * history.room)[:history.count] = torch.tensor(history.weights[:history.count]).unbind()
        state.update(d=torch.tensor(d), t=torch.tensor(t) if isinstance(t, np.floating) else t, prev_flat_grad=torch.tensor(old),
                     prev_loss=before)


_LISTS = ("old_dirs", "old_stps", "ro")     # of the state: changes of the gradient, steps and 1 / their dot products


def _flat(x):
    return (torch.view_as_real(x) if x.is_complex() else x).reshape(-1).cpu()


def _number(x):
    """A tensor as NumPy's array or number, so that numbers are rounded to their dtype as in PyTorch; anything else as it is."""
    return host(x.detach().cpu())[()] if isinstance(x, torch.Tensor) else x


def cubic_minimum(x1, f1, g1, x2, f2, g2, bounds=None):
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
    reach = np.abs(direction).max()
    f_new, g_new = evaluate(t)
    used, slope_new = 1, dot(g_new, direction)
    t_old, f_old, g_old, slope_old = 0, f, g, slope
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
        slope_new = dot(g_new, direction)
        k += 1
    else:
        bracket = [(0, f, g, slope), (t, f_new, g_new, slope_new)]
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
        slope_new = dot(g_new, direction)
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
