"""`__torch_function__`: classes that do PyTorch's functions their own way.

Nobody pays for it who does not use it: the public functions and methods are replaced by ones that look at the types of their
arguments (`install`) when the first class that overrides them is defined, a `TorchFunctionMode` entered, or `torch.overrides`
imported. What a function calls inside is not looked at: one dispatch for each call from outside.

A class that derives from Tensor and does not say otherwise keeps its type: `default` computes and gives the results that type.
"""

from __future__ import annotations

import functools
import threading
from types import FunctionType

from ..ops.record import core


class _State(threading.local):
    subclasses = True  # whether arguments' classes are asked
    enabled = True  # whether modes are, too
    modes: tuple = ()  # the active ones, the innermost last
    skip = False  # whether the next function is to be computed without asking


state = _State()
modules = None  # () -> {name: module} of what can be overridden; told by the layer above
names: dict = {}  # what has been made overridable -> its dotted name
plain: dict = {}  # .. -> the function that it stands for
_known: dict[type, bool] = {}
_ABOUT_MODES = frozenset(
    [
        "is_grad_enabled",
        "set_grad_enabled",
        "is_inference_mode_enabled",
        "get_default_dtype",
        "set_default_dtype",
        "get_default_device",
        "set_default_device",
        "manual_seed",
        "seed",
        "initial_seed",
        "get_rng_state",
        "set_rng_state",
        "get_num_threads",
        "set_num_threads",
        "set_printoptions",
        "synchronize",
        "use_deterministic_algorithms",
        "are_deterministic_algorithms_enabled",
        "set_float32_matmul_precision",
        "fork_rng",
        "can_cast",
        "promote_types",
    ]
)
IGNORED = _ABOUT_MODES | frozenset(
    [
        "is_tensor",
        "save",
        "load",
        "compile",
        "explain",
        "vmap",
        "as_subclass",
        "__new__",
        "__init__",
        "__init_subclass__",
        "__torch_function__",
        "__str__",
        "__getattr__",
        "__getattribute__",
        "__setattr__",
        "__class_getitem__",
        "__dir__",
        "__hash__",
        "__deepcopy__",
        "_make_subclass",
    ]
)
# They take what they are given as it is: modes are asked alone.
CONVERSIONS = frozenset(["tensor", "as_tensor", "asarray", "from_numpy", "from_dlpack"])
# What PyTorch says was called for an operator sign.
_SIGNS = dict(
    __add__="add",
    __radd__="add",
    __sub__="sub",
    __mul__="mul",
    __rmul__="mul",
    __truediv__="div",
    __mod__="remainder",
    __matmul__="matmul",
    __lt__="lt",
    __le__="le",
    __gt__="gt",
    __ge__="ge",
    __ne__="ne",
    __neg__="neg",
    __abs__="abs",
    __iadd__="add_",
    __isub__="sub_",
    __imul__="mul_",
    __itruediv__="div_",
)


def resolve(function) -> str | None:
    """The dotted name of an overridable function, None where it is none: torch.Tensor.add, torch.nn.functional.relu."""
    try:
        return names.get(function)
    except TypeError:  # cannot be hashed
        return None


def disabled(func, types, args=(), kwargs=None):
    """As a class's `__torch_function__`: it overrides nothing, and its type is not kept."""
    return NotImplemented


def overrides(cls: type) -> bool:
    """Whether a class does functions its own way."""
    found = _known.get(cls)
    if found is None:
        own = getattr(cls, "__torch_function__", None)
        found = _known[cls] = own is not None and own is not disabled and cls is not core.Tensor
    return found


def overloaded(args) -> list:
    """One argument of each class that overrides, those of subclasses before those of their bases."""
    found: list = []
    for x in args:
        cls = type(x)
        if cls is tuple or cls is list:
            for y in x:
                if overrides(type(y)):
                    _insert(found, y)
        elif overrides(cls):
            _insert(found, x)
    return found


def _insert(found: list, x) -> None:
    cls = type(x)
    if any(type(y) is cls for y in found):
        return
    found.insert(next((i for i, y in enumerate(found) if issubclass(cls, type(y))), len(found)), x)


def dispatch(public, found: list, args: tuple, kwargs: dict):
    """Ask the innermost mode, then the classes of the arguments in `found`, to do `public`."""
    types = tuple(type(x) for x in found)
    if state.modes and state.enabled:
        modes = state.modes
        state.modes = modes[:-1]
        try:
            result = modes[-1].__torch_function__(public, types, args, kwargs)
        finally:
            state.modes = modes
        if result is not NotImplemented:
            return result
    for x in found:
        result = type(x).__torch_function__(public, types, args, kwargs)
        if result is not NotImplemented:
            return result
    name = names.get(public, getattr(public, "__name__", repr(public)))
    raise TypeError(f"no implementation found for '{name}' on types that implement __torch_function__: {[t for t in types]}")


