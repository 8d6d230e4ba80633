"""torch.linalg: linear algebra. The operators are declared in `ops/linalg.py`, `ops/spectral.py`, `ops/products.py` and
`ops/norms.py`."""

from __future__ import annotations

from .base.errors import LinAlgError
from .ops.record import functions_in

__all__ = ["LinAlgError"] + list(functions_in("linalg"))
globals().update(functions_in("linalg"))
