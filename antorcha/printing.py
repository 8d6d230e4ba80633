"""How tensors are shown, character for character as PyTorch shows them."""

from __future__ import annotations

import math

import numpy as np

from .core.override import overrides
from .core.tensor import Tensor, host
from .graph.node import Lanes


class _Options:
    precision, threshold, edgeitems, linewidth, sci_mode = 4, 1000, 3, 80, None


options = _Options()
_PROFILES = {"default": (4, 1000, 3, 80), "short": (2, 1000, 2, 80), "full": (4, math.inf, 3, 80)}


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None) -> None:
    """How tensors are printed: digits, when to summarise, the width of a line, a named profile."""
    if profile is not None:
        options.precision, options.threshold, options.edgeitems, options.linewidth = _PROFILES[profile]
    for name, value in (("precision", precision), ("threshold", threshold), ("edgeitems", edgeitems), ("linewidth", linewidth)):
        if value is not None:
            setattr(options, name, value)
    options.sci_mode = sci_mode


class _Formatter:
    """One number's text; the width is that of the widest among the numbers shown that are finite and not zero."""

    def __init__(self, x: np.ndarray):
        self.floating = x.dtype.kind == "f"
        self.integral, self.scientific, self.width = True, False, 1
        if not self.floating:
            self.width = max((len(str(v)) for v in x.reshape(-1).tolist()), default=1)
            return
        wide = x.reshape(-1).astype(np.float64)
        finite = wide[np.isfinite(wide) & (wide != 0)]
        if finite.size == 0:
            return
        magnitude = np.abs(finite)
        low, high = float(magnitude.min()), float(magnitude.max())
        self.integral = bool((finite == np.ceil(finite)).all())
        if self.integral:
            self.scientific = bool(high / low > 1000.0 or high > 1e8)
        else:
            self.scientific = bool(high / low > 1000.0 or high > 1e8 or low < 1e-4)
        if options.sci_mode is not None:
            self.scientific = options.sci_mode
        self.width = max(len(self._text(v)) for v in finite.tolist())

    def _text(self, v) -> str:
        if not self.floating:
            return str(v)
        if self.scientific:
            return f"{v:.{options.precision}e}"
        if self.integral:
            return f"{v:.0f}." if math.isfinite(v) else f"{v:.0f}"
        return f"{v:.{options.precision}f}"

    def __call__(self, v) -> str:
        return self._text(v).rjust(self.width)


class _ComplexFormatter:
    """A complex number's text: both parts, each with a format of its own."""

    def __init__(self, x: np.ndarray):
        self.real, self.imag = _Formatter(x.real), _Formatter(x.imag)
        self.width = self.real.width + self.imag.width + 1

    def __call__(self, v) -> str:
        imag = self.imag(v.imag).lstrip()
        return self.real(v.real) + ("" if imag[0] in "+-" else "+") + imag + "j"


def _formatter(x: np.ndarray):
    return _ComplexFormatter(x) if x.dtype.kind == "c" else _Formatter(x)


def _summarised(x: np.ndarray) -> np.ndarray:
    """The elements that a summary shows."""
    e = options.edgeitems
    for axis in range(x.ndim):
        n = x.shape[axis]
        if n > 2 * e:
            x = np.concatenate([np.take(x, range(e), axis), np.take(x, range(n - e, n), axis)], axis)
    return x


