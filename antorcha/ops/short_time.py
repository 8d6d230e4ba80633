"""The short-time Fourier transform: spectra of overlapping windows of a signal, and the signal back from them.

J. B. Allen and L. R. Rabiner, "A Unified Approach to Short-Time Fourier Analysis and Synthesis" (1977); the inverse after D. W.
Griffin and J. S. Lim, "Signal Estimation from Modified Short-Time Fourier Transform" (1984).
"""

from __future__ import annotations

from .casts import FULL_ON_CPU
from .complex_numbers import view_as_real
from .fft import functions
from .padding import pad
from .recall import deprecated, warn
from .record import check_tensor, core, operator
from .view import region_grad, unfold_view

Tensor = "Tensor"


def _frame(name, input, n_fft, hop_length, win_length, window):
    """(hop, window of n_fft elements or None), checked."""
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    if n_fft <= 0:
        raise RuntimeError(f"{name}: expected n_fft > 0; received {n_fft}")
    if hop <= 0:
        raise RuntimeError(f"{name}: expected hop_length > 0; received {hop}")
    if not 0 < length <= n_fft:
        raise RuntimeError(f"{name}: expected 0 < win_length <= n_fft; received win_length = {length}, n_fft = {n_fft}")
    if window is None:
        warn(f"{name}: a window was not provided. A rectangular window is applied, which causes spectral leakage; "
             "torch.hann_window(n_fft) causes less.")
        window = core.full((length,), 1, input._meta.dtype.to_real())
    elif window.dim() != 1 or window.shape[0] != length:
        raise RuntimeError(f"{name}: expected a 1D window tensor of size equal to win_length = {length}; received shape "
                           f"{list(window.shape)}")
    if length < n_fft:
        left = (n_fft - length) // 2
        window = pad(window, (left, n_fft - length - left))
    return hop, window


@operator(autocast=FULL_ON_CPU, out=False, samples=lambda t: [t(2, 20), 8, 4, 8, t(8), dict(return_complex=True)])
def stft(input: Tensor, n_fft, hop_length=None, win_length=None, window: Tensor = None, center=True, pad_mode="reflect",
         normalized=False, onesided=None, return_complex=None, align_to_window=None) -> Tensor:
    """The spectra of windows of `n_fft` samples every `hop_length` (n_fft // 4): (n,) to (frequencies, windows), (b, n) to (b,
    ..).

    `center`: window t is centred at sample t * hop_length, the signal being padded by `pad_mode`. `normalized`: divided by
    sqrt(n_fft).
    `onesided`: without the negative frequencies, as is usual for real signals. `return_complex=False`: real and imaginary parts
    last.
    """
    check_tensor("stft", "input", input)
    turned = input.is_complex() or window is not None and window.is_complex()
    if return_complex is None:
        if not turned:
            raise RuntimeError("stft requires the return_complex parameter be given for real inputs, and will further require "
                               "that "
                               "return_complex=True in a future PyTorch release.")
        return_complex = True
    if input._meta.dtype.kind not in "fc" or input.dim() not in (1, 2):
        raise RuntimeError(f"stft: expected a 1D or 2D tensor of floating point or complex values; received {input.dtype} of "
                           f"shape {list(input.shape)}")
    if onesided and turned:
        raise RuntimeError("stft: Cannot have onesided output if window or input is complex")
    hop, window = _frame("stft", input, n_fft, hop_length, win_length, window)
    x = input if input.dim() == 2 else input.unsqueeze(0)
    if center:
        x = pad(x.unsqueeze(1), (n_fft // 2, n_fft // 2), mode=pad_mode).squeeze(1)
    if x.shape[-1] < n_fft:
        raise RuntimeError(f"stft: expected 0 < n_fft <= {x.shape[-1]}, the length of the signal; received n_fft = {n_fft}")
    frames = x.unfold(-1, n_fft, hop) * window
    transform = functions["fft" if turned or onesided is False else "rfft"]
    spectrum = transform(frames, norm="ortho" if normalized else None).transpose(1, 2)
    if not return_complex:
        deprecated("stft with return_complex=False", "torch.view_as_real(torch.stft(.., return_complex=True))")
        spectrum = view_as_real(spectrum)
    return spectrum if input.dim() == 2 else spectrum.squeeze(0)


@operator(public=False, grad=dict(frames=lambda g, frames_shape, hop: g.unfold(-1, frames_shape[-1], hop)))
def overlap_add(frames: Tensor, hop):
    """The sum of frames (b, count, size) laid `hop` apart: (b, (count - 1) * hop + size)."""
    batch, count, size = frames.shape
    return region_grad(frames, (batch, (count - 1) * hop + size), lambda v: unfold_view(v, 1, size, hop))


@operator(out=False, samples=lambda t: [t.complex(5, 6), 8, 4, 8, t(8)])
def istft(input: Tensor, n_fft, hop_length=None, win_length=None, window: Tensor = None, center=True, normalized=False,
          onesided=None, length=None, return_complex=False) -> Tensor:
    """The signal whose `stft` is nearest to `input` (b, frequencies, windows): windows are added and divided by the sum of their
    squares.

    `length`: how many samples are returned (all that windows cover). RuntimeError where windows leave samples out.
    """
    check_tensor("istft", "input", input)
    hop, window = _frame("istft", input, n_fft, hop_length, win_length, window)
    frames = _inverse_frames(input, n_fft, normalized, onesided, return_complex)
    signal = overlap_add(frames * window, hop)
    weight = overlap_add((window * window).expand(1, frames.shape[1], n_fft), hop)
    start = n_fft // 2 if center else 0
    covered = signal.shape[-1]
    end = covered - (start if length is None else 0) if length is None or start + length > covered else start + length
    signal, weight = signal[:, start:end], weight[:, start:end]
    if bool((weight.detach().abs() < 1e-11).any()):
        raise RuntimeError("istft: window overlap add min: expected the windows to cover every sample; some have no weight. "
                           "Use a smaller hop_length, a window without zeros, or center=True.")
    signal = signal / weight
    if length is not None and signal.shape[-1] < length:
        warn("The length of signal is shorter than the length parameter. Result is being padded with zeros in the tail. "
             "Please check your center and hop_length settings.")
        signal = pad(signal, (0, length - signal.shape[-1]))
    return signal if input.dim() == 3 else signal.squeeze(0)


def _inverse_frames(input, n_fft: int, normalized: bool, onesided, return_complex: bool):
    """The windows (b, count, n_fft) whose spectra are `input`, checked."""
    if not input.is_complex():
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    if input.dim() not in (2, 3) or not input.numel():
        raise RuntimeError("istft: expected a tensor with 2 or 3 dimensions that is not empty; received shape "
                           f"{list(input.shape)}")
    spectrum = (input if input.dim() == 3 else input.unsqueeze(0)).transpose(1, 2)
    onesided = (spectrum.shape[-1] != n_fft) if onesided is None else onesided
    if spectrum.shape[-1] != (n_fft // 2 + 1 if onesided else n_fft):
        raise RuntimeError("istft: expected the frequency dimension (3rd to the last) of the input tensor to match n_fft / 2 + "
                           f"1 when onesided=True, or n_fft else; received {spectrum.shape[-1]} and n_fft = {n_fft}")
    if return_complex and onesided:
        raise RuntimeError("istft: Cannot have onesided output if window or input is complex")
    norm = "ortho" if normalized else None
    if return_complex:
        return functions["ifft"](spectrum, norm=norm)
    return functions["irfft"](spectrum[..., :n_fft // 2 + 1], n_fft, norm=norm)     # half of a real signal's spectrum is enough

