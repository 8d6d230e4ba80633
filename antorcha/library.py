"""torch.library: operators of one's own, found as `torch.ops.namespace.name`.

An operator has a schema and kernels. A call takes the kernel of its tensors' device; a derivative is that of `register_autograd`, or
follows from the operators that the kernel calls if it was registered as CompositeImplicitAutograd. Kernels see tensors and are
recorded like all other code; within `vmap` a kernel is called for each example.
"""

from __future__ import annotations

import functools
import weakref

from . import ops
from ._C.dispatch import DispatchKey
from .base import dtype as dt
from .base.grad_mode import mode
from .core.function import Function
from .core.tensor import Tensor
from .ops.record import by_lane
from .schema import Parameter, Schema, infer_schema, parse  # noqa: F401 (infer_schema is a name of this module)
from .unavailable import unavailable_function

_DEVICES = {"cpu": "CPU", "cuda": "CUDA"}
_operators: dict[str, Operator] = {}        # by "namespace::name"
_awaiting: dict[str, object] = {}           # what register_fake was given for operators that are not defined yet


class Operator:
    """One overload of an operator. Calling it runs the kernel for its arguments."""

    def __init__(self, namespace: str, schema: Schema):
        self.namespace, self._schema = namespace, schema
        self.name_, _, overload = schema.name.partition(".")
        self._overloadname = overload or "default"
        self.__name__ = f"{self.name_}.{self._overloadname}"
        self.__module__ = f"torch.ops.{namespace}"
        self.kernels: dict[str, object] = {}
        self.fake = self.backward = self.setup_context = None
        self.disabled: set[str] = set()
        self.autocast: dict[str, dt.dtype] = {}

    @property
    def _qualname(self) -> str:
        return f"{self.namespace}::{self._schema.name}"

    def name(self) -> str:
        return self._qualname

    def __repr__(self) -> str:
        return f"<OpOverload(op='{self.namespace}.{self.name_}', overload='{self._overloadname}')>"

    def __call__(self, *args, **kwargs):
        args = self._schema.bind(self._qualname, args, kwargs)
        tensors = [t for a in args for t in (a if isinstance(a, (list, tuple)) else (a,)) if isinstance(t, Tensor)]
        device = "cuda" if any(t.is_cuda for t in tensors) else "cpu"
        if self.autocast.get(device) is not None and mode.autocast is not None and mode.autocast.device == device:
            from .ops.casts import as_cast
            args = [as_cast(a, self.autocast[device], device) for a in args]
        key = _DEVICES[device]
        for candidate in (f"Autograd{key}", "Autograd"):
            if candidate in self.kernels and mode.grad and any(t.requires_grad for t in tensors):
                return self._run(self.kernels[candidate], args)
        kernel = self._kernel(key)
        if kernel is None:
            implicit = self.kernels.get("CompositeImplicitAutograd")
            if implicit is None:
                raise NotImplementedError(f"Could not run '{self._qualname}' with arguments from the '{key}' backend. Registered are: "
                                          f"{sorted(self.kernels) or 'none'}. Register a kernel: torch.library.impl.")
            return self._run(implicit, args)
        if mode.grad and any(t.requires_grad for t in tensors):
            return _differentiable(self, kernel)(*args)
        with _no_grad():
            return self._run(kernel, args)

    def _kernel(self, key: str):
        """The kernel of a backend, if it is to be used."""
        own = self.kernels.get(key)
        return own if own is not None and key not in self.disabled else self.kernels.get("CompositeExplicitAutograd")

    def _run(self, kernel, args):
        positional, keywords = self._schema.split(args)
        return by_lane(kernel)(*positional, **keywords) if kernel in _opaque else kernel(*positional, **keywords)

    def redispatch(self, keyset, *args, **kwargs):
        """As a call: kernels are found by the arguments alone."""
        return self(*args, **kwargs)


_opaque: weakref.WeakSet = weakref.WeakSet()    # kernels of custom_op, which may leave the recorded world (x.numpy())


def _no_grad():
    from .core.autograd import no_grad
    return no_grad()


