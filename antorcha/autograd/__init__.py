"""torch.autograd: derivatives of what was computed."""

from __future__ import annotations

from ..core import autograd as _engine
from ..core.autograd import backward as _backward
from ..core.autograd import enable_grad, inference_mode, no_grad, set_grad_enabled
from ..core.autograd import is_grad_enabled as is_grad_enabled
from ..core.function import Function, NestedIOFunction
from ..core.function import once_differentiable as once_differentiable
from ..core.gradcheck import gradcheck, gradgradcheck
from .anomaly_mode import detect_anomaly, set_detect_anomaly
from .variable import Variable

__all__ = [
    "Function",
    "NestedIOFunction",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "enforce_grad_layout_policy",
    "grad",
    "grad_mode",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
    "set_multithreading_enabled",
    "variable",
]


def _tuple(x) -> tuple:
    return (x,) if isinstance(x, Variable) or hasattr(x, "output_nr") else tuple(x)


def _places(tensors: tuple, cotangents) -> tuple[tuple, tuple]:
    """Tensors in place of GradientEdges, so that both can be differentiated, and the cotangents as a tuple as long."""
    from .graph import GradientEdge, tensor_at

    tensors = tuple(tensor_at(t) if isinstance(t, GradientEdge) else t for t in tensors)
    return tensors, (None,) * len(tensors) if cotangents is None else _tuple(cotangents)


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None) -> None:
    """Add the gradients of `tensors` (tensors or GradientEdges) to the `.grad` of the leaves, or of `inputs` alone.

    grad_tensors: the cotangents, for those that have more than one element. retain_graph: the same can be differentiated once
    more. create_graph: the gradients can be differentiated.
    """
    tensors, cotangents = _places(_tuple(tensors), grad_tensors)
    _backward(tensors, cotangents, retain_graph, create_graph, None if inputs is None else _places(_tuple(inputs), None)[0])


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph=None,
    create_graph=False,
    only_inputs=True,
    allow_unused=None,
    is_grads_batched=False,
    materialize_grads=False,
):
    """The gradients of the sum of `outputs` with respect to `inputs` (tensors or GradientEdges), as a tuple.

    grad_outputs: the cotangents; with is_grads_batched, many of each along a first dimension, and so are the gradients.
    allow_unused: None for inputs that the outputs do not depend on; materialize_grads: zeros.
    """
    if not only_inputs:
        raise ValueError("grad: expected only_inputs=True; the gradients of other leaves are accumulated by backward().")
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    outputs, cotangents = _places(_tuple(outputs), grad_outputs)
    inputs, _ = _places(_tuple(inputs), None)
    sparse = {i: t for i, t in enumerate(inputs) if hasattr(t, "_values")}
    if sparse:      # by their values, and at the same places
        dense = [t._values() if i in sparse else t for i, t in enumerate(inputs)]
        found = grad(outputs, dense, cotangents, retain_graph, create_graph, True, allow_unused, is_grads_batched, materialize_grads)
        return tuple([sparse[i]._like(g) if i in sparse and g is not None else g for i, g in enumerate(found)])
    if not is_grads_batched:
        return _engine.grad(
            outputs,
            inputs,
            cotangents,
            retain_graph,
            create_graph,
            only_inputs,
            allow_unused,
            materialize_grads=materialize_grads,
        )
    from ..func import vmap

    def one(cotangents):
        return _engine.grad(
            outputs, inputs, cotangents, True, create_graph, only_inputs, allow_unused, materialize_grads=materialize_grads
        )

    dims = (tuple(None if g is None else 0 for g in cotangents),)
    given = [t for t in inputs]
    used = one(tuple(None if g is None else g[0] for g in cotangents)) if allow_unused else given
    return vmap(one, in_dims=dims, out_dims=tuple(None if g is None else 0 for g in used))(cotangents)


def variable(*args, **kwargs):
    """RuntimeError: the oldest name of `torch.tensor`."""
    raise RuntimeError("torch.autograd.variable(...) is deprecated, use torch.tensor(...) instead")


class _Policy:
    """A setting that changes nothing here, as a function or a context."""

    def __init__(self, enable: bool = True):
        self.enable = enable

    def __enter__(self):
        pass

    def __exit__(self, *exc):
        pass


class set_multithreading_enabled(_Policy):
    """Accepted for compatibility: the backward pass is recorded like everything else, and computed by all threads."""


class enforce_grad_layout_policy(_Policy):
    """Accepted for compatibility: the layout of gradients is that of what computed them."""


def __getattr__(name):
    import importlib

    if name in ("forward_ad", "function", "functional", "grad_mode", "graph", "profiler"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
