"""What happens while a function is recorded for replay: which Python code runs, which values it looks at, which numbers it draws.

Two observers. `Profile` is told by the interpreter (`sys.setprofile`) of every function that is entered, in Python and in C. `Watch` is
told by the engine (`tape.state.watch`) of everything that a replay must repeat or could not repeat.
"""

from __future__ import annotations

import gc
import itertools
import math
import operator
import os
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np

from ..base.errors import user_line
from ..base.symbol import Symbol
from ..core.generator import Generator
from ..graph.tape import state

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_LLVMLITE = f"{os.sep}llvmlite{os.sep}"
_NUMPY = os.path.dirname(np.__file__) + os.sep

# Parts of this package whose functions depend on nothing but their arguments, the tensors' state and `state.environment`
PURE = {"base", "runtime", "targets", "loops", "graph", "ops", "core", "nn", "optim", "amp", "autograd", "distributions", "compiler",
        "__init__.py", "layers.py", "special.py", "linalg.py", "fft.py", "signal", "return_types.py", "queries.py", "types.py",
        "type_info.py"}
IMPURE_FILES = {os.path.join(*parts) for parts in (
    ("core", "untyped.py"), ("core", "gradcheck.py"), ("autograd", "graph.py"), ("autograd", "forward_ad.py"),
    ("autograd", "anomaly_mode.py"), ("nn", "modules", "lazy.py"))}
IMPURE_NAMES = {"manual_seed", "seed", "initial_seed", "get_state", "set_state", "clone_state", "_version", "data_ptr", "numpy",
                "register_hook", "register_post_accumulate_grad_hook", "retain_grad", "__dlpack__", "share_memory_", "set_default",
                "set_num_threads", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
                "register_full_backward_pre_hook",
                "set_autocast_dtype"}
PATCHED = ("nn" + os.sep, "optim" + os.sep, "amp" + os.sep)      # where users replace functions: what is read there is guarded
PURE_LIBRARY = {_LIBRARY + name for name in ("contextlib.py", "functools.py", os.path.join("collections", "__init__.py"), "typing.py",
                                             "enum.py", "abc.py", "types.py", "operator.py")} | {"<frozen abc>"}

PURE_BUILTINS = {"abs", "all", "any", "ascii", "bin", "callable", "chr", "divmod", "format", "getattr", "hasattr", "hex", "isinstance",
                 "issubclass", "iter", "len", "max", "min", "next", "oct", "ord", "pow", "repr", "round", "sorted", "sum",
                 "__build_class__"}
DYNAMIC = {"getattr", "hasattr", "format", "format_map"}      # read attributes whose names are not in the code
HIGHER = {"map", "filter", "sorted", "min", "max", "reduce", "partial", "starmap", "accumulate", "iter", "groupby", "takewhile",
          "dropwhile", "sort", "defaultdict", "filterfalse"}       # call functions unseen
PURE_MODULES = {"math", "cmath", "_operator", "itertools", "_functools", "_collections", "_abc"}
ITERATORS = {t for t in vars(itertools).values() if isinstance(t, type)} | {zip, map, filter, enumerate, reversed}
VALUES = (str, bytes, int, float, complex, bool, tuple, list, dict, set, frozenset, range, slice, OrderedDict, defaultdict, deque, Counter,
          type(None), types.GeneratorType, types.MappingProxyType)
PURE_TYPES = {*VALUES, *ITERATORS, object, type, super, property, staticmethod, classmethod, types.SimpleNamespace, operator.itemgetter,
              types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType, np.float32, np.float64, np.int64, np.int32}


def own(code: types.CodeType) -> str | None:
    """The file of code of this package, relative to it."""
    name = code.co_filename
    return name[len(PACKAGE):] if name.startswith(PACKAGE) else None


def _in_library(code: types.CodeType) -> bool:
    """Whether code belongs to Python's library, to NumPy or to llvmlite."""
    name = code.co_filename
    if _LLVMLITE in name or name.startswith((_NUMPY, "<frozen ")):
        return True
    return name.startswith(_LIBRARY) and "site-packages" not in name


