"""Derivatives of functions, as functions: grad, vjp, jvp, linearize, jacrev, jacfwd, hessian.

Each transform gives the function aliases of its arguments whose history ends at (or passes through) a `Seed` of its own, and asks
the reverse pass for the cotangents that arrive there; so a transform within a transform, whose seeds are others, is no different.
What is computed has a history of its own only where it leads on, to tensors outside that require grad or to the seeds of a
transform outside.

A forward derivative is the reverse one taken twice: the cotangents that arrive at the inputs are linear in those given to the
outputs, u -> J^T u, and the derivative of that with respect to u, given tangents t as cotangents, is J t (Christianson, "Reverse
accumulation and accurate rounding error estimates for Taylor series coefficients", 1992). Nothing is computed that does not lead
to the tangents: the values at u are recorded, not needed.
"""

from __future__ import annotations

import functools

from ..base.grad_mode import mode
from ..core import autograd
from ..core.autograd import SpecialNode, edge_of, enable_grad, place_of
from ..core.tensor import Tensor, alias
from ..ops.factory import eye
from ..ops.record import core
from ..ops.view import movedim
from ..utils._pytree import tree_flatten, tree_map, tree_unflatten
from .mapping import vmap


class Seed(SpecialNode):
    """An argument of a function that is differentiated; passes on what arrives where the argument has a history itself."""

    __slots__ = ()

    def backward(self, grads: list) -> list:
        return grads[:1]


def seed(x: Tensor, onward: bool) -> Tensor:
    """An alias of `x` to differentiate by. `onward`: derivatives flow on into the history of x."""
    if x._meta.dtype.kind not in "fc":
        raise RuntimeError(
            f"only Tensors of floating point dtype can require gradients; received {x.dtype}. Convert it first: x.float()"
        )
    out, node = alias(x, x._meta), Seed()
    node.outputs = x._meta.alone
    if onward and x._rg:
        node.edges = (edge_of(x),)
    out._rg, out._grad_fn = True, node
    return out


def pull(outputs: list, cotangents: list, nodes: list, record: bool) -> list:
    """The cotangents that arrive at `nodes` (None where none does), given those of the outputs. `record`: with their history."""
    pairs = [(place_of(edge_of(o)), g) for o, g in zip(outputs, cotangents) if g is not None and isinstance(o, Tensor) and o._rg]
    if not pairs:
        return [None] * len(nodes)
    captures: dict = {(node, 0): [] for node in nodes}
    autograd.run([p for p, _ in pairs], [g for _, g in pairs], True, record, captures, accumulate=False)
    found = [next(iter(captures[node, 0]), None) for node in nodes]
    return found if record else [g if g is None or not g._rg else g.detach() for g in found]


def escapes(outputs, own) -> bool:
    """Whether the history of the outputs leads to tensors that require grad, or to transforms outside, and not to seeds in `own`
    alone."""
    stack = [edge_of(t) for t in outputs if isinstance(t, Tensor) and t._rg]
    stack, seen = [place_of(e)[0] for e in stack], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Tensor):
            return True
        edges = [place_of(e)[0] for e in node.edges if e is not None]
        if not edges and node not in own or edges and type(node) is Seed and node in own:
            return True
        stack.extend(edges)
    return False


def released(tree, own, outer: bool):
    """Results without the history that ends at the transform's own seeds."""

    def release(t):
        if not isinstance(t, Tensor) or not t._rg or outer and escapes([t], own):
            return t
        return t.detach()

    return tree_map(release, tree)


def zeros_for(found: list, tensors: list) -> list:
    return [core.zeros(x._meta) if g is None else g for g, x in zip(found, tensors)]


# -- arguments ----------------------------------------------------------------------------------------------------


def _positions(argnums, count: int) -> tuple:
    """The places of the arguments to differentiate by, counted from 0."""
    several = isinstance(argnums, tuple)
    if not several and not isinstance(argnums, int):
        raise RuntimeError(f"argnum must be int or Tuple[int, ...], got {type(argnums)}")
    if several and not argnums:
        raise RuntimeError("argnums must be non-empty")
    numbers = argnums if several else (argnums,)
    for n in numbers:
        if not -count <= n < count:
            raise RuntimeError(f"Got argnum={n}, but only {count} positional inputs")
    places = tuple(n % count for n in numbers)
    if len(set(places)) != len(places):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    return places


class Seeded:
    """The arguments of a call with seeds in place of those to differentiate by: `args`; `tensors` and `nodes`, the leaves and
    their seeds; `spec`, the structure of the chosen arguments."""

    def __init__(self, args: tuple, argnums, onward: bool):
        places = _positions(argnums, len(args))
        chosen = tuple(args[i] for i in places) if isinstance(argnums, tuple) else args[places[0]]
        self.tensors, self.spec = tree_flatten(chosen)
        for x in self.tensors:
            if not isinstance(x, Tensor):
                raise ValueError(f"Thing passed to transform API must be Tensor, got {type(x)}")
        fresh = [seed(x, onward) for x in self.tensors]
        self.nodes = [t._grad_fn for t in fresh]
        self.own = set(self.nodes)
        tree = tree_unflatten(fresh, self.spec)
        new = dict(zip(places, tree if isinstance(argnums, tuple) else (tree,)))
        self.args = tuple(new.get(i, a) for i, a in enumerate(args))

    def tree(self, leaves):
        return tree_unflatten(leaves, self.spec)


