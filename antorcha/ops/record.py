"""One record per operator: what it is called, what it computes, its derivative, its samples.

A decorator per family turns a declaration into a `Record`, from which the function (`torch.sin`), the method, the in-place
form, the `out=` form, the documentation and the tests are made. This file knows how an operation is recorded: find the
result's shape and dtype (once for each combination of input layouts, then looked up), make a node, wrap it in a tensor,
and hang the derivative on it. How the function looks from outside is in `public`, what is known of inputs in `layout`.

The tensor class lies in a layer above; it registers itself here when it is defined (`bind`).

Derivatives (`grad=`) map the name of an input to a function from the cotangent `g` (first parameter) to that input's cotangent.
Its other parameters are names of arguments of the operator, or `result`; exactly these are kept for the backward pass (of an
argument `x`, `x_shape` and `x_view` keep only the shape and the index map). Sums over broadcast dimensions and casts back to the
input's dtype are added here.
"""

from __future__ import annotations

import functools
import inspect

import numpy as np

from ..base import dtype as dt
from ..base.formats import preserve_format
from ..base.grad_mode import mode
from ..graph import tape
from ..graph.node import Form, Lanes, Static, dense, form
from ..graph.tape import state
from .derivative import Terms, class_name, titled
from .layout import NUMBERS, Meta, broadcast_shapes, broadcast_view, core, meta, number, result_dtype
from .public import computing, public, store_out, wrong_kind, wrong_type  # noqa: F401 (a record's vocabulary)
from .strides import of_copy, of_elements, order, reordered

RECORDS: dict[str, Record] = {}


class Record:
    """An operator. See the module's text for the fields."""

    def __init__(self, name, family, function=None, grad=None, samples=None, **fields):
        self.name, self.family, self.function = name, family, function
        self.scalar = self.combine = self.host = self.rule = None
        self.complex = None         # scalar code on complex numbers (ir.Pair), or True: `scalar` does; without, they are refused
        self.holomorphic = True     # the derivative by a complex input is the formula's conjugate
        self.tensors = ()           # inputs that may not be numbers
        self.wide = False           # of 16-bit floats the "forward" body, the "derivative" or both (True) are computed in float32
        self.unread = False         # a constant nobody will see: scatters write over all of it
        self.moves = False          # gives elements on as they are
        self.exact_numbers = ()     # of two tensors, which are not rounded to 16-bit floats as others are if numbers stand for them
        self.autocast = None        # how inputs are cast inside of torch.autocast; see casts.py
        self.body = None            # what computes it, where no scalar code does
        self.late_error = IndexError        # what an index out of its dimension raises when the value is computed; None: there is none
        self.complaint = None       # what that error says, where the index stands for a condition; None: of the index
        self.bare = False           # the body makes one node, of the inputs with a derivative in their order, or (of a view) none
        self.at_once = None         # of the arguments: the result, where it need not be recorded; None: the body is called
        self.recalled = True        # its body, if called often, is written out; not one that looks at what is in memory
        self.partial = False        # of several results: the derivative takes None for cotangents that did not arrive, not zeros
        self.uses_index = False
        self.divides = False        # of integers, no element of its second input may be 0
        self.out = True             # has the form with `out=`; "exact": of the result's dtype
        self.apart = None           # the number of the parameter from which on none may lie in the memory that is written
        self.onto_repeated = False  # in place, it may write to an element of memory that stands for several
        self.public = True          # part of the API
        self.namespace = True       # a function of the torch namespace; "fft": of torch.fft, there without that prefix
        self.silent = False         # with `out=` it returns None
        self.torch_name = None      # of one in another namespace: its name in torch, and as a method
        self.method = True          # a method of Tensor
        self.inplace = False        # has the form with a trailing underscore; "exact": of tensors of the result's dtype
        self.numbers_first = False  # in old programs, numbers given by keyword now come before the tensors they belong to
        self.title = None           # what its derivative is called, if not as it is: "Log1P", "SumBackward1", or what gives that of
        #                             arguments; without a derivative of its own, what that of its result is called
        self.samples = samples      # inputs for the tests; see samples.py
        self.strided = False        # what it computes depends on how its inputs lie in memory, not on their elements alone
        self.differs = None         # what PyTorch computes otherwise, so that nothing but shapes can be compared
        self.draws = False          # random numbers
        self.surrogate = False      # its derivative is not that of its values: that of the distribution it draws from, or of no rounding
        self.cache: dict = {}
        self._called: dict = {}     # the title -> its derivative of this title
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

    def apply(self, *arguments):
        """The result of the body for all its arguments in their order."""
        return self.body(*arguments[:self.positional], **dict(zip(self.names[self.positional:], arguments[self.positional:])))

    @functools.cached_property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or "" if self.function else ""

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @functools.cached_property
    def defaults(self) -> dict:
        """The parameters' defaults, where they have any."""
        given = self.function.__defaults__ or ()
        return dict(zip(self.names[self.positional - len(given):], given)) | (self.function.__kwdefaults__ or {})

    @functools.cached_property
    def kinds(self) -> list[tuple[int, str, str, bool]]:
        """The parameters that are an "int" or a "bool": those declared so, and those of which True or False is the default. (place,
        name, kind, whether None may stand for it)."""
        out = []
        for place, name in enumerate(self.names):
            kind, _, none = str(self.function.__annotations__.get(name)).partition(" | ")
            kind = "bool" if type(self.defaults.get(name)) is bool else kind
            if kind in ("int", "bool"):
                out.append((place, name, kind, bool(none)))
        return out

    def check_types(self, types: tuple) -> None:
        """TypeError for arguments of these types, in the order of the parameters, that are no integers or no truth values as declared."""
        for place, name, kind, optional in self.kinds:
            t = types[place]
            if not (t is bool if kind == "bool" else t is not bool and hasattr(t, "__index__")) and not (optional and t is type(None)):
                raise TypeError(wrong_kind(self.name, name, place + 1, kind, t))

    @functools.cached_property
    def terms(self) -> Terms | None:
        """Its derivative; None without one."""
        title = None if callable(self.title) else self.title
        return self._terms_called(title or "".join(part.capitalize() for part in self.name.strip("_").split("_")))

    def terms_for(self, arguments: tuple) -> Terms | None:
        """Its derivative, as it is called for these arguments."""
        if self.grad is None or not callable(self.title):
            return self.terms
        code = self.title.__code__
        title = self.title(*[arguments[self.names.index(name)] for name in code.co_varnames[:code.co_argcount]])
        found = self._called.get(title)
        if found is None:
            found = self._called[title] = self._terms_called(title)
        return found

    def _terms_called(self, title: str) -> Terms | None:
        if self.grad is None:
            return None
        node_class = type(class_name(title), (core.GradNode,), {"__slots__": (), "record": self})
        return Terms(self.name, self.names, self.grad, node_class)


