"""torch.func: functions of functions. Derivatives (`grad`, `vjp`, `jvp`, `jacrev`, `jacfwd`, `hessian`), the application to a
batch (`vmap`), and modules as functions (`functional_call`)."""

from __future__ import annotations

import functools

from .derivatives import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp
from .mapping import vmap
from .modules import functional_call, replace_all_batch_norm_modules_, stack_module_state
from .rearrange import rearrange

__all__ = [
    "debug_unwrap",
    "functional_call",
    "functionalize",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "rearrange",
    "replace_all_batch_norm_modules_",
    "stack_module_state",
    "vjp",
    "vmap",
]


def functionalize(func, *, remove="mutations"):
    """`func` itself, checked: what is recorded knows no mutation, since a write makes a new value, and no views, which are index
    maps.

    remove: "mutations" or "mutations_and_views".
    """
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(
            f"functionalize(f, remove='mutations'): received invalid argument for remove={remove}. Valid options are:\n"
            '     remove="mutations": all inplace and out= operators will be removed from the program f, and replaced\n'
            '     with their out-of-place equivalents.\n     remove="mutations_and_views": as above, and aliasing\n'
            "     operators are replaced by copies."
        )

    @functools.wraps(func)
    def wrapped(*args, **kwargs):
        return func(*args, **kwargs)

    return wrapped


def debug_unwrap(tensor, *, recurse=True):
    """All lanes of a tensor within `vmap`, along a first dimension; `recurse`: of all levels."""
    from . import lanes

    for level in lanes.depth(tensor):
        tensor = lanes.leave(level, tensor)
        if not recurse:
            break
    return tensor
