"""Whether derivatives are recorded, for each thread."""

from __future__ import annotations

import threading


class _Mode(threading.local):
    grad = True
    inference = False


mode = _Mode()
