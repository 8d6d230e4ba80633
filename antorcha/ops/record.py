"""One record per operator: what it is called, what it computes, its derivative, its samples.

A decorator per family turns a declaration into a `Record`, from which the function (`torch.sin`), the method, the in-place
form, the `out=` form, the documentation and the tests are made. This file knows how an operation is recorded: find the
result's shape and dtype (once for each combination of input layouts, then looked up), make a node, wrap it in a tensor,
and hang the derivative on it.

The tensor class lies in a layer above; it registers itself here when it is defined (`bind`).

Derivatives (`grad=`) map the name of an input to a function from the cotangent `g` (first parameter) to that input's cotangent.
Its other parameters are names of arguments of the operator, or `result`; exactly these are kept for the backward pass (of an
argument `x`, `x_shape` and `x_view` keep only the shape and the index map). Sums over broadcast dimensions and casts back to the
input's dtype are added here.
"""

from __future__ import annotations

import functools
import inspect
import numbers
from types import FunctionType, SimpleNamespace

import numpy as np

from ..base import dtype as dt
from ..base.grad_mode import mode
from ..base.symbol import Symbol
from ..graph import tape
from ..graph.node import Form, Lanes, Static, dense, form, row_major
from ..graph.node import view as make_view
from ..graph.tape import state
from .derivative import Terms

RECORDS: dict[str, Record] = {}

# What the layer above provides: Tensor (the class), make(node, meta) and alias(tensor, view) -> tensor, GradNode (the class)
core = SimpleNamespace(Tensor=None, make=None, alias=None, GradNode=object)


class Meta:
    """What a tensor is, apart from its value: an index map, a dtype and a device. Interned: compare with `is`."""

    __slots__ = ("view", "dtype", "device", "alone")

    def __init__(self, view, dtype, device):
        self.view, self.dtype, self.device = view, dtype, device
        self.alone = (self,)


_metas: dict[tuple, Meta] = {}


def meta(view, dtype, device=None) -> Meta:
    key = (view, dtype, device)
    found = _metas.get(key)
    if found is None:
        if len(_metas) > 100_000:
            _metas.clear()
        found = _metas[key] = Meta(view, dtype, device)
    return found


class Record:
    """An operator. See the module's text for the fields."""

    def __init__(self, name, family, function=None, grad=None, samples=None, **fields):
        self.name, self.family, self.function = name, family, function
        self.scalar = self.combine = self.host = self.rule = None
        self.complex = None         # scalar code on complex numbers (ir.Pair), or True: `scalar` does; without, they are refused
        self.holomorphic = True     # the derivative by a complex input is the formula's conjugate
        self.tensors = ()           # inputs that may not be numbers
        self.wide = False           # of 16-bit floats the "forward" body, the "derivative" or both (True) are computed in float32
        self.moves = False          # gives elements on as they are
        self.autocast = None        # inside of torch.autocast inputs are cast: "lower" to its dtype, "full" to float32
        self.late_error = IndexError        # what an index out of its dimension raises when the value is computed
        self.bare = False           # the body makes one node, of the inputs with a derivative in their order, or (of a view) none
        self.partial = False        # of several results: the derivative takes None for cotangents that did not arrive, not zeros
        self.uses_index = False
        self.out = True             # has the form with `out=`; "exact": of the result's dtype, "apart": on memory of its own
        self.public = True          # part of the API
        self.namespace = True       # a function of the torch namespace; "fft": of torch.fft, there without that prefix
        self.silent = False         # with `out=` it returns None
        self.torch_name = None      # of one in another namespace: its name in torch, and as a method
        self.method = True          # a method of Tensor
        self.inplace = False        # has the form with a trailing underscore
        self.title = None           # of the class of its derivative's nodes, if not made from the name
        self.samples = samples
        self.cache: dict = {}
        self.__dict__.update(fields)
        self.call = None            # the finished function
        self.names: tuple = ()      # of the parameters, `positional` of which are not keywords only
        self.positional = 0
        self.variadic = None        # the name of a parameter such as *shape
        if function:
            code = function.__code__
            count = code.co_argcount + code.co_kwonlyargcount
            self.positional = code.co_argcount
            self.names = code.co_varnames[:count]
            self.variadic = code.co_varnames[count] if code.co_flags & inspect.CO_VARARGS else None
        self.grad = grad

    def __repr__(self) -> str:
        return f"<record {self.name}>"

    @functools.cached_property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or "" if self.function else ""

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @functools.cached_property
    def terms(self) -> Terms | None:
        """Its derivative; None without one."""
        if self.grad is None:
            return None
        title = self.title or "".join(part.capitalize() for part in self.name.strip("_").split("_"))
        node_class = type(f"{title}Backward0", (core.GradNode,), {"__slots__": (), "record": self})
        return Terms(self.name, self.names, self.grad, node_class)