def _for_package(frame) -> bool:
    """Whether code of Python's library, NumPy or llvmlite runs because this package called it."""
    while frame is not None and _in_library(frame.f_code):
        frame = frame.f_back
    return frame is not None and own(frame.f_code) is not None and _kind(frame.f_code)[0] == "own"


def _generated(frame) -> bool:
    """Whether code was generated for a named tuple or for a data class of this package."""
    names = frame.f_globals
    return frame.f_code.co_filename == "<string>" and (
        "_tuple_new" in names or str(names.get("__name__")).startswith(__name__.partition(".")[0] + "."))


def _kind(code: types.CodeType) -> tuple[str, str]:
    """("own" | "library" | "user" | "impure", what it is called)."""
    name = getattr(code, "co_qualname", code.co_name)
    file = own(code)
    if file is None:
        if code.co_filename in PURE_LIBRARY:
            return "library", name
        return "user", name
    pure = file.split(os.sep)[0] in PURE and file not in IMPURE_FILES and code.co_name not in IMPURE_NAMES
    return ("own" if pure else "impure"), f"{file[:-3].replace(os.sep, '.')}.{code.co_name}"


class Profile:
    """The code that ran: `user` and `own` map code objects to their globals. `impure`: the first call that forbids a replay."""

    def __init__(self):
        self.user: dict = {}
        self.own: dict = {}
        self.kinds: dict = {}
        self.impure: str | None = None

    def __enter__(self):
        self.collects = gc.isenabled()
        gc.disable()        # or what it calls would seem to belong to the function
        state.profiled = True
        sys.setprofile(self._event)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)
        state.profiled = False
        if self.collects:
            gc.enable()

    def _event(self, frame, event, arg) -> None:
        if event != "call" and event != "c_call":
            return
        code = frame.f_code
        kind = self.kinds.get(code)
        if kind is None:
            kind = self.kinds[code] = _kind(code)
            if kind[0] == "own":
                self.own[code] = frame.f_globals
        if kind[0] == "user":
            if code not in self.user:
                if _for_package(frame) or _generated(frame):
                    return
                self.user[code] = frame.f_globals
        if event == "call":
            if kind[0] == "impure" and self.impure is None:
                self.impure = f"it calls {kind[1]}"
        elif kind[0] == "user":
            self._native(arg, frame)

    def _native(self, function, frame) -> None:
        if not pure_native(function):
            if self.impure is None:
                name = getattr(function, "__qualname__", repr(function))
                module = getattr(function, "__module__", None)
                name = name if module in (None, "builtins") else f"{module}.{name}"
                self.impure = f"it calls {name} ({frame.f_code.co_filename}:{frame.f_lineno})"

    def within(self, other: Profile) -> bool:
        """Whether all code that ran is code that `other` has seen."""
        return self.user.keys() <= other.user.keys() and self.own.keys() <= other.own.keys()

    def names(self) -> set:
        """All names of globals and attributes in the code that ran."""
        return {n for code in (*self.user, *self.own) for n in code.co_names}


