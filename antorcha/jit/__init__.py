"""torch.jit, for programs that use it: scripts and traces are the functions themselves, which are compiled here anyway."""

from __future__ import annotations

import importlib
from typing import Any, Final  # noqa: F401 (torch.jit.Final)

from ..futures import Future

annotations = importlib.import_module(".annotations", __name__)     # the namespace, not the __future__ feature

MISSING = ("torch.jit.{}: files of TorchScript cannot be {} here. Save the state_dict with torch.save and build the module from its class.")


def script(obj: Any, *args, **kwargs):
    """`obj` itself."""
    return obj


def trace(func, example_inputs=None, *args, **kwargs):
    """`func` itself, after it has run once on the example inputs, so that errors come now."""
    if example_inputs is not None:
        func(*(example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)))
    return func


def trace_module(mod, inputs, *args, **kwargs):
    """`mod` itself, after each method named in `inputs` has run once on its example."""
    for name, example in inputs.items():
        trace(getattr(mod, name), example)
    return mod


def fork(func, *args, **kwargs) -> Future:
    """The result of `func` in a Future. Computing runs beside Python anyway: nothing is gained by another thread."""
    future: Future = Future()
    try:
        future.set_result(func(*args, **kwargs))
    except Exception as error:
        future.set_exception(error)
    return future


def wait(future: Future):
    """The value of a Future."""
    return future.wait()


def _as_it_is(fn=None, *args, **kwargs):
    return fn if callable(fn) else lambda f: f


script_if_tracing = _script_if_tracing = unused = ignore = export = interface = _overload = _overload_method = _as_it_is


def is_scripting() -> bool:
    """False: nothing is ever turned into TorchScript."""
    return False


is_tracing = is_scripting


def isinstance(obj, target_type) -> bool:
    """The builtin, with generic types reduced to their origin."""
    import builtins
    from typing import get_origin

    return builtins.isinstance(obj, get_origin(target_type) or target_type)


def annotate(the_type, the_value):
    """The value."""
    return the_value


def freeze(mod, *args, **kwargs):
    """The module itself."""
    return mod


optimize_for_inference = freeze


def load(f, *args, **kwargs):
    """TorchScript archives hold programs in a language of their own: refused."""
    raise NotImplementedError(MISSING.format("load", "read"))


def save(m, f, *args, **kwargs):
    """Refused, as `load`."""
    raise NotImplementedError(MISSING.format("save", "written"))


class ScriptModule:
    """Only for isinstance(): nothing is one."""


class ScriptFunction:
    """Only for isinstance(): nothing is one."""