def register(record: Record) -> Record:
    key = record.name if record.public else "_" + record.name.lstrip("_")
    if key in RECORDS:
        raise TypeError(f"operator {key!r} is declared twice")
    RECORDS[key] = record
    return record


def forget() -> None:
    """Let go what was decided about calls: it depends on the default dtype."""
    for record in RECORDS.values():
        record.cache.clear()


def functions_in(namespace: str) -> dict:
    """name -> function of a namespace below torch."""
    return {r.name[len(namespace) + 1:]: r.call for r in RECORDS.values() if r.namespace == namespace}


def bind(tensor_class, make, alias, grad_node) -> None:
    """Called once by the layer that defines the tensor."""
    core.Tensor, core.make, core.alias, core.GradNode = tensor_class, make, alias, grad_node


def attach(record: Record, out, arguments: tuple):
    """Make `out` (a tensor or a tuple of tensors) a differentiable result of `record` applied to `arguments`, which are in the
    order of its parameters."""
    terms = record.terms_for(arguments)
    if terms is None or isinstance(out, core.Tensor) and not out._meta.dtype.continuous:
        return out
    return terms[terms.tracked(arguments)].attach(out, *arguments)


# -- pointwise --------------------------------------------------------------------------------------------------
# Rules: from the promoted dtype to (dtype of computation, dtype of result)

def same(d): return d, d
def floating(d): return (d, d) if d.kind in "fc" else (dt.default(), dt.default())
def comparison(d): return d, dt.bool_
def logical(d): return d, dt.bool_


def continuous(d):
    if not d.continuous:
        raise NotImplementedError(f"expected a floating point tensor; received {d}. Convert it first: input.float()")
    return d, d


def bitwise(d):
    if d.kind in "fc":
        raise NotImplementedError(f"expected an integer or bool tensor; received {d}")
    return d, d


def computable(what: str, d) -> None:
    """NotImplementedError for a dtype that nothing is computed in."""
    if d.opaque:
        raise NotImplementedError(f'"{what}" not implemented for {d}. Convert it first: x.{"dequantize" if d.kind == "q" else "float"}()')


def no_bool(d):
    if d.kind == "b":
        raise RuntimeError("expected a numeric dtype; received bool. Convert it first: input.int(), or use the logical operators.")
    return d, d


