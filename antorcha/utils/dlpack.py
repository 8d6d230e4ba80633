"""torch.utils.dlpack: tensors exchanged with other libraries without copying."""

from ..core.arrays import from_dlpack  # noqa: F401


def to_dlpack(tensor):
    """A DLPack capsule of the tensor."""
    return tensor.__dlpack__()
