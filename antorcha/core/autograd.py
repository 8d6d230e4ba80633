"""Reverse-mode differentiation over the recorded operations.

Each differentiable result carries a `GradNode`: its operator's derivative, what it kept for it, and edges to the nodes of the
inputs. `backward` visits nodes in reverse order of their creation (a heap on `seq`), which is a topological order; since derivatives
are written with tensor operators, the backward pass is recorded like everything else and can itself be differentiated
(`create_graph`).
"""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections import OrderedDict

from ..graph import tape
from ..ops.record import core

_counter = itertools.count()


# -- modes ------------------------------------------------------------------------------------------------------

class _Mode(threading.local):
    grad = True
    inference = False


mode = _Mode()


def is_grad_enabled() -> bool:
    return mode.grad


class _Decorator:
    """A context manager that also decorates functions and generators' functions."""

    def __call__(self, function):
        import functools
        import inspect

        if inspect.isclass(function):
            function.__init__ = self(function.__init__)
            return function
        if inspect.isgeneratorfunction(function):
            @functools.wraps(function)
            def generator(*args, **kwargs):
                with self.clone():
                    items = function(*args, **kwargs)
                    try:
                        item = next(items)
                    except StopIteration as stop:
                        return stop.value
                while True:
                    try:
                        sent = yield item
                    except BaseException as e:
                        with self.clone():
                            item = items.throw(e)
                        continue
                    with self.clone():
                        try:
                            item = items.send(sent)
                        except StopIteration as stop:
                            return stop.value
            return generator

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with self.clone():
                return function(*args, **kwargs)
        return wrapped

    def clone(self):
        return type(self)()


class no_grad(_Decorator):
    """Operations inside record no derivative."""

    def __new__(cls, function=None):
        self = super().__new__(cls)
        return self if function is None else self(function)

    def __init__(self, function=None):
        self._before = []

    def __enter__(self):
        self._before.append(mode.grad)
        mode.grad = False

    def __exit__(self, *exc):
        mode.grad = self._before.pop()


class enable_grad(no_grad):
    """Operations inside record their derivative, also within `no_grad`."""

    def __enter__(self):
        self._before.append(mode.grad)
        mode.grad = True


class set_grad_enabled(_Decorator):
    """Switch the recording of derivatives on or off, as a function, context manager or decorator."""

    def __init__(self, mode_: bool):
        self._previous = mode.grad
        self.mode = mode_
        mode.grad = bool(mode_)

    def __call__(self, function):
        mode.grad = self._previous
        return super().__call__(function)

    def __enter__(self):
        mode.grad = bool(self.mode)

    def __exit__(self, *exc):
        mode.grad = self._previous

    def clone(self):
        return type(self)(self.mode)


class inference_mode(_Decorator):
    """Like `no_grad`; results made inside cannot take part in differentiation later."""

    def __new__(cls, mode=True):
        self = super().__new__(cls)
        if callable(mode):
            self.__init__(True)
            return self(mode)
        return self

    def __init__(self, mode=True):
        self.mode = mode if isinstance(mode, bool) else True

    def __enter__(self):
        self._before = mode.grad, mode.inference
        if self.mode:
            mode.grad, mode.inference = False, True

    def __exit__(self, *exc):
        mode.grad, mode.inference = self._before

    def clone(self):
        return type(self)(self.mode)


# -- nodes ------------------------------------------------------------------------------------------------------

class _Released:
    pass


RELEASED = _Released()


class Saved:
    """A tensor kept for the backward pass, with the version it had."""

    __slots__ = ("tensor", "version", "edge")

    def __init__(self, tensor, of=None):
        # A result is kept without its grad_fn, which would make a cycle; `unpack` gives it back.
        self.edge = of
        self.tensor = tensor if of is None else core.alias(tensor, tensor.meta)
        self.version = tensor.storage.version

    def unpack(self, node):
        t = self.tensor
        if t.storage.version != self.version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: a tensor of shape "
                f"{list(t.shape)} kept by {node.name()} is at version {t.storage.version}; expected version {self.version}. "
                "Use the form of the operation without the trailing underscore, or clone() the tensor first.")
        if self.edge is not None and mode.grad:
            t = core.alias(t, t.meta)
            t._rg, t._grad_fn, t._nr = True, node, self.edge
        return t


