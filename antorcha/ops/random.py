"""Random tensors and in-place random fills, with PyTorch's signatures and (on the CPU) numbers.

The words of the CPU's generator are drawn at the call, in order; they are values in memory. What is made of them elementwise is recorded.
A GPU's generator records what is drawn (core/philox.py).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..base import dtype as dt
from ..base.formats import preserve_format
from ..graph import tape
from ..graph.node import MOST, dense, leaf, no_room, view
from ..runtime.void import Void
from . import factory
from .complex_numbers import view_as_complex
from .placement import device_name, place
from .record import by_lane, check_tensor, core, everywhere, meta, operator, whole
from .strides import of_copy, order

Tensor = "Tensor"
FEW = 64        # weights, which Python looks at in less time than NumPy takes to begin


class _Undrawn(np.lib.mixins.NDArrayOperatorsMixin):
    """Random numbers on the device "meta": none are drawn, whatever is asked for or done with them."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self

    def __array_ufunc__(self, *args, **kwargs):
        return self

    def below_leaf(self, n: int, threshold: int):
        return leaf(Void(n), n, dt.bool_)

    def tensor(self, shape):
        return factory.full_of(tuple(shape), 0, dt.float32, "meta")


def source(generator, device=None):
    """The generator to draw from: the given one or the default one of a device; within `vmap`, one that draws for all examples."""
    rng = generator
    if device == "meta":
        return _Undrawn()
    if rng is None:
        rng = core.default_generator if device in (None, "cpu") else core.generator_of(device)
    elif device is not None and rng.device.type != device.partition(":")[0]:
        raise RuntimeError(f"Expected a '{device.partition(':')[0]}' device type for generator but found '{rng.device.type}'. "
                           f"Make one there: torch.Generator(device='{device}').")
    if tape.state.watch is not None:
        return tape.state.watch.draws(rng)
    return rng if tape.state.vmap is None else tape.state.vmap.draws(rng)


def _numpy_float(d: dt.dtype):
    if d.kind != "f":
        raise NotImplementedError(f"random: expected a floating point dtype; received {d}. Draw floats and convert them.")
    return np.float64 if d is dt.float64 else np.float32


def _paired(parts, d: dt.dtype):
    """Complex numbers of their parts."""
    return view_as_complex(parts.reshape(-1, 2)) if isinstance(parts, core.Tensor) else parts.view(d.numpy)


def _uniforms(rng, n: int, d: dt.dtype, low=0.0, high=1.0):
    """Uniform numbers in [low, high); the parts of complex ones are drawn one after the other."""
    if d.kind == "c":
        return _paired(rng.uniform(2 * n, d.to_real().numpy, low, high), d)
    return rng.uniform(n, _numpy_float(d), low, high)


def _normals(rng, n: int, d: dt.dtype, mean=0.0, std=1.0):
    """Normal numbers; of complex ones each part has half the variance (and, as in PyTorch, the mean)."""
    if d.kind == "c":
        return _paired(rng.normal(2 * n, d.to_real().numpy, mean, std / 2 ** 0.5), d)
    return rng.normal(n, _numpy_float(d), mean, std)


@operator(name="drawn", public=False, grad=dict(first=lambda g: g * 0, second=lambda g: g * 0))
def _drawn(result, first: Tensor, second: Tensor = None):
    """A draw, whose derivative by the parameters it was drawn with is 0."""
    return result


def _tensor(array, shape, d: dt.dtype):
    if isinstance(array, core.Tensor):      # drawn on a GPU
        out = array.reshape(tuple(shape))
    else:
        out = core.from_numpy(array, shape) if type(array) is np.ndarray else array.tensor(shape)
    return out if out._meta.dtype is d else out.to(d)


def _count(shape) -> int:
    n = 1
    for s in shape:
        n *= s
    if n > MOST:
        no_room("random numbers", 4 * n, tuple(shape))
    return n


def _memory_order(t) -> list[int]:
    """The dimensions of `t`, the one with the longest steps in memory first: numbers are drawn in this order."""
    return list(order(t._meta.view) or range(t.dim()))


def _places(t):
    """The view that reads a dense value in the order in which `t` lies in memory."""
    strides, step = [0] * t.dim(), 1
    for d in reversed(_memory_order(t)):
        strides[d], step = step, step * t.shape[d]
    return view(tuple(t.shape), tuple(strides))


def mask(shape: tuple, p: float, generator=None, like=None):
    """A bool tensor, each element true with probability p.

    The draws go to the elements in the order in which `like`, a tensor of this shape, lies in memory."""
    places = dense(shape) if like is None or like.is_contiguous() else _places(like)
    device = None if like is None else like._meta.device
    threshold = int(np.ceil(p * 2.0 ** 53))
    node = source(generator, device).below_leaf(_count(shape), threshold)
    there = device if node.buffer is None and device not in (None, "cpu") else None      # drawn where it is needed
    drawn = core.tensor_on(core.Storage.of(node), meta(places, dt.bool_, there))
    return drawn if device is None else place(drawn, device)


