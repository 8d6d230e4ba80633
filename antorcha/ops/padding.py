"""Elements added around the last dimensions of a tensor."""

from __future__ import annotations

from ..base.errors import message
from .casts import FULL_ON_CPU, autocast
from .derivative import titled
from .layout import fitting
from .record import check_tensor
from .resampling import resample, resample_all, selection
from .strides import in_format, suggested
from .windows import surround

RANKS = {2: (2, 3), 4: (3, 4), 6: (4, 5)}       # length of `pad` -> ranks of inputs, for all modes but "constant"


def _constant(input, amounts: list, value):
    """`amounts`: (before, after) of the last dimensions; negative ones take elements off."""
    out, lead = input, input.dim() - len(amounts)
    for d, (before, after) in enumerate(amounts, lead):
        if min(before, after) < 0:
            n = out.shape[d]
            out = out.narrow(d, max(-before, 0), n + min(before, 0) + min(after, 0))
    positive = tuple((max(a, 0), max(b, 0)) for a, b in amounts)
    return surround(out, positive, value) if any(map(any, positive)) else out.clone() if out is input else out.contiguous()


def _places(mode: str, n: int, before: int, after: int) -> tuple:
    """Which element stands at each place, for a dimension of n elements."""
    places = range(-before, n + after)
    if mode == "replicate":
        return tuple(min(max(p, 0), n - 1) for p in places)
    if mode == "circular":      # what is left after negative amounts goes round
        first, last = max(-before, 0), n + min(after, 0)
        return tuple(first + (p - first) % (last - first) for p in places)
    return tuple(abs(p) if p < n else 2 * (n - 1) - p for p in places)


def _check_amount(mode: str, input, d: int, before: int, after: int) -> None:
    n = input.shape[d]
    if mode == "reflect" and max(before, after) >= n:
        raise RuntimeError(message("pad", f"padding size less than the corresponding input dimension, {n}, in mode 'reflect'",
                                   f"padding ({before}, {after}) at dimension {d} of input {list(input.shape)}"))
    if mode == "circular" and max(before, after) > n:
        raise RuntimeError(message("pad", f"padding at most the input's dimension, {n}, in mode 'circular'",
                                   f"padding ({before}, {after}) at dimension {d} of input {list(input.shape)}",
                                   "(Padding value causes wrapping around more than once.)"))
    if n + before + after < 0 or n == 0:
        raise RuntimeError(message("pad", "an output of positive size", f"padding ({before}, {after}) at dimension {d} of input "
                                   f"{list(input.shape)}"))


_TITLES = {"reflect": "ReflectionPad{}D", "replicate": "ReplicationPad{}D"}


@titled(lambda input, pad, mode="constant", value=None: _TITLES[mode].format(len(pad) // 2) if mode in _TITLES else None)
def pad(input, pad, mode="constant", value=None):
    """`pad` lists (before, after) of each dimension, the last dimension first; negative numbers take elements off.

    Modes: "constant" (any rank), and over the last one to three dimensions "reflect" (without repeating the border), "replicate"
    (the border) and "circular" (from the other side).
    """
    padded = _bordered if mode == "replicate" or mode == "reflect" and len(pad) < 6 else _padded
    result = padded(input, pad, mode, value)
    return result if mode == "circular" else in_format(result, suggested(input._meta.view))


def _padded(input, pad, mode, value):
    check_tensor("pad", "input", input)
    pad = tuple(int(p) for p in pad)
    if len(pad) % 2:
        raise RuntimeError(message("pad", "an even number of paddings (Padding length must be divisible by 2)", f"{len(pad)}"))
    if len(pad) > 2 * input.dim():
        raise RuntimeError(message("pad", f"at most {2 * input.dim()} paddings for an input of {input.dim()} dimensions (Padding length "
                                   "too large)", f"{len(pad)}"))
    amounts = [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    lead = input.dim() - len(amounts)
    if mode == "constant":
        for d, (before, after) in enumerate(amounts, lead):
            if input.shape[d] + before + after < 0:
                raise RuntimeError(message("pad", "an output of no negative dimension (negative output size)",
                                           f"padding ({before}, {after}) at dimension {d} of input {list(input.shape)}"))
        return _constant(input, amounts, 0 if value is None else fitting(value, input._meta.dtype))
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value not in (None, 0):
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if input.dim() not in RANKS.get(len(pad), ()):
        raise NotImplementedError(message("pad", f"in mode {mode!r} 2, 4 or 6 paddings for inputs of 2 to 5 dimensions (Only 2D, 3D, 4D, "
                                          "5D padding with non-constant padding are supported for now)",
                                          f"{len(pad)} for {input.dim()} dimensions"))
    maps = []
    for d, (before, after) in enumerate(amounts, lead):
        _check_amount(mode, input, d, before, after)
        n = input.shape[d]
        maps.append(selection(_places(mode, n, before, after), n) if before or after else None)
    if not any(maps):
        return input.clone()
    if mode != "circular":
        return resample_all(input, tuple(maps))
    out = input
    for d, taps in reversed(list(enumerate(maps, lead))):       # PyTorch copies borders of borders, the last dimension first
        out = out if taps is None else resample(out, d, taps)
    return out


_bordered = autocast(FULL_ON_CPU)(_padded)


def constant_pad_nd(input, pad, value=0):
    """`pad` in the mode "constant"."""
    return in_format(_padded(input, pad, "constant", value), suggested(input._meta.view))
