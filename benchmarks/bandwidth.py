"""Kernels that memory bounds, beside a copy measured in the same rounds: GB/s of the fewest bytes that must move.

    python -m benchmarks.bandwidth [--mib N] [--rounds N] [threads ...]

Each works on matrices of N MiB (default 64, more than any cache), of rows of 1024 numbers. Its bytes are those of its arguments, read
once, and of its results, written once; times are those of the kernels alone, the best of the rounds, in which all take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import antorcha as torch
from antorcha.explaining import Recorder
from antorcha.runtime import cpu

F = torch.nn.functional
WIDTH = 1024


def seconds(work: Callable[[], object]) -> float:
    """Of the kernels of one run of `work`."""
    with Recorder() as recorder:
        kept = work()       # or nothing would be computed
    del kept
    return sum(sum(run.times) for run in recorder.runs.values()) / 1e9


def backward(function, x, g) -> Callable[[], object]:
    """The gradient of `function` at x, for the cotangent g (None: 1)."""
    def work():
        x.grad = None
        function(x).backward(g)
        return x.grad
    return work


def step(optimizer, parameter, gradient) -> Callable[[], object]:
    def work():
        parameter.grad = gradient
        optimizer.step()
        return parameter
    return work


def cases(mib: int) -> dict[str, tuple[Callable[[], object], float]]:
    """name -> (work, how many matrices it has to read or write)."""
    rows = mib * 2 ** 20 // 4 // WIDTH
    x, g, target = torch.randn(rows, WIDTH), torch.randn(rows, WIDTH), torch.randint(0, WIDTH, (rows,))
    leaf, parameter = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight, bias = torch.randn(WIDTH, requires_grad=True), torch.randn(WIDTH, requires_grad=True)
    for t in (x, g, leaf, parameter):
        t.sum().item()

    def normalised(x):
        return F.layer_norm(x, (WIDTH,), weight, bias)

    return {
        "copy": (lambda: x.clone() + 0, 2),
        "sum": (lambda: x.sum(), 1),
        "x * 2 + y": (lambda: x * 2 + g, 3),
        "gelu(x) * y": (lambda: F.gelu(x) * g, 3),
        "softmax": (lambda: x.softmax(-1), 2),
        "softmax, backward": (backward(lambda x: x.softmax(-1), leaf, g), 3),
        "layer norm": (lambda: normalised(x).detach(), 2),
        "layer norm, backward": (backward(normalised, leaf, g), 4),     # the forward pass reads x for its statistics
        "cross-entropy": (lambda: F.cross_entropy(x, target), 1),
        "cross-entropy, backward": (backward(lambda x: F.cross_entropy(x, target), leaf, None), 2),
        "sum of columns": (lambda: x.sum(0), 1),
        "transpose": (lambda: x.t().contiguous() + 0, 2),
        "SGD, momentum": (step(torch.optim.SGD([parameter], lr=1e-3, momentum=0.9), parameter, g), 5),
        "Adam": (step(torch.optim.Adam([parameter], lr=1e-3), parameter, g), 7),
    }


def report(threads: int, mib: int = 64, rounds: int = 7) -> list[str]:
    """Lines of a table."""
    torch.set_num_threads(threads)
    table = cases(mib)
    for work, _ in table.values():      # plans and kernels are made, an optimiser's state too
        seconds(work), seconds(work)
    least = {name: float("inf") for name in table}
    for _ in range(rounds):
        for name, (work, _) in table.items():
            least[name] = min(least[name], seconds(work))
    rate = {name: count * mib * 2 ** 20 / least[name] / 1e9 for name, (_, count) in table.items()}
    lines = [f"{threads} thread{'s' * (threads > 1)}, matrices of {mib} MiB      ms    GB/s  of a copy"]
    lines += [f"{name:30} {least[name] * 1e3:7.1f} {rate[name]:7.1f} {rate[name] / rate['copy']:9.0%}" for name in table]
    print("\n".join(lines), flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("threads", nargs="*", type=int)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for threads in options.threads or sorted({1, cpu.available_threads()}):
        report(threads, options.mib, options.rounds)


if __name__ == "__main__":
    main()
