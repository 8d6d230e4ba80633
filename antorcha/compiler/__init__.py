"""torch.compile and torch.compiler.

Everything is compiled without being asked: what a function records is fused and turned into native code, and found again at the next
call. What `compile` adds is that the function's Python does not run again: where all that it depends on is as it was, the recorded
step is replayed. See docs/compile.md.
"""

from __future__ import annotations

import functools
import sys

from ..base import config
from ..graph import tape

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", None)


def compile(model=None, *, fullgraph=False, dynamic=None, backend="inductor", mode=None, options=None, disable=False):
    """`model` (a function or module), or a decorator. The options are checked and change nothing."""
    if mode not in MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(map(str, MODES[:-1]))}")
    if mode is not None and options is not None:
        raise RuntimeError("Either mode or options can be specified, but both can't be specified at the same time.")
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options,
                                 disable=disable)
    if not callable(model):
        raise TypeError(f"torch.compile: expected a function or a module; received {type(model).__name__}")
    if disable:
        return model
    from ..nn import Module

    if isinstance(model, Module):
        from ..nn.modules.compiled import OptimizedModule
        return OptimizedModule(model)
    return Compiled(model)


class Compiled:
    """A function that is replayed where that is proven to do the same. `reason`: why the last call was not, or None."""

    RECORDINGS = 8      # ways through the function that are kept
    FAILURES = 8        # vain attempts after which no more are made

    def __init__(self, function):
        functools.update_wrapper(self, function, updated=())
        self.function = self._torchdynamo_orig_callable = function
        self.recordings: list = []
        self.reason: str | None = None
        self._failures = self._misses = 0
        self._profile = None

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        bound = self.__dict__.setdefault("_bound", {})
        found = bound.get(id(instance))
        if found is None or found.function.__self__ is not instance:
            found = bound[id(instance)] = Compiled(self.function.__get__(instance, owner))
        return found

    def __call__(self, *args, **kwargs):
        if tape.state.watch is not None or config.eager or tape.state.vmap is not None or sys.getprofile() is not None:
            self.reason = "it is called within another recording, a vmap or a profiler, or config.eager is set"
            return self.function(*args, **kwargs)
        recordings = self.recordings
        for recording in recordings:
            result = recording.replay(args, kwargs)
            if result is not MISS:
                if recording is not recordings[0]:
                    recordings.remove(recording)
                    recordings.insert(0, recording)
                self.reason, self._misses = None, 0
                return result
        if self._failures >= self.FAILURES:
            self._misses += 1
            if self._misses > 100:
                recordings.clear()      # comparing in vain costs time, too
            return self.function(*args, **kwargs)
        return self._record(args, kwargs)

    def _record(self, args: tuple, kwargs: dict):
        from .replay import record

        changed = f"; {self.recordings[0].why_not(args, kwargs)} has changed" if self.recordings else ""
        result, self._profile, made = record(self.function, args, kwargs, self._profile)
        if type(made) is str:
            self._failures += 1
            self.reason = made + changed
            if self._failures == self.FAILURES:
                self.reason += " (no more attempts are made)"
        else:
            self.recordings.insert(0, made)
            self.reason = f"it was recorded{changed}"
            if len(self.recordings) > self.RECORDINGS:
                self.recordings.pop()
                self._failures += 1
        return result

    def __reduce__(self):
        return Compiled, (self.function,)

    def __repr__(self) -> str:
        return f"<compiled {self.function!r}>"


MISS = object()     # in place of a result: a recording does not apply


def is_compiling() -> bool:
    """Whether code is being traced instead of run: never, operators are recorded as they are called."""
    return False


is_dynamo_compiling = is_exporting = is_compiling


def _as_it_is(fn=None, *args, **kwargs):
    """`fn` itself, or a decorator that returns it."""
    return fn if fn is not None else lambda f: f


disable = allow_in_graph = assume_constant_result = substitute_in_graph = nested_compile_region = _as_it_is


def reset() -> None:
    """Forget all plans; kernels stay on disk."""
    from ..graph import flush
    flush.clear()


def list_backends(exclude_tags=None) -> list[str]:
    """The names that `backend=` may have a meaning for."""
    return ["inductor"]


_backend = "inductor"


def get_default_backend() -> str:
    """The backend that `compile` names if none is given: a name alone, since there is one compiler."""
    return _backend


def set_default_backend(backend: str) -> None:
    """Choose that name."""
    global _backend
    _backend = backend


def wrap_numpy(fn):
    """A function of arrays as one of tensors: arguments become arrays, results tensors."""
    import numpy as np

    from ..core.arrays import from_numpy
    from ..core.tensor import Tensor
    from ..utils import _pytree

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        args, kwargs = _pytree.tree_map_only(Tensor, lambda t: t.numpy(), (args, kwargs))
        return _pytree.tree_map_only(np.ndarray, from_numpy, fn(*args, **kwargs))
    return wrapped


def _keep(wanted) -> list[bool]:
    raise NotImplementedError("torch.compiler: guards cannot be left out: a call is replayed only where that is proven to do the same.")


def skip_all_guards_unsafe(guard_entries) -> list[bool]:
    """Refused, as all that would leave guards out: see the error."""
    return _keep(guard_entries)


skip_guard_on_inbuilt_nn_modules_unsafe = skip_guard_on_all_nn_modules_unsafe = skip_guard_on_globals_unsafe = skip_all_guards_unsafe
keep_tensor_guards_unsafe = keep_portable_guards_unsafe = skip_all_guards_unsafe


def set_enable_guard_collectives(enabled: bool) -> bool:
    """False, what it was: processes decide for themselves what to replay."""
    return False


def save_cache_artifacts():
    """None: compiled code is kept in files by itself (`antorcha.config.cache`), and there is nothing to hand over."""
    return None


def load_cache_artifacts(serialized_artifacts: bytes):
    """None: see `save_cache_artifacts`."""
    return None


def load_compiled_function(file, *args, **kwargs):
    """Refused: functions are not saved; what they compile to is found again in the cache."""
    raise NotImplementedError("torch.compiler.load_compiled_function: functions are not saved. What a function compiles to is kept in the "
                              "cache, so that a new process finds it.")


def cudagraph_mark_step_begin() -> None:
    """Nothing to mark."""


def set_stance(stance="default", **ignored):
    """A context that changes nothing."""
    import contextlib
    return contextlib.nullcontext()
