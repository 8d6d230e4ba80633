"""`make bench`: the machine's bounds, then matrix products beside them."""

from __future__ import annotations

import runpy

for name in ("peak", "gemm"):
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