def _differentiable(op: Operator, kernel):
    """The operator as a Function whose backward is the registered one."""

    class Custom(Function):
        @staticmethod
        def forward(ctx, *args):
            result = op._run(kernel, [a.detach() if isinstance(a, Tensor) else a for a in args])
            if op.setup_context is not None:
                positional, keywords = op._schema.split(args)
                op.setup_context(ctx, positional, *([keywords] if keywords else []), result)
            return result

        @staticmethod
        def backward(ctx, *grads):
            if op.backward is None:
                raise RuntimeError(f"Trying to backward through {op._qualname} but no autograd formula was registered. If you intended "
                                   "to do so, please use torch.library.register_autograd.")
            found = op.backward(ctx, *grads)
            return found if isinstance(found, tuple) else (found,)

    Custom.__name__ = f"{op.namespace}_{op.name_}"
    return Custom.apply


# -- torch.ops --------------------------------------------------------------------------------------------------

class Packet:
    """All overloads of an operator: `torch.ops.ns.name(...)` calls the default, or the only one; `.default` and the like give one."""

    def __init__(self, namespace: str, name: str):
        self._qualified_op_name = f"{namespace}::{name}"
        self.__name__ = name
        self.__module__ = f"torch.ops.{namespace}"

    def _overload(self, overload: str) -> Operator:
        key = self._qualified_op_name + ("" if overload == "default" else f".{overload}")
        if key not in _operators:
            raise AttributeError(f"The underlying op of '{self._qualified_op_name.replace('::', '.')}' has no overload name '{overload}'")
        return _operators[key]

    def __getattr__(self, overload: str) -> Operator:
        if overload.startswith("__"):
            raise AttributeError(overload)
        return self._overload(overload)

    def overloads(self) -> list[str]:
        """The names of the overloads."""
        return [op._overloadname for key, op in _operators.items() if key.partition(".")[0] == self._qualified_op_name]

    def __call__(self, *args, **kwargs):
        *others, last = [self._overload(name) for name in self.overloads()]
        return next((op for op in others if op._schema.fits(args, kwargs)), last)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<OpOverloadPacket(op='{self._qualified_op_name.replace('::', '.')}')>"


class Namespace:
    """torch.ops.<name>: the operators of a namespace."""

    def __init__(self, name: str):
        self.name = name

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        if any(key.partition(".")[0] == f"{self.name}::{name}" for key in _operators):
            packet = self.__dict__[name] = Packet(self.name, name)
            return packet
        raise AttributeError(f"'_OpNamespace' '{self.name}' object has no attribute '{name}'")

    def __dir__(self):
        return sorted({key.partition("::")[2].partition(".")[0] for key in _operators if key.startswith(self.name + "::")})

    def __repr__(self) -> str:
        return f"<torch.ops.{self.name}>"


def find(qualname: str) -> Operator:
    """The operator "namespace::name" or "namespace::name.overload". RuntimeError where there is none."""
    found = _operators.get(qualname.removesuffix(".default"))
    if found is None:
        raise RuntimeError(f"operator {qualname} does not exist")
    return found


def _operator_of(op) -> Operator:
    if isinstance(op, Operator):
        return op
    if isinstance(op, CustomOpDef):
        return op._opoverload
    if isinstance(op, Packet):
        return op._overload("default")
    if isinstance(op, str):
        return find(op)
    raise ValueError(f"torch.library: expected an operator, its name \"namespace::name\" or what custom_op returned; received "
                     f"{type(op).__name__}")


def _declare(namespace: str, text: str) -> Operator:
    schema = parse(text)
    key = f"{namespace}::{schema.name}"
    if key in _operators:
        raise RuntimeError(f"Tried to register an operator ({namespace}::{text}) with the same name and overload name multiple times.")
    op = _operators[key] = Operator(namespace, schema)
    op.fake = _awaiting.pop(key, None)
    return op


# -- libraries --------------------------------------------------------------------------------------------------