def _with_aux(what: str, result, has_aux: bool):
    """(output, auxiliary output or None)."""
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"{what}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return result


def _only_tensors(what: str, leaves: list) -> None:
    if not leaves:
        raise RuntimeError(f"{what}: expected f to return tensors; received nothing.")
    for t in leaves:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"{what}: expected f(*primals) to return only tensors, got unsupported type {type(t)}")


# -- reverse ------------------------------------------------------------------------------------------------------


def grad_and_value(func, argnums=0, has_aux=False):
    """A function that gives (gradients, value) of `func`, which returns a tensor of one element (with has_aux, and something
    else).

    argnums: the argument to differentiate by, or a tuple of several; arguments may be trees of tensors, and the gradients are
    like them.
    """
    what = "grad_and_value(f)(*args)"

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        outer = mode.grad
        given = Seeded(args, argnums, outer)
        with enable_grad():
            output, aux = _with_aux(what, func(*given.args, **kwargs), has_aux)
            if not isinstance(output, Tensor):
                raise RuntimeError(f"{what}: Expected f(*args) to return a Tensor, got {type(output)}")
            if output.dim():
                raise RuntimeError(
                    f"{what}: Expected f(*args) to return a scalar Tensor, got tensor with {output.dim()} dims. Maybe you "
                    "wanted to use the vjp or jacrev APIs instead?"
                )
            further = outer and escapes([output], given.own)
            found = zeros_for(pull([output], [core.ones(output._meta)], given.nodes, further), given.tensors)
        value = released((output, aux) if has_aux else output, given.own, outer)
        return given.tree(found), value

    return wrapper


