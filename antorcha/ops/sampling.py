"""Tensors read at other places than those of their elements: interpolation to another size, and at the places of a grid."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from operator import add, mul

from ..base import dtype as dt
from ..base.errors import message
from ..graph.node import dense
from . import pointwise as pw
from . import resampling
from .casts import FULL_ON_GPU, autocast
from .derivative import titled
from .index import SURE_SCATTER, fold, pick, put
from .recall import warn_once
from .record import check_tensor, core, meta, operator, widened
from .resampling import resample
from .strides import keeping_format
from .windows import border

Tensor = "Tensor"
RANK = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}      # of the input, where a mode wants one
ROUNDED = ("linear", "bicubic", "trilinear")    # modes whose weights, of 16-bit floats, PyTorch keeps in 16 bits


# -- interpolation ----------------------------------------------------------------------------------------------

_UPSAMPLED = {"nearest": "UpsampleNearest", "nearest-exact": "UpsampleNearestExact", "linear": "UpsampleLinear", "area": "AdaptiveAvgPool",
              "bilinear": "UpsampleBilinear", "bicubic": "UpsampleBicubic", "trilinear": "UpsampleTrilinear"}


@keeping_format
@titled(lambda input, size=None, scale_factor=None, mode="nearest", *options, **given: f"{_UPSAMPLED[mode]}{input.dim() - 2}D")
def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False):
    """(N, C, *lengths) with its last one to three dimensions resampled to `size`, or to their lengths times `scale_factor`.

    Modes: "nearest", "nearest-exact", "linear" (3 dimensions), "bilinear" and "bicubic" (4), "trilinear" (5), "area" (means).
    `align_corners`: the first and last elements stay where they are; otherwise elements are areas, and the borders stay.
    `antialias` widens the kernels of "bilinear" and "bicubic" where elements are left out.
    """
    check_tensor("interpolate", "input", input)
    n = input.dim() - 2
    if mode in ("nearest", "nearest-exact", "area"):
        if align_corners is not None:
            raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear")
    elif align_corners is None:
        align_corners = False
    lengths = tuple(input.shape[2:])
    out, factors = _sizes(n, lengths, size, scale_factor)
    if recompute_scale_factor:
        if size is not None:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        factors = (None,) * n
    if antialias and (mode not in ("bilinear", "bicubic") or input.dim() != 4):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input")
    if mode not in ("nearest", "nearest-exact", "area") and mode not in RANK:
        raise NotImplementedError(message("interpolate", "mode nearest, nearest-exact, linear, bilinear, bicubic, trilinear or area",
                                          repr(mode)))
    if not 1 <= n <= 3 or RANK.get(mode, input.dim()) != input.dim():
        raise NotImplementedError(message("interpolate", f"an input of {RANK.get(mode, '3 to 5')} dimensions for mode {mode!r}",
                                          f"{input.dim()} dimensions, shape {list(input.shape)}"))
    if min(out) < (mode != "area") or 0 in input.shape[1:]:
        raise RuntimeError(message("interpolate", "input and output sizes greater than 0", f"input {list(lengths)}, output {list(out)}"))
    if mode == "area":
        from . import pooling
        return (pooling.adaptive_avg_pool1d, pooling.adaptive_avg_pool2d, pooling.adaptive_avg_pool3d)[n - 1](input, out)
    return interpolated(input, out, factors, mode, bool(align_corners), antialias)


def _sizes(n: int, lengths: tuple, size, scale_factor) -> tuple:
    """(output lengths, the scale factor of each or None)."""
    if (size is None) == (scale_factor is None):
        raise ValueError("only one of size or scale_factor should be defined" if size is not None
                         else "either size or scale_factor should be defined")
    given = size if size is not None else scale_factor
    given = tuple(given) if isinstance(given, (tuple, list)) else (given,) * n
    if len(given) != n:
        raise ValueError(message("interpolate", f"{'size' if size is not None else 'scale_factor'} for each of the {n} spatial "
                                 f"dimensions of input {list(lengths)}", f"{list(given)}",
                                 "Input and output must have the same number of spatial dimensions."))
    if size is not None:
        for s in given:
            if isinstance(s, float):
                raise TypeError(f"interpolate(): expected size to be one of int or tuple of ints; received {list(given)}")
        return tuple(int(s) for s in given), (None,) * n
    return tuple(math.floor(m * f) for m, f in zip(lengths, given)), tuple(float(f) for f in given)


@autocast(FULL_ON_GPU)
def interpolated(input, out: tuple, factors: tuple, mode: str, align_corners: bool, antialias: bool):
    d = input._meta.dtype
    rounded = d is dt.uint8 and "nearest" not in mode
    if d.kind != "f" and not rounded and not (d is dt.uint8 and "nearest" in mode):
        raise NotImplementedError(f"\"upsample_{mode}\" not implemented for '{d.name}': convert the input first: input.float()")
    fixed = d is dt.uint8 and mode in ("bilinear", "bicubic")
    x = widened(input) if "nearest" in mode else input.to(dt.int32 if fixed else dt.float32 if rounded else d.compute)
    nearest: list = [None] * len(out)
    for dim, (m, o, f) in reversed(list(enumerate(zip(input.shape[2:], out, factors), 2))):
        if align_corners:
            scale = (m - 1) / (o - 1) if o > 1 else 0.0
        else:
            scale = 1 / f if f else m / o
        if o == m and scale == 1:
            continue
        if "nearest" in mode:
            nearest[dim - 2] = resampling.nearest(m, o, scale, mode == "nearest-exact")
            continue
        taps = _taps(mode, m, o, scale, align_corners, antialias and (dt.float64 if fixed else x._meta.dtype).numpy.type)
        if fixed:
            taps, bits = resampling.fixed_point(taps)
            x = ((resample(x, dim, taps) + (1 << bits - 1)) >> bits).clamp(0, 255)
        else:
            narrow = mode in ROUNDED and d.compute is not d and not antialias
            x = resample(x, dim, resampling.rounded(taps, d) if narrow else taps)
    if any(nearest):
        x = resampling.resample_all(x, tuple(nearest))
    if fixed:
        return x.to(dt.uint8)
    if rounded:
        return x.round().clamp(0, 255).to(dt.uint8)
    return x.to(d) if x is not input else input.clone()


def _taps(mode: str, length: int, outputs: int, scale: float, align_corners: bool, antialias):
    if antialias:
        return resampling.antialiased(length, outputs, scale, align_corners, 2 if mode == "bicubic" else 1, antialias)
    if mode == "bicubic":
        return resampling.cubic(length, outputs, scale, align_corners)
    return resampling.linear(length, outputs, scale, align_corners)


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """The older name of `interpolate`."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """`interpolate` in the mode "nearest"."""
    warnings.warn("`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """`interpolate` in the mode "bilinear" with aligned corners."""
    warnings.warn("`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


# -- grids ------------------------------------------------------------------------------------------------------

def _told_corners(align_corners) -> None:
    if align_corners is None:
        warn_once("grid_sample and affine_grid: align_corners is False unless given (True before PyTorch 1.3.0). Pass the one you mean.")


@titled("AffineGridGenerator")
def affine_grid(theta, size, align_corners=None):
    """The grid (N, H, W, 2) or (N, D, H, W, 3) that `theta` (N, 2, 3) or (N, 3, 4) maps the places of an output of `size` to:
    coordinates from -1 to 1, x first, for `grid_sample`. Jaderberg et al., "Spatial Transformer Networks", 2015."""
    _told_corners(align_corners)
    check_tensor("affine_grid", "theta", theta)
    if theta._meta.dtype.kind != "f":
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(message("affine_grid", "size of 4 or 5 numbers, (N, C, H, W) or (N, C, D, H, W)", f"{list(size)}"))
    if theta.dim() != 3 or tuple(theta.shape) != (size[0], n, n + 1):
        raise ValueError(message("affine_grid", f"a batch of {n}D affine matrices of shape {size[0]}x{n}x{n + 1} for size {list(size)}",
                                 f"{list(theta.shape)}"))
    if min(size) <= 0:
        raise ValueError(message("affine_grid", "a non-zero, positive output size", f"{list(size)}"))
    lengths = tuple(int(m) for m in size[2:])
    d = theta._meta.dtype
    axes = []
    for i, m in reversed(list(enumerate(lengths))):
        place = core.arange(0, m, 1).to(d.compute)
        place = place * (2 / (m - 1) if m > 1 else 0.0) - (1 if m > 1 else 0) if align_corners else (place * 2 + 1) / m - 1
        axes.append(place.reshape((-1,) + (1,) * (n - 1 - i)).expand(lengths))
    base = core.stack([*axes, core.ones_like(axes[0])], -1).to(d).reshape(1, -1, n + 1).expand(size[0], math.prod(lengths), n + 1)
    return base.bmm(theta.transpose(1, 2)).reshape((size[0], *lengths, n))


def affine_grid_generator(theta, size, align_corners):
    """`affine_grid`."""
    return affine_grid(theta, size, align_corners)


INTERPOLATION = ("bilinear", "nearest", "bicubic")
PADDING = ("zeros", "border", "reflection")


@autocast({"cuda": "widest", "cpu": "full"})
@titled(lambda input, *arguments, **given: f"GridSampler{input.dim() - 2}D")
def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """`input` (N, C, H, W) or (N, C, D, H, W) at the places `grid` (N, ..., 2 or 3), whose coordinates run from -1 to 1, x first.

    Modes: "bilinear", "nearest", "bicubic" (4 dimensions only). Outside of the input: "zeros", "border" or "reflection".
    """
    _told_corners(align_corners)
    if mode not in INTERPOLATION:
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in PADDING:
        raise ValueError("nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
                         f"'{padding_mode}'")
    return _grid_sample(input, grid, mode, padding_mode, bool(align_corners))


@autocast({"cuda": "widest", "cpu": "full"})
def grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners):
    """`grid_sample` with the modes as numbers: 0 bilinear, 1 nearest, 2 bicubic; 0 zeros, 1 border, 2 reflection."""
    return _grid_sample(input, grid, INTERPOLATION[interpolation_mode], PADDING[padding_mode], align_corners)


grid_sampler_2d = grid_sampler_3d = grid_sampler


def _check_grid(input, grid, mode: str) -> int:
    check_tensor("grid_sample", "input", input)
    check_tensor("grid_sample", "grid", grid)
    shape, places = list(input.shape), list(grid.shape)
    if len(shape) not in (4, 5) or len(places) != len(shape):
        raise RuntimeError(message("grid_sample", "input and grid of 4 or 5 dimensions alike", f"input {shape}, grid {places}"))
    if input.dtype is not grid.dtype:
        raise RuntimeError(message("grid_sample", "input and grid to have same dtype", f"input {input.dtype}, grid {grid.dtype}"))
    n = len(shape) - 2
    if shape[0] != places[0]:
        raise RuntimeError(message("grid_sample", "grid and input to have same batch size", f"input {shape}, grid {places}"))
    if places[-1] != n:
        raise RuntimeError(message("grid_sample", f"grid to have size {n} in last dimension", f"grid {places}"))
    if 0 in shape[2:]:
        raise RuntimeError(message("grid_sample", "input to have non-empty spatial dimensions", f"input {shape}"))
    if mode == "bicubic" and n == 3:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    return n


def _grid_sample(input, grid, mode: str, padding_mode: str, align_corners: bool):
    n = _check_grid(input, grid, mode)
    lengths = tuple(input.shape[2:])
    out = tuple(input.shape[:2]) + tuple(grid.shape[1:-1])
    if 0 in out:
        return core.full(out, 0, input._meta.dtype)
    coordinates = []        # of each dimension of the input, outermost first: (N, 1, ...)
    for d, m in enumerate(lengths):
        c = grid.select(-1, n - 1 - d).unsqueeze(1)
        coordinates.append((c + 1) / 2 * (m - 1) if align_corners else ((c + 1) * m - 1) / 2)
    x = input
    if mode == "bicubic":
        return _bicubic(x, coordinates, lengths, out, padding_mode, align_corners).to(input.dtype)
    coordinates = [_inside(c, m, padding_mode, align_corners) for c, m in zip(coordinates, lengths)]
    if mode == "nearest":
        return _corner(x, [c.round() for c in coordinates], lengths, out).to(input.dtype)
    return sample_linear(x, coordinates, out)


def _corners(coordinates: list):
    """(places, weights by dimension) of the whole places around, the first dimension's next place last."""
    low = [c.detach().floor() for c in coordinates]
    parts = [c - f for c, f in zip(coordinates, low)]
    parts = [(1 - p, p) for p in parts]
    for bits in itertools.product((0, 1), repeat=len(low)):
        yield bits, [f + b for f, b in zip(low, bits)], [p[b] for p, b in zip(parts, bits)]


