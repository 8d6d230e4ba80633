"""torch._subclasses.fake_tensor: names to ask with; no tensor is one."""

from __future__ import annotations

from ..unavailable import unavailable_class

_INSTEAD = "there are no fake tensors in antorcha: operations are recorded without being computed anyway. Look at shape and dtype."
FakeTensor = unavailable_class("torch._subclasses.FakeTensor", _INSTEAD)
FakeTensorMode = unavailable_class("torch._subclasses.FakeTensorMode", _INSTEAD)


def is_fake(x: object) -> bool:
    """False."""
    return False
