"""Derivatives checked against differences: `gradcheck`, `gradgradcheck`."""

from __future__ import annotations

import numpy as np

from .autograd import grad, no_grad
from .tensor import Tensor, from_numpy, host


class GradcheckError(RuntimeError):
    """A derivative disagrees with the difference quotient."""


def _outputs(function, inputs):
    out = function(*inputs)
    return [o for o in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(o, Tensor) and o.is_floating_point()]


def gradcheck(func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, **ignored) -> bool:
    """Compare the derivative of `func` at `inputs` (float64, requiring grad) with central differences."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    places = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]
    if not places:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True.")
    outputs = _outputs(func, inputs)
    rng = np.random.RandomState(0)
    for k, out in enumerate(outputs):
        if not out.requires_grad:
            continue
        weight = rng.standard_normal(tuple(out.shape))
        cotangent = from_numpy(weight.astype(out.dtype.numpy))
        analytic = grad([out], [inputs[i] for i in places], [cotangent], retain_graph=True, allow_unused=True)
        for i, a in zip(places, analytic):
            want = _differences(func, inputs, i, k, weight, eps)
            have = np.zeros(want.shape) if a is None else np.array(host(a.detach()))
            if not np.allclose(have, want, rtol, atol):
                if raise_exception:
                    raise GradcheckError(f"Jacobian mismatch for output {k} with respect to input {i}: numerical {want}, analytical {have}")
                return False
    return True


def _differences(func, inputs, i, k, weight, eps) -> np.ndarray:
    base = np.array(host(inputs[i].detach()))
    flat, out = base.reshape(-1), np.zeros(base.size)
    for j in range(flat.size):
        values = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[j] += sign * eps
            x = from_numpy(moved.reshape(base.shape)).requires_grad_()
            with no_grad():
                result = _outputs(func, (*inputs[:i], x, *inputs[i + 1:]))[k]
            values.append(float((np.array(host(result.detach())) * weight).sum()))
        out[j] = (values[0] - values[1]) / (2 * eps)
    return out.reshape(base.shape)


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, **ignored) -> bool:
    """`gradcheck` of the derivative."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    rng = np.random.RandomState(1)
    cotangents = tuple(from_numpy(rng.standard_normal(tuple(o.shape)).astype(o.dtype.numpy)).requires_grad_() for o in _outputs(func, inputs))
    count = len(inputs)

    def derivative(*args):
        wanted = [t for t in args[:count] if isinstance(t, Tensor) and t.is_floating_point()]
        wanted = [t if t.requires_grad else t.requires_grad_() for t in wanted]
        from .autograd import enable_grad
        with enable_grad():
            outputs = _outputs(func, args[:count])
            return tuple(g for g in grad(outputs, wanted, args[count:], create_graph=True, allow_unused=True) if g is not None)
    return gradcheck(derivative, inputs + cotangents, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)
