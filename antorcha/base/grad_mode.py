"""Whether derivatives are recorded, and what products are cast to (torch.autocast), for each thread."""

from __future__ import annotations

import threading


class _Mode(threading.local):
    grad = True
    inference = False
    autocast = None     # the dtype of a 16-bit float, inside of torch.autocast
    accumulates = True      # within a backward pass: whether it adds to the `.grad` of all leaves


mode = _Mode()