def register(record: Record) -> Record:
    key = record.name if record.public else "_" + record.name.lstrip("_")
    if key in RECORDS:
        raise TypeError(f"operator {key!r} is declared twice")
    RECORDS[key] = record
    return record


def functions_in(namespace: str) -> dict:
    """name -> function of a namespace below torch."""
    return {r.name[len(namespace) + 1:]: r.call for r in RECORDS.values() if r.namespace == namespace}


def bind(tensor_class, make, alias, grad_node) -> None:
    """Called once by the layer that defines the tensor."""
    core.Tensor, core.make, core.alias, core.GradNode = tensor_class, make, alias, grad_node


def attach(record: Record, out, arguments: tuple):
    """Make `out` (a tensor or a tuple of tensors) a differentiable result of `record` applied to `arguments`, which are in the
    order of its parameters."""
    terms = record.terms
    if terms is None or isinstance(out, core.Tensor) and not out.meta.dtype.continuous:
        return out
    return terms[terms.tracked(arguments)].attach(out, *arguments)


# -- numbers and dtypes -----------------------------------------------------------------------------------------

NUMBERS = {bool: dt.bool_, int: dt.int64, float: None, Symbol: None}     # None: the default dtype


def number(x):
    """`x` as a Python number (a complex one as a tensor: kernels take real numbers as arguments), or None where it is none."""
    if type(x) in NUMBERS:
        return x
    if isinstance(x, (complex, np.complexfloating)):
        return core.tensor(x)
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, numbers.Number):
        return float(x) if isinstance(x, numbers.Real) and not isinstance(x, numbers.Integral) else int(x)
    return None


def result_dtype(inputs) -> dt.dtype:
    """PyTorch's promotion: dimensioned tensors before 0-dim tensors before numbers, each only where its category is higher."""
    groups = [None, None, None]
    for x in inputs:
        if isinstance(x, core.Tensor):
            place, d = (0 if x.meta.view.shape else 1), x.meta.dtype
        else:
            place = 2
            d = NUMBERS[type(x)] or dt.default()
        groups[place] = d if groups[place] is None else dt.promote(groups[place], d)
    best = None
    for d in groups:
        if d is None:
            continue
        if best is None:
            best = d
        elif dt.CATEGORY[d.kind] > dt.CATEGORY[best.kind]:
            best = dt.promote(best, d)
    assert best is not None, "expected at least one input"
    return best


def broadcast_shapes(what: str, *shapes) -> tuple:
    if len(shapes) == 2 and shapes[0] == shapes[1]:
        return shapes[0]
    rank = max(len(s) for s in shapes)
    out = [1] * rank
    for s in shapes:
        for i, n in enumerate(s, rank - len(s)):
            if n != 1:
                if out[i] not in (1, n):
                    a, b = (list(x) for x in shapes[:2])
                    raise RuntimeError(
                        f"{what}: The size of tensor a ({out[i]}) must match the size of tensor b ({n}) at non-singleton "
                        f"dimension {i}; received shapes {' and '.join(str(list(x)) for x in shapes)}. "
                        "Dimensions are matched from the last; make them equal or 1 (unsqueeze, reshape).")
                out[i] = n
    return tuple(out)


