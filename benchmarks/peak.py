"""The bounds to measure a kernel against: fused multiply-adds per second, and bytes read per second.

    python -m benchmarks.peak
"""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np

from antorcha.runtime import cpu, jit

CHAINS = 12           # independent sums: more than latency times units
_ROUNDS = 4_000_000     # about 10 ms: threads take a tenth of one to start


def _fma_ir(lanes: int, element: str, bits: int) -> str:
    v = f"<{lanes} x {element}>"
    lines = [f"define {element} @kernel(i64 %count, {element} %x) {{", "entry:",
             f"  %one = insertelement {v} poison, {element} %x, i64 0",
             f"  %all = shufflevector {v} %one, {v} poison, <{lanes} x i32> zeroinitializer", "  br label %loop", "loop:",
             "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]"]
    lines += [f"  %a{c} = phi {v} [ zeroinitializer, %entry ], [ %b{c}, %loop ]" for c in range(CHAINS)]
    lines += [f"  %b{c} = call {v} @llvm.fmuladd.v{lanes}f{bits}({v} %a{c}, {v} %all, {v} %all)" for c in range(CHAINS)]
    lines += ["  %j = add i64 %i, 1", "  %more = icmp slt i64 %j, %count", "  br i1 %more, label %loop, label %done", "done:",
              f"  %s0 = fadd {v} %b0, %b1"]
    lines += [f"  %s{c} = fadd {v} %s{c - 1}, %b{c + 1}" for c in range(1, CHAINS - 1)]
    lines += [f"  %r = extractelement {v} %s{CHAINS - 2}, i64 0", f"  ret {element} %r", "}",
              f"declare {v} @llvm.fmuladd.v{lanes}f{bits}({v}, {v}, {v})"]
    return "\n".join(lines)


def _on_threads(count: int, work) -> float:
    """Seconds until `count` threads have each done `work()`."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    start = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return time.perf_counter() - start


def fma_spin(rounds: int, threads: int = 1, itemsize: int = 4):
    """A function that does multiply-adds on registers alone, and their floating-point operations; a multiply-add counts two."""
    lanes = cpu.vector_bytes() // itemsize
    element, number = {4: ("float", ctypes.c_float), 8: ("double", ctypes.c_double)}[itemsize]
    text = _fma_ir(lanes, element, 8 * itemsize)
    run = ctypes.CFUNCTYPE(number, ctypes.c_int64, number)(jit.load(text, lambda: text))
    work = threads * 2 * lanes * CHAINS * rounds
    if threads == 1:
        return lambda: run(rounds, 0.5), work
    return lambda: _on_threads(threads, lambda: run(rounds, 0.5)), work


def fma_peak(threads: int = 1, itemsize: int = 4, repeats: int = 15) -> float:
    """FLOP/s of multiply-adds on registers alone."""
    spin, work = fma_spin(_ROUNDS, threads, itemsize)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        spin()
        best = min(best, time.perf_counter() - start)
    return work / best


def read_bandwidth(threads: int = 1, nbytes: int = 256 << 20, repeats: int = 5) -> float:
    """Bytes/s of reading memory once, in order."""
    parts = np.array_split(np.ones(nbytes // 8, np.int64), threads)
    best = float("inf")
    for _ in range(repeats):
        waiting = iter(parts)
        best = min(best, _on_threads(threads, lambda waiting=waiting: int(np.bitwise_or.reduce(next(waiting)))))
    return nbytes / best


if __name__ == "__main__":
    for n in sorted({1, cpu.available_threads()}):
        print(f"{n} threads: {fma_peak(n) / 1e9:7.1f} GFLOP/s float32  {fma_peak(n, 8) / 1e9:7.1f} GFLOP/s float64  "
              f"{read_bandwidth(n) / 1e9:6.1f} GB/s read")
