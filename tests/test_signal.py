"""Window functions and the short-time Fourier transform."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch

WINDOWS = torch.signal.windows


@pytest.mark.parametrize("name, reference", [("hann", np.hanning), ("hamming", np.hamming), ("blackman", np.blackman),
                                             ("bartlett", np.bartlett)])
def test_windows_agree_with_numpy(name, reference):
    for M in (0, 1, 2, 7):
        symmetric, periodic = getattr(WINDOWS, name)(M, dtype=torch.float64), getattr(torch, name + "_window")(M, dtype=torch.float64)
        agree(symmetric, reference(M))
        agree(periodic, reference(M + 1)[:-1] if M > 1 else reference(M))
    agree(WINDOWS.kaiser(9, beta=5.0, dtype=torch.float64), np.kaiser(9, 5.0))
    agree(torch.kaiser_window(9, False, 5.0, dtype=torch.float64), np.kaiser(9, 5.0))


def test_other_windows():
    for window in (WINDOWS.cosine(6), WINDOWS.gaussian(6, std=2.0), WINDOWS.exponential(6, tau=3.0), WINDOWS.nuttall(6),
                   WINDOWS.general_hamming(6)):
        assert torch.allclose(window, window.flip(0)) and window.argmax() in (2, 3)
    assert torch.allclose(WINDOWS.general_cosine(8, a=[0.5, 0.5]), WINDOWS.hann(8))
    for call, error in [(lambda: WINDOWS.hann(-1), ValueError), (lambda: WINDOWS.hann(3, dtype=torch.int64), ValueError),
                        (lambda: WINDOWS.gaussian(3, std=0.0), ValueError), (lambda: torch.hann_window(-1), RuntimeError)]:
        with pytest.raises(error):
            call()


def test_stft_is_the_transform_of_windows():
    x, window = torch.randn(2, 50, dtype=torch.float64), torch.hann_window(8, dtype=torch.float64)
    found = torch.stft(x, 16, 4, 8, window, center=False, return_complex=True)
    wide = np.pad(window.numpy(), 4)
    expected = np.stack([np.fft.rfft(x.numpy()[:, t:t + 16] * wide) for t in range(0, 35, 4)], -1)
    agree(found, expected)
    parts = torch.stft(x, 16, 4, 8, window, center=False, return_complex=False)
    assert parts.shape == (*found.shape, 2) and torch.equal(parts[..., 1], found.imag)
    whole = torch.stft(x[0], 16, 4, 8, window, onesided=False, normalized=True, return_complex=True)
    assert whole.shape == (16, 13) and torch.allclose(whole[1], whole[15].conj())


@pytest.mark.parametrize("options", [{}, {"normalized": True}, {"onesided": False}, {"length": 45}])
def test_istft_inverts_stft(options):
    x, window = torch.randn(2, 48, dtype=torch.float64), torch.hamming_window(16, dtype=torch.float64)
    forward = {k: v for k, v in options.items() if k != "length"}
    back = torch.istft(torch.stft(x, 16, 4, window=window, return_complex=True, **forward), 16, 4, window=window, **options)
    assert torch.allclose(back, x[:, :back.shape[1]]) and back.shape[1] == options.get("length", 48)


def test_derivatives():
    x, window = torch.randn(20, dtype=torch.float64, requires_grad=True), torch.hann_window(8, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: torch.stft(x, 8, 2, window=window, return_complex=True), (x,))
    spectrum = torch.stft(x.detach(), 8, 2, window=window, return_complex=True).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: torch.istft(s, 8, 2, window=window), (spectrum,))


def test_errors():
    x, spectrum = torch.ones(20), torch.ones(5, 4, dtype=torch.complex64)
    for call, words in [(lambda: torch.stft(x, 8), "return_complex"), (lambda: torch.stft(x, 8, 0, return_complex=True), "hop_length"),
                        (lambda: torch.stft(x, 8, window=torch.ones(3), return_complex=True), "window"),
                        (lambda: torch.istft(x[None], 8), "complex"), (lambda: torch.istft(spectrum, 4), "frequency"),
                        (lambda: torch.istft(spectrum, 8, window=torch.zeros(8)), "overlap")]:
        with pytest.raises(RuntimeError, match=words):
            call()


def test_warnings_name_the_line_of_the_caller():
    with pytest.warns(UserWarning, match="window was not provided") as met:
        torch.istft(torch.ones(5, 4, dtype=torch.complex64), 8)
    assert met[0].filename == __file__


def test_low_rank():
    A = torch.randn(30, 4, dtype=torch.float64) @ torch.randn(4, 20, dtype=torch.float64)
    for x in (A, A.mT):
        U, S, V = torch.svd_lowrank(x, 6)
        assert torch.allclose((U * S) @ V.mH, x)
        U, S, V = torch.pca_lowrank(x, 6)
        assert torch.allclose((U * S) @ V.mH, x - x.mean(0))
