"""torch._dynamo: what programs say to PyTorch's compiler, as `torch.compiler` takes it."""

from __future__ import annotations

from ..compiler import (  # noqa: F401
    allow_in_graph,
    assume_constant_result,
    disable,
    is_compiling,
    list_backends,
    reset,
    substitute_in_graph,
)
from ..compiler import compile as optimize  # noqa: F401
from . import _trace_wrapped_higher_order_op, eval_frame, utils  # noqa: F401
from .eval_frame import OptimizedModule  # noqa: F401


class _Settings:
    """torch._dynamo.config: any setting may be made; none has a meaning here."""

    suppress_errors = False
    cache_size_limit = recompile_limit = 8


config = _Settings()


def _nothing(*args, **kwargs) -> None:
    """Nothing to mark or break: sizes are run-time arguments of kernels, and there is no graph that could be broken."""


mark_dynamic = maybe_mark_dynamic = mark_static = mark_static_address = graph_break = _nothing


def is_dynamo_supported() -> bool:
    """True: functions can be compiled."""
    return True
