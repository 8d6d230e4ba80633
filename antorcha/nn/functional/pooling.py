"""Pooling: windows reduced to one element each."""

from __future__ import annotations

import math

from ...ops.record import core
from .convolution import _many, _windows
from .padding import pad


def _pool_windows(n, input, kernel_size, stride, padding, dilation, value, ceil_mode=False):
    size = _many(kernel_size, n)
    stride = size if stride is None or stride == () or stride == [] else _many(stride, n)
    padding, dilation = _many(padding, n), _many(dilation, n)
    for p, k in zip(padding, size):
        if p > k // 2:
            raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k}")
    amounts = [[p, p] for p in padding]
    if ceil_mode:
        for i in range(n):
            length = input.shape[i - n] + 2 * padding[i]
            reach = dilation[i] * (size[i] - 1) + 1
            count = -(-(length - reach) // stride[i]) + 1
            if (count - 1) * stride[i] >= length - padding[i]:
                count -= 1
            amounts[i][1] += max(0, (count - 1) * stride[i] + reach - length)
    flat = [a for pair in reversed(amounts) for a in pair]
    x = pad(input, flat, value=value) if any(flat) else input
    return _windows(x, size, stride, dilation).flatten(-n) if n > 1 else _windows(x, size, stride, dilation)


def _max_pool(n):
    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        if return_indices:
            raise NotImplementedError(f"max_pool{n}d: return_indices=True is missing in antorcha so far")
        return _pool_windows(n, input, kernel_size, stride, padding, dilation, -math.inf, ceil_mode).max(-1)[0]
    pool.__name__ = pool.__qualname__ = f"max_pool{n}d"
    pool.__doc__ = "The largest element of each window."
    return pool


def _avg_pool(n):
    def pool(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        w = _pool_windows(n, input, kernel_size, stride, padding, 1, 0.0, ceil_mode)
        if divisor_override:
            return w.sum(-1) / divisor_override
        if count_include_pad and not ceil_mode:
            return w.mean(-1)
        ones = core.full(tuple(input.shape), 1, input.dtype)
        return w.sum(-1) / _pool_windows(n, ones, kernel_size, stride, padding, 1, 0.0, ceil_mode).sum(-1)
    pool.__name__ = pool.__qualname__ = f"avg_pool{n}d"
    pool.__doc__ = "The mean of each window."
    return pool


max_pool1d, max_pool2d, max_pool3d = (_max_pool(n) for n in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (_avg_pool(n) for n in (1, 2, 3))


def _adaptive(n, reduce):
    def pool(input, output_size, *ignored):
        x = input
        for i, size in enumerate(_many(output_size, n)):
            d = input.dim() - n + i
            length = x.shape[d]
            size = length if size is None else size
            if length % size == 0:
                x = reduce(x.unflatten(d, (size, length // size)), d + 1)
            else:
                parts = [reduce(x.narrow(d, j * length // size, -(-(j + 1) * length // size) - j * length // size), d)
                         for j in range(size)]
                x = core.cat([p.unsqueeze(d) for p in parts], d)
        return x
    return pool


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive(n, lambda x, d: x.mean(d)) for n in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive(n, lambda x, d: x.amax(d)) for n in (1, 2, 3))
