"""torch.fft: values against NumPy, derivatives against finite differences, errors, and both against torch."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.ops import extern

ONE, SEVERAL = ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"], ["fftn", "ifftn", "rfftn", "irfftn"]
NORMS = ["backward", "ortho", "forward"]
REAL_INPUT = ("rfft", "ihfft", "rfft2", "rfftn", "ihfft2", "ihfftn")


def signal(name: str, *shape: int, single=False) -> np.ndarray:
    generator = np.random.default_rng(len(name))
    x = generator.standard_normal(shape)
    if name not in REAL_INPUT:
        x = x + 1j * generator.standard_normal(shape)
    return x.astype({"f": np.float32, "c": np.complex64}[x.dtype.kind]) if single else x


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ONE)
def test_one_dimension(name, norm, single):
    for shape, n, dim in [((7,), None, -1), ((3, 8), 5, 0), ((3, 8), 12, 1), ((2, 1, 6), None, 2)]:
        x = signal(name, *shape, single=single)
        received = getattr(torch.fft, name)(torch.from_numpy(x), n, dim, norm).numpy()
        expected = getattr(np.fft, name)(x, n, dim, norm)
        if single:      # NumPy 1 answers in twice the precision
            expected = expected.astype({"f": np.float32, "c": np.complex64}[expected.dtype.kind])
        assert received.dtype == expected.dtype
        agree(received, expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SEVERAL)
def test_several_dimensions(name, norm):
    x = signal(name, 4, 5, 6)
    for s, dim in [(None, None), ((3, 7), None), (None, (0, 2)), ((5, 4), (2, 0)), ((-1, 3), (1, 2))]:
        sizes = s if s is None or -1 not in s else (5, 3)
        received = getattr(torch.fft, name)(torch.from_numpy(x), s, dim, norm)
        axes = dim if dim is not None or s is None else (1, 2)
        agree(received, getattr(np.fft, name)(x, sizes, axes, norm))
    two = getattr(torch.fft, name[:-1] + "2")(torch.from_numpy(x), norm=norm)
    agree(two, getattr(np.fft, name)(x, axes=(-2, -1), norm=norm))


@pytest.mark.parametrize("norm", NORMS)
def test_hermitian_forms_invert_one_another(norm):
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    assert torch.allclose(torch.fft.hfftn(torch.fft.ihfftn(x, norm=norm), x.shape, norm=norm), x)
    assert torch.allclose(torch.fft.hfft2(torch.fft.ihfft2(x, norm=norm), x.shape[1:], norm=norm), x)
    assert torch.allclose(torch.fft.irfftn(torch.fft.rfftn(x, norm=norm), x.shape, norm=norm), x)


@pytest.mark.parametrize("name", [n + s for n in ONE for s in ("", "n")])
def test_derivatives(name):
    x = torch.from_numpy(signal(name, 3, 4)).requires_grad_()
    transform = getattr(torch.fft, name)
    for options in [{}, {"norm": "ortho"}, {"n": 3} if name in ONE else {"s": (4, 5)}]:
        assert torch.autograd.gradcheck(lambda x, options=options: transform(x, **options), (x,))
    assert torch.autograd.gradgradcheck(transform, (x,))
    if name in ("fft", "fftn"):
        assert torch.autograd.gradcheck(transform, (x.detach().real.clone().requires_grad_(),))


def test_frequencies_and_shifts():
    for n in (1, 4, 7):
        agree(torch.fft.fftfreq(n, 0.5, dtype=torch.float64), np.fft.fftfreq(n, 0.5))
        agree(torch.fft.rfftfreq(n, 0.5), np.fft.rfftfreq(n, 0.5).astype(np.float32))
    x = np.arange(30.0).reshape(5, 6)
    for dim in (None, 0, (1,), (0, 1)):
        np.testing.assert_array_equal(torch.fft.fftshift(torch.from_numpy(x), dim).numpy(), np.fft.fftshift(x, dim))
        np.testing.assert_array_equal(torch.fft.ifftshift(torch.from_numpy(x), dim).numpy(), np.fft.ifftshift(x, dim))


def test_dtypes_and_out():
    assert torch.fft.fft(torch.arange(4)).dtype is torch.complex64
    assert torch.fft.rfft(torch.ones(4, dtype=torch.float64)).dtype is torch.complex128
    out = torch.empty(4, dtype=torch.complex64)
    assert torch.fft.fft(torch.ones(4), out=out) is out and out[0].item() == 4
    assert torch.fft.fft(torch.ones(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("call, error, words", [
    (lambda: torch.fft.fft(torch.tensor(1.0)), IndexError, "no dimensions"),
    (lambda: torch.fft.fft(torch.ones(3), dim=1), IndexError, "out of range"),
    (lambda: torch.fft.fft(torch.ones(3), 0), RuntimeError, "data points"),
    (lambda: torch.fft.fft(torch.ones(3), norm="unit"), RuntimeError, "normalization"),
    (lambda: torch.fft.rfft(torch.ones(3, dtype=torch.complex64)), RuntimeError, "real input"),
    (lambda: torch.fft.fftn(torch.ones(3, 3), dim=(0, -2)), RuntimeError, "unique"),
    (lambda: torch.fft.fftn(torch.ones(3, 3), s=(2,), dim=(0, 1)), RuntimeError, "same length"),
    (lambda: torch.fft.fftn(torch.ones(3), s=(2, 2)), RuntimeError, "only has 1"),
    (lambda: torch.fft.fft(torch.ones(3, dtype=torch.float16)), RuntimeError, "float16"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("length", [1, 2, 12, 64, 125, 1024])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_many_transforms_side_by_side(length, dim, monkeypatch):
    """Cut into parts for threads along another dimension; powers of two are computed in 32 bits."""
    monkeypatch.setattr(extern, "PARALLEL", 1)
    shape = [5, 7, 3]
    shape[dim] = length
    x = np.random.default_rng(length).standard_normal(shape).astype(np.float32)
    z = np.random.default_rng(length + 1).standard_normal((2, *shape))
    z = (z[0] + 1j * z[1]).astype(np.complex64)
    wide = x.astype(np.float64), z.astype(np.complex128)
    t, c = torch.from_numpy(x), torch.from_numpy(z)
    agree(torch.fft.rfft(t, dim=dim), np.fft.rfft(wide[0], axis=dim))
    agree(torch.fft.fft(c, dim=dim), np.fft.fft(wide[1], axis=dim))
    agree(torch.fft.ifft(c, dim=dim), np.fft.ifft(wide[1], axis=dim))
    agree(torch.fft.irfft(c, n=2 * length, dim=dim), np.fft.irfft(wide[1], 2 * length, axis=dim))
    agree(torch.fft.fftn(c), np.fft.fftn(wide[1]))
    agree(torch.fft.fft(c.to(torch.complex128), dim=dim), np.fft.fft(wide[1], axis=dim))
