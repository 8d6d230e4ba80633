"""Matrix products beside NumPy's and, where it can be imported, PyTorch's: GFLOP/s, best of several rounds.

    python -m benchmarks.gemm [threads ...]

Each product is one kernel call on memory that is already there; the others are given an output array where they take one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from antorcha.base import dtype as dt
from antorcha.loops import ir
from antorcha.runtime import pool
from antorcha.runtime.pool_ir import PROGRESS
from antorcha.targets.blocking import fitted
from antorcha.targets.kernel import build
from benchmarks.peak import fma_spin

try:
    import torch
except ImportError:
    torch = None

LARGE = {"256^3": (256, 256, 256), "512^3": (512, 512, 512), "1024^3": (1024, 1024, 1024), "2048^3": (2048, 2048, 2048),
         "8192 x 256 x 1024": (8192, 256, 1024)}

# name, batch, m, n, k, a is stored transposed, b is stored [n, k] (as the weight of a linear layer)
SHAPES = [
    *((f"{name}, {'nt'[ta]}{'nt'[tb]}", 1, *size, ta, tb) for name, size in LARGE.items() for ta in (False, True) for tb in (False, True)),
    ("qkv", 1, 4096, 768, 256, False, True),
    ("mlp down", 1, 4096, 256, 1024, False, True),
    ("mlp down, d input", 1, 4096, 1024, 256, False, False),
    ("mlp up, d weight", 1, 256, 1024, 4096, True, False),
    ("4096 x 256 x 512", 1, 4096, 512, 256, False, True),
    ("layer 1", 1, 32, 300, 784, False, True),
    ("layer 2", 1, 32, 100, 300, False, True),
    ("layer 3", 1, 32, 10, 100, False, True),
    ("layer 1, d weight", 1, 300, 784, 32, True, False),
    ("skinny", 1, 2_000_000, 100, 10, False, True),
    ("matrix-vector", 1, 4096, 1, 4096, False, True),
    ("vector-matrix", 1, 1, 4096, 4096, False, True),
    ("100 x 10 of 2048 rows", 1, 100, 10, 2048, True, False),
    ("2048 rows, vector", 1, 2048, 1, 100, False, True),
    ("decode, weight [n, k]", 1, 1, 2304, 768, False, True),
    ("decode, weight [k, n]", 1, 1, 2304, 768, False, False),
    ("decode, vocabulary", 1, 1, 50257, 768, False, True),
    ("4 rows, weight [n, k]", 1, 4, 2304, 768, False, True),
    ("attention scores", 128, 256, 256, 32, False, True),
    ("attention values", 128, 256, 32, 256, False, False),
    ("primes", 1, 509, 1021, 769, False, False),
]


def kernel_call(a: np.ndarray, b: np.ndarray, out: np.ndarray):
    """A function that multiplies a[batch, m, k] and b[batch, k, n] into out, all of any strides."""
    program, words = ir.Program(), []

    def argument(role: str, dtype, word: int) -> int:
        words.append(word)
        return program.slot(role, dtype)

    def element(role: str, x: np.ndarray, names: str) -> tuple:
        slot = argument(role, dt.of(x.dtype), x.ctypes.data)
        offset = ir.integer(0)
        for name, stride in zip(names, x.strides):
            stride //= x.itemsize
            if name in indices:
                offset = offset + ir.index(name) * (1 if stride == 1 else ir.arg(argument("stride", dt.int64, stride)))
        return slot, offset

    sizes = {"b": a.shape[0], "m": a.shape[1], "n": b.shape[2], "k": a.shape[2]}
    indices = {name for name, size in sizes.items() if size > 1}
    dims = {name: ((name, ir.arg(argument("extent", dt.int64, sizes[name])) if name in indices else ir.integer(1)),) for name in "bmnk"}
    dims["b"] = dims["b"] if "b" in indices else ()
    d = dt.of(a.dtype)
    x, y, z = element("in", a, "bmk"), element("in", b, "bkn"), element("out", out, "bmn")
    body = (ir.store(*z, ir.value("acc", d)),)
    c = ir.Contraction(dims["b"], dims["m"], dims["n"], dims["k"], ir.load(*x, d), ir.load(*y, d), body, d)
    program.body.append(ir.contract(fitted(c, *(sizes[name] for name in "mnk"))))
    kernel = build(program)
    pool.reserve_scratch(kernel.scratch(words))
    array = np.array(words, np.int64)
    steps = np.array([[kernel.address, array.ctypes.data, kernel.tiles(words), kernel.grain(words)]], np.int64)
    record = pool.record(steps, 0, array[:0])       # as a plan calls its kernels
    address, progress = record.ctypes.data, memoryview(record)

    def call(keep=(steps, record, array, a, b, out)):
        progress[PROGRESS] = 0
        pool.launch(address, 1, -1, None)

    return call


def alternate(calls: list, seconds: float, clock=time.perf_counter) -> list[float]:
    """Seconds each call takes, the least over rounds in which all take turns: a machine whose speed drifts treats them alike."""
    repeats = []
    for call in calls:
        call()
        start = clock()
        call()
        repeats.append(max(1, int(1e-3 / max(clock() - start, 1e-6))))
    found, stop = [float("inf")] * len(calls), time.perf_counter() + seconds
    while time.perf_counter() < stop:
        for i, call in enumerate(calls):
            start = clock()
            for _ in range(repeats[i]):
                call()
            found[i] = min(found[i], (clock() - start) / repeats[i])
    return found


def aligned(x: np.ndarray) -> np.ndarray:
    """A copy that begins at a cache line, as tensors do."""
    memory = np.empty(x.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    y = memory[start:start + x.nbytes].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def operands(batch: int, m: int, n: int, k: int, ta: bool, tb: bool, dtype: str = "f4") -> tuple:
    rng = np.random.default_rng(0)
    a = aligned(rng.random((batch, k, m) if ta else (batch, m, k), dtype=dtype))
    b = aligned(rng.random((batch, n, k) if tb else (batch, k, n), dtype=dtype))
    return a.swapaxes(1, 2) if ta else a, b.swapaxes(1, 2) if tb else b, aligned(np.zeros((batch, m, n), dtype))


def report(threads: int, python: str = sys.executable) -> list[str]:
    """The lines of `measure` from a process of its own whose NumPy has so many threads: OpenBLAS's go on spinning after a product."""
    environment = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))}
    command = [python, "-m", "benchmarks.gemm", "--here", str(threads)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent)
    print(done.stdout, flush=True)
    return done.stdout.split("\n")[1:-1]


