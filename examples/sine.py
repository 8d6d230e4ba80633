"""Fit a + b x + c x^2 + d x^3 to a sine in five ways, from the formulas alone up to nn and optim.

    python examples/sine.py --steps 2000

The coefficients come out alike: about y = 0 + 0.86 x + 0 x^2 - 0.09 x^3. What changes is who computes the gradient and
who takes the step.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import nn

x = torch.linspace(-math.pi, math.pi, 2000)
y = torch.sin(x)
start = torch.tensor([0.1, -0.2, 0.05, 0.01])


def report(way: str, loss: torch.Tensor, coefficients: torch.Tensor) -> None:
    a, b, c, d = coefficients.tolist()
    print(f"{way:32s} loss {loss.item():9.4f}   y = {a:.4f} + {b:.4f} x + {c:.4f} x^2 + {d:.4f} x^3")


def with_tensors(steps: int, rate: float = 1e-6) -> None:
    """The gradient written by hand, with the chain rule."""
    a, b, c, d = start.clone()
    for _ in range(steps):
        error = a + b * x + c * x**2 + d * x**3 - y
        slope = 2 * error  # the derivative of the squared error by the prediction
        a = a - rate * slope.sum()
        b = b - rate * (slope * x).sum()
        c = c - rate * (slope * x**2).sum()
        d = d - rate * (slope * x**3).sum()
    report("tensors alone", error.square().sum(), torch.stack([a, b, c, d]))


def with_autograd(steps: int, rate: float = 1e-6) -> None:
    """The gradient from backward(), the step by hand."""
    w = start.clone().requires_grad_()
    for _ in range(steps):
        loss = (w[0] + w[1] * x + w[2] * x**2 + w[3] * x**3 - y).square().sum()
        loss.backward()
        with torch.no_grad():
            w -= rate * w.grad
            w.grad = None
    report("autograd", loss, w.detach())


def with_nn(steps: int) -> None:
    """A linear layer on the powers of x, and an optimiser from torch.optim."""
    powers = x.unsqueeze(-1).pow(torch.tensor([1, 2, 3]))
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0, 1))
    with torch.no_grad():
        model[0].bias.copy_(start[:1])
        model[0].weight.copy_(start[1:].unsqueeze(0))
    criterion = nn.MSELoss(reduction="sum")
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = criterion(model(powers), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    report("nn and optim", loss, torch.cat([model[0].bias, model[0].weight[0]]).detach())


class Polynomial(nn.Module):
    """A module of one's own: parameters made here are found by the optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(start.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c, d = self.coefficients
        return a + x * (b + x * (c + x * d))


def with_module(steps: int) -> None:
    model = Polynomial()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    for _ in range(steps):
        loss = nn.functional.mse_loss(model(x), y, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    report("a module of one's own", loss, model.coefficients.detach())


class Legendre3(torch.autograd.Function):
    """The Legendre polynomial P3(x) = (5 x^3 - 3 x) / 2, with a derivative that we give ourselves."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return 0.5 * (5 * x**3 - 3 * x)

    @staticmethod
    def backward(ctx, grad_output: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grad_output * 1.5 * (5 * x**2 - 1)


def with_function(steps: int, rate: float = 5e-6) -> None:
    """y = a + b P3(c + d x), through the custom Function."""
    a, b, c, d = (torch.tensor(v, requires_grad=True) for v in (0.0, -1.0, 0.0, 0.3))
    for _ in range(steps):
        loss = (a + b * Legendre3.apply(c + d * x) - y).square().sum()
        loss.backward()
        with torch.no_grad():
            for w in (a, b, c, d):
                w -= rate * w.grad
                w.grad = None
    print(f"{'a custom autograd.Function':32s} loss {loss.item():9.4f}   "
          f"y = {a.item():.4f} + {b.item():.4f} P3({c.item():.4f} + {d.item():.4f} x)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    for way in (with_tensors, with_autograd, with_nn, with_module, with_function):
        way(options.steps)
