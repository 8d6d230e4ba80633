"""Datasets as pipelines: each stage draws from the one before it (`torch.utils.data.datapipes`)."""

from __future__ import annotations

import importlib


def __getattr__(name: str):
    if name in ("iter", "map"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