class GradNode:
    """The derivative of one recorded operation. `record` is set on the subclass made for each operator."""

    __slots__ = ("edges", "names", "saved", "seq", "outputs", "results", "_hooks", "_prehooks", "tensor_hooks", "retains", "metadata",
                 "__weakref__")
    record = None

    def __init__(self):
        self.seq = next(_counter)
        self.edges, self.names, self.saved, self.outputs = (), (), {}, ()
        self._hooks = self._prehooks = self.tensor_hooks = self.retains = self.metadata = None

    @classmethod
    def attach(cls, out, arguments: dict):
        record = cls.record
        self = cls.__new__(cls)
        self.seq = next(_counter)
        self._hooks = self._prehooks = self.tensor_hooks = self.retains = self.metadata = None
        edges, names, saved = [], [], {}
        for entry in record.grads:
            name = entry[0]
            x = arguments[name]
            if isinstance(x, core.Tensor):
                if not x._rg:
                    continue
                edges.append(edge_of(x))
                names.append((entry, x.meta))
            elif isinstance(x, (list, tuple)):
                if not any(isinstance(t, core.Tensor) and t._rg for t in x):
                    continue
                edges.extend(edge_of(t) if t._rg else None for t in x)
                names.append((entry, [t.meta for t in x]))
            else:
                continue
            for need in entry[2]:
                if need not in saved:
                    if need not in arguments and need != "result":
                        argument, _, part = need.rpartition("_")
                        v = arguments[argument].meta.view
                        saved[need] = v if part == "view" else v.shape
                        continue
                    v = out if need == "result" else arguments[need]
                    if isinstance(v, core.Tensor):
                        v = Saved(v, 0) if need == "result" else Saved(v)
                    elif need == "result":
                        v = tuple(Saved(t, i) for i, t in enumerate(v))
                    elif isinstance(v, (list, tuple)) and v and isinstance(v[0], core.Tensor):
                        v = tuple(Saved(t) for t in v)
                    saved[need] = v
        self.edges, self.names, self.saved = tuple(edges), tuple(names), saved
        if isinstance(out, core.Tensor):
            self.outputs = (out.meta,)
            out._rg, out._grad_fn = True, self
        else:
            self.outputs = tuple(t.meta for t in out)
            for i, t in enumerate(out):
                if t.meta.dtype.kind in "fc":
                    t._rg, t._grad_fn, t._nr = True, self, i
        return out

    def name(self) -> str:
        return type(self).__name__

    @property
    def next_functions(self):
        return tuple((e[0], e[1]) if e is not None else (None, 0) for e in self.edges)

    def _unpack(self, v):
        if type(v) is Saved:
            return v.unpack(self)
        if type(v) is tuple and v and type(v[0]) is Saved:
            return tuple(s.unpack(self) for s in v)
        return v

    def backward(self, grads: list) -> list:
        saved = self.saved
        if saved is RELEASED:
            raise RuntimeError(
                "Trying to backward through the graph a second time: what the first backward pass kept has been freed. "
                "Pass retain_graph=True to the first backward() or autograd.grad() if it is needed twice.")
        if len(grads) == 1:
            g = grads[0]
        else:
            g = tuple(x if x is not None else core.zeros(m) for x, m in zip(grads, self.outputs))
        out = []
        for (_, function, needs), metas in self.names:
            result = function(g, *[self._unpack(saved[n]) for n in needs])
            if type(metas) is list:
                out.extend(reduce_to(r, m) for r, m in zip(result, metas))
            else:
                out.append(reduce_to(result, metas))
        return out

    def release(self) -> None:
        if self.saved and any(type(v) in (Saved, tuple) for v in self.saved.values()):
            self.saved = RELEASED

    def register_hook(self, hook):
        if self._hooks is None:
            self._hooks = OrderedDict()
        return _handle(self._hooks, hook)

    def register_prehook(self, hook):
        if self._prehooks is None:
            self._prehooks = OrderedDict()
        return _handle(self._prehooks, hook)

    def __getattr__(self, name):
        if name.startswith("_saved_"):
            saved = object.__getattribute__(self, "saved")
            if saved is RELEASED:
                raise RuntimeError("Trying to backward through the graph a second time: the saved tensors have been freed.")
            if name[7:] in saved:
                return self._unpack(saved[name[7:]])
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {hex(id(self))}>"


class Handle:
    """What `register_*hook` returns: `remove()` takes the hook away; also a context manager."""

    _ids = itertools.count()

    def __init__(self, hooks):
        self._hooks = weakref.ref(hooks)
        self.id = next(Handle._ids)

    def remove(self) -> None:
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


