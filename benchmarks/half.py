"""Products of matrices of 16-bit floats, and linear layers of them, written once for antorcha and PyTorch.

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
# name -> rows, inputs, outputs of a linear layer: its forward and its backward pass
LAYERS = {"linear 512 x 1024 -> 1024": (512, 1024, 1024), "linear 2048 x 1024 -> 4096": (2048, 1024, 4096)}
SLOW = 3.0      # seconds after which no larger product is tried


def speed(torch, dtype, seconds: float, m: int, n: int, k: int, turned_a: bool, turned_b: bool) -> tuple[float, float]:
    """(GFLOP/s, seconds) of the fastest product."""
    a = torch.rand(k, m).to(dtype).t() if turned_a else torch.rand(m, k).to(dtype)
    b = torch.rand(n, k).to(dtype).t() if turned_b else torch.rand(k, n).to(dtype)
    best = fastest(lambda: torch.mm(a, b).data_ptr(), seconds)      # it is there
    return 2e-9 * m * n * k / best, best


def layer_speed(torch, dtype, seconds: float, rows: int, inputs: int, outputs: int) -> tuple[float, float]:
    """(GFLOP/s, seconds) of the fastest forward and backward pass."""
    layer = torch.nn.Linear(inputs, outputs).to(dtype)
    x, g = torch.rand(rows, inputs).to(dtype).requires_grad_(), torch.rand(rows, outputs).to(dtype)

    def step() -> None:
        layer.weight.grad = layer.bias.grad = x.grad = None
        layer(x).backward(g)
        for p in (layer.weight, layer.bias, x):
            p.grad.data_ptr()

    best = fastest(step, seconds)
    return 6e-9 * rows * inputs * outputs / best, best


def fastest(call, seconds: float) -> float:
    """Seconds that a call takes at best."""
    best, stop = float("inf"), None
    while stop is None or time.perf_counter() < stop:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
        stop = stop or time.perf_counter() + seconds
    return best


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
    importlib.import_module(options.module + ".nn")
    for measure, shapes in ((speed, SHAPES), (layer_speed, LAYERS)):
        for name, shape in shapes.items():
            found[name], taken = measure(torch, getattr(torch, options.dtype), options.seconds, *shape)
            if taken > SLOW:
                break
    print(json.dumps(found))


if __name__ == "__main__":
    main()
