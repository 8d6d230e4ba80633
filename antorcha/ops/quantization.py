"""Numbers on a grid of few integers: value = (q - zero_point) * scale.

After B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018). Tensors
that keep the integers are in `core.quantized`; here is what is computed, in floating point, of which the integers come out exact.
"""

from __future__ import annotations

from ..base import dtype as dt
from .casts import FULL_ON_CPU
from .comparison import round_
from .pointwise import clamp, maximum, reciprocal, where
from .record import check_tensor, core, operator

Tensor = "Tensor"
LEAST_SCALE = 6.1e-5        # a smaller scale has a reciprocal that float16 cannot hold


def grid(x, scale, zero_point):
    """Where each element of a float32 tensor lies on the grid, rounded but not limited. `scale`, `zero_point`: numbers or tensors."""
    if isinstance(scale, core.Tensor):
        steps = reciprocal(scale.to(dt.float32))
    else:
        steps = dt.float32.round(1.0 / dt.float32.round(scale))
    return round_(x * steps) + (zero_point.to(dt.float32) if isinstance(zero_point, core.Tensor) else float(zero_point))


def chosen(low, high, least: int, most: int):
    """(scale, zero point), tensors of float64 and float32, of the grid from `least` to `most` that covers [low, high] and has 0 on it."""
    low, high = (x.to(dt.float64) for x in (clamp(low, max=0.0), clamp(high, min=0.0)))
    scale = (high - low) / (most - least)
    scale = where(scale == 0, 0.1, scale)
    from_low, from_high = least - low / scale, most - high / scale
    better_low = abs(least) - low / scale < abs(most) + high / scale
    zero_point = round_(clamp(where(better_low, from_low, from_high), least, most))
    return maximum(scale, scale.new_full((), LEAST_SCALE)), zero_point.to(dt.float32)


def _limits(what: str, zero_point, quant_min: int, quant_max: int) -> None:
    if quant_min > quant_max:
        raise RuntimeError(f"{what}: expected quant_min <= quant_max; received {quant_min} and {quant_max}")
    if not isinstance(zero_point, core.Tensor) and not quant_min <= zero_point <= quant_max:
        raise RuntimeError(f"{what}: `zero_point` must be between `quant_min` and `quant_max`; received {zero_point}, not in "
                           f"[{quant_min}, {quant_max}]")


def _passing(g, input, scale, zero_point, quant_min, quant_max):
    """The cotangent, where the element is within the grid: the straight-through estimator of Bengio et al. (2013)."""
    q = grid(input.to(dt.float32), scale, zero_point)
    return where((q >= quant_min) & (q <= quant_max), g, 0.0)


def _faked(input, scale, zero_point, quant_min, quant_max):
    q = clamp(grid(input.to(dt.float32), scale, zero_point), quant_min, quant_max)
    return ((q - zero_point) * scale).to(input.dtype)


_ROUNDED = dict(input=lambda g, input, scale, zero_point, quant_min, quant_max: _passing(g, input, scale, zero_point, quant_min, quant_max))


@operator(autocast=FULL_ON_CPU, grad=_ROUNDED, surrogate=True, out=False, method=False,
          samples=lambda t: [t(3, 4, low=-1, high=1), 0.1, 2, 0, 9])
def fake_quantize_per_tensor_affine(input: Tensor, scale, zero_point, quant_min, quant_max) -> Tensor:
    """Every element moved to the grid (q - zero_point) * scale with integers q from `quant_min` to `quant_max`, what lies beyond to its
    ends. The derivative is 1 within the grid and 0 beyond. `scale` and `zero_point`: numbers, or tensors of one element."""
    check_tensor("fake_quantize_per_tensor_affine", "input", input)
    _limits("fake_quantize_per_tensor_affine", zero_point, quant_min, quant_max)
    scale, zero_point = (x.reshape(()) if isinstance(x, core.Tensor) else x for x in (scale, zero_point))
    return _faked(input, scale, zero_point, quant_min, quant_max)


@operator(grad=dict(input=lambda g, input, scale, zero_point, axis, quant_min, quant_max: _passing(
    g, input, along(input, scale, axis), along(input, zero_point, axis), quant_min, quant_max)), surrogate=True, out=False, method=False,
    samples=lambda t: [t(3, 4, low=-1, high=1), t.fixed(4).float(), t.integers(4).int(), 1, 0, 9])
def fake_quantize_per_channel_affine(input: Tensor, scale, zero_point, axis, quant_min, quant_max) -> Tensor:
    """`fake_quantize_per_tensor_affine` with a scale and a zero point for each index along dimension `axis`."""
    what = "fake_quantize_per_channel_affine"
    for place, (name, x) in enumerate(dict(input=input, scale=scale, zero_point=zero_point).items(), 1):
        check_tensor(what, name, x, place)
    _limits(what, zero_point, quant_min, quant_max)
    if scale.dim() != 1 or zero_point.shape != scale.shape:
        raise RuntimeError(f"{what}: expected scale and zero_point of one dimension and the same size; received {list(scale.shape)} and "
                           f"{list(zero_point.shape)}")
    if not 0 <= axis < input.dim():
        raise RuntimeError(f"{what}: `axis` must be between 0 and number of dimensions of input; received {axis} of {input.dim()}")
    if scale.shape[0] != input.shape[axis]:
        raise RuntimeError(f"{what}: expected one scale for each of {input.shape[axis]} along dimension {axis}; received {scale.shape[0]}")
    return _faked(input, along(input, scale, axis), along(input, zero_point, axis), quant_min, quant_max)


def along(x, values, axis: int):
    """One value for each index along `axis`, so that it broadcasts to `x`."""
    return values.reshape([-1 if d == axis else 1 for d in range(x.dim())])


__all__ = ["along", "chosen", "fake_quantize_per_channel_affine", "fake_quantize_per_tensor_affine", "grid"]
