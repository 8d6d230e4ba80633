"""Shapes of parts of spread tensors: missing, as such tensors are."""

from ...unavailable import unavailable_function
from . import _INSTEAD

compute_local_shape_and_global_offset = unavailable_function(
    "torch.distributed.tensor._utils.compute_local_shape_and_global_offset", _INSTEAD)
