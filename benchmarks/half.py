"""Products of matrices of 16-bit floats, written once for antorcha and PyTorch.

    python benchmarks/half.py MODULE [--dtype bfloat16|float16|float32] [--threads N] [--seconds S]

prints one line of JSON: name of the product -> GFLOP/s, the best of S seconds for each. Sums are in float32 in both.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time

# name -> rows, columns, terms, whether the first and the second factor are stored transposed
SHAPES = {
    "256^3": (256, 256, 256, False, False),
    "512^3": (512, 512, 512, False, False),
    "1024^3": (1024, 1024, 1024, False, False),
    "1024^3, b transposed": (1024, 1024, 1024, False, True),
    "1024^3, a transposed": (1024, 1024, 1024, True, False),
    "8192 x 256 x 1024": (8192, 256, 1024, False, False),
    "2048^3": (2048, 2048, 2048, False, False),
}
SLOW = 3.0      # seconds after which no larger product is tried


def speed(torch, dtype, seconds: float, m: int, n: int, k: int, turned_a: bool, turned_b: bool) -> tuple[float, float]:
    """(GFLOP/s, seconds) of the fastest product."""
    a = torch.rand(k, m).to(dtype).t() if turned_a else torch.rand(m, k).to(dtype)
    b = torch.rand(n, k).to(dtype).t() if turned_b else torch.rand(k, n).to(dtype)
    best, stop = float("inf"), None
    while stop is None or time.perf_counter() < stop:
        begin = time.perf_counter()
        torch.mm(a, b).data_ptr()       # it is there
        best = min(best, time.perf_counter() - begin)
        stop = stop or time.perf_counter() + seconds
    return 2e-9 * m * n * k / best, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    torch = importlib.import_module(options.module)
    torch.set_num_threads(options.threads)
    found = {}
    for name, shape in SHAPES.items():
        found[name], taken = speed(torch, getattr(torch, options.dtype), options.seconds, *shape)
        if taken > SLOW:
            break
    print(json.dumps(found))


if __name__ == "__main__":
    main()