def broadcast_view(v, shape: tuple):
    """The index map `v` read with a larger shape: stride 0 along dimensions it lacks or has once."""
    if v.shape == shape:
        return v
    key = ("broadcast", shape)
    found = v.memo.get(key)
    if found is None:
        skip = len(shape) - len(v.shape)
        strides = (0,) * skip + tuple(0 if n == 1 and m != 1 else t for n, t, m in zip(v.shape, v.strides, shape[skip:]))
        found = v.memo[key] = make_view(shape, strides, v.offset)
    return found


# -- pointwise --------------------------------------------------------------------------------------------------
# Rules: from the promoted dtype to (dtype of computation, dtype of result)

def same(d): return d, d
def floating(d): return (d, d) if d.kind in "fc" else (dt.default(), dt.default())
def comparison(d): return d, dt.bool_
def logical(d): return d, dt.bool_


def bitwise(d):
    if d.kind in "fc":
        raise NotImplementedError(f"expected an integer or bool tensor; received {d}")
    return d, d


def computable(what: str, d) -> None:
    """NotImplementedError for a dtype that nothing is computed in."""
    if d.opaque:
        raise NotImplementedError(f'"{what}" not implemented for {d}. Convert it first: x.float()')


def no_bool(d):
    if d.kind == "b":
        raise RuntimeError("expected a numeric dtype; received bool. Convert it first: input.int(), or use the logical operators.")
    return d, d


def _memory_order(tensors, shape: tuple):
    """The permutation of dimensions, outermost first, in which a result is laid out: that of the first full-shaped dense input."""
    for t in tensors:
        v = t.meta.view
        if v.shape == shape:
            if v.numel < 2 or v.strides == row_major(shape):
                return None
            order = sorted(range(len(shape)), key=lambda i: (-v.strides[i], i))
            permuted = tuple(shape[i] for i in order)
            if tuple(v.strides[i] for i in order if shape[i] != 1) == tuple(
                    s for s, n in zip(row_major(permuted), permuted) if n != 1):
                return None if order == sorted(order) else order
            return None
    return None


def pointwise_form(rec: Record, args: tuple) -> tuple[Form, Meta]:
    """Shape, dtype and index maps of a pointwise result, and what its tensor is; errors are raised here, at the user's call."""
    tensors = [a for a in args if isinstance(a, core.Tensor)]
    shape = broadcast_shapes(rec.name, *[t.meta.view.shape for t in tensors])
    try:
        if rec.selects is None:
            promoted = result_dtype(args)
            if not rec.moves:
                computable(rec.name, promoted)
            compute, out = rec.rule(promoted)
            casts = (compute,) * len(args)
        else:
            casts, out = rec.selects(args)
    except (RuntimeError, NotImplementedError) as e:
        raise type(e)(f"{rec.name}: {e}") from None
    if casts[0].kind == "c" and rec.complex is None:
        raise RuntimeError(f"\"{rec.name}\" not implemented for '{'ComplexFloat' if casts[0] is dt.complex64 else 'ComplexDouble'}'. "
                           "Use its real and imaginary parts: input.real, input.imag.")
    order = _memory_order(tensors, shape)
    views = [broadcast_view(a.meta.view, shape) if isinstance(a, core.Tensor) else None for a in args]
    if order is None:
        out_view, node_shape = dense(shape), shape
    else:
        node_shape = tuple(shape[i] for i in order)
        views = [v and make_view(node_shape, tuple(v.strides[i] for i in order), v.offset) for v in views]
        strides = [0] * len(shape)
        for i, s in zip(order, row_major(node_shape)):
            strides[i] = s
        out_view = make_view(shape, tuple(strides))
    device = next((t.meta.device for t in tensors if t.meta.device is not None), None)
    return form(rec, tuple(views), Static(casts=casts), node_shape, out_view.numel, out), meta(out_view, out, device)


def _layouts(args):
    return tuple([a.meta if isinstance(a, core.Tensor) else type(a) for a in args])


def _checked(rec: Record, args):
    """Arguments of a slow call: NumPy scalars become numbers, anything else but tensors is refused."""
    out = []
    for name, a in zip(rec.names, args):
        if not isinstance(a, core.Tensor):
            n = None if name in rec.tensors else number(a)
            if n is None:
                raise TypeError(f"{rec.name}(): argument '{name}' must be Tensor or Number, not {type(a).__name__}")
            a = n
        out.append(a)
    if not any(isinstance(a, core.Tensor) for a in out):
        name = rec.names[0]
        raise TypeError(f"{rec.name}(): argument '{name}' (position 1) must be Tensor, not {type(args[0]).__name__}")
    return tuple(core.together(rec.name, out) if state.devices else out)


