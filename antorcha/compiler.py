"""torch.compile and torch.compiler.

Everything is compiled here without being asked: what a function records is fused and turned into native code, and found again at the
next call. `compile` therefore runs the function as it is, with its side effects; nothing is assumed about what it depends on.
"""

from __future__ import annotations

import functools

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", None)


def compile(model=None, *, fullgraph=False, dynamic=None, backend="inductor", mode=None, options=None, disable=False):
    """`model` (a function or module), or a decorator. The options are checked and change nothing."""
    if mode not in MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(map(str, MODES[:-1]))}")
    if mode is not None and options is not None:
        raise RuntimeError("Either mode or options can be specified, but both can't be specified at the same time.")
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options, disable=disable)
    if not callable(model):
        raise TypeError(f"torch.compile: expected a function or a module; received {type(model).__name__}")
    if disable:
        return model
    from .nn import Module

    if isinstance(model, Module):
        from .nn.modules.compiled import OptimizedModule
        return OptimizedModule(model)

    @functools.wraps(model)
    def compiled(*args, **kwargs):
        return model(*args, **kwargs)
    compiled._torchdynamo_orig_callable = model
    return compiled


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
    from .graph import flush
    flush.clear()


def list_backends(exclude_tags=None) -> list[str]:
    """The names that `backend=` may have a meaning for."""
    return ["inductor"]


def cudagraph_mark_step_begin() -> None:
    """Nothing to mark."""


def set_stance(stance="default", **ignored):
    """A context that changes nothing."""
    import contextlib
    return contextlib.nullcontext()