def pointwise_form(rec: Record, args: tuple) -> tuple[Form, Meta]:
    """Shape, dtype and index maps of a pointwise result, and what its tensor is; errors are raised here, at the user's call."""
    tensors = [a for a in args if isinstance(a, core.Tensor)]
    shape = broadcast_shapes(rec.name, *[t._meta.view.shape for t in tensors])
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
        kind = "ComplexFloat" if casts[0] is dt.complex64 else "ComplexDouble"
        raise NotImplementedError(f"\"{rec.name}\" not implemented for '{kind}'. "
                                  "Use its real and imaginary parts: input.real, input.imag.")
    given = [t._meta.view for t in tensors]
    out_view = of_copy(rec.name, given[0], preserve_format) if rec.moves else of_elements(given, shape, len(given) == len(args))
    inward = order(out_view)
    views = [reordered(broadcast_view(a._meta.view, shape), inward) if isinstance(a, core.Tensor) else None for a in args]
    node_shape = shape if inward is None else tuple([shape[d] for d in inward])
    device = next((t._meta.device for t in tensors if t._meta.device is not None), None)
    return form(rec, tuple(views), Static(casts=casts), node_shape, out_view.numel, out), meta(out_view, out, device)


def _layouts(args):
    return tuple([a._meta if isinstance(a, core.Tensor) else type(a) for a in args])


def _checked(rec: Record, args):
    """Arguments of a slow call: NumPy scalars become numbers, anything else but tensors is refused."""
    out = []
    for name, a in zip(rec.names, args):
        if not isinstance(a, core.Tensor):
            n = None if name in rec.tensors else number(a)
            if n is None:
                raise TypeError(wrong_type(rec.name, name, rec.names.index(name) + 1, "Tensor or Number", a))
            a = n
        out.append(a)
    if not any(isinstance(a, core.Tensor) for a in out):
        name = rec.names[0]
        raise TypeError(wrong_type(rec.name, name, 1, "Tensor", args[0]))
    return tuple(core.together(rec.name, out, names=rec.names) if state.devices else out)


# The calls of pointwise operators. What is decided by the layouts of the inputs is looked up: (form, meta, derivative or None).

def _unary_call(rec: Record):
    cache = rec.cache

    def call(x):
        try:
            form, m, terms = cache[x._meta]
            node = x.storage.node
        except (KeyError, AttributeError):
            _checked(rec, (x,))
            _remember(rec, (x,), x._meta)
            return call(x)
        if x._rg and terms is not None and mode.grad:
            return terms[1].record(form, (node,), m, x)
        return core.record(form, (node,), m)

    return call


def _binary_call(rec: Record, sign: bool = False):
    """`sign`: for an operator sign, which leaves what is neither tensor nor number to the other operand's class."""
    cache = rec.cache
    kinds = rec.function.__annotations__
    first, second = (place in rec.exact_numbers or kinds.get(name) != "Tensor" for place, name in enumerate(rec.names))

    def call(a, b):
        try:
            if type(b) in NUMBERS:
                form, m, terms = cache[a._meta, type(b)]
                d = a._meta.dtype
                inputs = (a.storage.node, b if d.compute is d or second else d.round(b))
                tracked = 1 if a._rg else 0
            elif type(a) in NUMBERS:
                form, m, terms = cache[type(a), b._meta]
                d = b._meta.dtype
                inputs = (a if d.compute is d or first else d.round(a), b.storage.node)
                tracked = 2 if b._rg else 0
            else:
                form, m, terms = cache[a._meta, b._meta]
                inputs = (a.storage.node, b.storage.node)
                tracked = (3 if b._rg else 1) if a._rg else 2 if b._rg else 0
        except (KeyError, AttributeError):
            if sign and not all([isinstance(x, core.Tensor) or number(x) is not None for x in (a, b)]):
                return NotImplemented
            a, b = args = _checked(rec, (a, b))
            _remember(rec, args, _layouts(args))
            return call(a, b)
        if tracked and terms is not None and mode.grad:
            return terms[tracked].record(form, inputs, m, a, b)
        return core.record(form, inputs, m)

    return call


def _division(rec: Record, sign: bool = False):
    """As `_binary_call`, of an operator that no integer 0 may divide."""
    divide = _binary_call(rec, sign)

    def call(a, b):
        result = divide(a, b)
        if type(b) is int and b or result is NotImplemented or result._meta.dtype.kind == "f":
            return result
        divisor = core.divisor(rec.name, b, result)
        return result if divisor is b else divide(a, divisor)

    return call


def _nary_call(rec: Record):
    cache = rec.cache

    def call(*args):
        try:
            form, m, terms = cache[tuple([a._meta if type(a) not in NUMBERS else type(a) for a in args])]
        except (KeyError, AttributeError):
            args = _checked(rec, args)
            form, m, terms = _remember(rec, args, _layouts(args))
        inputs = tuple([a if type(a) in NUMBERS else a.storage.node for a in args])
        if terms is not None and any([type(a) not in NUMBERS and a._rg for a in args]) and mode.grad:
            return terms[terms.tracked(args)].record(form, inputs, m, *args)
        return core.record(form, inputs, m)

    return call


