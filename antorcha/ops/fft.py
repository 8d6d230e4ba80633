"""Discrete Fourier transforms: NumPy's pocketfft, with derivatives.

Everything is made of three operators without normalisation, whose adjoints are one another: complex to complex over several
dimensions, real to half of a Hermitian spectrum over one dimension, and back. The forward transform is
X[k] = sum over j of x[j] exp(-2 pi i j k / n), the backward one has the other sign. Cooley and Tukey, 1965.
"""

from __future__ import annotations

import math

import numpy as np

from ..base import dtype as dt
from ..graph.node import dense
from . import pointwise as pw
from .casts import FULL_ON_CPU
from .extern import host_op, in_parts, run
from .parts import conj_, real_
from .record import check_tensor, core, meta, normalize_dims, operator

Tensor = "Tensor"


def _along(transform, x, dim: int, out: np.ndarray, size: int, divided: str, plain: str):
    """A transform along one dimension, not normalised. Of 32 bits NumPy computes without a factor in 64, at half to a quarter of the speed:
    of a power of two elements it is told to divide by them, and they are multiplied again, which changes no digit."""
    exact = x.dtype.itemsize == (8 if x.dtype.kind == "c" else 4) and size & (size - 1) == 0

    def transformed(x, out):
        np.multiply(transform(x, size, dim, divided if exact else plain), size if exact else 1, out=out)

    in_parts(transformed, out, x, dim)
    return out


def _whole_host(x, dims, forward):
    for d in dims:
        transform, *norms = (np.fft.fft, "forward", "backward") if forward else (np.fft.ifft, "backward", "forward")
        x = _along(transform, x, d, np.empty_like(x, order="C"), x.shape[d], *norms)
    return x