def _product(weights: list):
    """The last dimension's first, as in PyTorch: of 16-bit floats each product is rounded."""
    return functools.reduce(mul, reversed(weights))


@operator(name="grid_sample_linear", title="GridSampler", public=False, grad=dict(
    input=lambda g, input_shape, coordinates: _spread_corners(g, input_shape, coordinates),
    coordinates=lambda g, input, coordinates, shape: _slopes(g, input, coordinates, shape)))
def sample_linear(input: Tensor, coordinates: list[Tensor], shape):
    """The weighted means of the elements around the places `coordinates`, (N, 1, ...) of each dimension of the input."""
    lengths = tuple(input.shape[2:])
    return functools.reduce(add, (_corner(input, places, lengths, shape) * _product(weights)
                                            for _, places, weights in _corners(coordinates)))


LANES = 16      # points that PyTorch spreads at once: those of one corner, then those of the next


def _spread_corners(g, shape: tuple, coordinates: list):
    """The cotangents by the input. They are added up in PyTorch's order, which shows in 16 bits."""
    points, lanes = math.prod(g.shape[2:]), LANES if len(coordinates) == 2 else 1

    def grouped(x):
        """(N, 1 or C, groups, 1, lanes)."""
        x = border(x.reshape((*x.shape[:2], points)), 2, 0, -points % lanes)
        return x.unflatten(2, (-1, lanes)).unsqueeze(3)

    terms, indices = [], []
    for _, places, weights in _corners(coordinates):
        present, index = _located(places, shape[2:])
        terms.append(grouped(pw.where(present, _product(weights) * g, 0.0)))
        indices.append([grouped(i) for i in index])
    terms, indices = core.cat(terms, 3), [core.cat(list(of), 3) for of in zip(*indices)]
    zeros = core.zeros(meta(dense(shape), g._meta.dtype, g._meta.device))
    return put(zeros, terms, indices, tuple(terms.shape), _mapping(len(indices)), "sum", SURE_SCATTER)