def _remember(rec: Record, args: tuple, key) -> tuple[Form, Meta, Terms | None]:
    """Decide about a call, for it and all that are like it."""
    if len(rec.cache) > 20_000:
        rec.cache.clear()
    form, m = pointwise_form(rec, args)
    terms = rec.terms_for(args) if m.dtype.continuous else None
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
        rec.raw = {1: _unary_call, 2: _division if rec.divides else _binary_call}.get(len(rec.names), _nary_call)(rec)
        rec.sign = functools.partial(_division if rec.divides else _binary_call, rec, True)
        rec.call = public(rec, "result = call({positional})\n", call=rec.raw)
        rec.call.record = rec
        register(rec)
        return rec.call

    return declare


# -- operators with a body --------------------------------------------------------------------------------------

def operator(grad=None, samples=None, family="composite", out=True, name=None, **fields):
    """An operator whose body computes it with other operators or makes nodes itself. With `grad`, the body is not differentiated: the
    given derivative is. Without, the derivative follows from the body. Arguments annotated `Tensor` (or `Tensor | None`,
    `list[Tensor]`) are those that can require grad."""

    def declare(function):
        rec = Record(name or function.__name__, family, function, grad, samples, out=out, **fields)
        body = wide(function) if rec.wide in (True, "forward") else function
        body = rec.body = titled(rec.title)(body) if rec.title is not None and grad is None else body
        rec.bare |= family == "view" and grad is not None
        rec.raw = rec.call = public(rec, functools.partial(computing, rec), body=body, at_once=rec.at_once)
        rec.call.record = rec
        register(rec)
        return rec.call

    return declare


def widened(x):
    """A tensor of 16-bit floats in float32; anything else as it is."""
    if isinstance(x, core.Tensor) and x._meta.dtype.compute is not x._meta.dtype:
        return core.cast(x, x._meta.dtype.compute)
    return tuple([widened(t) for t in x]) if type(x) is tuple else x


def rounded(x, d: dt.dtype):
    """A tensor in dtype `d`: itself where it is."""
    return x if x._meta.dtype is d else core.cast(x, d)


def wide(body):
    """`body`, which for a first argument of 16-bit floats computes in float32 and rounds its results once."""
    @functools.wraps(body)
    def call(first, *args, **kwargs):
        d = first._meta.dtype
        if d.compute is d:
            return body(first, *args, **kwargs)
        with tape.whole():
            result = body(widened(first), *map(widened, args), **kwargs)
            several = isinstance(result, tuple)
            result = [core.cast(x, d) if x._meta.dtype is d.compute else x for x in (result if several else (result,))]
        return tuple(result) if several else result[0]
    return call


def derived(name: str, base: Record, change, **fields) -> Record:
    """The operator `name` with the parameters of another, whose result is `change` of the other's."""
    rec = Record(name, "composite", base.function, samples=base.samples, strided=base.strided, **fields)
    rec.raw = rec.call = public(rec, "result = change(base({passed}))\n", base=base.call, change=change)
    rec.call.record = rec
    return register(rec)


def composite(function=None, **fields):
    """An operator defined by its body alone: the body is the lowering, the derivative follows from it."""
    if function is not None:
        return operator()(function)
    return operator(**fields)


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
    if type(dim) is not int:
        if type(dim) is bool:
            raise TypeError(wrong_type(what, "dim", 0, "int", dim))
        dim = dim.__index__()
    if not -low <= dim < low:
        raise IndexError(f"{what}: Dimension out of range (expected to be in range of [{-low}, {low - 1}], but got {dim})")
    return dim % low


def normalize_dims(what: str, dim, rank: int) -> tuple:
    """All dimensions for None or (), else the given ones, each once."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(rank))
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    if dims is dim:
        for d in dims:
            if not hasattr(d, "__index__"):
                raise TypeError(f"{what}(): argument 'dim' must be tuple of ints, but there is a {type(d).__name__} in it")
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


def whole(what: str, name: str, x, position: int = 0, wanted: str = "int") -> int:
    """An argument that is a whole number, no truth value, or TypeError."""
    if type(x) is int:
        return x
    if isinstance(x, bool) or not hasattr(x, "__index__"):
        raise TypeError(wrong_type(what, name, position, wanted, x))
    return x.__index__()


def check_tensor(what: str, name: str, x, position: int = 0) -> None:
    if not isinstance(x, core.Tensor):
        raise TypeError(wrong_type(what, name, position, "Tensor", x))


def check_number(what: str, name: str, x, position: int = 0):
    """`x` as a number; TypeError for what is none."""
    found = number(x)
    if found is None:
        raise TypeError(wrong_type(what, name, position, "Tensor or Number", x))
    return found


__all__ = ["pointwise", "operator", "composite", "wide", "Record", "RECORDS"]