class Library:
    """A handle through which operators are defined and given kernels. What it registered ends with it (`_destroy`, or the object).

    kind: "DEF" or "FRAGMENT" to define operators of namespace `ns`, "IMPL" to give kernels alone. dispatch_key: the default of `impl`.
    """

    def __init__(self, ns: str, kind: str, dispatch_key: str = ""):
        if kind not in ("IMPL", "DEF", "FRAGMENT"):
            raise ValueError(f"Unsupported kind: {kind}")
        if ns in ("prim", "aten") and kind == "DEF":
            raise ValueError(f"{ns} is a reserved namespace. Please try creating a library with another name.")
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key
        self._defined: list[str] = []
        self._given: list[tuple[str, str]] = []
        self._finalizer = weakref.finalize(self, _withdraw, self._defined, self._given)
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        return f"Library(kind={self.kind}, ns={self.ns}, dispatch_key={self.dispatch_key})"

    def define(self, schema: str, alias_analysis: str = "", *, tags=()) -> str:
        """Define an operator by its schema, such as "scale(Tensor x, float factor=2.0) -> Tensor". Returns its name."""
        if self.kind == "IMPL":
            raise ValueError(f"{self}: expected a library of kind DEF or FRAGMENT to define operators")
        op = _declare(self.ns, schema)
        self._defined.append(op._qualname)
        return op.name_

    def impl(self, op_name, fn, dispatch_key: str = "", *, with_keyset: bool = False, allow_override: bool = False) -> None:
        """Give the operator `op_name` of this namespace a kernel for a dispatch key."""
        if not callable(fn):
            raise TypeError(f"Input function is required to be a callable but found type {type(fn)}")
        key = getattr(dispatch_key, "name", dispatch_key) or self.dispatch_key or "CompositeImplicitAutograd"
        if key not in DispatchKey.__members__:
            raise RuntimeError(f"could not parse dispatch key: {key}. Known are {sorted(DispatchKey.__members__)}.")
        name = op_name if isinstance(op_name, str) else op_name._schema.name
        op = find(name if "::" in name else f"{self.ns}::{name}")
        if key in op.kernels and not allow_override:
            raise RuntimeError(f"This is not allowed since there's already a kernel registered from python overriding {op._qualname}'s "
                               f"behavior for {key} dispatch key and {self.ns} namespace.")
        op.kernels[key] = functools.partial(fn, None) if with_keyset else fn
        self._given.append((op._qualname, key))

    def _register_fake(self, op_name, fn, _stacklevel: int = 1, *, allow_override: bool = False) -> None:
        find(op_name if "::" in op_name else f"{self.ns}::{op_name}").fake = fn

    def _destroy(self) -> None:
        """Withdraw all that this library registered."""
        self._finalizer()


def _withdraw(defined: list, given: list) -> None:
    for name, key in given:
        if name in _operators:
            _operators[name].kernels.pop(key, None)
    for name in defined:
        _operators.pop(name, None)
        space, _, op = name.partition("::")
        vars(ops).get(space, Namespace("")).__dict__.pop(op.partition(".")[0], None)


_kept: dict[str, Library] = {}      # of the functions below, which need none


def _library(ns: str, lib=None) -> Library:
    return lib or _kept.setdefault(ns, Library(ns, "FRAGMENT"))


def define(qualname: str, schema: str, *, lib=None, tags=()) -> None:
    """Define the operator "namespace::name" with a schema such as "(Tensor x) -> Tensor"."""
    if not isinstance(qualname, str):       # the form define(lib, schema), a decorator
        return _define_by_library(qualname, schema)
    ns, _, name = qualname.partition("::")
    if not name:
        raise ValueError(f"torch.library.define: expected a name such as mylib::foo; received {qualname!r}")
    _library(ns, lib).define(name + schema)
    return None


def _define_by_library(lib: Library, schema: str, alias_analysis: str = ""):
    def decorate(function):
        name = lib.define(schema, alias_analysis)
        lib.impl(name, function)
        return function
    return decorate


_TYPES = {"default": "CompositeExplicitAutograd", "cpu": "CPU", "cuda": "CUDA", "meta": "Meta"}


def impl(qualname, types="", func=None, *, lib=None, dispatch_key=None):
    """Give an operator a kernel for device types ("cpu", "cuda", several, or "default" for all); without `func` a decorator.
    Also impl(library, name, dispatch_key), a decorator."""
    if isinstance(qualname, Library):
        return lambda function: (qualname.impl(types, function, func or dispatch_key or ""), function)[1]
    names = (types,) if isinstance(types, str) else tuple(types)

    def register(function):
        for kind in names:
            if kind not in _TYPES and kind not in DispatchKey.__members__:
                raise ValueError(f"torch.library.impl: expected device types among {sorted(_TYPES)}; received {kind!r}")
            _library(qualname.partition("::")[0], lib).impl(qualname, function, _TYPES.get(kind, kind))
        return function
    return register if func is None else register(func)


