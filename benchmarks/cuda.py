"""What a GPU does with antorcha, beside PyTorch on the same one: everything that is promised of it, measured.

    python -m benchmarks.cuda [--torch PYTHON] [--peak TFLOPS] [--only NAME ...] [--quick] [--device cpu]

PYTHON is the interpreter of an environment with PyTorch. `--peak`: of dense bfloat16 products, for the share of it that a training step
reaches (MFU); known for common cards. `--quick`: small sizes, to see that everything runs (with --device cpu even without a GPU).
`python -m benchmarks.card` runs this and all tests that need a GPU.

    copy        GB/s of a copy on the card: what the others are measured against
    bandwidth   GB/s of large pointwise operators and reductions
    matmul      TFLOP/s of products: our kernels, and cuBLASLt's where antorcha[cuda] is installed
    attention   TFLOP/s of causal attention, forward, and with its derivatives
    gpt_bach, gpt2_124m     training steps: milliseconds, tokens/s, MFU; PyTorch as it is and compiled
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PEAKS = {"H200": 989.5, "H100": 989.5, "A100": 312.0, "L40S": 362.0, "4090": 165.2, "B200": 2250.0}    # TFLOP/s, from the makers' tables
ATTENTION = [(8, 12, 1024, 64), (4, 12, 2048, 64), (8, 16, 512, 128)]      # batch, heads, length, width


class Bench:
    """Measures one engine on one device."""

    def __init__(self, module: str, options):
        self.torch = importlib.import_module(module)
        importlib.import_module(module + ".nn")
        self.module, self.quick, self.device, self.compiled = module, options.quick, options.device, options.compile
        self.torch.set_default_device(self.device)
        self.torch.manual_seed(0)

    def wait(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        elif self.module == "antorcha":
            self.torch.synchronize()

    def seconds(self, run, least: float = 0.5) -> float:
        """Of one call of `run`, the best of several series; what it returns is kept until the next call."""
        kept = [run() for _ in range(4)]
        self.wait()
        best, count, stop = float("inf"), 1, time.perf_counter() + (0.05 if self.quick else 4 * least)
        while time.perf_counter() < stop:
            begin = time.perf_counter()
            for _ in range(count):
                kept = run()
                self.computed(kept)
            self.wait()
            taken = time.perf_counter() - begin
            best = min(best, taken / count)
            count = max(1, min(200, int(least / 8 / max(best, 1e-7))))
        del kept
        return best

    def computed(self, value) -> None:
        """Have a value computed, though nobody asks for it."""
        if self.module == "antorcha":
            from antorcha.graph import tape

            tape.flush()

    # -- what is measured ---------------------------------------------------------------------------------------

    def copy(self) -> dict:
        nbytes = 4 << (20 if self.quick else 28)
        if self.module == "antorcha" and self.device == "cuda":     # copy_ only notes that the values are the same
            from antorcha.runtime import cuda

            device = cuda.device()
            x, y = device.allocate(nbytes), device.allocate(nbytes)
            return {"GB/s": 2 * nbytes / self.seconds(lambda: y.copy_from(x)) / 1e9}
        x = self.torch.ones(nbytes // 4)
        y = self.torch.empty_like(x)
        return {"GB/s": 2 * nbytes / self.seconds(lambda: y.copy_(x)) / 1e9}

    def bandwidth(self) -> dict:
        torch, n = self.torch, 1 << (10 if self.quick else 14)
        a, b = torch.rand(n, n), torch.rand(n, n)
        size = 4 * n * n
        cases = {"a * b + 1": (3 * size, lambda: a * b + 1), "gelu(a)": (2 * size, lambda: torch.nn.functional.gelu(a)),
                 "a.half()": (1.5 * size, lambda: a.half()), "a.t().contiguous()": (2 * size, lambda: a.t().contiguous()),
                 "a.sum()": (size, lambda: a.sum()), "a.sum(1)": (size, lambda: a.sum(1)), "a.sum(0)": (size, lambda: a.sum(0)),
                 "softmax(a, 1)": (2 * size, lambda: a.softmax(1)),
                 "layer_norm(a)": (2 * size, lambda: torch.nn.functional.layer_norm(a, (n,)))}
        return {name: nbytes / self.seconds(run) / 1e9 for name, (nbytes, run) in cases.items()}

    def matmul(self) -> dict:
        torch, found = self.torch, {}
        for n in (256,) if self.quick else (1024, 2048, 4096, 8192):
            for name, dtype, precision in (("float32", torch.float32, "highest"), ("tf32", torch.float32, "high"),
                                           ("bfloat16", torch.bfloat16, "highest")):
                torch.set_float32_matmul_precision(precision)
                a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
                found[f"{name} {n}"] = 2 * n ** 3 / self.seconds(lambda: a @ b) / 1e12
        torch.set_float32_matmul_precision("highest")
        return found

    def attention(self) -> dict:
        torch, found = self.torch, {}
        for batch, heads, length, width in ((1, 2, 64, 16),) if self.quick else ATTENTION:
            q, k, v = (torch.randn(batch, heads, length, width).bfloat16().requires_grad_() for _ in range(3))
            g = torch.randn(batch, heads, length, width).bfloat16()
            flops = 4 * batch * heads * length ** 2 * width / 2     # of the half that the mask leaves

            def forward():
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

            def both():
                return torch.autograd.grad(forward(), (q, k, v), g)

            name = f"{batch} x {heads} x {length} x {width}"
            found[f"forward {name}"] = flops / self.seconds(forward) / 1e12
            found[f"both {name}"] = 3.5 * flops / self.seconds(both) / 1e12
        return found

    def language(self, batch: int, mixed: bool, **size) -> dict:
        """A training step of a language model."""
        sys.path.insert(0, str(HERE))
        workloads = importlib.import_module("workloads")
        torch, context, vocabulary = self.torch, size["context"], size["vocabulary"]
        model = workloads.transformer(torch, dropout=0.0, **size)
        forward = torch.compile(model) if self.compiled else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)
        tokens, targets = torch.randint(0, vocabulary, (batch, context)), torch.randint(0, vocabulary, (batch * context,))

        def step():
            with torch.autocast(self.device, dtype=torch.bfloat16, enabled=mixed):
                loss = torch.nn.functional.cross_entropy(forward(tokens).reshape(-1, vocabulary), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss

        begin = time.perf_counter()
        losses = [step().item()]
        first = time.perf_counter() - begin
        losses += [step().item() for _ in range(5)]
        seconds, parameters = self.seconds(step, 2.0), sum(p.numel() for p in model.parameters())
        # of a token: 6 for each parameter, and attention's products (Chowdhery et al., "PaLM", 2022, appendix B)
        flops = 6 * parameters + 12 * size["layers"] * size["width"] * context
        return {"ms": 1e3 * seconds, "tokens/s": batch * context / seconds, "TFLOP/s": flops * batch * context / seconds / 1e12,
                "first step s": first, "losses": losses}

    def gpt_bach(self) -> dict:
        if self.quick:
            return self.language(2, False, vocabulary=64, context=16, width=32, layers=1, heads=2)
        return self.language(16, False, vocabulary=512, context=256, width=256, layers=5, heads=8)

    def gpt2_124m(self) -> dict:
        if self.quick:
            return self.language(2, True, vocabulary=64, context=32, width=32, layers=2, heads=2)
        return self.language(8, True, vocabulary=50304, context=1024, width=768, layers=12, heads=12)


WHAT = ("copy", "bandwidth", "matmul", "attention", "gpt_bach", "gpt2_124m")


def run_one(python: str, engine: str, what: str, options, *more: str) -> dict | None:
    """What a process of an engine measures; None where it fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))}
    command = [python, str(HERE / "cuda.py"), "--engine", engine, "--only", what, "--device", options.device, *more]
    command += ["--quick"] * options.quick + ["--fake"] * options.fake
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{engine} {what}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def engines(options, what: str):
    """(name, interpreter, module, options) of what is compared."""
    yield "antorcha", sys.executable, "antorcha", []
    if what == "matmul":
        yield "antorcha, own kernels", sys.executable, "antorcha", ["--own"]
    if options.torch:
        yield "torch", options.torch, "torch", []
        if what.startswith("gpt") or what == "attention":
            yield "torch.compile", options.torch, "torch", ["--compile"]