# The calls of pointwise operators. What is decided by the layouts of the inputs is looked up: (form, meta, derivative or None).

def _unary_call(rec: Record):
    cache = rec.cache

    def call(x):
        try:
            form, m, terms = cache[x.meta]
            node = x.storage.node
        except (KeyError, AttributeError):
            _checked(rec, (x,))
            _remember(rec, (x,), x.meta)
            return call(x)
        out = core.record(form, (node,), m)
        if x._rg and terms is not None and mode.grad:
            terms[1].attach(out, x)
        return out

    return call


def _binary_call(rec: Record):
    cache = rec.cache

    def call(a, b):
        try:
            if type(b) in NUMBERS:
                form, m, terms = cache[a.meta, type(b)]
                inputs = (a.storage.node, b)
                tracked = 1 if a._rg else 0
            elif type(a) in NUMBERS:
                form, m, terms = cache[type(a), b.meta]
                inputs = (a, b.storage.node)
                tracked = 2 if b._rg else 0
            else:
                form, m, terms = cache[a.meta, b.meta]
                inputs = (a.storage.node, b.storage.node)
                tracked = (3 if b._rg else 1) if a._rg else 2 if b._rg else 0
        except (KeyError, AttributeError):
            a, b = args = _checked(rec, (a, b))
            _remember(rec, args, _layouts(args))
            return call(a, b)
        out = core.record(form, inputs, m)
        if tracked and terms is not None and mode.grad:
            terms[tracked].attach(out, a, b)
        return out

    return call


def _nary_call(rec: Record):
    cache = rec.cache

    def call(*args):
        try:
            form, m, terms = cache[tuple([a.meta if type(a) not in NUMBERS else type(a) for a in args])]
        except (KeyError, AttributeError):
            args = _checked(rec, args)
            form, m, terms = _remember(rec, args, _layouts(args))
        out = core.record(form, tuple([a if type(a) in NUMBERS else a.storage.node for a in args]), m)
        if terms is not None and any([type(a) not in NUMBERS and a._rg for a in args]) and mode.grad:
            terms[terms.tracked(args)].attach(out, *args)
        return out

    return call


def _remember(rec: Record, args: tuple, key) -> tuple[Form, Meta, Terms | None]:
    """Decide about a call, for it and all that are like it."""
    if len(rec.cache) > 20_000:
        rec.cache.clear()
    form, m = pointwise_form(rec, args)
    terms = rec.terms if m.dtype.continuous else None
    in_order = terms is None or len(rec.names) > 2 or all(bit == 1 << i for i, bit in terms.inputs)
    assert in_order, f"{rec.name}: expected derivatives in the order of the inputs"
    found = rec.cache[key] = form, m, terms
    return found


def pointwise(scalar, grad=None, rule=same, selects=None, samples=None, inplace=True, **fields):
    """An operator of elements. `scalar` computes one element from loop program expressions (`loops.ir`) of the inputs, already cast
    to the dtype of computation; `rule` gives that dtype and the result's; `selects(args) -> (casts, dtype)` replaces the rule where
    inputs are cast differently. The decorated function only declares: its parameters are the inputs, tensors or numbers."""

    def declare(function):
        rec = Record(fields.pop("name", function.__name__), "pointwise", function, grad, samples, scalar=scalar, rule=rule,
                     selects=selects, inplace=inplace, **fields)
        rec.raw = {1: _unary_call, 2: _binary_call}.get(len(rec.names), _nary_call)(rec)
        rec.call = _public(rec, "result = call({positional})\n", call=rec.raw)
        rec.call.record = rec
        register(rec)
        return rec.call

    return declare


def _unfinished(*args, **kwargs):
    return _finish()(*args, **kwargs)   # noqa: F821 (a global of each copy)