def measure(threads: int, seconds: float = 0.8) -> None:
    """Print a line for each product: GFLOP/s, the share of the peak met in the same rounds, and the bytes that must move.

    On one thread the clock is the time of the processor, which leaves out what other processes take, and counts all threads of NumPy's.
    """
    pool.set_num_threads(threads)
    if torch:
        torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    spin, work = fma_spin(100_000 if threads == 1 else 2_000_000, threads)
    print("", f"{threads} thread(s)", f"{'':24}{'ours':>8}{'of peak':>9}{'GB/s':>7}{'numpy':>8}{'torch':>8}{'peak':>8}", sep="\n")
    for name, *shape in SHAPES:
        a, b, out = operands(*shape)
        x, y, z = (a, b, out) if shape[0] > 1 else (a[0], b[0], out[0])
        calls = [spin, kernel_call(a, b, out), lambda x=x, y=y, z=np.empty_like(z): np.matmul(x, y, out=z)]
        if torch:
            calls.append(
                lambda x=torch.from_numpy(x), y=torch.from_numpy(y), z=torch.from_numpy(np.empty_like(z)): torch.matmul(x, y, out=z)
            )
        idle, *times = alternate(calls, seconds, clock)
        peak, (batch, m, n, k) = work / idle / 1e9, shape[:4]
        speeds = [2e-9 * batch * m * n * k / t for t in times]
        moved = 4e-9 * batch * (m * k + k * n + m * n) / times[0]
        assert np.allclose(out[-1], np.matmul(a[-1], b[-1]), rtol=1e-3, atol=1e-2), name
        others = "".join(f"{speed:8.1f}" for speed in (speeds + [float("nan")])[1:3])
        print(f"{name:24}{speeds[0]:8.1f}{speeds[0] / peak:9.0%}{moved:7.1f}{others}{peak:8.1f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        measure(int(sys.argv[2]))
    else:
        for count in [int(v) for v in sys.argv[1:]] or [1, 2]:
            report(count)