def grad(func, argnums=0, has_aux=False):
    """A function that gives the gradient of `func`, which returns a tensor of one element; with has_aux, (gradient, what `func`
    returns besides). See `grad_and_value`."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return wrapper


def vjp(func, *primals, has_aux=False):
    """(func(*primals), the function from cotangents of the results to those of the primals[, what `func` returns besides]).

    The cotangents are given as the results are: one argument, or one for each of several results.
    """
    what = "vjp(f, *primals)"
    outer = mode.grad
    given = Seeded(primals, tuple(range(len(primals))), outer)
    with enable_grad():
        result, aux = _with_aux(what, func(*given.args), has_aux)
    outputs, spec = tree_flatten(result)
    _only_tensors(what, outputs)
    further = outer and escapes(outputs, given.own)

    def pullback(*cotangents, retain_graph=True, create_graph=None):
        tree = cotangents[0] if len(cotangents) == 1 else cotangents
        if spec.type is tuple and len(cotangents) == 1 and not isinstance(tree, tuple):
            tree = cotangents
        found, have = tree_flatten(tree)
        if have != spec:
            raise RuntimeError(
                f"Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function. "
                f"cotangents: {have}, primal output: {spec}"
            )
        for i, (g, o) in enumerate(zip(found, outputs)):
            if g.shape != o.shape:
                raise RuntimeError(
                    f"Mismatch in shape: grad_output[{i}] has a shape of {g.shape} and output[{i}] has a shape of {o.shape}."
                )
        record = mode.grad if create_graph is None else create_graph
        record = record and (further or any(g._rg for g in found))
        return _unwrap(zeros_for(pull(outputs, found, given.nodes, record), given.tensors), given, primals)

    out = released(result, given.own, outer)
    return (out, pullback, released(aux, given.own, outer)) if has_aux else (out, pullback)


def _unwrap(leaves: list, given: Seeded, primals: tuple):
    tree = given.tree(leaves)
    return tree if isinstance(tree, tuple) else (tree,)


# -- forward ------------------------------------------------------------------------------------------------------


class Pushforward:
    """tangents of the seeds -> tangents of `outputs`, of which those without a derivative are zero."""

    def __init__(self, outputs: list, nodes: list):
        self.outputs, self.nodes = outputs, nodes
        with enable_grad():
            dummies = [seed(core.zeros(o._meta), False) if o._meta.dtype.kind in "fc" else None for o in outputs]
            self.linear = pull(outputs, dummies, nodes, True)
        self.dummies = [None if d is None else d._grad_fn for d in dummies]

    def __call__(self, tangents: list, record: bool) -> list:
        """`tangents`: for each seed, or None for zero."""
        pairs = [(g, t) for g, t in zip(self.linear, tangents) if g is not None and t is not None]
        nodes = [d for d in self.dummies if d is not None]
        found = iter(pull([g for g, _ in pairs], [t for _, t in pairs], nodes, record))
        return zeros_for([None if d is None else next(found) for d in self.dummies], self.outputs)


def _check_tangents(what: str, primals: tuple, tangents) -> tuple[list, list]:
    if not isinstance(primals, tuple):
        raise RuntimeError(f"{what}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals).")
    ps, spec = tree_flatten(primals)
    ts, have = tree_flatten(tangents)
    if spec != have:
        raise RuntimeError(
            f"{what}: Expected primals and tangents to have the same python structure. For example, if primals is a tuple of "
            f"3 tensors, tangents also must be. Got primals with structure {spec} and tangents with structure {have}"
        )
    for p, t in zip(ps, ts):
        if not isinstance(p, Tensor) or not isinstance(t, Tensor):
            raise RuntimeError(f"{what}: expected primals and tangents to hold only tensors; received {type(p)} and {type(t)}")
        if p.shape != t.shape:
            raise RuntimeError(
                "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not "
                f"supported. Tensor is of size {list(p.shape)} while the given forward gradient is of size {list(t.shape)}."
            )
    return ps, ts


def jvp(func, primals, tangents, *, strict=False, has_aux=False):
    """(func(*primals), the derivative of the results in the direction `tangents`[, what `func` returns besides])."""
    what = "jvp(f, primals, tangents)"
    ts = _check_tangents(what, primals, tangents)[1]
    outer = mode.grad
    given = Seeded(primals, tuple(range(len(primals))), outer)
    with enable_grad():
        result, aux = _with_aux(what, func(*given.args), has_aux)
    outputs, spec = tree_flatten(result)
    _only_tensors(what, outputs)
    further = outer and (escapes(outputs, given.own) or any(t._rg for t in ts))
    found = Pushforward(outputs, given.nodes)(ts, further)
    out = released(result, given.own, outer), tree_unflatten(found, spec)
    return (*out, released(aux, given.own, outer)) if has_aux else out


def linearize(func, *primals):
    """(func(*primals), the function from tangents of the primals to those of the results); `func` runs once."""
    what = "linearize(f, *primals)"
    outer = mode.grad
    given = Seeded(primals, tuple(range(len(primals))), outer)
    with enable_grad():
        result = func(*given.args)
    outputs, spec = tree_flatten(result)
    _only_tensors(what, outputs)
    further = outer and escapes(outputs, given.own)
    push = Pushforward(outputs, given.nodes)

    def pushforward(*tangents):
        ts = _check_tangents(what, primals, tangents)[1]
        return tree_unflatten(push(ts, mode.grad and (further or any(t._rg for t in ts))), spec)

    return released(result, given.own, outer), pushforward


# -- Jacobians ----------------------------------------------------------------------------------------------------


def _basis(x: Tensor) -> Tensor:
    """All tensors like `x` with a single 1, along a first dimension."""
    return eye(x.numel(), dtype=x.dtype).reshape((x.numel(), *x.shape))


def _recorded(what: str, func, args, kwargs, argnums, has_aux: bool):
    """A call of `func` on seeds: (the seeds, its results as a list, their structure, whether derivatives have a history, the
    auxiliary output)."""
    outer = mode.grad
    given = Seeded(args, argnums, outer)
    with enable_grad():
        result, aux = _with_aux(what, func(*given.args, **kwargs), has_aux)
    outputs, spec = tree_flatten(result)
    _only_tensors(what, outputs)
    return given, outputs, spec, outer and escapes(outputs, given.own), released(aux, given.own, outer)


def jacrev(func, argnums=0, *, has_aux=False, chunk_size=None, _preallocate_and_copy=False):
    """A function that gives the Jacobian of `func`, row by row (reverse mode): for each result a tree like the chosen arguments,
    of tensors of shape result.shape + argument.shape. chunk_size: how many rows at a time."""
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        given, outputs, spec, further, aux = _recorded("jacrev(f)(*args)", func, args, kwargs, argnums, has_aux)
        rows = []
        for o in outputs:

            def row(v, o=o):
                return tuple(zeros_for(pull([o], [v], given.nodes, further), given.tensors))

            found = vmap(row, chunk_size=chunk_size, randomness="same")(_basis(o))
            rows.append(given.tree([g.reshape((*o.shape, *x.shape)) for g, x in zip(found, given.tensors)]))
        out = tree_unflatten(rows, spec)
        return (out, aux) if has_aux else out

    return wrapper


def jacfwd(func, argnums=0, has_aux=False, *, randomness="error"):
    """A function that gives the Jacobian of `func`, column by column (forward mode), shaped like that of `jacrev`."""
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        given, outputs, spec, further, aux = _recorded("jacfwd(f)(*args)", func, args, kwargs, argnums, has_aux)
        push, columns = Pushforward(outputs, given.nodes), []
        for i, x in enumerate(given.tensors):

            def column(t, i=i):
                return tuple(push([t if j == i else None for j in range(len(given.nodes))], further))

            found = vmap(column, randomness=randomness)(_basis(x))
            columns.append([movedim(c, 0, -1).reshape((*o.shape, *x.shape)) for c, o in zip(found, outputs)])
        out = tree_unflatten([given.tree([c[k] for c in columns]) for k in range(len(outputs))], spec)
        return (out, aux) if has_aux else out

    return wrapper


def hessian(func, argnums=0):
    """A function that gives the second derivatives of `func`: jacfwd of jacrev."""
    return jacfwd(jacrev(func, argnums), argnums)