def _public(rec: Record, template, **names):
    """The function of a record: the declaration's parameters, then `out=`; the lines of `template` (a text, or what gives it) compute
    `result`.

    Most operators of a library are never called by one program: a function is written and compiled when it is first called.
    It counts as code of this file, so that errors point at the user's line.
    """
    space = {"rec": rec, "mode": mode, "state": state, "store_out": store_out, "settled": _settled,
             "respelled": _respelled, "spread": _spread, "recast": recast, "MISSING": MISSING, **names}
    function = FunctionType(_unfinished.__code__, space, rec.name)

    def finish():
        space.update(terms=rec.terms, known=rec.cache, decide=_decide, Meta=Meta,
                     Tensor=core.Tensor, record=core.record, view_of=core.view_of)
        source, defaults, keyword_defaults = _definition(rec, template() if callable(template) else template)
        scope: dict = {}
        exec(compile(source, __file__, "exec"), scope)
        function.__code__ = scope[rec.name].__code__
        function.__defaults__, function.__kwdefaults__ = defaults, keyword_defaults
        return function

    space["_finish"] = finish
    function.__wrapped__ = rec.function     # for its signature
    function.__doc__ = rec.function.__doc__
    function.__module__ = "antorcha"
    return function


def _settled(result, args):
    return core.settled(result, args)


MISSING = object()      # the value of a required parameter that may be given by another name
SYNONYMS = {"axis": "dim", "keepdims": "keepdim"}


def _definition(rec: Record, template: str) -> tuple:
    """(source, defaults, keyword defaults) of a record's function. A parameter `*shape` may be given as `shape=`, too, and `dim` as
    `axis`."""
    has_out = rec.family != "view" and rec.out
    positional, keywords = rec.names[:rec.positional], rec.names[rec.positional:]
    defaults = rec.function.__defaults__ or ()
    required = rec.positional - len(defaults)
    star = [f"*{rec.variadic}"] if rec.variadic else []
    lines, extra = [], []
    if rec.variadic:
        extra = ["**given"]
        lines.append(f"if given: {rec.variadic} = spread(rec, {rec.variadic}, given)")
    elif "dim" in positional[required - 1:]:
        extra = ["**given"]
        if required and positional[required - 1] == "dim":
            defaults = (MISSING, *defaults)
        everything = ", ".join(f"{n}={n}" for n in (*rec.names, *(["out"] if has_out else [])))
        lines.append(f"if given or dim is MISSING: return rec.call(**respelled(rec, given, dict({everything})))")
    passed = ", ".join([*positional, *star, *(f"{n}={n}" for n in keywords)])
    if rec.autocast:
        lines.append(f"if mode.autocast is not None: return recast(rec.call, rec.autocast, {passed})")
    lines += template.format(positional=", ".join(rec.names), tuple="".join(f"{n}, " for n in rec.names), passed=passed).splitlines()
    inputs = "".join(f"{n}, " for n in (*rec.names, *([rec.variadic] if rec.variadic else [])))
    if rec.family not in ("pointwise", "view") and rec.grad is None:
        lines.append(f"if state.devices: result = settled(result, ({inputs}))")
    stored = f"store_out(rec.name, out, result, ({inputs}), rec.out)"
    lines.append("return result" if not has_out else f"return result if out is None else {stored}{' and None' if rec.silent else ''}")
    parameters = [*positional, *(star or (["*"] if has_out or keywords else [])), *keywords, *(["out"] if has_out else []), *extra]
    keyword_defaults = {**(rec.function.__kwdefaults__ or {}), **({"out": None} if has_out else {})}
    return f"def {rec.name}({', '.join(parameters)}):\n    " + "\n    ".join(lines), defaults, keyword_defaults


def _respelled(rec: Record, given: dict, arguments: dict) -> dict:
    """`arguments` with those `given` by NumPy's names in place."""
    for name, value in given.items():
        if SYNONYMS.get(name) not in arguments:
            raise TypeError(f"{rec.name}() got an unexpected keyword argument '{name}'")
        arguments[SYNONYMS[name]] = value
    for name, value in arguments.items():
        if value is MISSING:
            raise TypeError(f'{rec.name}() missing 1 required positional argument: "{name}"')
    return arguments