def _slopes(g, input, coordinates: list, shape: tuple) -> list:
    """The cotangents by the coordinates: differences along each dimension, weighted by the others, summed over the channels. PyTorch adds
    up the 16-bit floats of each channel in 16 bits, and in three dimensions those of each corner, whatever the dtype."""
    corners, n = list(_corners(coordinates)), len(coordinates)
    values = {bits: _corner(input, places, tuple(input.shape[2:]), shape) for bits, places, _ in corners}
    found = []
    for d in range(n):
        if n == 3:
            terms = [_product([*weights[:d], *weights[d + 1:], values[bits]]) * (g if bits[d] else -g) for bits, _, weights in corners]
            found.append(fold(core.stack(terms, 2), (1, 2), "sum").squeeze(2))
            continue
        slope = functools.reduce(add, (
            (values[bits[:d] + (1,) + bits[d + 1:]] - values[bits]) * _product(weights[:d] + weights[d + 1:])
            for bits, _, weights in corners if not bits[d])) * g
        found.append(slope.sum(1, True) if g._meta.dtype.exact else fold(slope, (1,), "sum"))
    return found


def _located(places: list, lengths: tuple):
    """(where there is an element, its indices) of whole places given as floats."""
    present, index = None, []
    for c, m in zip(places, lengths):
        here = (c >= 0) & (c <= m - 1)
        present = here if present is None else present & here
        index.append(pw.where(here, c, 0.0).to(dt.int64))
    return present, index