def peak_of(options) -> float | None:
    if options.peak or options.device != "cuda":
        return options.peak
    import antorcha

    name = antorcha.cuda.get_device_name()
    print(name, "compute capability", antorcha.cuda.get_device_capability())
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def report(options) -> None:
    peak, results = peak_of(options), {}
    for what in options.only or WHAT:
        found = results[what] = {}
        for name, python, module, more in engines(options, what):
            found[name] = run_one(python, module, what, options, *more)
        print(f"\n{what:<30}" + "".join(f"{name:>24}" for name in found))
        if what.startswith("gpt") and peak:
            for r in filter(None, found.values()):
                r["MFU"] = r["TFLOP/s"] / peak
        for key in dict.fromkeys(k for r in found.values() if r for k in r if k != "losses"):
            print(f"  {key:<28}" + "".join(f"{r[key]:24.3f}" if r and key in r else f"{'-':>24}" for r in found.values()), flush=True)
    copied = (results.get("copy", {}).get("antorcha") or {}).get("GB/s")
    if copied and results.get("bandwidth", {}).get("antorcha"):
        shares = [f"{k} {100 * v / copied:.0f} %" for k, v in results["bandwidth"]["antorcha"].items()]
        print("\nof the copy's bandwidth: " + ", ".join(shares))
    print(json.dumps(results))


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch")
    parser.add_argument("--peak", type=float)
    parser.add_argument("--only", nargs="*", choices=WHAT)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--engine", help=argparse.SUPPRESS)     # a process that measures
    parser.add_argument("--compile", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--own", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fake", action="store_true", help=argparse.SUPPRESS)      # on the driver of the tests
    return parser.parse_args(given)


def main() -> None:
    options = arguments()
    if options.fake:
        sys.path.insert(0, str(HERE.parent / "tests"))
        import fake_cuda

        fake_cuda.install(execute="none")
    if not options.engine:
        report(options)
        return
    if options.own:
        from antorcha.runtime import cublas

        cublas.library = lambda: None
    bench = Bench(options.engine, options)
    print(json.dumps(getattr(bench, options.only[0])()))


if __name__ == "__main__":
    main()
