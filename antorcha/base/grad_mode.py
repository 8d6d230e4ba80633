"""Whether derivatives are recorded, and what products are cast to (torch.autocast), for each thread."""

from __future__ import annotations

import threading
from contextvars import ContextVar

# Each operator asks for these two. A context variable answers in a third of the time of an attribute of threading.local; every thread
# begins with a context of its own.
_records: ContextVar[bool] = ContextVar("records", default=True)
_casts: ContextVar = ContextVar("casts", default=None)
grad_enabled, autocast_dtype = _records.get, _casts.get


class _Mode(threading.local):
    """`grad` and `autocast` (the dtype of a 16-bit float, inside of torch.autocast) are `grad_enabled()` and `autocast_dtype()`."""

    grad = property(lambda self: grad_enabled(), lambda self, value: _records.set(value) and None)
    autocast = property(lambda self: autocast_dtype(), lambda self, value: _casts.set(value) and None)
    inference = False
    accumulates = True      # within a backward pass: whether it adds to the `.grad` of all leaves


mode = _Mode()
