"""Whether derivatives are recorded, and what products are cast to (torch.autocast), for each thread."""

from __future__ import annotations

import threading
from contextvars import ContextVar

# Each operator asks for these two. A context variable answers in a third of the time of an attribute of threading.local; every thread
# begins with a context of its own.
_grad: ContextVar[bool] = ContextVar("grad", default=True)
_autocast: ContextVar = ContextVar("autocast", default=None)
grad_enabled, autocast_dtype = _grad.get, _autocast.get


class _Mode(threading.local):
    """`grad` and `autocast` (the dtype of a 16-bit float, inside of torch.autocast) are `grad_enabled()` and `autocast_dtype()`."""

    grad = property(lambda self: _grad.get(), lambda self, value: _grad.set(value) and None)
    autocast = property(lambda self: _autocast.get(), lambda self, value: _autocast.set(value) and None)
    inference = False
    accumulates = True      # within a backward pass: whether it adds to the `.grad` of all leaves


mode = _Mode()
