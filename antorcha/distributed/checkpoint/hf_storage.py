"""Checkpoints in parts, which are missing here."""

from __future__ import annotations

from ...unavailable import unavailable_class

_INSTEAD = "checkpoints in parts are missing in antorcha. Save whole tensors with torch.save or the package safetensors."
HuggingFaceStorageReader = unavailable_class("torch.distributed.checkpoint.hf_storage.HuggingFaceStorageReader", _INSTEAD)
HuggingFaceStorageWriter = unavailable_class("torch.distributed.checkpoint.hf_storage.HuggingFaceStorageWriter", _INSTEAD)
