"""How operators are written in ONNX's opset 11: missing, as all of the export."""

from __future__ import annotations


def __getattr__(name: str):
    from ..unavailable import unavailable_function
    from . import _INSTEAD

    if name.startswith("__"):
        raise AttributeError(name)
    return unavailable_function(f"torch.onnx.symbolic_opset11.{name}", _INSTEAD)
