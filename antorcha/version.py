"""The versions: antorcha's own, and as `torch.version` the one of PyTorch whose API it follows."""

from __future__ import annotations

antorcha_version = "0.1.0"
__version__ = torch_version = "2.13.0+antorcha"  # also what importlib.metadata answers for "torch" under the alias
cuda: str | None = None
hip: str | None = None
rocm: str | None = None
xpu: str | None = None
git_version = "unknown"
debug = False
