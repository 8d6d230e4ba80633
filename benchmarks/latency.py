"""What Python costs: import, recording, finding a plan, making one, whole small steps. PyTorch beside it where it is installed.

    python -m benchmarks.latency [import] [record] [plan] [step] [first]

Times are the least of several repeats, garbage collection on.
"""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
import time

RECORDED = 100      # operators between two flushes, as in a small training step


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
    nn, f = torch.nn, torch.nn.functional
    x, y = torch.randn(8, 16), torch.randn(8, 16)
    p, b = torch.randn(8, 16, requires_grad=True), torch.randn(16, requires_grad=True)
    m = torch.randn(16, 16, requires_grad=True)
    s, q = torch.randn(2, 8, 16, requires_grad=True), torch.randn(2, 4, 8, 16, requires_grad=True)
    image, kernel = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    classes, table = torch.randint(0, 16, (8,)), torch.randn(10, 16, requires_grad=True)
    places = classes.reshape(8, 1)
    words, target = torch.randint(0, 10, (2, 8)), torch.rand(8, 16)
    layer, norm, batch = nn.Linear(16, 16), nn.LayerNorm(16), nn.BatchNorm2d(3)
    drop, attention = nn.Dropout(0.1), nn.MultiheadAttention(16, 4, batch_first=True)
    return {
        "x + y, no derivative": lambda: x + y,
        "x + 1.5, no derivative": lambda: x + 1.5,
        "linear, no derivative": lambda: f.linear(x, y, None),
        "p + x": lambda: p + x,
        "p * p": lambda: p * p,
        "p * 2.5": lambda: p * 2.5,
        "p ** 2": lambda: p ** 2,
        "p / m": lambda: p / b,
        "-p": lambda: -p,
        "exp": lambda: p.exp(),
        "relu": lambda: torch.relu(p),
        "f.relu": lambda: f.relu(p),
        "gelu": lambda: f.gelu(p),
        "gelu, tanh": lambda: f.gelu(p, approximate="tanh"),
        "silu": lambda: f.silu(p),
        "sigmoid": lambda: p.sigmoid(),
        "clamp": lambda: p.clamp(-1.0, 1.0),
        "where": lambda: torch.where(x > 0, p, x),
        "masked_fill": lambda: p.masked_fill(x > 0, 0.0),
        "to(float64)": lambda: p.to(torch.float64),
        "sum()": lambda: p.sum(),
        "sum(1)": lambda: p.sum(1),
        "mean()": lambda: p.mean(),
        "mean(-1, keepdim)": lambda: p.mean(-1, keepdim=True),
        "var(-1)": lambda: p.var(-1),
        "max(-1)": lambda: p.max(-1),
        "norm()": lambda: p.norm(),
        "matmul": lambda: p @ m,
        "bmm": lambda: torch.bmm(s, s.transpose(1, 2)),
        "s @ m": lambda: s @ m,
        "einsum": lambda: torch.einsum("bij,jk->bik", s, m),
        "linear": lambda: f.linear(p, m, b),
        "linear of 3 dims": lambda: f.linear(s, m, b),
        "nn.Linear": lambda: layer(p),
        "view": lambda: p.view(16, 8),
        "reshape(-1, 8)": lambda: p.reshape(-1, 8),
        "transpose": lambda: p.transpose(0, 1),
        "permute": lambda: s.permute(2, 0, 1),
        "unsqueeze": lambda: p.unsqueeze(1),
        "expand": lambda: b.expand(8, 16),
        "flatten": lambda: s.flatten(1),
        "split": lambda: p.split(4, dim=1),
        "chunk": lambda: p.chunk(4, dim=1),
        "contiguous, of a transpose": lambda: p.t().contiguous(),
        "p[2]": lambda: p[2],
        "p[2:4]": lambda: p[2:4],
        "s[:, -1, :]": lambda: s[:, -1, :],
        "p[indices]": lambda: m[words],
        "index_select": lambda: m.index_select(0, classes),
        "gather": lambda: p.gather(1, places),
        "cat": lambda: torch.cat([p, m], 0),
        "stack": lambda: torch.stack([p, p], 0),
        "embedding": lambda: f.embedding(words, table),
        "softmax": lambda: f.softmax(p, -1),
        "log_softmax": lambda: f.log_softmax(p, -1),
        "layer_norm": lambda: f.layer_norm(p, (16,), b, b),
        "nn.LayerNorm": lambda: norm(p),
        "nn.BatchNorm2d": lambda: batch(image),
        "cross_entropy": lambda: f.cross_entropy(p, classes),
        "mse_loss": lambda: f.mse_loss(p, target),
        "binary_cross_entropy_with_logits": lambda: f.binary_cross_entropy_with_logits(p, target),
        "conv2d": lambda: f.conv2d(image, kernel, None, padding=1),
        "max_pool2d": lambda: f.max_pool2d(image, 2),
        "avg_pool2d": lambda: f.avg_pool2d(image, 2),
        "dropout": lambda: f.dropout(p, 0.1),
        "nn.Dropout": lambda: drop(p),
        "attention": lambda: f.scaled_dot_product_attention(q, q, q, is_causal=True),
        "nn.MultiheadAttention": lambda: attention(s, s, s, need_weights=False),
        "x.add_(y)": lambda: x.add_(y),
        "detach": lambda: p.detach(),
        "clone": lambda: p.clone(),
        **updates(torch),
    }