def _half_host(x, dim):
    out = np.empty(_with_size(x.shape, dim, x.shape[dim] // 2 + 1), np.result_type(x.dtype, np.complex64))
    return _along(np.fft.rfft, x, dim, out, x.shape[dim], "forward", "backward")


def _real_host(x, dim, size):
    return _along(np.fft.irfft, x, dim, np.empty(_with_size(x.shape, dim, size), x.real.dtype), size, "backward", "forward")


WHOLE = host_op("fft_whole", _whole_host)
HALF = host_op("fft_half", _half_host)
REAL = host_op("fft_real", _real_host)


def _with_size(shape, dim: int, size: int) -> tuple:
    return tuple(shape[:dim]) + (size,) + tuple(shape[dim + 1:])


@operator(name="fft_whole", title="FftC2C", public=False, holomorphic=False,
          grad=dict(input=lambda g, dims, forward: whole(g, dims, not forward)))
def whole(input: Tensor, dims, forward):
    """Complex to complex over `dims`."""
    return run(WHOLE, (input,), [(input.shape, input._meta.dtype)], dims=dims, forward=forward)[0]


@operator(name="fft_half", title="FftR2C", public=False, holomorphic=False,
          grad=dict(input=lambda g, dim, input_shape: real_(whole(resized(g, (dim,), (input_shape[dim],)), (dim,), False))))
def half(input: Tensor, dim):
    """The forward transform of real numbers along `dim`: frequencies 0 to n // 2, the others are their conjugates."""
    shape = _with_size(input.shape, dim, input.shape[dim] // 2 + 1)
    return run(HALF, (input,), [(shape, input._meta.dtype.to_complex())], dim=dim)[0]


@operator(name="fft_real", title="FftC2R", public=False, holomorphic=False,
          grad=dict(input=lambda g, dim, size: _real_grad(g, dim, size)))
def real(input: Tensor, dim, size):
    """The backward transform along `dim` of half a Hermitian spectrum, to `size` real numbers."""
    return run(REAL, (input,), [(_with_size(input.shape, dim, size), input._meta.dtype.to_real())], dim=dim, size=size)[0]


def _real_grad(g, dim, size):
    """All frequencies count twice, for themselves and their conjugates, but 0 and, where the size is even, the last."""
    spectrum = half(g, dim)
    k = core.arange(0, spectrum.shape[dim], 1).reshape((-1,) + (1,) * (g.dim() - 1 - dim))
    return pw.where((k > 0) & (2 * k < size), spectrum * 2, spectrum)


def resized(x, dims, sizes):
    """`x` cut off or filled up with zeros at the end of each dimension."""
    for d, n in zip(dims, sizes):
        have = x.shape[d]
        if n < have:
            x = x.narrow(d, 0, n)
        elif n > have:
            filling = core.zeros(meta(dense(_with_size(x.shape, d, n - have)), x._meta.dtype, x._meta.device))
            x = core.cat([x, filling], d)
    return x


# -- arguments --------------------------------------------------------------------------------------------------

def _dimensions(name, input, sizes, dims, halved=False):
    """(dimensions, their sizes): `sizes` are those of `dims`, or of the last dimensions; None or -1 keeps the input's. `halved`:
    the last dimension of the input holds half a spectrum."""
    for option, given in (("s", sizes), ("dim", dims)):
        for n in given if isinstance(given, (tuple, list, str)) else (given,):
            if not isinstance(n, (int, type(None))):
                raise TypeError(f"fft_{name}(): argument '{option}' must be tuple of ints, not {type(n).__name__}")
    rank = input.dim()
    if dims is None:
        count = rank if sizes is None else len(sizes)
        if count > rank:
            raise RuntimeError(f"{name}: Got shape with {count} values but input tensor only has {rank} dimensions.")
        dims = tuple(range(rank - count, rank))
    else:
        dims = (dims,) if isinstance(dims, int) else tuple(dims)
        if dims and not rank:
            raise IndexError(f"{name}: Dimension specified as {dims[0]} but tensor has no dimensions")
        if len(set(d % rank for d in dims if -rank <= d < rank)) < sum(-rank <= d < rank for d in dims):
            raise RuntimeError(f"{name}: FFT dims must be unique; received {list(dims)}.")
        dims = normalize_dims(name, dims, rank) if dims else ()
    sizes = (None,) * len(dims) if sizes is None else (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if len(sizes) != len(dims):
        raise RuntimeError(f"{name}: When given, dim and shape arguments must have the same length; received {len(dims)} and "
                           f"{len(sizes)}.")
    own = [input.shape[d] for d in dims]
    if halved and own:
        own[-1] = 2 * (own[-1] - 1)
    sizes = tuple(o if n in (None, -1) else n for n, o in zip(sizes, own))
    for n in sizes:
        if n < 1:
            raise RuntimeError(f"{name}: Invalid number of data points ({n}) specified: expected at least 1.")
    return dims, sizes


def _factor(name, norm, sizes, forward) -> float:
    """What the transform without normalisation is multiplied by."""
    n = math.prod(sizes)
    if not isinstance(norm, (str, type(None))):
        raise TypeError(f"{name}(): argument 'norm' must be str, not {type(norm).__name__}")
    if norm == "ortho":
        return 1 / math.sqrt(n)
    if norm not in (None, "backward", "forward"):
        raise RuntimeError(f"{name}: Invalid normalization mode: expected norm 'backward', 'ortho' or 'forward'; received "
                           f"{norm!r}.")
    return 1 / n if (norm == "forward") == forward else 1.0


def _scaled(x, factor):
    return x if factor == 1.0 else x * factor


def _floating(name, input, kind):
    """`input` in the real ("f") or complex ("c") dtype that the transform computes in."""
    check_tensor(name, "input", input)
    d = input._meta.dtype
    if kind == "f" and d.kind == "c":
        raise RuntimeError(f"{name} expects a real input tensor, but got {d}. Use input.real, or the transform of complex "
                           "numbers.")
    if d.kind not in "fc":
        d = dt.default()
    if d.itemsize < 4:
        raise RuntimeError(f"{name}: Unsupported dtype {d}. Convert it first: input.float()")
    return input.to(d if kind == "f" else d.to_complex())


def _complex_to_complex(name, input, sizes, dims, norm, forward):
    x = _floating(name, input, "c")
    dims, sizes = _dimensions(name, x, sizes, dims)
    factor = _factor(name, norm, sizes, forward)
    return _scaled(whole(resized(x, dims, sizes), dims, forward), factor) if dims else x.clone()


def _need_dimension(name, dims):
    if not dims:
        raise RuntimeError(f"{name} must transform at least one axis")


def _real_to_complex(name, input, sizes, dims, norm, forward):
    x = _floating(name, input, "f")
    dims, sizes = _dimensions(name, x, sizes, dims)
    _need_dimension(name, dims)
    factor = _factor(name, norm, sizes, forward)
    spectrum = half(resized(x, dims, sizes), dims[-1])
    if not forward:
        spectrum = conj_(spectrum)
    return _scaled(whole(spectrum, dims[:-1], forward) if dims[1:] else spectrum, factor)


def _complex_to_real(name, input, sizes, dims, norm, forward):
    x = _floating(name, input, "c")
    dims, sizes = _dimensions(name, x, sizes, dims, halved=True)
    _need_dimension(name, dims)
    factor = _factor(name, norm, sizes, forward)
    x = resized(x, dims, (*sizes[:-1], sizes[-1] // 2 + 1))
    if dims[1:]:
        x = whole(x, dims[:-1], forward)
    return _scaled(real(conj_(x) if forward else x, dims[-1], sizes[-1]), factor)


# -- the transforms ---------------------------------------------------------------------------------------------

functions: dict = {}


def _declare(name: str, compute, forward: bool, text: str) -> None:
    """The transform over one dimension, over two and over several."""

    def one(input: Tensor, n=None, dim=-1, norm=None) -> Tensor:
        if n is not None and n < 1:
            raise RuntimeError(f"{name}: Invalid number of data points ({n}) specified: expected at least 1.")
        return compute(name, input, None if n is None else (n,), (dim,), norm, forward)

    def two(input: Tensor, s=None, dim=(-2, -1), norm=None) -> Tensor:
        return compute(name + "2", input, s, dim, norm, forward)

    def several(input: Tensor, s=None, dim=None, norm=None) -> Tensor:
        return compute(name + "n", input, s, dim, norm, forward)

    for function, suffix, over in ((one, "", "dimension `dim`, resized to `n`"), (two, "2", "two dimensions, resized to `s`"),
                                   (several, "n", "the dimensions `dim` (all), resized to `s`")):
        function.__doc__ = (f"{text}, over {over}. `norm`: \"forward\", \"backward\" (1 / n in that direction) or \"ortho\" "
                            "(1 / sqrt(n) in both).")
        functions[name + suffix] = operator(autocast=FULL_ON_CPU, name=f"fft_{name}{suffix}", namespace="fft",
                                            samples=lambda t: [t(3, 4) if compute is _real_to_complex else t.complex(3, 4)])(function)


_declare("fft", _complex_to_complex, True, "The Fourier transform")
_declare("ifft", _complex_to_complex, False, "The inverse Fourier transform")
_declare("rfft", _real_to_complex, True, "The Fourier transform of real numbers, without the negative frequencies of the last "
                                         "dimension")
_declare("irfft", _complex_to_real, False, "The inverse of `rfft`, to real numbers")
_declare("hfft", _complex_to_real, True, "The Fourier transform of a signal that is Hermitian, given by its first half, to real "
                                         "numbers")
_declare("ihfft", _real_to_complex, False, "The inverse of `hfft`")


# -- frequencies ------------------------------------------------------------------------------------------------

def _shift(name, input, dim, amount):
    check_tensor(name, "input", input)
    dims = normalize_dims(name, dim, input.dim())
    return input.roll([amount(input.shape[d]) for d in dims], list(dims)) if dims else input.clone()


@operator(name="fft_fftshift", namespace="fft", out=False)
def fftshift(input: Tensor, dim=None) -> Tensor:
    """Frequencies in the order of a transform, moved so that 0 is in the middle of the dimensions `dim` (all)."""
    return _shift("fftshift", input, dim, lambda n: n // 2)


@operator(name="fft_ifftshift", namespace="fft", out=False)
def ifftshift(input: Tensor, dim=None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shift("ifftshift", input, dim, lambda n: (n + 1) // 2)


def _frequencies(k, n, d, out, dtype, requires_grad):
    result = k.to(dt.asked("fftfreq", dtype, dt.default())) * (1 / (n * d))
    if out is not None:
        return core.store_out("fftfreq", out, result)
    return result.requires_grad_(requires_grad)


def fftfreq(n, d=1.0, *, out=None, dtype=None, layout=None, device=None, requires_grad=False):
    """The frequencies of a transform of `n` samples `d` apart, in cycles a unit: 0, 1 .. and then the negative ones, over n d."""
    k = core.arange(0, n, 1)
    return _frequencies(pw.where(k < (n + 1) // 2, k, k - n), n, d, out, dtype, requires_grad)


def rfftfreq(n, d=1.0, *, out=None, dtype=None, layout=None, device=None, requires_grad=False):
    """The frequencies of `rfft` of `n` samples `d` apart: 0 to n // 2 over n d."""
    return _frequencies(core.arange(0, n // 2 + 1, 1), n, d, out, dtype, requires_grad)
