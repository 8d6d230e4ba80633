"""torch.special: special functions. Those that torch itself does not have are declared in `ops/special.py`."""

from __future__ import annotations

import antorcha as _torch

from .ops.record import functions_in

_SHARED = ("digamma erf erfc erfinv exp2 expm1 i0 log1p log_softmax logit logsumexp polygamma round sinc softmax xlogy").split()
_RENAMED = {"expit": "sigmoid", "gammainc": "igamma", "gammaincc": "igammac", "gammaln": "lgamma", "multigammaln": "mvlgamma",
            "psi": "digamma"}

__all__ = list(functions_in("special")) + list(_SHARED) + list(_RENAMED)
globals().update(functions_in("special"))
globals().update({name: getattr(_torch, name) for name in _SHARED})
globals().update({name: getattr(_torch, original) for name, original in _RENAMED.items()})
