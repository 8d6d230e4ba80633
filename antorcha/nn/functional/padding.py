"""Padding."""

from __future__ import annotations

from ...ops.padding import pad  # noqa: F401
