"""torch.nn.grad: the derivatives of convolutions by their input and by their weight, given the cotangent of the result."""

from __future__ import annotations

import antorcha as torch

from ..ops import convolution


def _by_input(n: int):
    def by_input(input_size, weight, grad_output, stride=1, padding=0, dilation=1, groups=1):
        x = torch.zeros(tuple(input_size), dtype=weight.dtype, device=weight.device)
        return _pulled_back(n, x, weight.detach(), 0, grad_output, stride, padding, dilation, groups)
    by_input.__name__ = by_input.__qualname__ = f"conv{n}d_input"
    by_input.__doc__ = f"The derivative of `conv{n}d` by its input, of shape `input_size`."
    return by_input


def _by_weight(n: int):
    def by_weight(input, weight_size, grad_output, stride=1, padding=0, dilation=1, groups=1):
        weight = torch.zeros(tuple(weight_size), dtype=input.dtype, device=input.device)
        return _pulled_back(n, input.detach(), weight, 1, grad_output, stride, padding, dilation, groups)
    by_weight.__name__ = by_weight.__qualname__ = f"conv{n}d_weight"
    by_weight.__doc__ = f"The derivative of `conv{n}d` by its weight, of shape `weight_size`."
    return by_weight


def _pulled_back(n: int, x, weight, which: int, grad_output, *options):
    with torch.enable_grad():
        wanted = (x, weight)[which].requires_grad_()
        out = getattr(convolution, f"conv{n}d")(x, weight, None, *options)
        return torch.autograd.grad(out, wanted, grad_output)[0]


conv1d_input, conv2d_input, conv3d_input = map(_by_input, (1, 2, 3))
conv1d_weight, conv2d_weight, conv3d_weight = map(_by_weight, (1, 2, 3))

__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input", "conv3d_weight"]
