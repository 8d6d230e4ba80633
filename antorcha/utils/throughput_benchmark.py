"""torch.utils.throughput_benchmark: how many calls a second a module serves to several threads."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

__all__ = ["ThroughputBenchmark", "ExecutionStats", "BenchmarkConfig", "BenchmarkExecutionStats"]


@dataclass
class BenchmarkConfig:
    """How a benchmark is made."""

    num_calling_threads: int = 1
    num_warmup_iters: int = 10
    num_iters: int = 100
    profiler_output_path: str = ""


@dataclass
class BenchmarkExecutionStats:
    """What came out: milliseconds a call, and the calls."""

    latency_avg_ms: float
    num_iters: int


def format_time(time_us=None, time_ms=None, time_s=None) -> str:
    """A time with the unit that suits it."""
    if sum(t is not None for t in (time_us, time_ms, time_s)) != 1:
        raise AssertionError("format_time: expected one of time_us, time_ms and time_s")
    us = time_us if time_us is not None else time_ms * 1e3 if time_ms is not None else time_s * 1e6
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if us >= size:
            return f"{us / size:.3f}{unit}"
    return f"{us:.3f}us"


class ExecutionStats:
    """The results with the way they were measured."""

    def __init__(self, c_stats: BenchmarkExecutionStats, benchmark_config: BenchmarkConfig):
        self._c_stats, self.benchmark_config = c_stats, benchmark_config

    latency_avg_ms = property(lambda self: self._c_stats.latency_avg_ms)
    num_iters = property(lambda self: self._c_stats.num_iters)

    @property
    def iters_per_second(self) -> float:
        """Calls a second of all threads together."""
        return self.num_iters / self.total_time_seconds

    @property
    def total_time_seconds(self) -> float:
        return self.num_iters * (self.latency_avg_ms / 1e3) / self.benchmark_config.num_calling_threads

    def __str__(self) -> str:
        return "\n".join(["Average latency per example: " + format_time(time_ms=self.latency_avg_ms),
                          f"Total number of iterations: {self.num_iters}",
                          f"Total number of iterations per second (across all threads): {self.iters_per_second:.2f}",
                          "Total time: " + format_time(time_s=self.total_time_seconds)])


class ThroughputBenchmark:
    """Calls a module (or function) from several threads, with the inputs given by `add_input` in turn."""

    def __init__(self, module):
        self._module, self._inputs = module, []

    def add_input(self, *args, **kwargs) -> None:
        """One more input."""
        self._inputs.append((args, kwargs))

    def run_once(self, *args, **kwargs):
        """The result of one call."""
        return self._module(*args, **kwargs)

    def benchmark(self, num_calling_threads=1, num_warmup_iters=10, num_iters=100, profiler_output_path="") -> ExecutionStats:
        """Call `num_iters` times in all and take the time; every call is computed before it ends."""
        from ..graph import tape

        if not self._inputs:
            raise RuntimeError("ThroughputBenchmark: expected inputs; call add_input first")
        spent: list[float] = []

        def calls(count: int, times: list) -> None:
            for i in range(count):
                args, kwargs = self._inputs[i % len(self._inputs)]
                begin = time.perf_counter()
                self._module(*args, **kwargs)
                tape.flush()
                times.append(time.perf_counter() - begin)

        calls(num_warmup_iters, [])
        counts = [num_iters // num_calling_threads + (i < num_iters % num_calling_threads) for i in range(num_calling_threads)]
        threads = [threading.Thread(target=calls, args=(count, spent)) for count in counts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = BenchmarkExecutionStats(1e3 * sum(spent) / max(1, len(spent)), len(spent))
        return ExecutionStats(stats, BenchmarkConfig(num_calling_threads, num_warmup_iters, num_iters, profiler_output_path))
