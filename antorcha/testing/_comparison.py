"""`assert_close`."""

from __future__ import annotations

import cmath
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

import antorcha as torch

# relative and absolute tolerance of each dtype; of all others 0
TOLERANCES = {torch.float16: (1e-3, 1e-5), torch.bfloat16: (1.6e-2, 1e-5), torch.float32: (1.3e-6, 1e-5), torch.float64: (1e-7, 1e-7),
              torch.complex64: (1.3e-6, 1e-5), torch.complex128: (1e-7, 1e-7)}
NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}


class Options(NamedTuple):
    allow_subclasses: bool
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_layout: bool
    check_stride: bool

    def tolerances(self, *dtypes) -> tuple[float, float]:
        """The given ones, or the larger ones of the dtypes."""
        if self.rtol is not None and self.atol is not None:
            return self.rtol, self.atol
        known = [TOLERANCES.get(d, (0.0, 0.0)) for d in dtypes]
        return max(r for r, _ in known), max(a for _, a in known)


class _Different(Exception):
    """A difference, and the path to it."""

    def __init__(self, text: str, path: tuple = ()):
        super().__init__(text)
        self.text, self.path = text, path

    def message(self) -> str:
        if not self.path:
            return self.text
        return f"{self.text}\n\nThe failure occurred for item {''.join(f'[{key!r}]' for key in self.path)}"