def _spread(rec: Record, rest: tuple, given: dict) -> tuple:
    """The arguments of a parameter such as *shape that was given by name."""
    value = given.pop(rec.variadic, MISSING)
    if given or rest or value is MISSING:
        raise TypeError(f"{rec.name}() got an unexpected keyword argument '{next(iter(given), rec.variadic)}'")
    return (value,)


def store_out(name: str, out, result, inputs=(), rule=True):
    """Write `result` into the user's `out` tensor (or tuple of them), resized if its shape differs. `rule`: see `Record.out`."""
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise TypeError(f"{name}(): argument 'out' must be tuple of {len(result)} Tensors, not {type(out).__name__}")
        stored = [store_out(name, o, r, inputs, rule) for o, r in zip(out, result)]
        return type(result)(*stored) if hasattr(result, "_fields") else tuple(stored)
    if not isinstance(out, core.Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if mode.grad and (out.requires_grad or result.requires_grad):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, "
                           "but one of the arguments requires grad.")
    if rule == "exact" and out.dtype is not result.dtype:
        raise RuntimeError(f"{name}(): Expected out tensor to have dtype {result.dtype}, but got {out.dtype} instead")
    _check_memory(name, out, result, inputs, rule == "apart")
    if dt.CATEGORY[result.dtype.kind] > dt.CATEGORY[out.dtype.kind]:
        raise RuntimeError(f"{name}(): result type {result.dtype} can't be cast to the desired output type {out.dtype}")
    if out.meta.view.shape != result.meta.view.shape:
        if out.meta.view.numel:
            import warnings

            warnings.warn(
                f"{name}: An output with one or more elements was resized since it had shape {list(out.shape)}, which does not match "
                f"the required output shape {list(result.shape)}. Resize it first: out.resize_(0).",
                stacklevel=3,
            )
        out.resize_(result.meta.view.shape)
    out.copy_(result)
    return out


def _check_memory(name: str, out, result, inputs, apart: bool) -> None:
    """Refuse an `out` whose elements share memory with each other or, unless it is one of the inputs, with an input."""
    v = out.meta.view
    if v.numel and any(t == 0 and n > 1 for n, t in zip(v.shape, v.strides)):
        raise RuntimeError(
            f"{name}(): unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Clone it first: out.clone()"
        )
    for x in inputs:
        if isinstance(x, (list, tuple)):
            _check_memory(name, out, result, x, apart)
        elif isinstance(x, core.Tensor) and x.storage is out.storage and v.shape != (0,) and (
                apart or x.meta.view is not v or v.shape != result.meta.view.shape) and _meet(v, x.meta.view) or apart and x is out:
            raise RuntimeError(
                f"{name}(): unsupported operation: some elements of the input tensor and the written-to tensor refer to a single "
                "memory location. Clone one of them first."
            )


def _meet(a, b) -> bool:
    """Whether the spans of memory that two index maps read have elements in common."""
    (a0, a1), (b0, b1) = ((v.offset, v.offset + sum((n - 1) * t for n, t in zip(v.shape, v.strides))) for v in (a, b))
    return a.numel > 0 and b.numel > 0 and a0 <= b1 and b0 <= a1


# -- operators with a body --------------------------------------------------------------------------------------

def operator(grad=None, samples=None, family="composite", out=True, name=None, **fields):
    """An operator whose body computes it with other operators or makes nodes itself. With `grad`, the body is not differentiated: the
    given derivative is. Without, the derivative follows from the body. Arguments annotated `Tensor` (or `Tensor | None`,
    `list[Tensor]`) are those that can require grad."""

    def declare(function):
        rec = Record(name or function.__name__, family, function, grad, samples, out=out, **fields)
        body = rec.body = wide(function) if rec.wide in (True, "forward") else function
        rec.bare |= family == "view" and grad is not None
        template = "result = body({passed})\n" if grad is None else functools.partial(_differentiable, rec)
        rec.raw = rec.call = _public(rec, template, body=body)
        rec.call.record = rec
        register(rec)
        return rec.call

    return declare