def _finish(name, result, out, requires_grad, device=None, pin_memory=False):
    if out is not None:
        return core.store_out(name, out, result)
    if device is not None or result._meta.device is None:
        result = place(result, device_name(device))
    return factory.finish(result, requires_grad, pin_memory)


def rand(*size, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, names=None, **given):
    """Uniform numbers in [0, 1)."""
    device = device_name(device)
    shape, d = factory.new_size("rand", size, given), dt.asked("rand", dtype, dt.default())
    return _finish("rand", _tensor(_uniforms(source(generator, device), _count(shape), d), shape, d), out, requires_grad, device,
                   pin_memory)


def randn(*size, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, names=None,
          **given):
    """Normal numbers of mean 0 and variance 1."""
    device = device_name(device)
    shape, d = factory.new_size("randn", size, given), dt.asked("randn", dtype, dt.default())
    return _finish("randn", _tensor(_normals(source(generator, device), _count(shape), d), shape, d), out, requires_grad, device,
                   pin_memory)


def randint(*args, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, low=None,
            high=None, size=None):
    """Integers in [low, high)."""
    device = device_name(device)
    args = list(args)
    if size is None:
        size = args.pop()
    if len(args) == 2:
        low, high = args
    elif args:
        high, low = (args[0], low) if high is None else (high, args[0])
    low = 0 if low is None else low
    whole("randint", "low", low)
    whole("randint", "high", high)
    low, high = int(low), int(high)
    if high <= low:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    shape, d = factory.new_size("randint", (size,), {}), dt.asked("randint", dtype, dt.int64)
    _check_integers(d, low, high)
    drawn = _tensor(source(generator, device).integers(_count(shape), low, high), shape, d)
    return _finish("randint", drawn, out, requires_grad, device, pin_memory)


def randperm(n, *, generator=None, out=None, dtype=dt.int64, layout=None, device=None, requires_grad=False, pin_memory=False):
    """0 .. n-1 in a random order."""
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    device = device_name(device)
    return _finish("randperm", _tensor(source(generator, device).permutation(n), (n,), dtype), out, requires_grad, device, pin_memory)


def _like(name: str, input, dtype, device, requires_grad: bool, fmt, make, fill):
    """`make(**of)` with the shape of `input`; where it is to lie otherwise in memory, an empty tensor that `fill` fills."""
    check_tensor(name, "input", input, 1)
    shape = input._meta.view.shape
    wanted = of_copy(name, input._meta.view, fmt or preserve_format)
    of = dict(dtype=dt.asked(name, dtype, input.dtype), device=device or input.device)
    if wanted is dense(shape):
        return make(size=shape, requires_grad=requires_grad, **of)
    return factory.finish(fill(factory.empty_like(input, memory_format=fmt, **of)), requires_grad)


def rand_like(input, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=preserve_format):
    """`rand` with the shape and dtype of `input`."""
    return _like("rand_like", input, dtype, device, requires_grad, memory_format, rand, uniform_)


def randn_like(input, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=preserve_format):
    """`randn` with the shape and dtype of `input`."""
    return _like("randn_like", input, dtype, device, requires_grad, memory_format, randn, normal_)


def randint_like(input, low=0, high=None, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=preserve_format):
    """`randint` with the shape and dtype of `input`."""
    low, high = (0, low) if high is None else (low, high)
    return _like("randint_like", input, dtype, device, requires_grad, memory_format, partial(randint, low=low, high=high),
                 lambda t: random_(t, low, high))


def normal(mean, std=None, size=None, *, generator=None, out=None, dtype=None, device=None, requires_grad=False, layout=None,
           pin_memory=False):
    """Normal numbers with the given means and standard deviations (tensors or numbers)."""
    std = 1.0 if std is None else std
    if size is not None:
        if not isinstance(std, core.Tensor) and std < 0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
        d = dt.asked("normal", dtype, dt.default())
        x = _normals(source(generator, device_name(device)), _count(size), d, mean, std)
        return _finish("normal", _tensor(x, tuple(size), d), out, requires_grad, device, pin_memory)
    given = [v if isinstance(v, core.Tensor) else None for v in (mean, std)]
    mean, std = (v.detach() if isinstance(v, core.Tensor) else v for v in (mean, std))
    if isinstance(std, core.Tensor) and std.is_complex():
        raise RuntimeError("normal expects standard deviation to be non-complex")
    if isinstance(std, core.Tensor) and std.numel() and not (everywhere(std) >= 0).all():
        raise RuntimeError("normal expects all elements of std >= 0.0")
    like = mean if isinstance(mean, core.Tensor) else std
    shape = core.broadcast_tensors(mean, std)[0].shape if isinstance(std, core.Tensor) and isinstance(mean, core.Tensor) else like.shape
    drawn = randn(shape, generator=generator, dtype=like.dtype, device=like.device) * std + mean
    return _finish("normal", _drawn(drawn, *given) if any(v is not None for v in given) else drawn, out, requires_grad)


