"""Element types: PyTorch's names, NumPy's layout, and how mixed types are promoted."""

from __future__ import annotations

import numpy as np

_BY_NAME: dict[str, dtype] = {}


class dtype:
    """The type of a tensor's elements. Instances are unique: compare them with `is`.

    `code` is the short name used in loop programs (`f32`), `kind` one of
    `b` (bool), `u`, `i`, `f`, `c`, and `numpy` the equal NumPy dtype, if there is one; `memory` is the NumPy dtype of its
    bits. `compute` is the dtype that arithmetic on it is done in: a 16-bit float is kept in memory and computed in float32,
    and the result of each operator is rounded to it; so is complex32, a pair of them. `continuous`: real or complex numbers,
    which can require gradients; `exact`: its derivatives are computed as they are written, without casts or conjugates. `opaque`:
    nothing is computed in it, it is only moved and converted. Kind `q`: integers that stand for numbers on a grid (core.quantized).
    """

    __slots__ = ("name", "code", "kind", "itemsize", "numpy", "memory", "compute", "continuous", "exact", "opaque", "_rank")

    def __init__(self, name: str, code: str, kind: str, itemsize: int, rank: int):
        self.name, self.code, self.kind, self.itemsize, self._rank = name, code, kind, itemsize, rank
        self.opaque = kind == "q" or name.startswith(("float8", "float4"))
        self.numpy = None if name in ("bfloat16", "complex32") or self.opaque else np.dtype(name)
        self.memory = np.dtype(f"u{itemsize}") if self.numpy is None else self.numpy
        self.compute = self
        self.continuous, self.exact = kind in "fc", kind != "c" and not self.opaque and name not in ("float16", "bfloat16")
        _BY_NAME[name] = _BY_NAME[code] = self

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_signed(self) -> bool:
        return self.kind in "ifc"

    @property
    def abbr(self) -> str:
        """The short name: f32, bf16."""
        return "b8" if self.kind == "b" else self.code

    def to_real(self) -> dtype:
        return {complex64: float32, complex128: float64, complex32: float16}.get(self, self)

    def to_complex(self) -> dtype:
        return {float32: complex64, float64: complex128, float16: complex32}.get(self, self)

    def round(self, value: float) -> float:
        """The nearest number of a floating point dtype; `value` itself for other dtypes, and for complex numbers."""
        if self.kind != "f" or type(value) is complex:
            return value
        with np.errstate(over="ignore"):
            return float(self.numpy.type(value)) if self.numpy is not None else float(decode(encode(np.float32(value))))

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self):
        return (of, (self.name,))


def of(name) -> dtype:
    """The dtype with this name (`float32`), code (`f32`) or equal NumPy dtype."""
    found = _BY_NAME.get(name)
    if found is None:
        found = _BY_NAME[np.dtype(name).name]
        if isinstance(name, np.dtype):
            _BY_NAME[name] = found      # NumPy makes a name anew each time
    return found


bool_ = dtype("bool", "i1", "b", 1, 0)
uint8 = dtype("uint8", "u8", "u", 1, 1)
int8 = dtype("int8", "i8", "i", 1, 2)
int16 = dtype("int16", "i16", "i", 2, 3)
int32 = dtype("int32", "i32", "i", 4, 4)
int64 = dtype("int64", "i64", "i", 8, 5)
uint16 = dtype("uint16", "u16", "u", 2, 3)
uint32 = dtype("uint32", "u32", "u", 4, 4)
uint64 = dtype("uint64", "u64", "u", 8, 5)
float16 = dtype("float16", "f16", "f", 2, 6)
bfloat16 = dtype("bfloat16", "bf16", "f", 2, 6)
float32 = dtype("float32", "f32", "f", 4, 7)
float64 = dtype("float64", "f64", "f", 8, 8)
complex32 = dtype("complex32", "c32", "c", 4, 9)
complex64 = dtype("complex64", "c64", "c", 8, 10)
complex128 = dtype("complex128", "c128", "c", 16, 11)

float8_e4m3fn, float8_e5m2, float8_e4m3fnuz, float8_e5m2fnuz, float8_e8m0fnu, float4_e2m1fn_x2 = (
    dtype(_name, _name, "f", 1, 6) for _name in (
        "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"))

qint8, quint8, qint32 = dtype("qint8", "qint8", "q", 1, 0), dtype("quint8", "quint8", "q", 1, 0), dtype("qint32", "qint32", "q", 4, 0)
INTEGERS = {qint8: int8, quint8: uint8, qint32: int32}      # that quantized numbers are kept as

_OF_PYTHON = {bool: bool_, int: int64, float: float64, complex: complex128}

float16.compute = bfloat16.compute = float32
complex32.compute = complex64

_default = float32


def decode(bits: np.ndarray) -> np.ndarray:
    """Values given as their bits: of bfloat16 (uint16) as float32, of complex32 (uint32) as complex64."""
    if bits.dtype.itemsize == 4:
        return np.asarray(bits, order="C")[..., None].view(np.float16).astype(np.float32).view(np.complex64)[..., 0]
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def encode(values: np.ndarray) -> np.ndarray:
    """The bits of float32 values rounded to bfloat16, or of complex64 values to complex32; to nearest even, and a NaN has one form."""
    if np.iscomplexobj(values):
        parts = np.asarray(values, np.complex64, order="C")[..., None].view(np.float32)
        with np.errstate(over="ignore"):
            return parts.astype(np.float16).view(np.uint32)[..., 0]
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def numbers(memory: np.ndarray, d: dtype) -> np.ndarray:
    """What is in memory as numbers of NumPy's: of a dtype that NumPy lacks, a copy in a wider one."""
    if d.numpy is not None:
        return memory
    if not d.opaque:
        return decode(memory)
    from .float8 import values
    return values(d)[memory]


def default() -> dtype:
    """The dtype of floats without one of their own (`set_default_dtype`)."""
    return _default


def set_default(d: dtype) -> None:
    global _default
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"set_default_dtype: expected a floating point dtype; received {d!r}")
    _default = d


def asked(what: str, given, otherwise: dtype | None = None, name: str = "dtype") -> dtype | None:
    """The dtype that an argument of `what` asks for: a dtype, or as in PyTorch the one of Python's bool, int, float or complex numbers;
    `otherwise` for None. TypeError for anything else."""
    if isinstance(given, dtype):
        return given
    if given is None:
        return otherwise
    found = _OF_PYTHON.get(given) if isinstance(given, type) else None
    if found is None:
        hint = f". Write torch.{given}" if isinstance(given, str) and given in _BY_NAME else ""
        raise TypeError(f"{what}(): argument '{name}' must be torch.dtype, not {type(given).__name__}{hint}")
    return found


def promote(a: dtype, b: dtype) -> dtype:
    """The smallest dtype both convert to (`torch.promote_types`)."""
    if a is b:
        return a
    if a.kind == "q" or b.kind == "q":
        raise NotImplementedError(f"nothing is computed in {a if a.kind == 'q' else b}. Convert it first: x.dequantize()")
    if a.opaque or b.opaque:
        raise RuntimeError(f"Promotion for Float8 Types is not supported, attempted to promote {a} and {b}. Convert one: x.to({b})")
    if a._rank > b._rank:
        a, b = b, a
    if b is uint8 and a is bool_:
        return uint8
    if a is uint8 and b.kind == "i":
        return int16 if b is int8 else b
    if {a, b} == {float16, bfloat16}:
        return float32
    if b in (complex32, complex64) and a is float64:
        return complex128
    if b is complex32 and a in (bfloat16, float32):
        return complex64
    return b


CATEGORY = {"q": -1, "b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
