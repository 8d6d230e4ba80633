"""Quantiles, histograms, covariances, and differences and sums along a dimension read as samples of a function."""

from __future__ import annotations

import math

import numpy as np

from ..base import dtype as dt
from . import pointwise as pw
from .casts import FULL_ON_CPU
from .comparison import logical_xor
from .extern import host_op, run
from .joining import cat
from .parts import complex_, conj_, imag_, real_
from .recall import warn
from .record import by_lane, core, normalize_dim, normalize_dims, operator
from .reduction import histogram_t, histogramdd_t
from .sorting import sort

Tensor = "Tensor"


# -- quantiles --------------------------------------------------------------------------------------------------

_ROUNDINGS = {"linear": None, "midpoint": None, "lower": "floor", "higher": "ceil", "nearest": "round"}


def _quantile(name, input, q, dim, keepdim, interpolation, skip_nan):
    if interpolation not in _ROUNDINGS:
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}")
    if not input.numel():
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if input.dtype not in (dt.float32, dt.float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype; received {input.dtype}")
    if not isinstance(q, core.Tensor):
        q = core.tensor(float(q), dtype=input.dtype)
    if q.dtype is not input.dtype or q.dim() > 1:
        raise RuntimeError(
            f"{name}() q must be a scalar or 1D tensor of the same dtype as the input tensor, {input.dtype}; received {q.dtype} of "
            f"{q.dim()} dimensions"
        )
    if q.numel() and not 0 <= float(q.detach().min()) <= float(q.detach().max()) <= 1:
        raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    rank = input.dim()
    d = 0 if dim is None else normalize_dim(name, dim, rank)
    rows = input.reshape(-1) if dim is None or not rank else input.movedim(d, -1)
    rows = sort(rows, -1)[0]
    out = _between(rows, q.reshape(-1), interpolation, skip_nan)        # (..., count of q)
    if keepdim and rank:
        out = out.reshape((1,) * rank + (-1,)) if dim is None else out.unsqueeze(d)
    return out.movedim(-1, 0) if q.dim() else out.squeeze(-1)


def _between(rows, q, interpolation, skip_nan):
    """The values at fractional ranks of sorted rows, NaN last."""
    last = rows.shape[-1] - 1
    if skip_nan:
        place = pw.clamp_min(q * ((~rows.isnan()).sum(-1, True) - 1), 0)
    else:
        place = pw.where(rows.narrow(-1, last, 1).isnan(), float(last), q * last)
    if _ROUNDINGS[interpolation]:
        return rows.gather(-1, getattr(place, _ROUNDINGS[interpolation])().long())
    low = place.floor()
    below, above = rows.gather(-1, low.long()), rows.gather(-1, place.ceil().long())
    return pw.lerp(below, above, 0.5 if interpolation == "midpoint" else place - low)


@operator(autocast=FULL_ON_CPU, out="exact", samples=lambda t: [t(4, 3), t(2), 0])
def quantile(input: Tensor, q: Tensor, dim=None, keepdim=False, *, interpolation="linear") -> Tensor:
    """The q-th quantiles (0 to 1) along `dim`, between two values by `interpolation`. Several q make a first dimension."""
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@operator(autocast=FULL_ON_CPU, out="exact", samples=lambda t: [t(4, 3), t(2), 0])
def nanquantile(input: Tensor, q: Tensor, dim=None, keepdim=False, *, interpolation="linear") -> Tensor:
    """`quantile` of the elements that are not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


# -- counting ---------------------------------------------------------------------------------------------------

@operator(out=False, samples=lambda t: [t.integers(6), t.fixed(6)])
def bincount(input: Tensor, weights=None, minlength: int = 0) -> Tensor:
    """How often each non-negative integer occurs, or the sum of its weights."""
    if input.dim() != 1 or input.dtype.kind not in "iu":
        raise RuntimeError(f"bincount only supports 1-d non-negative integral inputs; received {input.dtype} of shape {list(input.shape)}")
    if minlength < 0:
        raise RuntimeError(f"minlength should be >= 0; received {minlength}")
    if weights is not None:
        core.together("bincount", (input, weights))
    x = core.host(input)
    if x.size and x.min() < 0:
        raise RuntimeError(f"bincount only supports 1-d non-negative integral inputs; received {x.min()}")
    if weights is not None and weights.shape != input.shape:
        raise RuntimeError(f"weights should be 1-d and have the same length as input; received shape {list(weights.shape)}")
    counts = np.bincount(x, None if weights is None else core.host(weights.detach()), minlength)
    d = dt.int64 if weights is None else weights.dtype if weights.dtype is dt.float32 else dt.float64
    return core.from_numpy(counts).to(d)


def _histc_host(x, bins, low, high):
    return (np.histogram(x, bins, (low, high))[0],)


HISTC = host_op("histc", _histc_host)


def _limits(name, x, low, high, margin):
    """The range of a histogram; that of the data where none is given, with a margin if that is a point."""
    if low == high and x.numel():
        low, high = (float(v) for v in (x.detach().min(), x.detach().max()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"{name}: range of [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError(f"{name}: expected max to be at least min; received min {low} and max {high}. (max must be larger than min)")
    return (low - margin, high + margin) if low == high else (low, high)


@operator(samples=lambda t: [t.fixed(3, 4), 4])
def histc(input: Tensor, bins=100, min=0, max=0) -> Tensor:
    """How many elements fall into each of `bins` equal intervals from `min` to `max` (those of the input where both are equal)."""
    if bins <= 0:
        raise RuntimeError(f"bins must be > 0, but got {bins}")
    return _histc(input, bins, float(min), float(max))


@by_lane
def _histc(input, bins, low, high):
    low, high = _limits("histc", input, low, high, 1.0)
    return run(HISTC, (input.reshape(-1),), [((bins,), input.dtype)], bins=bins, low=low, high=high)[0]


def _histogram(points, edges, weight, density, dtype):
    """The counts of points (n, k) in boxes between `edges`, k vectors; the last box of a dimension has both its ends."""
    shape = tuple(len(e) - 1 for e in edges)
    inside = np.ones(len(points), bool)
    places = []
    for x, e in zip(points.T, edges):
        inside &= (x >= e[0]) & (x <= e[-1])
        places.append(np.minimum(np.searchsorted(e, x, "right") - 1, len(e) - 2))
    weights = None if weight is None else core.host(weight.detach()).reshape(-1)[inside]
    flat = np.ravel_multi_index([p[inside] for p in places], shape)
    counts = np.bincount(flat, weights, minlength=math.prod(shape)).reshape(shape).astype(np.float64)
    if density:
        counts /= counts.sum() or math.nan
        for i, e in enumerate(edges):
            counts /= np.diff(e).reshape((-1,) + (1,) * (len(edges) - 1 - i))
    return core.from_numpy(counts).to(dtype)


def _edges(name, column, bins, low, high):
    low, high = _limits(name, column, low, high, 0.5)
    return core.from_numpy(np.linspace(low, high, bins + 1)).to(column.dtype)


@operator(samples=lambda t: [t.fixed(3, 4), 4])
def histogram(input: Tensor, bins, *, range=None, weight=None, density=False):
    """(counts, edges) of intervals: `bins` equal ones over `range`, or between given edges. Counts are sums of weights, or densities."""
    return _histogram_of(input, bins, range, weight, density)


@by_lane
def _histogram_of(input, bins, range, weight, density):
    if isinstance(bins, core.Tensor):
        edges = bins.clone()
    else:
        edges = _edges("histogram", input, bins, *(float(v) for v in (range or (0, 0))))
    points = core.host(input.detach()).reshape(-1, 1)
    return histogram_t(_histogram(points, [core.host(edges)], weight, density, input.dtype), edges)


@operator(out=False, method=False, samples=lambda t: [t.fixed(5, 2), [2, 3]])
def histogramdd(input: Tensor, bins, *, range=None, weight=None, density=False):
    """(counts, list of edges) of points (..., k) in k-dimensional boxes; see `histogram`."""
    return _histogramdd_of(input, bins, range, weight, density)


@by_lane
def _histogramdd_of(input, bins, range, weight, density):
    k = input.shape[-1]
    bins = [bins] * k if isinstance(bins, int) else list(bins)
    if len(bins) != k:
        raise RuntimeError(
            f"histogramdd: The size of bins must be equal to the innermost dimension of the input: expected {k}; received {len(bins)}"
        )
    limits = range or (0, 0) * k
    columns = input.reshape(-1, k)
    edges = [
        b if isinstance(b, core.Tensor) else _edges("histogramdd", columns.select(1, i), b, float(limits[2 * i]), float(limits[2 * i + 1]))
        for i, b in enumerate(bins)
    ]
    counts = _histogram(core.host(columns.detach()), [core.host(e) for e in edges], weight, density, input.dtype)
    return histogramdd_t(counts, tuple(edges))


# -- covariance -------------------------------------------------------------------------------------------------

def _frequency(name, w, count, kinds, kind_text):
    if w.dim() > 1:
        raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {w.dim()} dimensions")
    if w.dtype.kind not in kinds:
        raise RuntimeError(f"cov(): expected {name} to have {kind_text} dtype but got {name} with {w.dtype} dtype")
    if w.numel() != count:
        raise RuntimeError(
            f"cov(): expected {name} to have the same numel as there are observations in the input but got {w.numel()} != {count}"
        )
    if bool((w < 0).any()):
        raise RuntimeError(f"cov(): {name} cannot be negative")
    return w


@operator(autocast="parts", out=False, samples=lambda t: [t(3, 4), dict(aweights=t(4))])
def cov(input: Tensor, *, correction=1, fweights=None, aweights: Tensor = None) -> Tensor:
    """The covariance matrix of variables in rows, observations in columns, each counted `fweights` times and weighted by `aweights`."""
    if input.dim() > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.dim()} dimensions")
    if input.dtype is dt.bool_:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input.reshape(1, -1) if input.dim() < 2 else input
    count = x.shape[1]
    w = None
    if fweights is not None:
        w = _frequency("fweights", fweights, count, "iu", "integral")
    if aweights is not None:
        a = _frequency("aweights", aweights, count, "f", "floating point")
        w = a if w is None else w * a
    total = count if w is None else w.sum()
    centred = x - (x.sum(1, True) / count if w is None else (x * w).sum(1, True) / total)
    if w is None or aweights is None or not correction:
        norm = total - correction
    else:
        norm = total - correction * (w * aweights).sum() / total
    if w is None and norm <= 0:
        warn("cov(): degrees of freedom is <= 0. Correction should be strictly less than the number of observations.")
    norm = max(norm, 0) if w is None else pw.clamp_min(norm, 0)
    weighted = centred if w is None else centred * w
    out = pw.div(weighted @ conj_(centred).t(), norm)
    return out.squeeze()


@operator(autocast="parts", out=False)
def corrcoef(input: Tensor) -> Tensor:
    """The matrix of Pearson's correlation coefficients of variables in rows, observations in columns."""
    if input.dim() > 2:
        raise RuntimeError(f"corrcoef(): expected input to have two or fewer dimensions but got an input with {input.dim()} dimensions")
    c = cov(input)
    if not c.dim():
        return c / c
    deviation = pw.sqrt(c.diagonal())
    if c.dtype.kind == "c":
        deviation = real_(deviation)
    r = c / deviation.unsqueeze(1) / deviation.unsqueeze(0)
    return complex_(pw.clamp(real_(r), -1, 1), pw.clamp(imag_(r), -1, 1)) if r.dtype.kind == "c" else pw.clamp(r, -1, 1)


# -- differences and areas --------------------------------------------------------------------------------------

@operator(samples=lambda t: [t(..., 5), 2])
def diff(input: Tensor, n=1, dim=-1, prepend: Tensor = None, append: Tensor = None) -> Tensor:
    """The differences of neighbours along `dim`, taken `n` times."""
    if not input.dim():
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    d = normalize_dim("diff", dim, input.dim())
    parts = [x for x in (prepend, input, append) if x is not None]
    x = cat(parts, d) if len(parts) > 1 else input
    for _ in range(min(n, x.shape[d])):
        a, b = x.narrow(d, 1, x.shape[d] - 1), x.narrow(d, 0, x.shape[d] - 1)
        x = logical_xor(a, b) if x.dtype is dt.bool_ else a - b
    return x if x is not input else x.clone()


def _spacings(spacing, dims, input):
    """For each dimension a number, or a vector of coordinates."""
    if isinstance(spacing, (list, tuple)):
        if len(spacing) != len(dims):
            raise RuntimeError(f"torch.gradient expected spacing to be unspecified, a scalar or a list of length {len(dims)} (one for each "
                               f"dimension), but got a list of length {len(spacing)}")
        for s, d in zip(spacing, dims):
            if isinstance(s, core.Tensor) and tuple(s.shape) != (input.shape[d],):
                raise RuntimeError(f"torch.gradient expected each spacing tensor to be a vector of the dimension's size, {input.shape[d]}; "
                                   f"received shape {list(s.shape)}")
        return list(spacing)
    return [1 if spacing is None else spacing] * len(dims)


@operator(out=False, method=False, samples=lambda t: [t(4, 3)])
def gradient(input: Tensor, *, spacing=1, dim=None, edge_order=1):
    """The derivative along each dimension by central differences, exact for polynomials of second degree inside; at the edges one-sided
    differences, exact for degree `edge_order` (1 or 2). `spacing`: of the samples, or their coordinates."""
    if input.dtype is dt.uint8:
        raise RuntimeError("torch.gradient does not support uint8 input. Convert it first: input.int()")
    if edge_order not in (1, 2):
        raise RuntimeError(f"torch.gradient only supports edge_order=1 and edge_order=2; received {edge_order}.")
    listed = isinstance(spacing, (list, tuple))
    dims = normalize_dims(
        "gradient", dim if dim is not None else tuple(range(len(spacing))) if listed and len(spacing) < input.dim() else None, input.dim()
    )
    for d in dims:
        if input.shape[d] < edge_order + 1:
            raise RuntimeError(f"torch.gradient expected each dimension size to be at least edge_order+1; received {input.shape[d]}")
    return tuple([_slope(input, d, s, edge_order) for d, s in zip(dims, _spacings(spacing, dims, input))])


def _slope(x, d, spacing, edge_order):
    n = x.shape[d]

    def at(i, count=1):
        return x.narrow(d, i if i >= 0 else n + i, count)
    steps = None
    if isinstance(spacing, core.Tensor):
        steps = diff(spacing).reshape((-1,) + (1,) * (x.dim() - 1 - d))

    def step(i):
        return spacing if steps is None else steps.narrow(0, i if i >= 0 else n - 1 + i, 1)
    if steps is None:
        inside = (at(2, n - 2) - at(0, n - 2)) / (2 * spacing)
    else:
        a, b = steps.narrow(0, 0, n - 2), steps.narrow(0, 1, n - 2)
        inside = -b / (a * (a + b)) * at(0, n - 2) + (b - a) / (a * b) * at(1, n - 2) + a / (b * (a + b)) * at(2, n - 2)
    if edge_order == 1:
        first, last = (at(1) - at(0)) / step(0), (at(-1) - at(-2)) / step(-1)
    elif steps is None:
        first = (at(0) * -1.5 + at(1) * 2 - at(2) * 0.5) / spacing
        last = (at(-3) * 0.5 - at(-2) * 2 + at(-1) * 1.5) / spacing
    else:
        (a, b, c), (z, y, w) = _edge(step(0), step(1)), _edge(step(-1), step(-2))
        first, last = a * at(0) + b * at(1) + c * at(2), -(w * at(-3) + y * at(-2) + z * at(-1))
    return cat([first, inside, last], d)


def _edge(a, b):
    """Weights of three samples, a and b apart, for the derivative at the first of the parabola through them."""
    return -(2 * a + b) / (a * (a + b)), (a + b) / (a * b), -a / (b * (a + b))


def _trapezoids(name, y, x, dx, dim):
    """Twice the areas of the trapezoids between neighbours along `dim`."""
    if x is not None and dx is not None:
        raise RuntimeError(f"{name}: expected either x or dx; received both")
    d = normalize_dim(name, dim, y.dim())
    n = y.shape[d]
    if not n:
        return y, d
    heights = y.narrow(d, 0, n - 1) + y.narrow(d, 1, n - 1)
    if x is None:
        return heights * (1 if dx is None else dx), d
    if x.dim() == 1 and x.shape[0] != n:
        raise RuntimeError(f"{name}(): There must be one `x` value for each sample point: expected {n}; received {x.shape[0]}")
    widths = diff(x).reshape((-1,) + (1,) * (y.dim() - 1 - d)) if x.dim() == 1 else diff(x, 1, dim if x.dim() == y.dim() else dim)
    return widths * heights, d


@operator(autocast="parts", out=False, method=False, samples=(lambda t: [t(..., 4), t(..., 4)], lambda t: [t(..., 4), dict(dx=0.5)]))
def trapezoid(y: Tensor, x: Tensor = None, *, dx=None, dim=-1) -> Tensor:
    """The integral along `dim` by the trapezoidal rule; samples are `dx` (1) apart or at `x`."""
    areas, d = _trapezoids("trapezoid", y, x, dx, dim)
    return areas.sum(d) / 2.0


@operator(autocast="parts", out=False, method=False, samples=(lambda t: [t(..., 4), t(..., 4)], lambda t: [t(..., 4), dict(dx=0.5)]))
def cumulative_trapezoid(y: Tensor, x: Tensor = None, *, dx=None, dim=-1) -> Tensor:
    """The running integral along `dim` by the trapezoidal rule."""
    areas, d = _trapezoids("cumulative_trapezoid", y, x, dx, dim)
    return areas.cumsum(d) / 2.0


@operator(out=False, method=False, name="trapz", samples=(lambda t: [t(..., 4), t(..., 4)], lambda t: [t(..., 4), dict(dx=0.5)]))
def trapz(y: Tensor, x: Tensor = None, *, dx=None, dim=-1) -> Tensor:
    """`trapezoid` by its older name."""
    return trapezoid(y, x, dx=dx, dim=dim)


# -- segments ---------------------------------------------------------------------------------------------------

_SEGMENTS = {"sum": ("sum", 0.0), "mean": ("sum", 0.0), "prod": ("prod", 1.0), "max": ("amax", -math.inf), "min": ("amin", math.inf)}


def _segment_places(data, lengths, axis, unsafe):
    """The number of its segment for each position along `axis`, as an index of the data's shape."""
    counts = core.host(lengths)
    rows = counts.reshape(-1, counts.shape[-1])
    if not unsafe and ((rows < 0).any() or (rows.sum(1) != data.shape[axis]).any()):
        raise RuntimeError(
            f"segment_reduce(): Expected all rows of lengths along axis to sum to data.size(lengths.dim()-1), {data.shape[axis]}, and "
            "to be non-negative"
        )
    places = np.stack([np.repeat(np.arange(len(row)), row) for row in rows]).reshape(counts.shape[:-1] + (-1,))
    return core.from_numpy(places).reshape(tuple(places.shape) + (1,) * (data.dim() - axis - 1)).expand(data.shape)


@operator(method=False, out=False, samples=lambda t: [t(5, 2), "mean", dict(lengths=t.of([2, 3]))])
def segment_reduce(data: Tensor, reduce, *, lengths=None, indices=None, offsets=None, axis=0, unsafe=False, initial=None) -> Tensor:
    """Consecutive segments along `axis` reduced by "sum", "mean", "prod", "max" or "min": of the given lengths, or between offsets.
    `initial` goes into every segment; an empty one gives it, or else the neutral element (of "mean" NaN)."""
    if reduce not in _SEGMENTS:
        raise RuntimeError(f"segment_reduce(): expected reduce to be one of {', '.join(_SEGMENTS)}; received {reduce!r}")
    if (lengths is None) == (offsets is None):
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined, and not both. (indices are not supported)")
    if lengths is None:
        lengths = diff(offsets)
    axis = normalize_dim("segment_reduce", axis, data.dim())
    name, neutral = _SEGMENTS[reduce]
    count = lengths.shape[-1]
    shape = tuple(data.shape[:axis]) + (count,) + tuple(data.shape[axis + 1:])
    start = core.full(shape, neutral if initial is None else float(initial), data.dtype, data._meta.device)
    out = start.scatter_reduce(axis, _segment_places(data, lengths, axis, unsafe), data, name)
    if reduce != "mean":
        return out
    size = lengths.reshape(tuple(lengths.shape) + (1,) * (data.dim() - axis - 1)).to(data.dtype)
    empty = math.nan if initial is None else float(initial)
    return pw.where(size == 0, empty, out / pw.clamp_min(size, 1))
