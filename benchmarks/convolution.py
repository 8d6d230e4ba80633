"""Convolutions of 3 x 3 and networks of them: by fewer multiplications, by direct sums, and PyTorch's if it is installed.

    python -m benchmarks.convolution [--engine MODULE] [name ...]

Of each convolution it prints the milliseconds forward and of both derivatives, the best of some calls; of each network those of a
training step and of a forward pass without derivatives.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable

CALLS = 12
SHAPES = {f"{n} x {i} x {size} x {size} to {o}": (n, i, o, size) for n, i, o, size in (
    (64, 32, 64, 32), (64, 64, 64, 32), (64, 128, 128, 16), (64, 256, 256, 8), (64, 512, 512, 4), (8, 64, 64, 56), (8, 128, 128, 28),
    (8, 256, 256, 14), (8, 512, 512, 7), (4, 64, 64, 224), (4, 128, 128, 112), (1, 256, 256, 56))}


def best(call: Callable) -> float:
    """Milliseconds; `call` waits for its result."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times[CALLS // 3:])


def convolution(torch, samples: int, channels: int, results: int, size: int) -> list[float]:
    f = torch.nn.functional
    x = torch.randn(samples, channels, size, size, requires_grad=True)
    w = (torch.randn(results, channels, 3, 3) / (3 * channels ** 0.5)).requires_grad_()
    g = torch.randn(samples, results, size, size)

    def forward():
        with torch.no_grad():
            return f.conv2d(x, w, padding=1)[0, 0, 0, 0].item()

    def back(which):
        y = f.conv2d(x, w, padding=1)
        y[0, 0, 0, 0].item()
        start = time.perf_counter()
        (found,) = torch.autograd.grad(y, which, g)
        found.view(-1)[0].item()
        return 1e3 * (time.perf_counter() - start)

    return [best(forward), *(min([back(t) for _ in range(CALLS)][CALLS // 3:]) for t in (x, w))]


def residual(torch, width: int = 64, stem: bool = False):
    """He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), 18 layers; for small images without `stem`."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, channels, results, stride):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(channels, results, 3, stride, 1, bias=False), nn.BatchNorm2d(results), nn.ReLU(),
                                      nn.Conv2d(results, results, 3, 1, 1, bias=False), nn.BatchNorm2d(results))
            self.short = nn.Identity() if stride == 1 else nn.Sequential(nn.Conv2d(channels, results, 1, stride, bias=False),
                                                                         nn.BatchNorm2d(results))

        def forward(self, x):
            return (self.body(x) + self.short(x)).relu()

    first = [nn.Conv2d(3, width, *((7, 2, 3) if stem else (3, 1, 1)), bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    blocks = [Block(width, width, 1), Block(width, width, 1)]
    for k in (1, 2, 4):
        blocks += [Block(k * width, 2 * k * width, 2), Block(2 * k * width, 2 * k * width, 1)]
    return nn.Sequential(*first, *([nn.MaxPool2d(3, 2, 1)] if stem else []), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8 * width, 10))


def plain(torch):
    """Simonyan and Zisserman, "Very Deep Convolutional Networks" (arXiv:1409.1556), eight layers for small images."""
    nn, layers, channels = torch.nn, [], 3
    for results in (64, 128, 256, 512):
        for _ in range(2):
            layers += [nn.Conv2d(channels, results, 3, padding=1), nn.ReLU()]
            channels = results
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))


NETWORKS = {
    "resnet-18, 64 x 32 x 32": (residual, {}, 64, 32),
    "resnet-18, 8 x 224 x 224": (residual, {"stem": True}, 8, 224),
    "a quarter as wide, 128 x 32 x 32": (residual, {"width": 16}, 128, 32),
    "vgg, 64 x 32 x 32": (plain, {}, 64, 32),
}


def network(torch, make: Callable, options: dict, samples: int, size: int) -> list[float]:
    model, x, y = make(torch, **options), torch.randn(samples, 3, size, size), torch.randint(0, 10, (samples,))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def step():
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        next(model.parameters())[0, 0, 0, 0].item()
        return loss.item()

    def forward():
        with torch.no_grad():
            return model(x)[0, 0].item()

    trained = best(step)
    model.eval()
    return [trained, best(forward)]


def measure(engine: str, names: list[str]) -> None:
    torch = importlib.import_module(engine)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    for name in names or [*SHAPES, *NETWORKS]:
        found = convolution(torch, *SHAPES[name]) if name in SHAPES else network(torch, *NETWORKS[name])
        direct = " direct" if os.environ.get("ANTORCHA_DIRECT") else ""
        print(f"{name:34}{engine + direct:18}{''.join(f'{t:9.2f}' for t in found)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*")
    parser.add_argument("--engine")
    options = parser.parse_args()
    if options.engine:
        measure(options.engine, options.name)
        return
    for name in options.name or [*SHAPES, *NETWORKS]:
        for engine, direct in (("antorcha", ""), ("antorcha", "1"), ("torch", "")):
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.convolution", "--engine", engine, name]
            subprocess.run(command, check=engine == "antorcha", env={**os.environ, "ANTORCHA_DIRECT": direct},
                           stderr=subprocess.DEVNULL if engine == "torch" else None)


if __name__ == "__main__":
    main()