def updates(torch) -> dict:
    """Steps of optimisers, each of one parameter, with what goes with them."""
    calls = {}
    for name, options in (("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {}), ("RMSprop", {})):
        p = torch.randn(8, 16, requires_grad=True)
        p.grad = torch.randn(8, 16)
        calls[f"{name}({', '.join(options)}).step"] = getattr(torch.optim, name)([p], lr=1e-3, **options).step
    p, g = torch.randn(8, 16, requires_grad=True), torch.randn(8, 16)
    optimiser = torch.optim.SGD([p], lr=1e-3)

    def forget():
        p.grad = g
        optimiser.zero_grad()

    def clip():
        p.grad = g
        torch.nn.utils.clip_grad_norm_([p], 1.0)

    return {**calls, "zero_grad": forget, "clip_grad_norm_": clip}


def record(libraries) -> None:
    """Microseconds to call one operator (PyTorch computes it as well), nodes recorded, microseconds a call of the backward pass. The speed
    of a shared machine drifts: each time is taken in additions beside it, and told for the fastest moment."""
    columns = [{name: (*cost(lib, call), backward_cost(lib, call)) for name, call in operators(lib).items()} for lib in libraries]
    unit = min(_units)
    print(f"a Python loop of 1000 additions: {unit * 1e6:.1f} us")
    print(f"{'':34}" + "  forward nodes backward" * len(libraries))
    for name in columns[0]:
        print(f"{name:34}", *[f"{forward * unit * 1e6:8.2f} {nodes:5.1f} {backward * unit * 1e6:8.2f}" for forward, nodes, backward in
                              (column[name] for column in columns)])


_units: list[float] = []    # seconds of `additions`, again and again


def additions() -> int:
    s = 0
    for i in range(1000):
        s += i
    return s


def timed(function) -> float:
    """How long a function takes, in loops of additions before and after it."""
    before = least(additions, 2)
    start = time.thread_time()
    function()
    took = time.thread_time() - start
    after = least(additions, 2)
    _units.extend([before, after])
    return 2 * took / (before + after)


def often(call) -> None:
    for _ in range(RECORDED):
        call()


def cost(lib, call) -> tuple[float, float]:
    """What one call takes among many that are recorded together, in loops of additions, and the nodes recorded by one."""
    settle = getattr(lib, "synchronize", lambda: None)
    best, nodes = float("inf"), 0.0
    for _ in range(9):
        settle()
        best = min(best, timed(functools.partial(often, call)))
        nodes = pending(lib) / RECORDED
    settle()
    return best / RECORDED, nodes


def backward_cost(lib, call) -> float:
    """What the backward pass takes for one call, in a pass for many of them, in loops of additions."""
    settle = getattr(lib, "synchronize", lambda: None)
    best = 0.0
    for _ in range(5):
        results = [call() for _ in range(RECORDED)]
        results = [r[0] if isinstance(r, (tuple, list)) else r for r in results]
        if not isinstance(results[0], lib.Tensor) or results[0].grad_fn is None:
            break
        g = lib.ones_like(results[0])
        settle()
        took = timed(functools.partial(lib.autograd.backward, results, [g] * RECORDED))
        best = min(best or took, took)
    settle()
    return best / RECORDED


def pending(lib) -> int:
    """How many nodes are recorded and not computed."""
    if lib.__name__ != "antorcha":
        return 0
    recorded = importlib.import_module("antorcha.graph.tape").nodes
    return sum([len(getattr(entry.form, "sites", "1")) for entry in recorded])      # of a block, all its nodes


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

    def run(done=lambda part: None):
        optim.zero_grad()
        done("zero_grad")
        result = model(x)
        done("model")
        loss = nn.functional.cross_entropy(result, y)
        done("loss")
        loss.backward()
        done("backward")
        optim.step()
        done("step")
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
                parts = {}
                for _ in range(40):
                    parts = divided(run, parts)
                computing = parts.pop("item")
                told = ", ".join(f"{name} {seconds * 1e6:.0f} us" for name, seconds in parts.items())
                line += (f"  (recording {sum(parts.values()) * 1e3:.3f}, computing {computing * 1e3:.3f}, "
                         f"{native() * 1e3:.3f} of it kernels)\n{'':17}recording: {told}")
            print(line)


def divided(run, least: dict) -> dict:
    """The parts of a step and the seconds that each takes, where that is less than in `least`."""
    times = [("", time.perf_counter())]
    run(lambda part: times.append((part, time.perf_counter()))).item()
    times.append(("item", time.perf_counter()))
    return {part: min(end - start, least.get(part, end)) for (_, start), (part, end) in zip(times, times[1:])}


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