def overridable(function, public=None, classes=True):
    """`function` made to ask modes and (with `classes`) the classes of its arguments first; `public` (itself) is what they are
    told was called."""

    @functools.wraps(function)
    def asking(*args, **kwargs):
        if state.skip:
            state.skip = False
        elif state.enabled:
            found = overloaded((*args, *kwargs.values()) if kwargs else args) if state.subclasses and classes else ()
            if found or state.modes:
                return dispatch(public or asking, found, args, kwargs)
        return function(*args, **kwargs)

    return asking


def default(cls, func, types, args=(), kwargs=None):
    """What a subclass of Tensor does by itself: compute, and give the results its type."""
    if not all(issubclass(cls, t) for t in types):
        return NotImplemented
    result = unasked(func, args, kwargs or {})
    return result if func in _NOT_TYPED else typed(result, cls, args)


def unasked(func, args: tuple, kwargs: dict):
    """What `func` gives without the classes of its arguments being asked."""
    before, state.subclasses = state.subclasses, False
    try:
        return func(*args, **kwargs)
    finally:
        state.subclasses = before


def typed(result, cls: type, args: tuple = ()):
    """Tensors among the results as instances of `cls`; those that were there before are not changed."""
    if cls is core.Tensor:
        return result
    if isinstance(result, core.Tensor):
        if isinstance(result, cls):
            return result
        if type(result) is not core.Tensor or any(result is a for a in args):
            return result.as_subclass(cls)
        result.__class__ = cls
        return result
    if type(result) in (tuple, list) or isinstance(result, tuple) and hasattr(result, "_fields"):
        parts = [typed(r, cls, args) for r in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    return result


_NOT_TYPED: set = set()


# -- installing ---------------------------------------------------------------------------------------------------


def install() -> None:
    """Let every public function and method ask the classes of its arguments, from here on."""
    if names or modules is None:
        return
    for name, module in modules().items():
        _install(name, vars(module), module)
    _install("torch.Tensor", vars(core.Tensor), core.Tensor)
    for sign, name in _SIGNS.items():
        method, public = plain.get(getattr(core.Tensor, sign)), getattr(core.Tensor, name, None)
        if method is not None and public in names:
            setattr(core.Tensor, sign, overridable(method, public))
    _NOT_TYPED.update(
        getattr(core.Tensor, n).__get__ for n in ("grad", "_base", "_grad") if isinstance(getattr(core.Tensor, n), property)
    )


def _install(prefix: str, space: dict, holder) -> None:
    made: dict = {}  # one for each function, so that two names of one stay the same
    for name, function in list(space.items()):
        if not isinstance(function, FunctionType) or name in IGNORED or name.startswith("_") and not name.startswith("__"):
            continue
        if not (function.__module__ or "").startswith(__package__.partition(".")[0]):
            continue        # a library's own method, put into the class
        if function not in made:
            new = made[function] = overridable(function, classes=name not in CONVERSIONS)
            new.__name__, new.__module__ = name, getattr(holder, "__module__", holder.__name__)
            new.__qualname__ = f"Tensor.{name}" if isinstance(holder, type) else name
            names[new], plain[new] = f"{prefix}.{name}", function
        setattr(holder, name, made[function])


def subclassed(cls: type) -> None:
    """A class derived from Tensor has been defined: let its attributes be asked for, too."""
    if not overrides(cls) or core.Tensor is None:
        return
    install()
    between = cls.__mro__[: cls.__mro__.index(core.Tensor)]
    for name, attribute in vars(core.Tensor).items():
        if isinstance(attribute, property) and not name.startswith("_") and not any(name in vars(c) for c in between):
            setattr(cls, name, _asking_property(name, attribute))


def begins_to(cls: type, function) -> None:
    """Give a class that overrode nothing its `__torch_function__` only now."""
    cls.__torch_function__ = classmethod(function)
    _known.pop(cls, None)
    subclassed(cls)


def _asking_property(name: str, attribute: property) -> property:
    """The property with its getter and setter made overridable."""
    get = attribute.__get__
    names[get] = f"torch.Tensor.{name}.__get__"
    if attribute.fset is None:
        return property(overridable(attribute.fget, get), doc=attribute.__doc__)
    put = attribute.__set__
    names[put] = f"torch.Tensor.{name}.__set__"
    return property(overridable(attribute.fget, get), overridable(attribute.fset, put), attribute.fdel, attribute.__doc__)
