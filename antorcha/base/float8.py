"""Floating point formats of 8 bits and fewer: the numbers that their codes stand for.

E4M3 and E5M2: Micikevicius et al., "FP8 Formats for Deep Learning", 2022; the "fnuz" variants, without infinities and negative
zero: Noune et al., "8-bit Numerical Formats for Deep Neural Networks", 2022; E8M0, powers of two: the OCP Microscaling
specification, 2023.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from . import dtype as dt


class Format(NamedTuple):
    """exponent and fraction bits, the exponent's bias, the largest code of a finite number, and what larger numbers become."""

    exponent: int
    fraction: int
    bias: int
    last: int
    beyond: int
    nan: int
    signed: bool = True
    negative_zero: bool = True
    infinite: bool = False


FORMATS = {
    dt.float8_e4m3fn: Format(4, 3, 7, 0x7E, 0x7E, 0x7F),
    dt.float8_e5m2: Format(5, 2, 15, 0x7B, 0x7C, 0x7F, infinite=True),
    dt.float8_e4m3fnuz: Format(4, 3, 8, 0x7F, 0x80, 0x80, negative_zero=False),
    dt.float8_e5m2fnuz: Format(5, 2, 16, 0x7F, 0x80, 0x80, negative_zero=False),
    dt.float8_e8m0fnu: Format(8, 0, 127, 0xFE, 0xFF, 0xFF, signed=False),
}


def format_of(d: dt.dtype) -> Format:
    if d not in FORMATS:
        raise NotImplementedError(f'"copy_kernel" not implemented for {d}: its bytes hold two numbers each. View them: x.view(torch.uint8)')
    return FORMATS[d]


@functools.lru_cache(None)
def values(d: dt.dtype) -> np.ndarray:
    """The numbers of all 256 codes, as float32."""
    f = format_of(d)
    code = np.arange(256)
    magnitude = code & 0x7F if f.signed else code
    exponent, fraction = magnitude >> f.fraction, magnitude & ((1 << f.fraction) - 1)
    normal = np.ldexp(1.0 + fraction / (1 << f.fraction), exponent - f.bias)
    if f.signed:
        normal = np.where(exponent == 0, np.ldexp(fraction / (1 << f.fraction), 1 - f.bias), normal)
    table = np.where(f.signed & (code > 0x7F), -normal, normal)
    finite = magnitude <= f.last if f.negative_zero else code != f.nan
    table[~finite] = np.nan
    if f.infinite:
        table[magnitude == f.beyond] = np.where(code[magnitude == f.beyond] > 0x7F, -np.inf, np.inf)
    return table.astype(np.float32)


@functools.lru_cache(None)
def boundaries(d: dt.dtype) -> np.ndarray:
    """What divides the magnitudes of neighbouring codes, as float32: how many of these lie below a number is its code. Halfway between
    two it is rounded to the even one, between powers of two up."""
    f = format_of(d)
    known = values(d)[:f.last + 1].astype(np.float64)
    if f.beyond != f.last:
        known = np.append(known, 2 * known[-1] - (known[-2] if f.fraction else 0))
    middle = ((known[1:] + known[:-1]) / 2).astype(np.float32)
    up = np.arange(len(middle)) % 2 == 1 if f.fraction else True
    return np.where(up, np.nextafter(middle, np.float32(0)), middle)
