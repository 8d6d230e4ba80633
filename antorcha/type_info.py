"""torch.finfo and torch.iinfo: the limits of the number types."""

from __future__ import annotations

from .base import dtype as dt

# Bits of the fraction and greatest exponent (of two) of each floating point format (IEEE 754; bfloat16: float32's exponent).
_FORMATS = {"float16": (10, 15), "bfloat16": (7, 127), "float32": (23, 127), "float64": (52, 1023)}
_DIGITS = {"float16": 3, "bfloat16": 2, "float32": 6, "float64": 15}


class finfo:
    """The limits of a floating point dtype: bits, eps, max, min, tiny, smallest_normal, resolution."""

    __slots__ = ("bits", "dtype", "eps", "max", "min", "resolution", "smallest_normal", "tiny")

    def __init__(self, type=None):
        d = (dt.default() if type is None else type).to_real()
        if not d.is_floating_point:
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{d}'")
        self.dtype, self.bits = d.name, 8 * d.itemsize
        if d.opaque:
            from .base import float8

            form, values = float8.format_of(d), float8.values(d)
            self.eps, self.resolution = 2.0 ** -form.fraction, 1.0
            self.max = float(values[form.last])
            self.tiny = self.smallest_normal = float(values[1 << form.fraction if form.signed else 0])
            self.min = -self.max if form.signed else self.tiny
            return
        fraction, exponent = _FORMATS[d.name]
        self.eps = 2.0 ** -fraction
        self.max = (2.0 - self.eps) * 2.0 ** exponent
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0 ** (1 - exponent)
        self.resolution = float(f"1e-{_DIGITS[d.name]}")

    def __eq__(self, other) -> bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash(("finfo", self.dtype))

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{n}={getattr(self, n):g}' for n in names)}, dtype={self.dtype})"


class iinfo:
    """The limits of an integer dtype: bits, max, min."""

    __slots__ = ("bits", "dtype", "max", "min")

    def __init__(self, type):
        if type.kind not in "ui":
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{type}'")
        self.dtype, self.bits = type.name, 8 * type.itemsize
        self.min = 0 if type.kind == "u" else -(2 ** (self.bits - 1))
        self.max = 2 ** self.bits - 1 + self.min

    def __eq__(self, other) -> bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash(("iinfo", self.dtype))

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
