"""All kernels of a fixed set of programs as text, to show what a change of the compiler changes.

    python -m benchmarks.kernels save FOLDER [--cpu PROCESSOR] [--only PROGRAM ...]
    python -m benchmarks.kernels compare FOLDER [--cpu PROCESSOR] [--only PROGRAM ...] [--lines N]

`save` writes PROGRAM/KERNEL.loop (the loop program), .ll (LLVM IR) and .s (native code), and PROGRAM/plans.txt (the kernels of each
recording in order, with the reason of each cut between them). `compare` makes them again and prints what differs, at most N lines
of each file; its exit status is 1 if anything does. A refactoring has changed nothing if it prints `no difference`. PROCESSOR is one
of `config.cpu` that code is written for: it need not be able to run here.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import antorcha as torch
from antorcha.base import config
from antorcha.base import dtype as dt

from . import workloads

F = torch.nn.functional
LAYERS = (".loop", ".ll", ".s")     # what a kernel is, from the least to the most processed


# -- the programs -----------------------------------------------------------------------------------------------

def train(model, inputs, targets, loss_of, make, clip: bool = False, steps: int = 2) -> None:
    parameters = list(model.parameters())
    optimizer = make(parameters)
    for _ in range(steps):
        loss = loss_of(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        loss.item()


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


def classification() -> None:
    train(*workloads.classes(torch, workloads.perceptron(torch, 13, 40, 7), torch.randn(32, 13), 7, adam))


def regression() -> None:
    """Enough rows to be computed in blocks."""
    train(workloads.perceptron(torch, 10, 100, 1), torch.randn(40_000, 10), torch.randn(40_000, 1), F.mse_loss, adam)


def images() -> None:
    train(*workloads.classes(torch, workloads.convolutions(torch), torch.randn(4, 1, 28, 28), 10,
                             lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)))


def gpt() -> None:
    train(*workloads.language(torch, 65, 3, 40, width=32, layers=2, heads=2), clip=True)


def generate() -> None:
    """Tokens drawn one by one from a growing context."""
    table, weight = torch.randn(11, 24), torch.randn(11, 24)
    tokens = torch.zeros(1, 1, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(3):
            x = F.embedding(tokens, table)
            x = F.scaled_dot_product_attention(x, x, x, is_causal=True)
            chances = F.linear(F.rms_norm(x, (24,)), weight)[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(chances, 1)], 1)
        tokens.tolist()


def halves() -> None:
    for d in (torch.float16, torch.bfloat16):
        x, w = torch.randn(9, 33).to(d).requires_grad_(), torch.randn(17, 33).to(d).requires_grad_()
        F.layer_norm(F.gelu(F.linear(x, w)), (17,)).softmax(-1).square().sum().backward()
        w.grad.tolist(), x.grad.tolist()


def reductions() -> None:
    x = torch.randn(5, 37, 11)
    for name in ("sum", "prod", "amax", "argmin", "logsumexp"):
        for dim in (0, 1, 2):
            getattr(x, name)(dim).tolist()
    for y in (x.sum(), x.var(), x.cumsum(1), x.cummax(2)[1], (x > 0).any(0), x.norm(dim=1), x.to(torch.int64).sum(2)):
        y.tolist()


def products() -> None:
    a, b, c = torch.randn(3, 20, 45), torch.randn(3, 45, 33), torch.randn(45)
    for y in (a @ b, a @ c, b.transpose(1, 2) @ a.transpose(1, 2), a.double() @ b.double(), a.int() @ b.int(),
              torch.einsum("bij,bjk->ik", a, b), torch.addmm(c[:33], a[0], b[0]).relu(), torch.outer(c, c)):
        y.tolist()


def indexing() -> None:
    x, index = torch.randn(6, 19, requires_grad=True), torch.tensor([5, 0, 0, 3])
    y = x[index] * x[:, [1, 1, 4]].sum() + x.gather(0, index[:, None].expand(4, 19))
    (y.flip(0)[::2].sum() + torch.cat([x, y]).roll(1, 1)[:, 3:].square().sum()).backward()
    x.grad.tolist()
    z = torch.zeros(6, 19)
    z[:, ::2] += 1
    z.index_add_(0, index, y.detach()).scatter_reduce(0, index[:, None].expand(4, 19), y.detach(), "amax").tolist()


def twister() -> None:
    torch.rand(1000).tolist(), torch.randn(1000).tolist(), F.dropout(torch.ones(100), 0.3).tolist()


PROGRAMS: dict[str, Callable[[], None]] = {
    f.__name__: f for f in (classification, regression, images, gpt, generate, halves, reductions, products, indexing, twister)}


def of_records() -> Iterator[tuple[str, Callable[[], None]]]:
    """Each pointwise operator on its first sample in float32, and its derivative."""
    from antorcha.ops.record import RECORDS
    from antorcha.ops.samples import Inputs, samples_of

    def program(r, sample) -> Callable[[], None]:
        def run() -> None:
            t = Inputs(tensor=lambda array: torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array))
            arguments = sample(t)
            named = arguments.pop() if isinstance(arguments[-1], dict) else {}
            for i in t.floats:
                t.made[i].requires_grad_()
            y = r.call(*arguments, **named)
            if y.requires_grad:
                y.real.sum().backward()
                for i in t.floats:
                    t.made[i].grad.tolist()
            y.tolist()
        return run

    for name, r in sorted(RECORDS.items()):
        if r.family == "pointwise" and samples_of(r):
            yield f"record {name}", program(r, samples_of(r)[0])


def shared() -> dict[str, str]:
    """IR of the modules that are no kernels: the loops around register tiles, what goes through tiles, the thread pool, the runner of
    chains."""
    from antorcha.runtime import pool_ir
    from antorcha.targets import chain, drive, microkernel, multiply

    found = {f"{name} {d}": write(microkernel.shape(d)) for name, write in (("micro-kernels", multiply.module), ("tiles", drive.module))
             for d in (dt.float32, dt.float64)}
    narrow = microkernel.shape(dt.float32, dt.bfloat16)
    if narrow.instruction != microkernel.FMA:
        found["micro-kernels torch.bfloat16"] = multiply.module(narrow)
    return {**found, "thread pool": pool_ir.make_ir(), "runner of chains": chain.module()}


# -- their kernels ----------------------------------------------------------------------------------------------

@contextlib.contextmanager
def written_for(processor: str):
    """Code written inside is for this processor."""
    before, config.cpu = config.cpu, processor
    try:
        yield
    finally:
        config.cpu = before


def kernels_of(program: Callable[[], None]) -> tuple[dict, str]:
    """(name -> compiled kernel, the plans in words) of a program, run from a clean slate."""
    from antorcha.explaining import Recorder
    from antorcha.graph import flush

    flush.clear()
    torch.manual_seed(0)
    with Recorder() as recorder:
        program()
    named: dict[str, tuple] = {}        # text of the loop program -> (name, kernel)
    plans, taken = [], {}
    for number, run in enumerate(recorder.runs.values(), 1):
        plans.append(f"recording {number}:")
        for step in run.plan.kernels():
            operators = ", ".join(dict.fromkeys(op for _, op, *_ in step["nodes"]))
            if step["program"] is None:
                plans.append(f"  by NumPy: {operators}")
                continue
            text = step["program"].text()
            if text not in named:
                stem = re.sub(r"[^\w]+", "-", operators)[:60].strip("-")
                taken[stem] = taken.get(stem, 0) + 1
                named[text] = (f"{stem}-{taken[stem]}", step["kernel"])
            plans.append(f"  {named[text][0]}: {step['kind']}, {step['tiles']} tiles; {step['reason'] or 'begins'}")
    flush.clear()
    return dict(named.values()), "\n".join(plans) + "\n"


def texts(processor: str = "host", only: list[str] | None = None) -> Iterator[tuple[str, str]]:
    """(path, text) of every file that `save` writes."""
    from antorcha.runtime import jit

    for name, program in [*PROGRAMS.items(), *of_records()]:
        if only and name not in only:
            continue
        kernels, plans = kernels_of(program)
        yield f"{name}/plans.txt", plans
        with written_for(processor):
            for kernel, k in kernels.items():
                for layer, text in zip(LAYERS, (k.program.text(), k.ir(), k.assembly())):
                    yield f"{name}/{kernel}{layer}", text
    if not only:
        with written_for(processor):
            for name, ir in shared().items():
                yield f"shared/{name}.ll", ir
                yield f"shared/{name}.s", jit.assembly(ir)


# -- the command ------------------------------------------------------------------------------------------------

def save(folder: Path, processor: str, only: list[str] | None) -> int:
    count = 0
    for path, text in texts(processor, only):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        count += path.endswith(".s")
    return count


def differences(folder: Path, processor: str, only: list[str] | None) -> Iterator[tuple[str, list[str]]]:
    """(path, lines of a difference) of every file that is no longer what `save` wrote."""
    seen = set()
    for path, text in texts(processor, only):
        seen.add(path)
        try:
            before = (folder / path).read_text()
        except FileNotFoundError:
            yield path, ["new"]
            continue
        if before != text:
            yield path, list(difflib.unified_diff(before.splitlines(), text.splitlines(), "before", "after", lineterm="", n=1))
    for file in sorted(folder.rglob("*.*")):
        path = file.relative_to(folder).as_posix()
        if path not in seen and (not only or path.split("/")[0] in only):
            yield path, ["gone"]


def compare(folder: Path, processor: str, only: list[str] | None, lines: int) -> int:
    """Prints the differences; returns how many kernels they are in."""
    changed: dict[str, list[str]] = {}
    for path, difference in differences(folder, processor, only):
        kernel, _, layer = path.rpartition(".")
        first = kernel not in changed
        changed.setdefault(kernel, []).append(layer)
        print(f"{path}: {difference[0] if len(difference) == 1 else f'{len(difference) - 2} lines of difference'}")
        if first and len(difference) > 1:       # what follows from it is not shown
            print("\n".join(f"    {line}" for line in difference[2:lines + 2]))
    print(f"{len(changed)} differ" if changed else "no difference")
    return len(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["save", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", choices=config.PROCESSORS, default=config.cpu)
    parser.add_argument("--only", nargs="+", metavar="PROGRAM")
    parser.add_argument("--lines", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(2)        # names and grains do not depend on the machine
    if options.command == "save":
        print(f"{save(options.folder, options.cpu, options.only)} kernels in {options.folder}")
    else:
        sys.exit(compare(options.folder, options.cpu, options.only, options.lines) > 0)


if __name__ == "__main__":
    main()