def register_kernel(op, device_types, func=None, /, *, lib=None):
    """As `impl`, for an operator or its name."""
    types = "default" if device_types is None else device_types

    def register(function):
        _opaque.add(function)
        return impl(_operator_of(op)._qualname, types, function, lib=lib)
    return register if func is None else register(func)


def register_fake(op, func=None, /, *, lib=None, _stacklevel: int = 1, allow_override: bool = False):
    """Keep `func`, which gives the shapes and dtypes of an operator's results; a decorator without it. What is recorded here finds
    them by running the kernel: `func` is asked by `opcheck` alone. The operator may be defined later."""
    def register(function):
        if isinstance(op, str) and op.removesuffix(".default") not in _operators:
            _awaiting[op.removesuffix(".default")] = function
        else:
            _operator_of(op).fake = function
        return function
    return register if func is None else register(func)


impl_abstract = register_fake


def register_autograd(op, backward, /, *, setup_context=None, lib=None) -> None:
    """The derivative of an operator: backward(ctx, *grads) gives the gradient of each input (None where there is none), and
    setup_context(ctx, inputs, output) keeps what it needs, as in `autograd.Function`."""
    found = _operator_of(op)
    if any(p.alias for p in found._schema.parameters):
        raise RuntimeError(f"Cannot register autograd formula for non-functional operator {found} with schema {found._schema}: it "
                           "writes to its arguments. Make one that returns new tensors.")
    found.backward, found.setup_context = backward, setup_context


def register_vmap(op, func=None, /, *, lib=None):
    """Accepted: within `vmap` the kernel is called for each example, so no rule is needed. Without `func` a decorator."""
    _operator_of(op)
    return (lambda function: function) if func is None else None


def register_autocast(op, device_type: str, cast_inputs, /, *, lib=None) -> None:
    """Within torch.autocast of a device type, floating point tensors are cast to `cast_inputs` first."""
    if device_type not in _DEVICES:
        raise ValueError(f"Unknown device type: {device_type}")
    _operator_of(op).autocast[device_type] = cast_inputs


