"""torch._subclasses: tensors without values. What is recorded here has a shape and no value until it is asked for, so there are none."""

from __future__ import annotations

from .fake_tensor import FakeTensor, FakeTensorMode

__all__ = ["FakeTensor", "FakeTensorMode"]