def widened(x):
    """A tensor of 16-bit floats in float32; anything else as it is."""
    if isinstance(x, core.Tensor) and x.meta.dtype.compute is not x.meta.dtype:
        return core.cast(x, x.meta.dtype.compute)
    return tuple([widened(t) for t in x]) if type(x) is tuple else x


def wide(body):
    """`body`, which for a first argument of 16-bit floats computes in float32 and rounds its results once."""
    @functools.wraps(body)
    def call(first, *args, **kwargs):
        d = first.meta.dtype
        if d.compute is d:
            return body(first, *args, **kwargs)
        result = body(widened(first), *map(widened, args), **kwargs)
        back = [core.cast(x, d) if x.meta.dtype is d.compute else x for x in (result if isinstance(result, tuple) else (result,))]
        return tuple(back) if isinstance(result, tuple) else back[0]
    return call


def recast(function, kind: str, *args, **given):
    """`function` of its floating point tensors in the dtype of torch.autocast ("lower"), or in float32 ("full")."""
    target = mode.autocast
    d = target if kind == "lower" else dt.float32
    mode.autocast = None
    try:
        return function(*[_as_cast(x, d) for x in args], **{name: _as_cast(x, d) for name, x in given.items()})
    finally:
        mode.autocast = target


def _as_cast(x, d: dt.dtype):
    if isinstance(x, core.Tensor):
        return x.to(d) if x.meta.dtype in (dt.float32, dt.float16, dt.bfloat16) and x.meta.dtype is not d else x
    return type(x)([_as_cast(y, d) for y in x]) if type(x) in (list, tuple) else x


def autocasts(kind: str):
    """A function that is no record, with the rule a record states as `autocast`."""
    def declare(function):
        @functools.wraps(function)
        def call(*args, **given):
            if mode.autocast is not None:
                return recast(function, kind, *args, **given)
            return function(*args, **given)
        return call
    return declare


def derived(name: str, base: Record, change, **fields) -> Record:
    """The operator `name` with the parameters of another, whose result is `change` of the other's."""
    rec = Record(name, "composite", base.function, **fields)
    rec.raw = rec.call = _public(rec, "result = change(base({passed}))\n", base=base.call, change=change)
    rec.call.record = rec
    return register(rec)


def composite(function=None, **fields):
    """An operator defined by its body alone: the body is the lowering, the derivative follows from it."""
    if function is not None:
        return operator()(function)
    return operator(**fields)


def _differentiable(rec: Record) -> str:
    """Lines that compute an operator's result, by its body and without recording the derivatives within where its own applies."""
    terms = rec.terms
    tracked = " + ".join(f"({bit} if {rec.names[i]}._rg else 0)" for i, bit in terms.inputs)
    if any("[" in str(rec.function.__annotations__.get(rec.names[i])) for i, _ in terms.inputs):
        lines = "tracked = terms.tracked(({tuple}))\n"
    else:
        lines = f"try: tracked = {tracked}\n" "except AttributeError: tracked = terms.tracked(({tuple}))\n"
    if rec.bare:
        inputs = [rec.names[i] for i, _ in terms.inputs]
        key = "".join(f"{n}.meta, " if n in inputs else f"{n}, " for n in rec.names)
        if rec.family == "view":
            found = f"m = known[{key}]"
            again = f"view_of({inputs[0]}, m) if type(m) is Meta else tuple([view_of({inputs[0]}, one) for one in m])"
        else:
            found = f"(form, m), inputs = known[{key}], ({''.join(f'{n}.storage.node, ' for n in inputs)})"
            again = "record(form, inputs, m)"
        return lines + ("try:\n"
                        f"    {found}\n"
                        "except (KeyError, TypeError, AttributeError):\n"
                        "    result = decide(rec, ({tuple}))\n"
                        "else:\n"
                        f"    result = {again}\n"
                        f"if tracked and mode.grad{'' if rec.family == 'view' else ' and result.meta.dtype.continuous'}:\n"
                        "    terms[tracked].attach(result, {positional})\n")
    return lines + ("if not tracked or not mode.grad:\n"
                    "    result = body({passed})\n"
                    "else:\n"
                    "    mode.grad = False\n"
                    "    try:\n"
                    "        result = body({passed})\n"
                    "    finally:\n"
                    "        mode.grad = True\n"
                    "    if not isinstance(result, Tensor) or result.meta.dtype.continuous:\n"
                    "        terms[tracked].attach(result, {positional})\n")


