"""torch.autograd.functional: products with Jacobians and Hessians, and these themselves, of functions of one or several tensors.

In all of them: func takes `inputs` (a tensor or a tuple) and returns a tensor or a tuple. create_graph: what is returned can be
differentiated. strict: RuntimeError where a result does not depend on an input, instead of zeros.
"""

from __future__ import annotations

from ..core.autograd import enable_grad
from ..core.tensor import Tensor
from ..func.derivatives import Pushforward, _basis, pull, seed
from ..func.mapping import vmap
from ..ops.record import core
from ..ops.view import movedim


def _tensors(x, what: str) -> tuple[bool, tuple]:
    """(whether `x` is a tuple, it as one)."""
    several = isinstance(x, tuple)
    for i, t in enumerate(x if several else (x,)):
        if not isinstance(t, Tensor):
            if several:
                raise TypeError(
                    f"{what} must be either a Tensor or a tuple of Tensors but the value at index {i} of the given "
                    f"{what.split(' given')[0].lower()} has type {type(t)}."
                )
            kind = "outputs of the user-provided function" if what.startswith("The outputs") else "inputs"
            raise TypeError(f"{what} must be either a Tensor or a tuple of Tensors but the given {kind} has type {type(x)}.")
    return several, x if several else (x,)


class _Call:
    """One call of the function on seeded inputs: `outputs`, `nodes` (the seeds) and `inputs`, all as tuples."""

    def __init__(self, func, inputs, name: str, create_graph: bool):
        self.several_in, given = _tensors(inputs, f"The inputs given to {name}")
        self.create_graph = create_graph
        with enable_grad():
            self.inputs = tuple(seed(x, create_graph) for x in given)
            self.several_out, self.outputs = _tensors(
                func(*self.inputs), f"The outputs of the user-provided function given to {name}"
            )
        self.nodes = [x._grad_fn for x in self.inputs]

    def results(self):
        """The outputs as they are returned."""
        out = tuple(o if self.create_graph or not o._rg else o.detach() for o in self.outputs)
        return out if self.several_out else out[0]

    def like_inputs(self, found):
        return tuple(found) if self.several_in else found[0]

    def check_outputs(self, strict: bool) -> None:
        for i, o in enumerate(self.outputs):
            if strict and not o._rg:
                raise RuntimeError(
                    f"Output {i} of the user-provided function does not require gradients. The outputs must be computed in a "
                    "differentiable manner from the input when running in strict mode."
                )

    def filled(self, found: list, strict: bool, what: str = "the user-provided function", output: int = 0) -> list:
        """Zeros for what is missing, or in strict mode an error."""
        for i, g in enumerate(found):
            if strict and g is None:
                raise RuntimeError(f"Output {output} of {what} is independent of input {i}. This is not allowed in strict mode.")
            if strict and self.create_graph and not g._rg:
                raise RuntimeError(
                    f"The jacobian of {what} is independent of input {i}. This is not allowed in strict mode when "
                    "create_graph=True."
                )
        return [core.zeros(x._meta) if g is None else g for g, x in zip(found, self.inputs)]


