"""What Python costs: import, recording, finding a plan, making one, whole small steps. PyTorch beside it where it is installed.

    python -m benchmarks.latency [import] [record] [plan] [step] [first]

Times are the least of several repeats, garbage collection on.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

RECORDED = 400      # operators between two flushes, as in a small training step


def least(function, repeats: int = 7) -> float:
    """The shortest time of one call, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def imports() -> None:
    """A fresh interpreter importing each library: seconds and resident memory."""
    script = ("import time; t = time.perf_counter(); import {}; t = time.perf_counter() - t\n"
              "print(t, next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))")
    for name in ("numpy", "antorcha", "torch"):
        runs = [subprocess.run([sys.executable, "-c", script.format(name)], capture_output=True, text=True) for _ in range(5)]
        if runs[0].returncode == 0:
            seconds, memory = min(r.stdout.split() for r in runs)
            print(f"import {name:12} {float(seconds):6.3f} s  {int(memory) // 1024} MiB")


def operators(torch) -> dict:
    x, y = torch.randn(8, 16), torch.randn(8, 16)
    p, b = torch.randn(8, 16, requires_grad=True), torch.randn(16, requires_grad=True)
    m = torch.randn(16, 16, requires_grad=True)
    f = torch.nn.functional
    return {
        "x + y, no derivative": lambda: x + y,
        "x + 1.5, no derivative": lambda: x + 1.5,
        "p + x": lambda: p + x,
        "p * p": lambda: p * p,
        "p * 2.5": lambda: p * 2.5,
        "relu": lambda: torch.relu(p),
        "sum(1)": lambda: p.sum(1),
        "mean()": lambda: p.mean(),
        "matmul": lambda: p @ m,
        "linear": lambda: f.linear(p, m, b),
        "view": lambda: p.view(16, 8),
        "transpose": lambda: p.transpose(0, 1),
        "p[2:4]": lambda: p[2:4],
        "softmax": lambda: f.softmax(p, -1),
        "layer_norm": lambda: f.layer_norm(p, (16,)),
        "gelu": lambda: f.gelu(p),
        "x.add_(y)": lambda: x.add_(y),
        "detach": lambda: p.detach(),
    }


def record(libraries) -> None:
    """Microseconds to call one operator (PyTorch computes it as well)."""
    columns = [{name: cost(lib, call) for name, call in operators(lib).items()} for lib in libraries]
    for name in columns[0]:
        print(f"{name:24}", *[f"{column[name] * 1e6:8.2f}" for column in columns])


def cost(lib, call) -> float:
    """Seconds of one call among many that are recorded together."""
    settle = getattr(lib, "synchronize", lambda: None)
    best = float("inf")
    for _ in range(9):
        settle()
        start = time.perf_counter()
        for _ in range(RECORDED):
            call()
        best = min(best, time.perf_counter() - start)
    settle()
    return best / RECORDED


def plan() -> None:
    """Microseconds a node to find a plan and to make one (kernels compiled before)."""
    import antorcha as torch
    from antorcha.graph import flush, tape

    def graph(n):
        x = torch.ones(8, 16)
        for _ in range(n):
            x = (x * 1.5 + 2.0).relu().sum(1, keepdim=True) + x
        return x

    graph(40).tolist()
    found = []
    for _ in range(7):
        kept = graph(40)
        count = len(tape.nodes)
        found.append(least(kept.tolist, 1) / count)
    print(f"plan found   {min(found) * 1e6:8.2f} us a node, kernels included ({count} nodes)")
    made = []
    for _ in range(3):
        flush.clear()
        kept = graph(40)
        made.append(least(kept.tolist, 1) / count)
    print(f"plan made    {min(made) * 1e6:8.2f} us a node")


def training(torch, optimiser="SGD"):
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    optim = getattr(torch.optim, optimiser)(model.parameters(), lr=1e-3)
    x, y = torch.randn(64, 28 * 28), torch.randint(0, 10, (64,))

    def run():
        optim.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optim.step()
        return loss

    return run


def step(libraries) -> None:
    """Milliseconds of a training step of a three-layer perceptron, the loss read each time; of that, recording alone."""
    for lib in libraries:
        for optimiser in ("SGD", "Adam"):
            run = training(lib, optimiser)
            for _ in range(5):
                run().item()
            whole = least(lambda: run().item(), 40)
            line = f"{lib.__name__:10} {optimiser:5} step {whole * 1e3:7.3f} ms"
            if lib.__name__ == "antorcha":
                recording, computing = [], []
                for _ in range(40):
                    start = time.perf_counter()
                    loss = run()
                    middle = time.perf_counter()
                    loss.item()
                    recording.append(middle - start)
                    computing.append(time.perf_counter() - middle)
                line += (
                    f"  (recording {min(recording) * 1e3:.3f}, computing {min(computing) * 1e3:.3f}, {native() * 1e3:.3f} of it kernels)"
                )
            print(line)


def native() -> float:
    """Seconds that the kernels of the last plan take."""
    from antorcha.graph import flush
    from antorcha.runtime import pool

    table = flush.last().table_rows
    return least(lambda: pool.run(table), 40)


def first() -> None:
    """Seconds of the first and of a later step in a fresh process whose kernels are on disk."""
    script = ("import sys, time; sys.path.insert(0, {!r}); from benchmarks import latency; import {} as torch\n"
              "import {}.nn, {}.optim\n"
              "run = latency.training(torch, 'Adam'); times = []\n"
              "for _ in range(4):\n    t = time.perf_counter(); run().item(); times.append(time.perf_counter() - t)\n"
              "print(times[0], times[-1])")
    here = __file__.rpartition("/benchmarks/")[0]
    for name in ("antorcha", "torch"):
        for _ in range(2):
            done = subprocess.run([sys.executable, "-c", script.format(here, name, name, name)], capture_output=True, text=True)
        if done.returncode == 0:
            a, b = map(float, done.stdout.split())
            print(f"{name:10} first step {a * 1e3:8.1f} ms, later {b * 1e3:.2f} ms")


def main() -> None:
    import antorcha

    libraries = [antorcha]
    try:
        libraries.append(importlib.import_module("torch"))
        libraries[1].set_num_threads(antorcha.get_num_threads())
    except ImportError:
        pass
    chosen = sys.argv[1:] or ["import", "record", "plan", "step", "first"]
    for name in chosen:
        print(f"-- {name}: {', '.join(lib.__name__ for lib in libraries) if name in ('record', 'step') else ''}")
        {"import": imports, "record": lambda: record(libraries), "plan": plan, "step": lambda: step(libraries), "first": first}[name]()


if __name__ == "__main__":
    main()