def _mapping(n: int) -> tuple:
    return (("d", 0), ("d", 1), *(("i", d) for d in range(n)))


def _corner(x, places: list, lengths: tuple, out: tuple):
    """The elements at whole places (as floats), 0 where there are none."""
    present, index = _located(places, lengths)
    return pw.where(present, pick(x, index, out, _mapping(len(lengths))), 0.0)


def _inside(c, length: int, padding_mode: str, align_corners: bool):
    """Coordinates moved into the input: to its border or reflected there. At the border the derivative is 0."""
    if padding_mode == "zeros":
        return c
    if padding_mode == "reflection":
        c = _reflected(c, 0.0, length - 1.0) if align_corners else _reflected(c, -0.5, length - 0.5)
    return pw.where(c > 0, pw.where(c < length - 1, c, float(length - 1)), 0.0)


def _reflected(c, low: float, high: float):
    span = high - low
    if span == 0:
        return c * 0.0
    c = (c - low).abs()
    turns = (c.detach() / span).floor()
    extra = c - turns * span
    return pw.where(turns % 2 == 0, extra + low, high - extra)


def _cubic_weights(t) -> list:
    """Of the four neighbours, for the fraction t: cubic convolution with a = -3/4. Keys, 1981."""
    a = -0.75

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((x - 5) * x + 8) * x * a - 4 * a
    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _bicubic(x, coordinates: list, lengths: tuple, out: tuple, padding_mode: str, align_corners: bool):
    low = [c.detach().floor() for c in coordinates]
    rows, columns = (_cubic_weights(c - f) for c, f in zip(coordinates, low))
    total = None
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            places = [_inside(f + (k - 1), m, padding_mode, align_corners) for f, k, m in zip(low, (i, j), lengths)]
            term = _corner(x, places, lengths, out) * (row * column)
            total = term if total is None else total + term
    return total