def _vector(v, like: tuple, several: bool, missing: str) -> list:
    """`v` checked against the tensors it is multiplied with; 1 if it is None and there is one element."""
    if v is None:
        if several or like[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if {missing} is a single Tensor with a single element.")
        return [core.ones(like[0]._meta)]
    vs = _tensors(v, "The v given")[1]
    if len(vs) != len(like):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}.")
    for i, (a, x) in enumerate(zip(vs, like)):
        if a.shape != x.shape:
            raise RuntimeError(
                f"{f'Entry {i} in v' if len(vs) > 1 else 'v'} has invalid size: should be {x.shape} but got {a.shape}."
            )
    return list(vs)


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), v^T J): the vector v, shaped like the outputs, times the Jacobian; shaped like the inputs."""
    call = _Call(func, inputs, "vjp", create_graph)
    call.check_outputs(strict)
    vs = _vector(v, call.outputs, call.several_out, "the user-provided function returns")
    with enable_grad():
        found = pull(call.outputs, vs, call.nodes, create_graph)
    return call.results(), call.like_inputs(call.filled(found, strict))


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), J v): the Jacobian times the vector v, shaped like the inputs; shaped like the outputs."""
    call = _Call(func, inputs, "jvp", create_graph)
    call.check_outputs(strict)
    vs = _vector(v, call.inputs, call.several_in, "the input to the user-provided function")
    push = Pushforward(list(call.outputs), call.nodes)
    call.filled(push.linear, strict)
    found = push(vs, create_graph)
    return call.results(), tuple(found) if call.several_out else found[0]


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """The Jacobian: of shape output.shape + input.shape, for several outputs or inputs a tuple (of tuples) of them.

    strategy: "reverse-mode", row by row, or "forward-mode", column by column. All rows are computed together (`vmap`) with or
    without `vectorize`.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError(
            f'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs than '
            f'inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use "reverse-mode". Got {strategy}.'
        )
    if strategy == "forward-mode" and not vectorize:
        raise NotImplementedError(
            "Computing Jacobian using forward-AD or forward-over-reverse Hessian is only implemented for `vectorize=True`."
        )
    if strategy == "forward-mode" and create_graph:
        raise NotImplementedError(
            'torch.autograd.functional.jacobian: `create_graph=True` and `strategy="forward-mode"` are not supported '
            'together (yet). Please either set `create_graph=False` or `strategy="reverse-mode"`.'
        )
    if strict and vectorize:
        raise RuntimeError(
            "torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together. Please either "
            "set `strict=False` or `vectorize=False`."
        )
    call = _Call(func, inputs, "jacobian", create_graph)
    call.check_outputs(strict)
    rows = _columns(call) if strategy == "forward-mode" else [_rows(call, k, strict) for k in range(len(call.outputs))]
    found = [call.like_inputs(row) for row in rows]
    return tuple(found) if call.several_out else found[0]


def _rows(call: _Call, k: int, strict: bool) -> list:
    """The Jacobian of output k by each input."""
    o = call.outputs[k]

    def row(v):
        return tuple(call.filled(pull([o], [v], call.nodes, call.create_graph), strict, output=k))

    with enable_grad():
        found = vmap(row, randomness="same")(_basis(o))
    return [g.reshape((*o.shape, *x.shape)) for g, x in zip(found, call.inputs)]


def _columns(call: _Call) -> list:
    """The Jacobian of each output by each input, in forward mode."""
    push, columns = Pushforward(list(call.outputs), call.nodes), []
    for i, x in enumerate(call.inputs):

        def column(t, i=i):
            return tuple(push([t if j == i else None for j in range(len(call.nodes))], False))

        columns.append(vmap(column, randomness="same")(_basis(x)))
    return [
        [movedim(c[k], 0, -1).reshape((*o.shape, *x.shape)) for c, x in zip(columns, call.inputs)]
        for k, o in enumerate(call.outputs)
    ]


def _single(call: _Call, name: str) -> None:
    if call.several_out:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if call.outputs[0].numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """The Hessian of a function with one element as its result: of shape input.shape + input.shape, for several inputs a tuple of
    tuples."""
    several = _tensors(inputs, "The inputs given to hessian")[0]
    if outer_jacobian_strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError(f'Expected strategy to be either "forward-mode" or "reverse-mode". Got {outer_jacobian_strategy}.')

    def gradient(*xs):
        call = _Call(func, xs, "hessian", True)
        _single(call, "hessian")
        call.check_outputs(strict)
        found = pull(call.outputs, [core.ones(call.outputs[0]._meta)], call.nodes, True)
        return call.like_inputs(call.filled(found, strict)) if several else call.filled(found, strict)[0]

    return jacobian(gradient, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)


def _second(func, inputs, v, create_graph: bool, strict: bool, name: str):
    """(func(inputs), the Hessian times v, on either side: it is symmetric)."""
    call = _Call(func, inputs, name, create_graph)
    _single(call, name)
    call.check_outputs(strict)
    vs = _vector(v, call.inputs, call.several_in, "the input to the user-provided function")
    with enable_grad():
        first = pull(call.outputs, [core.ones(call.outputs[0]._meta)], call.nodes, True)
        for i, g in enumerate(first):
            if strict and (g is None or not g._rg):
                raise RuntimeError(
                    f"The jacobian of the user-provided function with respect to input {i} is independent of the input. This is "
                    "not allowed in strict mode."
                )
        found = pull(first, vs, call.nodes, create_graph)
    return call.results(), call.like_inputs(call.filled(found, strict))


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), v^T H): the vector v, shaped like the inputs, times the Hessian of a function with one element as its
    result."""
    return _second(func, inputs, v, create_graph, strict, "vhp")


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), H v): the Hessian of a function with one element as its result, times the vector v, shaped like the
    inputs."""
    return _second(func, inputs, v, create_graph, strict, "hvp")


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
