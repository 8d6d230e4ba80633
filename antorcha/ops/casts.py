"""What torch.autocast has operators do with 16-bit floats.

A record's `autocast` says it for all kinds of devices, or, in a dict, for some: "lower": floating point inputs are cast to the 16-bit float
(products); "full": to float32 (what loses too much otherwise); "widest": to the widest among them (which must be of one dtype); "refused":
there is no safe way. Only tensors on the kind of device that autocast was asked for are cast, and none of float64.
"""

from __future__ import annotations

import sys

from ..base import dtype as dt
from ..base.errors import inside
from ..base.grad_mode import mode
from .layout import core

# On a GPU PyTorch casts operators that users call, not those that others are made of: a batch norm's sums stay as they are.
ON_GPU = {**dict.fromkeys(
    "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow sum cumsum cumprod softmax log_softmax norm "
    "logsumexp linalg_norm linalg_vector_norm linalg_matrix_norm dist renorm softplus native_layer_norm".split(), {"cuda": "full"}),
    **dict.fromkeys("addcmul addcdiv atan2 cross scatter_add".split(), {"cuda": "widest"}),
    "prod": "full", "cdist": "full", "addr": {"cuda": "lower"}, "linalg_vecdot": "lower",
    "tensordot": {"cuda": "widest", "cpu": "lower"}}
FULL_ON_GPU = {"cuda": "full"}


def recast(function, kind: str | dict, *args, **given):
    """`function`, of its floating point tensors in the dtype that torch.autocast wants."""
    now = mode.autocast
    named = any(isinstance(x, dt.dtype) for x in (*args, *given.values()))      # the program says in which dtype
    if type(kind) is dict:
        kind = kind.get(now.device) if not named and _by_program() else None
    if kind == "refused":
        raise RuntimeError(f"{function.__name__}: expected a loss that is safe in {now.dtype} within torch.autocast; this one "
                           "needs float32. Use binary_cross_entropy_with_logits (BCEWithLogitsLoss) without a sigmoid before it.")
    if kind == "widest":
        d = dt.float32 if dt.float32 in _dtypes((*args, *given.values())) else now.dtype
    else:
        d = {"lower": now.dtype, "full": dt.float32}.get(kind)
    mode.autocast = None
    try:
        if d is None:
            return function(*args, **given)
        return function(*[as_cast(x, d, now.device) for x in args], **{name: as_cast(x, d, now.device) for name, x in given.items()})
    finally:
        mode.autocast = now


def _by_program() -> bool:
    """Whether an operator was called by a program, or by a layer in its stead, and not by another operator."""
    frame = sys._getframe(3)
    while inside(frame.f_code.co_filename, "ops/public.py", "core/surface.py", "core/override.py", "overrides.py"):
        frame = frame.f_back
    return not inside(frame.f_code.co_filename) or inside(frame.f_code.co_filename, "nn/")


def _dtypes(values) -> set:
    return set().union(*({x._meta.dtype} if isinstance(x, core.Tensor) else _dtypes(x) if type(x) in (list, tuple) else () for x in values))


def as_cast(x, d: dt.dtype, device: str):
    """Tensors on a kind of device in dtype `d`, if they are of float32 or 16-bit floats."""
    if isinstance(x, core.Tensor):
        m = x._meta
        here = m.device is None or m.device.partition(":")[0] == device
        return x.to(d) if here and m.dtype in (dt.float32, dt.float16, dt.bfloat16) and m.dtype is not d else x
    return type(x)([as_cast(y, d, device) for y in x]) if type(x) in (list, tuple) else x
