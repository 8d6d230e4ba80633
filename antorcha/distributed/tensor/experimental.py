"""Mixing spread tensors with others: missing, as such tensors are."""

from ...unavailable import unavailable_function
from . import _INSTEAD

implicit_replication = unavailable_function("torch.distributed.tensor.experimental.implicit_replication", _INSTEAD)
