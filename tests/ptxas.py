"""NVIDIA's assembler over many kernels at once: what each takes of registers, stack and shared memory, and what it spills.

    python tests/ptxas.py [--jobs N] [--architectures 80 90] [--every N] [--dtypes float32 ...]

takes every record's samples in each dtype, with their derivatives, the kernels of test_ptx.py and the training steps of
benchmarks/cuda.py, and prints the totals. Nothing of this needs a GPU: programs run on the driver of the tests, kernels in the interpreter.
The assembler is ANTORCHA_PTXAS, the one on the path, or that of the package nvidia-cuda-nvcc.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

BATCH = 64              # kernels that the assembler is given at once
SPILLS = 96             # bytes that a kernel may spill
DTYPES = ("float64", "float32", "bfloat16")
REFUSALS = "Low precision dtypes", "Unsupported dtype", "must be either float or double", "Half, Float or Double"


def assembler() -> str | None:
    """Where ptxas is."""
    found = os.environ.get("ANTORCHA_PTXAS") or shutil.which("ptxas")
    if not found and importlib.util.find_spec("nvidia") is not None:
        for folder in importlib.util.find_spec("nvidia").submodule_search_locations or ():
            found = next((str(p) for p in Path(folder).rglob("ptxas")), None) or found
    return found


PTXAS = assembler()


class Figures(NamedTuple):
    """Of a function, in bytes but for the registers."""

    registers: int
    spilled: int
    stack: int
    shared: int


# -- assembling -------------------------------------------------------------------------------------------------

HEAD = re.compile(r"\.version (\S+)\n\.target \S+\n\.address_size 64\n")
NAME = re.compile(r"\.visible \.entry (\w+)\(")
USED = re.compile(r"Function properties for (\w+)\n\s+(\d+) bytes stack frame, (\d+) bytes spill stores.*\n.*Used (\d+) registers(.*)")


def joined(texts: list[str], architecture: int) -> str:
    """Several modules as one; what function f of module number n is called: f_n."""
    versions, bodies = [], []
    for n, text in enumerate(texts):
        versions.append(tuple(map(int, HEAD.search(text)[1].split("."))))
        body = HEAD.sub("", text)
        for name in {*NAME.findall(body), "shared"}:
            body = re.sub(rf"(?<![.\w]){name}(?=\b|_param_)", f"{name}_{n}", body)
        bodies.append(body)
    version = ".".join(map(str, max(versions)))
    return f".version {version}\n.target sm_{architecture}\n.address_size 64\n" + "".join(bodies)


def assembled(texts: list[str], architecture: int) -> list[dict[str, Figures]]:
    """The figures of the functions of several modules. RuntimeError, with what the assembler says, where one is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.ptx")
        path.write_text(joined(texts, architecture))
        run = subprocess.run([PTXAS, f"-arch=sm_{architecture}", "-v", str(path), "-o", str(Path(folder, "code"))], capture_output=True,
                             text=True)
    if run.returncode:
        raise RuntimeError(run.stderr[:2000])
    found: list[dict[str, Figures]] = [{} for _ in texts]
    for name, stack, spilled, registers, rest in USED.findall(run.stderr):
        entry, _, number = name.rpartition("_")
        shared = re.search(r"(\d+) bytes smem", rest)
        found[int(number)][entry] = Figures(int(registers), int(spilled), int(stack), int(shared[1]) if shared else 0)
    assert all(found), "a kernel was not reported on"
    return found


# -- which kernels there are ------------------------------------------------------------------------------------

