"""torch._subclasses: tensors without values. What is recorded here has a shape and no value until it is asked for, so there are none."""

from __future__ import annotations

from .unavailable import unavailable_class

_INSTEAD = "there are no fake tensors in antorcha: operations are recorded without being computed anyway. Look at shape and dtype."
FakeTensor = unavailable_class("torch._subclasses.FakeTensor", _INSTEAD)
FakeTensorMode = unavailable_class("torch._subclasses.FakeTensorMode", _INSTEAD)