def pure_native(function) -> bool:
    """Whether a function written in C has no effect but on its `self` and depends on nothing but its arguments."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, types.ModuleType):
        if owner.__name__ == "builtins":
            return function.__name__ in PURE_BUILTINS
        return owner.__name__ in PURE_MODULES
    if owner is None:
        return getattr(function, "__module__", None) in PURE_MODULES
    return (owner if isinstance(owner, type) else type(owner)) in PURE_TYPES or isinstance(owner, BaseException) \
        or isinstance(owner, (tuple, dict, list)) or isinstance(owner, type) and issubclass(owner, (tuple, dict, list))


class Draw:
    """One draw from a generator, to be repeated: `generator.method(*args)`; the numbers lie at `address`, or in `node`."""

    def __init__(self, generator, method: str, args: tuple, result):
        self.generator, self.method, self.args, self.result = generator, method, args, result

    def is_leaf(self, node) -> bool:
        """Whether a leaf holds exactly these numbers."""
        if type(self.result) is not np.ndarray:
            return node is self.result
        b = node.buffer
        return b.address == self.result.ctypes.data and b.nbytes == self.result.nbytes and self.result.flags.c_contiguous


class _Draws:
    """A generator whose draws are noted."""

    def __init__(self, watch: Watch, generator):
        self._watch, self._generator = watch, generator

    def __getattr__(self, name):
        method = getattr(self._generator, name)
        if name not in ("below_leaf", "uniform", "normal", "integers", "whole_range", "permutation", "exponential"):
            self._watch.refuse(f"it draws random numbers ({name}) in a way that is not noted")
            return method

        def draw(*args):
            self._watch.drawing += 1
            try:
                result = method(*args)
            finally:
                self._watch.drawing -= 1
            self._watch.draws_made.append(Draw(self._generator, name, args, result))
            return result
        return draw


class Watch:
    """What the engine tells while a function is recorded. `refused`: the first thing that forbids a replay."""

    def __init__(self):
        self.refused: str | None = None
        self.made_leaves: list = []     # nodes of values that were made from Python's numbers
        self.draws_made: list[Draw] = []
        self.drawing = 0
        self.formulas: list[str] = []   # lines that compute the numbers that change, see `Symbol`
        self.demands: list[tuple[int, str]] = []    # (after how many formulas, what must be true)
        self.counters: list[tuple[dict, str]] = []  # (state of a parameter, variable with its new count of steps)
        self.options: list[tuple[dict, str]] = []   # (group of parameters, key) read as symbols
        self.states: list[dict] = []

    def refuse(self, reason: str) -> None:
        if self.refused is None:
            self.refused = f"{reason} ({user_line()})"

    def looked(self) -> None:
        """A value was asked for."""
        self.refuse("it reads the value of a tensor (item, tolist, numpy, bool, printing, a shape that depends on values): return the "
                    "tensor and read it outside")

    def flushed(self) -> None:
        self.refuse("its recording was computed in the middle: a value was asked for, memory shared with NumPy was touched, or there were "
                    "two backward passes")

    def requires(self, node, wanted) -> None:
        pass        # a replay that finds an index out of range changes nothing

    def copy_of(self, storage) -> None:
        """The copy that was made of memory shared with NumPy: none, as if it was large."""

    def made(self, node) -> None:
        """A value was made from Python's numbers."""
        frame = sys._getframe(1)
        while frame is not None:
            if (own(frame.f_code) or "").startswith("optim" + os.sep):
                self.refuse("an optimiser makes a tensor of a number that changes with every step")
                return
            if type(frame.f_locals.get("self")) is Watch:
                break
            frame = frame.f_back
        self.made_leaves.append(node)

    def draws(self, generator):
        """In place of a generator."""
        if type(generator) is not Generator:
            self.refuse(f"it draws from a {type(generator).__name__}")
            return generator
        return _Draws(self, generator)

    def drew(self) -> None:
        """Words were taken from a generator."""
        if not self.drawing:
            self.refuse("it draws random numbers in a way that is not noted")

    def demand(self, text: str) -> None:
        self.demands.append((len(self.formulas), text))

    def step(self, state: dict) -> float:
        """The count of steps in an optimiser's state, one higher."""
        self.states.append(state)
        value = Symbol(state["step"] + 1.0, f"S{len(self.states) - 1}['step'] + 1.0", self)
        state["step"] = float.__pos__(value)
        self.counters.append((state, value.name))
        return value

    def group(self, group: dict) -> dict:
        """A group of parameters whose learning rate is a symbol."""
        if type(group.get("lr")) is not float or not math.isfinite(group["lr"]):
            return group
        self.states.append(group)
        self.options.append((group, "lr"))
        return {**group, "lr": Symbol(group["lr"], f"S{len(self.states) - 1}['lr']", self)}
