"""Training steps to time, written once for antorcha and PyTorch.

    python benchmarks/workloads.py MODULE WORKLOAD [--compile] [--seconds S]

prints one line of JSON: milliseconds of a step (least, median), seconds of the first step and of the import, the losses of the first
steps, peak memory in MiB. Each step reads its loss.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import statistics
import time

ROWS = 2_000_000
SETTLING, LEAST = 3, 12     # first steps that are not counted; steps taken however long they are


def perceptron(torch, *sizes):
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers[:-1])


def transformer(torch, vocabulary, context, width, layers, heads, dropout=0.1):
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.dropout = nn.Dropout(dropout)

        def forward(self, x):
            batch, length, _ = x.shape
            q, k, v = (part.reshape(batch, length, heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
            x = x + self.dropout(self.out(mixed))
            return x + self.dropout(self.down(functional.gelu(self.up(self.norm2(x)))))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
            self.head.weight = self.token.weight

        def forward(self, tokens):
            return self.head(self.norm(self.blocks(self.token(tokens) + self.position(torch.arange(context)))))

    return GPT()


def convolutions(torch):
    nn = torch.nn
    blocks = [
        layer for a, b in ((1, 32), (32, 64)) for layer in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10))


def classes(torch, model, inputs, count, optimizer):
    """(model, inputs, targets, loss, optimiser) of a classification."""
    targets = torch.randint(0, count, (inputs.shape[0],))
    return model, inputs, targets, torch.nn.functional.cross_entropy, optimizer


def language(torch, vocabulary, batch, context, **size):
    model = transformer(torch, vocabulary, context, **size)
    tokens, targets = torch.randint(0, vocabulary, (batch, context)), torch.randint(0, vocabulary, (batch * context,))

    def loss(logits, targets):
        return torch.nn.functional.cross_entropy(logits.reshape(-1, vocabulary), targets)

    return model, tokens, targets, loss, lambda p: torch.optim.AdamW(p, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)


WORKLOADS = {
    "mlp_small": lambda t: classes(t, perceptron(t, 784, 300, 100, 10), t.randn(32, 784), 10, lambda p: t.optim.Adam(p, lr=1e-3)),
    "mlp_2m": lambda t: (perceptron(t, 10, 100, 1), t.randn(ROWS, 10), t.randn(ROWS, 1), t.nn.functional.mse_loss,
                         lambda p: t.optim.Adam(p, lr=1e-2)),
    "gpt_tiny": lambda t: language(t, 65, 12, 64, width=128, layers=4, heads=4),
    "gpt_bach": lambda t: language(t, 512, 16, 256, width=256, layers=5, heads=8),
    "cnn": lambda t: classes(t, convolutions(t), t.randn(64, 1, 28, 28), 10, lambda p: t.optim.Adam(p, lr=1e-3)),
}


def peak_memory() -> float:
    """MiB this process has held at most. (On Linux `getrusage` tells of the process that started it, too, if that was larger.)"""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()

    begin = time.perf_counter()
    torch = importlib.import_module(options.module)
    imported = time.perf_counter() - begin
    importlib.import_module(options.module + ".nn")
    torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count() or 1)))
    torch.manual_seed(0)
    model, inputs, targets, loss_of, make = WORKLOADS[options.workload](torch)
    forward = torch.compile(model) if options.compile else model
    parameters = list(model.parameters())
    optimizer, clip = make(parameters), options.workload.startswith("gpt")

    def step() -> float:
        loss = loss_of(forward(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.item()

    losses, times = [], []
    stop = time.perf_counter() + options.seconds
    while len(times) < LEAST or time.perf_counter() < stop and len(times) < 2000:
        begin = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - begin)
    settled = times[SETTLING:]
    print(
        json.dumps(
            {
                "least": min(settled) * 1e3,
                "median": statistics.median(settled) * 1e3,
                "first": times[0],
                "import": imported,
                "losses": losses[:6],
                "memory": peak_memory(),
            }
        )
    )


if __name__ == "__main__":
    main()