def _handle(hooks, hook) -> Handle:
    handle = Handle(hooks)
    hooks[handle.id] = hook
    return handle


class AccumulateGrad(GradNode):
    """The end of a path: adds what arrives to the leaf's `.grad`."""

    __slots__ = ("variable",)

    def __init__(self, variable):
        super().__init__()
        self.seq = 1 << 62  # as soon as it is ready
        self.variable = variable
        self.outputs = (variable.meta,)

    def accumulate(self, g, keep_graph: bool) -> None:
        t = self.variable
        for hook in list((t._hooks or {}).values()):
            new = hook(g)
            g = g if new is None else new
        if t._grad is None:
            t._grad = g if keep_graph else owned(g)
        elif keep_graph:
            t._grad = t._grad + g
        else:
            with no_grad():
                t._grad.add_(g)
        for hook in list((t._post_hooks or {}).values()):
            hook(t)


def owned(g):
    """`g` in a storage of its own, so that writing to it changes nothing else."""
    return g.detach().clone()


def edge_of(t):
    if t._grad_fn is not None:
        return t._grad_fn, t._nr
    return accumulator(t), 0


def accumulator(t) -> AccumulateGrad:
    node = t._accumulator and t._accumulator()
    if node is None:
        node = AccumulateGrad(t)
        t._accumulator = weakref.ref(node)
    return node


def reduce_to(g, m):
    """A cotangent summed over broadcast dimensions and cast, so that it fits an input that is `m`."""
    if g is None:
        return None
    shape = m.view.shape
    have = g.meta.view.shape
    if have != shape:
        lead = len(have) - len(shape)
        dims = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and have[i + lead] != 1)
        g = g.sum(dims, True) if dims else g
        if lead:
            g = g.reshape(shape)
    return g if g.meta.dtype is m.dtype else g.to(m.dtype)


# -- the backward pass ------------------------------------------------------------------------------------------

def run(roots: list, cotangents: list, retain_graph: bool, create_graph: bool, captures: dict | None = None,
        accumulate: bool = True) -> None:
    """Propagate `cotangents` from the `roots` (edges).

    `captures`: {(node, output number): [receives the cotangent]}; with accumulate=False only what leads there is visited.
    """
    needed = None if accumulate else _leading_to(roots, captures)
    waiting = _dependencies(roots, needed)
    buffers: dict = {}
    ready: list = []
    for (node, nr), g in zip(roots, cotangents):
        if needed is not None and node not in needed:
            continue
        _add(buffers, node, nr, g)
        if not waiting.get(node) and not any(n is node for _, _, n in ready):
            heapq.heappush(ready, (-node.seq, id(node), node))
    before, mode.grad = mode.grad, create_graph
    try:
        while ready:
            node = heapq.heappop(ready)[2]
            grads = buffers.pop(node, None) or [None] * len(node.outputs)
            _visit(node, grads, retain_graph or create_graph, create_graph, captures, accumulate, needed, buffers, waiting, ready)
    finally:
        mode.grad = before


def _visit(node, grads, retain, create_graph, captures, accumulate, needed, buffers, waiting, ready) -> None:
    _tensor_hooks(node, grads)
    if captures:
        for nr in range(len(grads)):
            slot = captures.get((node, nr))
            if slot is not None:
                slot.append(grads[nr])
    if type(node) is AccumulateGrad:
        g = grads[0]
        del grads[:]
        if accumulate and g is not None:
            node.accumulate(g, create_graph)
        return
    if needed is not None and not any(e is not None and e[0] in needed for e in node.edges):
        for e in node.edges:
            _arrived(e, needed, waiting, ready)
        return
    for hook in list((node._prehooks or {}).values()):
        new = hook(tuple(grads))
        grads = grads if new is None else list(new)
    result = node.backward(grads) if any(g is not None for g in grads) else [None] * len(node.edges)
    if not retain:
        node.release()
    for hook in list((node._hooks or {}).values()):
        new = hook(tuple(result), tuple(grads))
        result = result if new is None else (list(new) if isinstance(new, tuple) else [new])
    result = list(result)
    for i, e in enumerate(node.edges):
        g, result[i] = result[i], None
        if e is not None and g is not None and (needed is None or e[0] in needed):
            _add(buffers, e[0], e[1], g)
        del g
        _arrived(e, needed, waiting, ready)


def _arrived(e, needed, waiting, ready) -> None:
    if e is None or (needed is not None and e[0] not in needed):
        return
    waiting[e[0]] -= 1
    if waiting[e[0]] == 0:
        heapq.heappush(ready, (-e[0].seq, id(e[0]), e[0]))


