"""Functions of the torch namespace that ask about tensors, types and the machine, or set what has one value here."""

from __future__ import annotations

from .core import override
from .core.tensor import Tensor
from .ops.record import check_tensor


def is_storage(obj) -> bool:
    """Whether `obj` is a storage."""
    from .core.untyped import TypedStorage, UntypedStorage
    return isinstance(obj, (TypedStorage, UntypedStorage))


def is_nonzero(input) -> bool:
    """Whether the only element of a tensor is not zero."""
    return input.is_nonzero()


def is_conj(input) -> bool:
    """False: conjugates are computed, never marked."""
    return input.is_conj()


def is_neg(input) -> bool:
    """False: negatives are computed, never marked."""
    return input.is_neg()


def is_inference(input) -> bool:
    """Whether the tensor was made in inference mode."""
    return input.is_inference()


def is_distributed(input) -> bool:
    """False: a tensor is whole here."""
    return False


def get_device(input) -> int:
    """The index of the tensor's device; -1 for the CPU."""
    check_tensor("get_device", "input", input, 1)
    return input.get_device()


def typename(obj) -> str:
    """The full name of a tensor's type, or of an object's."""
    if isinstance(obj, Tensor):
        return obj.type()
    kind = obj if hasattr(obj, "__qualname__") else type(obj)
    module = "" if kind.__module__ in (None, "builtins") else kind.__module__ + "."
    return module + kind.__qualname__


def set_default_tensor_type(t) -> None:
    """Set the default dtype by a type such as torch.FloatTensor, or its name."""
    from . import set_default_dtype
    from .core import legacy
    set_default_dtype(getattr(legacy, t.rpartition(".")[2]).dtype if isinstance(t, str) else t.dtype)


def set_flush_denormal(mode) -> bool:
    """False: tiny numbers are computed as they are."""
    return False


def get_float32_matmul_precision() -> str:
    """How float32 products are computed on GPUs: "highest" in float32, "high" or "medium" from operands rounded to TF32."""
    from .base import config

    return config.float32_matmul


def get_num_interop_threads() -> int:
    """1: operators are fused rather than run side by side."""
    return 1


def set_num_interop_threads(n) -> None:
    """Accepted and without effect; see `get_num_interop_threads`."""


def get_deterministic_debug_mode() -> int:
    """2: everything is deterministic."""
    return 2


def set_deterministic_debug_mode(debug_mode) -> None:
    """Accepted and without effect: everything is deterministic."""


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """False: nothing warns."""
    return False


def to_dlpack(tensor):
    """The tensor as a DLPack capsule."""
    return tensor.__dlpack__()


def _assert(condition, message) -> None:
    """An assert statement as a function, which traces can hold."""
    if type(condition) is not Tensor and override.overrides(type(condition)):
        override.dispatch(_assert, [condition], (condition, message), {})
    elif not condition:
        raise AssertionError(message)


_assert.__module__ = "antorcha"


def _has_compatible_shallow_copy_type(input, from_) -> bool:
    """Whether one tensor's data may be replaced by the other's: both are dense, or both sparse of one layout."""
    return input.layout is from_.layout


def _is_all_true(input) -> Tensor:
    """Whether all elements of a bool tensor are True."""
    return input.all()


has_lapack = has_spectral = True        # through NumPy
has_mkl = has_openmp = False

__all__ = [name for name in globals() if not name.startswith("_") and name not in ("annotations", "dt", "override", "Tensor")]
__all__ += ["_assert", "_has_compatible_shallow_copy_type", "_is_all_true"]
