"""`functional_call`, in its older place."""

from __future__ import annotations

import warnings

from ...func.modules import functional_call as _functional_call
from ...func.modules import replaced as _reparametrize_module

__all__ = ["functional_call"]


def functional_call(module, parameters_and_buffers, args=None, kwargs=None, *, tie_weights: bool = True, strict: bool = False):
    """module(*args, **kwargs) with the given values in place of its parameters and buffers: see `torch.func.functional_call`."""
    warnings.warn("This API is deprecated as of PyTorch 2.0: use torch.func.functional_call.", FutureWarning, stacklevel=2)
    return _functional_call(module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights, strict=strict)


__all__ += ["_functional_call", "_reparametrize_module"]