def bernoulli(input, p=None, *, generator=None, out=None):
    """1 with probability `input` (elementwise; or `p` everywhere), else 0."""
    if p is not None:
        return mask(tuple(input.shape), p, generator, input).to(input.dtype)
    check_tensor("bernoulli", "input", input, 1)
    if not input.is_floating_point():
        raise RuntimeError("bernoulli: expected probabilities in a floating point tensor")
    chances = everywhere(input)
    if not ((chances >= 0) & (chances <= 1)).all():
        raise RuntimeError("bernoulli: expected every probability in [0, 1]")
    numbers = source(generator, input._meta.device).uniform(input.numel(), _numpy_float(input.dtype))
    draws = _tensor(numbers, tuple(input.shape), input.dtype)
    return _finish("bernoulli", _drawn((draws < input.detach()).to(input.dtype), input), out, False, input.device)


def _check_weights(weights) -> None:
    totals = weights.sum(1)
    if not weights.min(initial=np.inf) >= 0 or not np.isfinite(totals).all() and not np.isfinite(weights).all():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (totals <= 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")


@by_lane
def multinomial(input, num_samples, replacement=False, *, generator=None, out=None):
    """Indices drawn with probabilities proportional to the last dimension of `input`."""
    check_tensor("multinomial", "input", input, 1)
    num_samples = whole("multinomial", "num_samples", num_samples, 2)
    if input.dim() not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not input.is_floating_point():
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {input.dtype}")
    if out is not None and out.dtype is not dt.int64:
        raise RuntimeError(f"multinomial expects Long tensor out, got: {out.dtype}")
    if input.dim() and input.shape[-1] > 2 ** 24:
        raise RuntimeError("number of categories cannot exceed 2^24")
    weights = np.array(core.host(input.detach()), np.float64, ndmin=2)
    if weights.size <= FEW:
        fit = all([min(row, default=0.0) >= 0 and 0 < sum(row) < np.inf for row in weights.tolist()])      # of a NaN, the sum is none
    else:
        totals = np.add.reduce(weights, 1)      # what the methods of arrays come to: they take twice as long
        fit = np.minimum.reduce(weights, None, initial=np.inf) >= 0 and np.minimum.reduce(totals, initial=np.inf) > 0 \
            and np.maximum.reduce(totals, initial=0.0) < np.inf
    if not fit:
        _check_weights(weights)
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > weights.shape[1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    rng = source(generator, input._meta.device).host()
    if not replacement or num_samples == 1:
        # The largest of w / Exp(1) falls on i with probability proportional to w_i.
        kind = _numpy_float(input.dtype)
        keys = weights.astype(kind) / rng.exponential(weights.size).reshape(weights.shape).astype(kind)
        picked = keys.argmax(1)[:, None] if num_samples == 1 else np.argsort(-keys, axis=1, kind="stable")[:, :num_samples]
    else:
        cumulative = np.cumsum(weights, axis=1, dtype=_numpy_float(input.dtype))
        cumulative /= cumulative[:, -1:]
        draws = rng.uniform(weights.shape[0] * num_samples, np.float64).reshape(-1, num_samples)
        picked = np.stack([np.searchsorted(c, d, side="right") for c, d in zip(cumulative, draws)])
        picked = np.minimum(picked, weights.shape[1] - 1)
    result = _tensor(picked.reshape(-1), tuple(input.shape[:-1]) + (num_samples,), dt.int64)
    return _finish("multinomial", result, out, False, input._meta.device or "cpu")


@by_lane
def poisson(input, generator=None):
    """Poisson numbers with the given rates."""
    check_tensor("poisson", "input", input, 1)
    rates = np.asarray(core.host(input.detach()), np.float64)
    if not input.is_floating_point():
        raise NotImplementedError(
            f"poisson: expected rates in a floating point tensor; received {input.dtype}. Convert them: rates.float()"
        )
    drawn = _tensor(source(generator, input._meta.device).host().poisson(rates.reshape(-1)), tuple(input.shape), input.dtype)
    return _drawn(place(drawn, str(input.device)), input)


@by_lane
def binomial(count, prob, generator=None):
    """How many of `count` independent trials succeed, each with probability `prob` (broadcast)."""
    if count.dtype is not prob.dtype:
        raise RuntimeError(f"binomial only supports counts and probs of one dtype; received {count.dtype} and {prob.dtype}")
    counts, chances = core.broadcast_tensors(count.detach(), prob.detach())
    given = [np.asarray(core.host(t), np.float64).reshape(-1) for t in (counts, chances)]
    drawn = source(generator, count._meta.device).host().binomial(*given)
    return place(_tensor(drawn, tuple(counts.shape), count.dtype), str(count.device))


# -- in place ---------------------------------------------------------------------------------------------------

def _check_continuous(name: str, t) -> None:
    if not t.is_floating_point():
        raise RuntimeError(f"{name}: a continuous probability distribution. dtype must be a floating point one; received {t.dtype}")


def _fill(t, array):
    """Fill `t` with the numbers, in the order of memory."""
    dims = _memory_order(t)
    numbers = _tensor(array, [t.shape[d] for d in dims], t.dtype)
    return t.copy_(numbers.permute(np.argsort(dims).tolist()))


def uniform_(self, from_=0.0, to=1.0, *, generator=None, **given):
    """Fill with uniform numbers in [from, to)."""
    low = given.get("from", from_)
    if low > to:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low} > to={to}")
    return _fill(self, _uniforms(source(generator, self._meta.device), self.numel(), self.dtype, low, to))


def normal_(self, mean=0.0, std=1.0, *, generator=None):
    """Fill with normal numbers."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    rng = source(generator, self._meta.device)
    if self.is_contiguous() or self.is_complex():
        return _fill(self, _normals(rng, self.numel(), self.dtype, mean, std))
    return _fill(self, rng.single_normals(self.numel(), mean, std))


# The greatest number that `random_` draws by default, where it is not the dtype's greatest.
_TOP = {"f32": 2 ** 24, "f64": 2 ** 53, "i1": 1, "u8": 255}


def _top(d: dt.dtype) -> int:
    return _TOP.get(d.code) or 2 ** (8 * d.itemsize - 1) - 1


def _check_integers(d: dt.dtype, low: int, high: int) -> None:
    """RuntimeError where `d` has no room for the integers in [low, high)."""
    limits = (-np.inf, np.inf) if d.kind == "f" else (0 if d.kind in "ub" else -_top(d) - 1, _top(d))
    if not limits[0] <= low <= high - 1 <= limits[1]:
        name, value = ("from", low) if not limits[0] <= low <= limits[1] else ("to - 1", high - 1)
        raise RuntimeError(f"{name} is out of bounds for {d}: expected a number in [{limits[0]}, {limits[1]}]; received {value}")


def random_(self, *args, generator=None, **given):
    """Fill with integers in [from, to), or over the whole range of the dtype."""
    low, high = given.get("from", 0), given.get("to")
    if len(args) == 1:
        high = args[0]
    elif args:
        low, high = args
    rng, top = source(generator, self._meta.device), _top(self.dtype)
    if high is None and low == 0:
        return _fill(self, rng.whole_range(self.numel(), top))
    high = top + 1 if high is None else high
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    _check_integers(self.dtype, low, high)
    return _fill(self, rng.integers(self.numel(), low, high))


def bernoulli_(self, p=0.5, *, generator=None):
    """Fill with 1 with probability p, else 0."""
    if isinstance(p, core.Tensor):
        return self.copy_(bernoulli(p.expand(self.shape), generator=generator))
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    return self.copy_(mask(tuple(self.shape), p, generator, self))


def exponential_(self, lambd=1.0, *, generator=None):
    """Fill with numbers of the exponential distribution."""
    _check_continuous("exponential_", self)
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    return _fill(self, source(generator, self._meta.device).exponential(self.numel(), lambd))


def geometric_(self, p, *, generator=None):
    """Fill with numbers of the geometric distribution."""
    if self.dtype.kind in "bc":
        raise NotImplementedError(f"geometric_: expected numbers that are real; received {self.dtype}")
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    return _fill(self, source(generator, self._meta.device).geometric(self.numel(), p))


def cauchy_(self, median=0.0, sigma=1.0, *, generator=None):
    """Fill with numbers of the Cauchy distribution."""
    _check_continuous("cauchy_", self)
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    return _fill(self, source(generator, self._meta.device).cauchy(self.numel(), median, sigma))


def log_normal_(self, mean=1.0, std=2.0, *, generator=None):
    """Fill with exponentials of normal numbers."""
    _check_continuous("log_normal_", self)
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
    return _fill(self, source(generator, self._meta.device).log_normal(self.numel(), mean, std))


FUNCTIONS = [rand, randn, randint, randperm, rand_like, randn_like, randint_like, normal, bernoulli, multinomial, poisson, binomial]
METHODS = [uniform_, normal_, random_, bernoulli_, exponential_, geometric_, cauchy_, log_normal_, bernoulli, multinomial]