def _tensor_hooks(node, grads) -> None:
    if node.tensor_hooks:
        for nr, hooks in node.tensor_hooks.items():
            for hook in list(hooks.values()):
                if grads[nr] is not None:
                    new = hook(grads[nr])
                    grads[nr] = grads[nr] if new is None else new
    if node.retains:
        for nr, reference in node.retains.items():
            t = reference()
            if t is not None and grads[nr] is not None:
                t._grad = grads[nr] if t._grad is None else t._grad + grads[nr]


def _add(buffers, node, nr, g) -> None:
    slots = buffers.get(node)
    if slots is None:
        slots = buffers[node] = [None] * len(node.outputs)
    slots[nr] = g if slots[nr] is None else slots[nr] + g


def _dependencies(roots, needed) -> dict:
    count: dict = {}
    stack = [node for node, _ in roots]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if needed is not None and node not in needed:
            continue
        for e in node.edges:
            if e is None or (needed is not None and e[0] not in needed):
                continue
            count[e[0]] = count.get(e[0], 0) + 1
            if e[0] not in seen:
                seen.add(e[0])
                stack.append(e[0])
    return count


def _leading_to(roots, captures) -> set:
    """The nodes from which a captured one can be reached."""
    targets = {node for node, _ in captures}
    order, seen, stack = [], set(), [(n, False) for n, _ in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        stack.append((node, True))
        stack.extend((e[0], False) for e in node.edges if e is not None and e[0] not in seen)
    needed = set()
    for node in order:
        if node in targets or any(e is not None and e[0] in needed for e in node.edges):
            needed.add(node)
    return needed


def _start(tensors, grads):
    tensors = (tensors,) if isinstance(tensors, core.Tensor) else tuple(tensors)
    grads = (None,) * len(tensors) if grads is None else ((grads,) if isinstance(grads, core.Tensor) else tuple(grads))
    if len(grads) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(grads)} gradients")
    roots, cotangents = [], []
    for t, g in zip(tensors, grads):
        if not t.requires_grad:
            raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn: nothing it was computed from "
                               "requires grad. Set requires_grad=True on what is to be differentiated, outside no_grad().")
        if g is None:
            if t.numel() != 1:
                raise RuntimeError(f"grad can be implicitly created only for scalar outputs; received one of shape {list(t.shape)}. "
                                   "Reduce it first (loss.mean()), or pass gradient=.")
            g = core.ones(t.meta)
        elif g.shape != t.shape:
            raise RuntimeError(f"Mismatch in shape: gradient has shape {list(g.shape)}; expected that of the tensor, {list(t.shape)}.")
        roots.append(edge_of(t))
        cotangents.append(g)
    return roots, cotangents


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None) -> None:
    """Add the gradients of `tensors` to the `.grad` of the leaves (or of `inputs` alone)."""
    tape.begin_backward()
    roots, cotangents = _start(tensors, grad_tensors)
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        run(roots, cotangents, retain, create_graph)
        return
    inputs = (inputs,) if isinstance(inputs, core.Tensor) else tuple(inputs)
    if not inputs:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    found: dict = {edge_of(t): [] for t in inputs}
    run(roots, cotangents, retain, create_graph, found, accumulate=False)
    for t in inputs:
        for g in found[edge_of(t)]:
            if g is not None:
                t._grad = (g if create_graph else owned(g)) if t._grad is None else t._grad + g


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True, allow_unused=None,
         is_grads_batched=False, materialize_grads=False):
    """The gradients of the sum of `outputs` with respect to `inputs`, a tuple of tensors."""
    inputs = (inputs,) if isinstance(inputs, core.Tensor) else tuple(inputs)
    roots, cotangents = _start(outputs, grad_outputs)
    for t in inputs:
        if not t.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    found: dict = {edge_of(t): [] for t in inputs}
    retain = create_graph if retain_graph is None else retain_graph
    run(roots, cotangents, retain, create_graph, found, accumulate=False)
    out = []
    for t in inputs:
        g = next((x for x in found[edge_of(t)] if x is not None), None)
        if g is None:
            if materialize_grads:
                g = core.zeros(t.meta)
            elif not allow_unused:
                raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph. Set "
                                   "allow_unused=True if this is the desired behavior.")
        elif not create_graph:
            g = g.detach()
        out.append(g)
    return tuple(out)
