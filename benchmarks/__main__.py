"""`make bench`: the machine's bounds, matrix products, and training steps beside PyTorch; a page and a picture for docs/.

    python -m benchmarks [--torch PYTHON] [--compile] [--rounds N] [--write FOLDER]

PYTHON is the interpreter of an environment with PyTorch (default: .venv-oracle/bin/python, if `make oracle` has made it). Ratios are
taken round by round, the engines in turn, so that a machine whose speed drifts treats them alike; the median is told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from . import bandwidth, gemm, peak
from .workloads import WORKLOADS

HERE = Path(__file__).parent


def measure(python: str, module: str, *options: str, script: str = "workloads.py") -> dict | None:
    """What one process of an engine prints about a workload; None where it fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([python, str(HERE / script), module, *options], capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{script} {module} {' '.join(options)}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def steps(engines: dict, rounds: int) -> dict:
    """workload -> engine -> what its rounds measured."""
    found: dict = {}
    for workload in WORKLOADS:
        row = found[workload] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, (python, module, *options) in engines.items():
                row[name].append(measure(python, module, workload, *options))
        print(describe(workload, row), flush=True)
    return found


def products_of_halves(engines: dict, rounds: int, threads: int) -> list[str]:
    """A line for each product of 16-bit matrices: GFLOP/s of each engine, the best of its rounds."""
    lines = []
    for dtype in ("bfloat16", "float16"):
        best: dict = {}
        for _ in range(rounds):
            for name, (python, module, *_) in engines.items():
                found = measure(python, module, "--dtype", dtype, "--threads", str(threads), script="half.py") or {}
                for product, speed in found.items():
                    row = best.setdefault(product, {})
                    row[name] = max(row.get(name, 0.0), speed)
        lines += [f"{f'{dtype} {product}, {threads} threads':46}" + "".join(f"  {name} {row.get(name, 0.0):7.1f}" for name in engines)
                  for product, row in best.items()]
    print("\n".join(lines), flush=True)
    return lines


def tokens(engines: dict, rounds: int) -> list[str]:
    """A line for each form of decoding: milliseconds of a token, the least of the rounds, and bytes read a second."""
    lines = []
    for dtype in ("float32", "bfloat16"):
        for cache in ("grown", "kept"):
            runs: dict = {name: [] for name in engines}
            for _ in range(rounds):
                for name, (python, module, *_) in engines.items():
                    runs[name].append(measure(python, module, "--dtype", dtype, "--cache", cache, script="decode.py"))
            cells = ""
            for name, found in runs.items():
                good = [run for run in found if run]
                least = min((run["least"] for run in good), default=float("nan"))
                cells += f"  {name} {least:6.1f} ms {good[0]['bytes'] / least / 1e6 if good else 0:5.1f} GB/s"
            lines.append(f"{f'{dtype}, cache {cache}':26}{cells}")
    print("\n".join(lines), flush=True)
    return lines


def ratio(row: dict, other: str) -> float | None:
    """How many times as fast antorcha is, the median over rounds."""
    pairs = [(a["least"], b["least"]) for a, b in zip(row["antorcha"], row[other]) if a and b]
    return statistics.median(b / a for a, b in pairs) if pairs else None


def describe(workload: str, row: dict) -> str:
    """A line of the table."""
    cells = []
    for name, runs in row.items():
        good = [r for r in runs if r]
        if not good:
            cells.append("| - | - | - |")
            continue
        times = "" if name == "antorcha" else f" ({ratio(row, name) or 0:.2f}x)"
        cells.append(
            f"| {min(r['least'] for r in good):.2f}{times} | {min(r['first'] for r in good):.2f} | {max(r['memory'] for r in good):.0f} |"
        )
    return f"| {workload} " + "".join(c[:-1] for c in cells) + "|"


def picture(found: dict, path: Path) -> None:
    """Bars: how many times as fast as each other engine."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    others = [name for name in next(iter(found.values())) if name != "antorcha"]
    figure, axis = pyplot.subplots(figsize=(7, 3))
    for i, name in enumerate(others):
        values = [ratio(row, name) or 0 for row in found.values()]
        places = [k + (i - (len(others) - 1) / 2) * 0.35 for k in range(len(found))]
        axis.bar(places, values, 0.33, label=f"against {name}")
        for x, v in zip(places, values):
            axis.text(x, v, f"{v:.1f}", ha="center", va="bottom", fontsize=8)
    axis.axhline(1, color="black", lw=0.8)
    axis.set_xticks(range(len(found)), list(found))
    axis.set_ylabel("times as fast")
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", default=str(HERE.parent / ".venv-oracle/bin/python"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes to compile")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="where measured.md and measured.png go (docs)")
    options = parser.parse_args()

    threads = os.cpu_count() or 1
    bounds = [f"{n} thread{'s' * (n > 1)}: {peak.fma_peak(n) / 1e9:.0f} GFLOP/s float32, {peak.read_bandwidth(n) / 1e9:.1f} GB/s read"
              for n in sorted({1, threads})]
    print("\n".join(bounds))
    with_torch = options.torch if Path(options.torch).exists() else sys.executable
    products = [line for n in sorted({1, threads}) for line in gemm.report(n, with_torch)]
    print()
    streams = [line for n in sorted({1, threads}) for line in bandwidth.report(n, rounds=5)]
    print()
    engines = {"antorcha": (sys.executable, "antorcha")}
    if Path(options.torch).exists():
        engines["torch"] = (options.torch, "torch")
        if options.compile:
            engines["torch.compile"] = (options.torch, "torch", "--compile")
    else:
        print(f"no PyTorch at {options.torch}: antorcha alone")
    head = "| step | " + " | ".join(f"{name}: ms | first, s | MiB" for name in engines) + " |"
    print(head)
    found = steps(engines, options.rounds)
    eager = {name: engine for name, engine in engines.items() if len(engine) == 2}
    print()
    halves = [line for n in sorted({1, threads}) for line in products_of_halves(eager, options.rounds, n)]
    print()
    decoded = tokens(eager, options.rounds)
    if options.write:
        if len(engines) > 1:
            picture(found, options.write / "measured.png")
        rule = "|" + "---|" * (1 + 3 * len(engines))
        text = [
            "# Speed",
            "",
            f"Measured by `make bench` on {platform.processor() or platform.machine()} with {threads} threads, Python "
            f"{platform.python_version()}. Milliseconds of the fastest step; a ratio above 1 says that antorcha is faster, the median over "
            f"{options.rounds} rounds in which the engines take turns. The first step includes compiling what is not on disk yet.",
            "",
            *(f"- {b}" for b in bounds),
            "",
            head,
            rule,
            *(describe(w, row) for w, row in found.items()),
            "",
            *(["![times as fast](measured.png)", ""] if len(engines) > 1 else []),
            "Matrix products, GFLOP/s:",
            "",
            "```",
            *products,
            "```",
            "",
            "Products of 16-bit matrices, whose sums are in float32, GFLOP/s:",
            "",
            "```",
            *halves,
            "```",
            "",
            "A token from a model of GPT-2's size (124 million weights, batch 1), which must read all weights and the cache:",
            "",
            "```",
            *decoded,
            "```",
            "",
            "Kernels that memory bounds: GB/s of the fewest bytes that must be read and written, beside a copy. (A copy's processor also "
            "reads the lines it is going to write; an optimiser's step writes where it has read, and can be faster.)",
            "",
            "```",
            *streams,
            "```",
            "",
        ]
        (options.write / "measured.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
