"""Custom operators with a derivative of their own: `autograd.Function`."""

from __future__ import annotations

import functools

from .autograd import RELEASED, TWICE, Saved, SpecialNode, edge_of, mode, no_grad
from .tensor import Tensor, alias


class FunctionCtx:
    """What `forward` leaves for `backward`, and the node of the graph that it belongs to."""

    boxed_grads_call = clear_saved_tensors_on_access = False
    to_save: tuple = ()
    saved_for_forward: tuple = ()
    dirty_tensors: tuple = ()
    non_differentiable: tuple = ()
    needs_input_grad: tuple = ()
    materialize_grads = True
    _node: FunctionNode | None = None

    def save_for_backward(self, *tensors) -> None:
        """Keep tensors (inputs, results or others; None, too) for `backward`, which finds them in `saved_tensors`."""
        self.to_save = tensors

    def save_for_forward(self, *tensors) -> None:
        """Keep tensors for `jvp`. (Forward derivatives are taken from `backward`: see `func.jvp`.)"""
        self.saved_for_forward = tensors

    def mark_dirty(self, *tensors) -> None:
        """Say which inputs `forward` has written; they are to be returned."""
        self.dirty_tensors = tensors

    def mark_non_differentiable(self, *tensors) -> None:
        """Say which results have no derivative."""
        self.non_differentiable = tensors

    def mark_shared_storage(self, *pairs) -> None:
        """Nothing is to be said: views share their storage, and it is known."""

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for results that nothing was computed from."""
        self.materialize_grads = value

    @property
    def saved_tensors(self) -> tuple:
        if self._node is None:
            return tuple(self.to_save)
        saved = self._node.kept
        if saved is RELEASED:
            raise RuntimeError(TWICE)
        return tuple(s if s is None else s.unpack(self._node) for s in saved)

    saved_variables = saved_tensors

    def maybe_clear_saved_tensors(self) -> None:
        """Nothing: what is kept is let go when the backward pass has come by."""

    @property
    def requires_grad(self) -> bool:
        return any(self.needs_input_grad)

    @property
    def metadata(self) -> dict:
        return self._node.metadata if self._node is not None else {}

    @property
    def next_functions(self) -> tuple:
        return self._node.next_functions if self._node is not None else ()

    def name(self) -> str:
        return self._node.name() if self._node is not None else type(self).__name__

    def register_hook(self, hook):
        return self._node.register_hook(hook)

    def register_prehook(self, hook):
        return self._node.register_prehook(hook)


class FunctionNode(SpecialNode):
    """The node of a custom operator."""

    __slots__ = ("context", "function", "input_metas")  # `derivative`: the function that computes the cotangents

    def name(self) -> str:
        return f"{self.function.__name__}Backward"

    def backward(self, grads):
        from ..ops.factory import full_of

        if self.kept is RELEASED:
            raise RuntimeError(TWICE)
        if self.context.materialize_grads:
            grads = [g if g is not None else full_of(m.view.shape, 0, m.dtype) for g, m in zip(grads, self.outputs)]
        result = self.derivative(self.context, *grads)
        result = result if isinstance(result, tuple) else (result,)
        if len(result) < len(self.edges) or any([g is not None for g in result[len(self.edges):]]):
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected {len(self.edges)}, "
                f"got {len(result)})"
            )
        metas = [*self.input_metas, *[None] * (len(self.edges) - len(self.input_metas))]
        for i, (g, m) in enumerate(zip(result, metas)):
            if g is not None and m is None:
                raise RuntimeError(f"function {self.name()} returned a gradient different from None at position {i + 1}, but the "
                                   "corresponding forward input was not a Variable. Return None there.")
        return [g if g is None or m is None or g._meta.view.shape == m.view.shape else self._fitted(g, m.view.shape)
                for g, m in zip(result, metas[:len(self.edges)])]

    def _fitted(self, g: Tensor, shape: tuple) -> Tensor:
        """A cotangent that the input's shape broadcasts to is summed; one that broadcasts to the input's shape stays as it is."""
        from ..ops.record import broadcast_shapes

        try:
            whole = broadcast_shapes(self.name(), g._meta.view.shape, shape)
        except RuntimeError:
            whole = None
        if whole == g._meta.view.shape:
            return g.sum_to_size(shape)
        if whole == shape:
            return g
        raise RuntimeError(f"Function {self.name()} returned an invalid gradient: got {list(g.shape)} but expected shape compatible "
                           f"with {list(shape)}")

    def release(self):
        if self.kept:
            self.kept = RELEASED


class Function(FunctionCtx):
    """Subclass it with static methods `forward(ctx, ...)` and `backward(ctx, *grads)`, and call `apply`.

    Or with `forward(...)`, `setup_context(ctx, inputs, output)` and `backward`. Within `torch.func`'s transforms both forms work
    as they are: `vmap` sees the operators that `forward` calls, and forward derivatives are those of `backward`; so neither a
    method `vmap` nor `jvp` nor `generate_vmap_rule` is needed.
    """

    generate_vmap_rule = False

    @staticmethod
    def forward(*args, **kwargs):
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    vjp = backward

    @staticmethod
    def setup_context(ctx, inputs, output):
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def jvp(ctx, *grad_inputs):
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to call it.")

    @staticmethod
    def vmap(info, in_dims, *args):
        raise NotImplementedError("You must implement the vmap function for custom autograd.Function to call it.")

    @classmethod
    def apply(cls, *args, **kwargs):
        context = FunctionCtx()
        context.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        tracked = mode.grad and any(context.needs_input_grad)
        split = cls.setup_context if cls.setup_context is not Function.setup_context else None
        backward = cls.backward if cls.backward is not Function.backward else cls.vjp
        with no_grad():
            result = cls.forward(*args, **kwargs) if split else cls.forward(context, *args, **kwargs)
            if split:
                split(context, args, result)
        if not tracked:
            return result
        single = not isinstance(result, tuple)
        outputs = [result] if single else list(result)
        node = FunctionNode()
        node.context, node.function, node.derivative = context, cls, backward
        node.edges = tuple(edge_of(a) if isinstance(a, Tensor) and a._rg else None for a in args)
        node.input_metas = tuple(a._meta if isinstance(a, Tensor) else None for a in args)
        for i, t in enumerate(outputs):
            if not isinstance(t, Tensor) or any(t is n for n in context.non_differentiable) or t.dtype.kind not in "fc":
                continue
            if any(t is a for a in args) and not any(t is d for d in context.dirty_tensors):
                t = alias(t, t._meta)
            t._rg, t._grad_fn, t._nr = True, node, i
            outputs[i] = t
        node.outputs = tuple(t._meta if isinstance(t, Tensor) else None for t in outputs)
        places = {id(t): i for i, t in enumerate(outputs)}
        node.kept = tuple(None if t is None else Saved(t, places.get(id(t))) for t in context.to_save)
        context._node, context.to_save = node, ()
        return outputs[0] if single else tuple(outputs)


class InplaceFunction(Function):
    """A Function with a flag that says whether it works in place."""

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace


class NestedIOFunction(Function):
    """A Function of trees of tensors; `Function` takes them, too, but tracks only tensors that are arguments themselves."""


class NotTwice(SpecialNode):
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
                t, node = alias(t, t._meta), NotTwice()
                node.outputs = t._meta.alone
                node.edges = tuple(edge_of(g) for g in grads if isinstance(g, Tensor) and g._rg)
                t._rg, t._grad_fn = True, node
                outputs[i] = t
        return tuple(outputs) if isinstance(found, tuple) else outputs[0]

    return wrapped
