"""Custom operators with a derivative of their own: `autograd.Function`."""

from __future__ import annotations

import functools

from .autograd import RELEASED, TWICE, GradNode, Saved, edge_of, mode, no_grad
from .tensor import Tensor, alias


class FunctionCtx:
    """What `forward` leaves for `backward`."""

    def __init__(self):
        self._to_save = ()
        self._dirty = ()
        self._non_differentiable = ()
        self._materialize = True
        self.needs_input_grad = ()

    def save_for_backward(self, *tensors) -> None:
        self._to_save = tensors

    def save_for_forward(self, *tensors) -> None:
        """Accepted: forward derivatives are taken from `backward`."""

    def mark_dirty(self, *tensors) -> None:
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors) -> None:
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        self._materialize = value

    @property
    def saved_tensors(self):
        if self._node is None:
            return tuple(self._to_save)
        saved = self._node.kept
        if saved is RELEASED:
            raise RuntimeError(TWICE)
        return tuple(s if s is None else s.unpack(self._node) for s in saved)

    _node = None


class FunctionNode(GradNode):
    """The node of a custom operator."""

    __slots__ = ("context", "function", "input_metas")

    def name(self) -> str:
        return f"{self.function.__name__}Backward"

    def backward(self, grads):
        from ..ops.factory import full_of

        if self.kept is RELEASED:
            raise RuntimeError(TWICE)
        if self.context._materialize:
            grads = [g if g is not None else full_of(m.view.shape, 0, m.dtype) for g, m in zip(grads, self.outputs)]
        result = self.function.backward(self.context, *grads)
        result = result if isinstance(result, tuple) else (result,)
        if len(result) < len(self.edges):
            raise RuntimeError(f"function {self.name()} returned an incorrect number of gradients (expected {len(self.edges)}, "
                               f"got {len(result)})")
        for g, m in zip(result, self.input_metas):
            if g is not None and m is not None and tuple(g.shape) != m.view.shape:
                try:
                    g.expand(m.view.shape)
                except RuntimeError:
                    raise RuntimeError(f"Function {self.name()} returned an invalid gradient: got {list(g.shape)} but expected shape compatible "
                                       f"with {list(m.view.shape)}") from None
        return list(result[:len(self.edges)])

    def release(self):
        if self.kept:
            self.kept = RELEASED


class Function:
    """Subclass it with static methods `forward(ctx, ...)` and `backward(ctx, *grads)`, and call `apply`."""

    @staticmethod
    def forward(*args, **kwargs):
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function to use it with "
                                  "backward mode AD.")

    @classmethod
    def apply(cls, *args, **kwargs):
        context = FunctionCtx()
        context.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        tracked = mode.grad and any(context.needs_input_grad)
        split = getattr(cls, "setup_context", None)
        with no_grad():
            result = cls.forward(*args, **kwargs) if split else cls.forward(context, *args, **kwargs)
            if split:
                split(context, args, result)
        if not tracked:
            return result
        single = not isinstance(result, tuple)
        outputs = [result] if single else list(result)
        node = FunctionNode()
        node.context, node.function = context, cls
        node.edges = tuple(edge_of(a) if isinstance(a, Tensor) and a._rg else None for a in args)
        node.input_metas = tuple(a.meta if isinstance(a, Tensor) else None for a in args)
        for i, t in enumerate(outputs):
            if not isinstance(t, Tensor) or any(t is n for n in context._non_differentiable) or t.dtype.kind not in "fc":
                continue
            if any(t is a for a in args) and not any(t is d for d in context._dirty):
                t = alias(t, t.meta)
            t._rg, t._grad_fn, t._nr = True, node, i
            outputs[i] = t
        node.outputs = tuple(t.meta if isinstance(t, Tensor) else None for t in outputs)
        places = {id(t): i for i, t in enumerate(outputs)}
        node.kept = tuple(None if t is None else Saved(t, places.get(id(t))) for t in context._to_save)
        context._node, context._to_save = node, ()
        return outputs[0] if single else tuple(outputs)


class InplaceFunction(Function):
    """A Function with a flag that says whether it works in place."""

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace


class NestedIOFunction(Function):
    """A Function of trees of tensors; `Function` takes them, too, but tracks only tensors that are arguments themselves."""


class NotTwice(GradNode):
    """The history of a cotangent that cannot be differentiated."""

    __slots__ = ()

    def backward(self, grads):
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(function):
    """The backward method is not differentiated itself; an attempt raises RuntimeError."""
    @functools.wraps(function)
    def wrapped(ctx, *grads):
        with no_grad():
            found = function(ctx, *grads)
        if not mode.grad or not any(isinstance(g, Tensor) and g.requires_grad for g in grads):
            return found
        outputs = list(found) if isinstance(found, tuple) else [found]
        for i, t in enumerate(outputs):
            if t is not None and t.dtype.kind in "fc":
                t, node = alias(t, t.meta), NotTwice()
                node.outputs = t.meta.alone
                node.edges = tuple(edge_of(g) for g in grads if isinstance(g, Tensor) and g._rg)
                t._rg, t._grad_fn = True, node
                outputs[i] = t
        return tuple(outputs) if isinstance(found, tuple) else outputs[0]
    return wrapped