class Collector:
    """Puts the driver of the tests in place and keeps the kernels that plans are made of."""

    def __init__(self, dtypes: list[str]):
        import fake_cuda

        from antorcha.loops.device_plan import DevicePlan
        from antorcha.runtime import cuda
        from antorcha.targets import ptx

        self.kernels: dict[str, object] = {}
        self.dtypes = dtypes
        self.fake, self.cuda = fake_cuda, cuda
        ptx.assemble = lambda key, make_ir, architecture, long: make_ir()
        segments, kernels = DevicePlan._segments, self.kernels

        def kept(plan):
            segments(plan)
            kernels.update((what[0].key, what[0]) for _, what in plan.work if isinstance(what, tuple))

        DevicePlan._segments = kept
        cuda.use(fake_cuda.Library(1, "interp"))

    def record(self, name: str) -> list[str]:
        """A record's sample in each dtype, and the derivatives; the dtypes in which nothing could be computed. Records that NumPy computes
        refuse 16-bit floats, as in PyTorch."""
        import test_cuda_records
        import test_records

        import antorcha as torch

        case, failed = test_cuda_records.SAMPLES[name], []
        for dtype in self.dtypes:
            def moved(x, dtype=getattr(torch, dtype)):
                return x.to("cuda", dtype) if x.is_floating_point() else x.to("cuda")
            try:
                test_records.numbers(case.call(change=moved))
                test_records.derivatives(case, moved)
            except (RuntimeError, TypeError, ValueError, NotImplementedError, IndexError, AssertionError) as error:
                failed += [] if dtype == "bfloat16" and any(words in str(error) for words in REFUSALS) else [dtype]
        return failed

    def programs(self) -> None:
        """The programs of test_ptx.py."""
        import test_ptx

        import antorcha as torch

        torch.set_default_device("cuda")
        given = torch.from_numpy
        torch.from_numpy = lambda a: given(a).cuda()
        try:
            for name in ("A", "B", "INDEX", "SCATTERED"):
                setattr(test_ptx, name, getattr(test_ptx, name).cuda())
            for compute in test_ptx.CASES.values():
                compute().cpu()
        finally:
            torch.from_numpy = given
            torch.set_default_device(None)

    def steps(self) -> None:
        """The training steps that are measured, in their sizes; nothing is computed."""
        from antorcha.graph import flush
        from antorcha.runtime import cublas
        from benchmarks.cuda import Bench

        cublas.library = lambda: None
        Bench.seconds = lambda bench, run, least=0.5: (run(), bench.wait(), 1.0)[2]
        for what in ("gpt_bach", "gpt2_124m", "attention", "bandwidth"):
            flush.clear()
            self.cuda.use(self.fake.Library.of_addresses(140 << 30))
            getattr(Bench("antorcha", SimpleNamespace(quick=False, device="cuda", compile=False)), what)()


def share(names: list[str], architectures: list[int], dtypes: list[str], number: int) -> tuple[list[str], dict]:
    """(records that could not be computed, figures of every kernel by key and architecture) of some of the records; share 0 has the
    other programs too."""
    from antorcha.targets import ptx

    warnings.simplefilter("ignore")
    collector, failed = Collector(dtypes), []
    for k, name in enumerate(names):
        failed += [f"{name} of {dtype}" for dtype in collector.record(name)]
        if k % 20 == 19:
            print(f"share {number}: {k + 1} of {len(names)} records, {len(collector.kernels)} kernels", file=sys.stderr, flush=True)
    if number == 0:
        collector.programs()
        collector.steps()
    ptx.assemble = lambda key, make_ir, architecture, long: ptx.compiled(make_ir(), architecture, long)
    kernels, found = list(collector.kernels.values()), {}
    for architecture in architectures:
        for start in range(0, len(kernels), BATCH):
            print(f"share {number}: sm_{architecture}, {start} of {len(kernels)} kernels", file=sys.stderr, flush=True)
            batch = kernels[start:start + BATCH]
            figures = assembled([kernel.ptx(architecture) for kernel in batch], architecture)
            for kernel, functions in zip(batch, figures):
                found.update({(kernel.key, architecture, entry): f for entry, f in functions.items()})
    return failed, found


def report(jobs: int, architectures: list[int], dtypes: list[str], every: int = 1) -> tuple[list[str], dict]:
    """See `share`, of all records (or every so many), in processes of their own."""
    from test_cuda_records import SAMPLES

    names = list(SAMPLES)[::every]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        shares = list(pool.map(share, [names[i::jobs] for i in range(jobs)], [architectures] * jobs, [dtypes] * jobs, range(jobs)))
    failed, found = [], {}
    for f, figures in shares:
        failed += f
        found.update(figures)
    return failed, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--architectures", type=int, nargs="*", default=[80, 90])
    parser.add_argument("--every", type=int, default=1, help="every so many records only")
    parser.add_argument("--dtypes", nargs="*", default=DTYPES)
    options = parser.parse_args()
    if PTXAS is None:
        sys.exit("ptxas is not installed; it comes with the package nvidia-cuda-nvcc")
    failed, found = report(options.jobs, options.architectures, options.dtypes, options.every)
    print("not computed:", ", ".join(failed) or "none")
    print(f"{'':>8}{'kernels':>10}{'functions':>10}{'spilling':>10}{'bytes':>8}{'stack':>8}{'registers: median':>20}{'most':>6}")
    for architecture in options.architectures:
        mine = {key: f for key, f in found.items() if key[1] == architecture}
        registers = sorted(f.registers for f in mine.values())
        spilling = {key: f for key, f in mine.items() if f.spilled}
        print(f"{'sm_' + str(architecture):>8}{len({key for key, *_ in mine}):>10}{len(mine):>10}{len(spilling):>10}"
              f"{max((f.spilled for f in mine.values()), default=0):>8}{max(f.stack for f in mine.values()):>8}"
              f"{registers[len(registers) // 2]:>20}{registers[-1]:>6}")
        for (key, _, entry), f in sorted(spilling.items(), key=lambda item: -item[1].spilled):
            print(f"    {f} {entry} of {key[:300]!r}")


if __name__ == "__main__":
    main()
