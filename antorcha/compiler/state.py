"""All state that a function can depend on, as one list of values to compare.

A function sees its arguments, and through the names in its code globals, closures and the attributes of objects. Which code runs is
known (`observe.Profile`); so from the function and its arguments on, everything that code with these names can reach is visited, and
for each place a value was found at, an expression is noted that reads it again. The expressions of all places make one list display;
a step can be replayed where the list has the values it had: the same objects, or equal numbers and strings. A list or dict ends with
a marker that is found nowhere else, so that nothing can be moved from one to the next unseen.

Tensors found at places that get other tensors at each call (arguments, globals, closures, `.grad`) are compared by what they are, not
by identity. What is reached but not understood (an object written in C, an iterator, a lock) raises `Unprovable`.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections import defaultdict, deque
from operator import itemgetter

import numpy as np

from ..amp.autocast_mode import _chosen
from ..base import config
from ..base import dtype as dt
from ..base.device import device as Device
from ..base.formats import Size, layout
from ..base.grad_mode import mode
from ..core import autograd, override
from ..core.generator import Generator
from ..core.storage import Storage
from ..core.tensor import Tensor
from ..graph import tape
from ..graph.node import leaf
from ..nn import Module
from ..nn.modules import _hooks
from ..nn.modules.module import _fresh_state
from ..nn.parameter import Parameter
from ..ops.record import core
from ..optim import Optimizer
from .code import CONTAINERS, Unprovable, globals_read, hides_nothing, in_python, is_own, nested, version_of, versions_work, written
from .observe import DYNAMIC, HIGHER, PATCHED, PURE_LIBRARY, PURE_TYPES, own, pure_native

LARGEST = 100_000       # values compared
ABSENT, MARK, ALL_SLOTS = object(), object(), [("slots", None)]
ATOMS = {type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented), range, slice, Size, dt.dtype, Device,
         layout, types.CodeType, np.float32, np.float64, np.int32, np.int64, np.bool_}
_EVERY_MODULE = frozenset(_fresh_state())
NUMBERS = {bool, int, float, complex, str, bytes, Size, range, slice}      # compared by value where they are not the same object
FORBIDDEN = {"__dict__", "__getattribute__", "__setattr__", "__delattr__", "__globals__", "__code__", "__closure__", "__builtins__",
             "__subclasses__", "__weakref__", "__reduce__", "__reduce_ex__", "__sizeof__", "_version", "f_locals", "f_globals", "gi_frame",
             "__setitem__", "__delitem__", "__setstate__", "__init_subclass__", "__class_getitem__"}
DESCRIPTIONS = {"__annotations__", "__doc__", "__module__", "__qualname__", "__abstractmethods__", "_abc_impl", "__slots__",
                "__match_args__", "__dataclass_fields__", "__dataclass_params__", "__parameters__", "__orig_bases__",
                "__static_attributes__", "__firstlineno__", "__type_params__", "__annotate__"}
TENSOR_STATE = {"storage", "_meta", "_rg", "_grad", "_grad_fn", "_nr", "_base", "_views", "_accumulator", "_hooks", "_post_hooks",
                "_untracked"}


def environment() -> tuple:
    """The settings that what is recorded depends on."""
    forward_ad = sys.modules.get("antorcha.autograd.forward_ad")
    return (mode.grad, mode.inference, mode.autocast, dt._default, config.eager, config.target, config.fuse, config.verify,
            tape.state.rewriter, tape.state.devices, len(autograd.saving), autograd._cotangents, override.state.modes,
            override.state.enabled, override.state.subclasses, _hooks.any_global(),
            bool(forward_ad and forward_ad._levels), core.default_device, *_chosen.values())


# -- the walk ---------------------------------------------------------------------------------------------------

class Place:
    """Expressions (part of a list display) and the values they had. `container`: the dict or list they list, if one. `behind`: what
    changes whenever the values do, as (kind, object) for a `Witness`, or ("slot", number); (ALL_SLOTS,) of a comparison of all tensors."""

    __slots__ = ("code", "values", "where", "container", "behind")

    def __init__(self, code, values, where, container=None, behind=()):
        self.code, self.values, self.where, self.container, self.behind = code, values, where, container, behind


class Slot:
    """A tensor that the function can reach: `expression` finds the one that is there now. `of`: the number of the slot whose gradient it
    is; `constant`: it is always the same."""

    def __init__(self, tensor, expression: str, where: str, of: int | None, constant: bool):
        self.tensor, self.expression, self.where, self.is_grad = tensor, expression, where, of is not None
        self.of, self.constant = of, constant
        self.storage, self.node, self.version = tensor.storage, None, 0
        self.grad, self.type, self.fixed = tensor._grad, type(tensor), True
        self.history = tensor._rg, tensor._grad_fn, tensor._nr

    def begin(self) -> None:
        """Note the value at the beginning, in a node of its own: a clone has that of the original until one is written."""
        s = self.storage
        if s.node.buffer is not None and type(s) is Storage:
            s.node = leaf(s.node.buffer, s.numel, s.dtype)
        self.node, self.version = s.node, s.version

    def release(self) -> None:
        """Let the tensors go that were there while recording."""
        self.tensor = self.storage = self.node = self.grad = self.history = None


class Reach:
    """What a function can reach, by the code that a `Profile` saw run."""

    def __init__(self, profile, function, args: tuple, kwargs: dict):
        self.profile = profile
        self.names = profile.names()
        self.space: dict = {"A": ABSENT, "M": MARK, "environment": environment}     # what the expressions refer to
        self.places: list[Place] = []
        self.empty: list = []               # containers that have to stay empty
        self.keyed: list[dict] = []         # dicts whose keys are strings and have to stay
        self.owners: list = []              # objects that have to keep the attributes they have, whatever the values
        self.grads: list[Place] = []        # what may be different afterwards: the gradients
        self.slots: list[Slot] = []
        self.slot_of: dict[int, int] = {}
        self.seen: dict = {}
        self.reached_code: set = set()
        self.tags: list = []
        self.size = 0
        if not versions_work():
            raise Unprovable("this interpreter does not tell when a class is changed")
        bad = FORBIDDEN & {n for code in profile.user for n in code.co_names}
        if bad:
            raise Unprovable(f"the code uses {min(bad)}")
        self.dynamic = any(not DYNAMIC.isdisjoint(code.co_names) for code in profile.user)
        self.higher = bool(HIGHER & self.names)
        self.gradients = self.dynamic or "_grad" in self.names      # whether the code looks at the `.grad` of tensors or writes it
        self.settings()
        self.cls(Tensor)
        self.cls(Parameter)
        self.visit(function, "the function")
        self.arguments(args, kwargs)
        for code, space in profile.user.items():
            self.globals_of(code, space, deep=True)
        for code, space in profile.own.items():
            if (own(code) or "").startswith(PATCHED):
                self.globals_of(code, space, deep=False)
        self.together()
        self.check_code()
        self.check_tensors()

    # -- noting -------------------------------------------------------------------------------------------------

    def constant(self, x) -> str:
        name = f"c{len(self.space)}"
        self.space[name] = x
        return name

    def settings(self) -> None:
        where = "the settings (grad mode, autocast, default dtype ...)"
        own = "mode.grad, mode.inference, mode.autocast, thread.modes, thread.enabled, thread.subclasses"
        self.space.update(mode=mode, thread=override.state)
        self.place(own, list(eval(f"({own})", self.space)), where)
        kept = [("dict", vars(m)) for m in (dt, config, autograd, _hooks, core)] + [("dict", _chosen), ("empty", autograd.saving)]
        kept += [("empty", h) for h in _hooks.hooks_of_all] + [("slot of", (tape.state, name)) for name in ("rewriter", "devices")]
        forward_ad = sys.modules.get("antorcha.autograd.forward_ad")
        kept += [("empty", forward_ad._levels)] if forward_ad else [("dict", sys.modules)]
        self.place(f"environment() == {self.constant(environment())}", [True], where, behind=kept)

    def place(self, code: str, values: list, where: str, container=None, behind=()) -> None:
        self.size += len(values)
        if self.size > LARGEST:
            raise Unprovable(f"it depends on more than {LARGEST} values")
        self.places.append(Place(code, values, where, container, behind))

    def cls(self, cls: type) -> None:
        """A class whose attributes may be looked up."""
        if ("class", cls) in self.seen:
            return
        self.seen["class", cls] = cls
        getattr(cls, "__doc__", None), cls.__mro__
        if not hasattr(cls, "_a_name_that_no_class_has_"):     # a look-up, by which the interpreter gives the class a version
            tag = version_of(cls)
            if tag.value == 0:
                raise Unprovable(f"the class {cls.__qualname__} was changed too often")
            self.tags.append((cls, tag, tag.value))
        if type(cls) is not type and in_python(type(cls)):
            self.cls(type(cls))
        for base in cls.__mro__:
            if in_python(base) and not is_own(base):
                for name, value in list(vars(base).items()):
                    if (self.dynamic or name in self.names or name.startswith("__")) and name not in ("__dict__", "__weakref__"):
                        self.attribute(value, f"{base.__qualname__}.{name}")

    def attribute(self, value, where: str) -> None:
        """What a class has: functions that never ran are no concern."""
        if type(value) in (staticmethod, classmethod, property, functools.cached_property):
            for part in ("__func__", "fget", "fset", "fdel", "func"):
                self.visit(getattr(value, part, None), where)
            return
        if isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType,
                                               types.MethodDescriptorType, types.ClassMethodDescriptorType)):
            return
        if where.rpartition(".")[2] in DESCRIPTIONS:
            return
        self.visit(value, where)

    # -- the kinds of values ------------------------------------------------------------------------------------

    def visit(self, x, where: str) -> None:
        """A value whose identity is compared at the place where it was found."""
        t = type(x)
        if t in ATOMS or id(x) in self.seen:
            return
        if isinstance(x, Tensor):
            self.slot(x, None, where)
            return
        self.seen[id(x)] = x
        if isinstance(x, type):
            if not in_python(x) and x not in PURE_TYPES and not issubclass(x, BaseException) and not is_own(x):
                raise Unprovable(f"{where} is the type {x.__module__}.{x.__qualname__}, which is not known to be without hidden state")
            if in_python(x) or is_own(x):
                self.cls(x)
        elif t is types.FunctionType:
            self.function(x, where)
        elif t is types.MethodType:
            self.visit(x.__func__, where)
            self.visit(x.__self__, where)
        elif t in (types.BuiltinFunctionType, types.MethodWrapperType):
            if self.higher and not pure_native(x):
                raise Unprovable(f"{where} is {x.__name__}, which is not known to be pure, and map, sorted ... could call it")
            if not isinstance(x.__self__, types.ModuleType):
                self.visit(x.__self__, where)
        elif t is types.ModuleType:
            self.module(x, where)
        elif t is functools.partial:
            for part, name in ((x.func, "func"), (x.args, "args"), (x.keywords, "keywords")):
                self.visit(part, f"{where}.{name}")
        elif t in (staticmethod, classmethod, property):
            self.attribute(x, where)
        elif t is Generator or t.__name__ == "Compiled" and is_own(t):
            if t is not Generator:
                self.visit(x.function, where)
        elif t is types.MappingProxyType:
            raise Unprovable(f"{where} is a mappingproxy")
        else:
            self.instance(x, t, where)

    def function(self, f, where: str) -> None:
        code = f.__code__
        if own(code) or code.co_filename in PURE_LIBRARY:
            for cell in f.__closure__ or ():
                content = _content(cell)
                if type(content) in (types.FunctionType, types.MethodType, functools.partial):
                    self.place(f"{self.constant(cell)}.cell_contents", [content], where, behind=[("cell", cell)])
                    self.visit(content, where)
            return
        name = self.constant(f)
        if f.__dict__:
            self.place(f"*{name}.__dict__, *{name}.__dict__.values(), M", [*f.__dict__, *f.__dict__.values(), MARK],
                       f"attributes of {where}")
            for key, value in f.__dict__.items():
                if key in self.names or key == "__wrapped__":
                    self.visit(value, f"{where}.{key}")
        self.reached_code.add(code)
        if code not in self.profile.user:
            return
        self.place(f"{name}.__code__, {name}.__defaults__, {name}.__kwdefaults__", [code, f.__defaults__, f.__kwdefaults__],
                   f"the code of {where}", behind=[("function", f)])
        self.visit(f.__defaults__, f"a default of {where}")
        self.visit(f.__kwdefaults__, f"a default of {where}")
        for variable, cell in zip(code.co_freevars, f.__closure__ or ()):
            content, here = _content(cell), f"{variable} (a closure's variable of {where})"
            cell = self.constant(cell)
            if content is ABSENT:
                raise Unprovable(f"{here} has no value yet")
            self.variable(content, f"{cell}.cell_contents", here)

    def variable(self, value, expression: str, where: str) -> None:
        """A variable: another tensor of the same kind will do."""
        if isinstance(value, Tensor):
            self.slot(value, expression, where)
        else:
            self.place(expression, [value], where)
            self.visit(value, where)

    def globals_of(self, code, space: dict, deep: bool) -> None:
        known = (id(space), code)
        if known in self.seen:
            return
        self.seen[known] = space
        builtins = space.get("__builtins__")
        builtins = vars(builtins) if type(builtins) is types.ModuleType else builtins
        try:
            reads = globals_read(code)
        except Unprovable:
            if deep:
                raise
            return
        for name, chain in reads:
            key = (id(space), name)
            value = space.get(name, ABSENT)
            if key not in self.seen:
                self.seen[key] = space
                if value is ABSENT:
                    self.place(f"{self.dictionary(space)}.get({name!r}, A), {self.dictionary(builtins)}.get({name!r}, A)",
                               [ABSENT, builtins.get(name, ABSENT)], f"the global {name}", behind=[("dict", space), ("dict", builtins)])
                elif deep and isinstance(value, Tensor):
                    self.slot(value, f"{self.dictionary(space)}.get({name!r})", f"the global {name}")
                else:
                    self.place(f"{self.dictionary(space)}.get({name!r}, A)", [value], f"the global {name}", behind=[("dict", space)])
            value = builtins.get(name, ABSENT) if value is ABSENT else value
            where = name
            if type(value) is types.ModuleType and not chain and deep:
                self.visit(value, where)
            for attribute in chain:
                if type(value) is not types.ModuleType:
                    break
                where = f"{where}.{attribute}"
                value = self.member(value, attribute, where)
            if deep and type(value) is not types.ModuleType and value is not ABSENT and (chain or not isinstance(value, Tensor)):
                self.visit(value, where)

    def member(self, module, attribute: str, where: str):
        """An attribute of a module, which is compared."""
        space = vars(module)
        value = space.get(attribute, ABSENT)
        key = (id(space), attribute)
        if key not in self.seen:
            self.seen[key] = space
            if value is ABSENT and not is_own(module):
                raise Unprovable(f"{where} is found by a function of the module")
            self.place(f"{self.dictionary(space)}.get({attribute!r}, A)", [value], where, behind=[("dict", space)])
        return getattr(module, attribute, ABSENT) if value is ABSENT else value

    def module(self, module, where: str) -> None:
        """A module that the code has as a value."""
        space, name = vars(module), self.dictionary(vars(module))
        if is_own(module):
            if self.dynamic:
                self.place(f"*{name}, *{name}.values(), M", [*space, *space.values(), MARK], where, behind=[("dict", space)])
            return
        if self.dynamic:
            raise Unprovable(f"{where} is a module whose attributes are read by getattr")
        for attribute in sorted(self.names & space.keys()):
            self.place(f"{name}.get({attribute!r}, A)", [space[attribute]], f"{where}.{attribute}", behind=[("dict", space)])
            self.visit(space[attribute], f"{where}.{attribute}")

    def dictionary(self, d: dict) -> str:
        name = self.seen.get(("name", id(d)))
        if name is None:
            name = self.seen["name", id(d)] = self.constant(d)
        return name

    def instance(self, x, t: type, where: str) -> None:
        """An object of a container's class, or of one written in Python."""
        if not (t in CONTAINERS or hides_nothing(t) or isinstance(x, enum.Enum)):
            raise Unprovable(f"{where} is a {t.__module__}.{t.__qualname__}, whose state cannot be compared")
        name = None if t in (tuple, frozenset) else self.constant(x)
        if t in CONTAINERS and not x and name is not None:
            self.empty.append(x)
        elif isinstance(x, dict):
            if all(type(k) is str for k in x):
                self.keyed.append(x)
                self.place(f"*{name}.values(), M", [*x.values(), MARK], where, x, behind=[("dict", x)])
            else:
                self.place(f"*{name}, *{name}.values(), M", [*x, *x.values(), MARK], where, behind=[("dict", x)])
            for key, value in x.items():
                self.visit(key, f"a key of {where}")
                self.visit(value, f"{where}[{key if type(key) in (str, int) else type(key).__name__!r}]")
        elif isinstance(x, (list, deque, set)):
            self.place(f"*{name}, M", [*x, MARK], where, behind=[("list", x)] if isinstance(x, list) else ())
        if isinstance(x, defaultdict):
            self.place(f"{name}.default_factory", [x.default_factory], where)
            self.visit(x.default_factory, f"{where}.default_factory")
        if isinstance(x, (list, deque, set, tuple, frozenset)):
            for k, value in enumerate(x):
                self.visit(value, f"{where}[{k}]")
        if t not in CONTAINERS:
            self.cls(t)
            name = name or self.constant(x)
            self.place(f"type({name})", [t], f"the class of {where}", behind=[("type", x)])
            self.attributes(x, t, name, where)

    def attributes(self, x, t: type, name: str, where: str) -> None:
        for base in t.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for s in (slots,) if isinstance(slots, str) else tuple(slots):
                if s in ("__dict__", "__weakref__"):
                    continue
                s = f"_{base.__name__.lstrip('_')}{s}" if s.startswith("__") and not s.endswith("__") else s
                value = getattr(x, s, ABSENT)
                self.place(f"getattr({name}, {s!r}, A)", [value], f"{where}.{s}")
                if value is not ABSENT:
                    self.visit(value, f"{where}.{s}")
        d = getattr(x, "__dict__", None)
        if d is None:
            return
        names = self.names_of(x, t)
        if names is None:
            found = list(d)
        else:
            found = [n for n in d if n in names]
        if len(found) > 1:
            self.place(f"*{self.constant(itemgetter(*found))}({name}.__dict__)", [d[n] for n in found], where, behind=[("vars", x)])
        elif found:
            self.place(f"{name}.__dict__.get({found[0]!r}, A)", [d[found[0]]], where, behind=[("vars", x)])
        if names is None or isinstance(x, (Module, Optimizer)):
            self.owners.append(x)
        else:
            missing = self.constant(frozenset(names - d.keys()))
            self.place(f"{name}.__dict__.keys().isdisjoint({missing})", [True], f"the attributes of {where}", behind=[("vars", x)])
        for n in found:
            self.visit(d[n], f"{where}.{n}")

    def names_of(self, x, t: type) -> set | None:
        """The attributes that code can read of an object; None for all."""
        if self.dynamic:
            return None
        if isinstance(x, Module):
            return self.names | {"_parameters", "_buffers", "_modules"} | self.own_attributes(x, t)
        return None if is_own(t) and not isinstance(x, Optimizer) else self.names

    @staticmethod
    def own_attributes(x, t: type) -> set:
        """What the modules of this package may read of an instance by names that are made at run time."""
        modules = [b for b in t.__mro__[:-1] if is_own(b)]
        return set() if len(modules) < len(Module.__mro__) else x.__dict__.keys() - _EVERY_MODULE

    # -- arguments and tensors ----------------------------------------------------------------------------------

    def arguments(self, args: tuple, kwargs: dict) -> None:
        self.made: list = []
        self.argument(args, "args", "the arguments")
        self.argument(kwargs, "kwargs", "the keyword arguments")
        if len({id(x) for x, _ in self.made}) != len(self.made):
            raise Unprovable("one list or dict is given as several arguments")
        self.place(f"len({{{', '.join(f'id({e})' for _, e in self.made)}}})", [len(self.made)], "the arguments")

    def argument(self, x, expression: str, where: str) -> None:
        t = type(x)
        if t in (tuple, list, dict):
            self.made.append((x, expression)) if x != () else None
            self.place(f"type({expression}), len({expression})", [t, len(x)], f"the structure of {where}")
            if t is dict:
                if not all(type(k) in (str, int) for k in x):
                    raise Unprovable(f"{where} has keys that are neither strings nor integers")
                self.place(f"*{expression}", [*x], f"the keys of {where}")
            for k, v in x.items() if t is dict else enumerate(x):
                here = k if expression == "kwargs" else f"argument {k}" if expression == "args" else f"{where}[{k!r}]"
                self.argument(v, f"{expression}[{k!r}]", here)
        elif isinstance(x, Tensor):
            self.slot(x, expression, where)
        else:
            self.place(expression, [x], where)
            self.visit(x, where)

    def slot(self, t, expression: str | None, where: str, of: int | None = None) -> None:
        """A tensor. Without an expression it is always this one. `of`: the number of the tensor whose gradient it is."""
        known = self.slot_of.get(id(t))
        places = self.places if of is None else self.grads
        if known is not None:
            if expression is not None:
                same_as = f"{where}, which is the same tensor as {self.slots[known].where}"
                places.append(Place(f"{expression} is t{known}", [True], same_as))
            elif not self.slots[known].constant:
                places.append(Place(f"{self.constant(t)} is t{known}", [True], f"{where}, which is {self.slots[known].where}"))
            return
        if type(t) not in (Tensor, Parameter):
            raise Unprovable(f"{where} is a {type(t).__name__}: of the tensors' classes Tensor and Parameter alone are known")
        extra = t.__dict__.keys() - TENSOR_STATE
        if extra and (self.dynamic or extra & self.names):
            raise Unprovable(f"{where} has attributes of the user's: {', '.join(sorted(extra))}")
        k = self.slot_of[id(t)] = len(self.slots)
        slot = Slot(t, expression or self.constant(t), where, of, expression is None)
        behind = [("slot", k)]
        self.slots.append(slot)
        if type(t.storage) is not Storage:
            raise Unprovable(f"{where} lies in memory that NumPy shares: what touches it is computed at once. Use a clone() of it")
        if self.gradients and (t._hooks or t._post_hooks):
            raise Unprovable(f"{where} has hooks")
        what = f"shape, strides, dtype, requires_grad or hooks of {where}"
        places.append(Place(f"t{k}._meta", [t._meta], what, behind=behind))
        fixed = slot.fixed = self.gradients and (expression is None or of is not None)
        if not fixed and expression is not None:
            places.append(Place(f"t{k}.__dict__.keys() <= {self.constant(TENSOR_STATE)}", [not extra], f"attributes of {where}"))
        for name, check in (("_rg", "t{}._rg"), ("_grad_fn", "t{}._grad_fn is None"), ("_hooks", "not t{}._hooks"),
                            ("_post_hooks", "not t{}._post_hooks"), ("_untracked", "t{}._untracked"), ("_base", "t{}._base is None")):
            if (not fixed or name in t.__dict__ or name in Tensor.__slots__) and (self.gradients or name not in ("_hooks", "_post_hooks")):
                places.append(Place(check.format(k), [eval(check.format(""), {"t": t})], what, behind=behind))
        if not self.gradients:
            return
        if t._grad is not None:
            self.slot(t._grad, f"t{k}._grad", f"the gradient of {where}", k)
        elif not fixed or "_grad" in t.__dict__:
            self.grads.append(Place(f"t{k}._grad", [None], f"the gradient of {where}", behind=behind))

    def check_code(self) -> None:
        """All code that ran belongs to functions that were reached, whose closures are compared, or was defined by such."""
        known = set(self.reached_code)
        for code in self.reached_code:
            known.update(nested(code))
        for code in self.profile.user.keys() - known:
            raise Unprovable(f"it is not known where {code.co_name} ({code.co_filename}:{code.co_firstlineno}) comes from")

    def together(self) -> None:
        """What is quicker compared for many objects at once."""
        if self.empty:
            self.place(f"any({self.constant(tuple(self.empty))})", [False], "a list or dict (hooks, for example) that was empty",
                       behind=[("empty", x) for x in self.empty])
        for kind, objects, expression, where in (
                ("dict", self.keyed, "map(tuple, {})", "the keys of a dict (modules, parameters, options)"),
                ("vars", self.owners, "map(tuple, map(vars, {}))", "the attributes of a module or optimiser")):
            if objects:
                self.place(self._keys(expression, objects), [True], where, objects, behind=[(kind, x) for x in objects])

    def _keys(self, expression: str, objects: list) -> str:
        expression = f"list({expression.format(self.constant(tuple(objects)))})"
        return f"{expression} == {self.constant(eval(expression, self.space))}"

    def excuse(self, free: dict) -> None:
        """Do not compare the keys of these dicts together with those of others."""
        for p in self.places:
            if p.container is self.keyed and not free.keys().isdisjoint(map(id, self.keyed)):
                objects = [d for d in self.keyed if id(d) not in free]
                p.code = self._keys("map(tuple, {})", objects)
                p.behind = [("dict", d) for d in objects]

    def check_tensors(self) -> None:
        """Classes; which slots are one tensor or share one storage. Which attributes a tensor has of its own tells that the others
        have their defaults."""
        slots, first = self.slots, {}
        for k, s in enumerate(slots):
            j = first.setdefault(id(s.storage), k)
            if j != k:
                self.grads.append(Place(f"t{k}.storage is t{j}.storage", [True], f"whether {s.where} shares memory with {slots[j].where}",
                                        behind=[("slot", k), ("slot", j)]))
        if not slots:
            return
        tensors = f"({''.join(f't{k}, ' for k in range(len(slots)))})"
        storages = f"({''.join(f't{k}.storage, ' for k in first.values())})"
        def compare(code: str, values: list, where: str) -> None:
            self.grads.append(Place(code, values, where, behind=ALL_SLOTS))

        compare(f"*map(type, {tensors})", [s.type for s in slots], "a tensor's class")
        compare(f"*map(type, {storages})", [Storage for _ in first], "whether NumPy shares a tensor's memory")
        compare(f"len({{*map(id, {storages})}})", [len(first)], "which tensors share memory")
        if len(first) < len(slots):
            compare(f"len({{*map(id, {tensors})}})", [len(slots)], "which tensors are the same")
        fixed = [k for k, s in enumerate(slots) if s.fixed]
        if not fixed:
            return
        keys = self.constant([tuple(slots[k].tensor.__dict__) for k in fixed])
        fixed = "".join(f"t{k}, " for k in fixed)
        compare(f"list(map(tuple, map(vars, ({fixed})))) == {keys}", [True], "hooks of a tensor")

    # -- comparing ----------------------------------------------------------------------------------------------

    def reader(self, places: list[Place], grads: bool):
        """A function of (args, kwargs): (the tensors, the values of all places now)."""
        slots = [(k, s) for k, s in enumerate(self.slots) if grads or not s.is_grad]
        lines = [*[f"t{k} = {s.expression}" for k, s in slots],
                 f"return ({''.join(f't{k}, ' for k, _ in slots)}), [{', '.join(p.code for p in places)}]"]
        return written("read", "args, kwargs", lines, self.space)

    def unchanged(self, args: tuple, kwargs: dict, except_for=()) -> str | None:
        """What the function changed besides tensors, of what it can reach; None where nothing did."""
        for cls, tag, value in self.tags:
            if tag.value != value:
                return f"the class {cls.__qualname__}"
        places = [p for p in self.places if id(p.container) not in except_for]
        _, now = self.reader(places, False)(args, kwargs)
        then = [v for p in places for v in p.values]
        return None if same(now, then) else difference(now, then, places)


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def same(now: list, then: list) -> bool:
    """Whether a list has the values it had. Equal numbers that are other objects take their place, so that the next comparison is quick."""
    if len(now) != len(then):
        return False
    changed = []
    for k, (a, b) in enumerate(zip(now, then)):
        if a is not b:
            if type(a) is not type(b) or type(a) not in NUMBERS or a != b or repr(a) != repr(b):
                return False
            changed.append((k, a))
    for k, a in changed:
        then[k] = a
    return True


def difference(now: list, then: list, places: list[Place]) -> str:
    """What is at the first place that has another value."""
    at = 0
    for p in places:
        end = at + len(p.values)
        if not same(now[at:end], then[at:end]):
            changed = [k for k, a, b in zip(p.container or (), now[at:end], then[at:end]) if not same([a], [b])]
            return f"{p.where}[{changed[0]!r}]" if changed else p.where
        at = end
    return "the state"

