"""torch.types: names for annotations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Union

from .base.device import device as _device
from .base.dtype import dtype as _dtype
from .core.tensor import Size, Tensor

Number = Union[int, float, bool]
Device = Union[_device, str, int, None]
FileLike = Union[str, os.PathLike, Any]
Storage = Any
_int, _float, _bool, _complex = int, float, bool, complex
_size = Union[Size, list[int], tuple[int, ...]]
_TensorOrTensors = Union[Tensor, Sequence[Tensor]]
_TensorOrTensorsOrGradEdge = Any
_dispatchkey, _layout, _qscheme = str, Any, Any
_symint = int
_dtype = _dtype