class CustomOpDef:
    """What `custom_op` returns: the operator, and decorators that tell more of it."""

    def __init__(self, opoverload: Operator, function):
        self._opoverload, self._init_fn = opoverload, function
        self._namespace, self._name = opoverload.namespace, opoverload.name_
        self._qualname = opoverload._qualname
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        return self._opoverload(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<CustomOpDef({self._qualname})>"

    def register_kernel(self, device_types, fn=None, /):
        """A kernel for some device types."""
        def register(function):
            for key in _keys_of(device_types):
                self._opoverload.kernels[key] = function
            _opaque.add(function)
            return function
        return register if fn is None else register(fn)

    def register_fake(self, fn, /):
        """See `register_fake` of this module."""
        return register_fake(self, fn)

    def register_autograd(self, backward, /, *, setup_context=None) -> None:
        """See `register_autograd` of this module."""
        register_autograd(self, backward, setup_context=setup_context)

    def register_vmap(self, func=None):
        """See `register_vmap` of this module."""
        return register_vmap(self, func)

    def register_autocast(self, device_type: str, cast_inputs) -> None:
        """See `register_autocast` of this module."""
        register_autocast(self, device_type, cast_inputs)

    def set_kernel_enabled(self, device_type: str, enabled: bool = True):
        """A context in which a device's kernel is or is not used."""
        return _Enabled(self._opoverload, _DEVICES[device_type], enabled)


class _Enabled:
    def __init__(self, op: Operator, key: str, enabled: bool):
        self.op, self.before = op, set(op.disabled)
        (op.disabled.discard if enabled else op.disabled.add)(key)

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self.op.disabled = self.before


def _keys_of(device_types) -> list[str]:
    if device_types is None:
        return ["CompositeExplicitAutograd"]
    return [_DEVICES[d] for d in ((device_types,) if isinstance(device_types, str) else device_types)]


def custom_op(name: str, fn=None, /, *, mutates_args, device_types=None, schema: str | None = None, tags=None):
    """Make a function an operator "namespace::name"; a decorator without `fn`. Its schema is that of its annotations, or `schema`.

    mutates_args: the names of arguments that it writes to, or "unknown"; device_types: those it is for (all).
    """
    ns, _, plain = name.partition("::")
    if not plain:
        raise ValueError(f"custom_op: expected a name such as mylib::foo; received {name!r}")

    def decorate(function):
        text = infer_schema(function, mutates_args=mutates_args) if schema is None else schema
        if f"{ns}::{plain}" in _operators:      # defined anew, as when a notebook's cell runs again
            del _operators[f"{ns}::{plain}"]
        op = _declare(ns, plain + text)
        made = CustomOpDef(op, function)
        made.register_kernel(device_types, function)
        return made
    return decorate if fn is None else decorate(fn)


def opcheck(op, args: tuple, kwargs: dict | None = None, *, test_utils=None, raise_exception: bool = True, atol=None, rtol=None) -> dict:
    """Run an operator on samples and compare it with what was told of it: its schema, its fake kernel, its derivative.

    Returns {name of the check: "SUCCESS" or the exception}.
    """
    from .autograd import gradcheck

    found, kwargs = _operator_of(op), kwargs or {}
    tensors = [a for a in args if isinstance(a, Tensor)]

    def schema():
        before = [(t, t._version) for t in tensors]
        found(*args, **kwargs)
        written = {p.name for p, a in zip(found._schema.parameters, args) for t, v in before if a is t and t._version != v}
        told = {p.name for p in found._schema.parameters if p.alias}
        if not written <= told:
            raise AssertionError(f"{found._qualname} writes to {sorted(written - told)}, which its schema does not say")

    def fake():
        if found.fake is None:
            return
        real, said = found(*args, **kwargs), found.fake(*args, **kwargs)
        for a, b in zip(*(x if isinstance(x, (tuple, list)) else (x,) for x in (real, said))):
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                raise AssertionError(f"{found._qualname}: the fake kernel says {b.dtype} of shape {list(b.shape)}; the result is "
                                     f"{a.dtype} of shape {list(a.shape)}")

    def derivative():
        double = [a.detach().double().requires_grad_() if isinstance(a, Tensor) and a.requires_grad else a for a in args]
        if any(isinstance(a, Tensor) and a.requires_grad for a in double):
            gradcheck(lambda *xs: found(*xs, **kwargs), tuple(double))

    checks = {"test_schema": schema, "test_faketensor": fake, "test_autograd_registration": derivative}
    results: dict = {}
    for name, check in checks.items():
        if test_utils is not None and name not in ((test_utils,) if isinstance(test_utils, str) else test_utils):
            continue
        try:
            check()
            results[name] = "SUCCESS"
        except Exception as error:
            if raise_exception:
                raise
            results[name] = error
    return results


_NO_TRITON = "Triton's kernels cannot run here. Write the operator with tensor operators: they are fused."
triton_op = unavailable_function("torch.library.triton_op", _NO_TRITON)
wrap_triton = unavailable_function("torch.library.wrap_triton", _NO_TRITON)
register_torch_dispatch = unavailable_function(
    "torch.library.register_torch_dispatch", "there is no __torch_dispatch__ in antorcha. Use __torch_function__.")
get_ctx = unavailable_function(
    "torch.library.get_ctx", "sizes that depend on data are told by the kernel's result here. Compute them in the kernel.")


def get_kernel(op, dispatch_key):
    """The kernel of an operator for a dispatch key. RuntimeError where there is none."""
    kernel = _operator_of(op).kernels.get(getattr(dispatch_key, "name", dispatch_key))
    if kernel is None:
        raise RuntimeError(f"{_operator_of(op)._qualname} has no kernel for {dispatch_key}")
    return kernel


def fallthrough_kernel(*args, **kwargs):
    """Stands for the next kernel; not to be called."""
    raise NotImplementedError("fallthrough_kernel() should never be called.")


# -- operators of PyTorch's own that programs call by name -------------------------------------------------------

def _profiler_operators() -> None:
    from .profiler import record_function

    space = Library("profiler", "DEF")
    _kept["profiler"] = space
    running: list = []

    def enter(name, args=None):
        block = record_function(name, args)
        block.__enter__()
        running.append(block)
        return block

    def leave(block):
        if block in running:
            running.remove(block)
            block.__exit__(None, None, None)
    for schema, kernel in (("_record_function_enter_new(str name, str? args=None) -> Any", enter),
                           ("_record_function_exit._RecordFunction(Any record) -> ()", leave)):
        name = schema.partition("(")[0]
        space.define(schema)
        space.impl(name, kernel, "CompositeImplicitAutograd")


_profiler_operators()