_FIXED = frozenset((type(None), bool, int, str, dt.dtype))


def _is_fixed(x) -> bool:
    """Whether an argument says all by its value."""
    return type(x) in _FIXED or type(x) is tuple and all(map(_is_fixed, x))


def _decide(rec: Record, arguments: tuple):
    """The result of an operator whose body makes one node of its inputs, or views of the first, and nothing else; the decisions it
    takes are kept for calls with the same layouts and arguments."""
    recorded = len(tape.nodes)
    result = rec.body(*arguments[:rec.positional], **dict(zip(rec.names[rec.positional:], arguments[rec.positional:])))
    inputs = {i for i, _ in rec.terms.inputs}
    if not all([isinstance(x, core.Tensor) if i in inputs else _is_fixed(x) for i, x in enumerate(arguments)]):
        return result
    if rec.family == "view":
        found = result.meta if isinstance(result, core.Tensor) else [t.meta for t in result]
    else:
        node, own = result.storage.node, [arguments[i].storage.node for i in sorted(inputs)]
        if len(tape.nodes) != recorded + 1 or tape.nodes[-1] is not node or node.where is not None or list(node.inputs) != own:
            return result
        found = node.form, result.meta
    if len(rec.cache) > 20_000:
        rec.cache.clear()
    rec.cache[tuple([x.meta if i in inputs else x for i, x in enumerate(arguments)])] = found
    return result


# -- making nodes -----------------------------------------------------------------------------------------------

def make(op, inputs: tuple, views: tuple, static: Static, shape: tuple, dtype: dt.dtype, device=None):
    """Record a node with dense result of `shape` and wrap it in a tensor."""
    out = dense(shape)
    return core.record(form(op, views, static, shape, out.numel, dtype), inputs, meta(out, dtype, device))


def scalar_op(name: str, scalar, uses_index: bool = False) -> Record:
    """An internal pointwise operator without a name of its own in the API."""
    return Record(name, "pointwise", scalar=scalar, uses_index=uses_index)


def normalize_dim(what: str, dim: int, rank: int) -> int:
    """A dimension counted from 0, from one that may count from the end. IndexError where there is none."""
    low = max(rank, 1)
    if not isinstance(dim, int):
        dim = dim.__index__()
    if not -low <= dim < low:
        raise IndexError(f"{what}: Dimension out of range (expected to be in range of [{-low}, {low - 1}], but got {dim})")
    return dim % low


def normalize_dims(what: str, dim, rank: int) -> tuple:
    """All dimensions for None or (), else the given ones, each once."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(rank))
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    out = tuple(normalize_dim(what, d, rank) for d in dims)
    if len(set(out)) != len(out):
        raise RuntimeError(f"{what}: dim {next(d for d in out if out.count(d) > 1)} appears multiple times in the list of dims")
    return tuple(d for d in out if d < rank)


def known(t) -> bool:
    """Whether the value of `t` can be looked at: not where it stands for a batch, within `vmap`."""
    return tape.state.vmap is None or type(t.storage.node.inputs) is not Lanes


def everywhere(t) -> np.ndarray:
    """The value of `t`, computed now; within `vmap` that of all examples, along first dimensions. For checks of values."""
    return core.host((t if known(t) else tape.state.vmap.whole(t)).detach())


def by_lane(function):
    """Decorates a function that looks at values when it is called: within `vmap` it is called for each example."""
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return function(*args, **kwargs) if tape.state.vmap is None else tape.state.vmap.each_lane(function, args, kwargs)
    return wrapped


def check_tensor(what: str, name: str, x) -> None:
    if not isinstance(x, core.Tensor):
        raise TypeError(f"{what}(): argument '{name}' must be Tensor, not {type(x).__name__}")


__all__ = ["pointwise", "operator", "autocasts", "composite", "wide", "Record", "RECORDS"]
