"""Modules applied one after the other, as many as there are inputs: what they record is computed side by side anyway."""

from __future__ import annotations

__all__ = ["parallel_apply"]


def parallel_apply(modules, inputs, kwargs_tup=None, devices=None) -> list:
    """[module(*input, **kwargs) for each]."""
    named = kwargs_tup if kwargs_tup is not None else [{}] * len(modules)
    return [module(*(row if isinstance(row, (list, tuple)) else (row,)), **kwargs)
            for module, row, kwargs in zip(modules, inputs, named, strict=True)]
