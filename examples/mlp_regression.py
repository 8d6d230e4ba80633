"""A small network on many rows: MLP(10, 100, 1), 2,000,000 random rows, mean squared error, Adam.

    python examples/mlp_regression.py --steps 20

All rows make one batch, so a step is a few large matrix products between very long and very narrow matrices: how fast
it goes depends on how often the 800 MB of hidden activations travel between the processor and memory.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, default=2_000_000)
parser.add_argument("--steps", type=int, default=10)
options = parser.parse_args()

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)


class MLP(nn.Module):
    """inputs -> hidden -> outputs, with a ReLU between."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.hidden(x)))


model = MLP(10, 100, 1).to(device)
x = torch.rand(options.rows, 10, device=device)
y = torch.rand(options.rows, 1, device=device)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
print(model)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {options.rows:,} rows, on {device}")

times = []
for step in range(1, options.steps + 1):
    begin = time.perf_counter()
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    value = loss.item()  # waits until the step is done
    times.append(time.perf_counter() - begin)
    print(f"step {step:3d}  loss {value:.6f}  {times[-1] * 1e3:8.1f} ms", flush=True)

later = sorted(times[1:] or times)
print(f"first step {times[0]:.2f} s, then {later[len(later) // 2] * 1e3:.1f} ms a step (median), "
      f"{options.rows / later[len(later) // 2]:,.0f} rows/s")