def assert_close(actual, expected, *, allow_subclasses=True, rtol=None, atol=None, equal_nan=False, check_device=True, check_dtype=True,
                 check_layout=True, check_stride=False, msg=None) -> None:
    """AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere.

    Tensors, numbers, arrays, None, and sequences and mappings of these. rtol and atol: both or neither; by default those of the dtype
    (float32: 1.3e-6 and 1e-5; integers are compared exactly). msg: the error's text, or a function of the text made here.
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {'rtol' if rtol is None else 'atol'}.")
    options = Options(allow_subclasses, rtol, atol, equal_nan, check_device, check_dtype, check_layout, check_stride)
    try:
        _compare(actual, expected, options)
    except _Different as difference:
        text = difference.message()
    else:
        return
    raise AssertionError(text if msg is None else msg(text) if callable(msg) else msg)


def assert_allclose(actual, expected, rtol=None, atol=None, equal_nan=True, msg="") -> None:
    """The older form of `assert_close`."""
    warnings.warn("`torch.testing.assert_allclose()` is deprecated since 1.12: use `torch.testing.assert_close()`.", FutureWarning,
                  stacklevel=2)
    actual, expected = (x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in (actual, expected))
    assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=False, check_stride=False, msg=msg or None)


def _compare(actual, expected, options: Options, path: tuple = ()) -> None:
    both = (actual, expected)
    if all(isinstance(x, Sequence) and not isinstance(x, str) for x in both):
        if len(actual) != len(expected):
            raise _Different(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", path)
        for i, pair in enumerate(zip(actual, expected)):
            _compare(*pair, options, (*path, i))
    elif all(isinstance(x, Mapping) for x in both):
        _compare_keys(actual, expected, path)
        for key in actual:
            _compare(actual[key], expected[key], options, (*path, key))
    elif actual is None or expected is None:
        if actual is not expected:
            raise _Different(f"None mismatch: {actual} is not {expected}", path)
    elif all(isinstance(x, (bool, np.bool_)) for x in both):
        if bool(actual) is not bool(expected):
            raise _Different(f"Booleans mismatch: {actual} is not {expected}", path)
    elif all(isinstance(x, (int, float, complex, np.number)) and not isinstance(x, (bool, np.bool_)) for x in both):
        _compare_numbers(actual, expected, options, path)
    elif all(isinstance(x, (torch.Tensor, np.ndarray)) for x in both) and _related(actual, expected, options):
        _compare_tensors(*(torch.as_tensor(x) for x in both), options, path)
    else:
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}."
                        + ("\n\nThe failure occurred for item " + "".join(f"[{k!r}]" for k in path) if path else ""))


def _related(actual, expected, options: Options) -> bool:
    a, b = type(actual), type(expected)
    return a is b or options.allow_subclasses and (issubclass(a, b) or issubclass(b, a))


def _compare_keys(actual, expected, path: tuple) -> None:
    missing, extra = set(expected) - set(actual), set(actual) - set(expected)
    if missing or extra:
        lines = ["The keys of the mappings do not match:"]
        if missing:
            lines.append(f"Missing keys in the actual mapping: {sorted(missing, key=str)}")
        if extra:
            lines.append(f"Additional keys in the actual mapping: {sorted(extra, key=str)}")
        raise _Different("\n".join(lines), path)


def _plain(number):
    return number.item() if isinstance(number, np.generic) else number


def _compare_numbers(actual, expected, options: Options, path: tuple) -> None:
    actual, expected = _plain(actual), _plain(expected)
    if options.check_dtype and type(actual) is not type(expected):
        raise _Different(f"The (d)types do not match: {type(actual)} != {type(expected)}.", path)
    rtol, atol = options.tolerances(*(NUMBERS[type(x)] for x in (actual, expected)))
    _compare_two(actual, expected, rtol, atol, options, path)


def _compare_two(actual, expected, rtol: float, atol: float, options: Options, path: tuple) -> None:
    if actual == expected or options.equal_nan and cmath.isnan(actual) and cmath.isnan(expected):
        return
    difference = abs(actual - expected)
    if cmath.isfinite(difference) and difference <= atol + rtol * abs(expected):
        return
    exact = rtol == atol == 0
    relative = difference / abs(expected) if expected != 0 else float("inf")
    up_to = ("", "") if exact else (f" (up to {atol} allowed)", f" (up to {rtol} allowed)")
    raise _Different(f"Scalars are not {'equal' if exact else 'close'}!\n\nExpected {expected} but got {actual}.\n"
                     f"Absolute difference: {difference}{up_to[0]}\nRelative difference: {relative}{up_to[1]}", path)


def _compare_tensors(actual, expected, options: Options, path: tuple) -> None:
    checks = [("shape", True, lambda t: t.shape), ("layout", options.check_layout, lambda t: t.layout),
              ("device", options.check_device, lambda t: t.device), ("dtype", options.check_dtype, lambda t: t.dtype),
              ("stride()", options.check_stride, lambda t: t.stride())]
    for name, wanted, attribute in checks:
        a, b = attribute(actual), attribute(expected)
        if wanted and a != b:
            raise _Different(f"The values for attribute '{name}' do not match: {a} != {b}.", path)
    rtol, atol = options.tolerances(actual.dtype, expected.dtype)
    a, b = (_array(t) for t in (actual, expected))
    with np.errstate(all="ignore"):
        difference = np.abs(a - b)
        same = (a == b) | (np.isfinite(difference) & (difference <= atol + rtol * np.abs(b)))
        if options.equal_nan:
            same |= np.isnan(a) & np.isnan(b)
    if same.all():
        return
    if not a.ndim:
        _compare_two(a.item(), b.item(), rtol, atol, options, path)
    raise _Different(_mismatches(difference, np.abs(b), same, rtol, atol), path)


def _array(t) -> np.ndarray:
    """The values in a type wide enough for all differences."""
    t = t.detach().cpu()
    if t.dtype.is_complex:
        return t.to(torch.complex128).numpy()
    return t.double().numpy() if t.dtype.is_floating_point else t.numpy().astype(object if t.dtype is torch.uint64 else np.int64)


def _mismatches(difference, size, same, rtol: float, atol: float) -> str:
    exact = rtol == atol == 0
    with np.errstate(all="ignore"):
        relative = difference / size
    relative = np.where(same, 0.0, np.where(np.isnan(relative), np.inf, relative))
    difference = np.where(same, 0, difference)
    count = int((~same).sum())
    lines = [f"Tensor-likes are not {'equal' if exact else 'close'}!", "",
             f"Mismatched elements: {count} / {same.size} ({count / same.size:.1%})"]
    for name, values, allowed in (("absolute", difference, atol), ("relative", relative, rtol)):
        place = np.unravel_index(np.argmax(values), values.shape)
        lines.append(f"Greatest {name} difference: {values[place].item()} at index {tuple(int(i) for i in place)}"
                     + ("" if exact else f" (up to {allowed} allowed)"))
    return "\n".join(lines)
