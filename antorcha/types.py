"""torch.types: names for annotations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .base.device import device as _device
from .base.dtype import dtype as _dtype  # noqa: F401
from .base.formats import Size
from .core.tensor import Tensor

Number = int | float | bool
Device = _device | str | int | None
FileLike = str | os.PathLike | Any
Storage = Any
_int, _float, _bool, _complex = int, float, bool, complex
_size = Size | list[int] | tuple[int, ...]
_TensorOrTensors = Tensor | Sequence[Tensor]
_TensorOrTensorsOrGradEdge = Any
_dispatchkey, _layout, _qscheme = str, Any, Any
_symint = int
