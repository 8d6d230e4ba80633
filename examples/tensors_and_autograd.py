"""Tensors and autograd: what every other example stands on.

    python examples/tensors_and_autograd.py
"""

from __future__ import annotations

import numpy as np
import torch


def title(text: str) -> None:
    print(f"\n--- {text}")


title("creation and dtype")
a = torch.tensor([[1, 2, 3], [4, 5, 6]])
print(a, a.dtype, a.shape)
print(torch.zeros(2, 3), torch.ones_like(a), torch.arange(0, 1, 0.25), torch.linspace(0, 1, 5), torch.eye(2), sep="\n")
print("integers divide to floats:", (a / 2).dtype, "and an integer plus a float is", (a + 0.5).dtype)

title("views share memory with what they look at")
b = torch.arange(6)
grid = b.view(2, 3)
grid[0, 1] = 100
print("b after grid[0, 1] = 100:", b)
columns = grid.t()
print("the transpose has strides", columns.stride(), "contiguous:", columns.is_contiguous())
print("every second element:", b[::2], "where larger than 3:", b[b > 3])

title("broadcasting: a missing dimension, or one of size 1, is stretched")
row, column = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[10.0], [20.0]])
print(row + column)

title("matmul, against NumPy")
torch.manual_seed(0)
x, y = torch.randn(64, 32), torch.randn(32, 16)
difference = np.abs((x @ y).numpy() - x.numpy() @ y.numpy()).max()
print("random numbers are PyTorch's for the same seed:", x[0, :3])
print("close to NumPy's product:", bool(difference < 1e-4))

title("the derivative of x cubed at 2 is 3 * 2 ** 2")
x = torch.tensor([2.0], requires_grad=True)
(x**3).backward()
print(x.grad)

title("gradients add up until they are set to zero")
(x**3).backward()
print("after a second backward, forgetting to zero:", x.grad)
x.grad.zero_()
(x**3).backward()
print("after zero_():", x.grad)

title("the graph is freed by backward")
x.grad = None
y = (x * x).exp()
y.backward()
try:
    y.backward()
except RuntimeError as error:
    print("RuntimeError:", str(error).partition("(")[0].strip())
x.grad = None
y = (x * x).exp()
y.backward(retain_graph=True)
once = x.grad.clone()
y.backward()
print("with retain_graph=True the second adds the same again:", torch.equal(x.grad, 2 * once))

title("a derivative of a derivative")
x = torch.tensor(0.5, requires_grad=True)
(first,) = torch.autograd.grad(torch.sin(x), x, create_graph=True)
(second,) = torch.autograd.grad(first, x)
print(f"sin' = {first.item():.6f} = cos; sin'' = {second.item():.6f} = -sin")

title("without recording")
with torch.no_grad():
    print("in no_grad:", (x * 2).requires_grad, "; detached:", (x * 2).detach().requires_grad)
