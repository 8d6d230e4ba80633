"""Derivatives checked against differences: `gradcheck`, `gradgradcheck`."""

from __future__ import annotations

import numpy as np

from .arrays import from_numpy
from .autograd import grad, no_grad
from .tensor import Tensor, host


class GradcheckError(RuntimeError):
    """A derivative disagrees with the difference quotient."""


def _outputs(function, inputs):
    out = function(*inputs)
    return [o for o in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(o, Tensor) and o.dtype.kind in "fc"]


def gradcheck(func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, fast_mode=False, **ignored) -> bool:
    """Compare the derivative of `func` at `inputs` (float64 or complex128, requiring grad) with central differences.

    Each output is weighed with random numbers w and the derivative of Re(sum(conj(w) * output)) is compared: that of a complex
    input z = x + iy is d/dx + i d/dy, PyTorch's convention. With `fast_mode`, one random direction of each input is
    tried instead of every element.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    places = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]
    if not places:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True.")
    outputs = _outputs(func, inputs)
    rng = np.random.RandomState(0)
    for k, out in enumerate(outputs):
        if not out.requires_grad:
            continue
        weight = _weight(rng, out)
        cotangent = from_numpy(weight)
        analytic = grad([out], [inputs[i] for i in places], [cotangent], retain_graph=True, allow_unused=True)
        for i, a in zip(places, analytic):
            direction = _weight(rng, inputs[i]) if fast_mode else None
            want = _differences(func, inputs, i, k, weight, eps, direction)
            have = np.zeros(want.shape) if a is None else np.array(host(a.detach()))
            if fast_mode:
                have = (have * direction.conj()).sum().real
            if not np.allclose(have, want, rtol, atol):
                if raise_exception:
                    raise GradcheckError(f"Jacobian mismatch for output {k} with respect to input {i}: numerical {want}, analytical {have}")
                return False
    return True


def _differences(func, inputs, i, k, weight, eps, along=None) -> np.ndarray:
    """By every element of input i, or by all of them together in the direction `along`."""
    base = np.array(host(inputs[i].detach()))
    flat, out = base.reshape(-1), np.zeros(base.size, base.dtype)

    def weighed(j, step) -> float:
        moved = flat.copy()
        moved[j] += step
        x = from_numpy(moved.reshape(base.shape)).requires_grad_()
        with no_grad():
            result = _outputs(func, (*inputs[:i], x, *inputs[i + 1:]))[k]
        return float((np.array(host(result.detach())) * weight.conj()).sum().real)
    if along is not None:
        step = eps * along.reshape(-1)
        return np.array((weighed(slice(None), step) - weighed(slice(None), -step)) / (2 * eps))
    for j in range(flat.size):
        for direction in (1, 1j) if base.dtype.kind == "c" else (1,):
            out[j] += direction * (weighed(j, direction * eps) - weighed(j, -direction * eps)) / (2 * eps)
    return out.reshape(base.shape)


def _weight(rng, out) -> np.ndarray:
    """Random numbers of the shape and dtype of `out`."""
    weight = rng.standard_normal(tuple(out.shape))
    if out.dtype.is_complex:
        weight = weight + 1j * rng.standard_normal(tuple(out.shape))
    return np.asarray(weight, out.dtype.numpy)


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, fast_mode=False,
                  **ignored) -> bool:
    """`gradcheck` of the derivative."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    rng = np.random.RandomState(1)
    results = list(enumerate(_outputs(func, inputs)))
    places = [k for k, o in results if o.requires_grad]
    cotangents = tuple(from_numpy(_weight(rng, o)).requires_grad_() for _, o in results if o.requires_grad)
    count = len(inputs)

    def derivative(*args):
        wanted = [t for t in args[:count] if isinstance(t, Tensor) and t.dtype.kind in "fc"]
        wanted = [t if t.requires_grad else t.requires_grad_() for t in wanted]
        from .autograd import enable_grad
        with enable_grad():
            found = _outputs(func, args[:count])
            outputs = [found[k] for k in places]
            return tuple(g for g in grad(outputs, wanted, args[count:], create_graph=True, allow_unused=True) if g is not None)
    return gradcheck(derivative, inputs + cotangents, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, fast_mode=fast_mode)
