"""Tracing below autograd, which is missing here: nothing is being traced that way."""

from __future__ import annotations

import contextlib

from ...unavailable import unavailable_function

make_fx = unavailable_function("torch.fx.experimental.proxy_tensor.make_fx",
                               "graphs of operators below autograd are missing in antorcha. Use torch.fx.symbolic_trace.")


def get_proxy_mode() -> None:
    """None: no such trace is running."""
    return None


maybe_disable_fake_tensor_mode = contextlib.nullcontext