def _vector(x, indent: int, summarise: bool, form: _Formatter) -> str:
    width = form.width + 2
    per_line = max(1, (options.linewidth - indent) // width)
    e = options.edgeitems
    values = x.tolist()
    if summarise and len(values) > 2 * e:
        words = [form(v) for v in values[:e]] + [" ..."] + [form(v) for v in values[-e:]]
    else:
        words = [form(v) for v in values]
    lines = [", ".join(words[i:i + per_line]) for i in range(0, len(words), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(x, indent: int, summarise: bool, form: _Formatter) -> str:
    if x.ndim == 0:
        return form(x.item())
    if x.ndim == 1:
        return _vector(x, indent, summarise, form)
    e = options.edgeitems
    if summarise and x.shape[0] > 2 * e:
        parts = ([_nested(x[i], indent + 1, summarise, form) for i in range(e)] + ["..."]
                 + [_nested(x[i], indent + 1, summarise, form) for i in range(x.shape[0] - e, x.shape[0])])
    else:
        parts = [_nested(row, indent + 1, summarise, form) for row in x]
    return "[" + ("," + "\n" * (x.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _with_suffixes(text: str, suffixes: list[str], indent: int, own_line: bool) -> str:
    parts, last = [text], len(text) - text.rfind("\n") + 1
    for s in suffixes:
        if own_line or last + len(s) + 2 > options.linewidth:
            parts.append(",\n" + " " * indent + s)
            last, own_line = indent + len(s), False
        else:
            parts.append(", " + s)
            last += len(s) + 2
    return "".join(parts) + ")"


def _elements(t: Tensor, indent: int) -> str:
    """The numbers, in brackets."""
    x = host(t.detach())
    summarise = t.numel() > options.threshold
    return _nested(x, indent, summarise, _formatter(_summarised(x) if summarise else x))


def _sparse_text(t) -> str:
    """`tensor(indices=..., values=..., size=...)`."""
    from .base import dtype as dt
    from .base.formats import sparse_coo, sparse_csr

    names = {sparse_coo: ("_indices",), sparse_csr: ("crow_indices", "col_indices")}.get(t.layout, ("ccol_indices", "row_indices"))
    parts = [(name.lstrip("_") + "=tensor(", getattr(t, name)()) for name in names] + [("values=tensor(", t._values())]
    text = ",\n       ".join(name + (_elements(x, 7 + len(name)) if x.numel() else f"[], size={tuple(x.shape)}") + ")" for name, x in parts)
    suffixes = [f"size={tuple(t.shape)}", f"nnz={t._nnz()}"]
    if t.dtype not in (dt.default(), dt.default().to_complex(), dt.int64, dt.bool_):
        suffixes.append(f"dtype={t.dtype}")
    suffixes.append(f"layout={t.layout}")
    if t.grad_fn is not None:
        suffixes.append(f"grad_fn=<{t.grad_fn.name()}>")
    elif t.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes("tensor(" + text, suffixes, 7, t.layout is sparse_coo)


def _quantized_text(t) -> str:
    """`tensor(..., size=..., dtype=..., quantization_scheme=..., scale=..., zero_point=...)`: the numbers that the integers stand for."""
    suffixes = [f"size={tuple(t.shape)}", f"dtype={t.dtype}", f"quantization_scheme={t.qscheme()}"]
    if t._axis is None:
        suffixes += [f"scale={t.q_scale()}", f"zero_point={t.q_zero_point()}"]
    else:
        suffixes += [f"scale={t.q_per_channel_scales()}", f"zero_point={t.q_per_channel_zero_points()}", f"axis={t.q_per_channel_axis()}"]
    return _with_suffixes("tensor(" + (_elements(t.dequantize(), 7) if t.numel() else "[]"), suffixes, 7, False)


def tensor_text(t: Tensor) -> str:
    """`tensor(..., dtype=..., grad_fn=...)`."""
    from .base import dtype as dt

    if t.is_sparse:
        return _sparse_text(t)
    if t.is_quantized:
        return _quantized_text(t)
    if type(t.storage.node.inputs) is Lanes:
        return _lanes_text(t)
    prefix = f"{type(t).__name__}(" if overrides(type(t)) else "tensor("
    indent = len(prefix)
    suffixes = []
    d = t.dtype
    obvious = d in (dt.default(), dt.default().to_complex(), dt.int64, dt.bool_)
    if t.numel() == 0:
        if t.dim() != 1:
            suffixes.append(f"size={tuple(t.shape)}")
        if d is not dt.default():
            suffixes.append(f"dtype={d}")
        body = "[]"
    elif t.is_meta:
        suffixes += [f"size={tuple(t.shape)}", *([] if obvious else [f"dtype={d}"])]
        body = "..."
    else:
        if not obvious:
            suffixes.append(f"dtype={d}")
        body = _elements(t, indent)
    if not t.is_cpu:
        suffixes.insert(0, f"device='{t.device}'")
    if t.grad_fn is not None:
        suffixes.append(f"grad_fn=<{t.grad_fn.name()}>")
    elif t.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + body, suffixes, indent, False)


def _lanes_text(t: Tensor) -> str:
    """A tensor within `vmap`: all its lanes."""
    from .func import debug_unwrap, lanes

    level = lanes.depth(t)[0]
    if level not in lanes.levels():
        return f"BatchedTensor(shape={list(t.shape)}, of a vmap that has returned)"
    number = lanes.levels().index(level) + 1
    value = repr(debug_unwrap(t, recurse=False)).replace("\n", "\n    ")
    return f"BatchedTensor(lvl={number}, bdim=0, value=\n    {value}\n)"


Tensor.__repr__ = lambda self, *, tensor_contents=None: tensor_text(self)
Tensor.__str__ = lambda self: repr(self)
