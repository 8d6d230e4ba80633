"""torch.onnx: translations of operators can be registered, as libraries do on import; exporting is missing here."""

from __future__ import annotations

from ..unavailable import unavailable_function

_INSTEAD = "writing ONNX files is missing in antorcha. Save the state_dict and export the model with PyTorch, whose format is the same."
export = unavailable_function("torch.onnx.export", _INSTEAD)
dynamo_export = unavailable_function("torch.onnx.dynamo_export", _INSTEAD)
_symbolics: dict[tuple, object] = {}


class OnnxExporterError(RuntimeError):
    """An error of an export."""


def register_custom_op_symbolic(symbolic_name: str, symbolic_fn, opset_version: int) -> None:
    """Remember how an operator is written as ONNX from an opset on. Nothing asks for it here."""
    if symbolic_name.count("::") != 1 or not all(symbolic_name.split("::")):
        raise ValueError(f"Failed to register operator {symbolic_name}. The symbolic name must match the format domain::name.")
    _symbolics[symbolic_name, opset_version] = symbolic_fn


def unregister_custom_op_symbolic(symbolic_name: str, opset_version: int) -> None:
    """Forget what `register_custom_op_symbolic` was told."""
    _symbolics.pop((symbolic_name, opset_version), None)


def is_in_onnx_export() -> bool:
    """False: nothing is being exported."""
    return False


def __getattr__(name: str):
    import importlib

    if name in ("symbolic_helper", "symbolic_opset11"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"torch.onnx.{name}: {_INSTEAD}")
